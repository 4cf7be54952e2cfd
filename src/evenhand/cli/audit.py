"""``evenhand audit``. In: a model, a probe, data. Out: a run folder, its estimates as a table or as JSON."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from evenhand.cli.output import notes, print_json, progress_bar, scored_as_dict, work_silently

__all__ = ["audit_command"]


def audit_command(
    model: Annotated[
        str, typer.Argument(help="A registered name (`evenhand list`), a captioner's folder or hf:PATH_OR_ID.")
    ],
    data: Annotated[str, typer.Option(help="Folder of pictures with labels.csv, or `openpeople`.")],
    probe: Annotated[str, typer.Option(help="What is asked.")] = "captioning",
    mitigate: Annotated[str, typer.Option(help="none, or a registered name.")] = "none",
    out: Annotated[Path | None, typer.Option(help="Run folder; by default runs/MODEL-PROBE-MITIGATE.")] = None,
    attribute: Annotated[str, typer.Option(help="A shipped attribute or a YAML file.")] = "gender",
    seed: Annotated[int, typer.Option(min=0, help="Of the run.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout, nothing else there.")] = False,
) -> None:
    """Ask a model, store its answers, print how uneven they are. A run that was stopped goes on."""
    from evenhand.pipeline import audit
    from evenhand.report.terminal import estimates_table

    folder = out or Path("runs") / f"{Path(model).name}-{probe}-{mitigate}"
    with work_silently(), progress_bar(f"{Path(model).name} · {mitigate}") as progress:
        scored = audit(
            model,
            probe=probe,
            data=data,
            out=folder,
            mitigate=mitigate,
            attribute=attribute,
            seed=seed,
            progress=progress,
        )
    if scored.counts["errors"]:
        notes.print(f"{scored.counts['errors']} of {scored.counts['pictures']} pictures failed; see the run's report.")
    if as_json:
        print_json(scored_as_dict(scored))
        return
    Console().print(estimates_table([scored]))
    notes.print(f"stored in {folder}; a report: evenhand report {folder}")
