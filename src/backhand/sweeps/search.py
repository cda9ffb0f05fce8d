"""The sweep whose jobs Optuna chooses, a batch of trials at a time, from what the ones before them have found."""

import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.trial import BaseTrial

from backhand.calculus.choices import check_choice
from backhand.config.catalogue import Facts, facts_of
from backhand.config.errors import UserError, one_line
from backhand.config.schema import TrainConfig
from backhand.config.validation import check_validated, metric_names
from backhand.sweeps.jobs import Job
from backhand.sweeps.study import Study
from backhand.sweeps.summary import summarise
from backhand.sweeps.sweep import COSTS, Sweep

JOURNAL = "study.journal"
# The data sets that a table may turn out to be, for the metrics that there may be.
TABLES = (Facts(features=1, classes=2), Facts(features=1, classes=None))
# Without the one that keeps its state in the study as a pickle: a study may be somebody else's.
SAMPLERS = sorted(
    name
    for name in optuna.samplers.__all__
    if name.endswith("Sampler") and not name.startswith("Base") and name != "CmaEsSampler"
)


@dataclass
class SearchSettings:
    """What `conf/hydra/sweeper/optuna.yaml` says, where each of them is explained."""

    params: Mapping[str, Any] | None
    n_trials: Any
    n_jobs: Any
    sampler: str
    sampler_options: Mapping[str, Any] | None
    seed: int
    objectives: Sequence[str] | None

    def check(self) -> None:
        """Refuse numbers and names that mean nothing.

        Raises:
            UserError: the first of them.
        """
        for name in ("n_trials", "n_jobs"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise UserError(f"hydra.sweeper.{name}={value}: must be a whole number, 1 or more")
        try:
            check_choice("hydra.sweeper.sampler", self.sampler, SAMPLERS)
        except ValueError as error:
            raise UserError(str(error)) from None
        if type(self.seed) is not int:
            raise UserError(f"hydra.sweeper.seed={self.seed}: must be a whole number")
        if not isinstance(self.sampler_options or {}, Mapping):
            raise UserError(
                f"hydra.sweeper.sampler_options={self.sampler_options}: must be the sampler's arguments by name, "
                "such as {n_startup_trials: 5}"
            )
        if self.objectives is not None and (isinstance(self.objectives, str) or not list(self.objectives)):
            raise UserError(f"hydra.sweeper.objectives={self.objectives}: must be a list, as in [val/loss,parameters]")

    def build_sampler(self, number: int) -> BaseSampler:
        """The sampler for the trial of a number."""
        kind, options = getattr(optuna.samplers, self.sampler), dict(self.sampler_options or {})
        parameters = inspect.signature(kind).parameters
        if "constant_liar" in parameters and self.n_jobs > 1:
            options.setdefault("constant_liar", True)  # else the trials of a batch crowd around the same place
        if "seed" in parameters:
            options["seed"] = (self.seed * 1_000_003 + number) % 2**32
        return kind(**options)


def run_search(sweep: Sweep, settings: SearchSettings, arguments: Sequence[str]) -> dict[str, Any]:
    """Run the trials that are left of `n_trials`, and sum up what all of them found.

    Args:
        sweep: the sweep.
        settings: the search's.
        arguments: of the command line.

    Returns:
        The best trial's overrides and value, or those of the Pareto front where there are several objectives.

    Raises:
        UserError: a setting that is wrong, before anything is written; a folder that is another sweep's; a study that
            cannot be read.
        SystemExit: more jobs failed than `sweep.max_failures` allows.
    """
    settings.check()
    overrides = sweep.parse({}, arguments)
    if not any(each.is_sweep_override() for each in overrides):
        overrides = sweep.parse(settings.params or {}, arguments)
    space = {each.get_key_element(): distribution(each) for each in overrides if each.is_sweep_override()}
    fixed = {
        each.get_key_element(): each.get_value_element_as_str() for each in overrides if not each.is_sweep_override()
    }
    if not space:
        raise UserError(
            "search=optuna: nothing to search; give a key an interval, a range or a choice, "
            "such as 'optimizer.lr=tag(log, interval(0.001, 1))'"
        )
    first = _check_space(sweep, fixed, space)
    names = _objectives(settings, first.config)
    _check_sampler(settings, space, names)
    identity = {
        "search": "optuna",
        "space": {key: repr(each) for key, each in space.items()},
        "sampler": [settings.sampler, dict(settings.sampler_options or {}), settings.seed],
        "objectives": names,
        "config": first.hash,
    }
    sweep.claim(identity)
    study = Study(sweep.folder / JOURNAL, names, space, settings.build_sampler)
    with sweep.running(settings.n_trials, first.config.objective):
        try:
            _run_trials(sweep, study, settings, fixed, names)
        except OSError as error:
            raise UserError(f"hydra.sweep.dir={sweep.folder}: cannot be written ({error.strerror or error})") from None
    summarise(sweep, names)
    best = study.study.best_trials
    return {"best": [{"number": each.number, "params": each.params, "values": each.values} for each in best]}


def distribution(override: Override) -> BaseDistribution:
    """What Optuna draws a swept key from.

    `interval(a, b)` is a real number, with `int(…)` around it a whole one, on a logarithmic scale with `tag(log, …)`;
    `range(a, b, step)` goes up to, and not including, b; `choice(…)` and a list are categories.

    Raises:
        UserError: there is nothing to draw from.
    """
    swept, text = override.value(), override.input_line
    log = isinstance(swept, IntervalSweep | RangeSweep) and "log" in swept.tags
    try:
        if isinstance(swept, IntervalSweep):
            low, high = swept.start, swept.end
            assert low is not None
            assert high is not None
            if isinstance(low, int) and isinstance(high, int):
                return IntDistribution(low, high, log=log)
            return FloatDistribution(float(low), float(high), log=log)
        if isinstance(swept, RangeSweep):
            values = sorted(swept.range())
            if all(isinstance(value, int) for value in values):
                return IntDistribution(values[0], values[-1], log=log, step=1 if log else abs(int(swept.step)))
            return FloatDistribution(float(values[0]), float(values[-1]), step=abs(float(swept.step)))
        return CategoricalDistribution(list(override.sweep_string_iterator()))
    except IndexError:
        raise UserError(f"{text}: has no values") from None
    except (ValueError, TypeError) as error:
        raise UserError(f"{text}: {one_line(error)}") from None


def _check_space(sweep: Sweep, fixed: Mapping[str, Any], space: Mapping[str, Any]) -> Job:
    """Compose and check a job at the ends of every interval and with every choice; returns the first of them.

    A value that fits only some of another setting's is not wrong: a trial that draws two that do not fit is recorded
    as failed.

    Raises:
        UserError: a value that no trial could be run with, and why.
    """
    ends = {
        key: list(each.choices) if isinstance(each, CategoricalDistribution) else [each.low, each.high]
        for key, each in space.items()
    }
    first = {key: values[0] for key, values in ends.items()}
    jobs = []
    for key, value in [(key, value) for key, values in ends.items() for value in values]:
        others = [{other: each} for other in ends if other != key for each in ends[other][1:]]
        jobs.append(_first_that_fits(sweep, [{**fixed, **first, key: value, **other} for other in ({}, *others)]))
    return jobs[0]


def _first_that_fits(sweep: Sweep, candidates: Sequence[Mapping[str, Any]]) -> Job:
    errors = []
    for settings in candidates:
        try:
            return sweep.composer.job(0, _overrides(settings))
        except UserError as error:
            errors.append(error)
    raise errors[0]


def _objectives(settings: SearchSettings, config: TrainConfig) -> list[str]:
    """What is optimised.

    Raises:
        UserError: a name that is none, or one twice.
    """
    names = [str(name) for name in settings.objectives or [config.objective]]
    facts = facts_of(config.data)
    metrics = dict.fromkeys(name for each in (TABLES if facts is None else [facts]) for name in metric_names(each))
    try:
        for name in names:
            check_choice("hydra.sweeper.objectives", name, (*metrics, *COSTS))
            check_validated("hydra.sweeper.objectives", name, config.trainer)
    except ValueError as error:
        raise UserError(str(error)) from None
    if len(set(names)) < len(names):
        raise UserError(f"hydra.sweeper.objectives=[{','.join(names)}]: names one twice")
    return names


def _check_sampler(settings: SearchSettings, space: Mapping[str, BaseDistribution], names: Sequence[str]) -> None:
    """Draw two trials that nobody runs: of some options a sampler finds only then that they are wrong.

    Raises:
        UserError: it cannot draw from this space, for these objectives, or with these options.
    """
    try:
        study = Study(None, names, space, settings.build_sampler)
        for number in (0, 1):
            study.ask(number)
            study.tell(number, [0.0] * len(names))
    except Exception as error:  # whatever a sampler raises: it has had nothing but these settings
        raise UserError(f"hydra.sweeper.sampler={settings.sampler}: {one_line(error)}") from None


def _overrides(settings: Mapping[str, Any]) -> list[str]:
    return [f"{key}={value}" for key, value in settings.items()]


def _run_trials(
    sweep: Sweep, study: Study, settings: SearchSettings, fixed: Mapping[str, Any], names: Sequence[str]
) -> None:
    """Record the trials of earlier calls; run the others, and tell the study what they found."""

    def compose(trials: Iterable[BaseTrial]) -> list[Job]:
        """The trials' jobs; values that fit one by one, and not together, are recorded as failures."""
        jobs = []
        for trial in trials:
            overrides = _overrides({**fixed, **trial.params})
            try:
                jobs.append(sweep.composer.job(trial.number, overrides))
            except UserError as error:
                sweep.record_misfit(trial.number, overrides, error)
        return jobs

    for job in compose(trial for trial in study.trials if trial.state.is_finished()):
        sweep.record(job)
    for batch in study.batches(settings.n_trials, settings.n_jobs):
        sweep.run(compose(batch))
        for trial in batch:
            study.tell(trial.number, sweep.outcomes[trial.number].values(names))
