"""Attributes as data. In: a shipped name or a YAML file. Out: an ``Attribute``.

An attribute is declared, never inferred: its groups, the words that carry them, the words that stand in each
other's place. ``gender`` ships; a path to a YAML file of the same form adds another without touching code.
"""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from importlib.resources import files
from math import isclose, isfinite
from pathlib import Path
from typing import Any

import yaml

from evenhand.errors import BadInputError, UnknownNameError
from evenhand.records import Attribute

__all__ = ["attribute_names", "load_attribute"]

_FIELDS = {"name", "groups", "target", "source", "words", "neutral_words", "pairs", "fixed"}


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
        text = Path(name_or_path).read_text("utf-8")
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


def _attribute(data: Any, origin: str) -> Attribute:
    if not isinstance(data, dict) or not {"name", "groups", "words"} <= set(data) <= _FIELDS:
        got = sorted(data) if isinstance(data, dict) else type(data).__name__
        raise BadInputError(
            f"attribute {origin!r}: got {got}; needs name, groups, words; allowed: {', '.join(sorted(_FIELDS))}."
        )
    groups = tuple(str(group) for group in data["groups"])
    if len(groups) < 2 or len(set(groups)) != len(groups):
        raise BadInputError(f"attribute {origin!r}: groups {list(groups)}; give at least two, each once.")
    words = _words_per_group(data["words"], groups, origin, "words")
    counterparts, neutral_forms = _pairs(data.get("pairs", []), groups, origin)
    fixed = _words_per_group(data.get("fixed", {}), groups, origin, "fixed", may_lack=True)
    _refuse_shared(words, origin)
    steering = {
        group: tuple(
            dict.fromkeys(
                (*words[group], *(w for pair in data.get("pairs", []) for w in [str(pair[group])]), *fixed[group])
            )
        )
        for group in groups
    }
    for word in (w for group in groups for w in fixed[group]):
        counterparts.pop(word, None)
    return Attribute(
        name=str(data["name"]),
        groups=groups,
        target=_target(data.get("target"), groups, origin),
        words=words,
        steering_words=steering,
        neutral_words=tuple(str(w) for w in data.get("neutral_words", [])),
        neutral_forms={word: tuple(forms) for word, forms in neutral_forms.items()},
        counterparts=counterparts,
        source=str(data.get("source", origin)),
    )


def _words_per_group(
    raw: Any, groups: Sequence[str], origin: str, name: str, *, may_lack: bool = False
) -> dict[str, tuple[str, ...]]:
    if not isinstance(raw, dict) or not set(raw) <= set(groups):
        raise BadInputError(f"attribute {origin!r}: {name} must map the groups {list(groups)} to words.")
    for group in groups:
        if not raw.get(group) and not may_lack:
            raise BadInputError(f"attribute {origin!r}: group {group!r} has no {name}; give at least one.")
    return {group: tuple(str(word).lower() for word in raw.get(group, [])) for group in groups}


def _pairs(
    raw: Sequence[Mapping[str, Any]], groups: Sequence[str], origin: str
) -> tuple[dict[str, str], dict[str, list[str]]]:
    counterparts: dict[str, str] = {}
    forms: dict[str, list[str]] = {}
    for pair in raw:
        if len(groups) != 2 or not set(groups) <= set(pair):
            raise BadInputError(f"attribute {origin!r}: pair {dict(pair)} must name both of two groups {groups}.")
        first, second = (str(pair[group]) for group in groups)
        only = pair.get("one_way")
        if only in (None, groups[0]):
            counterparts.setdefault(first, second)
        if only in (None, groups[1]):
            counterparts.setdefault(second, first)
        for word in (first, second):
            known = forms.setdefault(word, [])
            known.extend(str(form) for form in pair.get("neutral", []) if form not in known)
    return counterparts, forms


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
    target = tuple(float(share) for share in raw)
    if len(target) != len(groups) or not all(isfinite(t) and t >= 0 for t in target) or not isclose(sum(target), 1):
        raise BadInputError(f"attribute {origin!r}: target {list(target)}; give {len(groups)} shares that sum to 1.")
    return target
