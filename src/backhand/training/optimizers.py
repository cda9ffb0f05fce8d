"""The optimizers and schedulers of the configuration, and SGD, Adam and AdamW for K networks in the same tensors."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from backhand.calculus.float64 import widest_dtype
from backhand.config.imports import accepts, create, import_class

# A setting is a number or, for several runs, a tensor (K,).
Setting = float | Tensor


def build_optimizer(parameters: Iterable[Parameter], settings: dict[str, Any]) -> Optimizer:
    """The optimizer with a `name` of `CHOICES["optimizer"]`, or a class as `_target_`, and its arguments.

    Raises:
        UserError: there is no such class, it is not an optimizer, or it cannot be made.
    """
    kind = import_class(settings, "optimizer", Optimizer)
    return create(_without(settings, "name"), "optimizer", kind, list(parameters))


def build_scheduler(optimizer: Optimizer, settings: dict[str, Any], epochs: int | None, steps: float) -> Any:
    """The scheduler of `scheduler=custom`; its argument `total_steps` defaults to the length of the run.

    Args:
        optimizer: the optimizer whose learning rate it sets.
        settings: `CustomSchedulerConfig` as a dict.
        epochs: the number of epochs; None or -1 for no limit.
        steps: the number of optimizer steps; infinite for no limit.

    Raises:
        UserError: there is no such class, it is not a scheduler, or it cannot be made.
    """
    kind = import_class(settings, "scheduler", LRScheduler)
    arguments = _without(settings, "name", "interval")
    length = steps if settings.get("interval") == "step" else epochs
    if accepts(kind, "total_steps") and not {"total_steps", "epochs"} & arguments.keys() and length not in (None, -1):
        arguments["total_steps"] = length
    return create(arguments, "scheduler", kind, optimizer)


def _without(settings: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name not in names}


def sgd(theta: Tensor, gradient: Tensor, state: Sequence[Tensor], lr: Setting, settings: dict[str, Any]) -> None:
    """`v ← μ v + ∇θ`, `θ ← θ − α v`; weight decay λ adds λ θ to the gradient first."""
    if _given(settings["weight_decay"]):
        gradient = _added(gradient, settings["weight_decay"], theta)
    if _given(settings["momentum"]):
        (velocity,) = state
        velocity.mul_(_like(settings["momentum"], theta)).add_(gradient)
        gradient = velocity
    # One kernel rounds once, as torch.optim does, so that a run of a population has the same bits as a single run.
    theta.addcmul_(_like(lr, theta), gradient, value=-1)


def adam(theta: Tensor, gradient: Tensor, state: Sequence[Tensor], lr: Setting, settings: dict[str, Any]) -> None:
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
    t = count.to(theta.device, widest_dtype(theta.device))  # beta**t is close to 1
    denominator = second.sqrt() / _like((1 - beta_2**t).sqrt(), theta) + _like(settings["eps"], theta)
    theta.sub_(_like(lr / (1 - beta_1**t), theta) * first / denominator)


# For each of torch's optimizers: the update, and the names of its state in the order of the update's `state`.
UPDATES: dict[type[Optimizer], tuple[Callable[..., None], tuple[str, ...]]] = {
    torch.optim.SGD: (sgd, ("momentum_buffer",)),
    torch.optim.Adam: (adam, ("exp_avg", "exp_avg_sq", "step")),
    torch.optim.AdamW: (adam, ("exp_avg", "exp_avg_sq", "step")),
}


class RunsOptimizer(Optimizer):
    """torch's SGD, Adam or AdamW for K independent networks in the same parameters (K, …).

    Its one parameter group has the settings of torch's optimizer; settings that differ between the runs are float64
    tensors (K,). The state has a leading axis of K. So a run's part of both is what its own optimizer would have.

    Args:
        parameters: the network's parameters, each (K, …).
        settings: for each run, an `OptimizerConfig` as a dict; all have the same name.

    Attributes:
        frozen: the runs (K,) that are not updated any more, on the CPU.
        skipped_runs: the runs whose next step is skipped (K,); None for none.
    """

    def __init__(self, parameters: Iterable[Parameter], settings: Sequence[dict[str, Any]]) -> None:
        parameters = list(parameters)
        device = parameters[0].device
        each = [build_optimizer([Parameter(torch.zeros(1))], one) for one in settings]
        groups = [one.param_groups[0] for one in each]
        self.update, self.names = UPDATES[type(each[0])]
        if all(group.get("momentum") == 0.0 for group in groups):
            self.names = ()  # plain gradient descent has no state
        defaults = {key: _joined([group[key] for group in groups], device) for key in groups[0] if key != "params"}
        defaults["lr"] = torch.tensor([group["lr"] for group in groups], dtype=widest_dtype(device), device=device)
        self.frozen = torch.zeros(len(groups), dtype=torch.bool)
        self.skipped_runs: Tensor | None = None
        super().__init__(parameters, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every run that is not frozen."""
        value = None
        if closure is not None:
            with torch.enable_grad():
                value = closure()
        (group,) = self.param_groups
        unchanged = self.frozen if self.skipped_runs is None else self.frozen | self.skipped_runs
        self.skipped_runs = None
        rows = (~unchanged).nonzero()[:, 0] if unchanged.any() else None
        for parameter in group["params"]:
            if parameter.grad is None:
                continue
            state = self.state[parameter] or self._begin(parameter)
            tensors = [parameter, *(state[name] for name in self.names)]
            if rows is None:
                self.update(parameter, parameter.grad, tensors[1:], group["lr"], group)
                continue
            own = [each[rows.to(each.device)] for each in tensors]
            settings = {key: _of(value, rows) for key, value in group.items() if key != "params"}
            self.update(own[0], parameter.grad[rows.to(parameter.device)], own[1:], settings["lr"], settings)
            for whole, part in zip(tensors, own, strict=True):
                whole[rows.to(whole.device)] = part
        return value

    def _begin(self, parameter: Parameter) -> dict[str, Tensor]:
        """The state before the first step: zeros; the number of steps is on the CPU, as in torch."""
        for name in self.names:
            is_step = name == "step"
            self.state[parameter][name] = torch.zeros(len(parameter)) if is_step else torch.zeros_like(parameter)
        return self.state[parameter]

    @staticmethod
    def of_run(state_dict: dict[str, Any], run: int) -> dict[str, Any]:
        """One run's part of a `state_dict`, as its own optimizer would have it."""

        def part(value: Any) -> Any:
            if isinstance(value, tuple):
                return tuple(part(each) for each in value)
            return value[run].item() if isinstance(value, Tensor) else value

        groups = [
            {key: value if key == "params" else part(value) for key, value in group.items()}
            for group in state_dict["param_groups"]
        ]
        has_no_state = groups[0].get("momentum") == 0.0
        state = {
            number: {name: value[run].clone() for name, value in each.items()}
            for number, each in state_dict["state"].items()
            if not has_no_state
        }
        return {"state": state, "param_groups": groups}


def _joined(values: Sequence[Any], device: torch.device) -> Any:
    """The runs' values as one setting: the common value, or a tensor (K,) where they differ."""
    if isinstance(values[0], tuple | list):
        return tuple(_joined(each, device) for each in zip(*values, strict=True))
    if all(value == values[0] for value in values):
        return values[0]
    return torch.tensor(values, dtype=widest_dtype(device), device=device)


def _of(setting: Any, runs: Tensor) -> Any:
    if isinstance(setting, tuple):
        return tuple(_of(each, runs) for each in setting)
    return setting[runs.to(setting.device)] if isinstance(setting, Tensor) else setting


def _given(setting: Setting) -> bool:
    """Whether the setting is not zero."""
    return isinstance(setting, Tensor) or bool(setting)


def _added(gradient: Tensor, decay: Setting, theta: Tensor) -> Tensor:
    """`∇θ + λ θ`."""
    if isinstance(decay, Tensor):
        return torch.addcmul(gradient, _like(decay, theta), theta)
    return gradient.add(theta, alpha=decay)


def _like(setting: Setting, theta: Tensor) -> Any:
    """The setting (K,) as (K, 1, …), for θ (K, n, m) or (K, m).

    Settings are rounded to the parameter's precision only here: 1 − 0.999 in float32 has a relative error of 2e-5.
    """
    if not isinstance(setting, Tensor):
        return setting
    return setting.to(theta.dtype).view(-1, *(1,) * (theta.dim() - 1)) if setting.dim() else setting.to(theta.dtype)
