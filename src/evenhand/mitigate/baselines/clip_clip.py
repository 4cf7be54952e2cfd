"""CLIP-clip. In: picture features and groups. Out: a map that clips the dimensions that tell most about the group.

Wang, Liu, Wang 2021, "Are Gender-Neutral Queries Really Gender-Neutral?", arXiv 2109.05433, section 4.2: keep the
dimensions with the *least* mutual information with the group, drop the others.
"""

from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from evenhand.errors import BadInputError, MissingExtraError
from evenhand.mitigate.baselines.features import FixedDims, check_rows

__all__ = ["fit_clip_clip", "group_information"]


def group_information(
    features: Float[Tensor, "rows features"], labels: Int[Tensor, " rows"], *, seed: int, neighbours: int = 3
) -> Float[Tensor, " features"]:
    """Mutual information of each dimension with the group, in nats.

    The nearest-neighbour estimate of Ross (2014, doi 10.1371/journal.pone.0087357), cut at 0. Range 0 (nothing) to
    ln K for K even groups.

    Args:
        features: One row per picture.
        labels: The group of each, from 0.
        seed: Of the tiny noise that keeps equal values apart.
        neighbours: Of the estimate; more is smoother.

    Raises:
        BadInputError: Features are not finite, or ``neighbours`` is below 1.
        TooFewSamplesError: Under 20 rows, or one group.
    """
    check_rows(features, labels)
    if neighbours < 1:
        raise BadInputError(f"neighbours: got {neighbours}; allowed: at least 1.")
    try:
        from sklearn.feature_selection import mutual_info_classif
    except ImportError as error:
        raise MissingExtraError("scikit-learn", "hf") from error
    x, y = features.detach().cpu().double().numpy(), labels.cpu().numpy()
    found: Any = mutual_info_classif(x, y, discrete_features=False, n_neighbors=neighbours, random_state=seed)
    return torch.from_numpy(found)


def fit_clip_clip(
    features: Float[Tensor, "rows features"],
    labels: Int[Tensor, " rows"],
    *,
    seed: int,
    dims: int = 112,
    fill: Literal["zero", "mean"] = "zero",
    unit_length: bool = True,
) -> FixedDims:
    """Clip the dimensions with the most mutual information with the group.

    In retrieval a dropped dimension adds nothing to a dot product, which is what setting it to 0 does; a model that
    was trained on whole features may read its mean better (``fill="mean"``).

    Args:
        features: Frozen features of pictures of known group, where the model reads them.
        labels: The group of each, from 0.
        seed: Of the estimate of mutual information.
        dims: How many are clipped; the paper keeps 400 of 512.
        fill: What they become: 0, or their mean over the rows.
        unit_length: Estimate on rows divided by their Euclidean length, as published.

    Raises:
        BadInputError: ``dims`` leaves no dimension, or ``fill`` is unknown; features are not finite.
        TooFewSamplesError: Under 20 rows, or one group.
    """
    width = features.shape[1]
    if not 1 <= dims < width:
        raise BadInputError(f"dims: got {dims}; allowed: 1 to {width - 1}, so that one is left.")
    if fill not in ("zero", "mean"):
        raise BadInputError(f"fill: got {fill!r}; allowed: zero, mean.")
    rows = features.detach().cpu().double()
    lengths = rows.norm(dim=1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
    information = group_information(rows / lengths if unit_length else rows, labels, seed=seed)
    chosen = torch.argsort(information, descending=True, stable=True)[:dims].sort().values
    means = rows.mean(dim=0)[chosen].float()
    settings = {
        "seed": seed,
        "dims": dims,
        "fill": fill,
        "unit_length": unit_length,
        "rows": len(rows),
        "nats_clipped": float(information[chosen].sum()),
        "nats_all": float(information.sum()),
    }
    return FixedDims("clip_clip", width, chosen, means if fill == "mean" else torch.zeros_like(means), settings)
