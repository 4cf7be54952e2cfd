"""Texts about pictures. In: a model, a probe's data, a mitigation. Out: a ledger, labels, estimates, comparisons.

Sampling (``audit``) writes the ledger and can be resumed; scoring (``score``)
and comparing (``compare``) only read it, so every number can be recomputed from the run folder alone.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import cast

from evenhand.attributes import attribute_from_settings, load_attribute, measuring_settings
from evenhand.classify.words import WordClassifier
from evenhand.errors import BadInputError, MissingExtraError
from evenhand.ledger import Ledger
from evenhand.metrics.changes import count_changes, word_changes
from evenhand.metrics.misclassification import compare_misclassification, misclassification
from evenhand.models.protocol import Intervention, TextModel
from evenhand.pipeline.filling import Progress, fill
from evenhand.pipeline.opening import draws
from evenhand.records import Attribute, Comparison, Label, Prompt, Sample, Scored
from evenhand.registry import load, names

__all__ = ["audit", "compare", "score"]

RESAMPLING_SEED = 0
"""Of the intervals; fixed, so that a run scored twice gives the same numbers."""


def audit(
    model: str | TextModel,
    *,
    probe: str,
    data: str | Path,
    out: str | Path,
    mitigate: str | Intervention | None = None,
    attribute: str = "gender",
    seed: int = 0,
    progress: Progress | None = None,
) -> Scored:
    """Ask a model every prompt of a probe, store the answers in a run folder, score them.

    A folder that holds part of the same run is topped up; nothing that is there is asked again.

    Args:
        model: A registered name, a captioner's folder, ``hf:`` before a folder or hub id of a transformers
            vision-language model, or any object with the members of ``TextModel``.
        probe: A registered name, for example ``captioning``.
        data: What the probe reads, for ``captioning`` a folder with ``labels.csv``.
        out: The run folder; made if it is not there.
        mitigate: A registered name, any ``Intervention``, or None (``none``) for the plain model.
        attribute: A shipped name or a YAML file.
        seed: Of the run; a sample's own seed follows from it, its prompt and its number.
        progress: Called whenever a batch is stored.

    Raises:
        EvenhandError: As the stages say; what was stored before stays stored.
    """
    declared = load_attribute(attribute)
    ask = cast(Callable[[str, Attribute], Sequence[Prompt]], load("probes", probe))
    prompts = ask(str(data), declared)
    undeclared = [prompt.id for prompt in prompts if declared.name not in prompt.facts]
    if undeclared:
        raise BadInputError(
            f"probe {probe!r} declares no {declared.name} of {len(undeclared)} of {len(prompts)} prompts (the first: "
            f"{undeclared[0]!r}), so answers cannot be right or wrong. Allowed here: probes of pictures with labels, "
            "such as captioning. What a model draws is stored and scored by evenhand.pipeline.draw and score_pictures."
        )
    if isinstance(mitigate, str):
        names_of_mitigations = ("none", *names("mitigations"))
        if mitigate == "none":
            mitigate = None
        elif mitigate not in names_of_mitigations:
            load("mitigations", mitigate)  # raises, with near misses
    intervention = _intervention(mitigate, declared)
    asked = _model(model)
    run = f"{probe}-{seed}"
    settings = {
        "model": {"name": asked.name, "revision": asked.revision},
        "probe": probe,
        "attribute": measuring_settings(declared),
        "mitigation": None if intervention is None else {"name": intervention.name, **intervention.settings},
        "seed": seed,
    }
    with Ledger.create_or_resume(out, run=run, settings=settings, prompts=prompts) as ledger:
        _fill(ledger, asked, intervention, run, progress)
    return score(out)


def score(run: str | Path, *, level: float = 0.95) -> Scored:
    """Labels, estimates and counts of a run folder, from the ledger alone.

    Raises:
        LedgerError: No readable run folder.
        TooFewSamplesError: A declared group has no answer that can be scored.
    """
    ledger = Ledger.open(run)
    attribute = attribute_from_settings(ledger.settings["attribute"])
    prompts, samples = ledger.prompts(), ledger.samples()
    labels = WordClassifier(attribute).label(samples)
    facts = {prompt.id: prompt.facts for prompt in prompts}
    scored = [label for label in labels if label.reason != "error"]
    unit_name = _unit_name(prompts)
    estimates = misclassification(
        [facts[label.prompt_id][attribute.name] for label in scored],
        [_said(label) for label in scored],
        [_unit(label, facts, unit_name) for label in scored],
        groups=attribute.groups,
        unit_name=unit_name,
        seed=RESAMPLING_SEED,
        level=level,
    )
    return Scored(
        run=Path(run).resolve().name,
        settings=ledger.settings,
        attribute=attribute.name,
        prompts=prompts,
        previews=ledger.previews(),
        samples=samples,
        labels=labels,
        estimates=estimates,
        counts=_counts(prompts, samples, labels, attribute),
        prompts_sha256=str(ledger.manifest["prompts_sha256"]),
    )


def compare(before: Scored, after: Scored, *, level: float = 0.95) -> Comparison:
    """Two runs of the same prompts, paired picture by picture.

    Pictures that failed or are still to be asked in either run are left out of both, and counted.

    Raises:
        BadInputError: The runs do not share their attribute and prompts.
    """
    same_words = before.settings["attribute"] == after.settings["attribute"]
    if not same_words or before.prompts_sha256 != after.prompts_sha256:
        raise BadInputError(
            f"runs {before.run!r} and {after.run!r} do not ask the same prompts about the same attribute; "
            "compare runs made from the same data."
        )
    attribute = attribute_from_settings(before.settings["attribute"])
    facts = {prompt.id: prompt.facts for prompt in before.prompts}
    firsts, seconds = _by_key(before.labels), _by_key(after.labels)
    pairs = [
        (firsts[key], seconds[key])
        for key in sorted(firsts.keys() & seconds.keys())
        if "error" not in (firsts[key].reason, seconds[key].reason)
    ]
    unit_name = _unit_name(before.prompts)
    estimates = compare_misclassification(
        [facts[first.prompt_id][attribute.name] for first, _ in pairs],
        [_said(first) for first, _ in pairs],
        [_said(second) for _, second in pairs],
        [_unit(first, facts, unit_name) for first, _ in pairs],
        groups=attribute.groups,
        unit_name=unit_name,
        seed=RESAMPLING_SEED,
        level=level,
    )
    answers = [{(s.prompt_id, s.k): s for s in run.samples} for run in (before, after)]
    changes = []
    for label, _ in pairs:
        first, second = (answer[label.prompt_id, label.k] for answer in answers)
        changes.append(word_changes(label.prompt_id, first.text or "", second.text or "", second.edits))
    return Comparison(
        baseline=before.run,
        other=after.run,
        estimates=estimates,
        changes=tuple(change for one in changes for change in one),
        counts={**count_changes(changes), "left_out": len(firsts.keys() | seconds.keys()) - len(pairs)},
    )


def _model(model: str | TextModel) -> TextModel:
    if not isinstance(model, str):
        if not isinstance(model, TextModel):
            raise BadInputError(
                f"model: got {type(model).__name__}; needs name, revision, batch_size and answer (see TextModel)."
            )
        if model.batch_size < 1:
            raise BadInputError(f"model {model.name!r}: batch_size is {model.batch_size}; give 1 or more.")
        return model
    if draws(model):
        raise BadInputError(
            f"model {model!r} draws; an audit of texts needs one that answers about pictures, such as captioner or "
            "hf:FOLDER. For pictures: evenhand audit on the command line, or evenhand.audit_pictures."
        )
    if model.startswith("hf:"):
        make = cast(Callable[[str | None], TextModel], load("models", "hf"))
        return make(model.removeprefix("hf:"))
    if (Path(model) / "captioner.json").is_file():
        make = cast(Callable[[str | None], TextModel], load("models", "captioner"))
        return make(model)
    found = cast(Callable[[], object], load("models", model))()
    if not isinstance(found, TextModel):
        raise BadInputError(
            f"model {model!r}: got {type(found).__name__}; an audit of texts needs name, revision, "
            "batch_size and answer. A model that draws is registered under evenhand.image_models."
        )
    return found


def _intervention(mitigate: str | Intervention | None, attribute: Attribute) -> Intervention | None:
    if isinstance(mitigate, str):
        for package in ("torch", "transformers"):
            if find_spec(package) is None:
                raise MissingExtraError(package, "hf")
        return cast(Callable[[Attribute], Intervention], load("mitigations", mitigate))(attribute)
    if mitigate is not None and not isinstance(mitigate, Intervention):
        raise BadInputError(
            f"mitigate: got {type(mitigate).__name__}; needs name, continuation, settings and start (see Intervention)."
        )
    return mitigate


def _fill(
    ledger: Ledger, model: TextModel, intervention: Intervention | None, run: str, progress: Progress | None
) -> None:
    """Ask what is missing."""

    def ask(prompts: Sequence[Prompt], seeds: Sequence[int]) -> tuple[Sample, ...]:
        return model.answer(prompts, seeds=seeds, intervention=intervention)

    fill(ledger, ask, name=model.name, batch_size=model.batch_size, samples=1, run=run, progress=progress)


def _said(label: Label) -> str:
    return label.group or str(label.reason)


def _unit_name(prompts: Sequence[Prompt]) -> str:
    return "scene" if all(prompt.facts.get("scene") for prompt in prompts) else "picture"


def _unit(label: Label, facts: Mapping[str, Mapping[str, str]], unit_name: str) -> str:
    return facts[label.prompt_id]["scene"] if unit_name == "scene" else label.prompt_id


def _by_key(labels: Sequence[Label]) -> dict[tuple[str, int], Label]:
    return {(label.prompt_id, label.k): label for label in labels}


def _counts(
    prompts: Sequence[Prompt], samples: Sequence[Sample], labels: Sequence[Label], attribute: Attribute
) -> dict[str, int]:
    said = Counter(_said(label) for label in labels)
    declared = Counter(prompt.facts[attribute.name] for prompt in prompts)
    claims = Counter(sample.claim.reason.replace(" ", "_") for sample in samples if sample.claim is not None)
    counts = {
        "pictures": len(prompts),
        "answers": len(samples),
        "unanswered": len(prompts) - len(samples),
        "errors": said["error"],
    }
    counts |= {f"declared_{group}": declared[group] for group in attribute.groups}
    counts |= {f"said_{what}": said[what] for what in (*attribute.groups, "both", "neutral", "none")}
    counts |= {f"claim_{reason}": number for reason, number in sorted(claims.items())}
    counts["edited_captions"] = sum(bool(sample.edits) for sample in samples)
    counts["edited_tokens"] = sum(len(sample.edits) for sample in samples)
    counts["tokens_looked_at"] = sum(len(sample.edits) + len(sample.passed) for sample in samples)
    counts["tokens"] = sum(sample.tokens or 0 for sample in samples)
    return counts
