"""The program ``evenhand``. In: a command. Out: its exit code: 0, or 2 with one line on stderr for our errors."""

import os
import sys

import typer

from evenhand import __version__
from evenhand.cli.audit import audit_command
from evenhand.cli.compare import compare_command
from evenhand.cli.demo import demo_command
from evenhand.cli.gate import gate_command
from evenhand.cli.list import list_command
from evenhand.cli.mitigate import mitigate_app
from evenhand.cli.plan import plan_command
from evenhand.cli.report import report_command
from evenhand.cli.sample import sample_command
from evenhand.cli.score import score_command
from evenhand.errors import EvenhandError
from evenhand.report.numbers import plain_text

__all__ = ["app", "main"]

app = typer.Typer(
    name="evenhand",
    help="Measures and mitigates social bias in multimodal language models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("demo")(demo_command)
app.command("audit")(audit_command)
app.command("sample")(sample_command)
app.command("score")(score_command)
app.command("compare")(compare_command)
app.command("report")(report_command)
app.command("plan")(plan_command)
app.command("gate")(gate_command)
app.command("list")(list_command)
app.add_typer(mitigate_app)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(
        False, "--version", help="Print the version and end.", callback=_print_version, is_eager=True
    ),
) -> None:
    """Measures and mitigates social bias in multimodal language models."""


def main() -> None:
    """Run the program; an error of ours becomes one line and exit code 2."""
    for name in ("TRANSFORMERS_VERBOSITY", "HF_HUB_VERBOSITY"):
        os.environ.setdefault(name, "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    try:
        app()
    except EvenhandError as error:
        print(f"evenhand: {type(error).__name__}: {plain_text(' '.join(str(error).split()))}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(
            "evenhand: stopped; what was answered is stored, the same command goes on from there.",
            file=sys.stderr,
        )
        sys.exit(130)
