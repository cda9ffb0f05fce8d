"""What a run writes at its end, single or in a population: the error analysis, plots, result.json, the report."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from backhand.config.imports import describe
from backhand.config.schema import TrainConfig
from backhand.data.custom import CustomData
from backhand.data.module import RunData
from backhand.errors import UserError
from backhand.reporting.error_analysis import ErrorAnalysis
from backhand.reporting.loggers import close_loggers
from backhand.reporting.report import write_report_or_warn
from backhand.reporting.result import (
    Result,
    Status,
    best_epoch,
    best_objective,
    best_row,
    chosen,
    metrics_of,
    write_result,
)
from backhand.reporting.wandb_content import log_error_analysis
from backhand.training.analyse import analyse, draw_plots
from backhand.training.checkpoint import BEST, LAST
from backhand.training.decisions import Ending
from backhand.training.module import LightningMLP
from backhand.training.train_log import log_end

log = logging.getLogger(__name__)


@dataclass
class Outcome:
    """What is known about a run at its end.

    Attributes:
        config: the configuration, completed for the data set.
        composed: the configuration as the user gave it; its hash is in result.json.
        folder: the run's folder.
        rows: the metrics of its epochs.
        test_metrics: the metrics of its best checkpoint on the test split.
        loggers: the run's.
        standalone: whether the run is not part of a sweep.
    """

    config: TrainConfig
    composed: TrainConfig
    folder: Path
    rows: Sequence[Mapping[str, float]]
    test_metrics: Mapping[str, float]
    loggers: list[Logger]
    standalone: bool

    @property
    def needs_error_analysis(self) -> bool:
        """Whether plots, a report or W&B media are enabled, which show single samples of the test split."""
        return self._logs_media or self._wants(self.config.plots) or self._wants(self.config.report)

    def write_error_analysis(self, module: LightningMLP, data: RunData) -> None:
        """Analyse the test split with the best checkpoint's weights; write, log and draw the result."""
        try:
            analysis = analyse(module, data)
        except Exception as error:
            if not isinstance(data, CustomData):
                raise
            log.warning("no error analysis: %s: its test split cannot be read a second time (%s)", data.where, error)
            analysis = ErrorAnalysis()
        analysis.write(self.folder)
        if self._logs_media:
            best = best_row(self.rows, self.config.objective)
            of_best = {} if best is None else {"epoch": best["epoch"], **metrics_of(best)}
            log_error_analysis(self.loggers, analysis, self.folder / BEST, {**of_best, **self.test_metrics})
        if self._wants(self.config.plots):
            draw_plots(self.rows, analysis, self.folder / "plots")

    def leave(self, status: Status, error: str | None, **fields: Any) -> Result:
        """End the W&B run, write result.json, and write the report if it is enabled.

        Args:
            status: how the run ended.
            error: the reason, if it is not finished.
            fields: further fields of `Result`.

        Raises:
            UserError: result.json cannot be written.
        """
        audit = fields.get("audit") or {}
        known = {
            "parameters": fields.get("parameters"),
            "audits": audit.get("times"),
            "worst_audit": audit.get("worst"),
        }
        summary = {name: value for name, value in known.items() if value is not None}
        close_loggers(self.loggers, int(status in ("failed", "interrupted")), summary)
        objective = self.config.objective
        result = Result(
            status=status,
            error=error,
            objective={"name": objective, "value": best_objective(self.rows, objective)},
            metrics={**final_metrics(self.rows), **self.test_metrics},
            best=best_epoch(self.rows, objective),
            chosen=chosen(self.composed, self.config),
            **fields,
        )
        write(result, self.composed, self.folder)
        is_first = rank_zero_only.rank == 0  # type: ignore[attr-defined]
        if is_first:
            log_end(result, self.rows, self.config)
        if is_first and status != "interrupted" and self._wants(self.config.report):
            write_report_or_warn(self.folder)
        return result

    @property
    def _logs_media(self) -> bool:
        wandb = self.config.logger.wandb
        return wandb is not None and self._wants(wandb.media)

    def _wants(self, setting: bool | None) -> bool:
        """Whether plots, media or a report are made: as set, and by default for a run outside of a sweep."""
        return self.standalone if setting is None else setting


def status_of(ending: Ending | None, folder: Path) -> tuple[Status, str | None]:
    """The status and the error of result.json."""
    if ending is None or ending.status == "stopped":
        return "finished", None
    if not ending.weights_are_good:
        return ending.status, ending.reason
    last = folder / LAST
    where = f"last good checkpoint: {last}" if last.exists() else "there is no checkpoint yet"
    return ending.status, f"{ending.reason}; {where}"


def failure(error: BaseException, config: TrainConfig) -> Result:
    """The result of a run that an exception ended."""
    reason = str(error) if isinstance(error, UserError) else describe(error)
    return Result("failed", {"name": config.objective, "value": None}, error=reason)


def final_metrics(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The last value of each training and validation metric."""
    return {name: value for row in rows for name, value in metrics_of(row).items()}


@rank_zero_only
def write(result: Result, config: TrainConfig, folder: Path) -> None:
    """Write result.json.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        write_result(result, config, folder)
    except OSError as error:
        raise UserError(f"{folder / 'result.json'}: cannot be written ({error.strerror})") from None
