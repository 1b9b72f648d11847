from pathlib import Path
from typing import Any

import pytest

from policies.alerting import AlertKind
from policies.backoff import Strategy
from policies.budget import Bucket
from policies.failure import Kind
from policies.gate import Overlap
from policies.policy import LockedBy, OnLost, Pids
from supervisor.errors import SettingsError
from supervisor.settings.read import read_settings
from supervisor.settings.values import Alert, State


def test_every_key_arrives_where_it_belongs(read: Any) -> None:
    settings = read(
        """
        [state]
        url = "sqlite:///var/lib/turns.db"
        lease = "40s"
        keep = { age = "2d", runs = 3 }
        quarantine_alarm = "5m"
        [limits]
        running = 8
        starts = { count = 30, period = "1m" }
        min_available_memory = "512MiB"
        retries = { capacity = 100, refill = 10, deposit = 0.2 }
        [policies.default]
        attempt = { timeout = "1s", idle_timeout = "2s", grace = "3s", max_rss = "4B", leave_children = true }
        budget = { attempts = 5, deadline = "6s", session = { capacity = 7, refill = 8.5, deposit = 0.9 } }
        backoff = { strategy = "constant", base = "10s", cap = "11s" }
        breaker = { failures = 12, window = "13s", failure_rate = 0.14, minimum = 15, cooldown = "16s",
            cooldown_cap = "17s", trials = 18 }
        gate = { permits = 19, queue = 20, wait = "21s", overlap = "coalesce" }
        lock = { wait = "22s", by = "command", pids = "ours" }
        on_lost = "retry"
        [[failures]]
        match = { exception = "httpx.ReadTimeout", exit_code = 0, output = "(?i)a+" }
        kind = "network"
        [[alerts]]
        on = ["lost", "give_up"]
        command = ["notify", "--urgent", ""]
        timeout = "6s"
        [[alerts]]
        on = ["quarantine"]
        command = ["mail"]
    """.replace(",\n            ", ", ")
    )
    assert settings.state == State("sqlite:///var/lib/turns.db", 40.0, 2 * 86400.0, 3, 300.0)
    assert settings.alerts == (
        Alert((AlertKind.LOST, AlertKind.GIVE_UP), ("notify", "--urgent", ""), 6.0),
        Alert((AlertKind.QUARANTINE,), ("mail",), 10.0),
    )
    limits = settings.limits
    assert (limits.running, limits.starts, limits.min_available_memory_bytes) == (8, (30, 60.0), 512 * 1024**2)
    assert limits.retries == Bucket(100.0, 10.0, 0.2)
    policy = settings.policies["default"]
    attempt, budget, breaker = policy.attempt, policy.budget, policy.breaker
    assert (attempt.timeout_s, attempt.idle_timeout_s, attempt.grace_s) == (1.0, 2.0, 3.0)
    assert (attempt.max_rss_bytes, attempt.leave_children) == (4, True)
    assert (budget.attempts, budget.deadline_s, budget.session) == (5, 6.0, Bucket(7.0, 8.5, 0.9))
    assert (policy.backoff.strategy, policy.backoff.base_s, policy.backoff.cap_s) == (Strategy.CONSTANT, 10.0, 11.0)
    assert (breaker.failures, breaker.window_s, breaker.failure_rate, breaker.minimum) == (12, 13.0, 0.14, 15)
    assert (breaker.cooldown_s, breaker.cooldown_cap_s, breaker.trials) == (16.0, 17.0, 18)
    gate = policy.gate
    assert (gate.permits, gate.queue, gate.wait_s, gate.overlap) == (19, 20, 21.0, Overlap.COALESCE)
    assert (policy.lock.wait_s, policy.lock.by, policy.lock.pids) == (22.0, LockedBy.COMMAND, Pids.OURS)
    assert policy.on_lost is OnLost.RETRY
    (rule,) = policy.failures
    assert (rule.kind, rule.exception, rule.exit_code) == (Kind.NETWORK, "httpx.ReadTimeout", 0)
    assert rule.output is not None
    assert rule.output.pattern == "(?i)a+"


def test_off_is_no_limit(read: Any) -> None:
    policy = read('[policies.default]\nattempt = { timeout = "off", idle_timeout = "off", max_rss = "off" }').policies
    attempt = policy["default"].attempt
    assert (attempt.timeout_s, attempt.idle_timeout_s, attempt.max_rss_bytes) == (None, None, None)
    assert read('[policies.default]\nbudget.deadline = "off"').policies["default"].budget.deadline_s is None
    state = read('[state]\nkeep.age = "off"\nquarantine_alarm = "off"').state
    assert (state.keep_age_s, state.keep_runs, state.quarantine_alarm_s) == (None, 100_000, None)


def test_zero_is_fine_where_it_makes_sense(read: Any) -> None:
    policy = read("""
        [policies.default]
        backoff.base = "0s"
        gate = { queue = 0, wait = "0s" }
        lock.wait = "0s"
        budget.session = { refill = 0, deposit = 0 }
        kinds.error.tokens = 0
    """).policies["default"]
    assert (policy.backoff.base_s, policy.gate.queue, policy.gate.wait_s, policy.lock.wait_s) == (0.0, 0, 0.0, 0.0)
    assert (policy.budget.session.refill, policy.budget.session.deposit) == (0.0, 0.0)


URL = "state.url needs memory, sqlite or sqlite:///absolute/path"
ON = "on needs a list with one or more of give_up, breaker_opened, quarantine, lost, overdue"
COMMAND = 'command needs a program and its arguments as a list of texts, such as ["notify", "--urgent"]'

WRONG = [
    # counts
    (
        "budget.attempts = 160",
        "budget.attempts needs a whole number from 1 to 32, got 160: a session that failed 32 times",
    ),
    ("budget.attempts = 33", "budget.attempts needs a whole number from 1 to 32, got 33"),
    ("budget.attempts = 0", "budget.attempts needs a whole number from 1 to 32, got 0"),
    ("budget.attempts = -1", "budget.attempts needs a whole number from 1 to 32, got -1"),
    ("budget.attempts = true", "budget.attempts needs a whole number from 1 to 32, got true"),
    ("budget.attempts = 2.0", "budget.attempts needs a whole number from 1 to 32, got 2.0"),
    ('budget.attempts = "2"', 'budget.attempts needs a whole number from 1 to 32, got "2"'),
    ("gate.permits = 0", "gate.permits needs a whole number of 1 or more, got 0"),
    ("gate.queue = -1", "gate.queue needs a whole number of 0 or more, got -1"),
    ("breaker.failures = 0", "breaker.failures needs a whole number of 1 or more, got 0"),
    ("breaker.minimum = 0", "breaker.minimum needs a whole number of 1 or more, got 0"),
    ("breaker.trials = 0", "breaker.trials needs a whole number of 1 or more, got 0"),
    # numbers
    ("budget.session.capacity = 0", "budget.session.capacity needs a number, more than 0, got 0"),
    ("budget.session.capacity = -1", "budget.session.capacity needs a number, more than 0, got -1"),
    ("budget.session.capacity = inf", "budget.session.capacity needs a finite number, more than 0, got Infinity"),
    ("budget.session.capacity = true", "budget.session.capacity needs a number, more than 0, got true"),
    ("budget.session.refill = -0.1", "budget.session.refill needs a number, 0 or more, got -0.1"),
    ("budget.session.refill = nan", "budget.session.refill needs a finite number, 0 or more, got NaN"),
    ("budget.session.deposit = 1.1", "budget.session.deposit needs a number, 0 or more and at most 1, got 1.1"),
    ("breaker.failure_rate = 0", "breaker.failure_rate needs a number, more than 0 and at most 1, got 0"),
    ("breaker.failure_rate = 1.5", "breaker.failure_rate needs a number, more than 0 and at most 1, got 1.5"),
    ("kinds.error.tokens = -1", "kinds.error.tokens needs a number, 0 or more, got -1"),
    # durations and sizes
    ("attempt.timeout = 90", 'attempt.timeout needs a duration with its unit (ms, s, m, h, d): write "90s"'),
    ("attempt.timeout = 1.5", 'attempt.timeout needs a duration with its unit (ms, s, m, h, d): write "1.5s"'),
    ('attempt.timeout = "5 minutes"', "attempt.timeout needs a duration as text with units (ms, s, m, h, d)"),
    ('attempt.timeout = "512MiB"', "attempt.timeout needs a duration as text with units (ms, s, m, h, d)"),
    ("attempt.timeout = true", "attempt.timeout needs a duration as text with units (ms, s, m, h, d)"),
    ("attempt.timeout = -5", "attempt.timeout needs a duration as text with units (ms, s, m, h, d)"),
    ('attempt.timeout = "-5s"', 'attempt.timeout needs a duration that is not negative, or "off", got "-5s"'),
    ('attempt.timeout = "0s"', 'attempt.timeout needs a duration of more than 0, or "off", got "0s"'),
    ('attempt.grace = "0s"', 'attempt.grace needs a duration of more than 0, got "0s"'),
    ('attempt.grace = "off"', "attempt.grace needs a duration as text with units"),
    ('attempt.idle_timeout = "0s"', "attempt.idle_timeout needs a duration of more than 0"),
    ('budget.deadline = "0s"', "budget.deadline needs a duration of more than 0"),
    ('backoff.cap = "0s"', "backoff.cap needs a duration of more than 0"),
    ('breaker.window = "0s"', "breaker.window needs a duration of more than 0"),
    ('breaker.cooldown = "0s"', "breaker.cooldown needs a duration of more than 0"),
    ('breaker.cooldown_cap = "0s"', "breaker.cooldown_cap needs a duration of more than 0"),
    ("attempt.max_rss = 1000", 'attempt.max_rss needs a size with its unit (B, KiB, MiB, GiB): write "1000B"'),
    ('attempt.max_rss = "0B"', 'attempt.max_rss needs a size of at least 1B, or "off", got "0B"'),
    ('attempt.max_rss = "5m"', "attempt.max_rss needs a size as text with its unit"),
    # words, flags, tables
    (
        'backoff.strategy = "full_jiter"',
        "backoff.strategy needs one of constant, exponential, full_jitter, equal_jitter",
    ),
    (
        'gate.overlap = "skipp"',
        'gate.overlap needs one of queue, skip, coalesce, replace, got "skipp"; did you mean skip?',
    ),
    ('lock.by = "me"', "lock.by needs one of supervisor, command"),
    ("lock.pids = 3", "lock.pids needs one of auto, ours, unknown, got 3"),
    ('on_lost = "retri"', 'on_lost needs one of give_up, retry, got "retri"; did you mean retry?'),
    ('attempt.leave_children = "no"', 'attempt.leave_children needs true or false, got "no"'),
    ("attempt.leave_children = 0", "attempt.leave_children needs true or false, got 0"),
    ('attempt = "5m"', 'attempt needs a table, got "5m"'),
    ("kinds = []", "kinds needs a table, got []"),
    ("kinds.timeout = false", "kinds.timeout needs a table, got false"),
    # names
    ("bugdet.attempts = 3", "bugdet is not known; did you mean budget?"),
    ("budget.attemps = 3", "budget.attemps is not known; did you mean attempts?"),
    ('timeout = "5m"', "timeout is not known; did you mean attempt.timeout?"),
    ('wait = "5m"', "wait is not known; did you mean gate.wait or lock.wait?"),
    ("zzz = 1", "zzz is not known; known: extends, attempt, budget"),
    ("kinds.timout = {}", "kinds.timout is not known; did you mean timeout?"),
    ("kinds.busy.retried = true", "kinds.busy cannot be changed"),
    ("kinds.cancelled = {}", "kinds.cancelled cannot be changed"),
    ("kinds.unconfirmed = {}", "kinds.unconfirmed cannot be changed"),
    # between keys
    ('backoff = { base = "5s", cap = "1s" }', 'backoff needs base <= cap, got base="5s", cap="1s"'),
    ('backoff.base = "3m"', 'backoff needs base <= cap, got base="3m", cap="2m"'),
    ('breaker.cooldown = "1h"', 'breaker needs cooldown <= cooldown_cap, got cooldown="1h", cooldown_cap="30m"'),
    ('attempt.grace = "16s"', 'attempt.grace needs at most half of state.lease, got grace="16s", lease="30s"'),
]


@pytest.mark.parametrize(("key", "problem"), WRONG)
def test_a_wrong_key_of_a_policy_names_key_rule_and_value(problems: Any, key: str, problem: str) -> None:
    (line,) = problems(f"[policies.cron]\n{key}\n")
    assert line.startswith(f"policies.cron.{problem}")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('state.url = "sqlight"', f'{URL}, got "sqlight"; did you mean sqlite?'),
        ('state.url = "postgresql://db/turns"', f'{URL}, got "postgresql://db/turns": PostgreSQL is not there yet'),
        ('state.url = "postgres"', f'{URL}, got "postgres": PostgreSQL is not there yet'),
        (
            'state.url = "sqlite://turns.db"',
            f'{URL}, got "sqlite://turns.db": a file is named by its whole path, behind two slashes',
        ),
        ('state.url = "sqlite:///tmp/"', f'{URL}, got "sqlite:///tmp/": a file'),
        ("state.url = 3", f"{URL}, got 3"),
        ("state.keep.runs = 0", "state.keep.runs needs a whole number of 1 or more, got 0"),
        ('state.keep.age = "0d"', 'state.keep.age needs a duration of more than 0, or "off", got "0d"'),
        ('state.keep_age = "1d"', "state.keep_age is not known; did you mean keep?"),
        ('state.quarantine_alarm = "1"', "state.quarantine_alarm needs a duration with its unit"),
        ("alerts = {}", "alerts needs a list of tables, got {}"),
        ('alert = [{ on = ["lost"] }]', "alert is not known; did you mean alerts?"),
        ('[[alerts]]\ncommand = ["x"]', "alerts #1 needs on"),
        ('[[alerts]]\non = ["lost"]', "alerts #1 needs command"),
        ('[[alerts]]\non = "lost"\ncommand = ["x"]', f'alerts #1 {ON}, got "lost"'),
        ('[[alerts]]\non = []\ncommand = ["x"]', f"alerts #1 {ON}, got []"),
        ('[[alerts]]\non = ["losst"]\ncommand = ["x"]', f'alerts #1 {ON}, got ["losst"]; did you mean lost?'),
        ('[[alerts]]\non = [["lost"]]\ncommand = ["x"]', f'alerts #1 {ON}, got [["lost"]]'),
        ('[[alerts]]\non = ["lost", "lost"]\ncommand = ["x"]', f'alerts #1 {ON}, each once, got ["lost", "lost"]'),
        (
            '[[alerts]]\non = ["lost"]\ncommand = "notify --urgent"',
            f'alerts #1 {COMMAND}, got "notify --urgent"; no shell reads it: write its words apart',
        ),
        ('[[alerts]]\non = ["lost"]\ncommand = []', f"alerts #1 {COMMAND}, got []"),
        ('[[alerts]]\non = ["lost"]\ncommand = ["x", 3]', f'alerts #1 {COMMAND}, got ["x", 3]'),
        ('[[alerts]]\non = ["lost"]\ncommand = ["x", "\\u0000"]', f"alerts #1 {COMMAND}, got "),
        (
            '[[alerts]]\non = ["lost"]\ncommand = ["x"]\ntimeout = "off"',
            "alerts #1 timeout needs a duration as text with units",
        ),
        ('state.lease = "0s"', 'state.lease needs a duration of more than 0, got "0s"'),
        (
            'state.lease = "19s"',
            'policies.default.attempt.grace needs at most half of state.lease, got grace="10s", lease=',
        ),
        ("state = 3", "state needs a table, got 3"),
        ("limits.running = 0", "limits.running needs a whole number of 1 or more, got 0"),
        ('limits.running = "off"', 'limits.running needs a whole number of 1 or more, got "off"'),
        (
            'limits.starts = { count = 0, period = "1m" }',
            "limits.starts.count needs a whole number of 1 or more, got 0",
        ),
        ('limits.starts = { count = 1, period = "0s" }', "limits.starts.period needs a duration of more than 0"),
        ("limits.starts = { count = 1 }", "limits.starts needs period"),
        ('limits.min_available_memory = "0B"', "limits.min_available_memory needs a size of at least 1B"),
        ("limits.retries = { capacity = 0 }", "limits.retries.capacity needs a number, more than 0, got 0"),
        ("limit.running = 1", "limit is not known; did you mean limits?"),
        ("policies = []", "policies needs a table, got []"),
        ("policies.cron = 3", "policies.cron needs a table, got 3"),
        ('policies."" = {}', 'policies."" needs a name of 1 to 128 printable characters'),
        ('policies."a\\nb" = {}', 'policies."a\\nb" needs a name of 1 to 128 printable characters'),
        (
            'policies.cron = { attempt.timeout = "off", budget.deadline = "off" }',
            'policies.cron needs attempt.timeout or budget.deadline, got timeout="off", deadline="off"',
        ),
        ("failures = 3", "failures needs a list of tables, got 3"),
        ("failures = [3]", "failures #1 needs a table, got 3"),
        ('[[failures]]\nkind = "auth"', "failures #1 needs match"),
        ("[[failures]]\nmatch = { exit_code = 1 }", "failures #1 needs kind"),
        (
            '[[failures]]\nmatch = {}\nkind = "auth"',
            "failures #1 match needs a condition: exception, exit_code or output",
        ),
        (
            '[[failures]]\nmatch = { exit_code = 256 }\nkind = "auth"',
            "failures #1 match.exit_code needs a whole number",
        ),
        (
            '[[failures]]\nmatch = { exit = 1 }\nkind = "auth"',
            "failures #1 match.exit is not known; did you mean exit_code?",
        ),
        (
            '[[failures]]\nmatch = { output = "(" }\nkind = "auth"',
            'failures #1 match.output needs a regular expression, got "(": missing ), unterminated subpattern',
        ),
        (
            '[[failures]]\nmatch = { output = "" }\nkind = "auth"',
            "failures #1 match.output needs a regular expression as",
        ),
        (
            '[[failures]]\nmatch = { exception = "TimeoutError" }\nkind = "auth"',
            "failures #1 match.exception needs the dotted name of a class, such as",
        ),
        (
            '[[failures]]\nmatch = { exit_code = 1 }\nkind = "unconfirmed"',
            "failures #1 kind needs one of timeout, idle, rate_limited",
        ),
        (
            'failures = [{ match = { exit_code = 1 }, kind = "auth" }, { match = { exit_code = 1 }, kind = "aut" }]',
            "failures #2 kind needs one of",
        ),
    ],
)
def test_what_is_wrong_outside_a_policys_keys_is_named_too(problems: Any, text: str, problem: str) -> None:
    assert problems(text)[0].startswith(problem)


def test_a_class_without_its_module_is_told_the_built_in_one(problems: Any) -> None:
    (line,) = problems('[[failures]]\nmatch = { exception = "TimeoutError" }\nkind = "auth"')
    assert line.endswith("; did you mean builtins.TimeoutError?")


def test_a_password_in_an_address_is_not_shown(problems: Any) -> None:
    for password in ("secret", "s@cr@t"):
        (line,) = problems(f'state.url = "postgresql://turnkeeper:{password}@db/turns"')
        assert line == f'{URL}, got "postgresql://...@db/turns": PostgreSQL is not there yet'


def test_a_long_value_is_shortened(problems: Any) -> None:
    (line,) = problems(f'policies.default.gate.overlap = "{"x" * 100_000}"')
    assert len(line) < 300


def test_all_problems_are_told_at_once(problems: Any) -> None:
    found = problems(
        """
        [state]
        url = "mysql"
        [limits]
        running = -1
        [policies.cron]
        extends = "crno"
        backoff = { strategy = "fast", base = "5s", cap = "1s" }
        budget.attempts = 160
        [polices.x]
        [[failures]]
        match = { output = "[" }
        kind = "bad"
        """,
        {"TURNKEEPER_LIMITS": "{", "TURNKEEPER_POLICIES__CRON__GATE__PERMITS": "0"},
    )
    assert [line.split(" ")[0] for line in found] == [
        "TURNKEEPER_LIMITS",
        "state.url",
        "limits.running",
        "failures",
        "failures",
        "polices",
        "policies.cron.extends",
        "policies.cron.budget.attempts",
        "policies.cron.backoff.strategy",
        "policies.cron.gate.permits",
        "policies.cron.backoff",
    ]


def test_the_error_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text("[limits]\nrunning = 0\n")
    with pytest.raises(SettingsError) as raised:
        read_settings(str(path), {})
    assert str(raised.value) == f"{path}:\n  limits.running needs a whole number of 1 or more, got 0"
    assert raised.value.source == str(path)


def test_a_file_of_something_else_is_not_told_line_by_line(problems: Any) -> None:
    found = problems("\n".join(f"key_{number} = 1" for number in range(5000)))
    assert len(found) == 101
    assert found[-1] == "the settings has 4900 more problems"


def test_a_pattern_that_python_only_warns_of_is_taken(read: Any) -> None:
    rules = read('[[failures]]\nmatch = { output = "[[a]" }\nkind = "auth"').policies["default"].failures
    assert rules[0].output.search("[")


def test_numbers_of_either_spelling_are_the_same_policy(read: Any) -> None:
    whole = read("policies.default.budget.session.capacity = 20").policies["default"]
    broken = read("policies.default.budget.session.capacity = 20.0").policies["default"]
    assert whole.hash == broken.hash
