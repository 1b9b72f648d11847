"""The modules of this folder are imported from the top of the repository: tests.simulation.x."""

import sys
from pathlib import Path

_TOP = str(Path(__file__).parents[2])
if _TOP not in sys.path:
    sys.path.insert(0, _TOP)

import pytest  # noqa: E402 - the top of the repository must be importable first

LIMIT_S = 600.0
"""Simulations compute and never wait: beside three others on two processors each takes its multiple."""


def pytest_itemcollected(item: pytest.Item) -> None:
    """Give simulations their time, where they do not say so themselves."""
    if item.get_closest_marker("simulation") and not item.get_closest_marker("timeout"):
        item.add_marker(pytest.mark.timeout(LIMIT_S))
