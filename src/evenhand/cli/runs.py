"""Run folders on the command line. In: folders. Out: what they show, runs of texts and of pictures apart."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from evenhand.errors import BadInputError, EvenhandError
from evenhand.records import Comparison, PictureComparison, Scored, ScoredPictures

if TYPE_CHECKING:
    from evenhand.pipeline.labels import Reading

__all__ = ["ScoredRuns", "find_runs", "is_location", "is_study", "score_runs"]


@dataclass(frozen=True, slots=True)
class ScoredRuns:
    """Runs with their comparisons, ready for a report.

    Attributes:
        texts: Runs of texts about pictures.
        comparisons: The first of them against each other one.
        pictures: Runs of drawn pictures.
        picture_comparisons: The first of them against each other one.
    """

    texts: list[Scored] = field(default_factory=list)
    comparisons: list[Comparison] = field(default_factory=list)
    pictures: list[ScoredPictures] = field(default_factory=list)
    picture_comparisons: list[PictureComparison] = field(default_factory=list)


def is_location(path: Path) -> bool:
    """Whether a folder is what ``evenhand locate`` made."""
    return (path / "location.json").is_file()


def is_study(path: Path) -> bool:
    """Whether a folder is what ``evenhand study`` made."""
    return (path / "study.plan.json").is_file()


def find_runs(given: list[Path]) -> list[Path]:
    """The run folders themselves, or those inside one folder: runs without mitigation first, then by name.

    Raises:
        BadInputError: No run folder is there.
    """
    found: list[Path] = []
    for path in given:
        if (path / "manifest.json").is_file():
            found.append(path)
            continue
        inside = sorted(child.parent for child in path.glob("*/manifest.json"))
        if not inside:
            raise BadInputError(f"{str(path)!r} is no run folder and holds none; make one with evenhand audit.")
        found += sorted(inside, key=lambda folder: (_is_mitigated(folder), folder.name))
    return found


def score_runs(folders: Sequence[Path], *, previews: int = 0, reading: "Reading" = "kept") -> ScoredRuns:
    """Every run scored, and every later run against the first of its kind.

    Runs of one name are called by as much of their paths as tells them apart.

    Args:
        folders: Run folders.
        previews: Of how many pictures of each prompt a report shows.
        reading: Whether labels of drawn pictures that were kept are used (``pipeline.labels``).

    Raises:
        BadInputError: A run twice, or two runs of a kind that cannot be compared.
        EvenhandError: As scoring says, with the run's folder in front.
    """
    from evenhand.pipeline import compare, compare_runs, score, score_run
    from evenhand.pipeline.picture_runs import holds_pictures

    found = ScoredRuns()
    for folder, name in zip(folders, _names(folders), strict=True):
        with _naming(folder):
            if holds_pictures(folder):
                found.pictures.append(replace(score_run(folder, previews=previews, reading=reading), run=name))
            else:
                found.texts.append(replace(score(folder), run=name))
    found.comparisons.extend(compare(found.texts[0], other) for other in found.texts[1:])
    found.picture_comparisons.extend(compare_runs(found.pictures[0], other) for other in found.pictures[1:])
    return found


def _names(folders: Sequence[Path]) -> list[str]:
    """The folders' names; of those that share one, the shortest ends of their paths that differ."""
    paths = [folder.resolve() for folder in folders]
    twice = [str(folder) for folder, path in zip(folders, paths, strict=True) if paths.count(path) > 1]
    if twice:
        raise BadInputError(f"one run is given twice: {' and '.join(twice)}; give each run once.")
    return [_shortest_name(path, [other for other in paths if other != path]) for path in paths]


def _shortest_name(path: Path, others: Sequence[Path]) -> str:
    count = 1
    while any(other.parts[-count:] == path.parts[-count:] for other in others):
        count += 1
    return "/".join(path.parts[-count:])


@contextmanager
def _naming(folder: Path) -> Iterator[None]:
    """Put the run's folder in front of an error of ours: one of many may be the broken one."""
    try:
        yield
    except EvenhandError as error:
        error.args = (f"{folder}: {error}", *error.args[1:])
        raise


def _is_mitigated(folder: Path) -> bool:
    from evenhand.ledger import Ledger

    with _naming(folder):
        return Ledger.open(folder).settings.get("mitigation") is not None
