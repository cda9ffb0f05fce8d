"""Statistics of a network's layers on one batch: δ, gradient norms, dead and saturated units, histograms."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from backhand.calculus.activations import ACTIVATIONS, cast_like, upcast
from backhand.calculus.backpropagation import (
    bias_gradient,
    delta_of_layer,
    forward,
    loss_delta,
    preactivation,
    weight_gradient,
)
from backhand.calculus.float64 import widest_dtype
from backhand.calculus.mlp import MLP
from backhand.data.batches import Batch
from backhand.reporting.wandb_content import Histogram, log_histograms

# A unit is saturated on a sample where |g′(z)| is below this share of its maximum: |tanh z| > 0.99.
FLAT = 0.02
BINS = 64


@dataclass
class LayerQuantities:
    """The quantities of every layer, first layer first; the dots are the run axis.

    Attributes:
        preactivations: z (…, B, n), the output's last.
        hidden: h (…, B, n).
        deltas: δ (…, B, n), the output's last.
        gradients: ∇W and ∇b of each layer, in the order of the parameters.
    """

    preactivations: list[Tensor]
    hidden: list[Tensor]
    deltas: list[Tensor]
    gradients: list[Tensor]


@torch.no_grad()
def layer_quantities(model: MLP, loss: str, parameters: dict[str, Any], batch: Batch) -> LayerQuantities:
    """Run forward and backward on a batch, and return every layer's quantities."""
    network, theta = model.network, [each.detach() for each in model.parameters_in_order()]
    criterion, weight = model.criterion(loss, parameters, batch.x)
    weights, biases = theta[::2], theta[1::2]
    z_O, hidden, saved = forward(network, batch.x, theta)
    layer_inputs = [batch.x, *hidden]
    z = [preactivation(h, W, b) for h, W, b in zip(layer_inputs, weights, biases, strict=True)]
    deltas = [cast_like(loss_delta(network, criterion, z_O, batch.y, weight, batch.weight), z_O)]
    feedback = [each.detach() for each in model.feedback_tensors()]
    for i in reversed(range(len(hidden))):
        deltas.insert(0, delta_of_layer(network, i, deltas[0], weights[i + 1], saved[i], deltas[-1], feedback))
    gradients = [
        gradient
        for h, delta in zip(layer_inputs, deltas, strict=True)
        for gradient in (weight_gradient(h, delta), bias_gradient(delta))
    ]
    return LayerQuantities(z, hidden, deltas, gradients)


def layer_names(layers: int) -> list[str]:
    """The names of the layers in the metrics: `hidden_0`, …, `output`."""
    return [*(f"hidden_{i}" for i in range(layers - 1)), "output"]


def layer_stats(model: MLP, found: LayerQuantities) -> dict[str, Tensor]:
    """The metrics of the layers, each (…), in float32.

    `delta/<layer>` is the root mean square of δ, `grad/<parameter>` the Frobenius norm of a gradient. Of the hidden
    units, `units/dead_<layer>` is the share with the derivative 0 on every sample. For a bounded activation,
    `units/saturated_<layer>` is the share of units and samples where |g′(z)| is below `FLAT` times its maximum.
    """
    names, runs = layer_names(len(found.deltas)), found.preactivations[0].dim() - 2
    metrics = {
        f"delta/{name}": each.float().square().mean((-2, -1)).sqrt()
        for name, each in zip(names, found.deltas, strict=True)
    }
    for (name, _), each in zip(model.layers.named_parameters(prefix="layers"), found.gradients, strict=True):
        metrics[f"grad/{name}"] = each.float().flatten(runs).norm(dim=-1)
    for i, (name, z, h) in enumerate(zip(names, found.preactivations, found.hidden, strict=False)):
        g, largest = model.network.g(i), _largest_slope(model.network.g_name(i))
        slope = g.derivative(upcast(z if g.reads == "z" else h)).expand(h.shape).abs()
        if largest is None:
            metrics[f"units/dead_{name}"] = (slope == 0).all(-2).float().mean(-1)
        else:
            metrics[f"units/saturated_{name}"] = (slope < FLAT * largest).float().mean((-2, -1))
    return metrics


@functools.cache
def _largest_slope(activation: str) -> float | None:
    """The maximum of |g′| of a bounded activation; None for an unbounded one."""
    g = ACTIVATIONS[activation]
    z = torch.linspace(-1e3, 1e3, 200_001, dtype=torch.float64)
    a = g(z)
    if float(a.abs().max()) > 100:
        return None
    return float(g.derivative(z if g.reads == "z" else a).abs().max())


def histograms(found: LayerQuantities) -> dict[str, list[Histogram | None]]:
    """Histograms of z, h and δ of each layer, one per run; None where a number is not finite."""
    names = layer_names(len(found.deltas))
    kinds: tuple[tuple[str, Sequence[Tensor]], ...] = (
        ("z", found.preactivations), ("h", found.hidden), ("delta", found.deltas)
    )  # fmt: skip
    return {
        f"histograms/{kind}/{name}": _histograms(each)
        for kind, tensors in kinds
        for name, each in zip(names, tensors, strict=False)
    }


def _histograms(t: Tensor) -> list[Histogram | None]:
    """One histogram for each run of (…, B, n)."""
    values = t.to(widest_dtype(t.device)).reshape(-1, t.shape[-2] * t.shape[-1])
    low, high = values.amin(1, keepdim=True), values.amax(1, keepdim=True)
    finite = torch.isfinite(high - low)[:, 0].tolist()
    width = torch.where(high > low, (high - low) / BINS, 1.0)
    bins = ((values - low) / width).nan_to_num().long().clamp(0, BINS - 1)
    counts = torch.zeros(len(values), BINS, dtype=torch.long, device=values.device)
    counts.scatter_add_(1, bins, torch.ones_like(bins))
    rows = zip(counts.tolist(), low[:, 0].tolist(), width[:, 0].tolist(), finite, strict=True)
    return [Histogram(count, start, step) if known else None for count, start, step, known in rows]


class FlowMetrics(Callback):
    """`callbacks.flow`: adds `layer_stats` of one batch to the metrics of every epoch, and logs histograms to W&B.

    The batch is the start of the training split, without augmentation: the same in every epoch, and in every run on
    the same data.

    Args:
        samples: how many are in the batch.
        histograms_every: epochs between two histograms, from the first epoch on; None for no histograms.

    Attributes:
        histograms: of a population, by epoch; they are logged when each run's own W&B run is made.
    """

    def __init__(self, samples: int, histograms_every: int | None) -> None:
        self.samples, self.histograms_every = samples, histograms_every
        self.histograms: dict[int, dict[str, list[Histogram | None]]] = {}

    def state_dict(self) -> dict[str, Any]:
        """The histograms as plain tuples."""
        plain = {
            epoch: {name: [each and tuple(each) for each in runs] for name, runs in of_epoch.items()}
            for epoch, of_epoch in self.histograms.items()
        }
        return {"histograms": plain}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.histograms = {
            epoch: {name: [each and Histogram(*each) for each in runs] for name, runs in of_epoch.items()}
            for epoch, of_epoch in state_dict["histograms"].items()
        }

    def on_fit_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        self.batch = next(iter(trainer.datamodule.unsharded("train", self.samples)))  # type: ignore[attr-defined]

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        found = layer_quantities(pl_module.model, pl_module.loss, pl_module.loss_parameters, self.batch)
        metrics = layer_stats(pl_module.model, found)
        # One transfer from the device for all metrics.
        pl_module.progress.row |= dict(zip(metrics, torch.stack(list(metrics.values())).cpu(), strict=True))
        epoch = trainer.current_epoch
        if self.histograms_every is None or epoch % self.histograms_every:
            return
        if pl_module.hparams["runs"] is not None:
            self.histograms[epoch] = histograms(found)
            return
        of_run = {name: each for name, (each,) in histograms(found).items() if each is not None}
        log_histograms(trainer.loggers, of_run, epoch, trainer.global_step - 1)
