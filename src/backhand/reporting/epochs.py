"""The metrics of every epoch in one array, as in a run's checkpoints."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self, overload

import numpy as np
import torch

INTEGER = ("epoch", "step")  # columns of integers; all others are floats


class Epochs(Sequence[dict[str, float]]):
    """Rows of metrics, one per epoch; a row may lack columns. A number takes 9 bytes.

    Each checkpoint contains all rows. As a list of dicts, writing 2,500 rows took longer than training an epoch of 40
    steps; as an array it takes less than a millisecond.

    Args:
        rows: the initial rows.
        runs: K for metrics of shape (K,), one number per run of a population; None for one run.
    """

    def __init__(self, rows: Iterable[Mapping[str, Any]] = (), runs: int | None = None) -> None:
        self.names: list[str] = []
        self._columns: dict[str, int] = {}
        self._length = 0
        # Both arrays have spare rows and columns, filled with zeros.
        self._values = np.zeros((0, 0) if runs is None else (0, 0, runs))
        self._given = np.zeros((0, 0), dtype=bool)
        for row in rows:
            self.append(row)

    def __len__(self) -> int:
        """The number of epochs."""
        return self._length

    @overload
    def __getitem__(self, index: int) -> dict[str, float]: ...

    @overload
    def __getitem__(self, index: slice) -> list[dict[str, float]]: ...

    def __getitem__(self, index: int | slice) -> dict[str, float] | list[dict[str, float]]:
        """A copy of one row or of several."""
        if isinstance(index, slice):
            return [self._row(each) for each in range(*index.indices(self._length))]
        return self._row(range(self._length)[index])

    def append(self, row: Mapping[str, Any]) -> None:
        """Append the row of an epoch."""
        self._length += 1
        self.update(row)

    def update(self, row: Mapping[str, Any]) -> None:
        """Add metrics to the last row, or replace them."""
        for name in row:
            if name not in self._columns:
                self._columns[name] = len(self.names)
                self.names.append(name)
        self._reserve()
        for name, value in row.items():
            index = self._length - 1, self._columns[name]
            self._values[index], self._given[index] = value, True

    def column(self, name: str) -> np.ndarray:
        """A metric in the epochs that have it, (N,) or (N, K)."""
        column = self._columns.get(name)
        if column is None:
            return np.zeros((0, *self._values.shape[2:]))
        given = self._given[: self._length, column]
        return self._values[: self._length, column][given]

    def has(self, name: str) -> bool:
        """Whether the last epoch has a metric."""
        return name in self._columns and bool(self._given[self._length - 1, self._columns[name]])

    def of_run(self, run: int, epochs: int) -> "Epochs":
        """The first epochs of one run of a population; NaN of an audit means that this run was not audited."""
        state = self.state()
        values = state["values"][:epochs, :, run]
        may_lack = torch.tensor(
            [name.startswith(("audit/", "alignment/", "norm_ratio/")) for name in self.names], dtype=torch.bool
        )
        given = state["given"][:epochs] & ~(values.isnan() & may_lack)
        return Epochs.of(state | {"values": values, "given": given})

    def state(self) -> dict[str, Any]:
        """The rows for a checkpoint.

        Returns:
            `names` (C), `values` (N, C) or (N, C, K) in float64, and `given` (N, C): whether the row has the column.
        """
        used = np.s_[: self._length, : len(self.names)]
        return {
            "names": list(self.names),
            "values": torch.from_numpy(self._values[used].copy()),
            "given": torch.from_numpy(self._given[used].copy()),
        }

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> Self:
        """Restore the rows from `state()`."""
        rows = cls()
        rows._load(state)
        return rows

    def _load(self, state: Mapping[str, Any]) -> None:
        self.names = list(state["names"])
        self._columns = {name: column for column, name in enumerate(self.names)}
        self._length = len(state["values"])
        self._values, self._given = (state[key].numpy().copy() for key in ("values", "given"))

    def _row(self, number: int) -> dict[str, float]:
        values, given = self._values[number].tolist(), self._given[number].tolist()
        return {
            name: int(value) if name in INTEGER else value
            for name, value, is_given in zip(self.names, values, given, strict=False)
            if is_given
        }

    def _reserve(self) -> None:
        """Enlarge the arrays for the last row, doubling the number of rows."""
        rows, columns = self._values.shape[:2]
        if self._length <= rows and len(self.names) <= columns:
            return
        shape = (max(rows, 2 * self._length), max(columns, len(self.names)))
        for name, before in (("_values", self._values), ("_given", self._given)):
            array = np.zeros((*shape, *before.shape[2:]), before.dtype)
            array[:rows, :columns] = before
            setattr(self, name, array)
