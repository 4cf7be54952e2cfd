"""Which drawn pictures are trained on. In: labels of pictures that were asked for a group. Out: who is kept, counts.

A picture is kept where it shows the group it was asked for, and the labeller is sure enough. The rest is counted by
what it shows instead: a prompt whose group is never drawn is told, not hidden.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from evenhand.errors import BadInputError
from evenhand.records import Label

__all__ = ["Accepted", "Selection", "select"]


@dataclass(frozen=True, slots=True)
class Accepted:
    """One group's pictures.

    Attributes:
        group: What was asked for.
        asked: Pictures, those that failed left out.
        kept: Of these, confirmed.
        instead: What the others show, or why nothing is known -> pictures.
    """

    group: str
    asked: int
    kept: int
    instead: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Selection:
    """What is kept.

    Attributes:
        pictures: Neutral prompt -> for each group the samples (prompt, number) and confidences that are kept.
        groups: Counts of each group.
        lacking: Neutral prompts without a tuple -> the groups that none of their pictures shows.
    """

    pictures: Mapping[str, tuple[tuple[tuple[str, int, float], ...], ...]]
    groups: tuple[Accepted, ...]
    lacking: Mapping[str, tuple[str, ...]]

    @property
    def tuples(self) -> int:
        """How many tuples the kept pictures make."""
        return sum(min(map(len, one)) for one in self.pictures.values())


def select(
    labels: Sequence[Label],
    asked: Mapping[str, tuple[str, str]],
    *,
    groups: Sequence[str],
    min_confidence: float = 0.8,
) -> Selection:
    """Keep the pictures that show what was asked for.

    Args:
        labels: One a picture, of the product where several attributes are asked for; ``error`` is no picture.
        asked: Prompt -> its neutral prompt and the group it asks for.
        groups: In order.
        min_confidence: Smallest confidence of a label that is believed, in [0, 1].

    Raises:
        BadInputError: A label of a prompt that asks for nobody, or a confidence out of range.
    """
    if not 0 <= min_confidence <= 1:
        raise BadInputError(f"min_confidence: got {min_confidence}; allowed: 0 to 1, for example 0.8.")
    place = {group: at for at, group in enumerate(groups)}
    found: dict[str, list[list[tuple[str, int, float]]]] = {
        neutral: [[] for _ in groups] for neutral, _ in asked.values()
    }
    number: Counter[str] = Counter()
    instead: dict[str, Counter[str]] = {group: Counter() for group in groups}
    for label in labels:
        if label.prompt_id not in asked:
            raise BadInputError(f"label of {label.prompt_id[:80]!r}: its prompt asks for nobody; label those that do.")
        if label.reason == "error":
            continue
        neutral, group = asked[label.prompt_id]
        number[group] += 1
        if label.group == group and label.confidence >= min_confidence:
            found[neutral][place[group]].append((label.prompt_id, label.k, label.confidence))
        else:
            unsure = "low confidence" if label.group == group else None
            instead[group][unsure or label.group or str(label.reason)] += 1
    counted = tuple(
        Accepted(group, number[group], sum(len(one[at]) for one in found.values()), dict(instead[group].most_common()))
        for group, at in place.items()
    )
    lacking = {
        neutral: tuple(group for group, kept in zip(groups, one, strict=True) if not kept)
        for neutral, one in found.items()
        if not all(one)
    }
    return Selection({name: tuple(map(tuple, one)) for name, one in found.items()}, counted, lacking)
