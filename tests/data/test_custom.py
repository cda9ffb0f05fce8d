"""`data=custom`: the user's Dataset and DataModule, compared with a training loop in torch."""

import json
import os
import signal

import pytest
import torch
from lightning.pytorch import LightningDataModule
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from backhand.calculus import backpropagation
from backhand.data.custom import SHARED_KEYS, check_batch, warn_of_class_numbers
from backhand.data.module import load
from backhand.errors import UserError
from backhand.training import train
from backhand.training.evaluation import evaluate_split
from backhand.training.interruption import Interruption
from backhand.training.parts import build_data

N, D = 60, 6
EXACT = ("trainer.precision=64-true", "model.hidden=[5]", "trainer.max_epochs=3", "optimizer.momentum=0.9")


def samples(kind, rows=N):
    """X (rows, 2, 3) and y: classes, one number, two numbers, or one number with weights."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(rows, 2, 3, generator=generator, dtype=torch.float64)
    y = {
        "classes": torch.arange(rows) % 3,
        "number": x.sum((1, 2)),
        "numbers": x.sum(1)[:, :2],
        "weighted": x.sum((1, 2)),
    }[kind]
    weight = [torch.rand(rows, generator=generator, dtype=torch.float64)] if kind == "weighted" else []
    return x, y, *weight


class Items(Dataset):
    """A map-style data set."""

    def __init__(self, kind="classes", rows=N):
        self.samples = samples(kind, rows)

    def __len__(self):
        return len(self.samples[0])

    def __getitem__(self, index):
        return tuple(each[index] for each in self.samples)


class Module(LightningDataModule):
    """DataLoaders without shuffling; the calls of `setup` and `teardown` are recorded."""

    calls = ()

    def __init__(self, kind="classes", batch_size=1, shuffle=False, rows=N):
        super().__init__()
        self.kind, self.batch_size, self.shuffle, self.rows = kind, batch_size, shuffle, rows
        self.epochs = 0
        type(self).calls = []

    def setup(self, stage):
        self.calls.append(f"setup {str.__str__(stage)}")
        whole = TensorDataset(*samples(self.kind, self.rows))
        self.parts = [TensorDataset(*whole[start : start + 20]) for start in range(0, self.rows, 20)]

    def teardown(self, stage):
        self.calls.append(f"teardown {str.__str__(stage)}")
        self.parts = None

    def train_dataloader(self):
        return DataLoader(self.parts[0], self.batch_size, shuffle=self.shuffle)

    def val_dataloader(self):
        return DataLoader(self.parts[1], 7)

    def test_dataloader(self):
        return DataLoader(self.parts[2], 7)


class Doubled(Module):
    """A hook that changes the inputs and needs the trainer."""

    def on_after_batch_transfer(self, batch, dataloader_idx):
        assert self.trainer is not None
        return batch[0] * 2, *batch[1:]


class TrainingOnly(LightningDataModule):
    """No validation and no test loader."""

    def train_dataloader(self):
        return DataLoader(TensorDataset(*samples("classes")), 8)


class NoValidation(Module):
    def val_dataloader(self):
        return []


class NoTest(Module):
    def test_dataloader(self):
        return None


class Remembering(Module):
    """The batches depend on the number of calls, which is part of the checkpoint."""

    def train_dataloader(self):
        self.epochs += 1
        part = self.parts[0]
        return DataLoader(TensorDataset(*(t.roll(self.epochs, 0) for t in part.tensors)), 5)

    def state_dict(self):
        return {"epochs": self.epochs - 1}  # the epoch that the layer statistics read is not counted

    def load_state_dict(self, state_dict):
        self.epochs = state_dict["epochs"]


def named(kind, *overrides, classes=3):
    sizes = (f"data.features={D}", f"data.classes={classes}")
    return ("data=custom", f"data._target_={__name__}.{kind.__name__}", *sizes, *overrides)


def run_of(configured, tmp_path, *overrides):
    tmp_path.mkdir(exist_ok=True)
    return train.Run(configured("callbacks=quiet", "logger=none", "trainer=cpu", *overrides), tmp_path)


def result(folder):
    return json.loads((folder / "result.json").read_text())


def weights(folder):
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def train_with_torch(net, batches, criterion, epochs=3, momentum=0.9):
    """Train with autograd and torch.optim.SGD."""
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=momentum)
    for _ in range(epochs):
        for x, y, *weight in batches:
            optimizer.zero_grad()
            criterion(net(x.flatten(1)), y, *weight).backward()
            optimizer.step()
    return [parameter.detach() for parameter in net.parameters()]


def squared_error(yhat, y, weight=None):
    """½ of the mean over the outputs and the samples, or their weights."""
    each = (yhat - y.reshape(len(yhat), -1)).square().mean(1)
    return each.mean() if weight is None else (each * weight).sum() / weight.sum()


KINDS = {
    "classes": ((), 3, nn.functional.cross_entropy),
    "number": (("++data.kind=number",), "null", squared_error),
    "numbers": (("++data.kind=numbers", "data.outputs=2"), "null", squared_error),
    "weighted": (("++data.kind=weighted",), "null", squared_error),
}


def assert_as_torch(run, batches, criterion):
    net = run.module.model.to_sequential()
    net = net[:-1] if criterion is nn.functional.cross_entropy else net  # torch's takes what softmax is to have
    expected = train_with_torch(net, batches, criterion)
    run.train(standalone=False)
    run.module.load_state_dict(weights(run.folder))  # the last epoch's, not the best one's
    for ours, theirs in zip(run.module.model.to_sequential().parameters(), expected, strict=True):
        assert (ours - theirs).abs().max() <= 1e-9 * theirs.abs().max()


@pytest.mark.parametrize("kind", KINDS)
def test_a_module_trains_as_a_torch_loop_does(configured, tmp_path, monkeypatch, kind):
    called = []
    original = backpropagation.backward
    monkeypatch.setattr(backpropagation, "backward", lambda *a: called.append(1) or original(*a))
    overrides, classes, criterion = KINDS[kind]
    audited = ("callbacks=audit", "callbacks.audit.every=1", "callbacks.progress_bar=false")
    run = run_of(
        configured, tmp_path, *named(Module, *overrides, classes=classes), *EXACT, "data.batch_size=8",
        "optimizer.lr=0.1", *audited,
    )  # fmt: skip
    batches = list(DataLoader(TensorDataset(*(t[:20] for t in samples(kind))), 8))
    assert_as_torch(run, batches, criterion)
    found = result(tmp_path)
    assert found["steps"] == len(called) == found["audit"]["times"] == 9
    assert found["audit"]["worst"] < 1e-12


@pytest.mark.parametrize("kind", KINDS)
def test_a_dataset_trains_as_a_torch_loop_does(configured, tmp_path, kind):
    overrides, classes, criterion = KINDS[kind]
    run = run_of(
        configured, tmp_path, *named(Items, *overrides, classes=classes), *EXACT, "data.batch_size=full",
        "optimizer.lr=0.1",
    )  # fmt: skip
    ids = run.data.dataset.rows["train"].ids
    assert len(ids) == 42
    assert_as_torch(run, [[t[ids] for t in samples(kind)]], criterion)


class Digits(Dataset):
    """The digits of `data=digits`, sample by sample."""

    rows = None

    def __len__(self):
        return len(self.rows[0])

    def __getitem__(self, index):
        x, y = self.rows
        return x[index].view(8, 8), int(y[index])


def test_digits_as_a_custom_dataset_give_the_run_of_data_digits(configured, trained, loaded):
    rows = loaded("trainer.precision=64-true").dataset.rows.values()
    order = torch.cat([each.ids for each in rows]).argsort()
    Digits.rows = [torch.cat(parts)[order] for parts in zip(*((each.x, each.y) for each in rows), strict=True)]
    shared = ("trainer.max_epochs=2", "trainer.precision=64-true", "plots=true")
    named_digits = ("data=custom", f"data._target_={__name__}.Digits", "data.features=64", "data.classes=10")
    ours, theirs = trained(*named_digits, *shared), trained(*shared)
    for name, value in weights(theirs).items():
        assert torch.equal(weights(ours)[name], value), name
    assert result(ours)["metrics"] == result(theirs)["metrics"]
    ours, theirs = (json.loads((folder / "findings.json").read_text()) for folder in (ours, theirs))
    assert ours["confusion"] == theirs["confusion"]
    assert [each["id"] for each in ours["worst"]] == [each["id"] for each in theirs["worst"]]


def test_metrics_and_findings_are_those_of_the_loaders_samples(configured, trained, tmp_path):
    overrides = (*named(Module, "data.batch_size=8"), *EXACT, "plots=true", "report=true")
    folder = trained(*overrides)
    config, checkpoint = configured(*overrides), folder / "checkpoints" / "best.ckpt"
    x, y = (t[40:] for t in samples("classes"))
    metrics, table = evaluate_split(config, checkpoint, "test")
    assert metrics == pytest.approx({key: result(folder)["metrics"][key] for key in metrics})
    header, *predicted = table
    assert header[:3] == ["id", "target", "prediction"]
    assert [row[:2] for row in predicted] == [[place, str(int(number))] for place, number in enumerate(y)]
    right = sum(row[1] == row[2] for row in predicted) / len(predicted)
    assert metrics["test/acc"] == pytest.approx(right)
    metrics, _ = evaluate_split(config, checkpoint, "val")
    row = result(folder)["best"]
    assert metrics["val/loss"] == pytest.approx(row["val/loss"])
    findings = json.loads((folder / "findings.json").read_text())
    assert sum(sum(row) for row in findings["confusion"]) == len(x)
    worst = findings["worst"][0]
    assert worst["target"] == str(int(y[worst["id"]]))
    assert (folder / "plots" / "confusion.png").exists()
    assert (folder / "report.html").exists()


def test_the_hooks_of_the_module_are_called(configured, tmp_path):
    run = run_of(configured, tmp_path, *named(Doubled, "data.batch_size=8"), *EXACT, "optimizer.lr=0.1", "plots=true")
    x, y = samples("classes")
    batches = list(DataLoader(TensorDataset(2 * x[:20], y[:20]), 8))
    assert_as_torch(run, batches, nn.functional.cross_entropy)
    assert run.data.module.trainer is run.trainer


@pytest.mark.parametrize("callbacks", ["quiet", "default"])
def test_every_setup_has_its_teardown(configured, tmp_path, callbacks):
    settings = (f"callbacks={callbacks}", "callbacks.progress_bar=false", "plots=true")
    run_of(configured, tmp_path, *named(Module), *EXACT, *settings).train()
    stages = ["fit", "test", "test"]
    assert Module.calls == [f"{what} {stage}" for stage in stages for what in ("setup", "teardown")]


def test_layer_statistics_do_not_change_the_random_numbers_of_the_run(trained):
    shuffled = (*named(Module, "++data.shuffle=true"), *EXACT, "data.batch_size=5")
    without_flow, with_flow = (trained(f"callbacks={name}", *shuffled) for name in ("quiet", "default"))
    other = trained(*named(Module), *EXACT, "data.batch_size=5")
    for name, value in weights(without_flow).items():
        assert torch.equal(weights(with_flow)[name], value), name
        assert not torch.equal(weights(other)[name], value), name


@pytest.mark.parametrize("kind", [Module, Remembering])
def test_a_resumed_run_restores_the_state_of_the_module(trained, kind):
    shared = (*named(kind, "data.batch_size=8"), *EXACT, "trainer.reload_dataloaders_every_n_epochs=1")
    if kind is Remembering:
        shared = (*shared, "callbacks=quiet")
    whole = trained(*shared, "trainer.max_epochs=4")
    half = trained(*shared, "trainer.max_epochs=2")
    rest = trained(*shared, "trainer.max_epochs=4", f"ckpt_path={half}/checkpoints/last.ckpt")
    for name, value in weights(whole).items():
        assert torch.equal(weights(rest)[name], value), name
    assert result(rest)["epochs"] == 4


def test_without_validation_the_training_loss_is_the_objective(configured, trained, tmp_path):
    with pytest.raises(UserError, match=r"objective=val/loss: .*TrainingOnly has no val_dataloader; choose train/loss"):
        trained(*named(TrainingOnly))
    with pytest.raises(UserError, match=r"objective=val/acc: .*NoValidation has no val_dataloader; choose train/loss"):
        trained(*named(NoValidation), "objective=val/acc")
    for kind in (TrainingOnly, NoValidation):
        folder = trained(*named(kind), *EXACT, "objective=train/loss", "plots=true", "report=true")
        found = result(folder)
        assert found["objective"]["value"] == found["best"]["train/loss"]
        assert not any(name.startswith("val/") for name in found["metrics"])


@pytest.mark.parametrize("kind", [NoTest, TrainingOnly])
def test_without_a_test_split_there_are_no_test_metrics(configured, trained, kind):
    overrides = (*named(kind), *EXACT, "plots=true", "report=true", "objective=train/loss")
    folder = trained(*overrides)
    assert not any(name.startswith("test/") for name in result(folder)["metrics"])
    assert {path.name for path in (folder / "plots").iterdir()} == {"curves.png"}
    assert (folder / "report.html").exists()
    with pytest.raises(UserError, match="split=test: the data have no such split"):
        evaluate_split(configured(*overrides), folder / "checkpoints" / "best.ckpt", "test")


class Fragile(Module):
    """The test split can be read only once."""

    def setup(self, stage):
        if self.calls[-1:] == ["teardown test"]:
            raise OSError("the files are gone")
        super().setup(stage)


def test_a_run_whose_plots_cannot_be_drawn_does_not_fail(trained, caplog):
    folder = trained(*named(Fragile), *EXACT, "plots=true")
    assert result(folder)["status"] == "finished"
    assert "no error analysis: " in caplog.text
    assert "the files are gone" in caplog.text


class Takes(Items):
    given = None

    def __init__(self, batch_size, features, classes, val_fraction, split_seed, *, deep, rows=N):
        super().__init__(rows=rows)
        type(self).given = (batch_size, features, classes, val_fraction, split_seed, deep)


def test_keys_are_passed_to_the_class(configured):
    config = configured(*named(Takes, "data.batch_size=9", "++data.deep.list=[1,a]", "++data.rows=90"))
    dataset = load(config.data)
    assert Takes.given == (9, 6, 3, 0.15, 0, {"list": [1, "a"]})
    assert sum(len(rows.x) for rows in dataset.rows.values()) == dataset.info.samples == 90
    assert set(SHARED_KEYS) <= set(vars(config.data))


class Broken(Module):
    """Batches that do not match the configuration."""

    batch = None

    def train_dataloader(self):
        return DataLoader([self.batch], None)


x2, y2 = torch.zeros(4, 2, 3), torch.tensor([0, 1, 2, 2])
WRONG = {
    "a tensor": (x2, r"a batch must be \(x, y\) or \(x, y, weight\), all tensors; it is Tensor"),
    "a dict": ({"x": x2, "y": y2}, "it is dict"),
    "four": ((x2, y2, y2, y2), r"it is \['Tensor', 'Tensor', 'Tensor', 'Tensor'\]"),
    "a list": ((x2, [0, 1, 2, 2]), r"it is \['Tensor', 'list'\]"),
    "rows": ((x2, y2[:3]), r"must have one row per sample; a batch has the shapes \(4, 2, 3\), \(3,\)"),
    "features": ((x2[:, :1], y2), "a sample has 3 numbers, not data.features=6"),
    "a class": ((x2, y2 + 1), "with data.classes=3 y must be one number from 0 to 2 per sample; one is 3"),
    "a negative class": ((x2, y2 - 1), "one is -1"),
    "one-hot": ((x2, nn.functional.one_hot(y2)), r"a batch has int64 \(4, 3\)"),
    "floats": ((x2, y2.float()), r"a batch has float32 \(4,\)"),
    "a weight": ((x2, y2, torch.tensor([1.0, -1, 1, 1])), "the weights must be 0 or more; one is -1"),
    "weights": ((x2, y2, torch.ones(4, 2)), r"there must be one weight per sample; a batch has \(4, 2\)"),
}


@pytest.mark.parametrize(("batch", "reason"), WRONG.values(), ids=WRONG)
def test_a_wrong_batch_is_refused_in_one_line(trained, monkeypatch, batch, reason):
    monkeypatch.setattr(Broken, "batch", batch)
    with pytest.raises(UserError, match=r"data\._target_=.*Broken: .*" + reason) as caught:
        trained(*named(Broken))
    assert "\n" not in str(caught.value)


def test_the_number_of_targets_must_be_data_outputs(configured):
    info = load(configured(*named(Module, "data.outputs=2", classes="null")).data).info
    x, y, _ = check_batch((x2[0], torch.ones(2, 2)), info=info.__class__(3, None, outputs=2), where="")
    assert (x.shape, y.shape) == ((2, 3), (2, 2))
    with pytest.raises(UserError, match=r"a sample's y has 1 numbers, not data\.outputs=2"):
        check_batch((x2, y2), info, "here")


def test_values_are_not_checked_with_check_values_false():
    info = type("Shape", (), {"features": 6, "classes": 3, "outputs": 1})
    check_batch((x2, y2 + 1), info, "", check_values=False)


class Several(Module):
    def val_dataloader(self):
        return [super().val_dataloader()] * 2


class Empty(Module):
    def train_dataloader(self):
        return DataLoader(self.parts[0], 50, drop_last=True)


class Untrainable(LightningDataModule):
    pass


class Stream(IterableDataset):
    def __iter__(self):
        yield torch.zeros(6), 0


class Uneven(Items):
    def __getitem__(self, index):
        return torch.zeros(6 if index else 5), 0


class Objects(Items):
    def __getitem__(self, index):
        return object(), 0


class TwoClasses(Items):
    def __getitem__(self, index):
        return torch.zeros(6), index % 2


class Weightless(Items):
    def __getitem__(self, index):
        return torch.zeros(6), index % 3, 0.0


class Bytes(Items):
    def __getitem__(self, index):
        return torch.full((6,), index, dtype=torch.uint8), index % 3


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (named(Several), "its val_dataloader returns 2 loaders; must be one"),
        (named(Empty), "its train_dataloader has no batches"),
        (named(Untrainable), "needs a train_dataloader"),
        (named(Module, "model.class_weight=balanced"), "model.class_weight=balanced: .* give one number per class"),
        (
            named(Module, "trainer.val_check_interval=21", "data.batch_size=1"),
            "an epoch has 20 batches",
        ),
        (named(Module, "++data.kind=numbers", "model.loss=poisson_nll", "data.outputs=2", classes="null"), "negative"),
        (named(Module, "++data.nonsense=1"), "data.nonsense: no such argument; Module has kind"),
        (named(nn.Linear), "must be the name of a subclass of lightning.*DataModule or torch.*Dataset"),
        (named(Stream), "must have a length and an index"),
        (named(Uneven), "all items must be tensors, arrays or numbers of one shape"),
        (named(Objects), "all items must be tensors, arrays or numbers of one shape"),
        (named(TwoClasses), r"no item is of class 2, with data\.classes=3"),
        (named(Weightless), "every weight of the training split is 0"),
        (named(Items, "++data.rows=0"), "has no items"),
        (named(Items, "++data.rows=30"), "leave 4 of the 30 samples of data=custom to val; it needs 6"),
        (
            named(Items, "++data.rows=1", "++data.kind=number", classes="null"),
            "data: 1 rows are too few for every split to get one",
        ),
        (named(Items, "data.test_fraction=0"), r"data\.test_fraction=0\.0: .*; must be above 0"),
    ],
)
def test_wrong_classes_and_settings_are_refused_in_one_line(trained, overrides, reason):
    overrides = [each.replace(f"{__name__}.Linear", "torch.nn.Linear") for each in overrides]
    with pytest.raises(UserError, match=reason) as caught:
        trained(*overrides)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", [Items, Module])
def test_class_numbers_without_the_number_of_classes_are_warned_of(trained, caplog, kind):
    trained(*named(kind, "data.batch_size=20", "trainer.max_epochs=1", "optimizer.lr=0.01", classes="null"))
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert said == [
        f"data._target_={__name__}.{kind.__name__}: its targets are whole numbers, 0 to 2; this is a regression, "
        "for classes set data.classes to their number"
    ]


@pytest.mark.parametrize(
    ("y", "loss"),
    [
        ([[0.5], [1]], "mse"),
        ([[-1], [1]], "mse"),
        ([[3], [3]], "mse"),
        ([[0], [70]], "mse"),
        ([[0], [1]], "poisson_nll"),
    ],
)
def test_other_targets_of_a_regression_are_not(caplog, y, loss):
    warn_of_class_numbers(torch.tensor(y), loss, "")
    assert not caplog.records


def test_the_split_does_not_depend_on_seed(configured):
    def ids(*overrides):
        return load(configured(*named(Items), *overrides).data).rows["test"].ids.tolist()

    assert ids() == ids("seed=5") != ids("data.split_seed=1")


def test_uint8_inputs_stay_uint8_in_memory(configured):
    config = configured(*named(Bytes))
    data = build_data(config, load(config.data))
    assert data.rows["train"].x.dtype == torch.uint8
    batch = next(iter(data.train_dataloader()))
    assert batch.x.dtype == torch.float32
    assert set(batch.x[:, 0].tolist()) <= set(range(N))


@pytest.fixture
def default_ctrl_c():
    """Python's own handler of Ctrl-C; a process in the background of a shell ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_worker_leaves_ctrl_c_to_the_run_that_began_it(default_ctrl_c, monkeypatch):
    with Interruption().handling_signals() as interruption:
        monkeypatch.setattr(os, "getpid", lambda: -1)
        signal.raise_signal(signal.SIGINT)
        assert interruption.received is None
        monkeypatch.undo()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


@pytest.mark.slow
def test_a_compiled_run_gives_the_same_weights(trained):
    overrides = (*named(Module, "data.batch_size=8"), *EXACT, "callbacks=audit", "callbacks.progress_bar=false")
    ours, theirs = trained(*overrides, "compile=true"), trained(*overrides)
    for name, value in weights(theirs).items():
        assert (weights(ours)[name] - value).abs().max() <= 1e-9 * value.abs().max(), name
    assert result(ours)["audit"]["worst"] < 1e-9
