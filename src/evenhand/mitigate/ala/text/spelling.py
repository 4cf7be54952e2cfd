"""What every token of a vocabulary spells. In: a tokenizer. Out: the bytes each token adds to a text; words of a text.

A word is a run of letters (and the marks on them), lower-case. A character whose bytes lie in two tokens counts as a
letter.
"""

import unicodedata
from itertools import groupby
from typing import TYPE_CHECKING, Any

from evenhand.errors import BadInputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["runs", "spelled", "words_of"]

_REPLACEMENT = "\ufffd"


def words_of(text: str) -> list[str]:
    """The words of a text, lower-case, in order: runs of letters and marks."""
    return [run for run, is_word in runs(text) if is_word]


def runs(text: str) -> list[tuple[str, bool]]:
    """A text cut into words, lower-case, and what lies between them; True marks a word."""
    return [
        ("".join(letter.lower() for letter in run) if is_word else "".join(run), is_word)
        for is_word, run in ((key, list(group)) for key, group in groupby(text, _is_letter))
    ]


def spelled(tokenizer: "PreTrainedTokenizerBase") -> tuple[bytes, ...]:
    """The bytes (UTF-8) each token id adds inside a text; empty for special tokens, which are not shown.

    Joined, the bytes of ids are the decoded text, but for white space at its beginning that some tokenizers drop. A
    token that is part of a character gives that part.

    Raises:
        BadInputError: The tokenizer cannot write the letter ``a``.
    """
    size = max(tokenizer.get_vocab().values(), default=-1) + 1
    anchor = tokenizer.encode("a", add_special_tokens=False)
    before = _decoded(tokenizer, [anchor])[0]
    if not before.endswith("a"):
        raise BadInputError(f"this tokenizer reads 'a' as {before!r}; a tokenizer that keeps letters is needed.")
    special = set(tokenizer.all_special_ids)
    whole = _decoded(tokenizer, [[*anchor, token] for token in range(size)])
    names = tokenizer.convert_ids_to_tokens(list(range(size)))
    return tuple(
        b"" if token in special or name is None else _bytes(text[len(before) :], name)
        for token, (text, name) in enumerate(zip(whole, names, strict=True))
    )


def _decoded(tokenizer: "PreTrainedTokenizerBase", rows: list[list[int]]) -> list[str]:
    """The text of each row; the tokenizer's own batch decoding takes ten times as long for a whole vocabulary."""
    fast: Any = getattr(tokenizer, "backend_tokenizer", None)
    if fast is not None:
        texts: list[str] = fast.decode_batch(rows, skip_special_tokens=True)
        return texts
    return [str(tokenizer.decode(row, skip_special_tokens=True)) for row in rows]


def _bytes(text: str, name: str) -> bytes:
    """A token's text in bytes; where it is part of a character, the bytes its name stands for."""
    if _REPLACEMENT not in text:
        return text.encode("utf-8")
    if len(name) == 6 and name.startswith("<0x") and name.endswith(">"):
        return bytes([int(name[3:5], 16)])
    if all(letter in _BYTE_OF for letter in name):
        return bytes(_BYTE_OF[letter] for letter in name)
    return text.encode("utf-8")


def _byte_alphabet() -> dict[str, int]:
    """Byte-level tokenizers write printable bytes as themselves and the rest from U+0100 on (GPT-2)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(0x100) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + i): byte for i, byte in enumerate(rest)}


_BYTE_OF = _byte_alphabet()


def _is_letter(character: str) -> bool:
    """True for letters, for marks on them, and for a byte of a character that lies in two tokens."""
    return character.isalpha() or unicodedata.category(character) in ("Mn", "Mc", "Cs")
