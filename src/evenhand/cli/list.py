"""``evenhand list``. In: nothing. Out: every registered name, by kind; nothing is imported for it."""

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from evenhand.attributes import attribute_names
from evenhand.cli.output import print_json
from evenhand.registry import KINDS, names

__all__ = ["list_command"]


def list_command(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout, nothing else there.")] = False,
) -> None:
    """Show the models, probes, classifiers, mitigations and attributes that can be named."""
    known = {kind: list(names(kind)) for kind in KINDS} | {"attributes": list(attribute_names())}
    if as_json:
        print_json(known)
        return
    table = Table("kind", "names", title="What can be named", title_justify="left")
    for kind, listed in known.items():
        table.add_row(kind, ", ".join(listed))
    Console().print(table)
