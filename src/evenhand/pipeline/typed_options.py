"""Options of a model. In: values, or texts as they were typed. Out: the same as the loader's annotations say.

A text is read as the annotation alone: ``no`` and ``0755`` stay what they are where a text is annotated. What is
annotated as a list or a mapping is given as JSON. A value that is no text is checked and kept; an object that JSON does
not know, such as a dtype of torch, is the loader's own affair.
"""

import inspect
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from math import isfinite
from numbers import Integral, Number, Real
from types import NoneType, SimpleNamespace, UnionType
from typing import Literal, Union, get_args, get_origin, get_type_hints

from evenhand.errors import BadInputError

__all__ = ["typed_options"]

_UNKNOWN = object()
_WORDS: Mapping[object, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a finite number",
    Sequence: "a list, as JSON",
    Mapping: "an object, as JSON",
    str: "a text",
}
_READING_ORDER = (bool, int, float, Literal, Sequence, Mapping, str, _UNKNOWN)
"""Of a union, what is tried on a text first; a text is what everything is."""


def typed_options(loader: Callable[..., object], options: Mapping[str, object]) -> dict[str, object]:
    """Options with the types that the loader annotates.

    Args:
        loader: Whose keywords they are; what it does not annotate is read as a number, true, false or a text.
        options: By keyword.

    Raises:
        BadInputError: A value of another type, or a number that is not finite.
    """
    found = {}
    for name, value in options.items():
        kinds = _kinds(loader, name)
        try:
            found[name] = _read(value, kinds) if isinstance(value, str) else _fit(value, kinds)
        except (ValueError, RecursionError) as error:
            allowed = dict.fromkeys(_in_words(kind) for kind in _in_order(kinds) if kind is not NoneType)
            raise BadInputError(f"option {name}: got {value!r}; allowed: {', or '.join(allowed)}") from error
    return found


def _kinds(loader: Callable[..., object], name: str) -> list[object]:
    """The members of a keyword's annotation; ``_UNKNOWN`` stands for what is not annotated or cannot be looked up."""
    known = inspect.signature(loader).parameters
    annotation = known[name].annotation if name in known else inspect.Parameter.empty
    plain = inspect.unwrap(loader)
    module = sys.modules.get(getattr(plain, "__module__", ""), None)
    return _members(annotation, getattr(plain, "__globals__", None) or vars(module or SimpleNamespace()))


def _members(annotation: object, names: dict[str, object]) -> list[object]:
    if isinstance(annotation, str):
        try:
            annotation = get_type_hints(SimpleNamespace(__annotations__={"it": annotation}), names)["it"]
        except (NameError, AttributeError, SyntaxError, TypeError):
            # Imported for the type checker alone; the other members of the union may be known.
            parts = str(annotation).split("|")
            return [kind for part in parts for kind in _members(part.strip(), names)] if len(parts) > 1 else [_UNKNOWN]
    if get_origin(annotation) in (Union, UnionType):
        return [kind for part in get_args(annotation) for kind in _members(part, names)]
    return [annotation if annotation is NoneType or _family(annotation) is not _UNKNOWN else _UNKNOWN]


def _family(kind: object) -> object:
    """Which of ``_READING_ORDER`` a kind is."""
    if kind in (bool, int, float, str):
        return kind
    origin = get_origin(kind) or kind
    if origin is Literal:
        return Literal
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return Mapping
    return Sequence if origin in (list, tuple, Sequence) else _UNKNOWN


def _in_order(kinds: Sequence[object]) -> list[object]:
    return sorted(kinds, key=lambda kind: _READING_ORDER.index(_family(kind)))


def _in_words(kind: object) -> str:
    if _family(kind) is Literal:
        return ", ".join(map(str, get_args(kind)))
    return _WORDS.get(_family(kind), "another value")


def _read(text: str, kinds: Sequence[object]) -> object:
    """A text as the first kind that it can be.

    Raises:
        ValueError: It can be none.
    """
    for kind in _in_order(kinds):
        with suppress(ValueError, KeyError):
            return _read_one(text, kind)
    raise ValueError(text)


def _read_one(text: str, kind: object) -> object:
    family = _family(kind)
    if family is str:
        return text
    if family is int and re.fullmatch(r"[+-]?[0-9]+", text):
        return int(text)
    if family is float and "_" not in text:
        return _fit_one(float(text), kind)
    if family is Literal:
        return {str(choice): choice for choice in get_args(kind)}[text]
    if family in (bool, Sequence, Mapping):
        return _fit_one(_from_json(text), kind)
    if family is _UNKNOWN and kind is not NoneType:  # what is left out is None
        return _scalar(text)
    raise ValueError(text)


def _from_json(text: str) -> object:
    return json.loads(text, parse_constant=_refuse)


def _scalar(text: str) -> object:
    """A number, true or false as JSON writes it; anything else is a text."""
    with suppress(ValueError):
        value = _from_json(text)
        if isinstance(value, bool | int) or (isinstance(value, float) and isfinite(value)):
            return value
    return text


def _fit(value: object, kinds: Sequence[object]) -> object:
    """A value as the first kind that it is; a whole number may stand for a float, not the other way round.

    Raises:
        ValueError: It is none of them.
    """
    if not isinstance(value, NoneType | Number | str | list | tuple | Mapping):
        return value
    for kind in _in_order(kinds):
        with suppress(ValueError):
            return _fit_one(value, kind)
    raise ValueError(value)


def _fit_one(value: object, kind: object) -> object:
    family = _family(kind)
    truth = isinstance(value, bool)  # which Python counts as a number
    if family is int and isinstance(value, Integral) and not truth:
        return int(value)
    if family is float and isinstance(value, Real) and not truth:
        with suppress(OverflowError):
            return float(value) if isfinite(value) else _refuse(str(value))
    if family is Sequence and isinstance(value, list | tuple):
        return _fit_list(value, kind)
    if family is Mapping and isinstance(value, Mapping):
        _, inner = get_args(kind) or (str, object)
        return {key: _fit(one, _members(inner, {})) for key, one in value.items()}
    fits = {
        bool: truth,
        str: isinstance(value, str),
        Literal: family is Literal and value in get_args(kind),
        _UNKNOWN: value is None or kind is not NoneType,
    }
    if not fits.get(family, False):
        raise ValueError(value)
    return value


def _fit_list(value: Sequence[object], kind: object) -> object:
    origin, inner = get_origin(kind) or kind, get_args(kind) or (object, ...)
    if origin is not tuple or inner[-1] is Ellipsis:
        inner = inner[:1] * len(value)
    if len(inner) != len(value):
        raise ValueError(value)
    fitted = [_fit(one, _members(part, {})) for one, part in zip(value, inner, strict=True)]
    return fitted if origin is list else tuple(fitted)


def _refuse(constant: str) -> object:
    raise ValueError(constant)
