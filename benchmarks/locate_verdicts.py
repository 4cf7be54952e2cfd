"""Whether a location finds the part that was made biased. In: the miniature's variants. Out: verdicts over seeds, JSON.

Each seed is a location of its own: other pictures, and labelled avatars that are rendered anew. Three variants: the
bias in gender was put in the language model (``language``), in the picture decoder (``decoder``), nowhere (``even``).

    python benchmarks/locate_verdicts.py [--variant language] [--seeds 20] [--first 0] [--pictures 48] [--asked 4]
        [--avatars 480] [--out FOLDER]
"""

import csv
import json
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Annotated

import torch
import typer

from evenhand.attributes import load_attribute
from evenhand.locate import LocationPlan, locate_bias
from evenhand.located import Located
from evenhand.miniature.avatars import Avatar, render_avatar
from evenhand.miniature.declared import AGES, CLOTHES, GENDERS, SKIN_TONES
from evenhand.pipeline.plans import ReadBy, ScoringPlan

WANTED = {"language": ("language model",), "decoder": ("picture decoder",), "even": ()}
PLAN = LocationPlan(ScoringPlan((ReadBy(load_attribute("gender"), "avatars"),)))


def labelled(folder: Path, people: int, seed: int) -> Path:
    """New avatars, as many of each gender and skin tone, with a label file; none that anything was trained on."""
    folder.mkdir(parents=True)
    with (folder / "labels.csv").open("w", newline="") as out:
        rows = csv.writer(out)
        rows.writerow(["file", "gender", "skin_tone"])
        for at in range(people):
            gender, skin = GENDERS[at % 2], SKIN_TONES[at // 2 % 3]
            own = Avatar(
                gender, skin, AGES[at // 48 % 4 == 0], CLOTHES[at // 6 % len(CLOTHES)], 10**7 + 1000 * seed + at
            )
            render_avatar(own).save(folder / f"{at}.png")
            rows.writerow([f"{at}.png", gender, skin])
    return folder / "labels.csv"


def told(found: Located) -> dict[str, object]:
    """What is kept of one location."""
    return {
        "attributed": list(found.attributed),
        "parts": {
            part.name: [part.verdict, *((part.size.value, part.size.low, part.size.high) if part.size else ())]
            for part in found.parts
        },
    }


def main(
    variant: str = "language",
    seeds: int = 20,
    first: int = 0,
    pictures: int = 48,
    asked: int = 4,
    avatars: int = 480,
    out: Annotated[Path | None, typer.Option(help="Keep the folders here.")] = None,
) -> None:
    """Locate again and again, and count."""
    torch.set_num_threads(1)
    rows, verdicts = [], Counter[str]()
    for seed in range(first, first + seeds):
        start = time.monotonic()
        with tempfile.TemporaryDirectory() as scratch:
            folder = (out or Path(scratch)) / f"{variant}-{seed}"
            source = labelled(Path(scratch) / "avatars", avatars, seed)
            found = locate_bias(
                f"miniature:{variant}",
                plan=PLAN,
                out=folder,
                pictures=pictures,
                asked=asked,
                answers=0,
                labelled=str(source),
                seed=seed,
                options={"batch_size": 64},
            )[0]
        rows.append({"seed": seed, **told(found), "seconds": round(time.monotonic() - start, 1)})
        right = found.attributed == WANTED[variant] and (
            variant != "even" or all(part.verdict == "no evidence" for part in found.parts)
        )
        verdicts["right" if right else "other"] += 1
        verdicts |= Counter({f"{part.name}: {part.verdict}": 0 for part in found.parts})
        verdicts.update(f"{part.name}: {part.verdict}" for part in found.parts)
        print(json.dumps(rows[-1]), flush=True)
    print(json.dumps({"variant": variant, "seeds": seeds, "pictures": pictures, **verdicts}, indent=1))


if __name__ == "__main__":
    typer.run(main)
