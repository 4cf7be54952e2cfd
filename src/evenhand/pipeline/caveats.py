"""What a reader must know before the numbers of a run of pictures are used. In: what was found. Out: sentences.

A run without a caveat says nothing against its numbers; ``evenhand gate`` does not pass a run that has one.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

from evenhand.metrics.tally import Tally
from evenhand.probes.occupations import NEUTRAL
from evenhand.records import Estimate, Label, Prompt, Sample, ScoredAnswers

__all__ = ["UNKNOWN_SHARE", "picture_caveats"]

UNKNOWN_SHARE = 0.2
"""From this share of pictures without a group on, who is shown may be decided by who is read."""

_FAILED_SHARE = 0.01
_FEW = 30


def picture_caveats(
    settings: Mapping[str, object],
    prompts: Sequence[Prompt],
    samples: Sequence[Sample],
    *,
    labels: Mapping[str, Sequence[Label]],
    tallies: Mapping[str, Tally],
    estimates: Mapping[str, Sequence[Estimate]],
    answers: Mapping[str, ScoredAnswers],
) -> tuple[str, ...]:
    """One sentence for each thing that limits what the numbers say.

    Args:
        settings: The manifest's.
        prompts: Of the run.
        samples: Of the run.
        labels: Attribute, products included -> one per sample.
        tallies: Attribute -> what was counted.
        estimates: Attribute -> means over prompts.
        answers: Attribute -> what was answered about nobody, with the gap where it is defined.
    """
    found = [*_of_drawing(settings, prompts, samples)]
    neutral = any(prompt.facts.get("asked", NEUTRAL) == NEUTRAL for prompt in prompts)
    for name, told in labels.items():
        if name in tallies:
            found += _of_attribute(name, told, tallies[name], estimates.get(name, ()))
    for name, one in answers.items():
        named = sum(label.group is not None for label in one.labels)
        if not named:
            found.append(f"{name}: none of {len(one.labels)} answers about an empty picture names a group.")
        elif neutral and not any(estimate.name == "gap" for estimate in one.estimates):
            found.append(
                f"{name}: no occupation has both pictures and answers that name a group; the gap between understanding "
                "and generation is not known."
            )
    return tuple(found)


def _of_drawing(settings: Mapping[str, object], prompts: Sequence[Prompt], samples: Sequence[Sample]) -> list[str]:
    found = []
    balance = _balance(settings)
    if balance:
        found.append(
            "The model was balanced while it drew (settings: balance): these are not the shares of the model itself."
        )
    if balance.get("quota") or balance.get("planned for"):
        found.append(
            "Groups were asked for in turn and not by independent draws: intervals and floors, which are for "
            "independent pictures, are wider than need be."
        )
    if balance.get("quota"):
        found.append(
            "What was read in the pictures so far decided what was asked for next: another batch size gives other "
            "pictures, and a classifier that errs brings its readings to the target, not who is shown. Score the run "
            "with another one too."
        )
    elif settings.get("replayable") is False:
        found.append("The model does not honour seeds: the same command would draw other pictures.")
    failed = sum(sample.error is not None for sample in samples)
    if failed > _FAILED_SHARE * len(samples):
        found.append(
            f"{failed} of {len(samples)} samples failed and are in no denominator; who is drawn where it failed is "
            "not known."
        )
    drawn = Counter(sample.prompt_id for sample in samples)
    numbers = sorted({drawn[prompt.id] for prompt in prompts})
    if len(numbers) > 1:
        found.append(f"The run is not complete: prompts have between {numbers[0]} and {numbers[-1]} samples.")
    if numbers and numbers[-1] < _FEW:
        found.append(
            f"{numbers[-1]} pictures of each prompt are few: intervals are wide (evenhand plan says how many)."
        )
    asked = sum(prompt.facts.get("asked", NEUTRAL) != NEUTRAL for prompt in prompts)
    if asked:
        found.append(f"{asked} of {len(prompts)} prompts name a group: their shares say whether that was followed.")
    return found


def _balance(settings: Mapping[str, object]) -> Mapping[str, object]:
    """What the manifest says of a model that was balanced while it drew; nothing of any other."""
    model = settings.get("model")
    told = model.get("balance") if isinstance(model, Mapping) else None
    return told if isinstance(told, Mapping) else {}


def _of_attribute(name: str, labels: Sequence[Label], counted: Tally, estimates: Sequence[Estimate]) -> list[str]:
    found = []
    seen = [label for label in labels if label.reason != "error"]
    # Under "confident" a label of low confidence shows no group, so the tally is asked, not the labels.
    unknown = len(seen) - int(counted.counts.sum())
    if seen and unknown > UNKNOWN_SHARE * len(seen):
        reasons = sum((Counter(row) for row in counted.unknown), Counter[str]())
        listed = ", ".join(f"{reason} {number}" for reason, number in reasons.most_common() if reason != "error")
        found.append(
            f"{name}: {unknown} of {len(seen)} pictures show no known group ({listed}); who they show is not known."
        )
    empty = [prompt for prompt, row in zip(counted.prompts, counted.counts, strict=True) if not row.any()]
    if empty:
        found.append(f"{name}: {len(empty)} of {len(counted.prompts)} prompts have no RD, such as {empty[0]!r}.")
    for one in estimates:
        if one.name == "RD" and one.low <= 0:
            found.append(f"{name}: RD cannot be told from that of an even model at this number of pictures.")
    return found
