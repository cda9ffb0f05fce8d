"""Data from a teacher: the outputs of a fixed random network for normally distributed inputs."""

from collections.abc import Sequence
from itertools import pairwise

import torch

from backhand.calculus.backpropagation import Network, forward
from backhand.config.schema import TeacherConfig
from backhand.config.validation import known_info
from backhand.data.dataset import Dataset, Rows, split_rows
from backhand.errors import UserError


def load_teacher(settings: TeacherConfig, hidden_activation: str | Sequence[str], output_activation: str) -> Dataset:
    """Draw inputs x ~ N(0, 1), and compute targets with a network that has the activations of the trained one.

    A network with the same or wider hidden layers can therefore reach a loss of 0. Weights are N(0, 1/n) with n inputs
    per unit, biases N(0, 1/4). All are drawn from `split_seed`, so that runs with other seeds learn the same function.

    Raises:
        UserError: the data do not fit into memory, or the number of activations is not that of the hidden layers.
    """
    layers = len(settings.hidden)
    if not isinstance(hidden_activation, str) and len(hidden_activation) != layers:
        raise UserError(
            f"model.hidden_activation=[{','.join(hidden_activation)}]: the teacher uses the same activations and "
            f"has {layers} hidden layer{'s' * (layers != 1)} (data.hidden); give one name, or as many "
            "hidden layers to both"
        )
    try:
        return _draw(settings, hidden_activation, output_activation)
    except RuntimeError as error:
        if "allocate memory" not in str(error):
            raise
        sizes = ", ".join(
            f"data.{key}={getattr(settings, key)}" for key in ("samples", "features", "outputs", "hidden")
        )
        raise UserError(f"{sizes}: do not fit into memory") from None


def _draw(settings: TeacherConfig, hidden_activation: str | Sequence[str], output_activation: str) -> Dataset:
    info = known_info(settings)
    assert info is not None
    assert info.samples is not None
    generator = torch.Generator().manual_seed(settings.split_seed)
    sizes = [info.features, *(settings.hidden), info.outputs]

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    parameters = []
    for n, m in pairwise(sizes):
        parameters += [normal(n, m) / n**0.5, normal(m) / 2]
    x = normal(info.samples, info.features)
    network = Network(hidden_activation, output_activation)
    y = network.f(forward(network, x, parameters)[0])
    split = split_rows(None, info.samples, settings.val_fraction, settings.test_fraction, settings.split_seed)
    return Dataset({name: Rows(torch.from_numpy(i), x[i], y[i]) for name, i in split.items()}, info, [])
