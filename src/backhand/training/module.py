"""The network as a LightningModule: its loss uses the hand-derived Function, everything else is Lightning's."""

from collections.abc import Mapping, Sequence, Sized
from dataclasses import fields
from functools import partial
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from backhand.calculus.choices import check_choice, check_number
from backhand.calculus.losses import LOSSES, check_parameters
from backhand.calculus.mlp import MLP, type_name
from backhand.calculus.trial import asked_differently
from backhand.config.dataset_info import DatasetInfo
from backhand.config.imports import load_rule
from backhand.config.ranges import check_ranges
from backhand.config.schema import CHOICES, ON_NAN, EarlyStoppingConfig
from backhand.config.validation import metric_names
from backhand.data.batches import Batch
from backhand.errors import UserError
from backhand.training.decisions import Ending
from backhand.training.metrics import Metrics, classes_of
from backhand.training.on_nan import OnNan
from backhand.training.optimizers import RunsOptimizer, build_optimizer, build_scheduler
from backhand.training.progress import Progress, of_each_run

SGD = {"name": "sgd", "lr": 0.1, "momentum": 0.9}
# Arguments that may be lists with one entry per run.
OF_EACH_RUN = ("init", "init_scale", "seed", "optimizer", "scheduler")
NO_SCHEDULE = {"name": "none"}


class LightningMLP(LightningModule):
    """A fully-connected network, its loss, its metrics and its optimizer; or K of them in the same tensors.

    A batch is `(x, y)` or `(x, y, weight)`: inputs (B, D), targets as the loss takes them, and how much each sample
    counts (B,). With `runs`, batches may have the run axis (K, B, …).

    All arguments are plain numbers, names and lists: they are stored in the checkpoint, which is read with
    `torch.load(weights_only=True)`. With `runs`, arguments marked * may be lists with one entry per run.

    Args:
        sizes: [D, H, …, C].
        hidden_activation: g, one name, or a list with one name per hidden layer.
        output_activation: f.
        loss: a key of `LOSSES`.
        loss_parameters: the loss's parameters by name, numbers or lists of numbers.
        gradient: `hand`, `autograd` for torch's own graph, a name of `RULES`, or your own rule as `FILE.py:NAME`.
        gradient_settings: the rule's settings by name.
        init: a key of `INITIALIZATIONS`.*
        init_scale: a factor for every initial value.*
        seed: the seed of the initial values; torch's global generator if None.*
        classes: the number of classes, if the target is a class but the loss takes numbers.
        target_mean: the mean that a regression's target had before it was standardised.
        target_std: the standard deviation that it had.
        optimizer: a `name` of `CHOICES["optimizer"]`, or as `_target_` the name of an optimizer's class, and its
            arguments.*
        scheduler: a `name` of `CHOICES["scheduler"]`, or as `_target_` that of one of torch's schedulers, and its
            arguments.*
        early_stopping: `{"patience": 10, "min_delta": 0.0}`, or None.
        objective: the metric that early stopping and the plateau schedule watch.
        on_nan: what happens at a step that is not finite: `stop` skips it and ends the run, `skip` skips it,
            `continue` does not check.
        preprocessing: how a row of a table becomes an input, as `data.table` made it; stored for new rows.
        runs: K networks in the same tensors; None for one.

    Attributes:
        progress: the metrics of each epoch, and the runs that have ended.
        metrics: the sums of the current epoch, by split.
        on_nan: the callback that skips steps that are not finite; None for `continue`.
        batch: the batch of the current step.

    Raises:
        UserError: an argument of a wrong type or out of its range; an unknown name; settings that do not fit together;
            a list whose length is not the number of runs.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        hidden_activation: str | Sequence[str] = "tanh",
        output_activation: str = "softmax",
        loss: str = "cross_entropy",
        *,
        loss_parameters: Mapping[str, Any] | None = None,
        gradient: str = "hand",
        gradient_settings: Mapping[str, float] | None = None,
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
        self.save_hyperparameters(logger=False)  # loggers get the configuration
        check_choice("on_nan", on_nan, ON_NAN)
        network: Any = partial(MLP, sizes, hidden_activation, output_activation)
        network = partial(network, gradient=load_rule(gradient), settings=gradient_settings)
        self.model: MLP = network(runs=runs)
        self.model.check_loss(loss)
        check_settings(self.hparams)
        parameters = {name: value for name, value in (loss_parameters or {}).items() if value is not None}
        check_parameters(loss, parameters, self.model.sizes[-1])
        each = partial(of_each_run, runs=runs)
        for run, (rule, scale, number) in enumerate(zip(*map(each, (init, init_scale, seed)), strict=True)):
            generator = None if number is None else torch.Generator().manual_seed(number)
            single, ours = network(init=rule, init_scale=scale, generator=generator), self.model.state_dict()
            if difference := asked_differently(ours, single.state_dict()):
                raise UserError(
                    f"gradient={gradient}: the rule must ask for the same tensors in every call; it {difference}"
                )
            for name, value in single.state_dict().items():
                (ours[name] if runs is None else ours[name][run]).copy_(value)
        self.loss, self.loss_parameters = loss, dict(loss_parameters or {})
        self.classifies = classes is not None or LOSSES[loss].probabilities
        info = DatasetInfo(features=sizes[0], classes=sizes[-1] if self.classifies else None)
        check_choice("objective", objective, metric_names(info))
        self.on_nan = None if on_nan == "continue" else OnNan(on_nan, runs or 1)
        self.progress = Progress(self.hparams)
        self.metrics = {
            split: Metrics(self.model, loss, self.classifies, unit=target_std) for split in ("train", "val", "test")
        }
        self.batch: Batch | None = None
        self._stored_metrics: list[Any] = []

    def forward(self, x: Tensor) -> Tensor:
        """`ŷ` (…, B, C)."""
        return self.model(x)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor | None:
        """The loss, whose `backward()` is the derivation's; for several runs their sum."""
        self.batch = batch = as_batch(batch)
        loss, z_O = self.model.loss_and_logits(
            batch.x, batch.y, self.loss, sample_weight=batch.weight, **self.loss_parameters
        )
        self.add_step_metrics(batch, loss.detach(), z_O)
        loss = loss if batch.share == 1 else loss * batch.share
        return loss.sum() if loss.dim() else loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self._evaluate(as_batch(batch), "val")

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self._evaluate(as_batch(batch), "test")

    def predict_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        """Predictions as classes or in the target's units; for a batch of inputs only there is no `target`.

        Returns:
            For classes: `target`, `prediction` (B,) and `probabilities` (B, classes), the last only if the outputs
            are probabilities. For a regression: `target` and `prediction` (B,) in the target's units.
        """
        if not isinstance(batch, Tensor | list | tuple):
            raise UserError(f"a batch is x, (x, y) or (x, y, weight), not {type_name(batch)}")
        x, *targets = [batch] if isinstance(batch, Tensor) else batch
        yhat = self(x)
        shown = classes_of if self.classifies else self._own_units
        found = {"prediction": shown(yhat if self.classifies else LOSSES[self.loss].mean(yhat))}
        if targets:
            found["target"] = shown(targets[0])
        if self.classifies and self.model.network.f.range == (0, 1):
            found["probabilities"] = torch.cat([1 - yhat, yhat], -1) if yhat.shape[-1] == 1 else yhat
        return found

    def configure_optimizers(self) -> Any:
        """The optimizer that `optimizer` names, and one of torch's schedulers if `scheduler` names it as `_target_`.

        The other schedules are `decisions.learning_rate`, a function of the metrics so far.
        """
        if self.hparams["runs"] is None:
            schedule = self.hparams["scheduler"]
            optimizer = build_optimizer(self.parameters(), self.hparams["optimizer"])
            if "_target_" not in schedule:
                return optimizer
            steps = self.trainer.estimated_stepping_batches
            scheduler = build_scheduler(optimizer, schedule, self.trainer.max_epochs, steps)
            how = {"interval": schedule.get("interval", "epoch"), "monitor": self.hparams["objective"]}
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, **how}}
        optimizer = RunsOptimizer(self.parameters(), self.progress.of_each_run("optimizer"))
        optimizer.frozen = self.progress.frozen
        return optimizer

    def configure_callbacks(self) -> list[Any]:
        return [] if self.on_nan is None else [self.on_nan]

    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: Any = None, gradient_clip_algorithm: Any = None
    ) -> None:
        """Clip as the trainer is set to, if there are gradients: a step that is skipped has none.

        Feedback tensors that a rule trains have the gradient of their weight, which must not count twice in the norm.
        """
        if gradient_clip_val is None or all(parameter.grad is None for parameter in self.parameters()):
            return
        pairs = self.model.trained_feedback()
        for tensor, _ in pairs:
            tensor.grad = None
        self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
        for tensor, W in pairs:
            tensor.grad = None if W.grad is None else W.grad.clone()

    def on_train_start(self) -> None:
        """Start a new run or, from a checkpoint, restore the sums and stop if the run had already ended.

        Raises:
            UserError: a cosine schedule without the trainer's `max_epochs`; no validation, but early stopping or the
                plateau schedule watches its metric.
        """
        trainer, stored, objective = self.trainer, self._stored_metrics, self.hparams["objective"]
        schedule = self.progress.of_all_runs("scheduler").get("name")
        if schedule == "cosine" and (trainer.max_epochs or -1) < 1:
            raise UserError("scheduler cosine: needs the trainer's max_epochs, the length of the schedule")
        is_watched = self.hparams["early_stopping"] is not None or schedule == "plateau"
        if is_watched and objective.startswith("val/") and not trainer.enable_validation:
            raise UserError(
                f"objective={objective}: there is no validation; give fit its DataLoader or choose train/loss"
            )
        if trainer.global_step == 0:
            self.progress.begin()
            self.metrics["train"].clear()
            if self.on_nan is not None:
                self.on_nan.begin()
        elif len(stored) == trainer.world_size:  # within an epoch, with the same number of processes
            self.metrics["train"].restore(stored[trainer.global_rank], trainer.strategy.root_device)
        self._stored_metrics = []
        trainer.should_stop = bool(self.progress.frozen.all())

    def on_train_epoch_end(self) -> None:
        """Log the epoch, and decide on early stopping and the next learning rate."""
        self.store_metrics(self._computed("train"))
        all_skipped = self.metrics["train"].is_empty
        self.metrics["train"].clear()
        groups = self.trainer.optimizers[0].param_groups
        row = self.progress.close_epoch(self.current_epoch, self.trainer.global_step - 1, groups[0]["lr"])
        self._log_to_loggers(row)
        self.progress.end_runs(all_skipped)
        self._stop_with_the_last_run()
        if (lr := self.progress.next_learning_rate(self.trainer.max_epochs)) is not None:
            for group in groups:
                group["lr"] = float(lr) if self.hparams["runs"] is None else torch.as_tensor(lr).to(group["lr"])

    def on_validation_epoch_end(self) -> None:
        """Store the metrics; at the end of an epoch they are logged with the training metrics."""
        metrics = self._computed("val")
        self.metrics["val"].clear()
        if self.trainer.sanity_checking:
            return
        if self.trainer.state.fn != "fit":
            self.log_dict(metrics)
            return
        self.store_metrics(metrics)
        if not self.trainer.is_last_batch:
            self._log_to_loggers(metrics)

    def on_test_epoch_end(self) -> None:
        """Log the metrics; for several runs, store them in `progress.row`."""
        metrics = self._computed("test")
        self.metrics["test"].clear()
        if self.hparams["runs"] is None:
            self.log_dict(metrics)
        else:
            self.progress.row = metrics

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the metrics so far, and within an epoch the sums of its training metrics."""
        sums: list[Any] = [self.metrics["train"].state()]
        if self.trainer.world_size > 1:
            sums = [None] * self.trainer.world_size
            torch.distributed.all_gather_object(sums, self.metrics["train"].state())
        checkpoint["run"] = {**self.progress.state(), "sums": sums}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.progress.restore(checkpoint["run"])
        self._stored_metrics = checkpoint["run"]["sums"]  # one entry per process; the trainer has the rank

    def add_step_metrics(self, batch: Batch, loss: Tensor, z_O: Tensor) -> None:
        """Add a step, with its loss (…) and z_O (…, B, C), to the epoch's metrics."""
        self.metrics["train"].add(batch, loss, z_O, self.trainer.world_size, fit=True)
        if self.hparams["runs"] is not None and bool(self.progress.frozen.any()):
            self.metrics["train"].drop(self.progress.frozen)
        if self.progress.first_loss is None:
            first = loss.clone()  # without the copy, the loss of a compiled module has no gradient (torch 2.15)
            if self.trainer.world_size > 1:
                first = self.trainer.strategy.reduce(first * batch.share, reduce_op="mean")
            self.progress.first_loss = first

    def store_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Store metrics (…) in the epoch's row; callbacks may monitor those of a single run."""
        self.progress.row.update(metrics)
        if self.hparams["runs"] is None:
            self.log_dict(dict(metrics), logger=False, prog_bar=any(name.startswith("val/") for name in metrics))

    def end(self, run: int, ending: Ending) -> None:
        """End a run; the training stops with its last run."""
        self.progress.end(run, ending)
        self._stop_with_the_last_run()

    def fail(self, run: int, reason: str) -> None:
        """End a run of a population because its gradients are wrong."""
        self.end(run, Ending("failed", reason, len(self.progress.history)))

    def hparams_of_run(self, run: int) -> dict[str, Any]:
        """The arguments of a module with only this run."""
        return {**self.hparams, **{name: self.progress.of_each_run(name)[run] for name in OF_EACH_RUN}, "runs": None}

    def _evaluate(self, batch: Batch, split: str) -> None:
        found = self.model.loss_and_logits(
            batch.x, batch.y, self.loss, sample_weight=batch.weight, **self.loss_parameters
        )
        self.metrics[split].add(batch, *found, self.trainer.world_size)

    def _computed(self, split: str) -> dict[str, Tensor]:
        """The metrics of a split, by their names in metrics.csv."""
        metrics = self.metrics[split].compute(self.trainer.strategy)
        return {f"{split}/{name}": value for name, value in metrics.items()}

    def _stop_with_the_last_run(self) -> None:
        if bool(self.progress.frozen.all()):
            self.trainer.should_stop = True
            if any(ending is not None and ending.status != "stopped" for ending in self.progress.endings):
                loop = self.trainer.fit_loop  # a run that diverged or failed ends before `min_epochs`
                loop.min_epochs = loop.epoch_loop.min_steps = None

    def _own_units(self, y: Tensor) -> Tensor:
        """(…, B, C) → (…, B) for a single number to predict, else (…, B, C)."""
        values = y.float() * self.hparams["target_std"] + self.hparams["target_mean"]
        return values[..., 0] if values.shape[-1] == 1 else values

    def _log_to_loggers(self, metrics: Mapping[str, Any]) -> None:
        if self.hparams["runs"] is None:
            values = {**{name: float(value) for name, value in metrics.items()}, "epoch": self.current_epoch}
            for logger in self.trainer.loggers:
                logger.log_metrics(values, self.trainer.global_step - 1)


def check_settings(given: Mapping[str, Any]) -> None:
    """Check arguments of `LightningMLP` that would otherwise fail later, or be misread.

    Args:
        given: all arguments by name; those of the network and the loss's name are checked already.

    Raises:
        UserError: an argument is wrong; the message says what is allowed.
    """
    for name in ("loss_parameters", "early_stopping", "preprocessing"):
        if not isinstance(given[name], Mapping | None):
            raise UserError(f"{name}={given[name]}: must be a dict")
    if (stopping := given["early_stopping"]) is not None:
        _check_part("early_stopping", stopping, EarlyStoppingConfig)
    if given["classes"] is not None:
        check_number("classes", given["classes"], minimum=1, integer=True)
    for name in ("target_mean", "target_std"):
        check_number(name, given[name])
    if not isinstance(given["objective"], str):
        raise UserError(f"objective={given['objective']}: must be the name of a metric, such as val/loss")
    runs = given["runs"] or 1
    for name in OF_EACH_RUN:
        if isinstance(given[name], list) and len(given[name]) != runs:
            raise UserError(f"{name}: has {len(given[name])} entries for {runs} {'run' if runs == 1 else 'runs'}")
    for seed in of_each_run(given["seed"], given["runs"]):
        if seed is not None:
            check_number("seed", seed, integer=True)
    for group in ("optimizer", "scheduler"):
        settings = of_each_run(given[group], given["runs"])
        for one in settings:
            if not isinstance(one, Mapping):
                example = f"{{'name': '{next(iter(CHOICES[group]))}', …}}"
                raise UserError(
                    f"{group}={one}: give a dict, as in {example}, or with the name of a class as '_target_'"
                )
            if "_target_" not in one:
                check_choice(f"{group}['name']", str(one.get("name")), CHOICES[group])
                _check_part(group, one, CHOICES[group][one["name"]])
        if len(names := {str(one.get("name")) for one in settings}) > 1:
            raise UserError(f"{group}['name']: must be the same for all runs, not {', '.join(sorted(names))}")
    for one in of_each_run(given["scheduler"], given["runs"]):
        if "_target_" not in one and one["name"] != "none":
            for optimizer in of_each_run(given["optimizer"], given["runs"]):
                check_number("optimizer['lr']", optimizer.get("lr"), minimum=0)


def _check_part(name: str, settings: Mapping[str, Any], kind: type) -> None:
    """Check the keys and the ranges of settings against a dataclass of the configuration."""
    for key in settings:
        check_choice(name, key, [field.name for field in fields(kind)])
    check_ranges(kind(**settings), f"{name}.")


def as_batch(batch: Any) -> Batch:
    """A DataLoader's batch as a `Batch`.

    Raises:
        UserError: it is neither `(x, y)` nor `(x, y, weight)`.
    """
    if isinstance(batch, Batch):
        return batch
    if not isinstance(batch, list | tuple) or len(batch) not in (2, 3):
        many = f" of {len(batch)}" if isinstance(batch, Sized) else ""
        raise UserError(f"a batch is (x, y) or (x, y, weight), not {type_name(batch)}{many}")
    return Batch(*batch)
