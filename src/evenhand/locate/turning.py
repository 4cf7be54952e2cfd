r"""What becomes of a group between codes and picture. In: likelihoods, labels. Out: labels of codes, what is turned.

A decoder knows no prompt: what it makes of codes that stand for a group is the same whoever was asked for. So its
effect is measured on codes in which every group is as frequent as wanted: with :math:`C_{de}` the share of pictures
that show e among those whose codes stand for d, and t the target,

.. math:: change_e = \sum_d t_d C_{de} - t_e \qquad size = \tfrac12 \sum_e |change_e|

Flips that go both ways alike (a classifier's noise) change nothing.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from evenhand.errors import BadInputError, TooFewSamplesError
from evenhand.records import Estimate, Label
from evenhand.stats import percentile_interval

__all__ = ["FEWEST", "NOBODYS", "UNCLEAR", "Turning", "label_codes", "responsible", "turn_table", "turning"]

UNCLEAR, NOBODYS = "unclear", "no group's prompt draws it"
"""Reasons of codes that no group is responsible for with enough probability, and of those impossible under all."""

FEWEST = 20
"""Pictures of each group that a decoder's effect needs."""

_DRAWS = 4000


@dataclass(frozen=True, slots=True)
class Turning:
    """What a decoder, or whoever reads its pictures, does to groups.

    Attributes:
        size: Share of pictures that would have to show another group to be even again, in [0, 1].
        changes: Group -> change of its share, in [-1, 1].
    """

    size: Estimate
    changes: Mapping[str, Estimate]


def responsible(
    log_probs: Float64[np.ndarray, "pictures groups"],
) -> Float64[np.ndarray, "pictures groups"]:
    """Probability of each group's prompt, given a picture and an even prior; rows sum to 1.

    Args:
        log_probs: Of each picture under each group's prompt, sums over codes, in nats.

    Raises:
        BadInputError: A picture is impossible under every prompt, or NaN.
    """
    top = log_probs.max(axis=1, keepdims=True)
    if not np.isfinite(top).all():
        raise BadInputError("log_probs: a picture is impossible under every group's prompt, or NaN; leave it out.")
    odds = np.exp(log_probs - top)
    shares: Float64[np.ndarray, "pictures groups"] = odds / odds.sum(axis=1, keepdims=True)
    return shares


def label_codes(
    likelihoods: Mapping[tuple[str, int], Float64[np.ndarray, "conditions codes"]],
    groups: tuple[str, ...],
    *,
    attribute: str,
    min_confidence: float,
) -> tuple[Label, ...]:
    """The group whose prompt most likely drew each picture, by its codes alone; below a confidence ``unclear``.

    Args:
        likelihoods: (prompt id, k) -> log-probabilities, first the neutral prompt's, then each group's.
        groups: Of the rows behind the first.
        attribute: Its name.
        min_confidence: Smallest probability of a group; 0 names one always.
    """
    labels = []
    for (prompt_id, k), rows in likelihoods.items():
        sums = rows[1:].sum(axis=1)
        if not np.isfinite(sums).any():
            labels.append(Label(prompt_id, k, attribute, None, NOBODYS, 0.0))
            continue
        (row,) = responsible(sums[None])
        best = int(row.argmax())
        sure = float(row[best]) >= min_confidence
        group, reason = (groups[best], None) if sure else (None, UNCLEAR)
        labels.append(Label(prompt_id, k, attribute, group, reason, float(row[best])))
    return tuple(labels)


def turn_table(before: Sequence[Label], after: Sequence[Label]) -> dict[str, dict[str, int]]:
    """What was said first -> what is said of the same samples then -> samples; a group, or the reason for none.

    Samples that only one of both knows are left out.
    """
    then = {(label.prompt_id, label.k): label.group or str(label.reason) for label in after}
    pairs = Counter(
        (label.group or str(label.reason), then[label.prompt_id, label.k])
        for label in before
        if (label.prompt_id, label.k) in then
    )
    found: dict[str, dict[str, int]] = {}
    for (first, second), number in sorted(pairs.items()):
        found.setdefault(first, {})[second] = number
    return found


def turning(
    table: Mapping[str, Mapping[str, int]],
    *,
    groups: tuple[str, ...],
    target: tuple[float, ...],
    seed: int,
    level: float = 0.95,
) -> Turning:
    """The module's formula, with intervals from independent draws of every row (Jeffreys' prior on each).

    Args:
        table: As ``turn_table``; pictures without a group, before or after, are left out.
        groups: In order.
        target: Wanted share of each, same order.
        seed: Of the draws.
        level: Coverage the intervals aim at.

    Raises:
        TooFewSamplesError: Fewer than ``FEWEST`` pictures whose codes stand for a group and that show one.
    """
    counts = np.array([[table.get(one, {}).get(other, 0) for other in groups] for one in groups], dtype=np.float64)
    few = [f"{group} {int(row.sum())}" for group, row in zip(groups, counts, strict=True) if row.sum() < FEWEST]
    if few:
        raise TooFewSamplesError(
            f"pictures by what their codes stand for: got {', '.join(few)}; {FEWEST} of each group are needed; ask for "
            "more of each group."
        )
    wanted, drawn_by = np.array(target), np.random.default_rng([seed])
    value = wanted @ (counts / counts.sum(axis=1, keepdims=True)) - wanted
    draws = np.zeros((_DRAWS, len(groups)))
    for share, row in zip(wanted, counts, strict=True):
        draws += share * drawn_by.dirichlet(row + 0.5, size=_DRAWS)
    draws -= wanted
    n, method = int(counts.sum()), "Jeffreys' prior on what each group's codes become"
    changes, away = {}, 0.0
    # The largest of several changes is away from 0 by chance more often than one; two are one with its sign turned.
    together = level if len(groups) == 2 else 1 - (1 - level) / len(groups)
    for at, group in enumerate(groups):
        ends = percentile_interval(float(value[at]), draws[:, at], level=level)
        changes[group] = Estimate(
            f"change {group}", float(value[at]), ends.low, ends.high, level, n, "picture", method, 1.0, 0.0
        )
        joint = percentile_interval(float(value[at]), draws[:, at], level=together)
        away = max(away, joint.low, -joint.high)
    size = float(np.abs(value).sum() / 2)
    ends = percentile_interval(size, np.abs(draws).sum(axis=1) / 2, level=level)
    # Half the sum of the changes' sizes is at least the largest of them, and one that may be 0 says nothing.
    low = away
    return Turning(Estimate("turned", size, min(low, size), ends.high, level, n, "picture", method, 1.0, 0.0), changes)
