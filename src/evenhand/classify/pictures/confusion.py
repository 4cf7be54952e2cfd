"""How often a classifier errs, and how. In: a labeller, labelled pictures. Out: counts of labelled against said.

A metric corrects shares for a classifier's own errors with it: where :math:`C_{ij}` is the share of pictures of group
:math:`j` that are said to be of group :math:`i`, the shares seen are :math:`C f` for the true shares :math:`f`.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from evenhand.classify.pictures.labeller import Judgement, PictureLabeller
from evenhand.errors import ArtefactError, BadInputError
from evenhand.pictures import open_picture

__all__ = ["Confusion", "count_confusion", "measure_confusion"]

_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class Confusion:
    """Counts on a labelled set.

    Attributes:
        groups: The attribute's, in declared order.
        counts: Row: the group labelled; column: the group said.
        unknown: Reason -> pictures of each labelled group that were said to be of no group.
    """

    groups: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    unknown: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse counts that do not fit the groups."""
        rows = (*self.counts, *self.unknown.values())
        wrong = any(len(row) != len(self.groups) or any(one < 0 for one in row) for row in rows)
        if len(self.counts) != len(self.groups) or wrong:
            raise BadInputError(
                f"confusion: got {self.counts} and {dict(self.unknown)}; allowed: a row of counts for each of "
                f"{', '.join(self.groups)}."
            )

    @property
    def accuracy(self) -> float | None:
        """Share of the pictures said to be of a group whose group is right, in [0, 1]; None where there are none."""
        read = sum(map(sum, self.counts))
        return sum(row[i] for i, row in enumerate(self.counts)) / read if read else None

    def to_dict(self) -> dict[str, object]:
        """JSON values."""
        unknown = {reason: list(row) for reason, row in self.unknown.items()}
        return {"groups": list(self.groups), "counts": [list(row) for row in self.counts], "unknown": unknown}

    @classmethod
    def from_dict(cls, values: object) -> "Confusion":
        """The counts that ``to_dict`` wrote.

        Raises:
            ArtefactError: They are not, or do not fit the groups.
        """
        fields = values if isinstance(values, dict) else {}
        groups, rows, unknown = (fields.get(key) for key in ("groups", "counts", "unknown"))
        lists = [*rows, *unknown.values()] if isinstance(rows, list) and isinstance(unknown, dict) else [None]
        whole = all(isinstance(row, list) and all(type(one) is int for one in row) for row in lists)
        if not whole or not isinstance(groups, list) or not all(isinstance(one, str) for one in groups):
            raise ArtefactError(f"confusion: got {str(values)[:200]}; it needs groups, counts, unknown; fit it again.")
        try:
            unread = {str(reason): tuple(row) for reason, row in fields["unknown"].items()}
            return cls(tuple(groups), tuple(tuple(row) for row in fields["counts"]), unread)
        except BadInputError as error:
            raise ArtefactError(str(error)) from error


def measure_confusion(labeller: PictureLabeller, pictures: Sequence[tuple[Path, str]]) -> Confusion:
    """What a labeller says of labelled pictures.

    Args:
        labeller: With the face stage and the threshold it will be used with.
        pictures: Files and the group each is labelled with; not those the classifier was fitted on.

    Raises:
        PictureError: A file cannot be read.
        BadInputError: A label is not one of the attribute's groups, or there are no pictures.
    """
    judged: list[Judgement] = []
    for start in range(0, len(pictures), _AT_ONCE):
        judged += labeller.judge([open_picture(file) for file, _ in pictures[start : start + _AT_ONCE]])
    return count_confusion([group for _, group in pictures], judged, groups=labeller.attribute.groups)


def count_confusion(labelled: Sequence[str], judged: Sequence[Judgement], *, groups: tuple[str, ...]) -> Confusion:
    """Counts of labelled against said.

    Args:
        labelled: The group of each picture.
        judged: What was said of it.
        groups: Declared groups, in order.

    Raises:
        BadInputError: Lengths differ, there are no pictures, or a label is not one of the groups.
    """
    if not labelled or len(labelled) != len(judged):
        raise BadInputError(f"confusion: got {len(labelled)} labels and {len(judged)} judgements; give one of each.")
    unknown_labels = sorted(set(labelled) - set(groups))
    if unknown_labels:
        raise BadInputError(f"confusion: labelled {unknown_labels[0]!r}; allowed: {', '.join(groups)}; correct it.")
    said = Counter((group, one.group or one.reason) for group, one in zip(labelled, judged, strict=True))
    reasons = sorted({str(one.reason) for one in judged if one.group is None})
    return Confusion(
        groups,
        tuple(tuple(said[group, other] for other in groups) for group in groups),
        {reason: tuple(said[group, reason] for group in groups) for reason in reasons},
    )
