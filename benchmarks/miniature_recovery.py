"""Whether an audit finds what the miniature was taught. In: the miniature. Out: declared against measured, as JSON.

Each variant draws its pictures through the adapter, the probe ``occupations`` and a run folder, as any model does.
Then, for perceived gender and skin tone: in how many occupations the declared Representation Disparity, and in how many
the declared share of the first group, lie in their 95 % intervals. Beside it: how sure the judge is, how often it is
right about new avatars that went through the model's codes, and answers about a blank picture against the declared.
With ``--perfect AUDITS`` nothing is drawn by a model: pictures are counted from the declared shares themselves.

    python benchmarks/miniature_recovery.py [--pictures 160] [--seeds 1] [--first 0] [--table] [--out FOLDER]
    python benchmarks/miniature_recovery.py --perfect 20
"""

import itertools
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from PIL import Image

from evenhand.attributes import load_attribute
from evenhand.classify.pictures.labeller import PictureLabeller
from evenhand.ledger import Ledger
from evenhand.metrics.disparity import disparity
from evenhand.metrics.tally import tally_counts
from evenhand.miniature.avatars import Avatar, render_avatar
from evenhand.miniature.declared import AGES, CLOTHES, DECLARED, GENDERS, SKIN_TONES, declared_answers, declared_shares
from evenhand.miniature.judge import load_judge
from evenhand.miniature.model import FOLDERS, load_miniature
from evenhand.models.unified.model import UnifiedModel
from evenhand.pipeline.answers import ask_about_nobody
from evenhand.pipeline.drawing import draw
from evenhand.pipeline.pictures import score_pictures

ATTRIBUTES = ("gender", "skin_tone")


def declared_disparity(shares: Sequence[float]) -> float:
    """Mean absolute difference over pairs of groups."""
    return float(np.mean([abs(one - other) for one, other in itertools.combinations(shares, 2)]))


def recovered(run: Path, variant: str) -> dict[str, float]:
    """Shares of occupations whose declared value lies in the interval, errors of shares, the judge's confidence."""
    labellers = [PictureLabeller(load_judge(name), load_attribute(name)) for name in ATTRIBUTES]
    scored = score_pictures(run, labellers)
    found: dict[str, float] = {}
    for name in ATTRIBUTES:
        disparity_in, share_in, errors = [], [], []
        for prompt in scored.prompts:
            wanted = declared_shares(prompt.facts["occupation"], name, variant=variant)
            estimates = {one.name: one for one in scored.per_prompt[name][prompt.id]}
            truth, rd = declared_disparity(wanted), estimates["RD"]
            disparity_in.append(rd.low <= truth <= rd.high)
            first = estimates[f"share {scored.groups[name][0]}"]
            share_in.append(first.low <= wanted[0] <= first.high)
            errors.append(abs(first.value - wanted[0]))
        mean = next(one for one in scored.estimates[name] if one.name == "RD")
        truths = [
            declared_disparity(declared_shares(p.facts["occupation"], name, variant=variant)) for p in scored.prompts
        ]
        found |= {
            f"{name}: declared RD in its interval": float(np.mean(disparity_in)),
            f"{name}: declared share in its interval": float(np.mean(share_in)),
            f"{name}: mean absolute error of a share": float(np.mean(errors)),
            f"{name}: declared mean RD": float(np.mean(truths)),
            f"{name}: measured mean RD": mean.value,
            f"{name}: low": mean.low,
            f"{name}: high": mean.high,
            f"{name}: confidence of the judge": float(np.mean([one.confidence for one in scored.labels[name]])),
        }
    return found


def judged(model: UnifiedModel, *, people: int, seed: int) -> dict[str, float]:
    """Share of new avatars, through codes and back, that the judge reads rightly."""
    drawn = np.random.default_rng(seed)
    sizes = (len(GENDERS), len(SKIN_TONES), len(AGES), len(CLOTHES))
    rows = [[int(drawn.integers(size)) for size in sizes] for _ in range(people)]
    avatars = [
        Avatar(GENDERS[g], SKIN_TONES[s], AGES[a], CLOTHES[c], int(drawn.integers(2**40))) for g, s, a, c in rows
    ]
    pixels = model.decode(model.encode([render_avatar(one) for one in avatars]))
    levels = (pixels * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    pictures = [Image.fromarray(one) for one in levels]
    shares = {}
    for name, place in zip(ATTRIBUTES, (0, 1), strict=True):
        said = [int(np.argmax(one.shares or ())) for one in load_judge(name).read(pictures)]
        shares[f"{name}: judge right"] = float(np.mean([a == row[place] for a, row in zip(said, rows, strict=True)]))
    return shares


def answered(model: UnifiedModel, variant: str, data: str, *, samples: int, seed: int) -> dict[str, float]:
    """Mean absolute difference of answered and declared shares, and what noise alone gives."""
    errors, noise = [], []
    with tempfile.TemporaryDirectory() as folder:
        run = ask_about_nobody(
            model, data=data, out=folder, attribute=load_attribute("gender"), samples=samples, seed=seed
        )
        ledger = Ledger.open(run)
        said = {(one.prompt_id, one.k): (one.text or "").strip() for one in ledger.samples()}
        for prompt in ledger.prompts():
            texts = [said[prompt.id, k] for k in range(samples)]
            for word, share in zip(
                (*GENDERS, "unknown"), declared_answers(prompt.facts["occupation"], variant=variant), strict=True
            ):
                errors.append(abs(texts.count(word) / samples - share))
                noise.append((share * (1 - share) / samples * 2 / np.pi) ** 0.5)
    return {"answers: mean absolute error of a share": float(np.mean(errors)), "answers: noise": float(np.mean(noise))}


def recovered_from_shares(name: str, variant: str, *, pictures: int, audits: int) -> float:
    """Share of the 50 occupations whose declared RD lies in the interval, where pictures have the declared shares."""
    drawn, inside = np.random.default_rng(0), []
    wanted = {who: declared_shares(who, name, variant=variant) for who in list(DECLARED)[:50]}
    for audit in range(audits):
        counts = {who: drawn.multinomial(pictures, shares).tolist() for who, shares in wanted.items()}
        groups = load_attribute(name).groups
        for prompt in disparity(tally_counts(counts, groups=groups), seed=audit).prompts:
            found = next(one for one in prompt.estimates if one.name == "RD")
            inside.append(found.low <= declared_disparity(wanted[prompt.prompt_id]) <= found.high)
    return float(np.mean(inside))


def together(rows: Sequence[dict[str, object]]) -> dict[str, float]:
    """Mean coverage of each variant over its audits, per attribute and over both."""
    found = {}
    for variant in dict.fromkeys(str(row["variant"]) for row in rows):
        own = [row for row in rows if row["variant"] == variant]
        held = {
            name: float(np.mean([row[f"{name}: declared RD in its interval"] for row in own])) for name in ATTRIBUTES
        }
        found |= {f"{variant}, {name}": one for name, one in held.items()}
        found[f"{variant}, both"] = float(np.mean(list(held.values())))
    return found


def main(
    pictures: Annotated[int, typer.Option(min=1)] = 160,
    seeds: Annotated[int, typer.Option(min=1)] = 1,
    first: Annotated[int, typer.Option(min=0, help="The first of the seeds.")] = 0,
    table: Annotated[bool, typer.Option(help="All 80 occupations of the table instead of the 50 test ones.")] = False,
    variant: Annotated[str, typer.Option(help="One variant; both by default.")] = "",
    perfect: Annotated[int, typer.Option(min=0, help="Audits of the declared shares themselves, instead.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder for the JSON.")] = None,
) -> None:
    """Draw, score, print, store."""
    if perfect:
        for name, attribute in itertools.product([variant] if variant else list(FOLDERS), ATTRIBUTES):
            held = recovered_from_shares(attribute, name, pictures=pictures, audits=perfect)
            print(f"{name:10} {attribute:10} declared RD in its interval {held:.3f}", flush=True)
        return
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as scratch:
        data = "test"
        if table:
            data = str(Path(scratch) / "table.txt")
            Path(data).write_text("\n".join(DECLARED) + "\n")
        for name, seed in itertools.product([variant] if variant else list(FOLDERS), range(first, first + seeds)):
            model = load_miniature(name, batch_size=160)
            run = draw(
                model, probe="occupations", data=data, out=f"{scratch}/{name}-{seed}", samples=pictures, seed=seed
            )
            row: dict[str, object] = {"variant": name, "seed": seed, "pictures": pictures, **recovered(run, name)}
            row |= {**answered(model, name, data, samples=100, seed=seed)}
            if name == "language":
                row |= judged(model, people=600, seed=seed)
            rows.append(row)
            for key, value in row.items():
                print(f"{key:52} {value:.4f}" if isinstance(value, float) else f"{key:52} {value}", flush=True)
    print(json.dumps(together(rows), indent=1))
    if out:
        out.mkdir(parents=True, exist_ok=True)
        held = {"occupations": len(DECLARED) if table else 50, "together": together(rows), "runs": rows}
        (out / f"miniature_recovery{variant and '_' + variant}.json").write_text(json.dumps(held, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
