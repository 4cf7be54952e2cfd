"""What a model answers beside what it draws. In: a run of pictures and its answers. Out: pairs of shares per prompt.

Both are shares among those that show or name a group, as in the gap; pictures and answers without one stand elsewhere.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from evenhand.records import ScoredPictures
from evenhand.report.leanings import PromptRow, answer_rows, prompt_rows

__all__ = ["Pair", "Share", "pair_answers"]

_NEUTRAL = "neutral"


@dataclass(frozen=True, slots=True)
class Share:
    """A share among those with a known group, with Jeffreys' interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Pair:
    """One prompt of pictures and the question about the same occupation.

    Attributes:
        drawn: Of the pictures.
        asked: Of the answers.
        drawn_shares: Per group; empty where no picture shows one.
        asked_shares: Per group; empty where no answer names one.
    """

    drawn: PromptRow
    asked: PromptRow
    drawn_shares: tuple[Share, ...]
    asked_shares: tuple[Share, ...]

    @property
    def gaps(self) -> tuple[float, ...]:
        """Per group, answers less pictures; empty where either is not known."""
        if not self.drawn_shares or not self.asked_shares:
            return ()
        return tuple(a.value - d.value for a, d in zip(self.asked_shares, self.drawn_shares, strict=True))


def pair_answers(run: ScoredPictures, attribute: str) -> tuple[Pair, ...]:
    """Every prompt that asks for no group and whose occupation was asked about, in the order of the pictures.

    None where the pictures were not scored for the same groups.
    """
    answers = run.answers[attribute]
    if run.groups.get(attribute) != answers.groups:
        return ()
    asked: Mapping[str, PromptRow] = {
        row.prompt.facts.get("occupation", row.prompt.id): row for row in reversed(answer_rows(answers))
    }
    pairs = []
    for row in prompt_rows(run, attribute):
        facts = row.prompt.facts
        other = asked.get(facts.get("occupation", row.prompt.id))
        if other is not None and facts.get("asked", _NEUTRAL) == _NEUTRAL:
            level = answers.estimates[0].level if answers.estimates else 0.95
            pairs.append(Pair(row, other, _known(row, level), _known(other, level)))
    return tuple(pairs)


def _known(row: PromptRow, level: float) -> tuple[Share, ...]:
    from evenhand.metrics.distances import (
        share_interval,
    )  # scipy: half a second that a table in a terminal can do without

    total = sum(row.counts)
    if not total:
        return ()
    ends = [share_interval(count, total, level=level) for count in row.counts]
    return tuple(Share(count / total, one.low, one.high) for count, one in zip(row.counts, ends, strict=True))
