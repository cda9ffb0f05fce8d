"""The trials of a search: Optuna draws them in batches, and they are kept in a file."""

import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend
from optuna.trial import BaseTrial, FrozenTrial, Trial, TrialState

from backhand.config.errors import one_line
from backhand.config.files import atomic_write
from backhand.config.validation import larger_is_better
from backhand.errors import UserError

# Noted with a study whose sampler has nothing left to try.
EXHAUSTED = "exhausted"
optuna.logging.set_verbosity(optuna.logging.WARNING)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


class Operations(BaseJournalBackend):
    """What was done to a study, as lines of JSON; `optuna.storages.journal.JournalFileBackend` reads them, too.

    That backend writes each line at once, so that a search that is killed leaves a trial with some of its parameters.
    This one keeps them in memory until a whole batch is drawn, and the file is replaced.
    """

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines

    def read_logs(self, log_number_from: int) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines[log_number_from:]]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        self.lines += [json.dumps(each, separators=(",", ":")) for each in logs]


class Study:
    """Draws the trials of a search.

    Each trial has a sampler with a seed of its own: what it draws depends on its number and on the trials before it,
    not on how often the search was interrupted.

    Args:
        path: the file that keeps the trials, and may be there already; None for none.
        names: the objectives.
        space: what each trial draws, by key.
        build_sampler: makes the sampler for the trial of a number.

    Raises:
        UserError: the file cannot be read, or holds trials of another space.
    """

    def __init__(
        self,
        path: Path | None,
        names: Sequence[str],
        space: Mapping[str, BaseDistribution],
        build_sampler: Callable[[int], BaseSampler],
    ) -> None:
        self.path, self.space, self.build_sampler = path, dict(space), build_sampler
        try:
            self.operations = Operations(path.read_text("utf-8").splitlines() if path and path.is_file() else [])
            self.study = optuna.create_study(
                storage=JournalStorage(self.operations),
                study_name="sweep",
                directions=["maximize" if larger_is_better(name) else "minimize" for name in names],
                load_if_exists=True,
            )
            if any(trial.distributions != self.space for trial in self.trials):
                raise ValueError("a trial has not drawn what the others draw")
        except Exception as error:  # whatever Optuna raises: the file may be anybody's
            raise UserError(
                f"{path}: is no study that can be read ({type(error).__name__}: {one_line(error)})"
            ) from None

    @property
    def trials(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False)

    def batches(self, n_trials: int, n_jobs: int) -> Iterator[list[BaseTrial]]:
        """The trials to run at a time, until there are `n_trials`; they are in the file before they are run.

        What an earlier call has left running comes first, with new trials up to the end of the batch that it was in.
        """
        while True:
            known = self.trials
            waiting = [trial for trial in known if not trial.state.is_finished()]
            first = waiting[0].number if waiting else len(known)
            end = min((first // n_jobs + 1) * n_jobs, n_trials)
            if EXHAUSTED in self.study.user_attrs:
                end = len(known)
            batch = [*waiting, *(self.ask(number) for number in range(len(known), end))]
            if self.path is not None:
                atomic_write(self.path, "".join(f"{line}\n" for line in self.operations.lines))
            if not batch:
                return
            self.study.sampler = self.build_sampler(batch[-1].number)
            yield batch

    def ask(self, number: int) -> Trial:
        self.study.sampler = self.build_sampler(number)
        return self.study.ask(self.space)

    def tell(self, number: int, values: Sequence[float | None]) -> None:
        """Tell what a trial found; where one of the values is None, it has failed."""
        found = [value for value in values if value is not None]
        complete = len(found) == len(values)
        state = TrialState.COMPLETE if complete else TrialState.FAIL
        try:
            self.study.tell(number, found if complete else None, state=state)
        except RuntimeError:  # the sampler has tried all that there is, and would stop a loop of Optuna's
            self.study.set_user_attr(EXHAUSTED, True)
