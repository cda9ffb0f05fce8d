"""The picture of a sweep: where values stand on their axes, which runs are clipped, and that every sweep is drawn."""

import numpy as np
import pytest
from PIL import Image

from backhand.reporting.plots import Swept, objective_scale, pareto_front, setting_scale, sweep_plot


def drawn(settings, objectives, maximize=False):
    return Swept(settings, objectives, maximize)


def several(settings, runs):
    generator = np.random.default_rng(0)
    kinds = (["1e-05", "0.1", ""], ["[64,32]", "[8]"], ["${a_}$", "x" * 60, ""], ["true", "false"], ["3", "null", "20"])
    return {f"model.hidden_activation_{n}": list(generator.choice(kinds[n % 5], runs)) for n in range(settings)}


SWEEPS = {
    "two runs": drawn({"lr": ["0.1", "0.01"]}, {"val/loss": [0.5, 0.4]}),
    "equal runs": drawn({"lr": ["0.1", "0.1"]}, {"val/loss": [0.5, 0.5]}),
    "every kind of value": drawn(several(5, 40), {"val/acc": list(np.linspace(0, 1, 40))}, True),
    "too many settings": drawn(several(15, 20), {"val/loss": list(np.linspace(1, 2, 20))}),
    "an outlier": drawn({"seed": list("123456")}, {"val/loss": [0.1, 0.2, 0.3, 0.2, 0.15, 1e30]}),
    "two objectives": drawn(several(4, 30), {"val/r2": list(np.linspace(-1, 1, 30)), "parameters": [9.0] * 30}, True),
    "500 runs": drawn({"seed": [str(n) for n in range(500)]}, {"val/loss": [1.0 + n % 7 for n in range(500)]}),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("sweep", SWEEPS.values(), ids=SWEEPS.keys())
def test_every_sweep_becomes_a_png_of_readable_size(sweep, tmp_path):
    sweep_plot(sweep, tmp_path / "sweep.png")
    with Image.open(tmp_path / "sweep.png") as image:
        assert image.format == "PNG"
        assert all(900 < side < 3000 for side in image.size)
        assert len(image.convert("RGB").getcolors(1 << 24)) > 50


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["0.001", "0.01", "0.1", "1"], "log"),
        (["16", "32", "64", "128", "256", "512"], "log"),
        (["1e-05", "", "0.1"], "log"),
        (["0.1", "0.2", "0.5"], "linear"),  # spans too little
        (["0", "0.001", "1"], "linear"),  # zero has no logarithm
        ([str(seed) for seed in range(1, 101)], "linear"),  # evenly spaced
        ([str(seed) for seed in range(1, 101) if seed != 50], "linear"),  # one seed failed
        (["relu", "tanh", "gelu"], "names"),
        (["[64,32]", "[8]"], "names"),
    ],
)
def test_an_axis_is_logarithmic_where_powers_were_swept_only(values, kind):
    assert setting_scale(values).kind == kind


def test_numbers_stand_in_numeric_order_and_keep_their_spelling():
    scale = setting_scale(["10", "9", "1e-05", "100", "9.0"])
    assert list(np.argsort(scale.places, kind="stable")) == [2, 1, 4, 0, 3]
    assert scale.places[1] == scale.places[4]
    assert [text for _, text in scale.ticks] == ["1e-05", "9", "10", "100"]
    assert [text for _, text in setting_scale(["[64,32]", "[8]", "[64,4]"]).ticks] == ["[8]", "[64,4]", "[64,32]"]


def test_powers_of_ten_are_evenly_spaced():
    assert setting_scale(["0.1", "0.001", "1", "0.01"]).places == pytest.approx([2 / 3, 0, 1, 1 / 3])


def test_a_setting_that_a_run_leaves_out_stands_below_the_numbers():
    scale = setting_scale(["0.3", "", "0.1", "null"])
    assert scale.places[0] == 1
    assert scale.places[2] == 0
    assert max(scale.places[[1, 3]]) < 0
    assert [text for _, text in scale.ticks] == ["not set", "null", "0.1", "0.3"]


@pytest.mark.parametrize("maximize", [False, True])
def test_only_the_runs_that_are_far_worse_lie_beyond_the_axis(maximize):
    loss = np.concatenate([np.linspace(0.2, 0.9, 30), [1e6, 40.0]])
    scale = objective_scale(-loss if maximize else loss, maximize)
    assert list(np.flatnonzero(scale.beyond)) == [30, 31]
    assert [scale.places[0], scale.places[29]] == ([1, 0] if maximize else [0, 1])
    assert (scale.places[30:] < 0 if maximize else scale.places[30:] > 1).all()
    assert any(text == "2 beyond" for _, text in scale.ticks)


@pytest.mark.parametrize("maximize", [False, True])
def test_a_run_that_is_far_better_is_never_clipped(maximize):
    loss = np.concatenate([np.linspace(0.2, 0.9, 30), [-1e6]])
    assert not objective_scale(-loss if maximize else loss, maximize).beyond.any()


@pytest.mark.parametrize("maximize", [(False, False), (True, False), (False, True), (True, True)])
def test_the_pareto_front_is_what_comparing_every_pair_leaves(maximize):
    first, second = np.random.default_rng(3).integers(0, 12, (2, 60)).astype(float)  # with ties and equal pairs

    def better(a, b, up):
        return a > b if up else a < b

    def beats(i, j):
        gains = [better(column[i], column[j], up) for column, up in zip((first, second), maximize, strict=True)]
        losses = [better(column[j], column[i], up) for column, up in zip((first, second), maximize, strict=True)]
        return any(gains) and not any(losses)

    front = [not any(beats(other, run) for other in range(60)) for run in range(60)]
    assert 0 < sum(front) < 60
    assert pareto_front(first, second, maximize).tolist() == front
