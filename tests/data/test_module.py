"""Splits, standardisation and targets of the scikit-learn data sets and of the teacher."""

import numpy as np
import pytest
import sklearn.datasets
import torch

from backhand.config.dataset_info import DATASETS
from backhand.data.dataset import SPLITS, split_rows
from backhand.errors import UserError

SCIKIT_LEARN = [name for name, info in DATASETS.items() if info.samples is not None]


def bunch(name):
    return getattr(sklearn.datasets, f"load_{name}")()


@pytest.mark.parametrize("name", SCIKIT_LEARN)
def test_dataset_info_is_that_of_the_scikit_learn_data_sets(name):
    data, info = bunch(name), DATASETS[name]
    assert data.data.shape == (info.samples, info.features)
    assert info.classes is None or set(data.target) == set(range(info.classes))
    assert info.image_shape is None or np.prod(info.image_shape) == info.features


@pytest.mark.parametrize("name", SCIKIT_LEARN)
def test_the_splits_are_disjoint_and_complete(loaded, name):
    data = loaded(f"data={name}")
    rows = torch.cat([data.rows[split].ids for split in SPLITS])
    assert sorted(rows.tolist()) == list(range(DATASETS[name].samples))


def test_digits_has_1257_rows_to_train_on(loaded):
    data = loaded()
    assert [len(data.rows[split].x) for split in SPLITS] == [1257, 270, 270]


@pytest.mark.parametrize("name", [name for name in SCIKIT_LEARN if DATASETS[name].classes])
def test_the_splits_are_stratified(loaded, name):
    rows, labels = loaded(f"data={name}").dataset.rows, bunch(name).target
    for split in SPLITS:
        part = rows[split]
        assert torch.equal(part.y, torch.from_numpy(labels[part.ids.numpy()]))
        counts = torch.bincount(part.y, minlength=DATASETS[name].classes)
        expected = np.bincount(labels) * len(part.y) / len(labels)
        assert np.abs(counts.numpy() - expected).max() <= 2


def test_the_split_depends_only_on_split_seed(loaded):
    first, other = loaded("data=wine", "seed=1"), loaded("data=wine", "seed=2")
    assert torch.equal(first.rows["test"].ids, other.rows["test"].ids)
    assert not torch.equal(first.rows["test"].ids, loaded("data=wine", "data.split_seed=1").rows["test"].ids)


def test_a_class_too_rare_for_every_split_is_refused():
    with pytest.raises(UserError, match="every class needs a row in every split"):
        split_rows([0] * 30 + [1], 31, 0.2, 0.2, 0)


@pytest.mark.parametrize("name", SCIKIT_LEARN)
def test_standardisation_is_fitted_only_on_the_training_split(loaded, name):
    data, inputs = loaded(f"data={name}", "trainer.precision=64-true"), bunch(name).data
    train = inputs[data.rows["train"].ids.numpy()]
    mean, std = train.mean(0), train.std(0)
    std[std == 0] = 1
    for split in SPLITS:
        part = data.rows[split]
        expected = (inputs[part.ids.numpy()] - mean) / std
        np.testing.assert_allclose(part.x.numpy(), expected, rtol=1e-9, atol=1e-9)


def test_regression_targets_are_standardised_invertibly(loaded):
    data, target = loaded("data=diabetes", "trainer.precision=64-true"), bunch("diabetes").target
    part = data.rows["train"]
    assert float(part.y.mean()) == pytest.approx(0, abs=1e-12)
    np.testing.assert_allclose(part.y[:, 0] * data.target_std + data.target_mean, target[part.ids.numpy()])


def test_targets_have_the_form_that_the_loss_takes(loaded):
    numbers = loaded("data=wine").rows["train"].y
    one_hot = loaded("data=wine", "model.loss=mse").rows["train"].y
    assert torch.equal(one_hot.argmax(-1), numbers)
    assert one_hot.shape == (len(numbers), 3)
    single = loaded("data=breast_cancer").rows["train"].y
    assert single.shape[-1] == 1
    assert set(single.flatten().tolist()) == {0.0, 1.0}


def test_counts_that_are_negative_are_refused(loaded):
    with pytest.raises(UserError, match="poisson_nll: is for counts, and data=teacher has negative ones"):
        loaded("data=teacher", "model.loss=poisson_nll")


@pytest.mark.parametrize("hidden", [[], [8], [8, 5]])
@pytest.mark.parametrize("outputs", [1, 3])
def test_the_teachers_targets_are_the_outputs_of_its_network(loaded, hidden, outputs):
    from itertools import pairwise

    overrides = ("data.samples=100", "data.features=4", f"data.outputs={outputs}", f"data.hidden={hidden}")
    data = loaded("data=teacher", "trainer.precision=64-true", "model.hidden_activation=relu", *overrides)
    rows = data.rows["train"]
    # The parameters of the teacher, drawn again in the order of `load_teacher`.
    generator = torch.Generator().manual_seed(0)
    x = rows.x
    sizes = [4, *hidden, outputs]
    layers = [
        (torch.randn(n, m, generator=generator, dtype=torch.float64) / n**0.5,
         torch.randn(m, generator=generator, dtype=torch.float64) / 2)
        for n, m in pairwise(sizes)
    ]  # fmt: skip
    for number, (W, b) in enumerate(layers):
        x = x @ W + b
        x = x.relu() if number < len(layers) - 1 else x
    assert rows.y.shape == (70, outputs)
    torch.testing.assert_close(x, rows.y, rtol=1e-12, atol=1e-12)


def test_every_seed_learns_the_same_teacher(loaded):
    first, other = loaded("data=teacher", "seed=1"), loaded("data=teacher", "seed=2")
    assert torch.equal(first.rows["test"].y, other.rows["test"].y)
    assert not torch.equal(first.rows["test"].y, loaded("data=teacher", "data.split_seed=1").rows["test"].y)
