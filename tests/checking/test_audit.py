"""The live audit: it is silent for right gradients and ends a run with wrong ones."""

import csv
import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.calculus.settings import ACTIVATIONS

from backhand import MLP
from backhand.checking.audit import AuditError, autograd_gradients


def result(folder: Path) -> dict:
    return json.loads((folder / "result.json").read_text())


def test_the_reference_is_the_gradient_of_torchs_own_layers():
    model = MLP([4, 5, 3], "relu", "softmax")
    net = model.to_sequential().double()
    x, y = torch.randn(6, 4), torch.randint(3, (6,))
    loss = torch.nn.functional.cross_entropy(net[:-1](x.double()), y, label_smoothing=0.1)
    loss.backward()
    theta = list(model.parameters())
    ours = autograd_gradients(
        model, "cross_entropy", {"label_smoothing": 0.1}, (x, y, None), theta, dtype=torch.float64
    )
    theirs = [net[0].weight.grad.T, net[0].bias.grad, net[2].weight.grad.T, net[2].bias.grad]
    torch.testing.assert_close(list(ours), theirs, rtol=1e-12, atol=1e-15)


def test_the_first_step_and_every_seventh_after_it_are_audited(trained):
    folder = trained("callbacks=audit", "callbacks.audit.every=7", "trainer.max_epochs=1", "logger=csv")
    audit = result(folder)["audit"]
    assert audit["times"] == 6  # steps 0, 7, …, 35 of 40
    assert 0 < audit["worst"] < 1e-5
    assert audit["parameter"] in {"layers.0.weight", "layers.0.bias", "layers.1.weight", "layers.1.bias"}
    with (folder / "metrics.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert max(float(value) for name, value in row.items() if name.startswith("audit/")) == pytest.approx(
        audit["worst"]
    )


def test_an_epoch_without_an_audit_has_no_audit_metric(trained):
    folder = trained("callbacks=audit", "callbacks.audit.every=50", "trainer.max_epochs=2", "logger=csv",
                     "data.batch_size=full")  # fmt: skip
    with (folder / "metrics.csv").open() as file:
        first, second = csv.DictReader(file)
    assert first["audit/layers.0.weight"]
    assert not second["audit/layers.0.weight"]


@pytest.mark.parametrize(
    "overrides",
    [
        ["trainer.precision=64-true"],
        ["trainer.precision=bf16-mixed"],
        ["trainer.precision=bf16-true"],
        ["trainer.accumulate_grad_batches=3"],
        ["trainer.accumulate_grad_batches=3", "trainer.precision=bf16-mixed"],
        ["trainer.gradient_clip_val=0.01"],
        ["model.label_smoothing=0.1", "model.class_weight=balanced"],
        ["model.hidden_activation=gelu", "optimizer=adam", "optimizer.lr=0.01"],
        [
            "data=breast_cancer",
            "model.loss=binary_cross_entropy",
            "model.output_activation=sigmoid",
            "model.pos_weight=3",
        ],
        ["data=diabetes", "model.loss=huber", "model.huber_delta=0.5"],
        ["data=diabetes", "model.loss=poisson_nll", "optimizer.lr=0.0001"],
        ["model.hidden=[]"],
    ],
    ids=lambda overrides: " ".join(overrides),
)
def test_right_gradients_cause_no_warning(trained, overrides, caplog):
    with caplog.at_level(logging.WARNING, "backhand"):
        folder = trained("callbacks=audit", "callbacks.audit.every=5", "trainer.max_epochs=2", *overrides)
    assert result(folder)["audit"]["times"] > 1
    assert not [record for record in caplog.records if "audit" in record.message]
    if "trainer.precision=64-true" in overrides:
        assert result(folder)["audit"]["worst"] < 1e-12


@pytest.mark.slow
def test_the_error_of_a_vanishing_gradient_counts_as_rounding(trained, caplog):
    folder = trained("callbacks=audit", "data=wine", "optimizer.lr=1", "trainer.max_epochs=200")
    audit = result(folder)["audit"]
    assert audit["worst"] > 1e-4  # beyond the limit
    assert audit["torch"] > audit["worst"] / 10  # as torch's own
    assert not [record for record in caplog.records if "audit" in record.message]


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_audit_does_not_change_the_weights(trained, optimizer):
    weights = []
    for callbacks in ("quiet", "audit"):
        folder = trained(f"callbacks={callbacks}", "trainer.max_epochs=1", f"optimizer={optimizer}", "data=wine")
        weights.append(torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["state_dict"])
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_wrong_derivative_ends_the_run_at_once(trained, tmp_path, monkeypatch):
    monkeypatch.setitem(ACTIVATIONS, "tanh", replace(ACTIVATIONS["tanh"], derivative=lambda a: 1 - a))
    with pytest.raises(
        AuditError, match=r"the gradient of layers\.0\.\w+ at step 0 is off by .* limit callbacks.audit.stop is 1e-02"
    ):
        trained("callbacks=audit", "trainer.max_epochs=1")
    (folder,) = tmp_path.glob("run*")
    assert result(folder)["status"] == "failed"
    error = result(folder)["error"]
    assert error.startswith("audit: the gradient of layers.0.")
    assert error.endswith("its line is ∇W_I = xᵀ δ_I" if "weight" in error else "its line is ∇b_I = Σ_B δ_I")
    assert result(folder)["steps"] == 0


def test_a_slightly_wrong_derivative_causes_one_warning_per_parameter(trained, monkeypatch, caplog):
    monkeypatch.setitem(ACTIVATIONS, "tanh", replace(ACTIVATIONS["tanh"], derivative=lambda a: 1.001 * (1 - a * a)))
    folder = trained("callbacks=audit", "callbacks.audit.every=5", "trainer.max_epochs=1")
    warned = [record.getMessage() for record in caplog.records if "audit" in record.getMessage()]
    assert [message.split(" at step")[0] for message in warned] == [
        "audit: the gradient of layers.0.weight",
        "audit: the gradient of layers.0.bias",
    ]
    assert result(folder)["audit"]["worst"] == pytest.approx(1e-3, rel=0.05)
    assert result(folder)["status"] == "finished"


def test_autograds_own_gradients_are_not_audited(trained):
    folder = trained("callbacks=audit", "trainer.max_epochs=1", "model.gradient=autograd", "data=wine")
    assert result(folder)["audit"] is None
