"""A data set in memory, however it was made: what every loader in this folder returns."""

import functools
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from sklearn.model_selection import train_test_split
from torch import Tensor

from backhand.config.dataset_info import DatasetInfo
from backhand.errors import UserError

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")


@dataclass
class Rows:
    """One split.

    Attributes:
        ids: the rows' numbers (N,) in the data set as it is shipped, from 0.
        x: inputs (N, D): floating-point and standardised, or uint8, then `Dataset.mean` and `std` are for the batch.
        y: class numbers (N,), or float64 values (N, outputs) in their own units.
        weight: how much each sample counts (N,), float64; None for all the same.
    """

    ids: Tensor
    x: Tensor
    y: Tensor
    weight: Tensor | None = None


@dataclass
class Dataset:
    """A data set with its three splits.

    Attributes:
        rows: each split's.
        info: its shape.
        class_names: what the class numbers stand for; empty for a regression.
        mean: what a batch of uint8 inputs has subtracted, (D,) or (1,) of numbers between 0 and 255; None for others.
        std: what it is then divided by, of the same shape.
        centre, scale: of standardised inputs that were pixels, `x × scale + centre` is what they were, (D,) each.
        preprocessing: how a row of the source becomes an input, as plain numbers and names, where that was fitted.
        checksum: of the source's rows, where the inputs are computed from them.
        module: the user's own, which makes the batches; then there are no rows.
    """

    rows: dict[Split, Rows]
    info: DatasetInfo
    class_names: list[str]
    mean: Tensor | None = None
    std: Tensor | None = None
    centre: Tensor | None = None
    scale: Tensor | None = None
    preprocessing: dict[str, Any] | None = None
    checksum: int = 0
    module: LightningDataModule | None = None

    @functools.cached_property
    def digest(self) -> str:
        """Of the rows as they came: the targets, and inputs that are no computed numbers, which may differ by a bit."""
        found = self.checksum
        for rows in self.rows.values():
            parts = [rows.ids, rows.y, *([rows.x] if rows.x.dtype == torch.uint8 else [])]
            for part in parts:
                found = zlib.crc32(part.contiguous().numpy().tobytes(), found)
        return f"{found:08x}"


def split_rows(
    classes: Sequence[int] | np.ndarray | None, rows: int, val_fraction: float, test_fraction: float, seed: int
) -> dict[Split, np.ndarray]:
    """Row numbers of each split, in random order; every class keeps its share where `classes` is given.

    With `test_fraction` 0 there is no test split.

    Raises:
        UserError: there are too few rows, or too few of a class, for each split to have one.
    """
    held_out = val_fraction + test_fraction
    try:
        train, val = train_test_split(np.arange(rows), test_size=held_out, stratify=classes, random_state=seed)
        if test_fraction == 0:
            return {"train": train, "val": val}
        of_rest = None if classes is None else np.asarray(classes)[val]
        val, test = train_test_split(val, test_size=test_fraction / held_out, stratify=of_rest, random_state=seed)
    except ValueError:
        if classes is not None:
            raise UserError("data: every class must have rows for each split") from None
        fractions = f"data.val_fraction={val_fraction:g} and data.test_fraction={test_fraction:g}"
        raise UserError(f"data: {rows} rows are too few for each split to have one with {fractions}") from None
    return {"train": train, "val": val, "test": test}
