"""Epochs of training as a user has them, beside a bare loop, what most people write, and scikit-learn."""

import struct
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from hydra import compose, initialize_config_dir
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Subset

from backhand.benchmarks.startup import process_seconds
from backhand.benchmarks.step import logits
from backhand.benchmarks.timing import Goal, Report, agree, figures, ratios
from backhand.config import CONF
from backhand.config.schema import TrainConfig
from backhand.config.validation import can_compile, typed
from backhand.data.module import InMemoryData
from backhand.training.optimizers import build_optimizer
from backhand.training.train import Run, quiet_lightning

OURS, BARE, USUAL = "train.py without logging", "bare torch loop", "Lightning + torchvision, sample by sample"
AUTOGRAD = "train.py, model.gradient=autograd"
COMPILED, SCIKIT_LEARN = "train.py, compile=true", "scikit-learn's MLPClassifier"
ALL, NOTHING = "train.py", "train.py logger=none callbacks=quiet plots=false"
# Without logging, audit and pictures; checkpoints as always.
PLAIN = ("logger=none", "callbacks=quiet")
PICTURES_GOALS = (
    Goal(OURS, AUTOGRAD, 1.12),
    Goal(OURS, BARE, 1.5),
    Goal(OURS, USUAL, 0.20),
    Goal(COMPILED, BARE),
    Goal(OURS, SCIKIT_LEARN),
)
DIGITS_GOALS = (Goal(OURS, AUTOGRAD, 1.12), Goal(OURS, BARE, 2.5), Goal(OURS, SCIKIT_LEARN))
# 25 % of the whole run, so that the rest is 75 %: its goal is that the whole is at most 1 / 0.75 of the rest.
EXTRAS_GOALS = (Goal(ALL, NOTHING, 1 / 0.75),)


def benchmark(rounds: int, device: torch.device, rows: int = 60_000, epochs: int = 30) -> Report:
    """An epoch of MNIST-shaped pictures, `epochs` of digits, and what the defaults add to those.

    Raises:
        AssertionError: two contenders do not end with the same training loss.
    """
    quiet_lightning()
    report = Report("Epochs of training, validation included", [], [])
    with tempfile.TemporaryDirectory() as folder:
        write_mnist_shaped(Path(folder), rows, rows // 6)
        accelerator = "gpu" if device.type == "cuda" else "cpu"
        pictures = (
            "data=mnist",
            f"data.dir={folder}",
            "model.hidden=[256]",
            "optimizer=adam",
            f"trainer={accelerator}",
        )
        case = f"1 epoch of {rows:,} MNIST-shaped pictures (a tenth to validate on), hidden 256, batch 128, Adam"
        _compare(report, case, (*pictures, "trainer.max_epochs=1"), rounds, PICTURES_GOALS, Path(folder))
    case = f"{epochs} epochs of digits, hidden 64, batch 32, SGD"
    _compare(report, case, (f"trainer={accelerator}", f"trainer.max_epochs={epochs}"), rounds, DIGITS_GOALS)
    _extras(report, rounds, epochs)
    return report


def _compare(
    report: Report,
    case: str,
    overrides: tuple[str, ...],
    rounds: int,
    goals: tuple[Goal, ...],
    files: Path | None = None,
) -> None:
    config = configured(*overrides, *PLAIN)
    contenders: dict[str, Callable[[], tuple[float, float | None]]] = {
        OURS: lambda: ours(config),
        AUTOGRAD: lambda: ours(configured(*overrides, *PLAIN, "model.gradient=autograd")),
        BARE: lambda: bare(config),
    }
    if files is not None:
        if can_compile():
            compiled = configured(*overrides, *PLAIN, "compile=true")
            contenders[COMPILED] = lambda: ours(compiled)
        contenders[USUAL] = lambda: usual(config, files)
    contenders[SCIKIT_LEARN] = lambda: scikit_learn(config)
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds + 1):  # the first is not counted: caches, and the compiler
        losses = {}
        for name, run in contenders.items():
            seconds, loss = run()
            if loss is not None:
                losses[name] = [loss]
            if number > 0:
                times[name].append(seconds)
        agree(case, losses, 1e-2)  # float32, and a few thousand steps in which it adds up
    report.figures += figures(case, times, "s")
    report.ratios += ratios(case, times, goals)


def _extras(report: Report, rounds: int, epochs: int) -> None:
    """Audit, pictures and logging at their defaults, in whole commands, imports and all."""
    command = [sys.executable, str(CONF.parent / "train.py"), f"trainer.max_epochs={epochs}"]
    commands = {ALL: command, NOTHING: [*command, *PLAIN, "plots=false"]}
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, each in commands.items():
            times[name].append(process_seconds(each))
    case = f"{epochs} epochs of digits, the whole command"
    report.figures += figures(case, times, "s")
    report.ratios += ratios(case, times, EXTRAS_GOALS)


def ours(config: TrainConfig) -> tuple[float, float]:
    """Seconds of a run's training, and its last epoch's training loss."""
    with tempfile.TemporaryDirectory() as folder:
        run = Run(config, Path(folder))
        run.train(alone=False)
        return run.last.seconds, run.table.rows[-1]["train/loss"]


def bare(config: TrainConfig) -> tuple[float, float]:
    """The same network on the same batches in a loop with autograd, with the same validation and nothing else."""
    data, net, optimizer, device = _start(config)
    batches, validation = data.train_dataloader(), data.val_dataloader()
    start = time.perf_counter()
    for epoch in range(config.trainer.max_epochs or 1):
        batches.set_epoch(epoch)
        total, rows = torch.zeros((), device=device), 0
        for x, y, *_ in batches:
            optimizer.zero_grad()
            loss = F.cross_entropy(net(x), y)
            loss.backward()
            optimizer.step()
            total += loss.detach() * len(x)
            rows += len(x)
        train_loss = float(total / rows)
        with torch.no_grad():
            for x, y, *_ in validation:
                z = net(x)
                float(F.cross_entropy(z, y)), float((z.argmax(-1) == y).float().mean())
    return time.perf_counter() - start, train_loss


class Usual(L.LightningModule):
    """A classifier as most people write it."""

    def __init__(self, net: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        super().__init__()
        self.net, self.optimizer = net, optimizer

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """The loss of a batch."""
        x, y = batch
        loss = F.cross_entropy(self.net(x), y)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Loss and accuracy of a batch."""
        x, y = batch
        z = self.net(x)
        self.log("val_loss", F.cross_entropy(z, y))
        self.log("val_acc", (z.argmax(-1) == y).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The optimizer."""
        return self.optimizer


def usual(config: TrainConfig, files: Path) -> tuple[float, float]:
    """The same rows in the same order through `torchvision.datasets.MNIST` and its transforms, sample by sample."""
    from torchvision import transforms
    from torchvision.datasets import MNIST

    data, net, optimizer, device = _start(config)
    mean, std = data.dataset.mean, data.dataset.std
    assert mean is not None
    assert std is not None
    transform = transforms.Compose(
        [
            transforms.ToTensor(),
            transforms.Normalize((float(mean) / 255,), (float(std) / 255,)),
            transforms.Lambda(torch.flatten),
        ]
    )
    whole = MNIST(str(files), train=True, transform=transform)
    order = data.train_dataloader().order()
    assert order is not None
    size = config.data.batch_size
    train: Any = DataLoader(Subset(whole, data.rows["train"].ids[order.cpu()].tolist()), batch_size=size)
    val: Any = DataLoader(Subset(whole, data.rows["val"].ids.tolist()), batch_size=4096)
    trainer = L.Trainer(
        max_epochs=config.trainer.max_epochs,
        accelerator="gpu" if device.type == "cuda" else "cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    module = Usual(net, optimizer)
    start = time.perf_counter()
    trainer.fit(module, train, val)
    return time.perf_counter() - start, float(trainer.callback_metrics["train_loss"])


def scikit_learn(config: TrainConfig) -> tuple[float, None]:
    """The same sizes, optimizer, batch size and epochs; initial weights and order are its own, so the loss is, too."""
    data, *_ = _start(config)
    optimizer = asdict(config.optimizer)
    data.evaluation_batch = len(data.rows["train"].x)
    train = next(iter(data.evaluation_dataloader("train")))
    peer = MLPClassifier(
        tuple(config.model.hidden),
        activation="tanh",
        solver=config.optimizer.name,
        alpha=0,
        batch_size=config.data.batch_size,
        learning_rate_init=optimizer["lr"],
        momentum=optimizer.get("momentum", 0.9),
        nesterovs_momentum=False,
        max_iter=config.trainer.max_epochs,
        n_iter_no_change=10**6,
        random_state=0,
    )
    x, y = train.x.cpu().numpy(), train.y.cpu().numpy()
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # it, too, is to stop after these epochs
        peer.fit(x, y)
    return time.perf_counter() - start, None


def _start(config: TrainConfig) -> tuple[InMemoryData, nn.Sequential, torch.optim.Optimizer, torch.device]:
    """The data, network and optimizer that a run begins with, the network in `torch.nn`."""
    with tempfile.TemporaryDirectory() as folder:
        run = Run(config, Path(folder))
    device = run.trainer.strategy.root_device
    assert isinstance(run.data, InMemoryData)
    run.data.trainer = run.trainer
    net = logits(run.module.model).to(device)
    return run.data, net, build_optimizer(net.parameters(), asdict(config.optimizer)), device


def configured(*overrides: str) -> TrainConfig:
    """The configuration of `python train.py` with these overrides."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return typed(compose("train", list(overrides)))


def write_mnist_shaped(folder: Path, train: int, test: int) -> None:
    """Files in MNIST's own format: scikit-learn's digits, three times as large, anywhere on 28 x 28, with noise."""
    rng = np.random.default_rng(0)
    digits = load_digits()
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for prefix, count in (("train", train), ("t10k", test)):
        pick = rng.integers(len(digits.images), size=count)
        images = rng.normal(0, 40, (count, 28, 28))
        large = np.kron(digits.images[pick] / 16 * 255, np.ones((1, 3, 3)))
        for number, (top, left) in enumerate(rng.integers(0, 5, (count, 2))):
            images[number, top : top + 24, left : left + 24] += large[number]
        pixels = images.clip(0, 255).astype(np.uint8)
        labels = digits.target[pick].astype(np.uint8)
        (raw / f"{prefix}-images-idx3-ubyte").write_bytes(struct.pack(">IIII", 2051, count, 28, 28) + pixels.tobytes())
        (raw / f"{prefix}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 2049, count) + labels.tobytes())
