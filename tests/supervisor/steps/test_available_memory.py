"""How much memory can still be had: the machine's, or the least that any group above this process allows."""

from pathlib import Path

import pytest

from supervisor.steps import available_memory as module
from supervisor.steps.available_memory import _of_group, available_memory

MIB = 1024 * 1024


def group(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text, encoding="ascii")
    return folder


def test_the_machine_has_some_memory_to_give() -> None:
    assert 0 < available_memory() < 1 << 60


def test_a_group_gives_what_is_left_below_its_limit(tmp_path: Path) -> None:
    folder = group(tmp_path, memory__max=f"{100 * MIB}\n", memory__current=f"{30 * MIB}\n")
    assert _of_group(folder) == 70 * MIB


def test_cached_pages_that_can_be_dropped_count_as_available(tmp_path: Path) -> None:
    stat = f"anon 5\ninactive_file {20 * MIB}\nactive_file 7\n"
    folder = group(tmp_path, memory__max=f"{100 * MIB}", memory__current=f"{90 * MIB}", memory__stat=stat)
    assert _of_group(folder) == 30 * MIB


def test_a_group_over_its_limit_has_nothing_to_give(tmp_path: Path) -> None:
    folder = group(tmp_path, memory__max=f"{10 * MIB}", memory__current=f"{30 * MIB}")
    assert _of_group(folder) == 0


def test_a_group_of_the_first_version_counts_the_groups_below_it_too(tmp_path: Path) -> None:
    stat = f"inactive_file {1 * MIB}\ntotal_inactive_file {20 * MIB}\n"
    folder = group(
        tmp_path,
        memory__limit_in_bytes=f"{100 * MIB}",
        memory__usage_in_bytes=f"{90 * MIB}",
        memory__stat=stat,
    )
    assert _of_group(folder) == 30 * MIB


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"memory__max": "max\n", "memory__current": "1"},
        {"memory__limit_in_bytes": "9223372036854771712", "memory__usage_in_bytes": "1"},
        {"memory__max": "", "memory__current": "1"},
        {"memory__max": "5", "memory__current": "what?"},
        {"memory__max": "what?", "memory__current": "1"},
    ],
    ids=["no files", "no limit", "no limit in the first version", "an empty file", "usage is no number", "no number"],
)
def test_a_group_without_a_limit_that_can_be_read_does_not_bound_it(tmp_path: Path, files: dict[str, str]) -> None:
    assert _of_group(group(tmp_path, **files)) is None


def test_the_least_that_any_group_above_allows_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    above = group(tmp_path / "above", memory__max=f"{3 * MIB}", memory__current=f"{1 * MIB}")
    ours = group(tmp_path / "above" / "ours", memory__max=f"{9 * MIB}", memory__current=f"{1 * MIB}")
    monkeypatch.setattr(module, "_groups", lambda: [ours, above])
    assert available_memory() == 2 * MIB


def test_every_group_from_ours_to_the_root_is_asked() -> None:
    groups = module._groups()
    assert all(folder.is_relative_to("/sys/fs/cgroup") for folder in groups)
    assert len(set(groups)) == len(groups)


def test_where_nobody_says_what_the_machine_has_it_is_not_the_machine_that_refuses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without /proc: a chroot, or a sandbox."""

    def missing(*_: object, **__: object) -> str:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(Path, "read_text", missing)
    assert available_memory() == 1 << 60
