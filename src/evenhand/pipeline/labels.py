"""What the pictures of a run show. In: a ledger, labellers. Out: labels in the order of the samples, and previews.

Reading pictures can be dear, so labels are kept beside the samples, one file for each labeller's exact settings; each
is kept with the SHA-256 of the picture it was read from and is used for no other. ``fresh`` reads everything again.
"""

import io
import json
from collections.abc import Iterable, Sequence
from contextlib import suppress

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from evenhand.errors import CorruptLedgerError, LedgerError, PictureError
from evenhand.ledger import Ledger
from evenhand.pictures import preview
from evenhand.pipeline.opening import Labeller
from evenhand.records import Label, Sample
from evenhand.run_folder import RunFolder
from evenhand.shards import sha256_of

__all__ = ["PREVIEW_SIDE", "label_pictures"]

PREVIEW_SIDE = 96
"""Pixels of the longer side of a preview."""

_AT_ONCE = 256  # pictures in memory
_SCHEMA = pa.schema(
    [
        ("prompt_id", pa.string()),
        ("k", pa.int64()),
        ("image_sha256", pa.string()),
        ("group", pa.string()),
        ("reason", pa.string()),
        ("confidence", pa.float64()),
    ]
)
_Key = tuple[str, int]


def label_pictures(
    run: str, ledger: Ledger, labellers: Sequence[Labeller], *, previews: int = 0, fresh: bool = False
) -> tuple[dict[str, tuple[Label, ...]], dict[_Key, bytes]]:
    """Labels of every sample, per attribute, and small JPEG previews of each prompt's first pictures.

    A sample that failed is labelled ``error``.

    Args:
        run: The run folder; labels are kept there where it can be written to.
        ledger: Of that folder.
        labellers: One per attribute.
        previews: Of how many pictures of each prompt, 0 or more.
        fresh: Read every picture again.

    Raises:
        CorruptLedgerError: A shard is not what was written.
        EvenhandError: As the labellers say.
    """
    samples = ledger.samples()
    stores = [_Store(run, labeller, () if fresh else None) for labeller in labellers]
    shown: dict[_Key, bytes] = {}
    lacking = any(store.lacks(samples) for store in stores)
    if lacking or previews:
        _look(ledger.drawn(), stores, shown, previews)
    for store in stores:
        store.keep()
    return {store.attribute: store.told(samples) for store in stores}, shown


def _look(drawn: Iterable[Sample], stores: Sequence["_Store"], shown: dict[_Key, bytes], previews: int) -> None:
    batch: list[Sample] = []
    for sample in drawn:
        if sample.k < previews:
            shown[sample.prompt_id, sample.k] = _preview(sample)
        batch.append(sample)
        if len(batch) == _AT_ONCE:
            for store in stores:
                store.read(batch)
            batch.clear()
    for store in stores:
        store.read(batch)


def _preview(sample: Sample) -> bytes:
    """A JPEG; a file that cannot be decoded leaves a grey square, its label says why."""
    try:
        with Image.open(io.BytesIO(sample.image or b""), formats=["PNG"]) as opened:
            return preview(opened.convert("RGB"), side=PREVIEW_SIDE, quality=75)
    except (OSError, SyntaxError, ValueError, PictureError, Image.DecompressionBombError):
        return preview(Image.new("RGB", (PREVIEW_SIDE, PREVIEW_SIDE), "grey"), side=PREVIEW_SIDE)


class _Store:
    """The labels of one labeller, some of them read earlier."""

    def __init__(self, run: str, labeller: Labeller, known: Iterable[tuple[str, Label]] | None) -> None:
        self.attribute = labeller.attribute.name
        self._labeller, self._folder = labeller, RunFolder(run)
        how = {"attribute": self.attribute, "groups": list(labeller.attribute.groups), **labeller.settings}
        # As JSON and back: settings may hold tuples, which are lists in a file.
        self._name = f"labels-{sha256_of(json.loads(json.dumps(how, sort_keys=True, default=str)))[:16]}.parquet"
        found = self._stored() if known is None else known
        self._told = {(label.prompt_id, label.k): (digest, label) for digest, label in found}
        self._new = False

    def lacks(self, samples: Sequence[Sample]) -> bool:
        """Whether a picture among the samples is still to be read."""
        return any(sample.image_sha256 is not None and not self._has(sample) for sample in samples)

    def read(self, samples: Sequence[Sample]) -> None:
        """Read those that were not."""
        unread = [sample for sample in samples if not self._has(sample)]
        if unread:
            self._new = True
            for sample, label in zip(unread, self._labeller.label(unread), strict=True):
                self._told[label.prompt_id, label.k] = (sample.image_sha256 or "", label)

    def told(self, samples: Sequence[Sample]) -> tuple[Label, ...]:
        """One label per sample, same order."""
        return tuple(
            self._told[sample.prompt_id, sample.k][1]
            if self._has(sample)
            else Label(sample.prompt_id, sample.k, self.attribute, None, "error", 0.0)
            for sample in samples
        )

    def keep(self) -> None:
        """Write what was read; a folder that can only be read is scored all the same."""
        if not self._new:
            return
        rows = [
            {
                "prompt_id": label.prompt_id,
                "k": label.k,
                "image_sha256": digest,
                "group": label.group,
                "reason": label.reason,
                "confidence": label.confidence,
            }
            for digest, label in self._told.values()
        ]
        content = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA), content, compression="zstd")
        with suppress(LedgerError):
            self._folder.write(self._name, content.getvalue())

    def _has(self, sample: Sample) -> bool:
        found = self._told.get((sample.prompt_id, sample.k))
        return found is not None and sample.image_sha256 is not None and found[0] == sample.image_sha256

    def _stored(self) -> list[tuple[str, Label]]:
        if self._name not in self._folder.names():
            return []
        return self._folder.load(self._name, self._decoded)

    def _decoded(self, content: bytes) -> list[tuple[str, Label]]:
        try:
            table = pq.read_table(io.BytesIO(content))
        except (pa.ArrowException, OSError) as error:
            raise CorruptLedgerError(str(error)) from error
        if not table.schema.equals(_SCHEMA):
            raise CorruptLedgerError(f"its columns are {table.schema.names}, allowed: {_SCHEMA.names}")
        return [
            (
                row["image_sha256"],
                Label(row["prompt_id"], row["k"], self.attribute, row["group"], row["reason"], row["confidence"]),
            )
            for row in table.to_pylist()
        ]
