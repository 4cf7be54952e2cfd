"""Mitigations of picture features. In: frozen features and the groups they show. Out: what a fitted map must be.

SFID, CLIP-clip and DeAR all learn a map of features to features once and apply it wherever the model reads its
picture. This file says what such a map is, refuses data from which none can be learnt, and holds the form that two
of them share: some dimensions set to fixed values.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from evenhand.errors import ArtefactError, BadInputError, TooFewSamplesError

__all__ = ["FeatureMitigation", "FixedDims", "check_rows", "check_width"]

_LEAST_ROWS = 20
_LEAST_IN_A_GROUP = 5


@runtime_checkable
class FeatureMitigation(Protocol):
    """A fitted map of features to features. Any object with these members qualifies; no base class.

    Attributes:
        name: The method, for example ``sfid``.
        feature_dim: Length of the last axis of the features it was fitted on.
        settings: JSON values that say how it was fitted, and what was found.
    """

    @property
    def name(self) -> str: ...  # noqa: D102  (said above)
    @property
    def feature_dim(self) -> int: ...  # noqa: D102
    @property
    def settings(self) -> Mapping[str, object]: ...  # noqa: D102

    def __call__(self, features: Float[Tensor, "*rows features"]) -> Float[Tensor, "*rows features"]:
        """New features of the same shape, type and device; the input is not modified."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """What has to be stored besides ``settings``."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class FixedDims:
    """Sets some dimensions to fixed values: ``h[I] <- v``; the others are bit-identical.

    Attributes:
        name: The method that chose the dimensions.
        feature_dim: Length of the last axis.
        dims: The dimensions, unique, ascending.
        values: What each is set to, in the features' units.
        settings: JSON values that say how they were chosen.

    Raises:
        ArtefactError: The dimensions are not unique and ascending within the features, or a value is not finite.
    """

    name: str
    feature_dim: int
    dims: Int[Tensor, " dims"]
    values: Float[Tensor, " values"]
    settings: Mapping[str, object]

    def __post_init__(self) -> None:
        ascending = bool((self.dims[1:] > self.dims[:-1]).all())
        within = len(self.dims) > 0 and int(self.dims[0]) >= 0 and int(self.dims[-1]) < self.feature_dim
        if not (ascending and within and len(self.dims) == len(self.values)):
            raise ArtefactError(
                f"{self.name}: dimensions must be unique, ascending, in [0, {self.feature_dim}) and have a value each; "
                f"got {self.dims[:8].tolist()} ... with {len(self.values)} values. Fit it again."
            )
        if not bool(torch.isfinite(self.values).all()):
            raise ArtefactError(f"{self.name}: a value is NaN or infinite. Fit it again.")

    def __call__(self, features: Float[Tensor, "*rows features"]) -> Float[Tensor, "*rows features"]:
        """The features with the chosen dimensions set.

        Raises:
            BadInputError: The features have another length than those it was fitted on.
        """
        check_width(features, self.feature_dim, self.name)
        out = features.clone()
        out[..., self.dims.to(out.device)] = self.values.to(out)
        return out

    def tensors(self) -> dict[str, Tensor]:
        """``dims`` and ``values``."""
        return {"dims": self.dims.contiguous(), "values": self.values.contiguous()}


def check_width(features: Tensor, feature_dim: int, name: str) -> None:
    """Refuse features of another length than the map was fitted on."""
    if features.shape[-1] != feature_dim:
        raise BadInputError(
            f"{name} was fitted on {feature_dim} features and was given {features.shape[-1]}; fit it where it is used."
        )


def check_rows(features: Float[Tensor, "rows features"], labels: Int[Tensor, " rows"]) -> None:
    """Refuse data from which no map can be learnt.

    Args:
        features: One row per picture.
        labels: The group of each, from 0.

    Raises:
        BadInputError: Features and labels differ in length, a feature is NaN or infinite, a label is below 0, or no
            dimension varies.
        TooFewSamplesError: Fewer than 20 rows, only one group, or fewer than 5 rows of a group.
    """
    if len(features) != len(labels):
        raise BadInputError(f"features: {len(features)} rows, labels: {len(labels)}; give one label per row.")
    if len(features) < _LEAST_ROWS:
        raise TooFewSamplesError(f"got {len(features)} rows; at least {_LEAST_ROWS} are needed. Give more pictures.")
    if not bool(torch.isfinite(features).all()):
        bad = int((~torch.isfinite(features)).any(dim=1).sum())
        raise BadInputError(f"{bad} rows of features hold NaN or infinity; leave those pictures out.")
    if int(labels.min()) < 0:
        raise BadInputError(f"labels: got {int(labels.min())}; give groups from 0, and leave unknown rows out.")
    groups, counts = torch.unique(labels, return_counts=True)
    if len(groups) < 2:
        raise TooFewSamplesError(f"every row is of group {int(groups[0])}; rows of at least two groups are needed.")
    if int(counts.min()) < _LEAST_IN_A_GROUP:
        rare = int(groups[counts.argmin()])
        raise TooFewSamplesError(
            f"group {rare} has {int(counts.min())} rows; at least {_LEAST_IN_A_GROUP} are needed. Give more pictures."
        )
    if not bool((features != features[0]).any()):
        raise BadInputError("every row of features is the same; give the features of different pictures.")
