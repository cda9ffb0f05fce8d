"""Search with Optuna, which chooses a batch of trials at a time from the results of earlier trials."""

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
from backhand.config.dataset_info import DatasetInfo
from backhand.config.errors import one_line
from backhand.config.schema import TrainConfig
from backhand.config.validation import check_validated, known_info, metric_names
from backhand.errors import UserError
from backhand.reporting.result import backward_pass
from backhand.sweeps.jobs import Job
from backhand.sweeps.study import Study
from backhand.sweeps.summary import summarise
from backhand.sweeps.sweep import COSTS, Sweep

JOURNAL = "study.journal"
# A table may have classes or a number to predict, which decides the metrics.
TABLES = (DatasetInfo(features=1, classes=2), DatasetInfo(features=1, classes=None))
# `CmaEsSampler` stores its state in the study as a pickle, and a study may come from somebody else.
SAMPLERS = sorted(
    name
    for name in optuna.samplers.__all__
    if name.endswith("Sampler") and not name.startswith("Base") and name != "CmaEsSampler"
)


@dataclass
class SearchSettings:
    """The keys of `conf/hydra/sweeper/optuna.yaml`, where each is explained.

    Raises:
        UserError: a number is out of range, or a name is unknown.
    """

    params: Mapping[str, Any] | None
    n_trials: Any
    n_jobs: Any
    sampler: str
    sampler_options: Mapping[str, Any] | None
    seed: int
    objectives: Sequence[str] | None

    def __post_init__(self) -> None:
        for name in ("n_trials", "n_jobs"):
            value = getattr(self, name)
            self._require(name, type(value) is int and value > 0, "must be a whole number, 1 or more")
        self._require("seed", type(self.seed) is int, "must be a whole number")
        by_name = "must be the sampler's arguments by name, such as {n_startup_trials: 5}"
        self._require("sampler_options", isinstance(self.sampler_options or {}, Mapping), by_name)
        if self.objectives is not None:
            is_list = isinstance(self.objectives, Sequence) and not isinstance(self.objectives, str)
            self._require(
                "objectives", is_list and len(self.objectives) > 0, "must be a list, as in [val/loss,parameters]"
            )
        check_choice("hydra.sweeper.sampler", self.sampler, SAMPLERS)

    def _require(self, name: str, fits: bool, rule: str) -> None:
        if not fits:
            raise UserError(f"hydra.sweeper.{name}={getattr(self, name)}: {rule}")

    def build_sampler(self, number: int) -> BaseSampler:
        """The sampler for the trial with this number."""
        kind, options = getattr(optuna.samplers, self.sampler), dict(self.sampler_options or {})
        parameters = inspect.signature(kind).parameters
        if "constant_liar" in parameters and self.n_jobs > 1:
            options.setdefault("constant_liar", True)  # or else the trials of a batch are close to each other
        if "seed" in parameters:
            options["seed"] = (self.seed * 1_000_003 + number) % 2**32
        return kind(**options)


def run_search(sweep: Sweep, settings: SearchSettings, arguments: Sequence[str]) -> None:
    """Run the trials that are missing from `n_trials`, and write the summary of all of them.

    Args:
        sweep: the sweep.
        settings: the search's settings.
        arguments: the overrides on the command line.

    Raises:
        UserError: a setting is wrong (then nothing is written), the folder belongs to another sweep, or the study
            cannot be read.
        SystemExit: more jobs failed than `sweep.max_failures` allows.
    """
    overrides = sweep.parse({}, arguments)
    if not any(each.is_sweep_override() for each in overrides):
        overrides = sweep.parse(settings.params or {}, arguments)
    space = {each.get_key_element(): distribution(each) for each in overrides if each.is_sweep_override()}
    fixed = [
        f"{each.get_key_element()}={each.get_value_element_as_str()}"
        for each in overrides
        if not each.is_sweep_override()
    ]
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
    with sweep.running(settings.n_trials, first.config.objective, identity, [backward_pass(first.config)]):
        study = Study(sweep.folder / JOURNAL, names, space, settings.build_sampler)
        for job in _jobs(sweep, fixed, [trial for trial in study.trials if trial.state.is_finished()]):
            sweep.record(job)
        for batch in study.batches(settings.n_trials, settings.n_jobs):
            sweep.run(_jobs(sweep, fixed, batch))
            for trial in batch:
                study.tell(trial.number, sweep.outcomes[trial.number].values(names))
    summarise(sweep, names)


def distribution(override: Override) -> BaseDistribution:
    """Optuna's distribution for a swept key.

    `interval(a, b)` is a real number, with `int(…)` around it a whole one, on a logarithmic scale with `tag(log, …)`;
    `range(a, b, step)` excludes b; `choice(…)` and a list are categories.

    Raises:
        UserError: there are no values, or Optuna refuses them.
    """
    swept, text = override.value(), override.input_line
    kind: Any
    try:
        if isinstance(swept, IntervalSweep):
            whole = isinstance(swept.start, int) and isinstance(swept.end, int)
            kind = IntDistribution if whole else FloatDistribution
            return kind(swept.start, swept.end, log="log" in swept.tags)
        if isinstance(swept, RangeSweep):
            values = sorted(swept.range())
            kind = IntDistribution if isinstance(values[0], int) else FloatDistribution
            return kind(values[0], values[-1], log="log" in swept.tags, step=abs(swept.step))
        return CategoricalDistribution(list(override.sweep_string_iterator()))
    except IndexError:
        raise UserError(f"{text}: has no values") from None
    except (ValueError, TypeError) as error:
        raise UserError(f"{text}: {one_line(error)}") from None


def _check_space(sweep: Sweep, fixed: Sequence[str], space: Mapping[str, BaseDistribution]) -> Job:
    """Compose and check a job at both ends of every interval and with every choice; returns the first job.

    A value is not wrong if it fits some values of the other keys: a trial that draws values that do not fit together is
    recorded as failed.

    Raises:
        UserError: no trial could run with a value; the message says why.
    """
    ends: dict[str, list[Any]] = {
        key: list(each.choices) if isinstance(each, CategoricalDistribution) else [each.low, each.high]  # type: ignore[attr-defined]
        for key, each in space.items()
    }
    first = {key: values[0] for key, values in ends.items()}

    def job_with(key: str, value: Any) -> Job:
        """A job with the first value of the other keys or, if they do not fit, with another value of one of them."""
        errors = []
        others = [{other: each} for other in ends if other != key for each in ends[other][1:]]
        for change in ({}, *others):
            try:
                return sweep.composer.job(0, [*fixed, *_set({**first, key: value, **change})])
            except UserError as error:
                errors.append(error)
        raise errors[0]

    jobs = [job_with(key, value) for key, values in ends.items() for value in values]
    return jobs[0]


def _objectives(settings: SearchSettings, config: TrainConfig) -> list[str]:
    """The names of the objectives; refuses an unknown name, and a name that appears twice."""
    names = [str(name) for name in settings.objectives or [config.objective]]
    info = known_info(config.data)
    metrics = dict.fromkeys(name for each in (TABLES if info is None else [info]) for name in metric_names(each))
    for name in names:
        check_choice("hydra.sweeper.objectives", name, (*metrics, *COSTS))
        check_validated("hydra.sweeper.objectives", name, config.trainer)
    if len(set(names)) < len(names):
        raise UserError(f"hydra.sweeper.objectives=[{','.join(names)}]: names an objective twice")
    return names


def _check_sampler(settings: SearchSettings, space: Mapping[str, BaseDistribution], names: Sequence[str]) -> None:
    """Draw two trials that are not run: some samplers refuse their options only then."""
    try:
        study = Study(None, names, space, settings.build_sampler)
        for number in (0, 1):
            study.ask(number)
            study.tell(number, [0.0] * len(names))
    except Exception as error:  # samplers raise many kinds of exceptions
        raise UserError(f"hydra.sweeper.sampler={settings.sampler}: {one_line(error)}") from None


def _set(values: Mapping[str, Any]) -> list[str]:
    return [f"{key}={value}" for key, value in values.items()]


def _jobs(sweep: Sweep, fixed: Sequence[str], trials: Iterable[BaseTrial]) -> list[Job]:
    """The jobs of the trials whose values fit together."""
    jobs = [sweep.job_that_fits(trial.number, [*fixed, *_set(trial.params)]) for trial in trials]
    return [job for job in jobs if job is not None]
