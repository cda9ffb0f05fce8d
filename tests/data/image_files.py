"""Small files in the formats of MNIST and CIFAR-10."""

import gzip
import hashlib
import pickle
import struct
import tarfile
from pathlib import Path

import numpy as np

IDX_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
Images = tuple[np.ndarray, np.ndarray]  # uint8 (N, H, W) or (N, 3, 32, 32), and class numbers (N,)


def random_images(samples: int, shape: tuple[int, ...], seed: int = 0) -> Images:
    """Random pixels, with the ten classes in turn."""
    pixels = np.random.default_rng(seed).integers(0, 256, (samples, *shape)).astype(np.uint8)
    return pixels, np.resize(np.arange(10, dtype=np.uint8), samples)


def idx_images(pixels: np.ndarray) -> bytes:
    return struct.pack(">4I", 2051, *pixels.shape) + pixels.tobytes()


def idx_labels(labels: np.ndarray) -> bytes:
    return struct.pack(">2I", 2049, len(labels)) + labels.tobytes()


def write_idx(root: Path, train: Images, test: Images, name: str = "MNIST", packed: bool = False) -> Path:
    """Write the four files of MNIST, or their .gz archives; returns their folder."""
    folder = root / name / "raw"
    folder.mkdir(parents=True, exist_ok=True)
    contents = [idx_images(train[0]), idx_labels(train[1]), idx_images(test[0]), idx_labels(test[1])]
    for file, content in zip(IDX_FILES, contents, strict=True):
        (folder / (f"{file}.gz" if packed else file)).write_bytes(gzip.compress(content) if packed else content)
    return folder


def write_cifar(root: Path, train: Images, test: Images) -> dict[str, str]:
    """Write the files of CIFAR-10: training batches, test batch, class names; returns the MD5 sum of each."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True, exist_ok=True)
    parts = zip(np.array_split(train[0], 5), np.array_split(train[1], 5), strict=True)
    batches = {f"data_batch_{i}": part for i, part in enumerate(parts, 1)} | {"test_batch": test}
    contents = {
        file: {"batch_label": file, "labels": labels.tolist(), "data": pixels.reshape(-1, 3072)}
        for file, (pixels, labels) in batches.items()
    }
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    contents["batches.meta"] = {"num_cases_per_batch": len(test[0]), "label_names": names, "num_vis": 3072}
    for file, content in contents.items():
        (folder / file).write_bytes(pickle.dumps(content, protocol=2))
    return {file: md5(folder / file) for file in contents}


def pack_cifar(root: Path) -> str:
    """Pack the batches into the archive of CIFAR-10; returns its MD5 sum."""
    folder, archive = root / "cifar-10-batches-py", root / "cifar-10-python.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, folder.name)
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    return md5(archive)


def md5(file: Path) -> str:
    return hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest()
