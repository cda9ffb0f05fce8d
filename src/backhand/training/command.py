"""The command `python train.py`: torch and Lightning are imported only after the configuration was checked."""

import logging
import os
import sys
from contextlib import nullcontext, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from backhand.config.command import command, report
from backhand.config.confidential import check_nothing_confidential, leaves, mask_logs
from backhand.config.errors import USER_ERRORS
from backhand.config.lock import LOCK_FILE, lock_folder
from backhand.config.schema import AUTO, TrainConfig
from backhand.config.stored import RUN_FILES, check_links
from backhand.config.validation import check_folder, check_table_file, parse_config
from backhand.errors import UserError
from backhand.reporting.result import (
    Result,
    config_hash,
    describe_differences,
    is_complete,
    mismatch,
    objective_of,
    read_result,
    write_result,
)
from backhand.reporting.terminal import relative_to_cwd
from backhand.training.evaluate import read_config
from backhand.training.interruption import exiting_on_signal, resume_command
from backhand.training.processes import is_first, only_first_writes, refuse_sweep, shared_folder

log = logging.getLogger(__name__)


@only_first_writes()
@command
def main(cfg: DictConfig) -> Any:
    """Train one network; returns its objective, for Hydra's sweepers."""
    mask_logs()
    hydra = HydraConfig.get()
    if hydra.job.chdir:  # Hydra has changed into the run's folder; paths on the command line are relative to the user's
        os.chdir(hydra.runtime.cwd)
    config = parse_config(cfg)
    standalone, own_folder = hydra.mode == RunMode.RUN, Path(hydra.runtime.output_dir)
    folder = shared_folder(own_folder)  # for a process other than the first, `own_folder` is a temporary one
    record = read_result(folder) if not standalone or config.ckpt_path == AUTO else None
    if record is not None and (whose := mismatch(record, config)):
        raise UserError(f"{folder}: holds {whose}, and nothing is overwritten; name another folder")
    if record is not None and is_complete(record):
        if is_first():
            log.info("complete already: %s", folder)
        if is_first() and standalone:
            print(f"complete already: {relative_to_cwd(folder)}")
            report_divergence(record, config)
        return objective_of(record)
    standalone_and_first = standalone and is_first()
    with exiting_on_signal(lambda: leave_interrupted(config, folder)) if standalone_and_first else nullcontext():
        from backhand.training.train import train
    try:
        objective = train(config, own_folder, None if standalone else Path(hydra.sweep.dir).absolute())
    except SystemExit:
        if standalone_and_first:
            leave_interrupted(config, folder)
        raise
    if standalone_and_first:
        report_divergence(read_result(folder), config)
    return objective


def report_divergence(record: dict[str, Any] | None, config: TrainConfig) -> None:
    """Print to stderr why a run diverged, if it did.

    Raises:
        UserError: the run diverged, and `on_divergence` is `fail`.
    """
    if record is None or record["status"] != "diverged":
        return
    error = UserError(f"diverged: {record['error']}")
    if config.on_divergence == "fail":
        raise error
    print(report(error), file=sys.stderr)


def leave_interrupted(config: TrainConfig, folder: Path) -> None:
    """Print how to resume an interrupted run, and write its result.json if it has none."""
    if is_complete(read_result(folder)):  # only its output was interrupted
        return
    with suppress(OSError):
        if read_result(folder) is None:
            write_result(Result("interrupted", {"name": config.objective, "value": None}), config, folder)
        (folder / LOCK_FILE).unlink(missing_ok=True)  # when the program exits at once, nothing else removes it
    log.warning("interrupted; to resume: %s", resume_command(folder))


class RefuseBadConfig(Callback):
    """Checks a single run's configuration before Hydra makes its folder; a sweep checks its jobs itself.

    Hydra turns an exception in a callback into a warning and continues, so this one raises SystemExit.
    """

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        try:
            check_run(config)
        except USER_ERRORS as error:
            sys.exit(report(error))

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Refuse to start a sweep in one of several processes."""
        try:
            refuse_sweep()
            check_hydra(config)
        except USER_ERRORS as error:
            sys.exit(report(error))


class DropConfiguration(Callback):
    """Removes the configuration from what Hydra keeps of a finished job.

    Hydra would keep two copies until the end of the sweep, 0.2 MB a job, and nothing reads them.
    """

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Drop both copies; `.hydra` in the job's folder has them."""
        job_return.cfg = job_return.hydra_cfg = None


def check_run(cfg: DictConfig) -> None:
    """Check the configuration, the table file if there is one, and that the run's folder is free; lock the folder.

    Raises:
        UserError: what is wrong, in one line.
    """
    config = parse_config(cfg)
    check_hydra(cfg)
    check_table_file(config)
    if not cfg.hydra.run.dir:
        raise UserError("hydra.run.dir=: must be the name of a folder, which need not exist yet")
    if not is_first():
        return
    check_folder("hydra.run.dir", Path(cfg.hydra.run.dir))
    logs = [path.name for path in Path(cfg.hydra.run.dir).glob("*.log")]
    check_links(Path(cfg.hydra.run.dir), "hydra.run.dir", (*RUN_FILES, *logs))
    where = f"hydra.run.dir={cfg.hydra.run.dir}"
    folder = Path(cfg.hydra.run.dir)
    resumes = config.ckpt_path == AUTO
    if resumes and not any(each.startswith("hydra.run.dir=") for each in cfg.hydra.overrides.hydra):
        raise UserError(f"ckpt_path={AUTO}: name the run's folder too, as hydra.run.dir=outputs/2026-01-31/12-00-00")
    if (folder / "sweep.json").exists() or (folder / "multirun.yaml").exists():
        raise UserError(f"{where}: is a sweep's folder; name another, or one of its jobs to resume, such as 0")
    release = lock_folder(folder, "hydra.run.dir")
    try:
        if (folder / ".hydra").exists():
            if not resumes:
                raise UserError(
                    f"{where}: holds a run already, and nothing is overwritten; name another folder, or resume "
                    f"the run with ckpt_path={AUTO}"
                )
            _check_same(folder, config)
        elif theirs := [name for name in (*RUN_FILES, f"{cfg.hydra.job.name}.log") if (folder / name).exists()]:
            raise UserError(f"{where}: holds {theirs[0]} already, and nothing is overwritten; name another folder")
    except UserError:
        release()
        raise


def check_hydra(cfg: DictConfig) -> None:
    """Check Hydra's own part of the configuration, which is written to `.hydra/`, too.

    Raises:
        UserError: a setting that holds a secret; no launcher.
    """
    if cfg.hydra.launcher is None:
        raise UserError("hydra.launcher=null: a launcher is needed; choose one with hydra/launcher=…")
    values = []
    for key, value in leaves(OmegaConf.to_container(cfg.hydra, resolve=False), "hydra"):
        if "${" in str(value) and not key.startswith("hydra.help."):  # the text of --help takes 0.1 s to make
            with suppress(OmegaConfBaseException):  # known only when the run has started
                value = OmegaConf.select(cfg, key)
        values.append((key, value))
    check_nothing_confidential(values)


def _check_same(folder: Path, config: TrainConfig) -> None:
    try:
        named = [
            value for key, value in leaves(asdict(config)) if key.endswith("_target_") or key.startswith("imports")
        ]
        theirs = read_config(folder, named)
    except UserError as error:
        stored = folder / ".hydra" / "config.yaml"
        if (stored.exists() and not stored.is_file()) or any((folder / name).exists() for name in RUN_FILES[1:]):
            raise UserError(
                f"hydra.run.dir={folder}: holds a run with another configuration, or a damaged one ({error}), and "
                "nothing is overwritten; name another folder"
            ) from None
        return  # it was killed while its configuration was written, and has no other file
    if config_hash(theirs) != config_hash(config):
        raise UserError(
            f"hydra.run.dir={folder}: holds another configuration's run ({describe_differences(config, theirs)}), "
            "and nothing is overwritten; name another folder"
        )
    if theirs.ckpt_path not in (None, AUTO) and not (folder / "checkpoints").exists():
        raise UserError(
            f"hydra.run.dir={folder}: holds a run that started from ckpt_path={theirs.ckpt_path}, and has no "
            "checkpoint of its own yet; remove the folder, and start again from there"
        )
