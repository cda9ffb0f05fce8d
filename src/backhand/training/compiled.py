"""`compile=true`: forward, backward and update as one function, compiled with `torch.compile(fullgraph=True)`.

It does not use autograd: the gradients are the derivation's. The updates are those of `torch.optim`, on the optimizer's
own state, so that a compiled run's checkpoint is like any other.
"""

from collections.abc import Callable, Sequence
from types import FunctionType
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from backhand.calculus.backpropagation import Criterion, gradients
from backhand.calculus.float64 import widest_dtype
from backhand.calculus.mlp import MLP
from backhand.data.batches import Batch
from backhand.errors import UserError
from backhand.training.module import LightningMLP, as_batch
from backhand.training.optimizers import UPDATES, RunsOptimizer

# With fewer parameters than this, one thread is faster than two (64-32-10: 127 µs a step, and 155 with two).
SMALL = 100_000


class CompiledMLP(LightningMLP):
    """`LightningMLP` with the whole step in `training_step`: Lightning runs no backward pass, and counts the step.

    Steps are not compiled until one of them has made the optimizer's state, nor on a batch of another size.

    Attributes:
        gradients: of the last compiled step, in the order of the parameters.
    """

    gradients: Sequence[Tensor] = ()
    _compiled_step: "CompiledStep | None" = None
    _rows: int | None = None  # of the batches that the step is compiled for
    _is_eager = True

    def on_train_start(self) -> None:
        """Discard the step that was compiled for another optimizer."""
        super().on_train_start()
        self._compiled_step = None

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Choose between the compiled step and an eager one."""
        optimizer, rows = self.trainer.optimizers[0], batch[0].shape[-2]
        if self._compiled_step is None and self.trainer.global_step > 0 and _has_state(optimizer):
            self._rows = self._rows or rows
            criterion, weight = self.model.criterion(self.loss, self.loss_parameters, batch[0])
            skip_nonfinite = self.on_nan is not None
            self._compiled_step = CompiledStep(self.model, criterion, weight, optimizer, skip_nonfinite)
        self._is_eager = self._compiled_step is None or rows != self._rows

    def training_step(self, batch: Any, batch_idx: int) -> Tensor | None:
        """Run the step; None tells Lightning that there is no loss to differentiate."""
        if self._is_eager:
            return super().training_step(batch, batch_idx)
        assert self._compiled_step is not None
        self.batch = batch = as_batch(batch)
        with torch.no_grad():
            loss, z_O, self.gradients, finite = self._compiled_step(batch)
        self.add_step_metrics(batch, loss, z_O)
        if self.on_nan is not None and finite is not None:
            self.on_nan.skip_step(self.trainer, self, ~finite)
        return None

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        """Call the closure, in which `training_step` has updated the parameters, and nothing else."""
        if self._is_eager:
            super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        else:
            optimizer_closure()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the batch size too: a resumed run compiles for the same one."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["run"]["compiled_rows"] = self._rows

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        self._rows = checkpoint["run"].get("compiled_rows")


class CompiledStep:
    """A step of one network, or of K, with its loss and its optimizer, for batches of one shape.

    Args:
        model: the network, whose parameters are updated in place.
        criterion: the loss.
        weight: the loss's own weight (C,), or None.
        optimizer: one of `UPDATES`, or a `RunsOptimizer`, that has made its state.
        skip_nonfinite: whether a step that is not finite is skipped.
    """

    def __init__(
        self,
        model: MLP,
        criterion: Criterion,
        weight: Tensor | None,
        optimizer: Optimizer,
        skip_nonfinite: bool = False,
    ) -> None:
        # Detached views of the same memory: autograd does not see them.
        self.theta = [parameter.detach() for parameter in model.parameters()]
        (self.group,) = optimizer.param_groups
        self.frozen = optimizer.frozen if isinstance(optimizer, RunsOptimizer) else None
        update, names = _update_of(optimizer)
        states = [optimizer.state[parameter] for parameter in model.parameters()]
        self.states = [[state[name] for name in names if state.get(name) is not None] for state in states]
        settings = {key: value for key, value in self.group.items() if key not in ("params", "lr", "initial_lr")}
        device = self.theta[0].device
        self.lr, self.filled = torch.zeros((), device=device, dtype=widest_dtype(device)), 0.0
        network, several, count = model.network, self.frozen is not None, 2 * len(model.layers)
        pairs = list(zip(model.feedback_tensors(), network.trained, strict=True))
        self.fixed = [tensor for tensor, is_trained in pairs if not is_trained]

        def step(
            theta: list[Tensor],
            states: Sequence[Sequence[Tensor]],
            lr: Tensor,
            frozen: Tensor | None,
            x: Tensor,
            y: Tensor,
            sample_weight: Tensor | None,
            fixed: Sequence[Tensor],
        ) -> tuple[Any, ...]:
            trained, untrained = (
                iter(theta[count:]),
                iter(fixed),
            )  # trained feedback follows the weights in theta
            feedback = [next(trained if is_trained else untrained) for is_trained in network.trained]
            L, z_O, grads = gradients(network, criterion, x, y, theta[:count], weight, sample_weight, feedback)
            finite = None
            if skip_nonfinite:
                total = L
                for gradient in grads:
                    total = total + gradient.sum(tuple(range(L.dim(), gradient.dim())))
                finite = total.isfinite()
            keeps = finite if frozen is None else ~frozen if finite is None else finite & ~frozen
            for parameter, gradient, state in zip(theta, grads, states, strict=True):
                tensors = [parameter, *state]
                before = [each.clone() for each in tensors] if keeps is not None else tensors
                update(parameter, gradient, state, lr, settings)
                if keeps is not None:
                    for now, was in zip(tensors, before, strict=True):
                        mask = keeps.view(-1, *(1,) * (now.dim() - 1)) if several else keeps
                        now.copy_(torch.where(mask.to(now.device), now, was))
            return L, z_O, grads, finite

        # The guards are not needed: the tensors are always the same, and `CompiledMLP` checks the batch size. To check
        # 20 guards takes longer than the two layers of a small network.
        options: dict[str, Any] = {"guard_filter_fn": torch.compiler.skip_all_guards_unsafe}
        if sum(each.numel() for each in self.theta) < SMALL:
            options["cpp.threads"] = 1
        # torch caches compiled code by code object; without guards, each instance must have its own.
        own = FunctionType(step.__code__.replace(), step.__globals__, closure=step.__closure__)
        self.run: Callable[..., Any] = torch.compile(own, fullgraph=True, dynamic=False, options=options)
        self.has_run, self.has_rule = False, network.rule is not None

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor, list[Tensor], Tensor | None]:
        """One step at the optimizer's current learning rate.

        Returns:
            L (…), z_O (…, B, C), the gradients in the order of the parameters, and whether the step is finite (…), or
            None without `skip_nonfinite`.

        Raises:
            UserError: torch cannot compile here.
        """
        lr = self.group["lr"]
        if not isinstance(lr, Tensor):
            if lr != self.filled:
                self.filled = lr
                self.lr.fill_(lr)
            lr = self.lr
        inputs = self.theta, self.states, lr, self.frozen, *batch[:3], self.fixed
        if self.has_run:
            return self.run(*inputs)
        self.has_run = True
        try:
            return self.run(*inputs)
        except RuntimeError as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            reason = str(error).strip().splitlines()[0]
            if self.has_rule:
                raise UserError(f"compile=true: torch.compile cannot read the rule ({reason})") from error
            raise UserError(f"compile=true: torch cannot compile here ({reason}); it needs a C++ compiler") from error


def _has_state(optimizer: Optimizer) -> bool:
    """Whether the optimizer has made its state; plain gradient descent has none to make."""
    momentum = optimizer.param_groups[0].get("momentum")
    return any(optimizer.state.values()) or (isinstance(momentum, float) and momentum == 0.0)


def _update_of(optimizer: Optimizer) -> tuple[Callable[..., None], tuple[str, ...]]:
    return (optimizer.update, optimizer.names) if isinstance(optimizer, RunsOptimizer) else UPDATES[type(optimizer)]
