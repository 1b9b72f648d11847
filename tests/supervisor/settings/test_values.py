import subprocess
import sys

import pytest

from policies.policy import Policy
from supervisor.settings.values import State, embedded_settings


def test_the_built_in_defaults_are_one_policy_and_no_limits() -> None:
    settings = embedded_settings()
    assert dict(settings.policies) == {"default": Policy()}
    assert (settings.state, settings.source) == (State(None, 30.0, 30 * 86400.0, 100_000, 3600.0), "built-in defaults")
    assert settings.alerts == ()
    limits = settings.limits
    assert (limits.running, limits.starts, limits.min_available_memory_bytes, limits.retries) == (None,) * 4


def test_an_unknown_policy_is_told_with_the_nearest_name() -> None:
    with pytest.raises(ValueError, match=r"no policy 'defualt' in built-in defaults; did you mean default\?"):
        embedded_settings().policy("defualt")


def test_a_known_policy_is_given() -> None:
    assert embedded_settings().policy("default") == Policy()


@pytest.mark.processes
def test_the_built_in_defaults_need_no_library() -> None:
    script = (
        "import sys, supervisor\n"
        "from supervisor.settings.values import embedded_settings\n"
        "embedded_settings()\n"
        "print({'pydantic', 'pydantic_settings', 'platformdirs', 'click', 'rich'} & set(sys.modules))"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    assert ended.stdout.strip() == "set()"
