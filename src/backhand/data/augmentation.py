"""Training pictures changed at random, a batch at once and each picture by its own random numbers.

The random transforms of `torchvision.transforms.v2` draw once for a whole batch, so the numbers are drawn here.
"""

from collections.abc import Callable

import torch
from torch import Generator, Tensor
from torchvision.transforms.v2 import functional


def shift(pictures: Tensor, generator: Generator) -> Tensor:
    """Each picture (C, H, W) of a batch moved by up to H/14 up or down and W/14 left or right: 2 pixels of 28."""
    return _moved(pictures, 14, generator)


def crop(pictures: Tensor, generator: Generator) -> Tensor:
    """Each picture (C, H, W) of a batch padded by an eighth with 0, 4 pixels for 32, and cut to its size at random.

    He et al., Deep Residual Learning for Image Recognition (2016), section 4.2.
    """
    return _moved(pictures, 8, generator)


def flip(pictures: Tensor, generator: Generator) -> Tensor:
    """Each picture (C, H, W) of a batch mirrored, left for right, with probability a half."""
    mirrored = torch.randint(2, (len(pictures),), generator=generator).to(pictures.device, non_blocking=True)
    rows = torch.arange(len(pictures), device=pictures.device) + len(pictures) * mirrored
    # Whole pictures are copied: 128 of 28 x 28 take 90 µs, where torch.where, pixel by pixel, takes 180 µs.
    return torch.cat([pictures, functional.horizontal_flip(pictures)]).index_select(0, rows)


AUGMENTATIONS: dict[str, Callable[[Tensor, Generator], Tensor]] = {
    "none": lambda pictures, _: pictures,
    "shift": shift,
    "flip": flip,
    "crop": crop,
}


def augment(name: str, x: Tensor, picture: tuple[int, int, int], generator: Generator) -> Tensor:
    """A batch of pictures, each changed by its own random numbers.

    Args:
        name: one of `AUGMENTATIONS`.
        x: uint8 or floating-point (B, D), D = C·H·W; black must be 0.
        picture: C, H, W.
        generator: of the CPU, so that every device gets the same pictures.

    Returns:
        (B, D), of x's dtype and on its device.
    """
    return AUGMENTATIONS[name](x.view(-1, *picture), generator).view(x.shape)


def _moved(pictures: Tensor, part: int, generator: Generator) -> Tensor:
    """Moved by up to H/part and W/part pixels; what comes in from outside is 0."""
    batch, channels, height, width = pictures.shape
    most_down, most_right = height // part, width // part
    down = torch.randint(2 * most_down + 1, (batch,), generator=generator)
    right = torch.randint(2 * most_right + 1, (batch,), generator=generator)
    padded = functional.pad(pictures, [most_right, most_down]).contiguous()
    picture, channel, row, _ = padded.stride()
    # A window of the padded batch is a picture moved, and begins at any pixel. Windows are copied row by row: 128 take
    # 56 µs (1 x 28 x 28) or 83 µs (3 x 32 x 32), where an index for each pixel takes 161 µs or 532 µs.
    begins = (torch.arange(batch) * picture + down * row + right).to(pictures.device, non_blocking=True)
    last = (batch - 1) * picture + 2 * most_down * row + 2 * most_right
    windows = padded.as_strided((last + 1, channels, height, width), (1, channel, row, 1))
    return windows.index_select(0, begins)
