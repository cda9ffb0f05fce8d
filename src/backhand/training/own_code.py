"""Exceptions of the user's own classes and modules: one line on the terminal, and the traceback in train.log."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from backhand.config.confidential import leaves
from backhand.config.imports import describe
from backhand.config.schema import TrainConfig
from backhand.errors import UserError

log = logging.getLogger(__name__)


class OwnCodeError(UserError):
    """An exception of the user's own code; its traceback is in the run's folder."""


@contextmanager
def own_code(config: TrainConfig, folder: Path) -> Iterator[None]:
    """Turn exceptions in the body into `OwnCodeError` if the run uses code of the user's own.

    Otherwise an exception is a bug of this program, and passes.

    Args:
        config: the run's configuration.
        folder: the run's folder; the traceback is written to the log in it, and not to the terminal.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if not uses_own_code(config):
            raise
        logs = [each for each in logging.getLogger().handlers if isinstance(each, logging.FileHandler)]
        own_logs = [each for each in logs if Path(each.baseFilename).parent == folder.absolute()]
        for handler in own_logs:
            exc_info = (type(error), error, error.__traceback__)
            handler.handle(log.makeRecord(log.name, logging.ERROR, __file__, 0, "the run failed", (), exc_info))
        where = "".join(f"; the traceback is in {each.baseFilename}" for each in own_logs)
        raise OwnCodeError(f"the run failed: {describe(error)}{where}") from error


def uses_own_code(config: TrainConfig) -> bool:
    """Whether the configuration imports modules or names classes as `_target_`."""
    return bool(config.imports) or any("_target_" in key.split(".") for key, _ in leaves(asdict(config)))
