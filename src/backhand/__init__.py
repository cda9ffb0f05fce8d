"""Fully-connected networks whose backward pass is derived by hand, proven, and run at scale.

`from backhand import MLP` is the whole public entry; it is resolved when first asked for, because torch takes
seconds to import and a wrong command line should be answered at once.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from backhand.calculus.mlp import MLP

__all__ = ["MLP"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "MLP":
        from backhand.calculus.mlp import MLP

        return MLP
    raise AttributeError(f"module 'backhand' has no attribute {name!r}")
