"""What a run of drawn pictures shows. In: a run folder, labellers. Out: labels, disparities, gaps, caveats.

Scoring only reads the ledger, so that every number can be made again from the run folder and the classifiers alone.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from evenhand.classify.pictures.protocol import Labeller
from evenhand.errors import BadInputError, TooFewSamplesError
from evenhand.ledger import Ledger
from evenhand.metrics.correction import ConfusionMatrix, correct_disparity
from evenhand.metrics.disparity import disparity
from evenhand.metrics.tally import Tally, pool_prompts, product_groups, product_labels, tally
from evenhand.metrics.understanding import understanding_gap
from evenhand.pipeline.answers import answers_tally
from evenhand.pipeline.caveats import picture_caveats
from evenhand.pipeline.labels import Reading, label_pictures
from evenhand.probes.occupations import NEUTRAL
from evenhand.records import Estimate, Label, Prompt, Sample, ScoredAnswers, ScoredPictures

__all__ = ["RESAMPLING_SEED", "score_pictures", "tally_run"]

RESAMPLING_SEED = 0
"""Of the intervals; fixed, so that a run scored twice gives the same numbers."""


def score_pictures(
    run: str | Path,
    labellers: Sequence[Labeller],
    *,
    denominator: str = "face",
    min_confidence: float = 0.8,
    level: float = 0.95,
    asked: str = "fixed",
    confusions: Mapping[str, ConfusionMatrix] | None = None,
    answers: Mapping[str, ScoredAnswers] | None = None,
    quality: Sequence[Estimate] = (),
    previews: int = 0,
    reading: Reading = "kept",
    more_caveats: Sequence[str] = (),
) -> ScoredPictures:
    """Labels and disparities of a run folder, from the ledger and the classifiers alone.

    Several labellers are scored each and, two by two, as products (``gender x race``).

    Args:
        run: A folder that ``draw`` made.
        labellers: One per attribute.
        denominator: What shares are shares of: ``all``, ``face`` or ``confident`` (``metrics.tally``).
        min_confidence: Below it a label is unknown under ``confident``.
        level: Coverage the intervals aim at.
        asked: ``fixed``: intervals are for these very prompts. ``sampled``: for the prompts these were drawn from.
        confusions: Attribute -> how its labeller errs; adds ``RD_corrected`` and corrected shares.
        answers: Attribute -> what the same model answers about the same occupations; adds the gap to it.
        quality: Of the same run, passed on.
        previews: Of how many pictures of each prompt a small JPEG is made.
        reading: Whether labels that were kept are used (``pipeline.labels``).
        more_caveats: Put behind those that are found here.

    Raises:
        LedgerError: No readable run folder.
        BadInputError: No labeller, or two of one attribute.
        TooFewSamplesError: No picture shows a group.
    """
    names = [labeller.attribute.name for labeller in labellers]
    if not names or len(set(names)) < len(names):
        raise BadInputError(f"labellers: got {names or 'none'}; allowed: at least one, one per attribute.")
    ledger = Ledger.open(run)
    prompts, samples = ledger.prompts(), ledger.samples()
    labels, shown = label_pictures(str(run), ledger, labellers, previews=previews, reading=reading)
    groups = {labeller.attribute.name: labeller.attribute.groups for labeller in labellers}
    targets = {labeller.attribute.name: labeller.attribute.target for labeller in labellers}
    _add_products(names, labels, groups, targets)
    estimates: dict[str, tuple[Estimate, ...]] = {}
    per_prompt: dict[str, dict[str, tuple[Estimate, ...]]] = {}
    tallies: dict[str, Tally] = {}
    for name, told in labels.items():
        ids = [prompt.id for prompt in prompts]
        counted = tally(told, groups=groups[name], denominator=denominator, min_confidence=min_confidence, prompts=ids)
        try:
            found = disparity(counted, seed=RESAMPLING_SEED, target=targets[name], prompts=asked, level=level)
        except TooFewSamplesError as error:
            raise TooFewSamplesError(f"{name}: {error}. {_what_is_there(told, samples)}") from error
        tallies[name], estimates[name] = counted, found.estimates
        per_prompt[name] = {one.prompt_id: (*one.shares, *one.estimates) for one in found.prompts}
        if confusions and name in confusions:
            estimates[name] += _corrected(counted, confusions[name], per_prompt[name], level)
    answered = {
        name: _with_gap(one, tallies.get(name), prompts, asked=asked, level=level)
        for name, one in (answers or {}).items()
    }
    return ScoredPictures(
        run=Path(run).resolve().name,
        settings=ledger.settings,
        classifiers={labeller.attribute.name: labeller.settings for labeller in labellers},
        groups=groups,
        targets=targets,
        denominator=denominator,
        prompts=prompts,
        previews=shown,
        samples=samples,
        labels=labels,
        estimates=estimates,
        per_prompt=per_prompt,
        quality=tuple(quality),
        answers=answered,
        caveats=(
            *picture_caveats(
                ledger.settings,
                prompts,
                samples,
                labels=labels,
                tallies=tallies,
                estimates=estimates,
                answers=answered,
            ),
            *more_caveats,
        ),
        counts=_counts(prompts, samples, labels),
        prompts_sha256=str(ledger.manifest["prompts_sha256"]),
        min_confidence=min_confidence,
        level=level,
        intervals_for=asked,
    )


def tally_run(scored: ScoredPictures, attribute: str) -> Tally:
    """The counts of a scored run, as they were counted for it.

    Raises:
        BadInputError: The run was not scored for the attribute.
    """
    if attribute not in scored.labels:
        raise BadInputError(
            f"run {scored.run!r} was not scored for {attribute!r}; scored for: {', '.join(scored.labels)}."
        )
    return tally(
        scored.labels[attribute],
        groups=scored.groups[attribute],
        denominator=scored.denominator,
        min_confidence=scored.min_confidence,
        prompts=[prompt.id for prompt in scored.prompts],
    )


def _add_products(
    names: Sequence[str],
    labels: dict[str, tuple[Label, ...]],
    groups: dict[str, tuple[str, ...]],
    targets: dict[str, tuple[float, ...]],
) -> None:
    for place, first in enumerate(names):
        for second in names[place + 1 :]:
            joined = product_labels(labels[first], labels[second])
            name = f"{first} x {second}"
            labels[name], groups[name] = joined, product_groups(groups[first], groups[second])
            targets[name] = tuple(one * other for one in targets[first] for other in targets[second])


def _corrected(
    counted: Tally, confusion: ConfusionMatrix, per_prompt: dict[str, tuple[Estimate, ...]], level: float
) -> tuple[Estimate, ...]:
    """``RD_corrected``; corrected shares and distances are added to each prompt's estimates."""
    found = correct_disparity(counted, confusion, seed=RESAMPLING_SEED, level=level)
    for prompt, shares in found.shares.items():
        per_prompt[prompt] += (*shares, found.prompts[prompt])
    return (found.rd,)


def _with_gap(
    answers: ScoredAnswers, drawn: Tally | None, prompts: Sequence[Prompt], *, asked: str, level: float
) -> ScoredAnswers:
    """The answers with the gap to what is drawn from neutral prompts of the same occupations, where there are any."""
    neutral = {
        prompt.id: prompt.facts["occupation"]
        for prompt in prompts
        if "occupation" in prompt.facts and prompt.facts.get("asked", NEUTRAL) == NEUTRAL
    }
    if drawn is None or not neutral:
        return answers
    try:
        gap = understanding_gap(
            answers_tally(answers), pool_prompts(drawn, neutral), seed=RESAMPLING_SEED, prompts=asked, level=level
        )
    except TooFewSamplesError:  # no occupation has both answers and pictures that name a group
        return answers
    return replace(answers, estimates=(*answers.estimates, gap.size, *gap.groups))


def _what_is_there(labels: Sequence[Label], samples: Sequence[Sample]) -> str:
    """What was read instead of groups, and the first error, in words."""
    said = ", ".join(
        f"{what} {number}" for what, number in Counter(one.group or str(one.reason) for one in labels).most_common(6)
    )
    errors = [sample.error for sample in samples if sample.error is not None]
    first = f"; the first of {len(errors)} errors: {errors[0][:300]}" if errors else ""
    return f"There are: {said or 'no samples'}{first}"


def _counts(
    prompts: Sequence[Prompt], samples: Sequence[Sample], labels: Mapping[str, Sequence[Label]]
) -> dict[str, int]:
    counts = {
        "prompts": len(prompts),
        "pictures": sum(sample.image_sha256 is not None for sample in samples),
        "errors": sum(sample.error is not None for sample in samples),
    }
    for name, told in labels.items():
        said = Counter(label.group or str(label.reason) for label in told)
        counts |= {f"{name}: {what}": number for what, number in sorted(said.items())}
    return counts
