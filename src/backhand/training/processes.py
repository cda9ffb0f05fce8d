"""The processes that share a run: which of them this one is, and how a run that needs several starts them.

torchrun and Slurm start them from outside, and each runs the whole command. Otherwise the command starts one a device
with torch's elastic launcher, and takes no part itself. Lightning's own launcher would make this process the first of
them, and leave a process group and variables of the environment to the next job of a sweep.
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

# Seconds that another process than the first waits to say what is wrong, so that it is said once.
FIRST_WORD = 5.0
# A process that ends so many seconds after the first failure was killed by the launcher, which waits for 30.
SAME_TIME = 10

# The run's folder, as the command line of a process that is not the first one names it.
_named: list[str] = []


class Launched(NamedTuple):
    """Who started this process as one of several, its number among them (0 is the one that writes), and how many."""

    by: str
    rank: int
    processes: int


def launched() -> Launched | None:
    """What the environment says of who started this process as one of several; None where nobody did."""

    def number(name: str, otherwise: int = 0) -> int:
        return int(os.environ.get(name, otherwise))

    if (tasks := number("SLURM_STEP_NUM_TASKS", 1)) > 1 and "TORCHELASTIC_RUN_ID" not in os.environ:
        return Launched("srun", number("SLURM_PROCID"), tasks)
    rank = max(number("RANK"), number("NODE_RANK"), number("LOCAL_RANK"))
    processes = max(number("WORLD_SIZE", 1), rank + 1)  # an exported LOCAL_RANK=0 makes it none of several
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return Launched("torchrun", rank, processes)
    return Launched("another launcher (RANK, WORLD_SIZE)", rank, processes) if processes > 1 else None


def is_first() -> bool:
    """Whether this process is the one that writes."""
    place = launched()
    return place is None or place.rank == 0


@contextmanager
def without_a_folder() -> Iterator[None]:
    """Keep the command in the body from writing anything, unless it is the first process of its run."""
    place = launched()
    if place is None or place.rank == 0:
        yield
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # or the folder would be left
    _named[:] = [each.partition("=")[2].strip("'\"") for each in sys.argv if each.startswith("hydra.run.dir=")]
    with tempfile.TemporaryDirectory(prefix="backhand-") as folder:
        sys.argv += [f"hydra.run.dir='{folder}'", "hydra.output_subdir=null", "hydra.job_logging.root=null"]
        try:
            yield
        except SystemExit as end:
            if isinstance(end.code, str) and place.rank > 0:
                # The first one here says the same, and its end is this one's; what is left to say then is its own.
                time.sleep(FIRST_WORD)
            raise


def shared_folder(folder: Path) -> Path:
    """The run's folder, for a process that was given one of its own: as the command line names it."""
    return folder if is_first() or not _named else Path(_named[-1])


def quiet_others() -> None:
    """Let only the first process write to train.log; the others' warnings go to the terminal."""
    place = launched()
    if place is not None and place.rank > 0:
        terminal = logging.StreamHandler()
        terminal.setLevel(logging.WARNING)
        form = f"%(levelname)s: process {place.rank}: %(message)s"
        logging.basicConfig(handlers=[terminal], format=form, force=True)


def refuse_sweep() -> None:
    """Refuse to begin a sweep in one of several processes: each would run all of its jobs.

    Raises:
        UserError: this is one of several.
    """
    place = launched()
    if place is not None and place.processes > 1:
        raise UserError(
            f"--multirun under {place.by}: a sweep starts each job's processes itself; start it without, as in "
            "python train.py -m trainer=ddp optimizer.lr=0.03,0.1, or give each job its tasks with hydra/launcher=slurm"
        )


def asks_for_several(asked: TrainerConfig) -> bool:
    """Whether these settings may need more than one process."""
    return asked.strategy != "auto" or asked.devices != 1 or asked.num_nodes != 1


def own_cluster(asked: TrainerConfig) -> "list[ClusterEnvironment]":
    """What Lightning must be told of where it runs: it takes any job of Slurm for one whose processes srun started."""
    place = launched()
    started = place is not None and place.by in ("torchrun", "srun")
    if started or "SLURM_NTASKS" not in os.environ or not asks_for_several(asked):
        return []
    from lightning.fabric.plugins.environments.lightning import LightningEnvironment

    return [LightningEnvironment()]


def processes_to_start(trainer: "L.Trainer") -> int:
    """How many processes a run with this trainer needs beside this one; 0 where it can be trained here.

    Raises:
        UserError: the trainer's settings are for another number of processes than there are, or can be started here.
    """
    from lightning.pytorch.strategies import SingleDeviceStrategy

    place, wanted = launched(), trainer.num_devices * trainer.num_nodes
    by, there = (place.by, place.processes) if place is not None else ("this command", trainer.num_devices)
    if there != wanted:
        raise UserError(
            f"trainer: {by} starts {there} processes, and the settings are for {wanted}; "
            "trainer.devices is the number on one machine, and trainer.num_nodes that of machines, on which torchrun "
            "or srun must start them, with trainer=ddp or ddp_cpu"
        )
    if place is not None or isinstance(trainer.strategy, SingleDeviceStrategy):
        return 0
    if trainer.strategy.root_device.type == "cpu" and trainer.num_devices > (cores := os.cpu_count() or 1):
        log.warning("trainer.devices=%d: slow, for this machine has %d cores", trainer.num_devices, cores)
    return trainer.num_devices


class ProcessError(UserError):
    """A process of a run failed, or is gone."""


def train_in_processes(count: int, config: TrainConfig, folder: Path, composed: TrainConfig, alone: bool) -> float:
    """Train a run in so many processes of this machine; the arguments are those of `Run`, and of its `train`.

    Raises:
        UserError: what the run was refused, or ended by, such as an audit.
        ProcessError: a process failed or is gone.
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
        configs = configs.replace("${", r"\\${")  # what looks like an interpolation is the text of one
        task.write_text(json.dumps([logs, configs, str(folder.absolute()), alone]), encoding="utf-8")
        settings = LaunchConfig(
            min_nodes=1, max_nodes=1, nproc_per_node=count, max_restarts=0, monitor_interval=0.1,
            rdzv_backend="c10d", rdzv_endpoint="localhost:0", local_addr="127.0.0.1", run_id=uuid.uuid4().hex,
            logs_specs=DefaultLogsSpecs(log_dir=private),  # where a process leaves the exception that it ends by
            signals_to_handle="",  # they raise an exception in this process, at which the launcher ends the others
        )  # fmt: skip
        # The path is handed on, for a script may have changed it.
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
    """What a run ended by. Where one process is lost the others fail in their turn, or are ended by the launcher."""
    said: dict[int, Any] = {rank: each.message for rank, each in failures.items() if isinstance(each.message, dict)}
    for message in said.values():
        kind, _, text = message["message"].partition(": ")
        if kind == UserError.__name__:
            return UserError(text)
    first = min(each.timestamp for each in failures.values())
    interrupted = (128 + signal.SIGINT, 128 + signal.SIGTERM, -signal.SIGTERM)
    for rank, each in failures.items():
        if rank not in said and each.exitcode not in interrupted and each.timestamp < first + SAME_TIME:
            how = f"was ended by {each.signal_name()}" if each.exitcode < 0 else f"left with status {each.exitcode}"
            return ProcessError(f"process {rank} {how}")
    if not said:
        return SystemExit(128 + signal.SIGTERM)
    rank = min(said, key=lambda rank: failures[rank].timestamp)
    log.error("process %d failed:\n%s", rank, said[rank]["extraInfo"]["py_callstack"])
    return ProcessError(f"process {rank}: {said[rank]['message']}")
