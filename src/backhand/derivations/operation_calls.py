"""How an operation is called: two functions or methods in numpy or torch, or a `torch.autograd.Function`."""

from __future__ import annotations

import contextlib
import inspect
import itertools
import re
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from backhand.derivations.loading import RefusedError, place, said
from backhand.derivations.operation_arrays import (
    arrays_of,
    as_given,
    attributes,
    is_real,
    plain,
    random_state,
    reset_generators,
    reset_random_numbers,
    same,
    set_array,
)
from backhand.derivations.operation_names import CACHE, KEPT, OUTPUT, RATE, TARGET, UPSTREAM, gradient_key
from backhand.derivations.operation_shapes import Parameter, data_place, numbers, parameters_of, target_place


class RaisedError(RefusedError):
    """What the user's code raised: where, and in which words."""

    def __init__(self, error: BaseException, path: Path) -> None:
        frames = [each for each in traceback.extract_tb(error.__traceback__) if each.filename == str(path)]
        self.line = (frames[-1].line or "") if frames else ""
        self.function = frames[-1].name if frames else ""
        self.said = said(error)
        super().__init__(f"{place(error, path)}: {self.said}")


class NotKeptError(RefusedError):
    """There is no array that a `Kept` or a `Predicted` stands for."""


class Kept(NamedTuple):
    """The role of what the forward pass of an instance leaves under this name, beside the loss that it returns."""

    attribute: str


class Predicted(NamedTuple):
    """The role of the probabilities of a loss that takes logits: `backward(p, y)` of `softmax_loss(z, y)`."""

    function: str
    place: int  # of the logits

    def of(self, logits: np.ndarray) -> np.ndarray:
        """The sigmoid, or the softmax over the last axis."""
        if self.function == "sigmoid":
            return 1 / (1 + np.exp(-logits))
        powers = np.exp(logits - logits.max(-1, keepdims=True))
        return powers / powers.sum(-1, keepdims=True)


@dataclass
class Returned:
    """What backward returned: by input the gradient, and what else was seen.

    Attributes:
        damage: what is changed in place that others still use.
        remarks: what is changed in place that is backward's own.
        fault: why these are no gradients: there are too many, or they are no numbers.
        has_unknown: whether there is a gradient for what was no array.
        left: the instance's arrays after backward.
        count: how many gradients were returned.
    """

    gradients: dict[str, np.ndarray | None] = field(default_factory=dict)
    damage: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    fault: str = ""
    draws_random_numbers: bool = False
    has_unknown: bool = False
    left: dict[str, np.ndarray] = field(default_factory=dict)
    count: int = 0


class Operation:
    """Two functions, or the methods of an instance, and one way to call them.

    Args:
        path: the user's file.
        parameters: of the constructor and the forward pass.
        flavour: what arrays are made of: `numpy`, `torch`, `torch float32`, or `numbers`.
        start: gives the forward pass, the backward pass and the instance, for the arguments of the constructor.
        backward: the user's own backward pass; None in a call.
        roles: what each argument of backward is: the place of an input, "upstream", "output", "cache", or "rate".
        upstream: what the user calls the incoming gradient.
    """

    is_function = False  # torch calls it, and sums a gradient over broadcast dimensions

    def __init__(
        self,
        path: Path,
        parameters: list[Parameter],
        flavour: str,
        start: Callable[[Sequence[Any]], tuple[Any, Any, Any]],
        backward: Any,
        roles: tuple[Any, ...] = (),
        upstream: str = "",
    ) -> None:
        self.path, self.parameters, self.flavour = path, parameters, flavour
        self.start, self.backward_function, self.roles = start, backward, roles
        self.namespace = getattr(inspect.unwrap(backward), "__globals__", {}) if backward else {}
        self.constructor = sum(each.of_constructor for each in parameters)
        self.slots: dict[str, str] = {}  # arrays of an instance, and where backward leaves their gradients
        self.uses_upstream = "upstream" in roles
        names = [each.name for each in parameters_of(backward)] if backward else []
        has_state = names[:1] == ["self"]
        names = names[has_state:]
        defaults = {at for at, each in enumerate(parameters) if each.default is not inspect.Parameter.empty}
        # Whether backward can know the arguments that have a default.
        self.knows_defaults = has_state or "cache" in roles or defaults <= set(roles)
        by_role = dict(zip(roles, names, strict=False))
        self.upstream = upstream or by_role.get("upstream", "the incoming gradient")
        self.reading = ""  # what backward is given, where that is worth saying
        kept = next((role for role in roles if isinstance(role, Kept)), None)
        predicted = next((role for role in roles if isinstance(role, Predicted)), None)
        if predicted is not None:
            logits = parameters[predicted.place].name
            self.reading = f"{by_role[predicted]} in {backward.__name__} is the {predicted.function} of {logits}"
        elif kept is not None:
            self.reading = f"{by_role[kept]} in {backward.__name__} is self.{kept.attribute} of the forward pass"
        elif "mean" in roles:
            self.reading = "the loss is the mean over the samples, which the forward pass does not take"
        elif "output" in roles:
            self.reading = f"{by_role['output']} in {backward.__name__} is the output of the forward pass"
        elif len(names) > len(roles) and UPSTREAM.fullmatch(names[len(roles)]):
            self.reading = f"{names[len(roles)]}, which is ignored, is 1, its default: the loss is the last node"

    @property
    def names(self) -> list[str]:
        """Of the parameters and of the arrays of the instance."""
        return [*(each.name for each in self.parameters), *self.slots]

    def inputs(self, values: Sequence[Any]) -> dict[str, int]:
        """The inputs that have a gradient, and their places."""
        named = enumerate(zip(self.names, values, strict=True))
        return {name: place for place, (name, value) in named if is_real(value) and place >= self.constructor}

    def forward(self, values: Sequence[Any]) -> list[np.ndarray]:
        return self.run(values)[0]

    def flat(self, values: Sequence[Any]) -> np.ndarray:
        """All outputs as one vector."""
        return np.concatenate([output.ravel().astype(np.float64) for output in self.forward(values)])

    def backward(self, values: Sequence[Any], upstream: list[np.ndarray]) -> Returned:
        return self.run(values, upstream)[1]

    def run(self, values: Sequence[Any], upstream: list[np.ndarray] | None = None) -> tuple[list[np.ndarray], Returned]:
        """Call forward, and backward if there is an upstream gradient.

        Raises:
            RaisedError: the user's code raises.
            RefusedError: the forward pass returned no numbers.
        """
        own = len(self.parameters)
        given, found = [self.given(value) for value in values[:own]], Returned()
        constructed, given, mine = given[: self.constructor], given[self.constructor :], values[self.constructor : own]
        reset_random_numbers(self.namespace)
        with self.watched():
            forward, backward, instance = self.start(constructed)
            reset_generators(vars(instance) if hasattr(instance, "__dict__") else {})
            for name, value in zip(self.slots, values[own:], strict=False):
                set_array(attributes(instance)[name], value)
            returned, cache = forward(*given), None
            if isinstance(returned, tuple) and len(returned) == 2 and "cache" in self.roles:
                returned, cache = returned
            if returned is None:  # the layer keeps its output
                returned = getattr(instance, "output", getattr(instance, "out", None))
        real = self.real_outputs(returned)
        outputs = [self.numbers_of(each) for each in real]
        if "mean" in self.roles:
            if outputs[0].ndim != 1 or max(np.ndim(value) for value in values) < 2:
                raise RefusedError(f"{self.path}: the mean is taken over the losses of samples alone")
            outputs = [outputs[0].mean(keepdims=True)[0]]
        if upstream is None:
            return outputs, found
        handed = [as_given(np.asarray(each), self.flavour) for each in upstream]
        handed = [
            g.to(each.dtype) if hasattr(g, "to") and hasattr(each, "to") else g
            for g, each in zip(handed, real, strict=True)
        ]
        found.damage = self.changed("forward", given, mine, returned)
        by_role: dict[Any, Any] = dict(enumerate(given, self.constructor))
        by_role |= {"upstream": handed[0], "output": returned, "cache": cache, "rate": 1.0}
        for role in self.roles:
            if isinstance(role, Kept):
                by_role[role] = self.kept(role.attribute, instance, returned)
            elif isinstance(role, Predicted) and np.ndim(values[role.place]):
                by_role[role] = as_given(role.of(values[role.place]), self.flavour)
            elif isinstance(role, Predicted):
                raise NotKeptError(f"{self.path}: the logits are no array")
        before, state = arrays_of(instance), random_state()
        with self.watched():
            result = backward(*(by_role[role] for role in self.roles if role != "mean"), *handed[1:])
        found.draws_random_numbers = random_state() != state
        found.damage = found.damage or self.changed("backward", given, mine, returned)
        if not all(map(same, handed, upstream)):
            said = f"{self.backward_name} changes {self.upstream} in place"
            (found.damage if self.is_function else found.remarks).append(said)
        found.left = arrays_of(instance)
        self.assign(found, result, values)
        for name, place_ in self.inputs(values).items():
            gradient = found.gradients.get(name)
            if gradient is not None and name not in self.slots and not self.uses_upstream:
                found.gradients[name] = times_upstream(
                    gradient, upstream[0], outputs[0].shape, np.shape(values[place_])
                )
        for name, label in self.slots.items():
            if label == name:  # a step of the learning rate 1
                found.gradients[name] = before[name] - found.left[name]
            elif found.gradients.get(name) is None:
                found.gradients[name] = found.left.get(label)
        return outputs, found

    def kept(self, name: str, instance: Any, returned: Any) -> Any:
        """What the forward pass of a loss has left under this name, such as its probabilities."""
        value = getattr(instance, name, None)
        array = plain(value)
        if array is None or value is returned or array.ndim == 0:
            raise NotKeptError(f"{self.path}: the forward pass leaves no array {name}")
        return value

    def assign(self, found: Returned, result: Any, values: Sequence[Any]) -> None:
        """Which gradient is that of which input: by number, by key, or by the name of an attribute."""
        own = [each.name for each in self.parameters if not each.of_constructor]
        arrays = [name for name in self.inputs(values) if name in own]
        data = [name for name in arrays if not TARGET.fullmatch(name)] or arrays
        left = {gradient_key(label): array for label, array in found.left.items()}
        parts = [result]
        if isinstance(result, tuple) or (isinstance(result, list) and len(arrays) > 1):
            parts = list(result)
        elif isinstance(result, Mapping):
            keys = {gradient_key(str(key)) or str(key).lower(): value for key, value in result.items()}
            parts = [keys.get(name.lower()) for name in arrays]
        found.count = sum(part is not None for part in parts)
        choices = (arrays, data, own, [*arrays, *self.slots], [*data, *self.slots])
        names = next((names for names in choices if len(names) == len(parts)), data if len(parts) == 1 else None)
        if names is None:
            found.fault = f"{self.backward_name} returns {count(parts, 'gradient')}, and there are "
            found.fault += f"{count(arrays, 'input')}: {', '.join(arrays)}"
            return
        for name, part in zip(names, parts, strict=False):
            found.gradients[name] = None if part is None else plain(part)
            found.has_unknown |= part is not None and name not in self.inputs(values)
            if part is not None and found.gradients[name] is None:
                found.fault = f"{self.backward_name} returns a {type(part).__name__}"
        for name in arrays:
            if found.gradients.get(name) is None:
                found.gradients[name] = left.get("inputs" if name == data[0] and "inputs" in left else name.lower())

    def find_slots(self, values: Sequence[Any], upstream: list[np.ndarray]) -> None:
        """Find the arrays of the instance that backward leaves a gradient for, or changes by a step."""
        initial = self.initial_arrays(values)
        if not initial:
            return
        self.slots = {}
        found = self.backward(values, upstream)
        own = {each.name.lower() for each in self.parameters if not each.of_constructor}
        extra = found.count - len(self.inputs(values))
        if extra > 0 and len(initial) >= extra:
            self.slots = dict.fromkeys(list(initial)[:extra], "")
            return
        for name, array in initial.items():
            key = re.sub(r"\W|^(params?|parameters)(?=\W)", "", name).lower()
            labels = [label for label in found.left if label != name and gradient_key(label) == key]
            if "rate" in self.roles and not np.array_equal(array, found.left.get(name, array)):
                self.slots[name] = name
            elif key not in own and labels:
                self.slots[name] = labels[0]

    def slot_values(self, values: Sequence[Any], rng: np.random.Generator, span: str) -> list[np.ndarray]:
        """Numbers for the arrays of the instance."""
        initial = self.initial_arrays(values) if self.slots else {}
        return [numbers(initial[name].shape, rng, span) for name in self.slots]

    def initial_arrays(self, values: Sequence[Any]) -> dict[str, np.ndarray]:
        with self.watched():
            return arrays_of(self.start([self.given(value) for value in values[: self.constructor]])[2])

    @property
    def backward_name(self) -> str:
        return getattr(self.backward_function, "__name__", "the call")

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """What the user's code raises is a `RaisedError`."""
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                yield
        except RefusedError:
            raise
        except (Exception, SystemExit) as error:
            raise RaisedError(error, self.path) from None

    def given(self, value: Any) -> Any:
        """A copy for the user's code."""
        return as_given(value, self.flavour)

    def real_outputs(self, returned: Any) -> Sequence[Any]:
        """The outputs that have an incoming gradient."""
        return [returned]

    def changed(self, when: str, given: Sequence[Any], values: Sequence[Any], returned: Any) -> list[str]:
        """Which arguments of the forward pass are no longer what they were."""
        names = [each.name for each in self.parameters if not each.of_constructor]
        return [
            f"{when} changes {name} in place"
            for name, now, value in zip(names, given, values, strict=False)
            if isinstance(value, np.ndarray) and not same(now, value)
        ]

    def numbers_of(self, output: Any) -> np.ndarray:
        """An output of the forward pass as an array."""
        array = plain(output)
        if array is None:
            kind = "None" if output is None else f"a {type(output).__name__}"
            raise RefusedError(f"{self.path}: the forward pass returned {kind}; it must return an array of numbers")
        return array


class FunctionOperation(Operation):
    """A `torch.autograd.Function`."""

    is_function = True

    def __init__(self, cls: Any, path: Path, flavour: str) -> None:
        base = torch.autograd.Function
        backward = cls.backward if cls.backward is not base.backward else cls.vjp
        upstream, *_ = [*(each.name for each in parameters_of(backward)[1:]), "grad_output"]
        parameters = parameters_of(cls.forward, 0 if cls.setup_context is not base.setup_context else 1)
        super().__init__(path, parameters, flavour, self.halves, backward, ("upstream",), upstream)
        self.cls, self.reading, self.knows_defaults = cls, "", True
        results: list[Any] = []  # what backward returned
        self.results = results

        # torch refuses a gradient of the wrong shape in words of its own; here its shape is part of the answer.
        class Recorded(cls):
            vjp = base.vjp

            @staticmethod
            def backward(ctx: Any, *gradients: Any) -> tuple[None, ...]:
                results.append(backward(ctx, *gradients))
                return (None,) * len(ctx.needs_input_grad)

        self.recorded = Recorded

    def halves(self, _: Any) -> tuple[Any, Any, None]:
        """Forward, and backward as torch calls it."""
        outputs: list[torch.Tensor] = []

        def forward(*given: Any) -> Any:
            returned = self.recorded.apply(*given)
            outputs.extend(self.real_outputs(returned))
            return returned

        def backward(*upstream: torch.Tensor) -> Any:
            pairs = [(output, g) for output, g in zip(outputs, upstream, strict=True) if output.requires_grad]
            if not pairs:
                raise RefusedError(f"{self.path}: {self.cls.__name__}: no output of the forward pass has a gradient")
            torch.autograd.backward([output for output, _ in pairs], [g for _, g in pairs])
            return self.results.pop()

        return forward, backward, None

    def given(self, value: Any) -> Any:
        # Not leaves: what comes from another layer may be changed in place, a leaf may not.
        copied = as_given(value, self.flavour)
        return copied.requires_grad_().clone() if is_real(value) else copied

    def real_outputs(self, returned: Any) -> Sequence[Any]:
        outputs = returned if isinstance(returned, tuple) else (returned,)
        return [each for each in outputs if isinstance(each, torch.Tensor) and each.is_floating_point()] or outputs

    def changed(self, when: str, given: Sequence[Any], values: Sequence[Any], returned: Any) -> list[str]:
        # A tensor that is marked as dirty is returned itself, and may be changed.
        outputs = returned if isinstance(returned, tuple) else (returned,)
        given = [None if any(each is output for output in outputs) else each for each in given]
        found = super().changed(when, given, values, returned)
        return [f"{each} (without ctx.mark_dirty)" for each in found] if when == "forward" else found

    def assign(self, found: Returned, result: Any, values: Sequence[Any]) -> None:
        result = result if isinstance(result, tuple) else (result,)
        if len(result) < len(values) or any(each is not None for each in result[len(values) :]):
            found.fault = f"backward returns {count(result, 'gradient')}, and forward has {count(values, 'input')}"
            found.fault += f": {', '.join(self.names)}"
        for name, value, gradient in zip(self.names, values, result, strict=False):
            array = found.gradients[name] = None if gradient is None else plain(gradient)
            if gradient is not None and array is None:
                found.fault = f"backward returns a {type(gradient).__name__} as the gradient of {name}"
            elif gradient is not None and not isinstance(value, np.ndarray):
                found.fault = (
                    f"backward returns a gradient for {name} where {name} is {value!r}; it must return None then"
                )


def roles_of(
    backward: Any, parameters: Sequence[Parameter], is_method: bool, kept: Sequence[str] = ()
) -> list[tuple[Any, ...]]:
    """What the arguments of backward may be, the likeliest first; "mean" where a mean of losses is meant.

    Args:
        backward: the user's own.
        parameters: of the constructor and the forward pass.
        is_method: whether it is one of a class.
        kept: the names under which the forward pass leaves its predictions, the likeliest first.
    """
    constructor = sum(each.of_constructor for each in parameters)
    places = {each.name: place for place, each in enumerate(parameters) if place >= constructor}
    given = [each for each in parameters_of(backward) if each.name != "self"]
    is_alone = len(given) == 1
    # Beside the target, a backward pass of a loss may be given what the forward pass has made of its input.
    target = target_place(parameters)
    data_at = data_place(parameters)
    has_target = target is not None and any(places.get(each.name) == target for each in given)
    made = [Predicted(each, data_at) for each in ("softmax", "sigmoid")] if has_target and data_at is not None else []
    choices: list[tuple[Any, ...]] = []
    for name, default, _ in given:
        if name in places:
            choices.append((constructor, "output") if is_alone else (places[name],))
        elif CACHE.fullmatch(name) or RATE.fullmatch(name):
            choices.append(("cache" if CACHE.fullmatch(name) else "rate",))
        elif UPSTREAM.fullmatch(name) and default is not inspect.Parameter.empty:
            choices.append(("upstream", "default"))  # the 1 that a loss is called with, as the last node
        elif default is not inspect.Parameter.empty:
            break
        elif UPSTREAM.fullmatch(name):
            is_prediction = name == "dvalues" and not is_alone
            others = (data_place(parameters),) if is_prediction else (constructor, "output")
            left = [Kept(each) for each in kept] if is_prediction and has_target else []
            choices.append((*left, "upstream", *(others if is_prediction or (is_alone and not is_method) else ())))
            choices[-1] += tuple(made) if is_prediction else ()
        else:
            data: tuple[Any, ...] = ("output", constructor) if OUTPUT.fullmatch(name) else (constructor, "output")
            if is_method and backward.__name__.startswith("back"):
                data = ("upstream", *data)
            left = [Kept(each) for each in (name, *kept) if each in kept] if has_target else []
            is_predicted = KEPT.fullmatch(name) or OUTPUT.fullmatch(name)
            choices.append((*left, *(data if is_alone else (*data, "upstream")), *(made if is_predicted else ())))
    found = [roles for roles in itertools.product(*choices) if len(set(roles)) == len(roles)][:6]
    found = [tuple(itertools.takewhile(lambda role: role != "default", roles)) for roles in found]
    return [*found, *((*roles, "mean") for roles in found if not {"upstream", "cache"} & set(roles))]


def times_upstream(
    gradient: np.ndarray, upstream: np.ndarray, output: tuple[int, ...], shape: tuple[int, ...]
) -> np.ndarray:
    """A derivative times the upstream gradient: elementwise, by the Jacobian, or of each sample's number."""
    if output and gradient.shape == (*output, *shape):
        return np.tensordot(upstream, gradient, len(output))
    if gradient.ndim > upstream.ndim > 0 and gradient.shape[: upstream.ndim] == upstream.shape:
        return gradient * upstream.reshape(upstream.shape + (1,) * (gradient.ndim - upstream.ndim))
    try:
        return gradient * upstream
    except ValueError:
        return gradient


def count(things: Sequence[Any], word: str) -> str:
    """So many of them, in words."""
    return f"{len(things)} {word}{'s' if len(things) != 1 else ''}"
