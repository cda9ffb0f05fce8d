"""A case's draws one by one in numpy, as derivations are given them, and the way back."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from backhand.calculus import reference
from backhand.calculus.chain import labels
from backhand.derivations.layouts import Draw
from backhand.derivations.steps import Case, derive


def draws_of(case: Case) -> Iterator[Draw]:
    """Each draw of the case."""
    zs, activations = case.forward
    for k in range(len(case.x)):
        y, rows = case.y[k], case.rows[k].numpy()
        one_hot = rows.shape[1] > 1 and bool(((rows == 0) | (rows == 1)).all() and (rows.sum(1) == 1).all())
        yield Draw(
            case.x[k].numpy(),
            rows,
            (y.argmax(1) if y.is_floating_point() else y).numpy() if one_hot else None,
            tuple(W[k].numpy() for W in case.weights),
            tuple(None if b is None else b[k].numpy() for b in case.biases),
            tuple(z[k].numpy() for z in zs),
            tuple(a[k].numpy() for a in activations[1:]),
        )


def first_draw(case: Case) -> Case:
    """The case with its first draw alone."""
    return replace(
        case,
        x=case.x[:1],
        y=case.y[:1],
        weights=tuple(W[:1] for W in case.weights),
        biases=tuple(None if b is None else b[:1] for b in case.biases),
        previous=None,
    )


def with_parameters(case: Case, draw: Draw) -> Draw:
    """The draw with what the forward pass of the case's network gives for its parameters."""

    def tensor(array: np.ndarray) -> Tensor:
        return torch.from_numpy(array)[None]

    own = replace(
        first_draw(case),
        x=tensor(draw.x),
        weights=tuple(tensor(W) for W in draw.W),
        biases=tuple(None if b is None else tensor(b) for b in draw.b),
    )
    zs, activations = own.forward
    return replace(draw, z=tuple(z[0].numpy() for z in zs), a=tuple(a[0].numpy() for a in activations[1:]))


def with_classes(case: Case) -> Case:
    """The case with a one and zeros in each row of y, as evenly as B allows, where y holds values."""
    if not case.y.is_floating_point():
        return case
    K, B, C = case.y.shape
    classes = (torch.arange(B) % C).expand(K, B) if B > 1 else (torch.arange(K) % C)[:, None]
    rows = torch.nn.functional.one_hot(classes, C).to(case.x)
    return replace(case, y=rows, previous=case.previous and replace(case.previous, y=rows))


def verify(case: Case) -> None:
    """Hold what a derivation is compared with to torch's own graph: a fault here would accuse the innocent."""
    first = first_draw(case)
    parameters: list[Tensor] = []
    for W, b in zip(first.weights, first.biases, strict=True):
        b = W.new_zeros(1, W.shape[-1]) if b is None else b
        parameters += [W.clone().requires_grad_(), b.clone().requires_grad_()]
    z = reference.logits(first.network, first.x, parameters)
    loss = reference.loss(first.network, first.criterion, z, first.y, first.weight).sum()
    theirs = torch.autograd.grad(loss, parameters)
    right = derive(first)
    names = [f"d{kind}_{label}" for label in labels(first.depth) for kind in "Wb"]
    for name, value in zip(names, theirs, strict=True):
        torch.testing.assert_close(right[name], value, rtol=1e-9, atol=1e-12, msg=f"backhand's own {name} is wrong")
