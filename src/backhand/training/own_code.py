"""What the user's own classes and modules raise: one line for the reader, and the traceback in train.log."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from backhand.config.confidential import leaves
from backhand.config.imports import said_by
from backhand.config.schema import TrainConfig
from backhand.errors import UserError

log = logging.getLogger(__name__)


class OwnCodeError(UserError):
    """An exception of the user's own code, which a traceback in the run's folder belongs to."""


@contextmanager
def own_code(config: TrainConfig, folder: Path) -> Iterator[None]:
    """Turn exceptions in the body into `OwnCodeError` where the run has parts of the user's own.

    Without such parts an exception is a bug of ours, and passes.

    Args:
        config: the run's.
        folder: the run's; the traceback goes to the log in it, and not to the terminal.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if not uses_own_code(config):
            raise
        logs = [each for each in logging.getLogger().handlers if isinstance(each, logging.FileHandler)]
        written = [each for each in logs if Path(each.baseFilename).parent == folder.absolute()]
        for handler in written:
            told = (type(error), error, error.__traceback__)
            handler.handle(log.makeRecord(log.name, logging.ERROR, __file__, 0, "the run failed", (), told))
        where = "".join(f"; the traceback is in {each.baseFilename}" for each in written)
        raise OwnCodeError(f"the run failed: {said_by(error)}{where}") from error


def uses_own_code(config: TrainConfig) -> bool:
    """Whether the configuration names modules or classes by itself."""
    return bool(config.imports) or any("_target_" in key.split(".") for key, _ in leaves(asdict(config)))
