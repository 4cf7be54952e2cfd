"""Which tokens carry an attribute. In: an attribute and a tokenizer. Out: token ids, directions, neutral forms.

A word list is independent of any tokenizer; here it is mapped onto one. A word counts where the tokenizer has it
as one token that starts a word (`` woman``, `` Woman``, and ``Woman`` at the start of a text). Words of several
pieces are left out and counted. Saved as safetensors with the tokenizer's hash, refused for any other tokenizer.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from evenhand.errors import ArtefactError, BadInputError, TokenizerMismatchError
from evenhand.models.decode import text_of
from evenhand.records import Attribute

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "TokenWeights",
    "check_tokenizer",
    "load_weights",
    "save_weights",
    "tokenizer_hash",
    "weights_from_words",
]

_FORMAT = "evenhand-token-weights-1"
_MASKS = ("neutral_forms", "counterparts")


@dataclass(frozen=True, slots=True)
class TokenWeights:
    """The tokens a mitigation may move, sorted by id.

    Attributes:
        attribute: Name of the attribute.
        token_ids: Unique, ascending vocabulary ids: the groups' tokens and their neutral forms.
        direction: In [-1, 1]; positive for the first declared group, negative for the second, 0 for neutral forms.
        neutral_forms: Row t marks the tokens, of direction 0, that can neutrally stand in the place of token t.
        counterparts: Row t marks the tokens, of the other group, that stand in the place of token t.
        tokenizer: Hash of the tokenizer the ids belong to.
        left_out: Words that are not one token in this tokenizer.
    """

    attribute: str
    token_ids: Int[Tensor, " tokens"]
    direction: Float[Tensor, " tokens"]
    neutral_forms: Bool[Tensor, "tokens tokens"]
    counterparts: Bool[Tensor, "tokens tokens"]
    tokenizer: str
    left_out: tuple[str, ...]

    def to(self, device: torch.device) -> "TokenWeights":
        """The same weights with their tensors on a device."""
        moved = {name: getattr(self, name).to(device) for name in ("token_ids", "direction", *_MASKS)}
        return replace(self, **moved)


def tokenizer_hash(tokenizer: "PreTrainedTokenizerBase") -> str:
    """SHA-256 of a tokenizer's vocabulary: every token with its id, added ones included."""
    vocabulary = json.dumps(tokenizer.get_vocab(), sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(vocabulary.encode("ascii")).hexdigest()


def weights_from_words(attribute: Attribute, tokenizer: "PreTrainedTokenizerBase") -> TokenWeights:
    """Token weights straight from an attribute's word lists: +1 for the first group's words, -1 for the second's.

    No training and no text is needed.

    Raises:
        BadInputError: The attribute has not two groups, or a group has no word that is one token.
    """
    if len(attribute.groups) != 2:
        raise BadInputError(
            f"token weights need an attribute of two groups, got {len(attribute.groups)} in {attribute.name!r}."
        )
    sign = dict(zip(attribute.groups, (1.0, -1.0), strict=True))
    pieces: dict[int, float] = {}
    word_of: dict[int, str] = {}
    left_out: list[str] = []
    for group in attribute.groups:
        found = {word: _one_token_forms(word, tokenizer) for word in attribute.steering_words[group]}
        if not any(found.values()):
            raise BadInputError(f"no word of group {group!r} is one token in this tokenizer; add words to it.")
        left_out += [word for word, tokens in found.items() if not tokens]
        for word, tokens in found.items():
            for token in tokens:
                pieces[token], word_of[token] = sign[group], word
    neutral = {form for forms in attribute.neutral_forms.values() for form in forms}
    places = {word: _one_token_forms(word, tokenizer) for word in {*word_of.values(), *neutral}}
    ids = sorted({*pieces, *(token for word in neutral for token in places[word])})
    index = {token: i for i, token in enumerate(ids)}
    masks = {name: torch.zeros(len(ids), len(ids), dtype=torch.bool) for name in _MASKS}
    for token, word in word_of.items():
        forms, other_word = attribute.neutral_forms.get(word, ()), attribute.counterparts.get(word)
        neutral_tokens = [found for form in forms for found in _as(word, token, form, places)]
        stand_ins = {
            # A group's own word is never a neutral form, so that no group's token can gain.
            "neutral_forms": [found for found in neutral_tokens if found not in pieces],
            "counterparts": [] if other_word is None else _as(word, token, other_word, places),
        }
        for name, others in stand_ins.items():
            masks[name][index[token], [index[other] for other in others]] = True
    return TokenWeights(
        attribute=attribute.name,
        token_ids=torch.tensor(ids),
        direction=torch.tensor([pieces.get(token, 0.0) for token in ids]),
        **masks,
        tokenizer=tokenizer_hash(tokenizer),
        left_out=tuple(left_out),
    )


def _as(word: str, token: int, other: str, places: Mapping[str, Mapping[int, str]]) -> list[int]:
    """The tokens of another word that are spelt as this word's token is: same case, same place in a text."""
    return [found for found, spelling in places.get(other, {}).items() if spelling == places[word][token]]


def _one_token_forms(word: str, tokenizer: "PreTrainedTokenizerBase") -> dict[int, str]:
    """Token id -> its form (``lower``, ``title``, ``upper``, ``first``) for each way the word is one token."""
    found: dict[int, str] = {}
    spellings = {
        f" {word}": "lower",
        f" {word.capitalize()}": "title",
        f" {word.upper()}": "upper",
        word.capitalize(): "first",
    }
    for spelling, form in spellings.items():
        ids = tokenizer.encode(spelling, add_special_tokens=False)
        if len(ids) == 1 and text_of(tokenizer, ids).strip() == spelling.strip():
            found.setdefault(int(ids[0]), form)
    return found


def save_weights(weights: TokenWeights, path: Path) -> None:
    """Write token weights as safetensors; the tokenizer's hash is in its metadata."""
    tensors = {
        "token_ids": weights.token_ids.to(torch.int64).contiguous(),
        "direction": weights.direction.float().contiguous(),
        **{name: getattr(weights, name).to(torch.uint8).contiguous() for name in _MASKS},
    }
    metadata = {
        "format": _FORMAT,
        "attribute": weights.attribute,
        "tokenizer": weights.tokenizer,
        "left_out": json.dumps(weights.left_out),
    }
    save_file(tensors, path, metadata=metadata)


def load_weights(path: Path, tokenizer: "PreTrainedTokenizerBase") -> TokenWeights:
    """Read token weights for a tokenizer.

    Raises:
        ArtefactError: Not a safetensors file of ours, of inconsistent shapes, or not finite.
        TokenizerMismatchError: Made for another tokenizer.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dict)
    except (SafetensorError, OSError) as error:
        raise ArtefactError(f"{path.name}: {error}; give a file written by evenhand's save_weights.") from error
    if metadata.get("format") != _FORMAT or set(tensors) != {"token_ids", "direction", *_MASKS}:
        raise ArtefactError(
            f"{path.name}: format {metadata.get('format')!r} with {sorted(tensors)}; allowed: {_FORMAT!r}."
        )
    _check_tensors(tensors, path.name)
    weights = TokenWeights(
        attribute=metadata.get("attribute", ""),
        token_ids=tensors["token_ids"],
        direction=tensors["direction"],
        neutral_forms=tensors["neutral_forms"].bool(),
        counterparts=tensors["counterparts"].bool(),
        tokenizer=metadata.get("tokenizer", ""),
        left_out=_left_out(metadata, path.name),
    )
    return check_tokenizer(weights, tokenizer)


def _check_tensors(tensors: Mapping[str, Tensor], name: str) -> None:
    ids, direction = tensors["token_ids"], tensors["direction"]
    forms, others = (tensors[mask] for mask in _MASKS)
    kinds = (ids.dtype, direction.dtype, forms.dtype, others.dtype)
    if kinds != (torch.int64, torch.float32, torch.uint8, torch.uint8):
        raise ArtefactError(f"{name}: got {kinds}; allowed: int64, float32 and twice uint8; make it again.")
    tokens = ids.numel()
    shapes = (ids.shape, direction.shape, forms.shape, others.shape)
    if not tokens or shapes != ((tokens,), (tokens,), (tokens, tokens), (tokens, tokens)):
        raise ArtefactError(f"{name}: shapes {shapes} do not agree, or are empty.")
    if not bool(torch.isfinite(direction).all()) or float(direction.abs().max()) > 1:
        raise ArtefactError(f"{name}: direction holds NaN, infinity or |weight| > 1; make it again.")
    if not bool((ids[1:] > ids[:-1]).all()) or int(ids[0]) < 0:
        raise ArtefactError(f"{name}: token ids are not ascending and unique; make it again.")
    if bool(forms[:, direction != 0].any()):
        raise ArtefactError(f"{name}: a group's own token stands as a neutral form; make it again.")
    if bool(((direction[:, None] * direction >= 0) & others.bool()).any()):
        raise ArtefactError(f"{name}: a counterpart is not of the other group; make it again.")


def _left_out(metadata: Mapping[str, str], name: str) -> tuple[str, ...]:
    try:
        words = json.loads(metadata.get("left_out", "[]"))
    except ValueError as error:
        raise ArtefactError(f"{name}: left_out is not JSON ({error}); make it again.") from error
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise ArtefactError(f"{name}: left_out is {words!r}; it must be a list of words; make it again.")
    return tuple(words)


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
