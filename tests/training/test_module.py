"""The module under a plain Trainer: any DataLoader, any callback, Lightning's own accumulation and clipping."""

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from sklearn.metrics import accuracy_score, mean_absolute_error, r2_score
from torch.utils.data import DataLoader, TensorDataset

from backhand import LightningMLP
from backhand.calculus import backpropagation
from backhand.errors import UserError
from backhand.training.train import quiet_lightning


def trainer(**settings):
    quiet_lightning()
    given = {"max_epochs": 2, "logger": False, "enable_checkpointing": False, "enable_model_summary": False}
    return L.Trainer(accelerator="cpu", enable_progress_bar=False, num_sanity_val_steps=0, **(given | settings))


def rows(count=50, weighted=False):
    x = torch.randn(count, 6)
    parts = [x, (x[:, 0] > 0).long() + (x[:, 1] > 1).long()]
    return TensorDataset(*parts, *([torch.rand(count)] if weighted else []))


def module(**settings):
    return LightningMLP([6, 8, 3], **{"seed": 0, **settings})


@pytest.mark.parametrize("weighted", [False, True])
def test_any_data_loader_and_any_trainer_work(weighted):
    given, fit = module(), trainer(max_epochs=30)
    batches = DataLoader(rows(weighted=weighted), batch_size=16, shuffle=True)
    fit.fit(given, batches, batches)
    found = fit.callback_metrics
    assert {"train/loss", "train/acc", "val/loss", "val/acc"} <= found.keys()
    assert found["val/acc"] > 0.9
    assert fit.predict(given, batches)[0]["probabilities"].shape == (16, 3)
    again = LightningMLP(**given.hparams)
    again.load_state_dict(given.state_dict())
    (tested,) = trainer().test(again, batches, verbose=False)
    assert tested["test/acc"] == found["val/acc"]


def test_a_checkpoint_of_any_trainer_is_loaded_and_resumed(tmp_path):
    given, batches, fit = module(), DataLoader(rows(), batch_size=16), trainer(max_epochs=2)
    fit.fit(given, batches, batches)
    fit.save_checkpoint(tmp_path / "two.ckpt")
    again = LightningMLP.load_from_checkpoint(tmp_path / "two.ckpt")
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(again.parameters(), given.parameters(), strict=True))
    trainer(max_epochs=4).fit(again, batches, batches, ckpt_path=tmp_path / "two.ckpt")
    whole = module()
    trainer(max_epochs=4).fit(whole, batches, batches)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(again.parameters(), whole.parameters(), strict=True))
    assert len(again.progress.history) == 4


def test_predict_works_with_and_without_targets_and_validate_logs_metrics():
    given, data = module(), rows()
    (found,) = trainer().validate(given, DataLoader(data, batch_size=16), verbose=False)
    assert found["val/acc"] == pytest.approx(accuracy_score(data.tensors[1], given(data.tensors[0]).argmax(-1)))
    for inputs in (
        DataLoader(TensorDataset(data.tensors[0]), batch_size=16),
        DataLoader(data.tensors[0], batch_size=16),
    ):
        assert trainer().predict(given, inputs)[0].keys() == {"prediction", "probabilities"}


@pytest.mark.parametrize(("policy", "epochs"), [("stop", 1), ("skip", 3)])
def test_a_step_that_is_not_finite_is_skipped_under_a_plain_trainer(policy, epochs):
    given, data = module(on_nan=policy), rows(48)
    data.tensors[0][20] = float("nan")
    fit = trainer(max_epochs=3)
    fit.fit(given, DataLoader(data, batch_size=16))
    assert all(each.isfinite().all() for each in given.parameters())
    assert len(given.progress.history) == epochs
    assert given.on_nan.skipped == [epochs]


def test_two_bad_batches_of_one_step_do_not_count_in_the_mean():
    given, data = module(on_nan="skip"), rows(64)
    data.tensors[0][[20, 5]] = float("nan")
    trainer(max_epochs=2, accumulate_grad_batches=2).fit(given, DataLoader(data, batch_size=16))
    assert all(value > 0 for value in given.progress.history.column("train/loss"))
    assert given.on_nan.skipped == [2]


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"loss": "cross_entropi"}, "did you mean cross_entropy"),
        ({"on_nan": "ignore"}, "choose from stop, skip, continue"),
        ({"optimizer": "adam"}, "optimizer=adam: give a dict"),
        (
            {"optimizer": torch.optim.Adam},
            r"give a dict, as in {'name': 'sgd', …}, or with the name of a class as '_target_'",
        ),
        ({"optimizer": {"name": "lion", "lr": 1.0}}, "choose from sgd, adam, adamw"),
        ({"scheduler": {"name": "cosin"}}, "did you mean cosine"),
        *(({name: 3}, "must be a name; choose from ") for name in ("output_activation", "loss", "init", "on_nan")),
        ({"hidden_activation": 3}, "must be a name, or a list"),
        ({"output_activation": "identity"}, "the output activation is identity"),
        *(({"loss_parameters": wrong}, "must be a dict") for wrong in (3, [1], "ab")),
        ({"loss_parameters": {"label_smoothing": 3}}, "must be a number between"),
        ({"loss_parameters": {"huber_delta": 1}}, "no such parameter"),
        *(({"seed": wrong}, "seed=.*: must be a whole number") for wrong in ("a", 1.5, (1, 2), {})),
        ({"seed": [1, 2]}, "has 2 entries for 1 run"),
        ({"seed": [1, 2, 3], "runs": 2}, "has 3 entries for 2 runs"),
        ({"init_scale": "a"}, "must be a finite number"),
        *(({"classes": wrong}, "whole number, 1 or more") for wrong in ("a", 0, 1.5, [1])),
        *(
            ({name: wrong}, "must be a finite number")
            for name in ("target_mean", "target_std")
            for wrong in ("a", None)
        ),
        *(({name: 3}, f"{name}=3: give a dict") for name in ("optimizer", "scheduler")),
        ({"optimizer": {}}, "choose from sgd, adam, adamw"),
        ({"optimizer": [{"name": "sgd", "lr": 1.0}, {"name": "adam", "lr": 1.0}], "runs": 2}, "the same for all runs"),
        ({"optimizer": {"name": "adam"}, "scheduler": {"name": "step"}}, r"optimizer\['lr'\]=None"),
        ({"scheduler": {"name": "step", "evry": 3}}, "did you mean every"),
        ({"scheduler": {"name": "step", "every": "a"}}, "scheduler.every=a: must be a whole number"),
        ({"early_stopping": 3}, "must be a dict"),
        ({"early_stopping": {"patienc": 3}}, "did you mean patience"),
        ({"early_stopping": {"patience": 1.5}}, "whole number"),
        *(({"objective": wrong}, "the name of a metric") for wrong in (3, None, ["val/loss"])),
        ({"objective": "val/los"}, "choose from train/loss, train/acc, val/loss, val/acc"),
        ({"preprocessing": 3}, "must be a dict"),
        *(({"runs": wrong}, "whole number, 1 or more") for wrong in (0, "a", 1.5)),
    ],
)
def test_wrong_settings_are_refused_when_the_module_is_built(settings, reason):
    with pytest.raises(UserError, match=reason):
        module(**settings)


@pytest.mark.parametrize("wrong", [{"lr": "a"}, {"lr": -1}, {"lr": 0.1, "momentun": 0.9}, {"lr": 0.1, "betas": (2, 2)}])
def test_settings_out_of_the_configurations_ranges_are_refused_when_the_module_is_built(wrong):
    with pytest.raises(UserError, match=r"optimizer[.=](lr|momentun|betas)"):
        module(optimizer={"name": "adam", **wrong})


def test_any_optimizer_and_scheduler_of_torchs_is_named_by_its_class():
    given = module(
        optimizer={"_target_": "torch.optim.RMSprop", "lr": 0.01, "alpha": 0.5},
        scheduler={"_target_": "torch.optim.lr_scheduler.OneCycleLR", "max_lr": 0.1, "interval": "step"},
    )
    running = trainer(max_epochs=2)
    running.fit(given, DataLoader(rows(), batch_size=16))
    (optimizer,) = running.optimizers
    assert isinstance(optimizer, torch.optim.RMSprop)
    assert optimizer.param_groups[0]["alpha"] == 0.5
    assert running.lr_scheduler_configs[0].scheduler.total_steps == running.global_step


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"_target_": "os.system"}, "os.system: must be the name of a subclass of torch.optim.optimizer.Optimizer$"),
        ({"_target_": "torch.optim.Nowhere"}, "must be the name of a subclass of torch.optim.optimizer.Optimizer$"),
        ({"_target_": "torch.optim.RMSProp"}, r"\(did you mean RMSprop\?\)$"),
        ({"_target_": "torch.optmi.RMSprop"}, "torch.optmi.RMSprop: cannot be imported"),
        ({"_target_": "torch.optim.RMSprop", "alhpa": 1}, "optimizer.alhpa: no such argument .did you mean alpha"),
    ],
)
def test_a_class_that_is_not_an_optimizer_is_not_called(wrong, reason):
    """It may come out of somebody else's checkpoint."""
    with pytest.raises(UserError, match=reason):
        trainer().fit(module(optimizer=wrong), DataLoader(rows(), batch_size=16))


def test_a_cosine_without_max_epochs_is_refused_and_defaults_are_filled_in():
    batches = DataLoader(rows(), batch_size=16)
    with pytest.raises(ValueError, match="needs the trainer's max_epochs"):
        trainer(max_epochs=-1, max_steps=8).fit(module(scheduler={"name": "cosine"}), batches)
    given = module(scheduler={"name": "cosine"}, early_stopping={"patience": 2}, objective="train/loss")
    trainer(max_epochs=2).fit(given, batches)
    assert given.progress.history.column("lr").tolist() == pytest.approx([0.1, 0.05])


@pytest.mark.parametrize("watching", [{"early_stopping": {"patience": 1}}, {"scheduler": {"name": "plateau"}}])
def test_without_validation_its_metrics_cannot_be_watched(watching):
    batches = DataLoader(rows(), batch_size=16)
    with pytest.raises(UserError, match="objective=val/loss: there is no validation"):
        trainer().fit(module(**watching), batches)
    trainer().fit(module(**watching), batches, batches)
    trainer().fit(module(**watching, objective="train/loss"), batches)
    trainer().fit(module(), batches)


def test_a_module_can_be_fitted_again():
    given, batches = module(scheduler={"name": "step", "every": 1, "factor": 0.5}), DataLoader(rows(), batch_size=16)
    for _ in range(2):
        trainer(max_epochs=3).fit(given, batches)
        assert given.progress.history.column("lr").tolist() == pytest.approx([0.1, 0.05, 0.025])


@pytest.mark.parametrize(
    "settings", [{}, {"accumulate_grad_batches": 2}, {"precision": "bf16-mixed"}, {"gradient_clip_val": 0.1}]
)
def test_the_functions_backward_is_called_once_for_every_batch(monkeypatch, settings):
    called = []
    original = backpropagation.backward
    monkeypatch.setattr(backpropagation, "backward", lambda *a: called.append(1) or original(*a))
    trainer(**settings).fit(module(), DataLoader(rows(), batch_size=16))
    assert len(called) == 2 * 4


def test_other_peoples_hooks_are_called_once_a_step():
    seen = []

    class Watches(Callback):
        def on_train_batch_start(self, *arguments):
            seen.append("start")

        def on_after_backward(self, *arguments):
            seen.append("backward")

        def on_before_optimizer_step(self, *arguments):
            seen.append("step")

        def on_train_batch_end(self, *arguments):
            seen.append("end")

    trainer(max_epochs=1, callbacks=[Watches()]).fit(module(), DataLoader(rows(), batch_size=16))
    assert seen == ["start", "backward", "step", "end"] * 4


@pytest.mark.parametrize("algorithm", ["norm", "value"])
def test_accumulation_and_clipping_are_lightnings(algorithm):
    given, data = module(), rows(48)
    own = module()
    optimizer = torch.optim.SGD(own.parameters(), 0.1, 0.9)
    clip = {"norm": torch.nn.utils.clip_grad_norm_, "value": torch.nn.utils.clip_grad_value_}[algorithm]
    for first in range(0, 48, 16):
        for half in (first, first + 8):
            batch = [each[half : half + 8] for each in data.tensors]
            (own.model.loss(*batch, "cross_entropy") / 2).backward()
        clip(own.parameters(), 0.05)
        optimizer.step()
        optimizer.zero_grad()
    settings = {"gradient_clip_val": 0.05, "gradient_clip_algorithm": algorithm, "accumulate_grad_batches": 2}
    trainer(max_epochs=1, **settings).fit(given, DataLoader(data, batch_size=8))
    for ours, theirs in zip(given.parameters(), own.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_metrics_of_classes_are_scikit_learns_and_the_loss_counts_the_weights():
    given, data = module(), rows(50, weighted=True)
    (found,) = trainer().test(given, DataLoader(data, batch_size=16), verbose=False)
    x, y, weight = data.tensors
    assert found["test/acc"] == pytest.approx(accuracy_score(y, given(x).argmax(-1)))
    loss = given.model.loss(x, y, "cross_entropy", sample_weight=weight)
    assert found["test/loss"] == pytest.approx(float(loss), rel=1e-5)
    fit = trainer(max_epochs=1)
    given = module(optimizer={"name": "sgd", "lr": 1e-9})
    fit.fit(given, DataLoader(data, batch_size=16))
    # Each sample counts once in the accuracy, whatever its weight, and whichever batch it is in.
    assert fit.callback_metrics["train/acc"] == pytest.approx(accuracy_score(y, given(x).argmax(-1)))
    assert fit.callback_metrics["train/loss"] == pytest.approx(
        float(given.model.loss(x, y, "cross_entropy", sample_weight=weight)), rel=1e-5
    )


def test_metrics_of_a_regression_are_scikit_learns_in_the_targets_own_units():
    x, y = torch.randn(70, 6), torch.randn(70, 2) @ torch.tensor([[1.0, 0.3], [0.0, 2.0]])
    settings = {"target_mean": 30.0, "target_std": 4.0}
    given = LightningMLP([6, 8, 2], "tanh", "identity", "mse", seed=0, **settings)
    (found,) = trainer().test(given, DataLoader(TensorDataset(x, y), batch_size=32), verbose=False)
    true, predicted = (each.detach() * 4 + 30 for each in (y, given(x)))
    assert found["test/r2"] == pytest.approx(r2_score(true, predicted), rel=1e-5)
    assert found["test/mae"] == pytest.approx(mean_absolute_error(true, predicted), rel=1e-5)


def test_the_accuracy_of_yes_or_no_outputs_is_the_mean_over_outputs():
    x, y = torch.randn(40, 6), torch.randint(2, (40, 3)).float()
    given = LightningMLP([6, 8, 3], "tanh", "sigmoid", "binary_cross_entropy", seed=0)
    (found,) = trainer().test(given, DataLoader(TensorDataset(x, y), batch_size=16), verbose=False)
    assert found["test/acc"] == pytest.approx(float(((given(x) > 0.5) == y.bool()).float().mean()))


def test_several_runs_are_trained_at_once_with_one_backward_pass_for_all(monkeypatch):
    called = []
    original = backpropagation.backward
    data = rows(48)
    settings = [{"name": "sgd", "lr": lr, "momentum": 0.9} for lr in (0.01, 0.1, 0.5)]
    population = LightningMLP([6, 8, 3], runs=3, seed=[0, 1, 2], optimizer=settings)
    with monkeypatch.context() as patched:
        patched.setattr(backpropagation, "backward", lambda *a: called.append(1) or original(*a))
        trainer().fit(population, DataLoader(data, batch_size=16))
    assert len(called) == 2 * 3
    for run, one in enumerate(settings):
        single = LightningMLP([6, 8, 3], seed=run, optimizer=one)
        trainer().fit(single, DataLoader(data, batch_size=16))
        for ours, theirs in zip(population.parameters(), single.parameters(), strict=True):
            torch.testing.assert_close(ours[run], theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("batch", [(torch.zeros(4, 6),), (*[torch.zeros(4, 6)] * 4,), {"x": torch.zeros(4, 6)}, 3])
def test_something_else_than_a_batch_is_refused(batch):
    with pytest.raises(UserError, match=r"a batch is \(x, y\) or \(x, y, weight\), not "):
        trainer().fit(module(), [batch])


@pytest.mark.parametrize("batch", [3, {"x": torch.zeros(4, 6)}])
def test_something_else_than_a_batch_to_predict_is_refused(batch):
    with pytest.raises(UserError, match=r"a batch is x, \(x, y\) or \(x, y, weight\), not "):
        module().predict_step(batch, 0)


@pytest.mark.slow
def test_a_compiled_module_trains_like_an_eager_one():
    found, samples = [], rows(48)
    for compiled in (False, True):
        given = module()
        fit = trainer(max_epochs=3)
        batches = DataLoader(samples, batch_size=16)
        fit.fit(torch.compile(given, backend="aot_eager") if compiled else given, batches)
        found.append(given.progress.history.column("train/loss"))
    assert found[1] == pytest.approx(found[0], rel=1e-5)
