"""The dashboard's specification: which panels there are, and whether they show what runs log."""

import re

import pytest

from backhand.reporting.dashboard import DashboardArguments, build, specification

LAYERS = ("W_I", "b_I", "W_O", "hidden_0.weight", "layers.2.bias")


def sections(**arguments):
    spec = specification(build(DashboardArguments(entity="team", project="digits", **arguments)))["spec"]
    return {section["name"]: section["panels"] for section in spec["section"]["panelBankConfig"]["sections"]}


def configs(panels, view="Run History Line Plot"):
    return [panel["config"] for panel in panels if panel["viewType"] == view]


def test_the_sections_in_their_order():
    assert list(sections()) == [
        "Training curves",
        "Gradient and δ flow by layer",
        "Units",
        "Audit of the hand-derived gradients",
        "Sweep comparison",
        "Best runs",
    ]


def test_training_and_validation_share_a_panel_for_every_metric():
    panels = configs(sections()["Training curves"])
    assert [panel["metrics"] for panel in panels] == [
        ["train/loss", "val/loss"],
        ["train/acc", "val/acc"],
        ["train/r2", "val/r2"],
        ["train/mae", "val/mae"],
    ]


def test_losses_are_on_a_logarithmic_axis_and_shares_are_not():
    panels = configs(sections()["Training curves"])
    assert [panel.get("yLogScale", False) for panel in panels] == [True, False, False, False]


def test_every_curve_is_over_epochs():
    lines = [config for panels in sections().values() for config in configs(panels)]
    assert lines
    assert {config["xAxis"] for config in lines} == {"epoch"}


@pytest.mark.parametrize(
    ("section", "shown", "log"),
    [
        ("Gradient and δ flow by layer", ["delta/output", "delta/hidden_0", "delta/hidden_11"], True),
        ("Gradient and δ flow by layer", [f"grad/{layer}" for layer in LAYERS], True),
        ("Units", ["units/dead_hidden_0", "units/dead_hidden_11"], False),
        ("Units", ["units/saturated_hidden_0", "units/saturated_hidden_11"], False),
        ("Audit of the hand-derived gradients", [f"audit/{layer}" for layer in LAYERS], True),
    ],
)
def test_one_panel_shows_every_layer_of_any_depth_and_nothing_else(section, shown, log):
    every = ["train/loss", "val/acc", "epoch", "delta/output", "grad/W_O", "audit/W_O", "units/dead_hidden_0"]
    every += ["units/saturated_hidden_0", *shown]
    prefix = re.match(r"\w+/(dead|saturated)?", shown[0])[0]
    (panel,) = [
        panel
        for panel in configs(sections()[section])
        if panel["useMetricRegex"] and re.fullmatch(panel["metricRegex"], shown[0])
    ]
    assert {name for name in every if re.fullmatch(panel["metricRegex"], name)} == {
        name for name in every if name.startswith(prefix)
    }
    assert panel.get("yLogScale", False) is log


def test_a_sweep_is_compared_by_its_settings_and_the_objective():
    panels = sections(objective="val/acc", settings=["optimizer.lr", "seed"])["Sweep comparison"]
    (coordinates,) = configs(panels, "Parallel Coordinates Plot")
    # Nested keys of a run's configuration are found under `value`, below their first part.
    assert [(column["accessor"], column.get("log")) for column in coordinates["columns"]] == [
        ("config:optimizer.value.lr", True),
        ("config:seed.value", False),
        ("summary:best/val/acc", None),
    ]
    (importance,) = configs(panels, "Parameter Importance")
    assert importance["targetKey"] == "best/val/acc"
    (scatter,) = configs(panels, "Scatter Plot")
    assert (scatter["xAxis"], scatter["yAxis"]) == ("config:optimizer.value.lr", "summary:best/val/acc")
    assert scatter["xAxisLogScale"] is True


@pytest.mark.parametrize(("objective", "smallest_first"), [("val/loss", True), ("val/acc", False), ("test/r2", False)])
def test_the_best_runs_come_first(objective, smallest_first):
    spec = specification(build(DashboardArguments(entity="team", project="digits", objective=objective)))["spec"]
    (key,) = spec["section"]["runSets"][0]["sort"]["keys"]
    name = objective if objective == "test/r2" else f"best/{objective}"
    assert key == {"key": {"section": "summary", "name": name}, "ascending": smallest_first}
    best = sections(objective=objective)["Best runs"]
    assert best[0]["viewType"] == "Run Comparer"
    metrics = [config["metrics"] for config in configs(best, "Bar Chart")]
    assert metrics[0] == [name]
    assert len(metrics) == len({metric for (metric,) in metrics})
