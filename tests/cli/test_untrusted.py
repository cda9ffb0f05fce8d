"""Run folders, checkpoints and data from others: each tries to run code, which must not happen."""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from tests.suites import smoke

pytestmark = pytest.mark.slow
KEY = "5ec2e7" * 6 + "abcd"  # as long as one of W&B's
CLOSED = {
    "WANDB_API_KEY": KEY,
    "SOME_SERVICE_TOKEN": f"{KEY[::-1]}t",
    "DATABASE_PASSWORD": "correct horse battery",
    "SHORT_PASSWORD": "tr0ub4dor&3",
}
TARGET = "damage.happen"


@pytest.fixture
def theirs(tmp_path_factory, monkeypatch):
    """A folder from others on the import path, with `damage.happen`, which would write the file `happened`."""
    folder = tmp_path_factory.mktemp("theirs")
    sys.modules.pop("damage", None)
    (folder / "damage.py").write_text(
        "from pathlib import Path\n"
        "class happen:\n"
        "    def __init__(self, *args, **kwargs):\n"
        "        Path(__file__).with_name('happened').touch()\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]))
    monkeypatch.syspath_prepend(str(folder))
    return folder


def refused(result, folder, *words):
    """Check for one line with the words, exit status 1, and no files in the folder."""
    assert result.returncode == 1, result.stdout + result.stderr
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1, result.stderr
    assert all(word in result.stderr for word in words), result.stderr
    assert not (folder / "outputs").exists()
    assert not (folder / "multirun").exists()


def stored_run(folder, text):
    """A run's folder with a configuration from somebody else."""
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "config.yaml").write_text(text)
    return folder


BOMB = "name:\n" + "".join(f"- &a{i + 1} [{', '.join([f'*a{i}' if i else 'x'] * 9)}]\n" for i in range(9))
STORED = {
    "target": (f"trainer:\n  devices: {{_target_: {TARGET}}}\n", f"allow_targets=[{TARGET}] allows it"),
    "a callback": (f"callbacks: {{x: {{_target_: {TARGET}}}}}\n", "run=run/checkpoints/best.ckpt: no such file"),
    "made of text": (f"tags: ${{oc.decode:'[{{_target_:{TARGET}}}]'}}\n", "must name an existing value"),
    "tag": ("name: !!python/object/apply:os.system ['touch happened']\n", "python/object/apply"),
    "new": ("name: !!python/object/new:os.system ['touch happened']\n", "python/object/new"),
    "aliases": (BOMB, "is not a configuration: it has an alias (*a1)"),
    "a list in itself": ("name: &a [*a]\n", "is not a configuration: it has an alias (*a)"),
    "levels": ("name: " + "[" * 300_000, "is not a configuration: more than 50 levels deep"),
    "number to the base of 60": (
        "seed: " + "1:" * 500_000 + "1\n",
        "is not a configuration: a value has 1000001 characters",
    ),
    "size": ("#" * (1 << 20) + "\n", "is not a configuration: it has more than 1048576 bytes"),
    "interpolations of interpolations": (
        "tags:\n" + "".join(f"- ${{tags.{i + 1}}}${{tags.{i + 1}}}\n" for i in range(40)) + "- x\n",
        "is not a configuration: it has 80 interpolations",
    ),
    "secret": ("name: ${oc.env:WANDB_API_KEY}\n", "name: holds the value of WANDB_API_KEY"),
    "no mapping": ("- 1\n", "is not a configuration"),
}


@pytest.mark.parametrize("name", smoke(STORED, "tag"))
def test_a_run_from_others_is_read_as_text(command_here, theirs, tmp_path, name):
    text, words = STORED[name]
    data = "data: {name: wine, output_activation: softmax, loss: cross_entropy}\n"
    rest = "optimizer: {name: sgd, lr: 0.1, momentum: 0.9}\nscheduler: {name: none}\n"
    stored_run(tmp_path / "run", text if text.startswith("-") else data + rest + text)
    result = command_here("scripts/evaluate.py", "run=run", WANDB_API_KEY=KEY)
    refused(result, tmp_path, words)
    assert KEY not in result.stderr
    assert not list(Path(tmp_path).rglob("happened"))
    assert not (theirs / "happened").exists()


@pytest.mark.parametrize("argument", ["--experimental-rerun", "--exp"])
def test_no_pickle_is_loaded(command_here, theirs, tmp_path, argument):
    (theirs / "config.pickle").write_bytes(b"cdamage\nhappen\n)R.")
    refused(command_here("train.py", argument, str(theirs / "config.pickle")), tmp_path, "--experimental-rerun")
    assert not (theirs / "happened").exists()


def test_no_job_is_written_outside_of_its_sweep(command_here, tmp_path):
    before = set(tmp_path.parent.iterdir())
    result = command_here("train.py", "-m", "seed=0,1", "hydra.sweep.subdir=../../x")
    refused(result, tmp_path, "hydra.sweep.subdir=../../x: is outside of the sweep's folder")
    assert set(tmp_path.parent.iterdir()) == before


@pytest.mark.parametrize("name", ["train.log", "metrics.csv", "checkpoints", ".hydra"])
def test_nothing_is_written_through_a_link_from_others(command_here, tmp_path, name):
    (tmp_path / "run").mkdir()
    (tmp_path / "mine").mkdir()
    (tmp_path / "run" / name).symlink_to(tmp_path / "mine" / ("x" if "." in name[1:] else "."))
    result = command_here("train.py", "data=wine", "trainer.max_epochs=1", "hydra.run.dir=run")
    refused(result, tmp_path, f"{name} is a link out of the folder")
    assert not list((tmp_path / "mine").iterdir())


def test_a_sweep_is_not_resumed_in_a_folder_with_links_to_outside(command, tmp_path):
    sweep = ["-m", "data=wine", "trainer.max_epochs=1", "logger=none", "callbacks=quiet", "report=false"]
    sweep += ["hydra.sweep.dir=sweep", "seed=0,1"]
    assert command("train.py", *sweep).returncode == 0
    shutil.rmtree(tmp_path / "sweep" / "1")
    (tmp_path / "mine").mkdir()
    (tmp_path / "sweep" / "1").symlink_to(tmp_path / "mine")
    claim = json.loads((tmp_path / "sweep" / "sweep.json").read_text())
    (tmp_path / "sweep" / "sweep.json").write_text(json.dumps(claim | {"folders": ["../../mine"]}))
    result = command("train.py", *sweep)
    assert result.returncode == 1
    assert "hydra.sweep.dir=" in result.stderr
    assert "1 is a link out of the folder" in result.stderr
    assert not list((tmp_path / "mine").iterdir())


SECRETS = {
    "own": ["name=${oc.env:WANDB_API_KEY}"],
    "in a text": ["tags=['key: ${oc.env:SOME_SERVICE_TOKEN}']"],
    "as it is": [f"name={KEY}"],
    "short": ["name=${oc.env:SHORT_PASSWORD}"],
    "for the job": ["+hydra.job.env_set.X=${oc.env:DATABASE_PASSWORD}"],
    "copied": ["hydra.job.env_copy=[WANDB_API_KEY]"],
    "folder": ["hydra.run.dir=${oc.env:WANDB_API_KEY}"],
    "folder as it is": [f"hydra.run.dir={KEY}"],
    "a choice": [f"data={KEY}"],
    "no such key": [f"+x={KEY}"],
    "a wrong value": [f"model.hidden_activation={KEY}"],
    "a job's": ["-m", "name=a,${oc.env:WANDB_API_KEY}"],
    "address": ["data=mnist", "data.dir=https://me:hidden-word@host/x"],
    "address's token": ["data=mnist", "data.dir=https://host/x?token=hidden-word"],
}


@pytest.mark.parametrize("name", smoke(SECRETS, "own"))
def test_a_setting_with_a_secret_is_refused_without_printing_it(command_here, tmp_path, name):
    result = command_here("train.py", *SECRETS[name], **CLOSED)
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1, result.stderr
    for secret in (*CLOSED.values(), "hidden-word"):
        assert secret not in result.stdout + result.stderr
    assert not list(tmp_path.iterdir())


def test_a_short_common_password_neither_blocks_nor_changes_output(command_here, tmp_path):
    (tmp_path / "postgres-notes").write_text("")
    arguments = ("name=postgres", "tags=[my postgres]", "hydra.run.dir=postgres-notes")
    result = command_here("train.py", *arguments, POSTGRES_PASSWORD="postgres")
    refused(result, tmp_path, "hydra.run.dir=postgres-notes: postgres-notes is not a folder")


def test_the_address_of_a_server_is_printed_without_its_user(command_here, tmp_path):
    for address in ("https://me:hidden-word@host", "ftp://me:hidden-word@host", "https://hidden-word@host"):
        result = command_here("train.py", WANDB_BASE_URL=address)
        refused(result, tmp_path, "WANDB_BASE_URL=", "***@host")
        assert "hidden-word" not in result.stderr


def all_bytes(folder):
    return b"\n".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_a_run_writes_and_prints_no_secret_and_its_name_is_not_a_path(command, tmp_path):
    given = ["data=wine", "trainer.max_epochs=1", "name=../../x", "hydra.run.dir=a/b/run"]
    result = command("train.py", *given, **CLOSED)
    assert result.returncode == 0, result.stderr
    assert list((tmp_path / "a/b/run/wandb").glob("offline-run-*/*.wandb"))
    assert [path.name for folder in (tmp_path, tmp_path / "a", tmp_path / "a/b") for path in folder.iterdir()] == [
        "a",
        "b",
        "run",
    ]
    found = all_bytes(tmp_path) + result.stdout.encode() + result.stderr.encode()
    for secret in CLOSED.values():
        assert secret.encode() not in found


def test_formulas_are_text_in_a_sweeps_table_and_predictions_are_not_changed(command, tmp_path):
    rows = [f"{'=HYPERLINK(0)' if i % 2 else '@SUM'},{i % 2 + i / 100},{i}" for i in range(60)]
    (tmp_path / "t.csv").write_text("\n".join(["y,a,b", *rows]) + "\n")
    given = ["data=table", "data.path=t.csv", "data.target=y", "logger=none", "report=false", "callbacks=quiet"]
    given += ["trainer.max_epochs=1", "trainer=cpu"]
    trained = command("train.py", "-m", *given, "name=-cmd,@SUM", "hydra.sweep.dir=sweep")
    assert trained.returncode == 0, trained.stderr
    table = (tmp_path / "sweep" / "sweep.csv").read_text()
    assert ",'-cmd," in table
    assert ",'@SUM," in table
    result = command("scripts/evaluate.py", "run=sweep/0", "predict=out.csv")
    assert result.returncode == 0, result.stderr
    rows = [line.split(",") for line in (tmp_path / "out.csv").read_text().splitlines()[1:]]
    assert {row[1] for row in rows} == {"=HYPERLINK(0)", "@SUM"}
    assert {row[2] for row in rows} <= {"=HYPERLINK(0)", "@SUM"}
    assert all(float(value) >= 0 for row in rows for value in (row[0], *row[3:]))
