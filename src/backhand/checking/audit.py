"""The live audit: while a network trains, its hand-derived gradients against torch's own graph in float64."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from backhand.calculus import reference
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

    The module that is trained must have `model` (an `MLP`), `loss` and `loss_parameters`, as `LightningMLP`.

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
        self._batch: tuple[Tensor, Tensor] | None = None
        self._arrived: dict[str, Tensor] = {}
        self._hooks: list[Any] = []

    def summary(self) -> dict[str, Any] | None:
        """How often, the worst error of all, whose it is, and torch's own there if the limit made it look.

        None where there was no audit.
        """
        return None if self.worst is None else {"times": self.times, **self.worst}

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Listen to the parameters where this step is to be audited."""
        step = trainer.global_step
        if step % self.every or step == self._last_step or pl_module.model.gradient != "hand":
            return
        self._last_step, self._batch = step, batch
        self._hooks = [
            parameter.register_hook(self._listener(name)) for name, parameter in pl_module.model.named_parameters()
        ]

    def on_after_backward(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Compare what arrived.

        Raises:
            AuditError: a gradient is off by more than `stop`, here or in another process.
        """
        if self._batch is None:
            return
        (x, y), arrived = self._batch, self._arrived
        for hook in self._hooks:
            hook.remove()
        self._batch, self._arrived, self._hooks = None, {}, []
        # A run whose numbers are no longer finite is ended by its own loss.
        wrong = None
        if all(gradient.isfinite().all() for gradient in arrived.values()):
            scale = _scale(trainer)
            wrong = self._compare(trainer, pl_module, x, y, {name: each / scale for name, each in arrived.items()})
        if trainer.world_size > 1 and trainer.strategy.reduce_boolean_decision(wrong is not None, all=False):
            wrong = wrong or "audit: stopped, for another process found a wrong gradient"
        if wrong:
            raise AuditError(wrong)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the worst error of each parameter, in an epoch that had an audit."""
        if self._worst_of_epoch:
            metrics = {f"audit/{name}": error for name, error in self._worst_of_epoch.items()}
            for logger in trainer.loggers:
                logger.log_metrics(metrics | {"epoch": trainer.current_epoch}, step=trainer.global_step - 1)
        self._worst_of_epoch = {}

    def _listener(self, name: str) -> Callable[[Tensor], None]:
        def listen(gradient: Tensor) -> None:
            self._arrived[name] = gradient.detach().clone()

        return listen

    def _compare(
        self, trainer: L.Trainer, pl_module: Any, x: Tensor, y: Tensor, found: dict[str, Tensor]
    ) -> str | None:
        """Note each parameter's error; returns why the run must end, if it must."""
        model, loss, parameters = pl_module.model, pl_module.loss, pl_module.loss_parameters
        names = [name for name, _ in model.named_parameters()]
        exact = autograd_gradients(model, loss, parameters, x, y, torch.float64)
        errors = {
            name: _relative(found[name], right) for name, right in zip(names, exact, strict=True) if name in found
        }
        rounding: dict[str, float] = {}
        if max(errors.values(), default=0.0) > self.warn:
            with trainer.precision_plugin.train_step_context():
                own = autograd_gradients(model, loss, parameters, x, y)
            rounding = {name: _relative(each, right) for name, each, right in zip(names, own, exact, strict=True)}
        self.times += 1
        for name, error in errors.items():
            self._worst_of_epoch[name] = max(error, self._worst_of_epoch.get(name, 0.0))
            if self.worst is None or error > self.worst["worst"]:
                self.worst = {"worst": error, "parameter": name, "torch": rounding.get(name)}
        if not rounding:
            return None
        beyond = {name: error for name, error in errors.items() if error > max(self.warn, ROUNDING * rounding[name])}
        step = trainer.global_step
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


def autograd_gradients(
    model: MLP, loss: str, parameters: dict[str, Any], x: Tensor, y: Tensor, dtype: torch.dtype | None = None
) -> Sequence[Tensor]:
    """Torch's own gradients of the loss by every parameter of the network, in the order of its parameters.

    Args:
        model: the network.
        loss: a key of `LOSSES`.
        parameters: the loss's own.
        x: the batch (…, B, D).
        y: its target.
        dtype: to compute in, with autocast off; the network's own, under whatever autocast is on, if None.
    """
    values = [each.detach().to(dtype or each.dtype).requires_grad_() for each in model.parameters()]
    if dtype is not None:
        x, y = x.to(dtype), y.to(dtype) if y.is_floating_point() else y
    criterion, weight = model.criterion(loss, parameters, x)
    autocast = torch.is_autocast_enabled(x.device.type) and dtype is None
    with torch.enable_grad(), torch.autocast(x.device.type, enabled=autocast):
        z_O = reference.preoutput(model.network, x, values)
        value = reference.loss(model.network, criterion, z_O, y, weight).sum()
    return torch.autograd.grad(value, values)


def _scale(trainer: L.Trainer) -> float:
    """What Lightning multiplies the loss by before its backward pass."""
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    return (1.0 if scaler is None else scaler.get_scale()) / trainer.accumulate_grad_batches


def _relative(found: Tensor, right: Tensor) -> float:
    error, norm = (found.double() - right.double()).norm(), right.double().norm()
    return float(error / norm) if norm > 0 else float(error > 0)
