"""The network as a LightningModule: its loss goes through the hand-derived Function, everything else is Lightning's."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Literal

import numpy as np
import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from backhand.calculus.choices import check_choice
from backhand.calculus.float64 import widest_dtype
from backhand.calculus.losses import LOSSES
from backhand.calculus.mlp import MLP
from backhand.config.schema import ON_NAN, OPTIMIZERS, SCHEDULERS
from backhand.config.validation import larger_is_better
from backhand.data.batches import Batch
from backhand.reporting.epochs import Epochs
from backhand.training.decisions import SCHEDULE, STOPPING, Ending, divergence, has_stopped, is_lost, learning_rate
from backhand.training.metrics import Sums
from backhand.training.on_nan import OnNan
from backhand.training.optimizers import RunsOptimizer, build_optimizer

SGD = {"name": "sgd", "lr": 0.1, "momentum": 0.9}
# Arguments that may be lists with one for each run.
OF_EACH_RUN = ("init", "init_scale", "seed", "optimizer", "scheduler")
NO_SCHEDULE = {"name": "none"}


class LightningMLP(LightningModule):
    """A fully-connected network, its loss, its metrics and its optimizer; or K of them in the same tensors.

    A batch is `(x, y)` or `(x, y, weight)`: inputs (B, D), targets as the loss takes them, and how much each sample
    counts (B,). With `runs`, batches may have the run axis (K, B, …).

    All arguments are plain numbers, names and lists: they go into the checkpoint, which `torch.load(weights_only=True)`
    reads. With `runs`, those marked * may be lists with one for each run.

    Args:
        sizes: [D, H, …, C].
        hidden_activation: g, one name, or a list with one for each hidden layer.
        output_activation: f.
        loss: a key of `LOSSES`.
        loss_parameters: its parameters by name, numbers or lists of numbers.
        gradient: `hand`, or `autograd` for torch's own graph.
        init: a key of `INITIALIZATIONS`.*
        init_scale: every initial value is multiplied by it.*
        seed: of the initial values; torch's global generator if None.*
        classes: how many, where the target is a class but the loss is one of numbers.
        target_mean: what a regression's standardised target is turned back into its own units with.
        target_std: the same.
        optimizer: `OptimizerConfig` as a dict.*
        scheduler: `SchedulerConfig` as a dict.*
        early_stopping: `EarlyStoppingConfig` as a dict, or None.
        objective: the metric that early stopping and the plateau schedule watch.
        on_nan: what becomes of a step that is not finite: `stop` and `skip` leave it out, and `stop` ends the run;
            `continue` does not look.
        preprocessing: how a row of a table becomes an input, as `data.table` made it; it is kept for new rows.
        runs: K networks in the same tensors; None for one.

    Attributes:
        history: the metrics of each epoch.
        row: those of the epoch at hand, as far as they are known.
        on_nan: what leaves out steps that are not finite; None for nothing.
        endings: for each run, why it ended before the last epoch; None as long as it has not.
        frozen: the runs (K,) that have ended.
        batch: of the step at hand.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        hidden_activation: str | Sequence[str] = "tanh",
        output_activation: str = "softmax",
        loss: str = "cross_entropy",
        *,
        loss_parameters: Mapping[str, Any] | None = None,
        gradient: Literal["hand", "autograd"] = "hand",
        init: Any = "linear",
        init_scale: Any = 1.0,
        seed: Any = None,
        classes: int | None = None,
        target_mean: float = 0.0,
        target_std: float = 1.0,
        optimizer: Any = SGD,
        scheduler: Any = NO_SCHEDULE,
        early_stopping: Mapping[str, Any] | None = None,
        objective: str = "val/loss",
        on_nan: str = "stop",
        preprocessing: dict[str, Any] | None = None,
        runs: int | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)  # a logger has the configuration
        check_choice("loss", loss, LOSSES)
        check_choice("on_nan", on_nan, ON_NAN)
        for group, given, choices in (("optimizer", optimizer, OPTIMIZERS), ("scheduler", scheduler, SCHEDULERS)):
            for one in self._each(given):
                if not isinstance(one, Mapping):
                    raise ValueError(f"{group}={one}: give a dict, as in {{'name': '{next(iter(choices))}', …}}")
                check_choice(f"{group}['name']", str(one.get("name")), choices)
        self.model = MLP(sizes, hidden_activation, output_activation, gradient=gradient, runs=runs)
        for run, (rule, scale, number) in enumerate(zip(*map(self._each, (init, init_scale, seed)), strict=True)):
            generator = None if number is None else torch.Generator().manual_seed(number)
            one = MLP(sizes, hidden_activation, output_activation, init=rule, init_scale=scale, generator=generator)
            with torch.no_grad():
                for mine, value in zip(self.model.parameters(), one.parameters(), strict=True):
                    (mine if runs is None else mine[run]).copy_(value)
        self.loss, self.loss_parameters = loss, dict(loss_parameters or {})
        self.classifies = classes is not None or LOSSES[loss].probabilities
        self.maximize = larger_is_better(objective)
        self.on_nan = None if on_nan == "continue" else OnNan(on_nan, runs or 1)
        self.train_sums, self.val_sums, self.test_sums = Sums(), Sums(), Sums()
        self.frozen = torch.zeros(runs or 1, dtype=torch.bool)
        self.batch: Batch | None = None
        self.endings: list[Ending | None] = []
        self._stored_sums: list[Any] = []
        self._begin()

    def _begin(self) -> None:
        self.history, self.row = Epochs(runs=self.hparams["runs"]), dict[str, Any]()
        self.first_loss: Tensor | None = None  # of the first step (…): divergence is measured by it
        self.train_sums.clear()
        self.forget_endings()
        if self.on_nan is not None:
            self.on_nan.begin()

    def forward(self, x: Tensor) -> Tensor:
        """`ŷ` (…, B, C)."""
        return self.model(x)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor | None:
        """The loss, whose `backward()` is the derivation's; of several runs the sum."""
        self.batch = batch = Batch(*batch)
        loss, z_O = self.model.loss_and_logits(
            batch.x, batch.y, self.loss, sample_weight=batch.weight, **self.loss_parameters
        )
        self.note_step(batch, loss.detach(), z_O)
        loss = loss if batch.share == 1 else loss * batch.share
        return loss.sum() if loss.dim() else loss

    def note_step(self, batch: Batch, loss: Tensor, z_O: Tensor) -> None:
        """Add a step's loss (…) to the epoch's metrics, and what z_O (…, B, C) says."""
        self.train_sums.add(**self._contributions(batch, loss, z_O))
        if self.hparams["runs"] is not None and bool(self.frozen.any()):
            self.train_sums.drop(self.frozen)
        if self.first_loss is None:
            self.first_loss = self.trainer.strategy.reduce(loss * batch.share, reduce_op="mean")

    def on_train_epoch_end(self) -> None:
        """Log the epoch, and decide how the run goes on."""
        self.note({f"train/{name}": value for name, value in self.train_sums.compute(self.trainer.strategy).items()})
        none_taken = _array(self.train_sums.totals.get("rows", 1.0)) == 0
        self.train_sums.clear()
        names = sorted(self.row, key=lambda name: not name.startswith(("train/", "val/")))  # as metrics.csv has them
        row = {name: _array(self.row[name]) for name in names}
        row["lr"] = _array(self.trainer.optimizers[0].param_groups[0]["lr"])
        self.row = {}
        self.history.append({"epoch": self.current_epoch, "step": self.trainer.global_step - 1, **row})
        self._log_to_loggers(row)
        self._end_runs(none_taken)
        self._set_learning_rate()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Add a batch to the validation metrics."""
        self._evaluate(Batch(*batch), self.val_sums)

    def on_validation_epoch_end(self) -> None:
        """Note them; at the end of an epoch they are logged with the training metrics."""
        metrics = {f"val/{name}": value for name, value in self.val_sums.compute(self.trainer.strategy).items()}
        self.val_sums.clear()
        if self.trainer.sanity_checking:
            return
        if self.trainer.state.fn != "fit":
            self.log_dict(metrics)
            return
        self.note(metrics)
        if not self.trainer.is_last_batch:
            self._log_to_loggers(metrics)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Add a batch to the test metrics."""
        self._evaluate(Batch(*batch), self.test_sums)

    def on_test_epoch_end(self) -> None:
        """Log them; of several runs they are in `row`."""
        metrics = {f"test/{name}": value for name, value in self.test_sums.compute(self.trainer.strategy).items()}
        self.test_sums.clear()
        if self.hparams["runs"] is None:
            self.log_dict(metrics)
        else:
            self.row = metrics

    def predict_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        """Predictions in the target's own terms; of inputs alone there is no `target`.

        Returns:
            For classes: `target`, `prediction` (B,) and `probabilities` (B, classes), the last only where the outputs
            are probabilities. For a regression: `target` and `prediction` (B,) in the target's own units.
        """
        x, *targets = [batch] if isinstance(batch, Tensor) else batch
        yhat = self(x)
        shown = classes_of if self.classifies else self._own_units
        found = {"prediction": shown(yhat if self.classifies else LOSSES[self.loss].mean(yhat))}
        if targets:
            found["target"] = shown(targets[0])
        if not self.classifies:
            return found
        if self.model.network.f.range == (0, 1):
            found["probabilities"] = torch.cat([1 - yhat, yhat], -1) if yhat.shape[-1] == 1 else yhat
        return found

    def configure_callbacks(self) -> list[Any]:
        """What leaves out steps that are not finite."""
        return [] if self.on_nan is None else [self.on_nan]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """What `optimizer` names; the schedule is `decisions.learning_rate`, a function of the epochs so far."""
        if self.hparams["runs"] is None:
            return build_optimizer(self.parameters(), self.hparams["optimizer"])
        optimizer = RunsOptimizer(self.parameters(), self._each(self.hparams["optimizer"]))
        optimizer.frozen = self.frozen
        return optimizer

    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: Any = None, gradient_clip_algorithm: Any = None
    ) -> None:
        """Clip as the trainer is set to, where there are gradients: a step that is left out has none."""
        if any(parameter.grad is not None for parameter in self.parameters()):
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def note(self, metrics: Mapping[str, Any]) -> None:
        """Put metrics (…) into the epoch's row; those of one run may be monitored, too."""
        self.row.update(metrics)
        if self.hparams["runs"] is None:
            self.log_dict(dict(metrics), logger=False, prog_bar=any(name.startswith("val/") for name in metrics))

    def end(self, run: int, ending: Ending) -> None:
        """Let a run train no further; the training ends with its last run."""
        if self.endings[run] is not None:
            return
        self.endings[run], self.frozen[run] = ending, True
        self.trainer.should_stop = bool(self.frozen.all())
        if ending.status != "stopped":  # whatever it was to last at least
            self.trainer.fit_loop.min_epochs = self.trainer.fit_loop.epoch_loop.min_steps = None

    def hparams_of_run(self, run: int) -> dict[str, Any]:
        """The arguments of a module of one of the runs."""
        each = {name: self._each(self.hparams[name])[run] for name in OF_EACH_RUN}
        return {**self.hparams, **each, "runs": None}

    def fail(self, run: int, reason: str) -> None:
        """Let a run of several train no further, for its gradients are wrong."""
        self.end(run, Ending("failed", reason, len(self.history)))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the epochs so far, and in the middle of one what its training metrics are made of."""
        sums: list[Any] = [self.train_sums.state()]
        if self.trainer.world_size > 1:
            sums = [None] * self.trainer.world_size
            torch.distributed.all_gather_object(sums, self.train_sums.state())
        checkpoint["run"] = {
            "history": self.history.state(),
            "row": {name: torch.as_tensor(value) for name, value in self.row.items()},
            "sums": sums,
            "first_loss": self.first_loss,
            "endings": [ending and asdict(ending) for ending in self.endings],
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Resume from there."""
        state = checkpoint["run"]
        self.history, self.row, self.first_loss = Epochs.of(state["history"]), state["row"], state["first_loss"]
        self._stored_sums = state["sums"]  # which of them are this process's, the trainer knows
        self.endings = [None if ending is None else Ending(**ending) for ending in state["endings"]]
        self.frozen[:] = torch.tensor([ending is not None for ending in self.endings])

    def forget_endings(self) -> None:
        """Forget how the run of a checkpoint ended: this one trains on from it."""
        self.endings = [None] * len(self.frozen)
        self.frozen[:] = False

    def on_train_start(self) -> None:
        """Begin; or, from a checkpoint, train no further where that has the end.

        Raises:
            ValueError: a cosine schedule has no number of epochs to end at.
        """
        if self._settings("scheduler")["name"] == "cosine" and (self.trainer.max_epochs or -1) < 1:
            raise ValueError("scheduler cosine: needs the trainer's max_epochs, the length of the curve")
        if self.trainer.global_step == 0:
            self._begin()
        elif len(self._stored_sums) == self.trainer.world_size:  # in the middle of an epoch their number must stay
            self.train_sums.restore(self._stored_sums[self.trainer.global_rank], self.trainer.strategy.root_device)
        self._stored_sums = []
        self.trainer.should_stop = bool(self.frozen.all())

    def _end_runs(self, none_taken: np.ndarray) -> None:
        """End the runs that are lost, that could take no step of the epoch, or that stop early."""
        hparams, epochs, loss = self.hparams, len(self.history), self.history.column("train/loss")[-1]
        if hparams["on_nan"] == "continue":
            for run, value in enumerate(np.atleast_1d(loss)):
                lost = None if np.isfinite(value) else Ending("diverged", divergence(value, epochs), epochs)
                self.endings[run] = lost
        else:
            for run in map(int, np.flatnonzero(is_lost(loss, _array(self.first_loss)))):
                left_out = np.broadcast_to(none_taken, loss.shape).flat[run]
                reason = f"no step of epoch {epochs} could be taken: each was left out"
                reason = reason if left_out else divergence(loss.flat[run], epochs)
                self.end(run, Ending("diverged", reason, epochs))
        if (stopping := hparams["early_stopping"]) is not None:
            values = self.history.column(hparams["objective"])
            stopped = has_stopped(values, self.maximize, **{**STOPPING, **stopping})
            for run in map(int, np.flatnonzero(stopped)):
                self.end(run, Ending("stopped", None, epochs))

    def _set_learning_rate(self) -> None:
        """Set the next epoch's learning rate, where there is a schedule."""
        schedule, epochs = self._settings("scheduler"), len(self.history)
        if schedule["name"] == "none":
            return
        schedule = {**SCHEDULE, **{key: value for key, value in schedule.items() if value is not None}}
        first, values = self._settings("optimizer")["lr"], self.history.column(self.hparams["objective"])
        lr = learning_rate(schedule, first, epochs, self.trainer.max_epochs, values, self.maximize)
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = float(lr) if self.hparams["runs"] is None else torch.as_tensor(lr).to(group["lr"])

    def _evaluate(self, batch: Batch, sums: Sums) -> None:
        found = self.model.loss_and_logits(
            batch.x, batch.y, self.loss, sample_weight=batch.weight, **self.loss_parameters
        )
        sums.add(**self._contributions(batch, *found, evaluate=True))

    def _contributions(self, batch: Batch, loss: Tensor, z_O: Tensor, evaluate: bool = False) -> dict[str, Any]:
        """What a batch adds to the sums of `metrics.Sums`; of a batch that processes share, this one's part."""
        if batch.total is None:
            rows: Any = float(z_O.shape[-2]) if batch.weight is None else batch.weight.sum(-1)
            own, found = 1.0, {"loss": loss * rows, "rows": rows}
        else:
            own = float(batch.part > 0)  # else the rows are another process's
            share = batch.total * batch.share / self.trainer.world_size
            found = {"loss": loss * share, "rows": batch.total * batch.part}
        if self.classifies:
            right = self._is_right(z_O, batch.y).sum(-1)
            return {**found, "right": right if own else right * 0, "samples": own * z_O.shape[-2]}
        if not evaluate:
            return found
        y, yhat = batch.y, LOSSES[self.loss].mean(self.model.output(z_O))
        y, yhat = (each.to(widest_dtype(each.device)) * own for each in (y, yhat))
        error = y - yhat
        return {
            **found,
            "samples": own * z_O.shape[-2],
            "y": y.sum(-2),
            "yy": y.square().sum(-2),
            "squared_error": error.square().sum(-2),
            "absolute_error": error.abs().sum(-2) * self.hparams["target_std"],
        }

    def _is_right(self, z_O: Tensor, y: Tensor) -> Tensor:
        """Whether each sample (…, B) is classified rightly; of several yes-or-no outputs which share of them."""
        # softmax and the identity have their greatest number where z_O has it.
        scores = z_O if self.model.network.output_activation in ("softmax", "identity") else self.model.output(z_O)
        if LOSSES[self.loss].matched == "sigmoid" and scores.shape[-1] > 1:
            return ((scores > 0.5) == (y > 0.5)).float().mean(-1)
        return classes_of(scores) == classes_of(y)

    def _own_units(self, y: Tensor) -> Tensor:
        """(…, B, C) → (…, B) for a single number to predict, else (…, B, C)."""
        values = y.float() * self.hparams["target_std"] + self.hparams["target_mean"]
        return values[..., 0] if values.shape[-1] == 1 else values

    def _log_to_loggers(self, metrics: Mapping[str, Any]) -> None:
        if self.hparams["runs"] is None:
            values = {**{name: float(value) for name, value in metrics.items()}, "epoch": self.current_epoch}
            for logger in self.trainer.loggers:
                logger.log_metrics(values, self.trainer.global_step - 1)

    def _each(self, setting: Any) -> list[Any]:
        """A setting of each run."""
        return setting if isinstance(setting, list) else [setting] * (self.hparams["runs"] or 1)

    def _settings(self, group: str) -> dict[str, Any]:
        """The settings of the optimizer or the schedule; of several runs those that are numbers as arrays (K,)."""
        if self.hparams["runs"] is None:
            return self.hparams[group]
        each = self._each(self.hparams[group])
        return {
            key: np.array([one[key] for one in each]) if isinstance(value, int | float) else value
            for key, value in each[0].items()
        }


def classes_of(y: Tensor) -> Tensor:
    """Class numbers (…, B): of themselves, of one probability (…, B, 1) or of a score for each class (…, B, C)."""
    if not y.is_floating_point():
        return y
    return (y[..., 0] > 0.5).long() if y.shape[-1] == 1 else y.argmax(-1)


def _array(value: Any) -> np.ndarray:
    return value.detach().cpu().double().numpy() if isinstance(value, Tensor) else np.asarray(value, dtype=float)
