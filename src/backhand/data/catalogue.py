"""What is known about each data set before it is loaded: enough to validate a configuration, with nothing to import."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Facts:
    """A data set's shape.

    Attributes:
        samples: how many there are.
        features: numbers a sample, D.
        classes: how many classes, or None where the target is a number (regression).
        loader: the function in `sklearn.datasets` that returns it.
    """

    samples: int
    features: int
    classes: int | None
    loader: str


CATALOGUE: dict[str, Facts] = {
    "digits": Facts(samples=1797, features=64, classes=10, loader="load_digits"),
    "wine": Facts(samples=178, features=13, classes=3, loader="load_wine"),
    "breast_cancer": Facts(samples=569, features=30, classes=2, loader="load_breast_cancer"),
    "diabetes": Facts(samples=442, features=10, classes=None, loader="load_diabetes"),
}
