"""How far a classifier can be believed. In: logits or shares with labels. Out: a temperature, errors, a band, a report.

Every signal of ALA compares shares of groups with one another, so a share of 0.8 must be right 8 times in 10. The
figures are always taken on texts or pictures that were not trained on.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from math import isfinite

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import brentq
from scipy.special import softmax

from evenhand.errors import ArtefactError, BadInputError, TooFewSamplesError

__all__ = [
    "FitReport",
    "abstain_band",
    "expected_calibration_error",
    "fit_temperature",
    "measure_fit",
    "require_trained",
]

_COLDEST, _HOTTEST = 0.05, 20.0
_LARGEST_ERROR = 0.15
"""ECE above which a signal is refused: its shares are then wrong by more than 15 points on average."""


@dataclass(frozen=True, slots=True)
class FitReport:
    """How good a fitted signal is on data it was not fitted on.

    Attributes:
        accuracy: Share of the held-out data whose top group is the label, in [0, 1].
        ece: Expected calibration error there, in [0, 1]; 0 is calibrated.
        temperature: What the logits are divided by.
        train: Texts or pictures fitted on.
        held_out: Texts or pictures that ``accuracy`` and ``ece`` are measured on.
        majority: Accuracy of always saying the commonest group of the held-out data.
        calibration: Texts or pictures the temperature was fitted on; 0 where it was not fitted.
    """

    accuracy: float
    ece: float
    temperature: float
    train: int
    held_out: int
    majority: float
    calibration: int = 0

    def to_dict(self) -> dict[str, float | int]:
        """JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: object) -> "FitReport":
        """The report that ``to_dict`` wrote.

        Raises:
            ArtefactError: A figure is absent, unknown, or not a number.
        """
        known = {field.name: field.type for field in fields(cls)}
        if not isinstance(values, Mapping) or not set(known) - {"calibration"} <= set(values) <= set(known):
            got = sorted(map(str, values)) if isinstance(values, Mapping) else type(values).__name__
            raise ArtefactError(f"fit report: got {got}; it needs {', '.join(known)}; fit the signal again.")
        for name, value in values.items():
            whole = name in ("train", "held_out", "calibration")
            if type(value) not in ((int,) if whole else (int, float)):
                kind = "a whole number" if whole else "a number"
                raise ArtefactError(f"fit report: {name} is {value!r}; it must be {kind}; fit the signal again.")
        return cls(**values)


def fit_temperature(logits: Float[np.ndarray, "n groups"], labels: Int[np.ndarray, " n"]) -> float:
    r"""The temperature at which shares = softmax(logits / T) fit held-out labels best.

    Minimises the mean negative log-likelihood over T in [0.05, 20]. It is convex in 1/T, so the root of its
    derivative, :math:`\frac{1}{n}\sum_i (E_{p_i}[\ell_i] - \ell_{i,y_i})`, is the minimum; where there is none the
    nearer end is returned. Guo et al. 2017, "On Calibration of Modern Neural Networks", section 4.2.

    Raises:
        BadInputError: Shapes, labels or values are not usable.
        TooFewSamplesError: There is nothing to fit on.
    """
    _check(logits, labels, "logits")
    scores = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    right = scores[np.arange(len(labels)), labels]

    def slope(inverse: float) -> float:
        return float(((softmax(scores * inverse, axis=1) * scores).sum(axis=1) - right).mean())

    if slope(1 / _HOTTEST) >= 0:
        return _HOTTEST
    if slope(1 / _COLDEST) <= 0:
        return _COLDEST
    return float(1 / brentq(slope, 1 / _HOTTEST, 1 / _COLDEST, xtol=1e-10))


def expected_calibration_error(
    shares: Float[np.ndarray, "n groups"], labels: Int[np.ndarray, " n"], *, bins: int = 15
) -> float:
    r"""Mean gap between how sure the top group is and how often it is right.

    .. math:: \sum_b \frac{n_b}{n} |\mathrm{accuracy}_b - \mathrm{confidence}_b|

    over equal-width bins (lower, upper] of the top share. Range 0 (calibrated) to 1. Guo et al. 2017, equation 3.

    Raises:
        BadInputError: Shapes, labels or values are not usable, or ``bins`` < 1.
        TooFewSamplesError: There are no samples.
    """
    _check_shares(shares, labels)
    if bins < 1:
        raise BadInputError(f"bins: got {bins}; allowed: a whole number from 1 on, for example 15.")
    top = shares.max(axis=1).astype(np.float64)
    right = shares.argmax(axis=1) == labels
    place = np.clip(np.ceil(top * bins).astype(int) - 1, 0, bins - 1)
    gap = np.bincount(place, weights=right - top, minlength=bins)
    return float(np.abs(gap).sum() / len(labels))


def abstain_band(
    shares: Float[np.ndarray, "n groups"], labels: Int[np.ndarray, " n"], *, accuracy: float
) -> float | None:
    """The smallest certainty from which on the answers have the wanted accuracy.

    Certainty is top share minus runner-up, |s| for two groups; answers below the band are not to be used. 0 where
    all of them together are accurate enough, None where no threshold gives the accuracy.

    Raises:
        BadInputError: ``accuracy`` is outside (0, 1], or shapes, labels or values are not usable.
        TooFewSamplesError: There are no samples.
    """
    _check_shares(shares, labels)
    if not 0 < accuracy <= 1:
        raise BadInputError(f"accuracy: got {accuracy}; allowed: a number in (0, 1], for example 0.95.")
    ordered = np.sort(shares.astype(np.float64), axis=1)
    certainty = ordered[:, -1] - ordered[:, -2]
    order = np.argsort(-certainty, kind="stable")
    right = (shares.argmax(axis=1) == labels)[order]
    kept = np.cumsum(right) / np.arange(1, len(right) + 1)
    if kept[-1] >= accuracy:
        return 0.0
    sure = certainty[order]
    whole = np.append(sure[:-1] > sure[1:], True)  # a threshold keeps all answers that are equally certain
    good = np.flatnonzero(whole & (kept >= accuracy))
    return float(sure[good[-1]]) if len(good) else None


def measure_fit(
    logits: Float[np.ndarray, "n groups"],
    labels: Int[np.ndarray, " n"],
    *,
    temperature: float,
    train: int,
    calibration: int,
) -> FitReport:
    """The report of a signal from its logits on held-out data.

    Args:
        logits: Of the held-out data, before the temperature.
        labels: Index of each one's group.
        temperature: Fitted on other data, with ``fit_temperature``.
        train: How many the signal was fitted on.
        calibration: How many the temperature was fitted on.
    """
    _check(logits, labels, "logits")
    if not isfinite(temperature) or temperature <= 0:
        raise BadInputError(f"temperature: got {temperature}; allowed: a number above 0.")
    shares = softmax(logits.astype(np.float64) / temperature, axis=1)
    return FitReport(
        accuracy=float((shares.argmax(axis=1) == labels).mean()),
        ece=expected_calibration_error(shares, labels),
        temperature=float(temperature),
        train=train,
        held_out=len(labels),
        majority=float(np.bincount(labels).max() / len(labels)),
        calibration=calibration,
    )


def require_trained(report: FitReport | None, name: str) -> None:
    """Do nothing if a signal was fitted and is better than guessing.

    Raises:
        ArtefactError: There are no figures, one is NaN or out of range, the accuracy is not above always saying the
            commonest group, or the calibration error is above 0.15.
    """
    if report is None:
        raise ArtefactError(
            f"{name} was never fitted, so what it says means nothing; fit it (evenhand mitigate ala-fit)."
        )
    figures = report.to_dict()
    wrong = [key for key, value in figures.items() if not isfinite(value) or value < 0]
    wrong += [key for key in ("accuracy", "ece", "majority") if figures[key] > 1]
    if wrong or report.temperature <= 0 or report.held_out < 1 or report.train < 1:
        raise ArtefactError(f"{name}: its report holds {figures}; every figure must be known; fit it again.")
    if report.accuracy <= report.majority:
        raise ArtefactError(
            f"{name} is right on {report.accuracy:.3f} of {report.held_out} held-out examples; always saying the "
            f"commonest group is right on {report.majority:.3f}. Fit it on more or better examples."
        )
    if report.ece > _LARGEST_ERROR:
        raise ArtefactError(
            f"{name} has a calibration error of {report.ece:.3f} on {report.held_out} held-out examples; allowed: at "
            f"most {_LARGEST_ERROR}. Fit it on more examples, or on ones like those it will see."
        )


def _check_shares(shares: np.ndarray, labels: np.ndarray) -> None:
    _check(shares, labels, "shares")
    if shares.min() < 0 or np.abs(shares.sum(axis=1) - 1).max() > 1e-3:
        raise BadInputError("shares: each row must be in [0, 1] and sum to 1; take the softmax of the logits.")


def _check(values: np.ndarray, labels: np.ndarray, name: str) -> None:
    if not len(labels):
        raise TooFewSamplesError(f"{name}: got no examples; at least one is needed.")
    if values.ndim != 2 or values.shape[1] < 2 or labels.shape != values.shape[:1]:
        raise BadInputError(
            f"{name}: got shape {values.shape} with labels {labels.shape}; allowed: (n, groups) with two groups or "
            "more, and (n,)."
        )
    if not np.isfinite(values).all():
        raise BadInputError(f"{name}: NaN or infinity; every value must be finite.")
    if labels.min() < 0 or labels.max() >= values.shape[1]:
        raise BadInputError(f"labels: got {labels.min()} to {labels.max()}; allowed: 0 to {values.shape[1] - 1}.")
