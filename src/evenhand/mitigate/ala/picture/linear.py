"""A linear reading of frozen vision features. In: a picture. Out: a claim with calibrated shares, or none.

    shares = softmax((W f + b) / T),   f the features of any ``FeatureEncoder``, T fitted on held-out pictures

The published method's f_image is this, fitted on FairFace (logistic regression on the model's own vision tower).
``signal.json`` says what it is and how good it is, ``signal.safetensors`` holds W and b, ``README.md`` is its card.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from math import isfinite
from pathlib import Path
from typing import Any

from jaxtyping import Float
from PIL.Image import Image
from torch import Tensor

from evenhand.classify.calibration import FitReport, require_trained
from evenhand.classify.pictures.encoder import FeatureEncoder
from evenhand.errors import ArtefactError, BadInputError
from evenhand.mitigate.ala.picture.shares import check_certain, claim_from_shares
from evenhand.models.vision_features import load_vision_features
from evenhand.records import Attribute, Claim

__all__ = ["LinearReading", "LinearSignal", "load_picture_signal", "save_picture_signal"]

_FORMAT = "evenhand-picture-signal-1"
_FIELDS = {"format", "attribute", "groups", "features", "certain", "accuracy", "report", "seed", "sha256"}


@dataclass(frozen=True, slots=True)
class LinearReading:
    """What was fitted.

    Attributes:
        attribute: Name of the attribute.
        groups: Its declared groups; rows of ``weight`` are in this order.
        features: Name of the encoder.
        weight: W, float32.
        bias: b, float32.
        certain: The abstain band: smallest certainty at which ``accuracy`` was reached on the calibration pictures.
        accuracy: What was asked for.
        report: How good it is on held-out pictures.
        seed: Of the split.
    """

    attribute: str
    groups: tuple[str, ...]
    features: str
    weight: Float[Tensor, "groups features"]
    bias: Float[Tensor, " groups"]
    certain: float
    accuracy: float
    report: FitReport
    seed: int


class LinearSignal:
    """The group that frozen features say.

    Args:
        reading: What was fitted.
        features: The encoder it was fitted on.
        attribute: Its groups are the reading's.
        certain: Another abstain band, in [0, 1); None takes the fitted one.
        sharpen: Give all of a claim to the top group: s is then -1 or 1.

    Raises:
        ArtefactError: The reading was fitted on other features, is not finite, or no better than guessing.
        BadInputError: The attribute has other groups.
    """

    def __init__(
        self,
        reading: LinearReading,
        features: FeatureEncoder,
        attribute: Attribute,
        *,
        certain: float | None = None,
        sharpen: bool = False,
    ) -> None:
        _check(reading.weight, reading.bias, len(reading.groups), reading.certain)
        require_trained(reading.report, f"the picture signal for {reading.attribute}")
        if attribute.groups != reading.groups:
            raise BadInputError(
                f"attribute {attribute.name!r}: its groups are {attribute.groups}, the signal's {reading.groups}."
            )
        if (features.name, features.feature_dim) != (reading.features, reading.weight.shape[1]):
            raise ArtefactError(
                f"the signal was fitted on {reading.features} ({reading.weight.shape[1]} features); got "
                f"{features.name} ({features.feature_dim}); give that encoder, or fit the signal on this one."
            )
        band = reading.certain if certain is None else certain
        check_certain(band, attribute)
        self._reading, self._features, self._certain, self._sharpen = reading, features, band, sharpen
        self.settings: Mapping[str, object] = {
            "kind": "linear",
            "features": reading.features,
            "sha256": _digest(reading),
            "certain": band,
            "sharpen": sharpen,
        }

    def claim(self, picture: Callable[[], Image]) -> Claim:
        """What the features of one picture say."""
        features = self._features.encode([picture()])
        logits = features @ self._reading.weight.T + self._reading.bias
        shares = (logits[0].double() / self._reading.report.temperature).softmax(0)
        return claim_from_shares(shares.tolist(), certain=self._certain, sharpen=self._sharpen, reason="features")


def save_picture_signal(reading: LinearReading, out: Path) -> None:
    """Write ``signal.json``, ``signal.safetensors`` and ``README.md``.

    Raises:
        BadInputError: ``out`` holds something else.
    """
    from safetensors.torch import save_file

    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / "signal.json").is_file())):
        raise BadInputError(f"{out}: holds something that is not a picture signal; give a new folder.")
    out.mkdir(parents=True, exist_ok=True)
    save_file({"weight": reading.weight.contiguous(), "bias": reading.bias.contiguous()}, out / "signal.safetensors")
    record = {
        "format": _FORMAT,
        "attribute": reading.attribute,
        "groups": list(reading.groups),
        "features": reading.features,
        "certain": reading.certain,
        "accuracy": reading.accuracy,
        "report": reading.report.to_dict(),
        "seed": reading.seed,
        "sha256": sha256((out / "signal.safetensors").read_bytes()).hexdigest(),
    }
    (out / "signal.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    (out / "README.md").write_text(_card(reading), encoding="utf-8")


def load_picture_signal(
    folder: Path,
    *,
    features: str | FeatureEncoder,
    attribute: Attribute,
    certain: float | None = None,
    sharpen: bool = False,
) -> LinearSignal:
    """The signal that ``fit_picture_signal`` wrote.

    Args:
        folder: Where it lies.
        features: The encoder it was fitted on, or folder or hub id of the model to make it from.
        attribute: Its groups are the signal's.
        certain: As in ``LinearSignal``.
        sharpen: As in ``LinearSignal``.

    Raises:
        ArtefactError: The folder is not a picture signal, was changed, is not finite, was fitted on other features,
            or is no better than guessing.
    """
    reading = _read(Path(folder))
    encoder = load_vision_features(features) if isinstance(features, str) else features
    return LinearSignal(reading, encoder, attribute, certain=certain, sharpen=sharpen)


def _read(folder: Path) -> LinearReading:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        record: Any = json.loads((folder / "signal.json").read_text("utf-8"))
        stored = (folder / "signal.safetensors").read_bytes()
        tensors = load(stored)
    except (OSError, ValueError, SafetensorError) as error:
        raise ArtefactError(f"{folder}: cannot be read as a picture signal ({error}); fit it again.") from error
    if not isinstance(record, dict) or set(record) != _FIELDS or record["format"] != _FORMAT:
        raise ArtefactError(f"{folder}: signal.json is not of the form {_FORMAT}; fit it again.")
    if record["sha256"] != sha256(stored).hexdigest():
        raise ArtefactError(f"{folder}: signal.safetensors is not what signal.json describes; fit it again.")
    if set(tensors) != {"weight", "bias"}:
        raise ArtefactError(f"{folder}: holds the tensors {sorted(tensors)}; wanted: bias, weight; fit it again.")
    kinds = {"attribute": str, "groups": list, "features": str, "certain": float, "accuracy": float, "seed": int}
    wrong = [key for key, kind in kinds.items() if not isinstance(record[key], kind)]
    if wrong:
        raise ArtefactError(f"{folder}: signal.json: {', '.join(wrong)} of a wrong type; fit it again.")
    report = FitReport.from_dict(record["report"])
    _check(tensors["weight"], tensors["bias"], len(record["groups"]), record["certain"])
    return LinearReading(
        attribute=record["attribute"],
        groups=tuple(record["groups"]),
        features=record["features"],
        weight=tensors["weight"].float(),
        bias=tensors["bias"].float(),
        certain=record["certain"],
        accuracy=record["accuracy"],
        report=report,
        seed=record["seed"],
    )


def _check(weight: Tensor, bias: Tensor, groups: int, certain: float) -> None:
    if weight.ndim != 2 or weight.shape[0] != groups or bias.shape != (groups,):
        shapes = tuple(weight.shape), tuple(bias.shape)
        raise ArtefactError(
            f"picture signal: its tensors have the shapes {shapes}; wanted: a row for each of {groups}."
        )
    if not bool(weight.isfinite().all()) or not bool(bias.isfinite().all()):
        raise ArtefactError("picture signal: holds NaN or infinite weights; fit it again.")
    if not isfinite(certain) or not 0 <= certain < 1:
        raise ArtefactError(f"picture signal: certain is {certain}; allowed: a number in [0, 1); fit it again.")


def _digest(reading: LinearReading) -> str:
    numbers = reading.weight.numpy().tobytes() + reading.bias.numpy().tobytes()
    return sha256(numbers + str(reading.report.temperature).encode()).hexdigest()[:16]


def _card(reading: LinearReading) -> str:
    report = reading.report
    return f"""# Picture signal: perceived {reading.attribute}

Logistic regression on frozen features of `{reading.features}`, groups {", ".join(reading.groups)}. It says how a person
is perceived by those who labelled its pictures, nothing about who they are.

| | |
|---|---|
| fitted on | {report.train} pictures |
| temperature {report.temperature:.3f} and band fitted on | {report.calibration} pictures |
| accuracy on {report.held_out} held-out pictures | {report.accuracy:.3f} (commonest group: {report.majority:.3f}) |
| calibration error there | {report.ece:.3f} |
| no claim below a certainty of | {reading.certain:.3f} (asked: right on {reading.accuracy:.2f} of the claims) |

It reads whatever the features hold, clothes and scene included. On pictures unlike those it was fitted on these figures
do not hold.
"""
