"""Angles between the δ and gradients of a backward rule and those of backpropagation."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from backhand.calculus import backpropagation as bp
from backhand.calculus.float64 import widest_dtype
from backhand.calculus.mlp import MLP


@torch.no_grad()
def alignment(
    model: MLP,
    loss: str,
    parameters: Mapping[str, Any],
    batch: Any,
    theta: Sequence[Tensor] | None = None,
    scale: float = 1.0,
) -> dict[str, Tensor]:
    """Angles in degrees, (…) each, on one batch, computed in float64 where the device has it.

    Args:
        model: the network, with a rule.
        loss: a key of `LOSSES`.
        parameters: the loss's parameters.
        batch: inputs (…, B, D), targets, and the samples' weights or None.
        theta: values to use instead of those of `model.parameters()`.
        scale: the factor of the loss in the backward pass.

    Returns:
        `alignment/hidden_0`, …: between the layer's δ and backpropagation's, over all samples and units of the batch.
        `alignment/<parameter>`: between the gradients. And for each tensor B of the rule that has the shape of its W,
        `alignment/feedback.<layer>.B`, between B and W, and `norm_ratio/feedback.<layer>.B`, ‖B‖ / ‖W‖.
    """
    dtype = widest_dtype(batch.x.device)
    parameter_names = [name for name, _ in model.named_parameters()]
    given = dict(model.named_buffers()) | dict(zip(parameter_names, theta or model.parameters(), strict=True))
    tensors = {name: value.to(dtype) for name, value in given.items()}
    layers = [tensors[f"layers.{i}.{kind}"] for i in range(len(model.layers)) for kind in ("weight", "bias")]
    feedback_names = [f"feedback.{i}.{name}" for i, names in enumerate(model.network.feedback) for name in names]
    x, y, sample_weight = batch.x.to(dtype), batch.y, batch.weight
    y = y.to(dtype) if y.is_floating_point() else y
    criterion, class_weight = model.criterion(loss, dict(parameters), x)
    z_O, hidden, saved = bp.forward(model.network, x, layers)
    delta_O = scale * bp.loss_delta(model.network, criterion, z_O, y, class_weight, sample_weight)
    weights, layer_inputs, runs = layers[::2], [x, *hidden], z_O.dim() - 2

    def deltas_of(network: bp.Network) -> list[Tensor]:
        deltas = [delta_O]
        for i in reversed(range(len(hidden))):
            feedback = [tensors[name] for name in feedback_names]
            deltas.insert(0, bp.delta_of_layer(network, i, deltas[0], weights[i + 1], saved[i], delta_O, feedback))
        return deltas

    by_rule, exact = deltas_of(model.network), deltas_of(replace(model.network, rule=None))
    found = {f"alignment/hidden_{i}": angle(by_rule[i], exact[i], runs) for i in range(len(hidden))}
    for i, (h, delta, right) in enumerate(zip(layer_inputs, by_rule[:-1], exact, strict=False)):
        found[f"alignment/layers.{i}.weight"] = angle(bp.weight_gradient(h, delta), bp.weight_gradient(h, right), runs)
        found[f"alignment/layers.{i}.bias"] = angle(bp.bias_gradient(delta), bp.bias_gradient(right), runs)
    for i, names in enumerate(model.network.feedback):
        B, W = tensors.get(f"feedback.{i}.B"), weights[i + 1]
        if "B" in names and B is not None and B.shape == W.shape:
            found[f"alignment/feedback.{i}.B"] = angle(B, W, runs)
            found[f"norm_ratio/feedback.{i}.B"] = B.flatten(runs).norm(dim=-1) / W.flatten(runs).norm(dim=-1)
    return found


def angle(a: Tensor, b: Tensor, runs: int = 0) -> Tensor:
    """The angle in degrees between two tensors, flattened to vectors; NaN where one of them is 0.

    Args:
        a: a tensor of any shape whose first `runs` axes are run axes.
        b: a tensor of the same shape.
        runs: 1 where there is a run axis, else 0.
    """
    a, b = a.flatten(runs), b.flatten(runs)
    cosine = (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1))
    return cosine.clamp(-1, 1).arccos().rad2deg()
