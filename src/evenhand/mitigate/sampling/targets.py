"""What is to be shown. In: attributes, and shares as a word, a text or a mapping. Out: a share for each group.

Several attributes are balanced as their product, whose groups are named as reports name them: ``male x dark``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import isclose, isfinite, prod

from evenhand.errors import BadInputError
from evenhand.records import Attribute

__all__ = ["Target", "read_target"]

_BETWEEN = " x "


@dataclass(frozen=True, slots=True)
class Target:
    """The wanted shares.

    Attributes:
        attributes: At least one, each once.
        groups: One group of each attribute, for every combination, the last attribute running fastest.
        shares: One a combination, each 0 or more, of sum 1.
    """

    attributes: tuple[Attribute, ...]
    groups: tuple[tuple[str, ...], ...]
    shares: tuple[float, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The combinations as reports name them."""
        return tuple(_BETWEEN.join(one) for one in self.groups)


def read_target(given: str | Mapping[str, float], attributes: Sequence[Attribute]) -> Target:
    """Wanted shares.

    Args:
        given: ``even``; ``declared``, what the attributes declare as their target, multiplied; or a share for each
            group, as a mapping or as ``male=0.7,female=0.3``.
        attributes: What is balanced, at least one.

    Raises:
        BadInputError: No attribute, or one twice; a group without a share, or one that is not declared; a share that is
            not a number, negative or not finite; a sum other than 1.
    """
    names = [one.name for one in attributes]
    if not names or len(set(names)) < len(names):
        raise BadInputError(f"attributes: got {', '.join(names) or 'none'}; allowed: at least one, each once.")
    groups = tuple(product(*(one.groups for one in attributes)))
    if given == "even":
        shares = tuple(1 / len(groups) for _ in groups)
    elif given == "declared":
        shares = tuple(prod(one) for one in product(*(one.target for one in attributes)))
    else:
        wanted = _pairs(given) if isinstance(given, str) else {str(name): share for name, share in given.items()}
        shares = _checked(wanted, [_BETWEEN.join(one) for one in groups])
    return Target(tuple(attributes), groups, shares)


def _pairs(text: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for pair in text.split(","):
        name, equals, number = (part.strip() for part in pair.partition("="))
        try:
            share = float(number)
        except ValueError:
            share = None
        if not equals or not name or share is None or name in found:
            raise BadInputError(
                f"target: got {text[:120]!r}, and {pair.strip()[:60]!r} in it; write even, declared, or a share for "
                "each group once: male=0.7,female=0.3."
            )
        found[name] = share
    return found


def _checked(wanted: Mapping[str, float], groups: Sequence[str]) -> tuple[float, ...]:
    """The shares in the groups' order.

    Raises:
        BadInputError: As :func:`read_target`.
    """
    lacking = [name for name in groups if name not in wanted]
    odd = [name for name in wanted if name not in groups]
    if lacking or odd:
        raise BadInputError(
            f"target: got shares of {', '.join(wanted) or 'no group'}; allowed: one for each of {', '.join(groups)}, "
            "0 where a group is not wanted."
        )
    for name, share in wanted.items():
        if isinstance(share, bool) or not isinstance(share, int | float) or not isfinite(share) or share < 0:
            raise BadInputError(f"target: share of {name} is {share!r}; allowed: a number of 0 or more.")
    if not isclose(sum(wanted.values()), 1, abs_tol=1e-6):
        raise BadInputError(f"target: the shares' sum is {sum(wanted.values()):.6g}; allowed: 1. Divide by the sum.")
    return tuple(float(wanted[name]) for name in groups)
