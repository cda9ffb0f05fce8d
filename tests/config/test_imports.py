"""What the user reads of an exception in a file of their own."""

import importlib
import sys

import pytest

from backhand.config.imports import describe, import_modules
from backhand.errors import UserError

CODE = """
import sys


def breaks(name):
    return {}[name]


if len(sys.argv) > 1000:
    raise ValueError
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A module of the user's, in a folder that is not the project's."""
    (tmp_path / "own_module.py").write_text(CODE)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module("own_module")
    del sys.modules["own_module"]


def raised_by(call):
    with pytest.raises(KeyError) as caught:
        call()
    return caught.value


def test_an_exception_is_told_with_the_last_line_of_the_users_own(own):
    assert describe(raised_by(lambda: own.breaks("x"))) == "KeyError: 'x' (own_module.py, line 6, in breaks)"


def test_that_of_a_worker_is_told_as_if_there_were_none(own):
    lines = ["Caught ValueError in DataLoader worker process 0.", "Original Traceback (most recent call last):"]
    lines += [f'  File "{own.__file__}", line 6, in breaks', "    return {}[name]", "ValueError: 0", ""]
    assert describe(ValueError("\n".join(lines))) == "ValueError: 0 (own_module.py, line 6, in breaks)"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import sys; sys.exit(2)", "SystemExit: 2"),
        ("raise ValueError('two\\nlines')", "ValueError: two lines"),
        ("assert False", "AssertionError"),
    ],
)
def test_a_file_that_cannot_be_imported_is_refused_with_its_reason(tmp_path, code, said):
    path = tmp_path / f"broken_by_{said[:5]}.py"
    path.write_text(code)
    with pytest.raises(UserError) as caught:
        import_modules([str(path)])
    where = f"{path.name}, line 1, in <module>"
    assert str(caught.value) == f"imports={path}: cannot be imported ({said} ({where}))"
