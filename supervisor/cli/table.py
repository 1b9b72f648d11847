"""Tables on standard output: no wider than a terminal, and plain lines for whatever else reads them."""

import shutil
import sys
from collections.abc import Sequence
from itertools import compress
from typing import Final

from supervisor.log import one_line

Row = Sequence[str]

_SHORT: Final = 14
_LONGEST_KEY: Final = 80


def cut(session: str) -> str:
    """Return a session's key as a cell: its first part, where it is so long that the rest of the row is not seen."""
    return session if len(session) <= _LONGEST_KEY else session[: _LONGEST_KEY - 1] + "…"


def print_table(columns: Row, rows: Sequence[Row]) -> None:
    """Print rows under the names of their columns. Nothing that a cell says is obeyed by a terminal.

    In a terminal long cells are folded, not cut; elsewhere each row is one line, whatever its length.
    """
    lines = [[name.upper() for name in columns], *([one_line(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    if sys.stdout is not None and sys.stdout.isatty():
        _print_for_a_terminal(lines, widths)
        return
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _print_for_a_terminal(lines: Sequence[Row], widths: Sequence[int]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    width, height = shutil.get_terminal_size()  # rich takes any dumb terminal for one of 80 columns
    console = Console(file=sys.stdout, width=width, height=height)
    short = [wide <= _SHORT for wide in widths]
    # A number or one word is folded last: only where there is hardly any room for anything.
    is_kept = sum(wide + 2 for wide in compress(widths, short)) <= width // 2
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name, is_short in zip(lines[0], short, strict=True):
        table.add_column(Text(name), overflow="fold", no_wrap=is_short and is_kept)
    for line in lines[1:]:
        table.add_row(*map(Text, line))  # as Text: brackets and colons are no markup
    console.print(table, highlight=False)
