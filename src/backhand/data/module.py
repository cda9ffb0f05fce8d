"""A data set as a LightningDataModule: its targets as the loss takes them, its batches where the network is."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor

from backhand.config.schema import CustomDataConfig, DataConfig, PicturesConfig, TableConfig, TeacherConfig
from backhand.data.batches import Batches, Place, class_targets
from backhand.data.dataset import Dataset, Rows, Split
from backhand.data.own import OwnData, load_own
from backhand.data.shipped import load_shipped
from backhand.data.teacher import load_teacher

# Rows of a validation or test batch: large, for there is nothing to remember for a backward pass.
EVALUATION_BATCH = 4096
# How much of a GPU's free memory the data may take to be kept there.
RESIDENT_SHARE = 0.5


def load(
    settings: DataConfig,
    hidden_activation: str | Sequence[str] = "tanh",
    output_activation: str = "identity",
    write: bool = True,
) -> Dataset:
    """The configured data set; the activations are those that a teacher's network is to have.

    Unless `write`, files that are not there are not downloaded or unpacked.

    Raises:
        UserError: files that are not there, or have not in them what they must.
    """
    if isinstance(settings, TeacherConfig):
        return load_teacher(settings, hidden_activation, output_activation)
    if isinstance(settings, CustomDataConfig):
        return load_own(settings)
    # What pandas and torchvision take to import is spent only where they are needed.
    if isinstance(settings, TableConfig):
        from backhand.data.table import load_table

        return load_table(settings)
    if isinstance(settings, PicturesConfig):
        from backhand.data.pictures import load_pictures

        return load_pictures(settings, write)
    return load_shipped(settings)


class InMemoryData(LightningDataModule):
    """A data set for a loss.

    Args:
        dataset: the data set.
        settings: its configuration: batch size, augmentation, device.
        target: what the loss takes: `classes`, numbers (B,), or `values`, (B, units), or `counts`, values that are not
            standardised.
        units: C, the network's outputs: 1 for a number or a yes and no, else one a class.
        target_mean: what a regression's target has subtracted.
        target_std: what it is then divided by.
        shuffle_seed: of the training batches' order; one for each run of a population.
        dtype: of the inputs, and of targets that are values.
        class_weight: how much a sample of each class counts in the loss: a number for all, one for each class, or
            `balanced`; None for all the same.

    Attributes:
        evaluation_batch: rows of a validation or test batch.
    """

    def __init__(
        self,
        dataset: Dataset,
        settings: DataConfig,
        *,
        target: Literal["classes", "values", "counts"] = "classes",
        units: int = 1,
        target_mean: float = 0.0,
        target_std: float = 1.0,
        shuffle_seed: int | Sequence[int] = 0,
        dtype: torch.dtype = torch.float32,
        class_weight: Any = None,
    ) -> None:
        super().__init__()
        self.dataset, self.settings, self.shuffle_seed, self.dtype = dataset, settings, shuffle_seed, dtype
        self.target, self.units, self.classes = target, units, dataset.info.classes
        self.target_mean, self.target_std = target_mean, target_std
        self._class_weight = class_weight
        self.evaluation_batch = EVALUATION_BATCH
        self._training: Batches | None = None
        self._resumed: dict[str, int] | None = None
        self.rows: dict[Split, Rows] = {name: self._for_the_loss(rows) for name, rows in dataset.rows.items()}

    def train_dataloader(self) -> Batches:
        """Shuffled anew every epoch, as a function of (shuffle_seed, epoch); not where `overfit_batches` is set."""
        rows = self.rows["train"]
        size = len(rows.x) if self.settings.batch_size == "full" else self.settings.batch_size
        augmentation = self.settings.augment if isinstance(self.settings, PicturesConfig) else "none"
        overfits = self.trainer is not None and self.trainer.overfit_batches > 0  # type: ignore[attr-defined]
        batches = Batches(
            rows, self.dataset, size, self.place(), self.shuffle_seed, augmentation, self._by_class(), overfits
        )
        if self._resumed is not None:
            batches.load_state_dict(self._resumed)
        self._training = batches
        return batches

    def state_dict(self) -> dict[str, int]:
        """That of the training loader.

        Lightning (2.6) does not hand it back to a loader that `estimated_stepping_batches` made early.
        """
        return {} if self._training is None else self._training.state_dict()

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Begin the next training loader where `state_dict` says."""
        self._resumed = state_dict

    def val_dataloader(self) -> Batches:
        """The validation split in its own order."""
        return self.evaluation_dataloader("val")

    def test_dataloader(self) -> Batches:
        """The test split in its own order."""
        return self.evaluation_dataloader("test")

    def predict_dataloader(self) -> Batches:
        """The test split, in the order of its `ids`."""
        return self.evaluation_dataloader("test")

    def evaluation_dataloader(self, split: Split) -> Batches:
        """Any split in its own order, in large batches."""
        size = self.evaluation_batch
        return Batches(self.rows[split], self.dataset, size, self.place(), class_weight=self._by_class())

    def whole(self, split: Split, samples: int | None = None) -> Batches:
        """A split in its own order, or its first samples: all of them for this process, whatever the others do."""
        rows = self.rows[split]
        weight = rows.weight if rows.weight is None else rows.weight[:samples]
        few = Rows(rows.ids[:samples], rows.x[:samples], rows.y[:samples], weight)
        return Batches(few, self.dataset, samples or EVALUATION_BATCH, replace(self.place(), rank=0, processes=1))

    def ids(self, split: Split, count: int) -> list[int]:
        """The numbers of a split's first rows in the data set as it is shipped."""
        return self.rows[split].ids[:count].tolist()

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """The batches are there already."""
        return batch

    def place(self) -> Place:
        """Where the trainer's network is, and whether the data go there once or batch by batch."""
        if self.trainer is None:
            return Place(dtype=self.dtype)
        device = self.trainer.strategy.root_device
        choice = self.settings.device
        resident = device.type == "cpu" or choice == "accelerator" or (choice == "auto" and self._fits(device))
        return Place(device, self.dtype, resident, self.trainer.global_rank, self.trainer.world_size)

    def balanced_weights(self) -> list[float]:
        """For each class, samples / (classes × samples of the class), counted on the training split."""
        counts = torch.bincount(self.dataset.rows["train"].y, minlength=len(self.dataset.class_names))
        return (counts.sum() / (len(counts) * counts)).tolist()

    def targets(self, y: Tensor) -> Tensor:
        """A data set's targets as the loss takes them: class numbers (N,), or values (N, C) of float64."""
        if self.classes is None:
            return (y - self.target_mean) / self.target_std
        return class_targets(y, self.target, self.units)

    @property
    def class_weight(self) -> Any:
        """A number for all classes, one for each, or None."""
        return self.balanced_weights() if self._class_weight == "balanced" else self._class_weight

    def _by_class(self) -> Tensor | None:
        if self.trainer is None or self.trainer.world_size == 1 or self.classes is None or self._class_weight is None:
            return None
        return torch.as_tensor(self.class_weight, dtype=torch.float64).expand(self.classes)

    def _for_the_loss(self, rows: Rows) -> Rows:
        """The rows with their numbers in `dtype`, pictures excepted, which become numbers batch by batch."""
        x, y, weight = (
            t.to(self.dtype) if t is not None and t.is_floating_point() else t
            for t in (rows.x, self.targets(rows.y), rows.weight)
        )
        assert x is not None
        assert y is not None
        return Rows(rows.ids, x, y, weight)

    def _fits(self, device: torch.device) -> bool:
        if device.type != "cuda":
            return True
        size = sum(t.nbytes for rows in self.rows.values() for t in (rows.x, rows.y))
        return size <= RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]


# What a run trains on.
RunData = InMemoryData | OwnData
