"""What a run found out beside its metrics: findings.json, which its W&B run and its report are made from."""

import base64
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from backhand.config.files import atomic_write

FINDINGS = "findings.json"
WORST = 50
MOST_POINTS = 2000
MOST_UNITS = 64
# Pictures smaller than this are shown with larger pixels.
SIDE = 56


@dataclass
class Findings:
    """Of the best checkpoint on the test split.

    Attributes:
        classes: their names; None for a regression.
        confusion: how often each true class (row) was taken for each class (column); None for a regression.
        scatter: of a regression, `target` and `prediction` in its own units, at most `MOST_POINTS` of each.
        worst: the samples with the greatest losses, at most `WORST`, the worst first: `id`, `target`, `prediction`,
            `loss`, `probability` of the target's class, `picture`.
        weights: what feeds each of the first hidden units, at most `MOST_UNITS`, where the data are pictures: red
            counts for the unit, blue against it.

    Pictures are PNG files in base64.
    """

    classes: list[str] | None
    confusion: list[list[int]] | None
    scatter: dict[str, list[Any]] | None
    worst: list[dict[str, Any]]
    weights: list[str] | None

    def write(self, folder: Path) -> None:
        """Write `folder/findings.json`."""
        atomic_write(folder / FINDINGS, json.dumps(asdict(self)) + "\n")


# Where there is no test split.
NOTHING = Findings(classes=None, confusion=None, scatter=None, worst=[], weights=None)


def picture(pixels: np.ndarray) -> str:
    """Pixels (channels, height, width), 0 to 255, as a PNG in base64."""
    rows = np.moveaxis(pixels.clip(0, 255).astype(np.uint8), 0, -1)
    image = Image.fromarray(rows[..., 0] if rows.shape[-1] == 1 else rows)
    larger = max(1, -(-SIDE // max(image.size)))
    image = image.resize((image.width * larger, image.height * larger), Image.Resampling.NEAREST)
    file = io.BytesIO()
    image.save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def image(png: str) -> Image.Image:
    """A picture as it was before `picture` spelt it."""
    return Image.open(io.BytesIO(base64.b64decode(png)))


def weight_pictures(W: np.ndarray, shape: tuple[int, int, int]) -> list[str]:
    """What feeds each unit, W (D, H), as pictures of the inputs' shape; all on one scale, white is 0.

    Of inputs with several channels the mean over them is shown.
    """
    planes = W.T[:MOST_UNITS].reshape(-1, *shape).mean(1)
    share = planes / (np.abs(planes).max() or 1.0)
    fade = 255 * (1 - np.abs(share))
    full = np.full_like(fade, 255)
    red, blue = np.where(share >= 0, full, fade), np.where(share <= 0, full, fade)
    return [picture(np.stack(channels)) for channels in zip(red, fade, blue, strict=True)]


def thinned(values: Sequence[Any]) -> list[Any]:
    """At most `MOST_POINTS` of them, evenly spaced."""
    return list(values[:: max(1, -(-len(values) // MOST_POINTS))])
