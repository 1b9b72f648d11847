"""What is wrong with a schedule, in words."""

_LONGEST_SHOWN = 60


class ScheduleError(ValueError):
    """A schedule is refused: `field` (`minute`, `day of month`, `every`, ...) needs something else than `value`."""

    def __init__(self, field: str, needs: str, value: str) -> None:
        shown = value if len(value) <= _LONGEST_SHOWN else f"{value[:_LONGEST_SHOWN]}..."
        super().__init__(f"{field} needs {needs}, got {shown!r}")
        self.field, self.needs, self.value = field, needs, value

    def __reduce__(self) -> tuple[type["ScheduleError"], tuple[str, str, str]]:
        return type(self), (self.field, self.needs, self.value)


class NeverDue(ScheduleError):
    """The schedule is well formed, and there is no moment that it means: 30 February."""
