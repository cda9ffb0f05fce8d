"""The metrics of every epoch in one array, as a run's checkpoints hold them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self, overload

import numpy as np
import torch

# Columns that are counted; all others are measured.
COUNTED = ("epoch", "step")


class Epochs(Sequence[dict[str, float]]):
    """Rows of metrics, one an epoch, where a row need not have every column; 9 bytes a number.

    Each of a run's checkpoints holds all its rows. As a list of dicts, 2,500 rows took longer to write than an epoch of
    40 steps to train; as an array they take less than a millisecond.

    The metrics may be arrays (K,), one number a run of a population.

    Args:
        rows: to begin with.
        runs: K, or None.
    """

    def __init__(self, rows: Iterable[Mapping[str, Any]] = (), runs: int | None = None) -> None:
        self.names: list[str] = []
        self._places: dict[str, int] = {}
        self._length = 0
        # Both are larger than what is in them, and zero where nothing was given.
        self._values = np.zeros((0, 0) if runs is None else (0, 0, runs))
        self._given = np.zeros((0, 0), dtype=bool)
        for row in rows:
            self.append(row)

    def __len__(self) -> int:
        """How many epochs there are."""
        return self._length

    @overload
    def __getitem__(self, place: int) -> dict[str, float]: ...

    @overload
    def __getitem__(self, place: slice) -> list[dict[str, float]]: ...

    def __getitem__(self, place: int | slice) -> dict[str, float] | list[dict[str, float]]:
        """A row, or several; they are copies."""
        if isinstance(place, slice):
            return [self._row(each) for each in range(*place.indices(self._length))]
        return self._row(range(self._length)[place])

    def append(self, row: Mapping[str, Any]) -> None:
        """Add an epoch."""
        self._length += 1
        self.update(row)

    def update(self, row: Mapping[str, Any]) -> None:
        """Add to the last epoch's row, or change what is in it."""
        for name in row:
            if name not in self._places:
                self._places[name] = len(self.names)
                self.names.append(name)
        self._reserve()
        for name, value in row.items():
            place = self._length - 1, self._places[name]
            self._values[place], self._given[place] = value, True

    def column(self, name: str) -> np.ndarray:
        """A metric in those epochs that have it, (N,) or (N, K)."""
        place = self._places.get(name)
        if place is None:
            return np.zeros((0, *self._values.shape[2:]))
        given = self._given[: self._length, place]
        return self._values[: self._length, place][given]

    def has(self, name: str) -> bool:
        """Whether the last epoch has a metric."""
        return name in self._places and bool(self._given[self._length - 1, self._places[name]])

    def of_run(self, run: int, epochs: int) -> "Epochs":
        """The first epochs of one run of several; a run may be without an audit in an epoch where others have one."""
        state = self.state()
        values = state["values"][:epochs, :, run]
        may_lack = torch.tensor(
            [name.startswith(("audit/", "alignment/", "norm_ratio/")) for name in self.names], dtype=torch.bool
        )
        given = state["given"][:epochs] & ~(values.isnan() & may_lack)
        return Epochs.of(state | {"values": values, "given": given})

    def state(self) -> dict[str, Any]:
        """The rows as a checkpoint takes them.

        Returns:
            `names` (C), `values` (N, C) or (N, C, K) in float64, and whether each is `given` (N, C).
        """
        used = np.s_[: self._length, : len(self.names)]
        return {
            "names": list(self.names),
            "values": torch.from_numpy(self._values[used].copy()),
            "given": torch.from_numpy(self._given[used].copy()),
        }

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> Self:
        """The rows that `state` was given."""
        rows = cls()
        rows._load(state)
        return rows

    def _load(self, state: Mapping[str, Any]) -> None:
        self.names = list(state["names"])
        self._places = {name: place for place, name in enumerate(self.names)}
        self._length = len(state["values"])
        self._values, self._given = (state[key].numpy().copy() for key in ("values", "given"))

    def _row(self, number: int) -> dict[str, float]:
        values, given = self._values[number].tolist(), self._given[number].tolist()
        return {
            name: int(value) if name in COUNTED else value
            for name, value, known in zip(self.names, values, given, strict=False)
            if known
        }

    def _reserve(self) -> None:
        """Make room for what is to be written, and for as much again."""
        rows, columns = self._values.shape[:2]
        if self._length <= rows and len(self.names) <= columns:
            return
        shape = (max(rows, 2 * self._length), max(columns, len(self.names)))
        for name, before in (("_values", self._values), ("_given", self._given)):
            array = np.zeros((*shape, *before.shape[2:]), before.dtype)
            array[:rows, :columns] = before
            setattr(self, name, array)
