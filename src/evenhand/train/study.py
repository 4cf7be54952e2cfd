"""A study of mitigations. In: a model, balanced data, held-out occupations. Out: every arm drawn and measured alike.

Arms become adapters, adapters pictures of the same prompts at each guidance weight, kept in one folder that
``study_read.read_study`` reads.

What is there is not made again: a study that was stopped goes on, arms, seeds and guidance weights can be added, and
several processes may work on different arms in one folder.
"""

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from hashlib import sha256
from math import isfinite
from pathlib import Path
from typing import Any

from PIL.Image import Image

from evenhand.classify.answers import AnswerClassifier
from evenhand.errors import BadInputError, DivergedError
from evenhand.mitigate.bpo.answering import question_of
from evenhand.mitigate.bpo.kept_json import read_json, write_json
from evenhand.mitigate.bpo.reference import set_digest
from evenhand.mitigate.bpo.tuples import TupleSet, check_tuples, read_tuples
from evenhand.mitigate.sampling.targets import read_target
from evenhand.models.unified.model import UnifiedModel
from evenhand.pipeline.drawing import prompts_to_draw, run_name
from evenhand.pipeline.filling import Progress
from evenhand.pipeline.picture_runs import OpenedPlan, open_plan, sample_pictures
from evenhand.pipeline.plans import ScoringPlan, write_plan
from evenhand.probes.occupations import listed_and_templates
from evenhand.records import Attribute
from evenhand.studied import Studied
from evenhand.train.arms import ARMS, DEFINING, STARTS_FROM, TRAINED, Training, check_arms, train_arm
from evenhand.train.asked import AskedPrompt, ask_for_groups, asked_prompts, joined_labels
from evenhand.train.held_out import refuse_trained
from evenhand.train.opening import open_unified
from evenhand.train.study_folder import (
    StudyPlan,
    adapters_folder,
    answers_file,
    asked_run,
    diverged,
    keep_diverged,
    keep_study,
    neutral_run,
)
from evenhand.train.study_read import read_study

__all__ = ["Bars", "SeenPictures", "run_study", "suffix_of"]

Bars = Callable[[str], AbstractContextManager[Progress | None]]
"""Makes a bar for what is named."""

SeenPictures = Mapping[str, Sequence[tuple[Callable[[], Image], str]]]
"""Attribute -> pictures that none of the arms was trained on, each with the group that it shows."""

_OCCUPATIONS, _ASKED = "occupations", "occupations_asked"
_BATCH = 64
"""Questions asked together."""


def run_study(
    model: str,
    data: str | Path | TupleSet,
    out: str | Path,
    *,
    held_out: str,
    plan: ScoringPlan,
    arms: Sequence[str] = ARMS,
    seeds: Sequence[int] = (0,),
    guidances: Sequence[float] = (1.0, 3.0, 5.0),
    samples: int = 160,
    asked: int = 8,
    seen: SeenPictures | None = None,
    rank: int = 32,
    options: Mapping[str, str] | None = None,
    seed: int = 0,
    bars: Bars | None = None,
    **arguments: Any,
) -> Studied:
    """Train every arm with every seed, and draw held-out occupations with each at every guidance weight.

    Everything that can be refused is refused before the first step.

    Args:
        model: ``unified:FOLDER_OR_HUB_ID`` or ``miniature``; opened anew for each arm.
        data: A folder of ``evenhand mitigate data``, or a set.
        out: The study's folder.
        held_out: Occupations: ``test``, a file; none of them may be trained on.
        plan: What reads the pictures, one for each attribute of the data, and metrics of quality.
        arms: Of ``train.arms.ARMS``.
        seeds: Of training.
        guidances: Weights w of classifier-free guidance; 1 is none.
        samples: Pictures of each prompt that asks for nobody.
        asked: Pictures of each prompt that asks for a group; 0 draws none.
        seen: Labelled pictures that the model is asked about.
        rank: Of the adapters.
        options: Of the model, as they are typed.
        seed: Of the pictures.
        bars: Shows progress.
        arguments: Of ``BPOConfig``, of every arm.

    Raises:
        BadInputError: A number out of range, attributes that are not the data's, or occupations that are trained on.
        UnknownNameError: No such arm.
        ChangedRunError: The folder holds a study of something else.
        EvenhandError: As the parts say; what was trained and drawn stays.
    """
    chosen = check_arms(arms)
    _check_numbers(seeds, guidances, samples, asked)
    tuples = data if isinstance(data, TupleSet) else read_tuples(data)
    attributes = [one.attribute for one in plan.read_by]
    _check_data(tuples, attributes, held_out)
    odd = sorted(set(arguments) & DEFINING)
    if odd:
        raise BadInputError(f"{', '.join(odd)}: is what an arm is, and the study sets it; leave it out.")
    given = dict(options or {})
    for name in ("adapter", "guidance"):
        if name in given:
            raise BadInputError(f"option {name}: the study sets it; leave it out.")
    rows, _ = listed_and_templates(held_out)
    held = tuple((one.occupation, one.template) for one in rows)
    study = StudyPlan(model, given, set_digest(tuples), held, samples, asked, rank, dict(arguments), seed)
    folder = Path(out)
    opened = open_plan(plan)
    check_tuples(tuples, _opened(study, None, guidances[0]))  # before the folder is this study's
    keep_study(folder, study)
    write_plan(folder, plan)
    how = Training(model, given, tuples, rank, arguments)
    for arm in chosen:
        for number in seeds if arm in TRAINED else (0,):
            try:
                adapter = _adapter(folder, arm, number, how)
            except DivergedError as error:  # the page says so, and the other arms go on
                keep_diverged(folder, arm, number, str(error))
                continue
            _draw_arm(folder, arm, number, adapter, study, held_out, opened, guidances, seen or {}, bars or _untold)
    return read_study(out)


def _adapter(folder: Path, arm: str, number: int, how: Training) -> str | None:
    """The folder of an arm's adapter, trained if need be; what came apart once is not trained again.

    Raises:
        DivergedError: It came apart, now or before, or the arm that it goes on from did.
    """
    for name in (STARTS_FROM.get(arm, arm), arm):
        said = diverged(folder, name, number)
        if said is not None:
            raise DivergedError(said)
    return train_arm(arm, number, how, adapters_folder(folder))


def suffix_of(attributes: Iterable[Attribute]) -> str:
    """What asks for diversity in the paper's prompt engineering: ``, any gender, any race``."""
    return "".join(f", any {one.name.replace('_', ' ')}" for one in attributes)


def _check_numbers(seeds: Sequence[int], guidances: Sequence[float], samples: int, asked: int) -> None:
    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise BadInputError(f"seeds: got {list(seeds)}; allowed: numbers of 0 and more, each once, for example 0 1 2.")
    if not guidances or len(set(guidances)) < len(guidances) or not all(isfinite(w) and w >= 0 for w in guidances):
        raise BadInputError(f"guidance: got {list(guidances)}; allowed: numbers of 0 and more, each once; 1 is none.")
    if samples < 1 or asked < 0:
        raise BadInputError(f"got samples {samples}, asked {asked}; allowed: 1 and more, 0 and more.")


def _check_data(tuples: TupleSet, attributes: Sequence[Attribute], held_out: str) -> None:
    target = read_target("even", attributes)
    if target.names != tuples.groups:
        raise BadInputError(
            f"attributes: their groups are {', '.join(target.names)}; the data have {', '.join(tuples.groups)}. Name "
            "the data's attributes, in their order."
        )
    refuse_trained(prompts_to_draw(_OCCUPATIONS, held_out, attributes[0]), tuples)


def _draw_arm(
    folder: Path,
    arm: str,
    number: int,
    adapter: str | None,
    study: StudyPlan,
    held_out: str,
    opened: OpenedPlan,
    guidances: Sequence[float],
    seen: SeenPictures,
    bars: Bars,
) -> None:
    """Everything of one arm and seed that needs the model."""
    attributes = [one.attribute for one in opened.plan.read_by]
    data = _suffixed(folder, held_out, attributes) if arm == "prompt" else held_out
    asked = asked_prompts(
        prompts_to_draw(_OCCUPATIONS, held_out, attributes[0]), read_target("even", attributes), probe=_ASKED
    )
    for weight in guidances:
        model = _opened(study, adapter, weight)
        name = f"{arm}-{number}, guidance {weight:g}"
        with bars(name) as progress:
            run = sample_pictures(
                model,
                attributes=attributes,
                out=neutral_run(folder, arm, number, weight),
                data=data,
                samples=study.samples,
                answers=0,
                seed=study.seed,
                progress=progress,
            )
        write_plan(run, opened.plan)
        if study.asked and arm != "prompt":
            with bars(f"{name}, asked") as progress:
                _ask(model, asked, asked_run(folder, arm, number, weight), study, opened, progress)
    if seen and arm != "prompt":
        _ask_about(_opened(study, adapter, guidances[0]), seen, attributes, answers_file(folder, arm, number), bars)


def _opened(study: StudyPlan, adapter: str | None, weight: float) -> UnifiedModel:
    given = {**study.options, "guidance": str(weight), **({} if adapter is None else {"adapter": adapter})}
    return open_unified(study.model, given)


def _ask(
    model: UnifiedModel,
    asked: Mapping[str, AskedPrompt],
    folder: Path,
    study: StudyPlan,
    opened: OpenedPlan,
    progress: Progress | None,
) -> None:
    run = run_name(_ASKED, study.seed)
    ledger = ask_for_groups(
        model, asked, folder, probe=_ASKED, run=run, seed=study.seed, pictures=study.asked, progress=progress
    )
    joined_labels(folder, ledger, opened.labellers)


def _suffixed(folder: Path, held_out: str, attributes: Sequence[Attribute]) -> str:
    """A file with the held-out occupations, each with its sentence and the suffix."""
    rows, templates = listed_and_templates(held_out)
    written = io.StringIO()
    writer = csv.writer(written)
    writer.writerow(("occupation", "template"))
    for row in rows:
        for template in (row.template,) if row.template else templates:
            writer.writerow((row.occupation, f"{template}{suffix_of(attributes)}"))
    place = folder / "suffixed.csv"
    place.write_text(written.getvalue(), "utf-8")
    return str(place)


def _seen_digest(seen: SeenPictures) -> str:
    """SHA-256, 16 hex characters, of the pictures' pixels and what they show."""
    found = sha256()
    for name, pairs in sorted(seen.items()):
        for open_one, group in pairs:
            found.update(f"{name}\0{group}\0".encode())
            found.update(open_one().tobytes())
    return found.hexdigest()[:16]


def _ask_about(
    model: UnifiedModel, seen: SeenPictures, attributes: Sequence[Attribute], place: Path, bars: Bars
) -> None:
    """Right answers about labelled pictures, kept as counts."""
    of = _seen_digest(seen)
    held = read_json(place.parent, place.name)
    if held is not None and held.get("pictures") == of:
        return
    counts: dict[str, dict[str, int]] = {}
    for attribute in (one for one in attributes if one.name in seen):
        reader, pairs = AnswerClassifier(attribute), seen[attribute.name]
        question, right = question_of(attribute.name.replace("_", " "), attribute.groups), 0
        with bars(f"{place.stem}, answers about {attribute.name}") as progress:
            for start in range(0, len(pairs), _BATCH):
                part = pairs[start : start + _BATCH]
                said = model.answer_about(
                    [question] * len(part), [open_one() for open_one, _ in part], seeds=range(len(part)), temperature=0
                )
                right += sum(reader.read(one)[0] == group for one, (_, group) in zip(said, part, strict=True))
                if progress is not None:
                    progress(start + len(part), len(pairs))
        counts[attribute.name] = {"right": right, "asked": len(pairs)}
    write_json(place.parent, place.name, {"pictures": of, "answers": counts})


def _untold(what: str) -> AbstractContextManager[Progress | None]:  # noqa: ARG001  (nobody is told)
    return nullcontext(None)
