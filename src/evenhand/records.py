"""What travels between stages. In: nothing. Out: frozen records without behaviour.

``Attribute`` and ``Prompt`` say what is asked, ``Sample`` what a model answered (with the ``Claim`` a picture
signal made and the ``Edit`` of every token a mitigation moved), ``Label`` what the answer shows, ``Estimate``
how uneven the labels are. ``Scored`` and ``Comparison`` are one run and two runs of texts, ``ScoredPictures`` (with the
``ScoredAnswers`` of the same model) and ``PictureComparison`` those of drawn pictures, ready for a report.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = [
    "Attribute",
    "Claim",
    "Comparison",
    "Edit",
    "Estimate",
    "Guard",
    "Label",
    "PictureComparison",
    "Prompt",
    "Sample",
    "Scored",
    "ScoredAnswers",
    "ScoredPictures",
    "WordChange",
]


@dataclass(frozen=True, slots=True)
class Guard:
    """When a listed word does not stand for its group.

    Attributes:
        word: The listed word, lower-case.
        before: Words that, right before it, give it another sense (``in black``).
        after: Words that, right after it, give it another sense (``chairman of``, ``king size``).
        needs_after: Where not empty, the word stands for its group only right before one of these (``black man``).
    """

    word: str
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    needs_after: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Attribute:
    """A declared set of groups, and the words that carry them.

    Attributes:
        name: For example ``gender``.
        groups: Declared group names, in a fixed order; never inferred from what was seen.
        target: Wanted share of each group, same order, sums to 1.
        words: Lower-case words per group used to *measure* text.
        steering_words: Lower-case words per group used to *steer* text; a superset of ``words``.
        neutral_words: Lower-case words that name a person and no group, used to measure.
        neutral_forms: For a steering word, the neutral words that can stand in its place.
        counterparts: For a steering word and another group, that group's word that stands in its place.
        source: Where the word lists come from.
        guards: When a listed word does not stand for its group.
    """

    name: str
    groups: tuple[str, ...]
    target: tuple[float, ...]
    words: Mapping[str, tuple[str, ...]]
    steering_words: Mapping[str, tuple[str, ...]]
    neutral_words: tuple[str, ...]
    neutral_forms: Mapping[str, tuple[str, ...]]
    counterparts: Mapping[str, Mapping[str, str]]
    source: str
    guards: tuple[Guard, ...] = ()


@dataclass(frozen=True, slots=True)
class Prompt:
    """One question to a model, with what is declared about it.

    Attributes:
        id: Unique in its run; a relative file name for a folder of pictures.
        probe: The probe that made it.
        text: The text of the question; empty for a plain caption.
        image: Path of the picture, or None.
        facts: What is declared, for example ``{"gender": "female", "scene": "desk"}``.
    """

    id: str
    probe: str
    text: str
    image: str | None
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Claim:
    """What a picture signal says about one picture.

    Attributes:
        s: In [-1, 1]; the sign is the attribute's second (-) or first (+) group; None makes no claim.
        reason: Why: ``faces agree``, ``no face``, ``faces disagree``, ``the largest face is unread``, ``uncertain``,
            ``given``, ``features``, ``texts``, ``judge``, ``judge abstains``.
        faces: Faces found and read, or None where none were looked for.
        shares: Posterior of each declared group, sums to 1, where the signal gives one; attributes of more than two
            groups need it.
    """

    s: float | None
    reason: str
    faces: int | None = None
    shares: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class Edit:
    """One generated token at which a mitigation's gate opened.

    Attributes:
        position: Index of the token in the answer, from 0.
        start: First character of the token in ``Sample.text``.
        end: One past its last character.
        drafted: The text of the token the model alone would have chosen.
        emitted: The text of the token that was chosen.
        alpha: What the text carried with the drafted token, in [-1, 1].
        s: What it should carry, in [-1, 1].
        shift_drafted: Nats added to the drafted token.
        shift_emitted: Nats added to the emitted token.
        attribute: Whose words were at stake.
        kl: KL divergence of the step's new distribution from the model's, in nats; None where it was not measured.
        why: ``contradiction``, ``neutral`` ... where logits were shifted, else the reason they were left alone.
    """

    position: int
    start: int
    end: int
    drafted: str
    emitted: str
    alpha: float
    s: float
    shift_drafted: float
    shift_emitted: float
    attribute: str = ""
    kl: float | None = None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Sample:
    """A model's answer to one prompt, or the error that took its place.

    Attributes:
        prompt_id: The prompt.
        k: Which of the prompt's samples, from 0.
        seed: The seed it was drawn with; a function of run, prompt and k alone.
        text: The answer, or None where ``error`` is set or the answer is a picture; of a picture that was balanced
            while it was drawn, the words that name its group.
        error: ``ErrorName: message``, or None.
        claim: What the picture signal said, or None where no signal was asked.
        edits: Tokens whose logits were shifted, in order.
        passed: Tokens at which the gate opened and nothing was shifted, in order.
        tokens: Generated tokens, or None where the model does not say.
        image: The bytes of a PNG file that was drawn; None where none was, or where it was left on disk.
        image_sha256: Of ``image``, in hexadecimal, also where it was left on disk.
        codes: The picture as the model's own codes, 0-based, in raster order; None where the model has none.
    """

    prompt_id: str
    k: int
    seed: int
    text: str | None
    error: str | None = None
    claim: Claim | None = None
    edits: tuple[Edit, ...] = ()
    passed: tuple[Edit, ...] = ()
    tokens: int | None = None
    image: bytes | None = None
    image_sha256: str | None = None
    codes: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Label:
    """What a classifier says a sample shows.

    Attributes:
        prompt_id: The prompt.
        k: The sample.
        attribute: Attribute name.
        group: One of the attribute's groups, or None.
        reason: Where ``group`` is None, why: ``both``, ``neutral``, ``none``, ``unparsed``, ``refused``, ``no face``,
            ``several faces``, ``uncertain``, ``unlabelled`` or ``error``.
        confidence: In [0, 1]; 1 for word lists.
    """

    prompt_id: str
    k: int
    attribute: str
    group: str | None
    reason: str | None
    confidence: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with the interval it is known to.

    Attributes:
        name: For example ``MR_C``.
        value: The statistic on the data.
        low: Lower end of the interval.
        high: Upper end of the interval.
        level: Coverage the interval aims at, for example 0.95.
        n: Number of independent units resampled.
        unit: What a unit is: ``picture``, ``scene``, ``prompt``, ``answer`` or ``answer or picture``.
        method: How the interval was made.
        largest: The largest value the statistic can take here.
        floor: What a perfectly even model would show at this n, on average.
    """

    name: str
    value: float
    low: float
    high: float
    level: float
    n: int
    unit: str
    method: str
    largest: float
    floor: float


@dataclass(frozen=True, slots=True)
class WordChange:
    """A run of words that differs between two answers to the same prompt.

    Attributes:
        prompt_id: The prompt.
        before: The words of the first answer, joined by spaces; empty for an insertion.
        after: The words of the second answer; empty for a deletion.
        reached: True where every word after, lies on a token whose logits the mitigation shifted.
    """

    prompt_id: str
    before: str
    after: str
    reached: bool


@dataclass(frozen=True, slots=True)
class Scored:
    """One run with its labels and estimates.

    Attributes:
        run: Name of the run, unique in a report.
        settings: What the run was made with (the manifest's settings).
        attribute: Name of the attribute scored.
        prompts: In the order they were asked.
        previews: Prompt id -> JPEG bytes of a small preview.
        samples: One per prompt and k.
        labels: One per sample, same order.
        estimates: In the order they are shown.
        counts: Named counts, for example ``pictures``, ``errors``, ``said_both``.
        prompts_sha256: Of the prompts, their pictures' bytes included; runs with another one cannot be paired.
    """

    run: str
    settings: Mapping[str, object]
    attribute: str
    prompts: tuple[Prompt, ...]
    previews: Mapping[str, bytes]
    samples: tuple[Sample, ...]
    labels: tuple[Label, ...]
    estimates: tuple[Estimate, ...]
    counts: Mapping[str, int]
    prompts_sha256: str = ""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two runs of the same prompts, paired.

    Attributes:
        baseline: Name of the first run.
        other: Name of the second run.
        estimates: Differences (``MR_C difference``, other - baseline) and ratios (``MR_C ratio``).
        changes: Every run of words that differs.
        counts: ``captions``, ``captions_changed``, ``changes``, ``changes_reached``, ``changes_elsewhere``.
    """

    baseline: str
    other: str
    estimates: tuple[Estimate, ...]
    changes: tuple[WordChange, ...]
    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class ScoredAnswers:
    """What a model answers about people it is not shown, with labels and estimates.

    Attributes:
        settings: What the run was made with (the manifest's settings).
        attribute: Name of the attribute asked for.
        groups: Its groups, in order.
        prompts: In the order they were asked; ``facts["occupation"]`` is what the question is about.
        samples: In the order of the prompts, then of k.
        labels: One per sample, same order.
        estimates: ``RD`` and the other distances over answers that name a group, ``answer_rate``; then, where pictures
            of the same occupations were drawn, ``gap`` and ``gap <group>``.
        per_prompt: Prompt id -> the groups' shares among answers that name one, then the distances.
        counts: Named counts: ``answers``, ``errors``, and one per group and reason.
    """

    settings: Mapping[str, object]
    attribute: str
    groups: tuple[str, ...]
    prompts: tuple[Prompt, ...]
    samples: tuple[Sample, ...]
    labels: tuple[Label, ...]
    estimates: tuple[Estimate, ...]
    per_prompt: Mapping[str, tuple[Estimate, ...]]
    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class ScoredPictures:
    """One run of drawn pictures with its labels and estimates.

    Attributes:
        run: Name of the run, unique in a report.
        settings: What the run was made with (the manifest's settings).
        classifiers: Attribute -> what its classifier says of itself.
        groups: Attribute, products included -> its groups, in order.
        targets: Attribute, products included -> the wanted share of each group, same order.
        denominator: What shares are shares of.
        prompts: In the order they were asked.
        previews: (prompt id, k) -> JPEG bytes of a small preview, of the first pictures of each prompt.
        samples: In the order of the prompts, then of k; their pictures are left on disk.
        labels: Attribute, products included -> one label per sample, same order.
        estimates: Attribute -> means over the prompts, in the order they are shown; ``RD_corrected`` where a labelled
            set says how the classifier errs.
        per_prompt: Attribute -> prompt id -> the groups' shares, then the distances, then ``share <group> corrected``
            and ``RD_corrected`` where a labelled set is given.
        quality: Of the pictures, whatever they show: ``CLIP-S``, ``CLIP-IQA``, ``Inception Score``.
        answers: What the same model answers about the same occupations, per attribute asked.
        caveats: What a reader must know before the numbers are used, one sentence each.
        counts: Named counts, for example ``pictures``, ``errors``, ``gender: no face``.
        prompts_sha256: Of the prompts; runs with another one cannot be paired.
        min_confidence: Below it a label shows no group, under the denominator ``confident``.
        level: Coverage the intervals aim at.
        intervals_for: ``fixed`` prompts, these very ones, or ``sampled``, those they were drawn from.
    """

    run: str
    settings: Mapping[str, object]
    classifiers: Mapping[str, Mapping[str, object]]
    groups: Mapping[str, tuple[str, ...]]
    targets: Mapping[str, tuple[float, ...]]
    denominator: str
    prompts: tuple[Prompt, ...]
    previews: Mapping[tuple[str, int], bytes]
    samples: tuple[Sample, ...]
    labels: Mapping[str, tuple[Label, ...]]
    estimates: Mapping[str, tuple[Estimate, ...]]
    per_prompt: Mapping[str, Mapping[str, tuple[Estimate, ...]]]
    quality: tuple[Estimate, ...]
    answers: Mapping[str, ScoredAnswers]
    caveats: tuple[str, ...]
    counts: Mapping[str, int]
    prompts_sha256: str
    min_confidence: float = 0.8
    level: float = 0.95
    intervals_for: str = "fixed"


@dataclass(frozen=True, slots=True)
class PictureComparison:
    """Two runs of drawn pictures from the same prompts, paired by prompt and number.

    Attributes:
        baseline: Name of the first run.
        other: Name of the second run.
        estimates: Attribute -> differences (``RD difference``, other - baseline) and ratios (``RD ratio``).
        moved: Attribute -> what the first run's picture shows -> what the second's of the same prompt and number shows
            -> pictures; a group's name, or the reason where none is shown.
        counts: ``pairs``, ``same_seed`` (pairs drawn with the same seed), ``same_picture``, and ``<attribute>: moved``.
    """

    baseline: str
    other: str
    estimates: Mapping[str, tuple[Estimate, ...]]
    moved: Mapping[str, Mapping[str, Mapping[str, int]]]
    counts: Mapping[str, int]
