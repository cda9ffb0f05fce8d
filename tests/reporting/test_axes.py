"""The parallel axes of a sweep: positions of values, and equal lines in the report and in the plot."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image
from tests.reporting.report_folders import grid, write_sweep

from backhand.reporting.axes import axis, parallel_axes
from backhand.reporting.charts import sweep_figures
from backhand.reporting.folder import read_sweep
from backhand.reporting.plots import sweep_plot


def several(settings, runs):
    generator = np.random.default_rng(0)
    kinds = (["1e-05", "0.1", ""], ["[64,32]", "[8]"], ["${a_}$", "x" * 60, ""], ["true", "false"], ["3", "null", "20"])
    return {f"model.hidden_activation_{n}": list(generator.choice(kinds[n % 5], runs)) for n in range(settings)}


SWEEPS = {
    "two runs": ({"lr": ["0.1", "0.01"]}, {"val/loss": [0.5, 0.4]}),
    "equal runs": ({"lr": ["0.1", "0.1"]}, {"val/loss": [0.5, 0.5]}),
    "every kind of value": (several(5, 40), {"val/acc": list(np.linspace(0, 1, 40))}),
    "too many settings": (several(15, 20), {"val/loss": list(np.linspace(1, 2, 20))}),
    "an outlier": ({"seed": list("123456")}, {"val/loss": [0.1, 0.2, 0.3, 0.2, 0.15, 1e30]}),
    "two objectives": (several(4, 30), {"val/r2": list(np.linspace(-1, 1, 30)), "parameters": [9.0] * 30}),
    "500 runs": ({"seed": [str(n) for n in range(500)]}, {"val/loss": [1.0 + n % 7 for n in range(500)]}),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("settings", "objectives"), SWEEPS.values(), ids=SWEEPS.keys())
def test_every_sweep_is_plotted_as_a_png_of_readable_size(settings, objectives, tmp_path):
    sweep_plot(pd.DataFrame({**settings, **objectives}), list(settings), list(objectives), tmp_path / "sweep.png")
    with Image.open(tmp_path / "sweep.png") as image:
        assert image.format == "PNG"
        assert all(400 < side < 3000 for side in image.size)
        assert len(image.convert("RGB").getcolors(1 << 24)) > 50


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["0.001", "0.01", "0.1", "1"], "log"),
        (["16", "32", "64", "128", "256", "512"], "log"),
        (["0.1", "0.2", "0.5"], "linear"),  # spans too little
        (["0", "0.001", "1"], "linear"),  # zero has no logarithm
        ([str(seed) for seed in range(1, 101)], "linear"),  # evenly spaced
        ([str(seed) for seed in range(1, 101) if seed != 50], "linear"),  # one seed failed
        (["relu", "tanh", "gelu"], "names"),
        (["[64,32]", "[8]"], "names"),
        (["1e-05", "", "0.1"], "names"),
        (["0.1", "0.1"], "names"),
    ],
)
def test_an_axis_is_logarithmic_only_for_powers(values, kind):
    found = axis(pd.Series(values))
    assert found.kind == kind
    assert (found.positions >= 0).all()
    assert (found.positions <= 1).all()


def test_numbers_are_in_numeric_order():
    found = axis(pd.Series(["10", "9", "1e-05", "100", "9.0"]))
    assert list(np.argsort(found.positions, kind="stable")) == [2, 1, 4, 0, 3]
    assert found.positions[1] == found.positions[4]
    assert [text for _, text in found.ticks] == ["1e-05", "9", "10", "100"]
    assert [text for _, text in axis(pd.Series(["[64,32]", "[8]", "[64,4]"])).ticks] == ["[8]", "[64,4]", "[64,32]"]
    assert [text for _, text in axis(pd.Series(["null", "", "20", "3"])).ticks] == ["not set", "3", "20", "null"]


@pytest.mark.parametrize(
    "values", [["1", "2", "2.1", "50"], [str(place) for place in range(100)], list("abcdefghijklmnopqrst")]
)
def test_a_label_that_would_overlap_the_one_before_is_left_out(values):
    places = [place for place, _ in axis(pd.Series(values)).few_ticks()]
    assert places[0] == 0
    assert len(places) > 1
    assert min(np.diff(places)) > 0.05


def test_powers_of_ten_are_evenly_spaced():
    assert axis(pd.Series(["0.1", "0.001", "1", "0.01"])).positions == pytest.approx([2 / 3, 0, 1, 1 / 3])


@pytest.mark.parametrize(("objective", "best"), [("val/loss", 2), ("val/acc", 1)])
def test_the_best_run_is_the_last_line_and_the_first_of_equal_runs(objective, best):
    runs = pd.DataFrame(
        {"lr": ["1", "2", "3", "4"], objective: [0.3, 0.9, 0.1, 0.1 if objective == "val/loss" else 0.9]}
    )
    found = parallel_axes(runs, ["lr"], [objective])
    assert found.positions.index[-1] == best
    assert (found.score[best], found.score.min()) == (1, 0)


def test_the_report_and_the_plot_draw_the_same_lines(tmp_path, monkeypatch):
    drawn = []
    save = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda figure, *given, **options: drawn.append(figure) or save(figure, *given, **options)
    )
    settings = grid(optimizer__lr=[0.01, 0.1, 1], model__hidden_activation=["tanh", "relu"])
    sweep = read_sweep(write_sweep(tmp_path / "sweep", settings, [0.6, 0.5, 0.2, 0.1, 0.4, 0.3]))
    sweep_plot(sweep.ranked, sweep.settings, sweep.objectives, tmp_path / "sweep.png")
    *lines, best = [line.get_ydata() for line in drawn[0].axes[0].lines if len(line.get_xdata()) == 3]
    *shades, star = sweep_figures(sweep, sweep.ranked.assign(runs=1))[0].figure.data
    in_report = np.concatenate([np.reshape(shade.y, (-1, 4))[:, :3] for shade in shades])
    assert np.allclose(sorted(in_report.tolist()), sorted(line.tolist() for line in lines))
    assert star.y.tolist() == pytest.approx([0.5, 0.0, 0.0])
    assert best.tolist() == star.y.tolist()
