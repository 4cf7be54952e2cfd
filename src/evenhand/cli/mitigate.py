"""``evenhand mitigate``. In: labelled texts or pictures. Out: fitted signals with how good they are; token weights."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer
from rich.console import Console
from rich.table import Table

from evenhand.cli.output import notes, print_json, progress_bar, work_silently
from evenhand.errors import BadInputError

if TYPE_CHECKING:
    from evenhand.classify.calibration import FitReport
    from evenhand.records import Attribute

__all__ = ["ala_fit_command", "ala_importance_command", "mitigate_app"]

mitigate_app = typer.Typer(name="mitigate", help="Make what a mitigation needs.", no_args_is_help=True)


@mitigate_app.callback()
def _mitigate() -> None:
    """Make what a mitigation needs."""


@mitigate_app.command("ala-fit")
def ala_fit_command(
    kind: Annotated[str, typer.Option(help="additive, paper, causal, probe or sequence (texts); picture.")],
    out: Annotated[Path, typer.Option(help="Folder of the fitted signal.")],
    attribute: Annotated[str, typer.Option(help="A shipped attribute or a YAML file.")] = "gender",
    text: Annotated[Path | None, typer.Option(help="CSV, JSON lines or Parquet: text, label, perhaps unit.")] = None,
    pictures: Annotated[Path | None, typer.Option(help="Folder of pictures with labels.csv (kind picture).")] = None,
    tokenizer: Annotated[str | None, typer.Option(help="Name or folder (paper, causal; probe: the model's).")] = None,
    lm: Annotated[str | None, typer.Option(help="Name or folder of a causal language model (probe).")] = None,
    classifier: Annotated[str | None, typer.Option(help="Name or folder of a classifier (sequence).")] = None,
    label: Annotated[list[str] | None, typer.Option(help="LABEL=GROUP of the classifier; repeat (sequence).")] = None,
    features: Annotated[str | None, typer.Option(help="Name or folder of a vision model (kind picture).")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Of paper and causal.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Of paper and causal.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the parts and of the training.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout, nothing else there.")] = False,
) -> None:
    """Fit a text or picture signal for ALA, on part of the data, and say how good it is on the rest."""
    from evenhand.attributes import load_attribute

    declared = load_attribute(attribute)
    with work_silently(), progress_bar(f"{kind} · {declared.name}") as progress:
        if kind == "picture":
            _refuse_given("picture", text=text, tokenizer=tokenizer, lm=lm, classifier=classifier, label=label)
            report = _fit_picture(pictures, features, declared, out, seed)
        else:
            _refuse_given(kind, pictures=pictures, features=features)
            options = {
                "tokenizer": tokenizer,
                "lm": lm,
                "classifier": classifier,
                "labels": _mapping(label),
                "epochs": epochs,
                "learning_rate": learning_rate,
            }
            report = _fit_text(kind, text, declared, out, seed, progress=progress, **options)
    _show(kind, declared.name, out, report, as_json=as_json)


@mitigate_app.command("ala-importance")
def ala_importance_command(
    scorer: Annotated[Path, typer.Option(help="Folder of `ala-fit`: additive, paper or causal.")],
    tokenizer: Annotated[str, typer.Option(help="Name or folder: the language model's.")],
    out: Annotated[Path, typer.Option(help="Folder for weights.safetensors, importance.json and importance.svg.")],
    attribute: Annotated[str, typer.Option(help="A shipped attribute or a YAML file.")] = "gender",
    text: Annotated[Path | None, typer.Option(help="CSV, JSON lines or Parquet: text, label (paper, causal).")] = None,
    published: Annotated[bool, typer.Option(help="Sums and two scales, as the released code has it.")] = False,
    masked: Annotated[bool, typer.Option(help="Show first letters alone.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout, nothing else there.")] = False,
) -> None:
    """Weigh words or tokens by how much they matter to a fitted text scorer; store token weights, draw a plot."""
    from transformers import AutoTokenizer

    from evenhand.attributes import load_attribute
    from evenhand.mitigate.ala.weigh import weigh_tokens
    from evenhand.report.importance import importance_plot

    declared = load_attribute(attribute)
    with work_silently():
        try:
            words = AutoTokenizer.from_pretrained(tokenizer)
        except (OSError, ValueError) as error:
            raise BadInputError(f"--tokenizer: {tokenizer!r} cannot be opened: {error}") from error
        rows = weigh_tokens(scorer, attribute=declared, tokenizer=words, out=out, texts=text, paper=published)
    drawn = importance_plot(
        [row.word for row in rows],
        [row.weight for row in rows],
        [row.group for row in rows],
        groups=declared.groups,
        attribute=declared.name,
        masked=masked,
    )
    (out / "importance.svg").write_text(drawn, "utf-8")
    if as_json:
        print_json({"attribute": declared.name, "out": str(out), "words": len(rows)})
        return
    table = Table("group", "strongest")
    for group in declared.groups:
        strongest = [row for row in rows if row.group == group][:8]
        shown = (f"{row.word[:1] + '…' if masked else row.word} {row.weight:.2f}" for row in strongest)
        table.add_row(group, ", ".join(shown))
    Console().print(table)
    notes.print(f"stored in {out}")


def _fit_text(
    kind: str, text: Path | None, attribute: "Attribute", out: Path, seed: int, **options: Any
) -> "FitReport":
    from evenhand.mitigate.ala.fit import TextKind, fit_text_signal

    known = get_args(TextKind)
    if kind not in known:
        raise BadInputError(f"--kind: got {kind!r}; allowed: {', '.join(known)}, picture.")
    if text is None:
        raise BadInputError(f"--kind {kind} needs --text: a file with the columns text and label.")
    return fit_text_signal(kind, text, attribute=attribute, out=out, seed=seed, **options)


def _fit_picture(
    pictures: Path | None, features: str | None, attribute: "Attribute", out: Path, seed: int
) -> "FitReport":
    from evenhand.mitigate.ala.picture.fit import fit_picture_signal

    if pictures is None or features is None:
        raise BadInputError(
            "--kind picture needs --pictures (a folder of pictures with labels.csv) and --features (a vision model)."
        )
    return fit_picture_signal(pictures, features=features, attribute=attribute, out=out, seed=seed)


def _refuse_given(kind: str, **options: object) -> None:
    """An option that would be ignored is a mistake."""
    given = [f"--{name}" for name, value in options.items() if value]
    if given:
        raise BadInputError(f"--kind {kind} takes no {', '.join(given)}; leave it out.")


def _mapping(pairs: list[str] | None) -> dict[str, str] | None:
    if not pairs:
        return None
    cut = [pair.rpartition("=") for pair in pairs]
    wrong = [pair for pair, (name, _, group) in zip(pairs, cut, strict=True) if not name or not group]
    if wrong:
        raise BadInputError(f"--label: got {wrong[0]!r}; allowed: LABEL=GROUP, for example LABEL_1=toxic.")
    return {name: group for name, _, group in cut}


def _show(kind: str, attribute: str, out: Path, report: "FitReport", *, as_json: bool) -> None:
    if as_json:
        print_json({"kind": kind, "attribute": attribute, "out": str(out), **report.to_dict()})
        return
    table = Table("", attribute)
    for name, value in report.to_dict().items():
        table.add_row(name, str(value) if isinstance(value, int) else f"{value:.4f}")
    Console().print(table)
    notes.print(f"stored in {out}")
