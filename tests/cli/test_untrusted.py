"""Configurations, run folders and data of strangers: each tries to do something, which must not have happened after."""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
import yaml
from tests.cli.conftest import ROOT
from tests.suites import smoke

from backhand.config import untrusted

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
    """A stranger's folder that Python imports from, and `damage.happen` in it, which leaves the file `happened`."""
    folder = tmp_path_factory.mktemp("theirs")
    for name in ("damage", "evil"):
        sys.modules.pop(name, None)
    (folder / "damage.py").write_text(
        "from pathlib import Path\n"
        "class happen:\n"
        "    def __init__(self, *args, **kwargs):\n"
        "        Path(__file__).with_name('happened').touch()\n"
        "    def __getattr__(self, name):\n"
        "        return lambda *args, **kwargs: None\n"
    )
    (folder / "evil").mkdir()
    (folder / "evil" / "__init__.py").write_text("import damage\ndamage.happen()\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]))
    monkeypatch.syspath_prepend(str(folder))
    return folder


def refused(result, folder, *words):
    """One line with the words, exit status 1, and nothing left in the folder."""
    assert result.returncode == 1, result.stdout + result.stderr
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1, result.stderr
    assert all(word in result.stderr for word in words), result.stderr
    assert not (folder / "outputs").exists()
    assert not (folder / "multirun").exists()


CALLS = {
    "callback": [f"+hydra.callbacks.x._target_={TARGET}"],
    "system": ["+hydra.callbacks.x={_target_:os.system,command:true}"],
    "our own place": [f"hydra.callbacks.refuse_bad_config._target_={TARGET}"],
    "a dictionary": [f"+hydra.callbacks={{x:{{_target_:{TARGET}}}}}"],
    "inside another": [
        f"+hydra.callbacks.x={{_target_:lightning.pytorch.callbacks.Timer,duration:{{_target_:{TARGET}}}}}"
    ],
    "in a list": [f"+hydra.callbacks.x={{_target_:lightning.pytorch.callbacks.Timer,_args_:[{{_target_:{TARGET}}}]}}"],
    "partial": [f"+hydra.callbacks.x={{_target_:{TARGET},_partial_:true}}"],
    "through a module": ["+hydra.callbacks.x._target_=torch.optim.optimizer.warnings.warn"],
    "launcher": ["-m", f"hydra.launcher._target_={TARGET}"],
    "sweeper": ["-m", f"hydra.sweeper._target_={TARGET}"],
    "sampler": ["-m", "search=optuna", f"hydra.sweeper.sampler_options={{x:{{_target_:{TARGET}}}}}"],
    "handler": [f"hydra.job_logging.handlers.console.class={TARGET}"],
    "Hydra's handler": [f"hydra.hydra_logging.handlers.console.class={TARGET}"],
    "where the trainer takes anything": [f"trainer.devices={{_target_:{TARGET}}}"],
}


@pytest.mark.parametrize("name", smoke(CALLS, "callback"))
def test_the_command_line_calls_nothing_that_is_not_known(command_here, theirs, tmp_path, name):
    refused(
        command_here("train.py", *CALLS[name]), tmp_path, "may not be called", "allowed without: ", "allow_targets=["
    )
    assert not (theirs / "happened").exists()


def part(*path, **last):
    """`last` at the end of a path of keys."""
    tree = {key.replace("call", "()").replace("dot", ".").replace("cls", "class"): value for key, value in last.items()}
    for key in reversed(path):
        tree = {key: tree}
    return tree


LATER = "oc.select:hydra.runtime.output_dir"  # known once the run has a folder
SLURM = {"defaults": [{"override /hydra/launcher": "slurm"}]}
SAID = {
    "callback": (part("hydra", "callbacks", "x", _target_=TARGET), "may not be called"),
    "made of text": (part("hydra", "callbacks", x=f'${{oc.decode:"{{_target_: {TARGET}}}"}}'), "may not be called"),
    "created": (part("hydra", "callbacks", x=f'${{oc.create:"_target_: {TARGET}"}}'), "_target_"),
    "put together": (part("hydra", "callbacks", "x", _target_="damage.${oc.decode:happen}"), "written out"),
    "launcher": (part("hydra", "launcher", _target_=TARGET), "may not be called"),
    "sweeper": (part("hydra", "sweeper", _target_=TARGET), "may not be called"),
    "formatter": (part("hydra", "job_logging", "formatters", "x", call=TARGET), "may not be called"),
    "formatter's class": (part("hydra", "job_logging", "formatters", "plain", cls=TARGET), "may not be called"),
    "filter": (part("hydra", "hydra_logging", "filters", "x", call=TARGET), "may not be called"),
    "handler": (part("hydra", "job_logging", "handlers", "console", call=TARGET), "may not be called"),
    "handler's class": (part("hydra", "job_logging", "handlers", "console", cls=TARGET), "may not be called"),
    "stream": (part("hydra", "job_logging", "handlers", "console", stream="ext://evil.x"), "ext://sys.stderr"),
    "handler named from elsewhere": (
        part("trainer", devices={"class": TARGET}) | part("hydra", "job_logging", "handlers", x="${trainer.devices}"),
        "may not be called",
    ),
    "handler named later": (
        part("hydra", "job_logging", "handlers", x="${hydra:sweeper.params}"),
        "must be known before the run begins",
    ),
    "library named from elsewhere": (
        part("trainer", devices={"LD_PRELOAD": "/tmp/x.so"}) | part("hydra", "job", env_set="${trainer.devices}"),
        "must be written out",
    ),
    "commands": (SLURM | part("hydra", "launcher", setup=["touch happened"]), "may only be set on the command line"),
    "commands in a line": (
        SLURM | part("hydra", "launcher", comment="a\ntouch happened"),
        "may only be set on the command line",
    ),
    "workers' pickles": (
        SLURM | part("hydra", "launcher", submitit_folder="${hydra.sweep.dir}/../x"),
        "may only be set on the command line",
    ),
    "attribute": (part("hydra", "job_logging", "handlers", "console", dot={"level": 1}), "sets attributes"),
    "log": (part("hydra", "job_logging", "handlers", "file", filename="/tmp/x"), "must lie in the run's folder"),
    "log above": (
        part("hydra", "job_logging", "handlers", "file", filename="${hydra.runtime.output_dir}/../x"),
        "must lie in the run's folder",
    ),
    "library": (part("hydra", "job", "env_set", LD_PRELOAD="/tmp/x.so"), "may only be set on the command line"),
    "server": (part("hydra", "job", "env_set", WANDB_BASE_URL="http://x"), "may only be set on the command line"),
    "folder above": (part("hydra", output_subdir="../x"), "hydra.output_subdir=../x: must be .hydra"),
    "folder of another's": (part("hydra", output_subdir=".config"), "hydra.output_subdir=.config: must be .hydra"),
    "log's name": (part("hydra", "job", name="../x"), "without /"),
    "log's name later": (part("hydra", "job", name=f"${{{LATER},train}}"), "hydra.job.name=${oc.select"),
    "handler that is another one later": (
        part("hydra", "callbacks", "x", "/", call=TARGET)
        | part("hydra", "job_logging", "handlers", x=f"${{hydra.callbacks.x[${{{LATER},y}}]}}"),
        "must be known before the run begins",
    ),
    "handler that is escaped until it is used": (
        part("hydra", "job_logging", "handlers", "x", cls="logging.NullHandler", level=f"\\${{{LATER},y}}"),
        "must be known before the run begins",
    ),
    "handler that is escaped in a tree": (
        part("hydra", "job_logging", "handlers", x="${oc.decode:'{class: \"\\${name}\"}'}"),
        "hydra.job_logging.handlers.x",
    ),
    "log of another name": (
        part("hydra", "job_logging", "handlers", "file", filename="${hydra.runtime.output_dir}/.bashrc"),
        "must lie in the run's folder, as in ${hydra.runtime.output_dir}/NAME.log",
    ),
    "log that is emptied": (part("hydra", "job_logging", "handlers", "file", mode="w"), "mode=w: must be a"),
    "check left out": (
        part("hydra", "callbacks", "refuse_bad_config", _target_="hydra.experimental.callbacks.LogJobReturnCallback"),
        "hydra.callbacks.refuse_bad_config: must stay as it is",
    ),
    "server that is connected to": (
        part("hydra", "callbacks", "x", _target_="lightning.pytorch.callbacks.ModelCheckpoint", dirpath="ftp://x/y"),
        "dirpath=ftp://x/y: an address may only be set on the command line",
    ),
    "library later": (part("hydra", "job", "env_set", LD_PRELOAD=f"${{{LATER},null}}"), "may only be set on"),
    "programs later": (
        part("hydra", "job", "env_set", PATH=f"${{{LATER},${{oc.env:PATH}}}}"),
        "may only be set on the",
    ),
    "interpolations of interpolations": (
        part(tags=[f"${{tags.{i + 1}}}${{tags.{i + 1}}}" for i in range(40)] + ["x"]),
        "come to more than",
    ),
    "a long text of interpolations": (
        part(tags=[*(f"${{tags.{i}}}" * 200 for i in (1, 2, 3)), "x" * 200]),
        "come to more than",
    ),
    "allowed by itself": (part(allow_targets=[TARGET]), "for the command line alone"),
}


ELSEWHERE = "may only be set on the command line and in conf/"
BASIC = "allow_targets=[hydra._internal.core_plugins.basic_sweeper.BasicSweeper]"


def experiment(folder, said):
    """A folder of configurations with one experiment in it."""
    (folder / "conf" / "experiment").mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(said)
    (folder / "conf" / "experiment" / "theirs.yaml").write_text(f"# @package _global_\n{text}")
    return folder / "conf"


@pytest.mark.parametrize("name", smoke(SAID, "callback"))
def test_a_file_says_nothing_that_it_may_not(command_here, theirs, tmp_path, monkeypatch, name):
    said, words = SAID[name]
    command = ("train.py", "--config-dir", str(experiment(theirs, said)), "experiment=theirs")
    if "hydra" in said:
        refused(command_here(*command), tmp_path, "experiment/theirs: hydra.", ELSEWHERE)
        monkeypatch.setattr(untrusted, "CONF", theirs)  # and if it were our own, there is the next line of defence
    refused(command_here(*command), tmp_path, words)
    assert not (theirs / "happened").exists()


def test_a_file_from_elsewhere_may_say_what_is_searched(command_here, theirs):
    search = part("hydra", "sweeper", n_trials=5, params={"optimizer.lr": "interval(0.1,1)"})
    conf = experiment(theirs, {"defaults": [{"override /search": "optuna"}]} | search)
    result = command_here("train.py", "--cfg", "hydra", "--config-dir", str(conf), "experiment=theirs")
    assert (result.returncode, result.stderr) == (0, "")
    assert "n_trials: 5" in result.stdout


def test_a_copy_of_the_configuration_is_as_good_as_the_configuration(command_here, theirs):
    shutil.copytree(ROOT / "conf", theirs / "copy")
    for choices in ([], ["search=optuna", "hydra/launcher=population"], ["search=seeds"]):
        result = command_here("train.py", "--cfg", "all", "--config-path", str(theirs / "copy"), *choices)
        assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize(
    "params",
    [
        {"hydra.searchpath=['pkg://evil','a": "b']"},
        {"hydra.launcher.name": "x"},
        {"+hydra.verbose": "true"},
        "${name}",
    ],
)
def test_a_search_from_elsewhere_sets_nothing_of_hydras(command_here, theirs, tmp_path, params):
    conf = experiment(theirs, part("hydra", "sweeper", params=params))
    refused(command_here("train.py", "-m", "--config-dir", str(conf), "experiment=theirs"), tmp_path, ELSEWHERE)
    assert not (theirs / "happened").exists()


def test_a_job_imports_no_package_to_search_it(command_here, theirs, tmp_path, monkeypatch):
    conf = experiment(theirs, part("hydra", "sweeper", params={"hydra.searchpath=['pkg://evil','a": "b']"}))
    monkeypatch.setattr(untrusted, "CONF", theirs)
    result = command_here("train.py", "-m", "--config-dir", str(conf), "experiment=theirs")
    refused(result, tmp_path, "hydra.searchpath", "may only be set on the command line")
    assert not (theirs / "happened").exists()


WAYS = {
    "--config-dir": ["--config-dir", "{conf}", "experiment=theirs"],
    "searchpath": ["hydra.searchpath=[file://{conf}]", "experiment=theirs"],
    "--config-path": ["--config-path", "{edited}"],
    "--config-name": ["--config-dir", "{edited}", "--config-name", "other"],
    "an edited file": ["--config-path", "{edited}", "hydra=default"],
    "--cfg": ["--cfg", "all", "--config-dir", "{conf}", "experiment=theirs"],
    "--help": ["--help", "--config-dir", "{conf}", "experiment=theirs"],
    "a sweep": ["-m", "--config-dir", "{conf}", "experiment=theirs", "seed=0,1"],
    "some of a sweep's jobs": ["-m", "--config-dir", "{conf}", "experiment=autograd,theirs"],
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_however_a_file_comes_in(command_here, theirs, tmp_path, way):
    evil = part("hydra", "callbacks", "x", _target_=TARGET)
    conf = experiment(theirs, evil)
    edited = theirs / "edited"
    shutil.copytree(ROOT / "conf", edited)
    text = (edited / "train.yaml").read_text() + yaml.safe_dump(evil)
    for name in ("train.yaml", "other.yaml"):
        (edited / name).write_text(text)
    arguments = [each.format(conf=conf, edited=edited) for each in way]
    result = command_here("train.py", *arguments)
    assert result.returncode == 1
    assert f"hydra.callbacks.x._target_ {ELSEWHERE}" in result.stderr
    assert "Traceback" not in result.stderr
    assert not list(tmp_path.rglob("result.json"))
    assert not (theirs / "happened").exists()


def test_a_job_of_hydras_own_sweeper_logs_with_nothing_that_is_not_known(command_here, theirs, tmp_path):
    conf = experiment(theirs, part("hydra", "job_logging", "filters", "x", call=TARGET))
    arguments = ["-m", "--config-dir", str(conf), "hydra/sweeper=basic", BASIC, "experiment=theirs,autograd"]
    assert command_here("train.py", *arguments).returncode == 1
    assert not (theirs / "happened").exists()


@pytest.mark.parametrize("places", [["pkg://evil"], "${oc.decode:'[pkg://evil]'}", ["${oc.decode:pkg}://evil"]])
def test_a_primary_file_imports_no_package_to_search_it(command_here, theirs, tmp_path, places):
    edited = theirs / "edited"
    shutil.copytree(ROOT / "conf", edited)
    text = (edited / "train.yaml").read_text() + yaml.safe_dump(part("hydra", searchpath=places))
    (edited / "train.yaml").write_text(text)
    refused(command_here("train.py", "--config-path", str(edited)), tmp_path, "hydra.searchpath=pkg://evil")
    assert not (theirs / "happened").exists()


def test_a_file_is_no_larger_than_it_looks(command_here, theirs, tmp_path):
    conf = experiment(theirs, {})
    (conf / "experiment" / "theirs.yaml").write_text(f"# @package _global_\n{BOMB}".replace("name:", "tags:"))
    result = command_here("train.py", "--config-dir", str(conf), "experiment=theirs")
    refused(result, tmp_path, "theirs.yaml: is no configuration: more than 50 levels deep, or more than 100000 values")


def test_what_the_command_line_allows_is_called(command_here, theirs, tmp_path):
    arguments = [f"allow_targets=[{TARGET}]", f"+hydra.callbacks.x._target_={TARGET}", "optimizer.lr=-1"]
    assert "optimizer.lr=-1.0" in command_here("train.py", *arguments).stderr
    assert (theirs / "happened").exists()


@pytest.mark.parametrize("argument", ["--experimental-rerun", "--exp"])
def test_no_pickle_is_repeated(command_here, theirs, tmp_path, argument):
    (theirs / "config.pickle").write_bytes(b"cdamage\nhappen\n)R.")
    refused(command_here("train.py", argument, str(theirs / "config.pickle")), tmp_path, "--experimental-rerun")
    assert not (theirs / "happened").exists()


def stored_run(folder, text):
    """What looks like a run's folder, with a configuration of a stranger's."""
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "config.yaml").write_text(text)
    return folder


BOMB = "name:\n" + "".join(f"- &a{i + 1} [{', '.join([f'*a{i}' if i else 'x'] * 9)}]\n" for i in range(9))
STORED = {
    "target": (f"trainer:\n  devices: {{_target_: {TARGET}}}\n", "may not be called"),
    "tag": ("name: !!python/object/apply:os.system ['touch happened']\n", "python/object/apply"),
    "new": ("name: !!python/object/new:os.system ['touch happened']\n", "python/object/new"),
    "aliases": (BOMB, "is no configuration: more than 50 levels deep, or more than 100000 values"),
    "levels": ("name: " + "[" * 300_000, "is no configuration: more than 50 levels deep"),
    "number to the base of 60": (
        "seed: " + "1:" * 500_000 + "1\n",
        "is no configuration: a value has 1000001 characters",
    ),
    "size": ("#" * (1 << 20) + "\n", "is no configuration: it has 10"),
    "a list in itself": ("name: &a [*a]\n", "is no configuration"),
    "secret": ("name: ${oc.env:WANDB_API_KEY}\n", "name: holds the value of WANDB_API_KEY"),
    "no mapping": ("- 1\n", "is not a configuration"),
}


@pytest.mark.parametrize("name", smoke(STORED, "tag"))
def test_a_strangers_run_is_read_as_text(command_here, theirs, tmp_path, name):
    text, words = STORED[name]
    whole = yaml.safe_dump(yaml.safe_load((ROOT / "conf/data/wine.yaml").read_text()))
    data = "data:\n" + "".join(f"  {line}\n" for line in whole.splitlines())
    rest = "optimizer: {name: sgd, lr: 0.1, momentum: 0.9}\nscheduler: {name: none}\n"
    stored_run(tmp_path / "run", text if text.startswith("-") else data + rest + text)
    result = command_here("scripts/evaluate.py", "run=run", WANDB_API_KEY=KEY)
    refused(result, tmp_path, words)
    assert KEY not in result.stderr
    assert not list(Path(tmp_path).rglob("happened"))
    assert not (theirs / "happened").exists()


ESCAPES = {
    "subdir": ["-m", "seed=0,1", "hydra.sweep.subdir=../../x"],
    "subdir by number": ["-m", "seed=0,1", "hydra.sweep.subdir=../${hydra.job.num}"],
    "subdir in parts": ["-m", "tags=[../..]", "seed=0,1", "hydra.sweep.subdir=${tags.0}/${hydra.job.num}"],
    "subdir by Hydra's sweeper": [
        "-m",
        "hydra/sweeper=basic",
        BASIC,
        "seed=0,1",
        "hydra.sweep.subdir=../x${hydra.job.num}",
    ],
    "subdir from the root": ["-m", "seed=0,1", "hydra.sweep.subdir=/tmp/x${hydra.job.num}"],
    "output_subdir": ["hydra.output_subdir=../x"],
    "the log": ["hydra.job.name=../x"],
}


@pytest.mark.parametrize("arguments", ESCAPES.values(), ids=ESCAPES)
def test_no_name_leads_out_of_its_folder(command_here, tmp_path, arguments):
    before = set(tmp_path.parent.iterdir())
    result = command_here("train.py", *arguments)
    assert result.returncode == 1
    assert "leads out" in result.stderr or "without /" in result.stderr
    assert "Traceback" not in result.stderr
    assert {
        path for path in set(tmp_path.parent.iterdir()) - before if not path.name.startswith(tmp_path.name)
    } == set()
    assert not list(tmp_path.rglob("result.json"))


@pytest.mark.parametrize("name", ["train.log", "metrics.csv", "checkpoints", ".hydra"])
def test_nothing_is_written_through_a_strangers_link(command_here, tmp_path, name):
    (tmp_path / "run").mkdir()
    (tmp_path / "mine").mkdir()
    (tmp_path / "run" / name).symlink_to(tmp_path / "mine" / ("x" if "." in name[1:] else "."))
    result = command_here("train.py", "data=wine", "trainer.max_epochs=1", "hydra.run.dir=run")
    refused(result, tmp_path, f"{name} in it is a link that leads out of it")
    assert not list((tmp_path / "mine").iterdir())


def test_a_sweep_goes_on_in_no_folder_that_leads_out(command, tmp_path):
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
    assert "1 in it is a link that leads out of it" in result.stderr
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
def test_a_setting_that_holds_a_secret_is_refused_without_telling_it(command_here, tmp_path, name):
    result = command_here("train.py", *SECRETS[name], **CLOSED)
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1, result.stderr
    for secret in (*CLOSED.values(), "hidden-word"):
        assert secret not in result.stdout + result.stderr
    assert not list(tmp_path.iterdir())


def test_a_short_and_common_password_blocks_and_mangles_nothing(command_here, tmp_path):
    (tmp_path / "postgres-notes").write_text("")
    arguments = ("name=postgres", "tags=[my postgres]", "hydra.run.dir=postgres-notes")
    result = command_here("train.py", *arguments, POSTGRES_PASSWORD="postgres")
    refused(result, tmp_path, "hydra.run.dir=postgres-notes: postgres-notes is not a folder")


def test_the_address_of_a_server_is_told_without_its_user(command_here, tmp_path):
    for address in ("https://me:hidden-word@host", "ftp://me:hidden-word@host", "https://hidden-word@host"):
        result = command_here("train.py", WANDB_BASE_URL=address)
        refused(result, tmp_path, "WANDB_BASE_URL=", "***@host")
        assert "hidden-word" not in result.stderr


def all_bytes(folder):
    return b"\n".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_a_run_writes_and_says_no_secret_and_its_name_is_no_path(command, tmp_path):
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


def test_formulas_are_text_in_what_is_written(command, tmp_path):
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
    cells = [line.split(",") for line in (tmp_path / "out.csv").read_text().splitlines()[1:]]
    assert {cell for row in cells for cell in row[1:3]} == {"'=HYPERLINK(0)", "'@SUM"}
    assert all(float(cell) >= 0 for row in cells for cell in (row[0], *row[3:]))
