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
    from evenhand.train.wordings import Reworded, Rewording

__all__ = ["data_command"]


def data_command(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="What will be trained: miniature, unified:PATH_OR_ID.")],
    out: Annotated[Path, typer.Option(help="Folder; one that holds part of the same is added to.")],
    attribute: AttributeOption = "gender",
    occupations: Annotated[
        str | None,
        typer.Option(help="test, train (default) or a file; +SET for other sentences, as `evenhand audit --data`."),
    ] = None,
    leave_out: Annotated[
        str | None, typer.Option(help="Occupations that are never used, so that an audit of them is held out.")
    ] = None,
    pictures: Annotated[int | None, typer.Option(min=1, help="Of each sentence and group; 4 by default.")] = None,
    min_confidence: Annotated[float, typer.Option(min=0, max=1, help="Smallest one that confirms a picture.")] = 0.8,
    source: Annotated[
        str | None, typer.Option(help="What draws, if not MODEL itself: diffusers:PATH_OR_ID, images-api:NAME ...")
    ] = None,
    source_option: Annotated[list[str] | None, typer.Option(help="KEY=VALUE of --source; repeat.")] = None,
    pictures_from: Annotated[
        Path | None,
        typer.Option(
            help="CSV or Parquet of pictures that are there already: file, occupation, a column for each attribute, "
            "template where wanted. Nothing is drawn."
        ),
    ] = None,
    wordings: Annotated[
        int | None, typer.Option(min=1, max=50, help="Other wordings of each sentence, by a chat server.")
    ] = None,
    chat_url: Annotated[
        str | None, typer.Option(help="A server that answers /chat/completions: http://localhost:8000/v1.")
    ] = None,
    chat_model: Annotated[str | None, typer.Option(help="The server's name of the model that words.")] = None,
    chat_key_env: Annotated[
        str | None, typer.Option(help="Environment variable that holds the server's key, never the key itself.")
    ] = None,
    keep_pictures: Annotated[
        bool, typer.Option("--keep-pictures", help="Store the pictures in tuples.parquet too, as PNG files.")
    ] = False,
    classifier: ClassifierOption = None,
    faces: FacesOption = None,
    option: ModelOptions = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the pictures.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout, nothing else there.")] = False,
) -> None:
    """Draw every sentence with each group put in, keep what shows it, and pair one picture of every group.

    Several attributes are crossed: a picture is of one group of each. The model draws its own training pictures unless
    --source says who else does, or --pictures-from which there are. What was stopped goes on.
    """
    from evenhand.pipeline.opening import open_image_model
    from evenhand.train.data import make_balanced_data
    from evenhand.train.opening import open_unified

    plan = scoring_plan(source or model, attribute, ScoringOptions(classifier, faces))
    if source is None and source_option:
        raise BadInputError("--source-option: there is no --source; options of MODEL are --option.")
    rewording = _rewording(wordings, chat_url, chat_model, chat_key_env)
    with work_silently(), progress_bar("pictures") as progress:
        trained = open_unified(model, model_options(option))
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
            pictures_from=pictures_from,
            rewording=rewording,
            keep_pictures=keep_pictures,
        )
    if as_json:
        print_json(asdict(found))
        return
    _show(found)


def _rewording(number: int | None, url: str | None, model: str | None, key_variable: str | None) -> "Rewording | None":
    """Who is asked for how many wordings; None where nobody is.

    Raises:
        BadInputError: Some of the options without the others.
    """
    typed = {"--wordings": number, "--chat-url": url, "--chat-model": model}
    given = [name for name, value in (typed | {"--chat-key-env": key_variable}).items() if value is not None]
    if not given:
        return None
    if number is None or url is None or model is None:
        lacking = [name for name, value in typed.items() if value is None]
        raise BadInputError(
            f"got {', '.join(given)} without {', '.join(lacking)}; allowed: --wordings, --chat-url and --chat-model "
            "together, or none of them. Add what lacks."
        )
    from evenhand.models.chat_api import open_chat
    from evenhand.train.wordings import Rewording

    return Rewording(number, open_chat(model, url, key_variable=key_variable))


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
    if found.wordings is not None:
        _show_wordings(found.wordings)


def _show_wordings(found: "Reworded") -> None:
    kept = sum(map(len, found.wordings.values()))
    notes.print(f"{kept} wordings of {len(found.wordings)} sentences, from {found.answers} answers", highlight=False)
    if found.refused:
        told = ", ".join(f"{why} {number}" for why, number in found.refused.items())
        notes.print(f"texts that are no wording: {told}", soft_wrap=True, markup=False, highlight=False)
    for sentence, number in list(found.lacking.items())[:3]:
        notes.print(f"{number} wordings fewer of: {sentence}", soft_wrap=True, markup=False, highlight=False)
