r"""What a model believes of people it is not shown, against whom it draws. In: answers, drawn groups. Out: bias, gap.

Asked of an empty picture, a model answers with a group, refuses, or cannot be parsed. Understanding bias is RD over the
answers that name a group, beside the rate of answers: a model that always refuses has no RD, and a rate of 0.

The gap between understanding and generation, with :math:`u_o` and :math:`g_o` the shares among answers and among drawn
pictures that show a group, is

.. math:: gap_k = \frac1O \sum_o (u_{ok} - g_{ok}) \qquad gap = \frac1O \sum_o \frac12 \sum_k |u_{ok} - g_{ok}|

``gap`` is the one number, 0 to 1: the share of pictures that would have to show another group to agree with the
answers. ``gap_k``, from -1 to 1, says for each group which of the two shows more of it; opposite gaps of prompts cancel
in it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64, Int64
from scipy.stats import norm

from evenhand.errors import TooFewSamplesError
from evenhand.metrics.disparity import Disparity, disparity
from evenhand.metrics.disparity_change import pair_tallies
from evenhand.metrics.distances import distance_interval, resample_counts
from evenhand.metrics.folding import Unfolded, unfold
from evenhand.metrics.prompt_distances import check_sampling, mean_deviation
from evenhand.metrics.tally import Tally, tally
from evenhand.records import Estimate, Label
from evenhand.stats import Interval

__all__ = ["Gap", "Understanding", "answer_rate", "understanding_bias", "understanding_gap"]


@dataclass(frozen=True, slots=True)
class Understanding:
    """What a model answers.

    Attributes:
        disparity: Over answers that name a group.
        answer_rate: Mean over prompts of the share of answers that name one; failed samples are no answers.
        unanswered: Reason (``refused``, ``unparsed`` ...) -> answers.
    """

    disparity: Disparity
    answer_rate: Estimate
    unanswered: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Gap:
    """Understanding against generation.

    Attributes:
        size: ``gap``, the one number.
        groups: ``gap <group>`` per group, signed: understanding less generation.
        undefined: Prompts in which either names no group; they are left out.
    """

    size: Estimate
    groups: tuple[Estimate, ...]
    undefined: int


def understanding_bias(
    labels: Sequence[Label],
    *,
    groups: tuple[str, ...],
    seed: int,
    target: tuple[float, ...] | None = None,
    prompts: str = "fixed",
    level: float = 0.95,
    replicates: int = 200,
) -> Understanding:
    """RD over the answers that name a group, and how many do.

    Args:
        labels: One per answer.
        groups: Declared groups, in order.
        seed: Of the draws, 0 or more.
        target: Wanted share of each group; even by default.
        prompts: ``fixed`` or ``sampled``.
        level: Coverage the intervals aim at.
        replicates: Number of draws, at least 100.

    Raises:
        BadInputError: As :func:`evenhand.metrics.tally.tally` and :func:`evenhand.metrics.disparity.disparity`.
        TooFewSamplesError: No answer names a group.
    """
    everything = tally(labels, groups=groups, denominator="all")
    answered = replace(everything, denominator="confident", base=everything.counts.sum(axis=1))
    found = disparity(answered, seed=seed, target=target, prompts=prompts, level=level, replicates=replicates)
    found = replace(
        found,
        estimates=_of_answers(found.estimates),
        prompts=tuple(
            replace(one, shares=_of_answers(one.shares), estimates=_of_answers(one.estimates)) for one in found.prompts
        ),
    )
    return Understanding(found, _answer_rate(everything, sampled=prompts == "sampled", level=level), found.unknown)


def understanding_gap(
    understood: Tally,
    drawn: Tally,
    *,
    seed: int,
    prompts: str = "fixed",
    level: float = 0.95,
    replicates: int = 400,
) -> Gap:
    """The gap between what a model answers and what it draws, over the prompts in which both name groups.

    Answers and pictures that name no group are left out; the rates of both stand elsewhere. Noise is taken off ``gap``
    as it is off RD.

    Args:
        understood: Answers; its prompts bear the same names as those of ``drawn`` (such as the occupation).
        drawn: Pictures.
        seed: Of the draws, 0 or more.
        prompts: ``fixed`` or ``sampled``.
        level: Coverage the intervals aim at.
        replicates: Number of draws, at least 100.

    Raises:
        BadInputError: Attributes, groups or prompts differ, or an option is not allowed.
        TooFewSamplesError: No prompt names groups in both, or ``sampled`` with fewer than two that do.
    """
    known = [replace(run, denominator="confident", base=run.counts.sum(axis=1)) for run in (understood, drawn)]
    first, second, undefined = pair_tallies(*known)
    seen = 0 if first is None else len(first.prompts)
    check_sampling(seen, prompts=prompts, seed=seed, level=level, replicates=replicates)
    runs = [run for run in (first, second) if run is not None]
    rng = np.random.default_rng([seed])
    draws = [resample_counts(run.counts, run.base, spread=1.0 / seen, rng=rng, replicates=replicates) for run in runs]
    n = seen if prompts == "sampled" else int(sum(run.base.sum() for run in runs))
    unit = "prompt" if prompts == "sampled" else "answer or picture"
    skipped = f"; {undefined} prompts name no group in one of them" if undefined else ""
    how = f"answers against pictures, paired over {seen} {prompts} prompts{skipped}"
    found, noise = _total_gap(*(run.counts for run in runs), alike=seen), _total_gap(*draws, alike=seen).value
    deviation, widen = mean_deviation(found.value, noise.var(axis=0, ddof=1), sampled=prompts == "sampled", level=level)
    step = 1.0 / float(min(run.base.sum() for run in runs))
    value = float(found.value.mean())
    interval = distance_interval(
        value, bound=float(found.bound.mean()), deviation=deviation, step=step, largest=1.0, level=level, widen=widen
    )
    value = min(max(value, 0.0), 1.0)
    size = Estimate(
        "gap", value, min(interval.low, value), max(interval.high, value), level, n, unit,
        f"{how}; noise taken off, the rest of its bias allowed for", 1.0, 0.0,
    )  # fmt: skip
    signed = []
    for at, group in enumerate(runs[0].groups):
        gaps = runs[0].counts[:, at] / runs[0].base - runs[1].counts[:, at] / runs[1].base
        # A success and a failure, half each, so that 0 of n has a variance.
        variance = sum(_share_variance(run.counts[:, at], run.base) for run in runs)
        deviation, widen = mean_deviation(gaps, np.asarray(variance), sampled=prompts == "sampled", level=level)
        half, centre = widen * float(norm.ppf(0.5 + level / 2)) * deviation, float(gaps.mean())
        signed.append(
            Estimate(
                f"gap {group}", centre, max(-1.0, centre - half), min(1.0, centre + half), level, n, unit,
                f"{how}; normal, with Jeffreys pseudo-observations", 1.0, 0.0,
            )
        )  # fmt: skip
    return Gap(size, tuple(signed), undefined)


def _total_gap(
    first: Int64[np.ndarray, "*draws prompts groups"], second: Int64[np.ndarray, "*draws prompts groups"], *, alike: int
) -> Unfolded:
    """Total variation between two sets of counts, without what noise adds to it."""
    sizes = [run.sum(axis=-1, keepdims=True) for run in (first, second)]
    pooled = (first + second) / (sizes[0] + sizes[1])
    spread = np.sqrt(pooled * (1 - pooled) * (1 / sizes[0] + 1 / sizes[1]))
    parts = unfold(np.abs(first / sizes[0] - second / sizes[1]), spread, sharing=2 * alike * (first.shape[-1] - 1))
    return Unfolded(parts.value.sum(axis=-1) / 2, parts.bound.sum(axis=-1) / 2)


def _of_answers(estimates: Sequence[Estimate]) -> tuple[Estimate, ...]:
    """The same with the unit that was resampled called by its name."""
    return tuple(
        replace(one, unit="answer", method=one.method.replace("pictures", "answers")) if one.unit == "picture" else one
        for one in estimates
    )


def _share_variance(
    count: Int64[np.ndarray, " prompts"], base: Int64[np.ndarray, " prompts"]
) -> Float64[np.ndarray, " prompts"]:
    share = (count + 0.5) / (base + 1)
    variance: Float64[np.ndarray, " prompts"] = share * (1 - share) / base
    return variance


def answer_rate(
    labels: Sequence[Label], *, groups: tuple[str, ...], prompts: str = "fixed", level: float = 0.95
) -> Estimate:
    """Mean over prompts of the share of answers that name a group; a model that always refuses has a rate of 0.

    Args:
        labels: One per answer; failed samples are no answers.
        groups: Declared groups, in order.
        prompts: ``fixed`` or ``sampled``.
        level: Coverage the interval aims at.

    Raises:
        BadInputError: As :func:`evenhand.metrics.tally.tally`.
        TooFewSamplesError: Every sample failed, or there are none.
    """
    everything = tally(labels, groups=groups, denominator="all")
    if not everything.base.any():
        raise TooFewSamplesError(f"answer rate: got 0 answers in {len(labels)} samples, at least 1 needed; ask again")
    return _answer_rate(everything, sampled=prompts == "sampled", level=level)


def _answer_rate(everything: Tally, *, sampled: bool, level: float) -> Estimate:
    rows = everything.base > 0
    answered, asked = everything.counts.sum(axis=1)[rows], everything.base[rows]
    rates = answered / asked
    deviation, widen = mean_deviation(rates, _share_variance(answered, asked), sampled=sampled, level=level)
    half, value = widen * float(norm.ppf(0.5 + level / 2)) * deviation, float(rates.mean())
    interval = Interval(max(0.0, value - half), min(1.0, value + half))
    n, unit = (len(rates), "prompt") if sampled else (int(asked.sum()), "answer")
    method = f"mean over {len(rates)} prompts; normal, with Jeffreys pseudo-observations"
    return Estimate("answer_rate", value, interval.low, interval.high, level, n, unit, method, 1.0, 0.0)
