"""Answers corrected by what is answered without a picture. In: two distributions over answers. Out: one.

The post-hoc companion of VDD (arXiv 2403.05262, section 4.1), after Zhao et al. 2021 (arXiv 2102.09690).
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from evenhand.errors import BadInputError

__all__ = ["correct_answers"]


def correct_answers(
    probabilities: Float[Tensor, "rows answers"],
    reference: Float[Tensor, "rows answers"],
    *,
    form: Literal["divide", "subtract"] = "divide",
) -> Float[Tensor, "rows answers"]:
    r"""Take the prior of the empty picture out of the probabilities of a closed set of answers.

    .. math:: q \propto W p + b, \quad W = diag(p_{ref})^{-1}, b = 0 \text{ (divide)}; \quad
              W = I, b = -p_{ref} \text{ (subtract)}

    ``divide`` gives a distribution; p = p_ref gives the even one. ``subtract`` gives scores in [-1, 1] that sum to 0
    where both inputs sum to 1; only their order means anything. Inputs are not modified.

    Args:
        probabilities: Of each answer with the picture, at least 0; need not sum to 1.
        reference: Without it; above 0 for ``divide``.
        form: Which correction.

    Raises:
        BadInputError: A value is negative or not finite, a divisor is 0, a row is all 0, or the form is unknown.
    """
    if form not in ("divide", "subtract"):
        raise BadInputError(f"form: got {form!r}; allowed: divide, subtract.")
    for name, values in (("probabilities", probabilities), ("reference", reference)):
        if not bool((torch.isfinite(values) & (values >= 0)).all()):
            raise BadInputError(f"{name} holds a negative value, NaN or infinity; give probabilities.")
    if form == "subtract":
        return probabilities - reference
    if not bool((reference > 0).all()) or not bool((probabilities > 0).any(dim=1).all()):
        raise BadInputError("reference holds a 0, or a row of probabilities is all 0; give every answer some mass.")
    weighed = probabilities / reference
    return weighed / weighed.sum(dim=1, keepdim=True)
