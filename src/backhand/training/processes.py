"""Runs on several processes: the rank of this process, and how a run starts its processes.

torchrun and Slurm start the processes, and each of them runs the command. Otherwise the command starts one process per
device with torch's elastic launcher, and does not train itself. Lightning's launcher would make this process the first
of them, and leave a process group and environment variables behind for the next job of a sweep.
"""

import json
import logging
import os
import signal
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from backhand.config.schema import TrainConfig, TrainerConfig
from backhand.errors import UserError
from backhand.reporting.result import objective_of, read_result

if TYPE_CHECKING:
    import lightning as L
    from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

log = logging.getLogger(__name__)

# Seconds that a process other than the first waits before it reports an error, so that it is reported once.
REPORT_DELAY = 15.0
# A process that ends later than this many seconds after the first failure was killed by the launcher, which waits 30 s.
FAILURE_WINDOW = 10

# The run's folder on the command line of a process that is not the first one.
_run_folders: list[str] = []


class Launched(NamedTuple):
    """The launcher that started this process as one of several, its rank (0 writes), and their number."""

    by: str
    rank: int
    processes: int


def launched() -> Launched | None:
    """What the environment variables say about the launcher of this process; None for a single process."""

    def number(name: str, otherwise: int = 0) -> int:
        return int(os.environ.get(name, otherwise))

    if (tasks := number("SLURM_STEP_NUM_TASKS", 1)) > 1 and "TORCHELASTIC_RUN_ID" not in os.environ:
        return Launched("srun", number("SLURM_PROCID"), tasks)
    rank = max(number("RANK"), number("NODE_RANK"), number("LOCAL_RANK"))
    processes = max(number("WORLD_SIZE", 1), rank + 1)  # a leftover LOCAL_RANK=0 does not mean several processes
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return Launched("torchrun", rank, processes)
    return Launched("another launcher (RANK, WORLD_SIZE)", rank, processes) if processes > 1 else None


def is_first() -> bool:
    """Whether this process has rank 0, which writes the files."""
    launch = launched()
    return launch is None or launch.rank == 0


@contextmanager
def only_first_writes() -> Iterator[None]:
    """Give the command in the body a temporary folder, unless it is the first process of its run."""
    launch = launched()
    if launch is None or launch.rank == 0:
        yield
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the folder is removed
    _run_folders[:] = [each.partition("=")[2].strip("'\"") for each in sys.argv if each.startswith("hydra.run.dir=")]
    with tempfile.TemporaryDirectory(prefix="backhand-") as folder:
        sys.argv += [f"hydra.run.dir='{folder}'", "hydra.output_subdir=null", "hydra.job_logging.root=null"]
        try:
            yield
        except SystemExit as end:
            if isinstance(end.code, str) and launch.rank > 0:
                # The first process reports the same error; what is printed after the delay is this one's own.
                time.sleep(REPORT_DELAY)
            raise


def shared_folder(folder: Path) -> Path:
    """The run's folder on the command line, for a process that writes to a temporary one."""
    return folder if is_first() or not _run_folders else Path(_run_folders[-1])


def quiet_others() -> None:
    """Let only the first process write to train.log; the others print their warnings to the terminal."""
    launch = launched()
    if launch is not None and launch.rank > 0:
        terminal = logging.StreamHandler()
        terminal.setLevel(logging.WARNING)
        form = f"%(levelname)s: process {launch.rank}: %(message)s"
        logging.basicConfig(handlers=[terminal], format=form, force=True)


def refuse_sweep() -> None:
    """Refuse to start a sweep in one of several processes: each would run all jobs.

    Raises:
        UserError: this process is one of several.
    """
    launch = launched()
    if launch is not None and launch.processes > 1:
        raise UserError(
            f"--multirun under {launch.by}: a sweep starts each job's processes itself; start it as one process, as in "
            "python train.py -m trainer=ddp optimizer.lr=0.03,0.1, or give each job its tasks with hydra/launcher=slurm"
        )


def may_need_several(asked: TrainerConfig) -> bool:
    """Whether these settings may need more than one process."""
    return asked.strategy != "auto" or asked.devices != 1 or asked.num_nodes != 1


def cluster_plugins(asked: TrainerConfig) -> "list[ClusterEnvironment]":
    """Plugins that tell Lightning when srun did not start this process, which it assumes in any Slurm job."""
    launch = launched()
    started = launch is not None and launch.by in ("torchrun", "srun")
    if started or "SLURM_NTASKS" not in os.environ or not may_need_several(asked):
        return []
    from lightning.fabric.plugins.environments.lightning import LightningEnvironment

    return [LightningEnvironment()]


def processes_to_start(trainer: "L.Trainer") -> int:
    """How many processes to start for a run with this trainer; 0 if this process trains it.

    Raises:
        UserError: the trainer's settings need another number of processes than there are, or than can be started here.
    """
    from lightning.pytorch.strategies import SingleDeviceStrategy

    launch, needed = launched(), trainer.num_devices * trainer.num_nodes
    by, there = (launch.by, launch.processes) if launch is not None else ("this command", trainer.num_devices)
    if there != needed:
        raise UserError(
            f"trainer: {by} starts {there} processes, and the settings are for {needed}; "
            "trainer.devices is the number on one machine, trainer.num_nodes the number of machines; on several, "
            "torchrun or srun must start them, with trainer=ddp or ddp_cpu"
        )
    if launch is not None or isinstance(trainer.strategy, SingleDeviceStrategy):
        return 0
    if trainer.strategy.root_device.type == "cpu" and trainer.num_devices > (cores := os.cpu_count() or 1):
        log.warning("trainer.devices=%d: slow, for this machine has %d cores", trainer.num_devices, cores)
    return trainer.num_devices


class ProcessError(UserError):
    """A process of a run failed or was killed."""


def train_in_processes(count: int, config: TrainConfig, folder: Path, composed: TrainConfig, standalone: bool) -> float:
    """Train a run in `count` processes on this machine; the other arguments are those of `Run` and `Run.train`.

    Raises:
        UserError: a setting is refused, or an audit ended the run.
        ProcessError: a process failed or was killed.
        SystemExit: the run was interrupted.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    job_logging = HydraConfig.get().job_logging if HydraConfig.initialized() else OmegaConf.create()
    logs = OmegaConf.to_container(job_logging, resolve=True)
    with tempfile.TemporaryDirectory(prefix="backhand-") as private:
        task = Path(private, "task.json")
        configs = json.dumps([asdict(config), asdict(composed)])
        configs = configs.replace("${", r"\\${")  # values are literal text, not interpolations
        task.write_text(json.dumps([logs, configs, str(folder.absolute()), standalone]), encoding="utf-8")
        settings = LaunchConfig(
            min_nodes=1, max_nodes=1, nproc_per_node=count, max_restarts=0, monitor_interval=0.1,
            rdzv_backend="c10d", rdzv_endpoint="localhost:0", local_addr="127.0.0.1", run_id=uuid.uuid4().hex,
            logs_specs=DefaultLogsSpecs(log_dir=private),  # where a process writes the exception that ended it
            signals_to_handle="",  # a signal raises an exception here, and the launcher then ends the processes
        )  # fmt: skip
        # The processes get the same import path, which a script may have changed.
        code = f"import sys; sys.path = {sys.path!r}; from backhand.config.process import run; "
        code += "run('backhand.training.worker')"
        try:
            elastic_launch(settings, sys.executable)("-c", code, task, os.getpid())
        except ChildFailedError as error:
            raise reason_of(error.failures) from None
        finally:
            os.environ.pop("TORCHELASTIC_SIGNALS_TO_HANDLE", None)
    record = read_result(folder)
    assert record is not None
    return objective_of(record)


def reason_of(failures: "Mapping[int, ProcessFailure]") -> BaseException:
    """The cause of a run's failure: if one process dies, the others fail too, or the launcher ends them."""
    messages: dict[int, Any] = {rank: each.message for rank, each in failures.items() if isinstance(each.message, dict)}
    for message in messages.values():
        kind, _, text = message["message"].partition(": ")
        if kind == UserError.__name__:
            return UserError(text)
    first = min(each.timestamp for each in failures.values())
    interrupted = (128 + signal.SIGINT, 128 + signal.SIGTERM, -signal.SIGTERM)
    for rank, each in failures.items():
        if rank not in messages and each.exitcode not in interrupted and each.timestamp < first + FAILURE_WINDOW:
            how = f"was ended by {each.signal_name()}" if each.exitcode < 0 else f"left with status {each.exitcode}"
            return ProcessError(f"process {rank} {how}")
    if not messages:
        return SystemExit(128 + signal.SIGTERM)
    rank = min(messages, key=lambda rank: failures[rank].timestamp)
    log.error("process %d failed:\n%s", rank, messages[rank]["extraInfo"]["py_callstack"])
    return ProcessError(f"process {rank}: {messages[rank]['message']}")
