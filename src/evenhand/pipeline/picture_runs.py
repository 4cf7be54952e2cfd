"""A whole audit of a model that draws. In: a model, a probe, a scoring plan. Out: a run folder and what it shows.

sample_pictures:  model ──► pictures (and answers about nobody) in a run folder
score_run:        run folder and its plan ──► ScoredPictures
compare_runs:     two of these ──► PictureComparison
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from evenhand.classify.pictures.protocol import Labeller
from evenhand.errors import BadInputError
from evenhand.ledger import Ledger
from evenhand.metrics.disparity_change import compare_disparity
from evenhand.models.picture_quality.protocol import QualityMetric
from evenhand.models.protocol import AnsweringModel, ImageModel
from evenhand.pipeline.answers import (
    answers_folder,
    ask_about_nobody,
    questions_about,
    score_answers,
)
from evenhand.pipeline.drawing import draw, prompts_to_draw
from evenhand.pipeline.filling import Progress
from evenhand.pipeline.labels import Reading
from evenhand.pipeline.opening import open_image_model, open_labeller
from evenhand.pipeline.pictures import RESAMPLING_SEED, score_pictures, tally_run
from evenhand.pipeline.plans import ScoringPlan, check_attributes, read_plan, write_plan
from evenhand.pipeline.quality import measure_quality, open_quality
from evenhand.probes.blank_image import SAMPLES as ANSWERS_EACH
from evenhand.probes.occupations import SAMPLES as PICTURES_EACH
from evenhand.records import Attribute, Estimate, Label, PictureComparison, ScoredAnswers, ScoredPictures

__all__ = [
    "PREVIEWS",
    "OpenedPlan",
    "audit_pictures",
    "compare_runs",
    "holds_pictures",
    "open_plan",
    "sample_pictures",
    "score_run",
]

PREVIEWS = 16
"""Pictures of each prompt on its contact sheet."""


@dataclass(frozen=True, slots=True)
class OpenedPlan:
    """A plan with everything it names, ready to read pictures.

    Attributes:
        plan: What was opened.
        labellers: One per attribute.
        metrics: Of quality.
    """

    plan: ScoringPlan
    labellers: tuple[Labeller, ...]
    metrics: tuple[QualityMetric, ...]


def open_plan(plan: ScoringPlan) -> OpenedPlan:
    """Open everything a plan names; done before drawing, what is missing is said before anything is paid for.

    Raises:
        EvenhandError: As the loaders say.
    """
    for one in plan.read_by:
        one.matrix()
    return OpenedPlan(
        plan, tuple(open_labeller(one) for one in plan.read_by), tuple(open_quality(spec) for spec in plan.quality)
    )


def holds_pictures(run: str | Path) -> bool:
    """Whether a run folder is of drawn pictures.

    Raises:
        LedgerError: Not a run folder.
    """
    return "replayable" in Ledger.open(run).settings


def audit_pictures(
    model: str | ImageModel,
    *,
    plan: ScoringPlan | OpenedPlan,
    out: str | Path,
    probe: str = "occupations",
    data: str | Path = "test",
    samples: int = PICTURES_EACH,
    answers: int = ANSWERS_EACH,
    seed: int = 0,
    options: Mapping[str, object] | None = None,
    previews: int = PREVIEWS,
    progress: Progress | None = None,
    answering: Progress | None = None,
) -> ScoredPictures:
    """Let a model draw, ask it about nobody where it answers, and score what is there.

    What reads the pictures is opened before the first one is drawn.

    Args:
        model: As :func:`evenhand.pipeline.drawing.draw`.
        plan: How the run is scored; kept in its folder.
        out: The run folder; a part of the same run in it is topped up.
        probe: A registered name whose prompts are texts.
        data: What the probe reads, for ``occupations`` ``test`` or a file.
        samples: Pictures of each prompt.
        answers: Answers about each occupation and attribute, from a model that answers, where the probe is one of
            occupations; 0 asks for none.
        seed: Of the run.
        options: Of a model that is given by name.
        previews: Of how many pictures of each prompt the report shows.
        progress: Of the pictures.
        answering: Of the answers.

    Raises:
        EvenhandError: As the stages say; what was stored before stays stored.
    """
    opened = plan if isinstance(plan, OpenedPlan) else open_plan(plan)
    sample_pictures(
        model,
        attributes=[one.attribute for one in opened.plan.read_by],
        out=out,
        probe=probe,
        data=data,
        samples=samples,
        answers=answers,
        seed=seed,
        options=options,
        progress=progress,
        answering=answering,
    )
    write_plan(out, opened.plan)
    return score_run(out, opened, previews=previews)


def sample_pictures(
    model: str | ImageModel,
    *,
    attributes: Sequence[Attribute],
    out: str | Path,
    probe: str = "occupations",
    data: str | Path = "test",
    samples: int = PICTURES_EACH,
    answers: int = ANSWERS_EACH,
    seed: int = 0,
    options: Mapping[str, object] | None = None,
    progress: Progress | None = None,
    answering: Progress | None = None,
) -> Path:
    """The dear half of :func:`audit_pictures`: pictures and answers, stored and not looked at.

    Args:
        model: As there.
        attributes: What is asked for about nobody, at least one; the first is what augmented prompts name.
        out: As there, and so are the others.
        probe: As there.
        data: As there.
        samples: As there.
        answers: As there.
        seed: As there.
        options: As there.
        progress: As there.
        answering: As there.

    Raises:
        EvenhandError: As the stages say; what was stored before stays stored.
    """
    if answers < 0:
        raise BadInputError(f"answers: got {answers}; allowed: 0 or more to each question.")
    check_attributes(attributes)
    asked = prompts_to_draw(probe, data, attributes[0])  # what cannot be used is refused before a model is opened
    drawing = open_image_model(model, options)
    asks = bool(answers) and isinstance(drawing, AnsweringModel) and all("occupation" in one.facts for one in asked)
    if asks:
        for attribute in attributes:
            questions_about(data, attribute)
    draw(
        drawing,
        probe=probe,
        data=data,
        out=out,
        samples=samples,
        attribute=attributes[0],
        seed=seed,
        progress=progress,
    )
    if asks and isinstance(drawing, AnsweringModel):
        for attribute in attributes:
            ask_about_nobody(
                drawing,
                data=data,
                out=answers_folder(out, attribute.name),
                attribute=attribute,
                samples=answers,
                seed=seed,
                progress=answering,
            )
    return Path(out)


def score_run(
    run: str | Path,
    plan: ScoringPlan | OpenedPlan | None = None,
    *,
    previews: int = 0,
    reading: Reading = "kept",
) -> ScoredPictures:
    """What a run folder shows, from what is in it.

    Args:
        run: The folder.
        plan: How; by default the one in the folder.
        previews: Of how many pictures of each prompt a small JPEG is made.
        reading: Whether labels that were kept are used (``pipeline.labels``).

    Raises:
        LedgerError: Not a run folder, or it has no plan and none is given.
        EvenhandError: As the stages say.
    """
    ledger = Ledger.open(run)
    if plan is None:
        plan = read_plan(run)
    opened = plan if isinstance(plan, OpenedPlan) else open_plan(plan)
    chosen = opened.plan
    matrices = {one.attribute.name: one.matrix() for one in chosen.read_by}
    answers, left_out = _stored_answers(run, chosen)
    return score_pictures(
        run,
        opened.labellers,
        denominator=chosen.denominator,
        min_confidence=chosen.min_confidence,
        level=chosen.level,
        asked=chosen.prompts,
        confusions={name: matrix for name, matrix in matrices.items() if matrix is not None},
        answers=answers,
        quality=measure_quality(
            str(run), ledger, opened.metrics, prompts=chosen.prompts, level=chosen.level, reading=reading
        ),
        previews=previews,
        reading=reading,
        more_caveats=left_out,
    )


def compare_runs(before: ScoredPictures, after: ScoredPictures) -> PictureComparison:
    """Two runs of the same prompts, paired by prompt and number.

    Raises:
        BadInputError: Prompts, attributes, groups, classifiers or denominators differ.
        TooFewSamplesError: No prompt shows a group in both.
    """
    if before.prompts_sha256 != after.prompts_sha256:
        raise BadInputError(
            f"runs {before.run!r} and {after.run!r} are of different prompts; compare runs of the same probe and data."
        )
    for what in ("groups", "classifiers", "denominator", "min_confidence", "targets", "intervals_for", "level"):
        one, other = getattr(before, what), getattr(after, what)
        if one != other:
            raise BadInputError(
                f"runs {before.run!r} and {after.run!r} cannot be compared: {what} {str(one)[:200]} against "
                f"{str(other)[:200]}; score both the same way."
            )
    estimates: dict[str, tuple[Estimate, ...]] = {}
    moved: dict[str, dict[str, dict[str, int]]] = {}
    counts = _pair_counts(before, after)
    for name in before.labels:
        estimates[name] = compare_disparity(
            tally_run(before, name),
            tally_run(after, name),
            seed=RESAMPLING_SEED,
            target=before.targets[name],
            prompts=before.intervals_for,
            level=before.level,
        )
        moved[name] = _moved(before.labels[name], after.labels[name])
        counts[f"{name}: moved"] = sum(
            number for first, row in moved[name].items() for second, number in row.items() if first != second
        )
    return PictureComparison(before.run, after.run, estimates, moved, counts)


def _pair_counts(before: ScoredPictures, after: ScoredPictures) -> dict[str, int]:
    firsts = {(one.prompt_id, one.k): one for one in before.samples}
    pairs = [(firsts[one.prompt_id, one.k], one) for one in after.samples if (one.prompt_id, one.k) in firsts]
    return {
        "pairs": len(pairs),
        "same_seed": sum(one.seed == other.seed for one, other in pairs),
        "same_picture": sum(
            one.image_sha256 is not None and one.image_sha256 == other.image_sha256 for one, other in pairs
        ),
    }


def _moved(before: Sequence[Label], after: Sequence[Label]) -> dict[str, dict[str, int]]:
    firsts = {(one.prompt_id, one.k): one.group or str(one.reason) for one in before}
    pairs = Counter(
        (firsts[one.prompt_id, one.k], one.group or str(one.reason))
        for one in after
        if (one.prompt_id, one.k) in firsts
    )
    found: dict[str, dict[str, int]] = {}
    for (first, second), number in sorted(pairs.items()):
        found.setdefault(first, {})[second] = number
    return found


def _stored_answers(run: str | Path, plan: ScoringPlan) -> tuple[dict[str, ScoredAnswers], list[str]]:
    """The answers about each attribute, and why some are left out."""
    found: dict[str, ScoredAnswers] = {}
    left_out = []
    for attribute in (one.attribute for one in plan.read_by):
        folder = answers_folder(run, attribute.name)
        if not folder.exists():
            continue
        try:
            found[attribute.name] = score_answers(folder, attribute, prompts=plan.prompts, level=plan.level)
        except BadInputError as error:
            left_out.append(f"{error}; they are left out.")
    return found, left_out
