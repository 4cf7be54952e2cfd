"""What is in a folder of a location, measured. In: the folder, how it is read. Out: one ``Located`` per attribute.

Only files are read, so every number can be made again without the model.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from evenhand.locate.gathered import Gathered, read_gathered
from evenhand.locate.labelled_run import LabelledRun, read_labelled_run
from evenhand.locate.maps import entering_maps, read_differences
from evenhand.locate.parts import BIASED, Findings, attribute_bias
from evenhand.locate.per_prompt import locate_prompt
from evenhand.locate.plan import LocationPlan, asked_folder, labelled_folder, neutral_folder
from evenhand.locate.shares import CLEAR, agreement, bounds, decoded, fidelity, obeyed, shift, totals, unclear, unread
from evenhand.locate.show import pick, show
from evenhand.locate.turning import label_codes, turn_table
from evenhand.located import Example, Located
from evenhand.pipeline.labels import Reading
from evenhand.pipeline.picture_runs import OpenedPlan, score_run
from evenhand.records import Estimate, Label, ScoredPictures

__all__ = ["measure_location"]


def measure_location(
    out: str | Path, plan: LocationPlan, opened: OpenedPlan, *, reading: Reading = "kept"
) -> tuple[Located, ...]:
    """One record per attribute of the plan.

    Args:
        out: The folder of the location.
        plan: How it is read.
        opened: The plan's scoring, opened.
        reading: Whether labels that were kept are used (``pipeline.labels``).

    Raises:
        LedgerError: A run folder is missing or not what was written.
        TooFewSamplesError: No picture shows a group.
        EvenhandError: As the stages say.
    """
    neutral = score_run(neutral_folder(out), opened, reading=reading)
    found = []
    for read_by, labeller in zip(opened.plan.read_by, opened.labellers, strict=True):
        attribute, level = read_by.attribute, opened.plan.level
        gathered = read_gathered(
            out, attribute, labeller, neutral, guidance=plan.guidance, level=level, reading=reading
        )
        labelled = None
        if plan.labelled is not None:
            run = labelled_folder(out, attribute.name)
            labelled = read_labelled_run(run, attribute, labeller, level=level, reading=reading)
        found.append(_located(Path(out), plan, gathered, labelled))
    return tuple(found)


def _located(out: Path, plan: LocationPlan, found: Gathered, labelled: LabelledRun | None) -> Located:
    name, groups = found.attribute.name, found.groups
    codes = label_codes({**found.rows, **found.asked_rows}, groups, attribute=name, min_confidence=CLEAR)
    shown = (*found.neutral_labels, *found.labels)
    table = turn_table(codes, shown)
    turned, untold = decoded(found, table)
    prompts = tuple(locate_prompt(found, one, margin=plan.margin) for one in found.conditions)
    gap, sizes = _gap(found), totals(found)
    held = Findings(
        groups=groups,
        margin=plan.margin,
        codes=sizes.get("codes"),
        unclear=unclear(found),
        unread=unread(found, table),
        shown=sizes.get("shown"),
        obeyed=obeyed(found),
        agreement=agreement(prompts, groups=len(groups), level=found.level),
        gap=next((one for one in gap if one.name == "gap"), None),
        turned=turned,
        untold=untold,
        fidelity=fidelity(found),
        shift=shift(found),
        probes=() if labelled is None else labelled.probes,
        round_trip=None if labelled is None else labelled.round_trip,
    )
    parts = attribute_bias(held)
    folder = str(asked_folder(out, name))
    differing = read_differences(
        folder, found.conditions, attribute=name, guidance=plan.guidance, level=found.level, shape=plan.code_shape
    )
    return Located(
        run=out.resolve().name,
        settings=_settings(plan, found.neutral, labelled),
        attribute=name,
        groups=groups,
        target=found.attribute.target,
        margin=plan.margin,
        level=found.level,
        attributed=tuple(part.name for part in parts if part.verdict == BIASED),
        parts=parts,
        totals=sizes,
        prompts=prompts,
        shift=held.shift,
        turned=table,
        fidelity=held.fidelity,
        obeyed=held.obeyed,
        gap=gap,
        agreement=held.agreement,
        two_samples=bounds(found),
        probes=tuple(held.probes),
        round_trip=held.round_trip,
        maps=(*entering_maps(found, plan.code_shape), *differing),
        examples=_examples(out, found, codes, labelled),
        caveats=_caveats(found, labelled),
        counts=_counts(found, codes, labelled),
    )


def _gap(found: Gathered) -> tuple[Estimate, ...]:
    answers = found.neutral.answers.get(found.attribute.name)
    if answers is None:
        return ()
    return tuple(one for one in answers.estimates if one.name.partition(" ")[0] == "gap")


def _settings(plan: LocationPlan, neutral: ScoredPictures, labelled: LabelledRun | None) -> Mapping[str, object]:
    return {
        **neutral.settings,
        "likelihood_guidance": plan.guidance,
        "classifiers": neutral.classifiers,
        "labelled": None if labelled is None else labelled.source,
    }


def _examples(out: Path, found: Gathered, codes: Sequence[Label], labelled: LabelledRun | None) -> tuple[Example, ...]:
    neutral = {one.neutral.id: one.name for one in found.conditions}
    asking = {prompt.id: one.name for one in found.conditions for prompt in one.asked.values()}
    stands = {(one.prompt_id, one.k): one.group for one in codes if one.group is not None}
    wanted = {(one.prompt_id, one.k): found.asks[one.prompt_id] for one in found.labels if one.prompt_id in found.asks}
    held = [
        *show("drawn", neutral_folder(out), pick(stands, found.neutral_labels, neutral)),
        *show("asked", asked_folder(out, found.attribute.name), pick(wanted, found.labels, asking)),
    ]
    if labelled is not None:
        held += show("round trip", labelled_folder(out, found.attribute.name), labelled.shown)
    return tuple(held)


def _caveats(found: Gathered, labelled: LabelledRun | None) -> tuple[str, ...]:
    name = found.attribute.name
    held = [one for one in found.neutral.caveats if not one.startswith(tuple(f"{other}:" for other in _others(found)))]
    if not found.rows:
        held.append(
            f"{name}: no likelihood of its pictures is known, so language model and decoder cannot be told apart."
        )
    coded = [one for one in (*found.neutral.samples, *found.samples) if one.codes is not None]
    lacking = len(coded) - len(found.rows) - len(found.asked_rows)
    if found.rows and lacking:
        held.append(f"{name}: {lacking} of {len(coded)} pictures have no likelihood; locate again with the model.")
    impossible = sum(not np.isfinite(rows[1:].sum(axis=1)).any() for rows in found.rows.values())
    if impossible:
        held.append(
            f"{name}: {impossible} of {len(found.rows)} neutral pictures are impossible under every prompt that asks "
            "for a group; whom they show their likelihood does not say."
        )
    if labelled is None:
        held.append(
            f"{name}: no pictures labelled for it went through the model (--labelled; it needs encode, decode and "
            "features), so the encoder is not looked at and the classifier's own errors are not known."
        )
    elif labelled.lacking:
        held.append(f"{name}: {labelled.lacking} labelled pictures were not sent round yet; locate again.")
    if labelled is not None and not labelled.probes:
        held.append(f"{name}: the features of labelled pictures are missing; locate again with --labelled.")
    failed = sum(one.error is not None for one in found.samples)
    if failed:
        held.append(f"{name}: {failed} of {len(found.samples)} pictures that ask for a group failed and count nowhere.")
    return tuple(dict.fromkeys(held))


def _others(found: Gathered) -> tuple[str, ...]:
    return tuple(name for name in found.neutral.labels if name != found.attribute.name)


def _counts(found: Gathered, codes: Sequence[Label], labelled: LabelledRun | None) -> dict[str, int]:
    return {
        "prompts": len(found.conditions),
        "neutral pictures": sum(one.image_sha256 is not None for one in found.neutral.samples),
        "pictures that ask for a group": sum(one.image_sha256 is not None for one in found.samples),
        "failed": sum(one.error is not None for one in (*found.neutral.samples, *found.samples)),
        "without a group": sum(one.group is None for one in (*found.neutral_labels, *found.labels)),
        "pictures scored": len(codes),
        "codes unclear": sum(one.group is None for one in codes),
        "labelled pictures": 0 if labelled is None else labelled.pictures,
    }
