"""What a run logs to W&B besides its metrics."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from lightning.pytorch.loggers import Logger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only
from PIL import Image

from backhand.config.validation import larger_is_better
from backhand.reporting.error_analysis import ErrorAnalysis, image
from backhand.reporting.result import metrics_of


class Histogram(NamedTuple):
    """Counts in bins of equal width, the first of which begins at `start`."""

    counts: list[int]
    start: float
    width: float


class EpochLogger(WandbLogger):
    """Lightning's logger, which also logs the best value so far of each metric, such as `best/val/loss`.

    W&B's own best values (`summary="min"`) replace the last value by a dict, in which tables, sweeps and panels find no
    number.

    Args:
        run: the W&B run, or None in a process that does not write it.
        folder: the folder of the run.
        rows: the completed epochs of a resumed run.
    """

    def __init__(self, run: Any, folder: Path, rows: Sequence[Mapping[str, float]]) -> None:
        super().__init__(save_dir=str(folder), experiment=run)
        self._best: dict[str, float] = {}
        if run is not None:
            run.define_metric("epoch")
            run.define_metric("trainer/global_step")
            run.define_metric("*", step_metric="epoch")
        for row in rows:
            if run is not None and run.offline:  # its upload will replace what is stored under the same id
                self.log_metrics({name: value for name, value in row.items() if name != "step"}, int(row["step"]))
            else:
                self._improved(row)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log the metrics and their best values so far."""
        super().log_metrics({**metrics, **self._improved(metrics)}, step)

    def _improved(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """Update the best values of these metrics, and return them."""
        best = {}
        for name, value in metrics_of(metrics).items():
            better = max if larger_is_better(name) else min
            if math.isfinite(value):
                self._best[name] = better(value, self._best.get(name, value))
            if name in self._best:
                best[f"best/{name}"] = self._best[name]
        return best


def wandb_runs(loggers: Sequence[Logger]) -> Iterator[Any]:
    """The W&B run, if there is one and this process writes it."""
    for logger in loggers:
        if isinstance(logger, WandbLogger) and rank_zero_only.rank == 0:  # type: ignore[attr-defined]
            yield logger.experiment


def log_histograms(loggers: Sequence[Logger], histograms: Mapping[str, Histogram], epoch: int, step: int) -> None:
    """Log an epoch's histograms."""
    for run in wandb_runs(loggers):
        import wandb  # its import takes a second

        shown = {
            name: wandb.Histogram(np_histogram=(np.array(each.counts), _edges(each)))
            for name, each in histograms.items()
        }
        run.log({**shown, "epoch": epoch, "trainer/global_step": step})


def log_error_analysis(
    loggers: Sequence[Logger], analysis: ErrorAnalysis, checkpoint: Path, metrics: Mapping[str, float]
) -> None:
    """Log the confusion matrix, the worst predictions, the first layer's weights, and the best checkpoint.

    The summary has the total number of misclassified samples.

    Args:
        loggers: the loggers of the run.
        analysis: what to log.
        checkpoint: the best checkpoint; the file is not moved.
        metrics: metadata of the artifact: the number of the checkpoint's epoch, its metrics and the test metrics.
    """
    for run in wandb_runs(loggers):
        import wandb  # its import takes a second

        shown: dict[str, Any] = {"worst_predictions": _worst(analysis)}
        if analysis.classes is not None and analysis.confusion is not None:
            rows = [
                [true, predicted, count]
                for true, counts in zip(analysis.classes, analysis.confusion, strict=True)
                for predicted, count in zip(analysis.classes, counts, strict=True)
            ]
            table = wandb.Table(["Actual", "Predicted", "nPredictions"], rows)
            fields: dict[str, Any] = {name: name for name in ("Actual", "Predicted", "nPredictions")}
            run.summary["misclassified"] = sum(map(sum, analysis.confusion)) - sum(
                counts[index] for index, counts in enumerate(analysis.confusion)
            )
            shown["confusion_matrix"] = wandb.plot_table(
                "wandb/confusion_matrix/v1", table, fields, {"title": "Confusion matrix, test split"}
            )
        if analysis.weights:
            shown["first_layer"] = wandb.Image(_sheet([image(each) for each in analysis.weights]))
        run.log(shown)
        if not checkpoint.exists():  # no epoch had a finite objective
            continue
        finite = {name: value for name, value in metrics.items() if math.isfinite(value)}  # W&B's JSON has no NaN
        artifact = wandb.Artifact(f"best-{run.id}", "model", metadata=finite)
        # The file does not change any more, so W&B needs no copy.
        artifact.add_file(str(checkpoint.absolute()), policy="immutable", skip_cache=True)
        run.log_artifact(artifact, aliases=["best"])


def _worst(analysis: ErrorAnalysis) -> Any:
    import wandb

    pictures = any(each["picture"] is not None for each in analysis.worst)
    columns: list[str | int] = ["id", "target", "prediction", "loss", "probability", *(["picture"] if pictures else [])]
    rows = [
        [
            each["id"],
            _scalar(each["target"]),
            _scalar(each["prediction"]),
            each["loss"],
            each["probability"],
            *([wandb.Image(image(each["picture"]))] if pictures else []),
        ]
        for each in analysis.worst
    ]
    return wandb.Table(columns, rows)


def _scalar(value: Any) -> Any:
    return str(value) if isinstance(value, list) else value


def _edges(histogram: Histogram) -> np.ndarray:
    return histogram.start + histogram.width * np.arange(len(histogram.counts) + 1)


def _sheet(pictures: Sequence[Image.Image]) -> Image.Image:
    """All pictures in a grid that is nearly square, with lines between them."""
    columns = int(np.ceil(np.sqrt(len(pictures))))
    width, height = (side + 2 for side in pictures[0].size)
    sheet = Image.new("RGB", (columns * width, -(-len(pictures) // columns) * height), "#8a8f98")
    for index, each in enumerate(pictures):
        sheet.paste(each, (index % columns * width + 1, index // columns * height + 1))
    return sheet
