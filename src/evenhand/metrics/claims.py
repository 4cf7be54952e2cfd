r"""How good the picture signal's claims are. In: claims and declared groups. Out: coverage, accuracy, calibration.

No alignment to pictures is better than what the signal knows: of the pictures that were looked at, at most
``claim_right`` (a claim was made and it names the declared group) can end up right *because of* it.
"""

from collections.abc import Sequence
from math import isfinite, nan

import numpy as np
from jaxtyping import Float64

from evenhand.errors import BadInputError, TooFewSamplesError
from evenhand.metrics.draws import bootstrap_method, drawn_estimate, resample_sums
from evenhand.records import Claim, Estimate
from evenhand.stats import Event, resample_rates

__all__ = ["claim_quality", "claimed_group"]


def claimed_group(claim: Claim, groups: tuple[str, ...]) -> tuple[str, float] | None:
    """The group a claim names and its share, in [0, 1]; None where it makes no claim.

    With ``shares`` the largest, the earlier group where two are the same; else, for two groups, the side of ``s`` with
    share ``(1 + |s|) / 2``. No ``s``, ``s = 0`` without shares, or a target that is neutral by design name no group.

    Raises:
        BadInputError: Shares that are not one per group and of sum 1, ``s`` outside [-1, 1], or more than two groups
            without shares.
    """
    if claim.s is None or claim.reason == "neutral":
        return None
    if claim.shares is not None:
        usable = len(claim.shares) == len(groups) and all(isfinite(share) and share >= 0 for share in claim.shares)
        if not usable or abs(sum(claim.shares) - 1.0) > 1e-3:
            raise BadInputError(
                f"claim: got the shares {claim.shares}, allowed: one per group of {', '.join(groups)}, of sum 1"
            )
        best = max(range(len(groups)), key=lambda index: claim.shares[index] if claim.shares else 0.0)
        return groups[best], min(1.0, claim.shares[best])
    if len(groups) != 2 or not isfinite(claim.s) or abs(claim.s) > 1:
        raise BadInputError(
            f"claim: got s = {claim.s} and no shares for {len(groups)} groups; allowed: s in [-1, 1] for two groups, "
            "shares for more"
        )
    return (groups[0] if claim.s > 0 else groups[1], (1 + abs(claim.s)) / 2) if claim.s else None


def claim_quality(
    claims: Sequence[Claim | None],
    truth: Sequence[str],
    unit: Sequence[str],
    *,
    groups: tuple[str, ...],
    unit_name: str,
    seed: int,
    bins: int = 15,
    level: float = 0.95,
    replicates: int = 4000,
) -> tuple[Estimate, ...]:
    r"""Coverage, accuracy and calibration of the claims against the declared groups.

    .. math:: ECE = \frac{1}{n} \sum_{b} \left| \sum_{i \in b} (right_i - share_i) \right|

    over bins of the share of the claimed group, of equal width on (0, 1] (Guo et al. 2017, arXiv 1706.04599). Range 0
    (as often right as it says) to 1. With few claims ECE is biased upwards, and its interval with it.

    Args:
        claims: Per picture; None where the signal was not asked, because no gate opened.
        truth: Declared group per picture.
        unit: Independent unit of each picture.
        groups: Declared groups, in order.
        unit_name: What a unit is: ``picture`` or ``scene``.
        seed: Of the draws, 0 or more.
        bins: Number of bins of the share, 1 or more.
        level: Coverage the intervals aim at.
        replicates: Number of draws.

    Returns:
        ``claim_asked`` (over all pictures), ``claim_coverage`` and ``claim_right`` (over those asked),
        ``claim_accuracy`` and ``claim_ece`` (over those with a claim). Without a base a figure is NaN and ``method``
        says why.

    Raises:
        BadInputError: Lengths differ, an undeclared group, an impossible claim, or an option that is not allowed.
        TooFewSamplesError: No pictures, or fewer than two units.
    """
    if not len(claims) == len(truth) == len(unit) or bins < 1:
        raise BadInputError(
            f"columns: got {len(claims)} claims, {len(truth)} groups, {len(unit)} units, {bins} bins; give one of each "
            "per picture and at least 1 bin"
        )
    unknown = sorted(set(truth) - set(groups))
    if unknown:
        raise BadInputError(f"declared group: got {unknown[0]!r}, allowed: {', '.join(groups)}; correct the column")
    if not claims:
        raise TooFewSamplesError("claims cannot be judged: got 0 pictures, at least 2 are needed; add pictures")
    named = [None if claim is None else claimed_group(claim, groups) for claim in claims]
    asked = np.array([claim is not None for claim in claims], dtype=np.bool_)
    made = np.array([name is not None for name in named], dtype=np.bool_)
    right = np.array([name is not None and name[0] == group for name, group in zip(named, truth, strict=True)])
    share = np.array([0.0 if name is None else name[1] for name in named])
    estimates = []
    for name, hit, base in (
        ("claim_asked", asked, np.ones(len(asked), dtype=np.bool_)),
        ("claim_coverage", made, asked),
        ("claim_right", right, asked),
        ("claim_accuracy", right, made),
    ):
        if not base.any():
            estimates.append(_undefined(name, level, unit_name))
            continue
        (rate,) = resample_rates([Event(name, hit, base)], unit, seed=seed, replicates=replicates)
        method = bootstrap_method(rate.n, unit_name, replicates, pseudo=True)
        estimates.append(
            drawn_estimate(
                name, rate.value, rate.draws, level=level, n=rate.n, unit_name=unit_name, method=method, largest=1.0
            )
        )
    if not made.any():
        return (*estimates, _undefined("claim_ece", level, unit_name))
    columns = _bin_columns(share, np.where(made, right - share, 0.0), made, bins)
    sums = resample_sums(columns, unit, seed=seed, replicates=replicates)
    drawn = np.vstack([sums.value, sums.draws])
    errors = np.abs(drawn[:, :-1]).sum(axis=1) / np.maximum(drawn[:, -1], np.finfo(np.float64).tiny)
    n = len({one for one, kept in zip(unit, made, strict=True) if kept})
    method = bootstrap_method(n, unit_name, replicates)
    estimates.append(
        drawn_estimate(
            "claim_ece",
            float(errors[0]),
            np.minimum(1.0, errors[1:]),
            level=level,
            n=n,
            unit_name=unit_name,
            method=method,
            largest=1.0,
        )
    )
    return tuple(estimates)


def _bin_columns(
    share: Float64[np.ndarray, " rows"],
    error: Float64[np.ndarray, " rows"],
    made: np.ndarray,
    bins: int,
) -> Float64[np.ndarray, "rows columns"]:
    """Each row's right - share in the column of its bin, and a last column that counts claims."""
    bin_of = np.clip(np.ceil(share * bins).astype(np.int64) - 1, 0, bins - 1)
    columns = np.zeros((len(share), bins + 1))
    columns[np.arange(len(share)), bin_of] = error
    columns[:, -1] = made
    return columns


def _undefined(name: str, level: float, unit_name: str) -> Estimate:
    why = "no signal was asked" if name in ("claim_coverage", "claim_right") else "no claim was made"
    return Estimate(name, nan, nan, nan, level, 0, unit_name, f"undefined: {why}", 1.0, 0.0)
