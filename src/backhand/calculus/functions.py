"""The two `torch.autograd.Function`s: they save, call `backpropagation`, and say what goes where.

Both return the tensors that their backward pass reads (z_O, ŷ, the hidden activations, and the hidden pre-activations
where g′ reads them) as further outputs, and accept a gradient for each. That is what makes the backward pass
differentiable in its turn, and it lets a caller look at z_O without a second forward pass. Ordinary training leaves
those gradients None, and they cost nothing.

`predict` and `evaluate_loss` are how they are called: under autocast they cast as torch's own layers do, and they pick
the variant that the caller's torch can take: without a forward mode for `torch.compile`, which refuses one; with
`setup_context` for the transforms of `torch.func`, which need it; and for everything else without that, for where there
is one torch inspects the signature of `forward` at every call, which takes a quarter of a small network's step.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from backhand.calculus import backpropagation as bp
from backhand.calculus.activations import narrow, wide
from backhand.calculus.backpropagation import Criterion, Network
from backhand.calculus.reference import module

# The inputs of `NetworkLoss` before x, none of which has a gradient.
BEFORE_X = 6


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
        if yhat is z_O:  # torch 2.11 compiles an output under two names into one without a gradient
            yhat = z_O.clone()
        return yhat, *hidden, *preactivations, *([z_O] if network.f.reads == "z" else [])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:  # noqa: D102
        ctx.network, ctx.dtype, *tensors = inputs
        ctx.save_for_backward(*output, *tensors)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor | None) -> tuple[Tensor | None, ...]:  # noqa: D102
        kept, read, given = _prediction_parts(ctx, len(ctx.needs_input_grad) - 2)
        dL_dyhat, *d_kept = upstream
        dz_O = None
        if ctx.network.f.reads == "z":
            *d_kept, dz_O = d_kept
        if dL_dyhat is None:
            delta = torch.zeros_like(read, dtype=given[-1].dtype) if dz_O is None else dz_O
        else:
            delta = bp.output_delta(ctx.network, dL_dyhat, read).to(given[-1].dtype)
            delta = delta if dz_O is None else delta + dz_O
        return None, None, *_gradients(ctx.network, delta, kept, given, ctx.needs_input_grad[2:], d_kept)


class NetworkLoss(torch.autograd.Function):
    """The loss `L(f(z_O), y)` of a network, with the derivation's own backward pass.

    `NetworkLoss.apply(network, criterion, dtype, y, weight, sample_weight, x, W_1, b_1, W_2, b_2, …)` returns
    (L, z_O, h_1, h_2, …), L of the run axis's shape (…) and in `dtype`, followed by z_1, z_2, … where g′ reads them.
    There is no gradient for y, nor for the loss's `weight` (C,) and the samples' (…, B), each of which may be None.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(  # noqa: D102
        network: Network,
        criterion: Criterion,
        dtype: torch.dtype,
        y: Tensor,
        weight: Tensor | None,
        sample_weight: Tensor | None,
        x: Tensor,
        *parameters: Tensor,
    ) -> tuple[Tensor, ...]:
        z_O, hidden, preactivations = bp.forward(network, x, parameters[::2], parameters[1::2])
        L = bp.loss_value(network, criterion, z_O, y, weight, sample_weight)
        return L if L.dtype is dtype else L.to(dtype), z_O, *hidden, *preactivations

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:  # noqa: D102
        ctx.network, ctx.criterion, ctx.dtype, *tensors = inputs
        ctx.save_for_backward(*output[1:], *tensors)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor | None) -> tuple[Tensor | None, ...]:  # noqa: D102
        z_O, kept, of_loss, given = _loss_parts(ctx, len(ctx.needs_input_grad) - BEFORE_X)
        dL, dz_O = upstream[:2]
        delta: Any
        if dL is None:
            delta = torch.zeros_like(z_O) if dz_O is None else dz_O
        elif dz_O is None and of_loss[1:] == [None, None] and (pieces := bp.by_rows(z_O)):
            parts = bp.deltas_by_rows(ctx.network, ctx.criterion, z_O, of_loss[0], pieces)
            delta = ((rows, delta.mul_(dL)) for rows, delta in parts)
        else:
            scale = dL[..., None, None] if dL.dim() else dL
            delta = narrow(bp.loss_delta(ctx.network, ctx.criterion, z_O, *of_loss) * scale, z_O)
            delta = delta if dz_O is None else delta + dz_O
        found = _gradients(ctx.network, delta, kept, given, ctx.needs_input_grad[BEFORE_X:], upstream[2:])
        return *[None] * BEFORE_X, *found


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
        inputs = len(directions) - BEFORE_X
        z_O, kept, of_loss, given = _loss_parts(ctx, inputs)
        dz_O, d_hidden, d_preactivations = bp.tangent(ctx.network, given, *_split(kept, inputs), directions[BEFORE_X:])
        # `dL = Σ δ_O ⊙ dz_O`, the chain rule once more.
        dL = (bp.loss_delta(ctx.network, ctx.criterion, z_O, *of_loss) * dz_O).sum((-2, -1))
        return dL.to(ctx.dtype), dz_O, *d_hidden, *d_preactivations


def _without_setup_context(function: type[torch.autograd.Function]) -> type[torch.autograd.Function]:
    """The same Function in torch's older form, whose `forward` gets the context."""

    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, ...]:
        output = function.forward(*inputs)
        function.setup_context(ctx, inputs, output)
        return output

    own = {"forward": staticmethod(forward), "setup_context": staticmethod(torch.autograd.Function.setup_context)}
    return type(f"Eager{function.__name__}", (function,), own)


EagerPrediction = _without_setup_context(PredictionWithForwardMode)
EagerNetworkLoss = _without_setup_context(NetworkLossWithForwardMode)


def predict(network: Network, x: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    """`ŷ` (…, B, C) of the input x (…, B, D), with the parameters W_1, b_1, W_2, b_2, …."""
    function = _variant(Prediction, PredictionWithForwardMode, EagerPrediction)
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
    sample_weight: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """`L` (…) and z_O (…, B, C) of the input x (…, B, D) and the target y, with the parameters W_1, b_1, W_2, …."""
    function = _variant(NetworkLoss, NetworkLossWithForwardMode, EagerNetworkLoss)
    device = x.device.type
    if not torch.is_autocast_enabled(device):
        return function.apply(network, criterion, x.dtype, y, weight, sample_weight, x, *parameters)[:2]
    x, *parameters = _cast(device, [x, *parameters])
    with torch.autocast(device, enabled=False):
        return function.apply(network, criterion, wide(x).dtype, y, weight, sample_weight, x, *parameters)[:2]


def _variant(compiled: Any, transformed: Any, eager: Any) -> Any:
    if torch.compiler.is_compiling():
        return compiled
    return transformed if torch._C._are_functorch_transforms_active() else eager


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
    if ctx.network.f.reads == "a":
        return kept, yhat, saved[-inputs:]
    *hidden, z_O = kept
    return hidden, z_O.to(ctx.dtype), saved[-inputs:]


def _loss_parts(ctx: Any, inputs: int) -> tuple[Tensor, Sequence[Tensor], Any, Sequence[Tensor]]:
    """What `NetworkLoss` saved: z_O, the hidden layers' tensors, [y, weight, sample_weight], and x, W_1, b_1, …."""
    z_O, *saved = ctx.saved_tensors
    middle = len(saved) - inputs
    return z_O, saved[: middle - 3], saved[middle - 3 : middle], saved[middle:]


def _split(kept: Sequence[Tensor], inputs: int) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """The hidden activations and the hidden pre-activations of a network with so many inputs (x, W_1, b_1, …)."""
    hidden = (inputs - 1) // 2 - 1
    return kept[:hidden], kept[hidden:]


def _gradients(
    network: Network,
    delta: Tensor | Iterator[tuple[slice, Tensor]],
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
