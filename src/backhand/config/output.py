"""Standard output that cannot show every character: a pipe or a terminal in ASCII or Latin-1."""

import codecs
import io
import sys

# What the derivation's signs are called in ASCII; one character where the sign may stand in a table.
STAND_INS = {
    **{"δ": "delta", "ŷ": "yhat", "∇": "grad ", "∂": "d", "Σ": "sum", "θ": "theta", "α": "alpha", "λ": "lambda"},
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
    },
    **{"−": "-", "⊙": "*", "·": "*", "×": "x", "′": "'", "±": "+-", "→": "->", "←": "<-", "≤": "<=", "≠": "!="},
    **{"…": "...", "‖": "|", "✓": "+", "✗": "x", "•": "*", "●": "*", "★": "*", "\N{NO-BREAK SPACE}": " "},
}


def stand_in(error: UnicodeError) -> tuple[str, int]:
    """What is written for characters that an encoding lacks: their name in ASCII, or `?`. A handler for `codecs`."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(STAND_INS.get(each, "?") for each in error.object[error.start : error.end]), error.end


codecs.register_error("backhand.stand_in", stand_in)


def replace_unencodable() -> None:
    """Print a stand-in for a character that standard output cannot encode, where Python would raise an error.

    Standard error needs none: Python writes an escape there. What the user chose, as in
    `PYTHONIOENCODING=ascii:backslashreplace`, stays.
    """
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors in ("strict", "surrogateescape"):
        sys.stdout.reconfigure(errors="backhand.stand_in")
