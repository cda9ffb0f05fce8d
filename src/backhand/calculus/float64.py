"""Where float64 can be computed: every device has it but Apple's MPS."""

import torch


def float64_device(device: torch.device) -> torch.device:
    """The device itself, or the CPU where the device has no float64."""
    return torch.device("cpu") if device.type == "mps" else device
