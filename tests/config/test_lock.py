import errno
import fcntl
import logging
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from backhand.config.lock import LOCK_FILE, created_parents, lock_folder
from backhand.errors import UserError

LOCK = """
import signal, sys, time
from pathlib import Path
from backhand.config.lock import lock_folder
lock_folder(Path(sys.argv[1]), "dir")
print("held", flush=True)
{then}
"""


def locking_process(folder, then):
    """Start a process that locks the folder, and wait until it has."""
    process = subprocess.Popen(
        [sys.executable, "-c", LOCK.format(then=then), folder], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_lock_names_the_owner_until_the_first_is_released(tmp_path):
    folder = tmp_path / "run"
    release = lock_folder(folder, "hydra.run.dir")
    for _ in range(2):
        with pytest.raises(UserError) as refused:
            lock_folder(folder, "hydra.run.dir")
        said = str(refused.value)
        assert said.startswith(f"hydra.run.dir={folder}: process {os.getpid()} on {os.uname().nodename}, since 20")
        assert said.endswith(" is writing to it; wait for it, or name another folder")
    release()
    assert list(folder.iterdir()) == []
    lock_folder(folder, "hydra.run.dir")()


def test_another_thread_may_release_the_lock(tmp_path):
    release = lock_folder(tmp_path, "dir")
    thread = threading.Thread(target=release)
    thread.start()
    thread.join()
    lock_folder(tmp_path, "dir")()


def test_a_process_removes_the_lock_file_when_it_ends(tmp_path):
    process = locking_process(tmp_path, "")
    assert process.wait(60) == 0
    assert list(tmp_path.iterdir()) == []


def test_a_killed_process_leaves_no_lock(tmp_path):
    process = locking_process(tmp_path, "time.sleep(60)")
    with pytest.raises(UserError, match=f"process {process.pid} on "):
        lock_folder(tmp_path, "dir")
    process.send_signal(signal.SIGKILL)
    process.wait(60)
    assert (tmp_path / LOCK_FILE).exists()
    release = lock_folder(tmp_path, "dir")
    assert (tmp_path / LOCK_FILE).read_text().startswith(f"process {os.getpid()} on ")
    release()


def test_a_forked_child_does_not_keep_the_lock(tmp_path):
    process = locking_process(
        tmp_path, "import os\nif os.fork() == 0: print('forked', flush=True), time.sleep(10)\nos._exit(0)"
    )
    assert process.stdout.readline() == "forked\n"
    process.wait(60)
    lock_folder(tmp_path, "dir")()


def test_created_parents_are_known(tmp_path):
    release = lock_folder(tmp_path / "a" / "b" / "c", "dir")
    assert created_parents(tmp_path / "a" / "b" / "c") == [tmp_path / "a" / "b", tmp_path / "a"]
    release()
    assert created_parents(tmp_path / "elsewhere") == []


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_only_logged(tmp_path, monkeypatch, caplog, recwarn, number):
    def flock(descriptor, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    with caplog.at_level(logging.INFO):
        release = lock_folder(tmp_path, "dir")
    assert caplog.messages == [f"{tmp_path}: the file system has no locks"]
    release()
    assert list(tmp_path.iterdir()) == []
    assert not recwarn.list


@pytest.mark.parametrize("make", [lambda path, mine: path.symlink_to(mine), lambda path, mine: os.mkfifo(path)])
def test_a_link_or_pipe_is_replaced_and_nothing_is_written_through_it(tmp_path, make):
    mine = tmp_path / "mine"
    mine.write_text("keep")
    folder = tmp_path / "theirs"
    folder.mkdir()
    make(folder / LOCK_FILE, mine)
    release = lock_folder(folder, "dir")
    with pytest.raises(UserError, match=f"process {os.getpid()} on "):
        lock_folder(folder, "dir")
    assert mine.read_text() == "keep"
    release()


def test_a_folder_that_cannot_be_created_or_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"^dir=.*/file/run: cannot be created \(Not a directory\)$"):
        lock_folder(tmp_path / "file" / "run", "dir")
    (tmp_path / "run" / LOCK_FILE).mkdir(parents=True)
    with pytest.raises(UserError, match=r"^dir=.*/run: \.lock in it cannot be written \(Is a directory\)$"):
        lock_folder(tmp_path / "run", "dir")


def test_the_lock_file_of_another_command_is_not_removed(tmp_path):
    """The folder of a run is removed, and another run starts in it."""
    release = lock_folder(tmp_path / "run", "dir")
    (tmp_path / "run").rename(tmp_path / "gone")
    other = lock_folder(tmp_path / "run", "dir")
    release()
    with pytest.raises(UserError, match="is writing to it"):
        lock_folder(tmp_path / "run", "dir")
    other()


def test_a_relative_path_is_the_same_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    release = lock_folder(Path("run"), "dir")
    with pytest.raises(UserError, match="is writing to it"):
        lock_folder(tmp_path / "run", "dir")
    monkeypatch.chdir("/")
    release()
    assert list((tmp_path / "run").iterdir()) == []
