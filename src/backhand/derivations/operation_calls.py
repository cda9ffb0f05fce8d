"""The two ways to call an operation: a `torch.autograd.Function`, and a pair of functions or methods."""

from __future__ import annotations

import contextlib
import copy
import inspect
import itertools
import random
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from backhand.derivations.operation_shapes import TARGET, Parameter, data_place, numbers, parameters_of

UPSTREAM = re.compile(
    r"g|v|d_?(out|next|[yzahl])\w*|d_?values?|delta\w*|grads?|gy|g_?out|\w+_gradients?|grad_?\w+|up\w*|incoming\w*",
    re.I,
)
OUTPUT = re.compile(r"a|y|out\w*|s|h|sig\w*|act\w*|f_?x|y_?hat|y_pred|result", re.I)
CACHE = re.compile(r"caches?|ctx|saved|memo|context", re.I)
RATE = re.compile(r"lr|eta|learning_?rate|step_?size", re.I)
GRADIENT_NAME = re.compile(r"grad|prime|deriv|back|(^|_)d([A-Z_]|$)", re.I)
FORWARD = ("forward", "function", "f", "func", "fn", "__call__", "activate", "activation", "compute", "loss", "value")
BACKWARD = ("backward", "gradient", "derivative", "grad", "prime", "backprop", "f_prime", "deriv", "df", "delta")


class CannotJudgeError(Exception):
    """Why the operation cannot be judged, in one line."""


class RaisedError(Exception):
    """What the user's code raised: where, and in which words."""

    def __init__(self, error: BaseException, path: Path) -> None:
        own = {str(path), str(path.resolve())}
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in own]
        text = " ".join(str(error).split())
        self.where = f"{path}:{frames[-1].lineno}" if frames else str(path)
        self.line = (frames[-1].line or "") if frames else ""
        self.functions = [frame.name for frame in frames]
        self.said = f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__
        super().__init__(f"{self.where}: {self.said}")


@dataclass
class Answer:
    """What backward returned: by input the gradient, and what else was seen."""

    gradients: dict[str, np.ndarray | None] = field(default_factory=dict)
    damage: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    fault: str = ""  # the number of gradients is wrong, or they are no numbers
    draws_random_numbers: bool = False
    has_unknown: bool = False  # a gradient for what was no array


class Operation:
    """An operation and one way to call it."""

    uses_upstream = True
    upstream = "grad_output"  # its name in the user's backward
    reading = ""  # what backward is given, where that is worth saying
    sums_itself = False  # the caller sums a gradient over broadcast dimensions
    backward_function: Any = None

    def __init__(self, path: Path, parameters: list[Parameter], flavour: str) -> None:
        self.path, self.parameters, self.flavour = path, parameters, flavour
        self.slots: dict[str, str] = {}  # arrays of an instance, and where backward leaves their gradients

    @property
    def knows_defaults(self) -> bool:
        """Whether backward can know the arguments that have a default."""
        return True

    @property
    def names(self) -> list[str]:
        return [*(each.name for each in self.parameters), *self.slots]

    def inputs(self, values: Sequence[Any]) -> dict[str, int]:
        """The inputs that have a gradient, and their places."""
        constructor = sum(each.of_constructor for each in self.parameters)
        named = enumerate(zip(self.names, values, strict=True))
        return {name: place for place, (name, value) in named if is_real(value) and place >= constructor}

    def forward(self, values: Sequence[Any]) -> list[np.ndarray]:
        raise NotImplementedError

    def backward(self, values: Sequence[Any], upstream: list[np.ndarray]) -> Answer:
        raise NotImplementedError

    def slot_values(self, values: Sequence[Any], rng: np.random.Generator, span: str) -> list[np.ndarray]:
        """Numbers for the arrays of an instance."""
        return []

    def flat(self, values: Sequence[Any]) -> np.ndarray:
        """All outputs as one vector."""
        return np.concatenate([output.ravel().astype(np.float64) for output in self.forward(values)])

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """What the user's code raises is a `RaisedError`."""
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                yield
        except (RaisedError, CannotJudgeError):
            raise
        except (Exception, SystemExit) as error:
            raise RaisedError(error, self.path) from None

    def changed(self, when: str, given: Sequence[Any], values: Sequence[Any]) -> list[str]:
        """Which arguments of the forward pass are no longer what they were."""
        names = [each.name for each in self.parameters if not each.of_constructor]
        return [
            f"{when} changes {name} in place"
            for name, now, value in zip(names, given, values, strict=False)
            if isinstance(value, np.ndarray) and not same(now, value)
        ]


class FunctionOperation(Operation):
    """A `torch.autograd.Function`."""

    sums_itself = True

    def __init__(self, cls: Any, path: Path, flavour: str) -> None:
        import torch

        base = torch.autograd.Function
        skip = 0 if cls.setup_context is not base.setup_context else 1
        super().__init__(path, parameters_of(cls.forward, skip), flavour)
        self.cls = cls
        self.backward_function = cls.backward if cls.backward is not base.backward else cls.vjp
        with contextlib.suppress(TypeError, ValueError, IndexError):
            self.upstream = list(inspect.signature(self.backward_function).parameters)[1]
        self.namespace = getattr(inspect.unwrap(cls.forward), "__globals__", {})

    def forward(self, values: Sequence[Any]) -> list[np.ndarray]:
        import torch

        given = [as_given(value, self.flavour) for value in values]
        reset_random_numbers(self.namespace)
        with self.watched(), torch.no_grad():
            returned = self.cls.apply(*given)
        outputs = [output_of(each, self.path) for each in (returned if isinstance(returned, tuple) else (returned,))]
        return [output for output in outputs if output.dtype.kind == "f"] or outputs

    def backward(self, values: Sequence[Any], upstream: list[np.ndarray]) -> Answer:
        import torch

        seen: list[Any] = []
        answer, backward, upstream_name = Answer(), self.backward_function, self.upstream

        # torch refuses a gradient of the wrong shape in words of its own; here its shape is part of the answer.
        class Watched(self.cls):  # type: ignore[name-defined]
            @staticmethod
            def backward(ctx: Any, *gradients: Any) -> tuple[None, ...]:
                given = [(g, g.clone()) for g in gradients if g is not None]
                seen.append(backward(ctx, *gradients))
                if not all(torch.equal(g, before) for g, before in given):
                    answer.damage.append(f"backward changes {upstream_name} in place")
                return (None,) * len(values)

        given = [as_given(value, self.flavour) for value in values]
        # Not leaves: what comes from another layer may be changed in place, a leaf may not.
        given = [v.requires_grad_().clone() if is_real(value) else v for v, value in zip(given, values, strict=True)]
        reset_random_numbers(self.namespace)
        with self.watched():
            returned = Watched.apply(*given)
        outputs = returned if isinstance(returned, tuple) else (returned,)
        # A tensor that is marked as dirty is returned itself, and may be changed.
        given = [None if any(each is output for output in outputs) else each for each in given]
        damage = self.changed("forward", given, values)
        answer.damage += [f"{each} (without ctx.mark_dirty)" for each in damage]
        real = [output for output in outputs if isinstance(output, torch.Tensor) and output.is_floating_point()]
        if not any(output.requires_grad for output in real):
            raise CannotJudgeError(f"{self.path}: {self.cls.__name__}: no output of the forward pass has a gradient")
        handed = [as_given(np.asarray(g), self.flavour).to(o.dtype) for o, g in zip(real, upstream, strict=True)]
        differentiable = [(o, g) for o, g in zip(real, handed, strict=True) if o.requires_grad]
        state = random_state()
        with self.watched():
            torch.autograd.backward([o for o, _ in differentiable], [g for _, g in differentiable])
        answer.draws_random_numbers = random_state() != state
        answer.damage += [] if damage else self.changed("backward", given, values)
        returned = seen[0] if isinstance(seen[0], tuple) else (seen[0],)
        if len(returned) < len(values) or any(each is not None for each in returned[len(values) :]):
            answer.fault = f"backward returns {count(returned, 'gradient')}, and forward has {count(values, 'input')}"
            answer.fault += f": {', '.join(self.names)}"
        for name, value, gradient in zip(self.names, values, returned, strict=False):
            array = answer.gradients[name] = None if gradient is None else plain(gradient)
            if gradient is not None and array is None:
                answer.fault = f"backward returns a {type(gradient).__name__} as the gradient of {name}"
            elif gradient is not None and not isinstance(value, np.ndarray):
                answer.fault = (
                    f"backward returns a gradient for {name} where {name} is {value!r}; it must return None then"
                )
        return answer


class PlainOperation(Operation):
    """Two functions, or the methods of an instance, in numpy or torch.

    Args:
        start: gives the forward pass, the backward pass and the instance, for the arguments of the constructor.
        roles: what each argument of backward is: the place of an input, "upstream", "output", "cache", or "rate".
    """

    def __init__(
        self,
        start: Callable[[Sequence[Any]], tuple[Any, Any, Any]],
        path: Path,
        parameters: list[Parameter],
        flavour: str,
        backward: Any,
        roles: tuple[Any, ...],
    ) -> None:
        super().__init__(path, parameters, flavour)
        self.start, self.roles, self.backward_function = start, roles, backward
        self.uses_upstream = "upstream" in roles
        self.constructor = sum(each.of_constructor for each in parameters)
        self.left: dict[str, np.ndarray] = {}  # the instance's arrays after the last backward
        self.returned: list[Any] = []
        self.namespace = getattr(inspect.unwrap(backward), "__globals__", {})
        names = [each.name for each in parameters_of(backward)]
        self.has_state = names[:1] == ["self"]
        names = names[self.has_state :]
        by_role = dict(zip(roles, names, strict=False))
        self.upstream = by_role.get("upstream", "")
        if "mean" in roles:
            self.reading = "the loss is the mean over the samples, which the forward pass does not take"
        elif "output" in roles:
            self.reading = f"{by_role['output']} in {backward.__name__} is the output of the forward pass"
        elif len(names) > len(roles) and "mean" not in roles and UPSTREAM.fullmatch(names[len(roles)]):
            self.reading = f"{names[len(roles)]}, which is ignored, is 1, its default: the loss is the last node"

    @property
    def knows_defaults(self) -> bool:
        places = {place for place, each in enumerate(self.parameters) if each.default is not inspect.Parameter.empty}
        return self.has_state or "cache" in self.roles or places <= set(self.roles)

    def run(self, values: Sequence[Any], upstream: np.ndarray | None = None) -> tuple[np.ndarray, Answer]:
        """Call forward, and backward if there is an upstream gradient."""
        given = [as_given(value, self.flavour) for value in values[: len(self.parameters)]]
        reset_random_numbers(self.namespace)
        answer, mine = Answer(), values[self.constructor : len(self.parameters)]
        with self.watched():
            forward, backward, instance = self.start(given[: self.constructor])
            reset_generators(vars(instance) if hasattr(instance, "__dict__") else {})
            for name, value in zip(self.slots, values[len(self.parameters) :], strict=False):
                set_array(attributes(instance)[name], value)
            given = given[self.constructor :]
            returned, cache = forward(*given), None
            if isinstance(returned, tuple) and len(returned) == 2 and "cache" in self.roles:
                returned, cache = returned
            if returned is None:  # the layer keeps its output
                returned = getattr(instance, "output", getattr(instance, "out", None))
        output = output_of(returned, self.path)
        if "mean" in self.roles:
            if output.ndim != 1 or max(np.ndim(value) for value in values) < 2:
                raise CannotJudgeError(f"{self.path}: the mean is taken over the losses of samples alone")
            output = output.mean(keepdims=True)[0]
        if upstream is None:
            return output, answer
        handed = as_given(np.asarray(upstream), self.flavour)
        handed = handed.to(returned.dtype) if hasattr(handed, "to") and hasattr(returned, "to") else handed
        answer.damage = self.changed("forward", given, mine)
        by_role = {"upstream": handed, "output": returned, "cache": cache, "rate": 1.0}
        before, state = arrays_of(instance), random_state()
        with self.watched():
            result = backward(
                *(by_role[r] if isinstance(r, str) else given[r - self.constructor] for r in self.roles if r != "mean")
            )
        answer.draws_random_numbers = random_state() != state
        if not same(handed, upstream):
            answer.remarks = [f"{self.backward_function.__name__} changes {self.upstream} in place"]
        answer.damage = answer.damage or self.changed("backward", given, mine)
        self.left = arrays_of(instance)
        self.assign(answer, result, values)
        for name, place in self.inputs(values).items():
            gradient = answer.gradients.get(name)
            if gradient is not None and name not in self.slots and not self.uses_upstream:
                shape = np.shape(values[place])
                answer.gradients[name] = times_upstream(gradient, np.asarray(upstream), output.shape, shape)
        for name, label in self.slots.items():
            if label == name:  # a step of the learning rate 1
                answer.gradients[name] = before[name] - self.left[name]
            elif answer.gradients.get(name) is None:
                answer.gradients[name] = self.left.get(label)
        return output, answer

    def forward(self, values: Sequence[Any]) -> list[np.ndarray]:
        return [self.run(values)[0]]

    def backward(self, values: Sequence[Any], upstream: list[np.ndarray]) -> Answer:
        return self.run(values, upstream[0])[1]

    def assign(self, answer: Answer, result: Any, values: Sequence[Any]) -> None:
        """Which gradient is that of which input: by number, by key, or by the name of an attribute."""
        own = [each.name for each in self.parameters if not each.of_constructor]
        arrays = [name for name in self.inputs(values) if name in own]
        data = [name for name in arrays if not TARGET.fullmatch(name)] or arrays
        left = {gradient_key(label): array for label, array in self.left.items()}
        parts = [result]
        if isinstance(result, tuple) or (isinstance(result, list) and len(arrays) > 1):
            parts = list(result)
        elif isinstance(result, Mapping):
            keys = {gradient_key(str(key)) or str(key).lower(): value for key, value in result.items()}
            parts = [keys.get(name.lower()) for name in arrays]
        self.returned = parts
        choices = (arrays, data, own, [*arrays, *self.slots], [*data, *self.slots])
        names = next((names for names in choices if len(names) == len(parts)), data if len(parts) == 1 else None)
        if names is None:
            answer.fault = f"{self.backward_function.__name__} returns {count(parts, 'gradient')}, and there are "
            answer.fault += f"{count(arrays, 'input')}: {', '.join(arrays)}"
            return
        for name, part in zip(names, parts, strict=False):
            answer.gradients[name] = None if part is None else plain(part)
            answer.has_unknown |= part is not None and name not in self.inputs(values)
            if part is not None and answer.gradients[name] is None:
                answer.fault = f"{self.backward_function.__name__} returns a {type(part).__name__}"
        for name in arrays:
            if answer.gradients.get(name) is None:
                own_name = "inputs" if name == data[0] and "inputs" in left else name.lower()
                answer.gradients[name] = left.get(own_name)

    def find_slots(self, values: Sequence[Any], upstream: np.ndarray) -> None:
        """Find the arrays of the instance that backward leaves a gradient for, or changes by a step."""
        with self.watched():
            initial = arrays_of(self.start([as_given(value, self.flavour) for value in values[: self.constructor]])[2])
        self.slots = {}
        self.run(values, upstream)
        own = {each.name.lower() for each in self.parameters if not each.of_constructor}
        extra = sum(each is not None for each in self.returned) - len(self.inputs(values))
        if extra > 0 and len(initial) >= extra:
            self.slots = dict.fromkeys(list(initial)[:extra], "")
            return
        for name, array in initial.items():
            key = re.sub(r"\W|^(params?|parameters)(?=\W)", "", name).lower()
            labels = [label for label in self.left if label != name and gradient_key(label) == key]
            if "rate" in self.roles and not np.array_equal(array, self.left.get(name, array)):
                self.slots[name] = name
            elif key not in own and labels:
                self.slots[name] = labels[0]

    def slot_values(self, values: Sequence[Any], rng: np.random.Generator, span: str) -> list[np.ndarray]:
        if not self.slots:
            return []
        with self.watched():
            found = arrays_of(self.start([as_given(value, self.flavour) for value in values[: self.constructor]])[2])
        return [numbers(found[name].shape, rng, span) for name in self.slots]


def roles_of(backward: Any, parameters: Sequence[Parameter], is_method: bool) -> list[tuple[Any, ...]]:
    """What the arguments of backward may be, the likeliest first; "mean" where a mean of losses is meant."""
    constructor = sum(each.of_constructor for each in parameters)
    places = {each.name: place for place, each in enumerate(parameters) if place >= constructor}
    given = [each for each in parameters_of(backward) if each.name != "self"]
    is_alone = len(given) == 1
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
            choices.append(("upstream", *(others if is_prediction or (is_alone and not is_method) else ())))
        else:
            data: tuple[Any, ...] = ("output", constructor) if OUTPUT.fullmatch(name) else (constructor, "output")
            if is_method and backward.__name__.startswith("back"):
                data = ("upstream", *data)
            choices.append(data if is_alone else (*data, "upstream"))
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


def reset_random_numbers(namespace: Mapping[str, Any]) -> None:
    """Every call draws the same random numbers, so that a dropout mask is the same in each of them."""
    random.seed(0)
    np.random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)
    reset_generators(namespace)


def reset_generators(namespace: Mapping[str, Any]) -> None:
    """The same for generators that the user's module or instance has."""
    for value in namespace.values():
        if isinstance(value, np.random.Generator):
            value.bit_generator.state = type(value.bit_generator)(0).state
        elif "torch" in sys.modules and isinstance(value, sys.modules["torch"].Generator):
            value.manual_seed(0)


def random_state() -> tuple[Any, ...]:
    """Something that differs after random numbers were drawn."""
    torch = sys.modules.get("torch")
    state: Any = np.random.get_state()
    of_torch = None if torch is None else torch.get_rng_state().numpy().tobytes()
    return random.getstate(), state[2], state[1].tobytes(), of_torch


def as_given(value: Any, flavour: str) -> Any:
    """A copy for the user's code."""
    if not isinstance(value, np.ndarray | np.generic):
        return copy.deepcopy(value)
    if flavour.startswith("torch"):
        import torch

        tensor = torch.as_tensor(np.array(value))
        return tensor.float() if flavour == "torch float32" and tensor.is_floating_point() else tensor
    return np.array(value)[()]


def plain(value: Any) -> np.ndarray | None:
    """The numbers as an array, None for what is none."""
    try:
        array = np.array(value.detach().cpu().numpy() if hasattr(value, "detach") else value)
    except (ValueError, TypeError):
        return None
    return array if array.dtype.kind in "fiub" else None


def output_of(returned: Any, path: Path) -> np.ndarray:
    """What forward returned as an array.

    Raises:
        CannotJudgeError: it is none.
    """
    array = plain(returned)
    if array is None:
        kind = "None" if returned is None else f"a {type(returned).__name__}"
        raise CannotJudgeError(f"{path}: the forward pass returned {kind}; it must return an array of numbers")
    return array


def attributes(instance: Any) -> dict[str, Any]:
    """The arrays of real numbers among the attributes of an instance, and in its dicts and lists."""
    found: dict[str, Any] = {}
    for name, value in (vars(instance) if hasattr(instance, "__dict__") else {}).items():
        pairs = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else None
        found |= {name: value} if pairs is None else {f"{name}[{key}]": each for key, each in pairs}
    return {name: value for name, value in found.items() if hasattr(value, "shape") and is_real(plain(value))}


def arrays_of(instance: Any) -> dict[str, np.ndarray]:
    """Copies of them."""
    copies = {name: plain(value) for name, value in attributes(instance).items()}
    return {name: value for name, value in copies.items() if value is not None}


def set_array(array: Any, value: np.ndarray) -> None:
    """Write into the array itself: it may have a second name."""
    if hasattr(array, "detach"):
        array = array.detach()
        array.copy_(as_given(value, "torch"))
    else:
        array[...] = value


def gradient_key(name: str) -> str | None:
    """The name of what it is the gradient of, where the name says that it is one: of dW and grads[W], w."""
    container, bracket, key = name.lower().partition("[")
    key = re.sub(r"\W", "", key) if bracket else container
    match = re.fullmatch(r"(?:d|grads?|gradients?)_?(\w+)|(\w+?)_?(?:grads?|gradients?)", key)
    stripped = next((group for group in match.groups() if group), None) if match else None
    if bracket:
        return (stripped or key) if re.fullmatch(r"d?_?(grads?|gradients?|params?)", container) else None
    return stripped


def is_real(value: Any) -> bool:
    """Whether it is an array of real numbers, which have gradients."""
    return isinstance(value, np.ndarray | np.floating) and value.dtype.kind == "f"


def same(now: Any, value: Any) -> bool:
    """Whether the numbers are still those."""
    array = plain(now)
    return array is None or (
        array.shape == np.shape(value) and np.array_equal(array, np.asarray(value).astype(array.dtype), equal_nan=True)
    )


def count(things: Sequence[Any], word: str) -> str:
    """So many of them, in words."""
    return f"{len(things)} {word}{'s' if len(things) != 1 else ''}"
