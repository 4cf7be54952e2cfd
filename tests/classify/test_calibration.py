"""Temperature, calibration error, band and refusal, each against a number worked out by hand or simulated."""

from math import log, nan

import numpy as np
import pytest
from scipy.special import softmax

from evenhand.classify.calibration import (
    FitReport,
    abstain_band,
    expected_calibration_error,
    fit_temperature,
    measure_fit,
    require_trained,
)
from evenhand.errors import ArtefactError, BadInputError, TooFewSamplesError

GOOD = FitReport(accuracy=0.9, ece=0.03, temperature=1.5, train=700, held_out=150, majority=0.6, calibration=150)


def test_temperature_by_hand():
    # Four answers of logits (2, 0), three right: the best share of group 0 is 3/4, so 2 / T = log 3.
    logits, labels = np.array([[2.0, 0.0]] * 4), np.array([0, 0, 0, 1])
    assert fit_temperature(logits, labels) == pytest.approx(2 / log(3), rel=1e-6)


def test_temperature_is_that_of_the_simulation():
    # Labels drawn from softmax(logits / 2.5), three groups: 2.5 is found again (standard error about 0.05).
    random = np.random.default_rng(0)
    logits = random.normal(size=(20_000, 3)) * 4
    shares = softmax(logits / 2.5, axis=1)
    labels = (shares.cumsum(axis=1) < random.random((20_000, 1))).sum(axis=1)
    assert fit_temperature(logits, labels) == pytest.approx(2.5, abs=0.15)


def test_temperature_stays_in_its_range():
    logits = np.array([[1.0, 0.0], [0.0, 1.0]])
    assert fit_temperature(logits, np.array([0, 1])) == 0.05  # always right: the colder the better
    assert fit_temperature(logits, np.array([1, 0])) == 20.0  # always wrong: the hotter the better


def test_a_shift_of_all_logits_changes_nothing():
    random = np.random.default_rng(1)
    logits, labels = random.normal(size=(50, 2)), random.integers(0, 2, 50)
    shifted = logits + random.normal(size=(50, 1)) * 100
    assert fit_temperature(shifted, labels) == pytest.approx(fit_temperature(logits, labels), rel=1e-6)


def test_calibration_error_by_hand():
    # Two bins: (0, .5] holds nothing; (.5, 1] holds .6 wrong, .8 right, .9 right, .9 right: |3/4 - 0.8| = 0.05.
    shares = np.array([[0.6, 0.4], [0.8, 0.2], [0.1, 0.9], [0.9, 0.1]])
    labels = np.array([1, 0, 1, 0])
    assert expected_calibration_error(shares, labels, bins=2) == pytest.approx(0.05)
    # Ten bins: .6 in (.5, .6] wrong gives .6 / 4; .8 right gives .2 / 4; two .9 right give .2 / 4.
    assert expected_calibration_error(shares, labels, bins=10) == pytest.approx((0.6 + 0.2 + 0.2) / 4)


def test_calibration_error_is_one_for_a_sure_liar():
    assert expected_calibration_error(np.array([[1.0, 0.0]] * 3), np.array([1, 1, 1])) == pytest.approx(1)


def test_band_by_hand():
    # Certainties .9 right, .7 right, .5 wrong, .3 right: kept .9 -> 1, .7 -> 1, .5 -> 2/3, .3 -> 3/4.
    top = np.array([0.95, 0.85, 0.75, 0.65])
    shares, labels = np.stack([top, 1 - top], axis=1), np.array([0, 0, 1, 0])
    assert abstain_band(shares, labels, accuracy=1.0) == pytest.approx(0.7)
    assert abstain_band(shares, labels, accuracy=0.75) == 0.0
    assert abstain_band(shares[2:3], labels[2:3], accuracy=0.5) is None


def test_band_keeps_equally_certain_answers_together():
    # Two answers of certainty .6, one right and one wrong: neither can be kept alone.
    shares = np.array([[0.8, 0.2], [0.8, 0.2]])
    assert abstain_band(shares, np.array([0, 1]), accuracy=0.9) is None


def test_report_of_logits_by_hand():
    # 3 of 4 right; the commonest label is 1 with 2... of 4 -> labels 0, 1, 1, 1: majority 3/4.
    logits = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
    report = measure_fit(logits, np.array([0, 1, 1, 1]), temperature=1.0, train=10, calibration=5)
    assert (report.accuracy, report.majority, report.held_out, report.train) == (0.75, 0.75, 4, 10)
    assert report.ece == pytest.approx(abs(0.75 - 1 / (1 + np.exp(-1))))


def test_report_goes_through_a_dict():
    assert FitReport.from_dict(GOOD.to_dict()) == GOOD


@pytest.mark.parametrize(
    "broken",
    [None, {}, {**GOOD.to_dict(), "extra": 1}, {**GOOD.to_dict(), "train": 0.5}, {**GOOD.to_dict(), "ece": "0"}],
)
def test_a_broken_report_is_refused(broken: object):
    with pytest.raises(ArtefactError):
        FitReport.from_dict(broken)


def test_trained_passes():
    require_trained(GOOD, "x")


@pytest.mark.parametrize(
    "change",
    [{"accuracy": 0.6}, {"accuracy": 0.4}, {"ece": 0.16}, {"ece": nan}, {"accuracy": nan}, {"held_out": 0},
     {"train": 0},
     {"temperature": 0.0}, {"accuracy": 1.2}, {"majority": nan}],
)  # fmt: skip
def test_no_better_than_guessing_or_miscalibrated_is_refused(change: dict[str, float]):
    with pytest.raises(ArtefactError, match="the signal"):
        require_trained(FitReport.from_dict({**GOOD.to_dict(), **change}), "the signal")


def test_never_fitted_is_refused():
    with pytest.raises(ArtefactError, match="never fitted"):
        require_trained(None, "x")


def test_unusable_values_are_refused():
    with pytest.raises(TooFewSamplesError):
        fit_temperature(np.empty((0, 2)), np.empty(0, dtype=int))
    with pytest.raises(BadInputError, match="NaN"):
        fit_temperature(np.array([[nan, 0.0]]), np.array([0]))
    with pytest.raises(BadInputError, match="labels"):
        fit_temperature(np.array([[1.0, 0.0]]), np.array([2]))
    with pytest.raises(BadInputError, match="sum to 1"):
        expected_calibration_error(np.array([[2.0, 0.0]]), np.array([0]))
