"""Means over seeds and paired differences agree with scipy's tests."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from backhand.reporting.comparison import failures, over_seeds, paired

rng = np.random.default_rng(0)


def runs(settings, seeds, **metrics):
    frame = pd.DataFrame([{**setting, "seed": seed} for setting in settings for seed in seeds])
    return frame.assign(**metrics)


@pytest.mark.parametrize(("metric", "best"), [("val/loss", "relu"), ("val/acc", "tanh")])
def test_means_and_intervals_are_those_of_scipy_and_the_best_mean_comes_first(metric, best):
    values = np.concatenate([rng.normal(0.9, 0.05, 5), rng.normal(0.3, 0.2, 5)])
    given = runs([{"activation": "tanh"}, {"activation": "relu"}], range(5), **{metric: values, "test/acc": values**2})
    found = over_seeds(given, ["activation", "seed"], [metric, "test/acc"])
    bounds = [f"{each}{end}" for each in (metric, "test/acc") for end in ("", " low", " high")]
    assert list(found) == ["activation", "runs", "failed", *bounds]
    assert found["activation"][0] == best
    for _, row in found.iterrows():
        own = given[given["activation"] == row["activation"]]
        for name in (metric, "test/acc"):
            interval = stats.ttest_1samp(own[name], 0).confidence_interval(0.95)
            assert (row["runs"], row["failed"], row[name]) == (5, 0, pytest.approx(own[name].mean()))
            assert (row[f"{name} low"], row[f"{name} high"]) == pytest.approx(tuple(interval))


def test_failed_and_diverged_runs_are_counted_but_not_averaged():
    values = [0.5, 0.7, math.nan, math.inf, 0.4, math.nan, math.nan, math.nan]
    given = runs([{"lr": "1"}, {"lr": "2"}], range(4), **{"val/loss": values, "test/acc": 0.5})
    given.loc[2:3, "test/acc"] = 0.1  # of a run that diverged
    found = over_seeds(given, ["lr", "seed"], ["val/loss", "test/acc"]).set_index("lr")
    assert list(found.index) == ["1", "2"]  # the mean of two runs is before a single run
    assert found.loc["1", ["runs", "failed", "val/loss", "test/acc"]].tolist() == [2, 2, pytest.approx(0.6), 0.5]
    assert found.loc["2", ["runs", "failed", "val/loss"]].tolist() == [1, 3, 0.4]
    assert found.loc["2", ["val/loss low", "val/loss high"]].isna().all()  # one run has no interval


def test_settings_with_failed_runs_come_after_the_complete_ones():
    values = [0.1, 0.1, math.nan, 0.3, 0.4, 0.5, 0.2, 0.2, math.nan, 0.6, 0.6, 0.6]
    given = runs([{"lr": each} for each in "1234"], range(3), **{"val/loss": values})
    found = over_seeds(given, ["lr", "seed"], ["val/loss"])
    assert found["lr"].tolist() == ["2", "4", "1", "3"]
    assert failures(found) == ["0", "0", "1 of 3", "1 of 3"]


def test_a_setting_without_a_finished_run_comes_last():
    given = runs([{"lr": "1"}, {"lr": "2"}], range(2), **{"val/acc": [math.nan, -math.inf, 0.1, 0.2]})
    found = over_seeds(given, ["lr", "seed"], ["val/acc"])
    assert found[["lr", "runs", "failed"]].to_numpy().tolist() == [["2", 2, 0], ["1", 0, 2]]
    assert math.isnan(found["val/acc"][1])


def test_without_other_settings_there_is_one_row_and_a_repeated_run_counts_once():
    given = pd.DataFrame({"seed": [0, 1, 1], "val/loss": [0.1, 0.3, 0.3]})
    found = over_seeds(given, ["seed"], ["val/loss"])
    assert list(found)[:2] == ["runs", "failed"]
    assert found[["runs", "val/loss"]].to_numpy().tolist() == [[2, pytest.approx(0.2)]]


def test_paired_differences_are_those_of_scipy_for_any_order_of_the_seeds():
    a = pd.DataFrame({"seed": range(8), "val/loss": rng.normal(size=8), "test/acc": rng.random(8)})
    b = a.assign(**{"val/loss": a["val/loss"] + rng.normal(0.1, 0.05, 8), "test/acc": rng.random(8)})
    found = paired(a, b.sample(frac=1, random_state=0), ["val/loss", "test/acc"])
    assert list(found.index) == ["val/loss", "test/acc"]
    assert list(found) == ["pairs", "left_out", "a", "b", "difference", "low", "high"]
    for name, row in found.iterrows():
        interval = stats.ttest_rel(b[name], a[name]).confidence_interval(0.95)
        assert (row["pairs"], row["left_out"]) == (8, 0)
        assert (row["a"], row["b"]) == pytest.approx((a[name].mean(), b[name].mean()))
        assert (row["difference"], row["low"], row["high"]) == pytest.approx((row["b"] - row["a"], *interval))


def test_seeds_without_a_pair_are_left_out_and_counted():
    a = pd.DataFrame({"seed": [0, 1, 2, 3], "val/loss": [1.0, 2.0, 3.0, math.inf], "test/acc": 0.5})
    b = pd.DataFrame({"seed": [1, 2, 3, 4], "val/loss": [2.5, 3.25, 5.0, 9.0], "test/acc": [0.75, 0.5, 0.0, 0.0]})
    found = paired(a, b, ["val/loss", "test/acc"])
    assert found[["pairs", "left_out"]].to_numpy().tolist() == [[2, 3], [2, 3]]
    assert found.loc["val/loss", ["a", "b", "difference"]].tolist() == [2.5, 2.875, 0.375]
    assert found.loc["test/acc", ["a", "b", "difference"]].tolist() == [0.5, 0.625, 0.125]
    assert paired(a[:2], b[:1], ["val/loss"])[["low", "high"]].isna().all(axis=None)


def test_a_repeated_seed_is_an_error():
    twice = pd.DataFrame({"seed": [0, 0], "val/loss": [0.1, 0.2]})
    with pytest.raises(ValueError, match="seed 0 is in a sweep twice"):
        paired(twice, twice, ["val/loss"])
