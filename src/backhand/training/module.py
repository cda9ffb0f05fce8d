"""The network as a LightningModule: its loss goes through the hand-derived Function, everything else is Lightning's."""

import math
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torchmetrics import MeanAbsoluteError, MetricCollection, R2Score
from torchmetrics.classification import MulticlassAccuracy

from backhand.calculus.losses import LOSSES
from backhand.calculus.mlp import MLP
from backhand.training.optimizers import build_optimizer, build_scheduler

Batch = tuple[Tensor, Tensor]


class LightningMLP(LightningModule):
    """A network, its loss, its metrics and its optimizer.

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
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
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
        self.diverged = False
        self.val_metrics = self._metrics("val/")
        self.test_metrics = self._metrics("test/")
        self._train_sums: Tensor | None = None
        self._train_rows = 0
        self._loss_sum: Tensor | float = 0.0
        self._loss_rows = 0

    def forward(self, x: Tensor) -> Tensor:
        """`ŷ` (B, C)."""
        return self.model(x)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of a batch; its `backward()` is the derivation's."""
        x, y = batch
        loss, z_O = self.model.loss_and_preoutput(x, y, self.loss, **self.loss_parameters)
        # Sums of our own: Lightning's per-step logging would cost several times the step itself.
        rows = len(x)
        with torch.no_grad():
            sums = [loss.detach() * rows]
            if self.classes is not None:
                sums.append((self._classes_of(self.model.output(z_O)) == self._classes_of(y)).sum())
            total = torch.stack([each.float() for each in sums])
            self._train_sums = total if self._train_sums is None else self._train_sums + total
        self._train_rows += rows
        return loss

    def on_train_epoch_end(self) -> None:
        """Log the epoch's training metrics, and end the run where the loss is no longer finite."""
        assert self._train_sums is not None
        rows = torch.tensor(float(self._train_rows), device=self.device)
        means = (self._over_processes(self._train_sums) / self._over_processes(rows)).tolist()
        for name, mean in zip(("train/loss", "train/acc"), means, strict=False):
            self.log(name, mean)
        self.log("lr", self.optimizers(use_pl_optimizer=False).param_groups[0]["lr"])  # type: ignore[union-attr]
        self._train_sums, self._train_rows = None, 0
        if not math.isfinite(means[0]):
            self.diverged = True
            self.trainer.should_stop = True

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
        x, y = batch
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
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "epoch", "monitor": self.hparams["objective"]},
        }

    def _metrics(self, prefix: str) -> MetricCollection:
        if self.classes is None:
            return MetricCollection({"r2": R2Score(), "mae": MeanAbsoluteError()}, prefix=prefix)
        accuracy = MulticlassAccuracy(self.classes, average="micro", validate_args=False)
        return MetricCollection({"acc": accuracy}, prefix=prefix)

    def _evaluate(self, batch: Batch, metrics: MetricCollection) -> None:
        x, y = batch
        loss, z_O = self.model.loss_and_preoutput(x, y, self.loss, **self.loss_parameters)
        self._loss_sum = self._loss_sum + loss * len(x)
        self._loss_rows += len(x)
        if self.classes is None:
            metrics.update(self._own_units(self._mean(self.model.output(z_O))), self._own_units(y))
        else:
            metrics.update(self._classes_of(self.model.output(z_O)), self._classes_of(y))

    def _log_evaluation(self, prefix: str, metrics: MetricCollection) -> None:
        rows = torch.tensor(float(self._loss_rows), device=self.device)
        total = self._over_processes(torch.as_tensor(self._loss_sum, device=self.device).float())
        self.log(f"{prefix}loss", total / self._over_processes(rows), prog_bar=prefix == "val/")
        self.log_dict(metrics, prog_bar=prefix == "val/")
        self._loss_sum, self._loss_rows = 0.0, 0

    def _over_processes(self, total: Tensor) -> Tensor:
        return self.trainer.strategy.reduce(total, reduce_op="sum") if self.trainer.world_size > 1 else total

    def _classes_of(self, y: Tensor) -> Tensor:
        """Class numbers (B,) of class numbers (B,), of one probability (B, 1) or of a score for each class (B, C)."""
        if y.dim() == 1:
            return y
        return (y[:, 0] > 0.5).long() if y.shape[-1] == 1 else y.argmax(-1)

    def _mean(self, yhat: Tensor) -> Tensor:
        return LOSSES[self.loss].mean(yhat)

    def _own_units(self, y: Tensor) -> Tensor:
        return y[:, 0].float() * self.hparams["target_std"] + self.hparams["target_mean"]
