"""How often intervals of Representation Disparity hold the truth. In: nothing. Out: coverage and width, four designs.

Simulated audits of 50 prompts: a table of true shares is drawn, then pictures, then the interval is made. Beside ours:

- `bootstrap`: pictures of each prompt resampled, middle 95% of the mean RD;
- `two-level`: prompts resampled, then pictures; held against the mean over the prompts the table was drawn from;
- `corrected`: the bootstrap, less the bias it finds, plus and minus 1.96 standard deviations;
- `posterior`: shares drawn from Dirichlet(counts + 1/2), middle 95%.

    python benchmarks/disparity_coverage.py [--audits 200] [--groups 2,4,8] [--pictures 32,100,160]
"""

import json
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from jaxtyping import Float64, Int64

from evenhand.metrics.disparity import disparity
from evenhand.metrics.distances import Distance, even_target, measure
from evenhand.metrics.prompt_distances import mean_distance, measure_prompts
from evenhand.metrics.tally import tally_counts

PROMPTS = 50
REPLICATES = 200
PER_PROMPT_AUDITS = 20
DISTANCES = {groups: Distance("RD", even_target(groups)) for groups in range(2, 17)}
TABLES = ("even", "alike", "mild", "uneven", "extreme", "half")


def draw_table(name: str, groups: int, rng: np.random.Generator) -> Float64[np.ndarray, "prompts groups"]:
    """True shares of the groups for every prompt.

    Even; RD a tenth of the largest for each; Dirichlet around even; any shares; 90 to 99.5% one group; half of those
    and half even.
    """
    even = np.full((PROMPTS, groups), 1 / groups)
    if name == "even":
        return even
    if name == "alike":
        tilt = rng.normal(size=(PROMPTS, groups))
        tilt -= tilt.mean(axis=1, keepdims=True)
        return even + tilt * (0.2 / groups / rd(tilt + even))[:, None]
    if name in ("mild", "uneven"):
        return rng.dirichlet(np.full(groups, 20 / groups if name == "mild" else 1.0), PROMPTS)
    top = rng.uniform(0.9, 0.995, PROMPTS)
    table = np.repeat(((1 - top) / (groups - 1))[:, None], groups, axis=1)
    table[np.arange(PROMPTS), rng.integers(0, groups, PROMPTS)] = top
    if name == "half":
        table[::2] = even[::2]
    return table


def rd(shares: Float64[np.ndarray, "*rows groups"]) -> Float64[np.ndarray, "*rows"]:
    """Mean absolute difference over pairs, by the pairs themselves."""
    i, j = np.triu_indices(shares.shape[-1], 1)
    return np.abs(shares[..., i] - shares[..., j]).mean(axis=-1)


def other_intervals(
    counts: Int64[np.ndarray, "prompts groups"], rng: np.random.Generator
) -> dict[str, tuple[float, float]]:
    """What was not chosen."""
    n = counts.sum(axis=1)
    distance = DISTANCES[counts.shape[1]]
    drawn = measure(distance, rng.multinomial(n, counts / n[:, None], size=(REPLICATES, PROMPTS)) / n[:, None])
    plain, found = drawn.mean(axis=1), float(measure(distance, counts / n[:, None]).mean())
    rows = rng.integers(0, PROMPTS, (REPLICATES, PROMPTS))
    levels = np.take_along_axis(drawn, rows, axis=1).mean(axis=1)
    gamma = rng.standard_gamma(counts + 0.5, size=(REPLICATES, *counts.shape))
    posterior = measure(distance, gamma / gamma.sum(axis=2, keepdims=True)).mean(axis=1)
    centre, half = 2 * found - plain.mean(), 1.96 * plain.std()
    return {
        "bootstrap": tuple(np.quantile(plain, [0.025, 0.975])),
        "two-level": tuple(np.quantile(levels, [0.025, 0.975])),
        "corrected": (max(0.0, centre - half), max(0.0, centre + half)),
        "posterior": tuple(np.quantile(posterior, [0.025, 0.975])),
    }


def simulate(name: str, groups: int, pictures: int, *, audits: int, seed: int) -> dict[str, float]:
    """Coverage of the mean by each design, of single prompts by ours, and mean widths."""
    rng = np.random.default_rng([seed, groups, pictures])
    wide = np.random.default_rng([seed]).integers(0, 2**31, 200)
    population = float(np.mean([rd(draw_table(name, groups, np.random.default_rng(int(one)))).mean() for one in wide]))
    held: dict[str, list[float]] = {}
    for audit in range(audits):
        table = draw_table(name, groups, rng)
        counts, true = rng.multinomial(pictures, table), rd(table)
        rows = {f"p{row:02}": counts[row].tolist() for row in range(PROMPTS)}
        counted = tally_counts(rows, groups=tuple(map(str, range(groups))))
        intervals = other_intervals(counts, rng)
        parts = measure_prompts(counted, DISTANCES[groups], alike=PROMPTS, seed=audit, replicates=REPLICATES)
        for design, sampled in (("ours", False), ("ours, sampled", True)):
            mean = mean_distance(parts, np.arange(PROMPTS), sampled=sampled, level=0.95)
            intervals[design] = (mean.interval.low, mean.interval.high)
        for design, (low, high) in intervals.items():
            truth = population if design in ("two-level", "ours, sampled") else float(true.mean())
            held.setdefault(design, []).append(low - 1e-9 <= truth <= high + 1e-9)
            held.setdefault(f"{design} width", []).append(high - low)
        if audit < PER_PROMPT_AUDITS:
            single = [prompt.estimates[0] for prompt in disparity(counted, seed=audit).prompts]
            inside = [one.low - 1e-9 <= truth <= one.high + 1e-9 for one, truth in zip(single, true, strict=True)]
            held.setdefault("per prompt", []).append(float(np.mean(inside)))
            held.setdefault("per prompt width", []).append(float(np.mean([one.high - one.low for one in single])))
        held.setdefault("truth", []).append(float(true.mean()))
        held.setdefault("error", []).append(mean.value - float(true.mean()))
        held.setdefault("observed error", []).append(float(parts.observed.mean() - true.mean()))
    return {design: float(np.mean(values)) for design, values in held.items()}


def main(
    audits: Annotated[int, typer.Option(help="Simulated audits a line.")] = 200,
    groups: Annotated[str, typer.Option(help="Numbers of groups.")] = "2,4,8",
    pictures: Annotated[str, typer.Option(help="Pictures a prompt.")] = "32,100,160",
    out: Annotated[Path | None, typer.Option(help="JSON to write.")] = None,
) -> None:
    """Print the table of docs/disparity.md."""
    columns = ("bootstrap", "two-level", "corrected", "posterior", "ours", "ours, sampled", "per prompt")
    print("| K | pictures | table | true RD | " + " | ".join(columns) + " | width of ours |")
    print("|---" * (len(columns) + 5) + "|")
    results = []
    for k in map(int, groups.split(",")):
        for n in map(int, pictures.split(",")):
            for name in TABLES:
                found = simulate(name, k, n, audits=audits, seed=1)
                results.append({"groups": k, "pictures": n, "table": name, "audits": audits, **found})
                cells = " | ".join(f"{100 * found[column]:.0f}%" for column in columns)
                print(
                    f"| {k} | {n} | {name} | {found['truth']:.3f} | {cells} | {found['ours width']:.3f} |", flush=True
                )
    if out is not None:
        out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
