"""What each mode of ALA does. In: a labelled folder of pictures. Out: a table of estimates, paired with plain.

python benchmarks/ala_on_pictures.py --data DIR [--out runs/ala] [--results benchmarks/results]
"""

import json
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from evenhand import Comparison, Scored, audit, compare
from evenhand.attributes import load_attribute
from evenhand.classify.faces import FaceReader
from evenhand.mitigate.ala.presets import Ala, align, neutral, paper
from evenhand.mitigate.ala.rules import AlignRule
from evenhand.mitigate.ala.signals import FaceSignal, WordScorer
from evenhand.models.captioner import load_captioner

SHOWN = ("MR_M", "MR_F", "MR_C", "recall", "neutral_rate", "gendered_rate")


def variants() -> dict[str, Ala | None]:
    """The modes, and `align` with one of its decisions taken back at a time."""
    attribute = load_attribute("gender")
    fixed = Ala(
        "align-fixed",
        attribute,
        rule=AlignRule(replace=False),
        scorer=WordScorer(),
        signal=FaceSignal(FaceReader(), attribute),
        continuation="draft",
    )
    return {
        "plain": None,
        "paper": paper(),
        "align": align(),
        "align, emitted": align(continuation="emitted"),
        "align, fixed strength": fixed,
        "neutral": neutral(),
        "neutral, emitted": neutral(continuation="emitted"),
    }


def row(name: str, scored: Scored, comparison: Comparison | None) -> dict[str, Any]:
    """One variant's figures."""
    by_name = {estimate.name: estimate for estimate in scored.estimates}
    figures: dict[str, Any] = {"variant": name}
    for key in SHOWN:
        figures[key] = [round(x, 4) for x in (by_name[key].value, by_name[key].low, by_name[key].high)]
    figures["edited_captions"] = scored.counts["edited_captions"]
    if comparison is not None:
        paired = {estimate.name: estimate for estimate in comparison.estimates}
        for key in ("MR_C ratio", "neutral_rate difference"):
            figures[key] = [round(x, 4) for x in (paired[key].value, paired[key].low, paired[key].high)]
        figures |= {key: comparison.counts[key] for key in ("captions_changed", "changes", "changes_elsewhere")}
        words = Counter((change.before, change.after) for change in comparison.changes)
        figures["commonest"] = [[*pair, times] for pair, times in words.most_common(8)]
    return figures


def main(
    data: Annotated[str, typer.Option(help="Folder with labels.csv.")],
    out: Annotated[Path, typer.Option(help="Folder for the runs.")] = Path("runs/ala"),
    results: Annotated[Path, typer.Option(help="Folder for the JSON.")] = Path("benchmarks/results"),
) -> None:
    """Caption every picture with every variant, print a Markdown table, write JSON."""
    captioner = load_captioner()
    rows: list[dict[str, Any]] = []
    plain: Scored | None = None
    for name, mitigation in variants().items():
        folder = out / name.replace(", ", "-").replace(" ", "-")
        scored = audit(captioner, probe="captioning", data=data, mitigate=mitigation, out=folder)
        plain = plain or scored
        rows.append(row(name, scored, None if scored is plain else compare(plain, scored)))
    print("| variant | " + " | ".join(SHOWN) + " | MR_C ratio | captions changed | changes elsewhere |")
    print("|---|" + "---|" * (len(SHOWN) + 3))
    for figures in rows:
        cells = ["{:.3f} [{:.3f}, {:.3f}]".format(*figures[key]) for key in SHOWN]
        ratio = "{:.2f} [{:.2f}, {:.2f}]".format(*figures["MR_C ratio"]) if "MR_C ratio" in figures else ""
        changed = [str(figures.get(key, "")) for key in ("captions_changed", "changes_elsewhere")]
        print(f"| {figures['variant']} | " + " | ".join([*cells, ratio, *changed]) + " |")
    results.mkdir(parents=True, exist_ok=True)
    (results / "ala_on_pictures.json").write_text(json.dumps(rows, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    typer.run(main)
