"""Pictures of prompts that ask for a group. In: neutral prompts, a target. Out: a run folder; what each shows."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from evenhand.classify.pictures.protocol import Labeller
from evenhand.ledger import Ledger
from evenhand.metrics.tally import product_labels
from evenhand.mitigate.sampling.targets import Target
from evenhand.models.protocol import ImageModel
from evenhand.pipeline.filling import Progress, fill
from evenhand.pipeline.labels import PictureStore, label_pictures
from evenhand.probes.occupations import augmented_text
from evenhand.records import Label, Prompt, Sample

__all__ = ["AskedPrompt", "ask_for_groups", "asked_prompts", "joined_labels"]


class AskedPrompt(NamedTuple):
    """A sentence with a group put in.

    Attributes:
        prompt: With the group among its facts, as ``asked``.
        neutral: Id of the sentence that asks for nobody.
        group: The group's name, of the product where several attributes are asked for.
    """

    prompt: Prompt
    neutral: str
    group: str


def asked_prompts(neutral: Sequence[Prompt], target: Target, *, probe: str) -> dict[str, AskedPrompt]:
    """Every neutral prompt with each group put in, by the new prompt's id.

    Raises:
        BadInputError: A prompt that does not say its occupation and template.
    """
    found = {}
    for one in neutral:
        for words, name in zip(target.groups, target.names, strict=True):
            facts = {**one.facts, "asked": name, "neutral": one.id}
            prompt = Prompt(f"{one.id}/{name}", probe, augmented_text(one, words), None, facts)
            found[prompt.id] = AskedPrompt(prompt, one.id, name)
    return found


def ask_for_groups(
    model: ImageModel,
    asked: Mapping[str, AskedPrompt],
    folder: str | Path,
    *,
    probe: str,
    run: str,
    seed: int,
    pictures: int,
    progress: Progress | None = None,
) -> Ledger:
    """Draw prompts that ask for a group into a run folder; one that holds part of the same run is topped up.

    Raises:
        ChangedRunError: The folder holds another run.
        EvenhandError: As drawing says; what was drawn is kept.
    """
    settings = {
        "model": {"name": model.name, "revision": model.revision, **model.settings},
        "replayable": model.replayable,
        "probe": probe,
        "seed": seed,
    }
    prompts = [one.prompt for one in asked.values()]
    with Ledger.create_or_resume(folder, run=run, settings=settings, prompts=prompts) as ledger:

        def ask(batch: Sequence[Prompt], seeds: Sequence[int]) -> tuple[Sample, ...]:
            return model.draw(batch, seeds=seeds)

        fill(ledger, ask, name=model.name, batch_size=model.batch_size, samples=pictures, run=run, progress=progress)
    return Ledger.open(folder)


def joined_labels(folder: str | Path, store: PictureStore, labellers: Sequence[Labeller]) -> Sequence[Label]:
    """One label a picture, of the product where there are several labellers; what was read is kept in the folder."""
    told, _ = label_pictures(str(folder), store, labellers)
    first, *others = (told[one.attribute.name] for one in labellers)
    joined: Sequence[Label] = first
    for other in others:
        joined = product_labels(joined, other)
    return joined
