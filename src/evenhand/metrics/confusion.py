"""Declared group against what was said. In: both per picture. Out: counts."""

from collections.abc import Mapping, Sequence

from evenhand.errors import BadInputError

__all__ = ["NO_GROUP", "confusion"]

NO_GROUP = ("both", "neutral", "none")
"""What a caption can say besides one group: several groups, a person and no group, nobody."""


def confusion(truth: Sequence[str], said: Sequence[str], *, groups: tuple[str, ...]) -> Mapping[str, Mapping[str, int]]:
    """How many pictures declared so were said to be what; every combination stands there, also those of 0 pictures.

    Args:
        truth: Declared group per picture.
        said: Group the caption names, or ``both``, ``neutral``, ``none``.
        groups: Declared groups, in order.

    Returns:
        Declared group -> (every group, ``both``, ``neutral``, ``none``) -> count; the counts add up to the pictures.

    Raises:
        BadInputError: Lengths differ, or a group or an answer is not one that is allowed.
    """
    if len(truth) != len(said):
        raise BadInputError(f"columns of different length: got {len(truth)} groups and {len(said)} answers; give pairs")
    answers = (*groups, *NO_GROUP)
    table = {group: dict.fromkeys(answers, 0) for group in groups}
    for declared, answer in zip(truth, said, strict=True):
        if declared not in table or answer not in answers:
            raise BadInputError(
                f"picture declared {declared!r}, said {answer!r}; allowed: {', '.join(groups)}, and for answers also "
                f"{', '.join(NO_GROUP)}; correct the column"
            )
        table[declared][answer] += 1
    return table
