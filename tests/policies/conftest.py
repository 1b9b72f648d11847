"""Hypothesis as the tests of the decisions use it: the same examples in each run, no limit on a slow machine's time."""

from hypothesis import settings

settings.register_profile("policies", deadline=None, derandomize=True, database=None, max_examples=200)
settings.load_profile("policies")
