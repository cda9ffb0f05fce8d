"""Batches: every row once, in an order that (seed, epoch) decides, whole, shared between processes, or gone on with."""

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


def test_an_epoch_takes_every_row_once_with_its_own_target():
    given = batches()
    assert [len(batch.y) for batch in given] == [4, 4, 2]
    assert len(given) == 3
    assert sorted(order(given, 0)) == list(range(10))
    assert all(torch.equal(batch.x[:, 0], batch.y.float()) for batch in given)


def test_the_order_is_a_function_of_seed_and_epoch():
    first, again, other = batches(seed=1), batches(seed=1), batches(seed=2)
    order(first, 0)
    assert order(first, 3) == order(again, 3)
    assert order(first, 3) != order(first, 4)
    assert order(first, 3) != order(other, 3)


def test_without_a_seed_the_rows_keep_their_order():
    assert order(batches(seed=None), 5) == list(range(10))


def test_what_does_not_lie_there_arrives_in_the_same_order():
    assert order(batches(resident=False), 2) == order(batches(), 2)


@pytest.mark.parametrize("resident", [True, False])
def test_an_epoch_is_gone_on_with_from_the_batch_where_it_was_left(resident):
    whole, left, resumed = batches(resident=resident), batches(resident=resident), batches(resident=resident)
    for each in (whole, left, resumed):
        each.set_epoch(2)
    expected = [batch.y.tolist() for batch in whole]
    assert [batch.y.tolist() for batch in islice(left, 2)] == expected[:2]
    resumed.load_state_dict(left.state_dict())
    assert [batch.y.tolist() for batch in resumed] == expected[2:]
    assert [batch.y.tolist() for batch in resumed] == expected  # and the next iteration is whole again


@pytest.mark.parametrize("processes", [2, 3])
@pytest.mark.parametrize("weighted", [False, True])
def test_processes_that_share_the_batches_have_the_whole_ones_mean(processes, weighted):
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


def test_pictures_are_normalised_batch_by_batch_and_only_then():
    x = torch.randint(256, (10, 6), dtype=torch.uint8)
    rows = Rows(torch.arange(10), x, torch.arange(10))
    data = Dataset({"train": rows}, DatasetInfo(6, 10), [], mean=torch.tensor([100.0]), std=torch.tensor([50.0]))
    given = Batches(rows, data, 4, Place(dtype=torch.float64), shuffle_seed=3)
    assert given.rows.x.dtype == torch.uint8
    for batch in given:
        torch.testing.assert_close(batch.x, (x[batch.y].double() - 100) / 50, rtol=1e-6, atol=1e-6)


def test_an_order_that_is_to_be_the_same_is_that_of_the_first_epoch():
    given = batches(n=40)
    data = Dataset({"train": given.rows}, DatasetInfo(1, 40), [])
    always = Batches(given.rows, data, 4, Place(), 0, same_every_epoch=True)
    assert order(always, 3) == order(always, 0) == order(given, 0) != order(given, 3)
