"""The two `torch.autograd.Function`s: they save, call `backpropagation`, and say what goes where.

Both return the tensors that their backward pass reads (z_O or ŷ, and the hidden activations) as further outputs, and
accept a gradient for each. That is what makes the backward pass differentiable in its turn, and it lets a caller look
at z_O without a second forward pass. Ordinary training leaves those gradients None, and they cost nothing.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from backhand.calculus import backpropagation as bp
from backhand.calculus.backpropagation import Network


class Prediction(torch.autograd.Function):
    """`ŷ = f(z_O)` of a network, with the derivation's own backward pass.

    `Prediction.apply(network, x, W_1, b_1, W_2, b_2, …)` returns (ŷ, h_1, h_2, …); shapes as in `backpropagation`.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(network: Network, x: Tensor, *parameters: Tensor) -> tuple[Tensor, ...]:  # noqa: D102
        z_O, hidden = bp.forward(network, x, parameters[::2], parameters[1::2])
        return network.f.value(z_O), *hidden

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:  # noqa: D102
        ctx.network, *tensors = inputs
        ctx.save_for_backward(*output, *tensors)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor | None) -> tuple[Tensor | None, ...]:  # noqa: D102
        layers = (len(ctx.needs_input_grad) - 2) // 2
        yhat, *rest = ctx.saved_tensors
        hidden, inputs = rest[: layers - 1], rest[layers - 1 :]
        dL_dyhat = upstream[0] if upstream[0] is not None else torch.zeros_like(yhat)
        delta = bp.output_delta(ctx.network, dL_dyhat, yhat)
        return None, *_gradients(ctx.network, delta, hidden, inputs, ctx.needs_input_grad[1:], upstream[1:])


class NetworkLoss(torch.autograd.Function):
    """The loss `L(f(z_O), y)` of a network, with the derivation's own backward pass.

    `NetworkLoss.apply(network, loss, y, x, W_1, b_1, W_2, b_2, …)` returns (L, z_O, h_1, h_2, …), L of the run axis's
    shape (…). There is no gradient for y.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(network: Network, loss: str, y: Tensor, x: Tensor, *parameters: Tensor) -> tuple[Tensor, ...]:  # noqa: D102
        z_O, hidden = bp.forward(network, x, parameters[::2], parameters[1::2])
        return bp.loss_value(network, loss, z_O, y), z_O, *hidden

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:  # noqa: D102
        ctx.network, ctx.loss, *tensors = inputs
        ctx.save_for_backward(*output[1:], *tensors)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor | None) -> tuple[Tensor | None, ...]:  # noqa: D102
        layers = (len(ctx.needs_input_grad) - 4) // 2
        z_O, *rest = ctx.saved_tensors
        hidden, y, inputs = rest[: layers - 1], rest[layers - 1], rest[layers:]
        dL, dz_O = upstream[:2]
        delta = torch.zeros_like(z_O) if dz_O is None else dz_O
        if dL is not None:
            delta_O = bp.loss_delta(ctx.network, ctx.loss, z_O, y) * dL[..., None, None]
            delta = delta_O if dz_O is None else delta_O + dz_O
        return None, None, None, *_gradients(ctx.network, delta, hidden, inputs, ctx.needs_input_grad[3:], upstream[2:])


def _gradients(
    network: Network,
    delta: Tensor,
    hidden: Sequence[Tensor],
    inputs: Sequence[Tensor],
    wanted: Sequence[bool],
    upstream: Sequence[Tensor | None],
) -> list[Tensor | None]:
    """The gradients in the order of the inputs (x, W_1, b_1, …), each summed to its input's shape.

    Only what several runs share (a batch without the run axis, say) is summed at all.
    """
    x, *parameters = inputs
    found = bp.backward(network, delta, x, hidden, parameters[::2], wanted, upstream)
    pairs = zip(found.weights, found.biases, strict=True)
    gradients = [found.x, *(gradient for pair in pairs for gradient in pair)]
    return [
        gradient if gradient is None or gradient.shape == value.shape else gradient.sum_to_size(value.shape)
        for gradient, value in zip(gradients, inputs, strict=True)
    ]
