"""A LightningDataModule for data sets in memory."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor

from backhand.config.schema import CustomDataConfig, DataConfig, ImagesConfig, TableConfig, TeacherConfig
from backhand.data.batches import Batches, Place, class_targets
from backhand.data.custom import CustomData, load_custom
from backhand.data.dataset import Dataset, Rows, Split
from backhand.data.scikit_learn import load_scikit_learn
from backhand.data.teacher import load_teacher

# Rows of a validation or test batch: large, because no activations are saved for a backward pass.
EVALUATION_BATCH = 4096
# With data.device=auto, data are kept on the GPU if they take at most this share of its free memory.
RESIDENT_SHARE = 0.5


def load(
    settings: DataConfig,
    hidden_activation: str | Sequence[str] = "tanh",
    output_activation: str = "identity",
    write: bool = True,
) -> Dataset:
    """Load the configured data set.

    Args:
        settings: the configuration of the data set.
        hidden_activation: of a teacher network.
        output_activation: of a teacher network.
        write: whether missing files may be downloaded or unpacked.

    Raises:
        UserError: a file is missing, or its contents are wrong.
    """
    if isinstance(settings, TeacherConfig):
        return load_teacher(settings, hidden_activation, output_activation)
    if isinstance(settings, CustomDataConfig):
        return load_custom(settings)
    # pandas and torchvision are slow to import.
    if isinstance(settings, TableConfig):
        from backhand.data.table import load_table

        return load_table(settings)
    if isinstance(settings, ImagesConfig):
        from backhand.data.images import load_images

        return load_images(settings, write)
    return load_scikit_learn(settings)


class InMemoryData(LightningDataModule):
    """The data loaders of a data set in memory, with targets in the form that the loss takes.

    Args:
        dataset: the data set.
        settings: its configuration: batch size, augmentation, device.
        target: the kind of target of the loss: `classes` (B,), `values` (B, units), or `counts`, which are values that
            are not standardised.
        units: the number of network outputs, C.
        target_mean, target_std: the targets of a regression become `(y − target_mean) / target_std`.
        shuffle_seed: seed of the order of training batches; a list has one per run of a population.
        dtype: of the inputs, and of targets that are values.
        class_weight: one number, one number per class, or `balanced`; None for equal weights.

    Attributes:
        evaluation_batch: rows per validation or test batch.
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
        self.rows: dict[Split, Rows] = {name: self._convert(rows) for name, rows in dataset.rows.items()}

    def train_dataloader(self) -> Batches:
        """The training split, shuffled every epoch; with `overfit_batches` in the order of the first epoch."""
        rows = self.rows["train"]
        size = len(rows.x) if self.settings.batch_size == "full" else self.settings.batch_size
        augmentation = self.settings.augment if isinstance(self.settings, ImagesConfig) else "none"
        overfits = self.trainer is not None and self.trainer.overfit_batches > 0  # type: ignore[attr-defined]
        batches = Batches(
            rows,
            self.dataset,
            size,
            self.place(),
            self.shuffle_seed,
            augmentation,
            self._class_weights(),
            overfits,
        )
        if self._resumed is not None:
            batches.load_state_dict(self._resumed)
        self._training = batches
        return batches

    def state_dict(self) -> dict[str, int]:
        """The state of the training loader.

        Lightning 2.6 does not restore it if `estimated_stepping_batches` has made the loader early.
        """
        return {} if self._training is None else self._training.state_dict()

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Restore the position of the next training loader."""
        self._resumed = state_dict

    def val_dataloader(self) -> Batches:
        return self.evaluation_dataloader("val")

    def test_dataloader(self) -> Batches:
        return self.evaluation_dataloader("test")

    def predict_dataloader(self) -> Batches:
        """The test split, in the order of `ids`."""
        return self.evaluation_dataloader("test")

    def evaluation_dataloader(self, split: Split) -> Batches:
        """Any split without shuffling, in large batches."""
        size = self.evaluation_batch
        return Batches(self.rows[split], self.dataset, size, self.place(), class_weight=self._class_weights())

    def unsharded(self, split: Split, samples: int | None = None) -> Batches:
        """A split without shuffling, or its first samples; every process gets all of them."""
        rows = self.rows[split]
        weight = rows.weight if rows.weight is None else rows.weight[:samples]
        few = Rows(rows.ids[:samples], rows.x[:samples], rows.y[:samples], weight)
        return Batches(few, self.dataset, samples or EVALUATION_BATCH, replace(self.place(), rank=0, processes=1))

    def ids(self, split: Split, count: int) -> list[int]:
        """The row numbers in the source of the first samples of a split."""
        return self.rows[split].ids[:count].tolist()

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Return the batch as it is: `Batches` has moved it."""
        return batch

    def place(self) -> Place:
        """The device of the trainer's network, and whether all data are kept on it."""
        if self.trainer is None:
            return Place(dtype=self.dtype)
        device = self.trainer.strategy.root_device
        choice = self.settings.device
        resident = device.type == "cpu" or choice == "accelerator" or (choice == "auto" and self._fits(device))
        return Place(device, self.dtype, resident, self.trainer.global_rank, self.trainer.world_size)

    def balanced_weights(self) -> list[float]:
        """Per class, N / (classes × N of the class), counted on the training split."""
        counts = torch.bincount(self.dataset.rows["train"].y, minlength=len(self.dataset.class_names))
        return (counts.sum() / (len(counts) * counts)).tolist()

    def targets(self, y: Tensor) -> Tensor:
        """Convert targets to the form of the loss: class numbers (N,), or float64 values (N, C)."""
        if self.classes is None:
            return (y - self.target_mean) / self.target_std
        return class_targets(y, self.target, self.units)

    @property
    def class_weight(self) -> Any:
        """One number, one number per class, or None."""
        return self.balanced_weights() if self._class_weight == "balanced" else self._class_weight

    def _class_weights(self) -> Tensor | None:
        if self.trainer is None or self.trainer.world_size == 1 or self.classes is None or self._class_weight is None:
            return None
        return torch.as_tensor(self.class_weight, dtype=torch.float64).expand(self.classes)

    def _convert(self, rows: Rows) -> Rows:
        """Convert targets, and floating-point tensors to `dtype`; uint8 inputs are converted batch by batch."""
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
RunData = InMemoryData | CustomData
