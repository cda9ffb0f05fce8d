"""The metrics of all epochs in one array, and in a checkpoint."""

import io
import math

import numpy as np
import pytest
import torch

from backhand.reporting.epochs import Epochs

ROWS = [
    {"epoch": 0, "step": 3, "train/loss": 0.1 + 0.2, "audit/weight": 1e-300},
    {"epoch": 1, "step": 7, "train/loss": math.inf},
    {"epoch": 2, "step": 2**40, "lr": 1.0, "train/loss": -0.0},
]


def test_rows_are_stored_unchanged():
    rows = Epochs(ROWS)
    assert list(rows) == ROWS
    assert rows[-1] == ROWS[-1]
    assert rows[1:] == ROWS[1:]
    assert [type(value) for value in rows[2].values()] == [int, int, float, float]
    with pytest.raises(IndexError):
        rows[3]


def test_nan_is_not_a_missing_number():
    first, second = Epochs([{"epoch": 0, "val/loss": math.nan}, {"epoch": 1}])
    assert math.isnan(first["val/loss"])
    assert "val/loss" not in second


def test_the_last_row_can_be_updated():
    rows = Epochs(ROWS)
    rows.update({"val/loss": 0.5, "step": 9})
    assert list(rows) == [*ROWS[:2], ROWS[2] | {"val/loss": 0.5, "step": 9}]


def written(rows):
    file = io.BytesIO()
    torch.save(rows.state(), file)
    return file


def test_rows_can_be_restored_from_a_checkpoint():
    rows = Epochs(ROWS)
    file = written(rows)
    file.seek(0)
    again = Epochs.of(torch.load(file, weights_only=True))
    assert list(again) == ROWS
    assert again.names == rows.names
    again.append({"epoch": 3})
    assert again[3] == {"epoch": 3}


def test_one_run_can_be_extracted_from_a_population():
    rows = Epochs(runs=3)
    for epoch in range(5):
        metrics = {"val/loss": np.array([1.0, 2.0, math.nan]) + epoch}
        audit = {"audit/w": np.array([0.1, math.nan, 0.3])} if epoch == 2 else {}
        rows.append({"epoch": epoch, **metrics, **audit})
    assert rows.column("val/loss").shape == (5, 3)
    assert rows.column("audit/w").shape == (1, 3)
    assert rows.column("none").shape == (0, 3)
    again = Epochs.of(rows.state())
    assert list(again.of_run(0, 4)) == [
        {"epoch": e, "val/loss": 1.0 + e} | ({"audit/w": 0.1} if e == 2 else {}) for e in range(4)
    ]
    assert list(again.of_run(1, 3)) == [{"epoch": e, "val/loss": 2.0 + e} for e in range(3)]
    assert all(math.isnan(row["val/loss"]) for row in again.of_run(2, 5))  # logged, but not finite


def test_thousands_of_epochs_are_two_tensors_in_a_checkpoint():
    # As a list of dicts each number is an object, and writing them took longer than training an epoch.
    rows = Epochs([dict.fromkeys(map(str, range(20)), 0.5)] * 2500)
    state = rows.state()
    assert state.pop("names") == [str(column) for column in range(20)]
    assert {name: (tuple(value.shape), value.dtype) for name, value in state.items()} == {
        "values": ((2500, 20), torch.float64),
        "given": ((2500, 20), torch.bool),
    }
    assert written(rows).tell() < 2500 * 20 * 9 * 1.1
