"""The processes that share a run: which of them this one is, and how they are started, watched and ended.

torchrun and Slurm start them from outside, and each runs the whole command. Where nobody has, the command starts one a
device, hands each the run's configuration, and takes no part itself: whatever becomes of them, the next job of a sweep
finds neither a process group nor an environment that was left behind. That is why Lightning, which would run the
command line again in each and be the first of them, does not start them.
"""

import json
import logging
import logging.config
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backhand.config.errors import UserError
from backhand.config.schema import TrainConfig, TrainerConfig
from backhand.training.interruption import Interruption

if TYPE_CHECKING:
    import lightning as L
    from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment

# Seconds that the other processes have to end by themselves once one has failed, and that the first one has to write
# its last files once it was interrupted.
GRACE, LAST_WORDS = 10.0, 60.0
# And those that another process waits to say what is wrong, so that it is said once.
FIRST_WORD = 5.0


# The run's folder, as the command line of a process that is not the first one names it.
_named: list[str] = []


@dataclass(frozen=True)
class Launched:
    """What somebody else who started the processes says of this one.

    Attributes:
        by: who it was.
        rank: its number; the first one, 0, is the only one that writes.
        local_rank: its number on this machine; the first one says what is wrong.
        processes: how many there are; None where that is not said.
    """

    by: str
    rank: int
    local_rank: int
    processes: int | None


def launched() -> Launched | None:
    """Who started this process as one of several, or None where nobody did."""

    def number(name: str, otherwise: int = 0) -> int:
        return int(os.environ.get(name, otherwise))

    if "TORCHELASTIC_RUN_ID" in os.environ:
        return Launched("torchrun", number("RANK"), number("LOCAL_RANK"), number("WORLD_SIZE"))
    if (tasks := number("SLURM_STEP_NUM_TASKS", 1)) > 1:
        return Launched("srun", number("SLURM_PROCID"), number("SLURM_LOCALID"), tasks)
    if "NODE_RANK" in os.environ or "LOCAL_RANK" in os.environ:  # by hand, as Lightning has it
        node, local = number("NODE_RANK"), number("LOCAL_RANK")
        return Launched("NODE_RANK and LOCAL_RANK", max(node, local), local, None)
    return None


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
            if isinstance(end.code, str) and place.local_rank > 0:
                # The first one here says the same, and its end is this one's; what is left to say then is its own.
                time.sleep(FIRST_WORD)
            raise


def shared_folder(folder: Path) -> Path:
    """The run's folder, for a process that was given one of its own: as the command line names it."""
    return folder if is_first() or not _named else Path(_named[-1])


def quiet_others() -> None:
    """Let only the first process write to train.log."""
    place = launched()
    if place is not None and place.rank > 0:
        log_to_terminal(place.rank)


def log_to_terminal(rank: int) -> None:
    """Log the warnings of a process that is not the first to the terminal, and nothing to train.log."""
    for handler in list(logging.getLogger().handlers):
        logging.getLogger().removeHandler(handler)
        handler.close()
    terminal = logging.StreamHandler()
    terminal.setLevel(logging.WARNING)
    terminal.setFormatter(logging.Formatter(f"%(levelname)s: process {rank}: %(message)s"))
    logging.getLogger().addHandler(terminal)


def refuse_sweep() -> None:
    """Refuse to begin a sweep in one of several processes: each would run all of its jobs.

    Raises:
        UserError: this is one of several.
    """
    place = launched()
    if place is not None and place.processes != 1:
        raise UserError(
            f"--multirun under {place.by}: a sweep starts each job's processes itself; leave {place.by} out, as in "
            "python train.py -m trainer=ddp optimizer.lr=0.03,0.1, or give each job its tasks with hydra/launcher=slurm"
        )


def asks_for_several(asked: TrainerConfig) -> bool:
    """Whether these settings may need more than one process."""
    return asked.strategy != "auto" or asked.devices != 1 or asked.num_nodes != 1


def own_cluster(asked: TrainerConfig) -> "list[ClusterEnvironment]":
    """What Lightning must be told of where it runs: it takes any job of Slurm for one whose processes srun started."""
    place = launched()
    if "SLURM_NTASKS" not in os.environ or not asks_for_several(asked) or (place is not None and place.by == "srun"):
        return []
    from lightning.fabric.plugins.environments.lightning import LightningEnvironment

    return [LightningEnvironment()]


def processes_to_start(trainer: "L.Trainer") -> int:
    """How many processes a run with this trainer needs beside this one; 0 where it can be trained here.

    Raises:
        UserError: there are several, and not as many as the trainer's settings say, or they could not share a run.
    """
    from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher, _SubprocessScriptLauncher

    place, launcher = launched(), trainer.strategy.launcher
    if isinstance(launcher, _MultiProcessingLauncher):
        raise UserError("trainer.strategy: processes that are spawned or forked keep their results; take ddp")
    wanted = trainer.num_devices * trainer.num_nodes
    if place is not None and place.processes not in (None, wanted):
        raise UserError(
            f"trainer: {place.by} started {place.processes} processes, and the settings are for {wanted}; "
            "trainer.devices is the number on one machine and trainer.num_nodes that of machines, with trainer=ddp or "
            "ddp_cpu"
        )
    if not isinstance(launcher, _SubprocessScriptLauncher) or launcher.cluster_environment.creates_processes_externally:
        return 0
    return launcher.num_processes


class ProcessError(RuntimeError):
    """A process of a run failed, or is gone; the cause is its traceback."""


class _TracebackError(Exception):
    def __str__(self) -> str:
        return f"\n{self.args[0]}"


class Processes:
    """A run in processes of its own, one a device of this machine, in place of a `Run` in this one.

    Args:
        config: as of `Run`.
        folder: as of `Run`.
        composed: as of `Run`.
        trainer: one with the configured settings; it says how many processes, and where they meet.

    Raises:
        UserError: what a `Run` refuses.
        ProcessError: one of them failed before they could begin.
    """

    def __init__(self, config: TrainConfig, folder: Path, composed: TrainConfig, trainer: "L.Trainer") -> None:
        self.config, self.folder = composed, folder.absolute()
        count = processes_to_start(trainer)
        meeting = self._meeting_place(trainer)
        node = trainer.strategy.cluster_environment.node_rank()  # type: ignore[attr-defined]
        self.ranks = range(node * count, (node + 1) * count)
        self.members: list[subprocess.Popen[bytes]] = []
        self.pipes: list[connection.Connection] = []
        try:
            for local_rank, rank in enumerate(self.ranks):
                environment = meeting | {
                    "WORLD_SIZE": str(trainer.world_size),
                    "NODE_RANK": str(node),
                    "LOCAL_RANK": str(local_rank),
                    "RANK": str(rank),
                }
                self._start(environment)
                self.pipes[-1].send((_logging(), config, self.folder, composed))
            self._answers("ready")
        except BaseException as error:
            self._end(GRACE if isinstance(error, Exception) else 0)
            raise

    def train(self, alone: bool = True) -> float:
        """As of `Run`.

        Raises:
            UserError: what the run was ended by, such as an audit.
            ProcessError: a process failed or is gone.
        """
        try:
            for pipe in self.pipes:
                with suppress(OSError):  # it is gone; its answer will say so
                    pipe.send(alone)
            objective, *_ = self._answers("done")
        except (KeyboardInterrupt, SystemExit):
            self._interrupt()
            raise
        except (UserError, ProcessError) as error:
            self._end(GRACE)
            self._record(error)
            raise
        self._end(GRACE)
        return objective

    def _start(self, environment: dict[str, str]) -> None:
        ours, theirs = connection.Pipe()
        # Not by multiprocessing, which would import the main module again: in a launcher's worker that is the worker's.
        code = f"import sys; sys.path = {sys.path!r}; from backhand.training import processes; processes.take_part()"
        member = subprocess.Popen(
            [sys.executable, "-c", code, str(theirs.fileno())],
            env=os.environ | environment,
            pass_fds=[theirs.fileno()],
            stdin=subprocess.PIPE,  # it is open as long as this process lives
            start_new_session=True,  # Ctrl-C is for this process, which hands it on
        )
        theirs.close()
        self.members.append(member)
        self.pipes.append(ours)

    def _meeting_place(self, trainer: "L.Trainer") -> dict[str, str]:
        """Where the processes find each other, as torch reads it."""
        cluster = trainer.strategy.cluster_environment  # type: ignore[attr-defined]
        if trainer.num_nodes > 1 or "MASTER_PORT" in os.environ:
            return {"MASTER_ADDR": cluster.main_address, "MASTER_PORT": str(cluster.main_port)}
        from torch.distributed import TCPStore  # type: ignore[attr-defined]

        # Kept here, as torchrun keeps it: a port that is merely found free may be another job's when it is wanted.
        self.store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        return {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(self.store.port),
            "TORCHELASTIC_USE_AGENT_STORE": "True",
            "TORCHELASTIC_RESTART_COUNT": "0",
        }

    def _answers(self, wanted: str) -> list[Any]:
        """What every process answers, in their order.

        Raises:
            UserError: the first one that answers otherwise was refused something.
            ProcessError: it failed.
            SystemExit: it was interrupted.
        """
        answers: dict[int, Any] = {}
        while missing := [pipe for number, pipe in enumerate(self.pipes) if number not in answers]:
            for pipe in connection.wait(missing):
                number = self.pipes.index(pipe)  # type: ignore[arg-type]
                answers[number] = self._answer(number, wanted)
        return [answers[number] for number in sorted(answers)]

    def _answer(self, number: int, wanted: str) -> Any:
        try:
            kind, *said = self.pipes[number].recv()
        except (EOFError, ConnectionResetError):
            code = self.members[number].wait()
            how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"left with status {code}"
            raise ProcessError(f"process {self.ranks[number]} {how}") from None
        if kind == wanted:
            return said[0]
        if kind == "interrupted":
            raise SystemExit(said[0])
        if kind == "refused":
            raise UserError(said[0])
        raise ProcessError(f"process {self.ranks[number]}: {said[0]}") from _TracebackError(said[1])

    def _interrupt(self) -> None:
        """Interrupt the first one, which writes what there is to write; the others are of no use without it."""
        try:
            self.members[0].send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                self.members[0].wait(LAST_WORDS)
        finally:
            self._end(0)

    def _end(self, grace: float) -> None:
        """Wait for all to end, and then end those that have not."""
        until = time.monotonic() + grace
        try:
            for member in self.members:
                with suppress(subprocess.TimeoutExpired):
                    member.wait(max(0.0, until - time.monotonic()))
        finally:
            for member, pipe in zip(self.members, self.pipes, strict=True):
                member.kill()
                member.wait()
                pipe.close()
                assert member.stdin is not None
                member.stdin.close()

    def _record(self, error: Exception) -> None:
        """See to it that result.json says why the run failed: the first process may know the consequence alone."""
        if not is_first():
            return
        from backhand.reporting.result import write_result, write_whole
        from backhand.training.train import failure

        result = failure(error, self.config)
        path = self.folder / "result.json"
        if self.members[0].returncode != 0 or not path.exists():
            write_result(result, self.config, self.folder)
            return
        record = json.loads(path.read_text()) | {"error": result.error}
        write_whole(path, json.dumps(record, indent=2) + "\n")


def _logging() -> dict[str, Any]:
    """How Hydra made this process log, if it did."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    if not HydraConfig.initialized():
        return {}
    return OmegaConf.to_container(HydraConfig.get().job_logging, resolve=True)  # type: ignore[return-value]


def take_part() -> None:
    """Be one process of a run: say that it is ready, be told to begin, say how it ended."""
    threading.Thread(target=_end_with_starter, daemon=True).start()
    for number in (signal.SIGUSR1, signal.SIGUSR2):  # Slurm's may be for all, and are for the one that was submitted
        signal.signal(number, signal.SIG_IGN)
    pipe = connection.Connection(int(sys.argv[1]))
    logging_config, config, folder, composed = pipe.recv()
    try:
        if os.environ["RANK"] != "0":
            log_to_terminal(int(os.environ["RANK"]))
        elif logging_config.get("root") is not None:
            logging.config.dictConfig(logging_config)
        from backhand.training.train import Run, quiet_lightning

        quiet_lightning()
        with Interruption().watched() as interruption:
            run = Run(config, folder, composed, interruption)
            pipe.send(("ready", None))
            answer: tuple[Any, ...] = ("done", run.train(alone=pipe.recv()))
    except UserError as error:
        answer = ("refused", str(error))
    except KeyboardInterrupt:
        answer = ("interrupted", 130)
    except SystemExit as end:
        answer = ("interrupted", end.code)
    except BaseException as error:
        answer = ("failed", f"{type(error).__name__}: {error}", traceback.format_exc())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(OSError):
        pipe.send(answer)
    _leave_group()


def _leave_group() -> None:
    """NCCL complains of a process that ends in its group."""
    import torch

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _end_with_starter() -> None:
    """A process whose starter is gone would wait for the others forever."""
    os.read(sys.stdin.fileno(), 1)
    os._exit(1)
