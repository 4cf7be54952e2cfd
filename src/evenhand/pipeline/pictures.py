"""Pictures from texts. In: a model that draws, a probe, classifiers. Out: a ledger, labels, disparities.

Drawing (``draw``) writes the ledger, can be resumed and topped up; scoring (``score_pictures``) only reads it, so that
every number can be recomputed from the run folder and the classifiers alone.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, cast, runtime_checkable

from evenhand.attributes import load_attribute, measuring_settings
from evenhand.errors import BadInputError
from evenhand.ledger import Ledger
from evenhand.metrics.disparity import disparity
from evenhand.metrics.tally import product_groups, product_labels, tally
from evenhand.models.protocol import ImageModel
from evenhand.pipeline.filling import Progress, fill
from evenhand.records import Attribute, Estimate, Label, Prompt, Sample, ScoredPictures
from evenhand.registry import load

__all__ = ["Labeller", "draw", "score_pictures"]

RESAMPLING_SEED = 0
"""Of the intervals; fixed, so that a run scored twice gives the same numbers."""

_AT_ONCE = 256  # pictures in memory


@runtime_checkable
class Labeller(Protocol):
    """Says what pictures show.

    Attributes:
        attribute: Whose groups it tells apart.
        settings: JSON values that say exactly how.
    """

    attribute: Attribute
    settings: Mapping[str, object]

    def label(self, samples: Sequence[Sample]) -> tuple[Label, ...]:
        """One label per sample, same order; the samples come with their pictures."""
        ...


def draw(
    model: str | ImageModel,
    *,
    probe: str,
    data: str | Path,
    out: str | Path,
    samples: int,
    attribute: str = "gender",
    seed: int = 0,
    progress: Progress | None = None,
) -> Path:
    """Let a model draw every prompt of a probe ``samples`` times, and store the pictures in a run folder.

    A folder that holds part of the same run is topped up; nothing that is there is drawn again. Asking for more
    samples later adds them.

    Args:
        model: ``unified:`` before a folder or hub id of a unified model, or any object with the members of
            ``ImageModel``.
        probe: A registered name, for example ``occupations``.
        data: What the probe reads, for ``occupations`` ``test`` or a file.
        out: The run folder; made if it is not there.
        samples: Pictures of each prompt, 1 or more.
        attribute: A shipped name or a YAML file; what the probe's augmented prompts name.
        seed: Of the run; a sample's own seed follows from it, its prompt and its number.
        progress: Called whenever a batch is stored.

    Returns:
        The run folder.

    Raises:
        EvenhandError: As the stages say; what was stored before stays stored.
    """
    if samples < 1:
        raise BadInputError(f"samples: got {samples}; allowed: 1 or more pictures of each prompt.")
    declared = load_attribute(attribute)
    ask = cast(Callable[[str, Attribute], Sequence[Prompt]], load("probes", probe))
    prompts = ask(str(data), declared)
    drawing = _model(model)
    run = f"{probe}-{seed}"
    settings = {
        "model": {"name": drawing.name, "revision": drawing.revision, **drawing.settings},
        "replayable": drawing.replayable,
        "probe": probe,
        "attribute": measuring_settings(declared),
        "seed": seed,
    }

    def asked(batch: Sequence[Prompt], seeds: Sequence[int]) -> tuple[Sample, ...]:
        return drawing.draw(batch, seeds=seeds)

    with Ledger.create_or_resume(out, run=run, settings=settings, prompts=prompts) as ledger:
        size = drawing.batch_size
        fill(ledger, asked, name=drawing.name, batch_size=size, samples=samples, run=run, progress=progress)
    return Path(out)


def score_pictures(
    run: str | Path,
    labellers: Sequence[Labeller],
    *,
    denominator: str = "face",
    min_confidence: float = 0.8,
    level: float = 0.95,
) -> ScoredPictures:
    """Labels and disparities of a run folder, from the ledger and the classifiers alone.

    Several labellers are scored each and, two by two, as products (``gender x race``).

    Args:
        run: A folder that ``draw`` made.
        labellers: One per attribute.
        denominator: What shares are shares of: ``all``, ``face`` or ``confident`` (``metrics.tally``).
        min_confidence: Below it a label is unknown under ``confident``.
        level: Coverage the intervals aim at.

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
    labels = _labels(ledger.drawn(), samples, labellers)
    groups = {labeller.attribute.name: labeller.attribute.groups for labeller in labellers}
    targets = {labeller.attribute.name: labeller.attribute.target for labeller in labellers}
    for place, first in enumerate(names):
        for second in names[place + 1 :]:
            joined = product_labels(labels[first], labels[second])
            name = joined[0].attribute
            labels[name], groups[name] = joined, product_groups(groups[first], groups[second])
            targets[name] = tuple(one * other for one in targets[first] for other in targets[second])
    estimates: dict[str, tuple[Estimate, ...]] = {}
    per_prompt: dict[str, Mapping[str, tuple[Estimate, ...]]] = {}
    for name, told in labels.items():
        counted = tally(
            told,
            groups=groups[name],
            denominator=denominator,
            min_confidence=min_confidence,
            prompts=[prompt.id for prompt in prompts],
        )
        found = disparity(counted, seed=RESAMPLING_SEED, target=targets[name], level=level)
        estimates[name] = found.estimates
        per_prompt[name] = {one.prompt_id: (*one.shares, *one.estimates) for one in found.prompts}
    return ScoredPictures(
        run=Path(run).resolve().name,
        settings=ledger.settings,
        classifiers={labeller.attribute.name: labeller.settings for labeller in labellers},
        denominator=denominator,
        prompts=prompts,
        samples=samples,
        labels={name: tuple(told) for name, told in labels.items()},
        estimates=estimates,
        per_prompt=per_prompt,
        counts=_counts(prompts, samples, labels),
        prompts_sha256=str(ledger.manifest["prompts_sha256"]),
    )


def _labels(
    drawn: Iterable[Sample], samples: Sequence[Sample], labellers: Sequence[Labeller]
) -> dict[str, Sequence[Label]]:
    """Each attribute's labels, in the order of the samples; one that failed is ``error``."""
    found: dict[str, dict[tuple[str, int], Label]] = {labeller.attribute.name: {} for labeller in labellers}
    batch: list[Sample] = []

    def look() -> None:
        for labeller in labellers:
            for label in labeller.label(batch):
                found[labeller.attribute.name][label.prompt_id, label.k] = label
        batch.clear()

    for sample in drawn:
        batch.append(sample)
        if len(batch) == _AT_ONCE:
            look()
    if batch:
        look()
    return {
        name: [
            told.get((sample.prompt_id, sample.k)) or Label(sample.prompt_id, sample.k, name, None, "error", 0.0)
            for sample in samples
        ]
        for name, told in found.items()
    }


def _model(model: str | ImageModel) -> ImageModel:
    if isinstance(model, str):
        if not model.startswith("unified:"):
            raise BadInputError(
                f"model: got {model!r}; allowed: unified:FOLDER or unified:HUB_ID, or an object with the members of "
                "ImageModel."
            )
        return cast(Callable[[str], ImageModel], load("models", "unified"))(model.removeprefix("unified:"))
    if not isinstance(model, ImageModel):
        raise BadInputError(
            f"model: got {type(model).__name__}; needs name, revision, batch_size, settings, replayable and draw "
            "(see ImageModel)."
        )
    if model.batch_size < 1:
        raise BadInputError(f"model {model.name!r}: batch_size is {model.batch_size}; give 1 or more.")
    return model


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
