"""Epochs of training with `train.py`, a bare torch loop, a typical LightningModule, and scikit-learn."""

import struct
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from timeit import timeit
from typing import Any, NamedTuple

import lightning as L
import numpy as np
import torch
from hydra import compose, initialize_config_dir
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Subset
from torchvision import transforms
from torchvision.datasets import MNIST

from backhand.config import CONF
from backhand.config.validation import can_compile, parse_config
from backhand.data.module import EVALUATION_BATCH, InMemoryData
from backhand.training.optimizers import build_optimizer
from backhand.training.train import Run, quiet_lightning, threads_for
from measuring import TRAIN, BenchmarkTable, arguments, check_equal, in_turn, positive, process
from step import logits

OURS, AUTOGRAD, COMPILED = "train.py without logging", "train.py, model.gradient=autograd", "train.py, compile=true"
BARE, USUAL = "bare torch loop", "Lightning + torchvision, sample by sample"
SCIKIT_LEARN = "scikit-learn's MLPClassifier"
NOTHING = "train.py logger=none callbacks=quiet plots=false"


class Work(NamedTuple):
    """The work of a contender: training samples, optimizer steps, and the last epoch's training loss."""

    rows: int
    steps: int
    loss: float


def main() -> None:
    """Run the benchmark."""
    parser = arguments(__doc__, rounds=5)
    parser.add_argument(
        "--pictures", type=positive, default=60_000, help="number of MNIST-shaped images; a tenth is for validation"
    )
    parser.add_argument("--epochs", type=positive, default=30, help="of digits")
    given = parser.parse_args()
    table = BenchmarkTable("Epochs of training, validation included", given)
    trainer = f"trainer={'gpu' if given.device == 'cuda' else 'cpu'}"
    with tempfile.TemporaryDirectory() as files:
        write_mnist_shaped(Path(files), given.pictures, given.pictures // 6)
        mnist = ("data=mnist", f"data.dir={files}", "model.hidden=[256]", "optimizer=adam", "trainer.max_epochs=1")
        times = compare(given.rounds, trainer, *mnist)
    case = f"1 epoch of {given.pictures:,} MNIST-shaped pictures, hidden 256, batch 128, Adam"
    table.add(case, "s", times, {AUTOGRAD: 1.12, BARE: 1.5, USUAL: 0.20})
    digits = (trainer, f"trainer.max_epochs={given.epochs}")
    case = f"{given.epochs} epochs of digits, hidden 64, batch 32, SGD"
    table.add(case, "s", compare(given.rounds, *digits), {AUTOGRAD: 1.12, BARE: 2.5})
    whole, bare = partial(process, TRAIN, *digits), partial(process, TRAIN, *digits, *NOTHING.split()[1:])
    times = in_turn({"train.py": whole, NOTHING: bare}, given.rounds)
    # Logging, audits and plots may take a quarter of the total.
    table.add(f"{case}: the whole command", "s", times, {NOTHING: 1 / 0.75})
    table.write("epoch")


def compare(rounds: int, *overrides: str) -> dict[str, list[float]]:
    """Time the training of the contenders without their preparation, such as reading the data."""
    work: dict[str, Work] = {}

    def measure(name: str, begin: Callable[[], Any]) -> float:
        names = {"work": work, "name": name, "begin": begin}
        return timeit("work[name] = train()", "train = begin()", number=1, globals=names)

    found = in_turn({name: partial(measure, name, begin) for name, begin in contenders(*overrides).items()}, rounds)
    check_equal_work(work)
    return found


def check_equal_work(work: dict[str, Work]) -> None:
    """Check that the contenders have trained on as many samples, in as many steps, to the same loss.

    Raises:
        AssertionError: they have not.
    """
    check_equal({name: each[:2] for name, each in work.items()}, 0)
    # Rounding errors of float32 grow over thousands of steps; scikit-learn has other initial weights and batches.
    check_equal({name: [each.loss] for name, each in work.items() if name != SCIKIT_LEARN}, 1e-2)


def contenders(*overrides: str) -> dict[str, Callable[[], "Start"]]:
    """The constructor of each contender."""
    ours = partial(Ours, *overrides)
    found: dict[str, Callable[[], Start]] = {
        OURS: ours,
        AUTOGRAD: partial(ours, "model.gradient=autograd"),
        BARE: partial(Bare, *overrides),
        SCIKIT_LEARN: partial(ScikitLearn, *overrides),
    }
    if "data=mnist" in overrides:
        found[USUAL] = partial(Usual, *overrides)
        if can_compile():
            found[COMPILED] = partial(ours, "compile=true")
    return found


class Start:
    """What all contenders share: a run as in `train.py`, its data, and its network and optimizer in torch."""

    def __init__(self, *overrides: str) -> None:
        quiet_lightning()
        with initialize_config_dir(str(CONF), version_base="1.3"):
            # No logging, audit or pictures; checkpoints as always.
            self.config = parse_config(compose("train", [*overrides, "logger=none", "callbacks=quiet"]))
        self.folder = tempfile.TemporaryDirectory()  # removed with this object
        self.run = Run(self.config, Path(self.folder.name))
        assert isinstance(self.run.data, InMemoryData)
        self.data, self.device = self.run.data, self.run.trainer.strategy.root_device
        self.data.trainer = self.run.trainer  # its device is the batches'
        self.epochs = self.config.trainer.max_epochs or 1
        self.net = logits(self.run.module.model).to(self.device)
        self.optimizer = build_optimizer(self.net.parameters(), asdict(self.config.optimizer))


class Ours(Start):
    """`train.py` from its first step to the last epoch's checkpoint."""

    def __call__(self) -> Work:
        run = self.run
        with threads_for(run.module, run.data):
            run.trainer.fit(run.module, datamodule=run.data)
        rows = len(self.data.rows["train"].x) * run.trainer.current_epoch
        return Work(rows, run.trainer.global_step, run.table.rows[-1]["train/loss"])


class Bare(Start):
    """The same network, batches and validation in a plain loop with autograd."""

    def __call__(self) -> Work:
        net, optimizer, steps = self.net, self.optimizer, 0
        batches, validation = self.data.train_dataloader(), self.data.val_dataloader()
        for epoch in range(self.epochs):
            batches.set_epoch(epoch)
            total, rows = torch.zeros((), device=self.device), 0
            for x, y, *_ in batches:
                optimizer.zero_grad()
                loss = F.cross_entropy(net(x), y)
                loss.backward()
                optimizer.step()
                total += loss.detach() * len(x)
                rows, steps = rows + len(x), steps + 1
            train_loss = float(total) / rows
            with torch.no_grad():
                for x, y, *_ in validation:
                    z = net(x)
                    float(F.cross_entropy(z, y)), float((z.argmax(-1) == y).float().mean())
        return Work(rows * self.epochs, steps, train_loss)


class UsualModule(L.LightningModule):
    """A typical classifier in Lightning."""

    def __init__(self, net: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
        super().__init__()
        self.net, self.optimizer = net, optimizer

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        loss = F.cross_entropy(self.net(x), y)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        x, y = batch
        z = self.net(x)
        self.log("val_loss", F.cross_entropy(z, y))
        self.log("val_acc", (z.argmax(-1) == y).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.optimizer


class Usual(Start):
    """The first epoch's samples in the same order, through torchvision's dataset and transforms, one at a time."""

    def __init__(self, *overrides: str) -> None:
        super().__init__(*overrides)
        settings, order = asdict(self.data.settings), torch.as_tensor(self.data.train_dataloader().order()).cpu()
        mean, std = (float(each) / 255 for each in (self.data.dataset.mean, self.data.dataset.std) if each is not None)
        transform = [transforms.ToTensor(), transforms.Normalize((mean,), (std,)), torch.flatten]
        whole: Any = MNIST(settings["dir"], train=True, transform=transforms.Compose(transform))
        rows, val_rows = (self.data.rows[split].ids for split in ("train", "val"))
        self.train = DataLoader(Subset(whole, rows[order].tolist()), settings["batch_size"])
        self.val = DataLoader(Subset(whole, val_rows.tolist()), EVALUATION_BATCH)
        self.rows = len(rows) * self.epochs

    def __call__(self) -> Work:
        trainer = L.Trainer(
            max_epochs=self.epochs,
            accelerator="gpu" if self.device.type == "cuda" else "cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        trainer.fit(UsualModule(self.net, self.optimizer), self.train, self.val)
        return Work(self.rows, trainer.global_step, float(trainer.callback_metrics["train_loss"]))


class ScikitLearn(Start):
    """The same samples, sizes, optimizer and batch size, with other weights and batches and without validation."""

    def __init__(self, *overrides: str) -> None:
        super().__init__(*overrides)
        batches = list(self.data.evaluation_dataloader("train"))
        self.x = torch.cat([batch.x for batch in batches]).cpu().numpy()
        self.y = torch.cat([batch.y for batch in batches]).cpu().numpy()
        # It stops after as many epochs as the others.
        warnings.filterwarnings("ignore", "Stochastic Optimizer: Maximum iterations")

    def __call__(self) -> Work:
        optimizer = asdict(self.config.optimizer)
        peer = MLPClassifier(
            tuple(self.config.model.hidden),
            activation="tanh",
            solver=optimizer["name"],
            alpha=0,
            batch_size=self.config.data.batch_size,
            learning_rate_init=optimizer["lr"],
            momentum=optimizer.get("momentum", 0.9),
            nesterovs_momentum=False,
            max_iter=self.epochs,
            n_iter_no_change=10**6,
        )
        peer.fit(self.x, self.y)
        return Work(peer.t_, peer.n_iter_ * -(-len(self.x) // peer.batch_size), peer.loss_)


def write_mnist_shaped(folder: Path, train: int, test: int) -> None:
    """Write files in MNIST's format: scikit-learn's digits, enlarged three times, with noise."""
    rng, digits = np.random.default_rng(0), load_digits()
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for prefix, count in (("train", train), ("t10k", test)):
        pick = rng.integers(len(digits.images), size=count)
        large = np.pad(digits.images[pick].repeat(3, 1).repeat(3, 2) * 16, ((0, 0), (2, 2), (2, 2)))
        pixels = (large + rng.normal(0, 40, large.shape)).clip(0, 255).astype(np.uint8)
        labels = digits.target[pick].astype(np.uint8)
        (raw / f"{prefix}-images-idx3-ubyte").write_bytes(struct.pack(">IIII", 2051, count, 28, 28) + pixels.tobytes())
        (raw / f"{prefix}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 2049, count) + labels.tobytes())


if __name__ == "__main__":
    main()
