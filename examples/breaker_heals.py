"""A session's breaker opens, refuses, tries, opens again for longer, and heals: minutes that take milliseconds.

Everything runs on the virtual clock of `supervisor.testing`: its loop jumps to whatever is due next, so the waits are
real to the program and take no time. A caller asks every ten seconds for a model that fails for four minutes. Five
failures open the breaker; while it is open, nobody calls the model; the first trial fails, so the second cooldown is
twice as long; the second trial succeeds. Refused calls do not keep it open. Exit status 1 if it does not go that way.
"""

import asyncio
import sys
from itertools import pairwise
from pathlib import Path

from terminal import show, what_holds

from supervisor import Attempt, Failure, RunFailed, RunRefused, Supervisor
from supervisor.events import BreakerClosed, BreakerHalfOpened, BreakerOpened
from supervisor.log import AnyEvent, line
from supervisor.testing import virtual_clock

SETTINGS = Path(__file__).parent.parent / "settings.toml"
SESSION = "agent:main:weather"
ONCE = {"extends": "cron", "budget": {"attempts": 1}}  # each run is one call, so that the breaker alone decides
ASK_EVERY_S = 10.0
FAILS_FOR_S = 240.0


async def main() -> int:
    now = asyncio.get_running_loop().time
    began = now()
    called_at: list[float] = []
    answers: list[str] = []
    breaker: list[AnyEvent] = []

    async def ask_the_model(_: Attempt) -> str:
        called_at.append(now() - began)
        await asyncio.sleep(0.5)
        if now() - began < FAILS_FOR_S:
            raise Failure("server_error", "the model's database is down")
        return "sunny"

    def note(event: AnyEvent) -> None:
        if isinstance(event, BreakerOpened | BreakerHalfOpened | BreakerClosed):
            breaker.append(event)
            show(line(event))

    async with Supervisor.from_settings(SETTINGS, policies={"once": ONCE}) as supervisor:
        supervisor.on(note)
        while answers.count("sunny") < 3:
            try:
                answers.append((await supervisor.run(SESSION, ask_the_model, policy="once")).value)
            except RunFailed:
                answers.append("failed")
            except RunRefused as refused:
                answers.append(str(refused.report.reason))
            await asyncio.sleep(ASK_EVERY_S)

    opened = [event.cooldown_s for event in breaker if isinstance(event, BreakerOpened)]
    print(f"\n{now() - began:.0f} s went by for the program. What the caller got: {in_a_row(answers)}")
    quiet_s = [round(later - earlier) for earlier, later in pairwise(called_at[4:7])]
    return what_holds(
        [
            (
                answers[:6] == ["failed"] * 5 + ["breaker_open"],
                "the fifth failure in a row opened it: the sixth call was refused",
            ),
            (
                len(called_at) == answers.count("failed") + 3,
                f"the model was called {len(called_at)} times: no refusal reached it",
            ),
            (answers.count("failed") == 6, "one trial failed"),
            (
                len(opened) == 2 and opened[1] > 1.5 * opened[0],
                f"it opened for {' s, then '.join(f'{s:.0f}' for s in opened)} s",
            ),
            (all(at >= for_s for at, for_s in zip(quiet_s, opened, strict=True)), f"and nobody called for {quiet_s} s"),
            (isinstance(breaker[-1], BreakerClosed), "a trial that succeeded closed it"),
        ]
    )


def in_a_row(answers: list[str]) -> str:
    """Return the answers, each with how often it came in a row."""
    told: list[tuple[str, int]] = []
    for answer in answers:
        if told and told[-1][0] == answer:
            told[-1] = (answer, told[-1][1] + 1)
        else:
            told.append((answer, 1))
    return ", ".join(f"{times} x {answer}" for answer, times in told)


if __name__ == "__main__":
    with virtual_clock() as clock:
        sys.exit(clock.run(main()))
