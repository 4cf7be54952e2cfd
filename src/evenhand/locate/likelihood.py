"""Likelihoods of the pictures of a run, kept beside them. In: a model, a run folder. Out: numbers by code.

Of every picture the log-probability of each code under each prompt is kept, in nats: the dear half of a location. What
is there is not scored again, and every number of a location is made from it without the model.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from jaxtyping import Float64

from evenhand.errors import BadInputError, CorruptLedgerError, LedgerError
from evenhand.ledger import Ledger
from evenhand.pipeline.filling import Progress
from evenhand.pipeline.kept import KeptRows
from evenhand.probes.occupations import NEUTRAL
from evenhand.records import Prompt, Sample

if TYPE_CHECKING:
    from evenhand.models.protocol import CodeModel

__all__ = ["Conditions", "Likelihoods", "conditions_of", "keep_likelihoods", "read_likelihoods"]

Likelihoods = Mapping[tuple[str, int], Float64[np.ndarray, "conditions codes"]]
"""(prompt id, k) -> log-probability of each code in nats, a row for the neutral prompt and for each group's."""

_COLUMNS = (pa.field("log_probs", pa.list_(pa.float32())),)
_SECONDS_BETWEEN_WRITES = 30.0


@dataclass(frozen=True, slots=True)
class Conditions:
    """A neutral prompt and those that ask for each group in the same sentence.

    Attributes:
        name: The occupation; with the template where the list has several.
        neutral: Asks for nobody.
        asked: Group -> prompt that asks for it, in the order of the groups.
    """

    name: str
    neutral: Prompt
    asked: Mapping[str, Prompt]

    @property
    def names(self) -> tuple[str, ...]:
        """``neutral``, then the groups: the rows of a picture's likelihoods."""
        return (NEUTRAL, *self.asked)

    @property
    def texts(self) -> tuple[str, ...]:
        """Of the prompts, in the order of ``names``."""
        return (self.neutral.text, *(prompt.text for prompt in self.asked.values()))


def conditions_of(
    neutral: Sequence[Prompt], asked: Sequence[Prompt], groups: tuple[str, ...]
) -> tuple[Conditions, ...]:
    """Neutral prompts with those that ask for each group, by occupation and template.

    Raises:
        BadInputError: A neutral prompt without one of its groups' prompts, or whose text is that of one of them.
    """
    by_place = {(*_place(prompt), prompt.facts.get("asked", "")): prompt for prompt in asked}
    several = len({prompt.facts.get("template") for prompt in neutral}) > 1
    found = []
    for prompt in neutral:
        own = {group: by_place.get((*_place(prompt), group)) for group in groups}
        whole = {group: one for group, one in own.items() if one is not None}
        if len(whole) < len(groups) or len({prompt.text, *(one.text for one in whole.values())}) <= len(groups):
            raise BadInputError(
                f"prompt {prompt.id[:80]!r}: no different prompt asks for each of {', '.join(groups)}; draw both "
                "probes from the same list, with a template that holds the group."
            )
        name = prompt.facts.get("occupation", prompt.id)
        found.append(Conditions(f"{name}: {prompt.facts.get('template')}" if several else name, prompt, whole))
    return tuple(found)


def keep_likelihoods(
    model: "CodeModel",
    run: str,
    conditions: Sequence[Conditions],
    *,
    attribute: str,
    guidance: float,
    batch_size: int,
    progress: Progress | None = None,
) -> None:
    """Score every picture of a run folder that was not, under the prompts of its conditions.

    Args:
        model: The one that drew them.
        run: A run folder of neutral pictures, or of pictures that were asked to show a group.
        conditions: Of every prompt of the run.
        attribute: Whose groups are asked for.
        guidance: w, as in drawing.
        batch_size: Pictures scored together.
        progress: Told with (pictures scored, pictures).

    Raises:
        ArtefactError: The model gives NaN.
        LedgerError: The folder cannot be written to.
    """
    import torch

    from evenhand.locate.conditions import score_conditions

    ledger = Ledger.open(run)
    samples = [sample for sample in ledger.samples() if sample.codes is not None]
    kept = _kept(run, ledger, conditions, attribute, guidance)
    belongs = _owners(conditions)
    by_prompt: dict[str, list[Sample]] = {}
    for sample in samples:
        if not kept.has(sample) and sample.prompt_id in belongs:
            by_prompt.setdefault(sample.prompt_id, []).append(sample)
    missing = sum(len(own) for own in by_prompt.values())
    done, written = len(samples) - missing, time.monotonic()
    for prompt_id, own in by_prompt.items():
        codes = torch.tensor([sample.codes for sample in own])
        texts = belongs[prompt_id].texts
        found = score_conditions(model, texts, codes, guidance=guidance, batch_size=batch_size)
        for sample, rows in zip(own, found.astype(np.float32), strict=True):
            kept.put(sample, (rows.ravel(),))
        done += len(own)
        if time.monotonic() - written > _SECONDS_BETWEEN_WRITES:
            kept.write()
            written = time.monotonic()
        if progress is not None:
            progress(done, len(samples))
    if missing:
        kept.write()
        if _kept(run, ledger, conditions, attribute, guidance).lacks(samples):
            raise LedgerError(f"{run!r} cannot be written to: the likelihoods are lost; give another --out.")


def read_likelihoods(
    run: str, conditions: Sequence[Conditions], *, attribute: str, guidance: float
) -> dict[tuple[str, int], Float64[np.ndarray, "conditions codes"]]:
    """(prompt id, k) -> log-probability of each code under each prompt, rows as ``Conditions.names``; what is kept.

    Raises:
        CorruptLedgerError: The file is not what was written.
    """
    ledger = Ledger.open(run)
    kept = _kept(run, ledger, conditions, attribute, guidance)
    rows = 1 + len(conditions[0].asked) if conditions else 0
    found = {}
    for sample in ledger.samples():
        if kept.has(sample):
            numbers = np.array(kept.row(sample)[0], dtype=np.float64)
            if numbers.shape != (rows * len(sample.codes or ()),):
                raise CorruptLedgerError(
                    f"{run}/{kept.name}: {numbers.size} numbers of sample {sample.k} of {sample.prompt_id!r}, "
                    f"{rows} for each of its codes were written; delete the file and locate again."
                )
            found[sample.prompt_id, sample.k] = numbers.reshape(rows, -1)
    return found


def _kept(run: str, ledger: Ledger, conditions: Sequence[Conditions], attribute: str, guidance: float) -> KeptRows:
    settings = {
        "attribute": attribute,
        "model": ledger.settings.get("model"),
        "guidance": guidance,
        "conditions": [[one.names, one.texts] for one in conditions],
    }
    return KeptRows(run, "likelihood", settings, _COLUMNS, fresh=False)


def _owners(conditions: Sequence[Conditions]) -> dict[str, Conditions]:
    return {prompt.id: one for one in conditions for prompt in (one.neutral, *one.asked.values())}


def _place(prompt: Prompt) -> tuple[str, str]:
    return prompt.facts.get("occupation", prompt.id), prompt.facts.get("template", "")
