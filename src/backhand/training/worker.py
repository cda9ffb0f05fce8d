"""One of the processes that train a run together, as `processes.train_in_processes` starts it."""

import json
import logging.config
import os
import signal
import sys
import threading
import time
from pathlib import Path

from omegaconf import OmegaConf
from torch import distributed
from torch.distributed.elastic.multiprocessing.errors import record

from backhand.config.confidential import mask_logs
from backhand.config.output import replace_unencodable
from backhand.config.validation import typed
from backhand.errors import UserError
from backhand.training.interruption import Interruption
from backhand.training.processes import is_first, quiet_others


def main() -> None:
    """Train, and leave an exception to the launcher, which reads it from a file."""
    threading.Thread(target=_end_with, args=[int(sys.argv[2])], daemon=True).start()
    for number in (signal.SIGUSR1, signal.SIGUSR2):  # Slurm's may be for all, and are for the one that was submitted
        signal.signal(number, signal.SIG_IGN)
    os.environ.pop("SUBMITIT_EXECUTOR", None)  # that one, too, is where SIGTERM may mean something else
    replace_unencodable()
    try:
        record(_train)(Path(sys.argv[1]))
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except Exception:
        sys.exit(1)


def _train(task: Path) -> None:
    logs, configs, folder, alone = json.loads(task.read_text(encoding="utf-8"))
    if is_first() and logs.get("root") is not None:
        logging.config.dictConfig(logs)
    quiet_others()
    mask_logs()
    from backhand.training.own_code import own_code
    from backhand.training.train import Run, quiet_lightning

    quiet_lightning()
    try:
        with Interruption().watched() as interruption:
            config, composed = (typed(OmegaConf.create(each)) for each in json.loads(configs))
            with own_code(config, Path(folder)):
                Run(config, Path(folder), composed, interruption).train(alone)
    except UserError as error:
        raise UserError(str(error)) from None  # by this name the one who started it knows its kinds, too
    if distributed.is_initialized():
        distributed.destroy_process_group()  # NCCL complains of a process that ends in its group


def _end_with(starter: int) -> None:
    """End when the one who started this process is gone: it would wait for the others forever."""
    while os.getppid() == starter:
        time.sleep(1)
    os._exit(1)
