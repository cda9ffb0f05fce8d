"""The heatmap of a verification: each gradient's error against two references, one cell per combination."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from backhand.config.files import replace_file


def heatmap(
    cells: Mapping[tuple[str, str], tuple[float, float, bool]], path: Path, autograd: float, differences: float
) -> None:
    """Draw both errors: hidden activations in rows, losses with their outputs in columns, a cross on what fails.

    Args:
        cells: by (row, column), the error against autograd, that against finite differences, and whether it passes.
        path: the PNG file to write.
        autograd: the limit of the first error, the dark end of its colours.
        differences: the limit of the second.
    """
    rows = list(dict.fromkeys(row for row, _ in cells))
    columns = sorted({column for _, column in cells})
    size = (max(6, 3.2 + 0.19 * len(columns)), 3.6 + 0.38 * len(rows))
    figure = Figure(figsize=size, layout="constrained")
    panels = (("float64 autograd", autograd), ("finite differences", differences))
    for which, (axes, (reference, limit)) in enumerate(zip(figure.subplots(2, 1, sharex=True), panels, strict=True)):
        found = {cell: each[which] if np.isfinite(each[which]) else 1.0 for cell, each in cells.items()}
        errors = np.array([[found.get((row, column), np.nan) for column in columns] for row in rows])
        # An exact result has no logarithm.
        image = axes.imshow(
            np.log10(errors.clip(1e-17)),
            cmap="viridis_r",
            vmin=np.log10(limit) - 5,
            vmax=np.log10(limit),
            aspect="auto",
        )
        for (row, column), (*_, passes) in cells.items():
            if not passes:
                axes.text(columns.index(column), rows.index(row), "×", ha="center", va="center", color="red")
        axes.set_title(f"Relative error against {reference}", fontsize=10, loc="left")
        axes.set_yticks(range(len(rows)), rows, fontsize=7)
        axes.set_xticks(range(len(columns)), columns, fontsize=6, rotation=90)
        figure.colorbar(image, ax=axes, extend="both", pad=0.01, label="log10; the dark end is the limit")
    with replace_file(path) as temporary:
        figure.savefig(temporary, dpi=150, format="png")
