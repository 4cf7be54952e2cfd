"""Held-out occupations. In: prompts that are audited, tuples that are trained on. Out: a refusal where they meet."""

import unicodedata
from collections.abc import Sequence

from evenhand.errors import BadInputError
from evenhand.mitigate.bpo.tuples import TupleSet
from evenhand.probes.occupations import occupation_of
from evenhand.records import Prompt

__all__ = ["refuse_trained"]


def refuse_trained(prompts: Sequence[Prompt], tuples: TupleSet) -> None:
    """Refuse prompts of occupations that are trained on, in the same sentence or in another one.

    Raises:
        BadInputError: There are some; the message names the first.
    """
    trained = {_plain(occupation_of(one.prompt_id)) for one in tuples.tuples}
    texts = {_plain(one.prompt) for one in tuples.tuples}  # data that came from elsewhere have identities of their own
    both = [
        one.id
        for one in prompts
        if _plain(one.facts.get("occupation", occupation_of(one.id))) in trained or _plain(one.text) in texts
    ]
    if both:
        raise BadInputError(
            f"held-out occupations: {len(both)} of {len(prompts)} are trained on, the first: "
            f"{occupation_of(both[0])!r}. Leave them out of the data, or hold others out."
        )


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()
