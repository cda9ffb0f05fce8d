"""Fully-connected networks whose backward pass is derived by hand, verified, and run at scale.

`from backhand import MLP, LightningMLP` is the whole public entry; each is resolved when first asked for, because torch
and Lightning take seconds to import and a wrong command line should be answered at once.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from backhand.calculus.mlp import MLP
    from backhand.training.module import LightningMLP

__all__ = ["MLP", "LightningMLP"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "MLP":
        from backhand.calculus.mlp import MLP

        return MLP
    if name == "LightningMLP":
        from backhand.training.module import LightningMLP

        return LightningMLP
    raise AttributeError(f"module 'backhand' has no attribute {name!r}")
