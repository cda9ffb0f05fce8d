"""What a run tells W&B beside its metrics."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from lightning.pytorch.loggers import Logger, WandbLogger
from PIL import Image

from backhand.config.validation import larger_is_better
from backhand.reporting.findings import Findings, image


class Histogram(NamedTuple):
    """Counts in bins of one width, from `start` up."""

    counts: list[int]
    start: float
    width: float


def define_metrics(run: Any) -> None:
    """Let every metric be drawn over the epochs, and sum up those that have a best value by that value too."""
    run.define_metric("epoch")
    run.define_metric("trainer/global_step")
    run.define_metric("*", step_metric="epoch")
    for name in ("train/loss", "train/acc", "val/loss", "val/acc", "val/r2", "val/mae"):
        run.define_metric(name, step_metric="epoch", summary="max,last" if larger_is_better(name) else "min,last")


def wandb_runs(loggers: Sequence[Logger]) -> Iterator[Any]:
    """The W&B run, where there is one and this process writes it."""
    for logger in loggers:
        if isinstance(logger, WandbLogger) and hasattr(logger.experiment, "log_artifact"):
            yield logger.experiment


def log_histograms(loggers: Sequence[Logger], histograms: Mapping[str, Histogram], epoch: int, step: int) -> None:
    """Log an epoch's histograms."""
    import wandb

    for run in wandb_runs(loggers):
        shown = {
            name: wandb.Histogram(np_histogram=(np.array(each.counts), _edges(each)))
            for name, each in histograms.items()
        }
        run.log({**shown, "epoch": epoch, "trainer/global_step": step})


def log_findings(loggers: Sequence[Logger], findings: Findings, checkpoint: Path, metrics: Mapping[str, float]) -> None:
    """Log the confusion matrix, the worst predictions, the first layer's weights, and the best checkpoint.

    Args:
        loggers: the run's.
        findings: what to show.
        checkpoint: the best one, which stays where it is.
        metrics: that it is filed with.
    """
    import wandb

    for run in wandb_runs(loggers):
        shown: dict[str, Any] = {"worst_predictions": _worst(findings)}
        if findings.classes is not None and findings.confusion is not None:
            rows = [
                [true, predicted, count]
                for true, counts in zip(findings.classes, findings.confusion, strict=True)
                for predicted, count in zip(findings.classes, counts, strict=True)
            ]
            table = wandb.Table(["Actual", "Predicted", "nPredictions"], rows)
            fields: dict[str, Any] = {name: name for name in ("Actual", "Predicted", "nPredictions")}
            shown["confusion_matrix"] = wandb.plot_table(
                "wandb/confusion_matrix/v1", table, fields, {"title": "Confusion matrix, test split"}
            )
        if findings.weights:
            shown["first_layer"] = wandb.Image(_sheet([image(each) for each in findings.weights]))
        run.log(shown)
        if not checkpoint.exists():  # no epoch had a finite objective
            continue
        artifact = wandb.Artifact(f"best-{run.id}", "model", metadata=dict(metrics))
        # It is not changed any more: there is no need of a second copy of it.
        artifact.add_file(str(checkpoint.absolute()), policy="immutable", skip_cache=True)
        run.log_artifact(artifact, aliases=["best"])


def _worst(findings: Findings) -> Any:
    import wandb

    pictures = any(each["picture"] is not None for each in findings.worst)
    columns: list[str | int] = ["id", "target", "prediction", "loss", "probability", *(["picture"] if pictures else [])]
    rows = [
        [
            each["id"],
            _cell(each["target"]),
            _cell(each["prediction"]),
            each["loss"],
            each["probability"],
            *([wandb.Image(image(each["picture"]))] if pictures else []),
        ]
        for each in findings.worst
    ]
    return wandb.Table(columns, rows)


def _cell(value: Any) -> Any:
    return str(value) if isinstance(value, list) else value


def _edges(histogram: Histogram) -> np.ndarray:
    return histogram.start + histogram.width * np.arange(len(histogram.counts) + 1)


def _sheet(pictures: Sequence[Image.Image]) -> Image.Image:
    """All of them in one, as square as they go, with a line between."""
    columns = int(np.ceil(np.sqrt(len(pictures))))
    width, height = (side + 2 for side in pictures[0].size)
    sheet = Image.new("RGB", (columns * width, -(-len(pictures) // columns) * height), "#8a8f98")
    for place, each in enumerate(pictures):
        sheet.paste(each, (place % columns * width + 1, place // columns * height + 1))
    return sheet
