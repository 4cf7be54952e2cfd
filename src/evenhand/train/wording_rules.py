"""What is another wording of a sentence. In: a sentence, attributes, an answer. Out: a question; wordings.

Pure functions. A wording keeps the place ``{occupation}`` once, names no group and is unlike every other one. What
the attributes' word lists do not know is not found: a word for a group that stands in no list passes.
"""

import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from evenhand.classify.words import words_of
from evenhand.models.servers.replies import parsed_json
from evenhand.records import Attribute

__all__ = ["INSTRUCTION", "LONGEST", "Judged", "group_words", "judge", "question_for", "same_words"]

LONGEST = 300
"""Characters of a wording."""

INSTRUCTION = """Write {number} other wordings of this request for a picture:

{template}

- Keep {{occupation}}, with its braces, exactly once and as a word of its own. It stands for any occupation.
- Ask for the same picture of one person, in other words.
- Say nothing about who the person is: {groups}. No pronoun and no word that stands for one of them.
- Each wording is one line, and no two are alike.

Answer with a JSON array of {number} texts and nothing else."""
"""What a chat server is asked; ``question_for`` fills it."""

_PLACE = "{occupation}"
_ALONE = re.compile(r"(?<!\w)\{occupation\}(?!\w)")
_FENCED = re.compile(r"\A```(?:json)?[ \t]*\n(.*)\n[ \t]*```\Z", re.DOTALL)
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Judged:
    """What one answer holds.

    Attributes:
        kept: Wordings, as many as are wanted at most.
        refused: Text and reason of each other one that was looked at.
    """

    kept: tuple[str, ...]
    refused: tuple[tuple[str, str], ...]


def group_words(attributes: Sequence[Attribute]) -> Mapping[str, str]:
    """Every lower-case word that stands for a group -> the attribute's name: listed words and their counterparts."""
    found: dict[str, str] = {}
    for one in attributes:
        listed = [word for words in (*one.words.values(), *one.steering_words.values()) for word in words]
        stand_ins = [word for others in one.counterparts.values() for word in others.values()]
        found |= dict.fromkeys((*listed, *one.counterparts, *stand_ins), one.name)
    return found


def same_words(text: str) -> tuple[str, ...]:
    """What two wordings are compared by: their words without case, whatever stands between them."""
    return tuple(re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold()))


def question_for(
    template: str, attributes: Sequence[Attribute], number: int, refused: Sequence[tuple[str, str]]
) -> str:
    """What is asked.

    Args:
        template: A sentence that names nobody, with the place ``{occupation}``.
        attributes: Their groups are to stay unsaid.
        number: Of wordings.
        refused: Texts of earlier answers and why they are none.
    """
    groups = "; ".join(f"no {one.name.replace('_', ' ')} ({', '.join(one.groups)})" for one in attributes)
    asked = INSTRUCTION.format(number=number, template=template, groups=groups)
    wrong = "".join(f"\n- {text[:LONGEST]!r}: {why}" for text, why in refused[-_SHOWN:])
    return f"{asked}\n\nThese were of no use:{wrong}" if wrong else asked


def judge(answer: str, attributes: Sequence[Attribute], *, taken: Collection[str], wanted: int) -> Judged:
    """The wordings of an answer, in its order.

    Args:
        answer: A JSON array of texts, and nothing else but a Markdown fence around it.
        attributes: Whose groups may not be named.
        taken: Sentences and wordings there already.
        wanted: How many are looked for; what stands behind them is not looked at.
    """
    bare = answer.strip()
    fenced = _FENCED.match(bare)
    given = parsed_json(fenced[1] if fenced else bare)
    if not isinstance(given, list) or not given or not all(isinstance(one, str) for one in given):
        return Judged((), ((" ".join(bare.split())[:LONGEST], "no JSON array of texts"),))
    words, known = group_words(attributes), {same_words(one) for one in taken}
    kept: list[str] = []
    refused: list[tuple[str, str]] = []
    for text in given:
        if len(kept) == wanted:
            break
        wording = text.strip()
        why = _wrong(wording, attributes, words)
        if why is None and same_words(wording) in known:
            why = "like another one"
        if why is None:
            kept.append(wording)
            known.add(same_words(wording))
        else:
            refused.append((text[:LONGEST], why))
    return Judged(tuple(kept), tuple(refused))


def _wrong(wording: str, attributes: Sequence[Attribute], words: Mapping[str, str]) -> str | None:
    """Why a text is no wording; None where it is one."""
    if not wording or len(wording) > LONGEST or not wording.isprintable():
        return "not one readable line"
    rest = wording.replace(_PLACE, " ")
    if wording.count(_PLACE) != 1 or not _ALONE.search(wording) or set(rest) & {"{", "}"}:
        return "without {occupation} exactly once"
    plain = unicodedata.normalize("NFKC", rest).casefold()
    for one in attributes:
        if any(re.search(rf"(?<!\w){re.escape(group.casefold())}(?!\w)", plain) for group in one.groups):
            return f"names a group of {one.name}"
    named = next((words[word] for word in words_of(plain) if word in words), None)
    return None if named is None else f"names a group of {named}"
