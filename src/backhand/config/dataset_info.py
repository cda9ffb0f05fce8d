"""The shape of each data set, known before it is loaded, so that a configuration can be checked without torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DatasetInfo:
    """The shape of a data set.

    Attributes:
        features: the number of features, D.
        classes: the number of classes; None for a regression.
        samples: the number of samples to split into training, validation and, unless `has_test_split`, test; None if
            it is known only after the files are read.
        outputs: the number of targets per sample of a regression.
        image_shape: (C, H, W) if the samples are images.
        has_test_split: whether the data set comes with its own test split, which `samples` does not count.
    """

    features: int
    classes: int | None
    samples: int | None = None
    outputs: int = 1
    image_shape: tuple[int, int, int] | None = None
    has_test_split: bool = False


MNIST = DatasetInfo(features=784, classes=10, image_shape=(1, 28, 28), has_test_split=True)
DATASETS: dict[str, DatasetInfo] = {
    # part of scikit-learn
    "digits": DatasetInfo(samples=1797, features=64, classes=10, image_shape=(1, 8, 8)),
    "wine": DatasetInfo(samples=178, features=13, classes=3),
    "breast_cancer": DatasetInfo(samples=569, features=30, classes=2),
    "diabetes": DatasetInfo(samples=442, features=10, classes=None),
    # downloaded by torchvision
    "mnist": MNIST,
    "fashion_mnist": MNIST,
    "kmnist": MNIST,
    "cifar10": DatasetInfo(features=3072, classes=10, image_shape=(3, 32, 32), has_test_split=True),
}
