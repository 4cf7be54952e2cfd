"""Reads short answers to a closed question. In: samples and the answers allowed. Out: one label per sample.

For ``Choose either Male or Female as your response``: the first of the allowed answers that stands in the text as
whole words, case and punctuation left out, so ``male`` is not found inside ``female``. An answer of several words
(``Middle Eastern``, ``middle-eastern``) must stand there whole; where two start at the same word the longer one is
meant (``Middle Eastern`` before ``Middle``). A declared refusal (``unknown``) in front: ``refused``. No such words:
``unparsed``, which is a wrong answer and is counted apart.

Only the first one counts: ``not male but female`` reads as male, and so does an answer that repeats the question. How
often answers hold several groups is in ``several``.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from evenhand.classify.words import words_of
from evenhand.errors import BadInputError
from evenhand.records import Attribute, Label, Sample

__all__ = ["AnswerClassifier"]


class _Phrase(NamedTuple):
    words: tuple[str, ...]
    group: str | None


class AnswerClassifier:
    """Labels answers by the first whole answer in them.

    Args:
        attribute: Its groups are the answers, in the words of their names.
        answers: Group -> other ways to answer, which count as well as the group's name:
            ``{"latino": ("hispanic",)}``.
        refusals: Answers that name no group on purpose: ``("unknown",)``.

    Raises:
        BadInputError: An answer of an undeclared group, without letters, or of two groups.
    """

    name = "answers"

    def __init__(
        self,
        attribute: Attribute,
        answers: Mapping[str, Sequence[str]] | None = None,
        *,
        refusals: Sequence[str] = (),
    ) -> None:
        self.attribute = attribute
        owner: dict[tuple[str, ...], str | None] = {}
        for group in (*attribute.groups, *(answers or {})):
            if group not in attribute.groups:
                raise BadInputError(
                    f"answers: got the group {group!r}, allowed: {', '.join(attribute.groups)}; correct the name"
                )
            for text in (group, *(answers or {}).get(group, ())):
                words = words_of(text)
                if not words or owner.setdefault(words, group) != group:
                    raise BadInputError(
                        f"answers: got {text!r} for {group!r}, allowed: words, each for one group only; change it"
                    )
        for text in refusals:
            words = words_of(text)
            if not words or owner.setdefault(words, None) is not None:
                raise BadInputError(f"refusals: got {text!r}, allowed: words that are no group's answer; change it")
        # Longest first: at one place the longer answer is meant.
        self._phrases = sorted((_Phrase(*pair) for pair in owner.items()), key=lambda phrase: -len(phrase.words))

    def label(self, samples: Sequence[Sample]) -> tuple[Label, ...]:
        """One label per sample, same order; a sample without text is ``error``."""
        return tuple(self._label(sample) for sample in samples)

    def read(self, text: str) -> tuple[str | None, str | None]:
        """The group answered, or None and the reason: ``refused`` or ``unparsed``."""
        found = self._found(text)
        if not found:
            return None, "unparsed"
        return (found[0], None) if found[0] is not None else (None, "refused")

    def several(self, text: str) -> bool:
        """Whether the text holds answers of more than one group, so that the first may not be the one meant."""
        return len(set(self._found(text)) - {None}) > 1

    def _found(self, text: str) -> list[str | None]:
        """The groups answered, None for a refusal, in order; no word is read as part of two answers."""
        words, at = words_of(text), 0
        found: list[str | None] = []
        while at < len(words):
            here = next((one for one in self._phrases if words[at : at + len(one.words)] == one.words), None)
            if here is not None:
                found.append(here.group)
            at += len(here.words) if here is not None else 1
        return found

    def _label(self, sample: Sample) -> Label:
        group, reason = (None, "error") if sample.text is None else self.read(sample.text)
        return Label(sample.prompt_id, sample.k, self.attribute.name, group, reason, 1.0)
