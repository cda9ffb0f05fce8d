"""The live audit: while a network trains, its hand-derived gradients against torch's own graph in float64."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from backhand.calculus import reference
from backhand.calculus.float64 import float64_device
from backhand.calculus.mlp import MLP
from backhand.config.errors import UserError

log = logging.getLogger(__name__)

# An error within so many times that of torch's own autograd, on the same batch in the same precision, is rounding.
ROUNDING = 10.0


class AuditError(UserError):
    """A gradient that is off by more than the limit: the run ends at that step."""


class Audit(Callback):
    """Compares the gradients that arrive at the parameters with autograd's in float64, every so many steps.

    What is compared is the gradient of the very batch that is trained on, taken as it reaches each parameter: before it
    is accumulated, averaged over processes or clipped. The error is relative, ‖hand − autograd‖ / ‖autograd‖ in the
    Frobenius norm. Where it exceeds a limit, torch's own autograd is tried in the same precision, and an error within
    `ROUNDING` times its error is taken for rounding: bfloat16 rounds that much, and so do gradients that have all but
    vanished.

    The module that is trained says when: it has `model` (an `MLP`), `loss`, `loss_parameters`, and `audit`, which the
    audit puts itself into; it asks `due`, and has its gradients compared.

    Args:
        every: optimizer steps between two audits; the first step is always audited.
        warn: relative error beyond which a warning is logged, once a parameter.
        stop: relative error beyond which the run ends with an `AuditError`.
    """

    def __init__(self, every: int, warn: float, stop: float) -> None:
        self.every, self.warn, self.stop = every, warn, stop
        self.times = 0
        self.worst: dict[str, Any] | None = None
        self._worst_of_epoch: dict[str, float] = {}
        self._warned: set[str] = set()
        self._last_step = -1

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs: result.json counts all its audits, and the metrics are the epoch's worst."""
        return {"times": self.times, "worst": self.worst, "of_epoch": self._worst_of_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue counting from there."""
        self.times, self.worst = state_dict["times"], state_dict["worst"]
        self._worst_of_epoch = dict(state_dict["of_epoch"])

    def setup(self, trainer: L.Trainer, pl_module: Any, stage: str) -> None:
        """Let the module know of this audit, where there are gradients by hand."""
        pl_module.audit = self if pl_module.model.gradient == "hand" else None

    def summary(self) -> dict[str, Any] | None:
        """How often, the worst error of all, whose it is, and torch's own there if the limit made it look.

        None where there was no audit.
        """
        return None if self.worst is None else {"times": self.times, **self.worst}

    def memory(self) -> tuple[Any, ...]:
        """A copy of what it has counted so far, for `go_back_to`."""
        return self.times, self.worst, dict(self._worst_of_epoch), self._last_step

    def go_back_to(self, memory: tuple[Any, ...]) -> None:
        """Forget what was counted since: those steps are not taken, or are taken again."""
        self.times, self.worst, worst_of_epoch, self._last_step = memory
        self._worst_of_epoch = dict(worst_of_epoch)

    def due(self, step: int) -> bool:
        """Whether this step is to be audited; of several batches that make up one step, the first."""
        if step % self.every or step == self._last_step:
            return False
        self._last_step = step
        return True

    @contextmanager
    def listening(self, pl_module: Any) -> Iterator[list[Tensor | None]]:
        """The gradients as they arrive at the parameters while the body runs, in the parameters' order."""
        arrived: list[Tensor | None] = [None for _ in pl_module.model.parameters()]

        def listener(place: int) -> Callable[[Tensor], None]:
            def listen(gradient: Tensor) -> None:
                arrived[place] = gradient.detach().clone()

            return listen

        hooks = [each.register_hook(listener(place)) for place, each in enumerate(pl_module.model.parameters())]
        try:
            yield arrived
        finally:
            for hook in hooks:
                hook.remove()

    def compare(
        self,
        trainer: L.Trainer,
        pl_module: Any,
        batch: Any,
        gradients: Sequence[Tensor | None],
        *,
        scale: float = 1.0,
        theta: Sequence[Tensor] | None = None,
    ) -> None:
        """Compare the gradients of a batch with autograd's in float64.

        Args:
            trainer: the trainer.
            pl_module: the module that is trained.
            batch: the batch.
            gradients: the gradients that are to be judged, in the order of the parameters; None is passed over.
            scale: what the loss was multiplied by before they were taken, beside what Lightning multiplied it by.
            theta: the parameters that they were taken at; the module's if None.

        Raises:
            AuditError: a gradient is off by more than `stop`, here or in another process.
        """
        scale *= _scale(trainer)
        names = [name for name, _ in pl_module.model.named_parameters()]
        found = {name: each / scale for name, each in zip(names, gradients, strict=True) if each is not None and scale}
        # A run whose numbers are no longer finite is ended by its own loss.
        wrong = None
        if all(gradient.isfinite().all() for gradient in found.values()):
            wrong = self._compare(trainer, pl_module, batch, found, theta)
        if trainer.world_size > 1 and trainer.strategy.reduce_boolean_decision(wrong is not None, all=False):
            found_by: list[str | None] = [None] * trainer.world_size  # each says what the first of them has found
            torch.distributed.all_gather_object(found_by, wrong)
            wrong = next(filter(None, found_by))
        if wrong:
            raise AuditError(wrong)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the worst error of each parameter, in an epoch that had an audit."""
        if metrics := self.of_epoch():
            for logger in trainer.loggers:
                logger.log_metrics(metrics | {"epoch": trainer.current_epoch}, step=trainer.global_step - 1)

    def of_epoch(self) -> dict[str, float]:
        """The worst error of each parameter since the last call, as metrics."""
        metrics = {f"audit/{name}": error for name, error in self._worst_of_epoch.items()}
        self._worst_of_epoch = {}
        return metrics

    def _compare(
        self, trainer: L.Trainer, pl_module: Any, batch: Any, found: dict[str, Tensor], theta: Sequence[Tensor] | None
    ) -> str | None:
        model = pl_module.model
        names = [name for name, _ in model.named_parameters()]
        of_loss = (model, pl_module.loss, pl_module.loss_parameters, batch, theta or list(model.parameters()))
        exact = autograd_gradients(*of_loss, dtype=torch.float64)
        errors = {
            name: float(_relative(found[name], right))
            for name, right in zip(names, exact, strict=True)
            if name in found
        }
        rounding: dict[str, float] = {}
        if max(errors.values(), default=0.0) > self.warn:
            with trainer.precision_plugin.train_step_context():
                own = autograd_gradients(*of_loss)
            rounding = {
                name: float(_relative(each, right)) for name, each, right in zip(names, own, exact, strict=True)
            }
        return self.judge(errors, rounding, trainer.global_step)

    def judge(self, errors: dict[str, float], rounding: dict[str, float], step: int) -> str | None:
        """Note each parameter's error; returns why the run must end, if it must.

        Args:
            errors: of each parameter's gradient, relative.
            rounding: torch's own there, or nothing where no error is above `warn`.
            step: of the optimizer.
        """
        self.times += 1
        for name, error in errors.items():
            self._worst_of_epoch[name] = max(error, self._worst_of_epoch.get(name, 0.0))
            if self.worst is None or error > self.worst["worst"]:
                self.worst = {"worst": error, "parameter": name, "torch": rounding.get(name)}
        if not rounding:
            return None
        beyond = {name: error for name, error in errors.items() if error > max(self.warn, ROUNDING * rounding[name])}
        for name, error in beyond.items():
            if error > self.stop:
                return (
                    f"audit: the gradient of {name} at step {step} is off by {error:.1e} "
                    f"(relative to float64 autograd); the limit callbacks.audit.stop is {self.stop:.0e}"
                )
            if name not in self._warned:
                self._warned.add(name)
                log.warning(
                    "audit: the gradient of %s at step %d is off by %.1e from float64 autograd, torch's own by %.1e",
                    name,
                    step,
                    error,
                    rounding[name],
                )
        return None


def audit_runs(
    audits: dict[int, Audit],
    model: MLP,
    loss: str,
    parameters: dict[str, Any],
    batch: Any,
    gradients: Sequence[Tensor],
    theta: Sequence[Tensor],
    step: int,
) -> dict[int, str]:
    """Audit a population: each run's gradients are judged by its own audit.

    Args:
        audits: by the run's place on the run axis; the others are passed over, and so are those that are not finite.
        model: the population.
        loss: a key of `LOSSES`.
        parameters: the loss's own.
        batch: inputs (K, B, D) or (B, D), targets and the samples' weights.
        gradients: of each parameter, (K, …).
        theta: the values they were taken at.
        step: of the optimizer.

    Returns:
        Why a run must end, for those that must.
    """
    of_loss = (model, loss, parameters, batch, theta)
    names = [name for name, _ in model.named_parameters()]
    exact = autograd_gradients(*of_loss, dtype=torch.float64)
    errors = [_relative(found, right, runs=True).tolist() for found, right in zip(gradients, exact, strict=True)]
    finite = torch.stack([each.isfinite().flatten(1).all(1) for each in gradients]).all(0).tolist()
    rounding: list[list[float]] = []
    if any(max(each[run] for each in errors) > audit.warn for run, audit in audits.items() if finite[run]):
        own = autograd_gradients(*of_loss)
        rounding = [_relative(each, right, runs=True).tolist() for each, right in zip(own, exact, strict=True)]
    wrong = {}
    for run, audit in audits.items():
        if not finite[run]:
            continue
        of_run = {name: each[run] for name, each in zip(names, errors, strict=True)}
        looked = max(of_run.values()) > audit.warn
        of_torch = {name: each[run] for name, each in zip(names, rounding, strict=True)} if looked else {}
        if reason := audit.judge(of_run, of_torch, step):
            wrong[run] = reason
    return wrong


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
    device = float64_device(x.device) if dtype == torch.float64 else x.device
    values = [each.detach().to(device, dtype or each.dtype).requires_grad_() for each in theta]
    x, y = x.to(device), y.to(device)
    sample_weight = None if sample_weight is None else sample_weight.to(device)
    if dtype is not None:
        x, y = x.to(dtype), y.to(dtype) if y.is_floating_point() else y
    criterion, weight = model.criterion(loss, parameters, x)
    autocast = torch.is_autocast_enabled(x.device.type) and dtype is None
    with torch.enable_grad(), torch.autocast(x.device.type, enabled=autocast):
        z_O = reference.preoutput(model.network, x, values)
        value = reference.loss(model.network, criterion, z_O, y, weight, sample_weight).sum()
    return torch.autograd.grad(value, values)


def _scale(trainer: L.Trainer) -> float:
    """What Lightning multiplies the loss by before its backward pass."""
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    return 1.0 if scaler is None else scaler.get_scale()


def _relative(found: Tensor, right: Tensor, runs: bool = False) -> Tensor:
    """‖found − right‖ / ‖right‖, or where ‖right‖ is 0 whether it is wrong; one a run if the first axis is theirs."""
    device = float64_device(found.device)
    found, right = (each.to(device).double().reshape(len(each) if runs else 1, -1) for each in (found, right))
    error, norm = (found - right).norm(dim=1), right.norm(dim=1)
    relative = torch.where(norm > 0, error / norm, (error > 0).double())
    return relative if runs else relative[0]
