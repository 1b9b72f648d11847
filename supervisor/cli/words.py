"""A run in words: what was tried, what was left of it, and what decided each verdict."""

from collections.abc import Iterator
from typing import Any, Final

from supervisor.credentials import hide_credentials
from supervisor.log import seconds
from supervisor.report import way_out

Json = dict[str, Any]

MOST_LINES: Final = 20
"""Of the output of a failed attempt."""


def run_words(run: Json) -> Iterator[str]:
    """Yield the lines that tell of a run, as `history.run` returns it."""
    yield f"run {run['run_id']} of session {run['session']!r}"
    if run["job"] is not None:
        yield f"a tick of the job {run['job']}"
    yield f"policy {run['policy']}, rules {run['policy_hash']}"
    process = "" if run["owner"]["pid"] is None else f" by process {run['owner']['pid']}"
    yield f"asked for at {run['started_at']}{process}"
    if run["lock"] is not None:
        yield f"lock {run['lock']}"
    if run["parents"]:
        yield f"within {', within '.join(run['parents'])}"
    yield _ending(run)
    if run["status"] == "quarantined":
        yield f"if its session is still quarantined (`turnkeeper status` says so), {way_out(run['session'])}"
    for attempt in run["attempts"]:
        yield ""
        yield from attempt_words(attempt)


def _ending(run: Json) -> str:
    if run["ended_at"] is None:
        return f"under way: {run['status']}"
    reason = "" if run["reason"] is None else f" ({run['reason']})"
    detail = f": {run['detail']}" if run["detail"] else ""
    return f"{run['status']}{reason} after {seconds(run['duration_s'])}{detail}"


def attempt_words(attempt: Json) -> Iterator[str]:
    """Yield the lines that tell of one attempt."""
    by = "" if attempt["warden_pid"] is None else f", under warden {attempt['warden_pid']}"
    head = f"attempt {attempt['number']}: started at {attempt['started_at']}{by}"
    if attempt["outcome"] is None:
        yield f"{head}, and runs"
        return
    yield f"{head}, took {seconds(attempt['duration_s'])}"
    failure = attempt["failure"]
    yield f"  outcome  {attempt['outcome']}" + ("" if failure is None else f": {failure['kind']}, {failure['message']}")
    yield from _output_words(failure)
    yield from receipt_words(attempt["released"])
    yield f"  verdict  {verdict_words(attempt)}"
    for line in _numbers(attempt["why"]):
        yield f"           {line}"


def _output_words(failure: Json | None) -> Iterator[str]:
    """Yield the last lines of what a failed command printed, as far as it was kept."""
    printed = hide_credentials((failure or {}).get("output_tail") or "").rstrip().splitlines()
    if len(printed) > MOST_LINES:
        printed = [f"... and {len(printed) - MOST_LINES} lines before", *printed[-MOST_LINES:]]
    for number, line in enumerate(printed):
        yield f"  {'' if number else 'output':<9}{line}"


def receipt_words(receipt: Json) -> Iterator[str]:
    """Yield what is left of an attempt, and the evidence."""
    killed = receipt["processes_killed"]
    parts = [f"{killed} {'process' if killed == 1 else 'processes'} ended"] if killed else []
    parts += ["its lock file was removed"] if receipt["lock_reclaimed"] else []
    after = f", {seconds(receipt['seconds'])} after it was told to end" if receipt["seconds"] else ""
    yield f"  left     {', '.join([_left(receipt) + after, *parts])}"
    for step in receipt["steps"]:
        yield f"           - {step}"


def _left(receipt: Json) -> str:
    return "nothing: proved" if receipt["receipt"] == "gone" else f"may still live: {', '.join(receipt['alive'])}"


def verdict_words(attempt: Json) -> str:
    """Return a verdict, and what decided it."""
    verdict, why = attempt["verdict"], attempt["why"] or {}
    match verdict["action"]:
        case "finish":
            return "finish"
        case "retry":
            tokens = why.get("tokens")
            cost = "" if not tokens else f", for {_tokens(tokens)}"
            return f"tried again {seconds(verdict['delay_s'])} later{cost}"
        case "quarantine":
            return "quarantine: nothing starts for the session until what may live is seen to end"
        case _:
            return f"given up, {verdict['reason']}: {_decided(verdict['reason'], attempt, why)}"


def _decided(reason: str, attempt: Json, why: Json) -> str:
    match reason:
        case "not_retried" if attempt["failure"] is not None:
            return f"by its policy, {attempt['failure']['kind']} is not tried again"
        case "attempts" if why:
            return f"all {why['attempts'][1]} attempts are used"
        case "session_budget" if why:
            left = why["session_capacity"] - why["session_spent"][0]
            return f"a retry takes {_tokens(why['tokens'])}, and {left:.1f} of {why['session_capacity']:g} were left"
        case _:
            return _REASONS.get(reason, "nothing more may start")


_REASONS: Final = {
    "attempts": "all its attempts are used",
    "session_budget": "too few of the session's tokens are left",
    "host_budget": "too few of the host's tokens are left",
    "parent_budget": "the run that it was started within has no retry left",
    "deadline": "the next attempt would begin after the run's deadline",
    "breaker_open": "the session's breaker is open for longer than the run may wait",
    "stdin_consumed": "its input was read, and is too long to be kept for a second time",
    "lost": "the process that carried it out is gone, or was given up, and its caller with it",
    "stopped": "an operator has stopped it",
    "paused": "an operator has paused the session, and stopped what ran",
    "replaced": "a newer run of the session took its place",
    "closed": "its supervisor was closed",
    "cancelled": "its caller, or a signal, has ended it",
}


def _tokens(number: float) -> str:
    return f"{number:g} token" if number == 1 else f"{number:g} tokens"


def _numbers(why: Json | None) -> Iterator[str]:
    """Yield what the verdict was decided on."""
    if not why:
        return
    used, allowed = why["attempts"]
    below = f", {why['retries_below']} of them by runs within it" if why["retries_below"] else ""
    yield f"attempts: {used + why['retries_below']} of {allowed} used{below}"
    if why["retries_left_above"] is not None:
        yield f"retries left to the runs above: {why['retries_left_above']}"
    before, after = (why["session_capacity"] - spent for spent in why["session_spent"])
    yield f"tokens of the session: {before:.1f} before, {after:.1f} after, of {why['session_capacity']:g}"
    if any(why["host_spent"]):
        yield f"tokens of the host spent: {why['host_spent'][0]:.1f} before, {why['host_spent'][1]:.1f} after"
    yield f"breaker: {_breakers(*why['breaker'])}" + ("; it does not count for it" if why["counts"] is False else "")
    if why["deadline_s"] is not None:
        left = why["deadline_s"]
        yield f"deadline: {f'{seconds(left)} later' if left > 0.0 else f'{seconds(-left)} before'}"


def _breakers(before: Json, after: Json) -> str:
    first, then = breaker_words(before), breaker_words(after)
    return first if first == then else f"{first} before, {then} after"


def breaker_words(breaker: Json) -> str:
    """Return what a breaker is, as `history.breaker_shape` has it."""
    row = breaker.get("in_a_row")
    return f"closed, {row} in a row failed" if row else str(breaker["state"]).replace("_", " ")
