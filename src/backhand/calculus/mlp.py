"""The network as a `torch.nn.Module`: its parameters, their initialization, and the choice of gradient."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from numbers import Integral
from types import BuiltinFunctionType
from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from backhand.calculus import reference
from backhand.calculus.activations import ACTIVATIONS, check_hidden_activation, upcast
from backhand.calculus.backpropagation import Criterion, Network
from backhand.calculus.choices import check_choice, check_number
from backhand.calculus.feedback import GRADIENTS, RULES, HiddenDelta, Rule
from backhand.calculus.initialization import INITIALIZATIONS
from backhand.calculus.losses import LOSSES, check_parameters
from backhand.calculus.transforms import evaluate_loss, predict
from backhand.calculus.trial import Trial
from backhand.errors import UserError

# The dtypes that torch accepts as class numbers.
CLASS_NUMBERS = (torch.int64, torch.int32)


class Layer(nn.Module):
    """The parameters of one affine layer: `weight` (…, in, out) and `bias` (…, out)."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(bias)

    def extra_repr(self) -> str:
        *runs, n, m = self.weight.shape
        return f"in={n}, out={m}" + (f", runs={runs[0]}" if runs else "")


class Feedback(nn.Module):
    """A rule's tensors in one hidden layer, by name: parameters where trained, else buffers."""

    def __init__(self, tensors: dict[str, tuple[Tensor, bool]]) -> None:
        super().__init__()
        self.names = tuple(tensors)
        for name, (tensor, is_trained) in tensors.items():
            if is_trained:
                self.register_parameter(name, nn.Parameter(tensor))
            else:
                self.register_buffer(name, tensor)


class MLP(nn.Module):
    """A fully-connected network whose gradients are the derivation's, not autograd's.

    Args:
        sizes: units of each layer from input to output, [D, H, …, C]; [D, C] is a linear model.
        hidden_activation: g, behind every hidden layer; or a list with one for each.
        output_activation: f, behind the last layer.
        init: `linear` (as `torch.nn.Linear`), `xavier`, `kaiming` or `normal`.
        init_scale: every initial weight and bias is multiplied by it.
        gradient: how the gradients are computed: `hand`; `autograd` for the same network through torch's own graph; or
            a backward rule, by its name in `RULES` or as a function of the same form.
        settings: the rule's settings, by name.
        runs: K for K independent networks in the same tensors, each parameter with a leading axis of K; None for one.
        generator: where the initial values are drawn from; torch's global generator if None.
        dtype: of the parameters; torch's default if None.
        device: of the parameters; torch's default if None.

    Raises:
        UserError: fewer than two sizes, a size below one, a list of activations whose length is not the number of
            hidden layers, a name that does not exist (the choices are listed), an argument of a wrong type, or a rule
            that does not return a δ.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        hidden_activation: str | Sequence[str] = "tanh",
        output_activation: str = "softmax",
        *,
        init: str = "linear",
        init_scale: float = 1.0,
        gradient: str | Rule | HiddenDelta = "hand",
        settings: Mapping[str, float] | None = None,
        runs: int | None = None,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        units: Any = sizes.tolist() if hasattr(sizes, "tolist") else sizes  # of an array
        is_list = isinstance(units, Sequence) and len(units) >= 2
        if not is_list or not all(isinstance(size, Integral) and int(size) >= 1 for size in units):
            raise UserError(
                f"sizes={sizes}: give a list with at least the input's and the output's size, each a whole number, "
                "1 or more"
            )
        check_hidden_activation(hidden_activation, len(units) - 2)
        check_choice("output_activation", output_activation, ACTIVATIONS)
        check_choice("init", init, INITIALIZATIONS)
        check_number("init_scale", init_scale)
        rule: Rule | None = None
        if isinstance(gradient, Rule):
            rule = gradient
        elif callable(gradient) and not isinstance(gradient, type | nn.Module | BuiltinFunctionType):
            rule = Rule(gradient, name=getattr(gradient, "__name__", type(gradient).__name__))
        else:
            check_choice("gradient", gradient, GRADIENTS)
            rule = RULES.get(str(gradient))
        if runs is not None:
            check_number("runs", runs, minimum=1, integer=True)
        if not isinstance(generator, torch.Generator | None):
            raise UserError(f"generator={generator}: must be a torch.Generator")
        _check_dtype_and_device(dtype, device)
        self.sizes = [int(size) for size in units]
        self.network = Network(hidden_activation, output_activation, rule)
        self.gradient = gradient
        run_axis = () if runs is None else (runs,)
        layers: list[Layer] = []
        for n, m in pairwise(self.sizes):
            W = torch.empty(*run_axis, n, m, dtype=dtype, device=device)
            b = torch.empty(*run_axis, m, dtype=dtype, device=device)
            INITIALIZATIONS[init](W, b, generator)
            layers.append(Layer(W * init_scale, b * init_scale))
        self.layers = nn.ModuleList(layers)
        self.feedback = nn.ModuleList()
        if rule is not None:

            def draw(shape: Sequence[int]) -> Tensor:
                tensor = torch.empty(*shape, dtype=dtype, device=device)
                rows = tensor if tensor.dim() > len(run_axis) + 1 else tensor.unsqueeze(-2)
                INITIALIZATIONS[init](rows, torch.empty_like(rows), generator)
                return tensor * init_scale

            settings = {**dict(rule.settings), **(settings or {})}
            trial = Trial(self.network, settings, [each.weight.detach() for each in layers], draw, generator)
            self.feedback.extend(Feedback(trial.tensors(i)) for i in range(len(layers) - 1))
            self.network = replace(
                self.network,
                feedback=tuple(each.names for each in self._feedback_layers()),
                trained=tuple(isinstance(each, nn.Parameter) for each in self.feedback_tensors()),
                settings=tuple(settings.items()),
            )

    def _feedback_layers(self) -> list[Feedback]:
        return [cast(Feedback, each) for each in self.feedback]

    def feedback_tensors(self) -> list[Tensor]:
        """The tensors of the rule, layer by layer, in the order of `network.feedback`."""
        return [getattr(layer, name) for layer in self._feedback_layers() for name in layer.names]

    def forward(self, x: Tensor) -> Tensor:
        """`ŷ` (…, B, C) of a batch x (…, B, D).

        Raises:
            UserError: x is no floating-point tensor, or has not the shape (…, B, D).
        """
        self._check_input(x)
        if self.gradient == "autograd":
            z_O = reference.logits(self.network, x, self.parameters_in_order())
            return reference.module(self.network.output_activation)(z_O)
        return predict(self.network, x, [*self.parameters_in_order(), *self.feedback_tensors()])

    def loss(
        self, x: Tensor, target: Tensor, loss: str, *, sample_weight: Tensor | None = None, **parameters: Any
    ) -> Tensor:
        """The loss of a batch, a scalar (or one number a run) whose `backward()` is the derivation's.

        Args:
            x: the batch (…, B, D).
            target: as the loss asks for: class numbers (…, B), or a probability for each class (…, B, C); one value for
                each output (…, B, C).
            loss: a key of `LOSSES`.
            sample_weight: how much each sample counts (…, B); the loss is then a weighted mean over the samples.
            parameters: those of the loss: `label_smoothing` and `class_weight` (C,) of `cross_entropy`, `pos_weight`, a
                number or (C,), of `binary_cross_entropy`, `huber_delta` of `huber`; None is the default.

        Raises:
            UserError: a loss that does not exist or does not fit the output activation, a wrong type or shape, or a
                parameter that the loss does not have, or out of its range.
        """
        return self.loss_and_logits(x, target, loss, sample_weight=sample_weight, **parameters)[0]

    def loss_and_logits(
        self, x: Tensor, target: Tensor, loss: str, *, sample_weight: Tensor | None = None, **parameters: Any
    ) -> tuple[Tensor, Tensor]:
        """The loss as in `loss`, and z_O (…, B, C), so that a metric needs no second forward pass."""
        criterion, class_weight = self._check_batch(x, target, loss, sample_weight, parameters)
        if self.gradient == "autograd":
            z_O = reference.logits(self.network, x, self.parameters_in_order())
            return reference.loss(self.network, criterion, z_O, target, class_weight, sample_weight), z_O
        tensors = [*self.parameters_in_order(), *self.feedback_tensors()]
        return evaluate_loss(self.network, criterion, target, class_weight, x, tensors, sample_weight=sample_weight)

    def output(self, z_O: Tensor) -> Tensor:
        """`ŷ = f(z_O)`, for a z_O that `loss_and_logits` returned: (…, B, C) → (…, B, C)."""
        return self.network.f(z_O)

    def to_sequential(self) -> nn.Sequential:
        """The same network in plain `torch.nn` layers, with copies of the parameters.

        Raises:
            UserError: the network has a run axis, which `torch.nn.Linear` does not have.
        """
        layers = self._layers()
        first = layers[0].weight
        if first.dim() != 2:
            raise UserError("to_sequential: a network with a run axis has no torch.nn counterpart")
        modules: list[nn.Module] = []
        for i, layer in enumerate(layers):
            n, m = layer.weight.shape
            linear = nn.Linear(n, m, dtype=first.dtype, device=first.device)
            with torch.no_grad():
                linear.weight.copy_(layer.weight.T)  # torch.nn.Linear stores (out, in)
                linear.bias.copy_(layer.bias)
            last = i == len(layers) - 1
            modules += [linear, reference.module(self.network.output_activation if last else self.network.g_name(i))]
        return nn.Sequential(*modules)

    @classmethod
    def from_sequential(cls, net: nn.Sequential) -> Self:
        """The network that a `torch.nn.Sequential` of alternating `Linear` and activation modules computes.

        A missing last activation is the identity; two `Linear` in a row have the identity between them.

        Raises:
            UserError: a module that is neither, a `Linear` without bias, sizes or dtypes that do not fit, or a softmax
                over another axis than the last.
        """
        if not isinstance(net, nn.Sequential):
            raise UserError(f"from_sequential: takes a torch.nn.Sequential, not {type_name(net)}")
        linears: list[nn.Linear] = []
        names: list[str] = []
        for position, part in enumerate(net):
            if isinstance(part, nn.Linear):
                if part.bias is None:
                    raise UserError(f"from_sequential: module {position} is a Linear without bias")
                if linears and part.in_features != linears[-1].out_features:
                    raise UserError(
                        f"from_sequential: module {position} takes {part.in_features} inputs, "
                        f"the layer before it gives {linears[-1].out_features}"
                    )
                if linears and part.weight.dtype != linears[-1].weight.dtype:
                    raise UserError(
                        f"from_sequential: module {position} is {part.weight.dtype}, "
                        f"the layer before it {linears[-1].weight.dtype}"
                    )
                if len(names) < len(linears):
                    names.append("identity")
                linears.append(part)
            else:
                if len(names) >= len(linears):
                    raise UserError(f"from_sequential: module {position} ({part}) does not follow a Linear")
                names.append(_activation_name(part, position))
        if not linears:
            raise UserError("from_sequential: the network has no Linear layer")
        names += ["identity"] * (len(linears) - len(names))
        *hidden, output = names
        weight = linears[0].weight
        model = cls(
            [linears[0].in_features, *(linear.out_features for linear in linears)],
            hidden if len(set(hidden)) > 1 else hidden[0] if hidden else "tanh",
            output,
            dtype=weight.dtype,
            device=weight.device,
        )
        with torch.no_grad():
            for layer, linear in zip(model._layers(), linears, strict=True):
                layer.weight.copy_(linear.weight.T)
                layer.bias.copy_(linear.bias)
        return model

    def extra_repr(self) -> str:
        return (
            f"hidden_activation={self.network.hidden_activation}, "
            f"output_activation={self.network.output_activation}, "
            f"gradient={self.gradient if isinstance(self.gradient, str) else 'your own'}"
        )

    def _layers(self) -> list[Layer]:
        return [cast(Layer, layer) for layer in self.layers]

    def trained_feedback(self) -> list[tuple[nn.Parameter, nn.Parameter]]:
        """The rule's trained tensors, each with the weight whose updates it receives."""
        pairs = zip(self._feedback_layers(), self._layers()[1:], strict=False)
        return [(each, above.weight) for layer, above in pairs for each in layer.parameters()]

    def parameters_in_order(self) -> list[Tensor]:
        """W_1, b_1, W_2, b_2, …."""
        return [parameter for layer in self._layers() for parameter in (layer.weight, layer.bias)]

    def check_loss(self, loss: str) -> None:
        """Refuse a loss that this network cannot be trained with.

        Raises:
            UserError: it does not exist, or does not fit the output activation.
        """
        check_choice("loss", loss, LOSSES)
        if misfit := LOSSES[loss].misfit(self.network.output_activation, self.network.f.range):
            raise UserError(f"loss {loss} {misfit}; the output activation is {self.network.output_activation}")

    def _check_input(self, x: Tensor) -> None:
        if not isinstance(x, Tensor) or not x.is_floating_point():
            raise UserError(f"x must be a floating-point torch.Tensor, not {type_name(x)}")
        if x.dim() < 2 or x.shape[-1] != self.sizes[0]:
            raise UserError(f"x has the shape {tuple(x.shape)}; this network takes (…, batch, {self.sizes[0]})")

    def _check_batch(
        self, x: Tensor, target: Tensor, loss: str, sample_weight: Tensor | None, parameters: dict[str, Any]
    ) -> tuple[Criterion, Tensor | None]:
        """The loss and its tensor parameter, after checking the batch, the target and the sample weights."""
        self._check_input(x)
        self._check_target(x, target, loss)
        if sample_weight is not None:
            if not isinstance(sample_weight, Tensor):
                raise UserError(f"sample_weight must be a torch.Tensor, not {type_name(sample_weight)}")
            shape = tuple(sample_weight.shape)
            if not shape or shape[-1] != x.shape[-2]:
                raise UserError(f"sample_weight has the shape {shape}; it must be (…, {x.shape[-2]})")
            if sample_weight.requires_grad:
                raise UserError("sample_weight requires a gradient, and the derivation has none for it")
        return self.criterion(loss, parameters, x)

    def _check_target(self, x: Tensor, target: Tensor, loss: str) -> None:
        self.check_loss(loss)
        if not isinstance(target, Tensor):
            raise UserError(f"the target must be a torch.Tensor, not {type_name(target)}")
        batch, outputs = x.shape[-2], self.sizes[-1]
        rows = target.is_floating_point() and target.shape[-2:] == (batch, outputs)
        if LOSSES[loss].target == "classes":
            numbers = target.dtype in CLASS_NUMBERS and target.dim() > 0 and target.shape[-1] == batch
            if not rows and not numbers:
                raise UserError(
                    f"{loss} takes class numbers (int64) of the shape (…, {batch}) or probabilities of the shape "
                    f"(…, {batch}, {outputs}), not {target.dtype} of the shape {tuple(target.shape)}"
                )
        elif not rows:
            raise UserError(
                f"{loss} takes a floating-point target of the shape (…, {batch}, {outputs}), "
                f"not {target.dtype} of the shape {tuple(target.shape)}"
            )
        if target.requires_grad:
            raise UserError("the target requires a gradient, and the derivation has none for it")

    def criterion(self, loss: str, parameters: dict[str, Any], x: Tensor) -> tuple[Criterion, Tensor | None]:
        """The loss with its parameters that are single numbers, and the one that is a tensor (C,), or None."""
        given = {name: value for name, value in parameters.items() if value is not None}
        if not given:
            return Criterion(loss), None
        check_parameters(loss, given, self.sizes[-1])
        class_weight = given.pop(LOSSES[loss].tensor_parameter or "", None)
        settings = tuple((name, float(value)) for name, value in given.items())
        if class_weight is not None:
            if isinstance(class_weight, Tensor) and class_weight.requires_grad:
                raise UserError(
                    f"{LOSSES[loss].tensor_parameter} requires a gradient, and the derivation has none for it"
                )
            class_weight = torch.as_tensor(class_weight, dtype=upcast(x).dtype, device=x.device).expand(self.sizes[-1])
        return Criterion(loss, settings), class_weight


def type_name(value: Any) -> str:
    """A value's type for a message: a tensor's dtype, or the name of its class."""
    return str(value.dtype) if isinstance(value, Tensor) else type(value).__name__


def _check_dtype_and_device(dtype: Any, device: Any) -> None:
    """Refuse a dtype or a device that torch cannot compute with."""
    try:
        made = torch.empty(0, dtype=dtype, device=device)
    except (TypeError, RuntimeError, AssertionError) as error:  # the last where torch was built without CUDA
        raise UserError(f"dtype={dtype}, device={device}: {str(error).partition(chr(10))[0]}") from None
    if not made.is_floating_point() or made.dtype.itemsize < 2:
        raise UserError(f"dtype={dtype}: must be a floating-point dtype of 16 bits or more, such as torch.float32")


def _activation_name(part: nn.Module, position: int) -> str:
    for name, activation in ACTIVATIONS.items():
        if isinstance(part, reference.Value) and part.activation is activation:
            return name
        if not activation.torch_module or type(part) is not getattr(nn, activation.torch_module):
            continue
        if isinstance(part, nn.Softmax):
            if part.dim not in (-1, 1):
                raise UserError(f"from_sequential: module {position} is a Softmax over axis {part.dim}, not the last")
            return name
        if _settings(part) == _settings(reference.module(name)):
            return name
    known = ", ".join(repr(reference.module(name)) for name in ACTIVATIONS)
    raise UserError(f"from_sequential: module {position} ({part}) is none of Linear, {known}")


def _settings(part: nn.Module) -> str:
    """A module's arguments, without `inplace`, which does not change its output."""
    return part.extra_repr().replace("inplace=True", "").rstrip(", ")
