"""A held lock: released once, and never what is another's."""

import os
from pathlib import Path

from supervisor.lock.session_lock import SystemLockFiles


def test_a_release_removes_the_file_and_says_so(locks: SystemLockFiles, transcript: Path) -> None:
    held = locks.take_now(transcript, 60)
    assert held is not None
    assert held.path == Path(f"{transcript}.lock")
    assert held.release() == f"lock {transcript}.lock released"
    assert os.listdir(transcript.parent) == []


def test_a_second_release_changes_nothing(locks: SystemLockFiles, transcript: Path) -> None:
    first = locks.take_now(transcript, 60)
    assert first is not None
    said = first.release()
    second = locks.take_now(transcript, 60)
    assert second is not None
    assert first.release() == said
    assert second.path.exists()
    second.release()


def test_a_file_that_vanished_is_released_without_an_error(locks: SystemLockFiles, transcript: Path) -> None:
    held = locks.take_now(transcript, 60)
    assert held is not None
    held.path.unlink()
    assert held.release() == f"lock {held.path} was not ours any more: left alone"


def test_a_stolen_lock_is_left_to_its_new_holder(locks: SystemLockFiles, transcript: Path) -> None:
    held = locks.take_now(transcript, 60)
    assert held is not None
    held.path.unlink()
    thief = locks.take_now(transcript, 60)
    assert thief is not None
    assert "left alone" in held.release()
    assert thief.path.exists()
    assert thief.release().endswith("released")


def test_a_folder_that_was_removed_with_the_lock_is_no_error(locks: SystemLockFiles, tmp_path: Path) -> None:
    (tmp_path / "sessions").mkdir()
    held = locks.take_now(tmp_path / "sessions" / "a.jsonl", 60)
    assert held is not None
    held.path.unlink()
    (tmp_path / "sessions").rmdir()
    assert "left alone" in held.release()


def test_a_lock_is_released_in_its_folder_wherever_that_was_moved(locks: SystemLockFiles, tmp_path: Path) -> None:
    (tmp_path / "before").mkdir()
    held = locks.take_now(tmp_path / "before" / "a.jsonl", 60)
    assert held is not None
    (tmp_path / "before").rename(tmp_path / "after")
    assert held.release().endswith("released")
    assert os.listdir(tmp_path / "after") == []
