"""How values look. In: a number, or text from anywhere. Out: its shown form, and estimates as JSON values."""

import math
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from evenhand.records import Estimate, Scored, ScoredPictures, WordChange

__all__ = [
    "Setting",
    "cut_text",
    "estimate_as_dict",
    "estimate_form",
    "full_precision",
    "plain_text",
    "plural_of",
    "show_number",
    "tabulate_mappings",
    "tabulate_settings",
    "tally_changes",
]

_MINUS = "\u2212"
_NARROW = "\u00a0"
_DISTANCES = ("RD", "TV")
_MOST_DIGITS = 12
_JOINERS = "\u200c\u200d"
_SPACES = "\t\n\u2028\u2029"


def plain_text(text: str) -> str:
    """Text in which nothing is hidden: every control, format or surrogate character is made visible.

    Tab, line feed and the two Unicode line separators become a space; C0 controls become their pictures
    (``ESC`` -> U+241B); direction overrides, zero-width and other format characters become ``‹U+202E›``. The
    joiners that emoji and Persian need stay. Applied twice it changes nothing more.
    """
    return "".join(map(_visible, text))


def _visible(char: str) -> str:
    if char in _SPACES:
        return " "
    if char in _JOINERS or unicodedata.category(char) not in {"Cc", "Cf", "Cs"}:
        return char
    code = ord(char)
    return chr(0x2400 + code) if code < 0x20 else f"‹U+{code:04X}›"


def cut_text(text: str, length: int) -> str:
    """``plain_text`` of the first ``length`` characters, with an ellipsis where something was cut."""
    return plain_text(text) if len(text) <= length else plain_text(text[: length - 1]) + "…"


def plural_of(word: str, count: int) -> str:
    """``picture``, ``pictures``; of ``answer or picture`` both: ``answers or pictures``."""
    return word if count == 1 else " or ".join(f"{one}s" for one in word.split(" or "))


def full_precision(value: float) -> str:
    """The shortest text that reads back as exactly this number; ``nan`` and ``inf`` as themselves."""
    return str(value) if isinstance(value, int) else repr(float(value))


def estimate_form(estimate: Estimate) -> str:
    """Which form an estimate is shown in: ``ratio``, ``points``, ``signed``, ``share`` or ``decimal``.

    Ratios and differences are known by the end of their name, and so is the signed gap of a group. A statistic whose
    largest value is exactly 1 is a share and shown in percent (its differences in percentage points); any other is
    shown as a decimal, and so are distances (RD, TV), whose largest value may happen to be 1.
    """
    if estimate.name.endswith(" ratio"):
        return "ratio"
    if estimate.name.startswith("gap "):
        return "points"
    share = estimate.largest == 1 and not estimate.name.startswith(_DISTANCES)
    if estimate.name.endswith(" difference"):
        return "points" if share else "signed"
    return "share" if share else "decimal"


def show_number(value: float, form: str) -> str:
    """A number as people read it.

    Args:
        value: Any number; NaN is shown as ``undefined``.
        form: ``share`` (38.2 %), ``share0`` (38 %), ``points`` (+3.1 pp), ``decimal`` (0.402), ``decimal1`` (0.4),
            ``decimal2`` (0.40), ``signed`` (+0.402), ``signed1`` (+2.0), ``signed2`` (+0.96), ``ratio`` (×0.27),
            ``count`` (1 048), ``significant`` (0.0021, 1.7e−23: two digits that count), ``given`` (as it is). With
            ``-bare`` at its end the unit is left out, for the ends of intervals.
    """
    bare = form.endswith("-bare")
    scale, digits, sign, before, after = _FORMS[form.removesuffix("-bare")]
    if math.isnan(value):
        return "undefined"
    if math.isinf(value):
        return "∞" if value > 0 else f"{_MINUS}∞"
    if form == "given":
        return full_precision(value).replace("-", _MINUS, 1) if value < 0 else full_precision(value)
    scaled = value * scale
    if form.startswith("share0") and 0 < abs(scaled) < 1:
        digits = 1
    if form.startswith("significant") and 0 < abs(scaled) < 1e-4:
        return f"{scaled:.1e}".replace("-", _MINUS)
    if form.startswith("significant") and scaled:
        digits = min(max(1 - math.floor(math.log10(abs(scaled))), 0), _MOST_DIGITS)
    shown = f"{abs(scaled):,.{digits}f}".replace(",", _NARROW)
    is_zero = not shown.strip("0.")
    lead = "" if is_zero else (_MINUS if value < 0 else "+" * sign)
    return f"{lead}{shown}" if bare else f"{before}{lead}{shown}{after}"


# form -> scale, digits, plus sign shown, text before, text after
_FORMS: dict[str, tuple[float, int, bool, str, str]] = {
    "share": (100.0, 1, False, "", f"{_NARROW}%"),
    "share0": (100.0, 0, False, "", f"{_NARROW}%"),
    "points": (100.0, 1, True, "", f"{_NARROW}pp"),
    "decimal": (1.0, 3, False, "", ""),
    "decimal1": (1.0, 1, False, "", ""),
    "decimal2": (1.0, 2, False, "", ""),
    "signed": (1.0, 3, True, "", ""),
    "signed1": (1.0, 1, True, "", ""),
    "signed2": (1.0, 2, True, "", ""),
    "ratio": (1.0, 2, False, "×", ""),
    "count": (1.0, 0, False, "", ""),
    "significant": (1.0, 0, False, "", ""),
    "given": (1.0, 0, False, "", ""),
}


def estimate_as_dict(estimate: Estimate) -> dict[str, object]:
    """An estimate as JSON values, in the record's order; NaN and infinities become None (null)."""
    return {
        "name": estimate.name,
        "value": _finite(estimate.value),
        "low": _finite(estimate.low),
        "high": _finite(estimate.high),
        "level": _finite(estimate.level),
        "n": estimate.n,
        "unit": estimate.unit,
        "method": estimate.method,
        "largest": _finite(estimate.largest),
        "floor": _finite(estimate.floor),
    }


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def tally_changes(changes: Sequence[WordChange]) -> list[tuple[str, str, int, int]]:
    """``(before, after, times, times reached)`` of each distinct change, most frequent first."""
    times = Counter((change.before, change.after) for change in changes)
    reached = Counter((change.before, change.after) for change in changes if change.reached)
    ranked = sorted(times, key=lambda pair: (-times[pair], pair))
    return [(*pair, times[pair], reached[pair]) for pair in ranked]


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting across runs: per run the scalars of its value, or None where a run lacks it."""

    path: str
    values: tuple[tuple[object, ...] | None, ...]
    differs: bool


def tabulate_settings(runs: Sequence[Scored | ScoredPictures]) -> list[Setting]:
    """Settings of all runs by their ``a.b`` paths; those that differ between runs first."""
    return tabulate_mappings([run.settings for run in runs])


def tabulate_mappings(columns: Sequence[Mapping[str, object]]) -> list[Setting]:
    """Values of several nested mappings by their ``a.b`` paths; those that differ first."""
    flat = [dict(_flatten("", values)) for values in columns]
    paths = dict.fromkeys(path for values in flat for path in values)
    rows = []
    for path in paths:
        values = tuple(found.get(path) for found in flat)
        rows.append(Setting(path, values, any(repr(value) != repr(values[0]) for value in values)))
    return sorted(rows, key=lambda row: not row.differs)


def _flatten(path: str, value: object) -> Iterator[tuple[str, tuple[object, ...]]]:
    """``a.b`` paths of nested mappings with the scalars at their ends; a list's scalars stay together."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flatten(f"{path}.{key}" if path else str(key), inner)
    else:
        yield path, tuple(_scalars(value))


def _scalars(value: object) -> Iterator[object]:
    if isinstance(value, list | tuple):
        for inner in value:
            yield from _scalars(inner)
    elif value is None or isinstance(value, bool):
        yield "none" if value is None else str(value).lower()
    else:
        yield value if isinstance(value, int | float) else str(value)
