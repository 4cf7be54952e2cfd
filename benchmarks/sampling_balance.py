"""What balancing while drawing does, and what it costs. In: the miniature. Out: RD, quality and time, as JSON.

Perceived gender and skin tone are balanced as their product, evenly, at several strengths, with groups planned and with
a quota (the judge's readings after every batch). Each row is a run of its own through the ledger, as any audit is; the
untouched model is one of them, drawn first and last in the same process, and time is against the mean of both. Quality
is the share of pictures that the judge reads with a confidence of .8 or more, for both attributes.

    python benchmarks/sampling_balance.py [--occupations 12] [--pictures 80] [--batch 16] [--out benchmarks/results]
"""

import json
import platform
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table

from evenhand.attributes import load_attribute
from evenhand.classify.pictures.labeller import PictureLabeller
from evenhand.miniature.declared import DECLARED
from evenhand.miniature.judge import load_judge
from evenhand.miniature.model import load_miniature
from evenhand.mitigate.sampling import BalancedModel
from evenhand.models.protocol import ImageModel
from evenhand.pipeline.drawing import draw, run_name
from evenhand.pipeline.pictures import score_pictures
from evenhand.records import ScoredPictures

ATTRIBUTES = tuple(load_attribute(name) for name in ("gender", "skin_tone"))
PRODUCT = "gender x skin_tone"
SURE = 0.8
STRENGTHS = (0.5, 1.0, 1.5)


@dataclass(frozen=True, slots=True)
class Row:
    """One run.

    Attributes:
        model: What drew.
        strength: s; 0 is the model as it is.
        quota: Whether readings decide the next group.
        rd: Attribute -> RD, its interval, and RD of the very counts, mean over occupations.
        sure: Share of pictures read with confidence.
        ms: Milliseconds a picture, drawing and storing, and reading where there is a quota.
    """

    model: str
    strength: float
    quota: bool
    rd: dict[str, tuple[float, float, float, float]]
    sure: float
    ms: float


def labellers() -> list[PictureLabeller]:
    """The judge, for each attribute."""
    return [PictureLabeller(load_judge(one.name), one) for one in ATTRIBUTES]


def found(scored: ScoredPictures, attribute: str) -> tuple[float, float, float, float]:
    """RD, its interval, RD_observed."""
    by_name = {one.name: one for one in scored.estimates[attribute]}
    rd = by_name["RD"]
    return rd.value, rd.low, rd.high, by_name["RD_observed"].value


def measured(model: ImageModel, strength: float, data: Path, out: Path, pictures: int, *, quota: bool) -> Row:
    """Draw a run and score it."""
    began = time.perf_counter()
    run = draw(model, probe="occupations", data=data, out=out, samples=pictures)
    took = time.perf_counter() - began
    scored = score_pictures(run, labellers())
    sure = [
        min(one.confidence for one in pair) >= SURE
        for pair in zip(*(scored.labels[one.name] for one in ATTRIBUTES), strict=True)
    ]
    rd = {name: found(scored, name) for name in (*(one.name for one in ATTRIBUTES), PRODUCT)}
    return Row(model.name, strength, quota, rd, sum(sure) / len(sure), 1000 * took / len(scored.samples))


def all_rows(data: Path, scratch: Path, pictures: int, batch: int, guidance: float) -> list[Row]:
    """The untouched model, every strength planned and with a quota, the untouched model again."""
    model = load_miniature(batch_size=batch, guidance=guidance)
    draw(model, probe="occupations", data=data, out=scratch / "warm", samples=4)
    rows = [measured(model, 0, data, scratch / "first", pictures, quota=False)]
    for strength in STRENGTHS:
        planned = BalancedModel(model, ATTRIBUTES, strength=strength, run=run_name("occupations", 0))
        rows.append(measured(planned, strength, data, scratch / f"{strength}", pictures, quota=False))
        fed = BalancedModel(model, ATTRIBUTES, strength=strength, labeller=labellers())
        rows.append(measured(fed, strength, data, scratch / f"{strength}-quota", pictures, quota=True))
    return [*rows, measured(model, 0, data, scratch / "last", pictures, quota=False)]


def shown(rows: list[Row], base: float, title: str) -> Table:
    """The rows as a table."""
    table = Table(title=title)
    for column in ("s", "quota", "RD gender", "RD gender x skin tone", "read with .8", "ms", "time"):
        table.add_column(column)
    for row in rows:
        gender, both = (
            f"{rd[0]:.3f} [{max(rd[1], 0):.3f}, {rd[2]:.3f}], counted {rd[3]:.3f}"
            for rd in (row.rd["gender"], row.rd[PRODUCT])
        )
        table.add_row(
            f"{row.strength:g}",
            "yes" if row.quota else "",
            gender,
            both,
            f"{row.sure:.3f}",
            f"{row.ms:.1f}",
            f"{row.ms / base:.2f}",
        )
    return table


def main(
    occupations: Annotated[int, typer.Option(min=1, help="Evenly spaced in the miniature's table.")] = 12,
    pictures: Annotated[int, typer.Option(min=1, help="Of each occupation.")] = 80,
    batch: Annotated[int, typer.Option(min=1, help="Pictures drawn together; a quota learns after each.")] = 16,
    guidance: Annotated[float, typer.Option(help="The miniature's declared shares hold at 1.")] = 1.0,
    out: Annotated[Path | None, typer.Option(help="Folder for the JSON.")] = None,
) -> None:
    """Draw, score, print, store."""
    torch.set_num_threads(1)
    names = sorted(DECLARED)[:: max(1, len(DECLARED) // occupations)][:occupations]
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        (scratch / "list.txt").write_text("\n".join(names) + "\n", "utf-8")
        rows = all_rows(scratch / "list.txt", scratch, pictures, batch, guidance)
    base = (rows[0].ms + rows[-1].ms) / 2
    title = f"{len(names)} occupations x {pictures} pictures, batches of {batch}, guidance {guidance:g}"
    Console(width=150).print(shown(rows, base, title))
    if out:
        out.mkdir(parents=True, exist_ok=True)
        held = {
            "occupations": names,
            "pictures": pictures,
            "batch": batch,
            "guidance": guidance,
            "torch": torch.__version__,
            "machine": platform.processor() or platform.machine(),
            "untouched ms": base,
            "rows": [{**asdict(row), "time": row.ms / base} for row in rows],
        }
        name = "sampling_balance" + ("" if guidance == 1 else f"_guidance_{guidance:g}")
        (out / f"{name}.json").write_text(json.dumps(held, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    typer.run(main)
