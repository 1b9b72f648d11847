"""One lock file: published whole, removed only if it is still the same, in a place that may be anything."""

import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from policies.failure import Kind
from supervisor.errors import Failure
from supervisor.lock import lock_file
from supervisor.lock.lock_file import Place
from supervisor.lock.publish import publish

CONTENT = b'{"pid": 7}\n'


@pytest.fixture
def place(transcript: Path) -> Iterator[Place]:
    place = lock_file.open_place(transcript)
    yield place
    place.close()


@pytest.fixture(params=[False, True], ids=["anonymous", "by name"])
def published(request: pytest.FixtureRequest, place: Place) -> Iterator[int]:
    descriptor = publish(place, CONTENT, "ab12", by_name=request.param)
    assert descriptor is not None
    yield descriptor
    os.close(descriptor)


def test_a_published_file_is_whole_and_readable_by_all_and_alone(place: Place, published: int) -> None:
    assert place.path.read_bytes() == CONTENT
    assert place.path.stat().st_mode & 0o7777 == 0o644
    assert os.listdir(place.path.parent) == [place.name]


def test_a_published_file_is_flocked_and_its_descriptor_is_not_inherited(place: Place, published: int) -> None:
    with place.path.open() as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_SH | fcntl.LOCK_NB)
    assert not os.get_inheritable(published)


@pytest.mark.parametrize("by_name", [False, True])
def test_a_name_that_is_taken_stays_as_it_is(place: Place, published: int, *, by_name: bool) -> None:
    assert publish(place, b"other", "cd34", by_name=by_name) is None
    assert place.path.read_bytes() == CONTENT
    assert os.listdir(place.path.parent) == [place.name]


@pytest.mark.parametrize("by_name", [False, True])
def test_the_mode_is_the_same_whatever_the_umask(place: Place, *, by_name: bool) -> None:
    before = os.umask(0o077)
    try:
        descriptor = publish(place, CONTENT, "ab12", by_name=by_name)
    finally:
        os.umask(before)
    assert descriptor is not None
    assert place.path.stat().st_mode & 0o7777 == 0o644
    os.close(descriptor)


def test_where_no_file_can_be_made_without_a_name_one_is_passed_through(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 0o20000000 without O_DIRECTORY is what kernels without O_TMPFILE see: they refuse to open a folder for writing.
    monkeypatch.setattr(os, "O_TMPFILE", os.O_TMPFILE & ~os.O_DIRECTORY & ~os.O_TMPFILE)
    descriptor = publish(place, CONTENT, "ab12")
    assert descriptor is not None
    assert place.path.read_bytes() == CONTENT
    assert os.listdir(place.path.parent) == [place.name]
    os.close(descriptor)


def test_only_the_same_file_is_removed(place: Place, published: int) -> None:
    assert lock_file.remove_if_same(place, published, CONTENT)
    assert lock_file.look(place) is None
    assert not lock_file.remove_if_same(place, published, CONTENT)


def test_another_file_of_that_name_is_not_removed(place: Place, published: int) -> None:
    os.unlink(place.path)
    place.path.write_bytes(CONTENT)
    assert not lock_file.remove_if_same(place, published, CONTENT)
    assert place.path.exists()


def test_the_same_file_with_other_bytes_is_not_removed(place: Place, published: int) -> None:
    place.path.write_bytes(b"rewritten")
    assert not lock_file.remove_if_same(place, published, CONTENT)
    assert place.path.exists()


def test_a_file_is_not_reclaimed_while_another_is_at_it(place: Place, published: int) -> None:
    with place.path.open("rb") as mine:
        assert not lock_file.reclaim(place, mine.fileno(), CONTENT, under=mine.fileno())
    assert place.path.exists()


def test_a_folder_that_another_reclaims_in_is_left_alone(place: Place, published: int) -> None:
    with_flock = os.open(place.path.parent, os.O_RDONLY)
    fcntl.flock(with_flock, fcntl.LOCK_EX)
    assert not lock_file.reclaim(place, published, CONTENT, under=place.folder)
    os.close(with_flock)
    assert lock_file.reclaim(place, published, CONTENT, under=place.folder)
    assert not place.path.exists()


def test_two_who_ask_whether_it_is_flocked_do_not_see_each_other(place: Place) -> None:
    place.path.write_bytes(CONTENT)
    with place.path.open() as one, place.path.open() as two:
        fcntl.flock(one, fcntl.LOCK_SH)
        assert not lock_file.is_flocked(two.fileno())


def test_the_lock_goes_to_the_transcripts_real_folder(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    place = lock_file.open_place(tmp_path / "link" / "reports.jsonl")
    assert place.path == (tmp_path / "real" / "reports.jsonl.lock").resolve()
    place.close()


def test_a_transcript_in_the_working_folder_needs_no_folder_in_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    place = lock_file.open_place(Path("reports.jsonl"))
    assert place.path == tmp_path.resolve() / "reports.jsonl.lock"
    place.close()


@pytest.mark.parametrize(
    "path", [Path(), Path("/"), Path(".."), Path("a\0b"), Path("\0/b"), Path("a\ud800"), Path("\ud800/b")]
)
def test_what_is_no_path_of_a_file_is_invalid(path: Path) -> None:
    with pytest.raises(Failure, match="not the path of a file") as caught:
        lock_file.open_place(path)
    assert caught.value.kind is Kind.INVALID


def _link(path: Path) -> None:
    path.symlink_to("elsewhere")


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


@pytest.mark.parametrize(
    ("make", "named"),
    [(_link, "a symbolic link"), (Path.mkdir, "a folder"), (os.mkfifo, "a FIFO"), (_socket, "a special file")],
)
def test_what_is_no_plain_file_is_named_and_not_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: object, named: str
) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    assert callable(make)
    make(Path("reports.jsonl.lock"))
    place = lock_file.open_place(Path("reports.jsonl"))
    for refused in (lock_file.look, lambda place: publish(place, CONTENT, "ab12")):
        with pytest.raises(Failure, match=named) as caught:
            refused(place)
        assert caught.value.kind is Kind.INVALID
    assert os.listdir() == ["reports.jsonl.lock"]
    place.close()


@pytest.mark.timeout(10)
async def test_what_was_put_there_since_the_look_is_neither_followed_nor_waited_for(place: Place) -> None:
    os.mkfifo(place.path)
    with pytest.raises(Failure, match="a FIFO"):
        async with lock_file.open_to_read(place):
            pass
    place.path.unlink()
    place.path.symlink_to("/etc/passwd")
    with pytest.raises(OSError, match="symbolic links"):
        async with lock_file.open_to_read(place):
            pass


def test_a_link_in_the_locks_place_is_not_followed_to_its_end(tmp_path: Path) -> None:
    (tmp_path / "reports.jsonl.lock").symlink_to("victim")
    place = lock_file.open_place(tmp_path / "reports.jsonl")
    with pytest.raises(Failure):
        publish(place, CONTENT, "ab12")
    assert not (tmp_path / "victim").exists()
    place.close()


def test_two_spellings_of_a_path_are_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("sessions").mkdir()
    Path("linked").symlink_to("sessions")
    Path("sessions/linked.jsonl").symlink_to("other.jsonl")
    real = tmp_path.resolve() / "sessions"
    for spelling in ("sessions/a.jsonl", "sessions/../sessions/a.jsonl", "linked/a.jsonl", tmp_path / "linked/a.jsonl"):
        assert lock_file.real_path(Path(spelling)) == real / "a.jsonl"
    assert lock_file.real_path(Path("linked/linked.jsonl")) == real / "linked.jsonl"  # the name is not followed


@pytest.mark.parametrize("path", ["", ".", "..", "/", "a/..", "\0/b", "\ud800/b"])
def test_a_path_that_is_no_files_stays_as_it_is(path: str) -> None:
    assert lock_file.real_path(Path(path)) == Path(path)


def test_a_path_in_a_working_directory_that_is_gone_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert lock_file.real_path(Path("a.jsonl")) == Path("a.jsonl")
