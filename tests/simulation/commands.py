"""A command of a simulation: `supervisor.Command` itself on a simulated tree, and what is seen of its attempts."""

import asyncio
import weakref
from functools import partial
from typing import TYPE_CHECKING

from policies.failure import Kind
from supervisor import Attempt
from supervisor.testing.command import SimulatedCommand
from supervisor.testing.tree_script import Happening
from supervisor.tree.contract import TreeUnknown
from supervisor.work.command import CommandResult
from tests.simulation.endings import how_of
from tests.simulation.facts import BodyFacts, RunFacts
from tests.simulation.scenario import Job

if TYPE_CHECKING:
    from tests.simulation.work import Troupe

USAGE_ERROR = 2


class PlayedCommand(SimulatedCommand):
    """Writes down when its attempts start, are told to end, and end."""

    def __init__(self, troupe: "Troupe", run: RunFacts, job: Job) -> None:
        super().__init__(*job.trees)
        self._troupe, self._run = troupe, run

    async def start(self, attempt: Attempt) -> CommandResult:
        from tests.simulation.work import limit, seen

        facts, run, now = self._troupe.facts, self._run, self._troupe.facts.clock.now()
        body = BodyFacts(run, attempt.number, now, now, attempt_deadline=limit(run, now), tree=run.trees[-1])
        body.context = weakref.ref(attempt._parked.streams)
        facts.note("body_starting", body, shown=str(body.number))
        run.bodies[body.number] = body
        try:
            result = await seen(super().start(attempt), partial(self._thrown, body))
        except BaseException as error:
            body.raised = type(error).__name__
            body.kind = "" if isinstance(error, asyncio.CancelledError) else _kind(body)
            self._end(body, how_of(error))
            raise
        self._end(body, "returned")
        return result

    def _thrown(self, body: BodyFacts) -> None:
        body.thrown_at.append(self._troupe.facts.clock.now())
        if self._troupe.ending:
            return
        if body.told_at is not None:
            self._troupe.facts.note("told_again", body, shown=str(body.number))
            return
        body.told_at = body.thrown_at[-1]
        self._troupe.facts.note("told", body, shown=str(body.number))

    def _end(self, body: BodyFacts, how: str) -> None:
        body.how = how
        body.ended_at = body.last_at = self._troupe.facts.clock.now()
        self._troupe.facts.note("body_ended", body, shown=f"{body.number} {how} {body.kind}")


def _kind(body: BodyFacts) -> str:
    """The kind that a failure must be recorded as, by what happened to the tree."""
    tree = body.tree
    assert tree is not None
    script = tree.script
    if Happening.NOT_STARTED in tree.at:
        return Kind.INVALID.value
    if Happening.STARTED not in tree.at:
        return Kind.ERROR.value
    if Happening.EXITED not in tree.at and isinstance(tree.outcome, TreeUnknown):
        return Kind.ERROR.value
    if tree.over_memory.done():
        return ""  # the command may have exited in that very instant
    if script.signal is not None:
        return Kind.CRASH.value
    if script.code == 0 and script.reader_stalls:
        return Kind.INVALID.value  # it succeeded, and nobody took what it wrote
    return (Kind.INVALID if script.code == USAGE_ERROR else Kind.ERROR).value
