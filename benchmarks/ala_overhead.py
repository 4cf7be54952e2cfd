"""What ALA costs. In: the shipped captioner's language model. Out: processor time over model-step time, as a table.

Every step runs the model once and then every variant on a copy of the same logits, in an order shuffled anew for
every step, in one process, one thread, CPU time: `generate` as a whole cannot resolve less than a hundredth.
Variants: a closed gate (the listed tokens moved below the best one), and a gate open in every row at every step with
a contradicting picture, once shifting in place as our decoding loop asks for, once copying the logits as
transformers' `generate` needs. A second part captions pictures plainly and with `align`, picture signal included, in
alternating rounds, by wall time.

    python benchmarks/ala_overhead.py [--steps 40] [--rounds 5] [--out benchmarks/results]
"""

import json
import platform
import random
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table

from evenhand.attributes import load_attribute
from evenhand.mitigate.ala.picture.given import GivenSignal
from evenhand.mitigate.ala.presets import align
from evenhand.models.captioner import load_captioner
from evenhand.models.clipcap import ClipCap
from evenhand.pictures import open_picture
from evenhand.probes.captioning import captioning

BARS = {("closed", 1): 0.0015, ("closed", 8): 0.003, ("triggered", 1): 0.005, ("triggered", 8): 0.005}
END_TO_END_BAR = 1.05
VARIANTS = ("closed", "triggered", "triggered, copying")


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """CPU seconds of this process, and the result."""
    started = time.process_time()
    result = work()
    return time.process_time() - started, result


@torch.inference_mode()
def step_ratios(captioner: ClipCap, rows: int, steps: int) -> dict[str, float]:
    """Median processor time over median model-step time, per variant."""
    lm, tokenizer = captioner.lm, captioner.tokenizer
    ids = torch.tensor([tokenizer.encode(" A photograph of a street with a")] * rows)
    state = lm(input_ids=ids, use_cache=True)
    ala = align(signal=GivenSignal(-1.0))
    weights = ala.weights_for(tokenizer)
    male = int(weights.token_ids[weights.direction[0] > 0][0])
    gates = weights.token_ids[(weights.weight > 0).any(dim=0)]
    nothing: list[Callable[[], Any]] = [lambda: None] * rows
    hooks = {name: ala.start(nothing, tokenizer, in_place=name == "triggered") for name in VARIANTS}
    taken: dict[str, list[float]] = {"model": [], "no-op": [], **{name: [] for name in VARIANTS}}
    written = torch.empty(rows, 0, dtype=torch.long)
    for step in range(steps + 3):
        logits = state.logits[:, -1].float().clone()
        best = logits.amax(dim=-1)
        closed, triggered = logits.clone(), logits.clone()
        closed[:, gates] = best[:, None] - 5
        triggered[:, male] = best + 1
        copied = triggered.clone()
        given = {"no-op": logits, "closed": closed, "triggered": triggered, "triggered, copying": copied}
        order = random.Random(step).sample(sorted(given), len(given))  # noqa: S311
        spent = {}
        for name in order:
            run = partial(hooks[name], written, given[name]) if name in hooks else partial(id, logits)
            spent[name], _ = seconds(run)
        fed = logits.argmax(dim=-1)
        written = torch.cat([written, fed[:, None]], dim=1)
        spent["model"], state = seconds(
            lambda: lm(input_ids=fed[:, None], past_key_values=state.past_key_values, use_cache=True)  # noqa: B023
        )
        if step >= 3:
            for name, value in spent.items():
                taken[name].append(value)
    if len(hooks["closed"]._steps) or len(hooks["triggered"]._steps) != steps + 3:
        raise SystemExit("the variants did not do what they are measured for")
    model = statistics.median(taken["model"])
    ratios = {name: statistics.median(values) / model for name, values in taken.items() if name != "model"}
    return {**ratios, "model_ms": 1000 * model}


def end_to_end_ratio(captioner: ClipCap, rounds: int, rows: int) -> tuple[float, float]:
    """Wall time of captioning with `align` over plain captioning: median over rounds, and plain seconds a picture."""
    prompts = captioning("openpeople", load_attribute("gender"))
    pictures = [open_picture(prompt.image) for prompt in prompts if prompt.image is not None][:: max(1, 60 // rows)]
    pictures = pictures[:rows]
    ala = align()
    ratios, plain = [], []
    for number in range(rounds + 1):
        spent = {}
        for name in ("plain", "align") if number % 2 else ("align", "plain"):
            started = time.perf_counter()
            captioner.caption(pictures, intervention=ala if name == "align" else None)
            spent[name] = time.perf_counter() - started
        if number:
            ratios.append(spent["align"] / spent["plain"])
            plain.append(spent["plain"] / len(pictures))
    return statistics.median(ratios), statistics.median(plain)


def main(
    steps: int = 40,
    rounds: int = 5,
    out: Annotated[Path, typer.Option(help="Folder for the JSON.")] = Path("benchmarks/results"),
) -> None:
    """Measure, print a table, write JSON."""
    captioner = load_captioner()
    result: dict[str, Any] = {"python": platform.python_version(), "torch": torch.__version__, "rows": []}
    table = Table("variant", "rows", "share of a step", "bar", title="ALA on Gemma 3 270M, CPU, one thread")
    torch.set_num_threads(1)
    for rows in (1, 8):
        measured = step_ratios(captioner, rows, steps)
        for name in ("no-op", *VARIANTS):
            bar = BARS.get((name, rows))
            result["rows"].append({"variant": name, "rows": rows, "ratio": measured[name], "bar": bar})
            table.add_row(name, str(rows), f"{measured[name]:.3%}", "" if bar is None else f"{bar:.2%}")
        result[f"model_step_ms_{rows}"] = measured["model_ms"]
    torch.set_num_threads(2)
    for rows in (1, captioner.batch_size):
        ratio, plain = end_to_end_ratio(captioner, rounds, rows)
        result["rows"].append({"variant": "captioning", "rows": rows, "ratio": ratio, "bar": END_TO_END_BAR})
        result[f"plain_seconds_a_picture_{rows}"] = plain
        table.add_row("captioning with align / plain", str(rows), f"{ratio:.3f}x", f"{END_TO_END_BAR:.2f}x")
    Console().print(table)
    out.mkdir(parents=True, exist_ok=True)
    (out / "ala_overhead.json").write_text(json.dumps(result, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    typer.run(main)
