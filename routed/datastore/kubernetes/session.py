"""All that is read from one API server: which resources, one reflector each, and what their failures mean."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from functools import partial
from typing import Final

from routed.datastore.kubernetes.access import Access, AccessError, Source
from routed.datastore.kubernetes.api import Caller, RefusedError
from routed.datastore.kubernetes.credentials import CredentialError
from routed.datastore.kubernetes.discovery import core, discover
from routed.datastore.kubernetes.http import DisconnectedError
from routed.datastore.kubernetes.kinds import Resource, Scope, standing_resources
from routed.datastore.kubernetes.needs import Needs
from routed.datastore.kubernetes.reflector import Reflector
from routed.datastore.remote import Feed, Follower
from routed.datastore.retry import UnavailableError, keep_trying
from routed.resources import Problem, Record

REDISCOVER: Final = 300.0
"""Seconds between looks at what is served."""

REDISCOVER_SOON: Final = 15.0
"""The same, while something is not."""

_BUSY: Final = (429, 500, 502, 503, 504)
"""Answers of a server that has trouble: most are over at the next attempt, and are told only if not."""

_SERVER_FAILURES: Final = (DisconnectedError, AccessError, CredentialError)
"""What is wrong with the server as a whole, or with us, and not with one resource."""


class KubernetesFollower(Follower):
    """One watch of an API server.

    A session has one task a resource. What is wrong with one resource (not allowed, not served, its answers
    are errors) is a Problem, and tried again while the others go on; where nothing can be had the session
    ends, and the next one resumes every watch where it was."""

    def __init__(self, feed: Feed, source: Source, scope: Scope) -> None:
        self._feed = feed
        self._source = source
        self._scope = scope
        self._standing = {resource.kind: resource for resource in standing_resources(scope)}
        self._needs = Needs(scope)
        self._reflectors: dict[str, Reflector] = {}
        self._problems: dict[str, Problem] = {}
        self._look = asyncio.Event()
        # Of the session that is on:
        self._tasks: dict[str, tuple[str, asyncio.Task[None]]] = {}
        self._in_step: set[str] = set()
        self._failures: dict[str, int] = {}

    async def session(self) -> None:
        """See Follower."""
        failure: BaseException | None = None
        try:
            async with asyncio.TaskGroup() as group:
                await self._run(group, self._source.load())
        except* (*_SERVER_FAILURES, RefusedError) as failures:
            # Told below: Python 3.11.2, which Debian 12 has, makes a group of what is raised here.
            failure = _first(failures)
        finally:
            self._tasks.clear()
            self._in_step.clear()
            self._failures.clear()
        if failure is not None:
            raise UnavailableError(str(failure), getattr(failure, "retry_after", None))

    async def _run(self, group: asyncio.TaskGroup, access: Access) -> None:
        """Starts what is needed and served, and looks again when records need something else, and from time
        to time."""
        caller = Caller(access)
        served: dict[Resource, str] = {}
        try:
            while True:
                self._look.clear()
                wanted = self._wanted()
                try:
                    served = await discover(caller, wanted.values())
                except RefusedError:
                    if not served:
                        raise
                    served = served | core(wanted.values())
                self._arrange(group, access, wanted, served)
                self._judge()
                pause = REDISCOVER if served.keys() >= set(wanted.values()) else REDISCOVER_SOON
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._look.wait()
        finally:
            await caller.close()

    def _wanted(self) -> Mapping[str, Resource]:
        return self._standing | self._needs.resources

    def _arrange(
        self,
        group: asyncio.TaskGroup,
        access: Access,
        wanted: Mapping[str, Resource],
        served: Mapping[Resource, str],
    ) -> None:
        """Has a task for each resource that is wanted and served, and none for others."""
        for name in (self._reflectors.keys() | self._problems.keys()) - wanted.keys():
            self._stop(name)
            if (unwanted := self._reflectors.pop(name, None)) is not None:
                unwanted.forget()
            self._solved(name)
        for name, resource in wanted.items():
            at = served.get(resource)
            if at is None:
                self._stop(name)
                self._not_served(name, resource)
                continue
            if name in self._tasks:
                if self._tasks[name][0] == at:
                    continue
                self._stop(name)
            reflector = self._reflectors.get(name)
            if reflector is None:
                reflector = self._reflectors[name] = Reflector(
                    resource, self._scope, self._feed.store, self._feed.changed, self._took, self._nodes_known
                )
            reflector.set_group(at)
            follow = partial(self._follow, name, reflector, access)
            self._tasks[name] = at, group.create_task(keep_trying(follow, lambda _reason: None))

    def _stop(self, name: str) -> None:
        self._in_step.discard(name)
        self._failures.pop(name, None)
        if name in self._tasks:
            self._tasks.pop(name)[1].cancel()

    def _took(self, origin: str, record: Record | None, gone: bool) -> None:
        """A record was read."""
        if self._needs.note(origin, record, gone):
            self._look.set()

    def _nodes_known(self) -> bool:
        return "Node" in self._reflectors and self._reflectors["Node"].holds_any

    # What failures mean

    async def _follow(self, name: str, reflector: Reflector, access: Access) -> None:
        """Follows one resource; raises UnavailableError where it alone cannot be had."""
        try:
            await reflector.follow(access, partial(self._on_in_step, name))
        except RefusedError as refusal:
            if refusal.status.code == 401:
                raise  # the credential was asked for anew before
            if refusal.status.code == 404:
                self._look.set()
            self._failed(name, reflector, str(refusal), passing=refusal.status.code in _BUSY)
            raise UnavailableError(str(refusal), refusal.retry_after) from None
        except UnavailableError as error:
            self._failed(name, reflector, error.reason, passing=True)
            raise

    def _on_in_step(self, name: str) -> None:
        self._in_step.add(name)
        self._failures.pop(name, None)
        self._solved(name)
        self._judge()

    def _failed(self, name: str, reflector: Reflector, reason: str, passing: bool) -> None:
        """One resource cannot be had. What is `passing` most often is told the second time in a row."""
        failures = self._failures[name] = self._failures.get(name, 0) + 1
        if passing and failures == 1 and name in self._in_step:
            return
        self._in_step.discard(name)
        kept = "; what was read before stays in force" if reflector.synced else ""
        self._problem(
            name, Problem(None, "", f"{reflector.shown} cannot be read: {reason}{kept}", "kubernetes")
        )
        self._judge()

    def _not_served(self, name: str, resource: Resource) -> None:
        reason = (
            f"{resource.plural} is served in none of {', '.join(resource.groups)}: are Calico's CRDs applied?"
        )
        self._problem(name, Problem(None, "", reason, "kubernetes", severity="warning"))

    def _problem(self, name: str, problem: Problem) -> None:
        if self._problems.get(name) != problem:
            self._problems[name] = problem
            self._tell_problems()

    def _solved(self, name: str) -> None:
        if self._problems.pop(name, None) is not None:
            self._tell_problems()

    def _tell_problems(self) -> None:
        self._feed.store.set_common_problems(self._problems.values())
        self._feed.changed()

    def _judge(self) -> None:
        """In sync is who has all that is wanted: from a watch that is on, or, where one has its own trouble,
        from before. What is of use without is not waited for."""
        waiting = []
        for name, resource in self._wanted().items():
            if name in self._in_step:
                continue
            reflector = self._reflectors.get(name)
            held = reflector is not None and reflector.synced
            if name not in self._problems or (resource.required and not held):
                waiting.append(name)
        nothing = not self._in_step
        if not waiting and not nothing:
            self._feed.in_sync()
            return
        told = [self._problems[name].reason for name in (waiting or self._wanted()) if name in self._problems]
        if told:
            self._feed.lost(told[0])


def _first(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    failure: BaseException = failures
    while isinstance(failure, BaseExceptionGroup):
        failure = failure.exceptions[0]
    return failure
