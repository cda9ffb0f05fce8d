"""Many networks as one: trained in the same tensors, each with its own seed, optimizer settings, schedule and end.

The derivation has a run axis already, so a population's gradients are the lines that a single network's are. Around
them everything that is a run's own stays one: each member has the LightningModule, the optimizer, the schedule and the
callbacks that a run of its own would have, its parameters and its optimizer's state are views of the population's
tensors, and a checkpoint of it is what that run would have written.
"""

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import lightning as L
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torchmetrics import MeanAbsoluteError, R2Score

from backhand.calculus.backpropagation import forward, loss_value
from backhand.calculus.mlp import MLP
from backhand.checking.audit import Audit, audit_runs
from backhand.config.schema import TrainConfig
from backhand.config.validation import larger_is_better
from backhand.data.batches import Batch
from backhand.data.module import InMemoryData
from backhand.reporting.epochs import Epochs
from backhand.reporting.result import config_hash
from backhand.reporting.wandb_content import Histogram
from backhand.training.checkpoint import BEST
from backhand.training.flow import FlowMetrics, flow, histograms, measures
from backhand.training.module import LightningMLP, divergence, has_diverged
from backhand.training.optimizers import build_optimizer, build_scheduler
from backhand.training.parts import build_callbacks, build_module
from backhand.training.step import UPDATES, WholeStep

# Numbers of a layer's output, over all runs, that validation computes at a time: 32 MB in float32.
EVALUATED_AT_ONCE = 2**23


@dataclass
class Moment:
    """What, beside the tensors, a member's checkpoint is made of at the end of an epoch.

    Attributes:
        epoch: which, from 0.
        lr: the optimizer's learning rate.
        schedule: the scheduler's state, or None.
        callbacks: the state of those callbacks that have one of their own.
        best: the objective's best value so far.
    """

    epoch: int
    lr: float
    schedule: dict[str, Any] | None
    callbacks: dict[str, Any]
    best: float


@dataclass
class Member:
    """One run of a population.

    Attributes:
        config: its configuration, for the data set.
        composed: as the user gave it, whose hash its folder carries.
        folder: where it writes when all is done.
        module: the network as a run of its own has it.
        callbacks: what watches it.
        optimizer: of torch.
        scheduler: of torch, or None.
        status: None while it trains; then what became of it.
        error: why it could not go on.
        stopped: whether it ended before its last epoch.
        epochs: how many it completed; meaningful once it has ended.
        best: the moment that its best checkpoint is of.
        last: the moment that it ended at.
    """

    config: TrainConfig
    composed: TrainConfig
    folder: Path
    module: LightningMLP
    callbacks: list[Callback]
    optimizer: Optimizer = field(init=False)
    scheduler: Any = field(init=False, default=None)
    status: Literal["finished", "diverged", "failed"] | None = None
    error: str | None = None
    stopped: bool = False
    epochs: int = 0
    best: Moment | None = None
    last: Moment | None = None

    @property
    def maximize(self) -> bool:
        """Whether its objective is to grow."""
        return larger_is_better(self.config.objective)

    @property
    def audit(self) -> Audit | None:
        """The audit among its callbacks."""
        return next((each for each in self.callbacks if isinstance(each, Audit)), None)

    @property
    def stopping(self) -> EarlyStopping | None:
        """The early stopping among its callbacks."""
        return next((each for each in self.callbacks if isinstance(each, EarlyStopping)), None)

    def moment(self, epoch: int, best: float) -> Moment:
        """Now."""
        own = [each for each in self.callbacks if isinstance(each, Audit | EarlyStopping)]
        return Moment(
            epoch,
            self.optimizer.param_groups[0]["lr"],
            None if self.scheduler is None else self.scheduler.state_dict(),
            {each.state_key: each.state_dict() for each in own},
            best,
        )

    def restore(self, moment: Moment) -> None:
        """Set schedule and callbacks to where they were."""
        self.optimizer.param_groups[0]["lr"] = moment.lr
        if moment.schedule is not None:
            self.scheduler.load_state_dict(moment.schedule)
        for each in self.callbacks:
            if each.state_key in moment.callbacks:
                each.load_state_dict(moment.callbacks[each.state_key])

    def end(self, status: Literal["finished", "diverged", "failed"], epochs: int, error: str | None = None) -> None:
        """Train no further."""
        self.status, self.epochs, self.error = status, epochs, error


class Snapshot:
    """A copy of parameters and optimizer state (K, …), each run's taken at a moment of its own."""

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self.tensors = [torch.zeros_like(each) for each in tensors]

    def take(self, tensors: Sequence[Tensor], runs: Sequence[int]) -> None:
        """Copy what is these runs'."""
        if not runs:
            return
        rows = torch.tensor(runs)
        for kept, now in zip(self.tensors, tensors, strict=True):
            kept[rows.to(kept.device)] = now[rows.to(now.device)].to(kept.device)

    def fill(self, tensors: Sequence[Tensor]) -> None:
        """Copy another's."""
        for kept, now in zip(self.tensors, tensors, strict=True):
            kept.copy_(now)


class Population(LightningModule):
    """K runs that differ in `PER_RUN` settings alone, as one LightningModule.

    Lightning drives it as it drives one run: epochs, batches, validation, its one checkpoint. What ends a run (early
    stopping, divergence, a wrong gradient) freezes it: its learning rate is zero from then on, and what
    it leaves was copied at that moment. When none is left, the training ends.

    Args:
        members: the runs.
        data: the data set, whose batches have the run axis where the members' seeds differ.
    """

    def __init__(self, members: Sequence[Member], data: InMemoryData) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.members, self.in_memory = list(members), data
        self.one = self.members[0].module  # for what is the same in all
        network = self.one.model.network
        self.model = MLP(
            self.one.model.sizes,
            network.hidden_activation,
            network.output_activation,
            runs=len(self.members),
            dtype=data.dtype,
        )
        theirs = zip(*(each.module.model.parameters() for each in self.members), strict=True)
        with torch.no_grad():
            for own, of_members in zip(self.model.parameters(), theirs, strict=True):
                own.copy_(torch.stack([each.detach() for each in of_members]))
        audit = self.members[0].audit
        self.audited_every = None if audit is None else audit.every
        self._flow_metrics = next((each for each in self.members[0].callbacks if isinstance(each, FlowMetrics)), None)
        self.history: list[dict[str, list[float]]] = []  # of each epoch, each metric's value for each run
        self.first_losses: list[float] = []  # of the first step, what divergence is measured by
        self.histograms: dict[int, dict[str, list[Histogram | None]]] = {}  # of some epochs, each run's
        self.last_steps: list[int] = []  # of each epoch, what the loggers call it by
        self.loops: dict[int, dict[str, Any]] = {}  # Lightning's counters at the end of the epochs that are kept
        self.tested: dict[str, list[float]] = {}
        self._before, self._began = 0.0, cast(float | None, None)
        self.states: list[list[Tensor]] = []
        self._names: tuple[str, ...] = ()
        self._step: WholeStep | None = None
        self._restored: dict[str, Any] | None = None
        self._train_sums: Tensor | None = None
        self._validated: dict[str, list[float]] = {}
        self._begin_evaluation()

    @property
    def seconds(self) -> float:
        """Of training so far, those before the population was cut off included."""
        return self._before + (0.0 if self._began is None else time.perf_counter() - self._began)

    @property
    def going(self) -> list[int]:
        """The runs that still train."""
        return [run for run, each in enumerate(self.members) if each.status is None]

    @property
    def theta(self) -> list[Tensor]:
        """The parameters W_I (K, D, H), b_I (K, H), …, as plain tensors."""
        return [each.detach() for each in self.model.parameters()]

    @property
    def tensors(self) -> list[Tensor]:
        """The parameters, and behind them what the optimizers keep."""
        return self.theta + [each for state in self.states for each in state]

    def configure_optimizers(self) -> None:
        """Lightning has none to look after: each run has its own."""

    def on_fit_start(self) -> None:
        """Give every run an optimizer whose state is a part of the population's, where the network now is."""
        self._began = time.perf_counter()
        if self._flow_metrics is not None:
            self._flow_metrics.on_fit_start(self.trainer, self)
        theta = self.theta
        for run, each in enumerate(self.members):
            for own, whole in zip(each.module.model.parameters(), theta, strict=True):
                own.data = whole[run]
            settings, maximize = each.config, each.maximize
            each.optimizer = build_optimizer(each.module.parameters(), asdict(settings.optimizer))
            each.scheduler = build_scheduler(
                each.optimizer, asdict(settings.scheduler), maximize, settings.trainer.max_epochs
            )
            each.optimizer._opt_called = True  # type: ignore[attr-defined]  # the schedule asks for it
        update, self._names = UPDATES[type(self.members[0].optimizer)]
        shared = self._settings()
        if all(each.optimizer.param_groups[0].get("momentum") == 0.0 for each in self.members):
            self._names = ()  # plain gradient descent keeps nothing
        self.states = [[self._state(name, each) for name in self._names] for each in theta]
        for run, each in enumerate(self.members):
            if each.optimizer.param_groups[0].get("momentum") == 0.0:
                continue
            for own, state in zip(each.module.model.parameters(), self.states, strict=True):
                parts = (whole[run] for whole in state)
                each.optimizer.state[own] = dict(zip(self._names, parts, strict=True))
        self.lr = torch.zeros(len(self.members), device=theta[0].device, dtype=torch.float64)
        self.best, self.last = Snapshot(self.tensors), Snapshot(self.tensors)
        if self._restored is not None:
            self._restore(self._restored)
        criterion, weight = self.model.criterion(self.one.loss, self.one.loss_parameters, theta[0])
        compiled = self.members[0].config.compile
        self._step = WholeStep(
            self.model, criterion, weight, self.states, update, shared, self.lr, note=self._noted, compiled=compiled
        )

    def on_train_start(self) -> None:
        """Train no further where every run has ended already."""
        self.trainer.should_stop = not self.going

    def on_train_epoch_start(self) -> None:
        """Give every run its learning rate of the epoch."""
        rates = [0.0 if each.status else each.optimizer.param_groups[0]["lr"] for each in self.members]
        self.lr.copy_(torch.tensor(rates, dtype=torch.float64))

    def training_step(self, block: Iterable[Batch], batch_idx: int) -> None:
        """Take a block of steps, which Lightning takes for one batch."""
        epoch_loop = self.trainer.fit_loop.epoch_loop
        progress = epoch_loop.batch_progress
        counted: list[Tensor] = []  # of each step: what it counts, () or (K,), its mean loss and share of right, (K,)
        noted: list[Sequence[Tensor]] = []
        for batch in block:
            noted.append(self._take(batch))
            counted.append(_counted(batch))
        progress.increment_by(len(noted) - 1, progress.is_last_batch)
        epoch_loop._batches_that_stepped += len(noted) - 1  # the loggers' `step`
        means = torch.stack([torch.stack(each) for each in zip(*noted, strict=True)])
        if not self.first_losses:
            self.first_losses = noted[0][0].tolist()
        rows = torch.stack(counted).to(means)
        rows = rows if rows.dim() == 2 else rows[:, None]
        total = torch.cat([rows.sum(0).expand(1, len(self.members)), (means * rows).sum(1)])
        self._train_sums = total if self._train_sums is None else self._train_sums + total

    def on_validation_epoch_start(self) -> None:
        """Begin to count."""
        self._begin_evaluation()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Add a batch to the validation metrics."""
        self._evaluate(batch)

    def on_validation_epoch_end(self) -> None:
        """Keep them for the end of the epoch."""
        self._validated = self._evaluation("val/")

    def on_test_epoch_start(self) -> None:
        """Begin to count, with each run's best weights."""
        with torch.no_grad():
            for own, best in zip(self.model.parameters(), self.best.tensors, strict=False):
                own.copy_(best)
        self._begin_evaluation()

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Add a batch to the test metrics."""
        self._evaluate(batch)

    def on_test_epoch_end(self) -> None:
        """Keep them for the results."""
        self.tested = self._evaluation("test/")

    def on_train_epoch_end(self) -> None:
        """Do for every run what its own module and callbacks would: note, schedule, keep the best, end."""
        assert self._train_sums is not None
        rows, *sums = self._train_sums
        means = {name: (each / rows).tolist() for name, each in zip(("train/loss", "train/acc"), sums, strict=False)}
        self._train_sums = None
        epoch = self.trainer.current_epoch
        lr = {"lr": self.lr.float().tolist()}
        metrics = self._validated | self._audits_of_epoch() | self._flow_of_epoch(epoch) | means | lr
        self.history.append(metrics)
        self.last_steps.append(self.trainer.fit_loop.epoch_loop._batches_that_stepped - 1)
        self.loops[epoch] = {f"{name}_loop": _loop(self.trainer, name) for name in LOOPS}
        better, ended = [], []
        for run in self.going:
            each = self.members[run]
            value = metrics[each.config.objective][run]
            self._schedule(each, value)
            self._end_where_due(each, value, means["train/loss"][run], self.first_losses[run], epoch)
            if math.isnan(value):
                value = -math.inf if each.maximize else math.inf
            if each.best is None or (value > each.best.best if each.maximize else value < each.best.best):
                each.best = each.moment(epoch, value)
                better.append(run)
            if each.status is not None:
                each.last = each.moment(epoch, each.best.best)
                ended.append(run)
        self.best.take(self.tensors, better)
        self.last.take(self.tensors, ended)
        kept = {moment.epoch for each in self.members for moment in (each.best, each.last) if moment is not None}
        self.loops = {at: loops for at, loops in self.loops.items() if at in kept or at == epoch}
        self.trainer.should_stop = not self.going

    def on_fit_end(self) -> None:
        """Note the end of those that trained to the last epoch."""
        ended = self.going
        for run in ended:
            each = self.members[run]
            assert each.best is not None
            each.last = each.moment(len(self.history) - 1, each.best.best)
            each.end("finished", len(self.history))
        self.last.take(self.tensors, ended)
        self._before, self._began = self.seconds, None

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what the runs have behind them."""
        epoch = len(self.history) - 1
        checkpoint["population"] = {
            "states": self.states,
            "best": self.best.tensors,
            "last": self.last.tensors if len(self.going) < len(self.members) else None,
            "history": _columns(self.history),
            "histograms": _plain(self.histograms),
            "seconds": self.seconds,
            "first_losses": self.first_losses,
            "last_steps": self.last_steps,
            "loops": self.loops,
            "members": [
                {
                    "status": each.status,
                    "error": each.error,
                    "stopped": each.stopped,
                    "epochs": each.epochs,
                    "now": vars(each.moment(epoch, 0.0)),
                    "best": None if each.best is None else vars(each.best),
                    "last": None if each.last is None else vars(each.last),
                }
                for each in self.members
            ],
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep it until the network is where it trains."""
        self._restored = checkpoint["population"]

    def rows(self, run: int) -> list[dict[str, float]]:
        """The run's epochs, as its metrics.csv has them."""
        each = self.members[run]
        return [
            {"epoch": epoch, "step": step}
            | {name: values[run] for name, values in metrics.items() if not _is_missing(name, values[run])}
            for epoch, (step, metrics) in enumerate(zip(self.last_steps, self.history, strict=True))
            if epoch < each.epochs
        ]

    def checkpoint(self, run: int, which: Literal["best", "last"]) -> dict[str, Any] | None:
        """What a run of its own would have written, as plain data on the CPU; None for nothing."""
        each = self.members[run]
        moment, snapshot = (each.best, self.best) if which == "best" else (each.last, self.last)
        if moment is None:
            return None
        tensors = iter([kept[run].cpu().clone() for kept in snapshot.tensors])
        state_dict = {f"model.{name}": next(tensors) for name, _ in self.model.named_parameters()}
        of_optimizer = each.optimizer.state_dict()
        of_optimizer["param_groups"][0]["lr"] = moment.lr
        if of_optimizer["state"]:
            names = self._names
            of_optimizer["state"] = {
                number: {name: next(tensors) for name in names} for number in range(len(state_dict))
            }
        loops = self.loops[moment.epoch]
        ended_here = each.last is not None and moment.epoch == each.last.epoch
        return {
            "epoch": moment.epoch,
            "global_step": _steps(loops),
            "pytorch-lightning_version": L.__version__,
            "state_dict": state_dict,
            "loops": loops,
            "callbacks": moment.callbacks | _checkpoint_callbacks(each, moment),
            "optimizer_states": [of_optimizer],
            "lr_schedulers": [] if moment.schedule is None else [moment.schedule],
            "first_loss": self.first_losses[run],
            "on_nan": {"skipped": 0, "undone": False},  # it looks at the ends of epochs alone
            "hparams_name": each.module._hparams_name,
            "hyper_parameters": dict(each.module.hparams),
            "own_folder": {
                "config_hash": config_hash(each.composed),
                "data": self.in_memory.dataset.digest,
                "rows": Epochs(self.rows(run)[: moment.epoch + 1]).state(),
                "seconds": self.seconds / len(self.members),
                "wandb_id": None,
                "stopped": ended_here and each.stopped,
                "diverged": each.error if ended_here and each.status == "diverged" else None,
            },
        }

    def steps(self, run: int) -> int:
        """How many the run took, as far as its checkpoint knows."""
        last = self.members[run].last
        return 0 if last is None else _steps(self.loops[last.epoch])

    def _state(self, name: str, theta: Tensor) -> Tensor:
        """What an optimizer keeps of one parameter, for all runs, before the first step."""
        if name != "step":
            return torch.zeros_like(theta)
        return torch.zeros(len(self.members), dtype=torch.get_default_dtype())  # where torch has it, on the CPU

    def _settings(self) -> dict[str, Any]:
        """The optimizers' settings: one number where all runs have the same, else (K,) of float64."""
        groups = [each.optimizer.param_groups[0] for each in self.members]
        settings: dict[str, Any] = {}
        for name, first in groups[0].items():
            if name in ("params", "lr", "initial_lr"):
                continue
            if name == "betas":
                settings[name] = tuple(self._each([group[name][i] for group in groups]) for i in (0, 1))
            else:
                settings[name] = self._each([group[name] for group in groups]) if isinstance(first, float) else first
        return settings

    def _each(self, values: list[float]) -> float | Tensor:
        if len(set(values)) == 1:
            return values[0]
        return torch.tensor(values, dtype=torch.float64, device=self.device)

    def _restore(self, state: dict[str, Any]) -> None:
        """Go on from what `on_save_checkpoint` wrote."""
        for one, kept in zip(self.states, state["states"], strict=True):
            for own, value in zip(one, kept, strict=True):
                own.copy_(value)
        self.best.fill(state["best"])
        if state["last"] is not None:
            self.last.fill(state["last"])
        self.history, self.last_steps, self.loops = _rows(state["history"]), state["last_steps"], state["loops"]
        self.histograms = _histograms(state["histograms"])
        self.first_losses, self._before = state["first_losses"], state["seconds"]
        for each, kept in zip(self.members, state["members"], strict=True):
            each.status, each.error, each.stopped = kept["status"], kept["error"], kept["stopped"]
            each.epochs = kept["epochs"]
            each.restore(Moment(**kept["now"]))
            each.best, each.last = (None if kept[at] is None else Moment(**kept[at]) for at in ("best", "last"))

    def _noted(self, loss: Tensor, z_O: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        """What an epoch's training metrics are made of: each run's loss and, of classes, its share of right (K,)."""
        if self.one.classes is None:
            return (loss.float(),)
        return loss.float(), self._right(z_O, y).float().mean(-1)

    def _take(self, batch: Batch) -> Sequence[Tensor]:
        """One step of all runs; returns what `_noted` says of it."""
        assert self._step is not None
        step = self.trainer.global_step
        if self.audited_every is None or step % self.audited_every:
            *noted, _ = self._step(batch.x, batch.y, batch.weight)
        else:
            theta = [each.clone() for each in self.theta]
            *noted, gradients = self._step(batch.x, batch.y, batch.weight)
            self._audit(batch, gradients, theta, step)
        self.trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress.increment_by(1)
        return noted

    def _audit(self, batch: Batch, gradients: Sequence[Tensor], theta: Sequence[Tensor], step: int) -> None:
        audits = {run: audit for run in self.going if (audit := self.members[run].audit) is not None}
        wrong = audit_runs(audits, self.model, self.one.loss, self.one.loss_parameters, batch, gradients, theta, step)
        for run, reason in wrong.items():
            self.members[run].end("failed", len(self.history), reason)
            self.lr[run] = 0.0

    def _audits_of_epoch(self) -> dict[str, list[float]]:
        """`audit/…` of each run that had an audit in this epoch; NaN for the others."""
        of_runs = [audit.of_epoch() if (audit := each.audit) is not None else {} for each in self.members]
        names = dict.fromkeys(name for each in of_runs for name in each)
        return {name: [each.get(name, math.nan) for each in of_runs] for name in names}

    def _flow_of_epoch(self, epoch: int) -> dict[str, list[float]]:
        """What a run's `FlowMetrics` logs, of each run; its histograms are kept for the runs' ends."""
        if self._flow_metrics is None:
            return {}
        found = flow(self.model, self.one.loss, self.one.loss_parameters, self._flow_metrics.batch)
        if self._flow_metrics.has_histograms(epoch):
            self.histograms[epoch] = histograms(found)
        metrics = measures(self.model, found)
        return dict(zip(metrics, torch.stack(list(metrics.values())).tolist(), strict=True))

    def _schedule(self, each: Member, value: float) -> None:
        if isinstance(each.scheduler, ReduceLROnPlateau):
            each.scheduler.step(value)
        elif each.scheduler is not None:
            each.scheduler.step()

    def _end_where_due(self, each: Member, value: float, loss: float, first: float, epoch: int) -> None:
        if each.stopping is not None:
            stop, _ = each.stopping._evaluate_stopping_criteria(torch.tensor(value))
            if stop:
                each.stopping.stopped_epoch, each.stopped = epoch, True
                each.end("finished", epoch + 1)
        if has_diverged(loss, first):
            each.stopped = True
            each.end("diverged", epoch + 1, divergence(loss, epoch + 1))

    def _right(self, z_O: Tensor, y: Tensor) -> Tensor:
        return self.one._classes_of(self.one._scores(z_O)) == self.one._classes_of(y)

    def _begin_evaluation(self) -> None:
        self._loss_sum: Tensor | float = 0.0
        self._right_sum: Tensor | float = 0.0
        self._rows: Tensor | float = 0.0
        self._samples = 0
        outputs = self.model.sizes[-1]
        self._of_numbers = {
            "r2": R2Score(multioutput="raw_values").to(self.device),
            "mae": MeanAbsoluteError(num_outputs=len(self.members) * outputs).to(self.device),
        }

    def _evaluate(self, batch: Batch) -> None:
        network, theta, rows = self.model.network, self.theta, _counted(batch)
        z_O, *_ = forward(network, batch.x, theta)
        criterion, weight = self.model.criterion(self.one.loss, self.one.loss_parameters, batch.x)
        self._loss_sum = self._loss_sum + loss_value(network, criterion, z_O, batch.y, weight, batch.weight) * rows
        self._rows = self._rows + rows
        if self.one.classes is not None:
            self._right_sum = self._right_sum + self._right(z_O, batch.y).sum(-1)
            self._samples += batch.x.shape[-2]
            return
        predicted = self.one._own_units(self.one._mean(self.model.output(z_O)))
        runs, samples = predicted.shape[:2]
        # torchmetrics knows several outputs, not runs: each output of each run is one.
        predicted = predicted.reshape(runs, samples, -1).movedim(0, 1)
        target = self.one._own_units(batch.y).reshape(samples, 1, -1).expand_as(predicted)
        for metric in self._of_numbers.values():
            metric.update(predicted.flatten(1), target.flatten(1))

    def _evaluation(self, prefix: str) -> dict[str, list[float]]:
        loss = torch.as_tensor(self._loss_sum).float() / torch.as_tensor(self._rows).float()
        found = {f"{prefix}loss": loss.tolist()}
        if self.one.classes is not None:
            found[f"{prefix}acc"] = (torch.as_tensor(self._right_sum).float() / self._samples).tolist()
        else:
            for name, metric in self._of_numbers.items():
                found[f"{prefix}{name}"] = metric.compute().reshape(len(self.members), -1).mean(-1).tolist()
        return found


# Lightning's loops, whose counters are part of a checkpoint.
LOOPS = ("fit", "validate", "test", "predict")


def member(config: TrainConfig, composed: TrainConfig, folder: Path, data: InMemoryData) -> Member:
    """A run that has not begun."""
    return Member(config, composed, folder, build_module(config, data), build_callbacks(config, folder))


def rows_at_once(members: Sequence[Member]) -> int:
    """How many samples may be evaluated in one batch."""
    return max(1, EVALUATED_AT_ONCE // (len(members) * max(members[0].module.model.sizes)))


def _loop(trainer: L.Trainer, name: str) -> dict[str, Any]:
    return getattr(trainer, f"{name}_loop").state_dict()


def _steps(loops: dict[str, Any]) -> int:
    return int(loops["fit_loop"]["epoch_loop.manual_optimization.optim_step_progress"]["total"]["completed"])


def _counted(batch: Batch) -> Tensor:
    """What a batch counts in a mean: its rows (), or the sum of their weights, () or (K,)."""
    return torch.tensor(float(batch.x.shape[-2])) if batch.weight is None else batch.weight.sum(-1)


def _is_missing(name: str, value: float) -> bool:
    return name.startswith("audit/") and math.isnan(value)


def _checkpoint_callbacks(each: Member, moment: Moment) -> dict[str, Any]:
    """The state of Lightning's own checkpoint at that moment."""
    states = {}
    for callback in each.callbacks:
        if not isinstance(callback, ModelCheckpoint):
            continue
        path, score = str(each.folder / BEST), torch.tensor(moment.best)
        states[callback.state_key] = callback.state_dict() | {
            "best_model_path": path,
            "kth_best_model_path": path,
            "best_k_models": {path: score},
            "best_model_score": score,
            "current_score": score,
            "kth_value": score,
        }
    return states


def _columns(history: Sequence[dict[str, list[float]]]) -> dict[str, Any]:
    """The epochs' metrics as a tensor (epochs, K) each, which is written a hundred times faster than lists."""
    names = dict.fromkeys(name for metrics in history for name in metrics)
    columns = {}
    for name in names:
        epochs = [epoch for epoch, metrics in enumerate(history) if name in metrics]
        values = torch.tensor([history[epoch][name] for epoch in epochs], dtype=torch.float64)
        columns[name] = (epochs, values)
    return {"epochs": len(history), "columns": columns}


def _rows(columns: dict[str, Any]) -> list[dict[str, list[float]]]:
    """What `_columns` was given."""
    history: list[dict[str, list[float]]] = [{} for _ in range(columns["epochs"])]
    for name, (epochs, values) in columns["columns"].items():
        for epoch, of_runs in zip(epochs, values.tolist(), strict=True):
            history[epoch][name] = of_runs
    return history


def _plain(histograms: dict[int, dict[str, list[Histogram | None]]]) -> dict[int, dict[str, list[Any]]]:
    """The histograms as a checkpoint takes them, which has no classes."""
    return {
        epoch: {name: [each and tuple(each) for each in runs] for name, runs in of_epoch.items()}
        for epoch, of_epoch in histograms.items()
    }


def _histograms(plain: dict[int, dict[str, list[Any]]]) -> dict[int, dict[str, list[Histogram | None]]]:
    """What `_plain` was given."""
    return {
        epoch: {name: [each and Histogram(*each) for each in runs] for name, runs in of_epoch.items()}
        for epoch, of_epoch in plain.items()
    }
