"""Steps whose loss or gradients are not finite: they are skipped, and the run ends or continues."""

import logging
import math
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from backhand.calculus.activations import upcast
from backhand.calculus.backpropagation import loss_value
from backhand.calculus.mlp import MLP
from backhand.data.batches import Batch
from backhand.training.decisions import ADVICE, Ending
from backhand.training.layer_stats import layer_names, layer_quantities
from backhand.training.optimizers import RunsOptimizer

log = logging.getLogger(__name__)


class OnNan(Callback):
    """Skips the update of a step whose loss or gradients are not finite; it still counts as a step.

    It checks the gradients just before the optimizer uses them: averaged over processes, unscaled, not yet clipped.
    With a gradient scaler (half precision), overflow is left to the scaler.

    Args:
        policy: `stop` ends the run at such a step, `skip` continues with the next step.
        runs: the number of runs.

    Attributes:
        skipped: how many steps of each run were skipped.
        warnings: for each run of a population, its first warning with `skip`; a single run's is logged.
    """

    def __init__(self, policy: str, runs: int) -> None:
        self.policy, self.runs = policy, runs
        self.begin()

    def begin(self) -> None:
        self.skipped, self._warned = [0] * self.runs, set[int]()
        self.warnings: list[str | None] = [None] * self.runs
        self._reasons: dict[int, str] = {}  # by run, while gradients are accumulated

    def state_dict(self) -> dict[str, Any]:
        return {"skipped": self.skipped, "warnings": self.warnings}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.skipped, self.warnings = list(state_dict["skipped"]), list(state_dict["warnings"])

    def on_after_backward(self, trainer: L.Trainer, pl_module: Any) -> None:
        """With accumulated gradients, describe the first batch that is not finite while it is still available."""
        if trainer.accumulate_grad_batches == 1 or _is_scaled(trainer):
            return
        bad = _in_any_process(trainer, ~_total(pl_module).isfinite().cpu())
        for run in bad.reshape(-1).nonzero()[:, 0].tolist():
            if run in self._reasons:  # the gradients of an earlier batch are in the sum
                bad.view(-1)[run] = not math.isfinite(pl_module.metrics["train"].pending["loss"][-1].reshape(-1)[run])
            else:
                self._reasons[run] = self._describe(trainer, pl_module, run)
        if bool(bad.any()):
            pl_module.metrics["train"].drop(bad)

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: Any, optimizer: torch.optim.Optimizer) -> None:
        if _is_scaled(trainer):
            return
        total = _total(pl_module)
        if trainer.world_size == 1 and math.isfinite(total.sum()):  # 12 µs faster than one check per run
            return
        if not self.skip_step(trainer, pl_module, bad := ~total.isfinite()):
            return
        if isinstance(optimizer, RunsOptimizer):
            optimizer.skipped_runs = bad.cpu()
        else:
            optimizer.zero_grad()  # an optimizer skips parameters without a gradient

    def skip_step(self, trainer: L.Trainer, pl_module: Any, bad: Tensor) -> bool:
        """Skip the step of the runs (…) that are bad, or end them; returns whether there are any."""
        bad = _in_any_process(trainer, bad)
        if not bool(bad.any()):
            return False
        if not self._reasons:
            pl_module.metrics["train"].drop(bad)
        skipped = bad.cpu().reshape(-1) & ~pl_module.progress.frozen
        for run in skipped.nonzero()[:, 0].tolist():
            self._skip_step_of_run(trainer, pl_module, run)
        self._reasons = {}
        return True

    def _skip_step_of_run(self, trainer: L.Trainer, pl_module: Any, run: int) -> None:
        self.skipped[run] += 1
        if self.policy == "skip" and run in self._warned:
            return
        self._warned.add(run)
        several = pl_module.hparams["runs"] is not None
        found = self._reasons.get(run) or self._describe(trainer, pl_module, run)
        reason = f"epoch {trainer.current_epoch + 1}, step {trainer.global_step + 1}: {found}"
        if self.policy == "skip":
            reason += "; on_nan=skip: this update is skipped, and so is every other such update"
            self.warnings[run] = self.warnings[run] or reason
            if not several and trainer.is_global_zero:
                log.warning("%s", reason)
            return
        good = all(bool((each[run] if several else each).isfinite().all()) for each in pl_module.parameters())
        reason = f"{reason}; the weights are those before it" if good else reason  # or they never were
        if not several:
            rank_zero_info(f"Diverged: {reason}")
        epochs, steps = trainer.current_epoch + 1, trainer.global_step + 1
        pl_module.end(run, Ending("diverged", reason, epochs, weights_are_good=good, steps=steps))

    def _describe(self, trainer: L.Trainer, pl_module: Any, run: int) -> str:
        """The first quantity of the step that is not finite, in any process."""
        assert pl_module.batch is not None
        model, batch = pl_module.model, pl_module.batch
        lr = trainer.optimizers[0].param_groups[0]["lr"]
        if pl_module.hparams["runs"] is not None:
            model, batch, lr = _model_of_run(model, run), _batch_of_run(batch, run), lr[run]
        found = first_not_finite(model, pl_module.loss, pl_module.loss_parameters, batch, float(lr))
        if trainer.world_size > 1:
            all_found: list[Any] = [None] * trainer.world_size
            torch.distributed.all_gather_object(all_found, found)
            found = min((each for each in all_found if each is not None), default=None)
        return f"a gradient is not finite (learning rate {float(lr):.3g}); {ADVICE}" if found is None else found[1]


def _in_any_process(trainer: L.Trainer, bad: Tensor) -> Tensor:
    if trainer.world_size == 1:
        return bad
    return torch.tensor(trainer.strategy.reduce_boolean_decision(bool(bad), all=False))


def _is_scaled(trainer: L.Trainer) -> bool:
    return getattr(trainer.precision_plugin, "scaler", None) is not None


def _total(pl_module: Any) -> Tensor:
    """The sum of the loss and all gradients, (…), which is finite only if all of them are.

    For a weight of 784 × 1024 a sum takes 22 µs, and `isfinite().all()` takes 606.
    """
    total = pl_module.metrics["train"].pending["loss"][-1]
    for parameter in pl_module.trainer.optimizers[0].param_groups[0]["params"]:
        if (gradient := parameter.grad) is not None:
            gradient = upcast(gradient)
            total = total + (gradient.sum() if total.dim() == 0 else gradient.flatten(1).sum(1))
    return total


def _model_of_run(model: MLP, run: int) -> MLP:
    network = model.network
    rule: dict[str, Any] = {"gradient": model.gradient, "settings": dict(network.settings)}
    activations = network.hidden_activation, network.output_activation
    own = MLP(model.sizes, *activations, **rule, dtype=next(model.parameters()).dtype)
    own.load_state_dict({name: value[run] for name, value in model.state_dict().items()})
    return own.to(next(model.parameters()).device)


def _batch_of_run(batch: Batch, run: int) -> Batch:
    if batch.x.dim() == 2:  # all runs share it
        return batch
    return Batch(batch.x[run], batch.y[run], None if batch.weight is None else batch.weight[run])


def first_not_finite(
    model: MLP, loss: str, parameters: dict[str, Any], batch: Batch, lr: float
) -> tuple[int, str] | None:
    """The first quantity of a step on this batch that is not finite, in the order of computation.

    Args:
        model: the network as it was before the step.
        loss: a key of `LOSSES`.
        parameters: the loss's parameters.
        batch: inputs (B, D), targets and the samples' weights.
        lr: the learning rate, for the description.

    Returns:
        Its place in that order, and a description; None where all are finite.
    """
    before = ""
    for place, (name, t) in enumerate(_quantities(model, loss, parameters, batch)):
        bad = ~torch.isfinite(t)
        if bool(bad.any()):
            reason = f"{name} is not finite ({float(t[bad][0])}{before}; learning rate {lr:.3g})"
            if name.startswith(("the input", "the target", "the sample", "the parameter")):
                return place, reason
            of_rule = name.startswith("the delta of hidden") and model.network.rule is not None
            own = model.network.rule.name if of_rule and model.network.rule is not None else ""
            return place, f"{reason}; {f'returned by {own}' if own else ADVICE}"
        before = f"; before it, {name} was up to {float(t.abs().max()):.2g}"
    return None


def _quantities(model: MLP, loss: str, parameters: dict[str, Any], batch: Batch) -> list[tuple[str, Tensor]]:
    found = layer_quantities(model, loss, parameters, batch)
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
    quantities.append(("the loss", value.float()))  # as in the metrics
    for i in reversed(range(len(names))):
        quantities.append((f"the delta of {names[i]}", found.deltas[i]))
        own = zip(theta[2 * i : 2 * i + 2], found.gradients[2 * i : 2 * i + 2], strict=True)
        quantities += [(f"the gradient of {name}", gradient) for (name, _), gradient in own]
    return quantities
