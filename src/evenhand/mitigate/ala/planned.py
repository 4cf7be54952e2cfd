"""A planned greedy step. In: a batch's scores, what is written. Out: nats for each row's word and for its stand-in.

Twice: ``OnDevice`` in tensor operations alone, so that a device is never waited for, and ``RowByRow`` in Python's
numbers, for CPU. A step moves two numbers a row; fifty tensor operations on those cost several times what the numbers
themselves do.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from evenhand.mitigate.ala.claims import Claims
from evenhand.mitigate.ala.guards import GuardReader, GuardTables, blocked
from evenhand.mitigate.ala.kernel import BANNED, Gate, hand_over
from evenhand.mitigate.ala.numbers import log_moved_of, log_sum
from evenhand.mitigate.ala.plan import Plan, moves_of
from evenhand.mitigate.ala.rows import Rows
from evenhand.mitigate.ala.signals import RowState, TextState
from evenhand.mitigate.ala.states import States
from evenhand.mitigate.ala.weights import TokenWeights

__all__ = ["Batch", "Drafts", "OnDevice", "Planned", "PlannedStep", "RowByRow"]


@dataclass(frozen=True, slots=True)
class Batch:
    """What stays the same from step to step.

    Attributes:
        plan: What the rule does.
        weights: The plan's.
        states: Theirs.
        gate_ids: Vocabulary ids of the gating tokens.
        gate_entry: Their entries, -1 where they carry nothing.
        text: Says what a text carries, where the plan does not.
        guards: When a word is left alone; None for never.
        exempt: Per picture and group, whether the user named the group; None for none.
        rows: Which picture each row belongs to.
        claims: What the pictures show.
        hidden: Gives the language model's last hidden state of the step.
    """

    plan: Plan
    weights: TokenWeights
    states: States
    gate_ids: Int[Tensor, " gates"]
    gate_entry: Int[Tensor, "states gates"]
    text: TextState
    guards: GuardTables | None
    exempt: Bool[Tensor, "pictures groups"] | None
    rows: Rows
    claims: Claims
    hidden: Callable[[], Tensor] | None


class Drafts(NamedTuple):
    """One greedy step.

    Attributes:
        written: The ids so far.
        scores: Of the whole vocabulary, nats.
        gate: Of the gating tokens.
        locked: Rows to leave alone; None for none.
        upcoming: The ids that would follow, where the host knows them.
    """

    written: Int[Tensor, "rows written"]
    scores: Float[Tensor, "rows vocab"]
    gate: Gate
    locked: Bool[Tensor, " rows"] | None
    upcoming: Int[Tensor, " rows"] | None


class PlannedStep(NamedTuple):
    """What a step does; see ``trace.TracedStep``, of which these are attributes."""

    entry: Int[Tensor, " rows"] | list[int]
    code: Int[Tensor, " rows"] | list[int] | None
    drafted: Int[Tensor, " rows"] | list[int]
    carried: Float[Tensor, "words groups"]
    at: Int[Tensor, " rows"] | list[int]
    token_ids: Int[Tensor, "rows 2"]
    shift: Float[Tensor, "rows 2"]


@runtime_checkable
class Planned(Protocol):
    """Works out a planned step."""

    def step(self, drafts: Drafts) -> PlannedStep | None:
        """Nats for each row's drafted word and for the word that takes its place; None where no row is looked at."""
        ...


class OnDevice:
    """In tensor operations alone; all pictures have been asked."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        self._place = torch.arange(len(batch.rows.owners), device=batch.gate_ids.device)

    def step(self, drafts: Drafts) -> PlannedStep:
        """See ``Planned``."""
        batch, plan, written, scores = self._batch, self._batch.plan, drafts.written, drafts.scores
        rows, claims = batch.rows, batch.claims
        best = drafts.gate.scores.argmax(dim=1)
        drafted = batch.gate_ids[best]
        entry = torch.where(drafts.gate.opened, batch.gate_entry[batch.states.of(written), best].long(), -1)
        if drafts.locked is not None:
            entry = torch.where(drafts.locked, -1, entry)
        if batch.exempt is not None:
            named = rows.of(batch.exempt).gather(1, plan.group[entry][:, None])[:, 0]
            entry = torch.where(named, -1, entry)
        code = None
        if batch.guards is not None:
            code = blocked(batch.guards, batch.weights, written, entry, drafts.upcoming)
        acting = rows.only_owned(entry if code is None else torch.where(code == 0, entry, -1))
        aim = rows.of(claims.aim)
        if plan.moves is not None and plan.shares is not None:
            carried, at, moves = plan.shares, entry, plan.moves[acting, aim]
        else:
            shares = self._shares(written, drafted)
            fall = plan.rule.fall(shares, rows.of(claims.wanted), rows.of(claims.made))[:, 0]
            carried, at, moves = shares[:, 0], self._place, moves_of(fall * plan.possible[acting, aim])
        targets = plan.targets[acting, aim]
        stand_in = scores.gather(1, targets).float()
        if targets.shape[1] > 1:
            likeliest = stand_in.argmax(dim=1, keepdim=True)
            targets, stand_in = targets.gather(1, likeliest), stand_in.gather(1, likeliest)
        shift = hand_over(drafts.gate.best[:, 0].float(), stand_in[:, 0], moves)
        token_ids = torch.stack([drafted, targets[:, 0]], dim=1)
        return PlannedStep(entry, code, drafted, carried, at, token_ids, shift)

    def _shares(self, written: Tensor, drafted: Tensor) -> Float[Tensor, "rows 1 groups"]:
        """What each text carries with its drafted word."""
        batch = self._batch
        if batch.text.by_token is not None:
            columns = torch.searchsorted(batch.weights.token_ids, drafted)
            return batch.text.by_token[batch.states.of(written), columns][:, None]
        hidden = None if batch.hidden is None else batch.hidden()
        return batch.text.shares(written, drafted[:, None], hidden)


class RowByRow:
    """In Python's numbers, for CPU; asks about the pictures of the rows whose word counts.

    The nats are numbers: no gradient flows through them.
    """

    def __init__(self, batch: Batch) -> None:
        self._batch, plan = batch, batch.plan
        self._guards = None if batch.guards is None else GuardReader(batch.guards)
        self._gate_ids, self._gate_entry = batch.gate_ids.numpy(), batch.gate_entry.numpy()
        self._targets, self._possible = plan.targets.numpy(), plan.possible.numpy()
        self._planned = None if plan.moves is None else plan.moves.numpy()
        self._text = batch.text if isinstance(batch.text, RowState) else None
        # By row and entry, no entry last; constant, as who asked what is.
        self._named = [] if batch.exempt is None else batch.rows.of(batch.exempt)[:, plan.group].tolist()

    def step(self, drafts: Drafts) -> PlannedStep | None:
        """See ``Planned``."""
        best, written = drafts.gate.scores.argmax(dim=1).tolist(), drafts.written.tolist()
        entries = self._entries(drafts, written, best)
        looked = [row for row, entry in enumerate(entries) if entry >= 0]
        if not looked:
            return None
        claims, owners = self._batch.claims, self._batch.rows.owners
        if claims.outstanding:
            claims.ask({owners[row] for row in looked})
        codes = self._codes(written, entries, looked, drafts.upcoming)
        aims = [claims.aims[owner or 0] for owner in owners]
        drafted = [int(self._gate_ids[place]) for place in best]
        carried, at, moves = self._moves(drafts.written, written, drafted, entries, aims, looked)
        acting = [row for row in looked if moves[row][0] < 0 and not codes[row] and owners[row] is not None]
        token_ids, shift = [[token, token] for token in drafted], [[-0.0, -0.0] for _ in drafted]
        if acting:
            targets = [self._targets[entries[row], aims[row]].tolist() for row in acting]
            scores = drafts.gate.best[:, 0].tolist()
            for row, ids, stand_ins in zip(acting, targets, _scores_of(drafts.scores, acting, targets), strict=True):
                stand_in = max(stand_ins)
                token_ids[row][1] = ids[stand_ins.index(stand_in)]
                if stand_in > BANNED:
                    fall, moved = moves[row]
                    shift[row] = [fall, log_sum(stand_in, scores[row] + moved) - stand_in]
        return PlannedStep(
            entry=entries,
            code=None if self._guards is None else codes,
            drafted=drafted,
            carried=carried,
            at=at,
            token_ids=torch.tensor(token_ids),
            shift=torch.tensor(shift, dtype=torch.float32),
        )

    def _entries(self, drafts: Drafts, written: Sequence[Sequence[int]], best: Sequence[int]) -> list[int]:
        """The entry of each row's drafted word, -1 in rows to leave alone."""
        batch = self._batch
        opened, states = drafts.gate.opened.tolist(), batch.states.listed(written)
        entries = [
            int(self._gate_entry[state, place]) if open_ else -1
            for open_, state, place in zip(opened, states, best, strict=True)
        ]
        if drafts.locked is not None:
            entries = [-1 if locked else entry for entry, locked in zip(entries, drafts.locked.tolist(), strict=True)]
        if batch.exempt is not None:
            entries = [-1 if self._named[row][entry] else entry for row, entry in enumerate(entries)]
        return entries

    def _codes(
        self,
        written: Sequence[Sequence[int]],
        entries: Sequence[int],
        looked: Sequence[int],
        upcoming: Int[Tensor, " rows"] | None,
    ) -> list[int]:
        """Why words are left alone, 0 for no reason."""
        codes = [0] * len(entries)
        if self._guards is not None:
            follows = [None] * len(entries) if upcoming is None else upcoming.tolist()
            for row in looked:
                codes[row] = self._guards.code(written[row], entries[row], follows[row])
        return codes

    def _moves(
        self,
        ids: Int[Tensor, "rows written"],
        written: Sequence[Sequence[int]],
        drafted: Sequence[int],
        entries: Sequence[int],
        aims: Sequence[int],
        looked: Sequence[int],
    ) -> tuple[Tensor, list[int], Mapping[int, Sequence[float]]]:
        """What texts carry, each row's place in it, and what ``kernel.hand_over`` takes for the rows looked at."""
        plan = self._batch.plan
        if self._planned is not None and plan.shares is not None:
            return plan.shares, list(entries), {row: self._planned[entries[row], aims[row]].tolist() for row in looked}
        shares = self._shares(ids, written, drafted, looked)
        groups, at, moves = len(self._batch.weights.groups), [-1] * len(entries), {}
        for place, (row, carried) in enumerate(zip(looked, shares, strict=True)):
            at[row], aim = place, aims[row]
            fall = plan.rule.fall_of(carried, aim % groups, claimed=aim < groups)
            fall *= float(self._possible[entries[row], aim])
            moves[row] = (-fall, log_moved_of(fall))
        return torch.tensor(shares), at, moves

    def _shares(
        self,
        ids: Int[Tensor, "rows written"],
        written: Sequence[Sequence[int]],
        drafted: Sequence[int],
        looked: Sequence[int],
    ) -> list[list[float]]:
        """What the text of each row that is looked at carries with its drafted word."""
        hidden = None if self._batch.hidden is None else self._batch.hidden()
        if self._text is not None:
            if len(looked) < len(written):
                written, drafted = [written[row] for row in looked], [drafted[row] for row in looked]
                hidden = None if hidden is None else hidden[looked]
            return self._text.shares_of(written, drafted, hidden)
        text, tokens = self._batch.text, torch.tensor(drafted)[:, None]
        if text.by_token is not None:
            columns = torch.searchsorted(self._batch.weights.token_ids, tokens)
            shares = text.by_token[self._batch.states.of(ids)[:, None], columns]
        else:  # of all rows: a scorer may keep states, which go on together
            shares = text.shares(ids, tokens, hidden)
        every: list[list[float]] = shares[:, 0].tolist()
        return [every[row] for row in looked]


def _scores_of(
    scores: Float[Tensor, "rows vocab"], rows: Sequence[int], ids: Sequence[Sequence[int]]
) -> list[list[float]]:
    """The scores of some tokens of some rows."""
    places = torch.tensor(ids)
    found = scores.gather(1, places) if len(rows) == len(scores) else scores[torch.tensor(rows)[:, None], places]
    listed: list[list[float]] = found.tolist()
    return listed
