"""Image data sets: reading and downloading files, and errors for missing or damaged ones."""

import gzip
import http.server
import os
import pickle
import socket
import struct
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.data.image_files import (
    IDX_FILES,
    idx_labels,
    md5,
    pack_cifar,
    random_images,
    write_cifar,
    write_idx,
)
from torchvision import datasets

from backhand.config.dataset_info import DATASETS
from backhand.config.schema import ImagesConfig
from backhand.data import images
from backhand.data.dataset import SPLITS
from backhand.data.images import SOURCES, load_images
from backhand.errors import UserError

TRAIN, TEST = random_images(60, (28, 28), 0), random_images(20, (28, 28), 1)
COLOUR_TRAIN, COLOUR_TEST = random_images(60, (3, 32, 32), 2), random_images(20, (3, 32, 32), 3)


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """Make every host unknown except this machine."""
    real = socket.getaddrinfo

    def look_up(host, *args, **keys):
        if host != "127.0.0.1":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return real(host, *args, **keys)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def cifar(tmp_path, monkeypatch):
    """Write CIFAR-10 files with random images, and let torchvision take them for the original ones."""

    def written(train=COLOUR_TRAIN, test=COLOUR_TEST):
        sums = write_cifar(tmp_path, train, test)
        monkeypatch.setattr(
            datasets.CIFAR10, "train_list", [[f"data_batch_{i}", sums[f"data_batch_{i}"]] for i in range(1, 6)]
        )
        monkeypatch.setattr(datasets.CIFAR10, "test_list", [["test_batch", sums["test_batch"]]])
        monkeypatch.setattr(datasets.CIFAR10, "meta", datasets.CIFAR10.meta | {"md5": sums["batches.meta"]})
        return tmp_path / "cifar-10-batches-py"

    return written


@pytest.fixture
def original(monkeypatch):
    """Let torchvision take the packed files of a folder for the original ones."""

    def told(folder, name="mnist"):
        resources = [(f"{file}.gz", md5(folder / f"{file}.gz")) for file in IDX_FILES]
        monkeypatch.setattr(SOURCES[name], "resources", resources)
        return folder

    return told


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serve a folder; of the files in `cut` only that many bytes."""

    cut: dict[str, int]

    def log_message(self, *args):
        pass

    def copyfile(self, source, outputfile):
        limit = self.cut.get(Path(self.path).name)
        outputfile.write(source.read() if limit is None else source.read(limit))


@pytest.fixture
def server(tmp_path):
    """A web server: its folder, its address, and `cut` for truncated files."""
    folder, cut = tmp_path / "www", {}
    folder.mkdir()

    class Here(Handler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(folder))

    Here.cut = cut
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Here) as running:
        threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield folder, f"http://127.0.0.1:{running.server_port}/", cut
        running.shutdown()


def settings(root, name="mnist", **keys):
    return ImagesConfig(name=name, dir=str(root), augment="none", **({"val_fraction": 0.25} | keys))


def refusal(root, *words, name="mnist"):
    with pytest.raises(UserError) as caught:
        load_images(settings(root, name))
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message
    return message


def read_with_torchvision(source, channels_first):
    """Read every sample with __getitem__, which returns a PIL image."""
    pixels = [np.asarray(source[i][0]) for i in range(len(source))]
    flat = [(each.transpose(2, 0, 1) if channels_first else each).ravel() for each in pixels]
    return torch.from_numpy(np.stack(flat)), [source[i][1] for i in range(len(source))]


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def everything_below(root):
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


# Reading


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", [name for name in SOURCES if name != "cifar10"])
def test_pixels_and_labels_are_those_of_torchvision(tmp_path, original, name, packed):
    source = SOURCES[name]
    folder = write_idx(tmp_path, TRAIN, TEST, source.__name__, packed)
    if packed:
        original(folder, name)
    data = load_images(settings(tmp_path, name))
    for train, splits in ((True, ("train", "val")), (False, ("test",))):
        x, y = read_with_torchvision(source(tmp_path, train=train), channels_first=False)
        for split in splits:
            rows = data.rows[split]
            assert torch.equal(rows.x, x[rows.ids])
            assert rows.y.tolist() == [y[i] for i in rows.ids]
    assert data.class_names == source.classes


def test_colours_are_those_of_torchvision_with_channels_first(tmp_path, cifar):
    cifar()
    data = load_images(settings(tmp_path, "cifar10"))
    for train, splits in ((True, ("train", "val")), (False, ("test",))):
        x, y = read_with_torchvision(datasets.CIFAR10(tmp_path, train=train), channels_first=True)
        for split in splits:
            rows = data.rows[split]
            assert torch.equal(rows.x, x[rows.ids])
            assert rows.y.tolist() == [y[i] for i in rows.ids]
    assert data.class_names[0] == "airplane"


def test_the_test_split_is_the_test_files_in_order(tmp_path):
    write_idx(tmp_path, TRAIN, TEST)
    rows = load_images(settings(tmp_path)).rows["test"]
    assert rows.ids.tolist() == list(range(20))
    np.testing.assert_array_equal(rows.x.numpy(), TEST[0].reshape(20, -1))
    np.testing.assert_array_equal(rows.y.numpy(), TEST[1])


def test_train_and_val_are_disjoint_complete_and_stratified(tmp_path):
    write_idx(tmp_path, random_images(80, (28, 28)), TEST)
    rows = load_images(settings(tmp_path)).rows
    assert sorted(rows["train"].ids.tolist() + rows["val"].ids.tolist()) == list(range(80))
    assert torch.bincount(rows["train"].y).tolist() == [6] * 10
    assert torch.bincount(rows["val"].y).tolist() == [2] * 10


def test_the_split_depends_on_split_seed(tmp_path):
    write_idx(tmp_path, TRAIN, TEST)
    first, again, other = (load_images(settings(tmp_path, split_seed=seed)).rows["val"].ids for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("name", SOURCES)
def test_shapes_are_those_in_dataset_info(tmp_path, cifar, name):
    cifar()
    write_idx(tmp_path, TRAIN, TEST, SOURCES[name].__name__)
    data = load_images(settings(tmp_path, name))
    assert data.info.samples == 60
    assert (data.info.features, data.info.image_shape) == (DATASETS[name].features, DATASETS[name].image_shape)
    assert len(data.class_names) == data.info.classes
    for split in SPLITS:
        rows = data.rows[split]
        assert rows.x.shape == (len(rows.ids), data.info.features)
        assert rows.x.dtype == torch.uint8
        assert rows.x.is_contiguous()
        assert rows.y.dtype == torch.int64


def test_mean_and_std_are_those_of_numpy_on_the_training_split(tmp_path):
    write_idx(tmp_path, TRAIN, TEST)
    data = load_images(settings(tmp_path))
    pixels = TRAIN[0][data.rows["train"].ids.numpy()].astype(np.float64)
    assert data.mean.dtype == data.std.dtype == torch.float32
    np.testing.assert_allclose(data.mean.numpy(), [pixels.mean()], rtol=1e-6)
    np.testing.assert_allclose(data.std.numpy(), [pixels.std()], rtol=1e-6)


def test_mean_and_std_of_colour_images_are_those_of_numpy_per_channel(tmp_path, cifar):
    tinted = COLOUR_TRAIN[0] // np.array([1, 2, 3], np.uint8).reshape(3, 1, 1)
    cifar(train=(tinted, COLOUR_TRAIN[1]))
    data = load_images(settings(tmp_path, "cifar10"))
    pixels = tinted[data.rows["train"].ids.numpy()].astype(np.float64)
    for found, expected in ((data.mean, pixels.mean((0, 2, 3))), (data.std, pixels.std((0, 2, 3)))):
        np.testing.assert_allclose(found.numpy(), expected.repeat(1024), rtol=1e-6)


def test_constant_images_have_std_1(tmp_path):
    write_idx(tmp_path, (np.full_like(TRAIN[0], 7), TRAIN[1]), TEST)
    data = load_images(settings(tmp_path))
    assert (data.mean.tolist(), data.std.tolist()) == ([7.0], [1.0])


def test_unpacking_leaves_only_the_data_files(tmp_path, original):
    folder = original(write_idx(tmp_path, TRAIN, TEST, packed=True))
    load_images(settings(tmp_path))
    assert names_in(folder) == sorted([*IDX_FILES, *(f"{name}.gz" for name in IDX_FILES)])


# No files and no network


@pytest.mark.parametrize("name", [name for name in SOURCES if name != "cifar10"])
def test_no_network_and_no_files_is_one_line_that_names_them(tmp_path, name):
    raw = f"{SOURCES[name].__name__}/raw"
    message = refusal(tmp_path / "data", "Name or service not known", name=name)
    assert message.startswith(f"data={name}: the files are not in {tmp_path}/data/{raw} and cannot be downloaded (")
    archives = ", ".join(f"{raw}/{file}.gz" for file in IDX_FILES)
    assert message.endswith(f"); put {archives} into {tmp_path}/data, or unpack them there")
    assert everything_below(tmp_path) == ["data"]


def test_no_network_and_no_cifar_is_one_line_that_names_its_archive(tmp_path):
    refusal(
        tmp_path,
        f"not in {tmp_path}/cifar-10-batches-py and cannot be downloaded (",
        "Name or service not known",
        f"put cifar-10-python.tar.gz into {tmp_path}, or unpack them there",
        name="cifar10",
    )


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_a_download_without_an_answer_times_out(tmp_path, monkeypatch, name):
    monkeypatch.setattr(images, "DOWNLOAD_TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        monkeypatch.setattr(datasets.MNIST, "mirrors", [address])
        monkeypatch.setattr(datasets.CIFAR10, "url", address)
        refusal(tmp_path, "cannot be downloaded (", "timed out", name=name)
    assert socket.getdefaulttimeout() is None


# Downloads from a server on this machine


@pytest.fixture
def mnist_server(server, original, monkeypatch):
    """The folder that it serves MNIST from, and its `cut`."""
    folder, address, cut = server
    monkeypatch.setattr(datasets.MNIST, "mirrors", [f"{address}MNIST/raw/"])
    return original(write_idx(folder, TRAIN, TEST, packed=True)), cut


@pytest.mark.usefixtures("mnist_server")
def test_missing_files_are_downloaded(tmp_path, capfd):
    data = load_images(settings(tmp_path / "data"))
    np.testing.assert_array_equal(data.rows["test"].x.numpy(), TEST[0].reshape(20, -1))
    assert everything_below(tmp_path / "data") == [
        "MNIST",
        "MNIST/raw",
        *sorted(f"MNIST/raw/{name}" for name in IDX_FILES),
    ]
    assert capfd.readouterr() == ("", ""), "a progress bar, though nobody is looking"
    assert socket.getdefaulttimeout() is None


@pytest.mark.usefixtures("mnist_server")
def test_existing_files_are_not_downloaded(tmp_path):
    write_idx(tmp_path / "data", random_images(50, (28, 28)), TEST)
    assert load_images(settings(tmp_path / "data")).info.samples == 50


@pytest.mark.parametrize("name", IDX_FILES)
def test_a_truncated_download_leaves_no_file_and_the_next_one_succeeds(tmp_path, mnist_server, name):
    cut = mnist_server[1]
    cut[f"{name}.gz"] = 20
    refusal(tmp_path / "data", "cannot be downloaded", f"MNIST/raw/{name}.gz")
    assert everything_below(tmp_path / "data") == []
    cut.clear()
    assert load_images(settings(tmp_path / "data")).info.samples == 60


def test_a_file_missing_on_the_server_is_one_line(tmp_path, mnist_server):
    (mnist_server[0] / f"{IDX_FILES[0]}.gz").unlink()
    refusal(tmp_path / "data", "cannot be downloaded", "HTTP Error 404")


@pytest.mark.parametrize("cut", [None, 500])
def test_cifar_is_downloaded_completely_or_not_at_all(tmp_path, monkeypatch, server, cifar, cut):
    folder, address, limits = server
    cifar()
    monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", pack_cifar(tmp_path))
    (tmp_path / "cifar-10-python.tar.gz").rename(folder / "cifar-10-python.tar.gz")
    monkeypatch.setattr(datasets.CIFAR10, "url", f"{address}cifar-10-python.tar.gz")
    limits |= {} if cut is None else {"cifar-10-python.tar.gz": cut}
    if cut is None:
        assert load_images(settings(tmp_path / "data", "cifar10")).info.samples == 60
        assert names_in(tmp_path / "data") == ["cifar-10-batches-py"]
    else:
        refusal(tmp_path / "data", "cannot be downloaded", name="cifar10")
        assert names_in(tmp_path / "data") == []


def test_cifars_archive_is_unpacked_without_a_network(tmp_path, monkeypatch, cifar):
    cifar()
    monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", pack_cifar(tmp_path))
    assert load_images(settings(tmp_path, "cifar10")).info.samples == 60


def test_an_archive_that_is_not_cifars_is_neither_opened_nor_overwritten(tmp_path, cifar):
    cifar()
    before = pack_cifar(tmp_path)
    refusal(tmp_path, "cifar-10-python.tar.gz: is damaged or not the original file", name="cifar10")
    assert md5(tmp_path / "cifar-10-python.tar.gz") == before


# Damaged files


def image_file(samples, height=28, width=28, magic=2051, extra=0):
    return struct.pack(">4I", magic, samples, height, width) + bytes(max(0, samples * 784 + extra))


IMAGES_FILE, LABELS_FILE = (
    "is not an IDX file of 28 x 28 images, or is damaged",
    "is not an IDX file of labels, or is damaged",
)
DAMAGE = {
    "empty": (0, b"", IMAGES_FILE),
    "half a header": (0, struct.pack(">2I", 2051, 60), IMAGES_FILE),
    "only a header": (0, struct.pack(">4I", 2051, 60, 28, 28), IMAGES_FILE),
    "wrong magic": (2, image_file(20, magic=2052), IMAGES_FILE),
    "other numbers": (2, image_file(20, magic=0x0903), IMAGES_FILE),
    "too short": (0, image_file(60, extra=-1), IMAGES_FILE),
    "too long": (2, image_file(20, extra=1), IMAGES_FILE),
    "far more than there is": (0, image_file(60)[:4] + b"\xff" * 4 + image_file(60)[8:], IMAGES_FILE),
    "no images": (2, image_file(0), IMAGES_FILE),
    "no labels": (3, struct.pack(">2I", 2049, 0), LABELS_FILE),
    "text": (1, b"<!DOCTYPE html> not found", LABELS_FILE),
    "short labels": (1, idx_labels(TRAIN[1])[:-3], LABELS_FILE),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_one_line_that_names_it(tmp_path, damage):
    folder = write_idx(tmp_path, TRAIN, TEST)
    file, content, said = DAMAGE[damage]
    (folder / IDX_FILES[file]).write_bytes(content)
    refusal(tmp_path, f"data=mnist: {folder / IDX_FILES[file]}: ", said, "replace it")


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        (3, idx_labels(TRAIN[1]), f"has 20 images of 28 x 28 pixels, and {IDX_FILES[3]} 60 labels"),
        (2, image_file(20, 14, 56), f"has 20 images of 14 x 56 pixels, and {IDX_FILES[3]} 20 labels"),
    ],
)
def test_images_and_labels_that_do_not_match_are_one_line(tmp_path, file, content, said):
    folder = write_idx(tmp_path, TRAIN, TEST)
    (folder / IDX_FILES[file]).write_bytes(content)
    refusal(tmp_path, f"data=mnist: {folder / IDX_FILES[2]}: {said}")


def test_a_label_out_of_range_is_one_line(tmp_path):
    labels = TEST[1].copy()
    labels[7] = 10
    write_idx(tmp_path, TRAIN, (TEST[0], labels))
    refusal(tmp_path, f"{IDX_FILES[3]}: label 7 (from 0) is 10; must be 0 to 9")


def test_a_packed_file_that_is_not_the_original_is_neither_opened_nor_overwritten(tmp_path, original):
    folder = original(write_idx(tmp_path, TRAIN, TEST, packed=True))
    packed = folder / f"{IDX_FILES[2]}.gz"
    other = gzip.compress(bytes(64 << 20))  # a thousand times as large, unpacked
    packed.write_bytes(other)
    refusal(tmp_path, f"{packed}: is damaged or not the original file")
    assert names_in(folder) == sorted(f"{file}.gz" for file in IDX_FILES)
    assert packed.read_bytes() == other


def test_a_folder_of_old_torchvision_files_is_not_read(tmp_path):
    write_idx(tmp_path, TRAIN, TEST)
    processed = tmp_path / "MNIST" / "processed"
    processed.mkdir()
    for file in ("training.pt", "test.pt"):
        torch.save((torch.zeros(90, 28, 28, dtype=torch.uint8), torch.arange(90) % 10), processed / file)
    assert load_images(settings(tmp_path)).info.samples == 60


def test_with_write_false_nothing_is_unpacked(tmp_path, original):
    folder = original(write_idx(tmp_path, TRAIN, TEST, packed=True))
    before = names_in(folder)
    with pytest.raises(UserError, match="no such file, and evaluation downloads none"):
        load_images(settings(tmp_path), write=False)
    assert names_in(folder) == before
    load_images(settings(tmp_path))
    assert load_images(settings(tmp_path), write=False).info.samples == 60


@pytest.mark.usefixtures("mnist_server")
def test_the_users_files_are_not_mixed_with_downloaded_ones(tmp_path):
    folder = write_idx(tmp_path / "data", TEST, TRAIN)
    (folder / IDX_FILES[3]).unlink()
    refusal(tmp_path / "data", f"some files are missing in {folder}; add {IDX_FILES[3]}")
    assert names_in(folder) == sorted(IDX_FILES[:3])


@pytest.mark.parametrize("file", ["data_batch_3", "test_batch", "batches.meta"])
def test_a_damaged_or_missing_batch_is_one_line_that_names_it(tmp_path, cifar, file):
    folder = cifar()
    (folder / file).write_bytes((folder / file).read_bytes()[:-10])
    refusal(tmp_path, f"data=cifar10: {folder}: {file} damaged", f"remove {folder}", name="cifar10")
    (folder / file).unlink()
    refusal(tmp_path, f"data=cifar10: some files are missing in {folder}; add {file}", name="cifar10")


@pytest.mark.parametrize("file", ["data_batch_1", "test_batch", "batches.meta"])
def test_a_pickle_that_is_not_the_original_is_never_run(tmp_path, cifar, file):
    folder, trace = cifar(), tmp_path / "was here"

    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(trace),))

    (folder / file).write_bytes(pickle.dumps(Evil()))
    refusal(tmp_path, f"{file} damaged", name="cifar10")
    assert not trace.exists()


# Folders


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
@pytest.mark.parametrize("below", ["", "deeper"])
def test_a_file_in_place_of_the_folder_is_one_line(tmp_path, name, below):
    (tmp_path / "file").write_text("")
    root = tmp_path / "file" / below
    assert refusal(root, name=name) == f"data.dir={root}: {tmp_path / 'file'} is a file; must be a folder"


@pytest.mark.parametrize("locked", ["", "MNIST/raw", f"MNIST/raw/{IDX_FILES[0]}"])
def test_an_unreadable_file_is_one_line_that_names_it(locked):
    with tempfile.TemporaryDirectory() as folder:
        write_idx(Path(folder), TRAIN, TEST)
        Path(folder).chmod(0o755)
        Path(folder, locked).chmod(0)
        user = os.geteuid()
        try:
            if user == 0:  # whom no permission stops
                os.seteuid(65534)
            refusal(folder, str(Path(folder, locked)), "cannot be read or written (Permission denied)")
        finally:
            os.seteuid(user)
            Path(folder, locked).chmod(0o755)


@pytest.mark.usefixtures("mnist_server")
def test_a_folder_that_cannot_be_written_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(images.tempfile, "TemporaryDirectory", _no_space)
    refusal(tmp_path / "data", "cannot be downloaded (No space left on device)")


def _no_space(**_):
    raise OSError(28, "No space left on device")
