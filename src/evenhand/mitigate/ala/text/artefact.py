"""A fitted text scorer as a folder. In: a scorer's record and tensors; or a folder. Out: the folder; or the scorer.

``scorer.json`` says what it is and how good it is, ``scorer.safetensors`` holds the numbers, ``README.md`` is its card.
A scorer that was not fitted, or is no better than guessing, is refused when it is loaded and when it is started.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from evenhand.classify.calibration import FitReport, require_trained
from evenhand.errors import ArtefactError, BadInputError, TokenizerMismatchError
from evenhand.mitigate.ala.signals import TextScorer, TextState
from evenhand.mitigate.ala.weights import TokenWeights

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "FittedScorer",
    "ScorerRecord",
    "check_start",
    "load_scorer",
    "read_folder",
    "refuse_foreign_folder",
    "save_scorer",
    "settings_of",
    "take",
]

_FORMAT = "evenhand-text-scorer-1"
_KINDS = ("additive", "causal", "paper", "probe", "sequence")
_FIELDS = {"format", "kind", "attribute", "groups", "tokenizer", "report", "options", "source", "sha256"}
_LIMITS = {
    "additive": "It adds up words: it knows no negation and no context, and a word it never saw gives nothing.",
    "causal": "It has seen few texts: wording unlike theirs can mislead it. Its tokens are one tokenizer's.",
    "paper": "It reads the last 128 tokens of one tokenizer, and has seen few texts.",
    "probe": "It reads one language model's hidden state, fitted on plain text: a prompt or a picture before it shifts "
    "that state.",
    "sequence": "It is someone else's classifier; only its temperature was fitted here.",
}


@dataclass(frozen=True, slots=True)
class ScorerRecord:
    """What a fitted text scorer is, without its numbers.

    Attributes:
        kind: ``additive``, ``causal``, ``paper``, ``probe`` or ``sequence``.
        attribute: Name of the attribute.
        groups: Its declared groups; the scorer's shares are in this order.
        tokenizer: Hash of the tokenizer it depends on, or None.
        report: How good it is on held-out texts; None before it was measured.
        options: JSON values that say how it was made.
        source: What it was fitted on, for its card.
    """

    kind: str
    attribute: str
    groups: tuple[str, ...]
    tokenizer: str | None
    report: FitReport | None
    options: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""

    @property
    def temperature(self) -> float:
        """What the logits are divided by; 1 before it was fitted."""
        return 1.0 if self.report is None else self.report.temperature


@runtime_checkable
class FittedScorer(Protocol):
    """A text scorer that was fitted and can be stored.

    Attributes:
        record: What it is.
        settings: JSON values that say exactly how it scores.
    """

    record: ScorerRecord
    settings: Mapping[str, object]

    def tensors(self) -> dict[str, Tensor]:
        """Its numbers, by name."""
        ...

    def start(self, weights: TokenWeights, tokenizer: "PreTrainedTokenizerBase") -> TextState:
        """Ready for one batch."""
        ...


def settings_of(record: ScorerRecord, tensors: Mapping[str, Tensor]) -> dict[str, object]:
    """What a run's manifest holds of a scorer: its record, and the hash of its numbers."""
    return {
        "kind": record.kind,
        "attribute": record.attribute,
        "groups": list(record.groups),
        "temperature": record.temperature,
        **record.options,
        "sha256": _fingerprint(tensors),
    }


def check_start(record: ScorerRecord, weights: TokenWeights) -> None:
    """Do nothing if a scorer may work with these token weights.

    Raises:
        ArtefactError: It was not fitted, or is no better than guessing.
        BadInputError: It has another attribute or other groups.
        TokenizerMismatchError: It was made for another tokenizer.
    """
    require_trained(record.report, f"the {record.kind} text scorer")
    if (record.attribute, record.groups) != (weights.attribute, weights.groups):
        raise BadInputError(
            f"the {record.kind} text scorer tells {', '.join(record.groups)} ({record.attribute}) apart, the token "
            f"weights {', '.join(weights.groups)} ({weights.attribute}); fit one for {weights.attribute}."
        )
    if record.tokenizer is not None and record.tokenizer != weights.tokenizer:
        raise TokenizerMismatchError(
            f"the {record.kind} text scorer was made for tokenizer {record.tokenizer[:12]}, the model has "
            f"{weights.tokenizer[:12]}; fit one for it, or use kind additive, which serves every tokenizer."
        )


def refuse_foreign_folder(folder: Path) -> None:
    """Do nothing if a scorer may be written here.

    Raises:
        BadInputError: It is a file, or holds something that is not a text scorer.
    """
    if folder.is_dir():
        ours = (folder / "scorer.json").is_file()
        if any(folder.iterdir()) and not ours:
            raise BadInputError(f"{folder} is not empty and holds no text scorer; give another folder.")
    elif folder.exists():
        raise BadInputError(f"{folder} is a file; give a folder.")


def save_scorer(scorer: FittedScorer, folder: Path) -> None:
    """Write a scorer with its card; one that is there is replaced.

    Raises:
        BadInputError: The folder holds something else.
    """
    refuse_foreign_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    record, tensors = scorer.record, {name: tensor.contiguous() for name, tensor in scorer.tensors().items()}
    values = {
        "format": _FORMAT,
        "kind": record.kind,
        "attribute": record.attribute,
        "groups": list(record.groups),
        "tokenizer": record.tokenizer,
        "report": None if record.report is None else record.report.to_dict(),
        "options": dict(record.options),
        "source": record.source,
        "sha256": _fingerprint(tensors),
    }
    save_file(tensors, folder / "scorer.safetensors.new", metadata={"format": _FORMAT})
    os.replace(folder / "scorer.safetensors.new", folder / "scorer.safetensors")
    for name, text in (
        ("README.md", _card(record)),
        ("scorer.json", json.dumps(values, indent=1, ensure_ascii=False) + "\n"),
    ):
        (folder / f"{name}.new").write_text(text, "utf-8")
        os.replace(folder / f"{name}.new", folder / name)


def read_folder(folder: Path, kind: str | None = None) -> tuple[ScorerRecord, dict[str, Tensor]]:
    """A scorer's record and numbers, checked but for their shapes.

    Args:
        folder: Written by ``save_scorer``.
        kind: The only kind allowed, or None for any.

    Raises:
        ArtefactError: Not a scorer of ours, not finite, its files do not belong together, or it is not trained.
    """
    try:
        values: Any = json.loads((folder / "scorer.json").read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ArtefactError(f"{folder.name}: scorer.json: {error}; give a folder made by ala-fit.") from error
    record = _record(values, folder.name)
    if kind not in (None, record.kind):
        raise ArtefactError(f"{folder.name}: a text scorer of kind {record.kind}; this needs kind {kind}.")
    try:
        with safe_open(folder / "scorer.safetensors", framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dict)
    except (SafetensorError, OSError) as error:
        raise ArtefactError(f"{folder.name}: scorer.safetensors: {error}; fit the scorer again.") from error
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ArtefactError(f"{folder.name}: {name} holds NaN or infinity; fit the scorer again.")
    if _fingerprint(tensors) != values["sha256"]:
        raise ArtefactError(f"{folder.name}: scorer.safetensors is not the one scorer.json describes; fit it again.")
    require_trained(record.report, f"{folder.name} ({record.kind} text scorer)")
    return record, tensors


def load_scorer(folder: Path) -> TextScorer:
    """The text scorer of a folder, whatever its kind.

    Raises:
        ArtefactError: It is not one of ours, was altered, has wrong shapes or NaN, or is not trained.
    """
    record, tensors = read_folder(folder)
    return _makers()[record.kind](record, tensors)


def take(tensors: Mapping[str, Tensor], shapes: Mapping[str, tuple[int | None, ...]], kind: str) -> None:
    """Do nothing if the tensors are those named, of those shapes; None is any size above 0.

    Raises:
        ArtefactError: A tensor is absent, unknown or of another shape.
    """
    got = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    fits = set(got) == set(shapes) and all(
        len(got[name]) == len(shape) and all(w in (None, g) and g > 0 for w, g in zip(shape, got[name], strict=True))
        for name, shape in shapes.items()
    )
    if not fits:
        raise ArtefactError(f"{kind} text scorer: got {got}; it needs {dict(shapes)}; fit it again.")


def _makers() -> dict[str, Callable[[ScorerRecord, dict[str, Tensor]], TextScorer]]:
    from evenhand.mitigate.ala.text.additive import AdditiveScorer
    from evenhand.mitigate.ala.text.causal import CausalScorer
    from evenhand.mitigate.ala.text.paper import PaperScorer
    from evenhand.mitigate.ala.text.probe import ProbeScorer
    from evenhand.mitigate.ala.text.sequence import SequenceScorer

    return {
        "additive": AdditiveScorer.from_tensors,
        "causal": CausalScorer.from_tensors,
        "paper": PaperScorer.from_tensors,
        "probe": ProbeScorer.from_tensors,
        "sequence": SequenceScorer.from_tensors,
    }


def _record(values: Any, name: str) -> ScorerRecord:
    if not isinstance(values, dict) or set(values) != _FIELDS or values["format"] != _FORMAT:
        got = sorted(map(str, values)) if isinstance(values, dict) else type(values).__name__
        raise ArtefactError(f"{name}: scorer.json holds {got}; allowed: a text scorer of format {_FORMAT!r}.")
    groups, tokenizer = values["groups"], values["tokenizer"]
    texts = [values[key] for key in ("kind", "attribute", "source", "sha256")]
    good = (
        all(isinstance(text, str) for text in texts)
        and values["kind"] in _KINDS
        and isinstance(groups, list)
        and len(groups) == len(set(map(str, groups))) >= 2
        and all(isinstance(group, str) for group in groups)
        and (tokenizer is None or isinstance(tokenizer, str))
        and isinstance(values["options"], dict)
    )
    if not good:
        raise ArtefactError(
            f"{name}: scorer.json has a field of a wrong type, or a kind not in {_KINDS}; fit it again."
        )
    return ScorerRecord(
        kind=values["kind"],
        attribute=values["attribute"],
        groups=tuple(groups),
        tokenizer=tokenizer,
        report=None if values["report"] is None else FitReport.from_dict(values["report"]),
        options=values["options"],
        source=values["source"],
    )


def _fingerprint(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _card(record: ScorerRecord) -> str:
    lines = [
        f"# Text scorer: {record.attribute} ({', '.join(record.groups)}), kind {record.kind}",
        "",
        "Says how much a text written so far carries each group, for Adaptive Logit Adjustment.",
        "",
        f"- Fitted on: {record.source or 'not said'}",
        *(f"- {name}: {value}" for name, value in record.options.items()),
        f"- Tokenizer: {'any' if record.tokenizer is None else record.tokenizer[:12]}",
    ]
    if record.report is None:
        lines.append("- Not measured: it will be refused.")
    else:
        report = record.report
        lines += [
            f"- Texts: {report.train} fitted on, {report.calibration} for the temperature, {report.held_out} held out",
            f"- Held-out accuracy: {report.accuracy:.4f}; always saying the commonest group: {report.majority:.4f}",
            f"- Held-out calibration error (ECE, 15 bins): {report.ece:.4f} at temperature {report.temperature:.3f}",
        ]
    lines += [
        f"- Limits: {_LIMITS.get(record.kind, '')} It learns whatever goes together with a group in its texts, "
        "stereotypes included: look at its words before you use it. Groups are perceived, as the texts tell them.",
    ]
    return "\n".join(lines) + "\n"
