"""The picture sets that torchvision knows: read from their files, which are downloaded where there are none."""

import gzip
import http.client
import io
import math
import os
import socket
import struct
import sys
import tempfile
import threading
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stderr
from dataclasses import replace
from pathlib import Path
from queue import Empty, SimpleQueue

import torch
from torch import Tensor
from torchvision import datasets
from torchvision.datasets.utils import check_integrity

from backhand.config.catalogue import CATALOGUE
from backhand.config.files import replacing
from backhand.config.schema import PicturesConfig
from backhand.data.dataset import Dataset, Rows, split_rows
from backhand.data.unpacked import most_unpacked
from backhand.errors import UserError

SOURCES = {
    "mnist": datasets.MNIST,
    "fashion_mnist": datasets.FashionMNIST,
    "kmnist": datasets.KMNIST,
    "cifar10": datasets.CIFAR10,
}
PATIENCE = 10.0  # seconds without an answer, or without the next byte, after which a download has failed


def load_pictures(settings: PicturesConfig, write: bool = True) -> Dataset:
    """A picture set out of the files in `settings.dir`, which are downloaded where none of them is there.

    Where nothing may be written, there must be all files, unpacked: the folder may be named by a stranger's run.

    The shipped test files are the test split; the training files are split into train and val.

    Returns:
        x uint8 (N, C·H·W), y class numbers (N,); ids are the rows' numbers in the training or the test file. Mean and
        standard deviation of the training split's pixels are (1,), or each channel's (C·H·W,) where there are several.

    Raises:
        UserError: the files cannot be downloaded, or some are missing, damaged or unreadable.
    """
    root, name = Path(settings.dir).expanduser(), settings.name
    try:
        existing = next(folder for folder in (root, *root.parents) if folder.exists())
        if not existing.is_dir():
            raise UserError(f"data.dir={settings.dir}: {existing} is a file; must be a folder")
        if not write:
            _check_provided(root, name)
        elif name == "cifar10":
            _provide_cifar(root)
        else:
            _provide_idx(root, name)
        x, y, class_names = _read(root, name, "training")
        test_x, test_y, _ = _read(root, name, "test")
    except OSError as error:
        raise UserError(f"data={name}: {error.filename or root} cannot be read or written ({_reason(error)})") from None

    split = split_rows(y.numpy(), len(y), settings.val_fraction, 0, settings.split_seed)
    rows = {part: Rows(torch.from_numpy(ids), x[ids], y[ids]) for part, ids in split.items()}
    rows["test"] = Rows(torch.arange(len(test_y)), test_x, test_y)
    facts = replace(CATALOGUE[name], samples=len(y))
    assert facts.picture is not None
    mean, std = _mean_and_std(rows["train"].x, channels=facts.picture[0])
    return Dataset(rows, facts, class_names, mean, std)


def _read(root: Path, name: str, part: str) -> tuple[Tensor, Tensor, list[str]]:
    """The pictures (N, D) and classes (N,) of the training or the test files, and the classes' names."""
    facts, where = CATALOGUE[name], f"data={name}: the {part} files in {root}"
    try:
        # CIFAR10 unpickles its files, and a pickle can run anything. It has compared the MD5 sums of all of them with
        # the originals' before it opens one, with download=False too; files of unknown origin are safe by that alone.
        source = SOURCES[name](root, train=part == "training")
        x = torch.from_numpy(source.data.transpose(0, 3, 1, 2)) if name == "cifar10" else source.data
        x, y = x.flatten(1), torch.as_tensor(source.targets)
    except Exception as error:  # torchvision's own, and whatever the readers below it raise
        if name == "cifar10" and (bad := _bad_batches(root)):
            allowed = f"must be the original ones: remove {bad[0].parent} to have them downloaded"
            names = ", ".join(path.name for path in bad)
            raise UserError(f"data={name}: {bad[0].parent}: {names}: missing or damaged; {allowed}") from None
        raise UserError(f"{where} cannot be read ({_reason(error)})") from None
    if x.dtype != torch.uint8 or x.shape != (len(y), facts.features) or not len(y):
        found = f"hold {len(x)} pictures of {x.shape[1]} pixels and {len(y)} labels"
        raise UserError(f"{where} {found}; must be one label for each picture of {facts.features} pixels")
    wrong = ((y < 0) | (y >= len(source.classes))).nonzero()
    if len(wrong):
        found = f"label {int(wrong[0])} (from 0) is {int(y[wrong[0]])}"
        raise UserError(f"{where}: {found}; must be 0 to {len(source.classes) - 1}")
    return x, y, list(source.classes)


def _mean_and_std(x: Tensor, channels: int) -> tuple[Tensor, Tensor]:
    """Each channel's, from how often each of the 256 values occurs: exact, without a floating-point copy of x."""
    values = torch.arange(256, dtype=torch.float64)
    means, stds = torch.zeros(channels), torch.ones(channels)
    for channel, pixels in enumerate(x.unflatten(1, (channels, -1)).unbind(1)):
        share = torch.bincount(pixels.flatten(), minlength=256).double() / pixels.numel()
        mean = share @ values
        variance = share @ (values - mean) ** 2
        means[channel] = mean
        if variance > 0:
            stds[channel] = variance.sqrt()
    if channels == 1:
        return means, stds
    pixels_each = x.shape[1] // channels
    return means.repeat_interleave(pixels_each), stds.repeat_interleave(pixels_each)


def _check_provided(root: Path, name: str) -> None:
    source = SOURCES[name]
    if name == "cifar10":
        files = [root / source.base_folder / file for file in _batch_sums()]
    else:
        files = [root / source.__name__ / "raw" / Path(packed).stem for packed, _ in source.resources]
    if missing := [file for file in files if not file.is_file()]:
        raise UserError(
            f"data={name}: {missing[0]}: is not there, and an evaluation writes no data; "
            f"python train.py data={name} data.dir={root} debug=fast provides it"
        )
    if name != "cifar10":
        _check_idx(root, name)


def _provide_idx(root: Path, name: str) -> None:
    """MNIST's four files, unpacked, whole and fitting together, are in their folder."""
    source = SOURCES[name]
    folder = Path(source.__name__, "raw")
    raw = root / folder
    files = [Path(packed).stem for packed, _ in source.resources]
    missing = [file for file in files if not any((raw / each).is_file() for each in (file, f"{file}.gz"))]
    if missing == files:
        servers = [f"{mirror}{source.resources[0][0]}" for mirror in source.mirrors]
        _download(name, root, folder, files, servers, f"{', '.join(files)} (or the same with .gz) there")
    elif missing:
        # Those that are there may be the user's own, to which the original ones would not fit.
        allowed = f"put {', '.join(missing)} there (or the same with .gz), or remove the others to download all"
        raise UserError(f"data={name}: not all files are in {raw}; {allowed}")
    for file in files:
        if not (raw / file).is_file():
            _unpack(raw / f"{file}.gz", raw / file, name)
    _check_idx(root, name)


def _check_idx(root: Path, name: str) -> None:
    """The files are as large as they say, and there is a label for each picture."""
    raw = root / SOURCES[name].__name__ / "raw"
    files = [Path(packed).stem for packed, _ in SOURCES[name].resources]
    for images, labels in (files[:2], files[2:]):
        counts = _samples(raw / images, 2051, (28, 28), name), _samples(raw / labels, 2049, (), name)
        if counts[0] != counts[1]:
            found = f"{images} has {counts[0]} pictures and {labels} has {counts[1]} labels"
            raise UserError(f"data={name}: {raw}: {found}; must be as many")


def _samples(path: Path, magic: int, shape: tuple[int, ...], name: str) -> int:
    """How many samples an IDX file has, by its header (http://yann.lecun.com/exdb/mnist) and by its size."""
    numbers = 2 + len(shape)
    with path.open("rb") as file:
        header, size = file.read(4 * numbers), os.fstat(file.fileno()).st_size
    found, samples, *found_shape = struct.unpack(f">{numbers}I", header.ljust(4 * numbers, b"\0"))
    if (found, *found_shape) != (magic, *shape):
        kind = " x ".join(map(str, shape)) + " pictures" if shape else "labels"
        raise UserError(f"data={name}: {path}: is no IDX file of {kind}, or a damaged one; replace it")
    whole = 4 * numbers + samples * math.prod(shape)
    if size != whole or samples == 0:
        found = f"has {size} bytes and a header for {samples} samples"
        raise UserError(f"data={name}: {path}: {found}, which are {whole} bytes: damaged; replace it")
    return samples


def _unpack(packed: Path, file: Path, name: str) -> None:
    try:
        with replacing(file, shared=True) as aside, gzip.open(packed) as read, aside.open("wb") as write:
            most = most_unpacked(packed.stat().st_size)
            while block := read.read(1 << 20):
                if write.tell() + len(block) > most:
                    raise UserError(f"data={name}: {packed}: unpacked it has more than {most} bytes; replace it")
                write.write(block)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"data={name}: {packed}: is damaged ({_reason(error)}); replace it") from None


def _provide_cifar(root: Path) -> None:
    """At least one of CIFAR-10's files is in its folder: torchvision looks after the rest."""
    source = datasets.CIFAR10
    folder, archive = Path(source.base_folder), root / source.filename
    files = list(_batch_sums())
    if any((root / folder / file).is_file() for file in files):
        return
    servers = [source.url]
    if archive.is_file():
        if not check_integrity(archive, source.tgz_md5):
            raise UserError(f"data=cifar10: {archive}: is not the original file, or is damaged; replace or remove it")
        servers = []
    _download("cifar10", root, folder, files, servers, f"{', '.join(files)} there, or {source.filename} in {root}")


def _batch_sums() -> dict[str, str]:
    source = datasets.CIFAR10
    return {**dict(source.train_list), **dict(source.test_list), source.meta["filename"]: source.meta["md5"]}


def _bad_batches(root: Path) -> list[Path]:
    folder = root / datasets.CIFAR10.base_folder
    return [folder / file for file, md5 in _batch_sums().items() if not check_integrity(folder / file, md5)]


def _download(name: str, root: Path, folder: Path, files: list[str], servers: Sequence[str], remedy: str) -> None:
    """Put the files into a folder of `root`, each of them whole or not at all.

    With no `servers` torchvision's archive is in `root` already.
    """
    source = SOURCES[name]
    try:
        if servers:
            _await_answer(servers)
        root.mkdir(parents=True, exist_ok=True)
        # torchvision takes a file for a good one as soon as it has its name, so it must not work in the real place.
        with tempfile.TemporaryDirectory(prefix=".download-", dir=root) as fresh:
            if not servers:
                Path(fresh, source.filename).symlink_to((root / source.filename).resolve())
            with _impatient(), nullcontext() if sys.stderr.isatty() else redirect_stderr(io.StringIO()):
                source(fresh, download=True)
            (root / folder).mkdir(parents=True, exist_ok=True)
            for file in files:
                Path(fresh, folder, file).replace(root / folder / file)
    except (OSError, RuntimeError, EOFError, http.client.HTTPException, zlib.error) as error:
        found = f"the files are not in {root / folder} and cannot be downloaded ({_reason(error)})"
        raise UserError(f"data={name}: {found}; put {remedy}") from None


def _await_answer(urls: Sequence[str]) -> None:
    """Return when one of the servers answers.

    In threads, because a name server that is silent, or a server with many addresses, cannot be given a time limit.

    Raises:
        OSError: none of them did in time.
    """
    answers: SimpleQueue[Exception | None] = SimpleQueue()

    def ask(url: str) -> None:
        try:
            urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=PATIENCE).close()
        except urllib.error.HTTPError:
            answers.put(None)
        except (OSError, http.client.HTTPException) as error:
            answers.put(error)
        else:
            answers.put(None)

    for url in urls:
        threading.Thread(target=ask, args=(url,), daemon=True).start()
    for left in reversed(range(len(urls))):
        try:
            error = answers.get(timeout=PATIENCE)
        except Empty:
            raise TimeoutError(f"no answer in {PATIENCE:g} s") from None
        if error is None:
            return
        if left == 0:
            raise error


@contextmanager
def _impatient() -> Iterator[None]:
    """Sockets that give up: torchvision opens its own without a time limit."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(PATIENCE)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _reason(error: BaseException) -> str:
    cause = getattr(error, "reason", error)
    text = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
    return " ".join(str(text).split())[:200]
