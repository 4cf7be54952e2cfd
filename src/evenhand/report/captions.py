"""The captions' part of a report. In: scored runs and their comparisons. Out: what its template shows.

Text from outside is made visible by ``plain_text``; long text is cut (``SHOWN_CHARACTERS``) and its full length stated.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import groupby

from markupsafe import Markup

from evenhand.errors import BadInputError
from evenhand.records import Comparison, Edit, Estimate, Label, Prompt, Sample, Scored
from evenhand.report.elements import SHOWN_CHARACTERS, data_address
from evenhand.report.numbers import tabulate_settings, tally_changes
from evenhand.report.plots import forest_plot

__all__ = ["OPEN_CARDS", "OPEN_CHANGES", "SHOWN_CHANGES", "captions_context", "check_captions"]

OPEN_CARDS = 12
"""Pictures shown at once; the others are folded."""
OPEN_CHANGES = 10
"""Distinct word changes of a comparison shown at once; the others are folded."""
SHOWN_CHANGES = 200
"""Distinct word changes of a comparison shown at all; how many more there are is stated."""

_WORD = re.compile(r"\w+(?:['’-]\w+)*")


@dataclass(frozen=True, slots=True)
class _Segment:
    """A piece of a caption: ``mark`` is ``""``, ``before``, ``reached`` or ``elsewhere``."""

    text: str
    mark: str
    edits: tuple[tuple[int, Edit], ...]


@dataclass(frozen=True, slots=True)
class _Answer:
    """What one run answered: the caption in pieces, its label, and the edits at no changed word."""

    run: str
    index: int
    sample: Sample
    label: Label
    misread: bool
    segments: tuple[_Segment, ...]
    unmarked: tuple[tuple[int, Edit], ...]


@dataclass(frozen=True, slots=True)
class _Card:
    """One picture: its preview as a data address, what is declared, and the answers of all runs by ``k``."""

    prompt: Prompt
    picture: str | None
    declared: str | None
    answers: Mapping[int, Sequence[_Answer]]
    rank: int


def captions_context(runs: Sequence[Scored], comparisons: Sequence[Comparison]) -> dict[str, object]:
    """The names that ``captions.html.j2`` reads; ``runs`` holds at least one."""
    names = list(dict.fromkeys(estimate.name for run in runs for estimate in run.estimates))
    drawn = [name for name in names if all(_on_unit_scale(e) for run in runs for e in run.estimates if e.name == name)]
    return {
        "comparisons": comparisons,
        "names": names,
        "baseline": runs[0],
        "by_run": [{e.name: e for e in run.estimates} for run in runs],
        "by_pair": {pair.other: {e.name: e for e in pair.estimates} for pair in comparisons},
        "run_index": {run.run: index for index, run in enumerate(runs)},
        "levels": sorted({e.level for e in _all_estimates(runs, comparisons)}),
        "methods": _methods(runs, comparisons),
        "count_names": list(dict.fromkeys(name for run in runs for name in run.counts)),
        "said": _tabulate_labels(runs),
        # matplotlib escapes all text it writes into SVG; the plot holds no other markup from outside.
        "plot": Markup(forest_plot(runs, drawn)) if drawn else None,  # noqa: S704
        "tallies": [tally_changes(pair.changes) for pair in comparisons],
        "cards": _cards(runs),
        "settings": tabulate_settings(runs),
        "open_cards": OPEN_CARDS,
        "open_changes": OPEN_CHANGES,
        "shown_changes": SHOWN_CHANGES,
    }


def check_captions(runs: Sequence[Scored], comparisons: Sequence[Comparison]) -> None:
    """Refuse runs and comparisons that make no report.

    Raises:
        BadInputError: Two runs of one name, a label too many or too few, or a comparison of an absent run, of another
            baseline than the first, or made twice.
    """
    known = [run.run for run in runs]
    if len(set(known)) < len(known):
        raise BadInputError(f"run names must be unique in a report, got {known}; rename one")
    for run in runs:
        if len(run.labels) != len(run.samples):
            raise BadInputError(
                f"run {run.run!r} has {len(run.samples)} samples and {len(run.labels)} labels; score it again"
            )
    for pair in comparisons:
        absent = {pair.baseline, pair.other} - set(known)
        if absent:
            raise BadInputError(f"a comparison names {sorted(absent)}, which is no run of this report ({known})")
    others = [pair.other for pair in comparisons]
    if len(set(others)) < len(others) or any(pair.baseline != known[0] for pair in comparisons):
        pairs = [(pair.baseline, pair.other) for pair in comparisons]
        raise BadInputError(f"each comparison must set the first run, {known[0]!r}, against another; got {pairs}")


def _on_unit_scale(estimate: Estimate) -> bool:
    """Whether it can share an axis with rates, which go from 0 to 1 (composites to a little more)."""
    return estimate.largest <= 2


def _all_estimates(runs: Sequence[Scored], comparisons: Sequence[Comparison]) -> list[Estimate]:
    return [e for run in runs for e in run.estimates] + [e for pair in comparisons for e in pair.estimates]


def _methods(runs: Sequence[Scored], comparisons: Sequence[Comparison]) -> list[tuple[str, list[str]]]:
    """Every interval method with the names of the estimates made with it."""
    found: dict[str, list[str]] = {}
    for estimate in _all_estimates(runs, comparisons):
        names = found.setdefault(estimate.method, [])
        if estimate.name not in names:
            names.append(estimate.name)
    return list(found.items())


@dataclass(frozen=True, slots=True)
class _Said:
    """Captions by what was declared and what they say, of one run."""

    columns: tuple[str, ...]
    rows: Mapping[str, Mapping[str, int]]
    naming: int
    total: int


def _tabulate_labels(runs: Sequence[Scored]) -> list[_Said]:
    groups = sorted({label.group for run in runs for label in run.labels if label.group is not None})
    reasons = sorted({label.reason or "unknown" for run in runs for label in run.labels if label.group is None})
    tables = []
    for run in runs:
        declared = {prompt.id: prompt.facts.get(run.attribute, "not declared") for prompt in run.prompts}
        rows: dict[str, dict[str, int]] = {}
        for label in run.labels:
            row = rows.setdefault(declared.get(label.prompt_id, "not declared"), dict.fromkeys(groups + reasons, 0))
            row[label.group or label.reason or "unknown"] += 1
        naming = sum(label.group is not None or label.reason == "both" for label in run.labels)
        tables.append(_Said((*groups, *reasons), dict(sorted(rows.items())), naming, len(run.labels)))
    return tables


def _cards(runs: Sequence[Scored]) -> list[_Card]:
    """One card per prompt: changed labels, then errors, then changed words, then the rest, each as asked."""
    answered = [
        {(s.prompt_id, s.k): (s, label) for s, label in zip(run.samples, run.labels, strict=True)} for run in runs
    ]
    by_prompt: dict[str, set[int]] = {}
    for prompt_id, k in (key for answers in answered for key in answers):
        by_prompt.setdefault(prompt_id, set()).add(k)
    prompts = {prompt.id: prompt for run in reversed(runs) for prompt in run.prompts}
    order = dict.fromkeys(prompt.id for run in runs for prompt in run.prompts)
    cards = []
    for prompt in (prompts[prompt_id] for prompt_id in order):
        declared = prompt.facts.get(runs[0].attribute)
        answers = {
            k: _answers(runs, [found.get((prompt.id, k)) for found in answered], declared)
            for k in sorted(by_prompt.get(prompt.id, ()))
        }
        preview = next((run.previews[prompt.id] for run in runs if prompt.id in run.previews), b"")
        cards.append(_Card(prompt, data_address(preview), declared, answers, _rank(answers)))
    return sorted(cards, key=lambda card: card.rank)


def _rank(answers: Mapping[int, Sequence[_Answer]]) -> int:
    rows = list(answers.values())
    if any(len({(a.label.group, a.label.reason) for a in row if a.sample.error is None}) > 1 for row in rows):
        return 0
    if any(a.sample.error is not None for row in rows for a in row):
        return 1
    return 2 if any(segment.mark for row in rows for a in row for segment in a.segments) else 3


def _answers(
    runs: Sequence[Scored], found: Sequence[tuple[Sample, Label] | None], declared: str | None
) -> list[_Answer]:
    first = found[0]
    base = (first[0].text or "") if first else None
    shown = None if base is None else base[:SHOWN_CHARACTERS]
    replaced: list[tuple[int, int]] = []
    marked: list[list[tuple[int, int]]] = []
    for index, pair in enumerate(found):
        spans: list[tuple[int, int]] = []
        if index and pair and pair[0].text is not None and shown and first and first[0].text is not None:
            old, spans = _differ(shown, pair[0].text[:SHOWN_CHARACTERS])
            replaced += old
        marked.append(spans)
    marked[0] = _merge(replaced)
    answers = []
    for index, (run, pair) in enumerate(zip(runs, found, strict=True)):
        if pair is None:
            continue
        sample, label = pair
        segments = tuple(_segments(sample, marked[index], is_baseline=index == 0))
        inline = {number for segment in segments for number, _ in segment.edits}
        unmarked = tuple((n, edit) for n, edit in enumerate(sample.edits) if n not in inline)
        misread = label.group is not None and declared is not None and label.group != declared
        answers.append(_Answer(run.run, index, sample, label, misread, segments, unmarked))
    return answers


def _differ(before: str, after: str) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Spans of characters of the runs of words that differ, in the first text and in the second."""
    old, new = (list(_WORD.finditer(text)) for text in (before, after))
    matcher = SequenceMatcher(None, [m.group() for m in old], [m.group() for m in new], autojunk=False)
    pieces = [piece for piece in matcher.get_opcodes() if piece[0] != "equal"]
    return (
        [(old[i].start(), old[j - 1].end()) for _, i, j, _, _ in pieces if j > i],
        [(new[i].start(), new[j - 1].end()) for _, _, _, i, j in pieces if j > i],
    )


def _merge(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Sorted spans without overlap that cover the same characters."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _segments(sample: Sample, spans: Sequence[tuple[int, int]], *, is_baseline: bool) -> Iterator[_Segment]:
    """The shown part of a caption, cut at its changed words, each piece with the edits that touch it."""
    text = (sample.text or "")[:SHOWN_CHARACTERS]
    taken: set[int] = set()
    at = 0
    for start, end, reached in _by_reach(sample, text, spans):
        yield _Segment(text[at:start], "", ())
        touching = [(n, e) for n, e in enumerate(sample.edits) if e.start < end and e.end > start and n not in taken]
        mark = "before" if is_baseline else "reached" if reached else "elsewhere"
        yield _Segment(text[start:end], mark, tuple(touching))
        taken.update(n for n, _ in touching)
        at = end
    yield _Segment(text[at:], "", ())


def _by_reach(sample: Sample, text: str, spans: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int, bool]]:
    """Spans split where words on a shifted token meet words that are not; each with whether it is on one."""
    for first, last in spans:
        words = [(m.start(), m.end()) for m in _WORD.finditer(text, first, last)]
        on_token = [any(e.start < end and e.end > start for e in sample.edits) for start, end in words]
        for reached, group in groupby(zip(words, on_token, strict=True), key=lambda pair: pair[1]):
            members = [word for word, _ in group]
            yield members[0][0], members[-1][1], reached
