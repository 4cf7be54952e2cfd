"""One neutral prompt and what it draws. In: what was gathered. Out: shares, answers, divergences of the prompt."""

from collections import Counter
from collections.abc import Mapping

from evenhand.locate.divergence import pooled_divergence, responsibilities, sequence_divergence
from evenhand.locate.gathered import Gathered
from evenhand.locate.likelihood import Conditions
from evenhand.locate.shares import RESAMPLING_SEED, share_estimate
from evenhand.located import LocatedPrompt, Published
from evenhand.probes.occupations import NEUTRAL
from evenhand.records import Estimate, Prompt

__all__ = ["PERMUTATIONS", "locate_prompt"]

PERMUTATIONS = 200
"""Exchanges of pictures behind the null of the published divergence."""


def locate_prompt(found: Gathered, one: Conditions, *, margin: float) -> LocatedPrompt:
    """Everything about one neutral prompt.

    Args:
        found: What was gathered.
        one: The prompt and those that ask for a group in its place.
        margin: Smallest effect that matters, as a share of pictures.
    """
    level = found.level
    neutral = found.sums(one.neutral.id)
    codes: Mapping[str, Estimate] = {}
    if len(neutral):
        codes = responsibilities(neutral[:, 1:], found.groups, seed=RESAMPLING_SEED, level=level)
    divergence, published = {}, {}
    for at, (group, prompt) in enumerate(one.asked.items(), start=1):
        asked = found.sums(prompt.id, asked=True)
        if len(neutral) and len(asked):
            pair = [0, at]
            divergence[group] = sequence_divergence(neutral[:, pair], asked[:, pair], seed=RESAMPLING_SEED, level=level)
        first, second = found.codes(one.neutral.id), found.codes(prompt.id, asked=True)
        n = min(len(first), len(second))
        if n:
            size = 1 + int(max(first.max(), second.max()))  # codes that neither holds change nothing
            seen = pooled_divergence(
                first[:n], second[:n], codebook=size, seed=RESAMPLING_SEED, permutations=PERMUTATIONS
            )
            published[group] = Published(*seen)
    shown = _shown(found, one.neutral)
    answered, rate = _answered(found, one.neutral)
    return LocatedPrompt(
        name=one.name,
        pictures=sum(s.prompt_id == one.neutral.id and s.image_sha256 is not None for s in found.neutral.samples),
        codes=codes,
        shown=shown,
        answered=answered,
        answer_rate=rate,
        partly_aligned=None if rate is None else _partly(rate, shown, found, margin),
        divergence=divergence,
        published=published,
        nearest=min(divergence, key=lambda group: divergence[group].value) if divergence else None,
    )


def _shown(found: Gathered, prompt: Prompt) -> dict[str, Estimate]:
    said = Counter(one.group for one in found.neutral_labels if one.prompt_id == prompt.id and one.group is not None)
    if not said.total():
        return {}
    return {
        group: share_estimate(f"share {group}", said[group], said.total(), level=found.level) for group in found.groups
    }


def _answered(found: Gathered, prompt: Prompt) -> tuple[dict[str, Estimate], Estimate | None]:
    """Shares among answers about the prompt's occupation that name a group, and how many do."""
    answers = found.neutral.answers.get(found.attribute.name)
    if answers is None or prompt.facts.get("asked", NEUTRAL) != NEUTRAL:
        return {}, None
    asked = {one.id for one in answers.prompts if one.facts.get("occupation") == prompt.facts.get("occupation")}
    own = [one for one in answers.labels if one.prompt_id in asked and one.reason != "error"]
    if not own:
        return {}, None
    said = Counter(one.group for one in own if one.group is not None)
    rate = share_estimate("answer_rate", said.total(), len(own), level=found.level, unit="answer")
    shares = {
        group: share_estimate(f"share {group}", said[group], said.total(), level=found.level, unit="answer")
        for group in found.groups
        if said.total()
    }
    return shares, rate


def _partly(rate: Estimate, shown: Mapping[str, Estimate], found: Gathered, margin: float) -> bool:
    """It declines in most answers, and yet one group is drawn more often than wanted, beyond the margin."""
    wanted = dict(zip(found.groups, found.attribute.target, strict=True))
    return rate.high < 0.5 and any(one.low > wanted[group] + margin for group, one in shown.items())
