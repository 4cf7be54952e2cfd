"""When a listed word is left alone. In: what is written, the drafted word, the next one. Out: a reason, or none.

A listed word stands for its group in most places, not in all: inside a quotation it is somebody else's, in a name
(Stephen King) it is no noun, before some words it means something else (``king size``), and ``black`` speaks of a
person only before one. The attribute's guards say which; here they become tables on one tokenizer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Int, Integer, UInt8
from numpy import ndarray
from torch import Tensor
from torch.nn.functional import pad

from evenhand.classify.words import words_of
from evenhand.errors import BadInputError
from evenhand.mitigate.ala.contexts import (
    CONTINUES,
    HYPHEN,
    QUOTE,
    TITLE,
    Automaton,
    automaton,
    piece_flags,
    piece_texts,
    written_forms,
)
from evenhand.mitigate.ala.weights import TokenWeights
from evenhand.records import Attribute, Guard

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["REASONS", "GuardReader", "GuardTables", "blocked", "exempt_groups", "guard_tables"]

REASONS = ("", "sense not known", "other sense", "name", "other word", "quoted")
"""Why a word is left alone, by code; where several hold, the last one is given."""

_NOT_KNOWN, _OTHER_SENSE, _NAME, _OTHER_WORD, _QUOTED = range(1, 6)
_TITLE_SPELLINGS = (1, 3)  # of weights.SPELLINGS
# Capital or not, a pronoun is no name.
_PRONOUNS = frozenset({"he", "she", "him", "her", "his", "hers", "himself", "herself"})
_TENSORS = ("symbols", "follow", "classes", "places", "before", "unseen", "after")


@dataclass(frozen=True, slots=True)
class GuardTables:
    """An attribute's guards on one tokenizer. The last row of a table over ids or entries stands for none.

    Attributes:
        symbols: What each piece is to the automaton that reads the text before a word, times 2; odd where the piece
            opens or closes a double quotation.
        follow: The automaton's state after a state and a symbol.
        classes: What each piece is as the one right after a word.
        places: Where the last symbols before a word stand, counted back from the piece written last.
        before: Reason code by entry, quotation open or not, and state; ``unseen``: where no upcoming piece is known.
        after: Reason code by entry and class of the upcoming piece.
        left_out: Words around a guarded one that cannot be told in this tokenizer.
    """

    symbols: Integer[Tensor, " ids"]
    follow: Int[Tensor, "states symbols"]
    classes: Integer[Tensor, " ids"]
    places: Int[Tensor, "entries window"]
    before: Int[Tensor, "entries 2 states"]
    unseen: Int[Tensor, "entries 2 states"]
    after: Int[Tensor, "entries classes"]
    left_out: tuple[str, ...]

    def to(self, device: torch.device) -> "GuardTables":
        """The same tables on a device."""
        return replace(self, **{name: getattr(self, name).to(device) for name in _TENSORS})


def blocked(
    tables: GuardTables,
    weights: TokenWeights,
    written: Int[Tensor, "rows written"],
    drafted_entry: Int[Tensor, " rows"],
    upcoming: Int[Tensor, " rows"] | None,
) -> Int[Tensor, " rows"]:
    """Why each row's drafted word is left alone: an index into ``REASONS``, 0 where it is free.

    A function of its arguments alone, of a fixed number of tensor operations; a device is never waited for. Double
    quotes are counted from the start of the text: one that is never closed keeps all that follows.

    Args:
        tables: Made for these weights.
        weights: The entries' words.
        written: Vocabulary ids of the generated text so far, without the prompt.
        drafted_entry: Entry of the word whose last piece is drafted, -1 for none.
        upcoming: The id that would follow the draft, -1 where it is not known; None where no row knows. Unknown,
            words that mean a person only before some words are left alone, and other guards of the words after
            do not act.
    """
    last = len(tables.symbols) - 1
    window = tables.places.shape[1]
    if (missing := window + weights.depth - written.shape[1]) > 0:
        written = pad(written, (missing, 0), value=last)
    pieces = tables.symbols.take(written.clamp(max=last)).long()
    open_quote = pieces.sum(dim=1) & 1
    near = pieces[:, -window:]
    if weights.depth:
        near = pieces.gather(1, tables.places[drafted_entry] + pieces.shape[1])
    state, *rest = (near >> 1).unbind(dim=1)
    for symbol in rest:
        state = tables.follow[state, symbol]
    if upcoming is None:
        return tables.unseen[drafted_entry, open_quote, state]
    code = tables.before[drafted_entry, open_quote, state]
    return torch.maximum(code, tables.after[drafted_entry, tables.classes.take(upcoming.clamp(max=last)).long()])


class GuardReader:
    """``blocked`` for one row at a time, in Python's numbers: what a step on CPU asks of its few rows.

    Args:
        tables: On CPU.
    """

    def __init__(self, tables: GuardTables) -> None:
        self._symbols, self._follow, self._classes, self._before, self._unseen, self._after = (
            getattr(tables, name).numpy() for name in ("symbols", "follow", "classes", "before", "unseen", "after")
        )
        self._window, self._last = tables.places.shape[1], len(self._symbols) - 1
        self._pieces_before = (-1 - tables.places[:, -1]).tolist()
        self._quotes = frozenset((self._symbols[:-1] & 1).nonzero()[0].tolist())
        self._anywhere = (self._unseen[:, 0] == 0).all(axis=1).tolist()

    def code(self, written: Sequence[int], entry: int, upcoming: int | None) -> int:
        """Why the drafted word is left alone; see ``blocked``, of whose arguments these are one row.

        Args:
            written: Vocabulary ids.
            entry: Not -1.
            upcoming: None where no row knows.
        """
        open_quote = 0 if self._quotes.isdisjoint(written) else sum(token in self._quotes for token in written) & 1
        # Most words are free after any others, as long as no quotation is open.
        state = 0 if self._anywhere[entry] and not open_quote else self._state(written, entry)
        if upcoming is None:
            return int(self._unseen[entry, open_quote, state])
        kind = self._classes[min(upcoming, self._last)]
        return max(int(self._before[entry, open_quote, state]), int(self._after[entry, kind]))

    def _state(self, written: Sequence[int], entry: int) -> int:
        """The automaton's, after the last symbols before the word."""
        end = max(len(written) - self._pieces_before[entry], 0)
        near = [min(token, self._last) for token in written[max(end - self._window, 0) : end]]
        symbols = [int(self._symbols[token]) >> 1 for token in [self._last] * (self._window - len(near)) + near]
        state = symbols[0]
        for symbol in symbols[1:]:
            state = int(self._follow[state, symbol])
        return state


def exempt_groups(asked: Sequence[str], attribute: Attribute) -> Bool[Tensor, "rows groups"]:
    """The groups each question names: a word of theirs in the sense that counts, or the group's name.

    The user's own words are not taken back. A guarded word names its group only where its guard lets it; a group's
    name may stand anywhere, so that a choice of ``White, Black or Asian`` names all three.
    """
    guards = {guard.word: guard for guard in attribute.guards}
    named = [[_names(words_of(text), group, attribute, guards) for group in attribute.groups] for text in asked]
    return torch.tensor(named, dtype=torch.bool).reshape(len(asked), len(attribute.groups))


def _names(words: Sequence[str], group: str, attribute: Attribute, guards: Mapping[str, Guard]) -> bool:
    listed, name = frozenset(attribute.steering_words[group]), words_of(group)
    for place, word in enumerate(words):
        guard = guards.get(word)
        around = (words[place - 1] if place else "", words[place + 1] if place + 1 < len(words) else "")
        if listed and tuple(words[place : place + len(name)]) == name and not (guard and _means_else(guard, *around)):
            return True
        if word in listed and not (guard and (_means_else(guard, *around) or _lacks(guard, around[1]))):
            return True
    return False


def _means_else(guard: Guard, before: str, after: str) -> bool:
    return before in guard.before or after in guard.after


def _lacks(guard: Guard, after: str) -> bool:
    return bool(guard.needs_after) and after not in guard.needs_after


def guard_tables(weights: TokenWeights, attribute: Attribute, tokenizer: "PreTrainedTokenizerBase") -> GuardTables:
    """An attribute's guards on the tokenizer of its token weights; takes a few seconds for a large vocabulary.

    A word after which another sense begins counts by its first piece, so that the guard may also hold before another
    word of the same beginning; a word that has to follow counts only where it is one piece.

    Raises:
        BadInputError: The weights are of another attribute.
    """
    if weights.attribute != attribute.name:
        raise BadInputError(
            f"the token weights are of {weights.attribute!r}, the guards of {attribute.name!r}; give weights of "
            "this attribute."
        )
    guards = {guard.word: guard for guard in attribute.guards if guard.word in weights.words}
    texts, flags = _read(tokenizer, len(tokenizer))
    heads = {word: written_forms(word, tokenizer, at_start=True) for g in guards.values() for word in g.before}
    tails = {
        word: frozenset(form for form in written_forms(word, tokenizer) if texts[form[0]].strip())
        for guard in guards.values()
        for word in (*guard.after, *guard.needs_after)
    }
    reader = automaton(flags, texts, heads)
    classes, kinds = _upcoming(flags, tails)
    before = _before(weights, guards, reader)
    # Kinds that say the same of every word are one class; the last stays last.
    after, merged = np.unique(_after(weights, guards, kinds), axis=1, return_inverse=True)
    after, classes = np.append(after, after[:, merged[-1:]], axis=1), merged[classes]
    classes[-1] = after.shape[1] - 1
    # Where no upcoming piece is known, the last kind is what comes.
    unseen = np.maximum(before, after[:, -1, None, None])
    return GuardTables(
        symbols=_narrow(2 * reader.symbols + np.append(flags & np.uint8(QUOTE), 0)),
        follow=torch.from_numpy(reader.follow),
        classes=_narrow(classes),
        places=torch.arange(-reader.window, 0) - _pieces_before(weights)[:, None],
        before=torch.from_numpy(before),
        unseen=torch.from_numpy(unseen),
        after=torch.from_numpy(after),
        left_out=_untold(guards, heads, tails),
    )


@lru_cache(maxsize=1)
def _read(tokenizer: "PreTrainedTokenizerBase", _tokens: int) -> tuple[list[str], UInt8[ndarray, " vocab"]]:
    """Text and flags of every piece, read once for the attributes of one batch; anew where tokens were added."""
    texts = piece_texts(tokenizer)
    return texts, piece_flags(texts, tokenizer)


def _narrow(values: Int[ndarray, " ids"]) -> Integer[Tensor, " ids"]:
    """A table over the vocabulary in as few bytes as hold it."""
    return torch.from_numpy(values.astype(np.uint8 if values.max() < 256 else np.int32))


class _Upcoming(NamedTuple):
    """A kind of piece right after a word.

    Attributes:
        marks: Its flags ``CONTINUES``, ``HYPHEN`` and ``TITLE``.
        begins: Context words it begins.
        is_whole: Context words it is all of.
        known: False where nothing is known of it.
    """

    marks: int
    begins: frozenset[str] = frozenset()
    is_whole: frozenset[str] = frozenset()
    known: bool = True


def _upcoming(
    flags: UInt8[ndarray, " vocab"], tails: Mapping[str, frozenset[tuple[int, ...]]]
) -> tuple[Int[ndarray, " ids"], list[_Upcoming]]:
    """The class of each id as the one after a word, and what the classes are; the last id and class are unknown."""
    marks = flags & np.uint8(CONTINUES | HYPHEN | TITLE)
    kinds = {_Upcoming(int(mark)): i for i, mark in enumerate(np.unique(marks))}
    classes = np.array([kinds.get(_Upcoming(mark), 0) for mark in range(256)])[marks]
    begins: dict[int, set[str]] = {}
    is_whole: dict[int, set[str]] = {}
    for word, forms in tails.items():
        for form in forms:
            begins.setdefault(form[0], set()).add(word)
            if len(form) == 1:
                is_whole.setdefault(form[0], set()).add(word)
    for token, words in begins.items():
        kind = _Upcoming(int(marks[token]), frozenset(words), frozenset(is_whole.get(token, ())))
        classes[token] = kinds.setdefault(kind, len(kinds))
    unknown = _Upcoming(0, known=False)
    return np.append(classes, len(kinds)), [*kinds, unknown]


def _before(weights: TokenWeights, guards: Mapping[str, Guard], reader: Automaton) -> Int[ndarray, "entries 2 states"]:
    """Reason code of each entry, by whether a quotation is open and by the state of the text before the word."""
    codes = np.zeros((len(weights.words) + 1, 2, len(reader.words)), dtype=np.int8)
    for entry, (word, spelling) in enumerate(zip(weights.words, weights.spelling.tolist(), strict=True)):
        guard = guards.get(word, Guard(word))
        # A word that must stand before a person is told by that: `` Black`` and `` Asian`` are capitals anywhere.
        may_be_name = spelling == 1 and word not in _PRONOUNS and not guard.needs_after
        for state, (begins, heads) in enumerate(zip(reader.begins, reader.words, strict=True)):
            if may_be_name and not begins:
                codes[entry, 0, state] = _NAME
            elif not heads.isdisjoint(guard.before):
                codes[entry, 0, state] = _OTHER_SENSE
        codes[entry, 1] = _QUOTED
    return codes


def _after(
    weights: TokenWeights, guards: Mapping[str, Guard], kinds: Sequence[_Upcoming]
) -> Int[ndarray, "entries classes"]:
    """Reason code of each entry, by the class of the upcoming piece."""
    codes = np.zeros((len(weights.words) + 1, len(kinds)), dtype=np.int8)
    for entry, (word, spelling) in enumerate(zip(weights.words, weights.spelling.tolist(), strict=True)):
        guard = guards.get(word, Guard(word))
        may_be_name = spelling in _TITLE_SPELLINGS and word not in _PRONOUNS and not guard.needs_after
        codes[entry] = [_code_after(guard, kind, may_be_name) for kind in kinds]
    return codes


def _code_after(guard: Guard, kind: _Upcoming, may_be_name: bool) -> int:
    if not kind.known:
        return _NOT_KNOWN if guard.needs_after else 0
    if kind.marks & CONTINUES:
        return _OTHER_WORD
    if may_be_name and kind.marks & TITLE:
        return _NAME
    compound = bool(kind.marks & HYPHEN and guard.after)
    if compound or not kind.begins.isdisjoint(guard.after):
        return _OTHER_SENSE
    return _OTHER_SENSE if guard.needs_after and kind.is_whole.isdisjoint(guard.needs_after) else 0


def _pieces_before(weights: TokenWeights) -> Int[Tensor, " entries"]:
    """How many pieces of each entry's word stand before its last one; 0 in the last row."""
    level = {0: 0, 1: 0}
    paths = sorted(zip(weights.nexts.tolist(), (weights.keys >> 32).tolist(), strict=True))
    while len(level) < weights.entry.shape[0]:
        level |= {child: level[parent] + 1 for child, parent in paths if parent in level}
    pieces = torch.zeros(len(weights.words) + 1, dtype=torch.int64)
    # From the longest paths to the shortest: what counts in state 0 counts in every state.
    for state in sorted(level, key=lambda state: -level[state]):
        pieces[weights.entry[state].long()] = level[state]
    pieces[-1] = 0
    return pieces


def _untold(
    guards: Mapping[str, Guard],
    heads: Mapping[str, frozenset[tuple[int, ...]]],
    tails: Mapping[str, frozenset[tuple[int, ...]]],
) -> tuple[str, ...]:
    unwritten = [word for words in (heads, tails) for word, forms in words.items() if not forms]
    needed = dict.fromkeys(word for guard in guards.values() for word in guard.needs_after)
    in_pieces = [word for word in needed if all(len(form) > 1 for form in tails[word])]
    return tuple(dict.fromkeys((*unwritten, *in_pieces)))
