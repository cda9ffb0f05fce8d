"""The results of a run beyond its metrics: findings.json, the source of its W&B content and its report."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from PIL import Image
from pydantic import AfterValidator, BaseModel, Field, ValidationInfo, field_validator
from typing_extensions import TypedDict

from backhand.config.files import atomic_write

FINDINGS = "findings.json"
WORST = 50
MOST_POINTS = 2000
MOST_UNITS = 64
MOST_PICTURE_LETTERS = 200_000
SIDE = 56  # smaller pictures are enlarged by a whole factor to at least this many pixels


def _checked_png(encoded: Any) -> str:
    """Decode and encode a PNG in base64, so that the result contains nothing else."""
    if not isinstance(encoded, str) or len(encoded) > MOST_PICTURE_LETTERS:
        raise ValueError("not a picture, or too large")
    data = base64.b64decode(encoded, validate=True)
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        raise ValueError("not a PNG")
    return base64.b64encode(data).decode()


Png = Annotated[str, AfterValidator(_checked_png)]
Number = Annotated[float, Field(strict=True)]  # not finite: null in JSON
Numbers = Annotated[list[Number | None], Field(fail_fast=True)]
Counts = Annotated[list[Annotated[int, Field(strict=True, ge=0, lt=1 << 53)]], Field(fail_fast=True)]


class WorstSample(TypedDict):
    """A sample with a large loss; `probability` is that of its true class."""

    id: Any
    target: Any
    prediction: Any
    loss: Number | None
    probability: Number | None
    picture: Annotated[Any, AfterValidator(lambda png: None if png is None else _checked_png(png))]


class ErrorAnalysis(BaseModel):
    """The results of the best checkpoint on the test split; empty without a test split.

    Attributes:
        classes: their names; None for a regression.
        confusion: counts by true class (row) and predicted class (column); None for a regression.
        scatter: for a regression, `target` and `prediction` in the target's units, at most `MOST_POINTS` samples.
        worst: the worst predictions, at most `WORST`: misclassified samples first, then ordered by loss.
        weights: for picture data, the weights into each unit of the first hidden layer, at most `MOST_UNITS`: positive
            weights are red, negative ones blue.

    Pictures are PNG files in base64.
    """

    classes: list[str] | None = None
    confusion: Annotated[list[Counts], Field(fail_fast=True)] | None = None
    scatter: dict[str, Numbers] | None = None
    worst: list[WorstSample] = []
    weights: list[Png] | None = None

    @field_validator("worst", "weights", mode="before")
    @classmethod
    def _first(cls, entries: Any) -> Any:
        return entries[: max(WORST, MOST_UNITS)] if isinstance(entries, list) else entries

    @field_validator("confusion")
    @classmethod
    def _square(cls, counts: list[list[int]] | None, info: ValidationInfo) -> list[list[int]] | None:
        names = info.data.get("classes") or []
        if counts is not None and [len(row) for row in counts] != [len(names)] * len(names):
            raise ValueError("must have one row and one column per class")
        return counts

    @field_validator("scatter")
    @classmethod
    def _paired(cls, scatter: dict[str, Any] | None) -> dict[str, Any] | None:
        if scatter is not None and (
            scatter.keys() != {"target", "prediction"} or len(scatter["target"]) != len(scatter["prediction"])
        ):
            raise ValueError("must have one prediction per target")
        return scatter

    def write(self, folder: Path) -> None:
        """Write `folder/findings.json`."""
        atomic_write(folder / FINDINGS, self.model_dump_json() + "\n")


def picture(pixels: np.ndarray) -> str:
    """Encode pixels (channels, height, width), 0 to 255, as a PNG in base64."""
    rows = np.moveaxis(pixels.clip(0, 255).astype(np.uint8), 0, -1)
    image = Image.fromarray(rows[..., 0] if rows.shape[-1] == 1 else rows)
    larger = max(1, -(-SIDE // max(image.size)))
    image = image.resize((image.width * larger, image.height * larger), Image.Resampling.NEAREST)
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def image(png: str) -> Image.Image:
    """Decode a picture from `picture`."""
    return Image.open(io.BytesIO(base64.b64decode(png)))


def weight_pictures(W: np.ndarray, shape: tuple[int, int, int]) -> list[str]:
    """The weights W (D, H) into each unit as pictures of the inputs' shape, on one scale with white for 0.

    Channels are averaged.
    """
    planes = W.T[:MOST_UNITS].reshape(-1, *shape).mean(1)
    share = planes / (np.abs(planes).max() or 1.0)
    fade = 255 * (1 - np.abs(share))
    full = np.full_like(fade, 255)
    red, blue = np.where(share >= 0, full, fade), np.where(share <= 0, full, fade)
    return [picture(np.stack(channels)) for channels in zip(red, fade, blue, strict=True)]


def thinned(values: Sequence[Any]) -> list[Any]:
    """At most `MOST_POINTS` of the values, evenly spaced."""
    return list(values[:: max(1, -(-len(values) // MOST_POINTS))])
