"""`compile=true`: forward, backward and update as one function that `torch.compile` takes whole.

There is no autograd in it: the gradients are the derivation's, and the updates are those of `torch.optim`, written on
the optimizer's own state, so that a compiled run's checkpoint is any other's.
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

# Parameters below which two threads wait for each other longer than they work (64-32-10: 155 µs, and 127 with one).
SMALL = 100_000


class CompiledMLP(LightningMLP):
    """`LightningMLP`, whose `training_step` takes the whole step: Lightning has no backward pass to run, and counts it.

    The steps of a run are ordinary ones until one has made the optimizer's state, and so is one on a smaller batch.

    Attributes:
        gradients: of the last compiled step, in the order of the parameters.
    """

    gradients: Sequence[Tensor] = ()
    _whole: "CompiledStep | None" = None
    _rows: int | None = None  # of the batches that the step is compiled for
    _is_ordinary = True

    def on_train_start(self) -> None:
        """Begin with another optimizer."""
        super().on_train_start()
        self._whole = None

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Choose between the compiled step and an ordinary one."""
        optimizer, rows = self.trainer.optimizers[0], batch[0].shape[-2]
        if self._whole is None and self.trainer.global_step > 0 and _has_state(optimizer):
            self._rows = self._rows or rows
            criterion, weight = self.model.criterion(self.loss, self.loss_parameters, batch[0])
            leaves_out = self.on_nan is not None
            self._whole = CompiledStep(self.model, criterion, weight, optimizer, leaves_out)
        self._is_ordinary = self._whole is None or rows != self._rows

    def training_step(self, batch: Any, batch_idx: int) -> Tensor | None:
        """Take the step; None tells Lightning that there is no loss to differentiate."""
        if self._is_ordinary:
            return super().training_step(batch, batch_idx)
        assert self._whole is not None
        self.batch = batch = as_batch(batch)
        with torch.no_grad():
            loss, z_O, self.gradients, finite = self._whole(batch)
        self.note_step(batch, loss, z_O)
        if self.on_nan is not None and finite is not None:
            self.on_nan.leave_out(self.trainer, self, ~finite)
        return None

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        """Call the closure, in which `training_step` has updated the parameters, and nothing else."""
        if self._is_ordinary:
            super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        else:
            optimizer_closure()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the batches' size too: a run that is resumed compiles for the same one."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["run"]["compiled_rows"] = self._rows

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        self._rows = checkpoint["run"].get("compiled_rows")


class CompiledStep:
    """A step of one network, or of K, with its loss and its optimizer, for batches of one shape.

    Args:
        model: whose parameters are updated in place.
        criterion: the loss.
        weight: the loss's own weight (C,), or None.
        optimizer: one of `UPDATES`, or a `RunsOptimizer`, that has made its state.
        leaves_out: whether a step that is not finite is left out.
    """

    def __init__(
        self, model: MLP, criterion: Criterion, weight: Tensor | None, optimizer: Optimizer, leaves_out: bool = False
    ) -> None:
        # Detached views of the same memory: autograd has no part in this.
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
            of_rule, kept = iter(theta[count:]), iter(fixed)  # what is trained is updated as the weights are
            feedback = [next(of_rule if is_trained else kept) for is_trained in network.trained]
            L, z_O, grads = gradients(network, criterion, x, y, theta[:count], weight, sample_weight, feedback)
            finite = None
            if leaves_out:
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

        # What torch would guard against cannot happen: the tensors are always the same, and `CompiledMLP` looks at the
        # batch's shape. Its look at 20 guards takes longer than the two layers of a small network.
        options: dict[str, Any] = {"guard_filter_fn": torch.compiler.skip_all_guards_unsafe}
        if sum(each.numel() for each in self.theta) < SMALL:
            options["cpp.threads"] = 1
        # torch finds what it compiled by the code object; without guards, each instance must have one of its own.
        own = FunctionType(step.__code__.replace(), step.__globals__, closure=step.__closure__)
        self.run: Callable[..., Any] = torch.compile(own, fullgraph=True, dynamic=False, options=options)
        self.has_run, self.has_rule = False, network.rule is not None

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor, list[Tensor], Tensor | None]:
        """One step at the optimizer's learning rate of now.

        Returns:
            L (…), z_O (…, B, C), the gradients in the order of the parameters, and whether the step is finite (…), or
            None where nobody asked.

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
    """Whether a step was taken with it, and not only left out; plain gradient descent keeps nothing."""
    momentum = optimizer.param_groups[0].get("momentum")
    return any(optimizer.state.values()) or (isinstance(momentum, float) and momentum == 0.0)


def _update_of(optimizer: Optimizer) -> tuple[Callable[..., None], tuple[str, ...]]:
    return (optimizer.update, optimizer.names) if isinstance(optimizer, RunsOptimizer) else UPDATES[type(optimizer)]
