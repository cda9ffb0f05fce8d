import os

import pytest

from backhand.config import files
from backhand.config.files import atomic_write, read_json, replace_file


class Stopped(BaseException):
    """An exception that ends the process."""


@pytest.mark.parametrize("shared", [False, True])
def test_the_file_is_unchanged_until_the_new_one_is_complete(tmp_path, shared):
    path = tmp_path / "result.json"
    path.write_text("before")
    with replace_file(path, shared) as temporary:
        temporary.write_text("half")
        assert path.read_text() == "before"
        temporary.write_text("whole")
    assert path.read_text() == "whole"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("shared", [False, True])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, shared):
    path = tmp_path / "result.json"
    path.write_text("before")

    def write_half():
        with replace_file(path, shared) as temporary:
            temporary.write_text("half")
            raise Stopped

    with pytest.raises(Stopped):
        write_half()
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_temporary_file_that_cannot_be_renamed_is_removed(tmp_path):
    (tmp_path / "taken" / "inside").mkdir(parents=True)
    with pytest.raises(OSError, match="taken"):
        atomic_write(tmp_path / "taken", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_the_contents_are_flushed_before_the_rename_and_the_folder_after_it(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(files, "fsync", lambda path: seen.append((path.name, (tmp_path / "a").exists())))
    atomic_write(tmp_path / "a", "text")
    assert seen == [("a.tmp", False), (tmp_path.name, True)]


@pytest.mark.parametrize("contents", ["α\r\n", "α\r\n".encode(), memoryview("α\r\n".encode())])
def test_contents_are_written_without_change(tmp_path, contents):
    atomic_write(tmp_path / "a", contents)
    assert (tmp_path / "a").read_bytes() == "α\r\n".encode()


def test_nothing_is_written_through_a_link(tmp_path):
    mine = tmp_path / "mine"
    mine.write_text("keep")
    (tmp_path / "a.tmp").symlink_to(mine)
    (tmp_path / "a").symlink_to(mine)
    atomic_write(tmp_path / "a", "text")
    assert (mine.read_text(), (tmp_path / "a").read_text()) == ("keep", "text")


def test_two_processes_can_write_one_shared_file_at_the_same_time(tmp_path, monkeypatch):
    with replace_file(tmp_path / "a", shared=True) as first:
        first.write_text("one")
        monkeypatch.setattr(os, "getpid", lambda: -1)
        with replace_file(tmp_path / "a", shared=True) as second:
            second.write_text("two")
        assert (tmp_path / "a").read_text() == "two"
    assert (tmp_path / "a").read_text() == "one"


@pytest.mark.parametrize("text", ["", "{", "\ud800", "[" * 100_000])
def test_invalid_json_is_none(tmp_path, text):
    (tmp_path / "a").write_text(text, errors="surrogatepass")
    assert read_json(tmp_path / "a") is None


def test_a_pipe_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert read_json(tmp_path / "pipe") is None
    assert read_json(tmp_path / "absent") is None
