"""What a unified model is called with. In: arguments. Out: the same, or a typed error."""

from collections.abc import Sequence
from math import isclose, isfinite
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from evenhand.errors import BadInputError

__all__ = ["check_mixture", "check_numbers", "check_pairs", "checked_codes"]


def check_numbers(guidance: float, temperature: float, top_k: int) -> None:
    """Refuse numbers out of range.

    Raises:
        BadInputError: Guidance is not finite, or temperature or top-k is below 0.
    """
    if not isfinite(guidance):
        raise BadInputError(f"guidance: got {guidance}; allowed: any finite number, 1 for the model alone.")
    if not (isfinite(temperature) and temperature >= 0):
        raise BadInputError(f"temperature: got {temperature}; allowed: 0 for the likeliest, or above.")
    if top_k < 0:
        raise BadInputError(f"top_k: got {top_k}; allowed: 0 for all codes, or above.")


def check_pairs(name: str, given: Any, asked: Sequence[object]) -> None:
    """Refuse lists of different length.

    Raises:
        BadInputError: They are.
    """
    if len(given) != len(asked):
        raise BadInputError(f"{name}: got {len(given)} for {len(asked)} prompts; give one per prompt.")


def check_mixture(texts: Sequence[Sequence[str]], weights: Sequence[float], asked: Sequence[object]) -> None:
    """Refuse texts and weights that make no mixture.

    Raises:
        BadInputError: Not one text a weight, no weight, one that is not finite, or a sum other than 1.
    """
    check_pairs("texts", texts, asked)
    if not all(isfinite(one) for one in weights) or not isclose(sum(weights), 1, abs_tol=1e-9):
        raise BadInputError(f"weights: got {tuple(weights)}; allowed: finite numbers of sum 1, one a text.")
    if any(len(own) != len(weights) for own in texts):
        raise BadInputError(
            f"texts: got {sorted({len(own) for own in texts})} a picture for {len(weights)} weights; give one a weight."
        )


def checked_codes(codes: Tensor, shape: Sequence[int], size: int) -> Int[Tensor, "pictures codes"]:
    """Codes as 64-bit integers.

    Args:
        codes: 0-based, raster order.
        shape: Rows and columns of a picture's codes.
        size: Of the codebook.

    Raises:
        BadInputError: No picture, another picture size, or codes out of range.
    """
    wanted = shape[0] * shape[1]
    if codes.ndim != 2 or codes.shape[1] != wanted:
        raise BadInputError(f"codes: got shape {tuple(codes.shape)}; allowed: (pictures, {wanted}).")
    if len(codes) == 0:
        raise BadInputError("codes: got no picture; give at least one.")
    if codes.is_floating_point() or int(codes.min()) < 0 or int(codes.max()) >= size:
        raise BadInputError(
            f"codes: got {codes.dtype} from {codes.min().item()} to {codes.max().item()}; allowed: whole numbers, "
            f"0 to {size - 1}."
        )
    return codes.to(torch.long)
