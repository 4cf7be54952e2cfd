"""The words that token ids spell, without decoding them. In: ids. Out: a hash of every word, where it ends.

A word is known by the polynomial hash of its bytes modulo 2^64. A piece of letters continues the word before it
(``hash * base^length + hash of the piece``), any other piece ends it. Because the base is odd it has an inverse, so
the hash at every position comes from two cumulative sums: ``WordReader`` keeps nothing between calls, rows may be
reordered, and a device is never waited for. On CPU ``TokenByToken`` reads the few rows of a step with less ado. Two
different words have the same hash with a chance of about 2^-64.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from evenhand.mitigate.ala.text.spelling import runs

__all__ = ["Reading", "TokenByToken", "WordHashes", "WordReader", "hash_word"]

_BASE = 6364136223846793005  # odd, so that it can be undone modulo 2^64
_SIZE = 1 << 64
_INVERSE = pow(_BASE, -1, _SIZE)


def hash_word(word: str | bytes) -> int:
    """The hash of a word's bytes as a signed 64-bit number; 0 for the empty word."""
    value = 0
    for byte in word.encode("utf-8", "surrogateescape") if isinstance(word, str) else word:
        value = (value * _BASE + byte + 1) % _SIZE
    return value - _SIZE if value >= _SIZE >> 1 else value


class WordHashes(NamedTuple):
    """What a text's tokens spell.

    Attributes:
        ended: Hash of the word that ends at each token; 0 where none does.
        open: Hash of the word that the text's last letters are; 0 where it ends with something else.
    """

    ended: Int[Tensor, "rows tokens"]
    open: Int[Tensor, " rows"]


@dataclass(frozen=True, slots=True)
class WordReader:
    """A vocabulary, ready to be read as words.

    Attributes:
        letters: True where a token is letters only, so that it continues the word before it; also where it is empty.
        head: Hash of the letters a token begins with.
        head_length: Their number of bytes.
        tail: Hash of the letters after a token's last other character; 0 where the token is letters only.
        inside: What the words that lie inside a token give, both ends included.
        known: Ascending hashes of the known words.
        values: What each gives; a last row of zeros for every other word.
        longest: The largest ``head_length``.
    """

    letters: Bool[Tensor, " vocabulary"]
    head: Int[Tensor, " vocabulary"]
    head_length: Int[Tensor, " vocabulary"]
    tail: Int[Tensor, " vocabulary"]
    inside: Float[Tensor, "vocabulary groups"]
    known: Int[Tensor, " words"]
    values: Float[Tensor, "words_and_none groups"]
    longest: int

    @classmethod
    def of(cls, pieces: Sequence[bytes], words: Mapping[str, Sequence[float]], groups: int) -> "WordReader":
        """A reader of a vocabulary for some words.

        Args:
            pieces: What each token spells, see ``spelling.spelled``.
            words: Lower-case word -> what it gives for each group.
            groups: How many groups there are.
        """
        table = sorted((hash_word(word), list(given)) for word, given in words.items())
        letters, heads, lengths, tails = [], [], [], []
        inside = torch.zeros(len(pieces), groups)
        for token, piece in enumerate(pieces):
            cut = runs(piece.decode("utf-8", "surrogateescape"))
            first = cut[0][0].encode("utf-8", "surrogateescape") if cut and cut[0][1] else b""
            alone = not cut or (len(cut) == 1 and cut[0][1])
            letters.append(alone)
            heads.append(hash_word(first))
            lengths.append(len(first))
            tails.append(hash_word(cut[-1][0]) if cut and cut[-1][1] and not alone else 0)
            for text, is_word in cut[1:-1]:
                if is_word and text in words:
                    inside[token] += torch.tensor(words[text], dtype=torch.float32)
        return cls(
            letters=torch.tensor(letters, dtype=torch.bool),
            head=torch.tensor(heads, dtype=torch.int64),
            head_length=torch.tensor(lengths, dtype=torch.int64),
            tail=torch.tensor(tails, dtype=torch.int64),
            inside=inside,
            known=torch.tensor([key for key, _ in table], dtype=torch.int64),
            values=torch.tensor([*(given for _, given in table), [0.0] * groups], dtype=torch.float32),
            longest=max(lengths, default=0),
        )

    def to(self, device: torch.device) -> "WordReader":
        """The same reader with its tensors on a device."""
        names = ("letters", "head", "head_length", "tail", "inside", "known", "values")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})

    def read(self, ids: Int[Tensor, "rows tokens"]) -> WordHashes:
        """The words of a text; ids outside the vocabulary read as its last token."""
        ids = self._inside_vocabulary(ids)
        rows, length = ids.shape
        if not length:
            empty = torch.zeros(rows, 0, dtype=torch.int64, device=ids.device)
            return WordHashes(empty, torch.zeros(rows, dtype=torch.int64, device=ids.device))
        forward, back = _powers(length * self.longest, ids.device)
        letters = self.letters[ids]
        exponent = (self.head_length[ids] * letters).cumsum(dim=1)
        begun = torch.where(letters, self.head[ids], self.tail[ids])
        total = (begun * back[exponent]).cumsum(dim=1)
        place = torch.arange(length, device=ids.device).expand(rows, length)
        # The word open after a token began at the last token that is not letters only, whose own tail counts.
        start = torch.where(letters, -1, place).cummax(dim=1).values
        before = torch.where(start > 0, total.gather(1, (start - 1).clamp(min=0)), 0)
        after = forward[exponent] * (total - before)
        opened = torch.cat([torch.zeros_like(after[:, :1]), after[:, :-1]], dim=1)
        return WordHashes(torch.where(letters, 0, self._joined(opened, ids)), after[:, -1])

    def add(
        self, opened: Int[Tensor, " rows"], candidates: Int[Tensor, "rows candidates"]
    ) -> Float[Tensor, "rows candidates groups"]:
        """What a text's open word and one more token give together, the word then open included.

        Args:
            opened: ``WordHashes.open`` of the text so far.
            candidates: The token.
        """
        ids = self._inside_vocabulary(candidates)
        joined = self._joined(opened[:, None], ids)
        return self.value(joined) + self.value(self.tail[ids]) + self.inside[ids]

    def given(self, ids: Int[Tensor, "rows tokens"], read: WordHashes) -> Float[Tensor, "rows tokens groups"]:
        """What the words that end at each token give; the open word is left out."""
        return self.value(read.ended) + self.inside[self._inside_vocabulary(ids)]

    def value(self, hashes: Int[Tensor, "*shape"]) -> Float[Tensor, "*shape groups"]:
        """What each hashed word gives; zeros for unknown words and for no word."""
        nothing = self.known.numel()
        place = torch.searchsorted(self.known, hashes.contiguous()).clamp(max=max(nothing - 1, 0))
        found = self.known[place] == hashes
        return self.values[torch.where(found, place, nothing)]

    def _joined(self, opened: Int[Tensor, "rows any"], ids: Int[Tensor, "rows tokens"]) -> Int[Tensor, "rows tokens"]:
        forward, _ = _powers(self.longest, ids.device)
        return opened * forward[self.head_length[ids]] + self.head[ids]

    def _inside_vocabulary(self, ids: Int[Tensor, "rows tokens"]) -> Int[Tensor, "rows tokens"]:
        return ids.to(torch.int64).clamp(max=self.letters.numel() - 1)


class Reading(NamedTuple):
    """A text, as far as it was read.

    Attributes:
        open: Hash of the word that its last letters are, in [0, 2^64); 0 where it ends with something else.
        total: What its words gave for each group; the open word is left out.
    """

    open: int
    total: tuple[float, ...]


class TokenByToken:
    """``WordReader`` for one token after the other, in Python's numbers: what a step on CPU asks of its few rows.

    Args:
        reader: On CPU.
    """

    def __init__(self, reader: WordReader) -> None:
        groups = reader.values.shape[1]
        values = [tuple(row) for row in reader.values.tolist()]
        self._known = {key % _SIZE: value for key, value in zip(reader.known.tolist(), values, strict=False)}
        filled = reader.inside.any(dim=1).nonzero()[:, 0]
        self._inside = {
            token: tuple(row) for token, row in zip(filled.tolist(), reader.inside[filled].tolist(), strict=True)
        }
        self._letters, self._head, self._tail = reader.letters.numpy(), reader.head.numpy(), reader.tail.numpy()
        self._length, self._last = reader.head_length.numpy(), reader.letters.numel() - 1
        self._powers = [pow(_BASE, exponent, _SIZE) for exponent in range(reader.longest + 1)]
        self.nothing = (0.0,) * groups
        self.start = Reading(0, self.nothing)

    def read(self, text: Reading, token: int, *, decay: float = 1.0) -> Reading:
        """The text with one more token; what was given before fades by ``decay``."""
        token = min(token, self._last)
        joined = self._joined(text.open, token)
        if self._letters[token]:
            return Reading(joined, text.total if decay == 1 else tuple(decay * one for one in text.total))
        given = self._known.get(joined, self.nothing)
        inside = self._inside.get(token, self.nothing)
        total = tuple(decay * (one + two + three) for one, two, three in zip(text.total, given, inside, strict=True))
        return Reading(int(self._tail[token]) % _SIZE, total)

    def add(self, opened: int, token: int) -> tuple[float, ...]:
        """What an open word and one more token give together, the word then open included."""
        token = min(token, self._last)
        given = self._known.get(self._joined(opened, token), self.nothing)
        tail = self._known.get(int(self._tail[token]) % _SIZE, self.nothing)
        inside = self._inside.get(token, self.nothing)
        return tuple(one + two + three for one, two, three in zip(given, tail, inside, strict=True))

    def _joined(self, opened: int, token: int) -> int:
        joined: int = (opened * self._powers[self._length[token]] + int(self._head[token])) % _SIZE
        return joined


_SERIES: dict[tuple[torch.device, int], tuple[Tensor, Tensor]] = {}
"""Powers by device and number; constants, so that keeping them changes no result."""


def _powers(largest: int, device: torch.device) -> tuple[Int[Tensor, " powers"], Int[Tensor, " powers"]]:
    """The base and its inverse modulo 2^64, to the powers 0 to at least ``largest``."""
    size = 1 << max(10, largest.bit_length())
    if (device, size) not in _SERIES:
        both = []
        for factor in (_BASE, _INVERSE):
            steps = torch.full((size,), factor - _SIZE if factor >= _SIZE >> 1 else factor, dtype=torch.int64)
            steps[0] = 1
            both.append(steps.cumprod(dim=0).to(device))
        _SERIES[device, size] = (both[0], both[1])
    return _SERIES[device, size]
