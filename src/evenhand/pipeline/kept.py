"""Rows read from pictures and kept beside them. In: samples, rows. Out: a Parquet file in the run folder, and back.

A row is kept with the SHA-256 of the picture it was read from and is used for no other. The file's name holds a digest
of everything that decides the rows, so what was read in another way is another file.
"""

import io
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress

import pyarrow as pa
import pyarrow.parquet as pq

from evenhand.errors import CorruptLedgerError, LedgerError
from evenhand.records import Sample
from evenhand.run_folder import RunFolder
from evenhand.shards import sha256_of

__all__ = ["KeptRows"]

_KEYS = (pa.field("prompt_id", pa.string()), pa.field("k", pa.int64()), pa.field("image_sha256", pa.string()))
_Row = tuple[object, ...]


class KeptRows:
    """Rows by sample.

    Args:
        run: The run folder.
        kind: First part of the file's name, such as ``labels``.
        settings: What decides the rows, as JSON values.
        columns: Of a row.
        fresh: Start without those that were kept.

    Raises:
        CorruptLedgerError: The file is not what was written.
    """

    def __init__(
        self, run: str, kind: str, settings: Mapping[str, object], columns: Sequence[pa.Field], *, fresh: bool
    ) -> None:
        # As JSON and back: settings may hold tuples, which are lists in a file.
        plain = json.loads(json.dumps(settings, sort_keys=True, default=str))
        self.name = f"{kind}-{sha256_of(plain)[:16]}.parquet"
        self._folder, self._schema = RunFolder(run), pa.schema([*_KEYS, *columns])
        self._rows: dict[tuple[str, int], tuple[str, _Row]] = {} if fresh else self.stored()

    def has(self, sample: Sample) -> bool:
        """Whether there is a row of this very picture."""
        found = self._rows.get((sample.prompt_id, sample.k))
        return found is not None and sample.image_sha256 is not None and found[0] == sample.image_sha256

    def lacks(self, samples: Sequence[Sample]) -> bool:
        """Whether a picture among the samples has no row."""
        return any(sample.image_sha256 is not None and not self.has(sample) for sample in samples)

    def row(self, sample: Sample) -> _Row:
        """The row of a sample that has one."""
        return self._rows[sample.prompt_id, sample.k][1]

    def put(self, sample: Sample, row: _Row) -> None:
        """Set the row of a sample's picture."""
        self._rows[sample.prompt_id, sample.k] = (str(sample.image_sha256), row)

    def write(self) -> None:
        """Write them; a folder that can only be read is left as it is."""
        lines = [(*key, digest, *row) for key, (digest, row) in self._rows.items()]
        columns = list(zip(*lines, strict=True)) if lines else [() for _ in self._schema]
        arrays = [pa.array(list(column), field.type) for column, field in zip(columns, self._schema, strict=True)]
        content = io.BytesIO()
        pq.write_table(pa.Table.from_arrays(arrays, schema=self._schema), content, compression="zstd")
        with suppress(LedgerError):
            self._folder.write(self.name, content.getvalue())

    def stored(self) -> dict[tuple[str, int], tuple[str, _Row]]:
        """What the file holds: (prompt, k) -> the picture's SHA-256, the row; nothing where there is no file.

        Raises:
            CorruptLedgerError: It is not what was written.
        """
        if self.name not in self._folder.names():
            return {}
        return self._folder.load(self.name, self._decoded)

    def _decoded(self, content: bytes) -> dict[tuple[str, int], tuple[str, _Row]]:
        try:
            # Without threads: those of a dataset's scan can outlive the program and abort it at its end.
            table = pq.ParquetFile(pa.BufferReader(content)).read(use_threads=False)
            if not table.schema.equals(self._schema):
                raise CorruptLedgerError(f"its columns are {table.schema.names}, allowed: {self._schema.names}")
            lines = zip(*(column.to_pylist() for column in table.columns), strict=True)
            return {(prompt_id, k): (digest, tuple(row)) for prompt_id, k, digest, *row in lines}
        except (pa.ArrowException, OSError, ValueError) as error:
            raise CorruptLedgerError(str(error)) from error
