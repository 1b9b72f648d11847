"""Tables: plain lines in a pipe; in a terminal never wider than it, and nothing in a cell is obeyed."""

import io
import sys

import pytest

from supervisor.cli.table import print_table

COLUMNS = ("lock", "state", "why")
ROWS = [
    ("/sessions/reports.jsonl.lock", "dead", "no process 7 is left"),
    ("/s/[red]:smile:\x1b[2J\n.lock", "alive", ""),
]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def in_a_terminal(monkeypatch: pytest.MonkeyPatch, width: int, **environ: str) -> str:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    for name, value in {"COLUMNS": str(width), "TERM": "dumb", **environ}.items():
        monkeypatch.setenv(name, value)
    print_table(COLUMNS, ROWS)
    return terminal.getvalue()


def test_in_a_pipe_each_row_is_one_line_whatever_its_length(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(COLUMNS, [*ROWS, ("x" * 300, "unknown", "y" * 300)])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert lines[0].split() == ["LOCK", "STATE", "WHY"]
    assert lines[1].split(maxsplit=2) == list(ROWS[0])
    assert lines[2].split() == [r"/s/[red]:smile:\x1b[2J\n.lock", "alive"]
    assert lines[3] == f"{'x' * 300}  unknown  {'y' * 300}"


@pytest.mark.parametrize("width", [20, 40, 60, 100, 200])
def test_in_a_terminal_no_line_is_wider_than_it_and_nothing_is_lost(
    monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    lines = in_a_terminal(monkeypatch, width).splitlines()
    assert max(map(len, lines)) <= width
    characters = sorted("".join(lines).replace(" ", ""))
    expected = "LOCKSTATEWHY" + "".join(ROWS[0]) + r"/s/[red]:smile:\x1b[2J\n.lock" + "alive"
    assert characters == sorted(expected.replace(" ", ""))


def test_in_a_terminal_of_colours_a_cell_has_none_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    written = in_a_terminal(monkeypatch, 100, TERM="xterm-256color")
    assert "\x1b[1m" in written  # the names of the columns are bold
    assert r"[red]:smile:\x1b[2J\n.lock" in written
    assert "\x1b[2J" not in written


def test_short_cells_are_not_folded_while_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    written = in_a_terminal(monkeypatch, 44)
    assert " dead " in written
    assert " alive " in written
