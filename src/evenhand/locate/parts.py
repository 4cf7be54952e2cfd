"""A verdict for each part of a model. In: what was measured. Out: parts with what speaks for and against.

Each part has one size, a share of pictures, and it is held against the margin, the smallest effect that matters:
``biased`` where the whole interval is above it, ``no evidence`` where the whole interval is below (an effect of the
margin would have been seen), ``not enough evidence`` in between and where the size could not be measured.

- **language model**: total variation between the shares of groups that the codes of neutral pictures stand for, by
  likelihood, and the target; mean over the prompts. No picture is looked at.
- **picture decoder**: how uneven pictures become of codes in which groups are as wanted (``locate.turning``). A
  classifier that reads one group worse looks the same; labelled pictures tell the two apart.
- **picture encoder**: difference in recall between groups, at the place of each path at which a linear probe reads
  best: where even the best reader sees one group worse, something was lost before.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evenhand.locate.turning import Turning
from evenhand.located import Evidence, Part, Probe, RoundTrip
from evenhand.records import Estimate

__all__ = [
    "BIASED",
    "DECODER",
    "ENCODER",
    "LANGUAGE_MODEL",
    "NO_EVIDENCE",
    "OBEYED",
    "OPEN",
    "PATHS",
    "UNCLEAR_SHARE",
    "Findings",
    "attribute_bias",
    "weigh",
]

LANGUAGE_MODEL, DECODER, ENCODER = "language model", "picture decoder", "picture encoder"
"""The parts."""

BIASED, NO_EVIDENCE, OPEN = "biased", "no evidence", "not enough evidence"
"""The verdicts."""

OBEYED = 0.8
"""Shares by likelihood are read only where a prompt that asks for a group draws it with this probability at least."""

PATHS = (("encoder", "projected"), ("latents", "codes", "histogram"))
"""Places of probes: of what the language model sees, and of what pictures are written in."""

UNCLEAR_SHARE = 0.2
"""From this share of neutral codes that stand for nobody on, whom the others stand for is no verdict."""

_CHANCE = 0.05


@dataclass(frozen=True, slots=True)
class Findings:
    """What verdicts rest on.

    Attributes:
        groups: All groups, in order.
        margin: Smallest effect that matters, as a share of pictures.
        codes: TV of the codes' shares to the target; None without likelihoods.
        unclear: Share of neutral pictures whose codes stand for no group clearly.
        unread: Group -> share of pictures whose codes stand for it and that show no group.
        shown: TV of the shown shares to the target; None where no picture shows a group.
        obeyed: Group -> probability that pictures asked to show it stand for it, by likelihood.
        agreement: Share of prompts whose nearest group is the one most shown.
        gap: Understanding against generation, the one number.
        turned: The decoder's effect; None where it could not be measured, ``untold`` says why.
        untold: Why ``turned`` is None.
        fidelity: Group -> share of pictures asked to show it that do.
        shift: Group -> share shown less share by likelihood, of neutral pictures.
        probes: Of labelled pictures, controls included.
        round_trip: Of labelled pictures.
    """

    groups: tuple[str, ...]
    margin: float
    codes: Estimate | None
    unclear: Estimate | None
    unread: Mapping[str, Estimate]
    shown: Estimate | None
    obeyed: Mapping[str, Estimate]
    agreement: Estimate | None
    gap: Estimate | None
    turned: Turning | None
    untold: str
    fidelity: Mapping[str, Estimate]
    shift: Mapping[str, Estimate]
    probes: Sequence[Probe]
    round_trip: RoundTrip | None


def attribute_bias(found: Findings) -> tuple[Part, ...]:
    """The three parts, in the order in which a picture is made and read."""
    return _language_model(found), _decoder(found), _encoder(found)


def weigh(size: Estimate, margin: float) -> str:
    """The verdict of a size; see the module."""
    if size.low > margin:
        return BIASED
    return NO_EVIDENCE if size.high < margin else OPEN


def _language_model(found: Findings) -> Part:
    evidence = []
    if found.shown is not None:
        text = "pictures that would have to show another group, whatever part that comes from"
        evidence.append(Evidence("open", text, found.shown))
    if found.agreement is not None:
        text = "prompts whose most shown group is the one nearest by divergence of codes"
        evidence.append(Evidence("open", text, found.agreement))
    if found.gap is not None:
        text = "pictures that would have to change to agree with what the model answers about nobody"
        evidence.append(Evidence("open", text, found.gap))
    if found.unclear is not None and found.unclear.high > UNCLEAR_SHARE:
        text = "neutral pictures whose codes stand for no group clearly"
        why = "too many codes stand for no group: whom the others stand for says little"
        return Part(LANGUAGE_MODEL, OPEN, why, None, (Evidence("open", text, found.unclear), *evidence))
    if found.codes is None:
        why = "the model gives no likelihood of its pictures: whom its codes stand for is not known"
        return Part(LANGUAGE_MODEL, OPEN, why, None, tuple(evidence))
    ignored = [group for group in found.groups if group not in found.obeyed or found.obeyed[group].low < OBEYED]
    text = "pictures whose codes would have to stand for another group, before anything is decoded"
    if ignored:
        why = f"asked for {', '.join(ignored)}, it does not draw clearly so: its codes cannot be read by likelihood"
        return Part(LANGUAGE_MODEL, OPEN, why, None, (Evidence("open", text, found.codes), *evidence))
    if _contradicted(found):
        why = (
            "codes that are likeliest under a group's prompt show others, and no decoder does that to labelled pictures"
        )
        return Part(LANGUAGE_MODEL, OPEN, why, None, (Evidence("open", text, found.codes), *evidence))
    verdict = weigh(found.codes, found.margin)
    why = {
        BIASED: "the codes of neutral prompts stand for groups unevenly already",
        NO_EVIDENCE: "the codes of neutral prompts stand for groups as wanted, up to the margin",
        OPEN: "the interval holds the margin: draw more pictures",
    }[verdict]
    return Part(LANGUAGE_MODEL, verdict, why, found.codes, (_own(verdict, text, found.codes), *evidence))


def _decoder(found: Findings) -> Part:
    evidence = [
        Evidence("open", f"change of {group} between what codes stand for and what pictures show", one)
        for group, one in found.shift.items()
    ]
    for group, one in found.unread.items():
        evidence.append(Evidence("open", f"pictures whose codes stand for {group} and that show no group", one))
    for group, one in found.fidelity.items():
        speaks = "against" if one.low > 1 - found.margin else "open"
        evidence.append(Evidence(speaks, f"pictures asked to show {group} that do", one))
    evidence += _by_round_trip(found)
    if found.turned is None:
        return Part(DECODER, OPEN, found.untold, None, tuple(evidence))
    verdict = weigh(found.turned.size, found.margin)
    rates = [one.value for one in found.unread.values()]
    text = "pictures that would have to show another group after decoding codes that are as wanted"
    doubt = ""
    if rates and max(rates) - min(rates) > found.margin:
        doubt = "pictures of one group's codes show no group more often: whom they show is not known"
    elif verdict == BIASED and _trip(found) != "for":
        doubt = "pictures show other groups than their codes stand for, by the decoder, by a classifier that errs, or "
        doubt += "because a group that is asked for is not drawn: labelled pictures do not say that it is the decoder"
    if doubt:
        return Part(DECODER, OPEN, doubt, found.turned.size, (Evidence("open", text, found.turned.size), *evidence))
    reader = _reader(found.round_trip)
    why = {
        BIASED: f"pictures show other groups than their codes stand for; {reader}",
        NO_EVIDENCE: "pictures show the groups that their codes stand for, up to the margin",
        OPEN: "the interval holds the margin: draw more pictures that ask for a group",
    }[verdict]
    return Part(DECODER, verdict, why, found.turned.size, (_own(verdict, text, found.turned.size), *evidence))


def _encoder(found: Findings) -> Part:
    places = {probe.place: probe for probe in found.probes if not probe.control}
    best = [
        max(own, key=lambda probe: probe.accuracy.value)
        for path in PATHS
        if (own := [places[place] for place in path if place in places])
    ]
    if not best:
        why = "no features of labelled pictures are known: nothing can be read"
        return Part(ENCODER, OPEN, why, None, ())
    unread = [probe.place for probe in best if probe.accuracy.low <= probe.permuted.high]
    evidence = [
        _own(
            weigh(probe.recall_gap, found.margin),
            f"difference in recall between groups at {probe.place}",
            probe.recall_gap,
        )
        for probe in best
    ]
    evidence += [
        Evidence("open", f"difference in recall between groups at {probe.place} (control)", probe.recall_gap)
        for probe in found.probes
        if probe.control
    ]
    worst = max((probe.recall_gap for probe in best), key=lambda gap: (_rank(weigh(gap, found.margin)), gap.value))
    if unread:
        why = f"at {', '.join(unread)} the attribute cannot be read at all: more labelled pictures, or another probe"
        return Part(ENCODER, OPEN, why, worst, tuple(evidence))
    verdict = weigh(worst, found.margin)
    why = {
        BIASED: "one group is read worse even where a probe reads best",
        NO_EVIDENCE: "a probe reads every group as well as the others, up to the margin",
        OPEN: "the interval holds the margin: give more labelled pictures",
    }[verdict]
    return Part(ENCODER, verdict, why, worst, tuple(evidence))


def _by_round_trip(found: Findings) -> list[Evidence]:
    trip = found.round_trip
    if trip is None:
        return []
    largest = max(trip.change.values(), key=lambda one: abs(one.value))
    group = next(name for name, one in trip.change.items() if one is largest)
    speaks = _trip(found)
    kept = [probe for probe in found.probes if probe.place in PATHS[1] and not probe.control]
    read = bool(kept) and max(kept, key=lambda probe: probe.accuracy.value).recall_gap.high < found.margin
    where = (
        "; a probe still reads the groups from its codes, so the encoder kept them" if read and speaks == "for" else ""
    )
    return [Evidence(speaks, f"change of {group} in labelled pictures sent through codes and back{where}", largest)]


def _trip(found: Findings) -> str:
    """Whether labelled pictures that were sent round speak for a decoder that turns groups; open without any."""
    trip = found.round_trip
    if trip is None:
        return "open"
    largest = max(trip.change.values(), key=lambda one: abs(one.value))
    if max(largest.low, -largest.high) > 0 and trip.p_value < _CHANCE and not _within(largest, found.margin):
        return "for"
    return "against" if _within(largest, found.margin) else "open"


def _contradicted(found: Findings) -> bool:
    """Pictures show others than codes stand for, and labelled pictures say that decoding does not do it."""
    turned = found.turned is not None and weigh(found.turned.size, found.margin) == BIASED
    return turned and _trip(found) == "against"


def _rank(verdict: str) -> int:
    return (NO_EVIDENCE, OPEN, BIASED).index(verdict)


def _within(change: Estimate, margin: float) -> bool:
    return -margin < change.low and change.high < margin


def _reader(trip: RoundTrip | None) -> str:
    """Whether the classifier itself may be the reason too."""
    said = {} if trip is None else trip.said
    right = [row.get(label, 0) / sum(row.values()) for label, row in said.items() if sum(row.values())]
    if right and min(right) >= 1 - _CHANCE:
        return "the classifier reads labelled pictures of every group right"
    return "the classifier errs on labelled pictures too: read its errors first"


def _own(verdict: str, text: str, size: Estimate) -> Evidence:
    return Evidence({BIASED: "for", NO_EVIDENCE: "against"}.get(verdict, "open"), text, size)
