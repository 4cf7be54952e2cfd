"""A claim from the shares of groups. In: one share per declared group. Out: a claim, or none where they are unsure."""

from collections.abc import Sequence
from math import isfinite
from typing import Literal

from evenhand.errors import BadInputError
from evenhand.records import Attribute, Claim

__all__ = ["Reason", "check_certain", "claim_from_shares"]

Reason = Literal["features", "texts", "judge", "uncertain", "judge abstains"]
"""Why a claim is made, or none is."""


def claim_from_shares(shares: Sequence[float], *, certain: float, sharpen: bool, reason: Reason) -> Claim:
    """The claim that shares make.

    Certainty is the top share minus the runner-up, |s| for two groups, where s = first share - second share. Below
    ``certain``, or where two groups share the top, there is no claim.

    Args:
        shares: Of the declared groups in order, in [0, 1], of sum 1.
        certain: The abstain band, in [0, 1).
        sharpen: Give all of the claim to the top group: s is then -1 or 1.
        reason: Of a claim that is made.

    Raises:
        BadInputError: The shares are not finite, negative or not of sum 1.
    """
    values = tuple(float(one) for one in shares)
    if len(values) < 2 or not all(isfinite(one) and one >= 0 for one in values) or abs(sum(values) - 1) > 1e-3:
        raise BadInputError(f"shares: got {values}; allowed: one number in [0, 1] per group, of sum 1.")
    values = tuple(one / sum(values) for one in values)
    runner_up, top = sorted(values)[-2:]
    if top - runner_up < certain or top == runner_up:
        return Claim(None, "uncertain")
    if sharpen:
        values = tuple(float(one == top) for one in values)
    values = tuple(round(one, 6) for one in values)
    return Claim(round(values[0] - values[1], 6) if len(values) == 2 else None, reason, shares=values)


def check_certain(certain: float, attribute: Attribute) -> None:
    """Do nothing if an abstain band and an attribute can be used.

    Raises:
        BadInputError: ``certain`` is outside [0, 1), or the attribute has fewer than two groups.
    """
    if not isfinite(certain) or not 0 <= certain < 1:
        raise BadInputError(f"certain: got {certain}; allowed: a number in [0, 1).")
    if len(attribute.groups) < 2:
        raise BadInputError(f"attribute {attribute.name!r} has {len(attribute.groups)} group; allowed: two and more.")
