"""The program ``evenhand``. In: a command. Out: its exit code.

0; 2 for our errors, with one line on stderr, and for wrong usage; 1, 3 and 4 are verdicts of ``gate`` and nothing else;
70 for a mistake in evenhand, 130 for Ctrl-C, 141 where nobody reads the output.
"""

import os
import sys
import traceback
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from evenhand import __version__
from evenhand.cli.audit import audit_command
from evenhand.cli.compare import compare_command
from evenhand.cli.demo import demo_command
from evenhand.cli.gate import gate_command
from evenhand.cli.list import list_command
from evenhand.cli.locate import locate_command
from evenhand.cli.mitigate import mitigate_app
from evenhand.cli.mitigate_data import data_command
from evenhand.cli.mitigate_train import bpo_command, launch_file_command, sft_command, understanding_command
from evenhand.cli.plan import plan_command
from evenhand.cli.report import report_command
from evenhand.cli.sample import sample_command
from evenhand.cli.score import score_command
from evenhand.cli.study import study_app
from evenhand.errors import EvenhandError
from evenhand.report.numbers import plain_text

__all__ = ["app", "main"]

_INTERNAL, _STOPPED, _UNREAD = 70, 130, 141


class _Program(TyperGroup):
    """Typer ends the program at these errors by itself, some with 1: here they get exit codes of their own."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            print(
                "evenhand: stopped; what was answered is stored, the same command goes on from there.",
                file=sys.stderr,
            )
            raise typer.Exit(_STOPPED) from None
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left goes nowhere, silently
            raise typer.Exit(_UNREAD) from None
        except SystemExit as error:  # a library's; rich ends the program where nobody reads
            if isinstance(error.__context__, BrokenPipeError):
                raise typer.Exit(_UNREAD) from None
            _report_mistake()
            raise typer.Exit(_INTERNAL) from None
        except (EOFError, OSError):
            _report_mistake()
            raise typer.Exit(_INTERNAL) from None


app = typer.Typer(
    name="evenhand",
    cls=_Program,
    help="Measures, locates and mitigates social bias in multimodal language models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("demo")(demo_command)
app.command("audit")(audit_command)
app.command("sample")(sample_command)
app.command("score")(score_command)
app.command("locate")(locate_command)
app.command("compare")(compare_command)
app.command("report")(report_command)
app.command("plan")(plan_command)
app.command("gate")(gate_command)
app.command("list")(list_command)
mitigate_app.command("data")(data_command)
mitigate_app.command("sft")(sft_command)
mitigate_app.command("bpo")(bpo_command)
mitigate_app.command("understanding")(understanding_command)
mitigate_app.command("launch-file")(launch_file_command)
app.add_typer(mitigate_app)
app.add_typer(study_app)


def _print_version(wanted: bool | None) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool | None,
        typer.Option("--version", help="Print the version and end.", callback=_print_version, is_eager=True),
    ] = None,
) -> None:
    """Measures, locates and mitigates social bias in multimodal language models."""


def main() -> None:
    """Run the program; an error of ours becomes one line and exit code 2, any other a traceback and 70."""
    for name in ("TRANSFORMERS_VERBOSITY", "HF_HUB_VERBOSITY"):
        os.environ.setdefault(name, "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    try:
        app()
    except EvenhandError as error:
        print(f"evenhand: {type(error).__name__}: {plain_text(' '.join(str(error).split()))}", file=sys.stderr)
        sys.exit(2)
    except Exception:  # noqa: BLE001  (whatever it is, its exit code must not be a verdict's)
        _report_mistake()
        sys.exit(_INTERNAL)


def _report_mistake() -> None:
    traceback.print_exc()
    print("evenhand: internal error, please report", file=sys.stderr)
