"""The numbers of a report for programs. In: the records. Out: JSON values, NaN and infinities as null."""

from collections.abc import Mapping, Sequence
from math import isfinite

from evenhand.records import (
    Comparison,
    Estimate,
    PictureComparison,
    Scored,
    ScoredAnswers,
    ScoredPictures,
)
from evenhand.report.leanings import Pattern, PromptRow, answer_rows, prompt_rows, read_pattern, unknown_by_reason
from evenhand.report.numbers import estimate_as_dict, plain_text, tabulate_mappings, tabulate_settings, tally_changes
from evenhand.report.understanding import pair_answers

__all__ = ["report_as_dict"]


def report_as_dict(
    runs: Sequence[Scored],
    comparisons: Sequence[Comparison],
    *,
    title: str,
    pictures: Sequence[ScoredPictures] = (),
    picture_comparisons: Sequence[PictureComparison] = (),
) -> dict[str, object]:
    """What ``report.json`` holds: estimates and counts of runs and comparisons, and the changes.

    Pictures add ``pictures`` and ``picture_comparisons``: what the page shows of each run but the previews.
    """
    values: dict[str, object] = {
        "format": "evenhand report 1",
        "title": plain_text(title),
        "runs": [
            {
                "run": plain_text(run.run),
                "attribute": plain_text(run.attribute),
                "estimates": _estimates(run.estimates),
                "counts": dict(run.counts),
            }
            for run in runs
        ],
        "comparisons": [_comparison(pair) for pair in comparisons],
    }
    if pictures:
        values["pictures"] = [_pictures(run) for run in pictures]
        values["picture_comparisons"] = [_picture_comparison(pair) for pair in picture_comparisons]
    return values


def _estimates(estimates: Sequence[Estimate]) -> list[dict[str, object]]:
    return [estimate_as_dict(estimate) for estimate in estimates]


def _comparison(pair: Comparison) -> dict[str, object]:
    return {
        "baseline": plain_text(pair.baseline),
        "other": plain_text(pair.other),
        "estimates": _estimates(pair.estimates),
        "counts": dict(pair.counts),
        "changes": [
            {"before": plain_text(old), "after": plain_text(new), "times": times, "reached": reached}
            for old, new, times, reached in tally_changes(pair.changes)
        ],
    }


def _pictures(run: ScoredPictures) -> dict[str, object]:
    return {
        "run": plain_text(run.run),
        "denominator": plain_text(run.denominator),
        "min_confidence": _scalar(run.min_confidence),
        "prompts": len(run.prompts),
        "samples": len(run.samples),
        "prompts_sha256": plain_text(run.prompts_sha256),
        "settings": {
            plain_text(row.path): [_scalar(one) for one in row.values[0] or ()] for row in tabulate_settings([run])
        },
        "classifiers": {
            plain_text(row.path): [_scalar(one) for one in row.values[0] or ()]
            for row in tabulate_mappings([run.classifiers])
        },
        "caveats": [plain_text(caveat) for caveat in run.caveats],
        "counts": _named(run.counts),
        "attributes": {plain_text(name): _attribute(run, name) for name in run.groups},
        "answers": {plain_text(name): _answers(run, answers) for name, answers in run.answers.items()},
        "quality": _estimates(run.quality),
    }


def _attribute(run: ScoredPictures, name: str) -> dict[str, object]:
    rows = prompt_rows(run, name)
    return {
        "groups": [plain_text(group) for group in run.groups[name]],
        "targets": list(run.targets[name]),
        "estimates": _estimates(run.estimates[name]),
        "pattern": _pattern(read_pattern(rows, run.groups[name], run.targets[name])),
        "unknown": _named(unknown_by_reason(rows)),
        "per_prompt": [_row(row, run.per_prompt[name].get(row.prompt.id, ())) for row in rows],
    }


def _pattern(pattern: Pattern) -> dict[str, object]:
    return {
        "denominator": pattern.base,
        "prompts": pattern.prompts,
        "near": pattern.near,
        "above_by_chance": _scalar(pattern.by_chance),
        "groups": [
            {
                "group": plain_text(one.group),
                "pictures": one.count,
                "prompts_above": one.above,
                "prompts_below": one.below,
            }
            for one in pattern.groups
        ],
    }


def _row(row: PromptRow, estimates: Sequence[Estimate]) -> dict[str, object]:
    return {
        "prompt": plain_text(row.prompt.id),
        "title": plain_text(row.title),
        "denominator": row.base,
        "unknown": _named(row.unknown),
        "estimates": _estimates(estimates),
    }


def _answers(run: ScoredPictures, answers: ScoredAnswers) -> dict[str, object]:
    rows = answer_rows(answers)
    return {
        "estimates": _estimates(answers.estimates),
        "counts": _named(answers.counts),
        "per_prompt": [_row(row, answers.per_prompt.get(row.prompt.id, ())) for row in rows],
        "gaps": [
            {"prompt": plain_text(pair.drawn.prompt.id), "gaps": list(pair.gaps)}
            for pair in pair_answers(run, answers.attribute)
        ],
    }


def _picture_comparison(pair: PictureComparison) -> dict[str, object]:
    return {
        "baseline": plain_text(pair.baseline),
        "other": plain_text(pair.other),
        "estimates": {plain_text(name): _estimates(estimates) for name, estimates in pair.estimates.items()},
        "moved": {
            plain_text(name): {plain_text(before): _named(after) for before, after in table.items()}
            for name, table in pair.moved.items()
        },
        "counts": _named(pair.counts),
    }


def _named(counts: Mapping[str, int]) -> dict[str, int]:
    return {plain_text(name): number for name, number in counts.items()}


def _scalar(value: object) -> object:
    if isinstance(value, float):
        return value if isfinite(value) else None
    return plain_text(value) if isinstance(value, str) else value
