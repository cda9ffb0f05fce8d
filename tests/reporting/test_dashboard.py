"""The dashboard has the right panels, and they show metrics that runs log."""

import re

import pytest
from wandb_workspaces.reports.v2.interface import (
    BarPlot,
    LinePlot,
    ParallelCoordinatesPlot,
    ParameterImportancePlot,
    RunComparer,
    ScatterPlot,
)

from backhand.reporting.dashboard import DashboardArguments, build

LAYERS = ("W_I", "b_I", "W_O", "hidden_0.weight", "layers.2.bias")


def workspace(**arguments):
    return build(DashboardArguments(entity="team", project="digits", **arguments))


def sections(**arguments):
    return {section.name: section.panels for section in workspace(**arguments).sections}


def only(panels, kind=LinePlot):
    return [panel for panel in panels if isinstance(panel, kind)]


def test_the_dashboard_has_these_sections_in_this_order():
    assert list(sections()) == [
        "Training curves",
        "Gradient and δ flow by layer",
        "Units",
        "Audit of the hand-derived gradients",
        "Sweep comparison",
        "Best runs",
    ]


def test_training_and_validation_share_a_panel_for_every_metric():
    assert [panel.y for panel in only(sections()["Training curves"])] == [
        ["train/loss", "val/loss"],
        ["train/acc", "val/acc"],
        ["train/r2", "val/r2"],
        ["train/mae", "val/mae"],
    ]


def test_losses_are_on_a_logarithmic_axis_and_shares_are_not():
    assert [panel.log_y for panel in only(sections()["Training curves"])] == [True, False, False, False]


def test_every_curve_is_over_epochs():
    lines = [line for panels in sections().values() for line in only(panels)]
    assert lines
    assert {line.x for line in lines} == {"epoch"}


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
        for panel in only(sections()[section])
        if panel.metric_regex and re.fullmatch(panel.metric_regex, shown[0])
    ]
    assert {name for name in every if re.fullmatch(panel.metric_regex, name)} == {
        name for name in every if name.startswith(prefix)
    }
    assert bool(panel.log_y) is log


def test_a_sweep_is_compared_by_its_settings_and_the_objective():
    panels = sections(objective="val/acc", settings=["optimizer.lr", "seed"])["Sweep comparison"]
    (coordinates,) = only(panels, ParallelCoordinatesPlot)
    assert [(column.metric.name, column.log) for column in coordinates.columns] == [
        ("optimizer.lr", True),
        ("seed", False),
        ("best/val/acc", None),
    ]
    (importance,) = only(panels, ParameterImportancePlot)
    assert importance.with_respect_to == "best/val/acc"
    (scatter,) = only(panels, ScatterPlot)
    assert (scatter.x.name, scatter.y.name, scatter.log_x) == ("optimizer.lr", "best/val/acc", True)


@pytest.mark.parametrize(("objective", "smallest_first"), [("val/loss", True), ("val/acc", False), ("test/r2", False)])
def test_the_best_runs_come_first(objective, smallest_first):
    (order,) = workspace(objective=objective).runset_settings.order
    name = objective if objective == "test/r2" else f"best/{objective}"
    assert (order.item.name, order.ascending) == (name, smallest_first)
    best = sections(objective=objective)["Best runs"]
    assert isinstance(best[0], RunComparer)
    metrics = [panel.metrics for panel in only(best, BarPlot)]
    assert metrics[0] == [name]
    assert len(metrics) == len({metric for (metric,) in metrics})
