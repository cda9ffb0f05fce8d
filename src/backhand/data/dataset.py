"""The data set in memory that every loader of this package returns, and its split."""

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
    """The samples of one split.

    Attributes:
        ids: row numbers (N,) in the source, from 0.
        x: inputs (N, D): standardised floating-point, or uint8 to be standardised with `Dataset.mean` and `std`.
        y: class numbers (N,), or float64 values (N, outputs) in their original units.
        weight: sample weights (N,), float64; None if all are equal.
    """

    ids: Tensor
    x: Tensor
    y: Tensor
    weight: Tensor | None = None


@dataclass
class Dataset:
    """A data set with its three splits.

    Attributes:
        rows: the samples by split.
        info: the shape of the data set.
        class_names: class names in the order of the class numbers; empty for a regression.
        mean, std: for uint8 inputs, (D,) or (1,): a batch becomes `(x − mean) / std`; None for other inputs.
        centre, scale: for standardised images, (D,) each: the pixels were `x × scale + centre`.
        preprocessing: the fitted preprocessing of a table, as plain numbers and names.
        checksum: of the table's rows, from which the inputs are computed.
        module: the user's LightningDataModule, which makes the batches; then `rows` is empty.
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
        """Checksum of ids, targets and uint8 inputs; computed inputs may differ by rounding between machines."""
        found = self.checksum
        for rows in self.rows.values():
            parts = [rows.ids, rows.y, *([rows.x] if rows.x.dtype == torch.uint8 else [])]
            for part in parts:
                found = zlib.crc32(part.contiguous().numpy().tobytes(), found)
        return f"{found:08x}"


def split_rows(
    classes: Sequence[int] | np.ndarray | None, rows: int, val_fraction: float, test_fraction: float, seed: int
) -> dict[Split, np.ndarray]:
    """Split row numbers at random; stratified if `classes` is given, without a test split if `test_fraction` is 0.

    Raises:
        UserError: there are too few rows, or too few of a class, for every split to get one.
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
            raise UserError("data: every class needs a row in every split") from None
        fractions = f"data.val_fraction={val_fraction:g} and data.test_fraction={test_fraction:g}"
        raise UserError(f"data: {rows} rows are too few for every split to get one with {fractions}") from None
    return {"train": train, "val": val, "test": test}
