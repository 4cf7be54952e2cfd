"""What a folder of a location holds of one attribute. In: the folder. Out: samples, labels, likelihoods, conditions."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int64
from PIL import ImageOps

from evenhand.classify.pictures.protocol import Labeller
from evenhand.ledger import Ledger
from evenhand.locate.likelihood import Conditions, Likelihoods, conditions_of, read_likelihoods
from evenhand.locate.plan import asked_folder, neutral_folder
from evenhand.pictures import decode_picture
from evenhand.pipeline.labels import Reading, label_pictures
from evenhand.records import Attribute, Label, Sample, ScoredPictures

__all__ = ["Gathered", "read_gathered"]

_SIDE = 16


@dataclass(frozen=True, slots=True)
class Gathered:
    """Everything that was drawn and scored for one attribute.

    Attributes:
        attribute: Its groups and target.
        neutral: The run of neutral prompts, scored.
        samples: Of the pictures that were asked to show a group.
        labels: One per such sample, same order.
        conditions: Neutral prompts with those that ask.
        rows: Likelihoods of neutral pictures; empty where the model gives none.
        asked_rows: Of those that were asked to show a group.
        pixels: Where the model has no codes, (prompt id, k) -> 16 x 16 RGB around the centre, in [0, 1], flat.
        level: Coverage that intervals aim at.
    """

    attribute: Attribute
    neutral: ScoredPictures
    samples: tuple[Sample, ...]
    labels: tuple[Label, ...]
    conditions: tuple[Conditions, ...]
    rows: Likelihoods
    asked_rows: Likelihoods
    pixels: Mapping[tuple[str, int], Float64[np.ndarray, " values"]]
    level: float

    @property
    def groups(self) -> tuple[str, ...]:
        """Declared groups, in order."""
        return self.attribute.groups

    @property
    def neutral_labels(self) -> tuple[Label, ...]:
        """What the neutral pictures show."""
        return self.neutral.labels[self.attribute.name]

    @property
    def asks(self) -> Mapping[str, str]:
        """Prompt id -> the group it asks for."""
        return {prompt.id: group for one in self.conditions for group, prompt in one.asked.items()}

    def sums(self, prompt_id: str, *, asked: bool = False) -> Float64[np.ndarray, "pictures conditions"]:
        """Log-probabilities of a prompt's pictures under its conditions, sums over codes, by number.

        Without those that are impossible under every group's prompt: whom they show likelihoods do not tell.
        """
        rows = self.asked_rows if asked else self.rows
        own = [rows[key].sum(axis=1) for key in sorted(rows) if key[0] == prompt_id]
        found = np.array(own, dtype=np.float64).reshape(len(own), 1 + len(self.groups))
        possible: Float64[np.ndarray, "pictures conditions"] = found[np.isfinite(found[:, 1:]).any(axis=1)]
        return possible

    def codes(self, prompt_id: str, *, asked: bool = False) -> Int64[np.ndarray, "pictures codes"]:
        """Codes of a prompt's pictures, by number; none where the model has no codes."""
        samples = self.samples if asked else self.neutral.samples
        own = [one.codes for one in samples if one.prompt_id == prompt_id and one.codes is not None]
        return np.array(own, dtype=np.int64).reshape(len(own), -1) if own else np.zeros((0, 0), dtype=np.int64)

    def counts(self, prompt_id: str, *, asked: bool = False) -> Float64[np.ndarray, "pictures features"]:
        """What a classifier may read of a prompt's pictures, by number: how often each code is there, else pixels."""
        codes = self.codes(prompt_id, asked=asked)
        if len(codes):
            return np.stack([np.bincount(row, minlength=self.codebook) for row in codes]).astype(np.float64)
        own = [self.pixels[key] for key in sorted(self.pixels) if key[0] == prompt_id]
        return np.stack(own) if own else np.zeros((0, 0))

    @property
    def codebook(self) -> int:
        """One more than the largest code there is; 0 without codes."""
        return 1 + max((max(one.codes) for one in (*self.neutral.samples, *self.samples) if one.codes), default=-1)


def read_gathered(
    out: str | Path,
    attribute: Attribute,
    labeller: Labeller,
    neutral: ScoredPictures,
    *,
    guidance: float,
    level: float,
    reading: Reading,
) -> Gathered:
    """What is stored of one attribute.

    Args:
        out: The folder of the location.
        attribute: Its groups and target.
        labeller: Reads it.
        neutral: The neutral run, scored.
        guidance: With which likelihoods were taken.
        level: Coverage that intervals aim at.
        reading: Whether labels that were kept are used.

    Raises:
        LedgerError: The run of pictures that were asked to show a group is missing or not what was written.
        EvenhandError: As the labeller says.
    """
    folder = asked_folder(out, attribute.name)
    ledger = Ledger.open(folder)
    labels, _ = label_pictures(str(folder), ledger, [labeller], reading=reading)
    conditions = conditions_of(neutral.prompts, ledger.prompts(), attribute.groups)
    rows, asked_rows = (
        read_likelihoods(str(run), conditions, attribute=attribute.name, guidance=guidance)
        for run in (neutral_folder(out), folder)
    )
    samples = ledger.samples()
    coded = any(one.codes is not None for one in (*neutral.samples, *samples))
    pixels = {} if coded else {**_pixels(neutral_folder(out)), **_pixels(folder)}
    return Gathered(attribute, neutral, samples, labels[attribute.name], conditions, rows, asked_rows, pixels, level)


def _pixels(run: Path) -> dict[tuple[str, int], Float64[np.ndarray, " values"]]:
    found = {}
    for one in Ledger.open(run).drawn():
        small = ImageOps.fit(decode_picture(one.image or b"").convert("RGB"), (_SIDE, _SIDE))
        found[one.prompt_id, one.k] = np.asarray(small, dtype=np.float64).ravel() / 255
    return found
