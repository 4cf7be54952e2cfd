"""Attributes as data. In: a shipped name or a YAML file. Out: an ``Attribute``.

An attribute is declared, never inferred: its groups, the words that carry them, the words that stand in each
other's place, and when a listed word means something else. ``age``, ``gender``, ``race`` and ``toxicity`` ship; a
path to a YAML file of the same form adds another without touching code.
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
from evenhand.records import Attribute, Guard

__all__ = ["attribute_from_settings", "attribute_names", "load_attribute", "measuring_settings"]

_FIELDS = {
    *("name", "groups", "target", "source", "words", "neutral_words", "pairs", "fixed"),
    *("lists", "guards", "one_sided", "fitted"),
}
_CONTEXTS = ("before", "after", "needs_after")
_COLUMNS = ("file", "scene")
_ANSWERS = ("both", "neutral", "none", "error", "O", "C")  # what a label says besides a group; MR_O and MR_C


@dataclass(frozen=True, slots=True)
class _Pair:
    """Words of two or more groups that stand in each other's place; ``one_way``: only that group's gives way."""

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
    """What of an attribute decides how text is scored, as JSON values for a run's manifest.

    Guards are not among it: they decide what a mitigation may move, never what is counted.
    """
    lacking = [group for group in attribute.groups if not attribute.words[group]]
    fitted = {"fitted": True} if lacking else {}
    return fitted | {
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
    words = _words_per_group(data["words"], groups, origin, "words", may_lack=_may_lack(data, groups, origin))
    neutral_words = _lower(data.get("neutral_words", []), origin, "neutral_words")
    pairs = _pair_words(data.get("pairs", []), groups, origin)
    counterparts, neutral_forms = _stand_ins(pairs)
    fixed = _words_per_group(data.get("fixed", {}), groups, origin, "fixed", may_lack=groups)
    steering = {
        group: tuple(
            dict.fromkeys((*words[group], *(p.words[group] for p in pairs if group in p.words), *fixed[group]))
        )
        for group in groups
    }
    _refuse_shared(steering, origin)
    listed = [word for group in groups for word in steering[group]]
    _refuse_unmatched([*listed, *neutral_words, *(form for pair in pairs for form in pair.neutral)], origin)
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
        guards=_guards(data.get("guards", []), data.get("lists", {}), listed, origin),
    )


def _named(name: Any, groups: Any, origin: str) -> tuple[str, tuple[str, ...]]:
    """The attribute's name and groups; names that mean something else in a run are refused before it begins."""
    if not isinstance(name, str) or not name or name in _COLUMNS:
        raise BadInputError(
            f"attribute {origin!r}: name is {name!r}; give a text other than {', '.join(_COLUMNS)}, "
            "which are other columns of labels.csv."
        )
    if any(mark in name for mark in "/\\:=,") or name.startswith(".") or not name.isprintable():
        raise BadInputError(
            f"attribute {origin!r}: name is {name!r}; it names files and options, so it may not hold / \\ : = , or "
            "begin with a dot."
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
    raw: Any, groups: Sequence[str], origin: str, name: str, *, may_lack: Sequence[str] = ()
) -> dict[str, tuple[str, ...]]:
    if not isinstance(raw, dict) or not set(raw) <= set(groups):
        raise BadInputError(f"attribute {origin!r}: {name} must map the groups {list(groups)} to words.")
    for group in groups:
        if not raw.get(group) and group not in may_lack:
            raise BadInputError(f"attribute {origin!r}: group {group!r} has no {name}; give at least one.")
    return {group: _lower(raw.get(group, []), origin, f"{name} of {group!r}") for group in groups}


def _pair_words(raw: Any, groups: Sequence[str], origin: str) -> tuple[_Pair, ...]:
    if not isinstance(raw, list) or not all(isinstance(pair, dict) for pair in raw):
        raise BadInputError(f"attribute {origin!r}: pairs must be a list, each with a word per group.")
    return tuple(_pair(pair, groups, origin) for pair in raw)


def _pair(raw: Mapping[Any, Any], groups: Sequence[str], origin: str) -> _Pair:
    named = [group for group in groups if group in raw]
    if len(named) < 2 or not set(raw) <= {*groups, "neutral", "one_way"}:
        raise BadInputError(
            f"attribute {origin!r}: pair {dict(raw)} must name a word of at least two of {list(groups)}; "
            "besides them: neutral, one_way."
        )
    only = raw.get("one_way")
    if only not in (None, *named):
        raise BadInputError(f"attribute {origin!r}: one_way is {only!r}; allowed: {', '.join(named)}.")
    words = _lower([raw[group] for group in named], origin, "pair")
    neutral = _lower(raw.get("neutral", []), origin, f"neutral of the pair {list(words)}")
    return _Pair(dict(zip(named, words, strict=True)), neutral, only)


def _stand_ins(pairs: Sequence[_Pair]) -> tuple[dict[str, dict[str, str]], dict[str, list[str]]]:
    """Word -> group -> that group's word, and word -> neutral words; where pairs disagree the first one holds."""
    counterparts: dict[str, dict[str, str]] = {}
    forms: dict[str, list[str]] = {}
    for pair in pairs:
        for own, word in pair.words.items():
            if pair.one_way in (None, own):
                for group, other in pair.words.items():
                    if group != own:
                        counterparts.setdefault(word, {}).setdefault(group, other)
            known = forms.setdefault(word, [])
            known.extend(form for form in pair.neutral if form not in known)
    return counterparts, {word: listed for word, listed in forms.items() if listed}


def _may_lack(data: Mapping[Any, Any], groups: Sequence[str], origin: str) -> Sequence[str]:
    """The groups that may have no words: the second of a one-sided attribute, all of one whose words are fitted."""
    for field in ("one_sided", "fitted"):
        if not isinstance(data.get(field, False), bool):
            raise BadInputError(f"attribute {origin!r}: {field} is {data[field]!r}; allowed: true, false.")
    if data.get("one_sided") and len(groups) != 2:
        raise BadInputError(
            f"attribute {origin!r}: one_sided with the groups {list(groups)}; it needs two, the second one without "
            "words of its own."
        )
    if data.get("fitted"):
        return groups
    return groups[1:] if data.get("one_sided") else ()


def _guards(raw: Any, lists: Any, steering: Sequence[str], origin: str) -> tuple[Guard, ...]:
    """One guard per word, in the order first named; a word named by several entries has the contexts of all."""
    if not isinstance(raw, list) or not all(isinstance(entry, dict) for entry in raw):
        raise BadInputError(f"attribute {origin!r}: guards must be a list, each with words and their contexts.")
    if not isinstance(lists, dict) or not all(isinstance(name, str) for name in lists):
        raise BadInputError(f"attribute {origin!r}: lists must map names to lists of words.")
    shared = {name: _lower(words, origin, f"list {name!r}") for name, words in lists.items()}
    contexts: dict[str, dict[str, dict[str, None]]] = {}
    for entry in raw:
        if "words" not in entry or not set(entry) <= {"words", *_CONTEXTS} or len(entry) < 2:
            raise BadInputError(
                f"attribute {origin!r}: guard {dict(entry)} must have words and one or more of {', '.join(_CONTEXTS)}."
            )
        found = {field: _context(entry[field], shared, origin, field) for field in _CONTEXTS if field in entry}
        for word in _lower(entry["words"], origin, "words of a guard"):
            if word not in steering:
                raise BadInputError(f"attribute {origin!r}: guard of {word!r}, which is no word of a group; list it.")
            mine = contexts.setdefault(word, {field: {} for field in _CONTEXTS})
            for field, others in found.items():
                mine[field].update(dict.fromkeys(others))
    return tuple(
        Guard(word, **{field: tuple(others) for field, others in mine.items()}) for word, mine in contexts.items()
    )


def _context(raw: Any, shared: Mapping[str, tuple[str, ...]], origin: str, field: str) -> tuple[str, ...]:
    """The words of a context: listed, or the name of a shared list."""
    if isinstance(raw, str) and raw not in shared:
        raise BadInputError(
            f"attribute {origin!r}: {field} of a guard is {raw!r}; give a list of words, or the name of a list: "
            f"{', '.join(shared) or 'none is declared under lists'}."
        )
    words = shared[raw] if isinstance(raw, str) else _lower(raw, origin, f"{field} of a guard")
    if not words:
        raise BadInputError(f"attribute {origin!r}: {field} of a guard is empty; leave it out, or give words.")
    _refuse_unmatched(words, origin)
    return words


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
