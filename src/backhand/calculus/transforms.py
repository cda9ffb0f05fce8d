"""The calls of the two Functions, and a second form of each, for forward mode and `torch.func`.

Every training step goes through the plain form. The second form adds what the plain one leaves out:

- `jvp`, for forward mode: torch.compile refuses a Function that has one.
- `setup_context`, for the transforms of `torch.func`: torch then inspects the signature of `forward` at every call,
  37 µs of a small network's step of 80 (32 samples, 64-32-10).
"""

from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor

from backhand.calculus import backpropagation as bp
from backhand.calculus.activations import upcast
from backhand.calculus.backpropagation import Criterion, Network
from backhand.calculus.functions import NetworkLoss, Prediction
from backhand.calculus.reference import module


class TransformedLoss(NetworkLoss):
    """`NetworkLoss` for forward mode and `torch.func`; its backward pass computes everything from the inputs."""

    generate_vmap_rule = True

    @staticmethod
    def forward(  # type: ignore[override]
        network: Network, criterion: Criterion, dtype: torch.dtype, *tensors: Any
    ) -> tuple[Tensor, Tensor]:
        _forward_mode_levels.set(0)
        y, class_weight, sample_weight, x, *given = tensors
        z_O, *_ = bp.forward(network, x, network.split(given)[0])
        return bp.loss_value(network, criterion, z_O, y, class_weight, sample_weight).to(dtype), z_O

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.network, ctx.criterion, ctx.dtype, *tensors = inputs
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)
        ctx.mark_non_differentiable(output[1])

    @staticmethod
    def jvp(ctx: Any, *directions: Any) -> tuple[Tensor, None]:
        """`dL = Σ δ_O ⊙ dz_O`."""
        _refuse_nested_forward_mode()
        y, class_weight, sample_weight, x, *given = ctx.saved_tensors
        z_O, dz_O = bp.tangent(ctx.network, x, ctx.network.split(given)[0], directions[6:])
        delta = bp.loss_delta(ctx.network, ctx.criterion, z_O, y, class_weight, sample_weight)
        return (delta * dz_O).sum((-2, -1)).to(ctx.dtype), None


class TransformedPrediction(Prediction):
    """`Prediction` for forward mode and `torch.func`; its backward pass computes everything from the inputs."""

    generate_vmap_rule = True

    @staticmethod
    def forward(network: Network, dtype: torch.dtype, x: Tensor, *tensors: Tensor) -> Tensor:  # type: ignore[override]
        _forward_mode_levels.set(0)
        z_O, *_ = bp.forward(network, x, network.split(tensors)[0])
        return network.f(z_O.to(dtype))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.network, ctx.dtype, *tensors = inputs
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)

    @staticmethod
    def jvp(ctx: Any, *directions: Any) -> Tensor:
        """`dŷ = f′(z_O) ⊙ dz_O`; where f is not elementwise its Jacobian is symmetric."""
        _refuse_nested_forward_mode()
        x, *given = ctx.saved_tensors
        tangents = bp.tangent(ctx.network, x, ctx.network.split(given)[0], directions[2:])
        z_O, dz_O = (each.to(ctx.dtype) for each in tangents)
        return ctx.network.f.delta(dz_O, ctx.network.f(z_O) if ctx.network.f.reads == "a" else z_O)


def evaluate_loss(
    network: Network,
    criterion: Criterion,
    y: Tensor,
    class_weight: Tensor | None,
    x: Tensor,
    parameters: Sequence[Tensor],
    sample_weight: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """`L` (…) and z_O (…, B, C) of the input x (…, B, D) and the target y.

    The parameters are W_1, b_1, W_2, …, followed by the tensors of the network's rule.
    """
    dtype = x.dtype
    if torch.is_autocast_enabled(x.device.type):
        dtype = upcast(x).dtype
        x, *parameters = _cast(x, parameters)
    inputs = network, criterion, dtype, y, class_weight, sample_weight, x, *parameters
    try:
        return NetworkLoss.apply(*inputs)
    except RuntimeError as error:  # by which torch says that forward mode or torch.func is active
        _check_refusal(error)
    return TransformedLoss.apply(*inputs)


def predict(network: Network, x: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    """`ŷ` (…, B, C) of the input x (…, B, D), with the parameters as in `evaluate_loss`."""
    dtype = x.dtype
    if torch.is_autocast_enabled(x.device.type):
        x, *parameters = _cast(x, parameters)
        # On a GPU autocast lets some activations give float32; an empty tensor shows which dtype.
        with torch.no_grad():
            dtype = module(network.output_activation)(x.new_empty(0, 1)).dtype
    try:
        return Prediction.apply(network, dtype, x, *parameters)
    except RuntimeError as error:
        _check_refusal(error)
    return TransformedPrediction.apply(network, dtype, x, *parameters)


def _cast(x: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
    """Cast to autocast's dtype, as `torch.nn.Linear` does there; float64 is left as it is.

    The matrix products then have autocast's dtype already; everything else is computed in float32 and rounded.
    """
    dtype = torch.get_autocast_dtype(x.device.type)
    return [t if t.dtype == torch.float64 else t.to(dtype) for t in (x, *parameters)]


def _check_refusal(error: RuntimeError) -> None:
    """Raise the error again, unless it is torch's refusal of a Function without `setup_context` or without `jvp`.

    torch has no public way to ask whether forward mode or a transform of `torch.func` is active. It says "In order to
    use an autograd.Function with functorch transforms …, it must override the setup_context staticmethod", or "You must
    implement the jvp function for custom autograd.Function to use it with forward mode AD." (2.11 to 2.15).
    """
    refusals = "must override the setup_context staticmethod", "must implement the jvp function"
    if not any(refusal in str(error) for refusal in refusals):
        raise error


# How often `jvp` was called for the current call of a Function: once for each level of forward mode.
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
