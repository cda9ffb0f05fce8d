"""The picture of a proof: how far each gradient is from two references, one square a combination."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from backhand.config.files import replacing


def heatmap(
    places: Mapping[tuple[str, str], tuple[float, float, bool]], path: Path, autograd: float, differences: float
) -> None:
    """Draw both errors, hidden activations down and losses with their outputs across; a cross marks what fails.

    Args:
        places: for (row, column): the error against autograd, that against finite differences, and whether it passes.
        path: the PNG to write.
        autograd: the limit of the first error, the dark end of its colours.
        differences: the limit of the second.
    """
    rows = list(dict.fromkeys(row for row, _ in places))
    columns = sorted({column for _, column in places})
    width, height = 3.2 + 0.19 * len(columns), 2 * (0.19 * len(rows) + 0.5) + 2.6
    figure = Figure(figsize=(max(width, 6), height), layout="constrained")
    panels = (("against float64 autograd", autograd, 0), ("against finite differences", differences, 1))
    for axes, (title, limit, which) in zip(figure.subplots(2, 1, sharex=True), panels, strict=True):
        errors = np.full((len(rows), len(columns)), np.nan)
        for (row, column), found in places.items():
            # An exact result has no logarithm; and what is not finite is as bad as can be.
            error = found[which] if np.isfinite(found[which]) else 1.0
            errors[rows.index(row), columns.index(column)] = np.log10(max(error, 1e-17))
        top = np.log10(limit)
        image = axes.imshow(errors, cmap="viridis_r", vmin=top - 5, vmax=top, aspect="auto")
        for (row, column), (*_, passes) in places.items():
            if not passes:
                axes.text(
                    columns.index(column), rows.index(row), "×", ha="center", va="center", color="red", weight="bold"
                )
        axes.set_title(f"Relative error {title}", fontsize=10, loc="left")
        axes.set_yticks(range(len(rows)), rows, fontsize=7)
        axes.set_xticks(range(len(columns)), columns, fontsize=6, rotation=90)
        colours = figure.colorbar(image, ax=axes, extend="both", pad=0.01)
        colours.set_label("log10; the dark end is the limit", fontsize=7)
        colours.ax.tick_params(labelsize=7)
    with replacing(path) as aside:
        figure.savefig(aside, dpi=150, format="png")
