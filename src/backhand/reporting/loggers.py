"""Where the metrics of every epoch go: metrics.csv, TensorBoard, Weights & Biases."""

import csv
import functools
import logging
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from backhand.config.errors import UserError
from backhand.config.schema import TrainConfig

log = logging.getLogger(__name__)


class EpochTable(Logger):
    """The metrics as one row an epoch, in memory for the pictures and, given a path, in a CSV file.

    Lightning logs an epoch's validation and training metrics in two calls; they are joined here. The file is complete
    up to the last whole epoch at any moment.
    """

    def __init__(self, path: Path | None) -> None:
        super().__init__()
        self.path = path
        self.rows: list[dict[str, float]] = []
        self._columns: list[str] = []
        self._written = 0

    @property
    def name(self) -> str:
        """Lightning asks for it."""
        return "epochs"

    @property
    def version(self) -> str:
        """Lightning asks for it."""
        return ""

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """The configuration is in `.hydra/config.yaml`; there is nothing to add."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Add to the epoch's row, and write the rows of the epochs before it."""
        seen = {name: value for name, value in metrics.items() if not name.startswith("test/")}
        if set(seen) <= {"epoch"}:
            return
        epoch = int(seen["epoch"])
        if not self.rows or self.rows[-1]["epoch"] != epoch:
            self._write()
            self.rows.append({"epoch": epoch, "step": 0})
        self.rows[-1].update(seen, epoch=epoch, step=step or 0)

    def restore(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Begin with the rows of a run that is gone on with in its own folder."""
        self.rows, self._written, self._columns = [dict(row) for row in rows], 0, []

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write the last row."""
        self._write()

    def _write(self) -> None:
        new = self.rows[self._written :]
        if self.path is None or not new:
            return
        columns = list(dict.fromkeys([*self._columns, *(name for row in new for name in row)]))
        if columns == self._columns:
            with self.path.open("a", newline="") as file:
                csv.DictWriter(file, columns).writerows(new)
        else:  # the first row, or one with a metric that was not there before
            with self.path.open("w", newline="") as file:
                writer = csv.DictWriter(file, columns)
                writer.writeheader()
                writer.writerows(self.rows)
        self._columns, self._written = columns, len(self.rows)


def build_loggers(
    config: TrainConfig, folder: Path, rows: Sequence[Mapping[str, float]] = (), wandb_id: str | None = None
) -> tuple[list[Logger], EpochTable]:
    """The loggers of `config.logger`, and the table among them that the pictures are drawn from.

    Args:
        config: the configuration.
        folder: the run's.
        rows: the epochs that the run has behind it, where it goes on in its own folder.
        wandb_id: of the W&B run that it then goes on with.
    """
    table = EpochTable(folder / "metrics.csv" if config.logger.csv else None)
    loggers: list[Logger] = [table]
    if config.logger.tensorboard:
        try:
            loggers.append(TensorBoardLogger(folder, name=None, version="tensorboard", default_hp_metric=False))
        except ModuleNotFoundError:
            raise UserError("logger=tensorboard: needs the package tensorboard; pip install tensorboard") from None
    if config.logger.wandb is not None:
        loggers.append(_wandb_logger(config, folder, rows, wandb_id))
    table.restore(rows)
    return loggers, table


def wandb_id(loggers: Sequence[Logger]) -> str | None:
    """The W&B run's, where there is one."""
    return next((str(logger.experiment.id) for logger in loggers if isinstance(logger, WandbLogger)), None)


def close_loggers(loggers: list[Logger], exit_code: int) -> None:
    """End the W&B run, where there is one, with the status that its page shows: finished (0) or failed."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            import wandb

            wandb.finish(exit_code=exit_code)


def _wandb_logger(
    config: TrainConfig, folder: Path, rows: Sequence[Mapping[str, float]], wandb_id: str | None
) -> Logger:
    import wandb

    settings = config.logger.wandb
    assert settings is not None
    mode = settings.mode
    if mode == "auto":
        mode = os.environ.get("WANDB_MODE") or ("online" if _logged_in() else "offline")
    arguments: dict[str, Any] = {
        "project": settings.project,
        "entity": settings.entity,
        "group": settings.group,
        "name": config.name,
        "tags": config.tags,
        "dir": str(folder),
        "config": asdict(config),
        "id": wandb_id,
    }

    _list_packages_once()

    def start(mode: str) -> Any:
        quiet = wandb.Settings(silent=True, console="off", init_timeout=20)
        resume = "allow" if wandb_id is not None and mode == "online" else None
        return wandb.init(**arguments, mode=mode, resume=resume, settings=quiet)  # type: ignore[arg-type]

    run = None
    if rank_zero_only.rank == 0:  # type: ignore[attr-defined]
        try:
            run = start(mode)
        except wandb.errors.Error as error:
            if mode != "online":
                raise
            reason = str(error).strip().splitlines()[0]
            log.warning("W&B cannot be reached (%s); this run is logged offline, under %s", reason, folder / "wandb")
            run = start("offline")
        run.define_metric("*", step_metric="epoch")
    logger = WandbLogger(save_dir=str(folder), experiment=run)
    if run is not None and run.offline:  # what is uploaded under the same id later replaces what was before
        for row in rows:
            logger.log_metrics({name: value for name, value in row.items() if name != "step"}, int(row["step"]))
    return logger


@functools.cache
def _list_packages_once() -> None:
    """Keep the list of installed packages, which W&B makes anew for every run: 80 ms for each of a sweep's."""
    import wandb.util

    packages = list(wandb.util.working_set())
    wandb.util.working_set = lambda: packages


def _logged_in() -> bool:
    """Whether there is a key, without asking for one and without the network."""
    import wandb

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return bool(wandb.login(prompt=False, verify=False))
        except (wandb.errors.Error, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            log.warning("W&B's key cannot be used (%s); this run is logged offline", reason)
            return False
