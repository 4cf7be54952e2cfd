"""``evenhand mitigate sft|bpo``. In: a model that draws by codes, balanced data. Out: an adapter; what it changed."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from evenhand.cli.output import notes, print_json, work_silently
from evenhand.cli.picture_options import (
    ClassifierOption,
    FacesOption,
    ModelOptions,
    ScoringOptions,
    model_options,
    scoring_plan,
)
from evenhand.errors import BadInputError

if TYPE_CHECKING:
    from evenhand.mitigate.bpo.tuples import TupleSet
    from evenhand.train.runs import HeldOut, Trained

__all__ = [
    "BatchOption",
    "RateOption",
    "SetOption",
    "StepsOption",
    "bpo_command",
    "launch_file_command",
    "sft_command",
    "training_arguments",
    "understanding_command",
]

_Model = Annotated[str, typer.Argument(metavar="MODEL", help="miniature, unified:PATH_OR_ID.")]
_Data = Annotated[Path, typer.Option(help="Folder of `evenhand mitigate data`.")]
_Out = Annotated[Path, typer.Option(help="Folder of the adapter; one that holds part of the same run goes on.")]
_Preset = Annotated[str, typer.Option(help="recommended, or paper: the published recipe.")]
_Start = Annotated[Path | None, typer.Option(help="Folder of an adapter to go on with, such as that of `sft`.")]
_Rank = Annotated[int, typer.Option(min=0, help="Of the LoRA adapter; 0 trains the language model's own weights.")]
_HeldOut = Annotated[str | None, typer.Option(help="Occupations that are audited and not trained on: test, a file.")]
_Attribute = Annotated[
    str | None, typer.Option(help="Attributes of the data, names or YAML files with commas; by default by their names.")
]
_Pictures = Annotated[int, typer.Option(min=1, help="Of each held-out occupation.")]
_Every = Annotated[int, typer.Option(min=0, help="Steps between audits; 0: before and after alone.")]
_Patience = Annotated[int, typer.Option(min=0, help="Audits without improvement until training stops; 0: never.")]
_Target = Annotated[list[float] | None, typer.Option(help="Wanted share of each group, in the data's order; repeat.")]
StepsOption = Annotated[int | None, typer.Option(min=1, help="Of the optimizer; else the preset's epochs.")]
RateOption = Annotated[float | None, typer.Option(help="Learning rate, if not the preset's.")]
BatchOption = Annotated[int, typer.Option(min=1, help="Tuples a step and process.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="KEY=VALUE: any other argument of BPOConfig, transformers' too; repeat."),
]
_Seed = Annotated[int, typer.Option(min=0, help="Of order, dropout and adapter.")]
_Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, nothing else there.")]


def sft_command(
    model: _Model,
    data: _Data,
    out: _Out,
    preset: _Preset = "recommended",
    start: _Start = None,
    rank: _Rank = 32,
    held_out: _HeldOut = None,
    attribute: _Attribute = None,
    classifier: ClassifierOption = None,
    faces: FacesOption = None,
    pictures: _Pictures = 20,
    every: _Every = 0,
    patience: _Patience = 0,
    target: _Target = None,
    steps: StepsOption = None,
    learning_rate: RateOption = None,
    batch_size: BatchOption = 8,
    given: SetOption = None,
    option: ModelOptions = None,
    seed: _Seed = 0,
    as_json: _Json = False,
) -> None:
    """Finetune a model on balanced pictures of prompts that ask for nobody (stage 1)."""
    _train("sft", **locals())


def bpo_command(
    model: _Model,
    data: _Data,
    out: _Out,
    preset: _Preset = "recommended",
    start: _Start = None,
    rank: _Rank = 32,
    held_out: _HeldOut = None,
    attribute: _Attribute = None,
    classifier: ClassifierOption = None,
    faces: FacesOption = None,
    pictures: _Pictures = 20,
    every: _Every = 0,
    patience: _Patience = 0,
    target: _Target = None,
    steps: StepsOption = None,
    learning_rate: RateOption = None,
    batch_size: BatchOption = 8,
    given: SetOption = None,
    option: ModelOptions = None,
    seed: _Seed = 0,
    as_json: _Json = False,
) -> None:
    """Balance pairs of pictures of the same prompt (stage 2; also from the start)."""
    _train("bpo", **locals())


def understanding_command(
    model: _Model,
    data: _Data,
    out: _Out,
    rank: _Rank = 32,
    steps: StepsOption = None,
    learning_rate: RateOption = None,
    batch_size: BatchOption = 8,
    given: SetOption = None,
    option: ModelOptions = None,
    seed: _Seed = 0,
    as_json: _Json = False,
) -> None:
    """Finetune a model to say who is in the data's pictures (what balancing is compared with)."""
    from evenhand.train.answers import train_answers

    with work_silently():
        done = train_answers(
            model,
            data,
            out,
            rank=rank or None,
            model_options=model_options(option),
            seed=seed,
            **training_arguments(
                batch_size=batch_size, steps=steps, learning_rate=learning_rate, given=given, as_json=as_json
            ),
        )
    if as_json:
        print_json({"out": str(out), "steps": done})
        return
    notes.print(f"{done} steps; stored in {out}. Open it with --option adapter={out}")


def launch_file_command(
    name: Annotated[str, typer.Argument(metavar="NAME", help="gpus, fsdp, zero2, zero3.")],
) -> None:
    """Print the path of a file for `accelerate launch --config_file`."""
    from evenhand.train.launching import launch_file

    print(launch_file(name))


def _train(stage: Any, **typed: Any) -> None:
    from evenhand.mitigate.bpo.tuples import read_tuples
    from evenhand.train.runs import train_model

    with work_silently():
        tuples = read_tuples(typed["data"])
        found = train_model(
            typed["model"],
            tuples,
            typed["out"],
            stage=stage,
            preset=typed["preset"],
            rank=typed["rank"] or None,
            start=typed["start"],
            held_out=_held_out(tuples, **typed),
            model_options=model_options(typed["option"]),
            seed=typed["seed"],
            target=typed["target"] or None,
            **training_arguments(
                batch_size=typed["batch_size"],
                steps=typed["steps"],
                learning_rate=typed["learning_rate"],
                given=typed["given"],
                as_json=typed["as_json"],
            ),
        )
    _show(found, as_json=typed["as_json"])


def _held_out(tuples: "TupleSet", **typed: Any) -> "HeldOut | None":
    from evenhand.train.runs import HeldOut

    if typed["held_out"] is None:
        unused = [f"--{name}" for name in ("every", "patience", "classifier", "faces") if typed[name]]
        if unused:
            raise BadInputError(f"{', '.join(unused)}: nothing is audited; give --held-out, or leave it out.")
        return None
    attributes = typed["attribute"] or ",".join(tuples.attribute.split(" x "))
    plan = scoring_plan(typed["model"], attributes, ScoringOptions(typed["classifier"], typed["faces"]))
    return HeldOut(typed["held_out"], plan.read_by, typed["pictures"], typed["every"], typed["patience"])


def training_arguments(
    *, batch_size: int, steps: int | None, learning_rate: float | None, given: list[str] | None, as_json: bool
) -> dict[str, Any]:
    """Arguments of ``BPOConfig`` that were typed.

    Raises:
        BadInputError: ``--set`` names no argument, or a value is not of its type.
    """
    found: dict[str, Any] = {
        "per_device_train_batch_size": batch_size,
        "max_steps": steps,
        "learning_rate": learning_rate,
        "disable_tqdm": as_json or None,
    }
    return {**{name: value for name, value in found.items() if value is not None}, **_read(given)}


def _read(given: list[str] | None) -> dict[str, Any]:
    """``KEY=VALUE`` with the types that ``BPOConfig`` declares."""
    from transformers import HfArgumentParser

    from evenhand.mitigate.bpo.config import BPOConfig

    pairs = model_options(given)
    if not pairs:
        return {}
    parser = HfArgumentParser(BPOConfig, exit_on_error=False)  # type: ignore[arg-type]
    known = {action.dest for action in parser._actions}
    own = sorted(set(pairs) & {"seed", "output_dir", "target"})
    if own:
        raise BadInputError(f"--set: {own[0]!r} has an option of its own (--seed, --out, --target); use that.")
    odd = sorted(set(pairs) - known)
    if odd:
        raise BadInputError(
            f"--set: got {odd[0]!r}; allowed: arguments of BPOConfig and transformers' TrainingArguments."
        )
    typed = [part for name, value in pairs.items() for part in (f"--{name}", value)]
    try:
        read, _ = parser.parse_known_args(typed)
    except Exception as error:  # argparse's own, of several kinds
        raise BadInputError(f"--set: {error}; correct the value.") from error
    return {name: getattr(read, name) for name in pairs}


def _show(found: "Trained", *, as_json: bool) -> None:
    from dataclasses import asdict

    if as_json:
        print_json(asdict(found))
        return
    if found.before is not None and found.after is not None:
        table = Table("held-out occupations", "before", "after", "an even model")
        table.add_row(
            "disparity (RD)",
            f"{found.before.disparity:.3f}",
            f"{found.after.disparity:.3f}",
            f"{found.after.floor:.3f}",
        )
        table.add_row("show a group", f"{found.before.shown:.1%}", f"{found.after.shown:.1%}", "")
        Console().print(table)
    notes.print(f"{found.steps} steps; stored in {found.out}. Open it with --option adapter={found.out}")
