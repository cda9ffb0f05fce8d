"""The mistakes of the forward pass, and of a backward pass that works on another step's: each as the case it makes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import Tensor

from backhand.calculus.activations import Activation
from backhand.calculus.chain import Layer, is_elementwise, layers
from backhand.derivations.steps import Case


@dataclass(frozen=True)
class OtherForward:
    """A mistake of the whole derivation: it works on another forward pass.

    Attributes:
        name: a few words.
        text: what is wrong, as half a sentence.
        case: the case with the values of that forward pass; None where there can be no such mistake in it.
        needs: the quantities that must have been returned.
        alone: whether it is not looked for beside another mistake: with one it may be a right derivation of another
            network.
    """

    name: str
    text: str
    case: Callable[[Case], Case | None]
    needs: tuple[str, ...] = ()
    alone: bool = True


# What a layer makes of x W, b and its activation: z and the output.
Forward = Callable[[Activation, Tensor, Tensor], tuple[Tensor, Tensor]]


@cache
def other_forwards(depth: int) -> tuple[OtherForward, ...]:
    """Every forward pass that may stand in the place of the right one."""
    upward = layers(depth)[::-1]
    return (
        OtherForward("gradient of the previous step", "these are the previous step's gradients", lambda c: c.previous),
        OtherForward("stale h", "h is a step late: it is the previous step's", lambda c: _with_late(c, output=False)),
        OtherForward(
            "stale forward pass",
            "h and ŷ are a step late: they are the previous step's",
            lambda c: _with_late(c, output=True),
        ),
        *(each for layer in upward for each in _in_forward(layer)),
        OtherForward(
            "biases left out of the forward pass",
            "the forward pass has no biases: " + ", ".join(f"{each.z} is {each.input} {each.W}" for each in upward),
            lambda c: _with_forward(c, upward, _without_bias) if None not in c.biases else None,
            needs=tuple(each.db for each in upward),
            alone=False,
        ),
    )


def _in_forward(layer: Layer) -> list[OtherForward]:
    """What can go wrong in the forward pass of one layer."""
    z, a, g, b = layer.z, layer.a, layer.g, f"b_{layer.label}"

    def here(
        name: str, text: str, forward: Forward, applies: Callable[[Case], bool], needs: str = "", alone: bool = False
    ) -> OtherForward:
        def case(c: Case) -> Case | None:
            return _with_forward(c, (layer,), forward) if applies(c) else None

        return OtherForward(name, f"in the forward pass {text}", case, (needs,) if needs else (), alone)

    def has_bias(c: Case) -> bool:
        return c.biases[layer.index] is not None

    def is_softmax(c: Case) -> bool:
        return not is_elementwise(c.activation(layer))

    classes = "not over each sample's classes"
    return [
        here(
            "bias left out of the forward pass",
            f"the bias {b} is left out: {z} is {layer.input} {layer.W}",
            _without_bias,
            has_bias,
            needs=layer.db,
        ),
        here(
            "bias added after the activation",
            f"the bias {b} is added after {g}: {a} is {g}({layer.input} {layer.W}) + {b}",
            lambda f, product, b: (product, f(product) + b),
            has_bias,
            alone=True,
        ),
        here(
            "activation left out of the forward pass",
            f"{g} is left out: {a} is {z}",
            lambda f, product, b: (product + b, product + b),
            # Where the derivative reads z, or may cancel, it is the right one of another network.
            lambda c: not layer.is_last and c.activation(layer).reads == "a",
            alone=True,
        ),
        here(
            "softmax over the samples",
            f"{a} is softmax over the samples (the wrong axis), {classes}",
            lambda f, product, b: (product + b, (product + b).softmax(-2)),
            is_softmax,
        ),
        here(
            "softmax over everything",
            f"{a} is softmax over all numbers of the batch (a sum without an axis), {classes}",
            lambda f, product, b: (product + b, (product + b).flatten(-2).softmax(-1).reshape(product.shape)),
            is_softmax,
        ),
        here(
            "softmax not normalised",
            f"{a} is exp({z}), which is not divided by its sum over each sample's classes",
            lambda f, product, b: (product + b, (product + b).exp()),
            is_softmax,
        ),
    ]


def _without_bias(g: Activation, product: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    return product, g(product)


def _with_forward(case: Case, those: tuple[Layer, ...], forward: Forward) -> Case:
    """The case with another forward pass in some of its layers."""
    zs: list[Tensor] = []
    activations = [case.x]
    for layer in layers(case.depth)[::-1]:
        own, g = case.biases[layer.index], case.activation(layer)
        product = activations[-1] @ case.W(layer)
        b = torch.zeros_like(product) if own is None else own.unsqueeze(-2)
        z, a = forward(g, product, b) if layer in those else (product + b, g(product + b))
        zs.append(z)
        activations.append(a)
    return _with_values(case, zs, activations)


def _with_late(case: Case, *, output: bool) -> Case | None:
    """The case with the hidden layers' z and h of the step before, and perhaps its output."""
    if case.previous is None:
        return None
    (zs, activations), (old_zs, old_activations) = case.forward, case.previous.forward
    if output:
        return _with_values(case, old_zs, [case.x, *old_activations[1:]])
    return _with_values(case, [*old_zs[:-1], zs[-1]], [case.x, *old_activations[1:-1], activations[-1]])


def _with_values(case: Case, zs: list[Tensor], activations: list[Tensor]) -> Case:
    """The case with these values of its forward pass."""
    other = replace(case)
    other.__dict__["forward"] = (zs, activations)
    return other
