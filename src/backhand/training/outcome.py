"""What a run leaves when it has been trained and tested, alone or in a population: pictures, result.json, a report."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from backhand.config.errors import UserError
from backhand.config.schema import TrainConfig
from backhand.data.module import InMemoryData
from backhand.reporting.loggers import close_loggers
from backhand.reporting.report import leave_report
from backhand.reporting.result import (
    Result,
    Status,
    best_epoch,
    best_objective,
    chosen,
    metrics_of,
    write_result,
)
from backhand.reporting.wandb_content import log_findings
from backhand.training.checkpoint import BEST, LAST
from backhand.training.findings import draw, find
from backhand.training.module import Ending, LightningMLP

Rows = Sequence[Mapping[str, float]]


def wanted(setting: bool | None, alone: bool) -> bool:
    """Whether a run leaves pictures, or a report: if asked to, and by itself unless asked not to."""
    return alone if setting is None else setting


def shows_findings(config: TrainConfig, alone: bool) -> bool:
    """Whether anything is to be shown that a look at each sample of the test split takes."""
    media = config.logger.wandb is not None and wanted(config.logger.wandb.media, alone)
    return media or wanted(config.plots, alone) or wanted(config.report, alone)


def show_findings(
    module: LightningMLP,
    data: InMemoryData,
    config: TrainConfig,
    folder: Path,
    rows: Rows,
    tested: Mapping[str, float],
    loggers: Sequence[Logger],
    alone: bool,
) -> None:
    """Look at the test split with the module's present weights; write, log and draw what is found.

    Args:
        module: the best checkpoint's.
        data: the run's.
        config: the run's.
        folder: where it writes.
        rows: its epochs.
        tested: its test metrics.
        loggers: the run's.
        alone: whether it is a run by itself, or one of a sweep.
    """
    findings = find(module, data)
    findings.write(folder)
    wandb = config.logger.wandb
    if wandb is not None and wanted(wandb.media, alone):
        log_findings(loggers, findings, folder / BEST, {**best_epoch(rows, config.objective), **tested})
    if wanted(config.plots, alone):
        draw(rows, findings, folder / "plots")


def status_of(ending: Ending | None, folder: Path) -> tuple[Status, str | None]:
    """What result.json says of a run that ended so."""
    if ending is None or ending.status == "stopped":
        return "finished", None
    if not ending.weights_are_good:
        return ending.status, ending.reason
    last = folder / LAST
    where = f"last good checkpoint: {last}" if last.exists() else "there is no checkpoint yet"
    return ending.status, f"{ending.reason}; {where}"


def leave_result(
    status: Status,
    error: str | None,
    config: TrainConfig,
    composed: TrainConfig,
    folder: Path,
    rows: Rows,
    tested: Mapping[str, float],
    loggers: list[Logger],
    alone: bool,
    **fields: Any,
) -> Result:
    """End the W&B run, write result.json, which is the last file, and make the report where one is wanted.

    Args:
        status: what became of the run.
        error: why, where it is not finished.
        config: its configuration, for the data set.
        composed: as the user gave it, whose hash the folder carries.
        folder: where it writes.
        rows: its epochs.
        tested: its test metrics.
        loggers: the run's.
        alone: whether it is a run by itself, or one of a sweep.
        fields: further ones of `Result`.

    Raises:
        UserError: it cannot be written.
    """
    close_loggers(loggers, int(status in ("failed", "interrupted")))
    result = Result(
        status=status,
        error=error,
        objective={"name": config.objective, "value": best_objective(rows, config.objective)},
        metrics={**final_metrics(rows), **tested},
        best=best_epoch(rows, config.objective),
        chosen=chosen(composed, config),
        **fields,
    )
    write(result, composed, folder)
    if status != "interrupted" and wanted(config.report, alone) and rank_zero_only.rank == 0:  # type: ignore[attr-defined]
        leave_report(folder)
    return result


def final_metrics(rows: Rows) -> dict[str, float]:
    """The last value of each training and validation metric."""
    return {name: value for row in rows for name, value in metrics_of(row).items()}


@rank_zero_only
def write(result: Result, config: TrainConfig, folder: Path) -> None:
    """Write result.json.

    Raises:
        UserError: it cannot be written.
    """
    try:
        write_result(result, config, folder)
    except OSError as error:
        raise UserError(f"{folder / 'result.json'}: cannot be written ({error.strerror})") from None
