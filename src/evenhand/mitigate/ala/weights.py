"""Which tokens carry an attribute, and where. In: a file and a tokenizer. Out: ``TokenWeights``, checked; and back.

A token means nothing by itself: `` woman`` is a word, ``woman`` is one only at the start of a text or after
`` police``. So a weight belongs to a token *in a state*, and the state is a function of the last few ids alone.
``pieces`` makes the record from word lists; here it is defined, saved as safetensors, read and refused.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from evenhand.errors import ArtefactError, BadInputError, TokenizerMismatchError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "SPELLINGS",
    "TokenWeights",
    "check_tokenizer",
    "load_weights",
    "save_weights",
    "tokenizer_hash",
    "weights_from_tokens",
]

SPELLINGS = ("lower", "title", "upper", "title at the start of a text")
"""What the numbers in ``TokenWeights.spelling`` stand for."""

_FORMAT = "evenhand-token-weights-2"
_STATE = 32  # bits by which a state stands above a token id in a key
_DTYPES = {
    "token_ids": torch.int64,
    "group": torch.int8,
    "weight": torch.float32,
    "entry": torch.int16,
    "neutral_forms": torch.int16,
    "counterparts": torch.int16,
    "spelling": torch.int8,
    "keys": torch.int64,
    "nexts": torch.int64,
}


@dataclass(frozen=True, slots=True)
class TokenWeights:
    """The tokens a mitigation may move, and what each of them carries in every state of a text.

    State 0 is anywhere inside a text: a listed token starts a word, so it has the tokenizer's leading-space form.
    State 1 is a text of which nothing is written yet: forms without a leading space count too. States from 2 on are
    inside a word of several pieces (`` police`` was written): there its last pieces count (``woman``). All that
    counts in state 0 counts in every state, because a new word may start at any time.

    Attributes:
        attribute: Name of the attribute.
        groups: Its declared groups, at least two.
        token_ids: Unique, ascending vocabulary ids: every token that can gate, lose or gain.
        group: Index of the group a token carries in a state, -1 for none.
        weight: Absolute beta of the token there, in [0, 1]; 0 where it carries no group.
        entry: Row of the tables below, -1 where the token carries no group.
        neutral_forms: Columns (indices into ``token_ids``) of neutral tokens that can stand in the entry's place, -1
            after the last one.
        counterparts: Column of each group's token that can stand in the entry's place, -1 for none and for its own.
        spelling: Index into ``SPELLINGS``.
        words: The lower-case word of each entry.
        keys: ``state * 2**32 + token id``, ascending: from a state, this token leads on inside a word ...
        nexts: ... to this state.
        depth: The largest number of pieces before the last one of any word; 0 where every word is one token.
        tokenizer: Hash of the tokenizer the ids belong to.
        left_out: Words that cannot be written in this tokenizer.
    """

    attribute: str
    groups: tuple[str, ...]
    token_ids: Int[Tensor, " tokens"]
    group: Int[Tensor, "states tokens"]
    weight: Float[Tensor, "states tokens"]
    entry: Int[Tensor, "states tokens"]
    neutral_forms: Int[Tensor, "entries forms"]
    counterparts: Int[Tensor, "entries groups"]
    spelling: Int[Tensor, " entries"]
    words: tuple[str, ...]
    keys: Int[Tensor, " paths"]
    nexts: Int[Tensor, " paths"]
    depth: int
    tokenizer: str
    left_out: tuple[str, ...]

    @property
    def direction(self) -> Float[Tensor, "states tokens"]:
        """Signed weight in [-1, 1]: positive for the first of two groups, negative for the second, 0 for neither.

        Raises:
            BadInputError: The attribute has more than two groups, which no sign can tell apart.
        """
        if len(self.groups) != 2:
            raise BadInputError(
                f"a direction needs an attribute of two groups, got {len(self.groups)} in {self.attribute!r}; "
                "use group and weight."
            )
        return self.weight * (1 - 2 * self.group.clamp(min=0)).to(self.weight.dtype)

    def to(self, device: torch.device) -> "TokenWeights":
        """The same weights with their tensors on a device."""
        moved = {name: getattr(self, name).to(device) for name in _DTYPES}
        return replace(self, **moved)

    def states(self, written: Int[Tensor, "rows written"]) -> Int[Tensor, " rows"]:
        """The state of each row, a function of its last ``depth`` ids alone; 1 where nothing is written.

        A piece that does not lead on from the state before it starts anew. Tensor operations only, so that beams may
        be reordered and drafted tokens taken back, and a device is never waited for.

        Args:
            written: Vocabulary ids of the generated text so far, without the prompt.
        """
        rows, length = written.shape
        if length == 0:
            return torch.ones(rows, dtype=torch.int64, device=written.device)
        # A word that began with the text fits into the last ``depth`` ids only if they are the whole text.
        state = torch.full((rows,), int(length <= self.depth), dtype=torch.int64, device=written.device)
        if not self.depth:
            return state
        for token in written[:, -self.depth :].to(torch.int64).T.contiguous():
            state = self._follow((state << _STATE) + token, self._follow(token))
        return state

    def _follow(self, key: Int[Tensor, " rows"], otherwise: Int[Tensor, " rows"] | int = 0) -> Int[Tensor, " rows"]:
        place = torch.searchsorted(self.keys, key).clamp(max=len(self.keys) - 1)
        return torch.where(self.keys[place] == key, self.nexts[place], otherwise)


def tokenizer_hash(tokenizer: "PreTrainedTokenizerBase") -> str:
    """SHA-256 of a tokenizer's vocabulary: every token with its id, added ones included."""
    vocabulary = json.dumps(tokenizer.get_vocab(), sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(vocabulary.encode("ascii")).hexdigest()


def weights_from_tokens(
    attribute: str,
    groups: tuple[str, ...],
    token_ids: Int[Tensor, " tokens"],
    beta: Float[Tensor, " tokens"],
    tokenizer: "PreTrainedTokenizerBase",
) -> TokenWeights:
    """Weights of single tokens, wherever they stand, as the paper has them: no word, no stand-in.

    Args:
        attribute: Name of an attribute of two groups.
        groups: Its groups.
        token_ids: Vocabulary ids, unique and ascending.
        beta: In [-1, 1]; positive for the first group. Tokens of 0 are left out.
        tokenizer: What the ids belong to.

    Raises:
        BadInputError: Not two groups, or a beta that is out of range or 0 throughout.
    """
    kept = beta != 0
    if len(groups) != 2 or not bool(kept.any()) or not bool((beta.abs() <= 1).all()):
        raise BadInputError(
            f"weights of {len(groups)} groups and {int(kept.sum())} tokens with a beta; allowed: two groups, every "
            "beta in [-1, 1], one at least not 0."
        )
    ids, beta = token_ids[kept].to(torch.int64), beta[kept].float()
    tokens = len(ids)

    def in_both_states(values: Tensor, kind: torch.dtype) -> Tensor:
        return values.to(kind).expand(2, tokens).contiguous()

    return TokenWeights(
        attribute=attribute,
        groups=groups,
        token_ids=ids,
        group=in_both_states(beta < 0, torch.int8),
        weight=in_both_states(beta.abs(), torch.float32),
        entry=in_both_states(torch.arange(tokens), torch.int16),
        neutral_forms=torch.full((tokens, 1), -1, dtype=torch.int16),
        counterparts=torch.full((tokens, 2), -1, dtype=torch.int16),
        spelling=torch.zeros(tokens, dtype=torch.int8),
        words=tuple(str(token) for token in tokenizer.convert_ids_to_tokens(ids.tolist())),
        keys=torch.empty(0, dtype=torch.int64),
        nexts=torch.empty(0, dtype=torch.int64),
        depth=0,
        tokenizer=tokenizer_hash(tokenizer),
        left_out=(),
    )


def save_weights(weights: TokenWeights, path: Path) -> None:
    """Write token weights as safetensors; what is not a tensor is JSON in its metadata."""
    tensors = {name: getattr(weights, name).detach().cpu().to(kind).contiguous() for name, kind in _DTYPES.items()}
    metadata = {
        "format": _FORMAT,
        "attribute": weights.attribute,
        "tokenizer": weights.tokenizer,
        "depth": str(weights.depth),
        **{name: json.dumps(getattr(weights, name)) for name in ("groups", "words", "left_out")},
    }
    save_file(tensors, path, metadata=metadata)


def load_weights(path: Path, tokenizer: "PreTrainedTokenizerBase") -> TokenWeights:
    """Read token weights for a tokenizer.

    Raises:
        ArtefactError: Not a safetensors file of ours, inconsistent in itself, or not finite.
        TokenizerMismatchError: Made for another tokenizer.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dict)
    except (SafetensorError, OSError) as error:
        raise ArtefactError(f"{path.name}: {error}; give a file written by evenhand's save_weights.") from error
    if metadata.get("format") != _FORMAT or set(tensors) != set(_DTYPES):
        raise ArtefactError(
            f"{path.name}: format {metadata.get('format')!r} with {sorted(tensors)}; allowed: {_FORMAT!r}; "
            "make it again with save_weights."
        )
    kinds = {name: tensor.dtype for name, tensor in tensors.items()}
    if kinds != _DTYPES:
        wrong = sorted(name for name in _DTYPES if kinds[name] != _DTYPES[name])
        raise ArtefactError(f"{path.name}: {', '.join(wrong)} of another type than save_weights writes; make it again.")
    depth = metadata.get("depth", "")
    if not depth.isdecimal() or len(depth) > 4:
        raise ArtefactError(f"{path.name}: depth is {depth!r}; it must be a small number; make it again.")
    _check_shapes(tensors, path.name)
    weights = TokenWeights(
        attribute=metadata.get("attribute", ""),
        groups=_names(metadata, "groups", path.name),
        words=_names(metadata, "words", path.name),
        left_out=_names(metadata, "left_out", path.name),
        depth=int(depth),
        tokenizer=metadata.get("tokenizer", ""),
        **tensors,
    )
    _check_tables(weights, path.name)
    _check_stand_ins(weights, path.name)
    _check_paths(weights, path.name)
    return check_tokenizer(weights, tokenizer)


def check_tokenizer(weights: TokenWeights, tokenizer: "PreTrainedTokenizerBase") -> TokenWeights:
    """The same weights, if they belong to a tokenizer.

    Raises:
        TokenizerMismatchError: They were made for another one.
    """
    got = tokenizer_hash(tokenizer)
    if weights.tokenizer != got:
        raise TokenizerMismatchError(
            f"these token weights were made for tokenizer {weights.tokenizer[:12] or '?'}, the model has {got[:12]}. "
            "Make weights for this tokenizer with weights_from_words."
        )
    return weights


def _names(metadata: Mapping[str, str], field: str, name: str) -> tuple[str, ...]:
    try:
        words = json.loads(metadata.get(field, "null"))
    except (ValueError, RecursionError) as error:
        raise ArtefactError(f"{name}: {field} is not JSON ({error}); make it again.") from error
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise ArtefactError(f"{name}: {field} is {str(words)[:80]!r}; it must be a list of words; make it again.")
    return tuple(words)


def _check_shapes(tensors: Mapping[str, Tensor], name: str) -> None:
    shapes = {key: tuple(tensor.shape) for key, tensor in tensors.items()}
    tokens, entries, paths = (tensors[key].numel() for key in ("token_ids", "spelling", "keys"))
    states = shapes["group"][0] if shapes["group"] else 0
    flat = {"token_ids": tokens, "spelling": entries, "keys": paths, "nexts": paths}
    wanted: dict[str, tuple[int, ...]] = {key: (size,) for key, size in flat.items()}
    wanted |= dict.fromkeys(("group", "weight", "entry"), (states, tokens))
    agree = all(shapes[key] == shape for key, shape in wanted.items())
    tables = all(len(shapes[key]) == 2 and shapes[key][0] == entries for key in ("neutral_forms", "counterparts"))
    if not agree or not tables or not tokens or not entries or states < 2:
        raise ArtefactError(f"{name}: shapes {shapes} do not agree, or are empty; make it again.")


def _check_tables(weights: TokenWeights, name: str) -> None:
    ids, group, weight, entry = weights.token_ids, weights.group, weights.weight, weights.entry
    groups, entries = len(weights.groups), len(weights.words)
    listed = group >= 0
    checks = {
        "groups are fewer than two, or not each once": groups < 2 or len(set(weights.groups)) != groups,
        "attribute, a group or a word is empty": not all((weights.attribute, *weights.groups, *weights.words)),
        "token ids are not ascending, unique and below 2**32": not bool((ids[1:] > ids[:-1]).all())
        or int(ids[0]) < 0
        or int(ids[-1]) >= 1 << _STATE,
        "a group's index is not declared": bool(((group < -1) | (group >= groups)).any()),
        "weights hold NaN, infinity or a number outside [0, 1]": not bool(((weight >= 0) & (weight <= 1)).all()),
        "a token without a group has a weight": bool((weight[~listed] != 0).any()),
        "entries do not agree with groups": bool(((entry >= 0) != listed).any()),
        "an entry is not in the tables": bool(((entry < -1) | (entry >= entries)).any()),
        "words and spellings do not agree": entries != len(weights.spelling),
        "a spelling is unknown": bool(((weights.spelling < 0) | (weights.spelling >= len(SPELLINGS))).any()),
        "what counts in state 0 does not count in every state": bool((listed[0] & ~listed).any()),
    }
    _refuse(checks, name)


def _check_stand_ins(weights: TokenWeights, name: str) -> None:
    tokens, groups = len(weights.token_ids), len(weights.groups)
    forms, others = weights.neutral_forms, weights.counterparts
    _refuse(
        {
            "stand-ins are not columns": any(bool(((t < -1) | (t >= tokens)).any()) for t in (forms, others)),
            "counterparts are not one per group": others.shape[1] != groups,
        },
        name,
    )
    state, column = (weights.group >= 0).nonzero(as_tuple=True)
    own, row = weights.group[state, column].long(), weights.entry[state, column].long()
    # What a stand-in carries at the very place where the entry counts; a padding -1 carries nothing.
    neutral = _carried(weights, state, forms[row].long())
    other = _carried(weights, state, others[row].long())
    foreign = (other >= 0) & (other != torch.arange(groups))
    _refuse(
        {
            "a group's own token stands as a neutral form": bool((neutral >= 0).any()),
            "a counterpart is not of its group": bool(foreign.any()),
            "an entry is its own group's counterpart": bool((others[row].gather(1, own[:, None]) >= 0).any()),
        },
        name,
    )


def _carried(
    weights: TokenWeights, state: Int[Tensor, " cells"], columns: Int[Tensor, "cells some"]
) -> Int[Tensor, "cells some"]:
    found = weights.group[state[:, None], columns.clamp(min=0)].long()
    return torch.where(columns >= 0, found, -1)


def _check_paths(weights: TokenWeights, name: str) -> None:
    keys, nexts, states = weights.keys, weights.nexts, weights.group.shape[0]
    inner = torch.arange(2, states)
    _refuse(
        {
            "keys are not ascending and unique": not bool((keys[1:] > keys[:-1]).all()) or bool((keys < 0).any()),
            "an inner state is not reached exactly once": not torch.equal(nexts.sort().values, inner),
        },
        name,
    )
    parent = dict(zip(nexts.tolist(), (keys >> _STATE).tolist(), strict=True))
    level = {0: 0, 1: 0}
    for _ in range(len(parent)):
        found = {child: level[above] + 1 for child, above in parent.items() if child not in level and above in level}
        if not found:
            break
        level |= found
    _refuse(
        {
            "a path does not begin at a word's start": len(level) != states,
            f"depth is {weights.depth} and the paths are {max(level.values())} long": max(level.values())
            != weights.depth,
        },
        name,
    )


def _refuse(checks: Mapping[str, bool], name: str) -> None:
    for what, wrong in checks.items():
        if wrong:
            raise ArtefactError(f"{name}: {what}; make it again with save_weights.")
