"""What is known about each data set before it is loaded: enough to validate a configuration, with nothing to import."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DatasetInfo:
    """A data set's shape.

    Attributes:
        features: numbers a sample, D.
        classes: how many classes, or None where the target is a number (regression).
        samples: how many are split into training, validation and, unless `own_test`, test; None where only the files
            can tell.
        outputs: of a regression, how many numbers there are to predict.
        picture: channels, height and width where a sample is one.
        own_test: whether a test split is shipped apart from these samples.
    """

    features: int
    classes: int | None
    samples: int | None = None
    outputs: int = 1
    picture: tuple[int, int, int] | None = None
    own_test: bool = False


GREY = DatasetInfo(features=784, classes=10, picture=(1, 28, 28), own_test=True)
DATASETS: dict[str, DatasetInfo] = {
    # shipped inside scikit-learn
    "digits": DatasetInfo(samples=1797, features=64, classes=10, picture=(1, 8, 8)),
    "wine": DatasetInfo(samples=178, features=13, classes=3),
    "breast_cancer": DatasetInfo(samples=569, features=30, classes=2),
    "diabetes": DatasetInfo(samples=442, features=10, classes=None),
    # files that torchvision knows
    "mnist": GREY,
    "fashion_mnist": GREY,
    "kmnist": GREY,
    "cifar10": DatasetInfo(features=3072, classes=10, picture=(3, 32, 32), own_test=True),
}
PICTURES = tuple(name for name, info in DATASETS.items() if info.own_test)
