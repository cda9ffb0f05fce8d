"""Batches out of tensors in memory: one indexing operation each, in an order that (seed, epoch) decides."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from backhand.data.dataset import Dataset, Rows


class Batch(NamedTuple):
    """What one step is made of.

    Attributes:
        x: inputs (B, D), or (K, B, D) where each run of a population has its own; y and weight alike.
        y: targets for the loss, (B,) or (B, C).
        weight: how much each sample counts (B,); None for all the same.
        share: what this process's loss is multiplied by, so that the mean over the processes is that of the batch that
            they share: 1 where each has the same part of what that loss divides by.
        part: which part of the rows of the batch that they share these are; 0 for a row that another process counts.
        total: what the batch that they share counts in a mean over batches, its rows or the sum of their weights; None
            where there is one process.
    """

    x: Tensor
    y: Tensor
    weight: Tensor | None = None
    share: float = 1.0
    part: float = 1.0
    total: float | None = None


@dataclass(frozen=True)
class Place:
    """Where batches are wanted.

    Attributes:
        device: of the network.
        dtype: of the inputs, and of targets and weights that are not class numbers.
        resident: whether the data lie there; else each batch is sent from pinned memory, one step ahead.
        rank, processes: which part of each batch is this process's.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dtype: torch.dtype = torch.float32
    resident: bool = True
    rank: int = 0
    processes: int = 1


def class_targets(y: Tensor, target: str, units: int) -> Tensor:
    """Class numbers (N,) as a loss takes them.

    Args:
        y: the numbers.
        target: the loss's: `classes`, or another.
        units: the network's outputs.

    Returns:
        The numbers themselves; else float64 values (N, units), 0 or 1.
    """
    if target == "classes":
        return y
    return y.double().unsqueeze(-1) if units == 1 else torch.nn.functional.one_hot(y, units).double()


class Batches:
    """The rows of a split, batch by batch, already in the form and at the place that the step wants them.

    The order of the rows is a function of the seed and the epoch alone, and so are the augmentations: a resumed run
    sees the batches that the uninterrupted one would have seen, from the step on that `load_state_dict` names, and
    processes that share a batch agree on it without a word. Lightning calls `set_epoch`, on what it takes for a
    sampler.

    Args:
        rows: the split.
        data: the data set that it belongs to.
        batch_size: rows a step, over all processes.
        place: where the batches are wanted.
        shuffle_seed: of the order; the rows' own order if None. Several, one for each run of a population, give batches
            with a run axis.
        augmentation: a name of `AUGMENTATIONS`.
        class_weight: how much a sample of each class counts in the loss (classes,), which divides by the sum.
        same_every_epoch: whether each epoch has the order of the first.
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
        self.shuffle_seed, self.augmentation, self.picture = shuffle_seed, augmentation, data.info.picture
        self.mean, self.std = (each if each is None else each.to(place.device) for each in (data.mean, data.std))
        self.epoch = self.done = 0
        self.sampler = self.batch_sampler = self  # where Lightning looks for somebody to tell the epoch
        if place.resident:
            weight = rows.weight if rows.weight is None else rows.weight.to(place.device)
            self.rows = Rows(rows.ids, rows.x.to(place.device), rows.y.to(place.device), weight)

    def __len__(self) -> int:
        return -(-len(self.rows.x) // self.batch_size)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration is for; another one is begun at its beginning."""
        if epoch != self.epoch:
            self.epoch, self.done = epoch, 0

    def state_dict(self) -> dict[str, int]:
        """How many batches of which epoch have been handed out."""
        return {"done": self.done % len(self), "epoch": self.epoch}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Begin the next iteration behind the batches that `state_dict` counted."""
        self.done, self.epoch = state["done"], state.get("epoch", self.epoch)

    def __iter__(self) -> Iterator[Batch]:
        first, self.done = self.done % len(self), 0
        batches = self._beginning_at(first)
        # A batch that is sent from pinned memory is on its way while the step before it is computed.
        ahead = 0 if self.place.resident else 1
        waiting = list(islice(batches, ahead))
        for done in range(first + 1, len(self) + 1):
            self.done = done
            waiting += islice(batches, 1)
            yield waiting.pop(0)

    def _beginning_at(self, first: int) -> Iterator[Batch]:
        """The epoch's batches from that one on."""
        order = self.order()
        shares = self._shares(order) if self.place.processes > 1 else None
        for step in range(first, len(self)):
            rows: slice | Tensor = slice(step * self.batch_size, (step + 1) * self.batch_size)
            batch = self._batch(rows if order is None else order[..., rows], step)
            if shares is not None:
                batch = batch._replace(**shares[step])  # type: ignore[arg-type]
                if not batch.share:  # no row of this process counts, and their mean would be 0/0
                    batch = batch._replace(weight=batch.x.new_zeros(batch.x.shape[:-1]))
            yield batch

    def order(self) -> Tensor | None:
        """The epoch's order of the rows (N,), or (K, N) of each run's; None for their own."""
        if self.shuffle_seed is None:
            return None
        seeds = [self.shuffle_seed] if isinstance(self.shuffle_seed, int) else self.shuffle_seed
        orders = [torch.randperm(len(self.rows.x), generator=self._generator(seed, 0)) for seed in seeds]
        return (orders[0] if isinstance(self.shuffle_seed, int) else torch.stack(orders)).to(self.rows.x.device)

    def _batch(self, rows: slice | Tensor, step: int) -> Batch:
        whole, rows = rows, self._part(rows)
        # The random numbers are drawn for the whole batch, so that a row's do not hang on how many processes there are.
        x = _taken(self.rows.x, rows if self.augmentation == "none" else whole)
        y, weight = self.rows.y[rows], self.rows.weight
        weight = weight if weight is None else weight[rows]
        if not self.place.resident:
            x, y, weight = self._sent(x), self._sent(y), weight if weight is None else self._sent(weight)
        dtype = self.place.dtype
        if self.augmentation != "none":
            from backhand.data.augmentation import augment

            assert self.picture is not None
            assert isinstance(self.shuffle_seed, int)
            x = self._own(augment(self.augmentation, x, self.picture, self._generator(self.shuffle_seed, step + 1)))
        if self.mean is not None and self.std is not None:
            x = x.float().sub_(self.mean).div_(self.std)
        return Batch(
            x.to(dtype),
            y.to(dtype) if y.is_floating_point() else y,
            weight if weight is None else weight.to(dtype),
        )

    def _part(self, rows: slice | Tensor) -> slice | Tensor:
        if self.place.processes == 1:
            return rows
        whole = torch.arange(len(self.rows.x), device=self.rows.x.device)[rows] if isinstance(rows, slice) else rows
        return self._own(whole)

    def _own(self, whole: Tensor) -> Tensor:
        """What is this process's of a batch; where there are fewer rows than processes, some have one that counts 0."""
        if self.place.processes == 1:
            return whole
        mine = whole[self.place.rank :: self.place.processes]
        return mine if len(mine) else whole[:1]

    def _shares(self, order: Tensor | None) -> list[dict[str, float]]:
        """For each batch of the epoch, what this process has of it: `share`, `part` and `total` of `Batch`.

        Of the whole epoch at once, for a look at each batch would make a GPU wait.
        """
        y, weight, (rank, processes) = self.rows.y, self.rows.weight, (self.place.rank, self.place.processes)
        rows = torch.ones(len(y), dtype=torch.float64, device=y.device)
        counts = rows if weight is None else weight.double()
        divisors = counts
        if self.class_weight is not None and not y.is_floating_point():
            divisors = counts * self.class_weight.to(y.device).double()[y]

        def sums(each: Tensor) -> tuple[Tensor, Tensor]:
            """Of this process's rows and of all, batch by batch."""
            each = each if order is None else each[order]
            batches = torch.nn.functional.pad(each, (0, len(self) * self.batch_size - len(each)))
            batches = batches.view(len(self), self.batch_size)
            return batches[:, rank::processes].sum(1), batches.sum(1)

        (part, size), (_, total), (mine, whole) = sums(rows), sums(counts), sums(divisors)
        # Where nothing of a batch counts, every process has the loss that a single one would have.
        share = torch.where(whole > 0, mine / whole * processes, 1.0)
        columns = (share.tolist(), (part / size).tolist(), total.tolist())
        return [dict(zip(("share", "part", "total"), each, strict=True)) for each in zip(*columns, strict=True)]

    def _sent(self, t: Tensor) -> Tensor:
        return t.pin_memory().to(self.place.device, non_blocking=True) if self.place.device.type == "cuda" else t

    def _generator(self, seed: int, use: int) -> torch.Generator:
        """Random numbers of this epoch: 0 for the order, and one more for each step's augmentation."""
        epoch = 0 if self.same_every_epoch else self.epoch
        key = [seed, epoch] if use == 0 else [seed, epoch, use]
        mixed = int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> np.uint64(1))
        return torch.Generator().manual_seed(mixed)


def _taken(x: Tensor, rows: slice | Tensor) -> Tensor:
    """`x[rows]`; for several runs at once `index_select` takes a third of the time."""
    if isinstance(rows, slice) or rows.dim() == 1:
        return x[rows]
    return x.index_select(0, rows.reshape(-1)).view(*rows.shape, *x.shape[1:])
