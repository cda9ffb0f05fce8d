"""The pictures of a run. They are drawn with matplotlib's Figure, which needs no screen."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

TRAIN, VAL, MUTED = "#1f6fb4", "#d1600f", "#8a8f98"
TITLES = {"loss": "Loss", "acc": "Accuracy", "r2": "R² (share of the variance explained)"}


def curves(rows: Sequence[Mapping[str, float]], path: Path) -> None:
    """Loss, and accuracy or R², by epoch: training against validation."""
    metrics = [metric for metric in ("loss", "acc", "r2") if any(f"val/{metric}" in row for row in rows)] or ["loss"]
    figure = Figure(figsize=(5 * len(metrics), 3.4), layout="constrained")
    for axes, metric in zip(figure.subplots(1, len(metrics), squeeze=False)[0], metrics, strict=True):
        for split, colour, style in (("train", TRAIN, "-"), ("val", VAL, "--")):
            points = [(row["epoch"] + 1, row[f"{split}/{metric}"]) for row in rows if f"{split}/{metric}" in row]
            if points:
                x, y = zip(*points, strict=True)
                axes.plot(x, y, style, color=colour, label="training" if split == "train" else "validation")
                if len(points) == 1:
                    axes.plot(x, y, "o", color=colour)
        axes.set(title=TITLES[metric], xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(frameon=False)
        _plain(axes)
    figure.savefig(path, dpi=150)


def confusion(target: np.ndarray, predicted: np.ndarray, names: Sequence[str], path: Path) -> None:
    """How often each true class (row) was taken for each class (column) on the test split."""
    counts = np.zeros((len(names), len(names)), int)
    np.add.at(counts, (target, predicted), 1)
    size = max(3.6, 0.5 * len(names) + 1.6)
    figure = Figure(figsize=(size, size), layout="constrained")
    axes = figure.subplots()
    axes.imshow(counts, cmap="Blues")
    dark = counts.max() / 2
    for (row, column), count in np.ndenumerate(counts):
        if count:
            axes.text(column, row, str(count), ha="center", va="center", color="white" if count > dark else "black")
    accuracy = counts.trace() / max(counts.sum(), 1)
    axes.set(
        title=f"Test split: {counts.trace()} of {counts.sum()} right ({accuracy:.1%})",
        xlabel="predicted",
        ylabel="true",
        xticks=range(len(names)),
        yticks=range(len(names)),
    )
    axes.set_xticklabels(names, rotation=45 if max(map(len, names)) > 2 else 0)
    axes.set_yticklabels(names)
    figure.savefig(path, dpi=150)


def predictions(target: np.ndarray, predicted: np.ndarray, path: Path) -> None:
    """Predicted against true value on the test split, in the target's own units."""
    target, predicted = target.ravel(), predicted.ravel()
    figure = Figure(figsize=(4.4, 4.4), layout="constrained")
    axes = figure.subplots()
    low, high = min(target.min(), predicted.min()), max(target.max(), predicted.max())
    axes.plot([low, high], [low, high], "--", color=MUTED, label="prediction = truth")
    axes.plot(target, predicted, "o", color=TRAIN, alpha=0.7, markersize=4)
    axes.set(title=f"Test split: {len(target)} samples", xlabel="true value", ylabel="predicted value", aspect="equal")
    axes.legend(frameon=False)
    _plain(axes)
    figure.savefig(path, dpi=150)


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
