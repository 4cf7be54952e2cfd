"""``evenhand plan``. In: a wanted precision, perhaps a model or an earlier run. Out: pictures needed, and hours."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from evenhand.cli.output import notes, print_json, work_silently
from evenhand.cli.picture_options import ModelOptions, model_options
from evenhand.errors import BadInputError

if TYPE_CHECKING:
    import numpy as np

    from evenhand.records import Prompt

__all__ = ["plan_command"]

_TIMED = 2
_NARROWEST = 1e-6
"""Of half an interval: no number of pictures that could be drawn reaches it."""


def plan_command(
    half_width: Annotated[float, typer.Option(help="Wanted half of the interval of RD, for example 0.03.")],
    attribute: Annotated[str, typer.Option(help="A shipped attribute or a YAML file: how many groups.")] = "gender",
    probe: Annotated[str, typer.Option(help="What is asked.")] = "occupations",
    data: Annotated[str, typer.Option(help="test, train or a file, for occupations.")] = "test",
    run: Annotated[Path | None, typer.Option(help="A scored run whose shares are to be expected again.")] = None,
    model: Annotated[str | None, typer.Option(help="Draws two pictures with it and says how many hours.")] = None,
    option: ModelOptions = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the simulated audits.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout, nothing else there.")] = False,
) -> None:
    """Say how many pictures of each prompt an audit needs, and how long a model would draw them."""
    from evenhand.attributes import load_attribute
    from evenhand.metrics.planning import pictures_needed
    from evenhand.pipeline.drawing import prompts_to_draw

    if not half_width >= _NARROWEST:
        raise BadInputError(
            f"--half-width: got {half_width:g}; allowed: {_NARROWEST:g} or more, in units of RD; give for example 0.03."
        )
    declared = load_attribute(attribute)
    prompts = prompts_to_draw(probe, data, declared)
    with work_silently():
        shares = None if run is None else _shares(run, declared.name)
        count = len(prompts) if shares is None else len(shares)
        needed = pictures_needed(half_width, prompts=count, groups=len(declared.groups), seed=seed, shares=shares)
        seconds = None if model is None else _seconds(model, option, prompts[0])
    total = needed.pictures * count
    found: dict[str, object] = {
        "prompts": count,
        "pictures_of_each": needed.pictures,
        "pictures": total,
        "half_width": needed.half_width,
    }
    if seconds is not None:
        found |= {"seconds_of_two_pictures": seconds, "hours": total * min(seconds) / 3600}
    if as_json:
        print_json(found)
        return
    table = Table("", "", title="What the audit needs", title_justify="left", show_header=False)
    table.add_row("prompts", f"{count:,}")
    table.add_row("pictures of each", f"{needed.pictures:,}")
    table.add_row("pictures", f"{total:,}")
    table.add_row("half of RD's interval then", f"{needed.half_width:.4f}")
    if seconds is not None:
        table.add_row("seconds of two pictures", ", ".join(f"{one:.2f}" for one in seconds))
        table.add_row("hours, drawn one by one", f"{total * min(seconds) / 3600:.2f}")
    Console().print(table)
    notes.print("simulated audits, the widest of five tables of shares" if run is None else "simulated from the run")


def _shares(run: Path, attribute: str) -> "np.ndarray":
    """Shares per prompt of a scored run, a pseudo-picture added to each group so that none is impossible."""
    from evenhand.pipeline import score_run
    from evenhand.pipeline.pictures import tally_run

    counts = tally_run(score_run(run), attribute).counts + 1
    shares: np.ndarray = counts / counts.sum(axis=1, keepdims=True)
    return shares


def _seconds(model: str, option: list[str] | None, prompt: "Prompt") -> list[float]:
    """Seconds of two pictures, drawn one after the other; the first may warm things up.

    Raises:
        BadInputError: A picture failed.
    """
    from evenhand.pipeline.opening import open_image_model

    drawing = open_image_model(model, model_options(option))
    taken = []
    for seed in range(_TIMED):
        start = time.perf_counter()
        (sample,) = drawing.draw([prompt], seeds=[seed])
        taken.append(time.perf_counter() - start)
        if sample.error is not None:
            raise BadInputError(f"model {model}: {sample.error}")
    return taken
