"""Run folders on the command line. In: folders. Out: what they show, runs of texts and of pictures apart."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from evenhand.errors import BadInputError
from evenhand.ledger import Ledger
from evenhand.records import Comparison, PictureComparison, Scored, ScoredPictures

__all__ = ["ScoredRuns", "find_runs", "score_runs"]


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


def score_runs(folders: Sequence[Path], *, previews: int = 0, fresh: bool = False) -> ScoredRuns:
    """Every run scored, and every later run against the first of its kind.

    Args:
        folders: Run folders.
        previews: Of how many pictures of each prompt a report shows.
        fresh: Read drawn pictures again instead of using labels that were kept.

    Raises:
        BadInputError: Two runs of a kind cannot be compared.
        EvenhandError: As scoring says.
    """
    from evenhand.pipeline import compare, compare_runs, score, score_run
    from evenhand.pipeline.picture_runs import holds_pictures

    found = ScoredRuns()
    for folder in folders:
        if holds_pictures(folder):
            found.pictures.append(score_run(folder, previews=previews, fresh=fresh))
        else:
            found.texts.append(score(folder))
    found.comparisons.extend(compare(found.texts[0], other) for other in found.texts[1:])
    found.picture_comparisons.extend(compare_runs(found.pictures[0], other) for other in found.pictures[1:])
    return found


def _is_mitigated(folder: Path) -> bool:
    return Ledger.open(folder).settings.get("mitigation") is not None
