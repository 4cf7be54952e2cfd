"""Whom a run draws, counted. In: a run of drawn pictures. Out: one row per prompt, and the pattern over all prompts.

Counts are read back from the run's shares (share times pictures), so they are those of the run's own denominator. A
prompt leans to a group where the interval of the group's share excludes its target:

- ``above``: the low end is above the target.
- ``below``: the high end and the share of pictures without a known group together are below it, so that it would be
  below even if every unknown picture showed the group.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite

from evenhand.records import Estimate, Label, Prompt, ScoredAnswers, ScoredPictures

__all__ = [
    "GroupPattern",
    "Pattern",
    "PromptRow",
    "answer_rows",
    "is_above",
    "is_below",
    "prompt_rows",
    "prompt_titles",
    "read_pattern",
    "unknown_by_reason",
]

_SHARE = "share "
_CORRECTED = " corrected"


@dataclass(frozen=True, slots=True)
class PromptRow:
    """One prompt and one attribute.

    Attributes:
        prompt: The prompt.
        title: Its occupation, or what else tells it apart.
        shares: One per group, with its interval; empty where no picture is in the denominator.
        counts: Pictures per group.
        base: Pictures in the denominator.
        unknown: Reason -> pictures without a group, in the denominator or not.
        distances: Name -> ``RD`` and the like.
        corrected: The groups' shares with the classifier's own errors taken off; empty where none were.
    """

    prompt: Prompt
    title: str
    shares: tuple[Estimate, ...]
    counts: tuple[int, ...]
    base: int
    unknown: Mapping[str, int]
    distances: Mapping[str, Estimate]
    corrected: tuple[Estimate, ...]

    @property
    def unknown_share(self) -> float:
        """Of the denominator, in [0, 1]."""
        return max(0.0, 1.0 - sum(self.counts) / self.base) if self.base else 0.0


@dataclass(frozen=True, slots=True)
class GroupPattern:
    """One group over all prompts.

    Attributes:
        group: Its name.
        target: Wanted share.
        count: Pictures that show it.
        above: Prompts whose interval lies above the target.
        below: Prompts whose interval lies below it, whatever unknown pictures show.
    """

    group: str
    target: float
    count: int
    above: int
    below: int


@dataclass(frozen=True, slots=True)
class Pattern:
    """All prompts together.

    Attributes:
        groups: In order.
        base: Pictures in the denominator.
        prompts: Prompts with a picture in the denominator.
        near: Those of them that lean to no group.
        by_chance: How many prompts of an even model would stand above, per group, at the intervals' level.
    """

    groups: tuple[GroupPattern, ...]
    base: int
    prompts: int
    near: int
    by_chance: float


def prompt_titles(prompts: Sequence[Prompt]) -> dict[str, str]:
    """Prompt id -> its occupation where that tells it apart, else its id."""
    times = Counter(prompt.facts.get("occupation", prompt.id) for prompt in prompts)
    named = {prompt.id: prompt.facts.get("occupation", prompt.id) for prompt in prompts}
    return {name: title if times[title] == 1 else name for name, title in named.items()}


def prompt_rows(run: ScoredPictures, attribute: str) -> tuple[PromptRow, ...]:
    """One row per prompt of pictures, in the order they were asked."""
    return _rows(run.prompts, run.groups[attribute], run.labels[attribute], run.per_prompt[attribute])


def answer_rows(answers: ScoredAnswers) -> tuple[PromptRow, ...]:
    """One row per question, in the order they were asked."""
    return _rows(answers.prompts, answers.groups, answers.labels, answers.per_prompt)


def _rows(
    prompts: Sequence[Prompt],
    groups: Sequence[str],
    labels: Sequence[Label],
    per_prompt: Mapping[str, Sequence[Estimate]],
) -> tuple[PromptRow, ...]:
    titles = prompt_titles(prompts)
    by_prompt: dict[str, list[Label]] = {prompt.id: [] for prompt in prompts}
    for label in labels:
        by_prompt.setdefault(label.prompt_id, []).append(label)
    return tuple(
        _row(prompt, titles[prompt.id], groups, per_prompt.get(prompt.id, ()), by_prompt[prompt.id])
        for prompt in prompts
    )


def _row(
    prompt: Prompt, title: str, groups: Sequence[str], found: Sequence[Estimate], labels: Sequence[Label]
) -> PromptRow:
    by_name = {estimate.name: estimate for estimate in found}
    shares = tuple(by_name[_SHARE + group] for group in groups if _SHARE + group in by_name)
    shares = shares if len(shares) == len(groups) else ()
    corrected = tuple(by_name[name] for group in groups if (name := _SHARE + group + _CORRECTED) in by_name)
    counts = tuple(round(one.value * one.n) for one in shares) if shares else (0,) * len(groups)
    unknown = Counter(label.reason or "unknown" for label in labels if label.group is None)
    # A group below the least confidence of the denominator ``confident`` counts as unknown there.
    if (doubtful := sum(label.group is not None for label in labels) - sum(counts)) > 0:
        unknown["low confidence"] += doubtful
    return PromptRow(
        prompt=prompt,
        title=title,
        shares=shares,
        counts=counts,
        base=shares[0].n if shares else 0,
        unknown=dict(sorted(unknown.items())),
        distances={name: one for name, one in by_name.items() if not name.startswith(_SHARE)},
        corrected=corrected if len(corrected) == len(groups) else (),
    )


def unknown_by_reason(rows: Sequence[PromptRow]) -> dict[str, int]:
    """Reason -> pictures without a group, over all prompts, by name."""
    return dict(sorted(sum((Counter(row.unknown) for row in rows), Counter[str]()).items()))


def read_pattern(rows: Sequence[PromptRow], groups: Sequence[str], target: Sequence[float]) -> Pattern:
    """What all prompts show together, and how many lean where."""
    defined = [row for row in rows if row.shares]
    told = [
        GroupPattern(
            group=group,
            target=target[at],
            count=sum(row.counts[at] for row in defined),
            above=sum(is_above(row, at, target[at]) for row in defined),
            below=sum(is_below(row, at, target[at]) for row in defined),
        )
        for at, group in enumerate(groups)
    ]
    near = sum(
        not any(is_above(row, at, one) or is_below(row, at, one) for at, one in enumerate(target)) for row in defined
    )
    level = defined[0].shares[0].level if defined else float("nan")
    return Pattern(
        tuple(told), sum(row.base for row in defined), len(defined), near, len(defined) * (1.0 - level) / 2.0
    )


def is_above(row: PromptRow, at: int, target: float) -> bool:
    """Whether the interval of the group's share lies above its target."""
    return bool(row.shares) and isfinite(row.shares[at].low) and row.shares[at].low > target


def is_below(row: PromptRow, at: int, target: float) -> bool:
    """Whether the group's share would lie below its target even if every unknown picture showed it."""
    return bool(row.shares) and row.shares[at].high + row.unknown_share < target
