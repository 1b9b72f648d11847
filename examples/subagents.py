"""A parent turn with three subagents whose model is overloaded: retries are shared, so nesting does not multiply them.

The parent may retry twice; each child, by its own policy, three times. Left alone they would come to 3 attempts of the
parent x 3 children x 4 attempts = 36 calls of a model that is overloaded already. Here each retry of a child takes one
of the parent's: there are 3 first attempts and 2 retries, then each child fails with `parent_budget`, and the parent,
whose retries are used up, fails with `attempts`. Exit status 1 if that is not what happens.
"""

import asyncio
import sys
from pathlib import Path

from terminal import show, what_holds

from supervisor import Attempt, Failure, RunFailed, Supervisor
from supervisor.events import RunEnded
from supervisor.log import AnyEvent, line

SETTINGS = Path(__file__).parent.parent / "settings.toml"
PARENT = "agent:main:research"
POLICIES = {
    "parent": {"extends": "default", "budget": {"attempts": 3}},
    "child": {"extends": "subagent", "budget": {"attempts": 4}, "backoff": {"base": "50ms"}},
}

calls: list[str] = []


async def ask_overloaded_model(attempt: Attempt) -> None:
    calls.append(attempt.session)
    await asyncio.sleep(0.02)
    raise Failure("overloaded", "the model is overloaded")


async def research(attempt: Attempt) -> None:
    async with attempt.subagents(limit=3) as children:
        for topic in ("papers", "patents", "press"):
            children.spawn(f"{attempt.session}:{topic}", ask_overloaded_model, policy="child")


async def main() -> int:
    ended: dict[str, str | None] = {}

    def note(event: AnyEvent) -> None:
        show(line(event))
        if isinstance(event, RunEnded):
            ended[event.session] = event.reason

    async with Supervisor.from_settings(SETTINGS, policies=POLICIES) as supervisor:
        supervisor.on(note)
        try:
            await supervisor.run(PARENT, research, policy="parent")
        except RunFailed as failed:
            report = failed.report
        else:
            print("the parent succeeded, which it cannot")
            return 1

    children = {session: reason for session, reason in ended.items() if session != PARENT}
    failure = report.attempts[0].failure
    assert failure is not None
    return what_holds(
        [
            (
                len(calls) == 3 + 2,
                f"calls of the model: {len(calls)}, three first attempts and the parent's two retries",
            ),
            (
                set(children.values()) == {"parent_budget"},
                f"the children ended with {', '.join(map(str, children.values()))}",
            ),
            (len(report.attempts) == 1, f"the parent made {len(report.attempts)} attempt"),
            (report.reason == "attempts", f"and ended with {report.reason}: its retries were used up below it"),
            (failure.kind == "overloaded", f"its failure is its children's: {failure.kind}"),
        ]
    )


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
