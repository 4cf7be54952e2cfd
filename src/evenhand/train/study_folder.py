"""What a study's folder holds. In: choices. Out: the same choices, kept; the places of adapters, runs and answers.

``arms/ARM-SEED`` adapters, or ``diverged.json`` where training came apart, ``runs/ARM-SEED/guidance-W`` pictures of
prompts that ask for nobody, ``asked/…`` of prompts that ask for a group, ``seen/ARM-SEED.json`` right answers about
labelled pictures.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evenhand.errors import ChangedRunError, LedgerError
from evenhand.mitigate.bpo.kept_json import read_json, write_json
from evenhand.train.arms import ARMS

__all__ = [
    "PLAN",
    "StudyPlan",
    "adapters_folder",
    "answers_file",
    "asked_run",
    "diverged",
    "diverged_arms",
    "drawn_cells",
    "keep_diverged",
    "keep_study",
    "neutral_run",
    "read_study_plan",
]

PLAN = "study.plan.json"
"""The file's name."""

_FORMAT = 1
_DIVERGED = "diverged.json"
_UNSEEN = {
    "disable_tqdm",
    "use_cpu",
    "log_level",
    "logging_steps",
    "logging_strategy",
    "save_steps",
    "save_strategy",
    "save_total_limit",
    "report_to",
    "dataloader_num_workers",
}
"""Arguments that change nothing of what is learned."""


@dataclass(frozen=True, slots=True)
class StudyPlan:
    """What a folder's study is of; nothing of it may change, arms, seeds and guidance weights are added freely.

    Attributes:
        model: By name.
        options: Of the model, as they are typed.
        tuples: Digest of what is trained on.
        held_out: Occupations and their own sentences, if they have one.
        samples: Pictures of each prompt that asks for nobody.
        asked: Pictures of each prompt that asks for a group.
        rank: Of the adapters.
        arguments: Of ``BPOConfig``.
        seed: Of the pictures.
    """

    model: str
    options: Mapping[str, str]
    tuples: str
    held_out: tuple[tuple[str, str | None], ...]
    samples: int
    asked: int
    rank: int
    arguments: Mapping[str, Any]
    seed: int


def adapters_folder(folder: Path) -> Path:
    """Where the arms' adapters are."""
    return folder / "arms"


def neutral_run(folder: Path, arm: str, number: int, weight: float) -> Path:
    """Pictures of prompts that ask for nobody."""
    return folder / "runs" / f"{arm}-{number}" / f"guidance-{weight:g}"


def asked_run(folder: Path, arm: str, number: int, weight: float) -> Path:
    """Pictures of prompts that ask for a group."""
    return folder / "asked" / f"{arm}-{number}" / f"guidance-{weight:g}"


def answers_file(folder: Path, arm: str, number: int) -> Path:
    """Right answers about labelled pictures."""
    return folder / "seen" / f"{arm}-{number}.json"


def keep_diverged(folder: Path, arm: str, number: int, said: str) -> None:
    """Write that an arm's training came apart; it would again, the plan being the same."""
    write_json(adapters_folder(folder) / f"{arm}-{number}", _DIVERGED, {"said": said})


def diverged(folder: Path, arm: str, number: int) -> str | None:
    """What was said when an arm's training came apart; None where it did not."""
    held = read_json(adapters_folder(folder) / f"{arm}-{number}", _DIVERGED)
    return None if held is None else str(held.get("said"))


def diverged_arms(folder: Path) -> list[tuple[str, int, str]]:
    """Arm, seed and what was said, of those whose training came apart."""
    found = []
    for place in adapters_folder(folder).glob(f"*-*/{_DIVERGED}"):
        arm, _, number = place.parent.name.rpartition("-")
        if arm in ARMS:
            found.append((arm, int(number), diverged(folder, arm, int(number)) or ""))
    return sorted(found, key=lambda one: (ARMS.index(one[0]), one[1]))


def drawn_cells(folder: Path) -> list[tuple[str, int, float]]:
    """Arm, seed and guidance weight of what has pictures, in the order they are compared."""
    found = []
    for manifest in (folder / "runs").glob("*-*/guidance-*/manifest.json"):
        arm, _, number = manifest.parent.parent.name.rpartition("-")
        if arm in ARMS:
            found.append((arm, int(number), float(manifest.parent.name.removeprefix("guidance-"))))
    return sorted(found, key=lambda one: (ARMS.index(one[0]), *one[1:]))


def keep_study(folder: Path, study: StudyPlan) -> None:
    """Write what a study is of.

    Raises:
        ChangedRunError: The folder holds another study; the message says what differs.
    """
    content = {"format": _FORMAT, **_plain(study)}
    if read_json(folder, PLAN) is not None:
        held = _content(folder)
        odd = [name for name, value in content.items() if held.get(name) != value]
        if odd:
            told = ", ".join(f"{one} {str(held.get(one))[:80]}, now {str(content[one])[:80]}" for one in odd[:3])
            raise ChangedRunError(f"{str(folder)!r} holds another study ({told}); give the same, or another folder.")
        return
    write_json(folder, PLAN, content)


def read_study_plan(folder: Path) -> StudyPlan:
    """What a folder's study is of.

    Raises:
        LedgerError: It is no study, or damaged.
    """
    held = _content(folder)
    try:
        fields = {name: held[name] for name in StudyPlan.__dataclass_fields__}
        rows = tuple((str(who), None if text is None else str(text)) for who, text in fields.pop("held_out"))
    except (KeyError, ValueError, TypeError) as error:
        raise LedgerError(f"{str(folder / PLAN)!r} is no plan of a study ({error}); make the study anew.") from error
    return StudyPlan(held_out=rows, **fields)


def _plain(study: StudyPlan) -> dict[str, Any]:
    fields = {name: getattr(study, name) for name in study.__dataclass_fields__}
    fields["arguments"] = {name: value for name, value in study.arguments.items() if name not in _UNSEEN}
    told: dict[str, Any] = json.loads(json.dumps(fields, default=str))
    return told


def _content(folder: Path) -> dict[str, Any]:
    held = read_json(folder, PLAN)
    if held is None:
        raise LedgerError(f"{str(folder)!r} has no {PLAN}: it is no study; make one with evenhand study.")
    if held.get("format") != _FORMAT:
        raise LedgerError(f"{str(folder / PLAN)!r}: format {held.get('format')!r}, allowed: {_FORMAT}; make it anew.")
    return held
