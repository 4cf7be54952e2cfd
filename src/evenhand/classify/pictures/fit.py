"""Fits a linear classifier of pictures. In: a labelled folder, an image encoder. Out: a folder with the head."""

from pathlib import Path

import numpy as np
import torch

from evenhand.classify.calibration import fit_temperature, measure_fit, require_trained
from evenhand.classify.encodings import Encoding
from evenhand.classify.pictures.confusion import count_confusion
from evenhand.classify.pictures.encoder import FeatureEncoder
from evenhand.classify.pictures.labelled import labelled_pictures
from evenhand.classify.pictures.labeller import Judgement
from evenhand.classify.pictures.linear import LinearHead, save_linear_head
from evenhand.classify.pictures.protocol import FaceCutter
from evenhand.classify.pictures.regression import Features, features_of, fit_head, require_all_groups
from evenhand.records import Attribute

__all__ = ["fit_linear_classifier"]


def fit_linear_classifier(
    data: Path,
    *,
    encoder: FeatureEncoder,
    attribute: Attribute,
    out: Path,
    seed: int,
    faces: FaceCutter | None = None,
    encoding: Encoding | None = None,
) -> LinearHead:
    """Logistic regression on frozen features, calibrated and measured; written to ``out``.

    Three parts that share no person: one to fit, one to set the temperature, one to measure.

    Args:
        data: A folder as ``labelled_pictures`` reads it.
        encoder: Gives the features.
        attribute: Whose groups are told apart.
        out: Folder for the classifier.
        seed: Of the split.
        faces: Cuts the face that is read; pictures without a single one are left out of the fit and counted in the
            confusion. None reads whole pictures.
        encoding: What the labels mean, where they are not group names.

    Raises:
        LabelsError: The labels cannot be used.
        TooFewSamplesError: A part lacks pictures, or faces, of a group.
        ArtefactError: The fit is no better than guessing, or miscalibrated; nothing is written.
    """
    data, out = Path(data), Path(out)
    pictures = labelled_pictures(data, attribute, seed=seed, encoding=encoding)
    require_all_groups(pictures, attribute)
    train = features_of(pictures, "train", encoder, faces=faces)
    calibration = features_of(pictures, "calibration", encoder, faces=faces)
    held_out = features_of(pictures, "held_out", encoder, faces=faces)
    exact, offset = fit_head(train.values, train.groups, groups=len(attribute.groups))
    weight, bias = exact.astype(np.float32), offset.astype(np.float32)  # what is measured is what is written
    temperature = fit_temperature(_logits(calibration, weight, bias), calibration.groups)
    logits = _logits(held_out, weight, bias)
    report = measure_fit(
        logits,
        held_out.groups,
        temperature=temperature,
        train=len(train.groups),
        calibration=len(calibration.groups),
    )
    require_trained(report, f"the picture classifier for {attribute.name}")
    labelled = [*held_out.groups.tolist(), *(group for _, group in held_out.unread)]
    said = [Judgement(attribute.groups[i], None, 1.0) for i in logits.argmax(1).tolist()]
    head = LinearHead(
        attribute=attribute.name,
        groups=attribute.groups,
        features=encoder.name,
        weight=torch.from_numpy(weight),
        bias=torch.from_numpy(bias),
        report=report,
        confusion=count_confusion(
            [attribute.groups[i] for i in labelled],
            [*said, *(Judgement(None, reason, 0.0) for reason, _ in held_out.unread)],
            groups=attribute.groups,
        ),
        faces=None if faces is None else dict(faces.settings),
        seed=seed,
    )
    save_linear_head(head, out)
    return head


def _logits(features: Features, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    logits: np.ndarray = features.values @ weight.T.astype(np.float64) + bias
    return logits
