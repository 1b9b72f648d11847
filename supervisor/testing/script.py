"""What a scripted attempt does: frozen data, which can be kept as JSON and played again."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final

from policies.failure import Kind


@dataclass(frozen=True, slots=True)
class Succeeds:
    """Wait `after_s` seconds, suspending once even for 0, and return `value`."""

    value: Any = None
    after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class NeverAwaits:
    """Return `value` without suspending."""

    value: Any = None


@dataclass(frozen=True, slots=True)
class Fails:
    """Wait `after_s` seconds and raise a `supervisor.errors.Failure`. `retry_after` is in seconds."""

    kind: Kind
    message: str
    after_s: float = 0.0
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Raises:
    """Wait `after_s` seconds and raise a new `error(*args)`, with an attribute `retry_after` where one is given.

    New for each attempt: an exception that is raised twice keeps the frames of the first time.
    """

    error: type[BaseException]
    args: tuple[Any, ...] = ()
    after_s: float = 0.0
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Hangs:
    """Wait for ever; when cancelled, live on for so many seconds, swallow what else comes, and return None."""

    ignoring_cancellation_for_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Heartbeats:
    """Give a heartbeat every `every_s` seconds, `times` times, and then do as `then` says."""

    every_s: float
    times: int
    then: "Step" = Succeeds()


Step = Succeeds | NeverAwaits | Fails | Raises | Hangs | Heartbeats

_STEPS: Final[Mapping[str, type[Step]]] = {
    "succeeds": Succeeds,
    "never_awaits": NeverAwaits,
    "fails": Fails,
    "raises": Raises,
    "hangs": Hangs,
    "heartbeats": Heartbeats,
}
_NAMES: Final = {kind: name for name, kind in _STEPS.items()}


def succeeds(value: Any = None, after: float = 0.0) -> Succeeds:
    """Return the step that returns `value` after so many seconds; it suspends once even for 0."""
    return Succeeds(value, _seconds("after", after))


def never_awaits(value: Any = None) -> NeverAwaits:
    """Return the step that returns `value` without suspending."""
    return NeverAwaits(value)


def fails(
    why: BaseException | type[BaseException] | Kind | str, after: float = 0.0, retry_after: float | None = None
) -> Fails | Raises:
    """Return the step that fails after so many seconds: as a kind of failure, or with an exception.

    ValueError for an unknown kind, a negative time, or an exception that cannot be made again from its `args`.
    """
    _seconds("after", after)
    if retry_after is not None:
        _seconds("retry_after", retry_after)
    if isinstance(why, str):
        kind = Kind(why)
        return Fails(kind, f"scripted: {kind}", after, retry_after)
    return _raising(why, after, retry_after)


def raises(why: BaseException | type[BaseException], after: float = 0.0) -> Raises:
    """Return the step that raises after so many seconds: any BaseException, KeyboardInterrupt too."""
    return _raising(why, _seconds("after", after), None)


def hangs(ignoring_cancellation_for: float = 0.0) -> Hangs:
    """Return the step that never ends by itself; it may outlive its cancellation by so many seconds."""
    return Hangs(_seconds("ignoring_cancellation_for", ignoring_cancellation_for))


def heartbeats(every: float, times: int, then: Step | None = None) -> Heartbeats:
    """Return the step that shows life every so many seconds, and then goes on as `then`: by default it succeeds."""
    return Heartbeats(_seconds("every", every), times, succeeds() if then is None else then)


def step_as_json(step: Step) -> dict[str, Any]:
    """Return a step as what json.dumps takes, as far as its value and arguments do.

    ValueError for an exception class that cannot be imported by name, as one made in a function.
    """
    shape: dict[str, Any] = {"step": _NAMES[type(step)]}
    match step:
        case Succeeds():
            return shape | {"value": step.value, "after_s": step.after_s}
        case NeverAwaits():
            return shape | {"value": step.value}
        case Fails():
            return shape | {
                "kind": step.kind.value,
                "message": step.message,
                "after_s": step.after_s,
                "retry_after": step.retry_after,
            }
        case Raises():
            return shape | {
                "error": _dotted(step.error),
                "args": list(step.args),
                "after_s": step.after_s,
                "retry_after": step.retry_after,
            }
        case Hangs():
            return shape | {"ignoring_cancellation_for_s": step.ignoring_cancellation_for_s}
        case Heartbeats():
            return shape | {"every_s": step.every_s, "times": step.times, "then": step_as_json(step.then)}


def step_from_json(shape: Mapping[str, Any]) -> Step:
    """Return the step that `step_as_json` described. ValueError, KeyError or TypeError for anything else."""
    given = dict(shape)
    name = given.pop("step")
    if name not in _STEPS:
        raise ValueError(f"a step is one of {', '.join(_STEPS)}, got {name!r}")
    if "kind" in given:
        given["kind"] = Kind(given["kind"])
    if "error" in given:
        given |= {"error": _imported(given["error"]), "args": tuple(given["args"])}
    if "then" in given:
        given["then"] = step_from_json(given["then"])
    return _STEPS[name](**given)


def _seconds(name: str, seconds: float) -> float:
    if not seconds >= 0:
        raise ValueError(f"{name} is in seconds, 0 or more, got {seconds}")
    return seconds


def _raising(why: BaseException | type[BaseException], after: float, retry_after: float | None) -> Raises:
    error, args = (why, ()) if isinstance(why, type) else (type(why), why.args)
    try:
        error(*args)
    except Exception as problem:
        raise ValueError(
            f"{why!r} cannot be made again as {error.__name__}{args!r}; write the work by hand"
        ) from problem
    return Raises(error, args, after, retry_after)


def _dotted(error: type[BaseException]) -> str:
    if "<locals>" in error.__qualname__:
        raise ValueError(f"{error.__qualname__} is made in a function: give it a name in a module")
    return f"{error.__module__}:{error.__qualname__}"


def _imported(dotted: str) -> type[BaseException]:
    module, _, path = dotted.partition(":")
    found: Any = import_module(module)
    for name in path.split("."):
        found = getattr(found, name, None)
    if not (isinstance(found, type) and issubclass(found, BaseException)):
        raise TypeError(f"{dotted} is not an exception")
    return found
