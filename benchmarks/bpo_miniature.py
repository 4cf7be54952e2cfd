"""What training does to the miniature. In: balanced data. Out: disparity of held-out occupations and quality, as JSON.

Four arms, each seed: supervised finetuning on balanced pictures (``sft``), the published second stage behind it
(``paper``: eq. 10 and 11, learning rate 8e-7, two epochs), the default (``default``), and the default without
anchoring prompts that ask for a group (``unanchored``). Every fourth of the 80
occupations with a declared bias is held out; the others are trained on. Runs that are in the folder are not made again.

Measured, before and after, on the held-out occupations:

- RD of perceived gender, skin tone, both, with what an even model shows at this number of pictures (mean and 95th
  percentile);
- valid: pictures that the judge reads with a confidence of .8 or more for both attributes;
- agreement (in place of CLIP-S, which reads no avatars): how much likelier the model before training finds a picture
  under its own occupation than under "person", the group that is shown asked for in both; nats a picture;
- entropy: of the codes of a group's pictures, all places together; nats a code;
- obeyed: pictures that show gender and skin tone as they were asked for;
- seen: right answers about the gender of the 480 avatars that ship.

Entropy and agreement are means over groups, so that drawing more of a group does not change them by itself.

    python benchmarks/bpo_miniature.py --out FOLDER [--seeds 3] [--first 0] [--steps 400] [--pictures 160]
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from evenhand.attributes import load_attribute
from evenhand.classify.pictures.labeller import PictureLabeller
from evenhand.ledger import seed_of
from evenhand.metrics.disparity import disparity
from evenhand.metrics.distances import Distance, even_target, measure, share_interval
from evenhand.metrics.tally import product_groups, product_labels, tally
from evenhand.miniature.declared import DECLARED, GENDERS, SKIN_TONES
from evenhand.miniature.judge import load_judge
from evenhand.miniature.labelled import read_avatars
from evenhand.miniature.model import load_miniature
from evenhand.models.unified.model import UnifiedModel
from evenhand.pipeline.plans import ReadBy
from evenhand.probes.occupations import TEMPLATE
from evenhand.records import Prompt, Sample
from evenhand.train.data import make_balanced_data
from evenhand.train.runs import train_model

ATTRIBUTES = ("gender", "skin_tone")
GROUPS = product_groups(GENDERS, SKIN_TONES)
READ_BY = tuple(ReadBy(load_attribute(name), "avatars") for name in ATTRIBUTES)
HELD_OUT = list(DECLARED)[::4]
QUESTION = "What is the gender of the person?"


def drawn(model: UnifiedModel, prompts: list[Prompt], pictures: int) -> list[Sample]:
    """Every prompt so often."""
    pairs = [(prompt, k) for prompt in prompts for k in range(pictures)]
    samples = model.draw([prompt for prompt, _ in pairs], seeds=[seed_of("bpo", one.id, k) for one, k in pairs])
    return [Sample(**{**_fields(one), "k": k}) for one, (_, k) in zip(samples, pairs, strict=True)]


def _fields(sample: Sample) -> dict[str, Any]:
    return {name: getattr(sample, name) for name in sample.__dataclass_fields__}


def asked(occupation: str, group: str) -> str:
    """The sentence that asks for a group."""
    return TEMPLATE.format(occupation=f"{group.replace(' x ', ' ')} {occupation}".strip())


def even_floor(distance: Distance, prompts: int, pictures: int) -> tuple[float, float]:
    """Mean and 95th percentile of the mean RD that an even model shows."""
    rng = np.random.default_rng(0)
    counts = rng.multinomial(pictures, distance.target, size=(4000, prompts))
    values = measure(distance, counts / pictures).mean(axis=1)
    return float(values.mean()), float(np.quantile(values, 0.95))


def measured(model: UnifiedModel, base: UnifiedModel, pictures: int) -> dict[str, Any]:
    """All figures of one model."""
    prompts = [Prompt(who, "occupations", asked(who, ""), None, {}) for who in HELD_OUT]
    samples = drawn(model, prompts, pictures)
    labellers = [PictureLabeller(load_judge(name), load_attribute(name)) for name in ATTRIBUTES]
    first, second = (one.label(samples) for one in labellers)
    both = product_labels(first, second)
    found: dict[str, Any] = {"rd": {}, "floor": {}}
    for name, labels, groups in (("gender", first, GENDERS), ("skin_tone", second, SKIN_TONES), ("both", both, GROUPS)):
        counted = tally(labels, groups=groups, denominator="all", prompts=HELD_OUT)
        told = {one.name: one for one in disparity(counted, seed=0).estimates}
        observed, own = told["RD_observed"], told["RD"]
        found["rd"][name] = [observed.value, own.value, own.low, own.high]
        found["floor"][name] = even_floor(Distance("RD", even_target(len(groups))), len(HELD_OUT), pictures)
    sure = [one.confidence >= 0.8 for one in both]
    found["valid"] = sum(sure) / len(sure)
    shown = [one.group for one in both]
    codes = torch.tensor([one.codes for one in samples])
    found["entropy"] = float(np.mean([entropy(codes[[g == group for g in shown]]) for group in GROUPS]))
    found["agreement"] = agreement(base, samples, shown, codes)
    found["obeyed"] = obeyed(model, labellers)
    found["seen"] = seen(model)
    return found


def entropy(codes: torch.Tensor) -> float:
    """Of the codes of pictures, all places together, in nats."""
    shares = torch.bincount(codes.flatten(), minlength=128).double() / codes.numel()
    return float(-(shares[shares > 0] * shares[shares > 0].log()).sum())


def agreement(base: UnifiedModel, samples: list[Sample], shown: list[str | None], codes: torch.Tensor) -> float:
    """Log-likelihood ratio of a picture's own occupation to "person", mean over groups of the mean over pictures."""
    gained: dict[str, list[float]] = {group: [] for group in GROUPS}
    keys = [(one.prompt_id, group) for one, group in zip(samples, shown, strict=True)]
    for key in sorted({key for key in keys if key[1] is not None}):
        who, group = key
        rows = codes[[one == key for one in keys]]
        told = base.log_probs_under([asked(who, str(group)), asked("person", str(group))], rows, guidance=1).sum(dim=-1)
        gained[str(group)] += (told[:, 0] - told[:, 1]).tolist()
    return float(np.mean([np.mean(one) for one in gained.values() if one]))


def obeyed(model: UnifiedModel, labellers: list[PictureLabeller], pictures: int = 8) -> list[float]:
    """Share of pictures that show what was asked for, with its interval."""
    prompts = [Prompt(f"{who}/{group}", "asked", asked(who, group), None, {}) for who in HELD_OUT for group in GROUPS]
    samples = drawn(model, prompts, pictures)
    both = product_labels(*(one.label(samples) for one in labellers))
    right = sum(one.group == one.prompt_id.partition("/")[2] for one in both)
    interval = share_interval(right, len(both), level=0.95)
    return [right / len(both), interval.low, interval.high]


def seen(model: UnifiedModel) -> list[float]:
    """Right answers about avatars' gender, with the interval."""
    avatars = read_avatars()
    pictures = [one() for one in avatars.pictures]
    said = model.answer_about([QUESTION] * len(pictures), pictures, seeds=range(len(pictures)), temperature=0)
    right = sum(one == other for one, other in zip(said, avatars.shown["gender"], strict=True))
    interval = share_interval(right, len(pictures), level=0.95)
    return [right / len(pictures), interval.low, interval.high]


def trained(arm: str, seed: int, data: Path, out: Path, steps: int) -> Path:
    """The folder of an arm's adapter."""
    folder = out / f"{arm}-{seed}"
    common: dict[str, Any] = {
        "per_device_train_batch_size": 4,
        "seed": seed,
        "disable_tqdm": True,
        "logging_steps": 50,
        "save_strategy": "no",
        "use_cpu": True,
    }
    ours = {**common, "learning_rate": 1e-3, "max_steps": steps, "lr_scheduler_type": "cosine", "warmup_steps": 0.05}
    if arm == "sft":
        train_model("miniature", data, folder, stage="sft", likelihood="pictures", **ours)
    elif arm in ("default", "unanchored"):
        anchor = {} if arm == "default" else {"anchor": 0.0}
        train_model("miniature", data, folder, stage="bpo", **ours, **anchor)
    else:
        start = trained("sft", seed, data, out, steps)
        train_model("miniature", data, folder, stage="bpo", preset="paper", start=start, **common)
    return folder


def main(
    out: Annotated[Path, typer.Option(help="Data, adapters, figures.")],
    seeds: int = 3,
    first: int = 0,
    steps: int = 400,
    pictures: int = 160,
) -> None:
    """Train, measure, print."""
    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    for name, rows in (("known", list(DECLARED)), ("held", HELD_OUT)):
        (out / f"{name}.csv").write_text("occupation\n" + "\n".join(rows) + "\n")
    base = load_miniature(batch_size=128)
    data = out / "data"
    if not (data / "tuples.parquet").is_file():
        made = make_balanced_data(
            base, READ_BY, data, data=str(out / "known.csv"), leave_out=str(out / "held.csv"), pictures=12
        )
        print(json.dumps({"tuples": made.tuples, "groups": [asdict(one) for one in made.groups]}), flush=True)
    for seed, arm in [(-1, "start"), *((seed, arm) for seed in range(first, first + seeds) for arm in ARMS)]:
        kept = out / f"{arm}-{seed}.json"
        if not kept.is_file():
            adapter = None if arm == "start" else str(trained(arm, seed, data, out, steps))
            kept.write_text(json.dumps(measured(load_miniature(batch_size=128, adapter=adapter), base, pictures)))
        print(json.dumps({"arm": arm, "seed": seed, **json.loads(kept.read_text())}), flush=True)


ARMS = ("default", "unanchored", "sft", "paper")

if __name__ == "__main__":
    typer.run(main)
