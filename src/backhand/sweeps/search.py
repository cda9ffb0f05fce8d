"""The sweep whose jobs Optuna chooses, a batch of trials at a time, from what the ones before them have found."""

import fcntl
import inspect
import itertools
import json
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import optuna
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.storages.journal._storage import JournalOperation
from optuna.trial import FrozenTrial, Trial, TrialState

from backhand.calculus.choices import check_choice
from backhand.config.catalogue import Facts, facts_of
from backhand.config.errors import UserError
from backhand.config.schema import TrainConfig
from backhand.config.validation import check_validated, larger_is_better, metric_names
from backhand.sweeps.jobs import Job
from backhand.sweeps.progress import SweepProgress
from backhand.sweeps.summary import summarise
from backhand.sweeps.sweep import COSTS, Sweep

JOURNAL = "study.journal"
# What is noted with a study whose sampler has nothing left to try.
EXHAUSTED = "exhausted"
# The data sets that a table may turn out to be, for the metrics that there may be.
TABLES = (Facts(features=1, classes=2), Facts(features=1, classes=None))
SAMPLERS = sorted(
    name
    for name, kind in vars(optuna.samplers).items()
    if isinstance(kind, type) and issubclass(kind, BaseSampler) and not name.startswith("Base")
)
optuna.logging.set_verbosity(optuna.logging.WARNING)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


@dataclass
class SearchSettings:
    """What `conf/hydra/sweeper/optuna.yaml` can set.

    Attributes:
        params: the search space by key, for a command line that has none of its own.
        n_trials: in all, those of earlier calls with the same folder included.
        n_jobs: trials that are asked for at a time; with a population, what is trained in one step.
        sampler: a class of `optuna.samplers`.
        sampler_options: its arguments beside the seed.
        seed: of the sampler; trial n's suggestion is a function of it, of n, and of the trials before.
        objectives: what is optimised instead of `objective`: metrics at the best epoch, `seconds`, `parameters`.
    """

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
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise UserError(f"hydra.sweeper.{name}={value}: must be a whole number, 1 or more")
        try:
            check_choice("hydra.sweeper.sampler", self.sampler, SAMPLERS)
        except ValueError as error:
            raise UserError(str(error)) from None
        if not isinstance(self.seed, int) or isinstance(self.seed, bool):
            raise UserError(f"hydra.sweeper.seed={self.seed}: must be a whole number")
        if not isinstance(self.sampler_options or {}, Mapping):
            raise UserError(
                f"hydra.sweeper.sampler_options={self.sampler_options}: must be the sampler's arguments by name, "
                "such as {n_startup_trials: 5}"
            )
        if self.objectives is not None and (isinstance(self.objectives, str) or not list(self.objectives)):
            raise UserError(f"hydra.sweeper.objectives={self.objectives}: must be a list, as in [val/loss,parameters]")
        self.build_sampler(0)

    def build_sampler(self, number: int) -> BaseSampler:
        """The sampler for one trial: what it draws must not hang on how often the search was interrupted before.

        Raises:
            UserError: an option that it has not.
        """
        kind, options = getattr(optuna.samplers, self.sampler), dict(self.sampler_options or {})
        parameters = inspect.signature(kind).parameters
        if "constant_liar" in parameters and self.n_jobs > 1:
            options.setdefault("constant_liar", True)  # else the trials of a batch crowd around the same place
        if "seed" in parameters:
            options["seed"] = (self.seed * 1_000_003 + number) % 2**32
        try:
            return kind(**options)
        except (TypeError, ValueError, ImportError) as error:
            raise UserError(f"hydra.sweeper.sampler={self.sampler}: {' '.join(str(error).split())}") from None


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
    first = _probe(sweep, fixed, space)
    names = _objectives(settings, first.config)
    _rehearse(settings, space, names)
    identity = {
        "search": "optuna",
        "space": {key: repr(each) for key, each in space.items()},
        "sampler": [settings.sampler, dict(settings.sampler_options or {}), settings.seed],
        "objectives": names,
        "config": first.hash,
    }
    sweep.claim(identity)
    study = _study(sweep.folder / JOURNAL, names, len(space))
    with SweepProgress(settings.n_trials, first.config.objective) as progress, sweep.interruptible():
        try:
            _restore(sweep, study, fixed, progress)
            for batch in _batches(study, settings, space):
                _run_batch(sweep, study, batch, fixed, names, progress)
        except OSError as error:
            raise UserError(f"hydra.sweep.dir={sweep.folder}: cannot be written ({error.strerror or error})") from None
    summarise(sweep, names)
    return {
        "best": [
            {"number": trial.number, "params": trial.params, "values": trial.values} for trial in study.best_trials
        ]
    }


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
        raise UserError(f"{text}: {' '.join(str(error).split())}") from None


def _probe(sweep: Sweep, fixed: Sequence[str], space: Mapping[str, BaseDistribution]) -> Job:
    """Compose and check a job at the ends of every interval and with every choice; returns the first of them.

    A value that fits only some of another setting's is not wrong: a trial that draws two that do not fit is recorded
    as failed.

    Raises:
        UserError: a value that no trial could be run with, and why.
    """
    ends = {key: _ends(each) for key, each in space.items()}
    first = {key: values[0] for key, values in ends.items()}
    jobs = []
    for key, values in ends.items():
        for value in values:
            tried = first | {key: value}
            others = ({other: each} for other in ends if other != key for each in ends[other][1:])
            jobs.append(_first_that_fits(sweep, fixed, (tried | other for other in itertools.chain([{}], others))))
    return jobs[0]


def _first_that_fits(sweep: Sweep, fixed: Sequence[str], candidates: Iterable[Mapping[str, Any]]) -> Job:
    refused = None
    for params in candidates:
        try:
            return sweep.composer.job(0, _overrides(fixed, params))
        except UserError as error:
            refused = refused or error
    assert refused is not None
    raise refused


def _ends(each: BaseDistribution) -> list[Any]:
    if isinstance(each, CategoricalDistribution):
        return list(each.choices)
    assert isinstance(each, FloatDistribution | IntDistribution)
    return [each.low, each.high]


def _objectives(settings: SearchSettings, config: TrainConfig) -> list[str]:
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


def _rehearse(settings: SearchSettings, space: Mapping[str, BaseDistribution], names: Sequence[str]) -> None:
    """Draw two trials that nobody runs: of some options a sampler finds only then that they are wrong.

    Raises:
        UserError: it cannot draw from this space, for these objectives, or with these options.
    """
    study = optuna.create_study(directions=_directions(names))
    try:
        for number in (0, 1):
            _ask(study, settings, space, number)
            _tell(study, number, [0.0] * len(names))
    except Exception as error:  # whatever a sampler raises: it has had nothing but these settings
        raise UserError(f"hydra.sweeper.sampler={settings.sampler}: {' '.join(str(error).split())}") from None


class _Flock:
    """A lock on the journal that the system lets go of when its holder is killed; Optuna's own would stay behind."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("ab")

    def acquire(self) -> bool:
        fcntl.flock(self.file, fcntl.LOCK_EX)
        return True

    def release(self) -> None:
        fcntl.flock(self.file, fcntl.LOCK_UN)


def _directions(names: Sequence[str]) -> list[Literal["minimize", "maximize"]]:
    return ["maximize" if larger_is_better(name) else "minimize" for name in names]


def _study(path: Path, names: Sequence[str], settings: int) -> optuna.Study:
    """The study in the sweep's folder, begun or gone on with.

    Args:
        path: of the journal.
        names: the objectives.
        settings: how many every trial draws.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        if path.exists() and (whole := _whole(path.read_bytes(), settings)) < path.stat().st_size:
            os.truncate(path, whole)
        storage = JournalStorage(JournalFileBackend(str(path), lock_obj=_Flock(path)))  # type: ignore[arg-type]
        directions = _directions(names)
        return optuna.create_study(storage=storage, study_name="sweep", directions=directions, load_if_exists=True)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, AssertionError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: is no study that can be read ({type(error).__name__}: {reason})") from None


def _whole(journal: bytes, settings: int) -> int:
    """How many of a journal's bytes to go on from.

    What was cut off while it was written is left out: a line, or the draws of the last trial. Drawn again from the
    beginning they are what they would have been, and from the middle they are not, for the sampler's random numbers
    begin anew.
    """
    end = journal.rfind(b"\n") + 1
    position = begun = drawn = 0
    for line in journal[:end].splitlines(keepends=True):
        operation = JournalOperation(json.loads(line)["op_code"])
        if operation == JournalOperation.CREATE_TRIAL:
            begun, drawn = position, 0
        drawn += operation == JournalOperation.SET_TRIAL_PARAM
        position += len(line)
    return begun if begun and drawn < settings else end


def _ask(study: optuna.Study, settings: SearchSettings, space: Mapping[str, BaseDistribution], number: int) -> Trial:
    study.sampler = settings.build_sampler(number)
    return study.ask(dict(space))


def _tell(study: optuna.Study, number: int, values: Sequence[float] | None) -> None:
    """Tell what a trial found; None for nothing."""
    try:
        study.tell(number, values, state=TrialState.FAIL if values is None else TrialState.COMPLETE)
    except RuntimeError:  # a sampler that has tried all that there is: it stops a loop of Optuna's, which this is not
        study.set_user_attr(EXHAUSTED, True)


def _batches(
    study: optuna.Study, settings: SearchSettings, space: Mapping[str, BaseDistribution]
) -> Iterator[list[FrozenTrial | Trial]]:
    """The trials that are to be run at a time: those that were cut off first, to the end of the batch they were in."""
    while True:
        known = study.get_trials(deepcopy=False)
        waiting = [trial for trial in known if not trial.state.is_finished()]
        place = waiting[0].number if waiting else len(known)
        until = min((place // settings.n_jobs + 1) * settings.n_jobs, settings.n_trials)
        if study.user_attrs.get(EXHAUSTED):
            until = len(known)
        batch: list[FrozenTrial | Trial] = list(waiting)
        batch += [_ask(study, settings, space, number) for number in range(len(known), until)]
        if not batch:
            return
        study.sampler = settings.build_sampler(batch[-1].number)
        yield batch


def _overrides(fixed: Sequence[str], params: Mapping[str, Any]) -> list[str]:
    return [*fixed, *(f"{key}={value}" for key, value in params.items())]


def _restore(sweep: Sweep, study: optuna.Study, fixed: Sequence[str], progress: SweepProgress) -> None:
    """What earlier calls found."""
    for trial in study.get_trials(deepcopy=False):
        if trial.state.is_finished():
            overrides = _overrides(fixed, trial.params)
            try:
                progress.add(sweep.found(trial.number, overrides))
            except UserError as error:
                progress.add(sweep.unfit(trial.number, overrides, str(error)))


def _run_batch(
    sweep: Sweep,
    study: optuna.Study,
    batch: Sequence[FrozenTrial | Trial],
    fixed: Sequence[str],
    names: Sequence[str],
    progress: SweepProgress,
) -> None:
    """Run trials, and tell the study what they found."""
    jobs = []
    for trial in batch:
        overrides = _overrides(fixed, trial.params)
        try:
            jobs.append(sweep.composer.job(trial.number, overrides))
        except UserError as error:  # values that fit one by one, and not together
            progress.add(sweep.unfit(trial.number, overrides, str(error)))
    sweep.run(jobs, progress)
    for trial in batch:
        values = sweep.outcomes[trial.number].values(names)
        known = [value for value in values if value is not None]
        _tell(study, trial.number, known if len(known) == len(names) else None)
