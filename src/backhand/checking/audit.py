"""The live audit: while a network trains, its hand-derived gradients against torch's own graph in float64."""

import logging
import math
from collections.abc import Callable, Sequence
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor

from backhand.calculus import reference
from backhand.calculus.chain import gradient_steps, layers
from backhand.calculus.float64 import widest_dtype
from backhand.calculus.mlp import MLP
from backhand.checking.alignment import alignment
from backhand.errors import UserError

log = logging.getLogger(__name__)

# An error within so many times that of torch's own autograd, on the same batch in the same precision, is rounding.
ROUNDING = 10.0
# Where the reference is computed if the network's own device has no float64.
HOST = torch.device("cpu")


class AuditError(UserError):
    """A gradient that is off by more than the limit: the run ends at that step."""


class Audit(Callback):
    """Compares the gradients that arrive at the parameters with autograd's in float64, every so many steps.

    Of a network with a backward pass of its own it notes the angles to backpropagation instead (`alignment`), and stops
    nothing.

    What is compared is the gradient of the very batch that is trained on, taken as it reaches each parameter: before it
    is accumulated, averaged over processes or clipped. The error is relative, ‖hand − autograd‖ / ‖autograd‖ in the
    Frobenius norm. Where it exceeds a limit, torch's own autograd is tried in the same precision, and an error within
    `ROUNDING` times its error is taken for rounding: bfloat16 rounds that much, and so do gradients that have all but
    vanished.

    The module that is trained has `model` (an `MLP`), `loss`, `loss_parameters`, the step's `batch`, and where it takes
    the whole step itself, that step's `gradients`. Of several runs each has errors of its own.

    Args:
        every: optimizer steps between two audits; the first step is always audited.
        warn: relative error beyond which a warning is logged, once a parameter.
        stop: relative error beyond which the run ends with an `AuditError`, or a run of several alone.
    """

    def __init__(self, every: int, warn: float, stop: float) -> None:
        self.every, self.warn, self.stop = every, warn, stop
        self.times: list[int] = []  # of each run
        self.worst: list[dict[str, Any] | None] = []
        self.angles: list[float] = []  # of each run, the sum over audits of the mean over the hidden layers, in degrees
        self.in_epoch = 0  # audits that the angles of the epoch at hand are the mean of
        self._warned: set[str] = set()
        self._last_step = -1
        self._theta: list[Tensor] = []  # where the step at hand began, if it is audited
        self._arrived: list[Tensor | None] = []
        self._hooks: list[Any] = []

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs: result.json counts all its audits."""
        return {"times": self.times, "worst": self.worst, "angles": self.angles, "in_epoch": self.in_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue counting from there."""
        self.times, self.worst, self.angles = (list(state_dict[name]) for name in ("times", "worst", "angles"))
        self.in_epoch = state_dict["in_epoch"]

    def summary(self, run: int = 0) -> dict[str, Any] | None:
        """How often, the worst error of all, whose it is, and torch's own there if the limit made it look.

        Of another backward pass than backpropagation how often, and the mean `angle` to it in degrees. None where there
        was no audit, or no angle: backpropagation's δ is 0 behind an activation that is flat.
        """
        if run < len(self.angles):
            times = self.times[run]
            return {"times": times, "angle": self.angles[run] / times} if times else None
        worst = self.worst[run] if run < len(self.worst) else None
        return None if worst is None else {"times": self.times[run], **worst}

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """If an audit is due, keep the parameters, and listen to the gradients as they arrive."""
        step = trainer.global_step
        if step % self.every or step == self._last_step or pl_module.model.gradient == "autograd":
            return
        self._last_step = step  # of several batches that make up one step, the first
        if pl_module.model.network.rule is not None:
            self._theta = [each.detach().clone() for each in pl_module.model.parameters()]
            return
        parameters = list(pl_module.model.parameters())
        self._theta = [each.detach().clone() for each in parameters]
        self._arrived = [None] * len(parameters)

        def listener(place: int) -> Callable[[Tensor], None]:
            def listen(gradient: Tensor) -> None:
                self._arrived[place] = gradient.detach().clone()

            return listen

        self._hooks = [each.register_hook(listener(place)) for place, each in enumerate(parameters)]

    def on_after_backward(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Compare the gradients with autograd's, before any update.

        Raises:
            AuditError: a gradient of the only run is off by more than `stop`, here or in another process.
        """
        if self._theta:
            self._finish(trainer, pl_module)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Compare those of a module that takes the whole step itself, where there is no backward pass."""
        if self._theta:
            self._finish(trainer, pl_module)

    def _finish(self, trainer: L.Trainer, pl_module: Any) -> None:
        if pl_module.model.network.rule is not None:
            self._measure(trainer, pl_module)
            self._theta = []
            return
        for hook in self._hooks:
            hook.remove()
        by_backward = any(each is not None for each in self._arrived)
        found = self._arrived if by_backward else pl_module.gradients
        scale = pl_module.batch.share / trainer.accumulate_grad_batches * _scale(trainer) if by_backward else 1.0
        wrong = self._compare(trainer, pl_module, found, scale) if scale else {}
        self._theta, self._arrived, self._hooks = [], [], []
        if trainer.world_size > 1 and trainer.strategy.reduce_boolean_decision(bool(wrong), all=False):
            found_by: list[dict[int, str]] = [{}] * trainer.world_size  # each says what the first of them has found
            torch.distributed.all_gather_object(found_by, wrong)
            wrong = next(filter(None, found_by))
        for run, reason in wrong.items():
            if pl_module.hparams["runs"] is None:
                raise AuditError(reason)
            pl_module.fail(run, reason)

    def _measure(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Note the angles to backpropagation, for the epoch their mean over its audits."""
        of_loss = pl_module.model, pl_module.loss, pl_module.loss_parameters, pl_module.batch
        scale = pl_module.batch.share / trainer.accumulate_grad_batches
        with isolate_rng():  # a rule may draw random numbers
            found = alignment(*of_loss, self._theta, scale or 1.0)
        runs = pl_module.hparams["runs"] or 1
        known = {name: each.cpu() for name, each in found.items() if not bool(each.isnan().all())}
        row = pl_module.progress.row
        self.in_epoch = self.in_epoch + 1 if known.keys() <= row.keys() else 1
        for name, each in known.items():
            row[name] = each if self.in_epoch == 1 else row[name] + (each - row[name]) / self.in_epoch
        of_layers = [each.reshape(runs) for name, each in known.items() if name.startswith("alignment/hidden_")]
        if not of_layers:
            return
        self.times, self.angles = self.times or [0] * runs, self.angles or [0.0] * runs
        for run, mean in enumerate(torch.stack(of_layers).nanmean(0).tolist()):
            if not pl_module.progress.frozen[run] and math.isfinite(mean):
                self.times[run], self.angles[run] = self.times[run] + 1, self.angles[run] + mean

    def _compare(
        self, trainer: L.Trainer, pl_module: Any, gradients: Sequence[Tensor | None], scale: float
    ) -> dict[int, str]:
        """Note each parameter's error; returns by run why it must end, for those that must."""
        model, several = pl_module.model, pl_module.hparams["runs"] is not None
        runs = pl_module.hparams["runs"] or 1
        self.times, self.worst = self.times or [0] * runs, self.worst or [None] * runs
        of_loss = (model, pl_module.loss, pl_module.loss_parameters, pl_module.batch, self._theta)
        exact = autograd_gradients(*of_loss, dtype=torch.float64)
        names = [name for name, _ in model.named_parameters()]
        found = {name: each / scale for name, each in zip(names, gradients, strict=True) if each is not None}
        errors = {
            name: _relative_error(found[name], right, several).cpu()
            for name, right in zip(names, exact, strict=True)
            if name in found
        }
        # A run whose numbers are not finite is ended by that, and not by its audit.
        finite = [each.isfinite().reshape(runs, -1).all(1).cpu() for each in found.values()]
        judged = torch.stack(finite).all(0) & ~pl_module.progress.frozen
        rounding: dict[str, Tensor] = {}
        if any(bool((each[judged] > self.warn).any()) for each in errors.values()):
            with trainer.precision_plugin.train_step_context():
                own = autograd_gradients(*of_loss)
            rounding = {
                name: _relative_error(each, right, several).cpu()
                for name, each, right in zip(names, own, exact, strict=True)
            }
        if several or bool(judged):
            for name, each in errors.items():  # the epoch's worst
                error = torch.where(judged, each, torch.nan) if several else each[0]
                row = pl_module.progress.row
                row[f"audit/{name}"] = torch.fmax(row.get(f"audit/{name}", error), error)
        wrong = {}
        for run in judged.nonzero()[:, 0].tolist():
            of_run = {name: float(each[run]) for name, each in errors.items()}
            looked = max(of_run.values()) > self.warn
            of_torch = {name: float(each[run]) for name, each in rounding.items()} if looked else {}
            if reason := self._judge(run, of_run, of_torch, self._last_step, _lines(names)):
                wrong[run] = reason
        return wrong

    def _judge(
        self, run: int, errors: dict[str, float], rounding: dict[str, float], step: int, lines: dict[str, str]
    ) -> str | None:
        """Count the errors of one run; returns why it must end, if it must.

        Args:
            run: which.
            errors: of each parameter's gradient, relative.
            rounding: torch's own there, or nothing where no error is above `warn`.
            step: of the optimizer.
            lines: by parameter, the derivation's line for its gradient.
        """
        self.times[run] += 1
        for name, error in errors.items():
            worst = self.worst[run]
            if worst is None or error > worst["worst"]:
                self.worst[run] = {"worst": error, "parameter": name, "torch": rounding.get(name)}
        if not rounding:
            return None
        beyond = {name: error for name, error in errors.items() if error > max(self.warn, ROUNDING * rounding[name])}
        for name, error in beyond.items():
            if error > self.stop:
                return (
                    f"audit: the gradient of {name} at step {step} is off by {error:.1e} "
                    f"(relative to float64 autograd); the limit callbacks.audit.stop is {self.stop:.0e}; "
                    f"its line is {lines[name]}"
                )
            if name not in self._warned:
                self._warned.add(name)
                log.warning(
                    "audit: the gradient of %s at step %d is off by %.1e from float64 autograd, torch's own by %.1e; "
                    "its line is %s",
                    name,
                    step,
                    error,
                    rounding[name],
                    lines[name],
                )
        return None


def autograd_gradients(
    model: MLP,
    loss: str,
    parameters: dict[str, Any],
    batch: Any,
    theta: Sequence[Tensor],
    dtype: torch.dtype | None = None,
) -> Sequence[Tensor]:
    """Torch's own gradients of the loss by every parameter of the network, in the order of its parameters.

    Args:
        model: the network.
        loss: a key of `LOSSES`.
        parameters: the loss's own.
        batch: inputs (…, B, D), targets, and the samples' weights or None.
        theta: the values of its parameters.
        dtype: to compute in, with autocast off; the network's own, under whatever autocast is on, if None.

    Returns:
        The gradients, on the network's device; those in float64 on the CPU where that device has no float64.
    """
    x, y, sample_weight, *_ = batch
    no_float64 = dtype == torch.float64 and widest_dtype(x.device) != torch.float64
    device = HOST if no_float64 else x.device
    values = [each.detach().to(device, dtype or each.dtype).requires_grad_() for each in theta]
    x, y = x.to(device), y.to(device)
    sample_weight = None if sample_weight is None else sample_weight.to(device)
    if dtype is not None:
        x, y = x.to(dtype), y.to(dtype) if y.is_floating_point() else y
    criterion, class_weight = model.criterion(loss, parameters, x)
    autocast = torch.is_autocast_enabled(x.device.type) and dtype is None
    with torch.enable_grad(), torch.autocast(x.device.type, enabled=autocast):
        z_O = reference.logits(model.network, x, values)
        value = reference.loss(model.network, criterion, z_O, y, class_weight, sample_weight).sum()
    return torch.autograd.grad(value, values)


def _lines(names: Sequence[str]) -> dict[str, str]:
    steps = (step for layer in reversed(layers(len(names) // 2)) for step in gradient_steps(layer))
    return {name: step.text for name, step in zip(names, steps, strict=True)}


def _scale(trainer: L.Trainer) -> float:
    """What Lightning multiplies the loss by before its backward pass."""
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    return 1.0 if scaler is None else scaler.get_scale()


def _relative_error(found: Tensor, right: Tensor, several: bool = False) -> Tensor:
    """‖found − right‖ / ‖right‖ of each run (K,), or of the only one (1,); where ‖right‖ is 0, whether it is wrong."""
    found, right = (each.to(right).reshape(len(each) if several else 1, -1) for each in (found, right))
    error, norm = (found - right).norm(dim=1), right.norm(dim=1)
    return torch.where(norm > 0, error / norm, (error > 0).double())
