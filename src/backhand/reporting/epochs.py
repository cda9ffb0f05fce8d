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

    Args:
        rows: to begin with.
    """

    def __init__(self, rows: Iterable[Mapping[str, float]] = ()) -> None:
        self.names: list[str] = []
        self._places: dict[str, int] = {}
        self._length = 0
        self._values = np.zeros((0, 0))  # both larger than what is in them, and zero where nothing was given
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

    def append(self, row: Mapping[str, float]) -> None:
        """Add an epoch."""
        self._length += 1
        self.update(row)

    def update(self, row: Mapping[str, float]) -> None:
        """Add to the last epoch's row, or change what is in it."""
        for name in row:
            if name not in self._places:
                self._places[name] = len(self.names)
                self.names.append(name)
        self._reserve()
        places = [self._places[name] for name in row]
        self._values[self._length - 1, places] = list(row.values())
        self._given[self._length - 1, places] = True

    def state(self, last: Mapping[str, float] | None = None) -> dict[str, Any]:
        """The rows as a checkpoint takes them.

        Args:
            last: what is added to the last row there, and not here.

        Returns:
            `names` (C), `values` (N, C) in float64, and whether each is `given` (N, C).
        """
        whole = Epochs.of(self.state()) if last else self
        if last:
            whole.update(last)
        used = np.s_[: whole._length, : len(whole.names)]
        return {
            "names": list(whole.names),
            "values": torch.from_numpy(whole._values[used].copy()),
            "given": torch.from_numpy(whole._given[used].copy()),
        }

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> Self:
        """The rows that `state` was given."""
        rows = cls()
        rows.names = list(state["names"])
        rows._places = {name: place for place, name in enumerate(rows.names)}
        rows._length = len(state["values"])
        rows._values, rows._given = (state[key].numpy().copy() for key in ("values", "given"))
        return rows

    def _row(self, number: int) -> dict[str, float]:
        values, given = self._values[number].tolist(), self._given[number].tolist()
        return {
            name: int(value) if name in COUNTED else value
            for name, value, known in zip(self.names, values, given, strict=False)
            if known
        }

    def _reserve(self) -> None:
        """Make room for what is to be written, and for as much again."""
        rows, columns = self._values.shape
        if self._length <= rows and len(self.names) <= columns:
            return
        shape = (max(rows, 2 * self._length), max(columns, len(self.names)))
        for name, before in (("_values", self._values), ("_given", self._given)):
            array = np.zeros(shape, before.dtype)
            array[:rows, :columns] = before
            setattr(self, name, array)
