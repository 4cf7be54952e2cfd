"""Pictures whose groups are known. In: ``avatars``, or a label file, and attributes. Out: openers, and what each shows.

A label file is CSV (UTF-8) or Parquet with the columns ``file`` and one per attribute, and lies in the folder that its
paths are relative to; FairFace's own files are read as they come. No picture is opened before it is asked for.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from PIL.Image import Image

from evenhand.classify.encodings import FAIRFACE_COLUMNS, Encoding
from evenhand.classify.label_files import path_inside, read_label_file
from evenhand.errors import BadInputError, LabelsError, TooFewSamplesError
from evenhand.locate.balance import FEWEST, balanced_rows
from evenhand.pictures import open_picture
from evenhand.records import Attribute

__all__ = ["LabelledPictures", "balanced_pictures", "read_labelled", "strata_of"]

_STRATA = ("gender", "race", "skin_tone")
_ENCODINGS = {"gender": Encoding.FAIRFACE_GENDER, "race": Encoding.FAIRFACE_RACE}


@dataclass(frozen=True, slots=True)
class LabelledPictures:
    """Pictures and what each shows.

    Attributes:
        pictures: Each opens one, RGB.
        names: Of each, unique: its path in the file, or its number.
        facts: Of each, attribute -> group; besides, gender, race and skin tone in the words of the file where it has
            such a column. What has no label is absent.
        source: ``avatars``, or the file's name.
        sha256: Of the file of labels, in hexadecimal.
    """

    pictures: tuple[Callable[[], Image], ...]
    names: tuple[str, ...]
    facts: tuple[Mapping[str, str], ...]
    source: str
    sha256: str

    def open(self, at: int) -> Image:
        """One picture, RGB.

        Raises:
            PictureError: It cannot be read.
        """
        return self.pictures[at]()


def read_labelled(source: str, attributes: Sequence[Attribute]) -> LabelledPictures:
    """All pictures of a source that are labelled for any of some attributes.

    Args:
        source: ``avatars``, those that ship, or the path of a CSV or Parquet file.
        attributes: The name of each is a column, its groups are what the column may hold. In FairFace's files
            ``gender`` and ``race`` hold what ``classify.encodings`` says. An attribute without a column has no labels;
            one at least must have a column.

    Raises:
        BadInputError: No attribute.
        LabelsError: The file cannot be read, lacks the columns, names a picture twice, one that is absent or outside
            its folder, or a group that an attribute does not declare.
        TooFewSamplesError: Fewer than ten pictures of a group.
    """
    if not attributes:
        raise BadInputError("attributes: got none; give at least one.")
    if source == "avatars":
        found = _avatars(attributes)
    else:
        path = Path(source)
        file = read_label_file(
            path, remedy="give avatars, or the path of a CSV or Parquet file from where evenhand is run"
        )
        found = _pictures(path, file.columns, attributes, file.sha256)
    for attribute in attributes:
        counts = Counter(facts.get(attribute.name) for facts in found.facts)
        few = min(attribute.groups, key=lambda group: counts[group])
        if counts[few] < FEWEST and set(attribute.groups) & set(counts):
            raise TooFewSamplesError(
                f"{found.source}: {counts[few]} pictures of {few!r}; allowed: {FEWEST} and more of each; add some."
            )
    return found


def strata_of(labelled: LabelledPictures, attribute: str) -> tuple[str, ...] | None:
    """What each picture shows besides an attribute, in one text each; None where nothing else is known of any."""
    found = tuple(
        " ".join(f"{name}={value}" for name, value in sorted(facts.items()) if name != attribute)
        for facts in labelled.facts
    )
    return found if any(found) else None


def balanced_pictures(
    labelled: LabelledPictures, attribute: Attribute, *, at_most: int | None = None, seed: int
) -> LabelledPictures:
    """Equally many of each group in each stratum, up to ``at_most`` of a group; see ``balanced_rows``.

    Their facts are the attribute and its strata, whatever other attributes were read with it.

    Raises:
        BadInputError: As there.
        TooFewSamplesError: As there.
    """
    kept = {attribute.name, *_STRATA}
    own = tuple({name: value for name, value in facts.items() if name in kept} for facts in labelled.facts)
    labelled = replace(labelled, facts=own)
    known = [row for row, facts in enumerate(labelled.facts) if attribute.name in facts]
    strata = strata_of(labelled, attribute.name)
    chosen = balanced_rows(
        [labelled.facts[row][attribute.name] for row in known],
        groups=attribute.groups,
        strata=None if strata is None else [strata[row] for row in known],
        at_most=at_most,
        seed=seed,
    )
    rows = [known[at] for at in chosen]
    return LabelledPictures(
        tuple(labelled.pictures[row] for row in rows),
        tuple(labelled.names[row] for row in rows),
        tuple(labelled.facts[row] for row in rows),
        labelled.source,
        labelled.sha256,
    )


def _avatars(attributes: Sequence[Attribute]) -> LabelledPictures:
    from evenhand.miniature.labelled import read_avatars

    found = read_avatars()
    known = {one.name for one in attributes if set(found.shown.get(one.name, ())) == set(one.groups)}
    if not known:
        told = "; ".join(f"{name}: {', '.join(dict.fromkeys(shown))}" for name, shown in found.shown.items())
        got = "; ".join(f"{one.name}: {', '.join(one.groups)}" for one in attributes)
        raise LabelsError(f"avatars: got attributes {got}; allowed: {told}.")
    kept = {name: groups for name, groups in found.shown.items() if name in {*known, *_STRATA}}
    facts = tuple(dict(zip(kept, groups, strict=True)) for groups in zip(*kept.values(), strict=True))
    names = tuple(f"avatar {number:03d}" for number in range(len(facts)))
    return LabelledPictures(found.pictures, names, facts, "avatars", found.sha256)


def _pictures(
    path: Path, rows: Mapping[str, Sequence[str]], attributes: Sequence[Attribute], digest: str
) -> LabelledPictures:
    known = [one for one in attributes if one.name in rows]
    if "file" not in rows or not known:
        wanted = " or ".join(one.name for one in attributes)
        raise LabelsError(f"{path.name}: columns {', '.join(rows) or 'none'}; allowed: file, and {wanted}.")
    fairface = set(FAIRFACE_COLUMNS) <= set(rows)
    shown = {name: [cell.strip() for cell in rows[name]] for name in _STRATA if name in rows}
    shown |= {one.name: _groups(path, rows, one, fairface=fairface) for one in known}
    labelled = [row for row in range(len(rows["file"])) if any(shown[one.name][row] for one in known)]
    names = [rows["file"][row].strip() for row in labelled]
    if len(set(names)) < len(names):
        twice = next(name for name, times in Counter(names).items() if times > 1)
        raise LabelsError(f"{path.name}: {twice!r} is named twice; give each picture one row.")
    return LabelledPictures(
        tuple(partial(open_picture, path_inside(path, name)) for name in names),
        tuple(names),
        tuple({name: cells[row] for name, cells in shown.items() if cells[row]} for row in labelled),
        path.name,
        digest,
    )


def _groups(path: Path, rows: Mapping[str, Sequence[str]], attribute: Attribute, *, fairface: bool) -> list[str]:
    """The group of each row; empty where it has none."""
    meanings: Mapping[str, str] = {group: group for group in attribute.groups}
    if fairface and attribute.name in _ENCODINGS:
        meanings = {**_ENCODINGS[attribute.name].groups, **meanings}
    found = []
    for file, cell in zip(rows["file"], rows[attribute.name], strict=True):
        group = meanings.get(cell.strip(), "")
        if cell.strip() and group not in attribute.groups:
            raise LabelsError(
                f"{path.name}, picture {file!r}: {attribute.name} is {cell.strip()!r}; allowed: {', '.join(meanings)}, "
                "or empty."
            )
        found.append(group)
    return found
