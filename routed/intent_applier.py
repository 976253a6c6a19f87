"""Puts what the compiler says in force: the difference between two intents, on the speaker and the kernel's
side."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace

from routed import log
from routed.agent_options import AgentOptions
from routed.bgp import handover
from routed.bgp.config import PeerConfig
from routed.bgp.nlri import Family, Network, from_network
from routed.bgp.speaker import Speaker
from routed.intent.compiler import Compiler
from routed.intent.types import IntentDelta, OriginatedRoute, PeeringKind, SessionIntent
from routed.kernel_learner import KernelLearner
from routed.kernel_writer import KernelWriter
from routed.wiring import PeerTable, source_kind, speaker_config


class IntentApplier:
    """Only what differs is touched. The speaker starts when it is first known who this node is."""

    def __init__(
        self,
        options: AgentOptions,
        compiler: Compiler,
        speaker: Speaker,
        writer: KernelWriter,
        learner: KernelLearner,
        start: Callable[[], None],
    ) -> None:
        """`start` has the speaker speak; it is called once."""
        self.peers = PeerTable(both_families=options.both_families)
        """The peerings that the records want, and that run for them."""
        self._options = options
        self._compiler = compiler
        self._speaker = speaker
        self._writer = writer
        self._learner = learner
        self._start = start
        self._log = log.get("agent")

    def apply(self, delta: IntentDelta) -> None:
        """Put a difference in force; where the speaker starts with it, all that came before it too."""
        intent = self._compiler.intent
        started = self._speaker.started_at is not None
        if delta.node_changed:
            if self._options.log_level is None:
                log.set_level(intent.log_severity)
            self._learner.ignore_interfaces(intent.ignored_interfaces)
        for family in delta.families_changed:
            policy = intent.families[family]
            self._writer.set_family(family, policy)
            if not self._options.reflector:
                self._speaker.set_export_policy(family, policy.export_policy)
        if delta.filters_changed:
            self._speaker.set_filters(delta.filters_changed)
        for network, route in delta.originated_changed.items():
            self._originate(network, route)
        config = self._options.identity or speaker_config(
            intent, port=self._options.port, listen=self._options.listen
        )
        if config is None:
            if delta.node_changed or not started:
                self._log.warning(
                    "waiting: no router ID yet",
                    node=intent.node,
                    hint="the Node record is missing or has no IPv4 address; CALICO_ROUTER_ID sets one",
                )
            return
        if not started or delta.node_changed or delta.families_changed:
            self._speaker.configure(config)
        self._change_peers(delta.sessions_changed if started else intent.sessions)
        if not started:
            self._start()

    def _change_peers(self, changed: Mapping[str, SessionIntent | None]) -> None:
        """Sessions came, changed or went. Where nodes move from the mesh to reflectors, or back, what is not
        wanted any more is kept until others give its routes, or have had the time to."""
        changes = self.peers.apply(changed)
        for old, config in changes.renamed:
            self._speaker.rename_peer(old, self._still_client(old, config))
        for config in changes.wanted:
            self._speaker.set_peer(self._still_client(config.name, config))
        for session in changes.removed:
            moves = session.kind is PeeringKind.MESH or changes.mesh_came or session.route_reflector_client
            if moves and session.peer_node is not None and self._compiler.has_node(session.peer_node):
                self._speaker.retire_peer(session.name)
            else:
                self._speaker.remove_peer(session.name)

    def _still_client(self, name: str, config: PeerConfig) -> PeerConfig:
        """For a while yet a client, where the running peer `name` is one and is to be none: it may have no
        other way to what we reflect to it."""
        running = self._speaker.peers.get(name)
        if running is None or not running.config.route_reflector_client or config.route_reflector_client:
            return config
        asyncio.get_running_loop().call_later(handover.MOST_TIME, self._end_reflection, config)
        return replace(config, route_reflector_client=True)

    def _end_reflection(self, config: PeerConfig) -> None:
        """Put the configuration in force, unless another one is wanted by now."""
        if self.peers.wants(config) and config.name in self._speaker.peers:
            self._speaker.set_peer(config)

    def _originate(self, network: Network, route: OriginatedRoute | None) -> None:
        """One route of our own came, changed or went."""
        family, nlri = Family.of(network), from_network(network)
        old = self._writer.originate(family, nlri, route)
        kind = None if route is None else source_kind(route)
        old_kind = None if old is None else source_kind(old)
        if old_kind is not None and old_kind is not kind:
            self._speaker.withdraw(family, nlri, old_kind)
        if kind is not None and kind is not old_kind:
            self._speaker.originate(family, nlri, kind)
