"""Other backward passes in populations: each run equals the same run by itself."""

import pytest
from tests.sweeps.test_population import largest_difference, result, rows
from tests.training.test_backward_passes import OWN, given

from backhand.calculus.feedback import RULES


@pytest.mark.parametrize("rule", [*RULES, OWN])
def test_each_run_of_a_population_equals_the_single_run(jobs, together, one_by_one, rule):
    made = jobs([[f"seed={seed}", f"optimizer.lr={lr}"] for seed, lr in ((0, 0.1), (1, 0.05), (2, 0.1))],
                *given(rule), "trainer.precision=64-true", "optimizer.weight_decay=1e-3")  # fmt: skip
    together(made)
    for job, folder in zip(made, one_by_one(made), strict=True):
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
