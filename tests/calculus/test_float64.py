"""Apple's MPS has no float64: what needs float64 is computed on the CPU, everything else in float32.

There is no MPS here. The CPU stands in for it, refusing every result in float64, and "meta" stands in for the CPU.
"""

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from torch.overrides import TorchFunctionMode

from backhand import MLP
from backhand.calculus.float64 import widest_dtype
from backhand.checking import audit
from backhand.errors import UserError
from backhand.training import evaluation, layer_stats, parts


class NoFloat64(TorchFunctionMode):
    """A CPU that answers as MPS does."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        for each in found if isinstance(found, tuple | list) else [found]:
            if isinstance(each, torch.Tensor) and each.device.type == "cpu" and each.dtype == torch.float64:
                raise TypeError(f"{func} makes a float64 tensor")
        return found


@pytest.fixture
def no_float64(monkeypatch):
    """Report that no device has float64, and let the audit compute on "meta" instead."""
    for module in (audit, layer_stats, parts):
        monkeypatch.setattr(module, "widest_dtype", lambda device: torch.float32)
    monkeypatch.setattr(audit, "HOST", torch.device("meta"))
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device: False)  # "meta" has no autocast
    monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: nullcontext())


def test_only_mps_has_no_float64():
    assert torch.device("cpu") == audit.HOST
    assert widest_dtype(torch.device("mps")) == torch.float32
    for name in ("cpu", "cuda:1", "xpu"):
        assert widest_dtype(torch.device(name)) == torch.float64


@pytest.mark.parametrize("parameters", [{}, {"label_smoothing": 0.1, "class_weight": [1.0, 2.0, 3.0]}])
def test_the_audits_reference_is_computed_where_there_is_float64(no_float64, parameters):
    model = MLP([4, 5, 3])
    batch = torch.randn(6, 4), torch.randint(3, (6,)), torch.rand(6)
    theta = list(model.parameters())
    with NoFloat64():
        exact = audit.autograd_gradients(model, "cross_entropy", parameters, batch, theta, dtype=torch.float64)
        assert {(each.device.type, each.dtype) for each in exact} == {("meta", torch.float64)}
        in_float32 = audit.autograd_gradients(model, "cross_entropy", parameters, batch, theta)
        assert {(each.device.type, each.dtype) for each in in_float32} == {("cpu", torch.float32)}
        for found, right in zip(in_float32, exact, strict=True):
            assert audit._relative_error(found, right).device.type == "meta"


def test_histograms_are_counted_without_float64(no_float64):
    t = torch.arange(200.0).reshape(2, 20, 5)
    with NoFloat64():
        first, second = layer_stats._histograms(t)
        assert layer_stats._histograms(torch.tensor([[-3e38, 3e38]])) == [None]  # their difference is not finite
    assert sum(first.counts) == sum(second.counts) == 100
    assert (first.start, second.start) == (0, 100)


def test_a_trainer_on_a_device_without_float64_refuses_it(configured, tmp_path, no_float64):
    config = configured("trainer=cpu")
    parts.build_trainer(config, tmp_path, [], False)
    config = replace(config, trainer=replace(config.trainer, precision="64-true"))
    with pytest.raises(UserError, match=r"^trainer\.precision=64-true: cpu has no float64; choose trainer=cpu$"):
        parts.build_trainer(config, tmp_path, [], False)


@pytest.mark.parametrize(("precision", "accelerator"), [("64-true", "cpu"), ("32-true", "auto")])
def test_a_checkpoint_in_float64_is_evaluated_on_the_cpu(trained, configured, monkeypatch, precision, accelerator):
    given = ("data=wine", "trainer.max_epochs=1", f"trainer.precision={precision}")
    folder, accelerators = trained(*given), []
    original = evaluation.L.Trainer
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(
        evaluation.L, "Trainer", lambda **kwargs: accelerators.append(kwargs["accelerator"]) or original(**kwargs)
    )
    evaluation.evaluate_split(configured("trainer=cpu", *given), folder / "checkpoints" / "best.ckpt", "test")
    assert accelerators == [accelerator]
