"""What turns pictures into features for a linear head. In: pictures. Out: one row of frozen features each."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from PIL.Image import Image
from torch import Tensor

__all__ = ["FeatureEncoder"]


@runtime_checkable
class FeatureEncoder(Protocol):
    """Frozen features of pictures.

    Attributes:
        name: Of the model and what is taken from it; what was fitted on other features is refused by it.
        feature_dim: Columns of the features.
    """

    name: str
    feature_dim: int

    def encode(self, pictures: Sequence[Image]) -> Float[Tensor, "rows features"]:
        """One row per picture, float32, on the CPU."""
        ...
