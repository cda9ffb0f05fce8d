"""Asks about a file as `scripts/gradcheck.py` does, in this process: one of its own would import torch, for seconds."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from backhand.checking import gradcheck
from backhand.derivations import runner, target
from backhand.derivations.loading import EndedError, RefusedError


@contextmanager
def in_this_process() -> Iterator[None]:
    """Have every target judged here."""

    def ask(request, time_limit):
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        try:
            return json.loads(json.dumps(runner.judge(json.loads(json.dumps(request)))))
        except (RefusedError, EndedError) as error:
            return {"refused": str(error)}
        finally:
            torch.set_default_dtype(before)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(target, "_ask", ask)
        yield


def asked(capsys, *arguments: str) -> tuple[int, str]:
    """The exit status and what is printed, in one line."""
    with in_this_process():
        # A busy machine needs more than the usual 20 s.
        limit = [] if any(each.startswith("time_limit=") for each in arguments) else ["time_limit=120"]
        status = gradcheck.gradcheck([*limit, *arguments])
    printed = capsys.readouterr()
    return status, " ".join((printed.out + printed.err).split())
