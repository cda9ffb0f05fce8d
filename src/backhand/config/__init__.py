"""The configuration: schema, validation and error messages.

Nothing here imports torch or Lightning, so that a wrong command line fails fast.
"""

from pathlib import Path

# The configuration files that Hydra composes.
CONF = Path(__file__).resolve().parents[3] / "conf"
