"""Exceptions in the user's own classes: one line, a traceback in train.log, and no half-made run."""

import json
import logging

import pytest
from lightning.pytorch.callbacks import Callback

from backhand.errors import UserError
from backhand.training.own_code import OwnCodeError
from backhand.training.train import train

SCHEDULER = "torch.optim.lr_scheduler"


class Breaks(Callback):
    def on_train_epoch_end(self, trainer, pl_module):
        {}["nothing"]


class KeepsItself(Callback):
    def state_dict(self):
        return {"me": self}


@pytest.fixture
def log(tmp_path):
    """A log file like the one that Hydra sets up."""
    handler = logging.FileHandler(tmp_path / "train.log")
    logging.getLogger().addHandler(handler)
    yield tmp_path / "train.log"
    logging.getLogger().removeHandler(handler)


def test_what_a_callback_raises_is_one_line_and_its_traceback_is_in_the_log(configured, tmp_path, log, capsys):
    config = configured("data=wine", "logger=csv", f"callbacks.mine._target_={__name__}.Breaks")
    with pytest.raises(OwnCodeError) as caught:
        train(config, tmp_path)
    said = "the run failed: KeyError: 'nothing' (test_own_code.py, line 18, in on_train_epoch_end)"
    assert str(caught.value) == f"{said}; the traceback is in {log}"
    assert "Traceback (most recent call last)" in log.read_text()
    assert "KeyError: 'nothing'" in log.read_text()
    assert "Traceback" not in "".join(capsys.readouterr())
    assert json.loads((tmp_path / "result.json").read_text())["status"] == "failed"


def test_a_state_that_is_not_plain_data_is_refused_at_the_first_checkpoint(configured, tmp_path):
    config = configured("data=wine", "logger=csv", f"callbacks.mine._target_={__name__}.KeepsItself")
    with pytest.raises(UserError, match=r"KeepsItself: its state_dict must be numbers, strings"):
        train(config, tmp_path)
    assert not list(tmp_path.glob("checkpoints/*"))


def test_a_model_checkpoint_with_the_settings_of_best_ckpt_is_refused_and_another_one_writes_its_file(
    configured, tmp_path
):
    mine = ("callbacks.mine._target_=lightning.pytorch.callbacks.ModelCheckpoint", "callbacks.mine.monitor=val/loss")
    short = ("data=wine", "logger=csv", "trainer.max_epochs=2", "report=false", "plots=false", *mine)
    train(configured(*short, "callbacks.mine.every_n_epochs=2"), tmp_path)
    assert len([*tmp_path.rglob("epoch=*.ckpt")]) == 1
    with pytest.raises(UserError, match=r"^callbacks: two ModelCheckpoints .* monitor=val/loss; give yours another"):
        train(configured(*short), tmp_path / "same")


def test_an_exception_without_own_code_is_a_bug_and_passes(configured, tmp_path, monkeypatch):
    monkeypatch.setattr("backhand.training.train.load", lambda *settings: {}["bug"])
    with pytest.raises(KeyError):
        train(configured("data=wine", "logger=csv"), tmp_path)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (["optimizer=custom", "optimizer._target_=torch.optim.SparseAdam"], "the first step of SparseAdam fails"),
        (["optimizer=custom", "optimizer._target_=torch.optim.Muon"], "optimizer: Muon cannot be created"),
        (
            ["scheduler=custom", f"scheduler._target_={SCHEDULER}.StepLR", "++scheduler.step_size=0"],
            "scheduler: the first step of StepLR fails \\(ZeroDivisionError",
        ),
        (
            ["scheduler=custom", f"scheduler._target_={SCHEDULER}.ExponentialLR", "++scheduler.gamma=x"],
            "the first step of ExponentialLR fails",
        ),
        ([f"callbacks.mine._target_={__name__}.Missing"], "callbacks.mine._target_=.*: must be the name"),
        (["logger.mine._target_=lightning.pytorch.callbacks.Timer"], "logger.mine._target_=.*: must be"),
        (["logger.mine._target_=lightning.pytorch.loggers.CSVLogger", "logger.mine.dir=x"], "logger.mine.dir: no such"),
        ([f"data._target_={__name__}.Breaks", "data=custom", "data.features=1"], "data._target_=.*: must be"),
    ],
)
def test_a_part_that_fails_at_its_first_step_is_refused_before_the_data_are_read(
    configured, tmp_path, monkeypatch, settings, reason
):
    monkeypatch.setattr("backhand.training.train.load", lambda *settings: pytest.fail("the data are read"))
    with pytest.raises(UserError, match=reason):
        train(configured("logger=csv", *settings), tmp_path)


@pytest.mark.parametrize("name", ["ReduceLROnPlateau", "ExponentialLR"])
def test_testing_a_part_uses_no_random_numbers_of_the_run(configured, trained, name):
    settings = ["scheduler=custom", f"scheduler._target_={SCHEDULER}.{name}"]
    settings += ["++scheduler.gamma=1.0"] if name == "ExponentialLR" else ["++scheduler.patience=100"]
    folders = [trained("data=wine", "trainer.max_epochs=2", *each) for each in ([], settings)]
    plain, tried = (json.loads((folder / "result.json").read_text())["metrics"] for folder in folders)
    assert plain == tried
