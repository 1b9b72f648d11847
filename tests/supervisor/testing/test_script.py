import json
import math
from typing import Any

import pytest

from supervisor.testing import fails, hangs, heartbeats, raises, succeeds
from supervisor.testing.script import Raises, step_as_json, step_from_json


class Picky(Exception):
    def __init__(self, *, why: str) -> None:
        super().__init__(why)


def test_a_step_is_a_value() -> None:
    assert fails("timeout", after=3.0) == fails("timeout", after=3.0)
    assert fails(ValueError("x")) == Raises(ValueError, ("x",))
    assert hash(hangs()) == hash(hangs())


@pytest.mark.parametrize("seconds", [-1.0, math.nan, -math.inf])
def test_a_time_is_never_negative(seconds: float) -> None:
    for make in (
        lambda: succeeds(after=seconds),
        lambda: fails("error", after=seconds),
        lambda: fails("error", retry_after=seconds),
        lambda: raises(KeyboardInterrupt, after=seconds),
        lambda: hangs(ignoring_cancellation_for=seconds),
        lambda: heartbeats(seconds, 1),
    ):
        with pytest.raises(ValueError, match="0 or more"):
            make()


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="tired"):
        fails("tired")


def test_an_exception_that_cannot_be_made_again_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot be made again"):
        fails(Picky(why="no"))


def test_an_exception_made_in_a_function_is_no_json() -> None:
    class Local(Exception):
        pass

    with pytest.raises(ValueError, match="made in a function"):
        step_as_json(fails(Local))


@pytest.mark.parametrize(
    ("shape", "error"),
    [
        ({"step": "dances"}, ValueError),
        ({}, KeyError),
        ({"step": "succeeds", "speed": 3}, TypeError),
        ({"step": "fails", "kind": "tired", "message": ""}, ValueError),
        ({"step": "raises", "error": "json:dumps", "args": []}, TypeError),
        ({"step": "raises", "error": "builtins:Nothing", "args": []}, TypeError),
    ],
)
def test_json_of_another_shape_is_refused(shape: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        step_from_json(json.loads(json.dumps(shape)))
