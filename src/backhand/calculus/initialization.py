"""Initial values of weights and biases. Each function fills one layer in place, with numbers from the generator."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Generator, Tensor


def _linear(W: Tensor, b: Tensor, generator: Generator | None) -> None:
    """U(−1/√n, 1/√n) for weight and bias, n inputs: what `torch.nn.Linear` does."""
    bound = W.shape[-2] ** -0.5
    W.uniform_(-bound, bound, generator=generator)
    b.uniform_(-bound, bound, generator=generator)


def _xavier(W: Tensor, b: Tensor, generator: Generator | None) -> None:
    """U(−√(6/(n + m)), √(6/(n + m))), biases zero (Glorot & Bengio 2010, equation 16)."""
    bound = (6 / (W.shape[-2] + W.shape[-1])) ** 0.5
    W.uniform_(-bound, bound, generator=generator)
    b.zero_()


def _kaiming(W: Tensor, b: Tensor, generator: Generator | None) -> None:
    """N(0, 2/n), biases zero (He et al. 2015, equation 10)."""
    W.normal_(0, (2 / W.shape[-2]) ** 0.5, generator=generator)
    b.zero_()


def _normal(W: Tensor, b: Tensor, generator: Generator | None) -> None:
    """N(0, 1), biases zero: for `init_scale` to set the standard deviation."""
    W.normal_(0, 1, generator=generator)
    b.zero_()


INITIALIZATIONS: dict[str, Callable[[Tensor, Tensor, Generator | None], None]] = {
    "linear": _linear,
    "xavier": _xavier,
    "kaiming": _kaiming,
    "normal": _normal,
}
