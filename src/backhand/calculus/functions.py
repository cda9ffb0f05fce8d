"""The two `torch.autograd.Function`s of the derivation: the loss of a network, and its prediction.

`forward` saves what `backward` reads. Where the backward pass is itself to be differentiated (`create_graph=True`),
`backward` computes that again from the inputs, so that everything in it depends on them. An input shared by several
runs has the sum of their gradients: autograd itself sums over the broadcast axis.

`evaluate_loss` and `predict` of `transforms` call them, or their second form for forward mode and `torch.func`.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from backhand.calculus import backpropagation as bp
from backhand.calculus import large_outputs
from backhand.calculus.activations import cast_like
from backhand.calculus.backpropagation import Criterion, Network


class NetworkLoss(torch.autograd.Function):
    """`L(f(z_O), y)` (…), one number a run, and z_O (…, B, C), which is not differentiable.

    There is no gradient for y, nor for `class_weight` (C,), the loss's tensor parameter, and `sample_weight` (…, B);
    each of the two may be None.
    """

    @staticmethod
    def forward(
        ctx: Any,
        network: Network,
        criterion: Criterion,
        dtype: torch.dtype,
        y: Tensor,
        class_weight: Tensor | None,
        sample_weight: Tensor | None,
        x: Tensor,
        *tensors: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """The input x (…, B, D), and the parameters W_1, b_1, … with the rule's tensors → L in `dtype`, and z_O."""
        z_O, hidden, saved = bp.forward(network, x, network.split(tensors)[0])
        ctx.network, ctx.criterion = network, criterion
        ctx.save_for_backward(y, class_weight, sample_weight, x, *tensors, z_O, *hidden, *saved)
        ctx.mark_non_differentiable(z_O)
        ctx.set_materialize_grads(False)  # or the engine would make a z_O of zeros for backward
        if rows := large_outputs.row_chunks(network, z_O, class_weight, sample_weight):
            L = large_outputs.loss_value(network, criterion, z_O, y, rows)
        else:
            L = bp.loss_value(network, criterion, z_O, y, class_weight, sample_weight)
        return L if L.dtype is dtype else L.to(dtype), z_O

    @staticmethod
    def backward(ctx: Any, dL: Tensor | None, _: Tensor | None) -> tuple[Tensor | None, ...]:
        """`dL` (…), the gradient that reaches L → those of x, W_1, b_1, W_2, b_2, …, and of the rule's tensors."""
        network, criterion, needs_grad = ctx.network, ctx.criterion, ctx.needs_input_grad[6:]
        if dL is None:
            return (None,) * len(ctx.needs_input_grad)
        y, class_weight, sample_weight, *tensors = ctx.saved_tensors
        x, parameters, feedback, z_O, hidden, saved = _saved(network, tensors, len(needs_grad))
        if rows := large_outputs.row_chunks(network, z_O, class_weight, sample_weight):
            of_z_O = network, criterion, dL, z_O, y, rows
            found = large_outputs.backward(*of_z_O, x, hidden, saved, parameters[::2], needs_grad)
        else:
            delta = bp.loss_delta(network, criterion, z_O, y, class_weight, sample_weight)
            delta = cast_like(delta * (dL[..., None, None] if dL.dim() else dL), z_O)
            found = bp.backward(network, delta, x, hidden, saved, parameters[::2], needs_grad, feedback)
        return *[None] * 6, *found  # None for the arguments before x


class Prediction(torch.autograd.Function):
    """`ŷ = f(z_O)` (…, B, C) of a network."""

    @staticmethod
    def forward(ctx: Any, network: Network, dtype: torch.dtype, x: Tensor, *tensors: Tensor) -> Tensor:
        """The input x (…, B, D), and the parameters W_1, b_1, W_2, … with the rule's tensors → ŷ in `dtype`."""
        z_O, hidden, saved = bp.forward(network, x, network.split(tensors)[0])
        ctx.network, ctx.dtype = network, dtype
        ctx.save_for_backward(x, *tensors, z_O, *hidden, *saved)
        # No `to` without a change of dtype: compiled with torch 2.11, the gradients would be 0.
        return network.f(z_O if z_O.dtype is dtype else z_O.to(dtype))

    @staticmethod
    def backward(ctx: Any, dL_dyhat: Tensor) -> tuple[Tensor | None, ...]:
        """`∂L/∂ŷ` (…, B, C) → the gradients of x, W_1, b_1, W_2, b_2, …, and of the rule's tensors."""
        network, needs_grad = ctx.network, ctx.needs_input_grad[2:]
        x, parameters, feedback, z_O, hidden, saved = _saved(network, ctx.saved_tensors, len(needs_grad))
        z_O = z_O.to(ctx.dtype)
        delta = cast_like(bp.output_delta(network, dL_dyhat, network.f(z_O) if network.f.reads == "a" else z_O), x)
        found = bp.backward(network, delta, x, hidden, saved, parameters[::2], needs_grad, feedback)
        return None, None, *found


def _saved(
    network: Network, tensors: Sequence[Tensor], inputs: int
) -> tuple[Tensor, Sequence[Tensor], Sequence[Tensor], Tensor, Sequence[Tensor], Sequence[Tensor]]:
    """x, the parameters, the rule's tensors, and what `backpropagation.forward` returned for them.

    The latter is computed again where it must depend on the inputs, or where only the inputs were saved, as by the
    second form in `transforms`.
    """
    x, *given = tensors[:inputs]
    parameters, feedback = network.split(given)
    results = tensors[inputs:]
    if torch.is_grad_enabled() or not results:
        return x, parameters, feedback, *bp.forward(network, x, parameters)
    z_O, *activations = results
    layers = len(activations) // 2
    return x, parameters, feedback, z_O, activations[:layers], activations[layers:]
