"""The trials of a search: Optuna draws them in batches, and a file stores them."""

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

# The attribute of a study whose sampler has no values left to try.
EXHAUSTED = "exhausted"
optuna.logging.set_verbosity(optuna.logging.WARNING)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


class MemoryJournal(BaseJournalBackend):
    """Optuna's journal of a study as lines of JSON, which `optuna.storages.journal.JournalFileBackend` can read.

    That backend writes each line at once, so that a killed search leaves a trial with only some of its parameters. This
    one holds the lines in memory; `Study` replaces the file after a complete batch.
    """

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines

    def read_logs(self, log_number_from: int) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines[log_number_from:]]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        self.lines += [json.dumps(each, separators=(",", ":")) for each in logs]


class Study:
    """Draws the trials of a search.

    Each trial has a sampler with its own seed, so that its values depend only on its number and the trials before it,
    and not on interruptions.

    Args:
        path: the file that stores the trials, and may exist already; None for no file.
        names: the objectives.
        space: the distribution of each key.
        build_sampler: makes the sampler for the trial with a number.

    Raises:
        UserError: the file cannot be read, or has trials of another space.
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
            self.journal = MemoryJournal(path.read_text("utf-8").splitlines() if path and path.is_file() else [])
            self.study = optuna.create_study(
                storage=JournalStorage(self.journal),
                study_name="sweep",
                directions=["maximize" if larger_is_better(name) else "minimize" for name in names],
                load_if_exists=True,
            )
            if any(trial.distributions != self.space for trial in self.trials):
                raise ValueError("a trial has other keys or distributions")
        except Exception as error:  # Optuna raises many kinds of exceptions on a damaged file
            raise UserError(f"{path}: cannot be read as a study ({type(error).__name__}: {one_line(error)})") from None

    @property
    def trials(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False)

    def batches(self, n_trials: int, n_jobs: int) -> Iterator[list[BaseTrial]]:
        """Batches of trials to run, until there are `n_trials`; they are in the file before they are yielded.

        Trials that an interrupted call did not finish come first, and new trials complete their batch.
        """
        while True:
            known = self.trials
            unfinished = [trial for trial in known if not trial.state.is_finished()]
            first = unfinished[0].number if unfinished else len(known)
            end = min((first // n_jobs + 1) * n_jobs, n_trials)
            if EXHAUSTED in self.study.user_attrs:
                end = len(known)
            batch = [*unfinished, *(self.ask(number) for number in range(len(known), end))]
            if self.path is not None:
                atomic_write(self.path, "".join(f"{line}\n" for line in self.journal.lines))
            if not batch:
                return
            self.study.sampler = self.build_sampler(batch[-1].number)
            yield batch

    def ask(self, number: int) -> Trial:
        self.study.sampler = self.build_sampler(number)
        return self.study.ask(self.space)

    def tell(self, number: int, values: Sequence[float | None]) -> None:
        """Store the values of a trial; it has failed if one of them is None."""
        found = [value for value in values if value is not None]
        complete = len(found) == len(values)
        state = TrialState.COMPLETE if complete else TrialState.FAIL
        try:
            self.study.tell(number, found if complete else None, state=state)
        except RuntimeError:  # the sampler has tried all values, and wants to stop `optimize`
            self.study.set_user_attr(EXHAUSTED, True)
