"""Why a word was changed. In: what each step did. Out: an ``Edit`` per token at which the gate opened.

Steps are matched to an answer by the ids written before them, not by their order, so that beams and rejected drafts
leave no trace of their own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from evenhand.mitigate.ala.guards import REASONS
from evenhand.models.decode import text_of
from evenhand.records import Edit

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["TracedStep", "edits_of"]


@dataclass(frozen=True, slots=True)
class TracedStep:
    """What one step did, kept as it is until the answer is finished.

    Attributes:
        written: The ids generated before it.
        entry: Of the listed word in front; -1 where the gate stayed closed.
        code: 0, or the guard that left the row alone; None where no guard was asked.
        drafted: Id of the drafted token, or of the likeliest listed one.
        carried: What the text carries with a listed word: a table ...
        at: ... and each row's place in it.
        s: What it should carry.
        claimed: Whether the picture made a claim.
        token_ids: Of the moved tokens.
        shift: Nats.
        kl: Nats, or None where it was not measured.
    """

    written: Int[Tensor, "rows written"]
    entry: Int[Tensor, " rows"] | list[int]
    code: Int[Tensor, " rows"] | list[int] | None
    drafted: Int[Tensor, " rows"] | list[int]
    carried: Float[Tensor, "words groups"]
    at: Int[Tensor, " rows"] | list[int]
    s: Float[Tensor, " rows"]
    claimed: Bool[Tensor, " rows"]
    token_ids: Int[Tensor, "rows moved"]
    shift: Float[Tensor, "rows moved"]
    kl: Float[Tensor, " rows"] | None


def edits_of(
    steps: Sequence[TracedStep],
    emitted: Sequence[Sequence[int]],
    owners: Sequence[int | None],
    attribute: str,
    tokenizer: "PreTrainedTokenizerBase",
    *,
    moved: bool,
) -> tuple[tuple[Edit, ...], ...]:
    """Per answer, its edits (``moved``) or the tokens that were looked at and left alone.

    Args:
        steps: In any order.
        emitted: Per answer, its ids.
        owners: Which answer each row belongs to.
        attribute: Whose words were at stake.
        tokenizer: Gives the words.
        moved: Which of the two.
    """
    found: list[dict[int, Edit]] = [{} for _ in emitted]
    for step in steps:
        changed = (step.shift != 0).any(dim=1)
        wanted = (torch.as_tensor(step.entry, device=changed.device) >= 0) & (changed if moved else ~changed)
        for row in wanted.nonzero()[:, 0].tolist():
            owner = owners[row]
            if owner is None:
                continue
            ids, position = emitted[owner], step.written.shape[1]
            if (
                position < len(ids)
                and position not in found[owner]
                and step.written[row].tolist() == list(ids[:position])
            ):
                found[owner][position] = _edit(step, row, ids, attribute, tokenizer)
    return tuple(tuple(edits[position] for position in sorted(edits)) for edits in found)


def _edit(
    step: TracedStep,
    row: int,
    ids: Sequence[int],
    attribute: str,
    tokenizer: "PreTrainedTokenizerBase",
) -> Edit:
    position = step.written.shape[1]
    drafted, emitted = int(step.drafted[row]), int(ids[position])
    shift = {token: n for token, n in zip(step.token_ids[row].tolist(), step.shift[row].tolist(), strict=True) if n}
    start, end = _span(tokenizer, ids, position)
    first, second = step.carried[step.at[row], :2].tolist()
    return Edit(
        position=position,
        start=start,
        end=end,
        drafted=text_of(tokenizer, [drafted]),
        emitted=text_of(tokenizer, [emitted]),
        alpha=first - second,
        s=float(step.s[row]),
        shift_drafted=shift.get(drafted, 0.0),
        shift_emitted=shift.get(emitted, 0.0),
        attribute=attribute,
        kl=None if step.kl is None else float(step.kl[row]),
        why=_why(step, row, first - second, moved=bool(shift)),
    )


def _why(step: TracedStep, row: int, alpha: float, *, moved: bool) -> str:
    claimed = bool(step.claimed[row])
    # Groups beyond two have no sign; there only a word that contradicts is moved.
    contradicts = alpha * float(step.s[row]) < 0 or not float(step.s[row])
    if moved and claimed:
        return "contradicts the picture" if contradicts else "carries another amount than the picture"
    if moved:
        return "carries a group"
    if step.code is not None and (code := int(step.code[row])):
        return REASONS[code]
    if not claimed:
        return "no claim"
    return "nothing may stand in its place" if float(step.s[row]) and contradicts else "agrees"


def _span(tokenizer: "PreTrainedTokenizerBase", ids: Sequence[int], position: int) -> tuple[int, int]:
    """First and one-past-last character of a token in the answer without surrounding white space."""
    before = text_of(tokenizer, ids[:position]).lstrip()
    through = text_of(tokenizer, ids[: position + 1]).lstrip()
    piece = through[len(before) :]
    return len(through) - len(piece.lstrip()), len(through)
