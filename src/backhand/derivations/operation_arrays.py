"""The arrays and the random numbers of the user's code: copied, compared, written and drawn anew."""

import copy
import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch


def reset_random_numbers(namespace: Mapping[str, Any]) -> None:
    """Every call draws the same random numbers, so that a dropout mask is the same in each of them."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    reset_generators(namespace)


def reset_generators(namespace: Mapping[str, Any]) -> None:
    """The same for generators that the user's module or instance has."""
    for value in namespace.values():
        if isinstance(value, np.random.Generator):
            value.bit_generator.state = type(value.bit_generator)(0).state
        elif isinstance(value, torch.Generator):
            value.manual_seed(0)


def random_state() -> tuple[Any, ...]:
    """Something that differs after random numbers were drawn."""
    state: Any = np.random.get_state()
    return random.getstate(), state[2], state[1].tobytes(), torch.get_rng_state().numpy().tobytes()


def as_given(value: Any, flavour: str) -> Any:
    """A copy for the user's code."""
    if not isinstance(value, np.ndarray | np.generic):
        return copy.deepcopy(value)
    if flavour.startswith("torch"):
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


def is_real(value: Any) -> bool:
    """Whether it is an array of real numbers, which have gradients."""
    return isinstance(value, np.ndarray | np.floating) and value.dtype.kind == "f"


def same(now: Any, value: Any) -> bool:
    """Whether the numbers are still those."""
    array = plain(now)
    return array is None or (
        array.shape == np.shape(value) and np.array_equal(array, np.asarray(value).astype(array.dtype), equal_nan=True)
    )
