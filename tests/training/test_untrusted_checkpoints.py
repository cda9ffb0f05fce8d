"""Checkpoints from others: files that would run code, or need gigabytes, are refused at once."""

import struct
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from tests.memory import peak_memory

from backhand.config.stored import check_archive
from backhand.config.validation import check_checkpoint_file
from backhand.data.module import load
from backhand.errors import UserError
from backhand.training import train
from backhand.training.checkpoint import check_fits, read, resume_state
from backhand.training.evaluation import evaluate_new_rows, read_module
from backhand.training.module import LightningMLP


class Calls:
    """An object whose function is called when it is unpickled."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def saved(path, **contents):
    torch.save({"state_dict": {}, "hyper_parameters": {}, **contents}, path)
    return path


def members(path, *parts, method=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in parts:
            archive.writestr(name, content)
    return path


def runs_something(path):
    return saved(path, extra=Calls(Path.touch, path.with_name("happened")))


def compressed(path):
    return members(path, ("x/data.pkl", b"."), ("x/data/0", bytes(32 << 20)), method=zipfile.ZIP_DEFLATED)


def edited(path, *changes):
    """An archive of two members with changes in its central directory: (entry, offset, number)."""
    members(path, ("x/data.pkl", b"." * 10), ("x/data/0", bytes(1000)))
    content = bytearray(path.read_bytes())
    entries = [content.index(b"PK\1\2")]
    entries.append(content.index(b"PK\1\2", entries[0] + 4))
    for entry, offset, number in changes:
        content[entries[entry] + offset : entries[entry] + offset + 4] = struct.pack("<L", number)
    path.write_bytes(content)
    return path


def too_large(path):
    return edited(path, (1, 20, 3 << 30), (1, 24, 3 << 30))


def not_as_large(path):
    return edited(path, (1, 24, 3 << 30))


def over_each_other(path):
    return edited(path, (1, 42, 0))


def two_of_one_name(path):
    with pytest.warns(UserWarning, match="Duplicate name"):
        return members(path, ("x/data.pkl", b"."), ("x/data.pkl", b"."))


def a_long_list(path):
    content = bytearray(edited(path).read_bytes())
    content[-10:-6] = struct.pack("<L", 1 << 31)
    path.write_bytes(content)
    return path


def a_tensor_of_nothing(path):
    huge = Calls(torch._utils._rebuild_tensor_v2, torch.zeros(1).storage(), 0, (1 << 33,), (1,), False, OrderedDict())
    return saved(path, state_dict={"x": huge})


def bytes_of_nothing(path):
    return saved(path, extra=Calls(bytearray, 1 << 36))


REFUSED = {
    runs_something: "holds more than plain data",
    compressed: "compressed",
    too_large: "declares",
    not_as_large: "with a false size",
    over_each_other: "is not a checkpoint, or is damaged",
    a_long_list: "is not a checkpoint, or is damaged",
    two_of_one_name: "two members with one name",
    a_tensor_of_nothing: "its tensors claim",
    bytes_of_nothing: "holds more than plain data",
}


LITTLE = 100 << 10  # KiB; what the files claim to hold is a gigabyte or more


@pytest.mark.parametrize(("make", "words"), REFUSED.items(), ids=lambda value: getattr(value, "__name__", None))
def test_an_archive_that_torch_has_not_written_is_refused_before_it_is_unpacked(tmp_path, make, words):
    path = make(tmp_path / "x.ckpt")
    with peak_memory() as peak, pytest.raises(UserError, match=words) as error:
        read(path)
    assert peak.kib < LITTLE
    assert str(error.value).startswith(f"ckpt_path={path}: ")
    assert not (tmp_path / "happened").exists()


def test_an_archive_is_refused_before_torch_is_imported(tmp_path):
    for make in (compressed, too_large, two_of_one_name, bytes_of_nothing):
        with pytest.raises(UserError, match="not opened"):
            check_checkpoint_file("ckpt_path", make(tmp_path / "x.ckpt"))


def test_a_truncated_file_is_damaged(tmp_path):
    content = edited(tmp_path / "x.ckpt").read_bytes()
    for damaged in (content[:-30], content[:1000], content[200:], b"", b"PK\5\6"):
        (tmp_path / "x.ckpt").write_bytes(damaged)
        with pytest.raises(UserError, match="is not a checkpoint"):
            check_archive(tmp_path / "x.ckpt", "ckpt_path")


def test_torch_reads_the_archive_that_was_checked(tmp_path):
    """Two archives in one file: its end record points to one central directory, and follows the other one."""
    bad, good = (saved(tmp_path / name, name=name).read_bytes() for name in ("evil", "fine"))
    ends = [content.index(b"PK\6\6") for content in (bad, good)]
    lists = [content.index(b"PK\1\2") for content in (bad, good)]
    record = good[-22:]
    assert ends[0] - lists[0] == ends[1] - lists[1]
    ahead = bad[: lists[0]] + bytes(lists[1]) + bad[lists[0] : ends[0]]
    shift = ends[1]  # zipfile ignores data ahead of an archive
    entries = bytearray(good[lists[1] : ends[1]])
    place = -1
    while (place := entries.find(b"PK\1\2", place + 1)) >= 0:
        own = int.from_bytes(entries[place + 42 : place + 46], "little")
        entries[place + 42 : place + 46] = (own + len(ahead) - shift).to_bytes(4, "little")
    at = len(ahead) - (ends[0] - lists[0])
    both = ahead + good[: lists[1]] + entries + record[:16] + at.to_bytes(4, "little") + record[20:]
    path = tmp_path / "x.ckpt"
    path.write_bytes(both)
    assert torch.load(path, weights_only=True)["name"] == "evil"
    assert read(path)["name"] == "fine"


def test_a_list_that_contains_itself_is_read(tmp_path):
    endless: list = []
    endless.append(endless)
    assert read(saved(tmp_path / "x.ckpt", extra=endless))["extra"][0][0]


def test_what_training_writes_is_read(trained):
    folder = trained("data=wine", "trainer.max_epochs=1")
    for path in folder.glob("checkpoints/*.ckpt"):
        assert read_module(path).hparams["sizes"][0] == 13


def test_no_memory_is_allocated_for_a_network_that_is_not_in_the_file(trained):
    path = trained("data=wine", "trainer.max_epochs=1") / "checkpoints" / "best.ckpt"
    contents = read(path)
    contents["hyper_parameters"]["sizes"] = [13, 1 << 34, 3]
    torch.save(contents, path)
    with pytest.raises(UserError, match="more weights than"):
        read_module(path)


WINE = ("callbacks=quiet", "logger=none", "trainer=cpu", "data=wine", "trainer.max_epochs=2")


@pytest.fixture
def altered(trained, configured):
    """A run's last checkpoint with a change, its configuration, and its data."""

    def alter(change):
        config = configured(*WINE)
        path = trained(*WINE) / "checkpoints" / "last.ckpt"
        contents = read(path)
        change(contents)
        torch.save(contents, path)
        return path, config, load(config.data)

    return alter


def replaced(*keys, by=None):
    """Change a value in a checkpoint, or remove it."""

    def change(contents):
        *parents, last = keys
        for key in parents:
            contents = contents[key]
        if by is None:
            del contents[last]
        else:
            contents[last] = by

    return change


OWN_FOLDER = {
    "own_folder": (None, [1], "x"),
    "config_hash": (None,),
    "data": (None,),
    "history": (None, [1], {}, {"names": ["a"], "values": torch.ones(2, 1), "given": torch.ones(1, 1)},
                {"names": ["loss"], "values": torch.ones(2, 1), "given": torch.ones(2, 1)}),
    "first_epoch": (None, "x"),
    "seconds": (None, "x"),
    "wandb_id": (None, 7, "../x"),
}  # fmt: skip


@pytest.mark.parametrize(("key", "by"), [(key, by) for key, values in OWN_FOLDER.items() for by in values])
def test_a_state_that_this_program_has_not_written_is_refused_in_one_line(altered, key, by):
    where = [key] if key == "own_folder" else ["run" if key == "history" else "own_folder", key]
    path, config, dataset = altered(replaced(*where, by=by))
    with pytest.raises(UserError, match=r"last\.ckpt: is not a checkpoint of this program \(\w+Error: .*\)$"):
        resume_state(path, config, dataset)


def test_a_state_that_this_program_has_written_is_read(altered):
    path, config, dataset = altered(lambda contents: None)
    assert resume_state(path, config, dataset)["history"].column("epoch").tolist() == [0, 1]


@pytest.mark.parametrize(
    "change",
    [
        replaced("hyper_parameters", by=[1]),
        replaced("hyper_parameters", "sizes", by=torch.ones(3)),
        replaced("hyper_parameters", "loss", by=torch.ones(3)),
        replaced("hyper_parameters", "optimizer", by=[1]),
        replaced("state_dict", by=[1]),
        replaced("epoch", by="x"),
    ],
)
def test_settings_that_this_program_has_not_written_are_refused_in_one_line(altered, change):
    path, config, dataset = altered(change)
    with pytest.raises(UserError, match=r"^ckpt_path=.*last\.ckpt: (is not a checkpoint|was trained with)"):
        check_fits(path, config, dataset)


@pytest.mark.parametrize(
    "change",
    [
        replaced("loops", by=[1]),
        replaced("pytorch-lightning_version"),
        replaced("optimizer_states"),
        replaced("optimizer_states", by=[{}]),
        replaced("lr_schedulers", by=7),
        replaced("callbacks", by=[1]),
        replaced("state_dict", by={}),
        replaced("run", by=7),
        replaced("run", "endings", by=[7]),
    ],
)
def test_contents_that_lightning_cannot_restore_are_refused_in_one_line(altered, configured, tmp_path, change):
    path, *_ = altered(change)
    config = configured(*WINE, "trainer.max_epochs=3", f"ckpt_path={path}")
    folder = tmp_path / "rest"
    folder.mkdir()
    with pytest.raises(UserError, match=r"^ckpt_path=.*: is not a checkpoint of this program \(\w+: .*\)$"):
        train.Run(config, folder).train(standalone=False)


def test_an_error_of_the_run_is_not_reported_as_one_of_its_checkpoint(trained, monkeypatch):
    half = trained("data=wine", "trainer.max_epochs=1")
    monkeypatch.setattr(LightningMLP, "validation_step", lambda *args: {}["x"])
    with pytest.raises(KeyError):
        trained("data=wine", "trainer.max_epochs=2", f"ckpt_path={half}/checkpoints/last.ckpt")


@pytest.mark.parametrize("preprocessing", [{}, {"columns": [1]}, [1]])
def test_a_preprocessing_that_this_program_has_not_written_is_refused_in_one_line(altered, tmp_path, preprocessing):
    path, config, _ = altered(replaced("hyper_parameters", "preprocessing", by=preprocessing))
    rows = tmp_path / "new.csv"
    rows.write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match=r"^run=.*last\.ckpt: is not a checkpoint of this program \(\w+Error: .*\)$"):
        evaluate_new_rows(config, path, rows)
