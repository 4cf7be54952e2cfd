"""Draws what a run still misses. In: a model, a probe, a seed. Out: a run folder with every picture wanted.

The dear half of an audit: it can be stopped, resumed and topped up, and nothing that is there is drawn again.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import cast

from evenhand.attributes import load_attribute
from evenhand.errors import BadInputError
from evenhand.ledger import Ledger
from evenhand.models.protocol import ContinuingModel, ImageModel, SeedCheckingModel
from evenhand.pipeline.filling import Progress, fill
from evenhand.pipeline.opening import open_image_model
from evenhand.records import Attribute, Prompt, Sample
from evenhand.registry import load
from evenhand.run_folder import MANIFEST, RunFolder

__all__ = ["draw", "prompts_to_draw", "run_name"]


def prompts_to_draw(probe: str, data: str | Path, attribute: Attribute) -> Sequence[Prompt]:
    """The prompts of a probe for models that draw.

    Raises:
        UnknownNameError: No such probe.
        BadInputError: The probe's prompts come with a picture, or without a text: they ask about pictures.
        EvenhandError: As the probe says of its data.
    """
    ask = cast(Callable[[str, Attribute], Sequence[Prompt]], load("probes", probe))
    prompts = ask(str(data), attribute)
    unfit = [prompt.id for prompt in prompts if prompt.image is not None or not prompt.text]
    if unfit:
        raise BadInputError(
            f"probe {probe!r} asks about pictures ({len(unfit)} of {len(prompts)} prompts, the first: {unfit[0]!r}); "
            "this model draws. Allowed here: probes whose prompts are texts alone, such as occupations."
        )
    return prompts


def draw(
    model: str | ImageModel,
    *,
    probe: str,
    data: str | Path,
    out: str | Path,
    samples: int,
    attribute: str | Attribute = "gender",
    seed: int = 0,
    options: Mapping[str, object] | None = None,
    progress: Progress | None = None,
) -> Path:
    """Let a model draw every prompt of a probe ``samples`` times, and store the pictures in a run folder.

    A folder that holds part of the same run is topped up; nothing that is there is drawn again. Asking for more
    samples later adds them.

    Args:
        model: ``NAME`` or ``NAME:ARGUMENT``, such as ``unified:FOLDER_OR_HUB_ID``, or any object with the members of
            ``ImageModel``.
        probe: A registered name, for example ``occupations``.
        data: What the probe reads, for ``occupations`` ``test`` or a file.
        out: The run folder; made if it is not there.
        samples: Pictures of each prompt, 1 or more.
        attribute: An attribute, a shipped name or a YAML file; what the probe's augmented prompts name.
        seed: Of the run; a sample's own seed follows from it, its prompt and its number.
        options: Of the model, where it is given by name.
        progress: Called whenever a batch is stored.

    Returns:
        The run folder.

    Raises:
        EvenhandError: As the stages say; what was stored before stays stored.
    """
    if samples < 1:
        raise BadInputError(f"samples: got {samples}; allowed: 1 or more pictures of each prompt.")
    declared = load_attribute(attribute) if isinstance(attribute, str) else attribute
    prompts = prompts_to_draw(probe, data, declared)
    RunFolder(out).refuse_foreign()  # before a seed check is paid for
    drawing = open_image_model(model, options)
    run = run_name(probe, seed)
    settings = {
        "model": {"name": drawing.name, "revision": drawing.revision, **drawing.settings},
        "replayable": _replayable(drawing, out),
        "probe": probe,
        "seed": seed,
    }

    def asked(batch: Sequence[Prompt], seeds: Sequence[int]) -> tuple[Sample, ...]:
        return drawing.draw(batch, seeds=seeds)

    with Ledger.create_or_resume(out, run=run, settings=settings, prompts=prompts) as ledger:
        if isinstance(drawing, ContinuingModel) and ledger.missing(samples):
            failed = (sample for sample in ledger.samples() if sample.error is not None)
            drawing.continue_from(prompts, chain(failed, ledger.drawn()))
        size = drawing.batch_size
        fill(ledger, asked, name=drawing.name, batch_size=size, samples=samples, run=run, progress=progress)
    return Path(out)


def run_name(probe: str, seed: int) -> str:
    """What the seeds of a run's samples are made from, with their prompts and numbers."""
    return f"{probe}-{seed}"


def _replayable(model: ImageModel, out: str | Path) -> bool:
    """What the run folder says; of a new one, whether the model honours seeds, tried out where it can be."""
    if (Path(out) / MANIFEST).is_file():
        return bool(Ledger.open(out).settings.get("replayable"))
    if isinstance(model, SeedCheckingModel):
        model.check_seed()
    return model.replayable
