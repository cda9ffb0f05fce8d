"""The messages of a run whose numbers are not finite."""

import json

import pytest


@pytest.mark.slow
def test_the_step_that_ended_a_run_is_named_on_the_terminal_and_in_its_folder(command, tmp_path):
    arguments = ("data=diabetes", "optimizer.lr=100", "logger=csv", "hydra.run.dir=run")
    run = command("train.py", *arguments)
    error = json.loads((tmp_path / "run" / "result.json").read_text())["error"]
    assert error.startswith("epoch 1, step 7: the loss is not finite (inf; before it, z of output was up to ")
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    assert error.endswith(f"; learning rate 100); try a smaller optimizer.lr; the weights are those before it; "
                          f"last good checkpoint: {last}")  # fmt: skip
    assert last.exists()
    assert (run.returncode, run.stderr) == (1, f"train.py: diverged: {error}\n")
    assert "Diverged\n" in run.stdout
    assert "epoch 1, step 7: the loss is not finite" in (tmp_path / "run" / "report.html").read_text()

    for setting, status in (("fail", 1), ("ok", 0)):
        again = command("train.py", *arguments, f"on_divergence={setting}", "ckpt_path=auto")
        told = "complete already: run\n", f"train.py: diverged: {error}\n"
        assert (again.returncode, again.stdout, again.stderr) == (status, *told)
