"""Labelled pictures, sent through a model. In: pictures, a model. Out: a run folder with them, and what is read of it.

Sample 0 of a picture is the part of it that is encoded, in the size that comes back; sample 1 what is left of it after
encoding and decoding. Features of every place stand beside them.
"""

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL.Image import Image

from evenhand.classify.pictures.protocol import Labeller
from evenhand.errors import ChangedRunError, CorruptLedgerError, TooFewSamplesError
from evenhand.ledger import Ledger, seed_of
from evenhand.locate.parts import PATHS
from evenhand.locate.probes import probe_place
from evenhand.locate.round_trip import round_trip
from evenhand.locate.show import Shown, pick
from evenhand.located import Probe, RoundTrip
from evenhand.pipeline.filling import Progress
from evenhand.pipeline.labels import Reading, label_pictures
from evenhand.records import Attribute, Prompt, Sample
from evenhand.run_folder import MANIFEST, RunFolder

if TYPE_CHECKING:
    from evenhand.locate.labelled import LabelledPictures
    from evenhand.models.protocol import CodeModel

__all__ = ["LabelledRun", "keep_labelled", "read_labelled_run", "refuse_others"]

_PROBE, _FEATURES = "round_trip", "features.safetensors"
_SEED = 0
_SHUFFLED = "shuffled "
_CONTROLS = ("pixels", _SHUFFLED)
_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class LabelledRun:
    """What pictures labelled for one attribute say of a model.

    Attributes:
        source: Where the pictures come from.
        pictures: How many are labelled for the attribute.
        probes: Of each place, then controls.
        round_trip: Before and after encoding and decoding; None where no picture shows a group both times.
        lacking: Pictures that were to be sent round and were not yet.
        shown: Pictures for the page.
    """

    source: str
    pictures: int
    probes: tuple[Probe, ...]
    round_trip: RoundTrip | None
    shown: tuple[Shown, ...]
    lacking: int


def keep_labelled(
    model: "CodeModel",
    given: "LabelledPictures",
    out: str | Path,
    *,
    progress: Progress | None = None,
) -> None:
    """Send labelled pictures through a model, and keep them, what comes back, and the features of every place.

    Args:
        model: Encodes, decodes and gives features.
        given: The pictures.
        out: The run folder; what is there is not made again.
        progress: Told with (samples there, samples wanted).

    Raises:
        LedgerError: The folder is of other pictures or another model, or cannot be written to.
        PictureError: A picture cannot be read.
    """
    from safetensors.numpy import save

    from evenhand.locate.features import picture_features
    from evenhand.locate.round_trip import framed, send_round

    prompts = [
        Prompt(name, _PROBE, "", None, dict(facts)) for name, facts in zip(given.names, given.facts, strict=True)
    ]
    settings = {
        "model": {"name": model.name, "revision": model.revision},
        "replayable": True,
        "probe": _PROBE,
        "source": given.source,
        "pictures_sha256": given.sha256,
    }
    places = {prompt.id: at for at, prompt in enumerate(prompts)}
    with Ledger.create_or_resume(out, run=_PROBE, settings=settings, prompts=prompts) as ledger:
        missing = sorted({places[prompt.id] for prompt, _ in ledger.missing(2)})
        for start in range(0, len(missing), _AT_ONCE):
            rows = missing[start : start + _AT_ONCE]
            pictures = [given.open(at) for at in rows]
            there = {(sample.prompt_id, sample.k) for sample in ledger.samples()}
            returned = send_round(model, pictures)
            samples = [
                _sample(prompts[at], k, picture)
                for at, before, after in zip(rows, pictures, returned, strict=True)
                for k, picture in enumerate((framed(before, after), after))
            ]
            ledger.append([sample for sample in samples if (sample.prompt_id, sample.k) not in there])
            if progress is not None:
                progress(2 * (len(prompts) - len(missing) + start + len(rows)), 2 * len(prompts))
    folder = RunFolder(out)
    if _FEATURES not in folder.names():
        found = picture_features(model, given.pictures, seed=_SEED)
        folder.write(_FEATURES, save({place: np.ascontiguousarray(own) for place, own in found.items()}))


def refuse_others(out: str | Path, given: "LabelledPictures") -> None:
    """Refuse a run folder of other labelled pictures, before anything is drawn.

    Raises:
        ChangedRunError: As said.
    """
    if not (Path(out) / MANIFEST).is_file():
        return
    ledger = Ledger.open(out)
    held = [prompt.id for prompt in ledger.prompts()], ledger.settings.get("pictures_sha256")
    if held != (list(given.names), given.sha256):
        raise ChangedRunError(
            f"{str(out)!r} holds other labelled pictures ({ledger.settings.get('source')}); allowed: the same label "
            "file and seed as before; give another --out, or delete that folder."
        )


def read_labelled_run(
    run: str | Path, attribute: Attribute, labeller: Labeller, *, level: float, reading: Reading = "kept"
) -> LabelledRun | None:
    """Probes and round trip of one attribute; None where there are no pictures labelled for it.

    Args:
        run: The run folder; it need not be there.
        attribute: Its groups.
        labeller: Reads pictures before and after.
        level: Coverage the intervals aim at.
        reading: Whether labels that were kept are used.

    Raises:
        CorruptLedgerError: A file is not what was written.
        TooFewSamplesError: Too few pictures of a group.
    """
    if not (Path(run) / MANIFEST).is_file():
        return None
    ledger = Ledger.open(run)
    whole = {one.prompt_id for one in ledger.samples() if one.k == 1}  # both samples of a picture are stored together
    prompts = [one for one in ledger.prompts() if one.facts.get(attribute.name) in attribute.groups and one.id in whole]
    if not prompts:
        return None
    told, _ = label_pictures(str(run), ledger, [labeller], reading=reading)
    by_sample = {(one.prompt_id, one.k): one for one in told[attribute.name]}
    before, after = ([by_sample[prompt.id, k] for prompt in prompts] for k in (0, 1))
    labels = [prompt.facts[attribute.name] for prompt in prompts]
    try:
        trip = round_trip(labels, before, after, groups=attribute.groups, seed=_SEED, level=level)
    except TooFewSamplesError:  # no picture shows a group both times
        trip = None
    return LabelledRun(
        source=str(ledger.settings["source"]),
        pictures=len(prompts),
        probes=_probes(run, ledger, attribute, prompts, labels, level),
        round_trip=trip,
        shown=tuple(
            pick(
                {(prompt.id, 1): label for prompt, label in zip(prompts, labels, strict=True)},
                after,
                {},
                beside={(prompt.id, 1): (prompt.id, 0) for prompt in prompts},
            )
        ),
        lacking=len(ledger.prompts()) - len(whole),
    )


def _probes(
    run: str | Path,
    ledger: Ledger,
    attribute: Attribute,
    prompts: Sequence[Prompt],
    labels: Sequence[str],
    level: float,
) -> tuple[Probe, ...]:
    """One per place for which features are kept, controls last."""
    rows = {prompt.id: at for at, prompt in enumerate(ledger.prompts())}
    own = [rows[prompt.id] for prompt in prompts]
    others = [{name: value for name, value in prompt.facts.items() if name != attribute.name} for prompt in prompts]
    strata = [" ".join(f"{name}={value}" for name, value in sorted(facts.items())) for facts in others]
    found = []
    features = _features(run)
    odd = [place for place, values in features.items() if values.ndim != 2 or len(values) != len(rows)]
    if odd:
        raise CorruptLedgerError(
            f"{run}/{_FEATURES} is not of these {len(rows)} pictures ({odd[0]}: {features[odd[0]].shape}); delete "
            "it and locate again with --labelled."
        )
    for place in sorted(features, key=_order):
        found.append(
            probe_place(
                place,
                features[place][own],
                labels,
                groups=attribute.groups,
                control=place.startswith(_CONTROLS),
                strata=strata,
                seed=_SEED,
                level=level,
            )
        )
    return tuple(found)


def _order(place: str) -> tuple[bool, int, str]:
    """Places of the model as a picture goes through it, then controls."""
    known = [one for path in PATHS for one in path]
    name = place.removeprefix(_SHUFFLED)
    return place.startswith(_CONTROLS), known.index(name) if name in known else len(known), place


def _features(run: str | Path) -> Mapping[str, np.ndarray]:
    folder = RunFolder(run)
    if _FEATURES not in folder.names():
        return {}

    def decode(content: bytes) -> dict[str, np.ndarray]:
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            held: dict[str, np.ndarray] = load(content)
        except SafetensorError as error:
            raise CorruptLedgerError(str(error)) from error
        return held

    return folder.load(_FEATURES, decode)


def _sample(prompt: Prompt, k: int, picture: Image) -> Sample:
    stream = io.BytesIO()
    picture.convert("RGB").save(stream, "PNG")
    content = stream.getvalue()
    digest = hashlib.sha256(content).hexdigest()
    return Sample(prompt.id, k, seed_of(_PROBE, prompt.id, k), None, image=content, image_sha256=digest)
