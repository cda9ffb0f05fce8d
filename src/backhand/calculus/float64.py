"""Which devices have float64."""

import torch


def widest_dtype(device: torch.device) -> torch.dtype:
    """float64, or float32 where the device has no float64, as Apple's MPS."""
    return torch.float32 if device.type == "mps" else torch.float64
