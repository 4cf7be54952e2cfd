"""Captioned pictures. In: a JSON file of captions, or its folder. Out: prompts, and the captions people wrote.

Two formats are read: COCO's annotations (``images`` with ``id`` and ``file_name``, ``annotations`` with ``image_id``
and ``caption``; Chen et al. 2015, arXiv 1504.00325) and a plain list of ``{"file": ..., "captions": [...]}``, whose
other fields (licence, source) are kept as facts. Pictures lie beside the file, in ``images/`` beside or above it, or in
COCO's own folder (``val2017/`` for ``captions_val2017.json``); one that is in none of them is asked for all the same
and becomes a counted error.

The declared group is what people wrote, not what is seen: the one group whose words the captions of a picture use
(Zhao et al. 2017, arXiv 1707.09457, and SFID's picture list do so for gender). Words of two groups: ``both``; only
neutral words for people: ``neutral``; else ``none``.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from evenhand.errors import BadInputError, LabelsError
from evenhand.records import Attribute, Prompt

__all__ = ["captioned", "coco", "references"]

_WORD = re.compile(r"[^\W\d_]+")


@dataclass(frozen=True, slots=True)
class _Picture:
    file: str
    captions: tuple[str, ...]
    facts: Mapping[str, str]


def coco(data: str, attribute: Attribute) -> tuple[Prompt, ...]:
    """One prompt per picture whose captions agree on a group, in the file's order; see :func:`captioned` for all.

    Raises:
        BadInputError: As :func:`captioned`.
        LabelsError: No picture's captions agree on a declared group.
    """
    prompts = tuple(prompt for prompt in captioned(data, attribute) if prompt.facts[attribute.name] in attribute.groups)
    if not prompts:
        raise LabelsError(
            f"{data}: got no picture whose captions use the words of exactly one of {', '.join(attribute.groups)}; "
            "give captions of people"
        )
    return prompts


def captioned(data: str, attribute: Attribute) -> tuple[Prompt, ...]:
    """One prompt per picture, in the file's order.

    ``facts`` hold under the attribute's name the group, ``both``, ``neutral`` or ``none``; ``captions`` is the number
    of captions and ``captions_naming`` that of those with any group's words.

    Raises:
        BadInputError: No such file, not one of the two formats, a picture named twice or outside the folder.
    """
    path = _file(data)
    folders = _folders(path)
    prompts = []
    for picture in _pictures(path):
        group, naming = _group(picture.captions, attribute)
        facts = {
            **picture.facts,
            attribute.name: group,
            "captions": str(len(picture.captions)),
            "captions_naming": str(naming),
        }
        found = [folder / picture.file for folder in folders if (folder / picture.file).is_file()]
        image = found[0] if found else folders[0] / picture.file
        prompts.append(Prompt(picture.file, "coco", "", str(image), facts))
    return tuple(prompts)


def references(data: str) -> Mapping[str, tuple[str, ...]]:
    """Prompt id -> the captions people wrote, for every picture of the file.

    Raises:
        BadInputError: As :func:`captioned`.
    """
    return {picture.file: picture.captions for picture in _pictures(_file(data))}


def _file(data: str) -> Path:
    path = Path(data)
    if path.is_dir():
        found = sorted(path.glob("*.json"))
        if len(found) != 1:
            raise BadInputError(
                f"data: {data!r} holds {len(found)} JSON files, allowed: one, with captions; name the file itself"
            )
        return found[0]
    if not path.is_file():
        raise BadInputError(f"data: {data!r} is no file or folder; give a JSON file of captions, or its folder")
    return path


def _folders(path: Path) -> tuple[Path, ...]:
    """Where the file's pictures may lie, the likeliest first."""
    split = path.stem.removeprefix("captions_")
    named = [above / name for above in (path.parent, path.parent.parent) for name in ("images", split)]
    return (*named, path.parent)


def _pictures(path: Path) -> tuple[_Picture, ...]:
    try:
        content = json.loads(path.read_text("utf-8-sig"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise BadInputError(f"{path.name} cannot be read as JSON: {error}; save it as UTF-8 JSON") from error
    pictures = _from_annotations(content) if isinstance(content, dict) else _from_list(content)
    seen: set[PurePosixPath] = set()
    for picture in pictures:
        inside, foreign = PurePosixPath(picture.file), PureWindowsPath(picture.file)
        outside = inside.is_absolute() or foreign.anchor or ".." in (*inside.parts, *foreign.parts)
        if not picture.file or outside or "\0" in picture.file or inside in seen:
            raise BadInputError(
                f"{path.name}: picture {picture.file!r}, allowed: paths inside the folder, each once; correct the file"
            )
        seen.add(inside)
    if not pictures:
        raise BadInputError(f"{path.name}: got no pictures with captions; give at least one")
    return pictures


def _from_list(content: object) -> tuple[_Picture, ...]:
    if not isinstance(content, list):
        raise BadInputError(
            f"captions: got {type(content).__name__}, allowed: a list of objects with file and captions, or COCO's "
            "object with images and annotations"
        )
    pictures = []
    for number, row in enumerate(content):
        fields = row if isinstance(row, dict) else {}
        file, captions = fields.get("file"), fields.get("captions")
        if not isinstance(file, str) or not _are_captions(captions):
            raise BadInputError(
                f"captions: entry {number} needs file, a text, and captions, a list of texts with words; correct it"
            )
        facts = {
            str(key): str(value)
            for key, value in fields.items()
            if key not in ("file", "captions") and isinstance(value, str | int | float)
        }
        pictures.append(_Picture(file, tuple(captions or ()), facts))
    return tuple(pictures)


def _from_annotations(content: Mapping[str, object]) -> tuple[_Picture, ...]:
    """COCO's own format; images without a caption are left out, as its evaluation does."""
    images, annotations = content.get("images"), content.get("annotations")
    if not isinstance(images, list) or not isinstance(annotations, list):
        raise BadInputError(
            f"captions: got an object with {', '.join(map(repr, content)) or 'nothing'}, allowed: COCO's images and "
            "annotations, both lists; give a captions file"
        )
    captions: dict[object, list[str]] = {}
    for number, row in enumerate(annotations):
        if not isinstance(row, dict) or not _are_captions([row.get("caption")]):
            raise BadInputError(f"annotations: entry {number} needs image_id and caption, a text; give a captions file")
        captions.setdefault(_id(row.get("image_id")), []).append(str(row["caption"]))
    pictures = []
    for number, row in enumerate(images):
        if not isinstance(row, dict) or not isinstance(row.get("file_name"), str):
            raise BadInputError(f"images: entry {number} needs id and file_name, a text; correct the file")
        if _id(row.get("id")) in captions:
            texts = captions.pop(_id(row["id"]))
            facts = {"image_id": str(row["id"])} | {
                key: str(row[key]) for key in ("license", "flickr_url") if isinstance(row.get(key), str | int)
            }
            pictures.append(_Picture(str(row["file_name"]), tuple(texts), facts))
    if captions:
        raise BadInputError(
            f"annotations: {len(captions)} image_id stand in no image, for example {next(iter(captions))!r}; "
            "give both parts of one file"
        )
    return tuple(pictures)


def _id(value: object) -> int | str:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise BadInputError(f"captions: got the picture id {value!r}, allowed: a number or text; correct the file")
    return value


def _are_captions(captions: object) -> bool:
    return (
        isinstance(captions, list)
        and bool(captions)
        and all(isinstance(text, str) and bool(text.strip()) for text in captions)
    )


def _group(captions: Sequence[str], attribute: Attribute) -> tuple[str, int]:
    """What the captions of one picture say together, and how many of them use any group's words."""
    group_of = {word: group for group, words in attribute.words.items() for word in words}
    spoken = [{match.group().lower() for match in _WORD.finditer(text)} for text in captions]
    named = [{group_of[word] for word in words & group_of.keys()} for words in spoken]
    together = set().union(*named)
    naming = sum(bool(one) for one in named)
    if len(together) == 1:
        return together.pop(), naming
    if together:
        return "both", naming
    neutral = any(words & set(attribute.neutral_words) for words in spoken)
    return ("neutral" if neutral else "none"), naming
