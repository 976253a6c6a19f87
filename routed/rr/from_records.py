"""How the agent is to run as a reflector, of either kind that takes something from records."""

from __future__ import annotations

from collections.abc import Sequence

from routed.agent_options import AgentOptions
from routed.bgp.transport import Endpoint
from routed.intent.options import Options
from routed.rr.standalone import Reflector, Running


def agent_options(reflector: Reflector, running: Running) -> AgentOptions:
    """A reflector that is told its identity, and has the clients whose `BGPPeer` names its address beside
    those of its ranges."""
    return AgentOptions(
        compiler=Options(
            node=reflector.own_name,
            router_id=reflector.router_id,
            reflector_address=reflector.own_address,
            reflector_as=reflector.local_as,
            reflector_cluster_id=reflector.cluster_id,
        ),
        use_kernel=False,
        identity=reflector.identity,
        client_ranges=reflector.client_ranges,
        peers=reflector.peer_configs(),
        graceful_stop=running.graceful_stop,
        drain_time=running.drain_time,
        status_file=running.status_file,
        log_level=running.log_level,
        observe=running.observe,
    )


def from_node_record(compiler: Options, listen: Sequence[Endpoint], running: Running) -> AgentOptions:
    """The reflector that has the Node record `compiler.node`. `listen`: in place of the addresses and the
    port that records say; empty: those."""
    return AgentOptions(
        compiler=compiler,
        reflect=True,
        use_kernel=False,
        listen=tuple(listen) or None,
        graceful_stop=running.graceful_stop,
        drain_time=running.drain_time,
        status_file=running.status_file,
        log_level=running.log_level,
        observe=running.observe,
    )
