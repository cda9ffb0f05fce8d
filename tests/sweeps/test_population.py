"""Each run of a population compared with the same run by itself."""

import csv
import itertools
import json
import math

import pytest
import torch

from backhand.calculus import backpropagation
from backhand.config.validation import can_compile
from backhand.data.batches import Batches
from backhand.sweeps import launcher
from backhand.sweeps.population import rows_at_once
from backhand.training.module import LightningMLP
from backhand.training.train import Run

SGD = [
    [f"seed={seed}", f"optimizer.lr={lr}", f"optimizer.momentum={momentum}", f"optimizer.weight_decay={decay}"]
    for seed, lr, momentum, decay in zip(
        range(16), (0.01, 0.03, 0.1, 0.05) * 4, (0.0, 0.5, 0.9, 0.9) * 4, (0.0, 0.0, 1e-3, 1e-4) * 4, strict=True
    )
]
ADAM = [
    [f"seed={seed}", f"optimizer.lr={lr}", f"optimizer.betas=[{beta},0.99]", f"optimizer.weight_decay={decay}"]
    for seed, lr, beta, decay in zip(
        range(16), (1e-3, 2e-3, 5e-3, 1e-2) * 4, (0.8, 0.9) * 8, (0.0, 1e-3, 1e-2, 0.1) * 4, strict=True
    )
]


def tensors(folder, which="last"):
    contents = torch.load(folder / "checkpoints" / f"{which}.ckpt", weights_only=True)
    state = contents["optimizer_states"][0]["state"]
    return contents["state_dict"] | {
        f"{k}.{name}": value for k, of_one in state.items() for name, value in of_one.items() if value is not None
    }


def largest_difference(ours, theirs, which="last"):
    ours, theirs = tensors(ours, which), tensors(theirs, which)
    assert ours.keys() == theirs.keys()
    return max(float((ours[k].double() - theirs[k].double()).norm() / theirs[k].double().norm()) for k in theirs)


def result(folder):
    return json.loads((folder / "result.json").read_text())


def rows(folder):
    return [
        {name: float(value) for name, value in row.items() if value and not name.startswith("audit/")}
        for row in csv.DictReader((folder / "metrics.csv").open())
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("precision", "tolerance"),
    [("64-true", 1e-9), pytest.param("32-true", 1e-4, marks=pytest.mark.stress)],
)
@pytest.mark.parametrize(
    ("optimizer", "settings"),
    [
        pytest.param("sgd", SGD, marks=pytest.mark.stress),
        ("adam", ADAM),
        pytest.param("adamw", ADAM, marks=pytest.mark.stress),
    ],
    ids=["sgd", "adam", "adamw"],
)
def test_sixteen_mixed_runs_equal_the_single_runs(
    jobs, as_population, as_single_runs, precision, tolerance, optimizer, settings
):
    made = jobs(settings, f"optimizer={optimizer}", f"trainer.precision={precision}", "trainer.max_epochs=10")
    as_population(made)
    for job, single in zip(made, as_single_runs(made), strict=True):
        for which in ("best", "last"):
            assert largest_difference(job.folder, single, which) <= tolerance
        ours, theirs = result(job.folder), result(single)
        assert ours["status"] == theirs["status"] == "finished"
        assert ours["config_hash"] == theirs["config_hash"]
        assert (ours["steps"], ours["epochs"], ours["parameters"]) == (400, 10, theirs["parameters"])
        if precision == "64-true":
            assert ours["metrics"]["test/acc"] == theirs["metrics"]["test/acc"]
        for one, other in zip(rows(job.folder), rows(single), strict=True):
            assert one == pytest.approx(other, rel=1e-3, abs=1e-5)


SHORT = ("data=wine", "trainer.max_epochs=12", "trainer.precision=64-true")
KINDS = {
    "schedules": (
        [[f"scheduler.factor={f}", f"scheduler.patience={p}", "optimizer.lr=0.5"] for f, p in ((0.1, 0), (0.5, 1))],
        ("scheduler=plateau", *SHORT),
    ),
    "cosine": ([[f"scheduler.min_lr={m}"] for m in (0.0, 0.01)], ("scheduler=cosine", *SHORT)),
    "early stopping": (
        [["optimizer.lr=0.001"], ["optimizer.lr=1.0"], ["optimizer.lr=3.0"]],
        (
            "callbacks=early_stopping",
            "callbacks.early_stopping.patience=2",
            "callbacks.early_stopping.min_delta=0.001",
            *SHORT,
        ),
    ),
    "one seed": ([[f"optimizer.lr={lr}"] for lr in (0.01, 0.1)], SHORT),
    "a number to predict": ([["seed=0"], ["seed=1"]], ("data=diabetes", *SHORT[1:], "optimizer.lr=0.01")),
    "several numbers": ([["seed=0"], ["seed=1"]], ("data=teacher", "data.outputs=2", *SHORT[1:], "optimizer.lr=0.01")),
    "an objective to maximise": ([["seed=0"], ["seed=1"]], ("objective=val/acc", *SHORT)),
    "two classes": ([["seed=0"], ["seed=1"]], ("data=breast_cancer", *SHORT[1:])),
    "class weights": ([["seed=0"], ["seed=1"]], ("model.class_weight=balanced", *SHORT)),
    "initialisations": (
        [["model.init=xavier"], ["model.init=kaiming"], ["model.init=normal", "model.init_scale=0.1"]],
        ("model.hidden=[8,8]", "model.hidden_activation=relu", *SHORT),
    ),
    "an activation for each layer": (
        [["seed=0"], ["seed=1"]],
        ("model.hidden=[8,6]", "model.hidden_activation=[gelu,relu]", *SHORT),
    ),
    "torch's own graph": ([["seed=0"], ["seed=1"]], ("model.gradient=autograd", *SHORT)),
    "accumulated batches": ([["seed=0"], ["seed=1"]], ("trainer.accumulate_grad_batches=3", *SHORT)),
    "a validation every third epoch": (
        [["seed=0", "optimizer.lr=0.5"], ["seed=1"]],
        ("trainer.check_val_every_n_epoch=3", "scheduler=plateau", "scheduler.patience=0", *SHORT),
    ),
    "no validation": ([["seed=0"], ["seed=1"]], ("trainer.limit_val_batches=0", "objective=train/loss", *SHORT)),
    "the whole split in a step": ([["seed=0"], ["seed=1"]], ("data.batch_size=full", *SHORT)),
    "a part of each epoch": ([["seed=0"], ["seed=1"]], ("trainer.limit_train_batches=2", *SHORT)),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_feature_of_a_run_works_in_a_population(jobs, as_population, as_single_runs, kind):
    each, shared = KINDS[kind]
    made = jobs(each, *shared)
    as_population(made)
    for job, single in zip(made, as_single_runs(made), strict=True):
        for which in ("best", "last"):
            assert largest_difference(job.folder, single, which) <= 1e-9
        ours, theirs = result(job.folder), result(single)
        assert {key: ours[key] for key in ("status", "epochs", "steps", "error")} == {
            key: theirs[key] for key in ("status", "epochs", "steps", "error")
        }
        assert ours["metrics"] == pytest.approx(theirs["metrics"], rel=1e-5, abs=1e-6)
        assert ours["best"] == pytest.approx(theirs["best"], rel=1e-5, abs=1e-6)
        for one, other in zip(rows(job.folder), rows(single), strict=True):
            assert one == pytest.approx(other, rel=1e-5, abs=1e-6)


def test_a_checkpoint_has_the_same_contents_as_a_single_runs(jobs, as_population, as_single_runs):
    made = jobs([["seed=0"], ["seed=1"]], "callbacks=early_stopping", "scheduler=plateau", *SHORT)
    as_population(made)
    (single, *_) = as_single_runs(made)
    ours, theirs = (
        torch.load(folder / "checkpoints/last.ckpt", weights_only=True) for folder in (made[0].folder, single)
    )

    def shape(value):
        if isinstance(value, dict):
            return {str(key).replace(str(made[0].folder), str(single)): shape(each) for key, each in value.items()}
        return [shape(each) for each in value] if isinstance(value, list) else type(value)

    assert shape(ours) == shape(theirs)
    for key in ("loops", "InMemoryData"):
        assert ours[key] == theirs[key]


@pytest.mark.slow
def test_a_run_is_resumed_from_the_checkpoint_of_a_population(
    jobs, as_population, as_single_runs, configured, tmp_path
):
    settings = [["seed=0", "optimizer.lr=0.01"], ["seed=1", "optimizer.lr=0.1"]]
    made = jobs(settings, "optimizer=adam", *SHORT)
    as_population(made)
    longer = jobs(settings, "optimizer=adam", *SHORT, "trainer.max_epochs=15")
    for job, single, before in zip(longer, as_single_runs(longer), made, strict=True):
        config = configured(
            "logger=csv",
            "trainer=cpu",
            "callbacks.progress_bar=false",
            "optimizer=adam",
            *SHORT,
            *job.overrides,
            "trainer.max_epochs=15",
            f"ckpt_path={before.folder / 'checkpoints/last.ckpt'}",
        )
        folder = tmp_path / f"on{job.number}"
        folder.mkdir()
        Run(config, folder).train(standalone=False)
        assert largest_difference(folder, single) <= 1e-9


@pytest.mark.slow
def test_a_diverging_run_does_not_affect_the_others(jobs, as_population):
    calm = [[f"seed={seed}"] for seed in range(16)]
    with_one = jobs([*calm[:7], ["seed=7", "optimizer.lr=1e6"], *calm[8:]], "trainer.max_epochs=3")
    without = jobs(calm, "trainer.max_epochs=3")
    as_population(with_one)
    as_population(without)
    assert result(with_one[7].folder)["status"] == "diverged"
    assert "training loss" in result(with_one[7].folder)["error"]
    for job, other in zip(with_one[:7] + with_one[8:], without[:7] + without[8:], strict=True):
        assert result(job.folder)["status"] == "finished"
        assert largest_difference(job.folder, other.folder) == 0
        assert result(job.folder)["metrics"] == result(other.folder)["metrics"]


@pytest.mark.slow
def test_numbers_that_are_not_finite_stay_in_their_run(jobs, as_population):
    settings = [["seed=0"], ["seed=1", "optimizer.lr=1e30"], ["seed=2"]]
    made = jobs(settings, "model.hidden_activation=relu", "data=wine", "trainer.max_epochs=4")
    as_population(made)
    assert [result(job.folder)["status"] for job in made] == ["finished", "diverged", "finished"]
    assert result(made[1].folder)["objective"]["value"] is None or math.isfinite(
        result(made[1].folder)["objective"]["value"]
    )
    for job in (made[0], made[2]):
        assert all(value.isfinite().all() for value in tensors(job.folder).values())


@pytest.mark.parametrize("policy", ["stop", "skip", "continue"])
def test_steps_that_are_not_finite_are_skipped_only_in_their_run(
    jobs, as_population, as_single_runs, monkeypatch, policy
):
    # A row of the second run's data is infinite: of 124 rows, it is in one step of each epoch.
    original = Batches._batch

    def spoilt(self, rows, step):
        batch = original(self, rows, step)
        if self.shuffle_seed in (1, [0, 1, 2]):
            runs = [1] if isinstance(self.shuffle_seed, list) else [None]
            for run in runs:
                x, y = (batch.x, batch.y) if run is None else (batch.x[run], rows[run])
                place = (rows if run is None else y) == 7
                x[place] = math.inf
        return batch

    monkeypatch.setattr(Batches, "_batch", spoilt)
    made = jobs([["seed=0"], ["seed=1"], ["seed=2"]], f"on_nan={policy}", "optimizer=adam", *SHORT, "report=false")
    as_population(made)
    for job, single in zip(made, as_single_runs(made), strict=True):
        ours, theirs = result(job.folder), result(single)
        keys = ("status", "epochs", "steps", "skipped")
        assert [ours[key] for key in keys] == [theirs[key] for key in keys]
        assert (ours["error"] or "").split("; last good")[0] == (theirs["error"] or "").split("; last good")[0]
        if policy != "continue":
            assert largest_difference(job.folder, single) <= 1e-9
            assert ours["metrics"] == pytest.approx(theirs["metrics"], rel=1e-5, abs=1e-6)
    expected = {"stop": ("diverged", 1), "skip": ("finished", 12), "continue": ("diverged", 0)}[policy]
    assert (result(made[1].folder)["status"], result(made[1].folder)["skipped"]) == expected
    if policy == "stop":
        assert "the input is not finite (inf; learning rate" in result(made[1].folder)["error"]


def test_a_wrong_gradient_of_one_run_ends_only_that_run(jobs, as_population, monkeypatch):
    honest = backpropagation.backward

    def wrong_in_run_one(*arguments):
        found = honest(*arguments)
        found[1][1] *= 1.5
        return found

    monkeypatch.setattr(backpropagation, "backward", wrong_in_run_one)
    made = jobs([["seed=0"], ["seed=1"], ["seed=2"]], *SHORT)
    with pytest.raises(Exception, match=r"gradient of layers\.0\.weight at step 0"):
        as_population(made)
    assert [result(job.folder)["status"] for job in made[:2]] == ["finished", "failed"]


def test_a_population_that_does_not_fit_into_memory_is_split(jobs, monkeypatch):
    original, tried = launcher.build_module, []

    def build(config, data, runs):
        tried.append(len(runs))
        if len(runs) > 2:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
        return original(config, data, runs)

    monkeypatch.setattr(launcher, "build_module", build)
    sweep = launcher.PopulationSweep(None, lambda cfg: None, None)
    monkeypatch.setattr(sweep, "_run", lambda job, task: job.folder.mkdir() or task(None))
    made = jobs([[f"seed={seed}"] for seed in range(5)], "data=wine", "trainer.max_epochs=1", "logger=csv")
    sweep._populations(made)
    assert tried == [5, 2, 3, 1, 2]
    assert [result(job.folder)["status"] for job in made] == ["finished"] * 5


@pytest.mark.parametrize("logger", ["wandb", "tensorboard", "none"])
def test_every_run_of_a_population_writes_metrics_csv_with_any_logger(jobs, as_population, logger):
    plain, made = (
        jobs([["seed=0"], ["seed=1"]], *SHORT, "trainer.max_epochs=2", f"logger={each}") for each in ("csv", logger)
    )
    as_population(plain)
    as_population(made)
    for job, other in zip(plain, made, strict=True):
        rows = (job.folder / "metrics.csv").read_text()
        assert len(rows.splitlines()) == 3
        assert (other.folder / "metrics.csv").read_text() == rows


def test_the_batch_size_of_evaluation_is_bounded_by_the_number_of_runs(jobs, as_population):
    made = jobs([["seed=0"], ["seed=1"]], *SHORT, "trainer.max_epochs=1")
    population = as_population(made)
    assert rows_at_once(64, [64, 1024, 10]) == 128
    population.data.evaluation_batch = 10
    assert [len(batch.y) for batch in population.data.val_dataloader()] == [10, 10, 7]


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_an_interrupted_population_is_resumed_bit_for_bit(jobs, as_population, optimizer, monkeypatch):
    settings = [[f"seed={seed}", f"optimizer.lr={lr}"] for seed, lr in itertools.product((0, 1), (0.01, 1e6))]
    shared = (f"optimizer={optimizer}", "scheduler=cosine", "callbacks=early_stopping", *SHORT)
    whole, cut = jobs(settings, *shared), jobs(settings, *shared)
    as_population(whole)

    class CutError(Exception):
        pass

    def cut_off(self):
        if self.trainer.current_epoch == 5:
            raise CutError

    with monkeypatch.context() as patched:
        patched.setattr(LightningMLP, "on_train_epoch_start", cut_off)
        with pytest.raises(CutError):
            as_population(cut)
    as_population(cut)
    for job, other in zip(whole, cut, strict=True):
        for which in ("best", "last"):
            assert largest_difference(other.folder, job.folder, which) == 0
        assert (job.folder / "metrics.csv").read_bytes() == (other.folder / "metrics.csv").read_bytes()
        ours, theirs = result(job.folder), result(other.folder)
        assert {k: v for k, v in ours.items() if k != "seconds"} == {k: v for k, v in theirs.items() if k != "seconds"}


@pytest.mark.slow
@pytest.mark.skipif(not can_compile(), reason="needs torch 2.15")
def test_a_compiled_population_equals_the_eager_one(jobs, as_population):
    for optimizer, settings in (("sgd", SGD), ("adam", ADAM)):
        eager, compiled = (
            jobs(settings[:4], f"optimizer={optimizer}", *SHORT, f"compile={c}") for c in ("false", "true")
        )
        as_population(eager)
        as_population(compiled)
        for job, other in zip(eager, compiled, strict=True):
            assert largest_difference(other.folder, job.folder) <= 1e-9
