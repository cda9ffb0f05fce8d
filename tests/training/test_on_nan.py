"""Numbers that are not finite at a known place: which step ends the run or is skipped, and what the message names."""

import json
import logging
import math
from itertools import pairwise

import pytest
import torch
from lightning.pytorch.plugins.precision import MixedPrecision

from backhand import MLP
from backhand.calculus import backpropagation
from backhand.config.validation import can_compile
from backhand.data.batches import Batch
from backhand.training import train
from backhand.training.module import LightningMLP
from backhand.training.on_nan import first_not_finite

INF, NAN = math.inf, math.nan
WINE = ("data=wine", "data.batch_size=8")  # 124 rows: 16 steps an epoch


def result(folder):
    return json.loads((folder / "result.json").read_text())


def saved(folder):
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)


def same_weights(ours, theirs):
    ours, theirs = saved(ours)["state_dict"], saved(theirs)["state_dict"]
    return all(torch.equal(value, theirs[name]) for name, value in ours.items())


@pytest.fixture
def planted(monkeypatch):
    """`planted(batch)` puts a value into a row of that batch, from 0, of the first epoch.

    It returns the list that the data of each run will be in.
    """
    original = train.build_data

    def plant(batch, value=INF):
        built = []

        def build(config, dataset):
            built.append(original(config, dataset))
            order = built[-1].train_dataloader().order()
            size = len(order) if config.data.batch_size == "full" else config.data.batch_size
            built[-1].rows["train"].x[order[batch * size], 0] = value
            return built[-1]

        monkeypatch.setattr(train, "build_data", build)
        return built

    return plant


def epochs_of(data, count):
    """The batches of the first epochs."""
    batches = data.train_dataloader()
    epochs = []
    for epoch in range(count):
        batches.set_epoch(epoch)
        epochs.append(list(batches))
    return epochs


WAYS = {
    "eager": (),
    "adam": ("optimizer=adam",),
    "adamw, clipped": ("optimizer=adamw", "trainer.gradient_clip_val=0.5"),
    "relu": ("model=deep", "model.hidden_activation=relu"),
    "autograd": ("model.gradient=autograd",),
    "validated after each step": ("trainer.val_check_interval=1",),
    "64-true": ("trainer.precision=64-true",),
    "bf16-true": ("trainer.precision=bf16-true",),
    "bf16-mixed": ("trainer.precision=bf16-mixed",),
}


@pytest.mark.parametrize(("way", "step"), [*((way, 11) for way in WAYS), ("eager", 0), ("adam", 0)])
def test_a_run_ends_at_the_step_that_is_not_finite_with_the_weights_before_it(trained, planted, way, step):
    shared = (*WINE, "trainer.max_epochs=1", *WAYS[way])
    short = trained(*shared, f"trainer.max_steps={step}") if step else None
    planted(step, NAN)
    folder = trained(*shared, "callbacks=audit", "callbacks.audit.every=4")
    found = result(folder)
    assert (found["status"], found["steps"], found["skipped"]) == ("diverged", step + 1, 1)
    error = f"epoch 1, step {step + 1}: the input is not finite (nan; learning rate "
    assert found["error"].startswith(error)
    assert "; the weights are those before it; " in found["error"]
    assert (found["audit"] or {"times": 0})["times"] == (3 if step and "autograd" not in way else 0)
    assert found["error"].endswith(f"; last good checkpoint: {folder / 'checkpoints/last.ckpt'}")
    if short is None:
        initial = LightningMLP(**saved(folder)["hyper_parameters"]).to(
            saved(folder)["state_dict"]["model.layers.0.bias"]
        )
        assert all(
            torch.equal(value, saved(folder)["state_dict"][name]) for name, value in initial.state_dict().items()
        )
    else:
        assert same_weights(folder, short)
        assert (
            saved(folder)["optimizer_states"][0]["param_groups"] == saved(short)["optimizer_states"][0]["param_groups"]
        )
    assert (found["metrics"]["train/loss"] is None) == (step == 0)  # the mean of the steps before it
    assert math.isfinite(found["metrics"]["val/loss"])


def test_the_step_is_counted_over_the_epochs_and_over_batches_that_make_one_up(trained, planted):
    built = planted(6)
    folder = trained(*WINE, "trainer.max_epochs=1", "trainer.accumulate_grad_batches=4")
    assert result(folder)["error"].startswith("epoch 1, step 2: the input is not finite")
    assert result(folder)["steps"] == 2
    # Only two of an epoch's 16 batches are used for training: the first epoch does not reach this row.
    folder = trained(*WINE, "trainer.max_epochs=40", "trainer.limit_train_batches=2")
    taken = [batch.x.isfinite().all() for epoch in epochs_of(built[-1], 40) for batch in epoch[:2]]
    good = taken.index(False)
    assert good >= 2
    assert result(folder)["error"].startswith(f"epoch {good // 2 + 1}, step {good + 1}: the input is not finite")
    assert (result(folder)["epochs"], result(folder)["steps"]) == (good // 2 + 1, good + 1)


def test_min_epochs_does_not_continue_a_diverged_run(trained, planted):
    planted(3)
    folder = trained(*WINE, "trainer.max_epochs=5", "trainer.min_epochs=4", "trainer.min_steps=60")
    assert (result(folder)["epochs"], result(folder)["steps"]) == (1, 4)


def without(folder, batches, accumulate=1):
    """The weights and the optimizer's state after some epochs without the bad steps."""
    module = LightningMLP(**saved(folder)["hyper_parameters"])
    settings = module.hparams["optimizer"]
    if settings["name"] == "sgd":
        optimizer = torch.optim.SGD(module.parameters(), settings["lr"], settings["momentum"])
    else:
        optimizer = torch.optim.Adam(module.parameters(), settings["lr"], settings["betas"], settings["eps"])
    for epoch in batches:
        for first in range(0, len(epoch), accumulate):
            step = epoch[first : first + accumulate]
            if not all(batch.x.isfinite().all() for batch in step):
                continue
            for batch in step:
                (module.model.loss(batch.x, batch.y, "cross_entropy") * (1 / accumulate)).backward()
            optimizer.step()
            optimizer.zero_grad()
    return module, optimizer


@pytest.mark.parametrize(
    ("step", "overrides"),
    [
        (0, ()),
        (11, ()),
        (15, ("optimizer=adam",)),
        (5, ("optimizer=adam", "trainer.val_check_interval=8")),
        (4, ("trainer.accumulate_grad_batches=2", "optimizer=adam")),
        (9, ("trainer.accumulate_grad_batches=2",)),
        (7, ("trainer.accumulate_grad_batches=3", "trainer.val_check_interval=4")),
        (3, ("callbacks=audit", "callbacks.audit.every=1")),
    ],
)
def test_a_skipped_step_changes_nothing(trained, planted, step, overrides, caplog):
    built = planted(step, NAN)
    caplog.set_level(logging.WARNING, "backhand")
    folder = trained(*WINE, "trainer.max_epochs=3", "on_nan=skip", *overrides)
    found = result(folder)
    assert (found["status"], found["skipped"]) == ("finished", 3)
    assert all(math.isfinite(value) for value in found["metrics"].values())
    warnings = [each.message for each in caplog.records if "is skipped" in each.message]
    accumulate = next((int(each[-1]) for each in overrides if "accumulate" in each), 1)
    assert len(warnings) == 1
    assert warnings[0].startswith(f"epoch 1, step {step // accumulate + 1}: the input is not finite (nan; ")
    if found["audit"] is not None:
        assert found["audit"]["times"] == found["steps"] - 3
    module, optimizer = without(folder, epochs_of(built[-1], 3), accumulate)
    for name, value in module.state_dict().items():
        assert torch.equal(value, saved(folder)["state_dict"][name]), name
    ours = saved(folder)["optimizer_states"][0]["state"]
    for place, state in optimizer.state_dict()["state"].items():
        assert all(torch.equal(value, ours[place][name]) for name, value in state.items())


def test_a_run_that_skipped_steps_is_resumed_bit_for_bit(trained, planted):
    planted(11)
    shared = (*WINE, "on_nan=skip", "optimizer=adam")
    whole, half = trained(*shared, "trainer.max_epochs=4"), trained(*shared, "trainer.max_epochs=2")
    rest = trained(*shared, "trainer.max_epochs=4", f"ckpt_path={half}/checkpoints/last.ckpt")
    assert same_weights(whole, rest)
    assert result(whole)["skipped"] == result(rest)["skipped"] == 4


def test_a_stopped_run_is_resumed_with_skip_after_the_epoch_in_which_it_stopped(trained, planted):
    planted(11)
    stopped = trained(*WINE, "trainer.max_epochs=3")
    rest = trained(*WINE, "trainer.max_epochs=3", "on_nan=skip", f"ckpt_path={stopped}/checkpoints/last.ckpt")
    assert (result(rest)["status"], result(rest)["epochs"], result(rest)["skipped"]) == ("finished", 3, 3)
    assert result(rest)["steps"] == 12 + 2 * 16


def test_an_epoch_with_only_skipped_steps_ends_the_run(trained, planted):
    planted(0)
    folder = trained("data=wine", "data.batch_size=full", "trainer.max_epochs=3", "on_nan=skip")
    found = result(folder)
    assert (found["status"], found["epochs"], found["steps"], found["skipped"]) == ("diverged", 1, 1, 1)
    assert found["error"].startswith("all steps of epoch 1 were skipped")


def test_a_run_with_continue_runs_to_its_end(trained, planted):
    planted(3)
    folder = trained(*WINE, "trainer.max_epochs=3", "on_nan=continue")
    found = result(folder)
    assert (found["status"], found["epochs"], found["steps"], found["skipped"]) == ("diverged", 3, 48, 0)
    assert found["error"].startswith("the training loss is not finite in epoch 3")
    assert saved(folder)["state_dict"]["model.layers.0.weight"].isnan().all()


def test_a_run_with_continue_does_not_diverge_by_a_large_loss(trained, monkeypatch):
    # With this factor every loss is too large, and all are finite.
    monkeypatch.setattr("backhand.training.decisions.DIVERGENCE_FACTOR", 1e-9)
    assert result(trained(*WINE, "trainer.max_epochs=2", "on_nan=continue"))["status"] == "finished"
    assert result(trained(*WINE, "trainer.max_epochs=2"))["status"] == "diverged"


@pytest.mark.parametrize("algorithm", ["norm", "value"])
def test_clipping_does_not_hide_a_gradient_that_is_not_finite(trained, monkeypatch, algorithm):
    original = backpropagation.backward

    def backward(*arguments):
        *found, last = original(*arguments)
        last[0] = INF
        return [*found, last]

    monkeypatch.setattr(backpropagation, "backward", backward)
    clip = ("trainer.gradient_clip_val=0.1", f"trainer.gradient_clip_algorithm={algorithm}")
    found = result(trained(*WINE, "trainer.max_epochs=1", *clip))
    assert (found["status"], found["steps"], found["skipped"]) == ("diverged", 1, 1)


def test_a_gradient_that_overflows_because_of_loss_scaling_is_left_to_the_scaler(trained, monkeypatch):
    original = train.build_trainer
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**30)
    skipped = []

    def build(*arguments, **settings):
        trainer = original(*arguments, **settings)
        trainer.strategy._precision_plugin = MixedPrecision("16-mixed", "cpu", scaler)
        return trainer

    update = torch.amp.GradScaler.update
    monkeypatch.setattr(torch.amp.GradScaler, "update", lambda self: (update(self), skipped.append(self.get_scale())))
    monkeypatch.setattr(train, "build_trainer", build)
    found = result(trained(*WINE, "trainer.max_epochs=2", "trainer.precision=bf16-mixed"))
    assert any(after < before for before, after in pairwise([2.0**30, *skipped]))  # it has skipped some
    assert (found["status"], found["steps"], found["skipped"]) == ("finished", 32, 0)


def test_a_parameter_that_was_not_finite_at_the_start_is_named(trained, tmp_path):
    initial = trained(*WINE, "trainer.max_epochs=1")
    contents = saved(initial)
    contents["state_dict"]["model.layers.1.weight"][2, 1] = NAN
    torch.save(contents, tmp_path / "edited.ckpt")
    folder = trained(*WINE, "trainer.max_epochs=2", f"ckpt_path={tmp_path / 'edited.ckpt'}")
    assert result(folder)["error"].startswith(
        "epoch 2, step 17: the parameter layers.1.weight is not finite (nan; before it, h of hidden_0 was up to"
    )
    assert "good" not in result(folder)["error"]
    assert "weights are those" not in result(folder)["error"]


def test_a_learning_rate_that_is_too_large_is_caught_before_it_reaches_the_weights(trained):
    folder = trained("data=diabetes", "model.hidden=[16]", "model.hidden_activation=relu", "optimizer.lr=1e25")
    found = result(folder)
    assert all(value.isfinite().all() for value in saved(folder)["state_dict"].values())
    assert found["error"].startswith(f"epoch 1, step {found['steps']}: z of output is not finite (")
    assert "; learning rate 1e+25); try a smaller optimizer.lr; the weights are those before it" in found["error"]


# Values put into a 2-3-3 network with relu, otherwise with parameters 0, x 1 and y 0.5; and the first bad quantity.
QUANTITIES = [
    ("mse", {}, None),
    ("mse", {"x": NAN}, "the input"),
    ("mse", {"y": INF}, "the target"),
    ("mse", {"W_I": NAN}, "the parameter layers.0.weight"),
    ("mse", {"b_I": INF}, "the parameter layers.0.bias"),
    ("mse", {"W_I": 3e38, "x": 3e38}, "z of hidden_0"),
    ("mse", {"W_I": 1.0, "x": 1e30, "W_O": 1e30}, "z of output"),
    ("mse", {"y": 1e30}, "the loss"),
    ("mse", {"y": 1e18, "b_I": 1e-30, "W_O": 1e30}, "the delta of hidden_0"),
    ("mse", {"y": 1e18, "W_I": 1.0, "x": 1e25}, "the gradient of layers.1.weight"),
    ("mse", {"y": 1e10, "b_I": 1e-20, "W_O": 1e20, "x": 1e19}, "the gradient of layers.0.weight"),
    ("l1", {"y": 1e37, "b_O": 1e30, "W_O": 1e37}, None),
]


@pytest.mark.parametrize(("loss", "values", "name"), QUANTITIES)
def test_the_first_quantity_that_is_not_finite_is_named(loss, values, name):
    model = MLP([2, 3, 3], "relu", "identity")
    with torch.no_grad():
        for key, parameter in zip(("W_I", "b_I", "W_O", "b_O"), model.parameters(), strict=True):
            parameter.fill_(values.get(key, 0.0))
    x, y = torch.full((4, 2), values.get("x", 1.0)), torch.full((4, 3), values.get("y", 0.5))
    found = first_not_finite(model, loss, {}, Batch(x, y), 0.25)
    if name is None:
        assert found is None
        return
    _, reason = found
    assert reason.startswith(f"{name} is not finite (")
    assert "; learning rate 0.25)" in reason
    given = name.startswith(("the input", "the target", "the parameter"))
    assert given != reason.endswith("try a smaller optimizer.lr")


def test_the_function_that_returned_a_delta_that_is_not_finite_is_named(trained, tmp_path):
    rule = "def mine(delta, W, slope, layer):\n    return (delta @ W.mT) * slope / (delta.shape[-2] == 2)\n"
    (tmp_path / "own.py").write_text(rule)
    reason = result(trained(*WINE, f"model.gradient={tmp_path}/own.py:mine"))["error"]
    assert "the delta of hidden_0 is not finite" in reason
    assert f"; returned by {tmp_path}/own.py:mine; the weights are those before it" in reason
    assert "optimizer.lr" not in reason


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", [pytest.param("sgd", marks=pytest.mark.stress), "adam"])
@pytest.mark.skipif(not can_compile(), reason="needs torch 2.15")
def test_a_compiled_run_stops_and_skips_like_the_eager_one(trained, planted, optimizer):
    shared = (*WINE, "trainer.precision=64-true", "trainer.max_epochs=2", f"optimizer={optimizer}")
    for batch, on_nan in ((0, "skip"), (1, "skip"), (11, "stop")):
        planted(batch)
        eager, compiled = (trained(*shared, f"on_nan={on_nan}", f"compile={c}") for c in ("false", "true"))
        for name, value in saved(eager)["state_dict"].items():
            torch.testing.assert_close(saved(compiled)["state_dict"][name], value, rtol=1e-9, atol=1e-12)
        for key in ("status", "steps", "epochs", "skipped"):
            assert result(compiled)[key] == result(eager)[key]
        assert (result(compiled)["error"] or "")[:40] == (result(eager)["error"] or "")[:40]
