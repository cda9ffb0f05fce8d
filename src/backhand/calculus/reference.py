"""The same network in torch's own operations, differentiated by torch's own graph.

`model.gradient=autograd` trains it, and the hand-derived pass is compared with it. It shares none of that pass's
formulas: activations are `torch.nn` modules and losses `torch.nn.functional` functions.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from backhand.calculus.activations import ACTIVATIONS, Activation
from backhand.calculus.backpropagation import Criterion, Network
from backhand.calculus.losses import Loss


def module(activation: str) -> nn.Module:
    """The activation as a `torch.nn` module."""
    entry = ACTIVATIONS[activation]
    return getattr(nn, entry.torch_module)(**entry.torch_arguments) if entry.torch_module else Value(entry)


class Value(nn.Module):
    """An activation without a counterpart in `torch.nn`; autograd differentiates its value."""

    def __init__(self, activation: Activation) -> None:
        super().__init__()
        self.activation = activation

    def forward(self, z: Tensor) -> Tensor:
        return self.activation(z)


# Created once: creating them takes a tenth of a small network's step.
_shared_module = functools.cache(module)


def affine(h: Tensor, W: Tensor, b: Tensor) -> Tensor:
    """`h W + b` (…, B, m) as `torch.nn.Linear` computes it; with a run axis, which that lacks, as a matrix product."""
    if W.dim() == 2:
        return F.linear(h, W.mT, b)
    z = torch.matmul(h, W)
    return z + b.unsqueeze(-2).to(z.dtype)  # under autocast the product and the parameters have different dtypes


def logits(network: Network, x: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    """`z_O` (…, B, C) of the input x (…, B, D), with the parameters W_1, b_1, W_2, b_2, …."""
    *hidden, last = zip(parameters[::2], parameters[1::2], strict=True)
    for i, (W, b) in enumerate(hidden):
        x = _shared_module(network.g_name(i))(affine(x, W, b))
    return affine(x, *last)


def loss(
    network: Network,
    criterion: Criterion,
    z_O: Tensor,
    y: Tensor,
    class_weight: Tensor | None = None,
    sample_weight: Tensor | None = None,
) -> Tensor:
    """`L` (…), one number a run: z_O (…, B, C), y (…, B) or (…, B, C), class_weight (C,), sample_weight (…, B).

    torch averages over all axes, so where the mean is weighted each run is computed by itself.
    """
    L, parameters = criterion.loss, criterion.parameters(class_weight)
    if class_weight is not None:
        class_weight = class_weight.to(z_O.dtype)
    matched = L.matched == network.output_activation
    prediction = z_O if matched else _shared_module(network.output_activation)(z_O)
    if not L.torch_function:
        return _of_value(L, _shared_module(network.output_activation)(z_O), y, parameters, sample_weight)
    function = getattr(F, L.torch_matched if matched else L.torch_function)
    if criterion.name == "cross_entropy":
        options: dict[str, Any] = {"weight": class_weight, "label_smoothing": parameters.get("label_smoothing", 0.0)}
        if sample_weight is None:
            return _each_run(lambda z, y: function(z, y, **options), prediction, y)
        each = _each_run(lambda z, y: function(z, y, reduction="none", **options), prediction, y)
        counts = sample_weight.to(each.dtype)
        total = counts if class_weight is None or y.is_floating_point() else counts * class_weight[y]
        return (counts * each).sum(-1) / total.sum(-1)
    y = y.expand_as(prediction)
    options = {"reduction": "none"}
    if criterion.name == "huber":
        options["delta"] = parameters.get("huber_delta", 1.0)
    if criterion.name == "binary_cross_entropy" and class_weight is not None and not matched:
        # Only the form with logits has pos_weight; here the two terms are weighted one by one.
        positive = function(prediction, torch.ones_like(y), **options)
        negative = function(prediction, torch.zeros_like(y), **options)
        each = class_weight * y * positive + (1 - y) * negative
    elif criterion.name == "binary_cross_entropy" and class_weight is not None:
        each = function(prediction, y, pos_weight=class_weight, **options)
    else:
        each = function(prediction, y, **options)
    if sample_weight is None:
        return each.mean((-2, -1))
    counts = sample_weight.to(each.dtype)
    return (counts * each.mean(-1)).sum(-1) / counts.sum(-1)


def _of_value(
    loss: Loss, yhat: Tensor, y: Tensor, parameters: Mapping[str, Any], sample_weight: Tensor | None
) -> Tensor:
    """`L` (…) of a loss without a counterpart in `torch.nn.functional`, as the mean of its samples' values."""
    one = y.unsqueeze(-1) if y.dim() < yhat.dim() else y.expand_as(yhat).unsqueeze(-2)
    each = loss.value(yhat.unsqueeze(-2), one, **parameters)
    if sample_weight is None:
        return each.mean(-1)
    counts = sample_weight.to(each.dtype)
    return (counts * each).sum(-1) / counts.sum(-1)


def _each_run(function: Callable[[Tensor, Tensor], Tensor], z: Tensor, y: Tensor) -> Tensor:
    if z.dim() == 2:
        return function(z, y)
    y = y.expand(*z.shape[: None if y.is_floating_point() else -1])
    return torch.stack([_each_run(function, *pair) for pair in zip(z, y, strict=True)])
