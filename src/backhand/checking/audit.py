"""The live audit: compares the hand-derived gradients with float64 autograd while the network trains."""

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

# An error up to this many times that of autograd, on the same batch in the same precision, counts as rounding.
ROUNDING = 10.0
# Computes the reference if the network's device has no float64.
HOST = torch.device("cpu")


class AuditError(UserError):
    """A gradient's error exceeds the limit; the run ends at that step."""


class Audit(Callback):
    """Compares the gradients that arrive at the parameters with autograd's in float64, every so many steps.

    For a network with a backward rule it records the angles to backpropagation instead (`alignment`), and never ends a
    run.

    It compares the gradient of the training batch as it reaches each parameter: before it is accumulated, averaged over
    processes or clipped. The error is relative, ‖hand − autograd‖ / ‖autograd‖ in the Frobenius norm. Where it exceeds
    a limit, the error of autograd in the network's own precision is measured too, and an error up to `ROUNDING` times
    as large counts as rounding: bfloat16 rounds that much, and vanishing gradients have large relative errors.

    The trained module has `model` (an `MLP`), `loss`, `loss_parameters`, the step's `batch`, and with `compile=true`
    the step's `gradients`. In a population each run has its own errors.

    Args:
        every: optimizer steps between two audits; the first step is always audited.
        warn: relative error above which a warning is logged, once per parameter.
        stop: relative error above which training ends with an `AuditError`; in a population only that run ends.
    """

    def __init__(self, every: int, warn: float, stop: float) -> None:
        self.every, self.warn, self.stop = every, warn, stop
        self.times: list[int] = []  # audits of each run
        self.worst: list[dict[str, Any] | None] = []
        self.angles: list[float] = []  # per run: the mean over the hidden layers in degrees, summed over the audits
        self.in_epoch = 0  # audits in the current epoch, over which its angles are averaged
        self._warned: set[str] = set()
        self._last_step = -1
        self._theta: list[Tensor] = []  # the parameters at the start of an audited step, else empty
        self._saved: list[Tensor | None] = []
        self._hooks: list[Any] = []

    def state_dict(self) -> dict[str, Any]:
        """The counts and sums of all audits, so that result.json includes those before a resume."""
        return {"times": self.times, "worst": self.worst, "angles": self.angles, "in_epoch": self.in_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.times, self.worst, self.angles = (list(state_dict[name]) for name in ("times", "worst", "angles"))
        self.in_epoch = state_dict["in_epoch"]

    def forget(self) -> None:
        """Drop the audits so far, which are those of the run whose checkpoint this run starts from."""
        self.times, self.worst, self.angles = [], [], []

    def summary(self, run: int = 0) -> dict[str, Any] | None:
        """The number of audits (`times`), the worst error, its parameter, and autograd's own error there if measured.

        For a backward rule, the number of audits and the mean `angle` to backpropagation in degrees. None without an
        audit, and without an angle: below a flat activation backpropagation's δ is 0.
        """
        if run < len(self.angles):
            times = self.times[run]
            return {"times": times, "angle": self.angles[run] / times} if times else None
        worst = self.worst[run] if run < len(self.worst) else None
        return None if worst is None else {"times": self.times[run], **worst}

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """If an audit is due, save the parameters, and register hooks that save the gradients."""
        step = trainer.global_step
        if step % self.every or step == self._last_step or pl_module.model.gradient == "autograd":
            return
        self._last_step = step  # with accumulated gradients, the first batch of a step is audited
        if pl_module.model.network.rule is not None:
            self._theta = [each.detach().clone() for each in pl_module.model.parameters()]
            return
        parameters = list(pl_module.model.parameters())
        self._theta = [each.detach().clone() for each in parameters]
        self._saved = [None] * len(parameters)

        def hook(place: int) -> Callable[[Tensor], None]:
            def save(gradient: Tensor) -> None:
                self._saved[place] = gradient.detach().clone()

            return save

        self._hooks = [each.register_hook(hook(place)) for place, each in enumerate(parameters)]

    def on_after_backward(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Compare the gradients with autograd's, before any update.

        Raises:
            AuditError: a gradient's error exceeds `stop`, here or in another process. A population's run fails instead.
        """
        if self._theta:
            self._finish(trainer, pl_module)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Compare the gradients of a compiled step, which has no backward pass of its own."""
        if self._theta:
            self._finish(trainer, pl_module)

    def _finish(self, trainer: L.Trainer, pl_module: Any) -> None:
        if pl_module.model.network.rule is not None:
            self._record_angles(trainer, pl_module)
            self._theta = []
            return
        for handle in self._hooks:
            handle.remove()
        by_backward = any(each is not None for each in self._saved)
        gradients = self._saved if by_backward else pl_module.gradients
        scale = pl_module.batch.share / trainer.accumulate_grad_batches * _scale(trainer) if by_backward else 1.0
        wrong = self._compare(trainer, pl_module, gradients, scale) if scale else {}
        self._theta, self._saved, self._hooks = [], [], []
        if trainer.world_size > 1 and trainer.strategy.reduce_boolean_decision(bool(wrong), all=False):
            of_each_process: list[dict[int, str]] = [{}] * trainer.world_size
            torch.distributed.all_gather_object(of_each_process, wrong)
            wrong = next(filter(None, of_each_process))  # every process raises the same error
        for run, reason in wrong.items():
            if pl_module.hparams["runs"] is None:
                raise AuditError(reason)
            pl_module.fail(run, reason)

    def _record_angles(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Record the angles to backpropagation; an epoch's metrics are the mean over its audits."""
        of_loss = pl_module.model, pl_module.loss, pl_module.loss_parameters, pl_module.batch
        scale = pl_module.batch.share / trainer.accumulate_grad_batches
        with isolate_rng():  # a rule may draw random numbers
            found = alignment(*of_loss, self._theta, scale or 1.0)
        runs = pl_module.hparams["runs"] or 1
        angles = {name: each.cpu() for name, each in found.items() if not bool(each.isnan().all())}
        row = pl_module.progress.row
        self.in_epoch = self.in_epoch + 1 if angles.keys() <= row.keys() else 1
        for name, each in angles.items():
            row[name] = each if self.in_epoch == 1 else row[name] + (each - row[name]) / self.in_epoch
        of_layers = [each.reshape(runs) for name, each in angles.items() if name.startswith("alignment/hidden_")]
        if not of_layers:
            return
        self.times, self.angles = self.times or [0] * runs, self.angles or [0.0] * runs
        for run, mean in enumerate(torch.stack(of_layers).nanmean(0).tolist()):
            if not pl_module.progress.frozen[run] and math.isfinite(mean):
                self.times[run], self.angles[run] = self.times[run] + 1, self.angles[run] + mean

    def _compare(
        self, trainer: L.Trainer, pl_module: Any, gradients: Sequence[Tensor | None], scale: float
    ) -> dict[int, str]:
        """Record each parameter's error; returns the reason for each run that must end."""
        model, has_run_axis = pl_module.model, pl_module.hparams["runs"] is not None
        runs = pl_module.hparams["runs"] or 1
        self.times, self.worst = self.times or [0] * runs, self.worst or [None] * runs
        of_loss = (model, pl_module.loss, pl_module.loss_parameters, pl_module.batch, self._theta)
        exact = autograd_gradients(*of_loss, dtype=torch.float64)
        names = [name for name, _ in model.named_parameters()]
        found = {name: each / scale for name, each in zip(names, gradients, strict=True) if each is not None}
        errors = {
            name: _relative_error(found[name], right, has_run_axis).cpu()
            for name, right in zip(names, exact, strict=True)
            if name in found
        }
        # Gradients that are not finite are handled by `on_nan`, not by the audit.
        finite = [each.isfinite().reshape(runs, -1).all(1).cpu() for each in found.values()]
        judged = torch.stack(finite).all(0) & ~pl_module.progress.frozen
        rounding: dict[str, Tensor] = {}
        if any(bool((each[judged] > self.warn).any()) for each in errors.values()):
            with trainer.precision_plugin.train_step_context():
                in_own_precision = autograd_gradients(*of_loss)
            rounding = {
                name: _relative_error(each, right, has_run_axis).cpu()
                for name, each, right in zip(names, in_own_precision, exact, strict=True)
            }
        if has_run_axis or bool(judged):
            for name, each in errors.items():  # the epoch's largest
                error = torch.where(judged, each, torch.nan) if has_run_axis else each[0]
                row = pl_module.progress.row
                row[f"audit/{name}"] = torch.fmax(row.get(f"audit/{name}", error), error)
        wrong = {}
        for run in judged.nonzero()[:, 0].tolist():
            of_run = {name: float(each[run]) for name, each in errors.items()}
            exceeds = max(of_run.values()) > self.warn
            of_autograd = {name: float(each[run]) for name, each in rounding.items()} if exceeds else {}
            if reason := self._judge(run, of_run, of_autograd, self._last_step, _lines(names)):
                wrong[run] = reason
        return wrong

    def _judge(
        self, run: int, errors: dict[str, float], rounding: dict[str, float], step: int, lines: dict[str, str]
    ) -> str | None:
        """Record the errors of one run; returns the reason if it must end.

        Args:
            run: the index of the run.
            errors: the relative error of each parameter's gradient.
            rounding: autograd's relative errors in the same precision; empty where no error exceeds `warn`.
            step: the optimizer step.
            lines: for each parameter, the equation of its gradient.
        """
        self.times[run] += 1
        for name, error in errors.items():
            worst = self.worst[run]
            if worst is None or error > worst["worst"]:
                self.worst[run] = {"worst": error, "parameter": name, "torch": rounding.get(name)}
        if not rounding:
            return None
        exceeding = {name: error for name, error in errors.items() if error > max(self.warn, ROUNDING * rounding[name])}
        for name, error in exceeding.items():
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
    """Autograd's gradients of the loss for every parameter of the network, in the order of its parameters.

    Args:
        model: the network.
        loss: a key of `LOSSES`.
        parameters: the loss's parameters.
        batch: inputs (…, B, D), targets, and the samples' weights or None.
        theta: the values of its parameters.
        dtype: the dtype to compute in, with autocast off; None for the network's own, under the current autocast.

    Returns:
        The gradients, on the network's device; those in float64 are on the CPU where that device has no float64.
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
    """The factor that Lightning multiplies the loss by before the backward pass."""
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    return 1.0 if scaler is None else scaler.get_scale()


def _relative_error(found: Tensor, right: Tensor, has_run_axis: bool = False) -> Tensor:
    """‖found − right‖ / ‖right‖ of each run (K,), or (1,) without a run axis; where ‖right‖ is 0, 1 if they differ."""
    found, right = (each.to(right).reshape(len(each) if has_run_axis else 1, -1) for each in (found, right))
    error, norm = (found - right).norm(dim=1), right.norm(dim=1)
    return torch.where(norm > 0, error / norm, (error > 0).double())
