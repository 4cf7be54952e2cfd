r"""What turning a picture into codes and back does to whom it shows. In: labels before and after. Out: a ``RoundTrip``.

A tokenizer that loses a group turns its pictures into the other's more often than the other way round. With
:math:`c_{gh}` pictures that show g before and h after, it is fair to g and h if both flips are as likely:

.. math:: \sum_{g<h} \frac{(c_{gh} - c_{hg})^2}{c_{gh} + c_{hg}} \qquad
    change_g = \frac{\sum_h c_{hg} - c_{gh}}{\sum_{gh} c_{gh}}

(Bowker 1948, *Journal of the American Statistical Association* 43; of two groups McNemar's test). The classifier's own
errors are in both counts; only how it reads what the decoder blurs is laid to the decoder.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Int64
from PIL import Image
from scipy.stats import binomtest

from evenhand.errors import BadInputError, TooFewSamplesError
from evenhand.located import RoundTrip
from evenhand.models.protocol import CodeModel
from evenhand.models.unified.pixels import fitted
from evenhand.records import Estimate, Label
from evenhand.stats import percentile_interval

__all__ = ["framed", "round_trip", "send_round", "symmetry_p_value"]

_REPLICATES = 4000
_EXCHANGES = 9999
_METHOD = "Dirichlet of gained, lost and kept pictures, Jeffreys' prior of the direction"


def round_trip(
    labels: Sequence[str | None],
    before: Sequence[Label],
    after: Sequence[Label],
    *,
    groups: tuple[str, ...],
    seed: int,
    level: float = 0.95,
) -> RoundTrip:
    """Counts of a round trip, its symmetry, and what it does to each group's share.

    A picture whose label is None counts as ``unlabelled`` in ``said``. ``change`` and the test are of pictures that
    show a group both times. A draw of a change is (G(gained + 1/2) - G(lost + 1/2)) / (the same, added, + G(kept)) with
    G of Gamma distributions: 0 where nothing flipped, with an interval of some width.

    Args:
        labels: What each picture was labelled by people.
        before: What a classifier says of it.
        after: What it says of it after the round trip.
        groups: All groups, in order.
        seed: Of the intervals and the test.
        level: Coverage the intervals aim at.

    Raises:
        BadInputError: Lengths differ, a group that is not declared, fewer than two groups, or a negative seed.
        TooFewSamplesError: No picture shows a group both times.
    """
    if not len(labels) == len(before) == len(after):
        raise BadInputError(f"got {len(labels)} labels, {len(before)} before, {len(after)} after; give one each.")
    if len(groups) < 2 or seed < 0:
        raise BadInputError(f"got groups {groups}, seed {seed}; allowed: two groups and more, 0 and more.")
    named = {one for one in (*labels, *(label.group for label in (*before, *after))) if one is not None}
    if named - set(groups):
        raise BadInputError(f"groups: got {', '.join(sorted(named - set(groups))[:5])}; allowed: {', '.join(groups)}.")
    first, second = ([one.group or one.reason or "error" for one in side] for side in (before, after))
    flips = _table(first, second)
    matrix = np.array([[flips.get(g, {}).get(h, 0) for h in groups] for g in groups], dtype=np.int64)
    if not matrix.any():
        raise TooFewSamplesError(
            f"round trip: none of {len(labels)} pictures shows a group before and after; give pictures with one face."
        )
    drawn_by = np.random.default_rng([seed])
    change = {group: _change(group, i, matrix, drawn_by, level=level) for i, group in enumerate(groups)}
    said = _table([one or "unlabelled" for one in labels], first)
    return RoundTrip(said, flips, change, symmetry_p_value(matrix, seed=seed), len(labels))


def symmetry_p_value(flips: Int64[np.ndarray, "groups groups"], *, seed: int) -> float:
    """Probability of flips as one-sided as these where g to h is as likely as h to g for every pair.

    Exact for two groups (McNemar, two-sided); for more by 9,999 draws of every pair's flips from a binomial of 1/2,
    which holds at any number of pictures. 1 where nothing flipped.

    Args:
        flips: Pictures by group before and group after.
        seed: Of the draws.

    Raises:
        BadInputError: Not square, or a number below 0.
    """
    if flips.ndim != 2 or flips.shape[0] != flips.shape[1] or len(flips) < 2 or flips.min() < 0:
        raise BadInputError(f"flips: got shape {flips.shape}; allowed: a square of counts, two groups and more.")
    upper = np.triu_indices(len(flips), 1)
    there, both = flips[upper], (flips + flips.T)[upper]
    there, both = there[both > 0], both[both > 0]
    if not len(both):
        return 1.0
    if len(both) == 1:
        return float(binomtest(int(there[0]), int(both[0]), 0.5).pvalue)
    drawn = np.random.default_rng([seed, 1]).binomial(both, 0.5, (_EXCHANGES, len(both)))
    seen, fair = (((2 * one - both) ** 2 / both).sum(axis=-1) for one in (there, drawn))
    return float((1 + (fair >= seen - 1e-9).sum()) / (1 + _EXCHANGES))


def send_round(model: CodeModel, pictures: Sequence[Image.Image], batch_size: int = 32) -> list[Image.Image]:
    """Each picture turned into codes and back, RGB with 8 bits a channel, in the model's own size.

    Raises:
        BadInputError: A batch size below 1.
        PictureError: A picture cannot be read.
    """
    if batch_size < 1:
        raise BadInputError(f"batch_size: got {batch_size}; allowed: 1 and more.")
    sent: list[Image.Image] = []
    for start in range(0, len(pictures), batch_size):
        pixels = model.decode(model.encode(pictures[start : start + batch_size]))
        levels = (pixels.float().cpu() * 255).round().byte().permute(0, 2, 3, 1).numpy()
        sent += [Image.fromarray(one) for one in levels]
    return sent


def framed(picture: Image.Image, like: Image.Image) -> Image.Image:
    """The part of a picture that the codes were made of, in the size that comes back: what is compared is the codes."""
    return fitted(picture.convert("RGB"), height=like.height, width=like.width)


def _table(rows: Sequence[str], columns: Sequence[str]) -> Mapping[str, Mapping[str, int]]:
    counted = Counter(zip(rows, columns, strict=True))
    return {row: {b: n for (a, b), n in sorted(counted.items()) if a == row} for row in sorted(set(rows))}


def _change(
    group: str, index: int, matrix: Int64[np.ndarray, "groups groups"], drawn_by: np.random.Generator, *, level: float
) -> Estimate:
    pictures, stay = int(matrix.sum()), int(matrix[index, index])
    gained, lost = int(matrix[:, index].sum()) - stay, int(matrix[index].sum()) - stay
    won, gone = drawn_by.standard_gamma([[gained + 0.5], [lost + 0.5]], (2, _REPLICATES))
    kept = drawn_by.standard_gamma(pictures - gained - lost, _REPLICATES)  # 0 at shape 0
    value = (gained - lost) / pictures
    ends = percentile_interval(value, (won - gone) / (won + gone + kept), level=level)
    return Estimate(f"change {group}", value, ends.low, ends.high, level, pictures, "picture", _METHOD, 1.0, 0.0)
