"""Words written in a tokenizer's tokens. In: an attribute, a tokenizer, a word table. Out: ``TokenWeights``.

Each word is written as a text would hold it: after a space in lower, title and upper case, and without one where a
text begins. A spelling of one token is an entry of state 0 (inside a text) or 1 (at its start). A spelling of
several pieces becomes a path of states, and its entry sits at the last piece, in the state the others lead to: the
word is scored once, when it is complete. The pieces before carry nothing for it: `` police`` is police, whoever is
meant; only a piece that is a listed word by itself (`` boy`` of `` boy`` + ``friend``) carries that word's weight.
"""

import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch

from evenhand.errors import BadInputError
from evenhand.mitigate.ala.table import WordTable, table_from_attribute
from evenhand.mitigate.ala.weights import TokenWeights, tokenizer_hash
from evenhand.models.decode import text_of
from evenhand.records import Attribute

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["weights_from_words"]

_Place = Literal["inside", "start", "after a line"]
_LOWER, _TITLE, _UPPER, _FIRST = 0, 1, 2, 3
# A word's leading-space form is what follows one of these; asked for alone, some tokenizers add a second space.
_ANCHORS = (".", "a")


class _Form(NamedTuple):
    """One way a word is written: where, in which case, in which pieces."""

    word: str
    place: _Place
    case: int
    ids: tuple[int, ...]

    @property
    def root(self) -> int:
        return 0 if self.place == "inside" else 1

    @property
    def spelling(self) -> int:
        return _FIRST if self.root and self.case == _TITLE else self.case


def weights_from_words(
    attribute: Attribute,
    tokenizer: "PreTrainedTokenizerBase",
    *,
    table: WordTable | None = None,
    first_pieces: bool = False,
) -> TokenWeights:
    """Token weights from words, for one tokenizer.

    A stand-in has its entry's spelling and counts only where it can be emitted at that very place: one token where
    the entry is one token; where the entry ends a word of several pieces, the piece that ends the other word after
    the same pieces (`` police`` + ``man``, `` police`` + ``woman``). A neutral stand-in never carries a group.

    Args:
        attribute: Says which words stand in each other's place.
        tokenizer: SentencePiece, byte-level or WordPiece.
        table: The words with their weights; by default the attribute's steering words, each of weight 1. A group
            may have no words in it, if that is so in the table.
        first_pieces: A stand-in of several pieces may be represented by its first one, if no other listed word
            begins with it. Nothing makes the model finish the word: `` cow`` for `` cowgirl`` may stay a cow. Hence
            off by default, and no option at all where the model is fed its own draft.

    Raises:
        BadInputError: No word of a group can be written in this tokenizer, or the table is of another attribute.
    """
    given, table = table is not None, table or table_from_attribute(attribute)
    if (table.attribute, table.groups) != (attribute.name, attribute.groups):
        raise BadInputError(
            f"the word table is of {table.attribute!r} with {table.groups}, the attribute {attribute.name!r} with "
            f"{attribute.groups}; give a table of this attribute."
        )
    neutral = {form for forms in attribute.neutral_forms.values() for form in forms} - set(table.words)
    forms = {word: tuple(_forms(word, tokenizer)) for word in (*table.words, *sorted(neutral))}
    lexicon = _Lexicon(attribute, table, forms, first_pieces)
    lexicon.lay_paths()
    lexicon.list_entries()
    # A fitted table may be one-sided: toxic words, and nothing that is said to be civil.
    wanted = {entry.group for entry in table.words.values()} if given else set(attribute.groups)
    missing = wanted - {lexicon.group_of(form) for form in lexicon.entries}
    if missing or not lexicon.entries:
        raise BadInputError(
            f"no word of {attribute.name!r}, group {', '.join(sorted(missing)) or '(any)'}, can be written in this "
            "tokenizer and told from other groups' words; add words, or give a fitted word table."
        )
    return _weights(lexicon, tokenizer_hash(tokenizer))


def _forms(word: str, tokenizer: "PreTrainedTokenizerBase") -> Iterator[_Form]:
    """Every way to write a word, each sequence of pieces once per root; none where it cannot be written."""
    if any(letter.isspace() for letter in word):
        return
    seen: set[tuple[int, tuple[int, ...]]] = set()
    cases = {_LOWER: word, _TITLE: word.capitalize(), _UPPER: word.upper()}
    places: tuple[_Place, ...] = ("inside", "start", "after a line")
    for place in places:
        for case, text in cases.items():
            form = _Form(word, place, case, _pieces(text, place, tokenizer))
            # At the start of a text all that counts inside it counts too.
            known = (form.root, form.ids) in seen or (0, form.ids) in seen
            if form.ids and not known and _written(form.ids, text, tokenizer):
                seen.add((form.root, form.ids))
                yield form


def _pieces(text: str, place: _Place, tokenizer: "PreTrainedTokenizerBase") -> tuple[int, ...]:
    if place == "start":
        return tuple(tokenizer.encode(text, add_special_tokens=False))
    # Tokenizers that put a space before every text (Llama) write the spaceless form only after a line break.
    anchors, gap = (_ANCHORS, " ") if place == "inside" else (("\n",), "")
    for anchor in anchors:
        before = tokenizer.encode(anchor, add_special_tokens=False)
        ids = tokenizer.encode(f"{anchor}{gap}{text}", add_special_tokens=False)
        if ids[: len(before)] == before:
            return tuple(ids[len(before) :])
    return ()


def _written(ids: tuple[int, ...], text: str, tokenizer: "PreTrainedTokenizerBase") -> bool:
    """Whether the pieces say the word and nothing else: no unknown token, no letter lost but its accents and case."""
    return _plain(text_of(tokenizer, ids)) == _plain(text)


def _plain(text: str) -> str:
    parts = unicodedata.normalize("NFKD", text.strip())
    return "".join(letter for letter in parts if not unicodedata.combining(letter)).casefold()


@dataclass
class _Lexicon:
    """Words as paths through states; ``entries[i]`` is counted at ``cells``' state and token."""

    attribute: Attribute
    table: WordTable
    forms: Mapping[str, tuple[_Form, ...]]
    first_pieces: bool
    states: dict[tuple[int, tuple[int, ...]], int] = field(default_factory=dict)
    cells: dict[tuple[int, int], int] = field(default_factory=dict)
    entries: list[_Form] = field(default_factory=list)
    both_ways: frozenset[int] = frozenset()

    def lay_paths(self) -> None:
        """Number the inner nodes of every word: ``(root, pieces so far) -> state``."""
        self.both_ways = frozenset(form.ids[0] for form in self._group_forms() if form.root and len(form.ids) > 1)
        self.states = {(0, ()): 0, (1, ()): 1}
        for form in self._group_forms():
            for root in self._roots(form):
                for end in range(1, len(form.ids)):
                    self.states.setdefault((root, form.ids[:end]), len(self.states))

    def list_entries(self) -> None:
        """Put each word at its last piece; a sequence that two groups share (accents lost) stands for neither."""
        owners: dict[tuple[int, tuple[int, ...]], set[str]] = {}
        for form in self._group_forms():
            for root in self._roots(form):
                owners.setdefault((root, form.ids), set()).add(self.group_of(form))
        for form in self._group_forms():
            places = [(root, form.ids) for root in self._roots(form) if len(owners[root, form.ids]) == 1]
            free = [cell for cell in map(self._cell, places) if cell not in self.cells]
            if free:
                self.cells.update(dict.fromkeys(free, len(self.entries)))
                self.entries.append(form)

    def group_of(self, form: _Form) -> str:
        return self.table.words[form.word].group

    def neutral_tokens(self, entry: _Form) -> list[int]:
        """Tokens of neutral words that can be emitted where an entry was drafted; none of them carries a group."""
        words = self.attribute.neutral_forms.get(entry.word, ())
        tokens = dict.fromkeys(token for word in words for token in self._standing_in(entry, word))
        return [token for token in tokens if self._group_at(entry, token) is None]

    def counterpart(self, entry: _Form, group: str) -> int | None:
        """The token of another group's word that can be emitted where an entry was drafted."""
        word = self.attribute.counterparts.get(entry.word, {}).get(group)
        if word is None or word not in self.table.words or group == self.group_of(entry):
            return None
        allowed = (group, None) if self.first_pieces else (group,)
        found = [token for token in self._standing_in(entry, word) if self._group_at(entry, token) in allowed]
        return found[0] if found else None

    def _standing_in(self, entry: _Form, word: str) -> Iterator[int]:
        before = entry.ids[:-1]
        for form in self.forms.get(word, ()):
            same = (form.place, form.case) == (entry.place, entry.case) and form.ids[: len(before)] == before
            rest = form.ids[len(before) :] if same else ()
            if len(rest) == 1 or (
                rest and self.first_pieces and self._begins_only(word, form.root, (*before, rest[0]))
            ):
                yield rest[0]

    def _begins_only(self, word: str, root: int, pieces: tuple[int, ...]) -> bool:
        forms = (form for forms in self.forms.values() for form in forms if form.root in (0, root))
        return all(form.word == word for form in forms if form.ids[: len(pieces)] == pieces)

    def _group_at(self, entry: _Form, token: int) -> str | None:
        state, _ = self._cell((entry.root, entry.ids))
        found = self.cells.get((state, token), self.cells.get((0, token)))
        return None if found is None else self.group_of(self.entries[found])

    def _cell(self, place: tuple[int, tuple[int, ...]]) -> tuple[int, int]:
        root, ids = place
        return self.states[root, ids[:-1]], ids[-1]

    def _group_forms(self) -> Iterator[_Form]:
        return (form for word in self.table.words for form in self.forms[word])

    def _roots(self, form: _Form) -> tuple[int, ...]:
        """Where a form's path begins: one that begins inside a text may also begin it, beside forms of its own."""
        shared = form.root == 0 and len(form.ids) > 1 and form.ids[0] in self.both_ways
        return (0, 1) if shared else (form.root,)


def _weights(lexicon: _Lexicon, tokenizer: str) -> TokenWeights:
    """The record, from the finished lexicon."""
    groups = lexicon.attribute.groups
    neutral = [lexicon.neutral_tokens(entry) for entry in lexicon.entries]
    others = [[lexicon.counterpart(entry, group) for group in groups] for entry in lexicon.entries]
    gaining = {token for tokens in neutral for token in tokens}
    gaining |= {token for tokens in others for token in tokens if token is not None}
    ids = sorted({token for _, token in lexicon.cells} | gaining)
    if len(ids) > torch.iinfo(torch.int16).max:
        raise BadInputError(f"{len(ids)} tokens carry the attribute; allowed: 32767; raise the table's threshold.")
    column = {token: i for i, token in enumerate(ids)}
    entry = torch.full((len(lexicon.states), len(ids)), -1, dtype=torch.int16)
    for (state, token), number in sorted(lexicon.cells.items()):
        # State 0 comes first and counts everywhere; what a state has of its own goes on top.
        rows = slice(None) if state == 0 else state
        entry[rows, column[token]] = number
    carried = [lexicon.table.words[form.word] for form in lexicon.entries]
    group = torch.tensor([groups.index(word.group) for word in carried] + [-1], dtype=torch.int8)
    weight = torch.tensor([word.weight for word in carried] + [0.0])
    widest = max(1, *map(len, neutral))
    padded = [[column[token] for token in tokens] + [-1] * (widest - len(tokens)) for tokens in neutral]
    keys = sorted(
        (lexicon.states[root, pieces[:-1]] << 32 | pieces[-1], state)
        for (root, pieces), state in lexicon.states.items()
        if pieces
    )
    return TokenWeights(
        attribute=lexicon.attribute.name,
        groups=groups,
        token_ids=torch.tensor(ids),
        group=group[entry.long()],
        weight=weight[entry.long()],
        entry=entry,
        neutral_forms=torch.tensor(padded, dtype=torch.int16),
        counterparts=torch.tensor([[-1 if t is None else column[t] for t in row] for row in others], dtype=torch.int16),
        spelling=torch.tensor([form.spelling for form in lexicon.entries], dtype=torch.int8),
        words=tuple(form.word for form in lexicon.entries),
        keys=torch.tensor([key for key, _ in keys], dtype=torch.int64),
        nexts=torch.tensor([state for _, state in keys], dtype=torch.int64),
        depth=max(len(pieces) for _, pieces in lexicon.states),
        tokenizer=tokenizer,
        left_out=tuple(word for word in lexicon.table.words if not lexicon.forms[word]),
    )
