"""Calls a rule before it trains: what it asks for is drawn, and what is no rule is refused."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from backhand.calculus.backpropagation import Network, check_delta
from backhand.calculus.feedback import TrialLayer
from backhand.errors import UserError


@dataclass(frozen=True)
class Trial:
    """Calls a network's rule for its hidden layers, as for a batch of two samples.

    Args:
        network: the network, which has a rule.
        settings: the rule's, by name.
        weights: of all layers, (…, n, m) each.
        draw: makes a tensor of a shape.
        generator: where `draw` takes its random numbers from; torch's global generator if None.
    """

    network: Network
    settings: Mapping[str, float]
    weights: Sequence[Tensor]
    draw: Callable[[Sequence[int]], Tensor]
    generator: torch.Generator | None

    def tensors(self, i: int) -> dict[str, tuple[Tensor, bool]]:
        """The tensors that the rule asks for in the hidden layer i, and whether each is trained, by name.

        The rule is called for a batch, for another one, and for the first one again with the same random numbers: a
        rule that remembers a call gives other numbers then, or has drawn other random numbers.

        Raises:
            UserError: the rule returns no δ, or one that is not finite; it changes its arguments; it remembers
                something between calls.
        """
        before = self._random_states()
        delta, found, layer = self._call(i)
        if taken := [name for name in found if hasattr(torch.nn.Module(), name) or name == "names"]:
            raise UserError(
                f"{layer.where}: {taken[0]}: torch.nn.Module has an attribute of that name; rename the tensor"
            )
        after = self._random_states()
        self._call(i, scale=0.5)
        self._set_random_states(before)
        again, found_again, _ = self._call(i)
        if difference := asked_differently(found, found_again):
            raise UserError(f"{layer.where}: the rule must ask for the same tensors in every call; it {difference}")
        if not (again.equal(delta) and all(map(torch.equal, self._random_states(), after))):
            raise UserError(
                f"{layer.where}: the rule gives other numbers for the same arguments; it must not remember anything "
                "between calls (audits and other jobs call it too), and its random numbers must be torch's"
            )
        return found

    def _call(self, i: int, scale: float = 1.0) -> tuple[Tensor, dict[str, tuple[Tensor, bool]], TrialLayer]:
        """A copy of the δ that the rule returns, and the tensors that it asks for."""
        rule, g, above = self.network.rule, self.network.g(i), self.weights[i + 1]
        assert rule is not None
        z = _batch_of_two(above.shape[-2], above)
        slope = g.derivative(z).expand(z.shape)
        rows = _batch_of_two(above.shape[-1], above), above, slope, _batch_of_two(self.weights[-1].shape[-1], above), z
        given = [scale * each for each in rows]
        delta, W, slope, delta_O, z = (each.clone() for each in given)
        layer = TrialLayer(i, delta_O, W.clone(), self.draw, z if g.flat else None, self.settings, rule.where)
        try:
            returned = rule.hidden_delta(delta, W, slope, layer)
        except UserError:
            raise
        except Exception as error:  # whatever a function of the user's raises
            is_of_z = not g.flat and "'NoneType'" in str(error)
            why = "; layer.z is None here, since g′ is not 0 everywhere" if is_of_z else ""
            raise UserError(f"{layer.where}: {type(error).__name__}: {error}{why}") from error
        if not (all(map(torch.equal, (delta, W, slope, delta_O, z), given)) and layer.is_untouched):
            raise UserError(f"{layer.where}: the rule changes its arguments; it must return a new tensor")
        if not bool(check_delta(returned, delta, z, layer).isfinite().all()):
            raise UserError(f"{layer.where}: the rule returned a δ that is not finite")
        return returned.detach().clone(), layer.found, layer

    def _random_states(self) -> list[Tensor]:
        """The states of the generators that the rule and `draw` may use."""
        module, arguments = self._device_module()
        states = [torch.get_rng_state()]
        if self.generator is not None:
            states.append(self.generator.get_state())
        return states if module is None else [*states, module.get_rng_state(*arguments)]

    def _set_random_states(self, states: Sequence[Tensor]) -> None:
        module, arguments = self._device_module()
        torch.set_rng_state(states[0])
        if self.generator is not None:
            self.generator.set_state(states[1])
        if module is not None:
            module.set_rng_state(states[-1], *arguments)

    def _device_module(self) -> tuple[Any, tuple[torch.device, ...]]:
        """`torch.cuda` or the like with the arguments of its random state; None on the CPU."""
        device = self.weights[0].device
        if device.type == "cpu":
            return None, ()
        return torch.get_device_module(device), () if device.type == "mps" else (device,)


def asked_differently(first: Iterable[str], second: Iterable[str]) -> str:
    """How the tensors that a rule asks for differ between two calls; empty if they do not."""
    first, second = list(first), list(second)
    if missing := [name for name in first if name not in second]:
        return f"asked for {missing[0]} in the first call and not in the second"
    if new := [name for name in second if name not in first]:
        return f"asked for {new[0]} in the second call and not in the first"
    return ""


def _batch_of_two(units: int, like: Tensor) -> Tensor:
    """Numbers from -1 to 1, (…, 2, units), with the run axis, the type and the device of a weight."""
    numbers = torch.linspace(-1, 1, 2 * units, dtype=like.dtype, device=like.device)
    return numbers.view(2, units).expand(*like.shape[:-2], 2, units).contiguous()
