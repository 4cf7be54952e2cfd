"""What stands around a word, in a tokenizer's pieces. In: a tokenizer, context words. Out: tables over its vocabulary.

A guard asks three things of the text before a word: is it inside a quotation, does a sentence begin here, is the
word before one of a few. The last two are read by a small automaton over kinds of pieces, so that a decoding step
needs a fixed number of look-ups however many words are guarded.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int, UInt8
from numpy import ndarray

from evenhand.models.decode import text_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "CONTINUES",
    "HYPHEN",
    "QUOTE",
    "SENTENCE_END",
    "TITLE",
    "WORD_START",
    "Automaton",
    "automaton",
    "piece_flags",
    "piece_texts",
    "written_forms",
]

QUOTE = 1  # an odd number of double quotes: a quotation opens or closes
SENTENCE_END = 2  # a full stop, question or exclamation mark, colon, new line, bullet; or no text at all
WORD_START = 4  # a space, then a letter
TITLE = 8  # a space, then a word that begins with one capital letter
CONTINUES = 16  # begins with a letter without a space: the word before goes on
HYPHEN = 32  # begins with a hyphen without a space: the word before is part of a compound
_STOP = 64  # a lone full stop, which may belong to an abbreviation
_ABBREVIATION = 128  # a title or an initial, whose full stop ends no sentence

_QUOTES = '"\u201c\u201d\u201e\u00ab\u00bb'
_CLOSERS = "\"'\u201d\u2019\u00bb)]*_"
_ENDS = ".!?:\u2026\u3002\uff01\uff1f"
_BULLETS = frozenset("*#>\u2022")
_HYPHENS = "-\u2010\u2011"
_TITLES = frozenset({"Mr", "Mrs", "Ms", "Dr", "St", "Prof", "Sr", "Jr", "Rev", "Sgt", "Lt", "Capt", "Gen", "Hon"})
_ANCHORS = ("a", ".", "the")

# Kinds of pieces the automaton tells apart; pieces of context words have symbols of their own above these.
_OTHER, _END, _LONE_STOP, _ABBREVIATED, _CLOSER = range(_KINDS := 5)


def piece_texts(tokenizer: "PreTrainedTokenizerBase") -> list[str]:
    """The text of every vocabulary id as it reads inside a text, its leading space included; empty for special ones."""
    size = max(tokenizer.get_vocab().values()) + 1
    found = ((anchor, tokenizer.encode(anchor, add_special_tokens=False)) for anchor in _ANCHORS)
    # Some decoders drop the first space of a text, so every piece is read after another one.
    anchor, ids = next(((a, i) for a, i in found if len(i) == 1 and text_of(tokenizer, i).strip() == a), ("", []))
    after = len(text_of(tokenizer, ids)) if anchor else 0
    together = [[*ids, token] for token in range(size)]
    fast = getattr(tokenizer, "backend_tokenizer", None)
    texts = [text_of(tokenizer, pair) for pair in together] if fast is None else fast.decode_batch(together)
    return [text[after:] for text in texts]


def piece_flags(texts: Sequence[str], tokenizer: "PreTrainedTokenizerBase") -> UInt8[ndarray, " vocab"]:
    """What each piece does to a text, as bits: ``QUOTE``, ``SENTENCE_END``, ``WORD_START``, ``TITLE`` ..."""
    flags = np.zeros(len(texts), dtype=np.uint8)
    for token, text in enumerate(texts):
        body = text[1:] if text[:1] == " " else text
        if not body.isalpha():
            flags[token] = _flags_of_marks(text)
            continue
        flags[token] = CONTINUES if body is text else WORD_START
        if body in _TITLES or (len(body) == 1 and body.isupper() and body != "I"):
            flags[token] |= _ABBREVIATION
        if body is not text and len(body) > 1 and body[0].isupper() and body[1:].islower():
            flags[token] |= TITLE
    for mark in _QUOTES[1:]:
        # Byte-level tokenizers may write a typographic quote in several pieces, none of which is one.
        ids = tokenizer.encode(mark, add_special_tokens=False)
        if len(ids) > 1 and not any(quote in texts[token] for token in ids for quote in _QUOTES):
            flags[ids[-1]] |= QUOTE
    return flags


def _flags_of_marks(text: str) -> int:
    if not text:
        return SENTENCE_END
    body, core = text.strip(), text.rstrip()
    flags = QUOTE if sum(text.count(quote) for quote in _QUOTES) % 2 else 0
    if text[0] in _HYPHENS:
        flags |= HYPHEN
    elif text[0].isalpha():
        flags |= CONTINUES
    elif text[0] == " " and body[:1].isalpha():
        flags |= WORD_START
    bare = core.rstrip(_CLOSERS)
    if body == ".":
        flags |= _STOP
    ends = bare[-1:] in _ENDS if bare else False
    new_line = "\n" in text[len(core) :] or (body != "" and _BULLETS.issuperset(body))
    if new_line or (ends and bare[:-1].strip() not in _TITLES):
        flags |= SENTENCE_END
    return flags


def written_forms(
    word: str, tokenizer: "PreTrainedTokenizerBase", *, at_start: bool = False
) -> frozenset[tuple[int, ...]]:
    """The pieces of a word after a space in lower, title and upper case; ``at_start``: also as a text begins.

    A spelling of more pieces than the lower-case one is rare in texts and dear to look for; it is left out.
    """
    cases = (word, word.capitalize(), word.upper())
    found = [_after_a_space(text, tokenizer) for text in cases]
    most = len(found[0])
    if at_start:
        found += [tuple(tokenizer.encode(text, add_special_tokens=False)) for text in cases]
    unknown = tokenizer.unk_token_id
    return frozenset(ids for ids in found if 0 < len(ids) <= most and unknown not in ids)


def _after_a_space(text: str, tokenizer: "PreTrainedTokenizerBase") -> tuple[int, ...]:
    for anchor in _ANCHORS:
        before = tokenizer.encode(anchor, add_special_tokens=False)
        ids = tokenizer.encode(f"{anchor} {text}", add_special_tokens=False)
        if ids[: len(before)] == before:
            return tuple(ids[len(before) :])
    return tuple(tokenizer.encode(f" {text}", add_special_tokens=False))


@dataclass(frozen=True, slots=True)
class Automaton:
    """Reads the last pieces of a text; its states say what a word that comes next would stand after.

    Attributes:
        symbols: The symbol of each vocabulary id; one more, last, for the start of a text.
        follow: The state after a state and a symbol. The state of a single symbol has the symbol's number.
        begins: Per state, whether a sentence begins there.
        words: Per state, the context words the text ends with.
        window: How many symbols have to be read.
    """

    symbols: Int[ndarray, " ids"]
    follow: Int[ndarray, "states symbols"]
    begins: tuple[bool, ...]
    words: tuple[frozenset[str], ...]
    window: int


def automaton(
    flags: UInt8[ndarray, " vocab"], texts: Sequence[str], patterns: Mapping[str, Iterable[tuple[int, ...]]]
) -> Automaton:
    """An Aho-Corasick automaton (1975) over the context words' pieces, and over the ends of sentences.

    Args:
        flags: Of ``piece_flags``.
        texts: Of ``piece_texts``.
        patterns: Context word -> the sequences of pieces it can be written in.
    """
    kinds = _kinds(flags, texts)
    symbols = np.append(kinds, _END)
    kind_of = list(range(_KINDS))
    own: dict[int, int] = {}
    for piece in sorted({piece for forms in patterns.values() for form in forms for piece in form}):
        own[piece] = len(kind_of)
        kind_of.append(int(kinds[piece]))
        symbols[piece] = own[piece]
    written = {tuple(own[piece] for piece in form): word for word, forms in patterns.items() for form in forms}
    states: dict[tuple[int, ...], int] = {(symbol,): symbol for symbol in range(len(kind_of))}
    for pair in _pairs_that_matter(kind_of):
        states.setdefault(pair, len(states))
    for form in sorted(written):
        for end in range(1, len(form) + 1):
            states.setdefault(form[:end], len(states))
    follow = [[_longest((*state, symbol), states) for symbol in range(len(kind_of))] for state in states]
    return Automaton(
        symbols=symbols,
        follow=np.array(follow, dtype=np.int64),
        begins=tuple(_begins(tuple(kind_of[symbol] for symbol in state)) for state in states),
        words=tuple(
            frozenset(written[tail] for start in range(len(state)) if (tail := state[start:]) in written)
            for state in states
        ),
        window=max(map(len, states)),
    )


def _kinds(flags: UInt8[ndarray, " vocab"], texts: Sequence[str]) -> Int[ndarray, " vocab"]:
    closes = np.fromiter((text != "" and not text.strip(_CLOSERS) for text in texts), dtype=bool, count=len(texts))
    order = [(flags & _STOP > 0, _LONE_STOP), (flags & SENTENCE_END > 0, _END)]
    order += [(flags & _ABBREVIATION > 0, _ABBREVIATED), (closes, _CLOSER)]
    return np.select([where for where, _ in order], [kind for _, kind in order], default=_OTHER).astype(np.int64)


def _pairs_that_matter(kind_of: Sequence[int]) -> list[tuple[int, int]]:
    """Symbols whose meaning depends on the one before: the stop of an abbreviation, the quote after a stop."""
    before = {_LONE_STOP: {_ABBREVIATED}, _CLOSER: {_END, _LONE_STOP}}
    return [
        (first, second)
        for second, kind in enumerate(kind_of)
        for first, other in enumerate(kind_of)
        if other in before.get(kind, ())
    ]


def _begins(kinds: tuple[int, ...]) -> bool:
    last, before = kinds[-1], kinds[-2] if len(kinds) > 1 else _OTHER
    if last == _LONE_STOP:
        return before != _ABBREVIATED
    return last == _END or (last == _CLOSER and before in (_END, _LONE_STOP))


def _longest(symbols: tuple[int, ...], states: Mapping[tuple[int, ...], int]) -> int:
    return next(states[symbols[start:]] for start in range(len(symbols)) if symbols[start:] in states)
