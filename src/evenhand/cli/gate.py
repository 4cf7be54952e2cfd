"""``evenhand gate``. In: a run folder, bounds. Out: an exit code that a pipeline can act on, and why.

0 pass, 1 fail, 2 usage, 3 caveated, 4 undefined; judged on intervals, never on points.
"""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from evenhand.cli.output import print_json, verdict_as_dict, work_silently
from evenhand.errors import BadInputError, TooFewSamplesError

if TYPE_CHECKING:
    from evenhand.records import Scored, ScoredPictures
    from evenhand.report.gate import Bound, Verdict

__all__ = ["gate_command"]

_UNDEFINED = 4


def gate_command(
    run: Annotated[Path, typer.Argument(help="A scored run folder.")],
    at_most: Annotated[
        list[str],
        typer.Option(
            help="ATTRIBUTE:NAME=NUMBER, for example gender:RD=0.3, race:RD_normalised=0.5, MR_C=0.1; repeat."
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout, nothing else there.")] = False,
) -> None:
    """Hold a run against bounds: exit 0 where each interval lies within, 1 where one lies outside, 3 or 4 in doubt."""
    from evenhand.report.gate import judge

    try:
        with work_silently():
            scored = _scored(run)
    except TooFewSamplesError as error:
        if as_json:
            print_json({"run": run.name, "outcome": "undefined", "exit_code": _UNDEFINED, "why": str(error)})
        else:
            print(f"undefined: {error}")
        raise typer.Exit(_UNDEFINED) from error
    verdict = judge(scored, [_bound(one, _attributes(scored)) for one in at_most])
    if as_json:
        print_json({"run": scored.run, **verdict_as_dict(verdict)})
    else:
        _show(verdict)
    raise typer.Exit(verdict.exit_code)


def _show(verdict: "Verdict") -> None:
    table = Table("at most", "estimate", "verdict", title=verdict.outcome, title_justify="left")
    for finding in verdict.findings:
        one = finding.estimate
        seen = "none of this name" if one is None else f"{one.value:.3f} [{one.low:.3f}, {one.high:.3f}]"
        bound = f"{finding.bound.attribute}:{finding.bound.name} {finding.bound.largest:g}"
        table.add_row(Text(bound), seen, finding.outcome)
    console = Console()
    console.print(table)
    for caveat in verdict.caveats:
        console.print(Text(f"caveat: {caveat}"), soft_wrap=True)


def _scored(run: Path) -> "Scored | ScoredPictures":
    from evenhand.pipeline import score, score_run
    from evenhand.pipeline.picture_runs import holds_pictures

    return score_run(run) if holds_pictures(run) else score(run)


def _attributes(scored: "Scored | ScoredPictures") -> tuple[str, ...]:
    from evenhand.records import Scored

    return (scored.attribute,) if isinstance(scored, Scored) else tuple(scored.estimates)


def _bound(text: str, attributes: tuple[str, ...]) -> "Bound":
    """``ATTRIBUTE:NAME=NUMBER``; the attribute may be left out where there is one.

    Raises:
        BadInputError: Not of that form.
    """
    from evenhand.report.gate import Bound

    named, equals, number = text.rpartition("=")
    attribute, colon, name = named.rpartition(":")
    if not colon and len(attributes) == 1:
        attribute = attributes[0]
    try:
        largest = float(number)
    except ValueError:
        largest = float("nan")
    if not equals or not name or not attribute or math.isnan(largest):
        raise BadInputError(
            f"--at-most: got {text!r}; write ATTRIBUTE:NAME=NUMBER, with an attribute of {', '.join(attributes)}."
        )
    return Bound(attribute, name, largest)
