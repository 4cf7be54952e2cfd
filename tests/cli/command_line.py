"""The program as a script sees it. In: arguments, an extension's source. Out: a finished or a running process."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
# A shell starts its background jobs with SIGINT ignored, and children inherit that.
INTERRUPTIBLE = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from evenhand.cli.main import main
main()
"""
ENTRY_POINTS = "[evenhand.image_models]\n{name} = {name}_model:open_{name}\n"


def run(*arguments: str, cwd: Path, paths: Sequence[Path] = ()) -> subprocess.CompletedProcess[str]:
    """A command, ended; ``paths`` hold more extensions than the example's."""
    return subprocess.run(  # noqa: S603
        _command(arguments), cwd=cwd, env=_environment(paths), capture_output=True, text=True, timeout=120, check=False
    )


def start(*arguments: str, cwd: Path, paths: Sequence[Path] = (), stdout: int = subprocess.PIPE):
    """A command that runs; it can be interrupted also where the tests themselves were started to ignore that."""
    return subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", INTERRUPTIBLE, *arguments],
        cwd=cwd,
        env=_environment(paths),
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
    )


def install_model(folder: Path, name: str, source: str) -> Path:
    """A package beside nothing else, with ``open_NAME`` behind the registry's name; returns what goes on the path."""
    facts = folder / f"{name}-1.0.dist-info"
    facts.mkdir(parents=True)
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text(ENTRY_POINTS.format(name=name))
    (folder / f"{name}_model.py").write_text(source)
    return folder


def in_process(folder: Path, monkeypatch, capfd):
    """A function that calls the program in this process, in a folder: as ``run``, and quicker."""
    from evenhand.cli.main import main

    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(TESTS / "extension"))
    for name, value in (("TRANSFORMERS_VERBOSITY", "error"), ("HF_HUB_VERBOSITY", "error"), ("COLUMNS", "160")):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")

    def called(*arguments):
        monkeypatch.setattr(sys, "argv", ["evenhand", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capfd.readouterr()
        return subprocess.CompletedProcess(arguments, ended.value.code, said.out, said.err)

    return called


def _command(arguments: Sequence[str]) -> list[str]:
    return [sys.executable, "-c", "from evenhand.cli.main import main; main()", *arguments]


def _environment(paths: Sequence[Path]) -> dict[str, str]:
    known = [TESTS / "extension", TESTS.parent / "src", *paths]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, known)), "COLUMNS": "160"}
