"""Numbers that are not finite: a point that training can be put back to, and which quantity was the first such one."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from backhand.calculus.backpropagation import loss_value
from backhand.calculus.mlp import MLP
from backhand.data.batches import Batch
from backhand.training.flow import flow, layer_names

# What helps against numbers that grow, as the reason of a run's end has it.
ADVICE = "try a smaller optimizer.lr"


class Point:
    """A copy of what a step changes: parameters, the optimizer's state, gradients that wait for more batches, counters.

    Putting it back is done in place, for a compiled step holds on to the very tensors, and it can be done again.

    Args:
        module: the `LightningMLP` that is trained.
    """

    def __init__(self, module: Any) -> None:
        self.module = module
        self.parameters = list(module.parameters())
        self.kept: list[Tensor] = []
        self.gradients: list[Tensor | None] = []

    @torch.no_grad()
    def mark(self) -> None:
        """Copy everything as it is now."""
        now = self._tensors()
        if len(now) != len(self.kept):  # the first step makes the optimizer's state
            self.kept = [torch.empty_like(each) for each in now]
        torch._foreach_copy_(self.kept, now)
        gradients = (each.grad for each in self.parameters)
        self.gradients = [None if each is None else each.clone() for each in gradients]
        module = self.module
        self.steps = self._progress.state_dict()
        self.counters = module._accumulated, module._spoilt, module.skipped
        self.audits = None if module.audit is None else module.audit.memory()
        self.scale = None if self._scaler is None else self._scaler.state_dict()

    @torch.no_grad()
    def put_back(self) -> None:
        """Make everything what it was."""
        now = self._tensors()
        torch._foreach_copy_(now[: len(self.kept)], self.kept)
        for each in now[len(self.kept) :]:
            each.zero_()  # as state that is made by the first step begins
        for parameter, gradient in zip(self.parameters, self.gradients, strict=True):
            parameter.grad = None if gradient is None else gradient.clone()
        module = self.module
        self._progress.load_state_dict(self.steps)
        module._accumulated, module._spoilt, module.skipped = self.counters
        if self.audits is not None:
            module.audit.go_back_to(self.audits)
        if self.scale is not None:
            self._scaler.load_state_dict(self.scale)

    def _tensors(self) -> list[Tensor]:
        state = self.module._optimizer.state
        kept = [each for one in self.parameters for each in state.get(one, {}).values() if isinstance(each, Tensor)]
        return [each.detach() for each in self.parameters] + kept

    @property
    def _progress(self) -> Any:
        return self.module.trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress

    @property
    def _scaler(self) -> Any:
        return getattr(self.module.trainer.precision_plugin, "scaler", None)


def extremes(tensors: Iterable[Tensor]) -> list[Tensor]:
    """The smallest and the largest number of each, (); they are finite if, and only if, all numbers are.

    Of a weight of 784 × 1024 it takes 80 µs where `isfinite().all()` takes 2 ms.
    """
    return [extreme for each in tensors for extreme in torch.aminmax(each)]


def first_not_finite(
    model: MLP, loss: str, parameters: dict[str, Any], batch: Batch, lr: float
) -> tuple[int, str] | None:
    """The first quantity of a step on this batch that is not finite, in the order that they are computed in.

    Args:
        model: the network as it was before the step.
        loss: a key of `LOSSES`.
        parameters: the loss's own.
        batch: inputs (B, D), targets and the samples' weights.
        lr: the learning rate, which is told along with it.

    Returns:
        Its place in that order, and a description; None where all are finite.
    """
    quantities = _quantities(model, loss, parameters, batch)
    before = ""
    for place, (name, t) in enumerate(quantities):
        bad = ~torch.isfinite(t)
        if bool(bad.any()):
            reason = f"{name} is not finite ({float(t[bad][0])}{before}; learning rate {lr:.3g})"
            given = name.startswith(("the input", "the target", "the sample", "the parameter"))
            return place, reason if given else f"{reason}; {ADVICE}"
        before = f", after {name.removeprefix('the ')} of up to {float(t.abs().max()):.2g}"
    return None


def _quantities(model: MLP, loss: str, parameters: dict[str, Any], batch: Batch) -> list[tuple[str, Tensor]]:
    found = flow(model, loss, parameters, batch)
    criterion, weight = model.criterion(loss, parameters, batch.x)
    value = loss_value(model.network, criterion, found.preactivations[-1], batch.y, weight, batch.weight)
    names = layer_names(len(found.deltas))
    theta = [(name, each.detach()) for name, each in model.named_parameters()]
    quantities = [("the input", batch.x), ("the target", batch.y)]
    if batch.weight is not None:
        quantities.append(("the sample weight", batch.weight))
    for i, layer in enumerate(names):
        quantities += [(f"the parameter {name}", each) for name, each in theta[2 * i : 2 * i + 2]]
        quantities.append((f"z of {layer}", found.preactivations[i]))
        quantities += [(f"h of {layer}", each) for each in found.hidden[i : i + 1]]
    quantities.append(("the loss", value.float()))  # as it is noted
    for i in reversed(range(len(names))):
        quantities.append((f"the delta of {names[i]}", found.deltas[i]))
        own = zip(theta[2 * i : 2 * i + 2], found.gradients[2 * i : 2 * i + 2], strict=True)
        quantities += [(f"the gradient of {name}", gradient) for (name, _), gradient in own]
    return quantities
