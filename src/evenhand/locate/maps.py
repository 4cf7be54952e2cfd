"""Where in a picture groups differ. In: likelihoods by code, or a model. Out: heat maps over the grid of codes.

``enters`` follows from the likelihoods that are kept. ``differs`` needs the model's whole distributions, so it is
worked out while the model is open, for a few prompts, and kept beside the pictures.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float64

from evenhand.errors import BadInputError, CorruptLedgerError
from evenhand.ledger import Ledger
from evenhand.locate.gathered import Gathered
from evenhand.locate.likelihood import Conditions, Likelihoods
from evenhand.locate.positions import Positions, entering_information, position_divergence, position_probabilities
from evenhand.locate.shares import RESAMPLING_SEED
from evenhand.located import HeatMap
from evenhand.probes.occupations import NEUTRAL
from evenhand.run_folder import RunFolder
from evenhand.shards import sha256_of

if TYPE_CHECKING:
    from evenhand.models.protocol import ComparingModel

__all__ = ["BLOCKS", "PROMPTS", "entering_maps", "keep_differences", "read_differences"]

PROMPTS = 6
"""Prompts of which ``differs`` is worked out, spread over the list."""

BLOCKS = 8
"""Parts of a prompt's pictures that its interval is made of."""


def entering_maps(found: Gathered, shape: tuple[int, ...]) -> tuple[HeatMap, ...]:
    """Where each pair of conditions comes apart as a picture is written, mean over all prompts.

    Of two groups against each other where there are two, and of the neutral prompt against each group.

    Args:
        found: What was gathered; without likelihoods there are no maps.
        shape: Rows and columns of codes.
    """
    if not found.rows or not found.asked_rows or len(shape) != 2:
        return ()
    held = []
    for pair in (*_between(found.groups), *((NEUTRAL, group) for group in found.groups)):
        parts = [_rows(found, name, pair) for name in pair]
        if all(parts):
            numbers = entering_information(
                *(np.stack(list(part.values())) for part in parts), seed=RESAMPLING_SEED, level=found.level
            )
            prompts = min(len({prompt_id for prompt_id, _ in part}) for part in parts)
            held.append(_heat_map("enters", pair, shape, numbers, found.level, prompts))
    return tuple(held)


def _between(groups: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    return ((groups[0], groups[1]),) if len(groups) == 2 else ()


def _rows(found: Gathered, name: str, pair: tuple[str, str]) -> Likelihoods:
    """Of the pictures that a condition drew, the log-probability of each code under both conditions of a pair."""
    columns = [_column(found, one) for one in pair]
    prompts = {one.neutral.id if name == NEUTRAL else one.asked[name].id for one in found.conditions}
    rows = found.rows if name == NEUTRAL else found.asked_rows
    return {key: rows[key][columns] for key in sorted(rows) if key[0] in prompts}


def _column(found: Gathered, name: str) -> int:
    return 0 if name == NEUTRAL else 1 + found.groups.index(name)


def keep_differences(
    model: "ComparingModel",
    run: str,
    conditions: Sequence[Conditions],
    *,
    attribute: str,
    guidance: float,
    batch_size: int,
    level: float,
) -> None:
    """Work out where two groups' codes are distributed otherwise, unless that is kept; a mean over ``PROMPTS`` prompts.

    Prompts with fewer than ``BLOCKS`` pictures of a group have no interval and are left out; attributes of more than
    two groups have no such map.

    Args:
        model: Gives distributions.
        run: The run of pictures that were asked to show a group.
        conditions: As for likelihoods.
        attribute: Whose groups are asked for.
        guidance: w, as in drawing.
        batch_size: Pictures read together.
        level: Coverage each interval aims at.

    Raises:
        LedgerError: The folder cannot be written to.
    """
    import torch
    from safetensors.numpy import save

    folder, ledger = RunFolder(run), Ledger.open(run)
    name = _file(ledger, conditions, attribute, guidance, level)
    groups = tuple(conditions[0].asked)
    if name in folder.names() or len(groups) != 2:
        return
    codes: dict[str, list[tuple[int, ...]]] = {}
    for sample in ledger.samples():
        if sample.codes is not None:
            codes.setdefault(sample.prompt_id, []).append(sample.codes)
    fit = [one for one in conditions if all(len(codes.get(prompt.id, ())) >= BLOCKS for prompt in one.asked.values())]
    chosen = [fit[at] for at in np.unique(np.linspace(0, len(fit) - 1, PROMPTS).round().astype(int))] if fit else []
    parts: list[Positions] = []
    for one in chosen:
        first, second = (
            position_probabilities(
                model,
                prompt.text,
                torch.tensor(codes[prompt.id]),
                guidance=guidance,
                blocks=BLOCKS,
                batch_size=batch_size,
            )
            for prompt in one.asked.values()
        )
        parts.append(position_divergence(first, second, level=level))
    if parts:
        value, low, high = _mean(parts)
        held = {"value": value, "low": low, "high": high, "prompts": np.array(len(parts))}
        folder.write(name, save(held, metadata={"method": parts[0].method}))


def read_differences(
    run: str, conditions: Sequence[Conditions], *, attribute: str, guidance: float, level: float, shape: tuple[int, ...]
) -> tuple[HeatMap, ...]:
    """The map that was kept; none where there is none.

    Raises:
        CorruptLedgerError: It is not what was written.
    """
    folder, ledger = RunFolder(run), Ledger.open(run)
    name = _file(ledger, conditions, attribute, guidance, level)
    if name not in folder.names() or len(shape) != 2:
        return ()
    groups = tuple(conditions[0].asked)

    def decode(content: bytes) -> HeatMap:
        import json
        from math import prod

        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            held = load(content)
            size = int.from_bytes(content[:8], "little")
            method = str(json.loads(content[8 : 8 + size])["__metadata__"]["method"])
            value, low, high = (held[key].astype(np.float64) for key in ("value", "low", "high"))
            numbers = Positions(value, low, high, method)
            if numbers.value.shape != (prod(shape),):
                raise CorruptLedgerError(f"it holds {numbers.value.shape} numbers for codes of {shape}")
            return _heat_map("differs", (groups[0], groups[1]), shape, numbers, level, int(held["prompts"]))
        except (SafetensorError, KeyError, ValueError) as error:
            raise CorruptLedgerError(str(error)) from error

    return (folder.load(name, decode),)


def _file(ledger: Ledger, conditions: Sequence[Conditions], attribute: str, guidance: float, level: float) -> str:
    settings = {
        "attribute": attribute,
        "model": ledger.settings.get("model"),
        "guidance": guidance,
        "level": level,
        "blocks": BLOCKS,
        "conditions": [[list(one.names), list(one.texts)] for one in conditions],
        "samples": len(ledger.samples()),
    }
    return f"differs-{sha256_of(settings)[:16]}.safetensors"


def _mean(parts: Sequence[Positions]) -> tuple[Float64[np.ndarray, " codes"], ...]:
    """Over independent prompts: each side of an interval adds up as noise does."""
    value = np.mean([one.value for one in parts], axis=0)
    below, above = (
        np.sqrt(np.sum([np.square(side) for side in sides], axis=0)) / len(parts)
        for sides in ([one.value - one.low for one in parts], [one.high - one.value for one in parts])
    )
    return value, np.clip(value - below, 0, None), np.clip(value + above, None, np.log(2))


def _heat_map(
    what: str, pair: tuple[str, str], shape: tuple[int, ...], numbers: Positions, level: float, prompts: int
) -> HeatMap:
    rows, columns = shape
    if rows * columns != len(numbers.value):
        raise BadInputError(
            f"heat map: got {len(numbers.value)} numbers for {rows} x {columns} codes; allowed: one each."
        )
    value, low, high = (tuple(float(one) for one in part) for part in (numbers.value, numbers.low, numbers.high))
    return HeatMap(what, pair, rows, columns, value, low, high, level, prompts, numbers.method)
