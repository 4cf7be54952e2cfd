"""What ALA costs. In: the shipped captioner's language model. Out: processor time over model-step time, as a table.

Every step runs the model once and then every variant on a copy of the same logits, in an order shuffled anew for
every step, in one process, one thread, CPU time: `generate` as a whole cannot resolve less than a hundredth.
Variants: a closed gate (the listed tokens moved below the best one), and a gate open in every row at every step, or at
every fifth, with a contradicting picture; by text scorer, in place as our decoding loops ask for, copying the logits as
transformers' `generate` needs, and with the KL divergence measured for the trace. Scorers that must be fitted are
fitted here, on made-up captions: what they cost does not depend on how well they judge. A second part captions
pictures plainly and with `align`, picture signal included, in alternating rounds, by wall time.

    python benchmarks/ala_overhead.py [--steps 40] [--rounds 5] [--out benchmarks/results]
"""

import csv
import itertools
import json
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table

from evenhand.attributes import load_attribute
from evenhand.mitigate.ala.ala import Ala
from evenhand.mitigate.ala.fit import fit_text_signal
from evenhand.mitigate.ala.gating import Gating
from evenhand.mitigate.ala.picture.given import GivenSignal
from evenhand.mitigate.ala.presets import align
from evenhand.mitigate.ala.rules import AlignRule
from evenhand.mitigate.ala.text.artefact import load_scorer
from evenhand.mitigate.ala.text.lexicon import WordScorer
from evenhand.models.captioner import load_captioner
from evenhand.models.clipcap import ClipCap
from evenhand.models.hidden import LastHidden
from evenhand.pictures import open_picture
from evenhand.probes.captioning import captioning

CLOSED, WORDS, PROBE, ADDITIVE = "closed", "triggered, words", "triggered, probe", "triggered, additive"
CAUSAL, COPYING, MEASURED = "triggered at a fifth, causal", "triggered, words, copying", "triggered, words, KL measured"
BARS = {
    (CLOSED, 1): 0.0015,
    (CLOSED, 8): 0.003,
    (WORDS, 1): 0.003,
    (WORDS, 8): 0.005,
    (PROBE, 1): 0.003,
    (PROBE, 8): 0.005,
    (ADDITIVE, 1): 0.003,
    (ADDITIVE, 8): 0.005,
    (CAUSAL, 1): 0.006,
    (CAUSAL, 8): 0.012,
}
MEMORY_BAR, END_TO_END_BAR = 0.0015, 1.05
PLACES = ("street", "beach", "field", "kitchen", "table", "park", "bench", "room", "train", "river")
DOINGS = ("riding a bike", "holding a phone", "eating a sandwich", "walking a dog", "playing tennis")


def fitted(captioner: ClipCap, folder: Path) -> dict[str, Any]:
    """The scorers that need a fit, fitted on made-up captions."""
    attribute = load_attribute("gender")
    path = folder / "captions.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for group in attribute.groups:
            for word, doing, place in itertools.product(attribute.words[group][:8], DOINGS, PLACES):
                writer.writerow([f"A {word} is {doing} near the {place}.", group])
    given = {"causal": {"tokenizer": captioner.tokenizer}, "additive": {}}
    given["probe"] = {"lm": captioner.lm, "tokenizer": captioner.tokenizer}
    scorers = {}
    for kind, options in given.items():
        out = folder / kind
        fit_text_signal(kind, path, attribute=attribute, out=out, seed=0, **options)  # type: ignore[arg-type]
        scorers[kind] = load_scorer(out)
    return scorers


def modes(scorers: Mapping[str, Any]) -> dict[str, Ala]:
    """One mode per variant; all of them would turn every listed word."""

    def mode(scorer: Any, *, kl: bool = False) -> Ala:
        made = align(signal=GivenSignal(-1.0), scorer=scorer, rule=AlignRule(margin=1.0))
        made.gating = Gating(measure_kl=kl)
        return made

    words = WordScorer()
    return {
        CLOSED: mode(words),
        WORDS: mode(words),
        COPYING: mode(words),
        MEASURED: mode(words, kl=True),
        ADDITIVE: mode(scorers["additive"]),
        PROBE: mode(scorers["probe"]),
        CAUSAL: mode(scorers["causal"]),
    }


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """CPU seconds of this process, and the result."""
    started = time.process_time()
    result = work()
    return time.process_time() - started, result


@torch.inference_mode()
def step_ratios(captioner: ClipCap, variants: Mapping[str, Ala], rows: int, steps: int) -> dict[str, float]:
    """Processor time over model-step time per variant: medians, and means for the variant that acts at times."""
    lm, tokenizer = captioner.lm, captioner.tokenizer
    hidden = LastHidden(lm)
    with hidden:
        ids = torch.tensor([tokenizer.encode(" A photograph of a street with a")] * rows)
        state = lm(input_ids=ids, use_cache=True)
        weights = align(signal=GivenSignal(-1.0)).weights_for(tokenizer)
        male = int(
            weights.token_ids[(weights.group[0] == 0) & (weights.counterparts[weights.entry[0].long(), 1] >= 0)][0]
        )
        gates = weights.token_ids[(weights.weight > 0).any(dim=0)]
        nothing: list[Callable[[], Any]] = [lambda: None] * rows
        hooks = {
            name: mode.start(nothing, tokenizer, in_place=name != COPYING, hidden=hidden)
            for name, mode in variants.items()
        }
        taken: dict[str, list[float]] = {"model": [], "no-op": [], **{name: [] for name in variants}}
        written = torch.empty(rows, 0, dtype=torch.long)
        for step in range(steps + 3):
            logits = state.logits[:, -1].float().clone()
            best = logits.amax(dim=-1)
            closed, triggered = logits.clone(), logits.clone()
            closed[:, gates] = best[:, None] - 5
            triggered[:, male] = best + 1
            given = {name: triggered.clone() for name in variants}
            given |= {"no-op": logits, CLOSED: closed.clone()}
            if step % 5:
                given[CAUSAL] = closed.clone()
            spent = {}
            for name in random.Random(step).sample(sorted(given), len(given)):  # noqa: S311
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
    opened = {name: len(hook._steps) for name, hook in hooks.items()}
    moved = {name: sum(bool((s.shift != 0).any()) for s in hook._steps) for name, hook in hooks.items()}
    always = (WORDS, COPYING, MEASURED, ADDITIVE, PROBE)
    # The probe reads the model's state, and does not contradict at every step; it is asked at every step.
    if opened[CLOSED] or {opened[name] for name in always} | {moved[name] for name in always[:4]} != {steps + 3}:
        raise SystemExit(f"the variants did not do what they are measured for: opened {opened}, moved {moved}")
    model = statistics.median(taken["model"])
    middle = {name: statistics.mean if name == CAUSAL else statistics.median for name in taken}
    ratios = {name: middle[name](values) / model for name, values in taken.items() if name != "model"}
    return {**ratios, "model_ms": 1000 * model}


def memory_share(captioner: ClipCap) -> tuple[int, float]:
    """Bytes of a started `align`'s tables, and their share of the language model's."""
    hook = align(signal=GivenSignal(-1.0)).start([lambda: None], captioner.tokenizer)  # type: ignore[arg-type,return-value]
    held = [hook._entry, hook._gate_entry, hook._gate_ids, hook._gate_columns, hook._text.by_token]
    for record in (hook._weights, hook._guards, hook._plan):
        held += [getattr(record, field.name) for field in fields(record)]  # type: ignore[arg-type]
    tensors = {table.data_ptr(): table for table in held if isinstance(table, torch.Tensor)}
    size = sum(table.numel() * table.element_size() for table in tensors.values())
    return size, size / sum(weight.numel() * weight.element_size() for weight in captioner.lm.parameters())


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
    with tempfile.TemporaryDirectory() as scratch:
        variants = modes(fitted(captioner, Path(scratch)))
    for rows in (1, 8):
        measured = step_ratios(captioner, variants, rows, steps)
        for name in ("no-op", *variants):
            bar = BARS.get((name, rows))
            result["rows"].append({"variant": name, "rows": rows, "ratio": measured[name], "bar": bar})
            table.add_row(name, str(rows), f"{measured[name]:.3%}", "" if bar is None else f"{bar:.2%}")
        result[f"model_step_ms_{rows}"] = measured["model_ms"]
    size, share = memory_share(captioner)
    result["memory"] = {"bytes": size, "ratio": share, "bar": MEMORY_BAR}
    table.add_row("memory of the tables", "", f"{share:.3%} ({size / 1e6:.2f} MB)", f"{MEMORY_BAR:.2%}")
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
