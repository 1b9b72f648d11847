from supervisor.settings.did_you_mean import did_you_mean, nearest


def test_the_nearest_name_is_found_whatever_its_case() -> None:
    assert nearest("CORN", ["default", "Cron"]) == "Cron"


def test_nothing_near_is_nothing() -> None:
    assert nearest("zzz", ["default", "cron"]) is None


def test_without_a_near_name_the_known_ones_are_told() -> None:
    assert did_you_mean("zzz", ["default", "cron"]) == "; known: default, cron"


def test_of_many_known_names_a_few_are_told() -> None:
    assert did_you_mean("zzz", [f"p{i}" for i in range(99)], most=2) == "; known: p0, p1, ..."


def test_where_nothing_is_known_nothing_is_said() -> None:
    assert did_you_mean("zzz", []) == ""
