"""Losses of fine-tuning against trait judgements. In: logits of the next token. Out: a loss per row.

Girrbach et al. 2025, "Revealing and Reducing Gender Biases in Vision and Language Assistants", ICLR, arXiv 2410.19314:
the language model is tuned to answer questions about a person's traits or skills with "Unknown". The losses alone are
here, to be called from any training loop.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from evenhand.errors import BadInputError

__all__ = ["even_answer_loss", "unknown_loss"]


def unknown_loss(logits: Float[Tensor, "rows vocab"], letter: Int[Tensor, " rows"]) -> Float[Tensor, " rows"]:
    """One minus the probability of the letter of the option "Unknown"; range 0 (always said) to 1.

    Args:
        logits: Of the answer's first token, in nats.
        letter: The id of that option's letter, per row, since options are shuffled.
    """
    shares = torch.softmax(logits, dim=-1)
    return 1 - shares.gather(1, letter[:, None])[:, 0]


def even_answer_loss(
    logits: Float[Tensor, "rows vocab"], *, yes: Sequence[int], no: Sequence[int]
) -> Float[Tensor, " rows"]:
    r"""How far yes and no are from one half each.

    .. math:: |P(yes) - 0.5| + |P(no) - 0.5|

    Range 0 (even, nothing else is said) to 1 (always the same answer, or neither).

    Args:
        logits: Of the answer's first token, in nats.
        yes: Ids that mean yes (``Yes``, ``▁yes`` ...); their probabilities are summed.
        no: Ids that mean no.

    Raises:
        BadInputError: A list is empty, or an id is in both.
    """
    if not yes or not no or set(yes) & set(no):
        raise BadInputError(f"yes {list(yes)}, no {list(no)}; give at least one id for each, none in both.")
    shares = torch.softmax(logits, dim=-1)
    affirmed, denied = shares[:, list(dict.fromkeys(yes))].sum(dim=1), shares[:, list(dict.fromkeys(no))].sum(dim=1)
    return (affirmed - 0.5).abs() + (denied - 0.5).abs()
