"""What `neutral` does to a text-only language model. In: Winogender's sentences. Out: two tables and JSON.

Gemma 3 270M (base) reads neutral beginnings that name an occupation: "The nurse said that", and Winogender's own
sentences cut before their pronoun. Measured with and without `neutral`, as for sampling: |P(he) - P(she)| of the next
token per occupation, and the KL divergence of everything else (all tokens that are neither a listed word nor a neutral
form), at that token and at every step of the plain continuation. Then two attributes at once, gender and age: what
each takes from its own words alone and together.

    python benchmarks/ala_on_text.py --sentences winogender.tsv [--steps 16] [--out benchmarks/results]
"""

import csv
import json
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from evenhand.attributes import load_attribute
from evenhand.mitigate.ala.ala import Ala, Several
from evenhand.mitigate.ala.presets import neutral
from evenhand.models.gemma import gemma_folder

BATCH = 12
REST_BAR, GAP_BAR, TOGETHER_BAR = 0.01, 0.9, 0.1
_THEY = re.compile(r"\bthey\b")


def beginnings(path: Path) -> dict[str, list[tuple[str, str]]]:
    """Two sets of (occupation, beginning): one of ours per occupation, and Winogender's where `they` comes next."""
    ours, theirs = {}, []
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            occupation = row["sentid"].split(".")[0]
            ours[occupation] = f"The {occupation} said that"
            found = _THEY.search(row["sentence"])
            if ".neutral." in row["sentid"] and found:
                theirs.append((occupation, row["sentence"][: found.start()].rstrip()))
    return {"The ... said that": sorted(ours.items()), "Winogender": theirs}


class Gemma:
    """The language model, and its distributions with and without a mitigation."""

    def __init__(self) -> None:
        folder = gemma_folder()
        self.tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
        self.lm = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    @torch.inference_mode()
    def continuations(self, texts: Sequence[str], steps: int) -> tuple[Tensor, Tensor, int]:
        """Left-padded ids with the plain greedy continuation behind them, their mask, and the prompts' length."""
        given = self.tokenizer(list(texts), return_tensors="pt", padding=True)
        ids = self.lm.generate(**given, max_new_tokens=steps, min_new_tokens=steps, do_sample=False)
        length = given["input_ids"].shape[1]
        mask = torch.cat([given["attention_mask"], torch.ones(len(ids), ids.shape[1] - length, dtype=torch.long)], 1)
        return ids, mask, length

    @torch.inference_mode()
    def logits(self, ids: Tensor, mask: Tensor, start: int) -> Tensor:
        """Logits of every next token from the last one of the prompt on: (rows, steps, vocabulary)."""
        kept = ids.shape[1] - start + 1
        return self.lm(input_ids=ids, attention_mask=mask, logits_to_keep=kept).logits[:, :-1].float()

    def moved(self, mode: Ala | Several, ids: Tensor, start: int, logits: Tensor) -> Tensor:
        """The same logits after a mitigation, each step given the plain text before it."""
        hook = mode.start([lambda: None] * len(ids), self.tokenizer, decoding="sampling")
        steps = logits.shape[1]
        return torch.stack([hook(ids[:, : start + t], logits[:, t]) for t in range(steps)], dim=1)


def rest_kl(p: Tensor, q: Tensor, listed: Tensor) -> Tensor:
    """KL(q || p) in nats of the tokens that are not listed, among themselves."""
    rest = torch.ones(p.shape[-1], dtype=torch.bool)
    rest[listed] = False
    p, q = (x[..., rest].double() / x[..., rest].double().sum(-1, keepdim=True) for x in (p, q))
    return (q * (q.clamp(min=1e-300).log() - p.clamp(min=1e-300).log())).sum(-1)


def gap_rows(gemma: Gemma, pairs: list[tuple[str, str]], steps: int) -> dict[str, Any]:
    """The gap per occupation before and after, and the KL of the rest at every step."""
    mode = neutral()
    listed = mode.weights_for(gemma.tokenizer).token_ids
    he, she = (gemma.tokenizer.encode(word, add_special_tokens=False)[0] for word in (" he", " she"))
    gaps: dict[str, list[tuple[float, float]]] = defaultdict(list)
    spent, opened = [], 0
    for i in range(0, len(pairs), BATCH):
        part = pairs[i : i + BATCH]
        ids, mask, start = gemma.continuations([text for _, text in part], steps)
        logits = gemma.logits(ids, mask, start)
        moved = gemma.moved(mode, ids, start, logits)
        opened += int((moved != logits).any(-1).sum())
        p, q = logits.softmax(-1), moved.softmax(-1)
        spent += rest_kl(p, q, listed).flatten().tolist()
        for row, (occupation, _) in enumerate(part):
            pair = [float((x[row, 0, he] - x[row, 0, she]).abs()) for x in (p, q)]
            gaps[occupation].append((pair[0], pair[1]))
    per_occupation = np.array([np.mean(values, axis=0) for values in gaps.values()])
    draws = np.random.default_rng(0).dirichlet(np.ones(len(per_occupation)), 2000) @ per_occupation
    reduced = 1 - draws[:, 1] / draws[:, 0]
    means = per_occupation.mean(axis=0)
    return {
        "beginnings": len(pairs),
        "occupations": len(per_occupation),
        "gap_before": means[0],
        "gap_after": means[1],
        "reduction": 1 - means[1] / means[0],
        "reduction_interval": np.percentile(reduced, [2.5, 97.5]).tolist(),
        "steps": len(spent),
        "steps_opened": opened,
        "rest_kl_mean": float(np.mean(spent)),
        "rest_kl_largest": float(np.max(spent)),
    }


def together(gemma: Gemma, texts: Sequence[str], steps: int) -> dict[str, Any]:
    """How much probability each attribute takes from its words over all steps, alone and with the other."""
    modes = {name: neutral(load_attribute(name)) for name in ("gender", "age")}
    arms = {**modes, "both": Several(*modes.values())}
    carried = {}
    for name, mode in modes.items():
        weights = mode.weights_for(gemma.tokenizer)
        carried[name] = weights.token_ids[weights.weight[0] > 0]
    mass: dict[tuple[str, str], float] = defaultdict(float)
    for i in range(0, len(texts), BATCH):
        ids, mask, start = gemma.continuations(texts[i : i + BATCH], steps)
        logits = gemma.logits(ids, mask, start)
        for arm in ("plain", *arms):
            moved = logits if arm == "plain" else gemma.moved(arms[arm], ids, start, logits)
            p = moved.softmax(-1)
            for name, tokens in carried.items():
                mass[arm, name] += float(p[..., tokens].sum())
    found: dict[str, Any] = {}
    for name in modes:
        taken = {arm: 1 - mass[arm, name] / mass["plain", name] for arm in (name, "both")}
        found[name] = {"mass_plain": mass["plain", name], "alone": taken[name], "both": taken["both"]}
    return found


def main(
    sentences: Annotated[Path, typer.Option(help="Winogender's all_sentences.tsv.")],
    steps: Annotated[int, typer.Option(min=1, help="Tokens of each continuation.")] = 16,
    out: Annotated[Path, typer.Option(help="Folder for the JSON.")] = Path("benchmarks/results"),
) -> None:
    """Measure, print the tables, write JSON."""
    gemma, sets = Gemma(), beginnings(sentences)
    result: dict[str, Any] = {"bars": {"reduction": GAP_BAR, "rest_kl": REST_BAR, "together": TOGETHER_BAR}}
    table = Table("beginnings", "occupations", "gap before", "after", "reduction", "steps opened", "rest KL, largest")
    for name, pairs in sets.items():
        row = gap_rows(gemma, pairs, steps)
        result[name] = row
        low, high = row["reduction_interval"]
        table.add_row(
            f"{name} ({row['beginnings']})",
            str(row["occupations"]),
            f"{row['gap_before']:.4f}",
            f"{row['gap_after']:.5f}",
            f"{row['reduction']:.1%} [{low:.1%}, {high:.1%}]",
            f"{row['steps_opened']} of {row['steps']}",
            f"{row['rest_kl_largest']:.1e}",
        )
    Console().print(table)
    texts = [f"{text} the" for _, text in sets["The ... said that"]]
    result["together"] = together(gemma, texts, steps)
    both = Table("attribute", "mass of its words, plain", "taken alone", "taken with the other")
    for name, row in result["together"].items():
        both.add_row(name, f"{row['mass_plain']:.2f}", f"{row['alone']:.1%}", f"{row['both']:.1%}")
    Console().print(both)
    out.mkdir(parents=True, exist_ok=True)
    (out / "ala_on_text.json").write_text(json.dumps(result, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    typer.run(main)
