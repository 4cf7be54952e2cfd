"""What an audit of pictures costs. In: the miniature. Out: seconds and memory of its parts, as a table and JSON.

Each part is a program of its own, so that start, imports and memory are counted: starting up (`import evenhand`,
`--help`; beside a bare `python -c pass`), an audit of the miniature on 10 occupations with 32 pictures each, report
included, and scoring 8,000 stored pictures. Wall time; the largest resident memory is the system's.

    evenhand sample miniature --attribute gender --answers 0 --out runs/8000
    python benchmarks/picture_audit.py --run runs/8000 [--rounds 3] [--out benchmarks/results]
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from evenhand.probes.occupation_lists import read_occupations

BARS = {"import evenhand": 0.5, "evenhand --help": 0.7, "audit": 90.0, "metrics of 8,000": 10.0}
MEMORY_BAR = 1024  # MiB, of scoring

SCORING = """
import sys, time
from evenhand.pipeline.picture_runs import score_run
start = time.perf_counter()
found = score_run(sys.argv[1], reading="anew" if len(sys.argv) > 2 else "kept")
print(time.perf_counter() - start, len(found.samples), "torch" in sys.modules)
"""


def timed(command: list[str], folder: Path) -> tuple[float, float, str]:
    """Seconds, MiB at most, and what was printed."""
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)  # noqa: S603
    printed = process.stdout.read() if process.stdout else ""
    _, status, used = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status) != 0:
        raise SystemExit(f"{command} failed")
    return time.perf_counter() - start, used.ru_maxrss / 1024, printed


def main(
    run: Annotated[Path, typer.Option(help="A run of 8,000 pictures, see above.")],
    rounds: Annotated[int, typer.Option(min=1)] = 3,
    out: Annotated[Path | None, typer.Option(help="Folder for the JSON.")] = None,
) -> None:
    """Measure, print, store."""
    python, program = sys.executable, str(Path(sys.executable).with_name("evenhand"))
    run = run.resolve()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "ten.txt").write_text("\n".join(row.occupation for row in read_occupations("test")[:10]) + "\n")
        audit = [program, "audit", "miniature", "--data", "ten.txt", "--samples", "32", "--out"]
        subprocess.run(  # noqa: S603
            [program, "score", str(run), "--attribute", "gender", "--classifier", "avatars"],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        parts: dict[str, list[tuple[float, float, str]]] = {}
        for number in range(rounds):
            for name, command in (
                ("python", [python, "-c", "pass"]),
                ("import evenhand", [python, "-c", "import evenhand"]),
                ("evenhand --help", [program, "--help"]),
                ("audit", [*audit, f"run-{number}"]),
                ("score 8,000, labels kept", [python, "-c", SCORING, str(run)]),
                ("score 8,000, pictures read", [python, "-c", SCORING, str(run), "fresh"]),
            ):
                parts.setdefault(name, []).append(timed(command, folder))
    found = {
        name: {
            "seconds": statistics.median(one for one, _, _ in measured),
            "MiB": statistics.median(one for _, one, _ in measured),
        }
        for name, measured in parts.items()
    }
    inner = [one.split() for _, _, one in parts["score 8,000, labels kept"]]
    found["metrics of 8,000"] = {
        "seconds": statistics.median(float(one[0]) for one in inner),
        "MiB": found["score 8,000, labels kept"]["MiB"],
    }
    show(found, pictures=int(inner[0][1]))
    if out is not None:
        values = {"cpus": os.cpu_count(), "python": platform.python_version(), "rounds": rounds, "parts": found}
        out.mkdir(parents=True, exist_ok=True)
        (out / "picture_audit.json").write_text(json.dumps(values, indent=1) + "\n")


def show(found: dict[str, dict[str, float]], *, pictures: int) -> None:
    """A table with the bars."""
    table = Table(
        "part", "seconds", "bar", "MiB", title=f"An audit of pictures; {pictures} stored", title_justify="left"
    )
    for name, one in found.items():
        bar = BARS.get(name)
        table.add_row(name, f"{one['seconds']:.2f}", "" if bar is None else f"{bar:g}", f"{one['MiB']:.0f}")
    Console().print(table)
    print(f"memory bar of scoring: {MEMORY_BAR} MiB")


if __name__ == "__main__":
    typer.run(main)
