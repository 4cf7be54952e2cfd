"""Two processes under ``accelerate launch`` train as one with twice the accumulation does."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

RUN = Path(__file__).parent / "trained_run.py"


def run(folder, processes, accumulation, loss_type):
    folder.mkdir()
    # Where there is no GPU, accelerate starts several processes on CPU by MPI only; its other launcher needs none.
    kind = ["--multi_gpu"] if processes > 1 else ["--cpu"]
    command = [
        *(sys.executable, "-m", "accelerate.commands.launch", *kind, "--num_processes", str(processes)),
        *("--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"),
        *(str(RUN), str(folder), str(accumulation), loss_type),
    ]
    own = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=own, timeout=300, check=False)  # noqa: S603
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((folder / "losses.json").read_text())


@pytest.mark.parametrize("loss_type", ["posterior", "log_odds"])
def test_two_processes_are_one_with_doubled_accumulation(tmp_path, loss_type):
    one = run(tmp_path / "one", 1, 2, loss_type)
    two = run(tmp_path / "two", 2, 1, loss_type)
    assert (one["processes"], two["processes"]) == (1, 2)
    assert two["loss"] == pytest.approx(one["loss"], rel=1e-5)
    assert two["grad_norm"] == pytest.approx(one["grad_norm"], rel=1e-4)
    assert two["disparity"] == one["disparity"]  # the audit is dealt out, and says the same
