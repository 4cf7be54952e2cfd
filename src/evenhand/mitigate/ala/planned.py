"""A planned greedy step. In: a batch's drafted words, what is written. Out: nats for each row's word and its stand-in.

Twice: ``OnDevice`` in tensor operations alone, so that a device is never waited for, and ``RowByRow`` in Python's
numbers, for CPU. A step of a batch moves two numbers a row; fifty tensor operations on those cost several times what
the numbers themselves do.
"""

from collections.abc import Callable, Mapping, Sequence
from math import exp, expm1, inf, log, log1p
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from evenhand.mitigate.ala.claims import Claims
from evenhand.mitigate.ala.guards import GuardReader, GuardTables, blocked
from evenhand.mitigate.ala.kernel import BANNED, hand_over
from evenhand.mitigate.ala.plan import Plan, moves_of
from evenhand.mitigate.ala.rows import Rows
from evenhand.mitigate.ala.signals import TextState
from evenhand.mitigate.ala.weights import TokenWeights

__all__ = ["Drafts", "OnDevice", "Planned", "PlannedStep", "RowByRow"]


class Drafts(NamedTuple):
    """One greedy step, as far as it was looked at.

    Attributes:
        written: The ids so far.
        scores: Of the whole vocabulary, nats.
        drafted: Ids of the listed tokens in front.
        entry: Their entries, -1 in rows to leave alone.
        best: Their scores, nats; of any float dtype.
        upcoming: The ids that would follow, where the host knows them.
    """

    written: Int[Tensor, "rows written"]
    scores: Float[Tensor, "rows vocab"]
    drafted: Int[Tensor, " rows"]
    entry: Int[Tensor, " rows"]
    best: Float[Tensor, " rows"]
    upcoming: Int[Tensor, " rows"] | None


class PlannedStep(NamedTuple):
    """What a step does; see ``trace.TracedStep``."""

    code: Int[Tensor, " rows"] | None
    carried: Float[Tensor, "words groups"]
    at: Int[Tensor, " rows"]
    token_ids: Int[Tensor, "rows 2"]
    shift: Float[Tensor, "rows 2"]


@runtime_checkable
class Planned(Protocol):
    """Works out a planned step."""

    def step(self, drafts: Drafts) -> PlannedStep:
        """Nats for each row's drafted word and for the word that takes its place."""
        ...


class OnDevice:
    """In tensor operations alone.

    Args:
        plan: What the rule does.
        weights: The plan's.
        text: Says what a text carries, where the plan does not.
        guards: When a word is left alone; None for never.
        rows: Which picture each row belongs to.
        claims: What the pictures show; asked beforehand.
        hidden: Gives the language model's last hidden state of the step.
    """

    def __init__(
        self,
        plan: Plan,
        weights: TokenWeights,
        text: TextState,
        guards: GuardTables | None,
        rows: Rows,
        claims: Claims,
        hidden: Callable[[], Tensor] | None,
    ) -> None:
        self._plan, self._weights, self._text, self._guards = plan, weights, text, guards
        self._rows, self._claims, self._hidden = rows, claims, hidden
        self._place = torch.arange(len(rows.owners), device=weights.token_ids.device)

    def step(self, drafts: Drafts) -> PlannedStep:
        """See ``Planned``."""
        plan, entry, scores = self._plan, drafts.entry, drafts.scores
        code = None
        if self._guards is not None:
            code = blocked(self._guards, self._weights, drafts.written, entry, drafts.upcoming)
        acting = self._rows.only_owned(entry if code is None else torch.where(code == 0, entry, -1))
        aim = self._rows.of(self._claims.aim)
        if plan.moves is not None and plan.shares is not None:
            carried, at, moves = plan.shares, entry, plan.moves[acting, aim]
        else:
            hidden = None if self._hidden is None else self._hidden()
            shares = self._text.shares(drafts.written, drafts.drafted[:, None], hidden)
            fall = plan.rule.fall(shares, self._rows.of(self._claims.wanted), self._rows.of(self._claims.made))[:, 0]
            carried, at, moves = shares[:, 0], self._place, moves_of(fall * plan.possible[acting, aim])
        targets = plan.targets[acting, aim]
        stand_in = scores.gather(1, targets).float()
        if targets.shape[1] > 1:
            likeliest = stand_in.argmax(dim=1, keepdim=True)
            targets, stand_in = targets.gather(1, likeliest), stand_in.gather(1, likeliest)
        shift = hand_over(drafts.best.float(), stand_in[:, 0], moves)
        return PlannedStep(code, carried, at, torch.stack([drafts.drafted, targets[:, 0]], dim=1), shift)


class RowByRow:
    """In Python's numbers, for CPU; asks the pictures of the rows whose word is listed. Arguments as ``OnDevice``."""

    def __init__(
        self,
        plan: Plan,
        weights: TokenWeights,
        text: TextState,
        guards: GuardTables | None,
        rows: Rows,
        claims: Claims,
        hidden: Callable[[], Tensor] | None,
    ) -> None:
        self._plan, self._text, self._rows, self._claims, self._hidden = plan, text, rows, claims, hidden
        self._guards, self._groups = None if guards is None else GuardReader(guards), weights.groups
        self._targets, self._possible = plan.targets.numpy(), plan.possible.numpy()
        self._planned = None if plan.moves is None else plan.moves.numpy()

    def step(self, drafts: Drafts) -> PlannedStep:
        """See ``Planned``."""
        entries: list[int] = drafts.entry.tolist()
        looked = [row for row, entry in enumerate(entries) if entry >= 0]
        owners = self._rows.owners
        if self._claims.outstanding:
            self._claims.ask({owners[row] for row in looked})
        codes = self._codes(drafts, entries, looked)
        shown = self._claims.aim.tolist()
        aims = [len(self._groups) if owner is None else shown[owner] for owner in owners]
        carried, at, moves = self._moves(drafts, entries, aims, looked)
        acting = [row for row in looked if moves[row][0] < 0 and not codes[row] and owners[row] is not None]
        drafted = drafts.drafted.tolist()
        token_ids, shift = [[token, token] for token in drafted], [[-0.0, -0.0] for _ in drafted]
        if acting:
            targets = self._targets[[entries[row] for row in acting], [aims[row] for row in acting]]
            found = _scores_of(drafts.scores, acting, targets)
            best = drafts.best.tolist()
            for row, ids, stand_ins in zip(acting, targets.tolist(), found, strict=True):
                stand_in = max(stand_ins)
                token_ids[row][1] = ids[stand_ins.index(stand_in)]
                if stand_in > BANNED:
                    fall, moved = moves[row]
                    shift[row] = [fall, _log_sum(stand_in, best[row] + moved) - stand_in]
        return PlannedStep(
            code=None if self._guards is None else torch.tensor(codes),
            carried=carried,
            at=at,
            token_ids=torch.tensor(token_ids),
            shift=torch.tensor(shift, dtype=torch.float32),
        )

    def _codes(self, drafts: Drafts, entries: Sequence[int], looked: Sequence[int]) -> list[int]:
        """Why words are left alone, 0 for no reason."""
        codes = [0] * len(entries)
        if self._guards is not None:
            written = drafts.written.numpy()
            upcoming = [None] * len(entries) if drafts.upcoming is None else drafts.upcoming.tolist()
            for row in looked:
                codes[row] = self._guards.code(written[row], entries[row], upcoming[row])
        return codes

    def _moves(
        self, drafts: Drafts, entries: Sequence[int], aims: Sequence[int], looked: Sequence[int]
    ) -> tuple[Tensor, Tensor, Mapping[int, Sequence[float]]]:
        """What texts carry, each row's place in it, and what ``kernel.hand_over`` takes for the rows looked at."""
        plan = self._plan
        if self._planned is not None and plan.shares is not None:
            return plan.shares, drafts.entry, {row: self._planned[entries[row], aims[row]].tolist() for row in looked}
        hidden = None if self._hidden is None else self._hidden()
        written, tokens = drafts.written, drafts.drafted[:, None]
        wanted, made = self._rows.of(self._claims.wanted), self._rows.of(self._claims.made)
        if len(looked) < len(entries):
            some = torch.tensor(looked)
            written, tokens, wanted, made = written[some], tokens[some], wanted[some], made[some]
            hidden = None if hidden is None else hidden[some]
        shares = self._text.shares(written, tokens, hidden)
        at = torch.full((len(entries),), -1)
        at[looked] = torch.arange(len(looked))
        falls = plan.rule.fall(shares, wanted, made)[:, 0].tolist()
        moves = {}
        for row, fall in zip(looked, falls, strict=True):
            nats = fall * self._possible[entries[row], aims[row]].item()
            moves[row] = (-nats, log(-expm1(-nats)) if nats > 0 else -inf)
        return shares[:, 0], at, moves


def _scores_of(
    scores: Float[Tensor, "rows vocab"], rows: Sequence[int], ids: Int[np.ndarray, "some forms"]
) -> list[list[float]]:
    """The scores of some tokens of some rows."""
    places = torch.from_numpy(ids)
    found = scores.gather(1, places) if len(rows) == len(scores) else scores[torch.tensor(rows)[:, None], places]
    listed: list[list[float]] = found.tolist()
    return listed


def _log_sum(one: float, other: float) -> float:
    """log(exp(one) + exp(other))."""
    high, low = (one, other) if one > other else (other, one)
    return high + log1p(exp(low - high))
