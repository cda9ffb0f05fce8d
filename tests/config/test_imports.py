"""Error messages about exceptions in the user's code."""

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
    """A module of the user, outside the project."""
    (tmp_path / "own_module.py").write_text(CODE)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module("own_module")
    del sys.modules["own_module"]


def raised_by(call):
    with pytest.raises(KeyError) as caught:
        call()
    return caught.value


def test_the_message_has_the_last_line_of_the_users_code(own):
    assert describe(raised_by(lambda: own.breaks("x"))) == "KeyError: 'x' (own_module.py, line 6, in breaks)"


def test_an_exception_in_a_worker_has_the_same_message(own):
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
def test_a_file_that_cannot_be_imported_is_refused_with_the_reason(tmp_path, code, said):
    path = tmp_path / f"broken_by_{said[:5]}.py"
    path.write_text(code)
    with pytest.raises(UserError) as caught:
        import_modules([str(path)])
    where = f"{path.name}, line 1, in <module>"
    assert str(caught.value) == f"imports={path}: cannot be imported ({said} ({where}))"
