"""`data=custom`: the user's torch Dataset, read into memory, or the user's LightningDataModule with its own loaders."""

import logging
from collections.abc import Iterator, Sequence, Sized
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities.model_helpers import is_overridden
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, default_collate
from torch.utils.data import Dataset as TorchDataset

from backhand.calculus.losses import LOSSES
from backhand.config.dataset_info import DatasetInfo
from backhand.config.imports import accepts, create, import_class
from backhand.config.schema import CustomDataConfig, TrainConfig
from backhand.config.validation import check_interval, extra_keys, known_info, output_units
from backhand.data.batches import Batch, Place, class_targets
from backhand.data.dataset import Dataset, Rows, Split, split_rows
from backhand.errors import UserError

log = logging.getLogger(__name__)

# Keys of `data` that are passed to the user's class if it has an argument of that name.
SHARED_KEYS = ("batch_size", "features", "classes", "outputs", "val_fraction", "test_fraction", "split_seed")
# Items of a Dataset that are collated at a time; they are in memory twice meanwhile.
READ_BATCH = 1024
# x, y and weight (or None) of a batch.
Tensors = tuple[Tensor, Tensor, Tensor | None]
# The stage that `setup` is called with, outside a trainer, before the loader of a split is made.
STAGES: dict[Split, str] = {"train": "fit", "val": "fit", "test": "test"}
# Targets that are whole numbers from 0 with up to this many different values may be class numbers.
MAX_CLASSES = 20


def data_class(settings: CustomDataConfig) -> Any:
    """Import the class that `data._target_` names.

    Raises:
        UserError: there is no such class, or it is neither a Dataset nor a LightningDataModule.
    """
    return import_class({"_target_": settings._target_}, "data", LightningDataModule, TorchDataset)


def load_custom(settings: CustomDataConfig) -> Dataset:
    """Create the class that `data._target_` names; read a Dataset into memory, and keep a LightningDataModule.

    Raises:
        UserError: there is no such class, it cannot be created, or its items do not match the settings.
    """
    kind = data_class(settings)
    given = {key: getattr(settings, key) for key in SHARED_KEYS if accepts(kind, key)}
    data = create(given | extra_keys(settings, CustomDataConfig), "data", kind)
    info = known_info(settings)
    assert info is not None
    names = [str(number) for number in range(settings.classes or 0)]
    if isinstance(data, LightningDataModule):
        return Dataset({}, info, names, module=data)
    return _read(data, settings, info, names)


def check_batch(batch: Any, info: DatasetInfo, where: str, check_values: bool = True) -> Tensors:
    """Check a batch of the user's DataLoader and bring it into standard shape.

    Args:
        batch: `(x, y)` or `(x, y, weight)`; x and y of any shape that has B first.
        info: the shape that the data set must have.
        where: the user's class, for messages.
        check_values: whether to check values as well as shapes; the CPU then waits for a GPU.

    Returns:
        x (B, D), y as class numbers (B,) or values (B, outputs), and weights (B,) or None.

    Raises:
        UserError: the batch has another type, shape or value.
    """
    if not (isinstance(batch, list | tuple) and len(batch) in (2, 3) and all(isinstance(t, Tensor) for t in batch)):
        kinds = [type(each).__name__ for each in batch] if isinstance(batch, list | tuple) else type(batch).__name__
        raise UserError(f"{where}: a batch must be (x, y) or (x, y, weight), all tensors; it is {kinds}")
    if len({t.shape[:1] for t in batch}) > 1 or batch[0].dim() == 0:
        shapes = ", ".join(str(tuple(t.shape)) for t in batch)
        raise UserError(f"{where}: x, y and the weights must have one row per sample; a batch has the shapes {shapes}")
    x, y, weight = _matrix(batch[0]), batch[1], batch[2].flatten() if len(batch) == 3 else None
    if x.shape[1] != info.features:
        raise UserError(f"{where}: a sample has {x.shape[1]} numbers, not data.features={info.features}")
    if weight is not None:
        if len(weight) != len(x):
            raise UserError(f"{where}: there must be one weight per sample; a batch has {tuple(batch[2].shape)}")
        if check_values and not bool(((weight >= 0) & weight.isfinite()).all()):
            raise UserError(f"{where}: the weights must be 0 or more; one is {float(weight.min())}")
    if info.classes is None:
        y = _matrix(y)
        if y.shape[1] != info.outputs:
            raise UserError(f"{where}: a sample's y has {y.shape[1]} numbers, not data.outputs={info.outputs}")
        return x, y, weight
    allowed = f"with data.classes={info.classes} y must be one number from 0 to {info.classes - 1} per sample"
    if y.is_floating_point() or y.is_complex() or y.numel() != len(x):
        raise UserError(f"{where}: {allowed}; a batch has {str(y.dtype).removeprefix('torch.')} {tuple(y.shape)}")
    y = y.flatten().long()
    if check_values and len(y):
        low, high = (int(end) for end in y.aminmax())
        if low < 0 or high >= info.classes:
            raise UserError(f"{where}: {allowed}; one is {low if low < 0 else high}")
    return x, y, weight


def warn_of_class_numbers(y: Tensor, loss: str, where: str) -> None:
    """Log a warning if the targets (N, outputs) of a regression may be class numbers.

    Args:
        y: the targets.
        loss: a key of `LOSSES`; for the targets of a loss for counts there is no warning.
        where: the user's class, for the message.
    """
    if LOSSES[loss].target == "counts" or y.shape[1:] != (1,) or not bool(((y >= 0) & (y == y.round())).all()):
        return
    if 1 < len(values := y.unique()) <= MAX_CLASSES and int(values[-1]) < MAX_CLASSES:
        found = f"its targets are whole numbers, {int(values[0])} to {int(values[-1])}"
        log.warning("%s: %s; this is a regression, for classes set data.classes to their number", where, found)


def _concatenate(parts: Sequence[Tensors]) -> Tensors:
    """Join batches; the result has weights only if each of them has."""
    x, y, weights = zip(*parts, strict=True)
    given = [weight for weight in weights if weight is not None]
    return torch.cat(x), torch.cat(y), torch.cat(given) if len(given) == len(parts) else None


def _matrix(t: Tensor) -> Tensor:
    """Reshape (B, …) to (B, n)."""
    return t.flatten(1) if t.dim() > 1 else t.unsqueeze(1)


def _read(items: Any, settings: CustomDataConfig, info: DatasetInfo, names: list[str]) -> Dataset:
    """Read the items of a Dataset into memory as they are, and split them."""
    where = f"data._target_={settings._target_}"
    if isinstance(items, IterableDataset) or not isinstance(items, Sized):
        raise UserError(f"{where}: a Dataset must have a length and an index; use a LightningDataModule for others")

    def collate(samples: list[Any]) -> Any:
        try:
            return default_collate(samples)
        except (TypeError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"{where}: all items must be tensors, arrays or numbers of one shape ({reason})") from None

    # With its own generator it does not change the random numbers of the run.
    loader = DataLoader(items, READ_BATCH, collate_fn=collate, generator=torch.Generator())  # type: ignore[arg-type,var-annotated]
    batches = [check_batch(batch, info, where) for batch in loader]
    if not batches:
        raise UserError(f"{where}: has no items")
    x, y, weight = _concatenate(batches)
    if x.dtype != torch.uint8 and not x.is_floating_point():
        x = x.double()
    if info.classes is None:
        y = y.double()
    elif len(absent := (torch.bincount(y, minlength=info.classes) == 0).nonzero()):
        raise UserError(f"{where}: no item is of class {int(absent[0])}, with data.classes={info.classes}")
    classes = None if info.classes is None else y.numpy()
    split = split_rows(classes, len(x), settings.val_fraction, settings.test_fraction, settings.split_seed)
    if weight is not None and not weight[split["train"]].any():
        raise UserError(f"{where}: every weight of the training split is 0")
    rows: dict[Split, Rows] = {
        name: Rows(torch.from_numpy(ids), x[ids], y[ids], None if weight is None else weight[ids])
        for name, ids in split.items()
    }
    return Dataset(rows, replace(info, samples=len(x)), names)


class CustomData(LightningDataModule):
    """Wrap the user's LightningDataModule; it has the interface of `InMemoryData`.

    All hooks call the user's. After the last one a batch is converted to a `Batch`; values are not standardised.

    Args:
        dataset: the data set, with the user's module.
        config: the configuration of the run.
        dtype: of the inputs, and of targets that are values.

    Attributes:
        module: the user's module.
        stage: the stage that the trainer has set up; None outside a trainer.

    Raises:
        UserError: the configuration needs something that the module does not have.
    """

    target_mean, target_std = 0.0, 1.0

    def __init__(self, dataset: Dataset, config: TrainConfig, dtype: torch.dtype) -> None:
        assert dataset.module is not None
        assert isinstance(config.data, CustomDataConfig)
        self.module = dataset.module
        super().__init__()
        self.prepare_data_per_node = self.module.prepare_data_per_node
        self.allow_zero_length_dataloader_with_multiple_devices = (
            self.module.allow_zero_length_dataloader_with_multiple_devices
        )
        self.dataset, self.config, self.dtype, self.classes = dataset, config, dtype, dataset.info.classes
        self.where = f"data._target_={config.data._target_}"
        self.target, self.units = LOSSES[config.model.loss].target, output_units(config, dataset.info)
        self.class_weight = config.model.class_weight
        self.stage: str | None = None
        self._values_checked = False
        if self.class_weight == "balanced":
            raise UserError(f"model.class_weight=balanced: not with {self.where}; give one number per class")
        if not is_overridden("train_dataloader", self.module):
            raise UserError(f"{self.where}: needs a train_dataloader")
        if not is_overridden("val_dataloader", self.module):
            self._refuse_validation()

    @property
    def trainer(self) -> Any:
        return self.module.trainer

    @trainer.setter
    def trainer(self, trainer: Any) -> None:
        self.module.trainer = trainer

    def prepare_data(self) -> None:
        self.module.prepare_data()

    def setup(self, stage: str) -> None:
        self.module.setup(stage)
        self.stage = stage

    def teardown(self, stage: str) -> None:
        self.stage = None
        self.module.teardown(stage)

    def state_dict(self) -> dict[str, Any]:
        return self.module.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.module.load_state_dict(state_dict)

    def on_exception(self, exception: BaseException) -> None:
        self.module.on_exception(exception)

    def train_dataloader(self) -> Any:
        """The user's training loader.

        Raises:
            UserError: it has no batches, or too few for `trainer.val_check_interval`.
        """
        loader = self._loader("train")
        if loader is None:
            raise UserError(f"{self.where}: its train_dataloader has no batches")
        if (batches := _length(loader)) is not None:
            check_interval(self.config.trainer, batches)
        return loader

    def val_dataloader(self) -> Any:
        """The user's validation loader, or [] if there is none and no metric needs it."""
        loader = self._loader("val")
        if loader is None:
            self._refuse_validation()
        return [] if loader is None else loader

    def test_dataloader(self) -> Any:
        """The user's test loader, or []."""
        loader = self._loader("test")
        return [] if loader is None else loader

    def evaluation_dataloader(self, split: Split) -> "CustomBatches":
        """The batches of any split, in the order of its loader."""
        return CustomBatches(self, split)

    def unsharded(self, split: Split, samples: int | None = None) -> "CustomBatches | list[Batch]":
        """All batches of a split, or its first samples as one batch; every process gets all of them.

        The random numbers of the run do not change.
        """
        batches = CustomBatches(self, split)
        if samples is None:
            return batches
        parts: list[Tensors] = []
        with isolate_rng():
            for x, y, weight, *_ in batches:
                parts.append((x, y, weight))
                if sum(len(part[0]) for part in parts) >= samples:
                    break
        if not parts:
            raise UserError(f"{self.where}: its {split}_dataloader has no batches")
        x, y, weight = _concatenate(parts)
        return [Batch(x[:samples], y[:samples], weight if weight is None else weight[:samples])]

    def ids(self, split: Split, count: int) -> list[int]:
        """The first positions in the order of the loader."""
        return list(range(count))

    def place(self) -> Place:
        """The device of the trainer's network."""
        return Place(dtype=self.dtype) if self.trainer is None else Place(self.trainer.strategy.root_device, self.dtype)

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return self.module.on_before_batch_transfer(batch, dataloader_idx)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        return self.module.transfer_batch_to_device(batch, device, dataloader_idx)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Batch:
        """Convert the result of the user's hook to the form that the network and its loss take."""
        batch = self.module.on_after_batch_transfer(batch, dataloader_idx)
        first = batch[0] if isinstance(batch, list | tuple) and batch else None
        # On a GPU only the values of the first batch are checked: the CPU would wait for each.
        check_values = not self._values_checked or (isinstance(first, Tensor) and first.device.type == "cpu")
        x, y, weight = check_batch(batch, self.dataset.info, self.where, check_values)
        if check_values and self.target == "counts" and bool((y < 0).any()):
            raise UserError(f"model.loss={self.config.model.loss}: is for counts, and {self.where} has negative ones")
        if not self._values_checked and self.classes is None and self.trainer is not None:
            warn_of_class_numbers(y, self.config.model.loss, self.where)
        self._values_checked = True
        y = y if self.classes is None else class_targets(y, self.target, self.units)
        if self.classes is None or y.is_floating_point():
            y = y.to(self.dtype)
        # A compiled step expects the memory layout of its first batch.
        return Batch(x.to(self.dtype).contiguous(), y.contiguous(), None if weight is None else weight.to(self.dtype))

    @contextmanager
    def set_up(self, split: Split) -> Iterator[Any]:
        """Yield the loader of a split, or None; set the module up for it if no trainer has."""
        if self.stage is not None:
            yield self._loader(split)
            return
        self.module.prepare_data()
        self.module.setup(STAGES[split])
        try:
            yield self._loader(split)
        finally:
            self.module.teardown(STAGES[split])

    def _loader(self, split: Split) -> Any:
        """The loader of a split; None if there is none, or if it has no batches."""
        name = f"{split}_dataloader"
        found = getattr(self.module, name)() if is_overridden(name, self.module) else None
        if isinstance(found, list | tuple):
            if len(found) > 1:
                raise UserError(f"{self.where}: its {name} returns {len(found)} loaders; must be one")
            found = found[0] if found else None
        return None if found is None or _length(found) == 0 else found

    def _refuse_validation(self) -> None:
        if self.config.objective.startswith("val/"):
            raise UserError(f"objective={self.config.objective}: {self.where} has no val_dataloader; choose train/loss")


class CustomBatches:
    """Iterate over the batches of a split outside a trainer; each iteration makes a new loader.

    Args:
        data: the data module.
        split: the split.
    """

    def __init__(self, data: CustomData, split: Split) -> None:
        self.data, self.split = data, split

    def __iter__(self) -> Iterator[Batch]:
        data, device = self.data, self.data.place().device
        with data.set_up(self.split) as loader:
            for batch in () if loader is None else loader:
                batch = data.transfer_batch_to_device(data.on_before_batch_transfer(batch, 0), device, 0)
                yield data.on_after_batch_transfer(batch, 0)


def _length(loader: Any) -> int | None:
    """The number of batches; None if the loader does not know."""
    try:
        return len(loader)
    except (TypeError, NotImplementedError):
        return None
