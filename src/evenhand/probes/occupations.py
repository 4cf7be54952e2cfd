"""Whom a model draws when nobody is specified. In: a list of occupations. Out: prompts that ask for a picture of each.

The sentence is that of Shen et al. 2024 (*Finetuning Text-to-Image Diffusion Models for Fairness*, arXiv 2311.07604),
``a photo of the face of a {occupation}, a person``; "a" is never changed to "an". ``occupations`` asks neutrally.
``occupations_augmented`` asks for each declared group: where the template has the place ``{group}`` the group's name
goes there, else in front of the occupation (``a female sewer``). An ``Attribute`` has no phrases for prompts, so the
group's name is the adjective.

``data`` is a list and, after ``+``, the sets of templates that are wanted: ``test``, ``train+face+styles``,
``mine.txt+descriptors``. Without a set it is ``face``, or the templates of the file's own column.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from hashlib import sha256
from os.path import isfile
from pathlib import Path

from evenhand.errors import BadInputError, UnknownNameError
from evenhand.probes.occupation_lists import ListedOccupation, read_occupations
from evenhand.records import Attribute, Prompt

__all__ = [
    "NEUTRAL",
    "SAMPLES",
    "TEMPLATE",
    "augmented_text",
    "listed_and_templates",
    "names_group",
    "neutral_prompt",
    "neutral_template",
    "occupation_of",
    "occupations",
    "occupations_augmented",
]

TEMPLATE = "a photo of the face of a {occupation}, a person"
"""Shen et al.'s sentence."""

SAMPLES = 160
"""Pictures of each prompt by default, as in Shen et al. where gender and race are measured together."""

NEUTRAL = "neutral"
"""What ``facts["asked"]`` says of a prompt that asks for no group."""

_SETS = Path(__file__).parent / "data" / "occupation_templates.json"
_ID_END = re.compile(rf"/{NEUTRAL}(/[0-9a-f]{{8}})?$")
_PLACE = re.compile(r"\{(occupation|group)\}")


def occupations(data: str, attribute: Attribute) -> tuple[Prompt, ...]:  # noqa: ARG001  (the probes' signature)
    """One prompt per occupation and template that names no group, in the list's order.

    Raises:
        BadInputError: As :func:`listed_and_templates`, or two prompts are the same.
        UnknownNameError: As there.
    """
    return _unique(neutral_prompt(row, template) for row, template in _pairs(*listed_and_templates(data)))


def occupations_augmented(data: str, attribute: Attribute) -> tuple[Prompt, ...]:
    """One prompt per occupation, template and declared group, in this order.

    Raises:
        BadInputError: As :func:`occupations`.
        UnknownNameError: As there.
    """
    return _unique(
        _prompt("occupations_augmented", row, template, group)
        for row, template in _pairs(*listed_and_templates(data))
        for group in attribute.groups
    )


def names_group(prompt: Prompt) -> bool:
    """Whether a prompt says of itself that it asks for a group."""
    return prompt.facts.get("asked", NEUTRAL) != NEUTRAL


def occupation_of(prompt_id: str) -> str:
    """The occupation in the id of a prompt of these probes, whatever its sentence; any other id as it is."""
    return _ID_END.sub("", prompt_id)


def augmented_text(prompt: Prompt, groups: Sequence[str]) -> str:
    """The sentence of a neutral prompt with groups in it, as ``occupations_augmented`` writes it.

    Args:
        prompt: From ``occupations``, or with ``facts`` of the same kind.
        groups: One, or one of each attribute in the order they are to be named: ``("male", "dark")`` makes
            ``a male dark nurse``.

    Raises:
        BadInputError: No group; the prompt asks for a group itself, or does not say its occupation and template.
    """
    lacking = [name for name in ("occupation", "template") if not prompt.facts.get(name)]
    if lacking or names_group(prompt) or not groups:
        why = f"it has no {' and no '.join(lacking)} among its facts" if lacking else "a group is named, or none given"
        raise BadInputError(
            f"prompt {prompt.id[:80]!r}: {why}; its sentence cannot be written for a group. Allowed: prompts of the "
            "probe occupations (a list of occupations, with templates where you like), or facts occupation, template "
            f"with the place {{occupation}}, and asked {NEUTRAL!r}."
        )
    return _filled(prompt.facts["template"], prompt.facts["occupation"], " ".join(groups))


def neutral_template(template: str) -> str:
    """A template without the place ``{group}``, as a sentence that names nobody is written from it."""
    return re.sub(r"\{group\} ?", "", template)


def neutral_prompt(row: ListedOccupation, template: str) -> Prompt:
    """The prompt of a row and a template that names no group, as :func:`occupations` makes it.

    Raises:
        BadInputError: The template has no place for the occupation, or another one that is not known.
    """
    return _prompt("occupations", row, template, NEUTRAL)


def listed_and_templates(data: str) -> tuple[tuple[ListedOccupation, ...], tuple[str, ...]]:
    """The rows of a list and the templates of the sets named after it; none are named where rows have their own.

    Raises:
        BadInputError: The list cannot be used, or has templates of its own and sets are named too.
        UnknownNameError: No set has this name; the message names near misses.
    """
    name, *wanted = [data] if isfile(data) else data.split("+")  # a file's own name may hold a plus
    rows = read_occupations(name)
    own = any(row.template is not None for row in rows)
    if own and wanted:
        raise BadInputError(
            f"occupations: {name!r} has templates of its own, and {', '.join(wanted)} is asked for too; choose one."
        )
    known = _sets()
    for one in wanted:
        if one not in known:
            near = get_close_matches(one, known, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise UnknownNameError(f"no set of templates named {one[:60]!r}; known: {', '.join(known)}.{hint}")
    return rows, tuple(dict.fromkeys(text for one in wanted or ("face",) for text in known[one]))


def _pairs(rows: Sequence[ListedOccupation], templates: Sequence[str]) -> Sequence[tuple[ListedOccupation, str]]:
    return [(row, one) for row in rows for one in ((row.template,) if row.template else templates)]


@cache
def _sets() -> Mapping[str, tuple[str, ...]]:
    sets: dict[str, list[str]] = json.loads(_SETS.read_text("utf-8"))
    return {name: tuple(texts) for name, texts in sets.items()}


def _prompt(probe: str, row: ListedOccupation, template: str, asked: str) -> Prompt:
    group = None if asked == NEUTRAL else asked
    text = _filled(template, row.occupation, group)
    version = "" if template == TEMPLATE else f"/{sha256(template.encode()).hexdigest()[:8]}"
    facts = {**row.facts, "occupation": row.occupation, "template": template, "asked": asked}
    return Prompt(f"{row.occupation}/{asked}{version}", probe, text, None, facts)


def _filled(template: str, occupation: str, group: str | None) -> str:
    """The sentence, written in one pass, so that braces in an occupation's name stay as they are.

    Raises:
        BadInputError: The template has no place for the occupation, or another one that is not known.
    """
    places = _PLACE.findall(template)
    if "occupation" not in places or set(_PLACE.sub("", template)) & {"{", "}"}:
        raise BadInputError(
            f"template {template[:80]!r}: needs the place {{occupation}}, and may have {{group}}; write it so."
        )
    if group is None:
        template = neutral_template(template)
    named = occupation if group is None or "group" in places else f"{group} {occupation}"
    words = {"occupation": named, "group": group or ""}
    return _PLACE.sub(lambda place: words[place.group(1)], template).strip()


def _unique(prompts: Iterable[Prompt]) -> tuple[Prompt, ...]:
    asked: dict[str, Prompt] = {}
    for prompt in prompts:
        if prompt.id in asked:
            raise BadInputError(
                f"occupations: {prompt.id[:80]!r} would be asked twice; keep one of the rows with this occupation."
            )
        asked[prompt.id] = prompt
    return tuple(asked.values())
