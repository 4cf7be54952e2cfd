"""ALA as a transformers ``LogitsProcessor``. In: ids so far and logits of one step. Out: shifted logits, and a trace.

A host: it finds the rows that may act, asks the signals, calls the rule and remembers what happened. Rows are
independent and what is done follows from the ids alone, so a batch gives what single runs give, and beams or rejected
drafts change nothing. On CPU a step without an open gate costs one ``amax`` over the vocabulary; elsewhere nothing
branches on a tensor's value, so no step waits for the device.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import log
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int
from PIL.Image import Image
from torch import Tensor
from transformers import LogitsProcessor

from evenhand.errors import BadInputError, TokenizerMismatchError
from evenhand.mitigate.ala.claims import Claims
from evenhand.mitigate.ala.gating import Gating, gating_entries
from evenhand.mitigate.ala.guards import GuardTables, blocked
from evenhand.mitigate.ala.kernel import Gate, add_nats, hand_over, open_gate, shift_logits
from evenhand.mitigate.ala.plan import Plan, moves_of, plan_of
from evenhand.mitigate.ala.rules import Rule
from evenhand.mitigate.ala.signals import PictureSignal, TextScorer
from evenhand.mitigate.ala.step import Step
from evenhand.mitigate.ala.trace import TracedStep, edits_of
from evenhand.mitigate.ala.weights import TokenWeights
from evenhand.models.protocol import Decoding
from evenhand.records import Claim, Edit

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["AlaLogitsProcessor"]

_CANDIDATES = 16
"""Listed tokens looked at in a row where the next token is drawn; the rest hold next to no probability."""


class AlaLogitsProcessor(LogitsProcessor):
    """Shifts one batch's logits by a rule. Make a fresh one for every batch.

    Args:
        weights: Tokens that may move.
        scorer: Says what the text carries.
        rule: Which update, how strong.
        signal: Says what the text should carry; None where the rule does not ask.
        pictures: One opener per answer.
        tokenizer: The model's.
        guards: When a listed word is left alone; None for never.
        exempt: Per picture and group, whether the user's own words name the group.
        gating: When a row is looked at.
        in_place: Change the scores given instead of a copy; for decoding loops that own their logits.
        owners: Which picture each row belongs to, None for rows to leave alone; by default row i has picture i.
        decoding: How the loop turns scores into tokens.
        hidden: Gives the language model's last hidden state of the step.
    """

    supports_continuous_batching = False

    def __init__(
        self,
        weights: TokenWeights,
        scorer: TextScorer,
        rule: Rule,
        signal: PictureSignal | None,
        pictures: Sequence[Callable[[], Image]],
        tokenizer: "PreTrainedTokenizerBase",
        *,
        guards: GuardTables | None = None,
        exempt: Bool[Tensor, "pictures groups"] | None = None,
        gating: Gating | None = None,
        in_place: bool = False,
        owners: Sequence[int | None] | None = None,
        decoding: Decoding = "greedy",
        hidden: Callable[[], Tensor] | None = None,
    ) -> None:
        if rule.reads_claim and signal is None:
            raise BadInputError(f"{type(rule).__name__} needs a picture signal; give one, for example FaceSignal.")
        if rule.needs_before and getattr(scorer, "wants_hidden", False):
            raise BadInputError(
                f"{type(rule).__name__} asks what the text carries as it stands, which a scorer of the model's next "
                "state cannot say; give another text scorer."
            )
        if not pictures or not any(owner is not None for owner in (owners if owners is not None else [0])):
            raise BadInputError("no row belongs to a picture; give at least one picture and one owner.")
        self._weights, self._rule, self._tokenizer, self._guards = weights, rule, tokenizer, guards
        self._text = scorer.start(weights, tokenizer)
        self._gating, self._in_place, self._decoding = gating or Gating(), in_place, decoding
        self._owners = tuple(range(len(pictures)) if owners is None else owners)
        self._claims = Claims(signal if rule.reads_claim else None, pictures, weights.groups, needed=rule.needs_claim)
        self._owner, self._owned = _owner_tensors(self._owners, len(pictures))
        self._one_to_one = owners is None
        self._inside = torch.zeros(len(self._owners), dtype=torch.long)
        self._exempt = exempt if exempt is not None and bool(exempt.any()) else None
        self._entry = gating_entries(weights, rule)
        self._gate_columns = (self._entry >= 0).any(dim=0).nonzero()[:, 0]
        if not len(self._gate_columns):
            raise BadInputError(
                f"no token of this tokenizer could open the gate at threshold {rule.threshold}"
                f"{' and be replaced' if rule.replaces else ''}; lower the threshold, or add words and pairs."
            )
        self._gate_ids = weights.token_ids[self._gate_columns]
        self._gate_entry = self._entry[:, self._gate_columns]
        self._inner = frozenset((weights.keys & 0xFFFFFFFF).tolist())
        self._plan = plan_of(rule, weights, self._text.by_token) if decoding == "greedy" else None
        if self._plan is not None and self._plan.moves is not None:
            self._text.by_token, self._entry = None, self._gate_entry  # the plan holds what they say
        self._lead = 0.0 if decoding == "greedy" else log(len(self._gate_ids) / self._gating.mass_kept)
        self._hidden = hidden
        self._upcoming: Tensor | None = None
        self._prompt: Tensor | None = None
        self._steps: list[TracedStep] = []
        self._acted = False
        self._locked: Tensor | None = None

    def __call__(
        self, input_ids: Int[Tensor, "rows written"], scores: Float[Tensor, "rows vocab"]
    ) -> Float[Tensor, "rows vocab"]:
        """New scores; the given ones are not modified, unless ``in_place`` was asked for.

        Raises:
            BadInputError: The number of rows is not the number of owners, or another prompt is being answered.
            TokenizerMismatchError: The logits have fewer columns than the token weights name.
        """
        written = self._written(input_ids, scores)
        upcoming, self._upcoming = self._upcoming, None
        self._acted = False
        gate = open_gate(scores, self._gate_ids, lead=self._lead)
        on_cpu = scores.device.type == "cpu"
        if on_cpu and not bool(gate.opened.any()):
            return scores
        if self._plan is not None:
            return self._by_plan(self._plan, written, scores, gate, upcoming)
        if on_cpu:
            self._ask(gate.opened)
        return self._by_rule(written, scores, gate, upcoming)

    def _ask(self, rows: Bool[Tensor, " rows"]) -> None:
        """Ask what the pictures of some rows show."""
        if self._claims.outstanding:
            self._claims.ask({self._owners[row] for row in rows.nonzero()[:, 0].tolist()})

    def _by_plan(self, plan: Plan, written: Tensor, scores: Tensor, gate: Gate, upcoming: Tensor | None) -> Tensor:
        """A greedy step of a rule that replaces: what it does was worked out beforehand."""
        best = gate.scores.argmax(dim=1)
        drafted, state = self._gate_ids[best], self._state(written)
        entry = torch.where(gate.opened, self._gate_entry[state, best].long(), -1)
        if self._locked is not None:
            entry = torch.where(self._locked, -1, entry)
        if self._exempt is not None:
            group = self._weights.group[state, self._gate_columns[best]]
            entry = self._not_exempt(entry[:, None], group[:, None])[:, 0]
        if scores.device.type == "cpu" and self._claims.outstanding:
            self._ask(entry >= 0)
        code = self._forbidden(entry[:, None], written, upcoming)
        acting = entry if code is None else torch.where(code == 0, entry, -1)
        if not self._one_to_one:
            acting = torch.where(self._owned, acting, -1)
        aim = self._by_row(self._claims.aim)
        shares, moves = self._planned_moves(plan, written, drafted, acting, aim)
        targets = plan.targets[acting, aim]
        stand_in = scores.gather(1, targets).float()
        if targets.shape[1] > 1:
            likeliest = stand_in.argmax(dim=1, keepdim=True)
            targets, stand_in = targets.gather(1, likeliest), stand_in.gather(1, likeliest)
        shift = hand_over(gate.best[:, 0].float(), stand_in[:, 0], moves)
        token_ids = torch.stack([drafted, targets[:, 0]], dim=1)
        self._acted = True
        self._steps.append(
            TracedStep(
                written=written,
                entry=entry,
                code=code,
                drafted=drafted,
                shares=shares,
                s=self._by_row(self._claims.s),
                claimed=self._by_row(self._claims.made),
                token_ids=token_ids,
                shift=shift,
                kl=self._spent(token_ids, shift, scores, None) if self._gating.measure_kl else None,
            )
        )
        return add_nats(scores, token_ids, shift, in_place=self._in_place)

    def _planned_moves(
        self, plan: Plan, written: Tensor, drafted: Tensor, acting: Tensor, aim: Tensor
    ) -> tuple[Float[Tensor, "rows groups"] | None, Float[Tensor, "rows 2"]]:
        """What each row's text carries with its draft, None where the plan says it, and the move that follows."""
        if plan.moves is not None:
            return None, plan.moves[acting, aim]
        hidden = None if self._hidden is None else self._hidden()
        shares = self._text.shares(written, drafted[:, None], hidden)
        fall = self._rule.fall(shares, self._by_row(self._claims.wanted), self._by_row(self._claims.made))[:, 0]
        return shares[:, 0], moves_of(fall * plan.possible[acting, aim])

    def _by_rule(self, written: Tensor, scores: Tensor, gate: Gate, upcoming: Tensor | None) -> Tensor:
        """Any step: the rule looks at it as a whole."""
        step, opened = self._look(written, scores, gate)
        if scores.device.type == "cpu" and not bool(opened.any()):
            return scores
        seen = step.entry.amax(dim=1)
        code = self._forbidden(step.entry, written, upcoming)
        acted = opened & self._by_row(self._claims.may_act) & self._owned & ~self._taken(opened)
        if code is not None:
            acted = acted & (code == 0)
        move = self._rule.move(step)
        shift = torch.where(acted[:, None], move.shift, 0.0)
        columns = self._all_columns(len(shift)) if move.columns is None else move.columns
        if self._exempt is not None:
            group = self._weights.group[step.state[:, None], columns].long()
            named = self._exempt[self._owner].gather(1, group.clamp(min=0)) & (group >= 0)
            shift = torch.where(named, 0.0, shift)
        token_ids = self._weights.token_ids[columns]
        self._acted = True
        self._steps.append(
            TracedStep(
                written=written,
                entry=torch.where(opened & ~self._taken(opened), seen, -1),
                code=code,
                drafted=self._weights.token_ids[step.columns[:, 0]],
                shares=step.shares[:, 0],
                s=step.s,
                claimed=step.claimed,
                token_ids=token_ids,
                shift=shift,
                kl=self._spent(token_ids, shift, scores, step.log_z) if self._gating.measure_kl else None,
            )
        )
        moved = shift_logits(scores, token_ids, shift, in_place=self._in_place)
        if self._decoding != "beams" or self._rule.replaces or step.log_z is None:
            return moved
        # Beams compare log-probabilities: what the shift added to a row's sum is taken from the whole row.
        return moved - (moved.float().logsumexp(dim=1) - step.log_z)[:, None].to(moved.dtype)

    def lock(self, rows: Bool[Tensor, " rows"] | None) -> None:
        """Leave rows alone in the step that is called next: another attribute has moved them."""
        self._locked = rows

    def foresee(self, upcoming: Int[Tensor, " rows"]) -> None:
        """Tell which ids the model would choose after its drafts of the step that is called next."""
        self._upcoming = upcoming

    def drafted(self) -> Int[Tensor, " rows"] | None:
        """The ids the model alone would have chosen in the step just done, -1 in rows left alone; None if all were."""
        if not self._acted:
            return None
        last = self._steps[-1]
        moved = (last.shift != 0).any(dim=1)
        return torch.where(moved, last.drafted, -1)

    def claims(self) -> tuple[Claim | None, ...]:
        """What the picture signal said, per picture; None where no word made it ask."""
        return self._claims.said

    def edits(self, emitted: Sequence[Sequence[int]]) -> tuple[tuple[Edit, ...], ...]:
        """Per picture, every token whose logits were shifted.

        Args:
            emitted: Per picture, the ids of its answer, without the prompt and without padding after its end.
        """
        return self._traced(emitted, moved=True)

    def passed(self, emitted: Sequence[Sequence[int]]) -> tuple[tuple[Edit, ...], ...]:
        """Per picture, every token at which the gate opened and nothing was shifted; ``Edit.why`` is the reason."""
        return self._traced(emitted, moved=False)

    def _traced(self, emitted: Sequence[Sequence[int]], *, moved: bool) -> tuple[tuple[Edit, ...], ...]:
        planned = None if self._plan is None else self._plan.shares
        return edits_of(
            self._steps, emitted, self._owners, self._weights.attribute, self._tokenizer, planned, moved=moved
        )

    def scale_last(self, factor: Float[Tensor, " rows"], spent: Float[Tensor, " rows"]) -> None:
        """Note that this share of the last step's shift was applied, and what the step then spent in nats.

        Several attributes under one budget are scaled back together, and what they spend is spent together.
        """
        if self._acted:
            last = self._steps[-1]
            self._steps[-1] = replace(last, shift=last.shift * factor[:, None], kl=None if last.kl is None else spent)

    def _written(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """The generated ids; checks the first step, moves to its device, and on a device asks for every claim."""
        if self._prompt is None:
            self._begin(scores)
            self._prompt = input_ids
        length = self._prompt.shape[1]
        if input_ids.shape[1] < length or (
            input_ids.shape[1] == length and self._steps and not torch.equal(input_ids, self._prompt)
        ):
            raise BadInputError("this hook has already answered a batch; start a fresh one for every generate call.")
        return input_ids[:, length:]

    def _begin(self, scores: Tensor) -> None:
        rows, columns = scores.shape
        if rows != len(self._owners):
            raise BadInputError(
                f"the batch has {rows} rows and {len(self._owners)} owners; give one picture per row, or say with "
                "owners= which picture each row belongs to (beams and samples of a picture repeat it)."
            )
        if int(self._weights.token_ids[-1]) >= columns:
            raise TokenizerMismatchError(
                f"token weights name token {int(self._weights.token_ids[-1])}, the logits have {columns} columns; "
                "make weights for this model's tokenizer."
            )
        device = scores.device
        if device.type == "cpu":
            return
        self._claims.ask(set(range(len(self._claims.said))))
        self._claims.to(device)
        self._weights = self._weights.to(device)
        self._owner, self._owned, self._entry = (t.to(device) for t in (self._owner, self._owned, self._entry))
        self._gate_columns, self._gate_ids = self._gate_columns.to(device), self._gate_ids.to(device)
        self._gate_entry = self._gate_entry.to(device)
        if self._plan is not None:
            self._plan = self._plan.to(device)
        if self._exempt is not None:
            self._exempt = self._exempt.to(device)
        if self._text.by_token is not None:
            self._text.by_token = self._text.by_token.to(device)
        if self._guards is not None:
            self._guards = self._guards.to(device)

    def _look(self, written: Tensor, scores: Tensor, gate: Gate) -> tuple[Step, Bool[Tensor, " rows"]]:
        """The step as the rule sees it, and the rows whose gate is open."""
        weights = self._weights
        listed = scores.index_select(1, weights.token_ids).float()
        state = self._state(written)
        if self._decoding == "greedy":
            columns = self._gate_columns[gate.scores.argmax(dim=1, keepdim=True)]
        else:
            here = torch.where(self._gate_entry[state] >= 0, gate.scores, -torch.inf)
            likeliest = here.topk(min(_CANDIDATES, len(self._gate_columns)), dim=1).indices
            columns = self._gate_columns[likeliest]
        at = state[:, None]
        entry = self._entry[at, columns].long()
        entry = self._not_exempt(entry, weights.group[at, columns])
        step = Step(
            weights=weights,
            listed=listed,
            state=state,
            columns=columns,
            entry=entry,
            shares=self._shares(written, state, columns),
            before=self._before(written) if self._rule.needs_before else None,
            wanted=self._by_row(self._claims.wanted),
            s=self._by_row(self._claims.s),
            claimed=self._by_row(self._claims.made),
            log_z=scores.float().logsumexp(dim=1) if self._needs_log_z else None,
        )
        return step, self._opened(step, written, gate)

    def _state(self, written: Tensor) -> Int[Tensor, " rows"]:
        """The weights' state of each row; on CPU most texts are seen at one look not to be inside a listed word."""
        if written.device.type == "cpu" and written.shape[1] and self._inner.isdisjoint(written[:, -1].tolist()):
            return self._inside
        return self._weights.states(written)

    def _not_exempt(self, entry: Tensor, group: Tensor) -> Tensor:
        """The entries without the words of a group that the user named."""
        if self._exempt is None:
            return entry
        named = self._exempt[self._owner].gather(1, group.long().clamp(min=0))
        return torch.where(named & self._owned[:, None], -1, entry)

    @property
    def _needs_log_z(self) -> bool:
        return self._rule.needs_log_z or self._decoding != "greedy"

    def _opened(self, step: Step, written: Tensor, gate: Gate) -> Bool[Tensor, " rows"]:
        if self._decoding == "greedy" or step.log_z is None:
            return gate.opened & (step.entry[:, 0] >= 0)
        probability = (step.listed.gather(1, step.columns) - step.log_z[:, None]).exp()
        mass = torch.where(step.entry >= 0, probability, 0.0).sum(dim=1)
        spoken_of = torch.isin(written, self._weights.token_ids).any(dim=1)
        return mass >= torch.where(spoken_of, self._gating.mass_kept, self._gating.mass)

    def _shares(self, written: Tensor, state: Tensor, columns: Tensor) -> Tensor:
        if self._text.by_token is not None:
            return self._text.by_token[state[:, None], columns]
        hidden = None if self._hidden is None else self._hidden()
        return self._text.shares(written, self._weights.token_ids[columns], hidden)

    def _before(self, written: Tensor) -> Tensor:
        """What the text carries as it stands; nothing before its first token, and for scorers that see one token."""
        groups = len(self._weights.groups)
        if not written.shape[1] or self._text.by_token is not None:
            return torch.full((len(written), groups), 1 / groups, device=written.device)
        return self._text.shares(written[:, :-1], written[:, -1:])[:, 0]

    def _forbidden(self, entry: Tensor, written: Tensor, upcoming: Tensor | None) -> Int[Tensor, " rows"] | None:
        """0 for rows that may act, else the code of what forbids it; forbidden candidates lose their entry."""
        if self._guards is None:
            return None
        candidates = entry.shape[1]
        if candidates == 1:
            return blocked(self._guards, self._weights, written, entry[:, 0], upcoming)
        rows = written.repeat_interleave(candidates, dim=0)
        codes = blocked(self._guards, self._weights, rows, entry.reshape(-1), None).reshape(entry.shape)
        entry.masked_fill_(codes > 0, -1)
        return torch.where((entry >= 0).any(dim=1), 0, codes.amax(dim=1))

    def _by_row(self, per_picture: Tensor) -> Tensor:
        return per_picture if self._one_to_one else per_picture[self._owner]

    def _all_columns(self, rows: int) -> Int[Tensor, "rows tokens"]:
        tokens = len(self._weights.token_ids)
        return torch.arange(tokens, device=self._weights.token_ids.device).expand(rows, tokens)

    def _taken(self, rows: Bool[Tensor, " rows"]) -> Bool[Tensor, " rows"]:
        """Rows that another attribute has already moved in this step."""
        return torch.zeros_like(rows) if self._locked is None else self._locked

    def _spent(self, token_ids: Tensor, shift: Tensor, scores: Tensor, log_z: Tensor | None) -> Float[Tensor, " rows"]:
        """KL divergence of each row's new distribution, in nats; from the new scores, so that none is too small."""
        moved = (shift != 0).any(dim=1)
        rows = moved if scores.device.type == "cpu" else slice(None)
        before, nats = scores[rows].float(), shift[rows].double()
        whole = (before.logsumexp(dim=1) if log_z is None else log_z[rows]).double()
        after = before.gather(1, token_ids[rows]).double() + nats
        grown = torch.zeros_like(whole)
        if not self._rule.replaces:
            before = before.double()
            grown = before.scatter_add(1, token_ids[rows], nats).logsumexp(dim=1) - before.logsumexp(dim=1)
        share = (after - (whole + grown)[:, None]).exp()
        spent = (torch.where(share > 0, share * nats, 0.0).sum(dim=1) - grown).clamp(min=0)
        found = torch.zeros(len(shift), dtype=torch.float64, device=scores.device)
        found[rows] = spent
        return torch.where(moved, found, 0.0).float()


def _owner_tensors(owners: Sequence[int | None], pictures: int) -> tuple[Int[Tensor, " rows"], Bool[Tensor, " rows"]]:
    for owner in owners:
        if owner is not None and not 0 <= owner < pictures:
            raise BadInputError(f"owners: got {owner}; allowed: an index of the {pictures} pictures, or None.")
    owned = torch.tensor([owner is not None for owner in owners], dtype=torch.bool)
    return torch.tensor([0 if owner is None else owner for owner in owners], dtype=torch.long), owned
