"""The two `torch.autograd.Function`s: they save, call `backpropagation`, and say what goes where.

Both return the tensors that their backward pass reads (z_O, ŷ, the hidden activations, and the hidden pre-activations
where g′ reads them) as further outputs, and accept a gradient for each. That is what makes the backward pass
differentiable in its turn, and it lets a caller look at z_O without a second forward pass. Ordinary training leaves
those gradients None, and they cost nothing.

`predict` and `evaluate_loss` are how they are called: under autocast they cast as torch's own layers do, and they pick
the variant with a forward mode wherever `torch.compile`, which refuses one, is not tracing.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from backhand.calculus import backpropagation as bp
from backhand.calculus.activations import wide
from backhand.calculus.backpropagation import Criterion, Network
from backhand.calculus.reference import module


class Prediction(torch.autograd.Function):
    """`ŷ = f(z_O)` of a network, with the derivation's own backward pass.

    `Prediction.apply(network, dtype, x, W_1, b_1, W_2, b_2, …)` returns (ŷ, h_1, h_2, …), ŷ in `dtype`, followed by
    z_1, z_2, … where g′ reads them, and by z_O where f′ reads it; shapes as in `backpropagation`.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(network: Network, dtype: torch.dtype, x: Tensor, *parameters: Tensor) -> tuple[Tensor, ...]:  # noqa: D102
        z_O, hidden, preactivations = bp.forward(network, x, parameters[::2], parameters[1::2])
        yhat = network.f(z_O.to(dtype))
        return yhat, *hidden, *preactivations, *([z_O] if network.f.reads == "z" else [])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:  # noqa: D102
        ctx.network, ctx.dtype, *tensors = inputs
        ctx.save_for_backward(*output, *tensors)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor | None) -> tuple[Tensor | None, ...]:  # noqa: D102
        kept, read, given = _prediction_parts(ctx, len(ctx.needs_input_grad) - 2)
        reads_z = ctx.network.f.reads == "z"
        dL_dyhat, *d_kept = upstream
        dz_O = d_kept.pop() if reads_z else None
        if dL_dyhat is None:
            delta = torch.zeros_like(read, dtype=given[-1].dtype) if dz_O is None else dz_O
        else:
            delta = bp.output_delta(ctx.network, dL_dyhat, read).to(given[-1].dtype)
            delta = delta if dz_O is None else delta + dz_O
        return None, None, *_gradients(ctx.network, delta, kept, given, ctx.needs_input_grad[2:], d_kept)


class NetworkLoss(torch.autograd.Function):
    """The loss `L(f(z_O), y)` of a network, with the derivation's own backward pass.

    `NetworkLoss.apply(network, criterion, dtype, y, weight, x, W_1, b_1, W_2, b_2, …)` returns (L, z_O, h_1, h_2, …),
    L of the run axis's shape (…) and in `dtype`, followed by z_1, z_2, … where g′ reads them. There is no gradient for
    y, nor for the loss's `weight` (C,), which may be None.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(  # noqa: D102
        network: Network,
        criterion: Criterion,
        dtype: torch.dtype,
        y: Tensor,
        weight: Tensor | None,
        x: Tensor,
        *parameters: Tensor,
    ) -> tuple[Tensor, ...]:
        z_O, hidden, preactivations = bp.forward(network, x, parameters[::2], parameters[1::2])
        return bp.loss_value(network, criterion, z_O, y, weight).to(dtype), z_O, *hidden, *preactivations

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:  # noqa: D102
        ctx.network, ctx.criterion, ctx.dtype, *tensors = inputs
        ctx.save_for_backward(*output[1:], *tensors)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor | None) -> tuple[Tensor | None, ...]:  # noqa: D102
        inputs = len(ctx.needs_input_grad) - 5
        z_O, kept, y, weight, given = _loss_parts(ctx, inputs)
        dL, dz_O = upstream[:2]
        delta = torch.zeros_like(z_O) if dz_O is None else dz_O
        if dL is not None:
            delta_O = bp.loss_delta(ctx.network, ctx.criterion, z_O, y, weight) * dL[..., None, None]
            delta = delta_O.to(z_O.dtype) if dz_O is None else delta_O.to(z_O.dtype) + dz_O
        found = _gradients(ctx.network, delta, kept, given, ctx.needs_input_grad[5:], upstream[2:])
        return None, None, None, None, None, *found


class PredictionWithForwardMode(Prediction):
    """`Prediction`, and its derivative along a direction (`torch.func.jvp`, `jacfwd`, `hessian`)."""

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:  # noqa: D102
        Prediction.setup_context(ctx, inputs, output)
        ctx.save_for_forward(*output, *inputs[2:])

    @staticmethod
    def jvp(ctx: Any, *directions: Any) -> tuple[Tensor, ...]:  # noqa: D102
        _refuse_nested_forward_mode()
        kept, read, given = _prediction_parts(ctx, len(directions) - 2)
        dz_O, d_hidden, d_preactivations = bp.tangent(ctx.network, given, *_split(kept, len(given)), directions[2:])
        d_yhat = ctx.network.f.delta(dz_O.to(ctx.dtype), read)  # the Jacobian is symmetric
        return d_yhat, *d_hidden, *d_preactivations, *([dz_O] if ctx.network.f.reads == "z" else [])


class NetworkLossWithForwardMode(NetworkLoss):
    """`NetworkLoss`, and its derivative along a direction (`torch.func.jvp`, `jacfwd`, `hessian`)."""

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:  # noqa: D102
        NetworkLoss.setup_context(ctx, inputs, output)
        ctx.save_for_forward(*output[1:], *inputs[3:])

    @staticmethod
    def jvp(ctx: Any, *directions: Any) -> tuple[Tensor, ...]:  # noqa: D102
        _refuse_nested_forward_mode()
        inputs = len(directions) - 5
        z_O, kept, y, weight, given = _loss_parts(ctx, inputs)
        dz_O, d_hidden, d_preactivations = bp.tangent(ctx.network, given, *_split(kept, inputs), directions[5:])
        # `dL = Σ δ_O ⊙ dz_O`, the chain rule once more.
        dL = (bp.loss_delta(ctx.network, ctx.criterion, z_O, y, weight) * dz_O).sum((-2, -1))
        return dL.to(ctx.dtype), dz_O, *d_hidden, *d_preactivations


def predict(network: Network, x: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    """`ŷ` (…, B, C) of the input x (…, B, D), with the parameters W_1, b_1, W_2, b_2, …."""
    function = Prediction if torch.compiler.is_compiling() else PredictionWithForwardMode
    device = x.device.type
    if not torch.is_autocast_enabled(device):
        return function.apply(network, x.dtype, x, *parameters)[0]
    x, *parameters = _cast(device, [x, *parameters])
    # On a GPU autocast lets some activations give float32; which ones, torch says of an empty tensor.
    with torch.no_grad():
        dtype = module(network.output_activation)(x.new_empty(0, 1)).dtype
    with torch.autocast(device, enabled=False):
        return function.apply(network, dtype, x, *parameters)[0]


def evaluate_loss(
    network: Network,
    criterion: Criterion,
    y: Tensor,
    weight: Tensor | None,
    x: Tensor,
    parameters: Sequence[Tensor],
) -> tuple[Tensor, Tensor]:
    """`L` (…) and z_O (…, B, C) of the input x (…, B, D) and the target y, with the parameters W_1, b_1, W_2, …."""
    function = NetworkLoss if torch.compiler.is_compiling() else NetworkLossWithForwardMode
    device = x.device.type
    if not torch.is_autocast_enabled(device):
        dtype = x.dtype
        return function.apply(network, criterion, dtype, y, weight, x, *parameters)[:2]
    x, *parameters = _cast(device, [x, *parameters])
    with torch.autocast(device, enabled=False):
        return function.apply(network, criterion, wide(x).dtype, y, weight, x, *parameters)[:2]


def _refuse_nested_forward_mode() -> None:
    """Refuse what torch gets wrong: it drops the inner tangent where forward mode is nested (pytorch/pytorch#197867).

    Raises:
        RuntimeError: it is; a wrong derivative would be silent.
    """
    stack = torch._C._functorch.get_interpreter_stack() or ()
    if sum(interpreter.key() == torch._C._functorch.TransformType.Jvp for interpreter in stack) > 1:
        raise RuntimeError(
            "forward mode inside forward mode gives wrong derivatives for autograd Functions in torch; "
            "use jacfwd(jacrev(f)), which is torch.func.hessian, or model.gradient=autograd"
        )


def _cast(device: str, tensors: Sequence[Tensor]) -> list[Tensor]:
    """To autocast's type, as `torch.nn.Linear` does there: whatever is float32 or less, float64 excepted."""
    dtype = torch.get_autocast_dtype(device)
    return [t if t.dtype == torch.float64 else t.to(dtype) for t in tensors]


def _prediction_parts(ctx: Any, inputs: int) -> tuple[Sequence[Tensor], Tensor, Sequence[Tensor]]:
    """What `Prediction` saved: the hidden layers' tensors, what f′ reads, and the inputs x, W_1, b_1, …."""
    saved = ctx.saved_tensors  # asked for once: each asking unpacks anew, and checkpointing allows it only once
    yhat, *kept = saved[:-inputs]
    read = kept.pop().to(ctx.dtype) if ctx.network.f.reads == "z" else yhat
    return kept, read, saved[-inputs:]


def _loss_parts(ctx: Any, inputs: int) -> tuple[Tensor, Sequence[Tensor], Tensor, Tensor | None, Sequence[Tensor]]:
    """What `NetworkLoss` saved: z_O, the hidden layers' tensors, y, the loss's weight, and x, W_1, b_1, …."""
    saved = ctx.saved_tensors
    z_O, *kept = saved[: -inputs - 2]
    y, weight, *given = saved[-inputs - 2 :]
    return z_O, kept, y, weight, given


def _split(kept: Sequence[Tensor], inputs: int) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """The hidden activations and the hidden pre-activations of a network with so many inputs (x, W_1, b_1, …)."""
    hidden = (inputs - 1) // 2 - 1
    return kept[:hidden], kept[hidden:]


def _gradients(
    network: Network,
    delta: Tensor,
    kept: Sequence[Tensor],
    inputs: Sequence[Tensor],
    wanted: Sequence[bool],
    upstream: Sequence[Tensor | None],
) -> list[Tensor | None]:
    """The gradients in the order of the inputs (x, W_1, b_1, …), each summed to its input's shape.

    Only what several runs share (a batch without the run axis, say) is summed at all.
    """
    x, *parameters = inputs
    found = bp.backward(network, delta, x, *_split(kept, len(inputs)), parameters[::2], wanted, upstream)
    pairs = zip(found.weights, found.biases, strict=True)
    gradients = [found.x, *(gradient for pair in pairs for gradient in pair)]
    return [
        gradient if gradient is None or gradient.shape == value.shape else gradient.sum_to_size(value.shape)
        for gradient, value in zip(gradients, inputs, strict=True)
    ]
