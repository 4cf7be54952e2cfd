"""Verdicts by hand: one bound at a time, then which of several decides."""

import dataclasses
import math

import pytest
from drawn_runs import small_run

from evenhand.errors import BadInputError
from evenhand.records import Estimate
from evenhand.report import Bound, judge


def run_of(*estimates, caveats=()):
    run = small_run(previews=0, caveats=caveats)
    return dataclasses.replace(run, estimates={"gender": estimates})


def rd(value, low, high, name="RD"):
    return Estimate(name, value, low, high, 0.95, 100, "picture", "by hand", 1.0, 0.0)


@pytest.mark.parametrize(
    ("low", "high", "largest", "outcome"),
    [
        (0.1, 0.3, 0.3, "pass"),  # the high end may touch the bound
        (0.1, 0.3001, 0.3, "undecided"),
        (0.3, 0.5, 0.3, "undecided"),  # the low end touches it: not above
        (0.3001, 0.5, 0.3, "fail"),
        (0.1, math.inf, 0.3, "undecided"),
        (math.nan, 0.2, 0.3, "undefined"),
        (0.1, math.nan, 0.3, "undefined"),
    ],
)
def test_one_bound_is_judged_on_the_interval(low, high, largest, outcome):
    verdict = judge(run_of(rd(0.2, low, high)), [Bound("gender", "RD", largest)])
    assert [finding.outcome for finding in verdict.findings] == [outcome]


def test_the_point_decides_nothing():
    # value 0.29 is below the bound, the interval is not; value 0.31 is above it, the interval is not
    for value, low, high in ((0.29, 0.1, 0.4), (0.31, 0.1, 0.4)):
        assert judge(run_of(rd(value, low, high)), [Bound("gender", "RD", 0.3)]).outcome == "caveated"


GOOD, BAD, UNSURE = rd(0.1, 0.0, 0.2), rd(0.9, 0.8, 1.0, "TV"), rd(0.3, 0.2, 0.4, "MR")
PASSED, FAILED, OPEN = Bound("gender", "RD", 0.3), Bound("gender", "TV", 0.3), Bound("gender", "MR", 0.3)
ABSENT = Bound("gender", "RD_corrected", 0.3)


@pytest.mark.parametrize(
    ("bounds", "caveats", "outcome", "code"),
    [
        ([PASSED], (), "pass", 0),
        ([PASSED], ("look out",), "caveated", 3),
        ([PASSED, OPEN], (), "caveated", 3),
        ([PASSED, OPEN, ABSENT], (), "undefined", 4),
        ([PASSED, ABSENT], ("look out",), "undefined", 4),
        ([PASSED, OPEN, ABSENT, FAILED], ("look out",), "fail", 1),
        ([FAILED], ("look out",), "fail", 1),
    ],
)
def test_the_worst_known_thing_decides(bounds, caveats, outcome, code):
    verdict = judge(run_of(GOOD, BAD, UNSURE, caveats=caveats), bounds)
    assert (verdict.outcome, verdict.exit_code) == (outcome, code)
    assert verdict.caveats == caveats
    assert [finding.bound for finding in verdict.findings] == bounds


def test_another_attribute_is_another_bound():
    finding = judge(run_of(GOOD), [Bound("race", "RD", 0.3)]).findings[0]
    assert (finding.outcome, finding.estimate) == ("undefined", None)


def test_captions_and_answers_can_be_bound(audit):
    # plain: MR_F 0.375 [0.208, 0.583]
    runs, _ = audit
    assert judge(runs[0], [Bound("gender", "MR_F", 0.6)]).outcome == "pass"
    assert judge(runs[0], [Bound("gender", "MR_F", 0.2)]).outcome == "fail"
    run = run_of(GOOD)
    gap = rd(0.5, 0.4, 0.6, "gap")
    answers = dataclasses.replace(ANSWERS, estimates=(rd(0.9, 0.8, 1.0), gap))
    run = dataclasses.replace(run, answers={"gender": answers})
    # RD is that of the pictures, the gap is looked up among the answers
    found = judge(run, [PASSED, Bound("gender", "gap", 0.3)]).findings
    assert [finding.outcome for finding in found] == ["pass", "fail"]


def test_a_gate_without_bounds_is_refused():
    with pytest.raises(BadInputError, match="at least one"):
        judge(run_of(GOOD), [])


@pytest.mark.parametrize("largest", [math.nan, math.inf, -math.inf])
def test_a_bound_that_is_not_finite_is_refused(largest):
    with pytest.raises(BadInputError, match=f"got {largest}; allowed: a finite number"):
        Bound("gender", "RD", largest)


def _answers():
    from evenhand.records import ScoredAnswers

    return ScoredAnswers({}, "gender", ("male", "female"), (), (), (), (), {}, {})


ANSWERS = _answers()
