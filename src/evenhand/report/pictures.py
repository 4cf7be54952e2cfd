"""The part of a report about drawn pictures. In: scored runs and their comparisons. Out: what its template shows."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from markupsafe import Markup

from evenhand.errors import BadInputError
from evenhand.records import Estimate, PictureComparison, ScoredAnswers, ScoredPictures
from evenhand.report.disparity_plots import GROUP_COLOURS, gap_plot, share_plot
from evenhand.report.leanings import (
    Pattern,
    PromptRow,
    answer_rows,
    prompt_rows,
    read_pattern,
    unknown_by_reason,
)
from evenhand.report.numbers import Setting, tabulate_mappings
from evenhand.report.sheets import Sheet, contact_sheets, group_colours, simple_attributes
from evenhand.report.understanding import Pair, pair_answers

__all__ = ["DENOMINATORS", "check_pictures", "pictures_context"]

DENOMINATORS: Mapping[str, str] = {
    "all": "all pictures; those without a known group stay in",
    "face": "all pictures but those without a face; those whose face has no known group stay in",
    "confident": "pictures that show a group with enough confidence; all others are left out",
}
"""What shares are shares of, in words."""


@dataclass(frozen=True, slots=True)
class _Attribute:
    """One attribute of one run.

    Attributes:
        name: For example ``gender`` or ``gender x race``.
        groups: In order.
        product: Whether it is a product of two attributes.
        means: Name -> mean over the prompts.
        rows: One per prompt.
        pattern: All prompts together.
        unknown: Reason -> pictures.
        plot: Shares per prompt, or None where nothing is known.
    """

    name: str
    groups: tuple[str, ...]
    product: bool
    means: Mapping[str, Estimate]
    rows: tuple[PromptRow, ...]
    pattern: Pattern
    unknown: Mapping[str, int]
    plot: Markup | None

    @property
    def distances(self) -> tuple[str, ...]:
        """Names of the distances of single prompts, in order."""
        return tuple(dict.fromkeys(name for row in self.rows for name in row.distances))


@dataclass(frozen=True, slots=True)
class _Answers:
    """What the model answers about one attribute.

    Attributes:
        answers: The record.
        estimates: By name.
        rows: One per question.
        pairs: Prompts of pictures with the question about their occupation.
        unknown: Reason -> answers.
        named: Group -> answers.
        plot: Answers beside pictures, or None where nothing can be paired.
    """

    answers: ScoredAnswers
    estimates: Mapping[str, Estimate]
    rows: tuple[PromptRow, ...]
    pairs: tuple[Pair, ...]
    unknown: Mapping[str, int]
    named: Mapping[str, int]
    plot: Markup | None


@dataclass(frozen=True, slots=True)
class _Run:
    """One run.

    Attributes:
        run: The record.
        attributes: Simple ones first, then products.
        each: Pictures asked for per prompt: fewest and most.
        sheets: One per prompt, the most uneven first.
        colours: ``(attribute, group)`` -> index of a colour.
        names: Of the means, in order.
        answers: Per attribute asked for.
        classifiers: Settings of the classifiers, by path.
        settings: Of the run, by path.
        methods: How each interval was made, and of what.
    """

    run: ScoredPictures
    attributes: tuple[_Attribute, ...]
    each: tuple[int, int]
    sheets: Sequence[Sheet]
    colours: Mapping[tuple[str, str], int]
    names: Sequence[str]
    answers: tuple[_Answers, ...]
    classifiers: Mapping[str, Sequence[Setting]]
    settings: Sequence[Setting]
    methods: Sequence[tuple[str, Sequence[str]]]


def pictures_context(pictures: Sequence[ScoredPictures], comparisons: Sequence[PictureComparison]) -> dict[str, object]:
    """The names that ``pictures.html.j2`` reads; ``pictures`` holds at least one."""
    return {
        "drawn": [_run(run, place) for place, run in enumerate(pictures)],
        "drawn_pairs": comparisons,
        "drawn_attributes": list(dict.fromkeys(name for run in pictures for name in run.groups)),
        "drawn_levels": sorted({one.level for run in pictures for means in run.estimates.values() for one in means}),
        "denominators": DENOMINATORS,
        "comparison_names": _comparison_names,
        "moved_order": partial(_moved_order, pictures),
        "group_colours": GROUP_COLOURS,
    }


def _comparison_names(pair: PictureComparison) -> list[str]:
    return list(dict.fromkeys(one.name for estimates in pair.estimates.values() for one in estimates))


def _moved_order(
    pictures: Sequence[ScoredPictures], attribute: str, table: Mapping[str, Mapping[str, int]]
) -> list[str]:
    """What pictures of either run show: declared groups first, then reasons by name."""
    seen = {*table, *(after for row in table.values() for after in row)}
    declared = dict.fromkeys(group for run in pictures for group in run.groups.get(attribute, ()))
    return [*(group for group in declared if group in seen), *sorted(seen - set(declared))]


def check_pictures(pictures: Sequence[ScoredPictures], comparisons: Sequence[PictureComparison]) -> None:
    """Refuse runs and comparisons that make no report.

    Raises:
        BadInputError: Two runs of one name, labels, targets or estimates that do not fit a run, or a comparison of an
            absent run, of a run with itself, or made twice.
    """
    known = [run.run for run in pictures]
    if len(set(known)) < len(known):
        raise BadInputError(f"run names must be unique in a report, got {known}; rename one")
    for run in pictures:
        _check_run(run)
    pairs = [(pair.baseline, pair.other) for pair in comparisons]
    for baseline, other in pairs:
        absent = {baseline, other} - set(known)
        if absent or baseline == other:
            raise BadInputError(
                f"a comparison sets {other!r} against {baseline!r}; allowed: two runs of this report ({known})"
            )
    if len(set(pairs)) < len(pairs):
        raise BadInputError(f"each two runs can be compared once in a report, got {pairs}")


def _check_run(run: ScoredPictures) -> None:
    if not run.groups:
        raise BadInputError(f"run {run.run!r} has no attribute; score it with a classifier")
    for name, groups in run.groups.items():
        lacking = [what for what in ("targets", "labels", "estimates", "per_prompt") if name not in getattr(run, what)]
        if lacking:
            raise BadInputError(f"run {run.run!r} has no {' and no '.join(lacking)} of {name!r}; score it again")
        if len(run.labels[name]) != len(run.samples) or len(run.targets[name]) != len(groups):
            raise BadInputError(
                f"run {run.run!r}, {name!r}: {len(run.samples)} samples and {len(run.labels[name])} labels, "
                f"{len(groups)} groups and {len(run.targets[name])} targets; score it again"
            )


def _run(run: ScoredPictures, place: int) -> _Run:
    simple = simple_attributes(run)
    names = (*simple, *(name for name in run.groups if name not in simple))
    attributes = tuple(
        _attribute(run, name, product=name not in simple, salt=f"shares {place} {at}") for at, name in enumerate(names)
    )
    counts = Counter(sample.prompt_id for sample in run.samples)
    each = [counts[prompt.id] for prompt in run.prompts] or [0]
    return _Run(
        run=run,
        attributes=attributes,
        each=(min(each), max(each)),
        sheets=contact_sheets(run, attributes[0].rows),
        colours=group_colours(run),
        names=tuple(dict.fromkeys(name for one in attributes for name in one.means)),
        answers=tuple(_answers(run, name, salt=f"answers {place} {at}") for at, name in enumerate(run.answers)),
        classifiers={name: tabulate_mappings([settings]) for name, settings in run.classifiers.items()},
        settings=tabulate_mappings([run.settings]),
        methods=_methods(run),
    )


def _attribute(run: ScoredPictures, name: str, *, product: bool, salt: str) -> _Attribute:
    rows, groups, target = prompt_rows(run, name), run.groups[name], run.targets[name]
    return _Attribute(
        name=name,
        groups=groups,
        product=product,
        means={one.name: one for one in run.estimates[name]},
        rows=rows,
        pattern=read_pattern(rows, groups, target),
        unknown=unknown_by_reason(rows),
        # matplotlib escapes all text it writes into SVG; the plot holds no other markup from outside.
        plot=Markup(share_plot(rows, groups, target, salt=salt)) if any(row.shares for row in rows) else None,  # noqa: S704
    )


def _answers(run: ScoredPictures, name: str, *, salt: str) -> _Answers:
    answers = run.answers[name]
    rows = answer_rows(answers)
    pairs = pair_answers(run, name)
    drawn = any(pair.gaps for pair in pairs)
    target = run.targets.get(name, ())
    return _Answers(
        answers=answers,
        estimates={one.name: one for one in answers.estimates},
        rows=rows,
        pairs=pairs,
        unknown=unknown_by_reason(rows),
        named=Counter(label.group for label in answers.labels if label.group is not None),
        plot=Markup(gap_plot(pairs, answers.groups, target, salt=salt)) if drawn else None,  # noqa: S704
    )


def _methods(run: ScoredPictures) -> list[tuple[str, list[str]]]:
    """Every interval method of a mean, with what was made with it: ``RD, TV of gender, race``."""
    owners: dict[str, dict[str, list[str]]] = {}
    means = [(name, one) for name, estimates in run.estimates.items() for one in estimates]
    asked = [(f"answers, {name}", one) for name, answers in run.answers.items() for one in answers.estimates]
    for owner, estimate in (*means, *asked, *(("pictures", one) for one in run.quality)):
        owners.setdefault(estimate.method, {}).setdefault(estimate.name, []).append(owner)
    found = []
    for method, named in owners.items():
        alike: dict[str, list[str]] = {}
        for name, of in named.items():
            alike.setdefault(", ".join(of), []).append(name)
        found.append((method, [f"{', '.join(names)} of {of}" for of, names in alike.items()]))
    return found
