"""What the benchmark compares is equal work, and what it leaves is whole. How fast anything is, no test says."""

import json
import re
import struct

import pytest
import torch

from backhand.benchmarks import memory, page, step, timing
from backhand.benchmarks.timing import Figure, Goal, Ratio, Report

CPU = torch.device("cpu")


def test_ratios_are_taken_round_by_round():
    times = {"a": [1.0, 20.0, 3.0], "b": [2.0, 10.0, 3.0]}
    (ratio,) = timing.ratios("case", times, [Goal("a", "b", 1.5), Goal("a", "absent")])
    assert (ratio.name, ratio.median, ratio.low, ratio.high) == ("a / b", 1.0, 0.75, 1.5)
    assert ratio.met
    (figure, _) = timing.figures("case", times, "s")
    assert (figure.low, figure.median, figure.high) == (2.0, 3.0, 11.5)


def test_each_contender_has_its_turn_in_every_round():
    turns = []
    contenders = {name: lambda name=name: turns.append(name) or sum(range(300_000)) for name in "abc"}
    times = timing.interleaved(contenders, rounds=4)
    assert {name: len(seconds) for name, seconds in times.items()} == dict.fromkeys("abc", 4)
    assert all(value > 0 for seconds in times.values() for value in seconds)
    order = [name for name, following in zip(turns, [*turns[1:], ""], strict=True) if name != following]
    assert sorted(order[-3:]) == ["a", "b", "c"]


def test_other_work_is_not_compared():
    timing.agree("case", {"a": [1.0, 2.0], "b": [1.0, 2.001]}, 1e-2)
    with pytest.raises(AssertionError, match=r"case: b has the loss 2\.1, a has 2\.0: not the same work"):
        timing.agree("case", {"a": [1.0, 2.0], "b": [1.0, 2.1]}, 1e-2)
    with pytest.raises(AssertionError, match="nan"):
        timing.agree("case", {"a": [1.0], "b": [float("nan")]}, 1e-2)


def test_the_steps_eager_contenders_have_the_same_gradients_and_updates(monkeypatch):
    torch.manual_seed(0)
    start = step.MLP([6, 5, 4])
    x, y = torch.randn(7, 6), torch.randint(4, (7,))
    gradients = step._gradients(start, x, y)
    losses = {name: [float(gradients[name]())] for name in (step.EAGER, step.AUTOGRAD)}
    timing.agree("case", losses, 1e-6)
    updates = step._updates(start, x, y)
    losses = {name: [float(updates[name]()) for _ in range(4)] for name in (step.EAGER_SGD, step.AUTOGRAD_SGD)}
    timing.agree("case", losses, 1e-5)
    assert losses[step.EAGER_SGD][0] > losses[step.EAGER_SGD][-1]


@pytest.mark.parametrize(("runs", "product"), [((), "mm"), ((2,), "bmm")])
def test_the_floor_is_the_steps_own_products(monkeypatch, runs, product):
    done = []
    original = getattr(torch, product)
    noted = lambda a, b, out: done.append((*a.shape, b.shape[-1])) or original(a, b, out=out)  # noqa: E731
    monkeypatch.setattr(torch, product, noted)
    step.floor(step.MLP([6, 5, 4], runs=runs[0] if runs else None), torch.randn(*runs, 7, 6))()
    # z_I, z_O, ∇W_O, what goes down, ∇W_I; there is no ∇x
    assert done == [(*runs, *shape) for shape in ((7, 6, 5), (7, 5, 4), (5, 7, 4), (7, 4, 5), (6, 7, 5))]


def test_the_peak_is_what_is_alive_at_once():
    megabyte = 2**20

    def allocate():
        first = torch.empty(megabyte, dtype=torch.uint8)
        second = torch.empty(3 * megabyte, dtype=torch.uint8)
        del first, second
        torch.empty(2 * megabyte, dtype=torch.uint8)

    assert memory.peak(allocate, CPU) == pytest.approx(4 * megabyte, rel=0.01)


@pytest.mark.parametrize("version", ["2.11.0+cu130", "2.15.0", "3.0.1"])
def test_a_torch_that_cannot_compile_the_step_is_not_asked_to(monkeypatch, version):
    from backhand.benchmarks import sweep
    from backhand.config import validation

    run = []
    monkeypatch.setattr(validation, "version", lambda name: version)
    monkeypatch.setattr(sweep, "sweep_seconds", lambda overrides: run.append(overrides) or 2.0 + len(run))
    sweep._sweeps(Report("", [], []), (2, 3), (1, 2))
    without = [False] * 4
    assert ["compile=true" in overrides for overrides in run] == (
        without if version.startswith("2.11") else [False, False, True, True, False, False]
    )


def test_the_memory_of_by_hand_and_autograd_is_of_the_same_step():
    report = memory.benchmark(CPU, batch=64, sizes=(8, 8, 50))
    assert [figure.name for figure in report.figures] == [step.EAGER, step.AUTOGRAD]
    assert all(figure.median > 0 for figure in report.figures)


def reports():
    figure = Figure("case", "a", "µs", 123.4, 100.0, 150.0)
    return {
        "step": Report(
            "A step", [figure], [Ratio("case", "a / b", 0.5, 0.4, 0.6, 0.9), Ratio("case", "a / c", 2, 1, 3, 1)]
        )
    }


def test_the_json_is_complete(tmp_path):
    about = page.machine(CPU)
    page.write_json(reports(), about, tmp_path / "benchmark.json")
    record = json.loads((tmp_path / "benchmark.json").read_text())
    assert {"date", "device", "cores", "threads", "system", "versions", "benchmarks"} == record.keys()
    assert record["versions"]["torch"] == torch.__version__.partition("+")[0]
    (figure,) = record["benchmarks"]["step"]["figures"]
    assert figure == {"case": "case", "name": "a", "unit": "µs", "median": 123.4, "low": 100.0, "high": 150.0}
    met, missed = record["benchmarks"]["step"]["ratios"]
    assert (met["at_most"], met["met"], missed["met"]) == (0.9, True, False)
    assert [path.name for path in tmp_path.iterdir()] == ["benchmark.json"]


def test_the_chart_is_a_picture(tmp_path):
    page.write_chart(reports(), page.machine(CPU), tmp_path / "benchmark.png")
    header = (tmp_path / "benchmark.png").read_bytes()[:24]
    assert header[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", header[16:])
    assert min(width, height) > 200


def test_the_page_keeps_its_words_and_changes_its_figures(tmp_path):
    file = tmp_path / "benchmarks.md"
    marks = "<!-- step: written by scripts/benchmark.py -->\n{}<!-- end of step -->"
    file.write_text(f"before\n{marks.format('old figures')}\nafter")
    for _ in range(2):  # the second time finds what the first has written
        page.update_page(reports(), page.machine(CPU), file)
    text = file.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter")
    assert "old figures" not in text
    assert len(re.findall("a / c.*2.00.*1.00 .missed.", text)) == 1
    file.write_text("nothing to replace")
    with pytest.raises(ValueError, match="has no part between"):
        page.update_page(reports(), page.machine(CPU), file)


def test_the_projects_own_page_has_a_part_for_every_benchmark():
    from backhand.benchmarks.command import NAMES
    from backhand.config import CONF

    text = (CONF.parent / "docs" / "benchmarks.md").read_text()
    for name in NAMES:
        assert f"<!-- {name}: written by scripts/benchmark.py -->" in text


@pytest.mark.slow
def test_an_epoch_is_the_same_work_for_all(tmp_path):
    from backhand.benchmarks import epoch

    files = tmp_path / "files"
    epoch.write_mnist_shaped(files, 600, 100)
    config = epoch.configured(
        "data=mnist", f"data.dir={files}", "model.hidden=[16]", "optimizer=adam", "trainer=cpu", "trainer.max_epochs=1",
        *epoch.PLAIN,
    )  # fmt: skip
    losses = {}
    for name, run in (("ours", lambda: epoch.ours(config)), ("bare", lambda: epoch.bare(config)),
                      ("usual", lambda: epoch.usual(config, files))):  # fmt: skip
        seconds, loss = run()
        assert seconds > 0
        losses[name] = [loss]
    timing.agree("an epoch", losses, 1e-4)
    seconds, _ = epoch.scikit_learn(config)
    assert seconds > 0


def test_a_populations_contenders_do_the_work_of_separate_runs():
    from backhand.benchmarks import sweep

    torch.manual_seed(0)
    x, y = torch.randn(3, sweep.BATCH, sweep.SIZES[0]), torch.randint(sweep.SIZES[-1], (3, sweep.BATCH))
    start = sweep.MLP(sweep.SIZES, "relu", runs=3)
    begun = [each.detach().clone() for each in start.parameters()]
    alone = [step.MLP(sweep.SIZES, "relu") for _ in range(3)]
    optimizers = []
    for run, (model, lr) in enumerate(zip(alone, torch.linspace(0.005, 0.02, 3).tolist(), strict=True)):
        for own, value in zip(model.parameters(), begun, strict=True):
            own.data = value[run].clone()
        optimizers.append(torch.optim.SGD(model.parameters(), lr, 0.9))
    contenders = {"eager": sweep._ours(begun, x, y, compiled=False)}
    if (jax := sweep._jax(begun, x, y)) is not None:
        contenders["jax"] = jax
    found = {name: [float(each()) for _ in range(4)] for name, each in contenders.items()}
    expected = []
    for _ in range(4):
        losses = []
        for run, (model, optimizer) in enumerate(zip(alone, optimizers, strict=True)):
            losses.append(torch.nn.functional.cross_entropy(step.logits(model)(x[run]), y[run]).item())
            optimizer.zero_grad()
            model.loss(x[run], y[run], "cross_entropy").backward()
            optimizer.step()
        expected.append(sum(losses) / 3)
    timing.agree("case", {"one by one": expected, **found}, 1e-4)
    assert expected[-1] < expected[0]
