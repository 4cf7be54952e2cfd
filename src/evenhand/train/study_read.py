"""What a study's folder shows. In: the folder. Out: ``Studied``; the model is not needed.

Every run is scored from its pictures; what was read of them is kept, as in any audit.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from evenhand.errors import LedgerError, TooFewSamplesError
from evenhand.ledger import Ledger
from evenhand.metrics.distances import share_interval
from evenhand.metrics.draws import bootstrap_method
from evenhand.metrics.over_seeds import over_seeds
from evenhand.mitigate.bpo.kept_json import read_json
from evenhand.pipeline.labels import Reading
from evenhand.pipeline.picture_runs import OpenedPlan, open_plan, score_run
from evenhand.pipeline.plans import ScoringPlan, read_plan
from evenhand.records import Estimate, ScoredPictures
from evenhand.stats import Event, percentile_interval, resample_rates
from evenhand.studied import Studied, StudyCell, StudyRow
from evenhand.train.asked import joined_labels
from evenhand.train.study_folder import (
    answers_file,
    asked_run,
    diverged_arms,
    drawn_cells,
    neutral_run,
    read_study_plan,
)

__all__ = ["left_out", "read_study", "rows_of", "runs_limited"]

_REPLICATES = 4000


def read_study(out: str | Path, *, reading: Reading = "kept") -> Studied:
    """What a study's folder shows, of what is in it so far.

    Args:
        out: The folder.
        reading: Whether labels that were kept are used (``pipeline.labels``).

    Raises:
        LedgerError: No study, or nothing is drawn yet.
        EvenhandError: As scoring says.
    """
    folder = Path(out)
    study, plan = read_study_plan(folder), read_plan(folder)
    opened = open_plan(plan)
    cells, limits = [], dict[str, list[str]]()
    caveats = [f"{arm}, seed {number}, is not shown: {said}" for arm, number, said in diverged_arms(folder)]
    for arm, number, weight in drawn_cells(folder):
        run = neutral_run(folder, arm, number, weight)
        try:
            scored = score_run(run, opened, reading=reading)
        except TooFewSamplesError as error:  # one arm that came apart does not hide the others
            caveats.append(f"{arm}, seed {number}, guidance {weight:g} cannot be measured: {error}")
            continue
        wanted = len(scored.prompts) * study.samples
        if len(scored.samples) < wanted:
            caveats.append(
                f"{arm}, seed {number}, guidance {weight:g}: {len(scored.samples)} of {wanted} pictures are drawn so "
                "far."
            )
        for limit in scored.caveats:
            limits.setdefault(limit, []).append(f"{arm}, seed {number}, guidance {weight:g}")
        values = _values(folder, arm, number, weight, scored, opened)
        missing = _missing_asked(asked_run(folder, arm, number, weight), study.asked)
        if missing:  # prompts are drawn one after another: what is there is of the first groups alone
            values.pop("obeyed", None)
            caveats.append(
                f"{arm}, seed {number}, guidance {weight:g}: {missing} pictures that ask for a group are missing, what "
                "is obeyed is not shown."
            )
        name = run.relative_to(folder).as_posix()
        cells.append(StudyCell(arm, number, weight, name, len(scored.samples), values))
    if not cells:
        raise LedgerError(f"{str(out)!r}: nothing can be measured yet; go on with evenhand study. {' '.join(caveats)}")
    return Studied(
        model=study.model,
        attributes=tuple(scored.labels),
        groups=scored.groups,
        prompts=len(scored.prompts),
        samples=study.samples,
        asked=study.asked,
        level=plan.level,
        trained={"rank": str(study.rank), **{name: str(value) for name, value in study.arguments.items()}},
        cells=tuple(cells),
        rows=rows_of(cells),
        caveats=(*caveats, *left_out(cells), *runs_limited(limits, len(cells))),
    )


def _values(
    folder: Path, arm: str, number: int, weight: float, scored: ScoredPictures, opened: OpenedPlan
) -> dict[str, Estimate]:
    found: dict[str, Estimate] = {}
    for name, estimates in scored.estimates.items():
        found |= {f"{name}: {one.name}": one for one in estimates if one.name in ("RD", "RD_observed")}
    plan, own = opened.plan, [scored.labels[name] for name in scored.classifiers]
    sure = [
        all(told[at].group is not None and told[at].confidence >= scored.min_confidence for told in own)
        for at in range(len(scored.samples))
    ]
    found["valid"] = _share("valid", sure, [one.prompt_id for one in scored.samples], plan)
    asked = asked_run(folder, arm, number, weight)
    if (asked / "manifest.json").is_file():
        ledger = Ledger.open(asked)
        wanted = {one.id: one.facts for one in ledger.prompts()}
        labels = joined_labels(asked, ledger, opened.labellers)
        right = [one.group == wanted[one.prompt_id]["asked"] for one in labels]
        if labels:
            found["obeyed"] = _share("obeyed", right, [wanted[one.prompt_id]["neutral"] for one in labels], plan)
    place = answers_file(folder, arm, number)
    for name, one in (read_json(place.parent, place.name) or {"answers": {}})["answers"].items():
        found[f"{name}: seen"] = _counted("seen", one["right"], one["asked"], "answer", plan.level)
    return found | {one.name: one for one in scored.quality}


def left_out(cells: Sequence[StudyCell]) -> list[str]:
    """What some seeds of an arm have and others lack, which no mean can be told of."""
    told = []
    for arm, weight in dict.fromkeys((one.arm, one.guidance) for one in cells):
        own = [set(one.values) for one in cells if (one.arm, one.guidance) == (arm, weight)]
        lacking = sorted({name for one in own for name in one if not all(name in other for other in own)})
        if lacking:
            told.append(f"{arm}, guidance {weight:g}: no mean of {', '.join(lacking)}, some seeds lack it.")
    return told


def _missing_asked(run: Path, each: int) -> int:
    """Pictures that a begun run of prompts that ask for a group still lacks."""
    if not (run / "manifest.json").is_file():
        return 0
    ledger = Ledger.open(run)
    return len(ledger.prompts()) * each - len(ledger.samples(pictures=False))


def runs_limited(limits: Mapping[str, Sequence[str]], runs: int) -> list[str]:
    """What limits the numbers of single runs, each once.

    Args:
        limits: A run's caveat -> the runs that have it.
        runs: How many there are.
    """
    told = []
    for limit, own in limits.items():
        where = own[0] if len(own) == 1 else f"{len(own)} of {runs} runs, the first: {own[0]}"
        told.append(f"{'every run' if len(own) == runs else where}: {limit}")
    return told


def _share(name: str, right: Sequence[bool], prompts: Sequence[str], plan: ScoringPlan) -> Estimate:
    """A share of pictures, with an interval for what the plan says: these prompts, or those they were drawn from."""
    if plan.prompts == "fixed":
        return _counted(name, sum(right), len(right), "picture", plan.level)
    event = Event(name, np.array(right, dtype=np.bool_), np.ones(len(right), dtype=np.bool_))
    (rate,) = resample_rates([event], prompts, seed=0, replicates=_REPLICATES)
    interval = percentile_interval(rate.value, rate.draws, level=plan.level)
    method = bootstrap_method(rate.n, "prompt", _REPLICATES, pseudo=True)
    return Estimate(
        name, rate.value, interval.low, interval.high, plan.level, rate.n, "prompt", method, 1.0, float("nan")
    )


def _counted(name: str, count: int, base: int, unit: str, level: float) -> Estimate:
    interval = share_interval(count, base, level=level)
    return Estimate(name, count / base, interval.low, interval.high, level, base, unit, "Jeffreys", 1.0, float("nan"))


def rows_of(cells: Sequence[StudyCell]) -> tuple[StudyRow, ...]:
    """Cells that differ by their seed alone, together; what one of them lacks is left out."""
    keys = dict.fromkeys((one.arm, one.guidance) for one in cells)
    found = []
    for arm, weight in keys:
        own = [one.values for one in cells if (one.arm, one.guidance) == (arm, weight)]
        names = [name for name in own[0] if all(name in one for one in own)]
        values = {name: over_seeds([one[name] for one in own]) for name in names}
        found.append(StudyRow(arm, weight, len(own), values))
    return tuple(found)
