"""Descriptors that no forked child keeps, nor a program that is started."""

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from supervisor.lock import forking
from supervisor.work.own_descriptor import PIPE_BYTES, OwnDescriptor, copied, opened, opened_anew, own_pipe

pytestmark = pytest.mark.usefixtures("nothing_is_left")


def in_a_child(true: Callable[[], bool]) -> bool:
    """Fork once, and say what the child found."""
    child = os.fork()
    if child == 0:
        found = False
        try:
            found = true()
        finally:
            os._exit(0 if found else 1)
    return os.waitpid(child, 0)[1] == 0


def is_open(number: int) -> bool:
    return os.path.lexists(f"/proc/self/fd/{number}")


@pytest.mark.processes
def test_a_forked_child_has_none_and_this_process_all(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    own = [*own_pipe(), opened(str(tmp_path / "file"), os.O_RDONLY)]
    own += [copied(own[0].number), opened_anew(own[2].number, os.O_RDONLY)]
    numbers = [each.number for each in own]
    assert len(set(numbers)) == 5
    assert in_a_child(lambda: not any(map(is_open, numbers)) and not any(each.is_open for each in own))
    assert all(map(is_open, numbers))
    for each in own:
        each.close()
    assert not any(map(is_open, numbers))


@pytest.mark.processes
def test_a_child_leaves_alone_what_has_the_number_of_one_that_was_closed() -> None:
    own, other = own_pipe()
    number = own.number
    own.close()
    other.close()
    again = os.open(os.devnull, os.O_RDONLY)
    assert again == number
    assert in_a_child(lambda: is_open(again))
    os.close(again)


def test_to_close_twice_changes_nothing() -> None:
    own, other = own_pipe()
    number = own.number
    own.close()
    again = os.open(os.devnull, os.O_RDONLY)
    assert again == number
    own.close()
    other.close()
    os.close(again)
    assert not own.is_open


def test_a_program_that_is_started_gets_none() -> None:
    own = [*own_pipe()]
    own.append(copied(own[0].number))
    assert not any(os.get_inheritable(each.number) for each in own)
    for each in own:
        each.close()


def test_a_pipe_is_of_the_wanted_size() -> None:
    read, write = own_pipe()
    size = fcntl.fcntl(read.number, fcntl.F_GETPIPE_SZ)
    if os.getuid() == 0:  # a user may have too many pipes
        assert size == PIPE_BYTES
    read.close()
    write.close()


def test_nothing_can_fork_between_the_making_of_a_descriptor_and_its_being_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held: list[bool] = []

    def dup(descriptor: int) -> int:
        held.append(forking.FORKING._is_owned())  # type: ignore[attr-defined]
        return real(descriptor)

    real = os.dup
    monkeypatch.setattr(os, "dup", dup)
    descriptor: OwnDescriptor = copied(1)
    descriptor.close()
    assert held == [True]
