"""Backward rules: alternatives to backpropagation's `δ_I = (δ_O W_Oᵀ) ⊙ g′(z_I)`.

A rule is one function that returns a hidden layer's δ. Everything else is unchanged: the forward pass, δ_O, and the
gradients of a layer, `∇W = hᵀ δ` and `∇b = Σ_B δ`. To add a rule, write one entry of `RULES`, or a function of
the same form in a file of your own (docs/change_a_line.md). Like `activations`, this file needs no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from backhand.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

# A rule's function: `delta` (…, B, m) and `W` (…, n, m) of the layer above, `slope` = g′(z) (…, B, n), and the layer.
HiddenDelta = Callable[["Tensor", "Tensor", "Tensor", "HiddenLayer"], "Tensor"]


class HiddenLayer:
    """The hidden layer whose δ a rule returns.

    Attributes:
        number: 0 for the layer next to the input.
        delta_O: δ_O (…, B, C).
        z: the pre-activation (…, B, n) where the activation is flat, else None.
        settings: the rule's settings, by name.
        rule: the rule's name in messages.
    """

    def __init__(
        self,
        number: int,
        delta_O: Tensor,
        tensors: Mapping[str, Tensor],
        z: Tensor | None = None,
        settings: Mapping[str, float] | None = None,
        rule: str = "gradient",
    ) -> None:
        self.number, self.delta_O, self.z, self.settings, self.rule = number, delta_O, z, settings or {}, rule
        self._tensors = tensors

    @property
    def where(self) -> str:
        """The rule and the layer, for messages."""
        return f"{self.rule}: hidden layer {self.number}"

    def fixed(self, name: str, shape: Sequence[int] | None = None, *, like: Tensor | None = None) -> Tensor:
        """A random tensor that is never updated.

        It is drawn once, with the run's seed and the initialization of the weights, and saved in the checkpoint.

        Args:
            name: its name within the layer.
            shape: without the run axis; the initialization takes a matrix's first number for its number of inputs.
            like: a tensor whose shape it has instead, such as W.

        Returns:
            The tensor, with the run axis where there is one.
        """
        return self._tensor(name, shape, like, is_trained=False)

    def trained(self, name: str, *, like: Tensor) -> Tensor:
        """A tensor that is drawn as in `fixed` and then receives, at every step, the update of the W in `like`."""
        return self._tensor(name, None, like, is_trained=True)

    def _tensor(self, name: str, shape: Sequence[int] | None, like: Tensor | None, is_trained: bool) -> Tensor:
        if name not in self._tensors:
            known = ", ".join(self._tensors) or "none"
            raise UserError(
                f"{self.where}: {name}: was not requested when the network was created; this layer has {known}"
            )
        return self._tensors[name]


class TrialLayer(HiddenLayer):
    """The layer in the first calls of its rule: it draws the tensors that the rule requests.

    Args:
        number, delta_O, z, settings, rule: as in `HiddenLayer`.
        W: the weight of the layer above (…, n, m).
        draw: makes a tensor of a given shape.

    Attributes:
        found: the tensors by name, each with whether it is trained.
    """

    def __init__(
        self,
        number: int,
        delta_O: Tensor,
        W: Tensor,
        draw: Callable[[Sequence[int]], Tensor],
        z: Tensor | None,
        settings: Mapping[str, float],
        rule: str = "gradient",
    ) -> None:
        self.found: dict[str, tuple[Tensor, bool]] = {}
        self._given: dict[str, Tensor] = {}
        super().__init__(number, delta_O, self._given, z, settings, rule)
        self._W, self._draw = W, draw

    @property
    def is_untouched(self) -> bool:
        """Whether the tensors that the rule was given are as they were drawn."""
        return all(self._given[name].equal(tensor) for name, (tensor, _) in self.found.items())

    def _tensor(self, name: str, shape: Sequence[int] | None, like: Tensor | None, is_trained: bool) -> Tensor:
        where = f"{self.where}: {name}"
        if not isinstance(name, str) or not name.isidentifier():
            raise UserError(f"{where}: is not a valid name for a tensor; use letters, digits and _")
        if (shape is None) == (like is None):
            raise UserError(f"{where}: give either a shape or like=W")
        if like is None and not (isinstance(shape, list | tuple) and shape and all(_is_size(each) for each in shape)):
            raise UserError(f"{where}: shape={shape}: must be whole numbers, each 1 or more")
        size = tuple(like.shape if like is not None else (*self._W.shape[:-2], *shape))  # type: ignore[misc]
        if is_trained and size != self._W.shape:
            raise UserError(f"{where}: a trained tensor must have the shape of W")
        if name not in self.found:
            self.found[name] = self._draw(size), is_trained
            self._given[name] = self.found[name][0].clone()
        tensor, was_trained = self.found[name]
        if (tuple(tensor.shape), was_trained) != (size, is_trained):
            raise UserError(f"{where}: is requested twice, as two different tensors; give one of them another name")
        return self._given[name]


def _is_size(number: Any) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and number >= 1


@dataclass(frozen=True)
class Rule:
    """A backward rule for the hidden layers.

    Attributes:
        hidden_delta: δ (…, B, m) and W (…, n, m) of the layer above, g′(z) (…, B, n), the layer → δ (…, B, n).
        text: its formula as plain text.
        source: the paper.
        settings: its keys in `model.*`, with their defaults.
        flat: whether it is for activations whose derivative is zero.
        name: of a function of the user's own, such as FILE.py:NAME; empty for an entry of `RULES`.
        setting: what the user chose it with, for messages.
    """

    hidden_delta: HiddenDelta
    text: str = "δ_I = (your own)"
    source: str = ""
    settings: tuple[tuple[str, float], ...] = ()
    flat: bool = False
    name: str = ""
    setting: str = "gradient"

    @property
    def where(self) -> str:
        """The rule in a message: `model.gradient=FILE.py:NAME`."""
        return f"{self.setting}={self.name}" if self.name else self.setting


def feedback_alignment(delta: Tensor, W: Tensor, slope: Tensor, layer: HiddenLayer) -> Tensor:
    """`δ_I = (δ_O B_Oᵀ) ⊙ g′(z_I)`, B fixed and random."""
    B = layer.fixed("B", like=W)
    return (delta @ B.mT) * slope


def direct_feedback_alignment(delta: Tensor, W: Tensor, slope: Tensor, layer: HiddenLayer) -> Tensor:
    """`δ = (δ_O Bᵀ) ⊙ g′(z)`, B (n, C) fixed and random: every hidden layer receives δ_O directly."""
    B = layer.fixed("B", (W.shape[-2], layer.delta_O.shape[-1]))
    return (layer.delta_O @ B.mT) * slope


def sign_symmetry(delta: Tensor, W: Tensor, slope: Tensor, layer: HiddenLayer) -> Tensor:
    """`δ_I = (δ_O (|M| ⊙ sign W_O)ᵀ) ⊙ g′(z_I)`, M fixed and random."""
    M = layer.fixed("M", like=W)
    return (delta @ (M.abs() * W.sign()).mT) * slope


def unit_sign_symmetry(delta: Tensor, W: Tensor, slope: Tensor, layer: HiddenLayer) -> Tensor:
    """`δ_I = (δ_O (sign W_O)ᵀ) ⊙ g′(z_I)`."""
    return (delta @ W.sign().mT) * slope


def kolen_pollack(delta: Tensor, W: Tensor, slope: Tensor, layer: HiddenLayer) -> Tensor:
    """`δ_I = (δ_O B_Oᵀ) ⊙ g′(z_I)`, B receives the updates of W; weight decay then makes the two equal."""
    B = layer.trained("B", like=W)
    return (delta @ B.mT) * slope


def straight_through(delta: Tensor, W: Tensor, slope: Tensor, layer: HiddenLayer) -> Tensor:
    """`δ_I = (δ_O W_Oᵀ) ⊙ [|z_I| ≤ c]`: a flat activation is differentiated as the identity near 0."""
    if layer.z is not None:
        slope = (layer.z.abs() <= layer.settings["straight_through_window"]).to(slope.dtype)
    return (delta @ W.mT) * slope


RULES: dict[str, Rule] = {
    "feedback_alignment": Rule(
        feedback_alignment,
        text="δ_I = (δ_O B_Oᵀ) ⊙ g′(z_I), B_O fixed and random",
        source="Lillicrap et al., Random synaptic feedback weights support error backpropagation (2016)",
    ),
    "direct_feedback_alignment": Rule(
        direct_feedback_alignment,
        text="δ_l = (δ_O B_lᵀ) ⊙ g′(z_l), B_l fixed and random",
        source="Nøkland, Direct Feedback Alignment Provides Learning in Deep Neural Networks (2016), equation 7",
    ),
    "sign_symmetry": Rule(
        sign_symmetry,
        text="δ_I = (δ_O (|M_O| ⊙ sign W_O)ᵀ) ⊙ g′(z_I), M_O fixed and random",
        source="Liao et al., How Important Is Weight Symmetry in Backpropagation? (2016), frSF",
    ),
    "unit_sign_symmetry": Rule(
        unit_sign_symmetry,
        text="δ_I = (δ_O (sign W_O)ᵀ) ⊙ g′(z_I)",
        source="Liao et al., How Important Is Weight Symmetry in Backpropagation? (2016), uSF",
    ),
    "kolen_pollack": Rule(
        kolen_pollack,
        text="δ_I = (δ_O B_Oᵀ) ⊙ g′(z_I), B_O ← B_O + ΔW_O",
        source="Akrout et al., Deep Learning without Weight Transport (2019), section 3.2",
    ),
    "straight_through": Rule(
        straight_through,
        text="δ_I = (δ_O W_Oᵀ) ⊙ [|z_I| ≤ c]",
        source="Bengio et al., Estimating or Propagating Gradients Through Stochastic Neurons (2013), section 4",
        settings=(("straight_through_window", 1.0),),
        flat=True,
    ),
}

# The choices of `model.gradient`, apart from a function of the user's own.
GRADIENTS = ("hand", "autograd", *RULES)
