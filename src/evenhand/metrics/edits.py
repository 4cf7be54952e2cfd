r"""How often a mitigation stepped in, and where. In: samples with their edits. Out: rates per token, the gate's hits.

A token counts once however many attributes were at stake there. ``trigger_rate``: tokens at which the gate opened,
whether or not anything was then shifted. ``edited_token_rate``: logits were shifted. ``changed_token_rate``: and
another token came out. All over the generated tokens. ``kl_per_token``: nats by which the distribution of a step was
moved, spread over all generated tokens. ``edited_captions``, ``changed_captions``: captions with such a token.

The gate is judged against the *plain* run: ``gate_recall`` is the share of captions whose words contradicted the
declared group that were edited, ``gate_precision`` the share of edited captions whose plain words contradicted it. A
mitigation that neutralises edits right words too, so its precision is the share of wrong ones among what it takes out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, nan

import numpy as np
from jaxtyping import Bool

from evenhand.errors import BadInputError, TooFewSamplesError
from evenhand.metrics.confusion import confusion
from evenhand.metrics.draws import bootstrap_method, drawn_estimate, resample_sums
from evenhand.records import Edit, Estimate, Sample
from evenhand.stats import Event, Rate, resample_rates

__all__ = ["GateTable", "edit_rates", "gate_quality", "gate_table", "was_edited"]


@dataclass(frozen=True, slots=True)
class GateTable:
    """Captions by what their plain words said, and whether the mitigation edited them.

    Attributes:
        wrong_edited: The plain caption names one group, not the declared one; edited.
        wrong_left: The same; left alone.
        other_edited: Every other plain caption (right, both, neutral, none); edited.
        other_left: The same; left alone.
    """

    wrong_edited: int
    wrong_left: int
    other_edited: int
    other_left: int


@dataclass(frozen=True, slots=True)
class _Counts:
    """Of one sample: tokens generated, opened, edited, changed; KL in nats."""

    tokens: int
    opened: int
    edited: int
    changed: int
    kl: float | None


def edit_rates(
    samples: Sequence[Sample],
    unit: Sequence[str],
    *,
    unit_name: str,
    seed: int,
    attribute: str | None = None,
    level: float = 0.95,
    replicates: int = 4000,
) -> tuple[Estimate, ...]:
    """Rates of open gates, edits and changed tokens, KL per token, and captions touched.

    Rates lie in [0, 1], 0 without a mitigation; KL from 0, without limit. Tokens of one caption are not independent,
    so units are resampled, never tokens. Samples with an error are left out; count them beside.

    Args:
        samples: Of one run.
        unit: Independent unit of each sample, same order.
        unit_name: What a unit is: ``picture`` or ``scene``.
        seed: Of the draws, 0 or more.
        attribute: Count the edits of this attribute only; by default of every one.
        level: Coverage the intervals aim at.
        replicates: Number of draws.

    Returns:
        ``trigger_rate``, ``edited_token_rate``, ``changed_token_rate``, ``edited_captions``, ``changed_captions``,
        ``kl_per_token`` (NaN where the run did not measure it).

    Raises:
        BadInputError: Lengths differ, a model that does not say how many tokens it generated, an edit beyond the last
            token, or a KL divergence that is negative or not finite.
        TooFewSamplesError: No generated tokens, or fewer than two units.
    """
    if len(samples) != len(unit):
        raise BadInputError(f"columns of different length: got {len(samples)} samples and {len(unit)} units; give both")
    kept = [(_count(sample, attribute), one) for sample, one in zip(samples, unit, strict=True) if sample.error is None]
    counts, units = [count for count, _ in kept], [one for _, one in kept]
    if not sum(count.tokens for count in counts):
        raise TooFewSamplesError(f"edit rates are undefined: got 0 generated tokens in {len(samples)} samples")
    token_rates = _token_rates(counts, units, seed=seed, replicates=replicates)
    everyone = np.ones(len(counts), dtype=np.bool_)
    captions = [
        Event(name, np.array(hit, dtype=np.bool_), everyone)
        for name, hit in (
            ("edited_captions", [count.edited > 0 for count in counts]),
            ("changed_captions", [count.changed > 0 for count in counts]),
        )
    ]
    rates = (*token_rates, *resample_rates(captions, units, seed=seed, replicates=replicates))
    method = bootstrap_method(rates[0].n, unit_name, replicates, pseudo=True)
    estimates = [
        drawn_estimate(
            rate.name, rate.value, rate.draws, level=level, n=rate.n, unit_name=unit_name, method=method, largest=1.0
        )
        for rate in rates
    ]
    estimates.append(_kl_per_token(counts, units, unit_name, level=level, seed=seed, replicates=replicates))
    return tuple(estimates)


def was_edited(sample: Sample, *, attribute: str | None = None) -> bool:
    """Whether any token of the sample had its logits shifted, for this attribute where one is named."""
    return any(attribute in (None, edit.attribute) for edit in sample.edits)


def gate_table(
    truth: Sequence[str], said_plain: Sequence[str], edited: Sequence[bool], *, groups: tuple[str, ...]
) -> GateTable:
    """How many captions the gate caught, missed and touched besides.

    Args:
        truth: Declared group per picture.
        said_plain: What the caption of the plain run says: a group, ``both``, ``neutral`` or ``none``.
        edited: Whether the mitigated run edited the caption of the same picture, see :func:`was_edited`.
        groups: Declared groups, in order.

    Raises:
        BadInputError: Lengths differ, or a group or an answer is not one that is allowed.
    """
    wrong, touched = _gate(truth, said_plain, edited, groups)
    return GateTable(
        wrong_edited=int((wrong & touched).sum()),
        wrong_left=int((wrong & ~touched).sum()),
        other_edited=int((~wrong & touched).sum()),
        other_left=int((~wrong & ~touched).sum()),
    )


def gate_quality(
    truth: Sequence[str],
    said_plain: Sequence[str],
    edited: Sequence[bool],
    unit: Sequence[str],
    *,
    groups: tuple[str, ...],
    unit_name: str,
    seed: int,
    level: float = 0.95,
    replicates: int = 4000,
) -> tuple[Estimate, ...]:
    """``gate_recall`` and ``gate_precision``, each in [0, 1]; see the module.

    Where no plain caption contradicts (or none was edited) the figure is NaN and ``method`` says why.

    Args:
        truth: Declared group per picture.
        said_plain: What the caption of the plain run says.
        edited: Whether the mitigated run edited the caption of the same picture.
        unit: Independent unit of each picture.
        groups: Declared groups, in order.
        unit_name: What a unit is: ``picture`` or ``scene``.
        seed: Of the draws, 0 or more.
        level: Coverage the intervals aim at.
        replicates: Number of draws.

    Raises:
        BadInputError: Lengths differ, or a group, an answer or an option is not one that is allowed.
        TooFewSamplesError: Fewer than two units.
    """
    wrong, touched = _gate(truth, said_plain, edited, groups)
    asked = (
        ("gate_recall", touched, wrong, "no plain caption contradicts its declared group"),
        ("gate_precision", wrong, touched, "no caption was edited"),
    )
    estimates = []
    for name, hit, base, undefined in asked:
        if not base.any():
            method = f"undefined: {undefined}"
            estimates.append(Estimate(name, nan, nan, nan, level, 0, unit_name, method, 1.0, 0.0))
            continue
        (rate,) = resample_rates([Event(name, hit, base)], unit, seed=seed, replicates=replicates)
        method = bootstrap_method(rate.n, unit_name, replicates, pseudo=True)
        estimates.append(
            drawn_estimate(
                name, rate.value, rate.draws, level=level, n=rate.n, unit_name=unit_name, method=method, largest=1.0
            )
        )
    return tuple(estimates)


def _gate(
    truth: Sequence[str], said_plain: Sequence[str], edited: Sequence[bool], groups: tuple[str, ...]
) -> tuple[Bool[np.ndarray, " rows"], Bool[np.ndarray, " rows"]]:
    """Where the plain caption contradicts the declared group, and where the mitigation edited."""
    confusion(truth, said_plain, groups=groups)  # refuses what is not allowed
    if len(edited) != len(truth):
        raise BadInputError(f"columns of different length: got {len(truth)} groups and {len(edited)} edited flags")
    wrong = [said in groups and said != declared for declared, said in zip(truth, said_plain, strict=True)]
    return np.array(wrong, dtype=np.bool_), np.array(edited, dtype=np.bool_)


def _count(sample: Sample, attribute: str | None) -> _Counts:
    if sample.tokens is None:
        raise BadInputError(
            f"sample of {sample.prompt_id!r} does not say how many tokens were generated; allowed: a count; rates per "
            "token need a model that sets Sample.tokens"
        )
    edits, passed = (
        [edit for edit in some if attribute in (None, edit.attribute)] for some in (sample.edits, sample.passed)
    )
    # A stop token can be edited and is not always counted as generated.
    last = max((edit.position for edit in (*edits, *passed)), default=-1)
    if last > sample.tokens or any(edit.position < 0 for edit in (*edits, *passed)):
        raise BadInputError(
            f"sample of {sample.prompt_id!r}: an edit at token {last} of {sample.tokens}; allowed: 0 to "
            f"{sample.tokens} (the stop token); give the edits of this very answer"
        )
    if any(edit.kl is not None and not 0 <= edit.kl < inf for edit in edits):
        raise BadInputError(f"sample of {sample.prompt_id!r}: KL divergence below 0 or not finite; allowed: nats >= 0")
    moved = {edit.position for edit in edits}
    return _Counts(
        tokens=max(sample.tokens, last + 1),
        opened=len(moved | {edit.position for edit in passed}),
        edited=len(moved),
        changed=len({edit.position for edit in edits if edit.drafted != edit.emitted}),
        kl=_total_kl(edits),
    )


def _total_kl(edits: Sequence[Edit]) -> float | None:
    """KL over the steps: every attribute's edit of one step reports the whole step's; None if one was not measured."""
    steps: dict[int, float] = {}
    for edit in edits:
        if edit.kl is None:
            return None
        steps[edit.position] = max(steps.get(edit.position, 0.0), edit.kl)
    return sum(steps.values())


def _token_rates(counts: Sequence[_Counts], units: Sequence[str], *, seed: int, replicates: int) -> tuple[Rate, ...]:
    tokens = np.array([count.tokens for count in counts])
    index = np.arange(tokens.sum()) - np.repeat(np.cumsum(tokens) - tokens, tokens)
    everyone = np.ones(len(index), dtype=np.bool_)
    hits = (
        ("trigger_rate", [count.opened for count in counts]),
        ("edited_token_rate", [count.edited for count in counts]),
        ("changed_token_rate", [count.changed for count in counts]),
    )
    events = [Event(name, index < np.repeat(np.array(number), tokens), everyone) for name, number in hits]
    return resample_rates(events, np.repeat(np.asarray(units), tokens).tolist(), seed=seed, replicates=replicates)


def _kl_per_token(
    counts: Sequence[_Counts], units: Sequence[str], unit_name: str, *, level: float, seed: int, replicates: int
) -> Estimate:
    name = "kl_per_token"
    moved = [count.kl for count in counts if count.kl is not None]
    if len(moved) < len(counts):
        method = f"undefined: KL was not measured at every edit in {len(counts) - len(moved)} samples"
        return Estimate(name, nan, nan, nan, level, 0, unit_name, method, inf, 0.0)
    columns = np.column_stack([np.array(moved, dtype=np.float64), [float(count.tokens) for count in counts]])
    sums = resample_sums(columns, units, seed=seed, replicates=replicates)
    return drawn_estimate(
        name,
        float(sums.value[0] / sums.value[1]),
        sums.draws[:, 0] / sums.draws[:, 1],
        level=level,
        n=sums.n,
        unit_name=unit_name,
        method=bootstrap_method(sums.n, unit_name, replicates),
        largest=inf,
    )
