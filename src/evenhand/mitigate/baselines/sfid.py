"""SFID, selective feature imputation. In: picture features and groups. Out: a map that fills the telling dimensions.

Jung, Jang, Wang 2024, "A Unified Debiasing Approach for Vision-Language Models across Modalities and Tasks",
arXiv 2410.07593: a random forest names the dimensions that give a group away, and each is set to its mean over
pictures of which the forest is unsure.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from evenhand.errors import BadInputError, MissingExtraError, TooFewSamplesError
from evenhand.mitigate.baselines.features import FixedDims, check_rows, check_width

__all__ = ["fit_sfid"]

_LEAST_UNSURE = 10


def fit_sfid(
    features: Float[Tensor, "rows features"],
    labels: Int[Tensor, " rows"],
    *,
    seed: int,
    held_out: Float[Tensor, "held features"] | None = None,
    dims: int = 50,
    confidence: float = 0.9,
    trees: int = 100,
) -> FixedDims:
    r"""Set the most important dimensions to their mean over low-confidence rows.

    .. math:: h_I \leftarrow \mu_I, \quad \mu = \mathrm{mean}\{h : \max_c P(c|h) < t\}

    with I the ``dims`` largest impurity importances of the forest. Source: section 3 of the paper; the released code
    has 100 trees, seed 0, 50 dimensions, t = 0.7 for zero-shot classification, 0.9 for captions.

    Args:
        features: Frozen features of pictures of known group, where the model reads them.
        labels: The group of each, from 0.
        seed: Of the forest.
        held_out: Features of other pictures, among which the unsure ones are looked for (as published). Without it,
            the rows themselves, each judged by the trees that did not see it.
        dims: How many dimensions are set.
        confidence: t, a probability; rows below it are unsure.
        trees: In the forest.

    Raises:
        BadInputError: ``dims``, ``confidence`` or ``trees`` is out of range; features are not finite.
        TooFewSamplesError: Under 20 rows, one group, or under 10 rows of which the forest is unsure.
    """
    check_rows(features, labels)
    width = features.shape[1]
    if not 1 <= dims <= width or not 0 < confidence <= 1 or trees < 1:
        raise BadInputError(
            f"dims {dims}, confidence {confidence}, trees {trees}; allowed: 1 to {width}, (0, 1], at least 1."
        )
    if held_out is not None:
        check_width(held_out, width, "sfid")
        if not bool(torch.isfinite(held_out).all()):
            raise BadInputError("held_out holds NaN or infinity; leave those pictures out.")
    rows = features.detach().cpu().double()
    forest = _forest(trees, seed).fit(rows.numpy(), labels.cpu().numpy())
    pool = rows if held_out is None else held_out.detach().cpu().double()
    judged = forest.oob_decision_function_ if held_out is None else forest.predict_proba(pool.numpy())
    sure = torch.from_numpy(judged).amax(dim=1)
    unsure = sure < confidence  # a row that no tree left out is NaN here, and never unsure
    if int(unsure.sum()) < _LEAST_UNSURE:
        raise TooFewSamplesError(
            f"the forest is unsure (below {confidence}) of {int(unsure.sum())} of {len(pool)} rows; at least "
            f"{_LEAST_UNSURE} are needed. Raise `confidence` or give more rows in `held_out`."
        )
    importances = torch.from_numpy(forest.feature_importances_)
    chosen = torch.argsort(importances, descending=True, stable=True)[:dims].sort().values
    shares = torch.bincount(labels.cpu()).double() / len(labels)
    settings = {
        "seed": seed,
        "dims": dims,
        "confidence": confidence,
        "trees": trees,
        "held_out": held_out is not None,
        "rows": len(rows),
        "unsure_rows": int(unsure.sum()),
        "out_of_bag_accuracy": float(forest.oob_score_),
        "majority": float(shares.max()),
    }
    return FixedDims("sfid", width, chosen, pool[unsure].mean(dim=0)[chosen].float(), settings)


def _forest(trees: int, seed: int) -> Any:
    try:
        from sklearn.ensemble import RandomForestClassifier
    except ImportError as error:
        raise MissingExtraError("scikit-learn", "hf") from error
    return RandomForestClassifier(n_estimators=trees, oob_score=True, random_state=seed)
