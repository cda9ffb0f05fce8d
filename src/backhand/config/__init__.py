"""The configuration: its schema, what is checked before anything starts, and how the user is told what is wrong.

Nothing here imports torch or Lightning, so that a wrong command line is answered at once.
"""

from pathlib import Path

# The files that Hydra composes the configuration of.
CONF = Path(__file__).resolve().parents[3] / "conf"
