"""Fits a linear picture signal. In: a labelled folder, a feature encoder. Out: a folder with the signal, a report."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int

from evenhand.classify.encodings import Encoding
from evenhand.errors import ArtefactError, TooFewSamplesError
from evenhand.mitigate.ala.calibration import (
    FitReport,
    abstain_band,
    fit_temperature,
    measure_fit,
    require_trained,
)
from evenhand.mitigate.ala.picture.labelled import LabelledPicture, Part, labelled_pictures
from evenhand.mitigate.ala.picture.linear import LinearReading, save_picture_signal
from evenhand.models.vision_features import FeatureEncoder, load_vision_features
from evenhand.pictures import open_picture
from evenhand.records import Attribute

__all__ = ["fit_picture_signal"]

_BATCH = 32


def fit_picture_signal(
    data: Path,
    *,
    features: str | FeatureEncoder,
    attribute: Attribute,
    out: Path,
    seed: int,
    accuracy: float = 0.95,
    encoding: Encoding | None = None,
) -> FitReport:
    """Logistic regression on frozen features, calibrated, with an abstain band; written to ``out``.

    Three parts that share no person: one to fit (multinomial, L2 penalty 1 on standardised features, lbfgs), one to set
    the temperature and the band, one to measure.

    Args:
        data: A folder as ``labelled_pictures`` reads it.
        features: The encoder, or folder or hub id of the model to make it from.
        attribute: Whose groups are told apart.
        out: Folder for the signal.
        seed: Of the split.
        accuracy: What claims outside the band must reach on the calibration pictures, in (0, 1].
        encoding: What the labels mean, where they are not group names.

    Raises:
        LabelsError: The labels cannot be used.
        TooFewSamplesError: A part lacks pictures of a group.
        ArtefactError: The fit is no better than guessing, miscalibrated, or nowhere of the wanted accuracy; nothing
            is written.
    """
    pictures = labelled_pictures(data, attribute, seed=seed, encoding=encoding)
    encoder = load_vision_features(features) if isinstance(features, str) else features
    _check_parts(pictures, attribute)
    seen = {part: _part(pictures, part, encoder) for part in ("train", "calibration", "held_out")}
    weight, bias = _regression(*seen["train"], groups=len(attribute.groups))
    logits = {part: values @ weight.T + bias for part, (values, _) in seen.items()}
    labels = {part: groups for part, (_, groups) in seen.items()}
    temperature = fit_temperature(logits["calibration"], labels["calibration"])
    report = measure_fit(
        logits["held_out"],
        labels["held_out"],
        temperature=temperature,
        train=len(labels["train"]),
        calibration=len(labels["calibration"]),
    )
    require_trained(report, f"the picture signal for {attribute.name}")
    shares = torch.from_numpy(logits["calibration"] / temperature).softmax(1).numpy()
    certain = abstain_band(shares, labels["calibration"], accuracy=accuracy)
    if certain is None or certain >= 1:
        raise ArtefactError(
            f"the picture signal for {attribute.name}: no band gives {accuracy} on {len(shares)} calibration pictures; "
            "ask for less, or fit it on more or better pictures."
        )
    reading = LinearReading(
        attribute=attribute.name,
        groups=attribute.groups,
        features=encoder.name,
        weight=torch.from_numpy(weight).float(),
        bias=torch.from_numpy(bias).float(),
        certain=certain,
        accuracy=float(accuracy),
        report=report,
        seed=seed,
    )
    save_picture_signal(reading, Path(out))
    return report


def _check_parts(pictures: Sequence[LabelledPicture], attribute: Attribute) -> None:
    for part in ("train", "calibration", "held_out"):
        held = {one.group for one in pictures if one.part == part}
        lacks = [group for i, group in enumerate(attribute.groups) if i not in held]
        if lacks:
            raise TooFewSamplesError(
                f"{len(pictures)} labelled pictures: the part {part} has none of {', '.join(lacks)}; add pictures."
            )


def _part(
    pictures: Sequence[LabelledPicture], part: Part, encoder: FeatureEncoder
) -> tuple[Float[np.ndarray, "rows features"], Int[np.ndarray, " rows"]]:
    chosen = [one for one in pictures if one.part == part]
    batches = [chosen[start : start + _BATCH] for start in range(0, len(chosen), _BATCH)]
    values = [encoder.encode([open_picture(one.file) for one in batch]).numpy() for batch in batches]
    features = np.concatenate(values).astype(np.float64)
    if not np.isfinite(features).all():
        raise ArtefactError(f"{encoder.name} gave NaN or infinite features; load the model in a wider float type.")
    return features, np.array([one.group for one in chosen])


def _regression(
    features: Float[np.ndarray, "rows features"], labels: Int[np.ndarray, " rows"], *, groups: int
) -> tuple[Float[np.ndarray, "groups features"], Float[np.ndarray, " groups"]]:
    """Logits ``W f + b`` on the features as they come; for two groups the log-odds are halved onto both rows."""
    from sklearn.linear_model import LogisticRegression

    mean, spread = features.mean(0), features.std(0)
    spread[spread == 0] = 1.0
    fitted = LogisticRegression(max_iter=1000).fit((features - mean) / spread, labels)
    weight, bias = fitted.coef_, fitted.intercept_
    if groups == 2:  # scikit-learn's one row is the log-odds of the second
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    weight = weight / spread
    return weight, bias - weight @ mean
