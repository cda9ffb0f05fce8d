"""The same network in torch's own operations, differentiated by torch's own graph.

It is what `model.gradient=autograd` trains and what the hand-derived pass is compared with, so it shares none of its
formulas: activations are `torch.nn` modules and losses `torch.nn.functional` functions.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from backhand.calculus.activations import ACTIVATIONS
from backhand.calculus.backpropagation import Network
from backhand.calculus.losses import LOSSES


def module(activation: str) -> nn.Module:
    """The activation as a `torch.nn` module."""
    kind = getattr(nn, ACTIVATIONS[activation].torch_module)
    return kind(dim=-1) if activation == "softmax" else kind()


def preoutput(network: Network, x: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    """`z_O` (…, B, C) of the input x (…, B, D), with the parameters W_1, b_1, W_2, b_2, …."""
    g = module(network.hidden_activation)
    *hidden, last = zip(parameters[::2], parameters[1::2], strict=True)
    for W, b in hidden:
        x = g(torch.matmul(x, W) + b.unsqueeze(-2))
    W, b = last
    return torch.matmul(x, W) + b.unsqueeze(-2)


def loss(network: Network, name: str, z_O: Tensor, y: Tensor) -> Tensor:
    """`L` (…), one number a run: z_O (…, B, C), y (…, B) or (…, B, C)."""
    L = LOSSES[name]
    matched = L.matched == network.output_activation
    function = getattr(F, L.torch_matched if matched else L.torch_function)
    prediction = z_O if matched else module(network.output_activation)(z_O)
    if L.target == "values":
        return function(prediction, y.expand_as(prediction), reduction="none").mean((-2, -1))
    classes = y.expand(prediction.shape[:-1])
    each = function(prediction.flatten(0, -2), classes.flatten(), reduction="none")
    return each.view(classes.shape).mean(-1)
