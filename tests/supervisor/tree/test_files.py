"""A tree's files between their making and their names."""

import os
import stat
from pathlib import Path

from supervisor.lock.publish import Draft
from supervisor.tree.contract import LockWanted
from supervisor.tree.files import Files


def test_a_forked_child_closes_its_copies_and_leaves_a_passing_name_to_its_parent(tmp_path: Path) -> None:
    files = Files("ab12")
    assert files.make_lock(LockWanted(tmp_path / "a.jsonl", 1.0))
    [file] = files._files
    assert file.draft is not None
    file.draft.discard()
    file.draft = Draft(file.place, "ab12", by_name=True)  # as where no file can be made without a name
    child = os.fork()
    if child == 0:
        try:
            files.let_go_in_child()
            os._exit(len([path for path in _open_paths() if str(tmp_path) in path]))
        finally:
            os._exit(99)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert os.listdir(tmp_path) == [".turnkeeper-ab12"]
    files.close()
    assert os.listdir(tmp_path) == []


def test_the_folders_that_a_life_file_needs_are_for_their_owners_eyes_only(tmp_path: Path) -> None:
    files = Files("ab12")
    files.make_life(tmp_path / "state" / "turnkeeper" / "alive", keep=False)
    files.close()
    made = [path for path in tmp_path.rglob("*") if path.is_dir()]
    assert len(made) == 3
    assert {stat.S_IMODE(path.stat().st_mode) for path in made} == {0o700}


def _open_paths() -> list[str]:
    found = []
    for number in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{number}"))
        except OSError:  # the one that the folder was read with
            continue
    return found
