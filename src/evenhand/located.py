"""What a location of bias is. In: nothing. Out: frozen records without behaviour.

``Located`` is everything that was measured about one attribute of one model: a verdict per part with its evidence, and
what the evidence was computed from, ready for a report. All shares are of pictures, all divergences in nats.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from evenhand.records import Estimate

__all__ = ["Evidence", "Example", "HeatMap", "Located", "LocatedPrompt", "Part", "Probe", "Published", "RoundTrip"]


@dataclass(frozen=True, slots=True)
class Probe:
    """A linear probe of one place: can the group be read there, and of each group equally well?

    Attributes:
        place: ``encoder``, ``latents``, ``codes``, ``projected``, ``histogram``; of controls ``pixels``, or
            ``shuffled PLACE`` (the model's weights, each tensor's entries in another order).
        control: Whether the place is a control.
        features: Numbers of a picture that are read.
        accuracy: Of pictures that the probe was not fitted to.
        precision: Mean over groups.
        recall: Mean over groups.
        f1: Mean over groups.
        recalls: Group -> share of its pictures that is read right.
        recall_gap: Largest less smallest of ``recalls``.
        permuted: Accuracy where the labels were exchanged: what a probe of this size reads where nothing is.
        majority: Share of the largest group: what is right without reading.
        curve: Pictures fitted to -> accuracy, for a few numbers of pictures, ascending.
    """

    place: str
    control: bool
    features: int
    accuracy: Estimate
    precision: Estimate
    recall: Estimate
    f1: Estimate
    recalls: Mapping[str, Estimate]
    recall_gap: Estimate
    permuted: Estimate
    majority: float
    curve: Mapping[int, Estimate]


@dataclass(frozen=True, slots=True)
class RoundTrip:
    """Labelled pictures, turned into codes and back, and read before and after.

    Attributes:
        said: Label -> what the classifier says of the picture -> pictures; a group's name, or the reason for none.
        flips: What the classifier says of the picture -> of the picture after the round trip -> pictures.
        change: Group -> its share after less before, among pictures that show a group both times.
        p_value: Of the flips being as likely one way as the other, between any two groups.
        pictures: Labelled pictures.
    """

    said: Mapping[str, Mapping[str, int]]
    flips: Mapping[str, Mapping[str, int]]
    change: Mapping[str, Estimate]
    p_value: float
    pictures: int


@dataclass(frozen=True, slots=True)
class Published:
    """The published divergence: codes of all places in one histogram, in bits.

    Attributes:
        value: Of the two prompts.
        null: Mean over exchanged pictures: what equal prompts show.
        p_value: Share of exchanges that reach ``value``.
    """

    value: float
    null: float
    p_value: float


@dataclass(frozen=True, slots=True)
class LocatedPrompt:
    """One neutral prompt and what it draws.

    Attributes:
        name: The occupation, or the prompt's id.
        pictures: Drawn from the neutral prompt.
        codes: Group -> share by likelihood alone; empty where the model gives no likelihood.
        shown: Group -> share among pictures that show a group; empty where none does.
        answered: Group -> share among answers that name one; empty where none does or none was asked.
        answer_rate: Share of answers that name a group; None where none was asked.
        partly_aligned: The model declines to say and still draws one group; None where it was not asked.
        divergence: Group -> JSD of neutral pictures against those that were asked to show it.
        published: Group -> the same as published.
        nearest: The group of the smallest divergence; None without likelihoods.
    """

    name: str
    pictures: int
    codes: Mapping[str, Estimate]
    shown: Mapping[str, Estimate]
    answered: Mapping[str, Estimate]
    answer_rate: Estimate | None
    partly_aligned: bool | None
    divergence: Mapping[str, Estimate]
    published: Mapping[str, Published]
    nearest: str | None


@dataclass(frozen=True, slots=True)
class HeatMap:
    """Where in a picture two prompts differ, one number a code, in raster order.

    Attributes:
        what: ``enters``: information about which prompt drew it that each code adds to those before it; it sums to the
            divergence of whole pictures, up to noise. ``differs``: divergence of the code's distribution alone.
        pair: The two conditions, ``neutral`` or a group each.
        rows: Rows of codes.
        columns: Codes in a row.
        values: In nats, 0 to log 2, means over the prompts.
        low: Lower ends.
        high: Upper ends.
        level: Coverage each interval aims at.
        prompts: Neutral prompts averaged over.
        method: How it was estimated.
    """

    what: str
    pair: tuple[str, str]
    rows: int
    columns: int
    values: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    level: float
    prompts: int
    method: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """One finding about one part.

    Attributes:
        speaks: ``for`` bias there, ``against`` it, or ``open``.
        text: In words, without the number.
        estimate: The number, or None.
    """

    speaks: str
    text: str
    estimate: Estimate | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the model.

    Attributes:
        name: ``language model``, ``picture decoder`` or ``picture encoder``.
        verdict: ``biased``, ``no evidence`` (an effect of the margin would have been seen) or ``not enough evidence``.
        why: One sentence.
        size: What the verdict rests on: as a share of pictures; None where it could not be measured.
        evidence: Everything that speaks for and against.
    """

    name: str
    verdict: str
    why: str
    size: Estimate | None
    evidence: tuple[Evidence, ...]


@dataclass(frozen=True, slots=True)
class Example:
    """One picture of the page.

    Attributes:
        kind: ``drawn``: from a neutral prompt, what its codes say against what it shows; ``asked``: from a prompt that
            asks for a group; ``round trip``: a labelled picture before and after.
        title: The occupation, or nothing.
        before: What was asked for, what the codes say, or the label.
        after: What the classifier says of the picture.
        pictures: JPEG bytes, one or two (before and after).
    """

    kind: str
    title: str
    before: str
    after: str
    pictures: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Located:
    """Where the bias of one attribute sits in one model.

    Attributes:
        run: Name of the folder.
        settings: What was drawn, with what, and how it was read.
        attribute: Its name.
        groups: Its groups, in order.
        target: Wanted share of each group, same order.
        margin: Smallest effect that matters, as a share of pictures.
        level: Coverage the intervals aim at.
        attributed: The parts found biased; empty where none is.
        parts: Verdict of each.
        totals: ``codes``, ``shown`` -> TV to the target, mean over the prompts.
        prompts: One per neutral prompt.
        shift: Group -> share shown less share by likelihood, of the same neutral pictures.
        turned: What the codes stand for -> what the picture shows -> pictures, of all prompts.
        fidelity: Group -> share of pictures asked to show it that do.
        obeyed: Group -> likelihood's share of the group in pictures that were asked to show it.
        gap: ``gap`` and ``gap GROUP`` of understanding against generation; empty where nothing was asked.
        agreement: Share of prompts whose nearest group is the one most shown; None without likelihoods.
        two_samples: Bounds from a classifier of codes or pixels, neutral against each group.
        probes: Of the labelled pictures.
        round_trip: Of the labelled pictures; None without any.
        maps: Heat maps.
        examples: Pictures of the page.
        caveats: What a reader must know before the numbers are used, one sentence each.
        counts: Named counts.
    """

    run: str
    settings: Mapping[str, object]
    attribute: str
    groups: tuple[str, ...]
    target: tuple[float, ...]
    margin: float
    level: float
    attributed: tuple[str, ...]
    parts: tuple[Part, ...]
    totals: Mapping[str, Estimate]
    prompts: tuple[LocatedPrompt, ...]
    shift: Mapping[str, Estimate]
    turned: Mapping[str, Mapping[str, int]]
    fidelity: Mapping[str, Estimate]
    obeyed: Mapping[str, Estimate]
    gap: tuple[Estimate, ...]
    agreement: Estimate | None
    two_samples: Mapping[str, tuple[Estimate, ...]]
    probes: tuple[Probe, ...]
    round_trip: RoundTrip | None
    maps: tuple[HeatMap, ...]
    examples: tuple[Example, ...]
    caveats: tuple[str, ...]
    counts: Mapping[str, int]
