"""Every activation: its value and its derivative, side by side.

To add one, write one entry of `ACTIVATIONS`, here or in a file of your own (docs/extending.md); the command line's
choices, the gradient checks, the mistake finder, the printed derivation and the conversions to and from `torch.nn` are
read from there. The formulas use the tensor's own methods, so this file imports nothing: the names can be listed
without the seconds that `import torch` costs.

Throughout, `z` is the pre-activation (…, B, n), `a` the activation of the same shape, and `v` = ∂L/∂a.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from backhand.calculus.choices import check_choice
from backhand.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Activation:
    """An elementwise activation `a = g(z)`.

    Half-precision input is computed in float32 and rounded once, as torch's own kernels do.

    Attributes:
        value: z (…, B, n) → a (…, B, n).
        derivative: what it `reads` (…, B, n) → g′(z), broadcastable to (…, B, n).
        reads: the tensor that the derivative is a function of, and that is therefore saved for the backward pass: the
            output `a` wherever the derivative can be read off it, for then `z` need not be stored; else `z`.
        torch_module: the class in `torch.nn` that computes the same; where there is none, the derivative is compared
            with torch's graph of `value`.
        torch_arguments: what that class is built with.
        text, text_derivative: g(z) and g′(z) as plain text; they are the entry's docstring.
        latex, latex_derivative: the same in LaTeX.
        hidden: whether it may follow a hidden layer.
        flat: whether its derivative is zero everywhere, so that backpropagation's δ is zero below it.
        range: the open interval of its values, or None where no loss depends on it.
    """

    value: Callable[[Tensor], Tensor]
    derivative: Callable[[Tensor], Tensor]
    torch_module: str = ""
    text: str = "g(z)"
    text_derivative: str = "g′(z)"
    latex: str = "g(z)"
    latex_derivative: str = "g'(z)"
    reads: Literal["a", "z"] = "a"
    torch_arguments: dict[str, Any] = field(default_factory=dict)
    hidden: bool = True
    flat: bool = False
    range: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "__doc__", f"a = {self.text};  derivative: {self.text_derivative}")

    def __call__(self, z: Tensor) -> Tensor:
        """`a = g(z)`: (…, B, n) → (…, B, n)."""
        return cast_like(self.value(upcast(z)), z)

    def delta(self, v: Tensor, saved: Tensor) -> Tensor:
        """The chain rule through the activation: `∂L/∂z = ∂L/∂a ⊙ g′(z)`, all of shape (…, B, n).

        Args:
            v: ∂L/∂a.
            saved: `a` or `z`, whichever the derivative `reads`.
        """
        return cast_like(upcast(v) * self.derivative(upcast(saved)), v)


@dataclass(frozen=True)
class RowActivation(Activation):
    """An activation that mixes the n entries of a row: its derivative is a Jacobian J (…, B, n, n), and symmetric.

    Attributes:
        product: v (…, B, n), what it `reads` (…, B, n) → `J v` row by row, without forming J.
    """

    product: Callable[[Tensor, Tensor], Tensor] = lambda v, a: v
    hidden: bool = False

    def delta(self, v: Tensor, saved: Tensor) -> Tensor:
        """The chain rule through the activation: `∂L/∂z = Jᵀ ∂L/∂a` row by row, without forming J."""
        return cast_like(self.product(upcast(v), upcast(saved)), v)


def upcast(t: Tensor) -> Tensor:
    """The tensor in the precision of the computation: float32 for half-precision input, else unchanged."""
    return t.float() if t.dtype.itemsize < 4 else t


def cast_like(t: Tensor, like: Tensor) -> Tensor:
    """The tensor in the dtype of another one; a call of `to` costs time even where it changes nothing."""
    return t if t.dtype is like.dtype else t.to(like.dtype)


def log1pexp(z: Tensor) -> Tensor:
    """`log(1 + e^z)`, written so that the exponential never overflows."""
    return z.clamp(min=0) + (-z.abs()).exp().log1p()


def _gaussian(z: Tensor) -> tuple[Tensor, Tensor]:
    """The normal distribution's Φ(z) and φ(z)."""
    return 0.5 * (-z * math.sqrt(0.5)).erfc(), (-0.5 * z * z).exp() / math.sqrt(2 * math.pi)


def _gelu_tanh(z: Tensor) -> tuple[Tensor, Tensor]:
    """`t = tanh u` with `u = √(2/π) (z + 0.044715 z³)`, and `u′`."""
    c = math.sqrt(2 / math.pi)
    return (c * (z + 0.044715 * z * z * z)).tanh(), c * (1 + 3 * 0.044715 * z * z)


def _silu_derivative(z: Tensor) -> Tensor:
    s = z.sigmoid()
    return s * (1 + z * (1 - s))


def _gelu_derivative(z: Tensor) -> Tensor:
    cumulative, density = _gaussian(z)
    return cumulative + z * density


def _gelu_tanh_derivative(z: Tensor) -> Tensor:
    t, slope = _gelu_tanh(z)
    return 0.5 * (1 + t) + 0.5 * z * (1 - t * t) * slope


def _mish_derivative(z: Tensor) -> Tensor:
    t = log1pexp(z).tanh()
    return t + z * (1 - t * t) * z.sigmoid()


# Klambauer et al., "Self-Normalizing Neural Networks" (2017), equation 14.
SELU_SCALE, SELU_ALPHA = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717
LEAK = 0.01
# Above this threshold torch's softplus is linear; the difference, 2e-9, is measurable in float64.
SOFTPLUS_LINEAR = 20.0


ACTIVATIONS: dict[str, Activation] = {
    "identity": Activation(
        value=lambda z: z,
        derivative=lambda a: a.new_ones(()),
        torch_module="Identity",
        text="z",
        text_derivative="1",
        latex=r"z",
        latex_derivative=r"1",
    ),
    "relu": Activation(
        value=lambda z: z.relu(),
        derivative=lambda a: (a > 0).to(a.dtype),  # 0 at the kink, as in torch
        torch_module="ReLU",
        text="max(0, z)",
        text_derivative="[z > 0]",
        latex=r"\max(0, z)",
        latex_derivative=r"[z > 0]",
    ),
    "leaky_relu": Activation(
        value=lambda z: z.where(z > 0, LEAK * z),
        derivative=lambda a: a.new_ones(()).where(a > 0, LEAK),
        torch_module="LeakyReLU",
        text="max(0.01 z, z)",
        text_derivative="1 where z > 0, else 0.01",
        latex=r"\max(0.01\,z, z)",
        latex_derivative=r"\begin{cases} 1 & z > 0 \\ 0.01 & z \le 0 \end{cases}",
    ),
    "elu": Activation(
        value=lambda z: z.where(z > 0, z.clamp(max=0).expm1()),
        derivative=lambda a: (a + 1).where(a <= 0, 1.0),
        torch_module="ELU",
        text="z where z > 0, else e^z − 1",
        text_derivative="1 where z > 0, else a + 1",
        latex=r"\begin{cases} z & z > 0 \\ e^z - 1 & z \le 0 \end{cases}",
        latex_derivative=r"\begin{cases} 1 & z > 0 \\ a + 1 & z \le 0 \end{cases}",
    ),
    "selu": Activation(
        value=lambda z: SELU_SCALE * z.where(z > 0, SELU_ALPHA * z.clamp(max=0).expm1()),
        # Read from the output it is a + λ α; bfloat16 rounds λ α, so a saturated unit would have a nonzero slope.
        derivative=lambda z: (SELU_SCALE * SELU_ALPHA * z.clamp(max=0).exp()).where(z <= 0, SELU_SCALE),
        reads="z",
        torch_module="SELU",
        text="λ z where z > 0, else λ α (e^z − 1), with λ = 1.0507… and α = 1.6732…",
        text_derivative="λ where z > 0, else λ α e^z",
        latex=r"\lambda \begin{cases} z & z > 0 \\ \alpha (e^z - 1) & z \le 0 \end{cases}",
        latex_derivative=r"\begin{cases} \lambda & z > 0 \\ \lambda \alpha e^z & z \le 0 \end{cases}",
    ),
    "softplus": Activation(
        value=lambda z: z.where(z > SOFTPLUS_LINEAR, z.clamp(max=SOFTPLUS_LINEAR).exp().log1p()),
        derivative=lambda a: -(-a).expm1(),  # 1 − e^(−a) = σ(z)
        torch_module="Softplus",
        text="log(1 + e^z)",
        text_derivative="1 − e^(−a)",
        latex=r"\log(1 + e^z)",
        latex_derivative=r"1 - e^{-a}",
    ),
    "silu": Activation(
        value=lambda z: z * z.sigmoid(),
        derivative=_silu_derivative,
        reads="z",
        torch_module="SiLU",
        text="z σ(z)",
        text_derivative="σ(z) (1 + z (1 − σ(z)))",
        latex=r"z\,\sigma(z)",
        latex_derivative=r"\sigma(z) \left(1 + z (1 - \sigma(z))\right)",
    ),
    "gelu": Activation(
        value=lambda z: z * _gaussian(z)[0],
        derivative=_gelu_derivative,
        reads="z",
        torch_module="GELU",
        text="z Φ(z), Φ the normal distribution function",
        text_derivative="Φ(z) + z φ(z)",
        latex=r"z\,\Phi(z)",
        latex_derivative=r"\Phi(z) + z\,\varphi(z)",
    ),
    "gelu_tanh": Activation(
        value=lambda z: 0.5 * z * (1 + _gelu_tanh(z)[0]),
        derivative=_gelu_tanh_derivative,
        reads="z",
        torch_module="GELU",
        torch_arguments={"approximate": "tanh"},
        text="z (1 + tanh u) / 2, with u = √(2/π) (z + 0.044715 z³)",
        text_derivative="(1 + tanh u) / 2 + z (1 − tanh² u) u′ / 2",
        latex=r"\tfrac{1}{2} z (1 + \tanh u), \quad u = \sqrt{2/\pi}\,(z + 0.044715\,z^3)",
        latex_derivative=r"\tfrac{1}{2} (1 + \tanh u) + \tfrac{1}{2} z (1 - \tanh^2 u)\,u'",
    ),
    "mish": Activation(
        value=lambda z: z * log1pexp(z).tanh(),
        derivative=_mish_derivative,
        reads="z",
        torch_module="Mish",
        text="z t, with t = tanh(log(1 + e^z))",
        text_derivative="t + z (1 − t²) σ(z)",
        latex=r"z\,t, \quad t = \tanh(\log(1 + e^z))",
        latex_derivative=r"t + z (1 - t^2)\,\sigma(z)",
    ),
    "hardtanh": Activation(
        value=lambda z: z.clamp(-1, 1),
        derivative=lambda a: (a.abs() < 1).to(a.dtype),
        torch_module="Hardtanh",
        text="min(1, max(−1, z))",
        text_derivative="[−1 < z < 1]",
        latex=r"\min(1, \max(-1, z))",
        latex_derivative=r"[-1 < z < 1]",
    ),
    "tanh": Activation(
        value=lambda z: z.tanh(),
        derivative=lambda a: a.new_ones(()).addcmul(a, a, value=-1),  # 1 − a²; as `1 - a * a` it takes twice as long
        torch_module="Tanh",
        text="tanh z",
        text_derivative="1 − a²",
        latex=r"\tanh z",
        latex_derivative=r"1 - a^2",
    ),
    "sigmoid": Activation(
        value=lambda z: z.sigmoid(),
        derivative=lambda a: a * (1 - a),
        torch_module="Sigmoid",
        text="1 / (1 + e^(−z))",
        text_derivative="a (1 − a)",
        latex=r"\frac{1}{1 + e^{-z}}",
        latex_derivative=r"a (1 - a)",
        range=(0, 1),
    ),
    "sign": Activation(
        value=lambda z: z.sign(),
        derivative=lambda z: z.new_zeros(()),
        reads="z",
        flat=True,
        text="sign z",
        text_derivative="0",
        latex=r"\operatorname{sign} z",
        latex_derivative=r"0",
    ),
    "step": Activation(
        value=lambda z: z.sign().clamp(min=0),
        derivative=lambda z: z.new_zeros(()),
        reads="z",
        flat=True,
        text="[z > 0]",
        text_derivative="0",
        latex=r"[z > 0]",
        latex_derivative=r"0",
    ),
    "softmax": RowActivation(
        value=lambda z: z.softmax(-1),
        derivative=lambda a: a.diag_embed() - a.unsqueeze(-1) * a.unsqueeze(-2),
        product=lambda v, a: a * (v - (a * v).sum(-1, keepdim=True)),
        torch_module="Softmax",
        torch_arguments={"dim": -1},
        text="e^z / Σ_c e^z",
        text_derivative="diag(a) − a aᵀ",
        latex=r"\frac{e^{z}}{\sum_c e^{z}}",
        latex_derivative=r"\operatorname{diag}(a) - a a^\top",
        range=(0, 1),
    ),
}


def hidden_activations() -> list[str]:
    """Names of the activations that may follow a hidden layer."""
    return [name for name, g in ACTIVATIONS.items() if g.hidden]


def check_hidden_activation(given: str | Sequence[str], layers: int) -> None:
    """Refuse a name that does not exist, or a list without exactly one name per hidden layer.

    Raises:
        UserError: one line with what is allowed.
    """
    if not isinstance(given, str | list | tuple) or not all(isinstance(name, str) for name in given):
        raise UserError(f"hidden_activation={given}: must be a name, or a list with one name for each hidden layer")
    names = [given] if isinstance(given, str) else list(given)
    for name in names:
        check_choice("hidden_activation", name, hidden_activations())
    if not isinstance(given, str) and len(names) != layers:
        raise UserError(
            f"hidden_activation=[{','.join(names)}]: has {len(names)} names for {layers} hidden "
            f"layer{'s' * (layers != 1)}; give one for each layer, or a single name for all"
        )
