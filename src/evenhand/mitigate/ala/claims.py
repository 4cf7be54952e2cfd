"""The claims of a batch's pictures, asked once. In: a picture signal and openers. Out: tensors the rules read."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from PIL.Image import Image

from evenhand.errors import BadInputError
from evenhand.mitigate.ala.signals import PictureSignal
from evenhand.records import Claim

__all__ = ["Claims"]


class Claims:
    """What the picture signal says about each picture, as far as it was asked.

    Args:
        signal: Says what a text should carry; None where the rule does not ask.
        pictures: Openers.
        groups: Of the attribute.
        needed: Whether a picture without a claim must be left alone.

    Attributes:
        said: Per picture, None where it was not asked.
        s: For two groups the target, in [-1, 1]; 0 where nothing is claimed.
        wanted: The claimed group's index; 0 where nothing is claimed.
        made: Whether a group was claimed; a target of exactly 0 claims neither of two.
        aim: The claimed group's index, or the number of groups where none is claimed.
        aims: The same, as a list.
        may_act: Whether its rows may be moved.
        outstanding: Whether some picture was not asked yet.
    """

    def __init__(
        self,
        signal: PictureSignal | None,
        pictures: Sequence[Callable[[], Image]],
        groups: Sequence[str],
        *,
        needed: bool,
    ) -> None:
        self._signal, self._pictures, self._groups, self._needed = signal, pictures, groups, needed
        self.said: tuple[Claim | None, ...] = (None,) * len(pictures)
        self.s = torch.zeros(len(pictures))
        self.wanted = torch.zeros(len(pictures), dtype=torch.long)
        self.made = torch.zeros(len(pictures), dtype=torch.bool)
        self.aims = [len(groups)] * len(pictures)
        self.aim = torch.tensor(self.aims)
        self.may_act = torch.ones(len(pictures), dtype=torch.bool)
        self.outstanding = signal is not None

    def ask(self, pictures: set[int | None]) -> None:
        """Ask about some pictures, two at a time, and keep what is said; what was asked is not asked again.

        Raises:
            BadInputError: The signal says something out of range.
        """
        wanted = sorted(i for i in pictures if i is not None and self.said[i] is None)
        if not wanted or self._signal is None:
            return
        if len(wanted) == 1:
            claims = [self._signal.claim(self._pictures[wanted[0]])]
        else:
            with ThreadPoolExecutor(max_workers=2) as pool:
                claims = list(pool.map(self._signal.claim, (self._pictures[i] for i in wanted)))
        said = list(self.said)
        for i, claim in zip(wanted, claims, strict=True):
            said[i] = claim
            self._keep(i, claim)
        self.said = tuple(said)
        self.outstanding = any(claim is None for claim in said)

    def to(self, device: torch.device) -> None:
        """Move the tensors to a device."""
        self.s, self.wanted = self.s.to(device), self.wanted.to(device)
        self.made, self.may_act, self.aim = self.made.to(device), self.may_act.to(device), self.aim.to(device)

    def _keep(self, i: int, claim: Claim) -> None:
        if claim.s is not None and not abs(claim.s) <= 1:
            raise BadInputError(
                f"the picture signal said s = {claim.s}; allowed: a number in [-1, 1], or None for no claim."
            )
        group = self._group(claim)
        self.made[i] = group is not None
        two = len(self._groups) == 2
        self.may_act[i] = group is not None or (two and claim.s is not None) or not self._needed
        self.s[i] = 0.0 if group is None else claim.s or 0.0
        self.wanted[i] = group or 0
        self.aims[i] = len(self._groups) if group is None else group
        self.aim[i] = self.aims[i]

    def _group(self, claim: Claim) -> int | None:
        """The index of the claimed group; None where none is claimed, or two alike."""
        if len(self._groups) == 2:
            if claim.s and claim.shares is not None and (claim.s > 0) is not (claim.shares[0] > claim.shares[1]):
                raise BadInputError(
                    f"the picture signal said s = {claim.s} and shares {claim.shares}, which name different groups."
                )
            return None if not claim.s else int(claim.s < 0)
        if claim.shares is None:
            if claim.s is None:
                return None
            raise BadInputError(
                f"the picture signal said s = {claim.s} and no shares; an attribute of {len(self._groups)} groups "
                "needs a share for each (Claim.shares)."
            )
        if len(claim.shares) != len(self._groups) or not abs(sum(claim.shares) - 1) < 1e-3 or min(claim.shares) < 0:
            raise BadInputError(
                f"the picture signal said shares {claim.shares}; allowed: {len(self._groups)} shares of sum 1, "
                f"for {', '.join(self._groups)}."
            )
        first, second = sorted(claim.shares, reverse=True)[:2]
        return None if first == second else claim.shares.index(first)
