"""What is told of a derivation, in a form that one process can hand to another."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Status = Literal["right", "wrong", "unjudged"]


@dataclass
class Answer:
    """What is told.

    Attributes:
        status: `right`, `wrong` or `unjudged`.
        headline: the verdict in one line.
        context: what was compared: the network, the sizes, the reading.
        rows: of the table: name, shape, error, cosine, verdict.
        sentences: the explanation.
        remarks: what else is to be said.
    """

    status: Status
    headline: str
    context: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    sentences: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def plain(self) -> dict[str, Any]:
        """As JSON takes it."""
        return asdict(self)
