"""Variants of the two Functions for what the plain ones cannot do, and the calls that choose between them.

- Forward mode (`jvp`): torch.compile refuses a Function that has one, so the plain ones have none.
- The transforms of `torch.func`: they need `setup_context`, for which torch inspects the signature of `forward` at
  every call: 37 µs of a small network's step of 80 (32 samples, 64-32-10), so the plain ones have none of that either.
"""

from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor

from backhand.calculus import backpropagation as bp
from backhand.calculus.backpropagation import Criterion, Network
from backhand.calculus.functions import NetworkLoss, Prediction
from backhand.calculus.reference import module


class LossWithForwardMode(NetworkLoss):
    """`NetworkLoss`, and its derivative along a direction."""

    @staticmethod
    def forward(ctx: Any, network: Network, criterion: Criterion, *tensors: Any) -> tuple[Tensor, Tensor]:
        ctx.save_for_forward(*tensors)
        return NetworkLoss.forward(ctx, network, criterion, *tensors)

    @staticmethod
    def jvp(ctx: Any, *directions: Any) -> tuple[Tensor, None]:
        """`dL = Σ δ_O ⊙ dz_O`, the chain rule once more."""
        y, weight, sample_weight, x, *parameters = ctx.saved_tensors
        z_O, dz_O = bp.tangent(ctx.network, x, parameters, directions[5:])
        delta = bp.loss_delta(ctx.network, ctx.criterion, z_O, y, weight, sample_weight)
        return (delta * dz_O).sum((-2, -1)), None


class PredictionWithForwardMode(Prediction):
    """`Prediction`, and its derivative along a direction."""

    @staticmethod
    def forward(ctx: Any, network: Network, dtype: torch.dtype, *tensors: Tensor) -> Tensor:
        ctx.save_for_forward(*tensors)
        return Prediction.forward(ctx, network, dtype, *tensors)

    @staticmethod
    def jvp(ctx: Any, *directions: Any) -> Tensor:
        """`dŷ = f′(z_O) ⊙ dz_O`; where f is not elementwise its Jacobian is symmetric."""
        x, *parameters = ctx.saved_tensors
        z_O, dz_O = (each.to(ctx.dtype) for each in bp.tangent(ctx.network, x, parameters, directions[2:]))
        return ctx.network.f.delta(dz_O, ctx.network.f(z_O) if ctx.network.f.reads == "a" else z_O)


class TransformedLoss(LossWithForwardMode):
    """The form that `torch.func` takes; its backward pass computes everything from the inputs."""

    generate_vmap_rule = True

    @staticmethod
    def forward(network: Network, criterion: Criterion, *tensors: Any) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        y, weight, sample_weight, x, *parameters = tensors
        z_O, *_ = bp.forward(network, x, parameters)
        return bp.loss_value(network, criterion, z_O, y, weight, sample_weight), z_O

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.network, ctx.criterion, *tensors = inputs
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)
        ctx.mark_non_differentiable(output[1])

    @staticmethod
    def jvp(ctx: Any, *directions: Any) -> tuple[Tensor, None]:
        _refuse_nested_forward_mode()
        return LossWithForwardMode.jvp(ctx, *directions)


class TransformedPrediction(PredictionWithForwardMode):
    """The form that `torch.func` takes; its backward pass computes everything from the inputs."""

    generate_vmap_rule = True

    @staticmethod
    def forward(network: Network, dtype: torch.dtype, x: Tensor, *parameters: Tensor) -> Tensor:  # type: ignore[override]
        z_O, *_ = bp.forward(network, x, parameters)
        return network.f(z_O.to(dtype))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.network, ctx.dtype, *tensors = inputs
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)

    @staticmethod
    def jvp(ctx: Any, *directions: Any) -> Tensor:
        _refuse_nested_forward_mode()
        return PredictionWithForwardMode.jvp(ctx, *directions)


# How often `jvp` was called for the call of a Function at hand: once for each level of forward mode.
_forward_mode_levels: ContextVar[int] = ContextVar("forward_mode_levels")


def _refuse_nested_forward_mode() -> None:
    """Refuse what torch gets wrong: it drops the inner tangent where forward mode is nested (pytorch/pytorch#197867).

    Raises:
        RuntimeError: it is; a wrong derivative would be silent.
    """
    _forward_mode_levels.set(_forward_mode_levels.get() + 1)
    if _forward_mode_levels.get() > 1:
        raise RuntimeError(
            "forward mode inside forward mode gives wrong derivatives for autograd Functions in torch; "
            "use jacfwd(jacrev(f)), which is torch.func.hessian, or model.gradient=autograd"
        )


def predict(network: Network, x: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    """`ŷ` (…, B, C) of the input x (…, B, D), with the parameters W_1, b_1, W_2, b_2, …."""
    variants = Prediction, PredictionWithForwardMode, TransformedPrediction
    device = x.device.type
    if not torch.is_autocast_enabled(device):
        return _apply(variants, network, x.dtype, x, *parameters)
    x, *parameters = _cast(device, [x, *parameters])
    # On a GPU autocast lets some activations give float32; which ones, torch says of an empty tensor.
    with torch.no_grad():
        dtype = module(network.output_activation)(x.new_empty(0, 1)).dtype
    with torch.autocast(device, enabled=False):
        return _apply(variants, network, dtype, x, *parameters)


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
    variants = NetworkLoss, LossWithForwardMode, TransformedLoss
    device = x.device.type
    if not torch.is_autocast_enabled(device):
        L, z_O = _apply(variants, network, criterion, y, weight, sample_weight, x, *parameters)
        return L if L.dtype is x.dtype else L.to(x.dtype), z_O
    x, *parameters = _cast(device, [x, *parameters])
    with torch.autocast(device, enabled=False):
        return _apply(variants, network, criterion, y, weight, sample_weight, x, *parameters)


def _apply(variants: tuple[Any, Any, Any], *inputs: Any) -> Any:
    plain, with_forward_mode, transformed = variants
    if torch.compiler.is_compiling():
        return plain.apply(*inputs)
    try:
        return with_forward_mode.apply(*inputs)
    except RuntimeError as error:
        # torch has no public way to ask whether a transform of torch.func is active. It says so here, before it calls
        # forward: "In order to use an autograd.Function with functorch transforms …, it must override the
        # setup_context staticmethod" (2.0 to 2.15).
        if "setup_context" not in str(error):
            raise
    _forward_mode_levels.set(0)
    return transformed.apply(*inputs)


def _cast(device: str, tensors: Sequence[Tensor]) -> list[Tensor]:
    """To autocast's type, as `torch.nn.Linear` does there: whatever is float32 or less, float64 excepted."""
    dtype = torch.get_autocast_dtype(device)
    return [t if t.dtype == torch.float64 else t.to(dtype) for t in tensors]
