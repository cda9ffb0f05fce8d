"""Printing on a standard output without Unicode: a pipe or a terminal in ASCII or Latin-1."""

import codecs
import io
import sys
from typing import TextIO

# ASCII substitutes for mathematical symbols; one character for symbols that occur in tables.
ASCII_SUBSTITUTES = {
    **{
        "δ": "delta",
        "ŷ": "yhat",
        "∇": "grad ",
        "∂": "d",
        "Σ": "sum",
        "θ": "theta",
        "α": "alpha",
        "λ": "lambda",
        "η": "eta",
    },
    **{
        "σ": "sigma",
        "μ": "mu",
        "φ": "phi",
        "Φ": "Phi",
        "π": "pi",
        "ε": "eps",
        "√": "sqrt",
        "ᵀ": "^T",
        "²": "^2",
        "³": "^3",
        "½": "1/2",
    },
    **{"−": "-", "⊙": "*", "·": "*", "×": "x", "′": "'", "±": "+-", "→": "->", "←": "<-", "≤": "<=", "≥": ">="},
    **{"≠": "!=", "…": "...", "‖": "|", "✓": "+", "✗": "x", "•": "*", "●": "*", "★": "*", "\N{NO-BREAK SPACE}": " "},
}


def ascii_substitute(error: UnicodeError) -> tuple[str, int]:
    """A `codecs` error handler: replace characters by their ASCII substitute, or by `?`."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(ASCII_SUBSTITUTES.get(each, "?") for each in error.object[error.start : error.end]), error.end


codecs.register_error("backhand.ascii", ascii_substitute)


def is_closed(stream: TextIO) -> bool:
    """Whether nobody reads the pipe that a stream writes to; an open one gets an empty line."""
    try:
        stream.write("\n")
        stream.flush()
    except BrokenPipeError:
        return True
    return False


def replace_unencodable() -> None:
    """Print ASCII substitutes for characters that standard output cannot encode, instead of raising an error.

    Standard error needs nothing: Python writes an escape there. An error handler that the user has set, as in
    `PYTHONIOENCODING=ascii:backslashreplace`, is kept.
    """
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors in ("strict", "surrogateescape"):
        sys.stdout.reconfigure(errors="backhand.ascii")
