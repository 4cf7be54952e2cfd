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
from evenhand.mitigate.ala.kernel import Gate, add_nats, log_normaliser, open_gate, shift_logits
from evenhand.mitigate.ala.plan import plan_of
from evenhand.mitigate.ala.planned import Batch, Drafts, OnDevice, Planned, RowByRow
from evenhand.mitigate.ala.proximal import divergence_of_scores
from evenhand.mitigate.ala.rows import Rows
from evenhand.mitigate.ala.rules import Rule
from evenhand.mitigate.ala.signals import PictureSignal, TextScorer
from evenhand.mitigate.ala.states import States
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
        self._weights, self._rule, self._tokenizer, self._guards = weights, rule, tokenizer, guards
        self._scorer, self._text = scorer, scorer.start(weights, tokenizer)
        self._gating, self._in_place, self._decoding = gating or Gating(), in_place, decoding
        self._rows = Rows(owners, pictures=len(pictures))
        self._claims = Claims(signal if rule.reads_claim else None, pictures, weights.groups, needed=rule.needs_claim)
        self._place = torch.arange(len(self._rows.owners))
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
        self._states = States(weights)
        self._plan = plan_of(rule, weights, self._text.by_token) if decoding == "greedy" else None
        if self._plan is not None and self._plan.moves is not None:
            self._text.by_token, self._entry = None, self._gate_entry  # the plan holds what they say
        self._lead = 0.0 if decoding == "greedy" else log(len(self._gate_ids) / self._gating.mass_kept)
        self._hidden = hidden
        self._planned: Planned | None = None
        self._upcoming: Tensor | None = None
        self._prompt: Tensor | None = None
        self._steps: list[TracedStep] = []
        self._acted = False
        self._answers = False
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
        if self._planned is not None:
            return self._by_plan(self._planned, written, scores, gate, upcoming)
        if on_cpu:
            self._ask(gate.opened)
        return self._by_rule(written, scores, gate, upcoming)

    def _ask(self, rows: Bool[Tensor, " rows"]) -> None:
        """Ask what the pictures of some rows show."""
        if self._claims.outstanding:
            self._claims.ask({self._rows.owners[row] for row in rows.nonzero()[:, 0].tolist()})

    def _by_plan(
        self, planned: Planned, written: Tensor, scores: Tensor, gate: Gate, upcoming: Tensor | None
    ) -> Tensor:
        """A greedy step of a rule that replaces: what it does was worked out beforehand."""
        done = planned.step(Drafts(written, scores, gate, self._locked, upcoming))
        if done is None:
            return scores
        self._acted = True
        self._steps.append(
            TracedStep(
                written=written,
                entry=done.entry,
                code=done.code,
                drafted=done.drafted,
                carried=done.carried,
                at=done.at,
                s=self._rows.of(self._claims.s),
                claimed=self._rows.of(self._claims.made),
                token_ids=done.token_ids,
                shift=done.shift,
                kl=self._spent(done.token_ids, done.shift, scores) if self._gating.measure_kl else None,
            )
        )
        return add_nats(scores, done.token_ids, done.shift, in_place=self._in_place)

    def _by_rule(self, written: Tensor, scores: Tensor, gate: Gate, upcoming: Tensor | None) -> Tensor:
        """Any step: the rule looks at it as a whole."""
        step, opened = self._look(written, scores, gate)
        if scores.device.type == "cpu" and not bool(opened.any()):
            return scores
        if self._locked is not None:
            opened = opened & ~self._locked
        looked_at = torch.where(opened, step.entry.amax(dim=1), -1)
        codes, code = self._forbidden(step.entry, written, upcoming), None
        acted = opened & self._rows.of(self._claims.may_act)
        if codes is not None:
            step = replace(step, entry=torch.where(codes == 0, step.entry, -1))
            code = torch.where((step.entry >= 0).any(dim=1), 0, codes.amax(dim=1))
            acted = acted & (code == 0)
        acted = self._rows.only_owned(acted.long()) > 0
        move = self._rule.move(step)
        shift = torch.where(acted[:, None], move.shift, 0.0)
        columns = self._all_columns(len(shift)) if move.columns is None else move.columns
        if self._exempt is not None:
            group = self._weights.group[step.state[:, None], columns].long()
            named = self._rows.of(self._exempt).gather(1, group.clamp(min=0)) & (group >= 0)
            shift = torch.where(named, 0.0, shift)
        token_ids = self._weights.token_ids[columns]
        self._acted = True
        self._steps.append(
            TracedStep(
                written=written,
                entry=looked_at,
                code=code,
                drafted=self._weights.token_ids[step.columns[:, 0]],
                carried=step.shares[:, 0],
                at=self._place,
                s=step.s,
                claimed=step.claimed,
                token_ids=token_ids,
                shift=shift,
                kl=self._spent(token_ids, shift, scores) if self._gating.measure_kl else None,
            )
        )
        moved = shift_logits(scores, token_ids, shift, in_place=self._in_place)
        if self._decoding != "beams" or self._rule.replaces or step.log_z is None:
            return moved
        # Beams compare log-probabilities: what the shift added to a row's sum is taken from the whole row.
        return moved - (log_normaliser(moved) - step.log_z)[:, None].to(moved.dtype)

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
        return torch.where(moved, torch.as_tensor(last.drafted), -1)

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
        owners, attribute = self._rows.owners, self._weights.attribute
        return edits_of(self._steps, emitted, owners, attribute, self._tokenizer, moved=moved)

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
            input_ids.shape[1] == length and self._answers and not torch.equal(input_ids, self._prompt)
        ):
            raise BadInputError("this hook has already answered a batch; start a fresh one for every generate call.")
        self._answers = True
        return input_ids[:, length:]

    def _begin(self, scores: Tensor) -> None:
        rows, columns = scores.shape
        if rows != len(self._rows.owners):
            raise BadInputError(
                f"the batch has {rows} rows and {len(self._rows.owners)} owners; give one picture per row, or say with "
                "owners= which picture each row belongs to (beams and samples of a picture repeat it)."
            )
        if int(self._weights.token_ids[-1]) >= columns:
            raise TokenizerMismatchError(
                f"token weights name token {int(self._weights.token_ids[-1])}, the logits have {columns} columns; "
                "make weights for this model's tokenizer."
            )
        device = scores.device
        if device.type != "cpu":
            self._move(device)
        if self._plan is not None:
            batch = Batch(
                plan=self._plan,
                weights=self._weights,
                states=self._states,
                gate_ids=self._gate_ids,
                gate_entry=self._gate_entry,
                text=self._text,
                guards=self._guards,
                exempt=self._exempt,
                rows=self._rows,
                claims=self._claims,
                hidden=self._hidden,
            )
            self._planned = RowByRow(batch) if device.type == "cpu" else OnDevice(batch)

    def _move(self, device: torch.device) -> None:
        """Ask for every claim, so that no later step has to wait, and move the tables to a device."""
        self._claims.ask(set(range(len(self._claims.said))))
        self._claims.to(device)
        self._weights = self._weights.to(device)
        self._rows.to(device)
        self._states.to(device)
        self._entry, self._place = self._entry.to(device), self._place.to(device)
        self._gate_columns, self._gate_ids = self._gate_columns.to(device), self._gate_ids.to(device)
        self._gate_entry = self._gate_entry.to(device)
        if self._plan is not None:
            self._plan = self._plan.to(device)
        if self._exempt is not None:
            self._exempt = self._exempt.to(device)
        if self._plan is None or self._plan.moves is None:
            self._text = self._scorer.start(self._weights, self._tokenizer)  # its tables follow the weights
        if self._guards is not None:
            self._guards = self._guards.to(device)

    def _look(self, written: Tensor, scores: Tensor, gate: Gate) -> tuple[Step, Bool[Tensor, " rows"]]:
        """The step as the rule sees it, and the rows whose gate is open."""
        weights = self._weights
        listed = scores.index_select(1, weights.token_ids).float()
        state = self._states.of(written)
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
            wanted=self._rows.of(self._claims.wanted),
            s=self._rows.of(self._claims.s),
            claimed=self._rows.of(self._claims.made),
            log_z=log_normaliser(scores) if self._needs_log_z else None,
        )
        return step, self._opened(step, written, gate)

    def _not_exempt(self, entry: Tensor, group: Tensor) -> Tensor:
        """The entries without the words of a group that the user named."""
        if self._exempt is None:
            return entry
        named = self._rows.of(self._exempt).gather(1, group.long().clamp(min=0))
        return torch.where(named, -1, entry)

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

    def _shares(self, written: Tensor, state: Tensor, columns: Tensor) -> Float[Tensor, "rows candidates groups"]:
        """What each row's text carries once each candidate is added."""
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

    def _forbidden(
        self, entry: Tensor, written: Tensor, upcoming: Tensor | None
    ) -> Int[Tensor, "rows candidates"] | None:
        """0 for candidates that may be moved, else the code of what forbids it; None where nothing is guarded."""
        if self._guards is None:
            return None
        candidates = entry.shape[1]
        if candidates > 1:  # what would come next is known of the drafted word alone
            written, upcoming = written.repeat_interleave(candidates, dim=0), None
        return blocked(self._guards, self._weights, written, entry.reshape(-1), upcoming).reshape(entry.shape)

    def _all_columns(self, rows: int) -> Int[Tensor, "rows tokens"]:
        tokens = len(self._weights.token_ids)
        return torch.arange(tokens, device=self._weights.token_ids.device).expand(rows, tokens)

    def _spent(self, token_ids: Tensor, shift: Tensor, scores: Tensor) -> Float[Tensor, " rows"]:
        """KL divergence of each row's new distribution, in nats; on CPU only moved rows are read."""
        keeps = self._rule.replaces
        if scores.device.type != "cpu":
            return divergence_of_scores(scores, token_ids, shift, keeps_sum=keeps)
        found, moved = torch.zeros(len(shift)), (shift != 0).any(dim=1)
        if bool(moved.all()):
            return divergence_of_scores(scores, token_ids, shift, keeps_sum=keeps)
        found[moved] = divergence_of_scores(scores[moved], token_ids[moved], shift[moved], keeps_sum=keeps)
        return found
