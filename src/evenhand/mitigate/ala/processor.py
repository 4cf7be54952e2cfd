"""ALA as a transformers ``LogitsProcessor``. In: ids so far and logits of one step. Out: shifted logits, and a trace.

A host: it finds the rows that may act, asks the signals, calls the kernel and remembers what happened. Rows are
independent, so a batch gives what single runs give. On CPU a step without an open gate costs one ``amax`` over the
vocabulary; elsewhere nothing branches on a tensor's value, so no step waits for the device.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int
from PIL.Image import Image
from torch import Tensor
from transformers import LogitsProcessor

from evenhand.errors import BadInputError, TokenizerMismatchError
from evenhand.mitigate.ala.kernel import lift_replacements, open_gate, shift_logits
from evenhand.mitigate.ala.rules import Rule
from evenhand.mitigate.ala.signals import PictureSignal, WordScorer
from evenhand.mitigate.ala.weights import TokenWeights
from evenhand.models.decode import text_of
from evenhand.records import Claim, Edit

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["AlaLogitsProcessor"]


@dataclass(frozen=True, slots=True)
class _Step:
    """What one step did, kept as tensors until the answer is finished."""

    position: int
    acted: Bool[Tensor, " rows"]
    drafted: Int[Tensor, " rows"]
    alpha: Float[Tensor, " rows"]
    s: Float[Tensor, " rows"]
    shift: Float[Tensor, "rows tokens"]


class AlaLogitsProcessor(LogitsProcessor):
    """Shifts one batch's logits by a rule.

    Made for greedy decoding. Under sampling the gate still looks at the most likely token; beam search reorders rows
    and is not supported. Make a fresh one for every batch.

    Args:
        weights: Tokens that may move.
        scorer: Says what the text carries.
        rule: Which update, how strong.
        signal: Says what the text should carry; None where the rule does not ask.
        pictures: One opener per row.
        tokenizer: Used for the trace only.
        in_place: Change the scores given instead of a copy; for decoding loops that own their logits.
    """

    supports_continuous_batching = False

    def __init__(
        self,
        weights: TokenWeights,
        scorer: WordScorer,
        rule: Rule,
        signal: PictureSignal | None,
        pictures: Sequence[Callable[[], Image]],
        tokenizer: "PreTrainedTokenizerBase",
        *,
        in_place: bool = False,
    ) -> None:
        if rule.needs_claim and signal is None:
            raise BadInputError(f"{type(rule).__name__} needs a picture signal; give one, for example FaceSignal.")
        self._weights, self._scorer, self._rule, self._signal = weights, scorer, rule, signal
        self._pictures, self._tokenizer = pictures, tokenizer
        self._stand_ins = _stand_ins(weights, rule)
        gates = weights.direction.abs() >= rule.threshold
        # A word that must be replaced and has no stand-in in this tokenizer is left alone.
        self._gate_places = (gates & self._stand_ins.any(dim=1) if rule.replace else gates).nonzero()[:, 0]
        if not len(self._gate_places):
            raise BadInputError(f"threshold {rule.threshold} leaves no token that could open the gate; lower it.")
        self._gate_ids = weights.token_ids[self._gate_places]
        self._in_place, self._acted = in_place, False
        self._claims: list[Claim | None] = [None] * len(pictures)
        self._s = torch.zeros(len(pictures))
        # A row acts unless its claim is needed and absent; on CPU the claim is asked for at the first open gate.
        self._may_act = torch.ones(len(pictures), dtype=torch.bool)
        self._unasked = torch.full((len(pictures),), rule.needs_claim)
        self._still_to_ask = rule.needs_claim
        self._prompt_length: int | None = None
        self._length = 0
        self._steps: list[_Step] = []

    def __call__(
        self, input_ids: Int[Tensor, "rows written"], scores: Float[Tensor, "rows vocab"]
    ) -> Float[Tensor, "rows vocab"]:
        """New scores; the given ones are not modified, unless ``in_place`` was asked for.

        Raises:
            BadInputError: The number of rows is not the number of pictures.
            TokenizerMismatchError: The logits have fewer columns than the token weights name.
        """
        if self._prompt_length is None:
            self._prompt_length = self._begin(input_ids, scores)
        length, self._length = self._length, input_ids.shape[1]
        if self._length < length:
            raise BadInputError("this hook has already answered a batch; start a fresh one for every generate call.")
        gate = open_gate(scores, self._gate_ids)
        on_cpu = scores.device.type == "cpu"
        if on_cpu and not bool(gate.opened.any()):
            self._acted = False
            return scores
        if on_cpu and self._still_to_ask:
            self._ask(gate.opened & self._unasked)
        weights, rule = self._weights, self._rule
        acted, drafted = gate.opened & self._may_act, self._gate_places[gate.scores.argmax(dim=1)]
        written = input_ids[:, self._prompt_length :]
        alpha = self._scorer.alpha(written, drafted, weights.token_ids, weights.direction)
        stand_ins = self._stand_ins[drafted]
        shift = rule.shift(alpha, self._s, weights.direction, stand_ins)
        shift = torch.where(acted[:, None], shift, 0.0)
        if rule.replace:
            shift = lift_replacements(scores.index_select(1, weights.token_ids).float(), shift, stand_ins)
        self._steps.append(_Step(written.shape[1], acted, drafted, alpha, self._s, shift))
        self._acted = True
        return shift_logits(scores, weights.token_ids, shift, in_place=self._in_place)

    def drafted(self) -> Int[Tensor, " rows"] | None:
        """The ids the model alone would have chosen in the step just done, -1 in rows left alone; None if all were."""
        if not self._acted:
            return None
        last = self._steps[-1]
        return torch.where(last.acted, self._weights.token_ids[last.drafted], -1)

    def claims(self) -> tuple[Claim | None, ...]:
        """What the picture signal said, per row; None where no word made it ask."""
        return tuple(self._claims)

    def edits(self, emitted: Sequence[Sequence[int]]) -> tuple[tuple[Edit, ...], ...]:
        """Per row, every token whose logits were shifted.

        Args:
            emitted: Per row, the ids of the answer, without the prompt and without padding after its end.
        """
        found: list[list[Edit]] = [[] for _ in emitted]
        for step in self._steps:
            moved = step.acted & (step.shift != 0).any(dim=1)
            for row in moved.nonzero()[:, 0].tolist():
                if step.position < len(emitted[row]):
                    found[row].append(self._edit(step, row, emitted[row]))
        return tuple(tuple(edits) for edits in found)

    def _begin(self, input_ids: Tensor, scores: Tensor) -> int:
        """Check the first step, move to its device, and on a device ask for every claim at once."""
        rows, columns = scores.shape
        if rows != len(self._pictures):
            raise BadInputError(
                f"the batch has {rows} rows and {len(self._pictures)} pictures; give one picture per row "
                "(several samples of a prompt repeat it; beams are not supported)."
            )
        if int(self._weights.token_ids[-1]) >= columns:
            raise TokenizerMismatchError(
                f"token weights name token {int(self._weights.token_ids[-1])}, the logits have {columns} columns; "
                "make weights for this model's tokenizer."
            )
        device = scores.device
        if device.type != "cpu":
            self._ask(self._unasked)
            self._weights, self._gate_ids = self._weights.to(device), self._gate_ids.to(device)
            self._gate_places, self._stand_ins = self._gate_places.to(device), self._stand_ins.to(device)
            self._s, self._may_act = self._s.to(device), self._may_act.to(device)
        return input_ids.shape[1]

    def _ask(self, rows: Bool[Tensor, " rows"]) -> None:
        """Ask the picture signal for some rows, two pictures at a time, and keep what it says."""
        wanted = rows.nonzero()[:, 0].tolist()
        if not wanted or self._signal is None:
            return
        with ThreadPoolExecutor(max_workers=2) as pool:
            said = list(pool.map(self._signal.claim, (self._pictures[row] for row in wanted)))
        for row, claim in zip(wanted, said, strict=True):
            if claim.s is not None and not abs(claim.s) <= 1:
                raise BadInputError(
                    f"the picture signal said s = {claim.s}; allowed: a number in [-1, 1], or None for no claim."
                )
            self._claims[row] = claim
            self._unasked[row] = False
            self._may_act[row] = claim.s is not None
            self._s[row] = claim.s or 0.0
        self._still_to_ask = bool(self._unasked.any())

    def _edit(self, step: _Step, row: int, ids: Sequence[int]) -> Edit:
        token_ids = self._weights.token_ids.tolist()
        drafted, emitted = int(step.drafted[row]), ids[step.position]
        index = token_ids.index(emitted) if emitted in token_ids else None
        start, end = _span(self._tokenizer, ids, step.position)
        return Edit(
            position=step.position,
            start=start,
            end=end,
            drafted=text_of(self._tokenizer, [token_ids[drafted]]),
            emitted=text_of(self._tokenizer, [emitted]),
            alpha=float(step.alpha[row]),
            s=float(step.s[row]),
            shift_drafted=float(step.shift[row, drafted]),
            shift_emitted=0.0 if index is None else float(step.shift[row, index]),
        )


def _stand_ins(weights: TokenWeights, rule: Rule) -> Bool[Tensor, "tokens tokens"]:
    """The tokens that may stand in each token's place: what the rule names, or neutral forms where it has none."""
    named: Tensor = getattr(weights, rule.stand_ins)
    return torch.where(named.any(dim=1, keepdim=True), named, weights.neutral_forms)


def _span(tokenizer: "PreTrainedTokenizerBase", ids: Sequence[int], position: int) -> tuple[int, int]:
    """First and one-past-last character of a token in the answer without surrounding white space."""
    before = text_of(tokenizer, ids[:position]).lstrip()
    through = text_of(tokenizer, ids[: position + 1]).lstrip()
    piece = through[len(before) :]
    return len(through) - len(piece.lstrip()), len(through)
