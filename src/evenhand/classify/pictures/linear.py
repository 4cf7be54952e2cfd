"""A linear head on a frozen image encoder. In: a folder with the head, its encoder, pictures. Out: shares per group.

    shares = softmax((W f + b) / T),   f the features of any ``FeatureEncoder``, T fitted on held-back pictures

``classifier.json`` says what it is, how often it is right on held-out pictures and how it errs there;
``classifier.safetensors`` holds W and b, ``README.md`` is its card. ``fit.py`` writes them.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from math import isclose
from pathlib import Path
from typing import Any

from jaxtyping import Float
from PIL.Image import Image
from torch import Tensor

from evenhand.classify.calibration import FitReport, require_trained
from evenhand.classify.pictures.confusion import Confusion
from evenhand.classify.pictures.encoder import FeatureEncoder
from evenhand.classify.pictures.protocol import Reading
from evenhand.errors import ArtefactError, BadInputError

__all__ = ["LinearClassifier", "LinearHead", "load_linear_classifier", "save_linear_head"]

_FORMAT = "evenhand-picture-classifier-1"
_KINDS: Mapping[str, type | tuple[type, ...]] = {
    "format": str,
    "attribute": str,
    "groups": list,
    "features": str,
    "faces": (dict, type(None)),
    "seed": int,
    "report": dict,
    "confusion": dict,
    "sha256": str,
}


@dataclass(frozen=True, slots=True)
class LinearHead:
    """What was fitted.

    Attributes:
        attribute: Name of the attribute.
        groups: Its declared groups; rows of ``weight`` are in this order.
        features: Name of the encoder.
        weight: W, float32.
        bias: b, float32.
        report: How good it is on held-out pictures.
        confusion: How it errs there, pictures without a single face included.
        faces: Settings of the face stage it was fitted behind; None for whole pictures.
        seed: Of the split.
    """

    attribute: str
    groups: tuple[str, ...]
    features: str
    weight: Float[Tensor, "groups features"]
    bias: Float[Tensor, " groups"]
    report: FitReport
    confusion: Confusion
    faces: Mapping[str, object] | None
    seed: int


class LinearClassifier:
    """Reads pictures by a linear head.

    Args:
        head: What was fitted.
        encoder: The encoder it was fitted on.

    Raises:
        ArtefactError: The head was fitted on other features, is not finite, or no better than guessing.
    """

    def __init__(self, head: LinearHead, encoder: FeatureEncoder) -> None:
        _check(head)
        if (encoder.name, encoder.feature_dim) != (head.features, head.weight.shape[1]):
            raise ArtefactError(
                f"the classifier was fitted on {head.features} ({head.weight.shape[1]} features); got {encoder.name} "
                f"({encoder.feature_dim}); give that encoder, or fit it on this one."
            )
        self.head, self._encoder = head, encoder
        digest = _digest(head)
        self.groups = head.groups
        self.name = f"linear/{head.attribute}/{digest}"
        self.settings: Mapping[str, object] = {
            "kind": "linear",
            "features": head.features,
            "sha256": digest,
            "temperature": head.report.temperature,
            "faces": None if head.faces is None else dict(head.faces),
        }

    def read(self, pictures: Sequence[Image]) -> tuple[Reading, ...]:
        """One reading per picture.

        Raises:
            ArtefactError: The encoder gave NaN or infinite features.
        """
        features = self._encoder.encode(pictures).float()
        if not bool(features.isfinite().all()):
            raise ArtefactError(f"{self._encoder.name} gave NaN or infinite features; load it in a wider float type.")
        logits = (features @ self.head.weight.T + self.head.bias).double()
        shares = (logits / self.head.report.temperature).softmax(1)
        return tuple(Reading(tuple(row)) for row in shares.tolist())


def save_linear_head(head: LinearHead, out: Path) -> None:
    """Write ``classifier.json``, ``classifier.safetensors`` and ``README.md``.

    Raises:
        BadInputError: ``out`` holds something else.
    """
    from safetensors.torch import save_file

    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / "classifier.json").is_file())):
        raise BadInputError(f"{out}: holds something that is not a picture classifier; give a new folder.")
    out.mkdir(parents=True, exist_ok=True)
    stored = out / "classifier.safetensors"
    save_file({"weight": head.weight.contiguous(), "bias": head.bias.contiguous()}, stored)
    record = {
        "format": _FORMAT,
        "attribute": head.attribute,
        "groups": list(head.groups),
        "features": head.features,
        "faces": None if head.faces is None else dict(head.faces),
        "seed": head.seed,
        "report": head.report.to_dict(),
        "confusion": head.confusion.to_dict(),
        "sha256": sha256(stored.read_bytes()).hexdigest(),
    }
    (out / "classifier.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    (out / "README.md").write_text(_card(head), encoding="utf-8")


def load_linear_classifier(folder: Path, *, encoder: FeatureEncoder) -> LinearClassifier:
    """The classifier that ``fit_linear_classifier`` wrote.

    Args:
        folder: Where it lies.
        encoder: The encoder it was fitted on.

    Raises:
        ArtefactError: The folder is not a picture classifier, was changed, is not finite, was fitted on other features,
            or is no better than guessing.
    """
    return LinearClassifier(_read(Path(folder)), encoder)


def _read(folder: Path) -> LinearHead:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        record: Any = json.loads((folder / "classifier.json").read_text("utf-8"))
        stored = (folder / "classifier.safetensors").read_bytes()
        tensors = load(stored)
    except (OSError, ValueError, RecursionError, SafetensorError) as error:
        raise ArtefactError(f"{folder}: cannot be read as a picture classifier ({error}); fit it again.") from error
    if not isinstance(record, dict) or set(record) != set(_KINDS) or record["format"] != _FORMAT:
        raise ArtefactError(f"{folder}: classifier.json is not of the form {_FORMAT}; fit it again.")
    wrong = [key for key, kind in _KINDS.items() if not isinstance(record[key], kind)]
    if wrong or not all(isinstance(group, str) for group in record["groups"]):
        raise ArtefactError(
            f"{folder}: classifier.json: {', '.join(wrong or ['groups'])} of a wrong type; fit it again."
        )
    if record["sha256"] != sha256(stored).hexdigest():
        raise ArtefactError(f"{folder}: classifier.safetensors is not what classifier.json describes; fit it again.")
    if set(tensors) != {"weight", "bias"}:
        raise ArtefactError(f"{folder}: holds the tensors {sorted(tensors)}; wanted: bias, weight; fit it again.")
    _check_tensors(tensors["weight"], tensors["bias"], len(record["groups"]))
    return LinearHead(
        attribute=record["attribute"],
        groups=tuple(record["groups"]),
        features=record["features"],
        weight=tensors["weight"].float(),
        bias=tensors["bias"].float(),
        report=FitReport.from_dict(record["report"]),
        confusion=Confusion.from_dict(record["confusion"]),
        faces=record["faces"],
        seed=record["seed"],
    )


def _check(head: LinearHead) -> None:
    _check_tensors(head.weight, head.bias, len(head.groups))
    require_trained(head.report, f"the picture classifier for {head.attribute}")
    told = head.confusion.accuracy
    same = head.confusion.groups == head.groups and told is not None
    if not same or not isclose(told or 0.0, head.report.accuracy, abs_tol=1e-6):
        raise ArtefactError(
            f"picture classifier: its confusion gives an accuracy of {told}, its report one of {head.report.accuracy}; "
            "they must agree; fit it again."
        )


def _check_tensors(weight: Tensor, bias: Tensor, groups: int) -> None:
    if weight.ndim != 2 or weight.shape[0] != groups or bias.shape != (groups,) or groups < 2:
        shapes = tuple(weight.shape), tuple(bias.shape)
        raise ArtefactError(f"picture classifier: tensors of the shapes {shapes}; wanted: a row for each of {groups}.")
    if not bool(weight.isfinite().all()) or not bool(bias.isfinite().all()):
        raise ArtefactError("picture classifier: holds NaN or infinite weights; fit it again.")


def _digest(head: LinearHead) -> str:
    numbers = head.weight.numpy().tobytes() + head.bias.numpy().tobytes()
    return sha256(numbers + str(head.report.temperature).encode()).hexdigest()[:16]


def _card(head: LinearHead) -> str:
    report = head.report
    where = "the largest face of each picture" if head.faces else "whole pictures, clothes and scene included"
    rows = [
        f"| labelled {group} | " + " | ".join(str(one) for one in row) + " |"
        for group, row in zip(head.groups, head.confusion.counts, strict=True)
    ]
    unread = "".join(f"; {sum(row)} {reason}" for reason, row in head.confusion.unknown.items())
    return f"""# Picture classifier: perceived {head.attribute}

Logistic regression on frozen features of `{head.features}`, groups {", ".join(head.groups)}. It says how a person in a
picture is perceived by those who labelled its pictures, nothing about who they are. It reads {where}.

| | |
|---|---|
| fitted on | {report.train} pictures |
| temperature {report.temperature:.3f} fitted on | {report.calibration} pictures |
| accuracy on {report.held_out} held-out pictures | {report.accuracy:.3f} (commonest group: {report.majority:.3f}) |
| calibration error there | {report.ece:.3f} |

Held-out pictures, by what they are labelled and what it says{unread}:

| | {" | ".join(f"said {group}" for group in head.groups)} |
|---|{"---|" * len(head.groups)}
{chr(10).join(rows)}

On pictures unlike those it was fitted on, drawn ones among them, these figures do not hold: measure it there.
"""
