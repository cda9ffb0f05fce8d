"""The catalogue of wrong derivations: each entry is the right derivation with one line of it changed.

To add one, add a `Mistake` to the list that its line belongs to; each list is written once, for any layer, and the
diagnosis and its tests read them. v is what comes from above: ∂L/∂ŷ at the output, ∂L/∂h in a hidden layer.
"""

import math
from collections.abc import Callable
from functools import cache, partial

import torch
from torch import Tensor

from backhand.calculus.activations import ACTIVATIONS
from backhand.calculus.backpropagation import Criterion
from backhand.calculus.chain import Layer, is_elementwise, layers
from backhand.calculus.losses import LOSSES
from backhand.derivations.steps import (
    Case,
    Draft,
    Mistake,
    Rule,
    derivative,
    derive,
    right_rules,
    through,
    with_mean,
)


def _phi(z: Tensor) -> Tensor:
    """The density of the normal distribution."""
    return (-z * z / 2).exp() / math.sqrt(2 * math.pi)


# The derivatives that people know by heart, and write where another one belongs.
FAMILIAR = ("sigmoid", "tanh")
# Slips in several derivatives.
EXPONENT, SECOND_TERM = "the exponent's sign is wrong", "the second term of the product rule is missing"
SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805
# A derivative with a piece missing or wrong: by activation, what is written, as a function of z and a, and the slip.
INCOMPLETE: dict[str, tuple[tuple[str, Callable[[Tensor, Tensor], Tensor], str], ...]] = {
    "tanh": (
        ("1 − {a}", lambda z, a: 1 - a, "the square is missing"),
        ("{a}²", lambda z, a: a * a, "the 1 − is missing"),
        ("1 + {a}²", lambda z, a: 1 + a * a, "its sign is wrong"),
        ("(1 − {a})²", lambda z, a: (1 - a).square(), "the difference is squared, not {a}"),
    ),
    "sigmoid": (
        ("1 − {a}", lambda z, a: 1 - a, "the factor {a} is missing"),
        ("{a} (1 + {a})", lambda z, a: a * (1 + a), "its sign is wrong"),
        ("exp({z}) / (1 + exp(−{z}))²", lambda z, a: z.exp() * a * a, EXPONENT),
        ("exp(−{z}) / (1 + exp({z}))²", lambda z, a: (-z).exp() * (1 - a).square(), EXPONENT),
        ("1 / (1 + exp(−{z}))²", lambda z, a: a * a, "exp(−{z}) is missing in the numerator"),
    ),
    "elu": (
        ("{a} for negative {z}", lambda z, a: a.where(z <= 0, 1.0), "the + 1 is missing"),
        ("exp(−{z}) for negative {z}", lambda z, a: (-z).exp().where(z <= 0, 1.0), EXPONENT),
    ),
    "selu": (
        ("{a} for negative {z}", lambda z, a: a.where(z <= 0, SELU_SCALE), "the + λ α is missing"),
        (
            "λ α exp(−{z}) for negative {z}",
            lambda z, a: SELU_SCALE * (SELU_ALPHA * (-z).exp()).where(z <= 0, 1.0),
            EXPONENT,
        ),
        ("α exp({z}) or 1", lambda z, a: (SELU_ALPHA * z.exp()).where(z <= 0, 1.0), "the factor λ is missing"),
        ("λ exp({z}) or λ", lambda z, a: SELU_SCALE * z.exp().where(z <= 0, 1.0), "the factor α is missing"),
    ),
    "softplus": (("1 / (1 + exp({z}))", lambda z, a: (-z).sigmoid(), EXPONENT),),
    "silu": (
        ("σ({z})", lambda z, a: z.sigmoid(), SECOND_TERM),
        ("σ({z}) + σ′({z})", lambda z, a: z.sigmoid() * (2 - z.sigmoid()), "the factor {z} of σ′ is missing"),
        ("{z} σ′({z})", lambda z, a: a * (1 - z.sigmoid()), "the first term of the product rule is missing"),
        ("σ′({z})", lambda z, a: z.sigmoid() * (1 - z.sigmoid()), "that is the derivative of σ"),
        (
            "σ(−{z}) + {z} σ′({z})",
            lambda z, a: (-z).sigmoid() * (1 + z * z.sigmoid()),
            "σ has the wrong sign of the exponent, 1 / (1 + exp({z}))",
        ),
        ("σ({z}) − {z} σ′({z})", lambda z, a: z.sigmoid() * (1 - z * (-z).sigmoid()), "the sign of a term is wrong"),
    ),
    "mish": (("tanh(softplus({z}))", lambda z, a: torch.nn.functional.softplus(z).tanh(), SECOND_TERM),),
    "gelu": (
        ("Φ({z})", lambda z, a: torch.special.ndtr(z), SECOND_TERM),
        ("{z} φ({z})", lambda z, a: z * _phi(z), "the first term of the product rule is missing"),
        ("Φ({z}) + φ({z})", lambda z, a: torch.special.ndtr(z) + _phi(z), "the factor {z} of φ is missing"),
        ("Φ({z}) − {z} φ({z})", lambda z, a: torch.special.ndtr(z) - z * _phi(z), "the sign of a term is wrong"),
        (
            "Φ({z}) + {z} exp({z}²/2) / √(2π)",
            lambda z, a: torch.special.ndtr(z) + z * (z * z / 2).exp() / math.sqrt(2 * math.pi),
            EXPONENT,
        ),
    ),
}
# Of the penalty's mistakes, which the diagnosis puts into words, for only it knows what is expected.
PENALTY, PENALISED_BIAS = "weight decay added", "bias penalised"
# Of what all gradients have in common and should not.
COMMON_FACTOR = "common factor"
UPDATED = "weight already updated"
# A matrix (…, n, m) as (…, m, n) with the order of its numbers kept, by how it is stored.
RESHAPED: dict[str, Callable[[Tensor], Tensor]] = {
    "(in, out)": lambda W: W.reshape(W.mT.shape),
    "(out, in)": lambda W: W.mT.reshape(W.shape).mT,
}
# In both directions.
ERRORS = ((1, "ŷ − y"), (-1, "y − ŷ"))


@cache
def catalogue(depth: int) -> tuple[Mistake, ...]:
    """Every mistake that there can be in a network of so many layers, in the order of the derivation."""
    return tuple(mistake for layer in layers(depth) for mistake in (*in_delta(layer), *in_gradients(layer)))


@cache
def in_delta(layer: Layer) -> tuple[Mistake, ...]:
    """What can go wrong on the way to a layer's δ."""
    first = _in_loss(layer) if layer.is_last else _on_the_way_back(layer)
    return (*first, *_in_activation(layer), *(_at_output(layer) if layer.is_last else _in_hidden(layer)))


@cache
def in_gradients(layer: Layer) -> tuple[Mistake, ...]:
    """What can go wrong in one gradient of a layer alone."""
    both = [mistake for step in (layer.dW, layer.db) for mistake in _in_either(layer, step)]
    return (*_in_dW(layer), *_in_db(layer), *both, *(_in_dx(layer) if layer.index == 0 else ()))


def _late(c: Case) -> bool:
    return c.previous is not None


def _before(d: Draft) -> Case:
    assert d.case.previous is not None
    return d.case.previous


def _own_loss(c: Case) -> bool:
    return c.upstream is None


def _in_loss(layer: Layer) -> list[Mistake]:
    """∂L/∂ŷ."""
    here = partial(Mistake, layer=layer, step=layer.upstream)

    def is_mse(c: Case) -> bool:
        return c.criterion.name == "mse" and _own_loss(c)

    def mean(c: Case) -> int:
        return c.B * (c.C if c.mean_over_outputs else 1)

    def plain_error(d: Draft) -> Tensor:
        return d.repeat((d.case.yhat - d.case.rows) / mean(d.case))

    def value_itself(d: Draft) -> Tensor:
        each = (tensor[..., None, None] for tensor in (d.case.yhat, d.case.rows))  # a batch of one number
        return d.repeat(d.case.criterion.loss.value(*each) / mean(d.case))

    return [
        here(
            "factor 2 missing",
            "the factor 2 of the squared error is missing",
            factor=lambda c: 0.5,
            yours="1/2",
            applies=is_mse,
        ),
        here("factor 2 extra", "there is a factor 2 too many", factor=lambda c: 2.0, yours="2"),
        here(
            "factor 1/2 extra",
            "there is a factor 1/2 too many",
            factor=lambda c: 0.5,
            yours="1/2",
            applies=lambda c: not is_mse(c),
        ),
        here(
            "∂L/∂ŷ is ŷ − y",
            "∂L/∂ŷ is taken to be the plain difference ŷ − y",
            rule=plain_error,
            yours="(ŷ − y) / N",
            applies=lambda c: c.criterion.name != "mse" and _own_loss(c),
            rank=1,
        ),
        here(
            "loss in the place of its derivative",
            "∂L/∂ŷ is taken to be the loss itself, not its derivative",
            rule=value_itself,
            yours="L(ŷ, y) / N",
            applies=lambda c: c.criterion.loss.target == "values" and _own_loss(c),
            rank=1,
        ),
        here(
            "sign of a term",
            "the sign of (1 − y)/(1 − ŷ) is wrong",
            rule=lambda d: d.repeat(
                -(d.case.rows / d.case.yhat + (1 - d.case.rows) / (1 - d.case.yhat)) / mean(d.case)
            ),
            yours="(−y/ŷ − (1 − y)/(1 − ŷ)) / N",
            applies=lambda c: c.criterion.name == "binary_cross_entropy" and _own_loss(c),
            rank=1,
        ),
        here(
            "clipping missing",
            "the clipping at ±huber_delta is missing",
            rule=lambda d: d.repeat(d.case.dL_dyhat(huber_delta=math.inf)),
            yours="(ŷ − y) / N",
            applies=lambda c: c.criterion.name == "huber" and _own_loss(c),
        ),
        here(
            "divided by B, not by the weights",
            "the weighted mean divides by the number of samples, not by the sum of their weights",
            factor=lambda c: c.N / c.B,
            yours="Σw/B",
            applies=lambda c: isinstance(c.N, Tensor) or (c.B != c.N and _own_loss(c)),
        ),
        *(
            here(
                f"{name} forgotten",
                f"{name} is forgotten",
                rule=lambda d, name=name: d.repeat(d.case.dL_dyhat(**{name: None})),  # type: ignore[misc]
                yours=f"∂L/∂ŷ without {name}",
                applies=lambda c, name=name: name in c.criterion.parameters(c.weight) and _own_loss(c),  # type: ignore[misc]
            )
            for name in sorted({name for loss in LOSSES.values() for name in loss.parameters})
        ),
        *(
            here(
                f"derivative of {name}",
                f"∂L/∂ŷ is that of {name}",
                rule=lambda d, name=name: d.repeat(d.case.dL_dyhat(Criterion(name))),  # type: ignore[misc]
                yours=with_mean(LOSSES[name].text_derivative, LOSSES[name].mean_over),
                applies=lambda c, name=name: name != c.criterion.name and _own_loss(c),  # type: ignore[misc]
                rank=2,
            )
            for name in LOSSES
        ),
    ]


def _on_the_way_back(layer: Layer) -> list[Mistake]:
    """∂L/∂h, from δ of the layer above."""
    above = layer.above
    right = f"{above.symbol} · {above.W}ᵀ"
    here = partial(Mistake, layer=layer, step=layer.upstream)
    neighbours = [each for each in layers(layer.depth) if abs(each.index - above.index) == 1]
    dL = "∂L/∂ŷ" if above.is_last else f"∂L/∂{above.a}"

    def dW(d: Draft) -> Tensor:
        """The gradient of the layer above: the returned one, right or wrong, if there is one."""
        returned = d.returned.get(above.dW)
        if returned is not None and returned.shape == d.case.W(above).shape:
            return d.repeat(returned)
        return d.case.input(above).mT @ d[above.delta]

    return [
        here(
            "weight not transposed",
            f"{above.W} is not transposed",
            rule=lambda d: d[above.delta] @ d.case.W(above),
            yours=(f"{above.W}ᵀ", above.W),
        ),
        *(
            here(
                "weight of another layer",
                f"{other.W}{sign} is used instead of {above.W}ᵀ",
                rule=lambda d, other=other, sign=sign: (  # type: ignore[misc]
                    d[above.delta] @ (d.case.W(other).mT if sign else d.case.W(other))
                ),
                yours=(f"{above.W}ᵀ", f"{other.W}{sign}"),
                variant=f"{other.index - layer.index}{sign}",
            )
            for other in neighbours
            for sign in ("", "ᵀ")
        ),
        *(
            here(
                "weight reshaped",
                f"{above.W} is reshaped, not transposed: reshape keeps the order of the numbers",
                rule=lambda d, reshaped=reshaped: d[above.delta] @ reshaped(d.case.W(above)),  # type: ignore[misc]
                yours=(f"{above.W}ᵀ", f"reshape({above.W})"),
                variant=stored,
            )
            for stored, reshaped in RESHAPED.items()
        ),
        here(
            "weight left out",
            f"the factor {above.W}ᵀ is missing",
            rule=lambda d: d[above.delta],
            yours=(f"({right})", above.symbol),
        ),
        here(
            "∂L/∂ŷ in the place of δ_O" if above.is_last else "δ before its derivative",
            f"it is built from {dL}, not from {above.symbol}: {above.g}′({above.z}) is missing on the way back",
            rule=lambda d: d[above.upstream] @ d.case.W(above).mT,
            yours=(above.symbol, dL),
            rank=1,
        ),
        *(
            here(
                "gradient in the place of the weight",
                f"{above.dW} is used instead of {above.W}: the gradient, not the weight",
                rule=lambda d, transposed=transposed: d[above.delta] @ (dW(d).mT if transposed else dW(d)),  # type: ignore[misc]
                yours=(f"{above.W}ᵀ", f"{above.dW}{'ᵀ' if transposed else ''}"),
                rank=1,
                any_size=True,
                variant="transposed" if transposed else "",
            )
            for transposed in (True, False)
        ),
        here(
            "weight a step late",
            f"{above.W} is the previous step's",
            rule=lambda d: d[above.delta] @ _before(d).W(above).mT,
            yours=(f"{above.W}ᵀ", f"{above.W}ᵀ (of the step before)"),
            applies=_late,
        ),
        here(
            UPDATED,
            f"{above.W} has already been updated when {layer.symbol} is taken through it{{rate}}",
            direction=lambda d: -d[above.delta] @ dW(d).mT,
            yours=(f"{above.W}ᵀ", f"({above.W} − {{amount}} {above.dW})ᵀ"),
            rank=3,
        ),
    ]


def _name(case: Case, layer: Layer) -> str:
    return case.network.output_activation if layer.is_last else case.network.g_name(layer.index)


def _in_activation(layer: Layer) -> list[Mistake]:
    """The factor g′(z), or f′(z)."""
    g, z, a = layer.g, layer.z, layer.a
    prime = f"{g}′({z})"
    here = partial(Mistake, layer=layer, step=layer.chain)

    def at(point: Callable[[Draft], Tensor]) -> Rule:
        return lambda d: through(d.case.activation(layer), d[layer.upstream], point(d))

    entries = [
        here(
            "derivative left out",
            f"the factor {prime} is missing",
            rule=lambda d: d[layer.upstream],
            yours=(f" ⊙ {prime}", ""),
        ),
        here(
            "derivative at the output",
            f"{g}′ is taken at {a}, not at {z}",
            rule=at(lambda d: d.case.output(layer)),
            yours=(prime, f"{g}′({a})"),
        ),
        here(
            "formula for the output given z",
            f"the formula for {g}′ in terms of {a} is given {z}",
            rule=lambda d: d.case.activation(layer).delta(d[layer.upstream], d.case.z(layer)),
            yours=(prime, f"«{z}»"),
            applies=lambda c: c.activation(layer).reads == "a",
        ),
        here(
            "activation instead of its derivative",
            f"{g} is used where {g}′ is needed",
            rule=lambda d: d[layer.upstream] * d.case.output(layer),
            yours=(f"⊙ {prime}", f"⊙ {g}({z})"),
        ),
        here(
            "derivative twice",
            f"the factor {prime} is there twice"
            + (" (a short form such as ŷ − y has it already)" if layer.is_last else ""),
            rule=lambda d: through(d.case.activation(layer), right_rules(layer.depth)[layer.chain](d), d.case.z(layer)),
            yours=(f"⊙ {prime}", f"⊙ {prime} ⊙ {prime}"),
        ),
        here(
            "derivative at −z",
            f"{g}′ is taken at −{z}: the sign of {z} is wrong, or the mask is inverted",
            rule=at(lambda d: -d.case.z(layer)),
            yours=(prime, f"{g}′(−{z})"),
            rank=1,
        ),
        here(
            "derivative a step late",
            f"{g}′ is taken at the previous step's {z}",
            rule=at(lambda d: _before(d).z(layer)),
            yours=(prime, f"{g}′({z} of the step before)"),
            applies=_late,
        ),
        *(
            here(
                "derivative at another layer",
                f"{g}′ is taken at {point.z}, another layer's pre-activation",
                rule=at(lambda d, point=point: d.case.z(point)),  # type: ignore[misc]
                yours=(prime, f"{g}′({point.z})"),
                applies=lambda c, point=point: c.z(point).shape == c.z(layer).shape,  # type: ignore[misc]
                variant=f"{point.index - layer.index}",
            )
            for point in layers(layer.depth)
            if abs(point.index - layer.index) == 1
        ),
        here(
            "derivative at another layer",
            f"{g}′ is taken at {layer.input}, the layer below",
            rule=at(lambda d: d.case.input(layer)),
            yours=(prime, f"{g}′({layer.input})"),
            applies=lambda c: c.input(layer).shape == c.z(layer).shape,
            variant="input",
        ),
    ]
    if not layer.is_last:
        above = layer.above
        entries.append(
            here(
                "derivative before the weight",
                f"{prime} is multiplied before {above.W}ᵀ, where {above.g}′ belongs, and not after it",
                rule=lambda d: (
                    (d[above.delta] * derivative(d.case.activation(layer), d.case.z(layer))) @ d.case.W(above).mT
                ),
                yours=f"({above.symbol} ⊙ {prime}) · {above.W}ᵀ",
                applies=lambda c: c.z(layer).shape == c.z(above).shape,
                rank=1,
            )
        )
    for name in FAMILIAR:
        known = ACTIVATIONS[name]
        entries.append(
            here(
                "derivative of an activation that is not there",
                f"the derivative of {name} in terms of its output, {known.text_derivative}, stands for {prime}",
                rule=lambda d, known=known: d[layer.upstream] * known.derivative(d.case.output(layer)),  # type: ignore[misc]
                yours=(prime, f"{name}′ of {a}"),
                applies=lambda c, name=name: name != _name(c, layer) and is_elementwise(c.activation(layer)),  # type: ignore[misc]
                rank=2,
                variant=name,
            )
        )
    for name, slips in INCOMPLETE.items():
        for written, rule, slip in slips:
            entries.append(
                here(
                    "derivative incomplete",
                    f"{prime} is written as {written.format(a=a, z=z)}: {slip.format(a=a, z=z)}",
                    rule=lambda d, rule=rule: d[layer.upstream] * rule(d.case.z(layer), d.case.output(layer)),  # type: ignore[misc]
                    yours=(prime, f"({written.format(a=a, z=z)})"),
                    applies=lambda c, name=name: name == _name(c, layer),  # type: ignore[misc]
                    rank=1,
                    variant=f"{name}: {written}",
                )
            )
    nearest = sorted(
        (each for each in layers(layer.depth) if each != layer), key=lambda each: abs(each.index - layer.index)
    )
    for i, other in enumerate(nearest):
        name = other.g if other.is_last or layer.depth == 2 else f"g_{other.label}"
        entries.append(
            here(
                "derivative of the other activation",
                f"{name}′ is used instead of {prime}: it is another layer's",
                rule=lambda d, other=other: d[layer.upstream] * derivative(d.case.activation(other), d.case.z(layer)),  # type: ignore[misc]
                yours=(prime, f"{name}′({z})"),
                applies=lambda c, other=other, nearer=nearest[:i]: (  # type: ignore[misc]
                    is_elementwise(c.activation(other))
                    and c.activation(other) not in [c.activation(each) for each in (layer, *nearer)]
                ),
                rank=1,
                variant=f"{other.index}",
            )
        )
    return entries


def _at_output(layer: Layer) -> list[Mistake]:
    """What only the output layer's δ may have."""
    prime = f"f′({layer.z})"
    chain = partial(Mistake, layer=layer, step=layer.chain)
    whole = partial(Mistake, layer=layer, step=layer.delta)

    def is_row(c: Case) -> bool:
        return not is_elementwise(c.network.f)

    def sigmoid_prime(d: Draft) -> Tensor:
        return d.case.yhat * (1 - d.case.yhat)

    def reads_output(c: Case) -> bool:
        return c.network.f.reads == "a" and not is_row(c) and _own_loss(c)

    def of_error(d: Draft, sign: int) -> Tensor:
        error = d.repeat(d.case.yhat - d.case.rows)
        return d.case.activation(layer).derivative(sign * error).expand(error.shape)

    def of_error_alone(d: Draft, sign: int, size: int) -> Tensor:
        mean = d.case.B * (d.case.C if d.case.mean_over_outputs else 1)
        return of_error(d, sign) * (sign * size / mean)

    return [
        chain(
            "softmax as elementwise",
            "softmax is treated as elementwise, ŷ (1 − ŷ), but its derivative is a Jacobian",
            rule=lambda d: d[layer.upstream] * sigmoid_prime(d),
            yours=(f"⊙ {prime}", "⊙ ŷ ⊙ (1 − ŷ)"),
            applies=is_row,
        ),
        chain(
            "ŷ (1 − ŷ) on top of ŷ − y",
            "ŷ (1 − ŷ) is multiplied onto a δ_O that is complete without it",
            rule=lambda d: right_rules(layer.depth)[layer.chain](d) * sigmoid_prime(d),
            yours=(f"⊙ {prime}", f"⊙ {prime} ⊙ ŷ ⊙ (1 − ŷ)"),
            applies=is_row,
        ),
        *(
            chain(
                "derivative of the other activation on top",
                f"g′({layer.z}) is multiplied onto a δ_O that is complete without it",
                rule=lambda d: (
                    right_rules(layer.depth)[layer.chain](d)
                    * derivative(d.case.activation(layer.below), d.case.z(layer))
                ),
                yours=(f"⊙ {prime}", f"⊙ {prime} ⊙ g′({layer.z})"),
                rank=1,
            )
            for _ in range(min(layer.index, 1))
        ),
        *(
            chain(
                "derivative of the error",
                f"f′ is taken of the error {error}, not of ŷ",
                rule=lambda d, sign=sign: d[layer.upstream] * of_error(d, sign),  # type: ignore[misc]
                yours=(prime, f"«{error}»"),
                applies=reads_output,
                rank=1,
            )
            for sign, error in ERRORS
        ),
        *(
            chain(
                "derivative of the error",
                f"f′ is taken of the error {error}, not of ŷ, and stands alone",
                rule=partial(of_error_alone, sign=sign, size=size),
                yours=f"«{error}»",
                applies=lambda c, size=size: reads_output(c) and (size == 1 or c.criterion.name == "mse"),  # type: ignore[misc]
                rank=1,
            )
            for sign, error in ERRORS
            for size in (1, 2)  # the 2 of (ŷ − y)² may be there or not
        ),
        whole(
            "sign flipped",
            "its sign is flipped (y − ŷ in the place of ŷ − y)",
            factor=lambda c: -1.0,
            yours="−",
        ),
        whole(
            "mean over the batch missing",
            "the mean over the batch is missing",
            factor=lambda c: c.N,
            yours="B",
            applies=_own_loss,
        ),
        whole(
            "mean over the batch twice",
            "the mean over the batch is taken once too often",
            factor=lambda c: 1 / c.B,
            yours="1/B",
        ),
        whole(
            "sum over the outputs, not the mean",
            "it is the sum over the outputs, not the mean",
            factor=lambda c: float(c.C),
            yours="C",
            applies=lambda c: c.mean_over_outputs and _own_loss(c),
        ),
        whole(
            "sum over samples and outputs, not the mean",
            "it is the sum over samples and outputs, not the mean",
            factor=lambda c: c.N * c.C,
            yours="B C",
            applies=lambda c: c.mean_over_outputs and _own_loss(c),
        ),
        whole(
            "mean over the outputs extra",
            "the mean over the outputs is taken once too often",
            factor=lambda c: 1 / c.C,
            yours="1/C",
        ),
        whole(
            "delta a step late",
            "it is the previous step's",
            rule=lambda d: d.repeat(derive(_before(d))[layer.delta]),
            yours=f"{layer.symbol} (of the step before)",
            applies=_late,
        ),
    ]


def _in_hidden(layer: Layer) -> list[Mistake]:
    """What only a hidden layer's δ may have."""
    prime, from_above = f"g′({layer.z})", f"{layer.above.symbol} · {layer.above.W}ᵀ"
    chain = partial(Mistake, layer=layer, step=layer.chain)
    whole = partial(Mistake, layer=layer, step=layer.delta)

    def of_gradient(rule: Callable[[Draft, Tensor], Tensor]) -> list[Rule]:
        """Of a gradient in each size that it may have: where the gradients take the mean, it is so much larger."""

        def sized(d: Draft, size: Callable[[Case], float | Tensor]) -> Tensor:
            return d.times(rule(d, d.times(d[layer.upstream], size(d.case))), 1 / size(d.case))

        sizes: list[Callable[[Case], float | Tensor]] = [lambda c: 1.0, lambda c: c.N, lambda c: c.N * c.C]
        sizes += [lambda c: c.N / 2, lambda c: c.N * c.C / 2]  # of ½ (ŷ − y)²
        return [partial(sized, size=size) for size in sizes]

    return [
        *(
            chain(
                "activation of the gradient",
                "g is applied to the gradient that comes from above: {activation} of the gradient, "
                f"no mask from {layer.z}",
                rule=rule,
                yours=f"g({from_above})",
                rank=1,
                variant=f"{size}",
            )
            for size, rule in enumerate(of_gradient(lambda d, u: d.case.activation(layer)(u)))
        ),
        *(
            chain(
                "derivative at the gradient",
                f"g′ is taken at the gradient that comes from above, not at {layer.z}",
                rule=rule,
                yours=(prime, f"g′({from_above})"),
                rank=1,
                variant=f"{of_output}, {size}",
            )
            for of_output, formula in enumerate((through, lambda g, u, at: g.delta(u, at)))
            for size, rule in enumerate(
                of_gradient(lambda d, u, formula=formula: formula(d.case.activation(layer), u, u))  # type: ignore[misc]
            )
        ),
        whole("sign flipped", "its sign is flipped", factor=lambda c: -1.0, yours="−"),
        whole("factor 2 extra", "there is a factor 2 too many", factor=lambda c: 2.0, yours="2"),
        whole(
            "mean over the batch twice",
            "the mean over the batch is taken again",
            factor=lambda c: 1 / c.B,
            yours="1/B",
        ),
    ]


def _in_dW(layer: Layer) -> list[Mistake]:
    """∇W = inputᵀ δ."""
    W, delta, h = layer.dW, layer.delta, layer.input
    here = partial(Mistake, layer=layer, step=W)
    others = [(f"h_{i}" if layer.depth > 2 else "h", i) for i in range(1, layer.depth)]
    others = [("x", 0), *others, ("ŷ", layer.depth)]
    return [
        here(
            "outer product transposed",
            f"the product is transposed, δᵀ {h}",
            rule=lambda d: right_rules(layer.depth)[W](d).mT,
            yours=f"{layer.symbol}ᵀ · {h}",
        ),
        *(
            here(
                "outer product reshaped",
                f"the product δᵀ {h} is reshaped, not transposed: reshape keeps the order of the numbers",
                rule=lambda d, reshaped=reshaped: reshaped(right_rules(layer.depth)[W](d).mT),  # type: ignore[misc]
                yours=f"reshape({layer.symbol}ᵀ · {h})",
                variant=stored,
            )
            for stored, reshaped in RESHAPED.items()
        ),
        *(
            here(
                f"{other} for {h}",
                f"{other} is used instead of {h}",
                rule=lambda d, i=i: d.case.forward[1][i].mT @ d[delta],  # type: ignore[misc]
                yours=(f"{h}ᵀ", f"{other}ᵀ"),
                rank=int(other == "ŷ"),
            )
            for other, i in others
            if abs(i - layer.index) == 1
        ),
        *(
            here(
                f"{layer.below.z} for {h}",
                f"{layer.below.z} is used instead of {h}: the activation is missing",
                rule=lambda d: d.case.z(layer.below).mT @ d[delta],
                yours=(f"{h}ᵀ", f"{layer.below.z}ᵀ"),
            )
            for _ in range(min(layer.index, 1))
        ),
        here(
            "weight for the input",
            f"{layer.W} is used instead of {h} (the layer's input)",
            rule=lambda d: d.case.W(layer) * d[delta].sum(-2, keepdim=True),
            yours=f"{layer.W} ⊙ {layer.symbol}",
            rank=1,
        ),
        here(
            "weight itself",
            f"{layer.W} itself is returned, not its gradient: {W} is {layer.W}",
            rule=lambda d: d.repeat(d.case.W(layer)),
            yours=layer.W,
            rank=2,
            unscaled=True,
        ),
        here(
            "input a step late",
            f"{h} is the previous step's",
            rule=lambda d: _before(d).input(layer).mT @ d[delta],
            yours=(f"{h}ᵀ", f"{h}ᵀ (of the step before)"),
            applies=_late,
        ),
        here(
            PENALTY,
            f"{layer.W} is added, times {{amount:.3g}} (weight decay belongs to the optimizer)",
            direction=lambda d: d.repeat(d.case.W(layer)),
            yours=f"{h}ᵀ · {layer.symbol} + {{amount}} {layer.W}",
            rank=3,
        ),
    ]


def _in_db(layer: Layer) -> list[Mistake]:
    """∇b = Σ_B δ."""
    b, delta, symbol = layer.db, layer.delta, layer.symbol
    here = partial(Mistake, layer=layer, step=b, applies=lambda c: c.biases[layer.index] is not None)
    everything = "δ is summed over everything (np.sum without an axis): one number, a scalar, for all units"
    return [
        here("bias not summed", "δ is not summed over the batch", rule=lambda d: d[delta], yours=symbol),
        here(
            "bias summed over the units",
            "δ is summed over the units, not over the batch: it is the wrong axis",
            rule=lambda d: d[delta].sum(-1),
            yours=f"Σ_units {symbol}",
        ),
        *(
            here("bias summed over everything", everything, rule=rule, yours=f"Σ_B Σ_units {symbol}")
            for rule in (
                lambda d: d[delta].sum((-2, -1)),
                lambda d: d[delta].sum((-2, -1)).unsqueeze(-1).expand(*d[delta].shape[:-2], d[delta].shape[-1]),
            )
        ),
        here(
            "bias itself",
            f"b_{layer.label} itself is returned, not its gradient",
            rule=lambda d: d.repeat(d.case.biases[layer.index]),  # type: ignore[arg-type]
            yours=f"b_{layer.label}",
            rank=2,
            unscaled=True,
        ),
        here(
            PENALISED_BIAS,
            f"regularisation: the bias b_{layer.label} is added, times {{amount:.3g}}, and a bias is not penalised",
            direction=lambda d: d.repeat(d.case.biases[layer.index]),  # type: ignore[arg-type]
            yours=f"Σ_B {symbol} + {{amount}} b_{layer.label}",
            rank=3,
        ),
    ]


def _in_either(layer: Layer, step: str) -> list[Mistake]:
    """What can go wrong in dW and in db."""
    here = partial(Mistake, layer=layer, step=step)
    h, symbol = layer.input, layer.symbol
    upstream = "∂L/∂ŷ" if layer.is_last else f"∂L/∂{layer.a}"

    def of(d: Draft, delta: Tensor, samples: int | None = None) -> Tensor:
        some = slice(samples) if samples is None or samples > 0 else slice(samples, None)
        delta = delta[..., some, :]
        return d.case.input(layer)[..., some, :].mT @ delta if step == layer.dW else delta.sum(-2)

    def of_below(d: Draft) -> Tensor:
        below = layer.below
        u = d[layer.delta] @ d.case.W(layer).mT
        return of(d, through(d.case.activation(below), u, d.case.z(below)))

    return [
        here(
            "first sample only",
            "only the first sample is counted",
            rule=lambda d: of(d, d[layer.delta], 1),
            yours=f"{h}[0]ᵀ · {symbol}[0]" if step == layer.dW else f"{symbol}[0]",
            rank=1,
        ),
        here(
            "last sample only",
            "only the last sample is counted: it is overwritten (=), not added up (+=)",
            rule=lambda d: of(d, d[layer.delta], -1),
            yours=f"{h}[−1]ᵀ · {symbol}[−1]" if step == layer.dW else f"{symbol}[−1]",
            rank=1,
        ),
        *(
            here(
                f"δ of another layer in {step[:2]}",
                f"{other} is used instead of {symbol}",
                rule=rule,
                yours=(symbol, other),
                rank=1,
            )
            for other, rule in (
                *([(layer.above.symbol, lambda d: of(d, d[layer.above.delta]))] if not layer.is_last else []),
                *([(layer.below.symbol, of_below)] if layer.index else []),
            )
        ),
        here(
            "derivative left out",
            f"{upstream} is used instead of {symbol}: the activation's derivative is missing",
            rule=lambda d: of(d, d[layer.upstream]),
            yours=(symbol, upstream),
        ),
        here("sign flipped", "its sign is flipped", factor=lambda c: -1.0, yours="−"),
        here("factor 2 extra", "there is a factor 2 too many", factor=lambda c: 2.0, yours="2"),
        here("averaged", "it is averaged over the batch, not summed", factor=lambda c: 1 / c.B, yours="1/B"),
        here(
            "mean over the batch missing",
            "the mean over the batch is missing",
            factor=lambda c: c.N,
            right="1/B",  # of a δ without it
        ),
    ]


def _in_dx(layer: Layer) -> list[Mistake]:
    """∇x = δ Wᵀ."""
    here = partial(Mistake, layer=layer, step="dx")
    return [
        here(
            "weight not transposed",
            f"{layer.W} is not transposed",
            rule=lambda d: d[layer.delta] @ d.case.W(layer),
            yours=(f"{layer.W}ᵀ", layer.W),
        ),
        here("sign flipped", "its sign is flipped", factor=lambda c: -1.0, yours="−"),
    ]
