"""Batches: order, sharing between processes, resuming and normalisation."""

from itertools import islice

import pytest
import torch

from backhand.config.dataset_info import DatasetInfo
from backhand.data.batches import Batches, Place
from backhand.data.dataset import Dataset, Rows


def batches(n=10, size=4, seed=0, weight=None, x=None, **place):
    x = torch.arange(n, dtype=torch.float32).unsqueeze(-1) if x is None else x
    rows = Rows(torch.arange(n), x, torch.arange(n), weight)
    return Batches(rows, Dataset({"train": rows}, DatasetInfo(features=1, classes=n), []), size, Place(**place), seed)


def order(given, epoch):
    given.set_epoch(epoch)
    return torch.cat([batch.y for batch in given]).tolist()


def test_an_epoch_has_every_row_once_with_its_target():
    given = batches()
    assert [len(batch.y) for batch in given] == [4, 4, 2]
    assert len(given) == 3
    assert sorted(order(given, 0)) == list(range(10))
    assert all(torch.equal(batch.x[:, 0], batch.y.float()) for batch in given)


def test_the_order_depends_on_seed_and_epoch_only():
    first, again, other = batches(seed=1), batches(seed=1), batches(seed=2)
    order(first, 0)
    assert order(first, 3) == order(again, 3)
    assert order(first, 3) != order(first, 4)
    assert order(first, 3) != order(other, 3)


def test_without_a_seed_the_rows_keep_their_order():
    assert order(batches(seed=None), 5) == list(range(10))


def test_batches_copied_to_the_device_have_the_same_order():
    assert order(batches(resident=False), 2) == order(batches(), 2)


@pytest.mark.parametrize("resident", [True, False])
def test_an_epoch_resumes_at_the_batch_where_it_stopped(resident):
    whole, stopped, resumed = batches(resident=resident), batches(resident=resident), batches(resident=resident)
    for each in (whole, stopped, resumed):
        each.set_epoch(2)
    expected = [batch.y.tolist() for batch in whole]
    assert [batch.y.tolist() for batch in islice(stopped, 2)] == expected[:2]
    resumed.load_state_dict(stopped.state_dict())
    assert [batch.y.tolist() for batch in resumed] == expected[2:]
    assert [batch.y.tolist() for batch in resumed] == expected  # the next iteration starts at the first batch


@pytest.mark.parametrize("processes", [2, 3])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_mean_over_processes_is_the_mean_of_the_global_batch(processes, weighted):
    weight = torch.rand(10, dtype=torch.float64) if weighted else None
    whole = batches(weight=weight, dtype=torch.float64)
    parts = [batches(weight=weight, dtype=torch.float64, rank=r, processes=processes) for r in range(processes)]
    seen = []
    for all_of_it, *shared in zip(whole, *parts, strict=True):

        def mean(batch):
            counts = torch.ones(len(batch.x)) if batch.weight is None else batch.weight
            return (batch.x[:, 0] * counts).sum() / counts.sum()

        mine = sum(mean(b) * b.share for b in shared if b.share)
        torch.testing.assert_close(mine / processes, mean(all_of_it))
        seen += [row for batch in shared if batch.share for row in batch.y.tolist()]
    assert sorted(seen) == list(range(10))


def test_uint8_inputs_are_normalised_in_the_batch():
    x = torch.randint(256, (10, 6), dtype=torch.uint8)
    rows = Rows(torch.arange(10), x, torch.arange(10))
    data = Dataset({"train": rows}, DatasetInfo(6, 10), [], mean=torch.tensor([100.0]), std=torch.tensor([50.0]))
    given = Batches(rows, data, 4, Place(dtype=torch.float64), shuffle_seed=3)
    assert given.rows.x.dtype == torch.uint8
    for batch in given:
        torch.testing.assert_close(batch.x, (x[batch.y].double() - 100) / 50, rtol=1e-6, atol=1e-6)


def test_with_same_every_epoch_every_order_is_that_of_the_first_epoch():
    given = batches(n=40)
    data = Dataset({"train": given.rows}, DatasetInfo(1, 40), [])
    always = Batches(given.rows, data, 4, Place(), 0, same_every_epoch=True)
    assert order(always, 3) == order(always, 0) == order(given, 0) != order(given, 3)
