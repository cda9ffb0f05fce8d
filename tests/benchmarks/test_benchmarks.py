"""The benchmarks compare equal work and write complete results. No test asserts a speed."""

import json

import pytest
import torch
from torch.nn import functional as F

import epoch
import measuring
import memory
import startup
import step
import sweep
from backhand import MLP


@pytest.fixture
def results(monkeypatch, tmp_path):
    """Run the benchmark of a module with these arguments; returns the rows that it writes."""

    def run(module, *arguments):
        monkeypatch.setattr("sys.argv", [f"{module.__name__}.py", "--output", str(tmp_path / "out"), *arguments])
        module.main()
        contents = json.loads((tmp_path / "out" / f"{module.__name__}.json").read_text())
        assert contents.keys() == {"benchmark", "command", "measured_on", "rows"}
        assert torch.__version__.partition("+")[0] in contents["measured_on"]
        assert all(row["low"] <= row["median"] <= row["high"] for row in contents["rows"])
        table = (tmp_path / "out" / f"{module.__name__}.md").read_text()
        assert [
            f"| {row['name']} |" in line for row, line in zip(contents["rows"], table.splitlines()[4:], strict=True)
        ]
        return contents["rows"]

    return run


def test_ratios_are_computed_per_round_and_a_missed_goal_is_marked(tmp_path):
    given = measuring.arguments("", 1).parse_args(["--output", str(tmp_path)])
    table = measuring.BenchmarkTable("A step", given)
    table.add("case", "s", {"a": [1.0, 20.0, 3.0], "b": [2.0, 10.0, 3.0], "c": [1.0, 40.0, 6.0]}, {"b": 0.9, "c": 0.5})
    a, b, c = table.rows
    assert (a["low"], a["median"], a["high"], a["ratio"]) == (2.0, 3.0, 11.5, None)
    assert (b["ratio"], c["ratio"]) == (1.0, 0.5)
    lines = table.markdown().splitlines()[-3:]
    assert lines[0] == "| case | a | 3 s | 2 – 11.5 |  |  |"
    assert lines[1].endswith("| 1.00 | 0.90 (missed) |")
    assert lines[2].endswith("| 0.50 | 0.50 |")


def test_contenders_are_measured_in_turn_and_the_first_round_is_dropped():
    turns = []
    contenders = {name: lambda name=name: turns.append(name) or float(len(turns)) for name in "ab"}
    assert measuring.in_turn(contenders, rounds=2) == {"a": [3.0, 5.0], "b": [4.0, 6.0]}
    assert turns == list("ababab")


def test_unequal_work_is_an_error():
    measuring.check_equal({"a": [1.0, 2.0], "b": [1.0, 2.001]}, 1e-2)
    with pytest.raises(AssertionError, match="b and a: not equal work"):
        measuring.check_equal({"a": [1.0, 2.0], "b": [1.0, 2.1]}, 1e-2)
    with pytest.raises(AssertionError, match="nan"):
        measuring.check_equal({"a": [1.0], "b": [float("nan")]}, 1e-2)
    equal = {epoch.OURS: epoch.Work(540, 5, 0.3), epoch.SCIKIT_LEARN: epoch.Work(540, 5, 0.9)}
    epoch.check_equal_work(equal)
    for other in (epoch.Work(40, 5, 0.3), epoch.Work(540, 4, 0.3)):
        with pytest.raises(AssertionError, match="not equal work"):
            epoch.check_equal_work({**equal, epoch.SCIKIT_LEARN: other})
    with pytest.raises(AssertionError, match="not equal work"):
        epoch.check_equal_work({**equal, epoch.BARE: epoch.Work(540, 5, 0.4)})


@pytest.mark.parametrize("argument", ["--rounds=0", "--rounds=many", "--device=cuda0"])
def test_an_invalid_argument_is_an_error(argument, capsys):
    with pytest.raises(SystemExit):
        measuring.arguments("", 1).parse_args([argument])
    assert "invalid" in capsys.readouterr().err


@pytest.mark.parametrize(("case", "product"), [("7,6-5-4", "mm"), ("7,6-5-4,2", "bmm")])
def test_the_floor_computes_the_matrix_products_of_a_step(monkeypatch, case, product):
    done = []
    original = getattr(torch, product)
    noted = lambda a, b, out: done.append((*a.shape, b.shape[-1])) or original(a, b, out=out)  # noqa: E731
    monkeypatch.setattr(torch, product, noted)
    start, x, _ = step.begin(case, "cpu")
    step.floor(start, x)()
    # z_I, z_O, ∇W_O, ∂L/∂h, ∇W_I; no ∇x
    products = ((7, 6, 5), (7, 5, 4), (5, 7, 4), (7, 4, 5), (6, 7, 5))
    assert done == [(*x.shape[:-2], *shape) for shape in products]


def test_a_populations_contenders_do_the_work_of_separate_runs(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda function, **options: function)
    start, x, y = step.begin("5,6-4-3,3", "cpu")
    models = [MLP([6, 4, 3], "relu") for _ in range(3)]
    for run, model in enumerate(models):
        for own, value in zip(model.parameters(), start.parameters(), strict=True):
            own.data = value[run].detach().clone()
    rates = torch.linspace(step.LR / 2, 2 * step.LR, 3).tolist()
    optimizers = [torch.optim.SGD(model.parameters(), lr, 0.9) for model, lr in zip(models, rates, strict=True)]
    expected = []
    for _ in range(4):
        losses = [F.cross_entropy(step.logits(models[run])(x[run]), y[run]) for run in range(3)]
        expected.append(torch.stack(losses).mean().item())
        for run in range(3):
            models[run].loss(x[run], y[run], "cross_entropy").backward()
            optimizers[run].step()
            optimizers[run].zero_grad()
    steps = step.update_steps(start, x, y)
    found = {name: [float(each().mean()) for _ in range(4)] for name, each in steps.items() if name != step.FLOOR}
    assert {step.WHOLE, step.HAND_SGD} <= found.keys()
    measuring.check_equal({"one by one": expected, **found}, 1e-4)
    assert expected[-1] < expected[0]


def test_the_peak_is_the_memory_that_is_allocated_at_the_same_time():
    megabyte = 2**20

    def allocate():
        first = torch.empty(megabyte, dtype=torch.uint8)
        second = torch.empty(3 * megabyte, dtype=torch.uint8)
        del first, second
        torch.empty(2 * megabyte, dtype=torch.uint8)

    assert memory.peak(allocate, "cpu") == pytest.approx(4 * megabyte, rel=0.01)


def test_memory_writes_its_results(results):
    rows = results(memory, "--case", "64,8-8-50")
    assert [(row["name"], row["unit"]) for row in rows] == [(step.HAND, "MB"), (step.AUTOGRAD, "MB")]
    assert all(row["median"] > 0 for row in rows)


def work_of(*overrides):
    return {name: begin()() for name, begin in epoch.contenders("trainer=cpu", *overrides).items()}


def test_epochs_of_digits_are_equal_work():
    work = work_of("trainer.max_epochs=2")
    assert work.keys() == {epoch.OURS, epoch.AUTOGRAD, epoch.BARE, epoch.SCIKIT_LEARN}
    epoch.check_equal_work(work)
    rows, steps, _ = work[epoch.OURS]
    per_epoch = rows // 2
    assert 1000 < per_epoch < 1797  # scikit-learn's 1,797 include validation and test samples
    assert steps == 2 * -(-per_epoch // 32)


@pytest.mark.slow
def test_an_epoch_of_images_is_equal_work(tmp_path, monkeypatch):
    monkeypatch.setattr(epoch, "can_compile", lambda: False)
    epoch.write_mnist_shaped(tmp_path, 6000, 100)
    pictures = ("data=mnist", f"data.dir={tmp_path}", "model.hidden=[16]", "optimizer=adam", "trainer.max_epochs=1")
    work = work_of(*pictures)
    assert len(work) == 5
    epoch.check_equal_work(work)
    assert {each[:2] for each in work.values()} == {(5400, 43)}


@pytest.mark.slow
def test_step_writes_its_results(results):
    names = [row["name"] for row in results(step, "--rounds=1", "--cases", "4,8-6-3")]
    assert names[:4] == [step.HAND, step.AUTOGRAD, step.COMPILED, step.WHOLE]
    assert names[-1] == step.FLOOR


@pytest.mark.slow
def test_epoch_writes_its_results(results, monkeypatch):
    monkeypatch.setattr(epoch, "process", lambda *command: 1.0)
    monkeypatch.setattr(epoch, "can_compile", lambda: False)
    rows = results(epoch, "--rounds=1", "--pictures=600", "--epochs=1")
    assert [row["name"] for row in rows if row["ratio"] is None] == [epoch.OURS, epoch.OURS, "train.py"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "arguments"),
    [(startup, []), (sweep, ["--runs", "2", "3", "--one-by-one", "1", "2", "--epochs=1"])],
    ids=["startup", "sweep"],
)
def test_complete_commands_write_their_results(results, monkeypatch, module, arguments):
    commands = []
    monkeypatch.setattr(module, "process", lambda *command: commands.append(command) or float(len(commands)))
    rows = results(module, "--rounds=2", *arguments)
    assert all(len(row["rounds"]) == 2 for row in rows)
    assert measuring.process(*commands[0]) > 0  # raises if the command fails


@pytest.mark.parametrize("can_compile", [True, False])
def test_one_more_run_is_the_difference_between_two_sweeps(results, monkeypatch, can_compile):
    def seconds(*command):
        count = int(next(word for word in command if word.startswith("seed="))[len("seed=range(") : -1])
        return 5 + count * (0.1 if sweep.POPULATION in command else 1.0)

    monkeypatch.setattr(sweep, "process", seconds)
    monkeypatch.setattr(sweep, "can_compile", lambda: can_compile)
    rows = {row["name"]: row["median"] for row in results(sweep) if row["case"].endswith("one more run")}
    expected = {sweep.POPULATION: 0.1, sweep.COMPILED: 0.1, sweep.ONE_BY_ONE: 1.0}
    assert rows == pytest.approx({name: expected[name] for name in rows})
    assert (sweep.COMPILED in rows) is can_compile
