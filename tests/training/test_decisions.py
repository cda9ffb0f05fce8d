"""Learning rate, early stopping and divergence, against torch's schedulers and Lightning's early stopping."""

import math

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping
from torch.optim import lr_scheduler

from backhand.training.decisions import has_diverged, has_stopped, improvements, learning_rate

VALUES = np.random.default_rng(0).normal(size=40).cumsum() / 5  # with long stretches without improvement, and negative
EVERY = [VALUES, -VALUES, np.exp(VALUES), np.r_[VALUES[:9], math.nan, math.inf, VALUES[9:]]]


def torchs(kind, values, lr, **settings):
    """The learning rates that a scheduler of torch sets, one an epoch."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr)
    optimizer.step()
    scheduler, found = kind(optimizer, **settings), []
    for value in values:
        scheduler.step(*([value] if kind is lr_scheduler.ReduceLROnPlateau else []))
        found.append(optimizer.param_groups[0]["lr"])
    return found


@pytest.mark.parametrize("values", EVERY)
@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize("patience", [0, 2])
def test_the_plateau_schedule_is_torchs(values, maximize, patience):
    settings = {"factor": 0.5, "patience": patience, "min_lr": 0.01}
    mode = "max" if maximize else "min"
    expected = torchs(lr_scheduler.ReduceLROnPlateau, values, 1.0, mode=mode, **settings)
    schedule = {"name": "plateau", **settings}
    found = [learning_rate(schedule, 1.0, n, None, values[:n], maximize) for n in range(1, len(values) + 1)]
    assert found == pytest.approx(expected, rel=1e-12)
    assert len(set(expected)) > 2


def test_cosine_and_step_are_torchs():
    epochs = range(1, 31)
    expected = torchs(lr_scheduler.CosineAnnealingLR, epochs, 0.3, T_max=30, eta_min=0.02)
    cosine = {"name": "cosine", "min_lr": 0.02}
    assert [learning_rate(cosine, 0.3, n, 30, VALUES[:n], False) for n in epochs] == pytest.approx(expected, rel=1e-10)
    expected = torchs(lr_scheduler.StepLR, epochs, 0.3, step_size=7, gamma=0.3)
    step = {"name": "step", "every": 7, "factor": 0.3}
    assert [learning_rate(step, 0.3, n, 30, VALUES[:n], False) for n in epochs] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("values", EVERY)
@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize(("patience", "min_delta"), [(1, 0.0), (3, 0.0), (3, 0.2), (7, 0.05)])
def test_early_stopping_is_lightnings(values, maximize, patience, min_delta):
    theirs = EarlyStopping("x", min_delta, patience, mode="max" if maximize else "min", check_finite=False)
    best, waited, stops = -math.inf if maximize else math.inf, 0, None
    for epoch, value in enumerate(torch.tensor(values)):
        if theirs.monitor_op(value - theirs.min_delta, torch.tensor(best)):
            best, waited = float(value), 0
        elif (waited := waited + 1) >= patience:
            stops = epoch
            break
    first = next((n for n in range(len(values)) if has_stopped(values[: n + 1], maximize, patience, min_delta)), None)
    assert first == stops


def test_each_of_several_runs_decides_by_its_own_metrics():
    together = np.stack([VALUES, -VALUES, VALUES**2], -1)
    patience, factor = np.array([0, 2, 1]), np.array([0.5, 0.1, 0.9])
    schedule = {"name": "plateau", "factor": factor, "patience": patience, "min_lr": np.zeros(3)}
    lr = learning_rate(schedule, np.ones(3), 40, None, together, False)
    for run in range(3):
        own = {"name": "plateau", "factor": factor[run], "patience": patience[run], "min_lr": 0.0}
        assert lr[run] == learning_rate(own, 1.0, 40, None, together[:, run], False)
        assert has_stopped(together, False, 5, 0.0)[run] == has_stopped(together[:, run], False, 5, 0.0)
        assert (improvements(together, False)[:, run] == improvements(together[:, run], False)).all()


def test_a_run_has_diverged_if_its_loss_is_not_finite_or_ten_thousand_times_the_first():
    losses = np.array([0.5, 9e3, 1.1e4, math.nan, math.inf, 9e5])
    assert has_diverged(losses, np.full(6, 0.7)).tolist() == [False, False, True, True, True, True]
    assert has_diverged(losses, np.full(6, 100.0)).tolist() == [False, False, False, True, True, False]
    assert has_diverged(losses, np.full(6, math.nan)).tolist() == [False, False, True, True, True, True]
