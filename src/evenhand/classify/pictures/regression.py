"""Fits a linear head to frozen features. In: labelled pictures, an encoder. Out: features per part; weights and bias.

logits = W f + b,   fitted by multinomial logistic regression, L2 penalty 1 on standardised features, lbfgs
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64, Int

from evenhand.classify.pictures.encoder import FeatureEncoder
from evenhand.classify.pictures.labelled import LabelledPicture, Part
from evenhand.classify.pictures.protocol import FaceCutter
from evenhand.errors import ArtefactError, MissingExtraError, TooFewSamplesError
from evenhand.pictures import open_picture
from evenhand.records import Attribute

__all__ = ["Features", "features_of", "fit_head", "require_all_groups"]

_BATCH = 32


@dataclass(frozen=True, slots=True)
class Features:
    """The features of one part's pictures, and what was not encoded.

    Attributes:
        values: One row per picture that was read.
        groups: Index of each one's group.
        unread: Why, and the group's index, of each picture that shows no single face.
    """

    values: Float64[np.ndarray, "rows features"]
    groups: Int[np.ndarray, " rows"]
    unread: tuple[tuple[str, int], ...] = ()


def require_all_groups(pictures: Sequence[LabelledPicture], attribute: Attribute) -> None:
    """Do nothing if each part has a picture of each group.

    Raises:
        TooFewSamplesError: One has not.
    """
    for part in ("train", "calibration", "held_out"):
        held = {one.group for one in pictures if one.part == part}
        lacks = [group for i, group in enumerate(attribute.groups) if i not in held]
        if lacks:
            raise TooFewSamplesError(
                f"{len(pictures)} labelled pictures: the part {part} has none of {', '.join(lacks)}; add pictures."
            )


def features_of(
    pictures: Sequence[LabelledPicture], part: Part, encoder: FeatureEncoder, *, faces: FaceCutter | None = None
) -> Features:
    """The features of one part.

    Args:
        pictures: Of all parts.
        part: The part.
        encoder: Gives the features.
        faces: Cuts the face that is encoded; None encodes whole pictures.

    Raises:
        TooFewSamplesError: No picture of the part shows a single face.
        ArtefactError: The features are not finite.
    """
    chosen = [one for one in pictures if one.part == part]
    values, groups, unread = [], [], []
    for start in range(0, len(chosen), _BATCH):
        seen = []
        for one in chosen[start : start + _BATCH]:
            picture = open_picture(one.file)
            cut = faces.cut(picture) if faces else None
            if cut is not None and cut.chip is None:
                unread.append((cut.reason or "no face", one.group))
                continue
            seen.append(picture if cut is None or cut.chip is None else cut.chip)
            groups.append(one.group)
        if seen:
            values.append(encoder.encode(seen).numpy())
    if not values:
        raise TooFewSamplesError(f"no face was found in any of the {len(chosen)} pictures of the part {part}.")
    features = np.concatenate(values).astype(np.float64)
    if not np.isfinite(features).all():
        raise ArtefactError(f"{encoder.name} gave NaN or infinite features; load the model in a wider float type.")
    return Features(features, np.array(groups), tuple(unread))


def fit_head(
    features: Float[np.ndarray, "rows features"], labels: Int[np.ndarray, " rows"], *, groups: int
) -> tuple[Float[np.ndarray, "groups features"], Float[np.ndarray, " groups"]]:
    """W and b on the features as they come; for two groups the log-odds are halved onto both rows.

    Raises:
        TooFewSamplesError: A group has no row.
        MissingExtraError: scikit-learn is not installed.
    """
    try:
        from sklearn.linear_model import LogisticRegression
    except ImportError as error:
        raise MissingExtraError("scikit-learn", "hf") from error
    absent = sorted(set(range(groups)) - set(labels.tolist()))
    if absent:
        raise TooFewSamplesError(f"{len(labels)} rows to fit on: none of the groups {absent}; add pictures of them.")
    mean, spread = features.mean(0), features.std(0)
    spread[spread == 0] = 1.0
    fitted = LogisticRegression(max_iter=1000).fit((features - mean) / spread, labels)
    weight, bias = fitted.coef_, fitted.intercept_
    if groups == 2:  # scikit-learn's one row is the log-odds of the second
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    weight = weight / spread
    return weight, bias - weight @ mean
