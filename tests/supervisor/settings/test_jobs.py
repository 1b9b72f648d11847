"""`[[jobs]]` and `[serve]`: every key, everything that can be wrong, and jobs over their policies."""

import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as effort
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from policies.catch_up import CatchUp
from policies.failure import Kind
from policies.policy import OnLost
from policies.schedule import At, Cron, Every, stagger_s
from supervisor.settings.describe import as_json, as_toml
from supervisor.settings.read import read_settings
from supervisor.settings.schema import json_schema
from supervisor.settings.values import Serve, Settings

EXAMPLE = Path(__file__).parents[3] / "settings.toml"

JOB = '[[jobs]]\nname = "a"\ncommand = ["true"]\n'


def unix(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def test_every_key_arrives_where_it_belongs(read: Any) -> None:
    settings = read("""
        [serve]
        drain = "0s"
        overdue = "off"
        [policies.cron]
        gate.overlap = "skip"
        [[jobs]]
        name = "reports"
        cron = "0 8 * * MON-FRI"
        tz = "Europe/Berlin"
        stagger = "5m"
        session = "agent:main:reports"
        policy = "cron"
        command = ["report", "--daily", ""]
        env = { LANG = "C" }
        cwd = "/srv"
        lock = "sessions/reports.jsonl"
        catch_up = "all"
        overdue = 2
        attempt.timeout = "20m"
        budget.attempts = 2
        on_lost = "retry"
        kinds.timeout.retried = false
    """)
    assert settings.serve == Serve(0.0, None)
    [job] = settings.jobs
    assert job.schedule == Cron("0 8 * * MON-FRI", ZoneInfo("Europe/Berlin"))
    assert job.schedule_text == "cron 0 8 * * MON-FRI (Europe/Berlin)"
    assert (job.name, job.session, job.command) == ("reports", "agent:main:reports", ("report", "--daily", ""))
    assert (job.stagger_s, job.offset_s) == (300.0, stagger_s("reports", 300.0))
    assert (job.env, job.cwd, job.lock) == ({"LANG": "C"}, "/srv", "sessions/reports.jsonl")
    assert (job.catch_up, job.overdue) == (CatchUp.ALL, 2)
    policy, below = job.policy, settings.policies["cron"]
    assert (policy.name, policy.attempt.timeout_s, policy.budget.attempts) == ("cron", 1200.0, 2)
    assert policy.on_lost is OnLost.RETRY
    assert not policy.effect(Kind.TIMEOUT).retried
    assert policy.gate == below.gate
    assert policy.hash != below.hash


def test_what_is_left_out_is_as_the_papers_say(read: Any) -> None:
    settings = read(f'{JOB}every = "1h"')
    [job] = settings.jobs
    assert settings.serve == Serve(60.0, 3)
    assert (job.schedule, job.schedule_text) == (Every(3600.0, 0.0), "every 1h")
    assert (job.session, job.policy.name, job.catch_up, job.overdue) == ("job:a", "default", CatchUp.LAST, 3)
    assert (job.stagger_s, job.offset_s, job.lock, job.cwd, dict(job.env)) == (0.0, 0.0, None, None, {})
    assert job.policy.hash == settings.policies["default"].hash


@pytest.mark.parametrize(
    ("keys", "schedule"),
    [
        ('cron = "0 0 * * *"\ntz = "UTC"', Cron("0 0 * * *", UTC)),
        ('every = "1h"\nanchor = "2026-01-01T00:30:00Z"', Every(3600.0, unix("2026-01-01T00:30:00Z"))),
        (
            'every = "1h"\nanchor = 2026-01-01T00:30:00\ntz = "Asia/Kolkata"',
            Every(3600.0, unix("2025-12-31T19:00:00Z")),
        ),
        ('at = "2030-06-01T08:00:00"\ntz = "Europe/Berlin"', At(unix("2030-06-01T06:00:00Z"))),
        ("at = 2030-06-01T08:00:00.25+02:00", At(unix("2030-06-01T06:00:00.25Z"))),
        ('at = "1990-06-01"', At(unix("1990-06-01T00:00:00Z"))),  # it is over: no error, for it has been there before
    ],
)
def test_a_moment_without_a_zone_is_of_the_job_s(read: Any, keys: str, schedule: object) -> None:
    [job] = read(JOB + keys).jobs
    assert job.schedule == schedule


def test_the_same_schedule_is_known_by_the_same_text_however_it_is_written(read: Any) -> None:
    texts = set()
    for keys in ('"2030-06-01T08:00:00+02:00"', '"2030-06-01T06:00:00Z"', "2030-06-01 06:00:00Z"):
        texts.add(read(f"{JOB}at = {keys}").jobs[0].schedule_text)
    assert texts == {"at 2030-06-01T06:00:00Z"}
    ways = ('every = "60m"', 'every = "1h"\nanchor = "1970-01-01T00:00:00Z"', 'every = "1h"\ntz = "Asia/Kolkata"')
    assert {read(JOB + way).jobs[0].schedule_text for way in ways} == {"every 1h"}


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ("", "jobs #1 needs one of cron, every and at, got none of them"),
        ('cron = "* * * * *"\nevery = "1m"', "jobs #1 needs one of cron, every and at, got cron and every"),
        ('every = "1m"\nat = "2030-01-01T00:00:00Z"', "jobs #1 needs one of cron, every and at, got every and at"),
        ('cron = "70 * * * *"', "jobs #1 cron minute needs values from 0 to 59"),
        ('cron = "* * * * fun"', "jobs #1 cron day of week needs"),
        ('cron = "* * *"', "jobs #1 cron "),
        ('cron = "0 0 30 2 *"', "this is never due"),
        ("cron = 5", "jobs #1 cron needs a name as text, got 5"),
        ('cron = "* * * * *"\ntz = "Europe/Berln"', "jobs #1 tz there is no time zone 'Europe/Berln'; did you mean"),
        ('every = "1m"\ntz = ""', "jobs #1 tz needs a name as text"),
        ('every = "500ms"', "jobs #1 every needs 1s or more, got 500ms"),
        ('every = "0.0001ms"', "jobs #1 every needs 1s or more"),
        ('every = "0s"', "jobs #1 every needs a duration of more than 0"),
        ("every = 60", 'jobs #1 every needs a duration with its unit (ms, s, m, h, d): write "60s" for seconds'),
        ('cron = "* * * * *"\nanchor = "2026-01-01T00:00:00Z"', "jobs #1 anchor is for every alone"),
        ('every = "1m"\nanchor = "soon"', "jobs #1 anchor needs a date and time, such as 2026-12-01T08:00:00Z"),
        ("at = 2026-01-01", "jobs #1 at needs a date and time"),
        ("at = 08:00:00", "jobs #1 at needs a date and time"),
        ('at = "0001-01-01T00:00:00+14:00"', "jobs #1 at needs a moment that has a date in UTC"),
        ('at = "9999-12-31T23:00:00"\ntz = "America/New_York"', "jobs #1 at needs a moment that has a date in UTC"),
        ('every = "1m"\nstagger = "-5s"', "jobs #1 stagger needs a duration that is not negative"),
        (
            'every = "1m"\npolicy = "defualt"',
            'jobs #1 policy needs the name of a policy, got "defualt"; did you mean default?',
        ),
        ('every = "1m"\nenv = { A = 1 }', 'jobs #1 env needs a table of texts, such as { LANG = "C" }'),
        ('every = "1m"\nenv = { "A=B" = "1" }', "jobs #1 env needs names of variables, without ="),
        ('every = "1m"\nenv = { TURNKEEPER_RUN_ID = "1" }', "TURNKEEPER_RUN_ID is set by Turnkeeper itself"),
        ('every = "1m"\ncwd = "a\\u0000b"', "jobs #1 cwd needs a name as text"),
        ('every = "1m"\nsession = "a\\nb"', "jobs #1 session needs 1 to 512 characters, none a control character"),
        (f'every = "1m"\nsession = "{"x" * 513}"', "jobs #1 session needs 1 to 512 characters"),
        ('every = "1m"\ncatch_up = "newest"', "jobs #1 catch_up needs one of none, last, all"),
        ('every = "1m"\noverdue = 0', 'jobs #1 overdue needs a whole number of 1 or more, or "off"'),
        ('every = "1m"\nattempt.timout = "1s"', "jobs #1 attempt.timout is not known; did you mean timeout?"),
        ('every = "1m"\ntimeout = "1s"', "jobs #1 timeout is not known; did you mean attempt.timeout?"),
        ('every = "1m"\nlock = { wait = "1s" }', "jobs #1 lock needs a name as text"),
        ('every = "1m"\nbackoff.base = "3m"', "jobs #1 backoff needs base <= cap"),
        ('every = "1m"\nattempt.grace = "20s"', "jobs #1 attempt.grace needs at most half of state.lease"),
        (
            'every = "1m"\nattempt.timeout = "off"\nbudget.deadline = "off"',
            'jobs #1 needs attempt.timeout or budget.deadline, got timeout="off", deadline="off": its runs',
        ),
        ('every = "1m"\nkinds.quarantined.retried = true', "jobs #1 kinds.quarantined "),
    ],
)
def test_each_mistake_is_told_in_its_words(problems: Any, keys: str, problem: str) -> None:
    [told] = problems(JOB + keys)
    assert problem in told


def test_a_job_needs_a_name_of_its_own_and_a_command(problems: Any) -> None:
    twice = f'{JOB}every = "1m"\n{JOB}every = "2m"\n'
    assert problems(twice) == ('jobs #2 name needs a name of its own, got "a", as jobs #1',)
    assert problems('jobs = [{ every = "1m" }]') == ("jobs #1 needs name", "jobs #1 needs command")
    assert problems("jobs = [1]")[0].startswith("jobs #1 needs a table, got 1")
    assert problems("jobs = 1") == ("jobs needs a list of tables, got 1",)
    [long] = problems(f'jobs = [{{ name = "{"x" * 129}", command = ["true"], every = "1m" }}]')
    assert long.startswith("jobs #1 name needs a name of 1 to 128 printable characters")
    assert "no shell reads it" in problems('jobs = [{ name = "a", command = "true", every = "1m" }]')[0]


def test_an_expression_is_read_also_where_its_zone_is_wrong(problems: Any) -> None:
    zone, expression = problems(f'{JOB}cron = "0 25 * * *"\ntz = "Europe/Berln"')
    assert zone.startswith("jobs #1 tz there is no time zone")
    assert expression.startswith("jobs #1 cron hour needs")


def test_everything_that_is_wrong_is_told_at_once(problems: Any) -> None:
    told = problems(f"""
        serve.drain = "soon"
        [policies.default]
        budget.attempts = 0
        {JOB}cron = "61 * * * *"
        tz = "UTC"
        policy = "crno"
        session = "a\\tb"
        {JOB}every = "1m"
        backoff.base = "3m"
        [[jobs]]
        name = "b"
    """)
    assert [line.split(" needs")[0] for line in told] == [
        "serve.drain",
        "policies.default budget.attempts".replace(" ", "."),
        "jobs #1 cron minute",
        "jobs #1 policy",
        "jobs #1 session",
        "jobs #2 name",
        "jobs #2 backoff",
        "jobs #3",
        "jobs #3",
    ]


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        (
            'name = "a"\ncommand = "true"\ncron = "61 * * * *"\npolicy = "crno"\nsession = "a\\tb"',
            ["command", "name", "cron minute", "policy", "session"],
        ),
        ('name = "b"\ntimeout = "1s"\nevery = "1ms"\nbackoff.base = "3m"', ["", "timeout", "every", "backoff"]),
        ('name = "b"\nevery = 5\nanchor = "2030-01-01"\npolicy = "crno"', ["every", "", "policy"]),
        ('name = "b"\ncommand = ["true"]\ncrom = "* * * * *"\npolicy = "crno"', ["crom", "policy"]),
        ('name = 7\ncommand = ["true"]\nat = "2030-01-01"\npolicy = "crno"', ["name", "policy"]),
    ],
)
def test_what_else_is_wrong_with_a_job_that_has_a_wrong_key_is_told_too(
    problems: Any, keys: str, told: list[str]
) -> None:
    lines = problems(f'{JOB}every = "1m"\n[[jobs]]\n{keys}\n')
    assert all(line.startswith("jobs #2 ") for line in lines)
    places = [line.split(" needs")[0].split(" is not")[0].removeprefix("jobs #2").strip() for line in lines]
    assert places == told


def test_what_is_wrong_with_a_policy_is_not_told_again_of_its_jobs(problems: Any) -> None:
    policy = '[policies.default]\nbackoff = { base = "9m", cap = "1m" }\nbudget.attempts = 0\n'
    assert all(
        line.startswith("policies.default.") for line in problems(f'{policy}{JOB}every = "1m"\non_lost = "retry"')
    )


def test_a_job_mends_nothing_of_a_policy_that_breaks_a_rule(problems: Any) -> None:
    policy = '[policies.default]\nbackoff = { base = "9m", cap = "1m" }\n'
    [told] = problems(f'{policy}{JOB}every = "1m"\nbackoff.cap = "10m"')
    assert told.startswith("policies.default.backoff needs base <= cap")


def test_a_job_s_tables_stand_over_its_policy_s_key_by_key(read: Any) -> None:
    settings = read(f"""
        [policies.default]
        attempt = {{ timeout = "1m", grace = "2s" }}
        [policies.mail]
        kinds.timeout = {{ retried = false, counts = false }}
        [policies.night]
        extends = "mail"
        backoff.base = "7s"
        {JOB}every = "1m"
        policy = "night"
        attempt.timeout = "3m"
        kinds.timeout.tokens = 5
    """)
    [job] = settings.jobs
    assert (job.policy.attempt.timeout_s, job.policy.attempt.grace_s, job.policy.backoff.base_s) == (180.0, 2.0, 7.0)
    effect = job.policy.effect(Kind.TIMEOUT)
    assert (effect.retried, effect.counts, effect.tokens) == (False, False, 5.0)
    assert settings.policies["night"].attempt.timeout_s == 60.0


def test_what_a_job_does_not_say_of_overdue_serve_does(read: Any) -> None:
    other = JOB.replace('"a"', '"b"')
    settings = read(f'serve.overdue = 5\n{JOB}every = "1m"\n{other}every = "1m"\noverdue = "off"')
    assert [job.overdue for job in settings.jobs] == [5, None]


def test_the_environment_stands_over_the_file(read: Any, problems: Any) -> None:
    environ = {"TURNKEEPER_SERVE__DRAIN": "7s", "TURNKEEPER_SERVE__OVERDUE": "off"}
    settings = read('serve.drain = "1s"', environ)
    assert settings.serve == Serve(7.0, None)
    jobs = '[{"name": "b", "every": "1m", "command": ["true"]}]'
    assert [job.name for job in read(f'{JOB}every = "1m"', {"TURNKEEPER_JOBS": jobs}).jobs] == ["b"]
    [told] = problems("", {"TURNKEEPER_SERVE__DRAIN": "soon"})
    assert told.endswith("(set by TURNKEEPER_SERVE__DRAIN)")
    [told] = problems(f'{JOB}every = "1m"', {"TURNKEEPER_POLICIES__DEFAULT__ATTEMPT__GRACE": "1h"})
    assert told.endswith("(set by TURNKEEPER_POLICIES__DEFAULT__ATTEMPT__GRACE)")


# --- what `check` prints

moments = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30))  # noqa: DTZ001 - of no zone, as in a file
duration = st.sampled_from(["1s", "1m30s", "250ms", "2h", "1d"])
name = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=20)
schedules = st.one_of(
    st.fixed_dictionaries(
        {"cron": st.sampled_from(["0 8 * * MON-FRI", "@daily", "*/7 * * * * *", "0 0 L * *"])},
        optional={"tz": st.sampled_from(["UTC", "Europe/Berlin", "Etc/UTC"])},
    ),
    st.fixed_dictionaries(
        {"every": st.sampled_from(["1s", "90m", "1h0.5s"])},
        optional={"anchor": moments, "tz": st.just("Asia/Kolkata")},
    ),
    st.fixed_dictionaries({"at": moments}),
)
own = st.fixed_dictionaries(
    {},
    optional={
        "stagger": duration,
        "session": name,
        "policy": st.sampled_from(["cron", "default"]),
        "lock": name,
        "cwd": name,
        "env": st.dictionaries(
            st.from_regex(r"[A-Z]{1,5}", fullmatch=True), st.text(st.characters(exclude_categories=["C"]))
        ),
        "catch_up": st.sampled_from([*CatchUp]).map(str),
        "overdue": st.one_of(st.just("off"), st.integers(1, 9)),
        "attempt": st.fixed_dictionaries({}, optional={"timeout": duration, "max_rss": st.just("5MiB")}),
        "kinds": st.fixed_dictionaries(
            {}, optional={"timeout": st.just({"retried": False}), "auth": st.just({"tokens": 3})}
        ),
        "on_lost": st.sampled_from([*OnLost]).map(str),
    },
)
BELOW = {"policies": {"cron": {"kinds": {"timeout": {"tokens": 1}}, "attempt": {"idle_timeout": "3s"}}}}


@pytest.mark.once
@given(
    st.lists(st.builds(lambda when, rest: when | rest, schedules, own), min_size=1, max_size=3),
    st.sampled_from([4, "off"]),
)
@effort(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
def test_what_check_prints_reads_the_same_and_fits_the_schema(tmp_path: Path, jobs: Any, overdue: object) -> None:
    jobs = [{"name": f"job {number}", "command": ["x", '"']} | job for number, job in enumerate(jobs)]
    call = BELOW | {"jobs": jobs, "serve": {"overdue": overdue}}
    path = tmp_path / "settings.toml"
    path.write_text("")
    settings = read_settings(path, {}, call)
    path.write_text(as_toml(settings), encoding="utf-8")
    again = read_settings(path, {})
    assert again == settings
    assert [job.policy.hash for job in again.jobs] == [job.policy.hash for job in settings.jobs]
    as_written = tomllib.loads(path.read_text(encoding="utf-8"))
    assert [*Draft202012Validator(json_schema()).iter_errors(as_written)] == []


def test_json_has_each_job_in_the_file_s_shape_with_its_hash(read: Any) -> None:
    settings: Settings = read(f'{JOB}every = "1h"\nkinds.timeout.retried = false')
    [job] = as_json(settings)["jobs"]
    assert job["policy_hash"] == settings.jobs[0].policy.hash
    assert job["kinds"] == {"timeout": {"retried": False, "counts": True, "tokens": 2.0}}
    assert (job["every"], job["overdue"], job["stagger"]) == ("1h", 3, "0s")
    assert as_json(settings)["serve"] == {"drain": "1m", "overdue": 3}


# --- the example


def uncommented() -> str:
    """Return the example with its commented-out tables in force."""
    text = EXAMPLE.read_text(encoding="utf-8")
    head, start, rest = text.partition("# What `turnkeeper serve` runs")
    assert start
    lines = [
        line.removeprefix("# ")
        for line in rest.splitlines()
        if line.startswith("# ") and (" = " in line or "[" in line[:4])
    ]
    return "\n".join([head, *lines, ""])


def test_the_example_is_right_once_its_job_is_uncommented(read: Any) -> None:
    text = uncommented()
    settings = read(text)
    [job] = settings.jobs
    assert (job.name, job.policy.name, job.stagger_s, job.overdue) == ("reports", "cron", 300.0, 2)
    assert settings.serve == Serve()
    assert Draft202012Validator(json_schema()).is_valid(tomllib.loads(text))
    keys = set(tomllib.loads(text)["jobs"][0])
    assert keys >= {
        "name",
        "cron",
        "tz",
        "stagger",
        "session",
        "policy",
        "command",
        "env",
        "cwd",
        "lock",
        "catch_up",
        "overdue",
    }


@pytest.mark.parametrize("text", ["nme = 1", 'every = "5"', "command = []", "overdue = 0", 'catch_up = "some"'])
def test_the_schema_refuses_what_reading_refuses(text: str) -> None:
    job = tomllib.loads(JOB)["jobs"][0] | tomllib.loads(text)
    assert not Draft202012Validator(json_schema()).is_valid({"jobs": [job]})
