"""``evenhand mitigate data``. In: a model that draws by codes, attributes. Out: balanced tuples; what was confirmed."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from evenhand.cli.output import notes, print_json, progress_bar, work_silently
from evenhand.cli.picture_options import (
    AttributeOption,
    ClassifierOption,
    FacesOption,
    ModelOptions,
    ScoringOptions,
    model_options,
    scoring_plan,
)
from evenhand.errors import BadInputError

if TYPE_CHECKING:
    from evenhand.train.data import BalancedData

__all__ = ["data_command"]


def data_command(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="What will be trained: miniature, unified:PATH_OR_ID.")],
    out: Annotated[Path, typer.Option(help="Folder; one that holds part of the same is added to.")],
    attribute: AttributeOption = "gender",
    occupations: Annotated[
        str, typer.Option(help="test, train or a file; +SET for other sentences, as `evenhand audit --data`.")
    ] = "train",
    leave_out: Annotated[
        str | None, typer.Option(help="Occupations that are never used, so that an audit of them is held out.")
    ] = None,
    pictures: Annotated[int, typer.Option(min=1, help="Of each sentence and group.")] = 4,
    min_confidence: Annotated[float, typer.Option(min=0, max=1, help="Smallest one that confirms a picture.")] = 0.8,
    source: Annotated[
        str | None, typer.Option(help="What draws, if not MODEL itself: diffusers:PATH_OR_ID, images-api:NAME ...")
    ] = None,
    source_option: Annotated[list[str] | None, typer.Option(help="KEY=VALUE of --source; repeat.")] = None,
    classifier: ClassifierOption = None,
    faces: FacesOption = None,
    option: ModelOptions = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the pictures.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout, nothing else there.")] = False,
) -> None:
    """Draw every sentence with each group put in, keep what shows it, and pair one picture of every group.

    Several attributes are crossed: a picture is of one group of each. The model draws its own training pictures unless
    --source says who else does. What was stopped goes on.
    """
    from evenhand.models.unified.model import UnifiedModel
    from evenhand.pipeline.opening import open_image_model
    from evenhand.train.data import make_balanced_data

    plan = scoring_plan(source or model, attribute, ScoringOptions(classifier, faces))
    if source is None and source_option:
        raise BadInputError("--source-option: there is no --source; options of MODEL are --option.")
    with work_silently(), progress_bar("pictures") as progress:
        trained = open_image_model(model, model_options(option))
        if not isinstance(trained, UnifiedModel):
            raise BadInputError(f"MODEL: {model!r} writes no picture codes; allowed: unified:PATH_OR_ID, miniature.")
        found = make_balanced_data(
            trained,
            plan.read_by,
            out,
            data=occupations,
            leave_out=leave_out,
            pictures=pictures,
            min_confidence=min_confidence,
            source=None if source is None else open_image_model(source, model_options(source_option)),
            seed=seed,
            progress=progress,
        )
    if as_json:
        print_json(asdict(found))
        return
    _show(found)


def _show(found: "BalancedData") -> None:
    from evenhand.metrics.distances import share_interval

    table = Table("asked for", "drawn", "confirmed", "share", "shown instead")
    for one in found.groups:
        share = "–"
        if one.asked:
            interval = share_interval(one.kept, one.asked, level=0.95)
            share = f"{one.kept / one.asked:.1%} [{interval.low:.1%}, {interval.high:.1%}]"
        instead = ", ".join(f"{name} {number}" for name, number in list(one.instead.items())[:3])
        table.add_row(one.group, str(one.asked), str(one.kept), share, instead)
    Console().print(table)
    print(f"{found.tuples} tuples of {found.prompts} sentences in {found.folder}")
    if found.lacking:
        some = ", ".join(f"{name} ({', '.join(groups)})" for name, groups in list(found.lacking.items())[:3])
        notes.print(f"no tuple of {len(found.lacking)} sentences, a group was never confirmed: {some}", soft_wrap=True)
    if found.failed:
        notes.print(f"{found.failed} pictures could not be drawn")
