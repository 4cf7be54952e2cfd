"""Fits a linear picture signal. In: a labelled folder, a feature encoder. Out: a folder with the signal, a report."""

from pathlib import Path

import torch

from evenhand.classify.calibration import (
    FitReport,
    abstain_band,
    fit_temperature,
    measure_fit,
    require_trained,
)
from evenhand.classify.encodings import Encoding
from evenhand.classify.pictures.encoder import FeatureEncoder
from evenhand.classify.pictures.labelled import labelled_pictures
from evenhand.classify.pictures.regression import features_of, fit_head, require_all_groups
from evenhand.errors import ArtefactError
from evenhand.mitigate.ala.picture.linear import LinearReading, save_picture_signal
from evenhand.models.vision_features import load_vision_features
from evenhand.records import Attribute

__all__ = ["fit_picture_signal"]


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
    require_all_groups(pictures, attribute)
    seen = {part: features_of(pictures, part, encoder) for part in ("train", "calibration", "held_out")}
    weight, bias = fit_head(seen["train"].values, seen["train"].groups, groups=len(attribute.groups))
    logits = {part: one.values @ weight.T + bias for part, one in seen.items()}
    labels = {part: one.groups for part, one in seen.items()}
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
