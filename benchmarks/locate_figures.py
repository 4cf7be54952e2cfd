"""The pictures of docs/locate.md, one per estimator. In: two locations of the miniature. Out: PNG files.

Mixtures of product-categorical distributions have closed forms; what the estimators make of 160 pictures a prompt
stands beside them. The rest is read from the folders that these commands make:

    evenhand locate miniature --out runs/language
    evenhand locate miniature:decoder --out runs/decoder
    python benchmarks/locate_figures.py runs/language runs/decoder --out docs/images
"""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import typer
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from evenhand.locate import read_location
from evenhand.locate.divergence import (
    mixture_divergence,
    naive_divergence,
    pooled_divergence,
    responsibilities,
    sequence_divergence,
)
from evenhand.locate.two_samples import two_sample_bounds
from evenhand.located import Located
from evenhand.miniature.declared import declared_shares
from evenhand.records import Estimate

mpl.use("agg")
INK, MUTED, RULE, BLUE, RUST = "#1d2733", "#566270", "#d9dfe6", "#0072b2", "#b34d00"
CODES, PLACES, PICTURES = 12, 8, 160
SHARES = (0.05, 0.2, 0.5, 0.8, 0.95)
GROUPS = np.stack([np.r_[np.full(6, 1 / 6), np.zeros(6)], np.r_[np.zeros(6), np.full(6, 1 / 6)]])


def mixture(share: float, pictures: int, seed: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Codes, and log-probabilities under the mixture and each group."""
    drawn = np.random.default_rng(seed)
    which = (drawn.random(pictures) >= share).astype(int)
    codes = np.stack([drawn.choice(CODES, PLACES, p=GROUPS[one]) for one in which])
    with np.errstate(divide="ignore"):
        own = np.log(GROUPS)[:, codes].sum(-1).T
        prior = np.log([share, 1 - share])
    return codes, np.column_stack([np.logaddexp(own[:, 0] + prior[0], own[:, 1] + prior[1]), own])


def dots(axes: Axes, at: Sequence[float], found: Sequence[Estimate], colour: str, label: str) -> None:
    """Estimates with their intervals."""
    value = np.array([one.value for one in found])
    ends = np.abs(np.array([[one.value - one.low for one in found], [one.high - one.value for one in found]]))
    axes.errorbar(at, value, yerr=ends, fmt="o", ms=4, lw=1.2, color=colour, label=label)


def figure(width: float, height: float, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """Empty, in the page's style."""
    made = Figure(figsize=(width, height), dpi=110, layout="constrained")
    axes = list(np.atleast_1d(made.subplots(1, columns)))
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)
        one.tick_params(labelsize=8)
    return made, axes


def divergences() -> Figure:
    """Sequence divergence, shares by likelihood, two-sample bound: each against its closed form."""
    made, (first, second, third) = figure(11, 3.2, 3)
    fine = np.linspace(0.005, 0.995, 200)
    curve = [mixture_divergence(one) for one in fine]
    jsd, naive, shares, bounds = [], [], [], []
    for share in SHARES:
        codes, neutral = mixture(share, PICTURES, [1, round(100 * share)])
        others, asked = mixture(1.0, PICTURES, [2, round(100 * share)])
        asked[:, 0] = asked[:, 1] + np.log(share)
        jsd.append(sequence_divergence(neutral[:, :2], asked[:, :2], seed=0))
        naive.append(naive_divergence(codes, others))
        shares.append(responsibilities(neutral[:, 1:], ("first", "second"), seed=0)["first"])
        counts = [np.stack([np.bincount(row, minlength=CODES) for row in one]) for one in (codes, others)]
        bounds.append(two_sample_bounds(*(one.astype(np.float64) for one in counts), seed=0)[2])
    for axes in (first, third):
        axes.plot(fine, curve, color=INK, lw=1, label="closed form")
        axes.set_xlabel("share of the group in neutral pictures", fontsize=8)
        axes.set_ylabel("JSD, nats", fontsize=8)
    dots(first, SHARES, jsd, BLUE, "sequence divergence, 160 pictures")
    first.plot(SHARES, naive, "x", color=RUST, label="sequences counted: log 2")
    second.plot([0, 1], [0, 1], color=INK, lw=1, label="truth")
    dots(second, SHARES, shares, BLUE, "share by likelihood")
    second.set_xlabel("share of the group in neutral pictures", fontsize=8)
    dots(third, SHARES, bounds, BLUE, "classifier of code counts: at least")
    first.set_ylim(-0.03, 0.95)
    for axes, title in zip(
        (first, second, third), ("sequence_divergence", "responsibilities", "two_sample_bounds"), strict=True
    ):
        axes.legend(fontsize=7, frameon=False)
        axes.set_title(title, fontsize=9, loc="left")
    return made


def published() -> Figure:
    """The pooled histogram of two equal prompts, by pictures."""
    made, (axes,) = figure(5, 3.2)
    pictures = (8, 16, 40, 80, 160)
    drawn = np.random.default_rng(0)
    seen = []
    for n in pictures:
        codes = [drawn.integers(16_384, size=(n, 576)) for _ in range(2)]
        seen.append(pooled_divergence(*codes, codebook=16_384, seed=0, permutations=20))
    axes.plot(pictures, [one[0] for one in seen], "o-", color=RUST, ms=4, label="published estimate")
    axes.plot(pictures, [one[1] for one in seen], "--", color=BLUE, label="mean over exchanged pictures")
    axes.axhline(0, color=INK, lw=1, label="truth: equal prompts")
    axes.set_xlabel("pictures a prompt (576 codes of 16,384)", fontsize=8)
    axes.set_ylabel("bits", fontsize=8)
    axes.set_title("pooled_divergence", fontsize=9, loc="left")
    axes.legend(fontsize=7, frameon=False)
    return made


def occupations(language: Located, decoder: Located) -> Figure:
    """Shares by likelihood and shown, against the declared table."""
    made, axes = figure(9, 4.2, 2)
    for one, found, variant in zip(axes, (language, decoder), ("language", "decoder"), strict=True):
        wanted = [declared_shares(prompt.name, variant=variant)[0] for prompt in found.prompts]
        one.plot([0, 1], [0, 1], color=RULE, lw=1)
        one.axhline(0.5, color=RULE, lw=1)
        one.plot(wanted, [prompt.codes["male"].value for prompt in found.prompts], "s", ms=4, color=RUST,
                 label="by likelihood of the codes")  # fmt: skip
        one.plot(wanted, [prompt.shown["male"].value for prompt in found.prompts], "o", ms=4, color=INK, mfc="none",
                 label="shown by the picture")  # fmt: skip
        one.set_xlabel("declared share of male in pictures", fontsize=8)
        one.set_title(f"{variant}: {', '.join(found.attributed)}", fontsize=9, loc="left")
        one.legend(fontsize=7, frameon=False, loc="upper left")
    return made


def maps(found: Located) -> Figure:
    """Where the groups come apart."""
    chosen = [one for one in found.maps if one.pair == found.groups]
    made, axes = figure(3.6 * len(chosen), 3.4, len(chosen))
    for one, heat in zip(axes, chosen, strict=True):
        shown = one.imshow(np.array(heat.values).reshape(heat.rows, heat.columns), cmap="Blues", vmin=0)
        made.colorbar(shown, ax=one, shrink=0.8).ax.tick_params(labelsize=7)
        one.set_xticks([])
        one.set_yticks([])
        what = "entering_information" if heat.what == "enters" else "position_divergence"
        one.set_title(f"{what}\n{' against '.join(heat.pair)}, nats", fontsize=9, loc="left")
    return made


def probes(found: Located) -> Figure:
    """Accuracy of every place, and the recall of each group."""
    made, (axes,) = figure(7.5, 3.4)
    names = [probe.place for probe in found.probes]
    at = np.arange(len(names))[::-1]
    for probe, row in zip(found.probes, at, strict=True):
        axes.plot([probe.accuracy.low, probe.accuracy.high], [row, row], color=MUTED if probe.control else BLUE, lw=2)
        axes.plot(probe.accuracy.value, row, "o", ms=5, color=MUTED if probe.control else BLUE)
        for group, mark in zip(found.groups, ("<", ">", "^", "v"), strict=False):
            axes.plot(probe.recalls[group].value, row - 0.25, mark, ms=3, color=RUST)
        axes.plot(probe.permuted.value, row, "|", ms=10, color=INK)
    axes.set_yticks(at, names)
    axes.set_xlabel("accuracy (dot), recall of each group (triangles), labels exchanged (bar)", fontsize=8)
    axes.set_title("probe_place: controls in grey", fontsize=9, loc="left")
    return made


def trips(found: Located) -> Image.Image:
    """Pictures before and after the round trip."""
    from io import BytesIO

    pairs = [one.pictures for one in found.examples if one.kind == "round trip"][:8]
    side, gap = 96, 8
    sheet = Image.new("RGB", (len(pairs) * (side + gap) - gap, 2 * side + gap), "white")
    for at, pair in enumerate(pairs):
        for row, picture in enumerate(pair):
            small = Image.open(BytesIO(picture)).resize((side, side))
            sheet.paste(small, (at * (side + gap), row * (side + gap)))
    return sheet


def answers(found: Located) -> Figure:
    """What is answered about nobody against what is drawn."""
    made, (axes,) = figure(5, 4.2)
    known = [one for one in found.prompts if one.answered and one.shown]
    first = found.groups[0]
    axes.plot([0, 1], [0, 1], color=RULE, lw=1)
    for one in known:
        rate = one.answer_rate.value if one.answer_rate else 0.0
        axes.plot(one.answered[first].value, one.shown[first].value, "o", color=BLUE, alpha=max(rate, 0.15), mec="none")
    axes.set_xlabel(f"share of {first} among answers that name a group (pale: seldom named)", fontsize=8)
    axes.set_ylabel(f"share of {first} shown", fontsize=8)
    axes.set_title("understanding against generation", fontsize=9, loc="left")
    return made


def main(language: Path, decoder: Path, out: Path = Path("docs/images")) -> None:
    """Write every picture."""
    one, other = (read_location(folder)[0] for folder in (language, decoder))
    figures = {
        "closed-forms": divergences(),
        "published": published(),
        "occupations": occupations(one, other),
        "where": maps(one),
        "probes": probes(other),
        "answers": answers(one),
    }
    for name, made in figures.items():
        made.savefig(out / f"locate-{name}.png")
    trips(other).save(out / "locate-round-trip.png")


if __name__ == "__main__":
    typer.run(main)
