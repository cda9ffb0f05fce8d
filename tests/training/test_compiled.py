"""The compiled step against torch's own optimizers, and inside a run."""

import copy
import json

import pytest
import torch

from backhand import MLP
from backhand.calculus.backpropagation import Criterion, gradients
from backhand.config.validation import can_compile
from backhand.data.batches import Batch
from backhand.training import compiled as compiled_step
from backhand.training.compiled import CompiledStep

SETTINGS = [
    (torch.optim.SGD, {"lr": 0.1}),
    (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}),
    (torch.optim.Adam, {"lr": 0.01, "betas": (0.8, 0.99)}),
    (torch.optim.Adam, {"lr": 0.01, "weight_decay": 0.1, "eps": 1e-3}),
    (torch.optim.AdamW, {"lr": 0.01, "weight_decay": 0.1}),
]


def pytest_id(value):
    return value.__name__ if isinstance(value, type) else str(value)


@pytest.mark.slow
def test_each_update_is_torchs_and_many_steps_can_live_in_one_process():
    # One test for all cases: without guards, a case must not run the code that was compiled for another one.
    x, y, weight = torch.randn(9, 4, dtype=torch.float64), torch.randint(3, (9,)), torch.rand(9, dtype=torch.float64)
    pairs = []
    for kind, settings in SETTINGS:
        for sizes in ([4, 5, 3], [4, 6, 3]):
            model = MLP(sizes, dtype=torch.float64)
            twin = copy.deepcopy(model)
            ours, theirs = kind(model.parameters(), **settings), kind(twin.parameters(), **settings)
            for each, optimizer in ((model, ours), (twin, theirs)):  # makes the state
                each.loss(x, y, "cross_entropy", sample_weight=weight).backward()
                optimizer.step()
                optimizer.zero_grad()
            pairs.append((CompiledStep(model, Criterion("cross_entropy"), None, ours), model, ours, twin, theirs))
    for step in range(3):
        for whole, _, ours, twin, theirs in pairs:
            if step == 2:
                ours.param_groups[0]["lr"] = theirs.param_groups[0]["lr"] = 0.05
            loss, _, gradients, _ = whole(Batch(x, y, weight))
            expected = twin.loss(x, y, "cross_entropy", sample_weight=weight)
            expected.backward()
            torch.testing.assert_close(loss, expected.detach(), rtol=1e-12, atol=1e-14)
            for found, parameter in zip(gradients, twin.parameters(), strict=True):
                torch.testing.assert_close(found, parameter.grad, rtol=1e-12, atol=1e-14)
            theirs.step()
            theirs.zero_grad()
    for _, model, ours, twin, theirs in pairs:
        for a, b in zip(model.parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)
            for name, value in theirs.state[b].items():
                if value is not None:
                    torch.testing.assert_close(ours.state[a][name], value, rtol=1e-10, atol=1e-12)


def saved(folder):
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["sgd optimizer.momentum=0", "adam"])
@pytest.mark.skipif(not can_compile(), reason="needs torch 2.15")
def test_a_compiled_run_is_the_eager_one(trained, monkeypatch, optimizer):
    whole = []
    original = CompiledStep.__call__
    monkeypatch.setattr(CompiledStep, "__call__", lambda *a: whole.append(1) or original(*a))
    shared = ("data=wine", "trainer.precision=64-true", "trainer.max_epochs=4", *f"optimizer={optimizer}".split(),
              "scheduler=step", "scheduler.every=2", "callbacks=audit", "callbacks.audit.every=3")  # fmt: skip
    eager, compiled = trained(*shared), trained(*shared, "compile=true")
    # 124 rows: 3 full batches of 32 and one of 28 an epoch; the first step makes the optimizer's state.
    assert len(whole) == 4 * 3 - 1
    for name, value in saved(eager)["state_dict"].items():
        torch.testing.assert_close(saved(compiled)["state_dict"][name], value, rtol=1e-9, atol=1e-12)
    first, second = (json.loads((folder / "result.json").read_text()) for folder in (eager, compiled))
    assert first["steps"] == second["steps"] == 16
    assert first["audit"]["times"] == second["audit"]["times"] == 6
    assert second["audit"]["worst"] < 1e-12
    assert first["metrics"] == pytest.approx(second["metrics"], rel=1e-6)


@pytest.mark.slow
@pytest.mark.skipif(not can_compile(), reason="needs torch 2.15")
def test_a_wrong_derivative_is_found_in_the_compiled_step_too(trained, monkeypatch):
    from backhand.checking.audit import AuditError

    def wrong(*arguments):
        L, z_O, (first, *others) = gradients(*arguments)
        return L, z_O, [first * 1.02, *others]

    monkeypatch.setattr(compiled_step, "gradients", wrong)
    with pytest.raises(AuditError, match=r"the gradient of layers\.0\.weight at step 2 "):
        trained("data=wine", "callbacks=audit", "callbacks.audit.every=2", "callbacks.audit.stop=0.01", "compile=true",
                "trainer.max_epochs=1", "callbacks.audit.warn=1e-4", "trainer.precision=64-true")  # fmt: skip
