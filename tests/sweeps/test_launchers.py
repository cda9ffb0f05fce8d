"""The launchers, as far as no real Slurm is needed."""

import signal
import subprocess
import sys

import pytest

from hydra_plugins.backhand_sweeps import SlurmLauncher


@pytest.fixture
def own_signals():
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("own_signals")
def test_the_requeueing_of_a_preempted_job_outlives_slurms_sigterm():
    launcher = SlurmLauncher(population=False, max_runs=None)
    again = launcher.checkpoint([(0, [])], {})
    assert (again.function, again.args) == (launcher, ([(0, [])], {}))
    # As `scontrol requeue` is started after that.
    ends_itself = "import os, signal; os.kill(os.getpid(), signal.SIGTERM); print('alive')"
    child = subprocess.run([sys.executable, "-c", ends_itself], capture_output=True, text=True)
    assert (child.returncode, child.stdout) == (0, "alive\n")
