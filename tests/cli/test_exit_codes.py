"""How the program ends where a command does not: Ctrl-C, mistakes of ours, a reader that went away."""

import os
import signal
import time

import pytest
from command_line import install_model, run, start

SLOW = """
import time
from evenhand_example.painting import painter
def open_slow(argument=None):
    model = painter(argument)
    inner = model.draw
    def draw(prompts, *, seeds):
        time.sleep(0.2)
        return inner(prompts, seeds=seeds)
    model.draw = draw
    return model
"""
BROKEN = """
import builtins
from evenhand_example.painting import painter
def open_broken(argument):
    model = painter(None)
    def draw(prompts, *, seeds):
        raise getattr(builtins, argument)(1)
    model.draw = draw
    return model
"""
ASKED = ("--probe", "occupations", "--data", "two.txt", "--classifier", "colours", "--answers", "0", "--out", "run")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "two.txt").write_text("sewer\npilot\n")
    return tmp_path


def test_ctrl_c_says_that_the_run_goes_on_and_it_does(folder):
    paths = [install_model(folder / "extension", "slow", SLOW)]
    running = start("audit", "slow", *ASKED, "--samples", "400", cwd=folder, paths=paths)
    ends = time.monotonic() + 60
    while not list(folder.glob("run/samples-*.parquet")) and time.monotonic() < ends:
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 130
    assert said.strip().splitlines()[-1].startswith("evenhand: stopped; what was answered is stored")
    assert "Traceback" not in said
    stored = set(folder.glob("run/samples-*.parquet"))
    done = run("audit", "slow", *ASKED, "--samples", "4", "--json", cwd=folder, paths=paths)
    assert done.returncode == 0, done.stderr
    # 7 pictures a batch, one prompt after the other: of the first 4 are there, of the second 4 are drawn, at once
    assert len(set(folder.glob("run/samples-*.parquet")) - stored) == 1


@pytest.mark.parametrize("kind", ["ZeroDivisionError", "OSError", "EOFError", "SystemExit", "ValueError"])
def test_a_mistake_of_ours_is_a_traceback_and_70_and_never_a_verdict(folder, kind):
    paths = [install_model(folder / "extension", "broken", BROKEN)]
    done = run("audit", f"broken:{kind}", *ASKED, cwd=folder, paths=paths)
    assert done.returncode == 70
    assert f"{kind}: 1" in done.stderr
    assert "Traceback" in done.stderr
    assert done.stderr.strip().splitlines()[-1] == "evenhand: internal error, please report"


def test_a_gate_whose_reader_went_away_has_not_failed(folder):
    assert run("audit", "painter", *ASKED, "--samples", "60", cwd=folder).returncode == 0
    read, write = os.pipe()
    os.close(read)
    gate = start("gate", "run", "--at-most", "RD=0.95", cwd=folder, stdout=write)
    os.close(write)
    _, said = gate.communicate(timeout=60)
    assert gate.returncode == 141
    assert said == ""


def test_wrong_usage_is_2(folder):
    for arguments in (("gate", "run"), ("audit", "--samples", "0"), ("nothing",)):
        assert run(*arguments, cwd=folder).returncode == 2
