"""Unsuitable files: each function makes one kind of them in a folder."""

import gzip
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import torch
from tests.data.image_files import IDX_FILES, random_images, write_idx

Make = Callable[[Path], object]
N = 40


def table() -> pd.DataFrame:
    """A correct table, which the others change."""
    draw = np.random.default_rng(0)
    return pd.DataFrame({"a": draw.normal(size=N), "b": draw.integers(0, 9, N), "y": draw.normal(size=N)})


def text(content: str | bytes, name: str = "t.csv") -> Make:
    content = content.encode() if isinstance(content, str) else content

    def make(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)

    return make


def csv(change: Callable[[pd.DataFrame], pd.DataFrame] = lambda frame: frame, name: str = "t.csv") -> Make:
    return lambda folder: change(table()).to_csv(folder / name, index=False)


def with_column(name: str, values: object) -> Make:
    return csv(lambda frame: frame.assign(**{name: values}))


def parquet(change: Callable[[pd.DataFrame], pd.DataFrame] = lambda frame: frame, name: str = "t.parquet") -> Make:
    return lambda folder: change(table()).to_parquet(folder / name, index=False)


def nested(kind: str) -> Make:
    """A Parquet column of lists, structures or maps."""
    values, type_ = {
        "list": ([[1.0, 2.0]] * N, pa.list_(pa.float64())),
        "struct": ([{"u": 1, "v": 2}] * N, pa.struct([("u", pa.int64()), ("v", pa.int64())])),
        "map": ([[("u", 1)]] * N, pa.map_(pa.string(), pa.int64())),
        "binary": ([b"\xff"] * N, pa.binary()),
    }[kind]
    column = pa.array(values, type_)

    def make(folder: Path) -> None:
        whole = pa.Table.from_pandas(table(), preserve_index=False).append_column("c", column)
        pyarrow.parquet.write_table(whole, folder / "t.parquet")

    return make


def cut(make: Make, name: str, share: float) -> Make:
    """The first part of a file."""

    def make_cut(folder: Path) -> None:
        make(folder)
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: int(share * len(content))])

    return make_cut


def renamed(make: Make, old: str, new: str) -> Make:
    def make_renamed(folder: Path) -> None:
        make(folder)
        (folder / old).rename(folder / new)

    return make_renamed


def gigabyte(begin: str, name: str = "t.csv") -> Make:
    """A line of a gigabyte, NUL bytes that take no space on the disk."""

    def make(folder: Path) -> None:
        with (folder / name).open("wb") as file:
            file.write(begin.encode())
            file.truncate(1 << 30)

    return make


def long_line(folder: Path) -> None:
    """50 MB in one line without a NUL byte: more than a block of the reader."""
    (folder / "t.csv").write_bytes(b"a,b,y\n" + b"1" * 50_000_000 + b",2,3\n")


def packed_line(folder: Path) -> None:
    """128 MB in one line, in a file of half a megabyte."""
    with gzip.open(folder / "t.csv.gz", "wb", compresslevel=1) as file:
        file.write(b"a,b,y\n")
        for _ in range(1 << 7):
            file.write(b"1" * (1 << 20))


def symlink_loop(folder: Path) -> None:
    (folder / "t.csv").symlink_to("u.csv")
    (folder / "u.csv").symlink_to("t.csv")


def pipe(name: str) -> Make:
    return lambda folder: os.mkfifo(folder / name)


def directory(name: str) -> Make:
    return lambda folder: (folder / name).mkdir()


def both(first: Make, second: Make) -> Make:
    def make_both(folder: Path) -> None:
        first(folder)
        second(folder)

    return make_both


def mnist(file: int | None = None, change: Callable[[bytes], bytes] = bytes, packed: bool = False) -> Make:
    """MNIST's four files, one of which is changed."""

    def make(folder: Path) -> None:
        raw = write_idx(folder / "data", random_images(200, (28, 28)), random_images(40, (28, 28)), packed=packed)
        if file is not None:
            path = raw / (IDX_FILES[file] + (".gz" if packed else ""))
            path.write_bytes(change(path.read_bytes()))

    return make


def lacking(*files: int) -> Make:
    def make(folder: Path) -> None:
        mnist()(folder)
        for file in files:
            (folder / "data" / "MNIST" / "raw" / IDX_FILES[file]).unlink()

    return make


def header(at: int, number: int) -> Callable[[bytes], bytes]:
    """Another number in the header of an IDX file."""
    return lambda content: content[: 4 * at] + struct.pack(">I", number) + content[4 * at + 4 :]


def checkpoint(**changes: object) -> Make:
    """A checkpoint of the default configuration, as far as it is checked before training, with changes."""
    parts = {
        "sizes": [64, 64, 10],
        "hidden_activation": "tanh",
        "output_activation": "softmax",
        "loss": "cross_entropy",
        "preprocessing": None,
        "optimizer": {"name": "sgd"},
        "scheduler": {"name": "none"},
    }
    whole = {"state_dict": {}, "epoch": changes.pop("epoch", 4), "hyper_parameters": parts | changes}
    return lambda folder: torch.save(whole, folder / "c.ckpt")


def saved(content: object) -> Make:
    return lambda folder: torch.save(content, folder / "c.ckpt")


def zipped(**files: str) -> Make:
    def make(folder: Path) -> None:
        with zipfile.ZipFile(folder / "c.ckpt", "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)

    return make


class Trap:
    """An object that prints when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("the trap was sprung",)


def run_folder(config: str) -> Make:
    """A run's folder with this configuration, and no checkpoint."""
    return text(config, "run/.hydra/config.yaml")
