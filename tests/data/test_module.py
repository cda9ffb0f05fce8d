"""Splits, standardisation and batches of the data sets."""

import numpy as np
import pytest
import sklearn.datasets
import torch

from backhand.data.batches import TensorRows, loader
from backhand.data.catalogue import CATALOGUE
from backhand.data.module import SPLITS, InMemoryData


def bunch(name):
    return getattr(sklearn.datasets, CATALOGUE[name].loader)()


@pytest.mark.parametrize("name", CATALOGUE)
def test_the_catalogue_says_what_scikit_learn_ships(name):
    data, facts = bunch(name), CATALOGUE[name]
    assert data.data.shape == (facts.samples, facts.features)
    assert facts.classes is None or set(data.target) == set(range(facts.classes))


@pytest.mark.parametrize("name", CATALOGUE)
def test_the_splits_are_disjoint_and_leave_nothing_out(name):
    data = InMemoryData(name)
    rows = torch.cat([data.part(split).ids for split in SPLITS])
    assert sorted(rows.tolist()) == list(range(CATALOGUE[name].samples))


def test_digits_has_1257_rows_to_train_on():
    data = InMemoryData("digits")
    assert [len(data.part(split).x) for split in SPLITS] == [1257, 270, 270]


@pytest.mark.parametrize("name", [name for name, facts in CATALOGUE.items() if facts.classes])
def test_the_splits_are_stratified(name):
    data, labels = InMemoryData(name), bunch(name).target
    for split in SPLITS:
        part = data.part(split)
        assert torch.equal(part.y, torch.from_numpy(labels[part.ids.numpy()]))
        counts = torch.bincount(part.y, minlength=CATALOGUE[name].classes)
        expected = np.bincount(labels) * len(part.y) / len(labels)
        assert np.abs(counts.numpy() - expected).max() <= 2


def test_the_split_depends_on_its_own_seed_alone():
    first, other = InMemoryData("wine", shuffle_seed=1), InMemoryData("wine", shuffle_seed=2)
    assert torch.equal(first.part("test").ids, other.part("test").ids)
    assert not torch.equal(first.part("test").ids, InMemoryData("wine", split_seed=1).part("test").ids)


@pytest.mark.parametrize("name", CATALOGUE)
def test_standardisation_is_fitted_on_the_training_split_alone(name):
    data, inputs = InMemoryData(name, dtype=torch.float64), bunch(name).data
    train = inputs[data.part("train").ids.numpy()]
    mean, std = train.mean(0), train.std(0)
    std[std == 0] = 1
    for split in SPLITS:
        part = data.part(split)
        expected = (inputs[part.ids.numpy()] - mean) / std
        np.testing.assert_allclose(part.x.numpy(), expected, rtol=1e-9, atol=1e-9)


def test_a_number_to_predict_is_standardised_and_can_be_turned_back():
    data, target = InMemoryData("diabetes", dtype=torch.float64), bunch("diabetes").target
    part = data.part("train")
    assert float(part.y.mean()) == pytest.approx(0, abs=1e-12)
    np.testing.assert_allclose(part.y[:, 0] * data.target_std + data.target_mean, target[part.ids.numpy()])


def test_targets_are_encoded_as_the_loss_takes_them():
    numbers = InMemoryData("wine").part("train").y
    one_hot = InMemoryData("wine", target="values", units=3).part("train").y
    assert torch.equal(one_hot.argmax(-1), numbers)
    assert one_hot.shape == (len(numbers), 3)
    single = InMemoryData("breast_cancer", target="values", units=1).part("train").y
    assert single.shape[-1] == 1
    assert set(single.flatten().tolist()) == {0.0, 1.0}


def rows(n=10):
    return TensorRows(torch.arange(n, dtype=torch.float32).unsqueeze(-1), torch.arange(n))


def order(batches, epoch):
    batches.sampler.set_epoch(epoch)
    return torch.cat([y for _, y in batches]).tolist()


def test_an_epoch_takes_every_row_once_with_its_own_target():
    batches = loader(rows(), 4, 0)
    assert [len(y) for _, y in batches] == [4, 4, 2]
    assert sorted(order(batches, 0)) == list(range(10))
    assert all(torch.equal(x[:, 0], y.float()) for x, y in batches)


def test_the_order_is_a_function_of_seed_and_epoch():
    first, again, other = loader(rows(), 4, 1), loader(rows(), 4, 1), loader(rows(), 4, 2)
    order(first, 0)
    assert order(first, 3) == order(again, 3)
    assert order(first, 3) != order(first, 4)
    assert order(first, 3) != order(other, 3)


def test_a_batch_is_one_indexing_operation(monkeypatch):
    taken = []
    whole = TensorRows.__getitems__
    monkeypatch.setattr(TensorRows, "__getitems__", lambda self, index: taken.append(len(index)) or whole(self, index))
    monkeypatch.setattr(TensorRows, "__getitem__", lambda self, index: pytest.fail("one call a sample"))
    list(loader(rows(), 4, 0))
    assert taken == [4, 4, 2]


def test_full_is_the_whole_training_split_in_one_batch():
    batches = list(InMemoryData("wine", batch_size="full").train_dataloader())
    assert [len(x) for x, _ in batches] == [len(InMemoryData("wine").part("train").x)]
