"""A time zone by its name. zoneinfo is loaded by the first that is not UTC: few commands need one."""

from datetime import UTC, tzinfo

from supervisor.settings.did_you_mean import nearest


class UnknownZone(ValueError):
    """There is no such time zone; says which one is near."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no time zone {name[:60]!r}{_hint(name)}")
        self.name = name

    def __reduce__(self) -> tuple[type["UnknownZone"], tuple[str]]:
        return type(self), (self.name,)


def zone_named(name: str) -> tzinfo:
    """Return the zone with this name in the IANA database, such as `Europe/Berlin`; UnknownZone where there is none."""
    if name == "UTC":
        return UTC
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # no such file; a name that leads out of the database; a folder in it
        raise UnknownZone(name) from None


def _hint(name: str) -> str:
    from zoneinfo import available_timezones

    places = sorted(zone for zone in available_timezones() if "/" in zone and not zone.startswith("Etc/"))
    near = nearest(name, places)
    return f"; did you mean {near}?" if near else ": write it as Europe/Berlin, or UTC"
