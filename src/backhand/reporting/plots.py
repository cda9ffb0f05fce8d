"""The plots of a run and of a sweep as PNG files, drawn on matplotlib's `Figure`, which needs no display."""

import io
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from backhand.config.files import replace_file
from backhand.reporting.axes import parallel_axes

BLUE, ORANGE = "#1f6fb4", "#d1600f"
TITLES = {"loss": "Loss", "acc": "Accuracy", "r2": "R² (share of the variance explained)"}


def curves(rows: Sequence[Mapping[str, float]], path: Path) -> None:
    """Plot training and validation loss, and accuracy or R², by epoch."""
    table = pd.DataFrame(list(rows))
    table = table.set_index(table["epoch"].rename("epoch") + 1)
    metrics = [metric for metric in TITLES if metric == "loss" or f"val/{metric}" in table]
    figure = Figure(figsize=(5 * len(metrics), 3.4), layout="constrained")
    for axes, metric in zip(figure.subplots(1, len(metrics), squeeze=False)[0], metrics, strict=True):
        names = {f"train/{metric}": "training", f"val/{metric}": "validation"}
        shown = table[[column for column in names if column in table]].rename(columns=names)
        shown.plot(ax=axes, title=TITLES[metric], style={"training": ".-", "validation": ".--"}, color=[BLUE, ORANGE])
    _save(figure, path)


def confusion(counts: Sequence[Sequence[int]], names: Sequence[str], path: Path) -> None:
    """Plot the confusion matrix of the test split: true classes in rows, predicted ones in columns."""
    from sklearn.metrics import ConfusionMatrixDisplay

    size = max(4, 0.5 * len(names) + 1.6)
    figure = Figure(figsize=(size, size), layout="constrained")
    labels = [printable(name, 24) for name in names]
    display = ConfusionMatrixDisplay(np.array(counts), display_labels=labels)
    display.plot(
        ax=figure.subplots(), cmap="Blues", colorbar=False, xticks_rotation=45 if max(map(len, labels)) > 2 else 0
    )
    _save(figure, path)


def predictions(target: Sequence[float | None], predicted: Sequence[float | None], path: Path) -> None:
    """Plot predicted against true values of the test split, in the target's units."""
    from sklearn.metrics import PredictionErrorDisplay

    figure = Figure(figsize=(4.4, 4.4), layout="constrained")
    pairs = np.array([target, predicted], float)
    pairs = pairs[:, np.isfinite(pairs).all(axis=0)]
    if pairs.size:
        PredictionErrorDisplay(y_true=pairs[0], y_pred=pairs[1]).plot(ax=figure.subplots(), kind="actual_vs_predicted")
    _save(figure, path)


def sweep_plot(runs: pd.DataFrame, settings: list[str], objectives: list[str], path: Path) -> None:
    """Plot the runs of a sweep on parallel axes of settings and objectives, the best run in orange."""
    parallel = parallel_axes(runs, settings, objectives)
    figure = Figure(figsize=(max(7, 1.6 * len(parallel.axes)), 4.6), layout="constrained")
    axes = figure.subplots()
    for positions, score in zip(parallel.positions.to_numpy(), parallel.score, strict=True):
        axes.plot(positions, color=BLUE, alpha=0.1 + 0.6 * score, lw=1.3)
    axes.plot(parallel.positions.to_numpy()[-1], color=ORANGE, lw=2.5)
    for index, each in enumerate(parallel.axes.values()):
        axes.axvline(index, color="#404348", lw=1)
        for position, label in each.few_ticks():
            box = {"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.6}
            axes.text(index + 0.03, position, printable(label, 16), va="center", fontsize=8, bbox=box)
    best = runs.loc[parallel.positions.index[-1], objectives[0]]
    axes.set_title(printable(f"{len(runs)} runs; the best, {objectives[0]} = {best:.4g}, in orange", 200))
    axes.set_xticks(range(len(parallel.axes)), [printable(name, 18) for name in parallel.axes], fontsize=8.5)
    axes.set(xlim=(-0.1, len(parallel.axes) - 0.5), yticks=[])
    axes.spines[:].set_visible(False)
    _save(figure, path)


def printable(text: str, letters: int) -> str:
    """Shorten text in the middle, escape it for matplotlib's formulas, and replace characters that cannot be drawn."""
    if len(text) > letters:
        text = f"{text[: letters // 2]}…{text[-(letters // 2) + 1 :]}"
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text).replace("$", r"\$")


def _save(figure: Figure, path: Path) -> None:
    drawn = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # matplotlib draws a box for it
        figure.savefig(drawn, dpi=100)
    with replace_file(path) as temporary:  # 64 colours: a third of the size
        Image.open(drawn).convert("RGB").quantize(64).save(temporary, "PNG", optimize=True)
