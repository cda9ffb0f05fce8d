"""The image data sets that torchvision downloads, verifies and reads."""

import io
import socket
import sys
import tempfile
from collections.abc import Callable
from contextlib import nullcontext, redirect_stderr
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from torchvision import datasets
from torchvision.datasets.mnist import read_image_file, read_label_file
from torchvision.datasets.utils import check_integrity

from backhand.config.dataset_info import DATASETS
from backhand.config.schema import ImagesConfig
from backhand.data.dataset import Dataset, Rows, split_rows
from backhand.errors import UserError

SOURCES = {
    "mnist": datasets.MNIST,
    "fashion_mnist": datasets.FashionMNIST,
    "kmnist": datasets.KMNIST,
    "cifar10": datasets.CIFAR10,
}
DOWNLOAD_TIMEOUT = 10.0  # seconds without a byte after which a download fails


@dataclass
class Layout:
    """Where torchvision keeps the files of a data set, relative to `data.dir`.

    Attributes:
        folder: the folder of the files.
        files: the MD5 sum by file name; None if a file of the user's is allowed.
        archives: the MD5 sum of each archive that is downloaded, by path.
    """

    folder: Path
    files: dict[str, str | None]
    archives: dict[Path, str]


def load_images(settings: ImagesConfig, write: bool = True) -> Dataset:
    """Read an image data set from the files in `settings.dir`, and download them if none of them exists.

    The test files are the test split; the training files are split into train and val.

    Args:
        settings: the configuration of the data set.
        write: whether files may be downloaded and unpacked. Evaluation does neither, because the folder may be named
            by somebody else's run.

    Returns:
        x uint8 (N, C·H·W), y class numbers (N,); ids are row numbers in the training or test file. Mean and standard
        deviation of the training split's pixels are (1,), or per channel (C·H·W,) if there are several channels.

    Raises:
        UserError: the files cannot be downloaded, or some are missing, damaged or unreadable.
    """
    root, name = Path(settings.dir).expanduser(), settings.name
    try:
        existing = next(folder for folder in (root, *root.parents) if folder.exists())
        if not existing.is_dir():
            raise UserError(f"data.dir={settings.dir}: {existing} is a file; must be a folder")
        _ensure_files(root, name, write)
        x, y, class_names = _read(root, name, train=True)
        test_x, test_y, _ = _read(root, name, train=False)
    except OSError as error:
        raise UserError(f"data={name}: {error.filename or root} cannot be read or written ({_reason(error)})") from None

    split = split_rows(y.numpy(), len(y), settings.val_fraction, 0, settings.split_seed)
    rows = {part: Rows(torch.from_numpy(ids), x[ids], y[ids]) for part, ids in split.items()}
    rows["test"] = Rows(torch.arange(len(test_y)), test_x, test_y)
    info = replace(DATASETS[name], samples=len(y))
    assert info.image_shape is not None
    mean, std = _mean_and_std(rows["train"].x, channels=info.image_shape[0])
    return Dataset(rows, info, class_names, mean, std)


def _layout(name: str) -> Layout:
    source = SOURCES[name]
    if name == "cifar10":
        sums = dict(source.train_list + source.test_list) | {source.meta["filename"]: source.meta["md5"]}
        return Layout(Path(source.base_folder), sums, {Path(source.filename): source.tgz_md5})
    folder = Path(source.__name__, "raw")
    archives = {folder / packed: md5 for packed, md5 in source.resources}
    return Layout(folder, {packed.stem: None for packed in archives}, archives)


def _ensure_files(root: Path, name: str, write: bool) -> None:
    """Download or unpack the files of a data set unless all of them are in their folder."""
    layout = _layout(name)
    folder = root / layout.folder
    missing = [file for file in layout.files if not (folder / file).is_file()]
    if not missing:
        return
    if not write:
        raise UserError(
            f"data={name}: {folder / missing[0]}: no such file, and evaluation downloads none; "
            f"python train.py data={name} data.dir={root} debug=fast downloads it"
        )
    if len(missing) < len(layout.files):
        # The files that exist may be the user's own; the original ones would not match them.
        allowed = f"add {', '.join(missing)}, or remove the others to download all"
        raise UserError(f"data={name}: some files are missing in {folder}; {allowed}")
    packed = {path: md5 for path, md5 in layout.archives.items() if (root / path).is_file()}
    for path, md5 in packed.items():
        if not check_integrity(root / path, md5):
            raise UserError(f"data={name}: {root / path}: is damaged or not the original file; unpack or remove it")
    try:
        _download(root, name, layout, packed)
    except Exception as error:  # torchvision and its libraries raise many types
        found = f"the files are not in {folder} and cannot be downloaded ({_reason(error)})"
        archives = ", ".join(map(str, layout.archives))
        raise UserError(f"data={name}: {found}; put {archives} into {root}, or unpack them there") from None


def _download(root: Path, name: str, layout: Layout, packed: dict[Path, str]) -> None:
    """Let torchvision download, verify and unpack all files, or unpack the archives in `packed`.

    It happens in a temporary folder, because torchvision accepts any file with the right name, even a partial one.
    """
    root.mkdir(parents=True, exist_ok=True)
    before = socket.getdefaulttimeout()
    with tempfile.TemporaryDirectory(prefix=".download-", dir=root) as folder:
        temporary = Path(folder)
        for path in packed:
            (temporary / path).parent.mkdir(parents=True, exist_ok=True)
            (temporary / path).symlink_to((root / path).resolve())
        socket.setdefaulttimeout(DOWNLOAD_TIMEOUT)  # torchvision's connections have no time limit
        try:
            with nullcontext() if sys.stderr.isatty() else redirect_stderr(io.StringIO()):
                SOURCES[name](temporary, download=True)
        finally:
            socket.setdefaulttimeout(before)
        (root / layout.folder).mkdir(parents=True, exist_ok=True)
        for file in layout.files:
            (temporary / layout.folder / file).replace(root / layout.folder / file)


def _read(root: Path, name: str, train: bool) -> tuple[Tensor, Tensor, list[str]]:
    """Read images (N, D), class numbers (N,) and class names from the training or the test files."""
    layout = _layout(name)
    folder = root / layout.folder
    if name == "cifar10":
        try:
            # CIFAR10 unpickles its files, and a pickle can run any code. Files from others are safe to open because
            # it compares all MD5 sums with the original ones first.
            source = datasets.CIFAR10(root, train)
        except RuntimeError as error:
            bad = [file for file, md5 in layout.files.items() if not check_integrity(folder / file, md5)]
            found = f"{', '.join(bad)} damaged" if bad else _reason(error)
            allowed = f"remove {folder} to download the original files"
            raise UserError(f"data={name}: {folder}: {found}; {allowed}") from None
        x = torch.from_numpy(source.data.transpose(0, 3, 1, 2))
        return x.flatten(1), torch.tensor(source.targets), list(source.classes)

    # datasets.MNIST would read other files if there is a folder `processed`.
    files = [folder / file for file in layout.files]
    images, labels = files[:2] if train else files[2:]
    x = _read_idx(images, read_image_file, name)
    y = _read_idx(labels, read_label_file, name)
    names = list(SOURCES[name].classes)
    if x.shape != (len(y), 28, 28):
        found = f"{len(x)} images of {x.shape[1]} x {x.shape[2]} pixels, and {labels.name} {len(y)} labels"
        raise UserError(f"data={name}: {images}: has {found}; must be as many, and of 28 x 28 pixels")
    wrong = (y >= len(names)).nonzero()
    if len(wrong):
        found = f"label {int(wrong[0])} (from 0) is {int(y[wrong[0]])}"
        raise UserError(f"data={name}: {labels}: {found}; must be 0 to {len(names) - 1}")
    return x.flatten(1), y, names


def _read_idx(path: Path, read: Callable[[str], Tensor], name: str) -> Tensor:
    """Read an IDX file; it takes memory for twice the file's size, whatever its header says."""
    try:
        return read(str(path))
    except OSError:
        raise
    except Exception as error:  # torchvision checks with assert
        kind = "28 x 28 images" if read is read_image_file else "labels"
        found = f"is not an IDX file of {kind}, or is damaged ({_reason(error)})"
        raise UserError(f"data={name}: {path}: {found}; replace it") from None


def _mean_and_std(x: Tensor, channels: int) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation per channel, from counts of the 256 values: exact, without a float copy of x."""
    pixels = x.unflatten(1, (channels, -1))
    counts = torch.stack([torch.bincount(channel.flatten(), minlength=256) for channel in pixels.unbind(1)])
    values, share = torch.arange(256, dtype=torch.float64), counts.double() / pixels[:, 0].numel()
    mean = share @ values
    std = (share * (values - mean.unsqueeze(1)) ** 2).sum(1).sqrt()
    std[std == 0] = 1
    each = 1 if channels == 1 else pixels.shape[2]
    return mean.float().repeat_interleave(each), std.float().repeat_interleave(each)


def _reason(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())[:200]
