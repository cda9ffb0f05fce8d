"""Batches from tensors in memory: one indexing operation each, in an order that depends on (seed, epoch) only."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from backhand.data.dataset import Dataset, Rows


class Batch(NamedTuple):
    """The data of one training step.

    With several processes each has a part of the global batch.

    Attributes:
        x: inputs (B, D), or (K, B, D) if each run of a population has its own; y and weight likewise.
        y: targets for the loss, (B,) or (B, C).
        weight: sample weights (B,); None if all are equal.
        share: factor for the loss of this process that makes the mean over processes the loss of the global batch; 1
            if the loss divides by the same number in each process.
        part: this process's fraction of the rows of the global batch; 0 if its only row belongs to another process.
        total: weight of the global batch in a mean over batches: its rows, or the sum of their weights; None for a
            single process.
    """

    x: Tensor
    y: Tensor
    weight: Tensor | None = None
    share: float = 1.0
    part: float = 1.0
    total: float | None = None


@dataclass(frozen=True)
class Place:
    """Where batches go, and which part of each belongs to this process.

    Attributes:
        device: the device of the network.
        dtype: of the inputs, weights, and targets that are not class numbers.
        resident: whether all data are kept on the device; otherwise each batch is copied from pinned memory, one step
            ahead.
        rank, processes: this process's rank, and the number of processes that share each batch.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dtype: torch.dtype = torch.float32
    resident: bool = True
    rank: int = 0
    processes: int = 1


def class_targets(y: Tensor, target: str, units: int) -> Tensor:
    """Convert class numbers (N,) to the targets of a loss.

    Args:
        y: the class numbers.
        target: the kind of target of the loss; `classes` needs no conversion.
        units: the number of network outputs, C.

    Returns:
        The class numbers themselves, or one-hot float64 values (N, units).
    """
    if target == "classes":
        return y
    return y.double().unsqueeze(-1) if units == 1 else torch.nn.functional.one_hot(y, units).double()


class Batches:
    """Iterate over a split in batches, with the dtype and on the device of the network.

    Order and augmentation depend on the seed and the epoch only. Therefore a resumed run sees the batches of the
    uninterrupted run, from the step in `load_state_dict` on, and processes need no communication. Lightning calls
    `set_epoch`, because `sampler` is this object.

    Args:
        rows: the samples of the split.
        data: the data set.
        batch_size: rows per step, over all processes.
        place: where the batches go.
        shuffle_seed: seed of the order; None for no shuffling. A list, one seed per run of a population, gives batches
            with a run axis.
        augmentation: a name of `AUGMENTATIONS`.
        class_weight: class weights (classes,) of a loss that divides by their sum.
        same_every_epoch: whether every epoch has the order of the first.
    """

    def __init__(
        self,
        rows: Rows,
        data: Dataset,
        batch_size: int,
        place: Place,
        shuffle_seed: int | Sequence[int] | None = None,
        augmentation: str = "none",
        class_weight: Tensor | None = None,
        same_every_epoch: bool = False,
    ) -> None:
        self.same_every_epoch = same_every_epoch
        self.rows, self.batch_size, self.place, self.class_weight = rows, batch_size, place, class_weight
        self.shuffle_seed, self.augmentation, self.image_shape = shuffle_seed, augmentation, data.info.image_shape
        self.mean, self.std = (each if each is None else each.to(place.device) for each in (data.mean, data.std))
        self.epoch = self.done = 0
        self.sampler = self.batch_sampler = self  # Lightning calls their set_epoch
        if place.resident:
            weight = rows.weight if rows.weight is None else rows.weight.to(place.device)
            self.rows = Rows(rows.ids, rows.x.to(place.device), rows.y.to(place.device), weight)

    def __len__(self) -> int:
        return -(-len(self.rows.x) // self.batch_size)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration; a new epoch starts at its first batch."""
        if epoch != self.epoch:
            self.epoch, self.done = epoch, 0

    def state_dict(self) -> dict[str, int]:
        """The epoch, and the number of its batches that have been yielded."""
        return {"done": self.done % len(self), "epoch": self.epoch}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Start the next iteration after the batches that `state_dict` counted."""
        self.done, self.epoch = state["done"], state.get("epoch", self.epoch)

    def __iter__(self) -> Iterator[Batch]:
        first, self.done = self.done % len(self), 0
        batches = self._batches_from(first)
        # The copy from pinned memory overlaps with the computation of the previous step.
        ahead = 0 if self.place.resident else 1
        waiting = list(islice(batches, ahead))
        for done in range(first + 1, len(self) + 1):
            self.done = done
            waiting += islice(batches, 1)
            yield waiting.pop(0)

    def _batches_from(self, first: int) -> Iterator[Batch]:
        """The batches of the epoch, starting with number `first`."""
        order = self.order()
        shares = self._shares(order) if self.place.processes > 1 else None
        for step in range(first, len(self)):
            rows: slice | Tensor = slice(step * self.batch_size, (step + 1) * self.batch_size)
            batch = self._batch(rows if order is None else order[..., rows], step)
            if shares is not None:
                batch = batch._replace(**shares[step])  # type: ignore[arg-type]
                if not batch.share:  # the weights of this process are all 0, and the mean would be 0/0
                    batch = batch._replace(weight=batch.x.new_zeros(batch.x.shape[:-1]))
            yield batch

    def order(self) -> Tensor | None:
        """The order of the rows in this epoch, (N,), or (K, N) for several seeds; None without shuffling."""
        if self.shuffle_seed is None:
            return None
        seeds = [self.shuffle_seed] if isinstance(self.shuffle_seed, int) else self.shuffle_seed
        orders = [torch.randperm(len(self.rows.x), generator=self._generator(seed, 0)) for seed in seeds]
        return (orders[0] if isinstance(self.shuffle_seed, int) else torch.stack(orders)).to(self.rows.x.device)

    def _batch(self, rows: slice | Tensor, step: int) -> Batch:
        all_rows, rows = rows, self._local_rows(rows)
        # A row's random numbers must not depend on the number of processes, so they are drawn for the global batch.
        x = _gather(self.rows.x, rows if self.augmentation == "none" else all_rows)
        y, weight = self.rows.y[rows], self.rows.weight
        weight = weight if weight is None else weight[rows]
        if not self.place.resident:
            x, y, weight = self._to_device(x), self._to_device(y), weight if weight is None else self._to_device(weight)
        dtype = self.place.dtype
        if self.augmentation != "none":
            from backhand.data.augmentation import augment

            assert self.image_shape is not None
            assert isinstance(self.shuffle_seed, int)
            generator = self._generator(self.shuffle_seed, step + 1)
            x = self._shard(augment(self.augmentation, x, self.image_shape, generator))
        if self.mean is not None and self.std is not None:
            x = x.float().sub_(self.mean).div_(self.std)
        return Batch(
            x.to(dtype),
            y.to(dtype) if y.is_floating_point() else y,
            weight if weight is None else weight.to(dtype),
        )

    def _local_rows(self, rows: slice | Tensor) -> slice | Tensor:
        if self.place.processes == 1:
            return rows
        all_rows = torch.arange(len(self.rows.x), device=self.rows.x.device)[rows] if isinstance(rows, slice) else rows
        return self._shard(all_rows)

    def _shard(self, batch: Tensor) -> Tensor:
        """The rows of this process; with fewer rows than processes, some get a row with weight 0."""
        if self.place.processes == 1:
            return batch
        mine = batch[self.place.rank :: self.place.processes]
        return mine if len(mine) else batch[:1]

    def _shares(self, order: Tensor | None) -> list[dict[str, float]]:
        """`share`, `part` and `total` of `Batch` for every batch of the epoch.

        They are computed for the whole epoch at once; batch by batch the CPU would wait for the GPU each time.
        """
        y, weight, (rank, processes) = self.rows.y, self.rows.weight, (self.place.rank, self.place.processes)
        rows = torch.ones(len(y), dtype=torch.float64, device=y.device)
        counts = rows if weight is None else weight.double()
        divisors = counts
        if self.class_weight is not None and not y.is_floating_point():
            divisors = counts * self.class_weight.to(y.device).double()[y]

        def sums(each: Tensor) -> tuple[Tensor, Tensor]:
            """Per batch, the sum over the rows of this process and over all rows."""
            each = each if order is None else each[order]
            batches = torch.nn.functional.pad(each, (0, len(self) * self.batch_size - len(each)))
            batches = batches.view(len(self), self.batch_size)
            return batches[:, rank::processes].sum(1), batches.sum(1)

        (part, size), (_, total), (mine, whole) = sums(rows), sums(counts), sums(divisors)
        # If all weights of a batch are 0, every process has the loss of a single process.
        share = torch.where(whole > 0, mine / whole * processes, 1.0)
        columns = (share.tolist(), (part / size).tolist(), total.tolist())
        return [dict(zip(("share", "part", "total"), each, strict=True)) for each in zip(*columns, strict=True)]

    def _to_device(self, t: Tensor) -> Tensor:
        return t.pin_memory().to(self.place.device, non_blocking=True) if self.place.device.type == "cuda" else t

    def _generator(self, seed: int, use: int) -> torch.Generator:
        """A generator for this epoch; `use` is 0 for the order, and the step + 1 for augmentation."""
        epoch = 0 if self.same_every_epoch else self.epoch
        key = [seed, epoch] if use == 0 else [seed, epoch, use]
        mixed = int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> np.uint64(1))
        return torch.Generator().manual_seed(mixed)


def _gather(x: Tensor, rows: slice | Tensor) -> Tensor:
    """`x[rows]`; with a run axis `index_select` takes a third of the time of indexing."""
    if isinstance(rows, slice) or rows.dim() == 1:
        return x[rows]
    return x.index_select(0, rows.reshape(-1)).view(*rows.shape, *x.shape[1:])
