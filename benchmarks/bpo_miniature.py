"""What training does to the miniature. In: nothing. Out: a study of all arms with quality of its own, as JSON.

Every fourth of the 80 occupations with a declared bias is held out; the others are drawn with every group of perceived
gender x skin tone put in, and what the judge confirms is trained on. Then ``evenhand study bpo``: 800 steps of 4
tuples, learning rate 1e-3, 160 pictures of each held-out occupation. What is in the folder is not made again; several
processes may work on different arms.

Beside what a study measures, from the pictures of its runs:

- agreement (in place of CLIP-S, which reads no avatars): how much likelier the model before training finds a picture
  under its own occupation than under "person", the group that is shown asked for in both; nats a picture, with the
  interval of a mean over independent pictures;
- entropy: of the codes of a group's pictures, all places together; nats a code.

Both are means over groups, so that drawing more of a group does not change them by itself.

    python benchmarks/bpo_miniature.py --out FOLDER [--arms sft,paper,bpo] [--seeds 0,1,2] [--guidance 1,3,5]
    python benchmarks/bpo_miniature.py --out FOLDER --arms bpo --seeds 0 --trained-at 3 --drawn-at 3 --name at-3-of-3
    python benchmarks/bpo_miniature.py --out FOLDER --arms bpo --seeds 0 --trained-at 3 --asked-at 1 --name at-3
"""

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from evenhand.attributes import load_attribute
from evenhand.ledger import Ledger
from evenhand.metrics.distances import Distance, even_target, measure
from evenhand.metrics.tally import product_groups, product_labels
from evenhand.miniature.declared import DECLARED, GENDERS, SKIN_TONES
from evenhand.miniature.labelled import read_avatars
from evenhand.miniature.model import load_miniature
from evenhand.models.unified.model import UnifiedModel
from evenhand.pipeline.picture_runs import score_run
from evenhand.pipeline.plans import ReadBy, ScoringPlan
from evenhand.probes.occupations import TEMPLATE
from evenhand.report.study import write_study
from evenhand.train.data import make_balanced_data
from evenhand.train.study import run_study

ATTRIBUTES = ("gender", "skin_tone")
GROUPS = product_groups(GENDERS, SKIN_TONES)
READ_BY = tuple(ReadBy(load_attribute(name), "avatars") for name in ATTRIBUTES)
HELD_OUT = list(DECLARED)[::4]


def asked(occupation: str, group: str) -> str:
    """The sentence that asks for a group."""
    return TEMPLATE.format(occupation=f"{group.replace(' x ', ' ')} {occupation}".strip())


def even_floor(groups: int, prompts: int, pictures: int) -> tuple[float, float]:
    """Mean and 95th percentile of the mean RD that an even model shows."""
    distance = Distance("RD", even_target(groups))
    counts = np.random.default_rng(0).multinomial(pictures, distance.target, size=(4000, prompts))
    values = measure(distance, counts / pictures).mean(axis=1)
    return float(values.mean()), float(np.quantile(values, 0.95))


def quality(run: Path, base: UnifiedModel) -> dict[str, list[float]]:
    """Entropy and agreement of a run's pictures."""
    scored = score_run(run)
    both = product_labels(*(scored.labels[name] for name in ATTRIBUTES))
    shown = [one.group for one in both]
    samples = list(Ledger.open(run).samples(pictures=False))
    assert [(one.prompt_id, one.k) for one in samples] == [(one.prompt_id, one.k) for one in both]
    codes = torch.tensor([one.codes for one in samples])
    who = {one.id: one.facts["occupation"] for one in scored.prompts}
    gained: dict[str, list[float]] = {group: [] for group in GROUPS}
    keys = [(who[one.prompt_id], group) for one, group in zip(samples, shown, strict=True)]
    for occupation, group in sorted({one for one in keys if one[1] is not None}):
        rows = codes[[one == (occupation, group) for one in keys]]
        told = base.log_probs_under([asked(occupation, group), asked("person", group)], rows, guidance=1).sum(dim=-1)
        gained[group] += (told[:, 0] - told[:, 1]).tolist()
    groups = [np.array(one) for one in gained.values() if len(one) > 1]
    mean = float(np.mean([one.mean() for one in groups]))
    half = 1.96 * float(np.sqrt(sum(one.var(ddof=1) / len(one) for one in groups))) / len(groups)
    return {
        "entropy": [float(np.mean([entropy(codes[[one == group for one in shown]]) for group in GROUPS]))],
        "agreement": [mean, mean - half, mean + half],
    }


def entropy(codes: torch.Tensor) -> float:
    """Of the codes of pictures, all places together, in nats."""
    shares = torch.bincount(codes.flatten(), minlength=128).double() / codes.numel()
    return float(-(shares[shares > 0] * shares[shares > 0].log()).sum())


def avatars() -> dict[str, list[Any]]:
    """All that ship, with what each shows."""
    found = read_avatars()
    return {name: list(zip(found.pictures, found.shown[name], strict=True)) for name in ATTRIBUTES}


def main(
    out: Annotated[Path, typer.Option(help="Data, adapters, pictures, figures.")],
    arms: str = "start,prompt,understanding,sft,paper,bpo",
    seeds: str = "0,1,2",
    guidance: str = "1,3,5",
    steps: int = 800,
    anchor: Annotated[float, typer.Option(help="Share of tuples under prompts that ask.")] = 0.25,
    name: Annotated[str, typer.Option(help="Of the study's folder.")] = "study",
    drawn_at: Annotated[float, typer.Option(help="Guidance weight of the pictures that are trained on.")] = 1.0,
    trained_at: Annotated[float, typer.Option(help="That at which `bpo` is trained.")] = 1.0,
    asked_at: Annotated[float | None, typer.Option(help="That of the model before; as trained.")] = None,
) -> None:
    """Train, draw, measure, print."""
    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    held = out / "held.csv"
    for place, rows in ((out / "known.csv", list(DECLARED)), (held, HELD_OUT)):
        place.write_text("occupation\n" + "\n".join(rows) + "\n")
    base = load_miniature(batch_size=128)
    data = out / ("data" if drawn_at == 1 else f"data-{drawn_at:g}")
    if not (data / "tuples.parquet").is_file():
        drawing = load_miniature(batch_size=128, guidance=drawn_at)
        make_balanced_data(drawing, READ_BY, data, data=str(out / "known.csv"), leave_out=str(held), pictures=12)
    folder = out / name
    found = run_study(
        "miniature",
        data,
        folder,
        held_out=str(held),
        plan=ScoringPlan(READ_BY, denominator="all"),
        arms=arms.split(","),
        seeds=[int(one) for one in seeds.split(",")],
        guidances=[float(one) for one in guidance.split(",")],
        options={"batch_size": "128"},
        seen=avatars(),
        per_device_train_batch_size=4,
        learning_rate=1e-3,
        max_steps=steps,
        lr_scheduler_type="cosine",
        warmup_steps=0.05,
        anchor=anchor,
        guidance=trained_at,
        **({} if asked_at is None else {"reference_guidance": asked_at}),
        save_strategy="no",
        logging_steps=100,
        disable_tqdm=True,
        use_cpu=True,
    )
    write_study(found, folder, title="What mitigates the bias of the miniature")
    table: dict[str, Any] = {"command": "python benchmarks/bpo_miniature.py --out FOLDER", "steps": steps, "cells": []}
    table["even model, mean and 95th percentile"] = {
        kind: even_floor(len(groups), len(HELD_OUT), found.samples)
        for kind, groups in (("gender", GENDERS), ("skin_tone", SKIN_TONES), ("gender x skin_tone", GROUPS))
    }
    for cell in found.cells:
        told = {key: [one.value, one.low, one.high] for key, one in cell.values.items()}
        told |= quality(folder / cell.run, base)
        table["cells"].append({"arm": cell.arm, "seed": cell.seed, "guidance": cell.guidance, **told})
    print(json.dumps(table, indent=1))


if __name__ == "__main__":
    typer.run(main)
