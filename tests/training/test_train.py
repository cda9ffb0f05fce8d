"""The results of training runs, against independent references and against each other."""

import csv
import json
from contextlib import nullcontext

import numpy as np
import pytest
import torch
import wandb
from lightning.pytorch.callbacks import Callback

from backhand.calculus import backpropagation
from backhand.config.lock import lock_folder
from backhand.errors import UserError
from backhand.reporting.result import Result, write_result
from backhand.reporting.wandb_content import EpochLogger
from backhand.training import outcome, parts, train
from backhand.training.command import leave_interrupted, report_divergence
from backhand.training.module import LightningMLP


def weights(folder, which="last"):
    contents = torch.load(folder / "checkpoints" / f"{which}.ckpt", weights_only=True)
    return contents["state_dict"]


def result(folder):
    return json.loads((folder / "result.json").read_text())


def rows(folder):
    return list(csv.DictReader((folder / "metrics.csv").open()))


def test_hand_and_autograd_train_to_the_same_weights(trained):
    shared = ("trainer.precision=64-true", "trainer.max_epochs=5")
    hand, auto = (weights(trained(f"model.gradient={gradient}", *shared)) for gradient in ("hand", "autograd"))
    for name, ours in hand.items():
        assert (ours - auto[name]).abs().max() <= 1e-9 * auto[name].abs().max(), name


def test_the_functions_backward_is_called_once_for_every_batch_of_a_default_run(configured, tmp_path, monkeypatch):
    called = []
    original = backpropagation.backward
    monkeypatch.setattr(backpropagation, "backward", lambda *a: called.append(1) or original(*a))
    # Like `python train.py`, with audit and layer statistics, which compute gradients in other ways.
    config = configured("logger=csv", "callbacks.progress_bar=false", "plots=false", "report=false")
    train.Run(config, tmp_path).train(standalone=False)
    assert result(tmp_path)["audit"]["times"] == 12
    assert len(called) == result(tmp_path)["steps"] == 30 * 40


def test_overfit_batches_uses_the_same_batches_every_epoch(trained, monkeypatch):
    seen = []
    original = LightningMLP.training_step
    monkeypatch.setattr(LightningMLP, "training_step", lambda self, b, i: seen.append(b[0]) or original(self, b, i))
    trained("data=wine", "trainer.overfit_batches=2", "trainer.max_epochs=4")
    assert len(seen) == 4 * 2
    assert all(torch.equal(x, seen[place % 2]) for place, x in enumerate(seen))


def test_the_loss_of_steps_is_logged_if_configured(configured, tmp_path, monkeypatch):
    logged = []
    monkeypatch.setattr(EpochLogger, "log_metrics", lambda self, metrics, step=None: logged.append((step, metrics)))
    shared = ("data=wine", "trainer=cpu", "callbacks=quiet", "logger=wandb", "logger.wandb.mode=disabled")
    config = configured(*shared, "trainer.max_epochs=2", "trainer.log_every_n_steps=3", "plots=false", "report=false")
    train.Run(config, tmp_path).train(standalone=False)
    assert [step for step, metrics in logged if "train/loss_step" in metrics] == [2, 5]
    rows = list(csv.DictReader((tmp_path / "metrics.csv").open()))
    assert len(rows) == 2
    assert "train/loss_step" not in rows[0]


def test_the_same_seed_gives_the_same_bits(trained):
    first, second, other = (weights(trained("trainer.max_epochs=2", f"seed={seed}")) for seed in (3, 3, 4))
    for name, value in first.items():
        assert torch.equal(value, second[name])
        assert not torch.equal(value, other[name])


@pytest.mark.parametrize("optimizer", ["optimizer=sgd", "optimizer=adam"])
@pytest.mark.parametrize("scheduler", ["scheduler=none", "scheduler=step"])
def test_a_resumed_run_equals_the_uninterrupted_one_bit_for_bit(trained, optimizer, scheduler):
    settings = (optimizer, scheduler, *(["scheduler.every=2"] if "step" in scheduler else []), "data=wine")
    whole = trained(*settings, "trainer.max_epochs=6")
    half = trained(*settings, "trainer.max_epochs=3")
    rest = trained(*settings, "trainer.max_epochs=6", f"ckpt_path={half}/checkpoints/last.ckpt")
    for name, value in weights(whole).items():
        assert torch.equal(value, weights(rest)[name]), name
    assert result(rest)["epochs"] == 6


@pytest.mark.parametrize("gradient", ["hand", "feedback_alignment"])
def test_a_run_counts_its_own_audits_and_not_those_of_the_run_it_starts_from(trained, gradient):
    settings = (
        "data=wine",
        "data.batch_size=62",
        "callbacks=audit",
        "callbacks.audit.every=1",
        f"model.gradient={gradient}",
    )
    half = trained(*settings, "trainer.max_epochs=3")
    rest = trained(*settings, "trainer.max_epochs=4", f"ckpt_path={half}/checkpoints/last.ckpt")
    assert (result(half)["audit"]["times"], result(rest)["audit"]["times"]) == (6, 2)


@pytest.mark.parametrize("name", ["simple", "advanced"])
def test_a_profiler_writes_to_the_run_s_folder(trained, name):
    folder = trained("data=wine", "trainer.max_epochs=1", f"trainer.profiler={name}")
    assert "optimizer_step" in (folder / "profile" / f"fit-{name}.txt").read_text()


def test_a_run_is_resumed_in_its_folder_with_other_callbacks(trained, configured):
    shared = ("logger=none", "trainer=cpu", "data=wine", "trainer.max_epochs=2")
    folder = trained(*shared, "callbacks=default", "callbacks.progress_bar=false")
    before = result(folder)
    config = configured(*shared, "callbacks=quiet", f"ckpt_path={folder}/checkpoints/last.ckpt")
    train.Run(config, folder).train(standalone=False)
    assert result(folder)["metrics"] == before["metrics"]
    assert (before["audit"]["times"], result(folder)["audit"]) == (1, None)


def nearly_equal(ours, theirs):
    return all((value - theirs[name]).abs().max() <= 1e-9 * theirs[name].abs().max() for name, value in ours.items())


def test_two_accumulated_batches_are_a_batch_of_twice_the_size(trained):
    shared = ("data=wine", "trainer.precision=64-true", "trainer.max_epochs=3", "optimizer=adam")  # 124 rows
    whole = trained(*shared, "data.batch_size=62")
    halves = trained(*shared, "data.batch_size=31", "trainer.accumulate_grad_batches=2")
    assert nearly_equal(weights(halves), weights(whole))
    assert result(halves)["steps"] == result(whole)["steps"] == 6
    # Three and one: like Lightning, the last step of an epoch uses the batches that are left.
    assert result(trained(*shared, "data.batch_size=31", "trainer.accumulate_grad_batches=3"))["steps"] == 6


def test_the_last_checkpoint_is_that_of_the_last_epoch_even_if_another_was_the_best(trained):
    folder = trained("data=wine", "optimizer.lr=1.5", "trainer.max_epochs=6")
    best, last = (torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True) for name in ("best", "last"))
    assert best["global_step"] < last["global_step"] == result(folder)["steps"] == 24


def test_the_metrics_beside_the_test_metrics_are_those_of_the_best_epoch(configured, tmp_path, monkeypatch, capsys):
    filed = []
    monkeypatch.setattr(outcome, "log_error_analysis", lambda loggers, analysis, path, metrics: filed.append(metrics))
    shared = (
        "callbacks=quiet",
        "logger=wandb",
        "logger.wandb.mode=disabled",
        "trainer=cpu",
        "plots=false",
        "report=false",
    )
    run = train.Run(configured(*shared, "data=wine", "optimizer.lr=1.5", "trainer.max_epochs=6"), tmp_path)
    run.train()
    record, (row, *_) = (
        result(tmp_path),
        [row for row in run.table.rows if row["val/loss"] == min(run.table.rows.column("val/loss"))],
    )
    assert row["epoch"] < 5
    own = {name: value for name, value in row.items() if name.startswith(("train/", "val/"))}
    test = {name: value for name, value in record["metrics"].items() if name.startswith("test/")}
    assert filed == [{"epoch": row["epoch"]} | own | test]
    printed = capsys.readouterr().out
    assert f"{row['epoch'] + 1} of 6" in printed
    for name in ("train/loss", "val/loss", "test/loss"):
        assert f"{(own | test)[name]:.4g}" in printed, name
    assert f"{record['metrics']['val/loss']:.4g}" not in printed  # the last epoch's


def test_a_validation_interval_longer_than_an_epoch_is_refused(trained):
    with pytest.raises(UserError, match=r"trainer\.val_check_interval=500: an epoch has 4 batches"):
        trained("data=wine", "trainer.val_check_interval=500")
    trained("data=wine", "trainer.val_check_interval=6", "trainer.check_val_every_n_epoch=null", "trainer.max_epochs=2")


@pytest.mark.parametrize("algorithm", ["norm", "value"])
def test_gradients_are_clipped_alike_by_hand_and_by_autograd(trained, algorithm):
    shared = ("data=wine", "trainer.precision=64-true", "trainer.max_epochs=3", "trainer.gradient_clip_val=0.01",
              f"trainer.gradient_clip_algorithm={algorithm}")  # fmt: skip
    hand, engine = trained(*shared), trained(*shared, "model.gradient=autograd")
    assert nearly_equal(weights(hand), weights(engine))
    assert not nearly_equal(weights(hand), weights(trained(*shared[:3])))


@pytest.mark.parametrize(
    ("overrides", "steps"),
    [
        (("trainer.limit_train_batches=5",), 10),
        (("trainer.limit_train_batches=30",), 60),
        (("trainer.limit_train_batches=0.5",), 40),
        (("trainer.max_steps=57",), 57),
        (("trainer.val_check_interval=7",), 80),
        (("trainer.val_check_interval=25", "trainer.check_val_every_n_epoch=null"), 80),
    ],
)
def test_lightnings_limits_are_counted_in_steps(trained, overrides, steps, monkeypatch):
    validated = []
    original = LightningMLP.on_validation_epoch_end
    monkeypatch.setattr(
        LightningMLP,
        "on_validation_epoch_end",
        lambda self: validated.append(self.trainer.fit_loop.total_batch_idx + 1) or original(self),
    )
    folder = trained("trainer.max_epochs=2", *overrides)  # 40 batches of digits an epoch
    assert result(folder)["steps"] == steps
    if "interval=7" in overrides[0]:
        assert validated == [7, 14, 21, 28, 35, 47, 54, 61, 68, 75]
    if "interval=25" in overrides[0]:
        assert validated == [25, 50, 75]


class SaveAt(Callback):
    """Saves a checkpoint in the middle of an epoch."""

    def __init__(self, step, path):
        self.step, self.path = step, path

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)


@pytest.mark.parametrize("step", [5, 21, 31])
def test_a_run_is_resumed_in_the_middle_of_an_epoch(trained, monkeypatch, tmp_path, step):
    middle = tmp_path / "middle.ckpt"
    original = train.build_callbacks
    monkeypatch.setattr(train, "build_callbacks", lambda *a: [*original(*a), SaveAt(step, middle)])
    # 16 batches an epoch.
    shared = (
        "data=wine",
        "data.batch_size=8",
        "optimizer=adam",
        "trainer.max_epochs=3",
        "trainer.val_check_interval=5",
    )
    whole = trained(*shared, "trainer.precision=64-true")
    rest = trained(*shared, "trainer.precision=64-true", f"ckpt_path={middle}")
    assert torch.load(middle, weights_only=True)["global_step"] == step
    assert result(rest)["steps"] == result(whole)["steps"] == 48
    for name, value in weights(whole).items():
        assert torch.equal(value, weights(rest)[name]), name


def gradient_descent_by_the_page(W_I, b_I, W_O, b_O, x, y, alpha, steps):
    """Plain gradient descent in numpy: tanh, softmax, cross-entropy, one column per sample, one gradient per sample."""
    for _ in range(steps):
        gradients = [np.zeros_like(p) for p in (W_I, b_I, W_O, b_O)]
        for sample, label in zip(x, y, strict=True):
            z_I = W_I.T @ sample + b_I
            h = np.tanh(z_I)
            z_O = W_O.T @ h + b_O
            e = np.exp(z_O - z_O.max())
            yhat = e / e.sum()
            dL_dyhat = np.zeros_like(yhat)
            dL_dyhat[label] = -1 / yhat[label]
            delta_O = (np.diag(yhat) - np.outer(yhat, yhat)) @ dL_dyhat
            delta_I = (W_O @ delta_O) * (1 - np.tanh(z_I) ** 2)
            parts = (np.outer(sample, delta_I), delta_I, np.outer(h, delta_O), delta_O)
            gradients = [total + part / len(x) for total, part in zip(gradients, parts, strict=True)]
        W_I, b_I, W_O, b_O = (p - alpha * g for p, g in zip((W_I, b_I, W_O, b_O), gradients, strict=True))
    return W_I, b_I, W_O, b_O


def test_ten_steps_on_the_full_batch_are_plain_gradient_descent(trained, loaded):
    folder = trained(
        "data.batch_size=full", "optimizer.momentum=0", "trainer.max_epochs=10", "trainer.precision=64-true"
    )
    saved = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    initial = LightningMLP(**saved["hyper_parameters"])  # which include the seed
    start = [parameter.detach().double().numpy() for parameter in initial.parameters()]
    data = loaded("trainer.precision=64-true").rows["train"]
    theirs = gradient_descent_by_the_page(*start, data.x.numpy(), data.y.numpy(), alpha=0.1, steps=10)
    for ours, expected in zip(saved["state_dict"].values(), theirs, strict=True):
        np.testing.assert_allclose(ours.numpy(), expected, rtol=1e-10, atol=1e-12)


def test_a_run_writes_its_files(trained):
    folder = trained("data=wine", "logger=csv", "trainer.max_epochs=3")
    record = result(folder)
    assert record["status"] == "finished"
    assert (record["epochs"], record["steps"]) == (3, 12)
    assert {"train/loss", "train/acc", "val/loss", "val/acc", "test/loss", "test/acc"} <= record["metrics"].keys()
    assert len(record["config_hash"]) == 64
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["0", "1", "2"]
    assert all(row[name] for row in rows for name in ("train/loss", "train/acc", "val/loss", "val/acc"))
    assert record["objective"]["value"] == min(float(row["val/loss"]) for row in rows)
    assert not list(folder.glob("*.tmp"))


@pytest.mark.parametrize("logger", ["wandb", "tensorboard", "none"])
@pytest.mark.parametrize("in_sweep", [False, True])
def test_every_run_writes_metrics_csv_with_any_logger(configured, tmp_path, logger, in_sweep):
    shared = ("data=wine", "trainer=cpu", "callbacks=quiet", "trainer.max_epochs=2", "plots=false", "report=false")
    for name in ("csv", logger):
        folder = tmp_path / name / "0"
        folder.mkdir(parents=True)
        train.train(configured(*shared, f"logger={name}"), folder, sweep=folder.parent if in_sweep else None)
    rows = (tmp_path / "csv" / "0" / "metrics.csv").read_text()
    assert len(rows.splitlines()) == 3
    assert (tmp_path / logger / "0" / "metrics.csv").read_text() == rows


def test_the_logged_training_metrics_are_those_of_the_epoch(trained, loaded):
    # With a tiny learning rate the network hardly changes, so that its loss can be computed afterwards.
    folder = trained("data=wine", "trainer.max_epochs=1", "optimizer.lr=1e-12", "trainer.precision=64-true")
    saved = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    module = LightningMLP(**saved["hyper_parameters"]).double()
    module.load_state_dict(saved["state_dict"])
    data = loaded("data=wine", "trainer.precision=64-true")
    for split in ("train", "val", "test"):
        part = data.rows[split]
        yhat = module.model.to_sequential()(part.x)
        expected = torch.nn.functional.nll_loss(yhat.detach().log(), part.y)
        assert result(folder)["metrics"][f"{split}/loss"] == pytest.approx(float(expected), rel=1e-6)
        accuracy = (yhat.argmax(-1) == part.y).double().mean()
        assert result(folder)["metrics"][f"{split}/acc"] == pytest.approx(float(accuracy), rel=1e-6)


def test_regression_metrics_are_in_the_targets_own_units(trained, loaded):
    from sklearn.metrics import mean_absolute_error, r2_score

    folder = trained("data=diabetes", "trainer.max_epochs=3", "optimizer.lr=0.01")
    saved = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)
    module = LightningMLP(**saved["hyper_parameters"])
    module.load_state_dict(saved["state_dict"])
    data = loaded("data=diabetes")
    part = data.rows["test"]
    with torch.no_grad():
        predicted = module(part.x)[:, 0].double() * data.target_std + data.target_mean
    true = part.y[:, 0].double() * data.target_std + data.target_mean
    assert result(folder)["metrics"]["test/mae"] == pytest.approx(mean_absolute_error(true, predicted), rel=1e-5)
    assert result(folder)["metrics"]["test/r2"] == pytest.approx(r2_score(true, predicted), rel=1e-4)


def test_a_run_whose_loss_is_not_finite_stops_as_diverged(trained):
    folder = trained("data=diabetes", "optimizer.lr=100", "trainer.max_epochs=20")
    record = result(folder)
    assert record["status"] == "diverged"
    assert record["epochs"] < 20
    assert record["metrics"]["train/loss"] > 1e4


def test_a_run_that_fails_says_why(trained, monkeypatch, tmp_path):
    monkeypatch.setattr(LightningMLP, "validation_step", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        trained("data=wine")
    (folder,) = tmp_path.iterdir()
    assert result(folder)["status"] == "failed"
    assert "division by zero" in result(folder)["error"]


@pytest.mark.parametrize(
    "overrides",
    [
        ("trainer.limit_val_batches=0",),
        ("trainer.limit_val_batches=0", "trainer.val_check_interval=0.5"),
        ("trainer.check_val_every_n_epoch=5",),
        ("trainer.check_val_every_n_epoch=3",),
    ],
)
def test_a_training_objective_needs_no_validation(configured, tmp_path, overrides, capsys):
    # With a tiny learning rate the loss hardly changes: after the first epoch it does not improve.
    shared = ("callbacks=early_stopping", "logger=none", "trainer=cpu", "scheduler=plateau", "objective=train/loss")
    own = ("data=wine", "trainer.max_epochs=4", "optimizer.lr=1e-6", "scheduler.min_lr=0", "scheduler.patience=0")
    stopping = ("callbacks.early_stopping.patience=2", "callbacks.early_stopping.min_delta=0.5")
    config = configured(*shared, *own, *stopping, "trainer.check_val_every_n_epoch=1", *overrides)
    run = train.Run(config, tmp_path)
    run.train()
    record = result(tmp_path)
    assert (record["status"], record["epochs"]) == ("finished", 3)
    assert {"train/loss", "test/loss"} <= record["metrics"].keys()
    best = min(run.table.rows, key=lambda row: row["train/loss"])
    saved = torch.load(tmp_path / "checkpoints" / "best.ckpt", weights_only=True)
    assert saved["epoch"] == best["epoch"]
    assert f"{best['epoch'] + 1} of 3" in capsys.readouterr().out


def test_the_best_checkpoint_of_a_training_objective_may_be_of_an_epoch_without_validation(trained):
    folder = trained("data=wine", "trainer.max_epochs=3", "trainer.check_val_every_n_epoch=2", "objective=train/loss")
    assert torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)["epoch"] == 2


def test_a_run_that_ends_before_its_first_validation_is_not_stopped_early(trained):
    folder = trained("data=wine", "callbacks=early_stopping", "trainer.max_steps=2")
    assert (result(folder)["status"], result(folder)["steps"]) == ("finished", 2)


def test_what_lightning_refuses_after_loading_the_data_is_one_line(trained):
    with pytest.raises(UserError, match=r"^trainer: You requested to check 0\.5 of the `val_dataloader`"):
        trained("data=wine", "trainer.limit_val_batches=0.5")


@pytest.mark.parametrize("batches", ["true", "2"])
def test_a_fast_dev_run_finishes_with_a_report_and_without_curves(trained, batches):
    folder = trained("data=wine", f"trainer.fast_dev_run={batches}", "plots=true", "report=true")
    assert result(folder)["status"] == "finished"
    assert (folder / "report.html").is_file()
    assert not (folder / "plots" / "curves.png").exists()


@pytest.mark.parametrize("fast", ["true", "false"])
def test_a_run_ends_its_wandb_run(trained, fast):
    # In a `fast_dev_run` Lightning replaces the run's loggers.
    shared = ("data=wine", "trainer.max_epochs=1", "logger=wandb", "logger.wandb.mode=disabled")
    trained(*shared, f"trainer.fast_dev_run={fast}")
    assert wandb.run is None


@pytest.mark.parametrize(
    "overrides",
    [
        ("optimizer=adamw", "scheduler=cosine"),
        ("optimizer=adam", "scheduler=plateau", "objective=val/acc"),
        ("data=breast_cancer", "callbacks=early_stopping"),
        ("data=breast_cancer", "model.output_activation=softmax", "model.loss=mse"),
        ("data=wine", "model=linear", "model.loss=mse", "model.output_activation=identity"),
        ("model=deep", "model.hidden_activation=relu", "model.init=kaiming", "optimizer.lr=0.01"),
        ("trainer.precision=bf16-true",),
        ("data=wine", "model.loss=mse", "model.output_activation=sigmoid"),
    ],
)
def test_other_settings_train_too(trained, overrides):
    folder = trained(*overrides, "trainer.max_epochs=3")
    metrics = result(folder)["metrics"]
    assert metrics["train/loss"] < 1.0
    assert metrics["test/acc"] > 0.8


@pytest.mark.slow
def test_the_default_network_reads_digits_as_well_as_scikit_learns(trained, loaded):
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    data = loaded()
    train, test = data.rows["train"], data.rows["test"]
    ours, theirs = [], []
    for seed in range(5):
        ours.append(result(trained(f"seed={seed}"))["metrics"]["test/acc"])
        peer = MLPClassifier(
            (64,),
            activation="tanh",
            solver="sgd",
            alpha=0,
            batch_size=32,
            learning_rate_init=0.1,
            momentum=0.9,
            nesterovs_momentum=False,
            max_iter=30,
            n_iter_no_change=30,
            random_state=seed,
        )
        with pytest.warns(ConvergenceWarning, match="30"):  # it, too, stops after 30 epochs
            peer.fit(train.x.numpy(), train.y.numpy())
        theirs.append(peer.score(test.x.numpy(), test.y.numpy()))
    print("ours", ours, "scikit-learn", theirs)
    assert np.mean(ours) >= 0.97
    assert abs(np.mean(ours) - np.mean(theirs)) <= 0.005


def test_a_jobs_folder_that_another_command_uses_is_not_touched(configured, tmp_path):
    release = lock_folder(tmp_path / "0", "hydra.sweep.dir")
    with pytest.raises(UserError, match="is writing to it"):
        train.train(configured("data=wine", "logger=none"), tmp_path / "0", sweep=tmp_path)
    assert not (tmp_path / "0" / "result.json").exists()
    release()


@pytest.mark.parametrize(("status", "told"), [("finished", False), ("diverged", False), ("failed", True)])
def test_only_an_unfinished_run_is_reported_as_interrupted(configured, tmp_path, caplog, status, told):
    # A reader of the output may close the pipe after the run has ended, as `| head -1` does.
    config = configured("data=wine", "logger=none")
    write_result(Result(status, {"name": "val/loss", "value": None}), config, tmp_path)
    leave_interrupted(config, tmp_path)
    assert ("interrupted" in caplog.text) == told


@pytest.mark.parametrize("setting", ["fail", "ok"])
def test_a_diverged_run_is_reported_and_fails_unless_it_may_diverge(configured, capsys, monkeypatch, setting):
    monkeypatch.setattr("sys.argv", ["train.py"])
    config = configured(f"on_divergence={setting}")
    report_divergence({"status": "finished", "error": None}, config)
    assert capsys.readouterr() == ("", "")
    with pytest.raises(UserError, match="diverged: the loss is infinite") if setting == "fail" else nullcontext():
        report_divergence({"status": "diverged", "error": "the loss is infinite"}, config)
    assert capsys.readouterr() == ("", "" if setting == "fail" else "train.py: diverged: the loss is infinite\n")


@pytest.mark.parametrize("accelerator", parts.ACCELERATORS)
def test_a_missing_accelerator_is_answered_with_what_to_use(accelerator, configured, tmp_path, monkeypatch):
    for kind in parts.ACCELERATORS[accelerator]:
        monkeypatch.setattr(kind, "is_available", staticmethod(lambda: False))
    with pytest.raises(UserError, match=f"trainer.accelerator={accelerator}: .*; use trainer=auto$"):
        parts.build_trainer(configured(f"trainer.accelerator={accelerator}"), tmp_path, [], False)


def test_the_log_has_the_setup_each_epoch_the_reason_of_the_end_and_the_test_metrics(trained, caplog):
    caplog.set_level("INFO")
    train.quiet_lightning()
    folder = trained("data=wine", "trainer.max_epochs=2", "logger=csv")
    record = result(folder)
    best = 1 + min(range(2), key=lambda epoch: float(rows(folder)[epoch]["val/loss"]))
    assert [each.name for each in caplog.records] == ["backhand.training.train_log"] * 6
    setup, network, *epochs, end, tested = [each.getMessage() for each in caplog.records]
    assert setup == "data: wine, 124 train, 27 val, 27 test samples of 13 features, 3 classes"
    assert network == "network: 13-64-3, 1,091 parameters, on cpu"
    for epoch, (line, row) in enumerate(zip(epochs, rows(folder), strict=True), 1):
        losses = ", ".join(f"{name} {float(row[name]):.4g}" for name in ("train/loss", "val/loss"))
        assert line == f"epoch {epoch}/2: {losses}"
    assert end == f"2 epochs, {record['steps']} steps, {record['seconds']:.1f} s: trainer.max_epochs reached"
    assert tested.startswith(f"best epoch {best}: val/loss ")
    assert tested.endswith(f"test/acc {record['metrics']['test/acc']:.2%}")


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (["trainer.max_steps=5"], "trainer.max_steps reached"),
        (["callbacks=early_stopping", "callbacks.early_stopping.patience=1", "optimizer.lr=1e-9"], "early stopping"),
        (["optimizer.lr=1e9", "model.hidden_activation=relu"], "diverged: "),
    ],
)
def test_the_log_says_why_a_run_ended(trained, caplog, overrides, reason):
    caplog.set_level("INFO")
    trained("data=wine", *overrides, "callbacks.progress_bar=false")
    assert any(f" s: {reason}" in each.getMessage() for each in caplog.records)


@pytest.mark.parametrize("objective", ["val/acc", "val/loss", "train/loss"])
def test_an_epochs_line_has_the_losses_and_the_objective(trained, caplog, objective):
    caplog.set_level("INFO")
    trained("data=wine", "trainer.max_epochs=1", f"objective={objective}")
    (line,) = [each.getMessage() for each in caplog.records if each.getMessage().startswith("epoch 1/1: ")]
    assert [part.split()[0] for part in line.partition(": ")[2].split(", ")] == list(
        dict.fromkeys(["train/loss", "val/loss", objective])
    )
