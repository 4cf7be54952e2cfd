"""Which words differ between two answers. In: two texts, the edits of the second. Out: runs of words.

A change is *reached* where the mitigation itself chose the words, and happened *elsewhere* where the model
went on differently by itself, for example because an earlier word had been changed.
"""

import re
from collections.abc import Sequence
from difflib import SequenceMatcher

from evenhand.errors import BadInputError
from evenhand.records import Edit, WordChange

__all__ = ["count_changes", "word_changes"]

# A word keeps its inner apostrophes and hyphens; every punctuation mark is a word of its own.
_WORD = re.compile(r"\w+(?:['’-]\w+)*|[^\w\s]")


def word_changes(prompt_id: str, before: str, after: str, edits: Sequence[Edit]) -> tuple[WordChange, ...]:
    """Runs of words that differ between two answers to one prompt, in the order of the text.

    Words are compared with upper and lower case kept apart; white space does not count. An edit counts only
    where it changed the token (``drafted`` is not ``emitted``). The reading of ``reached`` is strict:

    * Words put in: every one of them overlaps such an edit, by characters of ``after``.
    * Words only taken out: such an edit starts between the words on either side of the hole, so that its
      token is the one that stands in their place.

    Args:
        prompt_id: The prompt.
        before: The first answer.
        after: The second answer.
        edits: Tokens of the second answer whose logits were shifted.

    Raises:
        BadInputError: An edit lies outside ``after``; the edits belong to another text.
    """
    changed = [edit for edit in edits if edit.drafted != edit.emitted]
    for edit in edits:
        if not 0 <= edit.start <= edit.end <= len(after):
            raise BadInputError(
                f"edit at position {edit.position} of {prompt_id!r} lies outside the text: got characters "
                f"{edit.start} to {edit.end}, allowed: 0 to {len(after)}; give the edits of this very answer"
            )
    old = _WORD.findall(before)
    new = list(_WORD.finditer(after))
    matcher = SequenceMatcher(None, old, [word.group() for word in new], autojunk=False)
    changes = []
    for tag, first, last, start, stop in matcher.get_opcodes():
        if tag == "equal":
            continue
        words = new[start:stop]
        if words:
            reached = all(_overlaps(word, changed) for word in words)
        else:
            left = new[start - 1].end() if start else 0
            right = new[start].start() if start < len(new) else len(after)
            reached = any(left <= edit.start <= right for edit in changed)
        changes.append(
            WordChange(
                prompt_id=prompt_id,
                before=" ".join(old[first:last]),
                after=" ".join(word.group() for word in words),
                reached=reached,
            )
        )
    return tuple(changes)


def count_changes(pairs: Sequence[Sequence[WordChange]]) -> dict[str, int]:
    """How many captions and runs of words changed.

    Args:
        pairs: For each pair of captions what :func:`word_changes` gave, empty where no word differs.

    Returns:
        ``captions``, ``captions_changed``, ``changes``, ``changes_reached`` and ``changes_elsewhere``; the
        last two add up to ``changes``.
    """
    changes = [change for pair in pairs for change in pair]
    reached = sum(change.reached for change in changes)
    return {
        "captions": len(pairs),
        "captions_changed": sum(1 for pair in pairs if pair),
        "changes": len(changes),
        "changes_reached": reached,
        "changes_elsewhere": len(changes) - reached,
    }


def _overlaps(word: re.Match[str], edits: Sequence[Edit]) -> bool:
    return any(edit.start < word.end() and edit.end > word.start() for edit in edits)
