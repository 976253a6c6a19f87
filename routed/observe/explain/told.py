"""Gates of what peers are told: one step an export group, not one a peer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from routed.bgp.export import exported, why_not_exported
from routed.bgp.groups import Group
from routed.bgp.path import Path, Source, SourceKind
from routed.bgp.policy import (
    STEP_BLOCK,
    STEP_NOT_EXPORTED,
    STEP_NOTHING,
    STEP_POOL,
    STEP_SERVICE,
    STEP_SERVICE_RANGE,
)
from routed.intent.filters import Direction
from routed.observe.explain.gates import Finding, notes, passes, stops
from routed.observe.explain.question import PrefixQuestion, own
from routed.observe.explain.rules import FAMILY_TEXT, DecidingRule, attributes_text, deciding_rule, some
from routed.resources import Key, Node


@dataclass(frozen=True, slots=True)
class Ruling:
    """What decides whether a group's peers are told of a path."""

    text: str
    record: Key | None = None
    field: str | None = None
    step: int = 0
    """Of the export policy, where it decided: one of `policy.STEP_*`."""


def group(question: PrefixQuestion) -> Iterator[Finding]:
    """Whether there is anybody to tell."""
    if question.best is not None and not _groups(question):
        count = len(question.observed.speaker.peers)
        family = FAMILY_TEXT[question.family]
        yield stops(f"nobody to tell: none of {count} peerings has a session that carries {family}")


def export(question: PrefixQuestion) -> Iterator[Finding]:
    """What each export group is told, or why it is not."""
    path = question.best
    if path is None:
        return
    if question.observed.speaker.draining:
        yield notes("this speaker drains: all that it tells is a last choice (RFC 8326)")
    told_any = False
    refusals: list[tuple[str, Ruling]] = []
    for one in _groups(question):
        readers = [source for source in one.members if source is not path.source]
        adverts = one.adverts(question.nlri)
        told = [source for source in one.members if any(known is not source for _, known in adverts)]
        if told:
            told_any = True
            attributes, sender = next(one for one in adverts if one[1] is not told[0])
            several = f", {len(adverts)} paths" if len(adverts) > 1 else ""
            # With ADD-PATH it need not be the best.
            sent = next((path for path in question.paths if path.source is sender), path)
            why = _acceptance(question, one, sent)
            text = f"told to {_names(told)}{several}: {attributes_text(attributes)}"
            yield passes(f"{text} ({why.text})", why.record, why.field)
        elif not readers:
            yield notes(f"{_names(one.members)} sent it, and is not told of its own route (split horizon)")
        else:
            refusals.append((_names(readers), refusal(question, one, path)))
    for names, why in refusals:
        found = notes if told_any or not _to_be_told(question, why) else stops
        yield found(f"not told to {names}: {why.text}", why.record, why.field)


def refusal(question: PrefixQuestion, one: Group, path: Path) -> Ruling:
    """Why a group is not told of a path: what `Exporter.decide` does, step by step with its record."""
    target = one.key.target
    reason = why_not_exported(path, target)
    if reason is not None:
        return Ruling(reason)
    rule = _filter_rule(question, one, path)
    if rule is not None and not rule.accept:
        return Ruling(rule.text, rule.record, rule.field)
    if rule is None and one.exporter.policy is not None:
        verdict = one.exporter.policy(question.nlri, path)
        if not verdict.accept:
            record, field = _record_of_step(question, verdict.step)
            return Ruling(verdict.reason, record, field, verdict.step)
    return Ruling("accepted, and not handed on yet")


def _acceptance(question: PrefixQuestion, one: Group, path: Path) -> Ruling:
    """What let it through: a filter's rule, or the policy."""
    rule = _filter_rule(question, one, path)
    if rule is not None:
        return Ruling(rule.text, rule.record, rule.field)
    if one.exporter.policy is None:
        return Ruling("no policy")
    verdict = one.exporter.policy(question.nlri, path)
    record, field = _record_of_step(question, verdict.step)
    return Ruling(verdict.reason, record, field, verdict.step)


def _filter_rule(question: PrefixQuestion, one: Group, path: Path) -> DecidingRule | None:
    """The rule of the group's filters that decides on a path; None: none does."""
    target = one.key.target
    return deciding_rule(
        question.observed,
        one.key.filters,
        question.family,
        Direction.EXPORT,
        ibgp=not target.ebgp,
        nlri=question.nlri,
        path=path,
        attributes=exported(path, target),
    )


def _record_of_step(question: PrefixQuestion, step: int) -> tuple[Key | None, str | None]:
    """The record and field behind a step of the export policy."""
    pools, block, tables = question.pools, question.block, question.tables
    if step == STEP_NOT_EXPORTED:
        pool = next((pool for pool in pools if pool.disable_bgp_export), None)
        return (None, None) if pool is None else (pool.key, "spec.disableBGPExport")
    if step == STEP_BLOCK and tables is not None and block is not None:
        owned = tables.blocks.verdict(block).owned
        return (None, None) if owned is None else (owned.record, "spec.cidr")
    if step == STEP_SERVICE and question.origin is not None:
        return question.origin.record, None
    if step == STEP_SERVICE_RANGE and tables is not None:
        return Key(Node.kind, tables.options.node), "spec.bgp.routeReflectorClusterID"
    if step == STEP_POOL and pools:
        return pools[0].key, "spec.cidr"
    if step == STEP_NOTHING and pools and pools[0].disabled:
        return pools[0].key, "spec.disabled"
    return None, None


def _to_be_told(question: PrefixQuestion, why: Ruling) -> bool:
    """Whether one would expect peers to be told: of a node's own routes, and of all that a reflector learns
    from its clients. That other nodes' routes are not passed on is iBGP."""
    path = question.best
    if path is None:
        return False
    if own(path):
        return True
    if path.source.kind is SourceKind.KERNEL:
        return bool(question.pools) and why.step != STEP_BLOCK
    return path.source.kind.bgp and _reflects(question)


def wants_readers(question: PrefixQuestion) -> bool:
    """Whether somebody should be told of it, and is to be there."""
    path = question.best
    learned = path is not None and path.source.kind.bgp
    return bool(question.observed.speaker.peers) and not learned and _to_be_told(question, Ruling(""))


def _reflects(question: PrefixQuestion) -> bool:
    return question.observed.reflector or question.observed.speaker.config.cluster_id is not None


def _groups(question: PrefixQuestion) -> list[Group]:
    groups = question.observed.speaker.groups[question.family].groups.values()
    return sorted(groups, key=lambda one: min((source.name for source in one.members), default=""))


def _names(sources: Iterable[Source]) -> str:
    names = sorted(source.name for source in sources)
    return some(names, "peers")
