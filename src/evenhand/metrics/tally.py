"""Which groups a prompt's pictures show. In: labels. Out: counts per prompt and group, unknown ones by reason.

Three denominators, named in everything made from a tally:

- ``all``: every picture. A picture without a group stays in, so shares sum to less than 1.
- ``face``: every picture but those whose reason is ``no face``. Several faces and uncertain ones stay in.
- ``confident``: only pictures that show a group with at least ``min_confidence``. Shares sum to 1.

A sample that failed (reason ``error``) is no picture: it is counted, and in no denominator.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int64

from evenhand.errors import BadInputError, TooFewSamplesError
from evenhand.records import Label

__all__ = [
    "DENOMINATORS",
    "Tally",
    "check_groups",
    "pool_prompts",
    "product_groups",
    "product_labels",
    "select_prompts",
    "tally",
    "tally_counts",
]

DENOMINATORS = ("all", "face", "confident")
"""What shares are shares of; see the module."""

_BETWEEN = " x "


@dataclass(frozen=True, slots=True, eq=False)
class Tally:
    """Counts per prompt.

    Attributes:
        attribute: Attribute name.
        groups: Declared groups, in order, at least two.
        denominator: ``all``, ``face`` or ``confident``.
        prompts: Prompt ids, in order.
        counts: Pictures per group.
        base: Pictures in the denominator; what exceeds a row of ``counts`` shows no known group.
        unknown: Per prompt, reason -> pictures without a group, in the denominator or not.
    """

    attribute: str
    groups: tuple[str, ...]
    denominator: str
    prompts: tuple[str, ...]
    counts: Int64[np.ndarray, "prompts groups"]
    base: Int64[np.ndarray, " prompts"]
    unknown: tuple[Mapping[str, int], ...]

    def __post_init__(self) -> None:
        check_groups(self.groups)
        if self.denominator not in DENOMINATORS:
            raise BadInputError(
                f"unknown denominator: got {self.denominator!r}, allowed: {', '.join(DENOMINATORS)}; choose one"
            )
        rows = len(self.prompts)
        fits = (
            self.counts.shape == (rows, len(self.groups)) and self.base.shape == (rows,) and len(self.unknown) == rows
        )
        if not fits or (self.counts < 0).any() or (self.counts.sum(axis=1) > self.base).any():
            raise BadInputError(
                f"tally of {rows} prompts and {len(self.groups)} groups: got counts of shape {self.counts.shape} and "
                f"bases of shape {self.base.shape}; allowed: one row per prompt, counts of 0 or more that add up to no "
                "more than the base; count again"
            )
        if not rows:
            raise TooFewSamplesError("a tally needs prompts: got 0, at least 1 is needed; add prompts")
        if len(set(self.prompts)) < rows:
            raise BadInputError(
                f"tally: got {rows} prompts, {rows - len(set(self.prompts))} of them twice; count again"
            )


def check_groups(groups: tuple[str, ...]) -> None:
    """Refuse fewer than two groups, and groups of the same name.

    Raises:
        BadInputError: As said.
    """
    if len(groups) < 2 or len(set(groups)) < len(groups):
        raise BadInputError(
            f"groups cannot be compared: got {groups}, allowed: two or more different names; declare them"
        )


def tally_counts(
    counts: Mapping[str, Sequence[int]], *, groups: tuple[str, ...], attribute: str = "", denominator: str = "confident"
) -> Tally:
    """A tally of counts that are known already; every picture shows a group.

    Args:
        counts: Prompt -> pictures per group.
        groups: Declared groups, in order.
        attribute: Attribute name.
        denominator: What the counts were counted of.

    Raises:
        BadInputError: A prompt has not one count of 0 or more per group.
        TooFewSamplesError: No prompts.
    """
    uneven = [prompt for prompt, row in counts.items() if len(row) != len(groups)]
    if uneven:
        raise BadInputError(
            f"counts of {uneven[0]!r}: got {len(counts[uneven[0]])}, allowed: one per group of {', '.join(groups)}"
        )
    table = np.array([list(row) for row in counts.values()], dtype=np.int64).reshape(len(counts), len(groups))
    return Tally(attribute, groups, denominator, tuple(counts), table, table.sum(axis=1), ({},) * len(counts))


def tally(
    labels: Sequence[Label],
    *,
    groups: tuple[str, ...],
    denominator: str = "face",
    min_confidence: float = 0.8,
    prompts: Sequence[str] | None = None,
) -> Tally:
    """Counts per prompt and group under a denominator.

    Args:
        labels: Of one attribute, one per sample.
        groups: Declared groups, in order.
        denominator: ``all``, ``face`` or ``confident``; see the module.
        min_confidence: In [0, 1]. With ``confident``, a label below it counts as ``low confidence``; unused otherwise.
        prompts: Prompts in their order, also those without labels; by default the order of the labels.

    Raises:
        BadInputError: Labels of several attributes, a group that is not declared, a label without group and reason,
            two labels of one sample, a prompt that is not listed, or an option that is not allowed.
        TooFewSamplesError: No prompts.
    """
    if not 0.0 <= min_confidence <= 1.0:
        raise BadInputError(f"min_confidence: got {min_confidence}, allowed: 0 to 1; try 0.8")
    order = tuple(dict.fromkeys(label.prompt_id for label in labels) if prompts is None else prompts)
    attribute = _check_labels(labels, groups, order)
    row, column = ({name: index for index, name in enumerate(names)} for names in (order, groups))
    counts, base = np.zeros((len(order), len(groups)), dtype=np.int64), np.zeros(len(order), dtype=np.int64)
    unknown: list[Counter[str]] = [Counter() for _ in order]
    for label in labels:
        at, group, reason = row[label.prompt_id], label.group, label.reason
        if denominator == "confident" and group is not None and not label.confidence >= min_confidence:
            group, reason = None, "low confidence"
        if group is not None:
            counts[at, column[group]] += 1
        elif reason is not None:
            unknown[at][reason] += 1
        base[at] += group is not None or _is_in(denominator, reason)
    return Tally(attribute, groups, denominator, order, counts, base, tuple(dict(one) for one in unknown))


def select_prompts(counted: Tally, prompts: Sequence[str]) -> Tally:
    """The tally of some of its prompts, in the order given.

    Raises:
        BadInputError: A prompt is not in the tally.
    """
    place = {prompt: row for row, prompt in enumerate(counted.prompts)}
    absent = [prompt for prompt in prompts if prompt not in place]
    if absent:
        raise BadInputError(f"prompt {absent[0]!r} is not in the tally; allowed: one of its {len(place)} prompts")
    rows = [place[prompt] for prompt in prompts]
    return replace(
        counted,
        prompts=tuple(prompts),
        counts=counted.counts[rows],
        base=counted.base[rows],
        unknown=tuple(counted.unknown[row] for row in rows),
    )


def pool_prompts(counted: Tally, names: Mapping[str, str]) -> Tally:
    """The tally with several prompts counted as one, such as all templates of an occupation.

    Args:
        counted: Its prompts that have no name are left out.
        names: Prompt -> what it is counted as; the order is that of the first prompt of each name.

    Raises:
        TooFewSamplesError: No prompt has a name.
    """
    rows: dict[str, list[int]] = {}
    for at, prompt in enumerate(counted.prompts):
        if prompt in names:
            rows.setdefault(names[prompt], []).append(at)
    if not rows:
        raise TooFewSamplesError("a tally needs prompts: got none of those that are to be counted together; name them")
    unknown = [sum((Counter(counted.unknown[at]) for at in places), Counter[str]()) for places in rows.values()]
    return replace(
        counted,
        prompts=tuple(rows),
        counts=np.stack([counted.counts[places].sum(axis=0) for places in rows.values()]),
        base=np.array([int(counted.base[places].sum()) for places in rows.values()], dtype=np.int64),
        unknown=tuple(dict(one) for one in unknown),
    )


def product_groups(first: tuple[str, ...], second: tuple[str, ...]) -> tuple[str, ...]:
    """Names of the groups of a product of two attributes, the second running fastest: ``male x Black``."""
    return tuple(f"{one}{_BETWEEN}{other}" for one in first for other in second)


def product_labels(first: Sequence[Label], second: Sequence[Label]) -> tuple[Label, ...]:
    """Labels of the product of two attributes, such as gender and race, sample by sample.

    Where either has no group the product has none; its reason is the first's, else the second's. The confidence is
    the smaller one.

    Args:
        first: One label per sample.
        second: The same samples, in any order.

    Raises:
        BadInputError: The samples are not the same.
    """
    others = {(label.prompt_id, label.k): label for label in second}
    keys = [(label.prompt_id, label.k) for label in first]
    if len(others) < len(second) or len(set(keys)) < len(keys) or set(others) != set(keys):
        raise BadInputError(
            f"labels of two attributes: got {len(first)} and {len(second)}, not of the same samples; allowed: one of "
            "each per sample; classify the same run twice"
        )
    joined = []
    for one, other in zip(first, (others[key] for key in keys), strict=True):
        known = one.group is not None and other.group is not None
        group = f"{one.group}{_BETWEEN}{other.group}" if known else None
        reason = None if known else (one.reason if one.group is None else other.reason)
        name, confidence = f"{one.attribute}{_BETWEEN}{other.attribute}", min(one.confidence, other.confidence)
        joined.append(Label(one.prompt_id, one.k, name, group, reason, confidence))
    return tuple(joined)


def _is_in(denominator: str, reason: str | None) -> bool:
    """Whether a picture without a group counts in the denominator."""
    return denominator != "confident" and reason != "error" and not (denominator == "face" and reason == "no face")


def _check_labels(labels: Sequence[Label], groups: tuple[str, ...], prompts: tuple[str, ...]) -> str:
    check_groups(groups)
    attributes = sorted({label.attribute for label in labels})
    if len(attributes) > 1:
        raise BadInputError(f"labels of several attributes: got {', '.join(attributes)}, allowed: one; tally each")
    keys = Counter((label.prompt_id, label.k) for label in labels)
    listed, declared = set(prompts), set(groups)
    for label in labels:
        if label.prompt_id not in listed:
            raise BadInputError(f"label of prompt {label.prompt_id!r}, which is not listed; allowed: the run's prompts")
        if label.group is None and not label.reason:
            raise BadInputError(f"label of {label.prompt_id!r}, {label.k}: no group and no reason; give one of them")
        if label.group is not None and label.group not in declared:
            raise BadInputError(
                f"label of {label.prompt_id!r}, {label.k}: got group {label.group!r}, allowed: {', '.join(groups)}; "
                "use a classifier of these groups"
            )
        if keys[label.prompt_id, label.k] > 1:
            raise BadInputError(f"two labels of sample {label.k} of {label.prompt_id!r}; allowed: one; leave one out")
    return attributes[0] if attributes else ""
