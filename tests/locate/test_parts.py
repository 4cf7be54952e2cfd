"""Verdicts by hand: sizes above, below and across the margin, and what cannot be told."""

import dataclasses

import pytest

from evenhand.locate.parts import BIASED, NO_EVIDENCE, OPEN, Findings, attribute_bias, weigh
from evenhand.locate.turning import Turning
from evenhand.located import Probe, RoundTrip
from evenhand.records import Estimate


def _estimate(value, low=None, high=None, name="TV"):
    low, high = value - 0.02 if low is None else low, value + 0.02 if high is None else high
    return Estimate(name, value, low, high, 0.95, 100, "picture", "by hand", 1.0, 0.0)


def _probe(place, accuracy=0.95, gap=0.01, *, control=False):
    read = _estimate(accuracy)
    return Probe(
        place, control, 4, read, read, read, read, {"male": read, "female": read}, _estimate(gap, max(gap - 0.02, 0)),
        _estimate(0.5), 0.5, {},
    )  # fmt: skip


def _findings(**changed):
    trip = RoundTrip(
        {"male": {"male": 50}, "female": {"female": 50}},
        {"male": {"male": 50}, "female": {"female": 50}},
        {"male": _estimate(0.0), "female": _estimate(0.0)},
        1.0,
        100,
    )
    whole = {
        "groups": ("male", "female"),
        "margin": 0.1,
        "codes": _estimate(0.02, 0.0, 0.05),
        "unclear": _estimate(0.05),
        "unread": {"male": _estimate(0.0), "female": _estimate(0.0)},
        "shown": _estimate(0.02),
        "obeyed": {"male": _estimate(0.97), "female": _estimate(0.97)},
        "agreement": _estimate(0.6, 0.45, 0.7),
        "gap": None,
        "turned": Turning(_estimate(0.01, 0.0, 0.03), {"male": _estimate(0.01), "female": _estimate(-0.01)}),
        "untold": "",
        "fidelity": {"male": _estimate(0.97), "female": _estimate(0.97)},
        "shift": {},
        "probes": (_probe("encoder"), _probe("codes"), _probe("pixels", 0.7, 0.3, control=True)),
        "round_trip": trip,
    }
    return Findings(**(whole | changed))


_CHANGED = {"male": _estimate(0.2), "female": _estimate(-0.2)}
_TURNED_TRIP = RoundTrip({"male": {"male": 50}, "female": {"female": 50}}, {}, _CHANGED, 0.001, 100)


def _verdicts(**changed):
    return {part.name: part.verdict for part in attribute_bias(_findings(**changed))}


@pytest.mark.parametrize(
    ("low", "high", "verdict"), [(0.11, 0.3, BIASED), (0.0, 0.09, NO_EVIDENCE), (0.05, 0.15, OPEN), (0.1, 0.2, OPEN)]
)
def test_a_size_is_held_against_the_margin(low, high, verdict):
    assert weigh(_estimate((low + high) / 2, low, high), 0.1) == verdict


def test_nothing_is_found_where_all_is_even():
    assert set(_verdicts().values()) == {NO_EVIDENCE}


def test_each_part_by_itself():
    uneven = _estimate(0.3)
    assert _verdicts(codes=uneven)["language model"] == BIASED
    turned = Turning(uneven, {"male": uneven, "female": _estimate(-0.3)})
    found = _verdicts(turned=turned, round_trip=_TURNED_TRIP)
    assert (found["language model"], found["picture decoder"]) == (NO_EVIDENCE, BIASED)
    assert _verdicts(probes=(_probe("encoder", gap=0.3),))["picture encoder"] == BIASED
    # A worse place on the same path says nothing where a better one reads both groups alike.
    assert _verdicts(probes=(_probe("latents", 0.8, 0.3), _probe("codes", 0.95)))["picture encoder"] == NO_EVIDENCE


def test_a_decoder_is_named_only_where_labelled_pictures_come_back_turned():
    # What codes are likeliest to stand for is not shown, and labelled pictures come back as they were: the prompt that
    # asks for a group is not obeyed, or the classifier errs. Neither part can be cleared or named.
    uneven = Turning(_estimate(0.3), {"male": _estimate(0.3), "female": _estimate(-0.3)})
    found = _verdicts(turned=uneven)
    assert (found["language model"], found["picture decoder"]) == (OPEN, OPEN)
    assert _verdicts(turned=uneven, round_trip=None)["picture decoder"] == OPEN
    assert _verdicts(turned=uneven, round_trip=_TURNED_TRIP)["picture decoder"] == BIASED
    # A group that becomes unrecognisable is not known to be shown.
    unread = {"male": _estimate(0.0), "female": _estimate(0.4)}
    assert _verdicts(unread=unread)["picture decoder"] == OPEN


def test_an_encoder_is_sized_by_what_carries_the_verdict():
    wide, sure = _probe("encoder", gap=0.3), _probe("codes", gap=0.25)
    wide = dataclasses.replace(wide, recall_gap=_estimate(0.3, 0.05, 0.5))
    part = attribute_bias(_findings(probes=(wide, sure)))[2]
    assert (part.verdict, part.size.value) == (BIASED, 0.25)


def test_what_cannot_be_measured_is_open():
    assert _verdicts(unclear=_estimate(0.3))["language model"] == OPEN
    assert _verdicts(obeyed={"male": _estimate(0.97), "female": _estimate(0.82, 0.5, 0.9)})["language model"] == OPEN
    assert _verdicts(obeyed={})["language model"] == OPEN
    assert _verdicts(codes=None)["language model"] == OPEN
    assert _verdicts(obeyed={"male": _estimate(0.97), "female": _estimate(0.5)})["language model"] == OPEN
    assert _verdicts(turned=None, untold="too few")["picture decoder"] == OPEN
    assert _verdicts(probes=())["picture encoder"] == OPEN
    # A probe that reads no better than one of exchanged labels reads nothing.
    assert _verdicts(probes=(_probe("encoder", 0.51),))["picture encoder"] == OPEN


def test_the_round_trip_speaks_about_the_decoder():
    changed = {"male": _estimate(0.2), "female": _estimate(-0.2)}
    trip = dataclasses.replace(_TURNED_TRIP, said={"male": {"male": 50}, "female": {"female": 30, "male": 20}})
    decoder = attribute_bias(_findings(round_trip=trip))[1]
    last = decoder.evidence[-1]
    assert (last.speaks, last.estimate.value) == ("for", 0.2)
    assert "encoder kept them" in last.text
    turned = Turning(_estimate(0.3), changed)
    assert "errs on labelled pictures" in attribute_bias(_findings(round_trip=trip, turned=turned))[1].why
    assert "do not say that it is the decoder" in attribute_bias(_findings(round_trip=None, turned=turned))[1].why
