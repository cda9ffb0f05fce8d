"""Stored configurations: read, or refused with a message; nothing that they name is imported."""

import contextlib
import os
import random
import sys

import pytest
from hydra import compose, initialize_config_dir
from lightning.pytorch import LightningDataModule
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from tests.memory import peak_memory
from yaml import YAMLError

from backhand.config import CONF
from backhand.config.imports import check_arguments, import_class
from backhand.config.stored import read_stored
from backhand.errors import UserError


@pytest.fixture
def stored(tmp_path):
    def read(text, allowed=()):
        (tmp_path / "config.yaml").write_text(text)
        return read_stored(tmp_path / "config.yaml", allowed)

    return read


def test_a_file_of_hydra_is_read(stored):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", ["name=${data.name}-${seed}-${oc.env:HOME}", "tags=[a,'${tags.0}']"])
    assert stored(OmegaConf.to_yaml(config)) == config


TARGETS = {
    "torch.optim.SGD": True,
    "torch.optim.lr_scheduler.StepLR": True,
    "lightning.pytorch.callbacks.Timer": True,
    "lightning.pytorch.loggers.CSVLogger": True,
    "backhand.LightningMLP": True,
    "backhand.training.module.LightningMLP": True,
    "os.system": False,
    "subprocess.Popen": False,
    "torch.load": False,
    "torch.optim.optimizer.os.system": False,
    "torch.optim.optimizer.warnings.warn": False,
    "lightning.pytorch.callbacks.timer.Timer": False,
    "backhand.reporting.result.atomic_write": False,
    "backhand..os.X": False,
    "backhand.training.module.LightningMLP.load_from_checkpoint": False,
    "my_pkg.MyData": False,
    "${name}": False,
    "": False,
}


@pytest.mark.parametrize(("target", "known"), TARGETS.items())
def test_classes_of_torch_lightning_and_this_package_may_be_named(stored, target, known):
    text = f"name: os.system\ndata: {{inner: [{{_target_: '{target}'}}]}}\n"
    if known:
        assert stored(text).data.inner[0]["_target_"] == target
        return
    with pytest.raises(UserError, match=r"^data\.inner\.0\._target_=.*: is not imported"):
        stored(text)
    if target == "my_pkg.MyData":
        assert stored(text, [target]).data.inner[0]["_target_"] == target


@pytest.mark.parametrize("target", ["[os.system]", "{a: os.system}", "null", "1"])
def test_a_target_must_be_a_name(stored, target):
    with pytest.raises(UserError, match="is not imported"):
        stored(f"x: {{_target_: {target}}}\n")


def test_the_message_names_everything_that_must_be_allowed(stored):
    text = "data: {_target_: my.Data, inner: {_target_: my.Part}}\nimports: [my_file.py]\n"
    said = r"^data\._target_=my\.Data, imports\.0=my_file\.py: .*=\[my\.Part,my\.Data,my_file\.py\] allows it$"
    with pytest.raises(UserError, match=said):
        stored(text, ["my.Part"])
    assert stored(text, ["my.Part", "my.Data", "my_file.py"]).imports == ["my_file.py"]


@pytest.mark.parametrize("part", ["callbacks", "logger", "optimizer", "scheduler"])
def test_parts_only_for_training_may_name_any_class(stored, part):
    assert stored(f"{part}: {{mine: {{_target_: my.Own}}}}\n")[part].mine["_target_"] == "my.Own"


GOOD = {
    "a: 3\nb: ${a}": {"a": 3, "b": 3},
    "a: {b: [1, x]}\nc: ${a.b.1}${a.b.0}": {"a": {"b": [1, "x"]}, "c": "x1"},
    "a: {b: 1, c: '${.b}', d: {e: '${..b}'}}": {"a": {"b": 1, "c": 1, "d": {"e": 1}}},
    "a: ${b}\nb: ${c}\nc: 1": {"a": 1, "b": 1, "c": 1},
    "a: x${oc.env:WORD}": {"a": "xyes"},
}


@pytest.mark.parametrize(("text", "resolved"), GOOD.items())
def test_plain_interpolations_are_resolved(stored, monkeypatch, text, resolved):
    monkeypatch.setenv("WORD", "yes")
    assert OmegaConf.to_container(stored(text), resolve=True) == resolved


BAD = {
    "nowhere": "a: ${b}",
    "a part": "a: ${b}\nb: {c: 1}",
    "a list": "a: ${b}\nb: [1]",
    "through another": "a: ${b.c}\nb: ${d}\nd: {c: 1}",
    "one in another": "a: ${${b}}\nb: c\nc: 1",
    "resolver": "a: ${oc.decode:1}",
    "hydra": "a: ${hydra:job.num}",
}


@pytest.mark.parametrize("name", BAD)
def test_an_interpolation_that_is_not_plain_is_refused(stored, name):
    with pytest.raises(UserError, match=r"must name an existing value, as \$\{key\}"):
        stored(BAD[name])


@pytest.mark.parametrize("text", ["a: ${b}\nb: ${a}", "a: x${a}", "a.b: x\nc: ${a.b}", "a: {0: x}\nc: ${a.0}"])
def test_omegaconf_refuses_circles_and_unusual_keys(stored, text):
    with pytest.raises(OmegaConfBaseException):
        OmegaConf.resolve(stored(text))


@pytest.mark.parametrize("target", ["backhand.reporting.result.Path", "backhand.reporting.result.subprocess.Popen"])
def test_a_class_that_a_module_imports_is_refused_for_its_base_class(target):
    with pytest.raises(UserError, match=r"data\._target_=.*(must be the name of a subclass|cannot be imported)"):
        import_class({"_target_": target}, "data", LightningDataModule)


def test_an_unknown_argument_is_refused_with_the_known_ones():
    class Takes:
        def __init__(self, alpha=1, *, beta=2):
            pass

    class TakesAny(Takes):
        def __init__(self, alpha=1, **others):
            pass

    check_arguments(Takes, ["alpha", "beta", "_convert_"], "optimizer")
    check_arguments(TakesAny, ["alpa"], "optimizer")
    said = r"^optimizer\.alpa: no such argument \(did you mean alpha\?\); Takes has alpha, beta$"
    with pytest.raises(UserError, match=said):
        check_arguments(Takes, ["beta", "alpa"], "optimizer")


BOMBS = {
    "a chain": "x:\n" + "".join(f"- ${{x.{i + 1}}}\n" for i in range(3000)) + "- 1\n",
    "doubled": "a0: x\n" + "".join(f"a{i + 1}: '{f'${{a{i}}}' * 2}'\n" for i in range(45)),
    "wide": f"a0: {'x' * 9000}\n" + "".join(f"a{i}: '{'${a0}' * 300}'\n" for i in range(1, 3)),
    "environment": f"a: '{'${oc.env:LONG}' * 500}'\n",
    "very many": f"a0: x\nb: '{'${a0}' * 1500}'\n",
}


@pytest.mark.parametrize("name", BOMBS)
def test_too_many_interpolations_are_refused_without_much_memory(stored, monkeypatch, name):
    monkeypatch.setenv("LONG", "x" * 10_000)
    with peak_memory() as peak, pytest.raises(UserError, match="interpolations"):
        stored(BOMBS[name])
    assert peak.kib < 20 << 10


def test_twenty_interpolations_need_only_some_megabytes(stored):
    text = f"a0: {'x' * 9000}\n" + "".join(f"a{i + 1}: '{f'${{a{i}}}' * 3}'\n" for i in range(6))
    with peak_memory() as peak:
        assert len(OmegaConf.to_container(stored(text), resolve=True)["a6"]) == 9000 * 3**6
    assert peak.kib < 100 << 10


LARGE = {
    "aliases": ("a: &a [1]\nb: *a\n", "an alias"),
    "merged": ("a: &a {x: 1}\nb: {<<: *a}\n", "an alias"),
    "levels": ("a: " + "[" * 3000 + "]" * 3000, "50 levels"),
    "keys in keys": ("? " * 3000 + "a", "50 levels"),
    "values": (f"a: [{'1,' * 20_000}1]", "10000 values"),
    "a long value": (f"a: {'x' * 10_001}", "a value has 10001"),
    "bytes": ("a: 1\n" + "#" * (1 << 20), "more than 1048576 bytes"),
}


@pytest.mark.parametrize(("text", "words"), LARGE.values(), ids=LARGE)
def test_large_configurations_are_refused_without_much_memory(stored, text, words):
    with peak_memory() as peak, pytest.raises(UserError, match=words):
        stored(text)
    assert peak.kib < 20 << 10


def test_a_file_is_read_only_up_to_the_limit(tmp_path):
    with (tmp_path / "config.yaml").open("wb") as file:
        file.truncate(1 << 30)
    with peak_memory() as peak, pytest.raises(UserError, match="more than 1048576 bytes"):
        read_stored(tmp_path / "config.yaml")
    assert peak.kib < 20 << 10


def test_only_regular_files_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name in ("pipe", "zero", "."):
        with pytest.raises(UserError, match="is not a file"):
            read_stored(tmp_path / name)


WORDS = [
    "a", ":", " ", "\n", "- ", "{", "}", "[", "]", ",", "${", "}", ".", "&x", "*x", "!!python/name:os.system",
    "_target_", "'", '"', "|", "<<", "? ", "1:1", "0x", "~", "oc.env:", "\\", "#", "%", "=", "é", "9" * 5000,
]  # fmt: skip


def test_random_text_is_read_or_refused_and_imports_nothing(stored):
    draw, before = random.Random(0), set(sys.modules)
    for _ in range(1000):
        with contextlib.suppress(ValueError, OSError, YAMLError, OmegaConfBaseException):
            stored("".join(draw.choices(WORDS, k=draw.randrange(1, 20))))
    assert set(sys.modules) == before
