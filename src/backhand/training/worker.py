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
from backhand.config.validation import parse_config
from backhand.errors import UserError
from backhand.training.interruption import Interruption
from backhand.training.processes import is_first, quiet_others


def main() -> None:
    """Train; an exception is written to a file, from which the launcher reads it."""
    threading.Thread(target=_end_with, args=[int(sys.argv[2])], daemon=True).start()
    for number in (
        signal.SIGUSR1,
        signal.SIGUSR2,
    ):  # Slurm may send them to all, for the submitted one
        signal.signal(number, signal.SIG_IGN)
    os.environ.pop("SUBMITIT_EXECUTOR", None)  # only in the submitted process SIGTERM may have another meaning
    replace_unencodable()
    try:
        record(_train)(Path(sys.argv[1]))
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except Exception:
        sys.exit(1)


def _train(task: Path) -> None:
    logs, configs, folder, standalone = json.loads(task.read_text(encoding="utf-8"))
    if is_first() and logs.get("root") is not None:
        logging.config.dictConfig(logs)
    quiet_others()
    mask_logs()
    from backhand.training.own_code import own_code
    from backhand.training.train import Run, quiet_lightning

    quiet_lightning()
    try:
        with Interruption().handling_signals() as interruption:
            config, composed = (parse_config(OmegaConf.create(each)) for each in json.loads(configs))
            with own_code(config, Path(folder)):
                Run(config, Path(folder), composed, interruption).train(standalone)
    except UserError as error:
        raise UserError(str(error)) from None  # `reason_of` recognises it by this name, subclasses too
    if distributed.is_initialized():
        distributed.destroy_process_group()  # or NCCL warns when the process ends


def _end_with(starter: int) -> None:
    """End when the process that started this one has died: this one would wait forever for the others."""
    while os.getppid() == starter:
        time.sleep(1)
    os._exit(1)
