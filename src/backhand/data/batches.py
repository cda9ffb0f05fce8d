"""Batches out of tensors that are in memory: one indexing operation a batch, in an order that (seed, epoch) decides."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, SequentialSampler

Batch = tuple[Tensor, Tensor]


class TensorRows(Dataset[Batch]):
    """Inputs x (N, D) and targets y (N, …) by row; the `DataLoader` asks for a whole batch at a time."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, row: int) -> Batch:
        return self.x[row], self.y[row]

    def __getitems__(self, rows: Sequence[int]) -> Batch:
        index = torch.as_tensor(rows)
        return self.x[index], self.y[index]


class EpochShuffle(Sampler[int]):
    """A permutation of the rows that depends on the seed and the epoch alone.

    A resumed run therefore sees the batches that the uninterrupted one would have seen. Lightning calls `set_epoch`.
    """

    def __init__(self, rows: int, seed: int) -> None:
        self.rows, self.seed, self.epoch = rows, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration is for."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        mixed = int(np.random.SeedSequence([self.seed, self.epoch]).generate_state(1, np.uint64)[0] >> np.uint64(1))
        return iter(torch.randperm(self.rows, generator=torch.Generator().manual_seed(mixed)).tolist())

    def __len__(self) -> int:
        return self.rows


def loader(rows: TensorRows, batch_size: int, shuffle_seed: int | None) -> DataLoader[Batch]:
    """The standard `DataLoader` over the rows, shuffled anew each epoch, or in order where the seed is None."""
    order = SequentialSampler(rows) if shuffle_seed is None else EpochShuffle(len(rows), shuffle_seed)
    return DataLoader(rows, batch_size=batch_size, sampler=order, collate_fn=_as_it_is)


def _as_it_is(batch: Any) -> Any:
    return batch
