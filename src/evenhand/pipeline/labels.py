"""What the pictures of a run show. In: a ledger, labellers. Out: labels in the order of the samples, and previews.

Reading pictures can be dear, so labels are kept beside the samples, one file for each labeller's exact settings.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, Protocol, runtime_checkable

import pyarrow as pa
from PIL import Image

from evenhand.classify.pictures.protocol import Labeller
from evenhand.errors import CorruptLedgerError, PictureError
from evenhand.pictures import decode_picture, preview
from evenhand.pipeline.kept import KeptRows
from evenhand.records import Label, Sample

__all__ = ["PREVIEW_SIDE", "PictureStore", "Reading", "label_pictures"]

PREVIEW_SIDE = 96
"""Pixels of the longer side of a preview."""

Reading = Literal["kept", "anew", "check"]
"""``kept``: labels that were kept are used, new ones are kept. ``anew``: every picture is read, and kept. ``check``:
every picture is read, nothing is written, and kept labels that say otherwise are an error."""

_AT_ONCE = 256  # pictures in memory
_COLUMNS = (pa.field("group", pa.string()), pa.field("reason", pa.string()), pa.field("confidence", pa.float64()))


@runtime_checkable
class PictureStore(Protocol):
    """What holds pictures: a ``Ledger``, or anything with these members."""

    def samples(self, *, pictures: bool = False) -> tuple[Sample, ...]:
        """All samples, in a fixed order; their pictures may be left where they are."""
        ...

    def drawn(self) -> Iterator[Sample]:
        """The samples that hold a picture, with it, one after another."""
        ...


def label_pictures(
    run: str, ledger: PictureStore, labellers: Sequence[Labeller], *, previews: int = 0, reading: Reading = "kept"
) -> tuple[dict[str, tuple[Label, ...]], dict[tuple[str, int], bytes]]:
    """Labels of every sample, per attribute, and small JPEG previews of each prompt's first pictures.

    A sample that failed is labelled ``error``.

    Args:
        run: The run folder; labels are kept there where it can be written to.
        ledger: Of that folder, or what else holds the pictures.
        labellers: One per attribute.
        previews: Of how many pictures of each prompt, 0 or more.
        reading: As ``Reading``.

    Raises:
        CorruptLedgerError: A shard is not what was written, or kept labels are not what the classifier says.
        EvenhandError: As the labellers say.
    """
    samples = ledger.samples()
    tables = [_Labels(run, labeller, fresh=reading != "kept") for labeller in labellers]
    shown: dict[tuple[str, int], bytes] = {}
    lacking = any(table.kept.lacks(samples) for table in tables)
    if lacking or previews:
        _look(ledger.drawn(), tables, shown, previews)
    for table in tables:
        if reading == "check":
            table.check(samples)
        elif lacking:
            table.kept.write()
    return {table.attribute: table.told(samples) for table in tables}, shown


def _look(
    drawn: Iterable[Sample], tables: Sequence["_Labels"], shown: dict[tuple[str, int], bytes], previews: int
) -> None:
    batch: list[Sample] = []
    for sample in drawn:
        if sample.k < previews:
            shown[sample.prompt_id, sample.k] = _preview(sample)
        batch.append(sample)
        if len(batch) == _AT_ONCE:
            for table in tables:
                table.read(batch)
            batch.clear()
    for table in tables:
        table.read(batch)


def _preview(sample: Sample) -> bytes:
    """A JPEG; a file that cannot be decoded leaves a grey square, its label says why."""
    try:
        picture = decode_picture(sample.image or b"")
    except PictureError:
        picture = Image.new("RGB", (PREVIEW_SIDE, PREVIEW_SIDE), "grey")
    return preview(picture, side=PREVIEW_SIDE, quality=75)


class _Labels:
    """The labels of one labeller, some of them read earlier."""

    def __init__(self, run: str, labeller: Labeller, *, fresh: bool) -> None:
        self.attribute, self._labeller = labeller.attribute.name, labeller
        how = {"attribute": self.attribute, "groups": list(labeller.attribute.groups), **labeller.settings}
        self.kept = KeptRows(run, "labels", how, _COLUMNS, fresh=fresh)

    def read(self, samples: Sequence[Sample]) -> None:
        """Read those that were not."""
        unread = [sample for sample in samples if not self.kept.has(sample)]
        if unread:
            for sample, label in zip(unread, self._labeller.label(unread), strict=True):
                self.kept.put(sample, (label.group, label.reason, label.confidence))

    def told(self, samples: Sequence[Sample]) -> tuple[Label, ...]:
        """One label per sample, same order."""
        return tuple(self._label(sample) for sample in samples)

    def check(self, samples: Sequence[Sample]) -> None:
        """Hold labels that were kept against those just read; confidences may differ in their last bits.

        Raises:
            CorruptLedgerError: A group or a reason differs.
        """
        stored = self.kept.stored()
        seen = [sample for sample in samples if self.kept.has(sample)]
        wrong = sum(
            stored[key][0] == sample.image_sha256 and stored[key][1][:2] != self.kept.row(sample)[:2]
            for sample in seen
            if (key := (sample.prompt_id, sample.k)) in stored
        )
        if wrong:
            raise CorruptLedgerError(
                f"{self.kept.name}: {wrong} of {len(stored)} kept labels of {self.attribute} are not what the "
                "classifier says now; do: evenhand score RUN --fresh"
            )

    def _label(self, sample: Sample) -> Label:
        key = (sample.prompt_id, sample.k, self.attribute)
        if not self.kept.has(sample):
            return Label(*key, None, "error", 0.0)
        group, reason, confidence = self.kept.row(sample)
        return Label(*key, group, reason, confidence)  # type: ignore[arg-type]
