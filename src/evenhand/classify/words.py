"""Labels text by word lists. In: samples and an attribute. Out: one label per sample.

A text is split into words at everything that is not a letter, so ``man/woman``, ``female-led`` and ``man's`` are
read as words; words are matched whole and without case (Jung et al., SFID, ``clipcap_utils``, where punctuation
kept such words from matching). Only one group's words: that group. Words of several groups: ``both``. No group's
words but a neutral one: ``neutral``. None of these: ``none``. Words are not counted and there is no majority.
"""

import re
from collections.abc import Sequence

from evenhand.errors import BadInputError
from evenhand.records import Attribute, Label, Sample

__all__ = ["WordClassifier", "words_of"]

_WORD = re.compile(r"[^\W\d_]+")


def words_of(text: str) -> tuple[str, ...]:
    """The words of a text in order, lower-case, split at everything that is not a letter."""
    return tuple(match.group().lower() for match in _WORD.finditer(text))


class WordClassifier:
    """Labels what a text says about an attribute by the attribute's published word lists.

    Args:
        attribute: Its ``words`` and ``neutral_words`` are used; its steering words are not.

    Raises:
        BadInputError: The attribute has no words in any group.
    """

    name = "words"

    def __init__(self, attribute: Attribute) -> None:
        if not any(attribute.words.values()):
            raise BadInputError(
                f"attribute {attribute.name!r} has no words to read a text by; every text would be `none`. Measure it "
                "with a fitted classifier, or give the attribute words."
            )
        self.attribute = attribute
        self._group_of = {word: group for group, words in attribute.words.items() for word in words}
        self._neutral = frozenset(attribute.neutral_words)

    def label(self, samples: Sequence[Sample]) -> tuple[Label, ...]:
        """One label per sample, same order; a sample without text is ``error``."""
        return tuple(self._label(sample) for sample in samples)

    def read(self, text: str) -> tuple[str | None, str | None]:
        """The group a text names, or None and the reason: ``both``, ``neutral`` or ``none``."""
        words = words_of(text)
        named = {self._group_of[word] for word in words if word in self._group_of}
        if len(named) == 1:
            return named.pop(), None
        if named:
            return None, "both"
        return None, "neutral" if self._neutral.intersection(words) else "none"

    def _label(self, sample: Sample) -> Label:
        group, reason = (None, "error") if sample.text is None else self.read(sample.text)
        return Label(sample.prompt_id, sample.k, self.attribute.name, group, reason, 1.0)
