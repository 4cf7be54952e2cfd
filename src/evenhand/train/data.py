"""Balanced data. In: a model that will be trained, occupations, attributes. Out: a folder with tuples to train on.

word:     where a chat server is asked, other wordings of every sentence
draw:     every neutral sentence with each group put in ──► pictures in a run folder (by the model itself, or another)
          or pictures that are there already, with a file that says whom each was asked to show
read:     labels; kept is what shows the group that was asked for
pair:     one kept picture of every group of the same sentence ──► tuples.parquet

What was answered, drawn and read is kept, so a run that was stopped goes on, and a larger one adds to it.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from evenhand.errors import BadInputError, ChangedRunError, TooFewSamplesError
from evenhand.mitigate.bpo.selection import Accepted, Selection, select
from evenhand.mitigate.bpo.tuples import PictureTuple, TupleSet, check_tuples, write_tuples
from evenhand.mitigate.sampling.targets import Target, read_target
from evenhand.models.protocol import ImageModel
from evenhand.models.unified.model import UnifiedModel
from evenhand.pictures import decode_picture
from evenhand.pipeline.filling import Progress
from evenhand.pipeline.labels import PictureStore
from evenhand.pipeline.opening import open_labeller
from evenhand.pipeline.plans import ReadBy
from evenhand.probes.occupation_lists import ListedOccupation, read_occupations
from evenhand.probes.occupations import augmented_text, neutral_prompt, neutral_template, occupations
from evenhand.records import Label, Prompt
from evenhand.train.asked import ask_for_groups, asked_prompts, joined_labels
from evenhand.train.given_pictures import GivenPictures, read_given
from evenhand.train.wordings import WORDINGS, Reworded, Rewording, reword

__all__ = ["BalancedData", "make_balanced_data"]

_PROBE = "occupations_balanced"
_DRAWN = "drawn"
_READ = "read"
_OWN_FACTS = ("occupation", "template", "asked")


@dataclass(frozen=True, slots=True)
class BalancedData:
    """What was made.

    Attributes:
        folder: With ``tuples.parquet``, and the pictures it was made from in ``drawn``, if they were drawn here.
        tuples: How many.
        prompts: Neutral prompts with at least one.
        groups: What was asked for and confirmed.
        lacking: Neutral prompts with none -> groups that none of their pictures shows.
        failed: Pictures that could not be drawn.
        wordings: What the chat server was asked for and answered; None where none was asked.
    """

    folder: str
    tuples: int
    prompts: int
    groups: tuple[Accepted, ...]
    lacking: Mapping[str, tuple[str, ...]]
    failed: int
    wordings: Reworded | None = None


@dataclass(frozen=True, slots=True)
class _Stock:
    """Pictures that may be paired.

    Attributes:
        folder: Where their labels are kept.
        store: Holds them.
        sentences: Neutral prompt's id -> the prompts that a tuple of its pictures is made for.
        asked: A picture's prompt's id -> that neutral prompt's id, the group.
        source: As ``PictureTuple``.
        reworded: What the chat server said.
    """

    folder: str
    store: PictureStore
    sentences: Mapping[str, tuple[Prompt, ...]]
    asked: Mapping[str, tuple[str, str]]
    source: str
    reworded: Reworded | None


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What the pictures are made of, as ``make_balanced_data`` was told."""

    out: Path
    held_out: frozenset[str]
    target: Target
    rewording: Rewording | None
    seed: int

    def reworded(self, neutral: Sequence[Prompt]) -> Reworded | None:
        """Other wordings of the sentences of some prompts; None where none are wanted."""
        if self.rewording is None:
            return None
        templates = [neutral_template(one.facts["template"]) for one in neutral]
        return reword(templates, self.rewording, self.target.attributes, self.out, seed=self.seed)


def make_balanced_data(
    model: UnifiedModel,
    read_by: Sequence[ReadBy],
    out: str | Path,
    *,
    data: str | None = None,
    leave_out: str | None = None,
    pictures: int | None = None,
    min_confidence: float = 0.8,
    source: ImageModel | None = None,
    pictures_from: str | Path | None = None,
    rewording: Rewording | None = None,
    keep_pictures: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
) -> BalancedData:
    """Draw each neutral sentence with every group put in, keep what shows it, and pair one picture of every group.

    With ``source=None`` the model draws its own training pictures (balanced self-distillation): whatever it is trained
    on then, it has drawn itself, so nothing but whom it draws needs to change. ``pictures_from`` takes pictures that
    are there already; the model's tokenizer encodes them, and those of ``source``.

    Args:
        model: What will be trained; its picture tokenizer makes the codes.
        read_by: What reads the pictures, one for each attribute; the groups of several are their product.
        out: Folder; one that holds part of the same is added to.
        data: Occupations and, after ``+``, sets of sentences, as of the probe ``occupations``: each sentence is a
            wording of its own, neutral and with the group in it. ``train`` where nothing is said.
        leave_out: Occupations that are held out: a list's name or a file.
        pictures: Of each sentence and group, 1 or more; 4 where nothing is said.
        min_confidence: Smallest confidence of a label that is believed.
        source: What draws; by default the model itself.
        pictures_from: A CSV or Parquet file of pictures, in place of drawing: ``file``, ``occupation``, a column for
            each attribute, and ``template`` where wanted. Without ``data``, ``pictures`` and ``source``.
        rewording: Other wordings of each sentence, by a chat server. Each is drawn like a sentence of its own; given
            pictures are paired once for each wording, all pictures of a tuple under the same one.
        keep_pictures: Store the pictures in the tuples too, as PNG files.
        seed: Of the pictures and the wordings.
        progress: Told of pictures drawn.

    Raises:
        BadInputError: No occupation is left, a number out of range, options that exclude each other, or a row of
            ``pictures_from`` (``LabelsError``, ``PictureError``).
        TooFewSamplesError: No sentence has a picture of every group; the message says what was drawn instead.
        ChangedRunError: The folder holds what was made in another way; nothing is asked or drawn.
        ServiceError: The chat server gave no answer, or no wording that can be used.
        EvenhandError: As drawing and reading say; what was drawn is kept.
    """
    _refuse_mixed(data, pictures, source, pictures_from)
    if pictures is not None and pictures < 1:
        raise BadInputError(f"pictures: got {pictures}; allowed: 1 and more of each sentence and group.")
    target = read_target("even", [one.attribute for one in read_by])
    labellers = [open_labeller(one) for one in read_by]
    held = frozenset(row.occupation.casefold() for row in read_occupations(leave_out)) if leave_out else frozenset()
    wanted = _Wanted(Path(out), held, target, rewording, seed)
    _refuse_changed(wanted, given=pictures_from is not None)
    if pictures_from is None:
        stock = _drawn(model, source, data or "train", pictures or 4, wanted, progress)
    else:
        stock = _given(pictures_from, wanted)
    labels = joined_labels(stock.folder, stock.store, labellers)
    chosen = select(labels, stock.asked, groups=target.names, min_confidence=min_confidence)
    if not chosen.tuples:
        raise TooFewSamplesError(_nothing(chosen, stock.store, labels, min_confidence))
    tuples = TupleSet(
        " x ".join(one.name for one in target.attributes),
        target.names,
        (model.code_shape[0], model.code_shape[1]),
        model.codebook_size,
        model.codebook_digest,
        _paired(chosen, stock, target, model, keep_pictures=keep_pictures),
    )
    check_tuples(tuples, model)
    write_tuples(out, tuples)
    with_tuples = {one.prompt for one in tuples.tuples}
    failed = sum(label.reason == "error" for label in labels)
    return BalancedData(
        str(out), len(tuples.tuples), len(with_tuples), chosen.groups, chosen.lacking, failed, stock.reworded
    )


def _refuse_mixed(
    data: str | None, pictures: int | None, source: ImageModel | None, pictures_from: str | Path | None
) -> None:
    typed = {"--occupations (data)": data, "--pictures": pictures, "--source": source}
    given = [name for name, value in typed.items() if value is not None]
    if pictures_from is not None and given:
        raise BadInputError(
            f"--pictures-from: got {', '.join(given)} too; allowed: one or the other. The file says which pictures "
            "there are and of whom; nothing is drawn. Leave one out."
        )


def _refuse_changed(wanted: _Wanted, *, given: bool) -> None:
    """Refuse a folder of another kind before a server is asked for anything.

    Raises:
        ChangedRunError: It was made with or without wordings, of drawn or of given pictures, and now it is not.
    """
    drawn, worded = wanted.out / _DRAWN, wanted.out / WORDINGS
    problem = None
    if wanted.rewording is None and worded.exists():
        problem = f"{WORDINGS} is there, and no wordings are wanted now"
    elif wanted.rewording is not None and drawn.exists() and not worded.exists():
        problem = "its pictures were drawn without wordings, and wordings are wanted now"
    elif given and drawn.exists():
        problem = "it holds pictures that were drawn, and now they come from a file"
    elif not given and (wanted.out / _READ).exists():
        problem = "its pictures came from a file, and now they are drawn"
    if problem:
        raise ChangedRunError(
            f"{str(wanted.out)!r} was made in another way: {problem}. Allowed: the same, to go on. Do: give another "
            "--out."
        )


def _drawn(
    model: UnifiedModel,
    source: ImageModel | None,
    data: str,
    pictures: int,
    wanted: _Wanted,
    progress: Progress | None,
) -> _Stock:
    """Draw every sentence and wording with each group in it, in a run folder that is gone on with."""
    listed = _neutral(data, wanted)
    reworded = wanted.reworded(listed)
    neutral = {one.id: one for first in listed for one in _worded(first, reworded)}
    asked = asked_prompts(tuple(neutral.values()), wanted.target, probe=_PROBE)
    folder = wanted.out / _DRAWN
    ledger = ask_for_groups(
        source or model,
        asked,
        folder,
        probe=_PROBE,
        run=f"balanced-{wanted.seed}",
        seed=wanted.seed,
        pictures=pictures,
        progress=progress,
    )
    return _Stock(
        str(folder),
        ledger,
        {name: (one,) for name, one in neutral.items()},
        {key: (one.neutral, one.group) for key, one in asked.items()},
        "model" if source is None else "source",
        reworded,
    )


def _given(file: str | Path, wanted: _Wanted) -> _Stock:
    """The pictures of a file; a tuple is made of them for their sentence and for each of its wordings."""
    store = read_given(file, wanted.target, held_out=wanted.held_out)
    reworded = wanted.reworded(store.neutral)
    folder = wanted.out / _READ
    folder.mkdir(parents=True, exist_ok=True)
    asked = {f"{one.id}/{group}": (one.id, group) for one in store.neutral for group in wanted.target.names}
    sentences = {one.id: _worded(one, reworded) for one in store.neutral}
    return _Stock(str(folder), store, sentences, asked, "folder", reworded)


def _neutral(data: str, wanted: _Wanted) -> list[Prompt]:
    """Neutral prompts of the occupations that are not held out.

    Raises:
        BadInputError: None is left.
    """
    every = occupations(data, wanted.target.attributes[0])
    kept = [one for one in every if one.facts["occupation"].casefold() not in wanted.held_out]
    if not kept:
        raise BadInputError(f"occupations: {data!r} has {len(every)}, and all are left out; hold fewer out.")
    return kept


def _worded(prompt: Prompt, reworded: Reworded | None) -> tuple[Prompt, ...]:
    """A neutral prompt and the same in each other wording of its sentence."""
    if reworded is None:
        return (prompt,)
    facts = {name: text for name, text in prompt.facts.items() if name not in _OWN_FACTS}
    row = ListedOccupation(prompt.facts["occupation"], None, facts)
    others = reworded.wordings[neutral_template(prompt.facts["template"])]
    return (prompt, *(neutral_prompt(row, one) for one in others))


def _paired(
    chosen: Selection, stock: _Stock, target: Target, model: UnifiedModel, *, keep_pictures: bool
) -> tuple[PictureTuple, ...]:
    rows = [
        (prompt, members)
        for name, prompts in stock.sentences.items()
        for prompt in prompts
        for members in zip(*chosen.pictures[name], strict=False)
    ]
    wanted = {(name, k) for _, members in rows for name, k, _ in members}
    kept = _encoded(stock, wanted, model, keep_pictures=keep_pictures)
    return tuple(
        PictureTuple(
            prompt.id,
            prompt.text,
            tuple(augmented_text(prompt, words) for words in target.groups),
            target.names,
            np.stack([kept[name, k].codes for name, k, _ in members]),
            tuple(confidence for _, _, confidence in members),
            stock.source,
            tuple(kept[name, k].image for name, k, _ in members) if keep_pictures else (),
        )
        for prompt, members in rows
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Encoded:
    codes: np.ndarray
    image: bytes = field(default=b"", repr=False)


def _encoded(
    stock: _Stock, wanted: Collection[tuple[str, int]], model: UnifiedModel, *, keep_pictures: bool
) -> dict[tuple[str, int], _Encoded]:
    """The codes of samples: those they were drawn with, or what the model's tokenizer makes of the pictures."""
    found = {}
    own = stock.source == "model"
    for sample in stock.store.samples() if own and not keep_pictures else stock.store.drawn():
        key = (sample.prompt_id, sample.k)
        if key not in wanted:
            continue
        if own and sample.codes is not None:
            codes = np.array(sample.codes, dtype=np.int32)
        else:
            told: torch.Tensor = model.encode([decode_picture(sample.image or b"")])[0]
            codes = told.numpy().astype(np.int32)
        found[key] = _Encoded(codes, (sample.image or b"") if keep_pictures else b"")
    return found


def _nothing(chosen: Selection, store: PictureStore, labels: Sequence[Label], min_confidence: float) -> str:
    told = "; ".join(
        f"{one.group}: {one.kept} of {one.asked}"
        + (f" (instead {', '.join(f'{name} {n}' for name, n in list(one.instead.items())[:3])})" if one.instead else "")
        for one in chosen.groups
    )
    said = f"no sentence has a confirmed picture of every group: {told}. "
    if isinstance(store, GivenPictures):
        rows = store.unconfirmed(labels, min_confidence)
        return (
            f"{said}{rows + '. ' if rows else ''}Add pictures of each group to a sentence, or lower --min-confidence."
        )
    return f"{said}Draw more pictures, lower --min-confidence, or let another model draw (--source)."
