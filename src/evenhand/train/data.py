"""Balanced data. In: a model that will be trained, occupations, attributes. Out: a folder with tuples to train on.

draw:     every neutral sentence with each group put in ──► pictures in a run folder (by the model itself, or another)
read:     labels; kept is what shows the group that was asked for
pair:     one kept picture of every group of the same sentence ──► tuples.parquet

What was drawn and read is kept, so a run that was stopped goes on, and a larger one adds to it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from evenhand.classify.pictures.protocol import Labeller
from evenhand.errors import BadInputError, TooFewSamplesError
from evenhand.ledger import Ledger
from evenhand.metrics.tally import product_labels
from evenhand.mitigate.bpo.selection import Accepted, Selection, select
from evenhand.mitigate.bpo.tuples import PictureTuple, TupleSet, check_tuples, write_tuples
from evenhand.mitigate.sampling.targets import read_target
from evenhand.models.protocol import ImageModel
from evenhand.models.unified.model import UnifiedModel
from evenhand.pictures import decode_picture
from evenhand.pipeline.filling import Progress, fill
from evenhand.pipeline.labels import label_pictures
from evenhand.pipeline.opening import open_labeller
from evenhand.pipeline.plans import ReadBy
from evenhand.probes.occupation_lists import read_occupations
from evenhand.probes.occupations import augmented_text, occupations
from evenhand.records import Label, Prompt, Sample

__all__ = ["BalancedData", "make_balanced_data"]

_PROBE = "occupations_balanced"


@dataclass(frozen=True, slots=True)
class BalancedData:
    """What was made.

    Attributes:
        folder: With ``tuples.parquet``, and the pictures it was made from in ``drawn``.
        tuples: How many.
        prompts: Neutral prompts with at least one.
        groups: What was asked for and confirmed.
        lacking: Neutral prompts with none -> groups that none of their pictures shows.
        failed: Pictures that could not be drawn.
    """

    folder: str
    tuples: int
    prompts: int
    groups: tuple[Accepted, ...]
    lacking: Mapping[str, tuple[str, ...]]
    failed: int


def make_balanced_data(
    model: UnifiedModel,
    read_by: Sequence[ReadBy],
    out: str | Path,
    *,
    data: str = "train",
    leave_out: str | None = None,
    pictures: int = 4,
    min_confidence: float = 0.8,
    source: ImageModel | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> BalancedData:
    """Draw each neutral sentence with every group put in, keep what shows it, and pair one picture of every group.

    With ``source=None`` the model draws its own training pictures (balanced self-distillation): whatever it is trained
    on then, it has drawn itself, so nothing but whom it draws needs to change.

    Args:
        model: What will be trained; its picture tokenizer makes the codes.
        read_by: What reads the pictures, one for each attribute; the groups of several are their product.
        out: Folder; one that holds part of the same is added to.
        data: Occupations and, after ``+``, sets of sentences, as of the probe ``occupations``: each sentence is a
            wording of its own, neutral and with the group in it.
        leave_out: Occupations that are held out: a list's name or a file.
        pictures: Of each sentence and group, 1 or more.
        min_confidence: Smallest confidence of a label that is believed.
        source: What draws; by default the model itself.
        seed: Of the pictures.
        progress: Told of pictures drawn.

    Raises:
        BadInputError: No occupation is left, or a number out of range.
        TooFewSamplesError: No sentence has a picture of every group; the message says what was drawn instead.
        EvenhandError: As drawing and reading say; what was drawn is kept.
    """
    if pictures < 1:
        raise BadInputError(f"pictures: got {pictures}; allowed: 1 and more of each sentence and group.")
    attributes = [one.attribute for one in read_by]
    target = read_target("even", attributes)
    labellers = [open_labeller(one) for one in read_by]
    neutral = _neutral(data, leave_out, read_by)
    asked = _asked(neutral, target.groups, target.names)
    drawing = source or model
    folder = Path(out) / "drawn"
    run = f"balanced-{seed}"
    settings = {
        "model": {"name": drawing.name, "revision": drawing.revision, **drawing.settings},
        "replayable": drawing.replayable,
        "probe": _PROBE,
        "seed": seed,
    }
    with Ledger.create_or_resume(
        folder, run=run, settings=settings, prompts=[one for one, _, _ in asked.values()]
    ) as ledger:

        def ask(batch: Sequence[Prompt], seeds: Sequence[int]) -> tuple[Sample, ...]:
            return drawing.draw(batch, seeds=seeds)

        fill(
            ledger, ask, name=drawing.name, batch_size=drawing.batch_size, samples=pictures, run=run, progress=progress
        )
    stored = Ledger.open(folder)
    labels = _labels(str(folder), stored, labellers)
    chosen = select(
        labels,
        {key: (one, group) for key, (_, one, group) in asked.items()},
        groups=target.names,
        min_confidence=min_confidence,
    )
    if not chosen.tuples:
        raise TooFewSamplesError(_nothing(chosen))
    tuples = TupleSet(
        " x ".join(one.name for one in attributes),
        target.names,
        (model.code_shape[0], model.code_shape[1]),
        model.codebook_size,
        model.codebook_digest,
        _paired(chosen, neutral, asked, stored, model, own=source is None),
    )
    check_tuples(tuples, model)
    write_tuples(out, tuples)
    with_tuples = {one.prompt for one in tuples.tuples}
    failed = sum(label.reason == "error" for label in labels)
    return BalancedData(str(out), len(tuples.tuples), len(with_tuples), chosen.groups, chosen.lacking, failed)


def _neutral(data: str, leave_out: str | None, read_by: Sequence[ReadBy]) -> list[Prompt]:
    """Neutral prompts of the occupations that are not held out.

    Raises:
        BadInputError: None is left.
    """
    held = set() if leave_out is None else {row.occupation.casefold() for row in read_occupations(leave_out)}
    every = occupations(data, read_by[0].attribute)
    kept = [one for one in every if one.facts["occupation"].casefold() not in held]
    if not kept:
        raise BadInputError(f"occupations: {data!r} has {len(every)}, and all are left out; hold fewer out.")
    return kept


def _asked(
    neutral: Sequence[Prompt], groups: Sequence[tuple[str, ...]], names: Sequence[str]
) -> dict[str, tuple[Prompt, str, str]]:
    """Id -> a prompt that asks for a group, its neutral prompt's id, the group's name."""
    found = {}
    for one in neutral:
        for words, name in zip(groups, names, strict=True):
            facts = {**one.facts, "asked": name, "neutral": one.id}
            prompt = Prompt(f"{one.id}/{name}", _PROBE, augmented_text(one, words), None, facts)
            found[prompt.id] = (prompt, one.id, name)
    return found


def _labels(folder: str, ledger: Ledger, labellers: Sequence[Labeller]) -> Sequence[Label]:
    told, _ = label_pictures(folder, ledger, labellers)
    first, *others = (told[one.attribute.name] for one in labellers)
    joined: Sequence[Label] = first
    for other in others:
        joined = product_labels(joined, other)
    return joined


def _paired(
    chosen: Selection,
    neutral: Sequence[Prompt],
    asked: Mapping[str, tuple[Prompt, str, str]],
    ledger: Ledger,
    model: UnifiedModel,
    *,
    own: bool,
) -> tuple[PictureTuple, ...]:
    wanted: dict[tuple[str, int], None] = {}
    rows = []
    for prompt in neutral:
        kept = chosen.pictures[prompt.id]
        for members in zip(*kept, strict=False):
            rows.append((prompt, members))
            wanted |= {(name, k): None for name, k, _ in members}
    codes = _codes(ledger, set(wanted), model, own=own)
    names = tuple(one.group for one in chosen.groups)
    return tuple(
        PictureTuple(
            prompt.id,
            prompt.text,
            tuple(asked[name][0].text for name, _, _ in members),
            names,
            np.stack([codes[name, k] for name, k, _ in members]),
            tuple(confidence for _, _, confidence in members),
            "model" if own else "source",
        )
        for prompt, members in rows
    )


def _codes(
    ledger: Ledger, wanted: set[tuple[str, int]], model: UnifiedModel, *, own: bool
) -> dict[tuple[str, int], np.ndarray]:
    """The codes of samples: those they were drawn with, or what the model's tokenizer makes of the pictures."""
    found = {}
    for sample in ledger.samples(pictures=False) if own else ledger.drawn():
        key = (sample.prompt_id, sample.k)
        if key not in wanted:
            continue
        if own and sample.codes is not None:
            found[key] = np.array(sample.codes, dtype=np.int32)
        else:
            told: torch.Tensor = model.encode([decode_picture(sample.image or b"")])[0]
            found[key] = told.numpy().astype(np.int32)
    return found


def _nothing(chosen: Selection) -> str:
    told = "; ".join(
        f"{one.group}: {one.kept} of {one.asked}"
        + (f" (instead {', '.join(f'{name} {n}' for name, n in list(one.instead.items())[:3])})" if one.instead else "")
        for one in chosen.groups
    )
    return (
        f"no sentence has a confirmed picture of every group: {told}. Draw more pictures, lower --min-confidence, "
        "or let another model draw (--source)."
    )
