"""What scoring pictures under several prompts costs. In: a random Janus of the real class. Out: memory, time ratio.

``score_conditions`` gives the log-probability of every code under a neutral prompt and one of each gender. Memory: how
far the peak lies above the loaded model, for ever more pictures at one batch size, each number in a process of its
own, which gives freed memory back at once; it must not grow. It is read from ``/proc``, so on Linux alone. Time: over
the bare forward passes, one teacher-forced pass a batch and prompt over the prefix and all codes, and the head's
logits, thrown away: no softmax, nothing picked. Both in turn in one process and one thread; the ratio is the median
over rounds of ratios within a round. The codebook, the head's parts and 24 x 24 codes are the published ones; the
language model is small, so that the softmax weighs more than it does in a real one.

    python benchmarks/likelihood_ratios.py [--rounds 5] [--hidden 512] [--pictures 8] [--out benchmarks/results]
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import torch
import transformers
import typer
from picture_sampling import model, processor
from rich.console import Console
from rich.table import Table

from evenhand.locate.conditions import score_conditions
from evenhand.models.unified.load import family_of
from evenhand.models.unified.model import UnifiedModel

SIDE, BATCH, CODEBOOK = 24, 8, 16384
SAMPLES = (16, 40, 80, 160)
TEXTS = tuple(
    f"a photo of the face of a {who}community and social service specialist" for who in ("", "male ", "female ")
)
SLOWEST, GROWTH = 1.15, 1.10  # bars: time over bare passes; peak of most pictures over that of fewest
SMALL = 128  # hidden size of the model whose memory is measured


def random_janus(hidden: int) -> UnifiedModel:
    """The adapter around random weights, in one thread."""
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    own = processor(SIDE * SIDE)
    return UnifiedModel(family_of(model(SIDE, hidden, own), own), name="random", revision="0")


def random_codes(pictures: int) -> torch.Tensor:
    """Codes of so many pictures."""
    return torch.randint(CODEBOOK, (pictures, SIDE * SIDE), generator=torch.Generator().manual_seed(0))


def held_mb(what: str) -> float:
    """What this process holds of memory (``VmRSS``), or the most it held since it was asked to forget (``VmHWM``)."""
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(what)) / 1024


def memory_of(samples: int) -> dict[str, float]:
    """Peak memory of scoring, above and with the loaded model; in a process of its own."""
    asked = [sys.executable, __file__, "--only-memory-of", str(samples)]
    given = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}  # freed is freed
    done = subprocess.run(asked, check=True, capture_output=True, text=True, env=given)  # noqa: S603  (our own)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def measure_memory(samples: int) -> dict[str, float]:
    """The same, in this process."""
    scoring, codes = random_janus(SMALL), random_codes(samples)
    score_conditions(scoring, TEXTS[:1], codes[:1])  # kernels load their own
    Path("/proc/self/clear_refs").write_text("5", "ascii")  # forgets the peak of loading
    loaded = held_mb("VmRSS")
    found = score_conditions(scoring, TEXTS, codes, batch_size=BATCH)
    assert found.shape == (samples, len(TEXTS), SIDE * SIDE)
    return {"samples": samples, "peak_mb": held_mb("VmHWM"), "above_model_mb": held_mb("VmHWM") - loaded}


@torch.no_grad()
def bare(scoring: UnifiedModel, codes: torch.Tensor) -> None:
    """Forward passes in the same batches, the logits of one picture at a time; nothing is kept."""
    family = scoring.family
    prefixes = [family.prefix(text) for text in TEXTS]
    for batch in torch.split(codes, BATCH):
        written = family.embed_codes(batch)[:, :-1]
        for prefix in prefixes:
            read = torch.cat([family.embed(torch.tensor([prefix])).expand(len(batch), -1, -1), written], dim=1)
            states = family.language_model(inputs_embeds=read, use_cache=False).last_hidden_state
            for one in family.before_head(states[:, len(prefix) - 1 :]):
                family.code_logits(one)


def measure_time(hidden: int, pictures: int, rounds: int) -> dict[str, float | int | bool]:
    """Scoring and bare passes in turn."""
    scoring, codes = random_janus(hidden), random_codes(pictures)
    calls: dict[str, Callable[[], object]] = {
        "scoring": lambda: score_conditions(scoring, TEXTS, codes, batch_size=BATCH),
        "bare": lambda: bare(scoring, codes),
    }
    times: dict[str, list[float]] = {name: [] for name in calls}
    for way in calls.values():
        way()  # warm
    for _ in range(rounds):
        for name, way in calls.items():
            start = time.perf_counter()
            way()
            times[name].append(time.perf_counter() - start)
    ratios = [own / plain for own, plain in zip(times["scoring"], times["bare"], strict=True)]
    ratio = statistics.median(ratios)
    return {
        "hidden": hidden,
        "pictures": pictures,
        "scoring_s": statistics.median(times["scoring"]),
        "bare_s": statistics.median(times["bare"]),
        "ratio": ratio,
        "lowest": min(ratios),
        "highest": max(ratios),
        "bar": SLOWEST,
        "met": ratio <= SLOWEST,
    }


def shown(memory: list[dict[str, float]], spent: dict[str, float | int | bool]) -> Table:
    """Both measurements."""
    table = Table(title=f"{len(TEXTS)} prompts, {SIDE * SIDE} codes of {CODEBOOK}, batches of {BATCH}")
    for column in ("what", "number", "bar"):
        table.add_column(column)
    for one in memory:
        table.add_row(f"peak above the model, {one['samples']} pictures", f"{one['above_model_mb']:.0f} MB", "")
    table.add_row("the same, most over fewest", f"{_growth(memory):.2f}", f"{GROWTH}")
    taken = f"{spent['scoring_s']:.2f} s / {spent['bare_s']:.2f} s = {spent['ratio']:.3f}"
    table.add_row(f"scoring over bare passes, {spent['pictures']} pictures", taken, f"{SLOWEST}")
    return table


def _growth(memory: list[dict[str, float]]) -> float:
    return memory[-1]["above_model_mb"] / memory[0]["above_model_mb"]


def main(
    rounds: Annotated[int, typer.Option(min=1, help="times both ways are timed")] = 5,
    hidden: Annotated[int, typer.Option(min=64, help="width of the timed language model, a multiple of 64")] = 512,
    pictures: Annotated[int, typer.Option(min=1, help="pictures that are timed")] = BATCH,
    out: Annotated[Path, typer.Option(help="folder for the JSON file")] = Path("benchmarks/results"),
    only_memory_of: Annotated[int, typer.Option(hidden=True)] = 0,
) -> None:
    """Measure memory and time, and write both."""
    if only_memory_of:
        sys.stdout.write(json.dumps(measure_memory(only_memory_of)))
        return
    memory = [memory_of(samples) for samples in SAMPLES]
    spent = measure_time(hidden, pictures, rounds)
    Console().print(shown(memory, spent))
    flat = _growth(memory) <= GROWTH
    result = {
        "prompts": len(TEXTS),
        "codes": SIDE * SIDE,
        "codebook": CODEBOOK,
        "batch_size": BATCH,
        "logits_of_all_at_once_mb": round(SAMPLES[-1] * len(TEXTS) * SIDE * SIDE * CODEBOOK * 4 / 2**20),
        "rounds": rounds,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "memory": {"hidden": SMALL, "peaks": memory, "growth": _growth(memory), "bar": GROWTH, "met": flat},
        "time": spent,
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "likelihood_ratios.json").write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    if not (flat and spent["met"]):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
