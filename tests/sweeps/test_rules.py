"""Other backward passes in populations: each run equals the same run by itself."""

import pytest
import torch
from tests.sweeps.test_population import largest_difference, result, rows
from tests.training.test_backward_passes import OWN, given

from backhand.calculus.feedback import RULES
from backhand.errors import UserError


def test_a_population_whose_rule_fails_leaves_the_epochs_and_the_best_checkpoint_of_each_run(
    jobs, as_population, tmp_path
):
    rule = (
        "calls = []\n\n\ndef mine(delta, W, slope, layer):\n    calls.append(0)\n    assert len(calls) < 200, 'late'\n"
    )
    (tmp_path / "own.py").write_text(rule + "    return (delta @ W.mT) * slope\n")
    gradient = f"model.gradient={tmp_path}/own.py:mine"
    made = jobs([["seed=0"], ["seed=1"]], gradient, "model.hidden=[8]", "trainer.max_epochs=20")
    with pytest.raises(UserError, match="hidden layer 0: AssertionError: late"):
        as_population(made)
    known = result(made[0].folder)
    assert known["status"] == "failed"
    assert known["error"].startswith(f"{gradient}: hidden layer 0: AssertionError: late")
    assert 1 <= known["epochs"] == len(rows(made[0].folder)) < 20
    assert known["steps"] == rows(made[0].folder)[-1]["step"] + 1
    contents = torch.load(made[0].folder / "checkpoints" / "best.ckpt", weights_only=True)
    assert contents["run"]["endings"] == [None]


@pytest.mark.parametrize("rule", [*RULES, OWN])
def test_each_run_of_a_population_equals_the_single_run(jobs, as_population, as_single_runs, rule):
    made = jobs([[f"seed={seed}", f"optimizer.lr={lr}"] for seed, lr in ((0, 0.1), (1, 0.05), (2, 0.1))],
                *given(rule), "trainer.precision=64-true", "optimizer.weight_decay=1e-3")  # fmt: skip
    as_population(made)
    for job, folder in zip(made, as_single_runs(made), strict=True):
        assert largest_difference(job.folder, folder) < 1e-9
        assert largest_difference(job.folder, folder, "best") < 1e-9
        ours, theirs = rows(job.folder), rows(folder)
        assert [row.keys() for row in ours] == [row.keys() for row in theirs]
        for name in [name for name in theirs[-1] if name.startswith(("alignment/", "norm_ratio/"))]:
            assert float(ours[-1][name]) == pytest.approx(float(theirs[-1][name]), rel=1e-6, nan_ok=True), name
        if rule == "straight_through":  # backpropagation's own δ is 0 here
            assert result(job.folder)["audit"] is result(folder)["audit"] is None
        else:
            assert result(job.folder)["audit"]["angle"] == pytest.approx(result(folder)["audit"]["angle"], rel=1e-6)
