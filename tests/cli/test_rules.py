"""Another backward pass on the command line: what is refused, no stale results, and the summary of a sweep."""

import json
import os
import shutil
import signal

import pytest
import torch
from tests.cli.conftest import ROOT

OWN = "def mine(delta, W, slope, layer):\n    return (delta @ layer.fixed('B', like=W).mT) * slope\n"
EDITED = OWN.replace("* slope", "* slope * 0.5")
SHORT = ("data=wine", "trainer=cpu", "trainer.max_epochs=2", "logger=none", "callbacks.progress_bar=false")
CHANGED = "another backward pass's run (the code that the gradients come from has changed since)"


def weights(folder):
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


@pytest.mark.parametrize(
    ("gradient", "source", "message"),
    [
        ("nowhere.py:mine", None, "model.gradient=nowhere.py: no such file"),
        ("own.py:min", OWN, "own.py has no function min (did you mean mine?)"),
        ("own.py", OWN, "needs the function, as in own.py:hidden_delta"),
        ("own.py:mine", "def mine(:\n", "own.py is not Python"),
        ("feedback", None, "no such choice (did you mean feedback_alignment?)"),
        ("straight_through", None, "is for activations with derivative 0, such as model.hidden_activation=sign"),
    ],
)
def test_a_wrong_rule_is_refused_before_torch_is_imported(command_here, tmp_path, gradient, source, message):
    if source is not None:
        (tmp_path / "own.py").write_text(source)
    done = command_here("train.py", f"model.gradient={gradient}", *SHORT)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert message in done.stderr
    assert not (tmp_path / "outputs").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            "delta",
            "model.gradient=own.py:mine: hidden layer 0: the rule returned a δ of the shape (2, 3); "
            "must be that of g′(z), (2, 64)",
        ),
        ("slope / 0", "model.gradient=own.py:mine: hidden layer 0: the rule returned a δ that is not finite"),
        ("unknown", "hidden layer 0: NameError: name 'unknown' is not defined (own.py, line 2, in mine)"),
        ("delta @ W", "mat1 and mat2 shapes cannot be multiplied (2x3 and 64x3) (own.py, line 2, in mine)"),
        (
            "delta.mul_(0.5) @ W.mT * slope",
            "model.gradient=own.py:mine: hidden layer 0: the rule changes its arguments",
        ),
        ("1 / 0 if len(delta) > 2 else slope", "hidden layer 0: ZeroDivisionError: division by zero (own.py, line 2"),
        ("slope if len(delta) == 2 else slope[:, :1]", "hidden layer 0: the rule returned a δ of the shape (32, 1)"),
    ],
)
def test_a_mistake_in_a_rule_is_one_line_that_names_the_layer(command, tmp_path, body, message):
    (tmp_path / "own.py").write_text(f"def mine(delta, W, slope, layer):\n    return {body}\n")
    for compiled in ("false", "true"):
        shared = ("train.py", "model.gradient=own.py:mine", *SHORT, f"hydra.run.dir={compiled}")
        done = command(*shared, f"compile={compiled}")
        assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
        assert message in done.stderr


@pytest.mark.slow
def test_results_of_a_file_are_not_used_after_it_was_edited(command, tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    run = ("train.py", *SHORT, "model.gradient=own.py:mine", "hydra.run.dir=run", "ckpt_path=auto")
    sweep = ("train.py", "-m", *SHORT, "model.gradient=own.py:mine", "seed=0,1", "hydra.sweep.dir=sweep")
    study = (
        *sweep[:-2],
        "search=optuna",
        "hydra.sweeper.n_trials=2",
        "optimizer.lr=interval(0.01,0.1)",
        "hydra.sweep.dir=study",
    )
    for each in (run, sweep, study):
        assert command(*each).returncode == 0
    before = {path: path.read_bytes() for path in tmp_path.glob("*/**/*") if path.is_file() and path.name != ".lock"}
    (tmp_path / "own.py").write_text(f'"""With comments."""\n\n\n{OWN}# and more\n')
    assert "complete already" in command(*run).stdout
    (tmp_path / "own.py").write_text(EDITED)
    for each, message in (
        (run, CHANGED),
        (sweep, "was started with another backward pass"),
        ([each.replace("seed=0,1", "seed=0,1,2") for each in sweep], "was started with another backward pass"),
        (study, "another backward pass"),
    ):
        done = command(*each)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done.stderr
        assert message in done.stderr
    assert all(path.read_bytes() == content for path, content in before.items() if path.suffix != ".log")


@pytest.mark.slow
def test_an_interrupted_run_is_not_resumed_with_an_edited_file(command, tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    run = (*SHORT, "model.gradient=own.py:mine", "hydra.run.dir=run", "checkpoint.every_n_steps=1")
    killed = command("tests/cli/killed.py", str(ROOT / "train.py"), "step", "6", "SIGKILL", *run)
    assert killed.returncode == -signal.SIGKILL
    (tmp_path / "own.py").write_text(EDITED)
    done = command("train.py", *run, "ckpt_path=auto")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert CHANGED in done.stderr


@pytest.mark.slow
def test_results_of_a_package_are_not_used_after_it_was_edited(cold_command, tmp_path):
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    for name in ("train.py", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    path = os.pathsep.join([str(tmp_path / "src"), str(ROOT)])
    run = (str(tmp_path / "train.py"), *SHORT, "hydra.run.dir=run", "ckpt_path=auto")
    assert cold_command(*run, PYTHONPATH=path).returncode == 0
    assert "complete already" in cold_command(*run, PYTHONPATH=path).stdout
    derivation = tmp_path / "src" / "backhand" / "calculus" / "backpropagation.py"
    derivation.write_text(derivation.read_text().replace("g.delta(delta @ W.mT, saved)", "delta @ W.mT"))
    done = cold_command(*run, PYTHONPATH=path)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert CHANGED in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("change", ["model.gradient=hand", "model.straight_through_window=0.5"])
def test_another_rule_or_another_setting_of_it_makes_another_run(command, tmp_path, change):
    run = ("train.py", *SHORT, "model.hidden_activation=sign", "model.gradient=straight_through", "hydra.run.dir=run")
    assert command(*run).returncode == 0
    done = command(*run, change, "ckpt_path=auto")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert f"another configuration's run ({change.partition('=')[0]} is " in done.stderr


@pytest.mark.slow
def test_two_processes_train_as_one(command, tmp_path):
    shared = (
        "train.py",
        *SHORT,
        "model.gradient=kolen_pollack",
        "trainer.precision=64-true",
        "optimizer.weight_decay=0.01",
    )
    assert command(*shared, "hydra.run.dir=one").returncode == 0
    two = command(*shared, "trainer=ddp_cpu", "trainer.devices=2", "hydra.run.dir=two", "trainer.max_epochs=2",
                  "trainer.precision=64-true")  # fmt: skip
    assert two.returncode == 0, two.stderr
    ours, theirs = weights(tmp_path / "two"), weights(tmp_path / "one")
    assert "model.feedback.0.B" in theirs
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=0, atol=1e-9)


@pytest.mark.slow
def test_a_sweep_over_rules_ends_with_means_and_differences_by_seed(command, tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    rules = "model.gradient=hand,feedback_alignment,own.py:mine"
    sweep = ("train.py", "-m", *SHORT, rules, "seed=range(3)", "hydra/launcher=population", "hydra.sweep.dir=sweep")
    done = command(*sweep)
    assert done.returncode == 0, done.stderr
    records = [json.loads((tmp_path / "sweep" / str(job) / "result.json").read_text()) for job in range(9)]
    assert [each["population"] for each in records] == [3] * 9
    assert [each["metrics"] for each in records[3:6]] == [each["metrics"] for each in records[6:]]
    assert "difference from model.gradient=hand, paired by seed" in " ".join(done.stdout.split())
    assert records[0]["audit"].keys() >= {"worst"}
    assert records[3]["audit"].keys() == {"times", "angle"}
