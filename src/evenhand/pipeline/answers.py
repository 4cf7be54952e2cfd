"""What a model answers about people it is not shown. In: a model that answers, occupations. Out: answers, their bias.

The probe ``blank_image`` asks for an attribute of an occupation about an empty picture. Answers are a run of their own,
``answers/ATTRIBUTE`` below the run of pictures, with seeds, resume and top-up like any other.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

from evenhand.classify.answers import AnswerClassifier
from evenhand.errors import BadInputError, EvenhandError
from evenhand.ledger import Ledger
from evenhand.metrics.tally import Tally, pool_prompts, tally
from evenhand.metrics.understanding import answer_rate, understanding_bias
from evenhand.models.protocol import AnsweringModel
from evenhand.pictures import open_picture
from evenhand.pipeline.filling import Progress, fill
from evenhand.probes.blank_image import REFUSAL
from evenhand.records import Attribute, Estimate, Label, Prompt, Sample, ScoredAnswers
from evenhand.registry import load

__all__ = [
    "ANSWERS",
    "answers_folder",
    "answers_tally",
    "ask_about_nobody",
    "questions_about",
    "score_answers",
]

ANSWERS = "answers"
"""Folder of the answers, below the run of pictures."""

_PROBE = "blank_image"
_RESAMPLING_SEED = 0


def answers_folder(run: str | Path, attribute: str) -> Path:
    """Where the answers about an attribute are."""
    return Path(run) / ANSWERS / attribute


def questions_about(data: str | Path, attribute: Attribute) -> Sequence[Prompt]:
    """The questions of ``blank_image``.

    Raises:
        BadInputError: As the probe says of its data.
    """
    return cast(Callable[[str, Attribute], Sequence[Prompt]], load("probes", _PROBE))(str(data), attribute)


def ask_about_nobody(
    model: AnsweringModel,
    *,
    data: str | Path,
    out: str | Path,
    attribute: Attribute,
    samples: int,
    seed: int = 0,
    progress: Progress | None = None,
) -> Path:
    """Ask ``blank_image`` of every occupation ``samples`` times, at temperature 1; a folder with a part is topped up.

    Args:
        model: It answers.
        data: The occupations, as the probe reads them.
        out: The run folder of the answers.
        attribute: What is asked for.
        samples: Answers to each question, 1 or more.
        seed: Of the run.
        progress: Called whenever a batch is stored.

    Raises:
        EvenhandError: As the stages say; what was stored before stays stored.
    """
    prompts = questions_about(data, attribute)
    run = f"{_PROBE}-{seed}"
    settings = {
        "model": {"name": model.name, "revision": model.revision, **model.settings},
        "probe": _PROBE,
        "attribute": {"name": attribute.name, "groups": list(attribute.groups)},
        "seed": seed,
    }
    seen = {str(prompt.image): open_picture(str(prompt.image)) for prompt in prompts}

    def asked(batch: Sequence[Prompt], seeds: Sequence[int]) -> tuple[Sample, ...]:
        pictures = [seen[str(prompt.image)] for prompt in batch]
        try:
            texts = model.answer_about([prompt.text for prompt in batch], pictures, seeds=seeds)
        except EvenhandError as error:
            why = f"{type(error).__name__}: {error}"
            return tuple(Sample(one.id, 0, seed, None, error=why) for one, seed in zip(batch, seeds, strict=True))
        return tuple(Sample(one.id, 0, seed, text) for one, seed, text in zip(batch, seeds, texts, strict=True))

    with Ledger.create_or_resume(out, run=run, settings=settings, prompts=prompts) as ledger:
        fill(ledger, asked, name=model.name, batch_size=model.batch_size, samples=samples, run=run, progress=progress)
    return Path(out)


def score_answers(
    run: str | Path, attribute: Attribute, *, prompts: str = "fixed", level: float = 0.95
) -> ScoredAnswers:
    """Labels and estimates of a run of answers, from the ledger alone; without the gap.

    Where no answer names a group there is an ``answer_rate`` of 0 and no RD; where every sample failed, nothing.

    Args:
        run: The run folder of the answers.
        attribute: What was asked for; its groups in any order, its target.
        prompts: ``fixed`` or ``sampled``.
        level: Coverage the intervals aim at.

    Raises:
        LedgerError: No readable run folder.
        BadInputError: Other groups were asked for.
    """
    ledger = Ledger.open(run)
    held = ledger.settings.get("attribute")
    groups = held.get("groups") if isinstance(held, dict) else None
    if not isinstance(groups, list) or set(groups) != set(attribute.groups):
        raise BadInputError(
            f"answers about {attribute.name}: asked for {groups}; the attribute has {', '.join(attribute.groups)}"
        )
    asked, samples = ledger.prompts(), ledger.samples()
    labels = AnswerClassifier(attribute, refusals=(REFUSAL,)).label(samples)
    estimates, per_prompt = _measured(labels, attribute, prompts=prompts, level=level)
    said = Counter(label.group or str(label.reason) for label in labels)
    return ScoredAnswers(
        settings=ledger.settings,
        attribute=attribute.name,
        groups=attribute.groups,
        prompts=asked,
        samples=samples,
        labels=labels,
        estimates=estimates,
        per_prompt=per_prompt,
        counts={"answers": len(samples), "errors": said["error"], **dict(sorted(said.items()))},
    )


def _measured(
    labels: Sequence[Label], attribute: Attribute, *, prompts: str, level: float
) -> tuple[tuple[Estimate, ...], dict[str, tuple[Estimate, ...]]]:
    """The means over questions, and each question's own."""
    groups = attribute.groups
    if not any(label.reason != "error" for label in labels):
        return (), {}
    if not any(label.group for label in labels):
        return (answer_rate(labels, groups=groups, prompts=prompts, level=level),), {}
    found = understanding_bias(
        labels, groups=groups, target=attribute.target, seed=_RESAMPLING_SEED, prompts=prompts, level=level
    )
    per_prompt = {one.prompt_id: (*one.shares, *one.estimates) for one in found.disparity.prompts}
    return (*found.disparity.estimates, found.answer_rate), per_prompt


def answers_tally(scored: ScoredAnswers) -> Tally:
    """Answers per occupation and group; its prompts bear the occupations' names."""
    counted = tally(
        scored.labels, groups=scored.groups, denominator="all", prompts=[prompt.id for prompt in scored.prompts]
    )
    return pool_prompts(counted, {prompt.id: prompt.facts["occupation"] for prompt in scored.prompts})
