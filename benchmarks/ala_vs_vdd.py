"""What ALA costs beside contrastive decoding. In: Gemma 3 270M. Out: ratios of whole decoding times, as a table.

A fixed number of tokens is decoded greedily in our own loop: plainly, with VDD (a second pass a step, with its own KV
cache, whose prompt holds Gaussian noise in the place of what is seen, so that it is as long) and with `align` against
a target that contradicts masculine words. All in one process, one thread, CPU time, in rounds of shuffled order; the
first round warms up and is dropped. The language model alone is timed, because picture encoder and face reader are not
what the two differ in; `ala_overhead.py` has the cost of a whole caption.

    python benchmarks/ala_vs_vdd.py [--tokens 48] [--rounds 7] [--rows 1,8] [--out benchmarks/results]
"""

import json
import platform
import random
import statistics
import time
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table
from transformers import AutoModelForCausalLM, AutoTokenizer

from evenhand.mitigate.baselines.vdd import ContrastiveHook, ContrastRule, ReferencePass
from evenhand.models.decode import decode_greedily
from evenhand.models.gemma import gemma_folder

BAR = 0.50
VARIANTS = ("plain", "vdd", "ala")
SEEN = "In the picture: an office, a desk with a lamp, a shelf with books, a window."
ASKED = " Caption: a man in a suit sits at the desk, and"
STOP = "<unused0>"  # never said, so that every answer has all its tokens


def load() -> tuple[Any, Any]:
    """Gemma 3 270M in float32, as the captioner runs it, and its tokenizer."""
    folder = gemma_folder()
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, use_safetensors=True)
    return model.eval(), AutoTokenizer.from_pretrained(folder)


def intervention() -> Any:
    """`align` towards feminine words, whatever the picture."""
    from evenhand.mitigate.ala.picture.given import GivenSignal
    from evenhand.mitigate.ala.presets import align

    return align(signal=GivenSignal(-1.0))


class Bench:
    """One batch size: prompts, and one way to decode for each variant."""

    def __init__(self, model: Any, tokenizer: Any, rows: int, tokens: int, *, with_ala: bool) -> None:
        self.model, self.tokenizer, self.rows, self.tokens = model, tokenizer, rows, tokens
        self.ala: Any = intervention() if with_ala else None
        seen = tokenizer.encode(SEEN)  # with the start token
        asked = tokenizer.encode(ASKED, add_special_tokens=False)
        with torch.no_grad():
            self.prompt = model.get_input_embeddings()(torch.tensor([seen + asked] * rows))
        self.unseen = self.prompt.clone()
        picture = self.unseen[:, 1 : len(seen)]
        picture.copy_(torch.randn(picture.shape, generator=torch.Generator().manual_seed(0)) * picture.std())
        self.stop = frozenset({tokenizer.convert_tokens_to_ids(STOP)})
        self.moved = 0

    def decode(self, variant: str) -> float:
        """CPU seconds of one batch, hook and prompt included."""
        started = time.process_time()
        hook: Any = None
        continuation: Any = "emitted"
        if variant == "vdd":
            hook = ContrastiveHook([ReferencePass(self.model, {"inputs_embeds": self.unseen})], ContrastRule())
        elif variant == "ala":
            hook = self.ala.start([lambda: None] * self.rows, self.tokenizer, in_place=True)
            continuation = self.ala.continuation
        ids = decode_greedily(
            self.model,
            self.prompt,
            stop_ids=self.stop,
            max_new_tokens=self.tokens,
            hook=hook,
            continuation=continuation,
        )
        taken = time.process_time() - started
        if any(len(row) != self.tokens for row in ids):
            raise SystemExit(f"{variant}: an answer is shorter than {self.tokens} tokens; the times cannot be compared")
        if variant == "ala":
            self.moved = sum(len(edits) for edits in hook.edits(ids))
            if not self.moved:
                raise SystemExit("ala moved nothing, so its cost would not be seen; decode more tokens")
        return taken


def measure(bench: Bench, variants: tuple[str, ...], rounds: int) -> dict[str, list[float]]:
    """CPU seconds of every variant in every round but the first."""
    taken: dict[str, list[float]] = {variant: [] for variant in variants}
    for number in range(rounds + 1):
        order = list(variants) if number == 0 else random.Random(number).sample(variants, len(variants))  # noqa: S311
        spent = {variant: bench.decode(variant) for variant in order}
        if number:
            for variant, seconds in spent.items():
                taken[variant].append(seconds)
    return taken


def main(
    tokens: int = 48,
    rounds: int = 7,
    rows: str = "1,8",
    ala: Annotated[bool, typer.Option(help="Also time ALA.")] = True,
    out: Annotated[Path, typer.Option(help="Folder for the JSON.")] = Path("benchmarks/results"),
) -> None:
    """Measure, print a table, write JSON."""
    torch.set_num_threads(1)
    model, tokenizer = load()
    variants = VARIANTS if ala else VARIANTS[:2]
    result: dict[str, Any] = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "tokens": tokens,
        "rounds": rounds,
        "bar": BAR,
        "rows": [],
    }
    table = Table(
        "variant",
        "rows",
        "s a batch",
        "time over VDD",
        "rounds' range",
        "bar",
        "tokens moved",
        title="Decoding with Gemma 3 270M, CPU, one thread",
    )
    for number in (int(part) for part in rows.split(",")):
        bench = Bench(model, tokenizer, number, tokens, with_ala=ala)
        taken = measure(bench, variants, rounds)
        for variant in variants:
            ratios = [mine / vdd for mine, vdd in zip(taken[variant], taken["vdd"], strict=True)]
            row = {
                "variant": variant,
                "rows": number,
                "seconds": statistics.median(taken[variant]),
                "over_vdd": statistics.median(ratios),
                "lowest": min(ratios),
                "highest": max(ratios),
                "bar": BAR if variant == "ala" else None,
                "moved": bench.moved if variant == "ala" else None,
            }
            result["rows"].append(row)
            table.add_row(
                variant,
                str(number),
                f"{row['seconds']:.2f}",
                f"{row['over_vdd']:.3f}x",
                f"{row['lowest']:.3f} to {row['highest']:.3f}",
                f"{BAR:.2f}x" if variant == "ala" else "",
                "" if row["moved"] is None else str(row["moved"]),
            )
    Console().print(table)
    if ala:
        out.mkdir(parents=True, exist_ok=True)
        (out / "ala_vs_vdd.json").write_text(json.dumps(result, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    typer.run(main)
