"""A training step, forward, backward and update, as one plain function of tensors that `torch.compile` takes whole.

There is no autograd in it: the gradients are the derivation's. The updates are those of `torch.optim`, written on the
optimizer's own state, so that a compiled run's checkpoint is any other's, and a step of one kind may follow one of the
other.
"""

from collections.abc import Callable, Sequence
from types import FunctionType
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from backhand.calculus.backpropagation import Criterion, gradients
from backhand.calculus.mlp import MLP
from backhand.config.errors import UserError

# A setting is a number, or for a population (K,), one for each run.
Setting = float | Tensor
Update = Callable[[Tensor, Tensor, Sequence[Tensor], Tensor, dict[str, Any]], None]


def sgd(theta: Tensor, gradient: Tensor, state: Sequence[Tensor], lr: Tensor, settings: dict[str, Any]) -> None:
    """`v ← μ v + ∇θ`, `θ ← θ − α v`; weight decay λ adds λ θ to the gradient first."""
    if _given(settings["weight_decay"]):
        gradient = _added(gradient, settings["weight_decay"], theta)
    if _given(settings["momentum"]):
        (velocity,) = state
        velocity.mul_(_like(settings["momentum"], theta)).add_(gradient)
        gradient = velocity
    # One kernel rounds once, as torch.optim's does: a run of a population has the bits that it has by itself.
    theta.addcmul_(_like(lr, theta), gradient, value=-1)


def adam(theta: Tensor, gradient: Tensor, state: Sequence[Tensor], lr: Tensor, settings: dict[str, Any]) -> None:
    """Kingma & Ba, "Adam" (2015), algorithm 1; weight decay λ adds λ θ to the gradient first."""
    if _given(settings["weight_decay"]) and not settings["decoupled_weight_decay"]:
        gradient = _added(gradient, settings["weight_decay"], theta)
    elif _given(settings["weight_decay"]):  # Loshchilov & Hutter, "Decoupled Weight Decay Regularization" (2019)
        theta.mul_(_like(1 - lr * settings["weight_decay"], theta))
    first, second, count = state
    beta_1, beta_2 = settings["betas"]
    count.add_(1)
    first.lerp_(gradient, _like(1 - beta_1, theta))
    second.mul_(_like(beta_2, theta)).addcmul_(_like(1 - beta_2, theta) * gradient, gradient)
    t = count.to(theta.device, torch.float64)  # beta**t is near one
    denominator = second.sqrt() / _like((1 - beta_2**t).sqrt(), theta) + _like(settings["eps"], theta)
    theta.sub_(_like(lr / (1 - beta_1**t), theta) * first / denominator)


def _given(setting: Setting) -> bool:
    """Whether it is anything but zero."""
    return isinstance(setting, Tensor) or bool(setting)


def _added(gradient: Tensor, decay: Setting, theta: Tensor) -> Tensor:
    """`∇θ + λ θ`."""
    if isinstance(decay, Tensor):
        return torch.addcmul(gradient, _like(decay, theta), theta)
    return gradient.add(theta, alpha=decay)


def _like(setting: Setting, theta: Tensor) -> Any:
    """The setting (K,) as (K, 1, …), for θ (K, n, m) or (K, m).

    It is rounded to the parameter's precision only here: 1 − 0.999 in float32 is off by 2e-5.
    """
    if not isinstance(setting, Tensor):
        return setting
    return setting.to(theta.dtype).view(-1, *(1,) * (theta.dim() - 1)) if setting.dim() else setting.to(theta.dtype)


# Each of torch's optimizers: the update, and the names of its state in the order that the update takes it.
UPDATES: dict[type[Optimizer], tuple[Update, tuple[str, ...]]] = {
    torch.optim.SGD: (sgd, ("momentum_buffer",)),
    torch.optim.Adam: (adam, ("exp_avg", "exp_avg_sq", "step")),
    torch.optim.AdamW: (adam, ("exp_avg", "exp_avg_sq", "step")),
}


# Parameters below which two threads wait for each other longer than they work (64-32-10: 155 µs, and 127 with one).
SMALL = 100_000


class WholeStep:
    """A step of one network, or of a population of K, with its loss and its optimizer.

    Compiled it is for one shape of batch, the first that it is asked for; others are computed eagerly.

    Args:
        model: whose parameters are updated in place.
        criterion: the loss.
        weight: the loss's own weight (C,), or None.
        states: what the optimizer keeps for each parameter, in the order that `UPDATES` has.
        update: the optimizer's rule.
        settings: its settings by name, without the learning rate.
        lr: the learning rate, () or (K,) of float64; it is read at every step.
        note: what is wanted of the loss, z_O and y; the loss and z_O themselves if None.
        compiled: whether the step is compiled whole.
    """

    def __init__(
        self,
        model: MLP,
        criterion: Criterion,
        weight: Tensor | None,
        states: Sequence[Sequence[Tensor]],
        update: Update,
        settings: dict[str, Any],
        lr: Tensor,
        *,
        note: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, ...]] | None = None,
        compiled: bool = True,
    ) -> None:
        # Detached views of the same memory: autograd has no part in this.
        theta = [parameter.detach() for parameter in model.parameters()]
        network = model.network
        self.compiled = compiled
        self.shape: torch.Size | None = None

        def step(
            theta: list[Tensor],
            states: Sequence[Sequence[Tensor]],
            lr: Tensor,
            x: Tensor,
            y: Tensor,
            sample_weight: Tensor | None,
        ) -> tuple[Any, ...]:
            L, z_O, grads = gradients(network, criterion, x, y, theta, weight, sample_weight)
            for parameter, gradient, state in zip(theta, grads, states, strict=True):
                update(parameter, gradient, state, lr, settings)
            return *((L, z_O) if note is None else note(L, z_O, y)), grads

        run = step
        if compiled:
            # What torch would guard against cannot happen: the tensors are always the same, and `takes` is asked for
            # the batch's shape. Its look at 20 guards takes longer than the two layers of a small network.
            options: dict[str, Any] = {"guard_filter_fn": torch.compiler.skip_all_guards_unsafe}
            if sum(each.numel() for each in theta) < SMALL:
                options["cpp.threads"] = 1
            # torch finds what it compiled by the code object; without guards, each instance must have one of its own.
            own = FunctionType(step.__code__.replace(), step.__globals__, closure=step.__closure__)
            run = torch.compile(own, fullgraph=True, dynamic=False, options=options)
        self.run = lambda *batch: run(theta, states, lr, *batch)
        self.run_eagerly = lambda *batch: step(theta, states, lr, *batch)

    def __call__(self, x: Tensor, y: Tensor, sample_weight: Tensor | None) -> tuple[Any, ...]:
        """One step on a batch.

        Returns:
            L (…) and z_O (…, B, C), or what `note` made of them, and the gradients in the order of the parameters.

        Raises:
            UserError: torch cannot compile here.
        """
        if self.shape is not None or not self.compiled:
            run = self.run if x.shape == self.shape else self.run_eagerly
            return run(x, y, sample_weight)
        self.shape = x.shape
        try:
            return self.run(x, y, sample_weight)
        except (torch._dynamo.exc.TorchDynamoException, torch._inductor.exc.InductorError) as error:
            reason = str(error).strip().splitlines()[0]
            raise UserError(f"compile=true: torch cannot compile here ({reason}); it needs a C++ compiler") from error


class OptimizersStep(WholeStep):
    """The compiled step that does what one of torch's optimizers does, on that one's own state and learning rate.

    Args:
        model: whose parameters are updated in place.
        criterion: the loss.
        weight: the loss's own weight (C,), or None.
        optimizer: one of `UPDATES` that has made a step already, so that its state is there.
    """

    def __init__(self, model: MLP, criterion: Criterion, weight: Tensor | None, optimizer: Optimizer) -> None:
        (self.group,) = optimizer.param_groups
        update, names = UPDATES[type(optimizer)]
        states = [
            [optimizer.state[parameter][name] for name in names if optimizer.state[parameter].get(name) is not None]
            for parameter in model.parameters()
        ]
        settings = {key: value for key, value in self.group.items() if key not in ("params", "lr", "initial_lr")}
        self.lr = torch.zeros((), device=next(model.parameters()).device, dtype=torch.float64)
        self.filled = 0.0
        super().__init__(model, criterion, weight, states, update, settings, self.lr)

    def __call__(self, x: Tensor, y: Tensor, sample_weight: Tensor | None) -> tuple[Any, ...]:
        """One step on a batch, at the optimizer's learning rate of now."""
        if self.group["lr"] != self.filled:
            self.filled = self.group["lr"]
            self.lr.fill_(self.filled)
        return super().__call__(x, y, sample_weight)
