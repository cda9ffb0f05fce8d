"""The error analysis of a run's test split, against scikit-learn and torch's own losses."""

import json

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.metrics import confusion_matrix

from backhand.calculus.backpropagation import loss_value
from backhand.data.module import load
from backhand.reporting.error_analysis import image, weight_pictures
from backhand.training.analyse import analyse
from backhand.training.evaluation import read_module
from backhand.training.parts import build_data


def found(trained, configured, *overrides):
    folder = trained("trainer.max_epochs=2", "plots=true", *overrides)
    config = configured(*overrides)
    data = build_data(config, load(config.data))
    module = read_module(folder / "checkpoints" / "best.ckpt")
    return folder, module, data


def test_the_worst_digits_are_those_with_the_greatest_losses(trained, configured):
    folder, module, data = found(trained, configured)
    analysis = analyse(module, data)
    assert json.loads((folder / "findings.json").read_text()) == json.loads(analysis.model_dump_json())
    rows = data.rows["test"]
    with torch.no_grad():
        z_O = module.model.to_sequential()[:-1](rows.x)
    losses = torch.nn.functional.cross_entropy(z_O, rows.y, reduction="none")
    worst = losses.argsort(descending=True)[:50]
    assert [each["id"] for each in analysis.worst] == rows.ids[worst].tolist()
    assert [each["loss"] for each in analysis.worst] == pytest.approx(losses[worst].tolist(), rel=1e-5)
    assert [each["probability"] for each in analysis.worst] == pytest.approx((-losses[worst]).exp().tolist(), rel=1e-5)
    assert analysis.confusion == confusion_matrix(rows.y, z_O.argmax(-1)).tolist()
    assert analysis.scatter is None
    pixels = load_digits().images
    for each in analysis.worst[:5]:
        shown = np.asarray(image(each["picture"]))[::7, ::7]
        assert np.abs(shown / 255 * 16 - pixels[each["id"]]).max() < 0.07
        assert each["target"] == str(load_digits().target[each["id"]])
    assert len(analysis.weights) == 64


def test_a_misclassified_sample_is_worse_than_any_other(trained, configured, monkeypatch):
    _, module, data = found(trained, configured)
    whole = analyse(module, data)
    wrong = sum(each["target"] != each["prediction"] for each in whole.worst)
    assert 0 < wrong < 50
    monkeypatch.setattr("backhand.training.analyse.loss_value", lambda *given: -loss_value(*given))
    reversed_losses = analyse(module, data)
    flags = [each["target"] != each["prediction"] for each in reversed_losses.worst]
    assert flags == [True] * wrong + [False] * (50 - wrong)
    assert [each["loss"] for each in reversed_losses.worst[:wrong]] == sorted(
        (-each["loss"] for each in whole.worst[:wrong]), reverse=True
    )


def test_a_regression_has_its_predictions_in_their_own_units(trained, configured):
    _, module, data = found(trained, configured, "data=diabetes", "optimizer.lr=0.01")
    analysis = analyse(module, data)
    assert analysis.classes is analysis.confusion is analysis.weights is None
    assert analysis.scatter["target"] == pytest.approx(data.dataset.rows["test"].y.flatten().tolist())
    errors = np.abs(np.subtract(analysis.scatter["target"], analysis.scatter["prediction"]))
    assert analysis.worst[0]["id"] == int(data.rows["test"].ids[errors.argmax()])
    assert analysis.worst[0]["prediction"] == pytest.approx(analysis.scatter["prediction"][errors.argmax()])
    assert analysis.worst[0]["picture"] is analysis.worst[0]["probability"] is None


def test_weights_are_red_for_and_blue_against():
    W = np.zeros((4, 2))
    W[0, 0], W[3, 1] = 2.0, -2.0
    first, second = (np.asarray(image(each)) for each in weight_pictures(W, (1, 2, 2)))
    assert first[0, 0].tolist() == [255, 0, 0]
    assert second[-1, -1].tolist() == [0, 0, 255]
    assert first[-1, -1].tolist() == second[0, 0].tolist() == [255, 255, 255]
