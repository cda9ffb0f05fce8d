"""Sweeps that finish, are killed at many moments, are refused, or fail."""

import csv
import json
import os
import resource
import signal
import subprocess
import sys

import pytest
import torch
from tests.cli.conftest import ROOT, until

SMALL = ("data=wine", "trainer=cpu", "logger=csv", "model.hidden=[8]")
POPULATION = "hydra/launcher=population"


def records(folder):
    """Each job's result.json by the job's number."""
    return {int(path.parent.name): json.loads(path.read_text()) for path in folder.glob("*/result.json")}


def complete(folder):
    return {number for number, each in records(folder).items() if each["status"] in ("finished", "diverged")}


def table(folder):
    with (folder / "sweep.csv").open(newline="") as file:
        return [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)]


def assert_all_of_it(folder, jobs):
    """Check that every job is there once, and nothing else."""
    made = {path.name for path in folder.iterdir() if path.is_dir()}
    assert made == {str(number) for number in range(jobs)}
    assert sorted(complete(folder)) == list(range(jobs))
    for number in range(jobs):
        with (folder / str(number) / "metrics.csv").open(newline="") as file:
            epochs = [int(row["epoch"]) for row in csv.DictReader(file)]
        assert epochs == list(range(records(folder)[number]["epochs"]))
    assert not list(folder.rglob("*.tmp"))


def plain(value, folder):
    """A checkpoint's contents without the folder's name and the time; tensors as bytes."""
    if isinstance(value, dict):
        return {plain(key, folder): plain(each, folder) for key, each in value.items() if key != "seconds"}
    if isinstance(value, list | tuple):
        return [plain(each, folder) for each in value]
    if isinstance(value, torch.Tensor):
        return (str(value.dtype), tuple(value.shape), value.numpy().tobytes())
    return value.replace(str(folder), "") if isinstance(value, str) else value


def assert_same_to_the_bit(folder, other, jobs):
    assert table(folder) == table(other)
    for number in map(str, range(jobs)):
        assert (folder / number / "metrics.csv").read_bytes() == (other / number / "metrics.csv").read_bytes()
        for name in ("best.ckpt", "last.ckpt"):
            one, two = (
                plain(torch.load(each / number / "checkpoints" / name, weights_only=True), each)
                for each in (folder, other)
            )
            assert one == two
        one, two = (
            {key: value for key, value in records(each)[int(number)].items() if key not in ("seconds", "git_commit")}
            for each in (folder, other)
        )
        assert one == two


def has_started(folder):
    return (folder / "sweep.json").exists()


def with_results(count):
    return lambda folder: len(complete(folder)) >= count


def in_a_job(folder):
    return any(not (path.parents[1] / "result.json").exists() for path in folder.glob("*/checkpoints/last.ckpt"))


def asked_for(trials):
    """Whether Optuna has started to draw this many trials, and the last one is not running yet."""

    def reached(folder):
        journal = folder / "study.journal"
        asked = journal.read_bytes().count(b'"op_code":4,') if journal.exists() else 0
        return asked >= trials and not (folder / str(trials - 1)).exists()

    return reached


def written(pattern, times):
    """Whether a file was made or replaced this many times while this waited."""
    seen = None

    def reached(folder):
        nonlocal seen
        states = {(str(path), path.stat().st_mtime_ns) for path in folder.glob(pattern)}
        if seen is None:
            seen = (states, set())
        seen[1].update(states - seen[0])
        return len(seen[1]) >= times

    return reached


GRID = ("seed=0,1,2", "optimizer.lr=0.1,1e6", "optimizer.momentum=0.9", "scheduler=plateau", "sweep.max_failures=null")
SEARCH = (
    "search=optuna",
    "hydra.sweeper.sampler_options={n_startup_trials:2}",
    "hydra.sweeper.n_trials=6",
    "optimizer.lr=tag(log, interval(0.01, 0.3))",
    "model.init_scale=interval(0.5, 2)",
)
EARLY = ("callbacks=early_stopping", "callbacks.early_stopping.patience=2", "callbacks.early_stopping.min_delta=1e-3")
POPULATION_FILE = "populations/*/last.ckpt"
KILLED = {
    "one kill": (
        ("optimizer.lr=0.1,0.2,1e6", "sweep.max_failures=null", "trainer.max_epochs=12"),
        3,
        [with_results(1)],
    ),
    "grid": (
        (*GRID, "trainer.max_epochs=12"),
        6,
        [has_started, with_results(1), in_a_job, with_results(3), written("4/metrics.csv", 5)],
    ),
    "population": (
        (*GRID, *EARLY, "optimizer.lr=0.1,0.003,1e6", "trainer.max_epochs=150", POPULATION),
        9,
        [
            has_started,
            written(POPULATION_FILE, 1),
            written(POPULATION_FILE, 2),
            written(POPULATION_FILE, 1),
            with_results(1),
        ],
    ),
    "search": (
        (*SEARCH, "hydra.sweeper.n_jobs=2", "trainer.max_epochs=12"),
        6,
        [asked_for(2), with_results(1), in_a_job, asked_for(4), written("4/metrics.csv", 5)],
    ),
    "search with populations": (
        (*SEARCH, "hydra.sweeper.n_jobs=3", "trainer.max_epochs=100", POPULATION),
        6,
        [asked_for(3), written(POPULATION_FILE, 1), with_results(1), asked_for(6), written(POPULATION_FILE, 2)],
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", [
    pytest.param("one kill", marks=pytest.mark.smoke), "grid", "population", "search",
    pytest.param("search with populations", marks=pytest.mark.stress),
])  # fmt: skip
def test_a_sweep_killed_at_any_moment_is_resumed_to_the_same_results(command, start, tmp_path, kind):
    arguments, jobs, moments = KILLED[kind]
    arguments = ("-m", *SMALL, *arguments)
    folder, other = tmp_path / "sweep", tmp_path / "other"
    whole = command("train.py", *arguments, "hydra.sweep.dir=other")
    assert whole.returncode == 0, whole.stderr
    assert_all_of_it(other, jobs)
    if "search" not in kind:
        assert {each["status"] for each in records(other).values()} == {"finished", "diverged"}

    for moment in moments:
        before = {number: (folder / str(number) / "result.json").stat().st_mtime_ns for number in complete(folder)}
        process = start("train.py", *arguments, "hydra.sweep.dir=sweep")
        until(lambda moment=moment: moment(folder), process)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert len(complete(folder)) < jobs
        after = {number: (folder / str(number) / "result.json").stat().st_mtime_ns for number in before}
        assert after == before

    last = command("train.py", *arguments, "hydra.sweep.dir=sweep")
    assert last.returncode == 0, last.stderr
    assert_all_of_it(folder, jobs)
    assert_same_to_the_bit(folder, other, jobs)
    assert (folder / "sweep.png").read_bytes().startswith(b"\x89PNG")
    assert last.stdout.replace("sweep", "other") == whole.stdout

    stamps = {path: path.stat().st_mtime_ns for path in folder.glob("*/*") if path.is_file()}
    again = command("train.py", *arguments, "hydra.sweep.dir=sweep")
    assert (again.returncode, again.stdout, again.stderr) == (0, last.stdout, "")
    assert {path: path.stat().st_mtime_ns for path in folder.glob("*/*") if path.is_file()} == stamps

    if kind == "search":
        more = command("train.py", *arguments, "hydra.sweeper.n_trials=7", "hydra.sweep.dir=sweep")
        assert more.returncode == 0, more.stderr
        assert_all_of_it(folder, 7)
        assert {path: path.stat().st_mtime_ns for path in stamps} == stamps


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_one_line(result):
    assert (result.returncode, result.stderr.count("\n")) == (1, 1), result.stderr
    assert result.stderr.startswith("train.py: ")
    assert result.stdout == ""


@pytest.mark.slow
def test_a_folder_of_another_sweep_is_refused_and_a_sweep_with_more_jobs_is_resumed(command, tmp_path):
    sweep = tmp_path / "sweep"
    arguments = ("-m", *SMALL, "trainer.max_epochs=1", POPULATION, "hydra.sweep.dir=sweep")
    sweep.mkdir()
    (sweep / "sweep.json.tmp").write_text('{"sweep": ')  # left by a sweep that was killed while it claimed the folder
    first = command("train.py", *arguments, "seed=0,1")
    assert first.returncode == 0, first.stderr
    assert_all_of_it(sweep, 2)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("kept")

    before = contents(tmp_path)
    wrong = (
        (("seed=0,1", "optimizer.lr=0.2"), "belongs to another sweep (data=wine "),
        (("seed=1,0",), "belongs to another sweep (data=wine "),
        (("seed=0",), "belongs to another sweep (data=wine "),
        (("search=optuna",), "belongs to another sweep (data=wine "),
        (("seed=0,1,-1",), "job 2 (data=wine"),
        (("seed=0,1", "hydra.sweep.dir=notes"), "holds something else, and nothing is overwritten"),
    )
    for overrides, reason in wrong:
        result = command("train.py", *arguments, *overrides)
        assert_one_line(result)
        assert reason in result.stderr
    assert contents(tmp_path) == before

    more = command("train.py", *arguments, "seed=0,1,2")
    assert more.returncode == 0, more.stderr
    assert_all_of_it(sweep, 3)
    after = contents(tmp_path)
    assert {path: after[path] for path in before if path.parent.name in ("0", "1")} == {
        path: each for path, each in before.items() if path.parent.name in ("0", "1")
    }


@pytest.mark.slow
def test_an_unreadable_study_is_refused_and_a_readable_one_is_resumed(command, tmp_path):
    sweep = tmp_path / "sweep"
    arguments = ("-m", "search=optuna", *SMALL, "trainer.max_epochs=1", POPULATION, "hydra.sweep.dir=sweep")
    space = "optimizer.lr=interval(0.01, 0.1)"
    two = ("hydra.sweeper.n_trials=2", "hydra.sweeper.n_jobs=2")
    first = command("train.py", *arguments, space, *two)
    assert first.returncode == 0, first.stderr
    assert_all_of_it(sweep, 2)
    journal = sweep / "study.journal"
    whole = journal.read_bytes()

    before = contents(sweep)
    another = "belongs to another sweep (search=optuna data=wine "
    for wrong, reason in (
        (("optimizer.lr=interval(0.01, 0.2)",), another),
        ((space, "model.hidden=[9]"), another),
        ((space, "hydra.sweeper.seed=1"), another),
        ((space, "hydra.sweeper.sampler=RandomSampler"), another),
        ((space, "hydra.sweeper.objectives=[val/acc]"), another),
    ):
        refused = command("train.py", *arguments, *wrong)
        assert_one_line(refused)
        assert reason in refused.stderr
    assert contents(sweep) == before
    wrong_code, other_key = (b'"op_code":5', b'"op_code":77'), (b'"optimizer.lr"', b'"hydra.searchpath"')
    garbage_files = (b"\x00\xff\n", b"{}\n", b"[]\n", b"[" * 99999, b"{\n" + whole, whole[:-7])
    for garbage in (*garbage_files, whole.replace(*wrong_code), whole.replace(*other_key)):
        journal.write_bytes(garbage)
        refused = command("train.py", *arguments, space, *two)
        assert_one_line(refused)
        assert "study.journal: cannot be read as a study" in refused.stderr
        assert contents(sweep) == before | {journal: garbage}

    journal.write_bytes(whole)
    more = command("train.py", *arguments, space, "hydra.sweeper.n_trials=3")
    assert more.returncode == 0, more.stderr
    assert_all_of_it(sweep, 3)
    after = contents(sweep)
    others = [path for path in before if path.parent != sweep]
    assert {path: after[path] for path in others} == {path: before[path] for path in others}


DRAWN = "optimizer.lr=interval(0.01, 0.1)"
MISTAKES = [
    (["optimizer.lrr=1,2"], "optimizer.lrr: no such key (did you mean lr?)"),
    (["+optimiser.lr=1,2"], "optimiser"),
    (["optimizer.lr="], "optimizer.lr=: must be a number"),
    (["seed=range(0)"], "seed=range(0): has no values"),
    (["seed=choice()"], "seed=choice(): must be key=value"),
    (["optimizer=sgd,adamm"], "optimizer=adamm: no such choice (did you mean adam?)"),
    (["model.hidden_activation=tanh,tahn"], "did you mean tanh?"),
    (["optimizer.lr=0.1,-1"], "job 1 (optimizer.lr=-1): optimizer.lr=-1.0: must be above 0"),
    (["objective=val/loss,val/los"], "objective=val/los: no such choice (did you mean val/loss?)"),
    (["seed=0,1", "sweep.max_failures=-1"], "sweep.max_failures=-1: must be at least 0"),
    (["seed=0,1", "hydra.sweep.dir=/proc/sweep"], "hydra.sweep.dir=/proc/sweep: cannot be created"),
    (["seed=0,1", "search=optima"], "search=optima: no such choice (did you mean optuna?)"),
    ([DRAWN], "optimizer.lr=interval(0.01, 0.1): a grid takes lists"),
    (["seed=0,1", "hydra/launcher=populaton"], "did you mean population?"),
    *(
        (["seed=0,1", f"hydra/launcher={launcher}", f"hydra.launcher.max_runs={runs}"], f"max_runs={runs}: must be")
        for launcher, runs in (("population", 0), ("population", -1), ("population", "many"), ("slurm", 0))
    ),
]
OF_A_SEARCH = [
    ([DRAWN, "hydra.sweeper.n_trials=0"], "hydra.sweeper.n_trials=0: must be a whole number, 1 or more"),
    ([DRAWN, "hydra.sweeper.n_trials=abc"], "hydra.sweeper.n_trials=abc: must be a whole number, 1 or more"),
    ([DRAWN, "hydra.sweeper.n_jobs=0"], "hydra.sweeper.n_jobs=0: must be a whole number, 1 or more"),
    ([DRAWN, "hydra.sweeper.seed=x"], "hydra.sweeper.seed=x: must be a whole number"),
    ([DRAWN, "hydra.sweeper.sampler=TPESampeler"], "(did you mean TPESampler?)"),
    ([DRAWN, "hydra.sweeper.sampler_options={startup: 5}"], "unexpected keyword argument 'startup'"),
    ([DRAWN, "hydra.sweeper.sampler_options={n_startup_trials: x}"], "hydra.sweeper.sampler=TPESampler: "),
    ([DRAWN, "hydra.sweeper.sampler_options=5"], "sampler_options=5: must be the sampler's arguments by name"),
    (
        [DRAWN, "hydra.sweeper.objectives=[seconds,val/loss]", "objective=train/loss", "trainer.limit_val_batches=0"],
        "hydra.sweeper.objectives=val/loss: there is no validation with trainer.limit_val_batches=0",
    ),
    ([DRAWN, "hydra.sweeper.objectives=[val/los]"], "objectives=val/los: no such choice (did you mean val/loss?)"),
    ([DRAWN, "hydra.sweeper.objectives=[val/r2]"], "objectives=val/r2: no such choice"),
    ([DRAWN, "hydra.sweeper.objectives=val/loss"], "objectives=val/loss: must be a list"),
    ([DRAWN, "hydra.sweeper.objectives=[seconds,seconds]"], "names an objective twice"),
    ([DRAWN, "objective=val/los"], "objective=val/los: no such choice (did you mean val/loss?)"),
    (["optimizer.lr=interval(1, 0.1)"], "optimizer.lr=interval(1, 0.1): `low <= high` must hold"),
    (["optimizer.lr=tag(log, interval(0, 1))"], "optimizer.lr=tag(log, interval(0, 1)): `low > 0` must hold"),
    (["optimizer.lr=interval(-1, 1)"], "optimizer.lr=-1.0: must be above 0"),
    (["seed=range(0)"], "seed=range(0): has no values"),
    ([DRAWN, "optimizer=sgd,adamm"], "optimizer=adamm: no such choice (did you mean adam?)"),
    (["hydra.sweeper.params=null"], "search=optuna: nothing to search"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("search", "overrides", "message"), [
    pytest.param("grid", *MISTAKES[0], marks=pytest.mark.smoke),
    *(("grid", *each) for each in MISTAKES[1:]),
    pytest.param("optuna", *OF_A_SEARCH[0], marks=pytest.mark.smoke),
    *(("optuna", *each) for each in OF_A_SEARCH[1:]),
])  # fmt: skip
def test_a_mistake_in_a_sweep_is_one_line_before_the_first_job(command_here, tmp_path, search, overrides, message):
    result = command_here("train.py", "-m", *([] if search == "grid" else ["search=optuna"]), *overrides)
    assert_one_line(result)
    assert message in result.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [pytest.param("basic", marks=pytest.mark.stress), "population"])
def test_a_full_disk_fails_only_the_jobs_that_do_not_fit(command, tmp_path, launcher):
    shared = ("-m", "data=wine", "trainer=cpu", "logger=csv", "trainer.max_epochs=2", f"hydra/launcher={launcher}")
    arguments = (*shared, "model.hidden=[8],[512,512]", "seed=0,1", "hydra.sweep.dir=sweep")
    folder = tmp_path / "sweep"
    full = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *arguments],
        cwd=tmp_path,
        env={**os.environ, "COLUMNS": "120"},
        capture_output=True,
        text=True,
        timeout=120,
        # Enough for a plot, and too little for the larger network's checkpoint: a larger write fails as on a full disk.
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000)),
    )
    assert (full.returncode, full.stderr.count("\n")) == (1, 1), full.stderr
    assert "report.html: cannot be written" in full.stderr
    assert [each["status"] for _, each in sorted(records(folder).items())] == ["finished"] * 2 + ["failed"] * 2
    for number in (2, 3):
        reason = records(folder)[number]["error"]
        assert "cannot be written (File too large)" in reason
        assert "\n" not in reason
        assert f"job {number} (model.hidden=[512,512] seed={number - 2}) failed: {reason}\n" in full.stdout
    assert [row["status"] for row in table(folder)] == ["finished"] * 2 + ["failed"] * 2
    assert (folder / "sweep.png").read_bytes().startswith(b"\x89PNG")
    for checkpoint in folder.rglob("*.ckpt"):
        torch.load(checkpoint, weights_only=True)
    assert not list(folder.rglob("*.tmp"))
    done = {path: each for path, each in contents(folder).items() if path.parts[-2] in "01"}

    after = command("train.py", *arguments)
    assert after.returncode == 0, after.stderr
    assert_all_of_it(folder, 4)
    assert {path: path.read_bytes() for path in done} == done


@pytest.mark.slow
def test_diverged_jobs_are_listed_and_do_not_affect_the_others(command, tmp_path):
    shared = ("-m", *SMALL, "trainer.max_epochs=4", POPULATION, "model.hidden=[8],[16]")
    arguments = (*shared, "optimizer.lr=0.1,1e6", "hydra.sweep.dir=sweep")
    result = command("train.py", *arguments)
    assert (result.returncode, result.stderr) == (1, "")
    assert "2 of 4 failed:\n  job 1 (model.hidden=[8] optimizer.lr=1000000.0) diverged: " in result.stdout
    rows = table(tmp_path / "sweep")
    assert [row["status"] for row in rows] == ["finished", "diverged"] * 2
    for row, record in zip(rows, (records(tmp_path / "sweep")[number] for number in range(4)), strict=True):
        assert row["error"] == (record["error"] or "")
        assert bool(row["error"]) == (row["status"] == "diverged")
    assert (tmp_path / "sweep" / "sweep.png").read_bytes().startswith(b"\x89PNG")
    result = command("train.py", *arguments, "sweep.max_failures=2")
    assert (result.returncode, result.stderr) == (0, "")

    tame = command("train.py", *shared, "optimizer.lr=0.1,0.2", "hydra.sweep.dir=tame")
    assert tame.returncode == 0, tame.stderr
    for number in ("0", "2"):
        one, two = (
            torch.load(tmp_path / folder / number / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
            for folder in ("sweep", "tame")
        )
        assert plain(one, tmp_path) == plain(two, tmp_path)
        one, two = ((tmp_path / folder / number / "metrics.csv").read_bytes() for folder in ("sweep", "tame"))
        assert one == two

    for allowed, status in ((1, 1), (2, 0), ("null", 0)):
        again = command("train.py", *arguments, f"sweep.max_failures={allowed}")
        assert (again.returncode, again.stdout) == (status, result.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["basic", pytest.param("population", marks=pytest.mark.stress)])
def test_ctrl_c_ends_a_sweep_and_says_how_to_resume(command, start, tmp_path, launcher):
    arguments = ("-m", *SMALL, "trainer.max_epochs=120", f"hydra/launcher={launcher}", "seed=0,1")
    process = start("train.py", *arguments, "hydra.sweep.dir=sweep")
    until(lambda: list((tmp_path / "sweep").rglob("last.ckpt")), process)
    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"the same command with hydra.sweep.dir={tmp_path / 'sweep'} resumes it (jobs done: 0)" in stderr
    assert "Traceback" not in stderr
    assert not complete(tmp_path / "sweep")

    rest = command("train.py", *arguments, f"hydra.sweep.dir={tmp_path / 'sweep'}")
    assert rest.returncode == 0, rest.stderr
    assert_all_of_it(tmp_path / "sweep", 2)


@pytest.mark.slow
def test_one_word_gives_ten_seeds(command, tmp_path):
    result = command(
        "train.py", "-m", *SMALL, "trainer.max_epochs=1", "search=seeds", POPULATION, "hydra.sweep.dir=sweep"
    )
    assert result.returncode == 0, result.stderr
    assert_all_of_it(tmp_path / "sweep", 10)
    assert [row["seed"] for row in table(tmp_path / "sweep")] == [str(seed) for seed in range(10)]


@pytest.mark.slow
def test_a_search_may_have_two_objectives_end_early_and_draw_settings_that_do_not_fit_together(command, tmp_path):
    arguments = (
        *("-m", "data=wine", "trainer=cpu", "logger=csv", "trainer.max_epochs=2", POPULATION, "hydra.sweep.dir=sweep"),
        *("search=optuna", "hydra.sweeper.objectives=[val/loss,parameters]", "hydra.sweeper.sampler=BruteForceSampler"),
        *("model.hidden=choice([8],[16])", "optimizer.lr=choice(0.1,0.5)"),
        *("scheduler=cosine", "scheduler.min_lr=choice(0.3,0.0)", "hydra.sweeper.n_jobs=4"),
    )
    result = command("train.py", *arguments)
    assert (result.returncode, result.stderr) == (0, "")
    rows = table(tmp_path / "sweep")
    settings = {(row["model.hidden"], row["optimizer.lr"], row["scheduler.min_lr"]) for row in rows}
    assert len(rows) == len(settings) == 8
    sizes = {"[8]": 13 * 8 + 8 + 8 * 3 + 3, "[16]": 13 * 16 + 16 + 16 * 3 + 3}
    for row in rows:
        if (row["optimizer.lr"], row["scheduler.min_lr"]) == ("0.1", "0.3"):
            assert row["status"] == "failed"
            assert "scheduler.min_lr=0.3: must be at most optimizer.lr=0.1" in row["error"]
            continue
        assert row["status"] == "finished"
        assert float(row["best parameters"]) == sizes[row["model.hidden"]]
        assert float(row["best val/loss"]) == records(tmp_path / "sweep")[int(row["job"])]["best"]["val/loss"]
    assert (tmp_path / "sweep" / "sweep.png").read_bytes().startswith(b"\x89PNG")

    again = command("train.py", *arguments)
    assert (again.returncode, again.stdout, again.stderr) == (0, result.stdout, "")
    assert table(tmp_path / "sweep") == rows
