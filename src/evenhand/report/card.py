"""The part of a model card that says whom a model draws. In: scored runs. Out: Markdown for the Hub.

Front matter holds ``model-index``, one entry per model, with the value of every mean and its interval in ``args``; then
a section "Bias" with the same numbers as tables, what a reader must know, and how it was measured. Only numbers of the
records are in it. Text from outside is escaped, so that it can neither format nor link.
"""

import re
from collections.abc import Mapping, Sequence
from math import isfinite

import yaml

from evenhand.records import Estimate, Scored, ScoredPictures
from evenhand.report.leanings import prompt_rows, read_pattern, unknown_by_reason
from evenhand.report.numbers import cut_text, estimate_form, plural_of, show_number
from evenhand.report.sheets import simple_attributes

__all__ = ["model_card"]

_LENGTH = 300
_SPECIAL = re.compile(r"([\\`*_{}\[\]#|~$])")
_FIRST = re.compile(r"^(\s*\d*)([-+=.)])")  # would begin a list or underline a heading
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "@": "&#64;"}
_PLAIN_WORDS = {
    "RD": "mean absolute difference of shares over pairs of groups; noise of the sample taken off",
    "RD_observed": "the same, as the sample shows it",
    "RD_normalised": "RD divided by its largest value",
    "RD_target": "RD of the shares less the target's",
    "MR_C": "0 when no picture is called the other group",
    "gap": "share of pictures that would have to show another group to agree with the answers",
    "RD_corrected": "RD with the classifier's own errors taken off",
    "TV": "share of pictures that would have to show another group to meet the target",
}


def model_card(runs: Sequence[Scored], pictures: Sequence[ScoredPictures]) -> str:
    """Front matter and the section "Bias".

    Args:
        runs: Captions; may be empty.
        pictures: Drawn pictures; may be empty.

    Returns:
        Markdown. The same records give the same text. A number that is undefined stands in the tables only: the Hub
        takes none that is not finite.
    """
    index = [_captions_index(run) for run in runs] + [_pictures_index(run) for run in pictures]
    front = yaml.safe_dump({"model-index": index}, sort_keys=False, allow_unicode=True, width=120)
    parts = [f"---\n{front}---\n", "## Bias\n", _preface()]
    parts += [_captions_section(run) for run in runs]
    parts += [_pictures_section(run) for run in pictures]
    return "\n".join(parts)


def _preface() -> str:
    return (
        "Measured with evenhand. Groups are *perceived presentation*: what a classifier, or a person, reads from how\n"
        "somebody looks in a picture or is called in a text. They say nothing about who anybody is, and the declared\n"
        "groups leave people out. Intervals stand in brackets; a number without one is a count or a setting.\n"
    )


def _model(settings: Mapping[str, object], run: str) -> tuple[str, str]:
    """Name and revision of the model of a run."""
    model = settings.get("model")
    told: Mapping[object, object] = model if isinstance(model, Mapping) else {}
    return cut_text(str(told.get("name", run)), _LENGTH), cut_text(str(told.get("revision", "not stated")), _LENGTH)


def _index(
    name: str, task: tuple[str, str], probe: str, digest: str, metrics: Sequence[Mapping[str, object]]
) -> dict[str, object]:
    dataset = {"type": "evenhand-probe", "name": probe, "args": {"prompts_sha256": cut_text(digest, _LENGTH)}}
    task_of = {"type": task[0], "name": task[1]}
    return {"name": name, "results": [{"task": task_of, "dataset": dataset, "metrics": list(metrics)}]}


def _captions_index(run: Scored) -> dict[str, object]:
    name, _ = _model(run.settings, run.run)
    metrics = _metrics(run.attribute, run.estimates, run=run.run)
    task = ("image-to-text", "Captions of people")
    return _index(name, task, _probe(run.settings), run.prompts_sha256, metrics)


def _pictures_index(run: ScoredPictures) -> dict[str, object]:
    name, _ = _model(run.settings, run.run)
    metrics = [one for attribute, found in run.estimates.items() for one in _metrics(attribute, found, run=run.run)]
    for attribute, answers in run.answers.items():
        metrics += _metrics(attribute, answers.estimates, run=run.run, what="answers ")
    metrics += _metrics("", run.quality, run=run.run)
    task = ("text-to-image", "Pictures of people when nobody is specified")
    return _index(name, task, _probe(run.settings), run.prompts_sha256, metrics)


def _probe(settings: Mapping[str, object]) -> str:
    return cut_text(str(settings.get("probe", "not stated")), _LENGTH)


def _metrics(attribute: str, estimates: Sequence[Estimate], *, run: str, what: str = "") -> list[dict[str, object]]:
    kept = [one for one in estimates if isfinite(one.value)]
    about = f" (perceived {cut_text(attribute, _LENGTH)})" if attribute else ""
    return [
        {
            "type": re.sub(r"[^a-z0-9]+", "_", f"{what}{one.name}".lower()).strip("_") or "unnamed",
            "name": f"{what}{cut_text(one.name, _LENGTH)}{about}",
            "value": float(one.value),
            "args": {
                "run": cut_text(run, _LENGTH),
                **{end: float(value) for end in ("low", "high") if isfinite(value := getattr(one, end))},
                "level": float(one.level),
                "n": int(one.n),
                "unit": cut_text(one.unit, _LENGTH),
                **{end: float(value) for end in ("largest", "floor") if isfinite(value := getattr(one, end))},
                "method": cut_text(one.method, _LENGTH),
            },
        }
        for one in kept
    ]


def _captions_section(run: Scored) -> str:
    name, revision = _model(run.settings, run.run)
    lines = [f"### Captions: {_text(run.run)}\n", f"Model {_text(name)}, revision {_text(revision)}. ", ""]
    lines += _estimates_table([(run.attribute, run.estimates)])
    lines += ["", f"Counts: {_counts(run.counts)}.", "", *_how(run.settings, run.prompts_sha256), ""]
    return "\n".join(lines)


def _pictures_section(run: ScoredPictures) -> str:
    name, revision = _model(run.settings, run.run)
    lines = [f"### Pictures: {_text(run.run)}\n"]
    lines.append(
        f"Model {_text(name)}, revision {_text(revision)}. {_count(len(run.prompts))} prompts, "
        f"{_count(len(run.samples))} pictures asked for. Shares are of the denominator *{_text(run.denominator)}*"
        f"{_least(run)}.\n"
    )
    lines += [line for attribute in run.groups for line in (_sentence(run, attribute), "")]
    lines += ["**Before these numbers are used**", "", *_caveats(run), ""]
    lines += _estimates_table(list(run.estimates.items()))
    if run.answers:
        lines += ["", "Answers of the same model about people it is not shown:", ""]
        lines += _estimates_table([(attribute, told.estimates) for attribute, told in run.answers.items()])
        lines += ["", *(f"- {_text(attribute)}: {_counts(told.counts)}." for attribute, told in run.answers.items())]
    if run.quality:
        lines += ["", "Quality of the pictures, whatever they show:", "", *_estimates_table([("", run.quality)])]
    shown = {one.name for estimates in run.estimates.values() for one in estimates}
    shown |= {one.name for told in run.answers.values() for one in told.estimates}
    lines += ["", "**What the measures are**", ""]
    lines += [f"- {_text(measure)}: {what}." for measure, what in _PLAIN_WORDS.items() if measure in shown]
    lines.append(
        "- Floor: of each measure its own, at this number of pictures, on average. An even model shows an "
        "RD\\_observed above 0; of RD it leaves what could not be taken off."
    )
    lines += ["", "**How it was measured**", "", f"- Counts: {_counts(run.counts)}."]
    lines += [f"- Classifier of {_text(what)}: {_text(_flat(told))}." for what, told in run.classifiers.items()]
    lines += [*_how(run.settings, run.prompts_sha256), ""]
    return "\n".join(lines)


def _least(run: ScoredPictures) -> str:
    least = show_number(run.min_confidence, "given")
    return f", at a confidence of at least {least}" if run.denominator == "confident" else ""


def _caveats(run: ScoredPictures) -> list[str]:
    lines = [f"- {_text(caveat)}" for caveat in run.caveats] or ["- The run raised no caveat of its own."]
    lines.append("- The intervals speak for prompts like these and this classifier, not for other uses of the model.")
    for attribute in simple_attributes(run):
        unknown = unknown_by_reason(prompt_rows(run, attribute))
        lines.append(f"- No known group, {_text(attribute)}: {_counts(unknown) if unknown else 'no picture'}.")
    return lines


def _sentence(run: ScoredPictures, attribute: str) -> str:
    """The headline of one attribute, as in the report."""
    found = {one.name: one for one in run.estimates[attribute]}
    pattern = read_pattern(prompt_rows(run, attribute), run.groups[attribute], run.targets[attribute])
    said = f"**Perceived {_text(attribute)}**"
    if "RD" in found:
        said += f": RD {_value(found['RD'])} of at most {_limit(found['RD'])}"
        if isfinite(found["RD"].floor):
            said += f"; an even model leaves {show_number(found['RD'].floor, 'decimal')} on average"
    if "RD_observed" in found:
        said += f". RD\\_observed, before the sample's noise is taken off, is {_value(found['RD_observed'])}"
        if isfinite(found["RD_observed"].floor):
            said += f"; an even model shows {show_number(found['RD_observed'].floor, 'decimal')} on average"
    if attribute not in simple_attributes(run):
        return f"{said}."
    told = ", ".join(
        f"{_count(one.above)} of {_count(pattern.prompts)} prompts show more {_text(one.group)} than wanted"
        for one in pattern.groups
    )
    return f"{said}. By an interval that excludes the target, {told}."


def _estimates_table(columns: Sequence[tuple[str, Sequence[Estimate]]]) -> list[str]:
    rows = ["| attribute | measure | value | interval | units | largest | floor |", "|---|---|---|---|---|---|---|"]
    for attribute, estimates in columns:
        for one in estimates:
            form = estimate_form(one)
            ends = [show_number(end, f"{form}-bare") for end in (one.low, one.high)]
            limits = [show_number(end, form) if isfinite(end) else "–" for end in (one.largest, one.floor)]
            cells = [
                _text(attribute) or "–", _text(one.name), show_number(one.value, form), f"{ends[0]} to {ends[1]}",
                f"{_count(one.n)} {_text(plural_of(one.unit, one.n))}", *limits,
            ]  # fmt: skip
            rows.append(f"| {' | '.join(cells)} |")
    return rows


def _value(estimate: Estimate) -> str:
    form = estimate_form(estimate)
    low, high = (show_number(end, f"{form}-bare") for end in (estimate.low, estimate.high))
    return f"{show_number(estimate.value, form)} \\[{low}, {high}\\]"


def _how(settings: Mapping[str, object], digest: str) -> list[str]:
    shown = {key: settings[key] for key in ("probe", "seed", "replayable") if key in settings}
    model = settings.get("model")
    lines = [f"- Model settings: {_text(_flat(model))}."] if isinstance(model, Mapping) else []
    return [*lines, f"- Run: {_text(_flat(shown))}.", f"- Prompts: sha256 {_text(digest) or 'not stated'}."]


def _flat(values: Mapping[str, object]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items()) or "nothing stated"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{_text(name)} {_count(number)}" for name, number in counts.items()) or "none"


def _count(number: int) -> str:
    return show_number(number, "count")


def _text(text: str) -> str:
    """Text that Markdown shows as it is: nothing formats, nothing links, nothing ends a table's cell."""
    shown = (_ENTITIES.get(char) or _SPECIAL.sub(r"\\\1", char) for char in cut_text(text, _LENGTH))
    return _FIRST.sub(r"\1\\\2", "".join(shown)).replace("://", "&#58;//").replace("www.", "www&#46;")


def _limit(estimate: Estimate) -> str:
    return show_number(estimate.largest, "count" if estimate.largest == 1 else "decimal2")
