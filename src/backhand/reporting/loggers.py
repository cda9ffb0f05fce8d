"""The loggers of a run: metrics.csv, TensorBoard, Weights & Biases."""

import csv
import logging
import os
import shutil
import warnings
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from backhand.config import CONF
from backhand.config.confidential import USER_AND_AT, masked, without_secrets
from backhand.config.files import replace_file
from backhand.config.imports import accepts, create, import_class
from backhand.config.schema import LoggerConfig, TrainConfig
from backhand.config.validation import extra_keys
from backhand.errors import UserError
from backhand.reporting.epochs import Epochs
from backhand.reporting.result import backward_pass, git
from backhand.reporting.wandb_content import EpochLogger, wandb_runs
from backhand.reporting.wandb_server import check_reachable

log = logging.getLogger(__name__)

# Seconds that a run waits for uploads at its end; the files remain on the disk.
FINISH_TIMEOUT = 60.0
# Contains the folder that `_stage_in` chose, so that child processes can tell it from one that the user chose.
STAGED = "BACKHAND_WANDB_DATA_DIR"


class EpochTable(Logger):
    """The metrics as one row per epoch, in memory for the plots and in a CSV file.

    Lightning logs an epoch's validation and training metrics in two calls, which are merged here. The file always has
    all completed epochs.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.rows = Epochs()
        self._columns: list[str] = []
        self._written = 0

    @property
    def name(self) -> str:
        """Part of Lightning's interface; not used."""
        return "epochs"

    @property
    def version(self) -> str:
        """Part of Lightning's interface; not used."""
        return ""

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the configuration is in `.hydra/config.yaml`."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Add metrics to the epoch's row, and write the rows of earlier epochs."""
        seen = {name: value for name, value in metrics.items() if not name.startswith("test/")}
        if "epoch" not in seen or set(seen) <= {"epoch"}:  # the loss of a step, or of the test split
            return
        epoch = int(seen["epoch"])
        if not self.rows or self.rows[-1]["epoch"] != epoch:
            self._write()
            self.rows.append({"epoch": epoch, "step": 0})
        self.rows.update({**seen, "epoch": epoch, "step": step or 0})

    def restore(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Start with the rows of a resumed run."""
        self.rows, self._written, self._columns = Epochs(rows), 0, []

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write the last row."""
        self._write()

    def _write(self) -> None:
        new = self.rows[self._written :]
        if not new:
            return
        columns = list(dict.fromkeys([*self._columns, *(name for row in new for name in row)]))
        try:
            if columns == self._columns:
                with self.path.open("a", newline="") as file:
                    csv.DictWriter(file, columns).writerows(new)
            else:  # the first row, or a row with a new metric
                # A new file needs no atomic replacement, which takes 5 ms for each run of a population.
                target = replace_file(self.path) if self.path.exists() else nullcontext(self.path)
                with target as path, path.open("w", newline="") as file:
                    writer = csv.DictWriter(file, columns)
                    writer.writeheader()
                    writer.writerows(self.rows)
        except OSError as error:
            raise UserError(f"{self.path}: cannot be written ({error.strerror})") from None
        self._columns, self._written = columns, len(self.rows)


def build_loggers(
    config: TrainConfig, folder: Path, rows: Sequence[Mapping[str, float]] = (), wandb_id: str | None = None
) -> tuple[list[Logger], EpochTable]:
    """Build the table of epochs, which every run writes, and the loggers of `config.logger`.

    Args:
        config: the configuration.
        folder: the folder of the run.
        rows: the completed epochs, if the run is resumed in its own folder.
        wandb_id: the id of the W&B run to resume.

    Returns:
        All loggers, and the table of epochs, which is one of them.

    Raises:
        UserError: a package is missing, or a `_target_` is not a logger or cannot be constructed.
    """
    table = EpochTable(folder / "metrics.csv")
    loggers: list[Logger] = [table]
    for name, settings in extra_keys(config.logger, LoggerConfig).items():
        loggers.append(_own_logger(f"logger.{name}", settings, config, folder))
    if config.logger.tensorboard:
        try:
            loggers.append(TensorBoardLogger(folder, name=None, version="tensorboard", default_hp_metric=False))
        except ModuleNotFoundError:
            raise UserError("logger=tensorboard: needs the package tensorboard; pip install tensorboard") from None
    if config.logger.wandb is not None:
        loggers.append(_wandb_logger(config, folder, rows, wandb_id))
    table.restore(rows)
    return loggers, table


def _own_logger(key: str, settings: dict[str, Any], config: TrainConfig, folder: Path) -> Logger:
    """A logger that the configuration names by `_target_`; its default `save_dir` is the run's folder."""
    kind = import_class(settings, key, Logger)
    own = {"save_dir": str(folder)} if accepts(kind, "save_dir") else {}
    logger = create(own | settings, key, kind)
    logger.log_hyperparams(masked(asdict(config)))
    return logger


def wandb_id(loggers: Sequence[Logger]) -> str | None:
    """The id of the W&B run, if there is one."""
    return next((str(logger.experiment.id) for logger in loggers if isinstance(logger, WandbLogger)), None)


def close_loggers(loggers: list[Logger], exit_code: int, summary: Mapping[str, Any]) -> None:
    """End the W&B run, if there is one.

    Args:
        loggers: the loggers of the run.
        exit_code: 0 for a finished run; W&B shows any other as failed.
        summary: values for the summary besides the metrics.
    """
    for run in wandb_runs(loggers):
        run.summary.update(summary)
        run.finish(exit_code=exit_code)


def descriptive_name(config: TrainConfig) -> str:
    """The default name of a run, such as `digits 64 tanh sgd lr=0.1 seed=0`."""
    model, optimizer = config.model, asdict(config.optimizer)
    activations = model.hidden_activation
    words = [
        config.data.name,
        "-".join(map(str, model.hidden)) or "linear",
        "-".join(activations) if isinstance(activations, list) else activations,
        str(optimizer.get("_target_", config.optimizer.name)).rpartition(".")[2],
        f"lr={optimizer['lr']:g}" if "lr" in optimizer else "",
        f"seed={config.seed}",
    ]
    return " ".join(filter(None, words))


def _without_null(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that are not null, at any depth."""
    return {
        key: _without_null(value) if isinstance(value, Mapping) else value
        for key, value in tree.items()
        if value is not None
    }


def _wandb_logger(
    config: TrainConfig, folder: Path, rows: Sequence[Mapping[str, float]], wandb_id: str | None
) -> Logger:
    settings = config.logger.wandb
    assert settings is not None
    mode = settings.mode
    if mode == "auto":
        mode = os.environ.get("WANDB_MODE") or ("online" if _logged_in() else "offline")
    arguments: dict[str, Any] = {
        "project": settings.project,
        "entity": settings.entity,
        "group": settings.group or os.environ.get("WANDB_RUN_GROUP"),
        "name": config.name or os.environ.get("WANDB_NAME") or descriptive_name(config),
        "notes": os.environ.get("WANDB_NOTES"),
        "tags": config.tags,
        "job_type": "train",
        "config": {**_without_null(asdict(config)), "backward_pass": backward_pass(config)},
        "id": wandb_id,
    }
    arguments = {**masked(arguments), "dir": str(folder)}

    run = None
    if rank_zero_only.rank == 0:  # type: ignore[attr-defined]
        _stage_in(folder / "wandb")
        run = _start(arguments, mode, resumed=wandb_id is not None)
    return EpochLogger(run, folder, rows)


def _start(arguments: Mapping[str, Any], mode: str, resumed: bool) -> Any:
    """Start a W&B run; it is offline if the server does not answer."""
    import wandb

    remote = git("remote", "get-url", "origin")
    settings = wandb.Settings(
        silent=True,
        console="off",
        init_timeout=20,
        finish_timeout=FINISH_TIMEOUT,
        # The commit of this project and its uncommitted changes, whatever the current directory; no code is uploaded.
        git_root=str(CONF.parent),
        # W&B removes a password but not a user name, which may be a token.
        git_remote_url=remote and without_secrets(USER_AND_AT.sub("", remote)),
        git_commit=git("rev-parse", "HEAD"),  # W&B looks up neither the URL nor the commit if one of them is given
        save_code=True,
        disable_code=True,
    )
    folder = Path(arguments["dir"]) / "wandb"
    if mode == "online":
        before = set(folder.glob("run-*"))
        try:
            check_reachable(wandb.setup().settings.base_url)
            return wandb.init(**arguments, mode="online", resume="allow" if resumed else None, settings=settings)
        except (OSError, wandb.errors.Error) as error:
            reason = without_secrets((str(error).strip() or type(error).__name__).splitlines()[0])
            log.warning("W&B cannot be reached (%s); this run is logged offline, under %s", reason, folder)
            for started in set(folder.glob("run-*")) - before:
                shutil.rmtree(started, ignore_errors=True)
        mode = "offline"
    return wandb.init(**arguments, mode=mode, settings=settings)  # type: ignore[arg-type]


def _stage_in(folder: Path) -> None:
    """Let W&B keep files for upload in the run's folder, unless the user has set another."""
    if os.environ.get("WANDB_DATA_DIR") in (None, os.environ.get(STAGED)):
        os.environ["WANDB_DATA_DIR"] = os.environ[STAGED] = str(folder)


def _logged_in() -> bool:
    """Whether there is an API key; neither prompts for one nor uses the network."""
    import wandb

    wandb.setup(wandb.Settings(silent=True))  # otherwise it prints where the key was found
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return bool(wandb.login(prompt=False, verify=False))
        except (wandb.errors.Error, ValueError) as error:
            reason = without_secrets(str(error).strip().splitlines()[0])
            log.warning("W&B's key cannot be used (%s); this run is logged offline", reason)
            return False
