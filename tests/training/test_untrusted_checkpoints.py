"""Checkpoints of strangers: what would run something, or take gigabytes, is refused at once."""

import struct
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from tests.memory import peak_memory

from backhand.config.archive import check_archive
from backhand.config.errors import UserError
from backhand.config.validation import check_checkpoint_file
from backhand.training.checkpoint import read
from backhand.training.evaluation import read_module


class Calls:
    """What is called when it is unpickled."""

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
    """An archive of two members whose list, at its end, says something else; `changes` are (entry, offset, number)."""
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
    too_large: "says that",
    not_as_large: "not as large as it says",
    over_each_other: "lie over each other",
    a_long_list: "list of members",
    a_tensor_of_nothing: "its tensors have",
    bytes_of_nothing: "holds more than plain data",
}


LITTLE = 100 << 10  # KiB; what the files claim to hold is a gigabyte or more


@pytest.mark.parametrize(("make", "words"), REFUSED.items(), ids=lambda value: getattr(value, "__name__", None))
def test_what_torch_has_not_written_is_refused_before_it_is_unpacked(tmp_path, make, words):
    path = make(tmp_path / "x.ckpt")
    with peak_memory() as peak, pytest.raises(UserError, match=words) as error:
        read(path)
    assert peak.kib < LITTLE
    assert str(error.value).startswith(f"ckpt_path={path}: ")
    assert not (tmp_path / "happened").exists()


def test_an_archive_is_refused_before_torch_is_imported(tmp_path):
    for make in (compressed, too_large, over_each_other, bytes_of_nothing):
        with pytest.raises(UserError, match="not opened"):
            check_checkpoint_file("ckpt_path", make(tmp_path / "x.ckpt"))


def test_a_file_that_is_cut_off_or_goes_on_is_damaged(tmp_path):
    content = edited(tmp_path / "x.ckpt").read_bytes()
    for damaged in (content[:-30], content + b"more", content[200:], b"", b"PK\5\6"):
        (tmp_path / "x.ckpt").write_bytes(damaged)
        with pytest.raises(UserError, match="is no checkpoint"):
            check_archive(tmp_path / "x.ckpt", "ckpt_path")


def test_a_list_that_holds_itself_is_read(tmp_path):
    endless: list = []
    endless.append(endless)
    assert read(saved(tmp_path / "x.ckpt", extra=endless))["extra"][0][0]


def test_what_training_writes_is_read(trained):
    folder = trained("data=wine", "trainer.max_epochs=1")
    for path in folder.glob("checkpoints/*.ckpt"):
        assert read_module(path).hparams["sizes"][0] == 13


def test_no_room_is_made_for_a_network_that_is_not_in_the_file(trained):
    path = trained("data=wine", "trainer.max_epochs=1") / "checkpoints" / "best.ckpt"
    contents = read(path)
    contents["hyper_parameters"]["sizes"] = [13, 1 << 34, 3]
    torch.save(contents, path)
    with pytest.raises(UserError, match="more weights than"):
        read_module(path)
