"""Make a failing scenario small: take away what it does not need, again and again, while it fails the same rule."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

from supervisor.testing.faults import CancelAt, CancelPlace, Fault, FreezePlace, KillPlace, ProcessFault, Slowness
from supervisor.testing.tree_script import TreeScript
from tests.simulation.scenario import Agents, Job, Nested, Play, Rules, Scenario

Fails = Callable[[Scenario], bool]

MOST_TRIES = 3000
_OF_A_JOB = CancelAt | CancelPlace | KillPlace | FreezePlace


def shrink(scenario: Scenario, fails: Fails, tries: int = MOST_TRIES) -> Scenario:
    """Return a smaller scenario for which `fails` still holds; greedy, so not the smallest."""
    left = tries
    found = True
    while found:
        found = False
        for smaller in _smaller(scenario):
            if left <= 0:
                return scenario
            left -= 1
            if fails(smaller):
                scenario, found = smaller, True
                break
    return scenario


def _smaller(scenario: Scenario) -> Iterator[Scenario]:
    """Yield scenarios with one thing less, the largest steps first."""
    replace = dataclasses.replace
    for number in reversed(range(len(scenario.jobs))):
        yield _without_job(scenario, number)
    for number in range(len(scenario.faults)):
        yield replace(scenario, faults=scenario.faults[:number] + scenario.faults[number + 1 :])
    for name in ("running", "starts", "host_bucket", "slowness", "memory", "turns"):
        default = next(field.default for field in dataclasses.fields(scenario) if field.name == name)
        if getattr(scenario, name) != default:
            yield replace(scenario, **{name: default})
    if scenario.slowness.seconds:
        yield replace(scenario, slowness=Slowness(scenario.slowness.share, scenario.slowness.rounds))
    used = {job.policy for job in _all_jobs(scenario.jobs)}
    if len(kept := tuple(rules for rules in scenario.policies if rules.name in used)) < len(scenario.policies):
        yield replace(scenario, policies=kept or scenario.policies[:1])
    for number, job in enumerate(scenario.jobs):
        for simpler in _simpler_job(job):
            yield replace(scenario, jobs=(*scenario.jobs[:number], simpler, *scenario.jobs[number + 1 :]))
    for number, rules in enumerate(scenario.policies):
        for field in dataclasses.fields(Rules):
            if field.name != "name" and getattr(rules, field.name) != field.default:
                plainer = replace(rules, **{field.name: field.default})
                yield replace(scenario, policies=_with(scenario.policies, number, plainer))


def _with(items: tuple[Any, ...], number: int, item: Any) -> tuple[Any, ...]:
    return (*items[:number], item, *items[number + 1 :])


def _without_job(scenario: Scenario, number: int) -> Scenario:
    """Take one job out; faults name jobs by their place."""
    faults: list[Fault | ProcessFault] = []
    for fault in scenario.faults:
        if not isinstance(fault, _OF_A_JOB) or int(fault.job) < number:
            faults.append(fault)
        elif int(fault.job) > number:
            faults.append(dataclasses.replace(fault, job=str(int(fault.job) - 1)))
    jobs = scenario.jobs[:number] + scenario.jobs[number + 1 :]
    return dataclasses.replace(scenario, jobs=jobs, faults=tuple(faults))


def _all_jobs(jobs: tuple[Job, ...]) -> Iterator[Job]:
    for job in jobs:
        yield job
        for play in job.plays:
            for step in play.steps:
                match step:
                    case Nested():
                        yield from _all_jobs((step.job,))
                    case Agents():
                        yield from _all_jobs(step.jobs)
                    case _:
                        pass


def _simpler_job(job: Job) -> Iterator[Job]:
    replace = dataclasses.replace
    if job.lock:
        yield replace(job, lock="")
    if len(job.plays) > 1:
        for number in range(len(job.plays)):
            yield replace(job, plays=job.plays[:number] + job.plays[number + 1 :])
    if job.at:
        yield replace(job, at=0.0)
    if job.process > "a":
        yield replace(job, process="a")
    for number, tree in enumerate(job.trees):
        yield replace(job, trees=job.trees[:number] + job.trees[number + 1 :])
        for field in dataclasses.fields(TreeScript):
            if getattr(tree, field.name) != field.default:
                plainer = replace(tree, **{field.name: field.default})
                yield replace(job, trees=_with(job.trees, number, plainer))
    for number, play in enumerate(job.plays):
        for simpler in _simpler_play(play):
            yield replace(job, plays=_with(job.plays, number, simpler))


def _simpler_play(play: Play) -> Iterator[Play]:
    replace = dataclasses.replace
    for number, step in enumerate(play.steps):
        yield replace(play, steps=play.steps[:number] + play.steps[number + 1 :])
        match step:
            case Nested():
                for job in _simpler_job(step.job):
                    yield replace(play, steps=_with(play.steps, number, replace(step, job=job)))
            case Agents():
                for place, child in enumerate(step.jobs):
                    fewer = step.jobs[:place] + step.jobs[place + 1 :]
                    yield replace(play, steps=_with(play.steps, number, replace(step, jobs=fewer)))
                    for job in _simpler_job(child):
                        jobs = _with(step.jobs, place, job)
                        yield replace(play, steps=_with(play.steps, number, replace(step, jobs=jobs)))
            case _:
                pass
    for field in dataclasses.fields(Play):
        if field.name != "steps" and getattr(play, field.name) != field.default:
            yield replace(play, **{field.name: field.default})
