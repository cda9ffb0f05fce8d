"""The network as a LightningModule: its loss goes through the hand-derived Function, everything else is Lightning's."""

import logging
import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torchmetrics import MeanAbsoluteError, MetricCollection, R2Score
from torchmetrics.classification import MulticlassAccuracy

from backhand.calculus.losses import LOSSES
from backhand.calculus.mlp import MLP
from backhand.checking.audit import Audit
from backhand.data.batches import Batch, Block
from backhand.training.on_nan import ADVICE, Point, extremes, first_not_finite
from backhand.training.optimizers import build_optimizer, build_scheduler
from backhand.training.step import OptimizersStep

log = logging.getLogger(__name__)

# A training loss so many times that of the first step, or so large where that was below 1, does not come back: the
# weights are then so far out that every unit is saturated or dead.
BEYOND_RETURN = 1e4


def has_diverged(loss: float, first: float) -> bool:
    """Whether an epoch's mean training loss says that the run is lost, given the loss of its first step."""
    return not math.isfinite(loss) or loss > BEYOND_RETURN * max(1.0, abs(first))


def divergence(loss: float, epoch: int) -> str:
    """The reason that result.json gives."""
    what = f"{loss:.3g}" if math.isfinite(loss) else "not finite"
    return f"the training loss is {what} in epoch {epoch}; {ADVICE}"


class LightningMLP(LightningModule):
    """A network, its loss, its metrics and its optimizer.

    It takes the steps itself (what Lightning calls manual optimization), a block of them at a time, in one of three
    ways: compiled whole; eagerly, with the derivation's gradients put where the optimizer looks for them; or by
    autograd's engine, which calls the derivation's Function, where something hangs on that engine: the reduction over
    processes, mixed precision, accumulation, or `gradient="autograd"`.

    All arguments are plain numbers, names and lists: they go into the checkpoint, which `torch.load(weights_only=True)`
    reads.

    Args:
        sizes: [D, H, …, C].
        hidden_activation: g.
        output_activation: f.
        loss: a key of `LOSSES`.
        loss_parameters: its parameters by name, numbers or lists of numbers.
        gradient: `hand`, or `autograd` for torch's own graph.
        init: a key of `INITIALIZATIONS`.
        init_scale: every initial value is multiplied by it.
        seed: of the initial values.
        classes: how many, or None for a regression.
        target_mean: what a regression's standardised target is turned back into its own units with.
        target_std: the same.
        optimizer: `OptimizerConfig` as a dict.
        scheduler: `SchedulerConfig` as a dict.
        objective: the metric that the plateau scheduler watches.
        maximize: whether it is to grow.
        preprocessing: how a row of a table becomes an input, as `data.table` made it; it is kept for new rows.
        compile: whether the whole step is compiled.
        accumulate: batches whose gradients are averaged for one step.
        clip: what the gradient is clipped to, or None.
        clip_algorithm: `norm` or `value`.
        on_nan: what becomes of a step whose loss or gradients are not finite: `stop` undoes it and ends the run, `skip`
            undoes it and goes on, `continue` does not look.

    Attributes:
        diverged: why the run is lost; None as long as it is not.
        undone: whether it ended by a step that was undone, so that the weights are good ones.
        skipped: how many steps were left out.
    """

    def __init__(
        self,
        *,
        sizes: list[int],
        hidden_activation: str,
        output_activation: str,
        loss: str,
        loss_parameters: dict[str, Any],
        gradient: Literal["hand", "autograd"],
        init: str,
        init_scale: float,
        seed: int,
        classes: int | None,
        target_mean: float,
        target_std: float,
        optimizer: dict[str, Any],
        scheduler: dict[str, Any],
        objective: str,
        maximize: bool,
        preprocessing: dict[str, Any] | None = None,
        compile: bool = False,
        accumulate: int = 1,
        clip: float | None = None,
        clip_algorithm: str = "norm",
        on_nan: str = "stop",
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)  # a logger has the configuration
        self.automatic_optimization = False
        self.model = MLP(
            sizes,
            hidden_activation,
            output_activation,
            init=init,
            init_scale=init_scale,
            gradient=gradient,
            generator=torch.Generator().manual_seed(seed),
        )
        self.loss = loss
        self.loss_parameters = loss_parameters
        self.classes = classes
        self.diverged: str | None = None
        self.undone = False
        self.skipped = 0
        self.first_loss: float | None = None
        self.val_metrics = self._metrics("val/")
        self.test_metrics = self._metrics("test/")
        self.audit: Audit | None = None
        self._whole: OptimizersStep | None = None
        self._point: Point | None = None
        self._accumulated = 0
        self._spoilt = False  # whether a batch of those that are accumulated was not finite
        self._steps: list[tuple[Any, ...]] = []  # of the block: what each counts, its mean loss, and the share of right
        self._unclipped: list[Tensor] = []  # of the block: the gradients' extremes, where clipping would hide them
        # Of the epoch: for each step, along the last axis, its rows, rows × mean loss, rows × share of right.
        self._noted: list[Tensor] = []
        self._loss_sum: Tensor | float = 0.0
        self._loss_rows: Tensor | float = 0.0

    def forward(self, x: Tensor) -> Tensor:
        """`ŷ` (B, C)."""
        return self.model(x)

    def training_step(self, block: Block, batch_idx: int) -> None:
        """Take a block of steps, which Lightning takes for one batch.

        Numbers that are not finite are looked for at the end of the block, in the losses and in the parameters, where
        no later step can make them finite again. A block that has some is taken again, a step at a time.
        """
        progress = self.trainer.fit_loop.epoch_loop.batch_progress
        before, taken = progress.current.ready - 1, 0
        looks = self.hparams["on_nan"] != "continue"
        if looks:
            self._point = self._point or Point(self)
            self._point.mark()
        for taken, batch in enumerate(block, 1):
            loss, z_O = self._step(batch, last=before + taken >= self.trainer.num_training_batches)
            self._note(batch, loss, z_O)
        if looks and not self._is_finite():
            assert self._point is not None
            self._point.put_back()
            self._steps.clear()
            taken = self._take_carefully(block.again(), self._point, before)
        self._unclipped.clear()
        progress.increment_by(taken - 1, progress.is_last_batch)
        self.trainer.fit_loop.epoch_loop._batches_that_stepped += taken - 1  # the loggers' `step`
        if self._steps:
            self._add_up()

    def _take_carefully(self, batches: Iterable[Batch], point: Point, before: int) -> int:
        """Take the steps one at a time, and undo those that are not finite; returns how many there were."""
        taken = 0
        for taken, batch in enumerate(batches, 1):
            point.mark()
            self._unclipped.clear()
            step = self.trainer.global_step
            loss, z_O = self._step(batch, last=before + taken >= self.trainer.num_training_batches)
            self._note(batch, loss, z_O)
            if self._is_finite(self._steps[-1:]):
                continue
            broken = [name for name, each in self.model.named_parameters() if not each.isfinite().all()]
            waiting = self._accumulated
            point.put_back()
            reason = f"epoch {self.current_epoch + 1}, step {step + 1}: {self._first_not_finite(batch, broken)}"
            if self.hparams["on_nan"] == "stop":
                undone = all(bool(each.isfinite().all()) for each in self.model.parameters())  # not where it began so
                self._lose(f"{reason}; the weights are those before it" if undone else reason, undone)
                break
            self._steps.pop()
            if not (self.skipped or self._spoilt) and self.trainer.is_global_zero:
                log.warning("%s; on_nan=skip: its update is left out, and so is that of any other such step", reason)
            self._leave_out(waiting)
        return taken

    def _leave_out(self, waiting: int) -> None:
        """Go on behind a batch that was undone; `waiting` batches, it included, are without their update as yet."""
        self._accumulated = waiting
        if waiting:
            self._spoilt = True
            return
        self._spoilt = False
        self.skipped += 1
        self._optimizer.zero_grad()
        self._count_step()

    def _is_finite(self, steps: Sequence[tuple[Any, ...]] | None = None) -> bool:
        """Whether the losses of these steps (of the block's if None) are finite, and so are all parameters.

        And the gradients that wait for more batches, unless the loss is scaled up.
        """
        losses = torch.stack([loss for _, loss, *_ in (self._steps if steps is None else steps)])
        parameters = list(self.model.parameters())
        waiting = [each.grad for each in parameters if each.grad is not None and not self._is_scaled]
        numbers = extremes([losses, *(each.detach() for each in parameters), *waiting]) + self._unclipped
        finite = bool(torch.stack(numbers).isfinite().all())
        return finite if self.trainer.world_size == 1 else self.trainer.strategy.reduce_boolean_decision(finite)

    def _first_not_finite(self, batch: Batch, broken: Sequence[str]) -> str:
        """What the step on this batch, which is undone, had first that is not finite, in whichever process.

        Args:
            batch: this process's.
            broken: the parameters that the step's update left as not finite.
        """
        lr = self._optimizer.param_groups[0]["lr"]
        found = first_not_finite(self.model, self.loss, self.loss_parameters, batch, lr)
        if self.trainer.world_size > 1:
            all_found: list[Any] = [None] * self.trainer.world_size
            torch.distributed.all_gather_object(all_found, found)
            found = min((each for each in all_found if each is not None), default=None)
        if found is not None:
            return found[1]
        what = f"the update of {broken[0]}" if broken else "a gradient"
        return f"{what} is not finite (learning rate {lr:.3g}); {ADVICE}"

    def _lose(self, reason: str, undone: bool) -> None:
        """End the run, whatever it was to last at least."""
        self.diverged, self.undone = reason, undone
        self.trainer.should_stop = True
        self.trainer.fit_loop.min_epochs = self.trainer.fit_loop.epoch_loop.min_steps = None

    def _add_up(self) -> None:
        """Add what was noted of the block's steps to the epoch's sums."""
        counted, *noted = zip(*self._steps, strict=True)
        self._steps.clear()
        means = torch.stack([torch.stack(each) for each in noted])
        rows = torch.stack([torch.as_tensor(each) for each in counted]).to(means)
        # Of all processes at once: a checkpoint may be written before the epoch ends, and it is the first one's.
        self._noted.append(self._over_processes(torch.cat([rows[None], means * rows])))
        if self.first_loss is None:
            loss, rows_of_all = self._over_processes(torch.stack([means[0, 0] * rows[0], rows[0]])).tolist()
            self.first_loss = loss / rows_of_all

    def on_validation_model_zero_grad(self) -> None:
        """Keep, over a validation, the gradients that wait for more batches."""
        if not self._accumulated:
            super().on_validation_model_zero_grad()

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clip the gradients where asked for."""
        if self.hparams["clip"] is not None:
            looks = self.hparams["on_nan"] != "continue" and not self._is_scaled
            if looks and self.hparams["clip_algorithm"] == "value":  # which makes a finite number of an infinite one
                self._unclipped += extremes([each.grad for each in self.parameters() if each.grad is not None])
            self.clip_gradients(optimizer, self.hparams["clip"], self.hparams["clip_algorithm"])

    def on_train_epoch_end(self) -> None:
        """Log the epoch's training metrics, change the learning rate, end the run where it has diverged."""
        names = ["train/loss"] if self.classes is None else ["train/loss", "train/acc"]
        # In one sum, whose last bit would else tell where a run that was cut off has gone on.
        sums = torch.cat(self._noted, -1).sum(-1).tolist() if self._noted else [0.0] * (1 + len(names))
        rows, *totals = sums
        # An epoch of which every step was left out has no mean.
        means = {name: each / rows if rows else math.nan for name, each in zip(names, totals, strict=True)}
        self.log_dict(means)
        self.log("lr", self._optimizer.param_groups[0]["lr"])
        self._noted.clear()
        self._schedule(means)
        loss, reason = means["train/loss"], divergence(means["train/loss"], self.current_epoch + 1)
        if not rows:
            reason = f"no step of epoch {self.current_epoch + 1} could be taken: each was left out"
        if self.hparams["on_nan"] == "continue":
            self.diverged = None if math.isfinite(loss) else reason
        elif self.diverged is None and has_diverged(loss, math.nan if self.first_loss is None else self.first_loss):
            self._lose(reason, undone=False)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Add a batch to the validation metrics."""
        self._evaluate(batch, self.val_metrics)

    def on_validation_epoch_end(self) -> None:
        """Log them."""
        self._log_evaluation("val/", self.val_metrics)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Add a batch to the test metrics."""
        self._evaluate(batch, self.test_metrics)

    def on_test_epoch_end(self) -> None:
        """Log them."""
        self._log_evaluation("test/", self.test_metrics)

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Predictions in the target's own terms.

        Returns:
            For classes: `target`, `prediction` (B,) and `probabilities` (B, classes), the last only where the outputs
            are probabilities. For a regression: `target` and `prediction` (B,) in the target's own units.
        """
        x, y, *_ = batch
        yhat = self(x)
        if self.classes is None:
            return {"target": self._own_units(y), "prediction": self._own_units(self._mean(yhat))}
        found = {"target": self._classes_of(y), "prediction": self._classes_of(yhat)}
        if self.model.network.f.range == (0, 1):
            found["probabilities"] = torch.cat([1 - yhat, yhat], -1) if yhat.shape[-1] == 1 else yhat
        return found

    def configure_optimizers(self) -> Any:
        """What `optimizer` and `scheduler` name."""
        optimizer = build_optimizer(self.parameters(), self.hparams["optimizer"])
        scheduler = build_scheduler(
            optimizer, self.hparams["scheduler"], self.hparams["maximize"], self.trainer.max_epochs
        )
        if scheduler is None:
            return optimizer
        return [optimizer], [scheduler]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what divergence is measured by, and in the middle of an epoch what its training metrics are made of."""
        checkpoint["first_loss"] = self.first_loss
        checkpoint["on_nan"] = {"skipped": self.skipped, "undone": self.undone}
        if self._noted:
            checkpoint["noted"] = torch.cat(self._noted, -1)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on from there."""
        self.first_loss = checkpoint.get("first_loss")
        kept = checkpoint.get("on_nan", {})
        self.skipped, self.undone = kept.get("skipped", 0), kept.get("undone", False)
        self._noted = [checkpoint["noted"].to(self.device)] if "noted" in checkpoint else []

    @property
    def is_accumulating(self) -> bool:
        """Whether there are gradients that no step was taken with yet."""
        return self._accumulated > 0

    @property
    def _optimizer(self) -> torch.optim.Optimizer:
        return self.trainer.optimizers[0]

    def _step(self, batch: Batch, last: bool) -> tuple[Tensor, Tensor]:
        """The gradients of one batch, and the update when they are complete; returns the loss and z_O."""
        step = self.trainer.global_step
        audit = self.audit if self.audit is not None and self.audit.due(step) else None
        if self.hparams["compile"] and self._whole is None and step > 0:  # the first step makes the optimizer's state
            criterion, weight = self.model.criterion(self.loss, self.loss_parameters, batch.x)
            self._whole = OptimizersStep(self.model, criterion, weight, self._optimizer)
        if self._whole is not None:
            return self._take_whole_step(self._whole, batch, audit)
        return self._step_by_engine(batch, audit, last)

    def _take_whole_step(self, whole: OptimizersStep, batch: Batch, audit: Audit | None) -> tuple[Tensor, Tensor]:
        theta = [parameter.detach().clone() for parameter in self.model.parameters()] if audit is not None else None
        loss, z_O, gradients = whole(batch.x, batch.y, batch.weight)
        if audit is not None:
            audit.compare(self.trainer, self, batch, gradients, theta=theta)
        self._count_step()
        return loss, z_O

    def _step_by_engine(self, batch: Batch, audit: Audit | None, last: bool) -> tuple[Tensor, Tensor]:
        loss, z_O = self.model.loss_and_logits(
            batch.x, batch.y, self.loss, sample_weight=batch.weight, **self.loss_parameters
        )
        scale = batch.share / self.hparams["accumulate"]
        # A process whose rows have no weight has no loss, 0/0, and yet it takes part in the others' mean.
        scaled = loss * scale if scale else z_O.sum() * 0
        if audit is not None and self.model.gradient == "hand":
            with audit.listening(self) as arrived:
                self.manual_backward(scaled)
            audit.compare(self.trainer, self, batch, arrived, scale=scale)
        else:
            self.manual_backward(scaled)
        self._accumulated += 1
        if last or self._accumulated == self.hparams["accumulate"]:
            self._accumulated = 0
            if self._spoilt:
                self._leave_out(0)
                return loss.detach(), z_O.detach()
            optimizer = self.optimizers()  # Lightning's, which knows of a loss that was scaled up, and counts the step
            optimizer.step()  # type: ignore[union-attr]
            optimizer.zero_grad()  # type: ignore[union-attr]
        return loss.detach(), z_O.detach()

    @property
    def _is_scaled(self) -> bool:
        """Whether the loss is scaled up for half precision; gradients that overflow by it are then left out anyway."""
        return getattr(self.trainer.precision_plugin, "scaler", None) is not None

    def _count_step(self) -> None:
        """What Lightning's wrapper of an optimizer would do in a fifth of a small network's step."""
        self.trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress.increment_by(1)

    def _note(self, batch: Batch, loss: Tensor, z_O: Tensor) -> None:
        noted = [self._counted(batch), self._own_part(batch, loss.float())]
        if self.classes is not None:
            # A share, as the loss is: the mean over an epoch is taken of both in one go.
            noted.append((self._classes_of(self._scores(z_O)) == self._classes_of(batch.y)).float().mean())
        self._steps.append(tuple(noted))

    def _counted(self, batch: Batch) -> Tensor | float:
        """What a batch counts in a mean: its rows, or the sum of their weights; of a shared one, this one's part."""
        if batch.total is not None:
            return batch.total * batch.part
        return float(len(batch.x)) if batch.weight is None else batch.weight.sum()

    def _own_part(self, batch: Batch, loss: Tensor) -> Tensor:
        """A batch's loss such that, times what it counts, it adds up over the processes to the whole batch's loss."""
        if batch.total is None:
            return loss
        if batch.share == 0 or batch.part == 0:
            return torch.zeros_like(loss)
        return loss * (batch.share / (batch.part * self.trainer.world_size))

    def _schedule(self, means: dict[str, float]) -> None:
        match self.lr_schedulers():
            case None:
                return
            case torch.optim.lr_scheduler.ReduceLROnPlateau() as plateau:
                objective = self.hparams["objective"]
                plateau.step(means[objective] if objective in means else self.trainer.callback_metrics[objective])
            case scheduler:
                scheduler.step()  # type: ignore[union-attr]

    def _metrics(self, prefix: str) -> MetricCollection:
        if self.classes is None:
            return MetricCollection({"r2": R2Score(), "mae": MeanAbsoluteError()}, prefix=prefix)
        accuracy = MulticlassAccuracy(self.classes, average="micro", validate_args=False)
        return MetricCollection({"acc": accuracy}, prefix=prefix)

    def _evaluate(self, batch: Batch, metrics: MetricCollection) -> None:
        rows = self._counted(batch)
        if batch.part == 0:  # a row that another process counts
            return
        loss, z_O = self.model.loss_and_logits(
            batch.x, batch.y, self.loss, sample_weight=batch.weight, **self.loss_parameters
        )
        self._loss_sum = self._loss_sum + self._own_part(batch, loss) * rows
        self._loss_rows = self._loss_rows + rows
        if self.classes is None:
            metrics.update(self._own_units(self._mean(self.model.output(z_O))), self._own_units(batch.y))
        else:
            metrics.update(self._classes_of(self._scores(z_O)), self._classes_of(batch.y))

    def _log_evaluation(self, prefix: str, metrics: MetricCollection) -> None:
        sums = torch.stack(
            [torch.as_tensor(each, device=self.device).float() for each in (self._loss_sum, self._loss_rows)]
        )
        total, rows = self._over_processes(sums)
        self.log(f"{prefix}loss", total / rows, prog_bar=prefix == "val/")
        self.log_dict(metrics, prog_bar=prefix == "val/")
        self._loss_sum = self._loss_rows = 0.0

    def _scores(self, z_O: Tensor) -> Tensor:
        """What the class is read off: the outputs, or z_O where it has its greatest number at the same place."""
        return z_O if self.model.network.output_activation in ("softmax", "identity") else self.model.output(z_O)

    def _over_processes(self, total: Tensor) -> Tensor:
        return self.trainer.strategy.reduce(total, reduce_op="sum") if self.trainer.world_size > 1 else total

    def _classes_of(self, y: Tensor) -> Tensor:
        """Class numbers (…, B): of themselves, of one probability (…, B, 1) or of a score for each class (…, B, C)."""
        if not y.is_floating_point():
            return y
        return (y[..., 0] > 0.5).long() if y.shape[-1] == 1 else y.argmax(-1)

    def _mean(self, yhat: Tensor) -> Tensor:
        return LOSSES[self.loss].mean(yhat)

    def _own_units(self, y: Tensor) -> Tensor:
        """(…, B, C) → (…, B) for a single number to predict, else (…, B, C)."""
        values = y.float() * self.hparams["target_std"] + self.hparams["target_mean"]
        return values[..., 0] if values.shape[-1] == 1 else values
