"""Attributes as data. In: a shipped name or a YAML file. Out: an ``Attribute``.

An attribute is declared, never inferred: its groups, the words that carry them, the words that stand in each
other's place. ``gender`` ships; a path to a YAML file of the same form adds another without touching code.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.resources import files
from math import isclose, isfinite
from pathlib import Path
from typing import Any

import yaml

from evenhand.errors import BadInputError, UnknownNameError
from evenhand.records import Attribute

__all__ = ["attribute_from_settings", "attribute_names", "load_attribute", "measuring_settings"]

_FIELDS = {"name", "groups", "target", "source", "words", "neutral_words", "pairs", "fixed"}
_COLUMNS = ("file", "scene")
_ANSWERS = ("both", "neutral", "none", "error", "O", "C")  # what a label says besides a group; MR_O and MR_C


@dataclass(frozen=True, slots=True)
class _Pair:
    """Two words that stand in each other's place; with ``one_way`` only that group's word gives way."""

    words: Mapping[str, str]
    neutral: tuple[str, ...]
    one_way: str | None


def attribute_names() -> tuple[str, ...]:
    """Names of the attributes that ship, sorted."""
    return tuple(sorted(f.name[:-5] for f in files(__name__).iterdir() if f.name.endswith(".yaml")))


def load_attribute(name_or_path: str) -> Attribute:
    """The attribute of a shipped name, or of a YAML file.

    Raises:
        UnknownNameError: Neither a shipped name nor an existing file.
        BadInputError: The file is not an attribute; the message names the field.
    """
    known = attribute_names()
    if name_or_path in known:
        text = files(__name__).joinpath(f"{name_or_path}.yaml").read_text("utf-8")
    elif Path(name_or_path).is_file():
        text = _file_text(Path(name_or_path))
    else:
        near = get_close_matches(name_or_path, known, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise UnknownNameError(
            f"no attribute named {name_or_path!r}; known: {', '.join(known)}, or a path to a YAML file.{hint}"
        )
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise BadInputError(f"attribute {name_or_path!r} is not YAML: {error}. Correct the file.") from error
    return _attribute(data, name_or_path)


def measuring_settings(attribute: Attribute) -> dict[str, object]:
    """What of an attribute decides how text is scored, as JSON values for a run's manifest."""
    return {
        "name": attribute.name,
        "groups": list(attribute.groups),
        "target": list(attribute.target),
        "words": {group: list(words) for group, words in attribute.words.items()},
        "neutral_words": list(attribute.neutral_words),
        "source": attribute.source,
    }


def attribute_from_settings(settings: object) -> Attribute:
    """The attribute a run was made with, without words to steer by; the file it came from is not needed.

    Raises:
        BadInputError: ``settings`` are not those of ``measuring_settings``.
    """
    return _attribute(settings, "of the run's manifest")


def _file_text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInputError(
            f"attribute {str(path)!r} cannot be read as UTF-8: {error}. Correct the path, or save it as UTF-8."
        ) from error


def _attribute(data: Any, origin: str) -> Attribute:
    if not isinstance(data, dict) or not {"name", "groups", "words"} <= set(data) <= _FIELDS:
        got = sorted(map(str, data)) if isinstance(data, dict) else type(data).__name__
        raise BadInputError(
            f"attribute {origin!r}: got {got}; needs name, groups, words; allowed: {', '.join(sorted(_FIELDS))}."
        )
    name, groups = _named(data["name"], data["groups"], origin)
    words = _words_per_group(data["words"], groups, origin, "words")
    neutral_words = _lower(data.get("neutral_words", []), origin, "neutral_words")
    _refuse_unmatched([*(word for group in groups for word in words[group]), *neutral_words], origin)
    pairs = _pair_words(data.get("pairs", []), groups, origin)
    counterparts, neutral_forms = _stand_ins(pairs, groups)
    fixed = _words_per_group(data.get("fixed", {}), groups, origin, "fixed", may_lack=True)
    steering = {
        group: tuple(dict.fromkeys((*words[group], *(pair.words[group] for pair in pairs), *fixed[group])))
        for group in groups
    }
    _refuse_shared(steering, origin)
    for word in (w for group in groups for w in fixed[group]):
        counterparts.pop(word, None)
    return Attribute(
        name=name,
        groups=groups,
        target=_target(data.get("target"), groups, origin),
        words=words,
        steering_words=steering,
        neutral_words=neutral_words,
        neutral_forms={word: tuple(forms) for word, forms in neutral_forms.items()},
        counterparts=counterparts,
        source=str(data.get("source", origin)),
    )


def _named(name: Any, groups: Any, origin: str) -> tuple[str, tuple[str, ...]]:
    """The attribute's name and groups; names that mean something else in a run are refused before it begins."""
    if not isinstance(name, str) or not name or name in _COLUMNS:
        raise BadInputError(
            f"attribute {origin!r}: name is {name!r}; give a text other than {', '.join(_COLUMNS)}, "
            "which are other columns of labels.csv."
        )
    listed = _texts(groups, origin, "groups")
    if len(listed) < 2 or len(set(listed)) != len(listed):
        raise BadInputError(f"attribute {origin!r}: groups {list(listed)}; give at least two, each once.")
    if taken := [group for group in listed if group in _ANSWERS]:
        raise BadInputError(
            f"attribute {origin!r}: group {taken[0]!r}; {', '.join(_ANSWERS)} are answers or rates; rename the group."
        )
    return name, listed


def _texts(raw: Any, origin: str, field: str) -> tuple[str, ...]:
    """A YAML list of texts; a bare text would be read letter by letter, and ``no`` is false to YAML."""
    if not isinstance(raw, list) or not all(isinstance(item, str) and item for item in raw):
        raise BadInputError(
            f"attribute {origin!r}: {field} is {raw!r}; give a list of words, in quotes where YAML reads a word "
            "as something else, for example 'no'."
        )
    return tuple(raw)


def _lower(raw: Any, origin: str, field: str) -> tuple[str, ...]:
    return tuple(word.lower() for word in _texts(raw, origin, field))


def _words_per_group(
    raw: Any, groups: Sequence[str], origin: str, name: str, *, may_lack: bool = False
) -> dict[str, tuple[str, ...]]:
    if not isinstance(raw, dict) or not set(raw) <= set(groups):
        raise BadInputError(f"attribute {origin!r}: {name} must map the groups {list(groups)} to words.")
    for group in groups:
        if not raw.get(group) and not may_lack:
            raise BadInputError(f"attribute {origin!r}: group {group!r} has no {name}; give at least one.")
    return {group: _lower(raw.get(group, []), origin, f"{name} of {group!r}") for group in groups}


def _pair_words(raw: Any, groups: Sequence[str], origin: str) -> tuple[_Pair, ...]:
    if not isinstance(raw, list) or not all(isinstance(pair, dict) for pair in raw):
        raise BadInputError(f"attribute {origin!r}: pairs must be a list, each with a word per group.")
    return tuple(_pair(pair, groups, origin) for pair in raw)


def _pair(raw: Mapping[Any, Any], groups: Sequence[str], origin: str) -> _Pair:
    if len(groups) != 2 or not set(groups) <= set(raw) <= {*groups, "neutral", "one_way"}:
        raise BadInputError(
            f"attribute {origin!r}: pair {dict(raw)} must name both of two groups {list(groups)}; "
            "besides them: neutral, one_way."
        )
    only = raw.get("one_way")
    if only not in (None, *groups):
        raise BadInputError(f"attribute {origin!r}: one_way is {only!r}; allowed: {', '.join(groups)}.")
    words = _lower([raw[group] for group in groups], origin, "pair")
    neutral = _lower(raw.get("neutral", []), origin, f"neutral of the pair {list(words)}")
    return _Pair(dict(zip(groups, words, strict=True)), neutral, only)


def _stand_ins(pairs: Sequence[_Pair], groups: Sequence[str]) -> tuple[dict[str, str], dict[str, list[str]]]:
    counterparts: dict[str, str] = {}
    forms: dict[str, list[str]] = {}
    for pair in pairs:
        first, second = (pair.words[group] for group in groups)
        if pair.one_way in (None, groups[0]):
            counterparts.setdefault(first, second)
        if pair.one_way in (None, groups[1]):
            counterparts.setdefault(second, first)
        for word in (first, second):
            known = forms.setdefault(word, [])
            known.extend(form for form in pair.neutral if form not in known)
    return counterparts, forms


def _refuse_unmatched(words: Sequence[str], origin: str) -> None:
    """Texts are split at everything that is not a letter: ``trans woman`` or ``40s`` would never be found."""
    for word in words:
        if not word.isalpha():
            raise BadInputError(
                f"attribute {origin!r}: {word!r} can never be found in a text; words are letters only, one at a time."
            )


def _refuse_shared(words: Mapping[str, tuple[str, ...]], origin: str) -> None:
    owner: dict[str, str] = {}
    for group, listed in words.items():
        for word in listed:
            if owner.setdefault(word, group) != group:
                raise BadInputError(
                    f"attribute {origin!r}: {word!r} is a word of {owner[word]!r} and of {group!r}; keep one."
                )


def _target(raw: Any, groups: Sequence[str], origin: str) -> tuple[float, ...]:
    if raw is None:
        return tuple(1 / len(groups) for _ in groups)
    numbers = isinstance(raw, list) and all(type(share) in (int, float) for share in raw)
    target = tuple(float(share) for share in raw) if numbers else ()
    if len(target) != len(groups) or not all(isfinite(t) and t >= 0 for t in target) or not isclose(sum(target), 1):
        raise BadInputError(f"attribute {origin!r}: target {raw!r}; give {len(groups)} shares that sum to 1.")
    return target
