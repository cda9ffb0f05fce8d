"""The loss of a very large output layer, and its gradients, a few rows of the batch at a time.

δ_O and each of its temporaries are as large as z_O: with many classes they take most of a step's memory. The loss and
the gradients of the output layer are sums over the rows, so they can be added up chunk by chunk.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from backhand.calculus import backpropagation as bp
from backhand.calculus.activations import cast_like
from backhand.calculus.backpropagation import Criterion, Network

# A z_O with more numbers is split into chunks of this size: 8 MB each in float32.
CHUNK = 2**21


def row_chunks(network: Network, z_O: Tensor, class_weight: Tensor | None, sample_weight: Tensor | None) -> list[slice]:
    """The rows of each chunk of z_O (B, C); an empty list where it is not split.

    It is not split where it is small, where samples or classes are weighted, where the network has a backward rule,
    which may read all of δ_O, and where the backward pass is itself differentiated, which would store every chunk.
    """
    if z_O.dim() != 2 or z_O.numel() <= CHUNK or class_weight is not None or sample_weight is not None or network.rule:
        return []
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        return []
    rows = max(1, CHUNK // z_O.shape[-1])
    return [slice(start, start + rows) for start in range(0, len(z_O), rows)]


def loss_value(network: Network, criterion: Criterion, z_O: Tensor, y: Tensor, rows: Sequence[slice]) -> Tensor:
    """`L` (), as in `backpropagation.loss_value`: z_O (B, C), y (B,) or (B, C)."""
    parts = [bp.loss_value(network, criterion, z_O[each], y[each]) * len(z_O[each]) for each in rows]
    return torch.stack(parts).sum() / len(z_O)


def backward(
    network: Network,
    criterion: Criterion,
    dL: Tensor,
    z_O: Tensor,
    y: Tensor,
    rows: Sequence[slice],
    x: Tensor,
    hidden: Sequence[Tensor],
    saved: Sequence[Tensor],
    weights: Sequence[Tensor],
    needs_grad: Sequence[bool],
) -> list[Tensor | None]:
    """The gradients as `backpropagation.backward` returns them, of the loss times `dL` ()."""
    h, W = [x, *hidden][-1], weights[-1]
    dW = torch.zeros_like(W) if needs_grad[-2] else None
    db = W.new_zeros(W.shape[-1]) if needs_grad[-1] else None
    grad_input = torch.empty_like(h) if any(needs_grad[:-2]) else None
    for each in rows:
        mean = bp.loss_delta(network, criterion, z_O[each], y[each])  # over the chunk, not over the batch
        delta = cast_like(mean.mul_(dL * len(mean) / len(z_O)), z_O)
        if dW is not None:
            dW.addmm_(h[each].mT, delta)
        if db is not None:
            db += bp.bias_gradient(delta)
        if grad_input is not None and hidden:
            grad_input[each] = bp.hidden_delta(network.g(len(hidden) - 1), delta, W, saved[-1][each])
        elif grad_input is not None:
            grad_input[each] = bp.input_gradient(delta, W)
    if grad_input is None or not hidden:
        return [*[None] * (len(needs_grad) - 3), grad_input, dW, db]
    lower_layers = bp.backward(network, grad_input, x, hidden[:-1], saved[:-1], weights[:-1], needs_grad[:-2])
    return [*lower_layers, dW, db]
