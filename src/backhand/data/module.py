"""The data sets that scikit-learn ships, split, standardised and served as a LightningDataModule."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import sklearn.datasets
import torch
from lightning.pytorch import LightningDataModule
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch import Tensor
from torch.utils.data import DataLoader

from backhand.data.batches import Batch, TensorRows, loader
from backhand.data.catalogue import CATALOGUE

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")

# Rows of a validation or test batch: large, for there is nothing to remember for a backward pass.
EVALUATION_BATCH = 4096


@dataclass
class Part:
    """One split: the rows' numbers in the data set as it is shipped, inputs (N, D), and targets for the loss."""

    ids: Tensor
    x: Tensor
    y: Tensor


class InMemoryData(LightningDataModule):
    """A data set of the catalogue.

    Inputs are standardised with the training split's mean and standard deviation; so is a regression's target, which
    `target_mean` and `target_std` turn back into its own units.

    Args:
        name: a key of `CATALOGUE`.
        batch_size: rows a training step, or `full` for the whole training split.
        target: what the loss takes: `classes`, numbers (B,), or `values`, (B, units), or `counts`, values that are not
            standardised.
        units: C, the network's outputs: 1 for a number or a yes and no, else one a class.
        val_fraction: share of the samples to validate on.
        test_fraction: share of the samples to test on.
        split_seed: of the split, which is stratified by class.
        shuffle_seed: of the training batches' order.
        dtype: of the inputs, and of targets that are values.
    """

    def __init__(
        self,
        name: str,
        *,
        batch_size: int | Literal["full"] = 32,
        target: Literal["classes", "values", "counts"] = "classes",
        units: int = 1,
        val_fraction: float = 0.15,
        test_fraction: float = 0.15,
        split_seed: int = 0,
        shuffle_seed: int = 0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.dataset, self.batch_size, self.target, self.units = name, batch_size, target, units
        self.val_fraction, self.test_fraction = val_fraction, test_fraction
        self.split_seed, self.shuffle_seed, self.dtype = split_seed, shuffle_seed, dtype
        self.parts: dict[Split, Part] = {}
        self.class_names: list[str] = []
        self.target_mean, self.target_std = 0.0, 1.0
        self._load()

    def part(self, split: Split) -> Part:
        """One split's tensors."""
        return self.parts[split]

    def train_dataloader(self) -> DataLoader[Batch]:
        """Shuffled anew every epoch, as a function of (shuffle_seed, epoch)."""
        part = self.parts["train"]
        size = len(part.x) if self.batch_size == "full" else self.batch_size
        return loader(TensorRows(part.x, part.y), size, self.shuffle_seed)

    def val_dataloader(self) -> DataLoader[Batch]:
        """The validation split in its own order."""
        return self.evaluation_dataloader("val")

    def test_dataloader(self) -> DataLoader[Batch]:
        """The test split in its own order."""
        return self.evaluation_dataloader("test")

    def predict_dataloader(self) -> DataLoader[Batch]:
        """The test split, in the order of `part("test").ids`."""
        return self.evaluation_dataloader("test")

    def evaluation_dataloader(self, split: Split) -> DataLoader[Batch]:
        """Any split in its own order, in large batches."""
        part = self.parts[split]
        return loader(TensorRows(part.x, part.y), EVALUATION_BATCH, None)

    def balanced_weights(self) -> list[float]:
        """For each class, samples / (classes × samples of the class), counted on the training split."""
        counts = torch.bincount(self.parts["train"].y, minlength=len(self.class_names))
        return (counts.sum() / (len(counts) * counts)).tolist()

    def _load(self) -> None:
        facts = CATALOGUE[self.dataset]
        bunch = getattr(sklearn.datasets, facts.loader)()
        inputs, labels = np.asarray(bunch.data, dtype=np.float64), np.asarray(bunch.target)
        if facts.classes is not None:
            self.class_names = [str(name) for name in bunch.target_names]
        rows = split_rows(
            labels if facts.classes is not None else None,
            len(labels),
            self.val_fraction,
            self.test_fraction,
            self.split_seed,
        )
        scaler = StandardScaler().fit(inputs[rows["train"]])
        if facts.classes is None and self.target != "counts":
            self.target_mean = float(labels[rows["train"]].mean())
            self.target_std = float(labels[rows["train"]].std())
        for split in SPLITS:
            self.parts[split] = Part(
                ids=torch.from_numpy(rows[split]),
                x=torch.from_numpy(scaler.transform(inputs[rows[split]])).to(self.dtype),
                y=self._targets(labels[rows[split]]),
            )

    def _targets(self, labels: np.ndarray) -> Tensor:
        if CATALOGUE[self.dataset].classes is None:
            return torch.from_numpy((labels - self.target_mean) / self.target_std).to(self.dtype).unsqueeze(-1)
        classes = torch.from_numpy(labels).long()
        if self.target == "classes":
            return classes
        if self.units == 1:
            return classes.to(self.dtype).unsqueeze(-1)
        return torch.nn.functional.one_hot(classes, self.units).to(self.dtype)


def split_rows(
    classes: Sequence[int] | np.ndarray | None, rows: int, val_fraction: float, test_fraction: float, seed: int
) -> dict[Split, np.ndarray]:
    """Row numbers of each split, in random order; every class keeps its share where `classes` is given."""
    held_out = val_fraction + test_fraction
    everything = np.arange(rows)
    train, rest = train_test_split(everything, test_size=held_out, stratify=classes, random_state=seed)
    of_rest = None if classes is None else np.asarray(classes)[rest]
    val, test = train_test_split(rest, test_size=test_fraction / held_out, stratify=of_rest, random_state=seed)
    return {"train": train, "val": val, "test": test}
