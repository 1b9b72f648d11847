"""A time zone by its name."""

import pickle
from datetime import UTC, datetime, timedelta

import pytest

from supervisor.settings.zones import UnknownZone, zone_named


def test_a_zone_is_found_by_its_name() -> None:
    assert zone_named("UTC") is UTC
    assert datetime(2026, 8, 1, tzinfo=zone_named("Europe/Berlin")).utcoffset() == timedelta(hours=2)


@pytest.mark.parametrize("name", ["", "America", "../passwd", "/etc/passwd", "a\0b", "\udc80", "x" * 5000, "Mars/Base"])
def test_what_is_no_zone_is_said_so(name: str) -> None:
    with pytest.raises(UnknownZone, match=r"^there is no time zone "):
        zone_named(name)


@pytest.mark.parametrize("name", ["europe/berlin", "Europe/Berln", "Berlin"])
def test_a_slip_is_told_which_zone_is_near(name: str) -> None:
    with pytest.raises(UnknownZone, match=r"did you mean Europe/Berlin\?$") as told:
        zone_named(name)
    assert str(pickle.loads(pickle.dumps(told.value))) == str(told.value)
