"""How good the pictures of a run are. In: a ledger, metrics by name. Out: estimates; rows are kept beside the samples.

As with labels, one file for each metric's exact settings, and a row is used for the picture it was measured on only.
"""

import io
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float
from PIL import Image

from evenhand.errors import CorruptLedgerError, LedgerError
from evenhand.ledger import Ledger
from evenhand.metrics.picture_quality import quality_estimates
from evenhand.records import Estimate, Prompt, Sample
from evenhand.registry import load
from evenhand.run_folder import RunFolder
from evenhand.shards import sha256_of

if TYPE_CHECKING:
    from evenhand.models.picture_quality.protocol import QualityMetric

__all__ = ["measure_quality", "open_quality"]

_RESAMPLING_SEED = 0
_AT_ONCE = 32
_Rows = dict[tuple[str, int], tuple[str, Float[np.ndarray, " columns"]]]


def open_quality(spec: str) -> "QualityMetric":
    """The metric of ``NAME:ARGUMENT``.

    Raises:
        UnknownNameError: No such name.
        EvenhandError: As its loader says.
    """
    name, _, argument = spec.partition(":")
    return cast(Callable[[str | None], "QualityMetric"], load("quality", name))(argument or None)


def measure_quality(
    run: str,
    ledger: Ledger,
    metrics: Sequence["QualityMetric"],
    *,
    prompts: str = "fixed",
    level: float = 0.95,
    fresh: bool = False,
) -> tuple[Estimate, ...]:
    """The estimates of some metrics over all pictures that can be decoded.

    Args:
        run: The run folder; rows are kept there where it can be written to.
        ledger: Of that folder.
        metrics: What is measured.
        prompts: ``fixed`` or ``sampled``.
        level: Coverage the intervals aim at.
        fresh: Measure every picture again.

    Raises:
        TooFewSamplesError: Too few pictures.
        EvenhandError: As the metrics say.
    """
    asked = {prompt.id: prompt for prompt in ledger.prompts()}
    stores = [_Store(run, metric, asked, fresh=fresh) for metric in metrics]
    if any(store.lacks(ledger.samples()) for store in stores):
        batch: list[Sample] = []
        for sample in ledger.drawn():
            batch.append(sample)
            if len(batch) == _AT_ONCE:
                for store in stores:
                    store.measure(batch)
                batch.clear()
        for store in stores:
            store.measure(batch)
            store.keep()
    return tuple(one for store in stores for one in store.estimates(ledger.samples(), prompts, level))


class _Store:
    """The rows of one metric, some of them measured earlier."""

    def __init__(self, run: str, metric: "QualityMetric", prompts: dict[str, Prompt], *, fresh: bool) -> None:
        self._metric, self._prompts, self._folder = metric, prompts, RunFolder(run)
        how = json.loads(json.dumps({"name": metric.name, **metric.settings}, sort_keys=True, default=str))
        self._name = f"quality-{sha256_of(how)[:16]}.parquet"
        self._rows: _Rows = {} if fresh or self._name not in self._folder.names() else self._stored()

    def lacks(self, samples: Sequence[Sample]) -> bool:
        """Whether a picture among the samples is still to be measured."""
        return any(sample.image_sha256 is not None and not self._has(sample) for sample in samples)

    def measure(self, samples: Sequence[Sample]) -> None:
        """Measure those that were not; a picture that cannot be decoded has a row of no numbers."""
        found: list[tuple[Sample, Image.Image]] = []
        for sample in samples:
            if not self._has(sample):
                picture = _decoded(sample)
                if picture is None:
                    self._rows[sample.prompt_id, sample.k] = (str(sample.image_sha256), np.empty(0))
                else:
                    found.append((sample, picture))
        if found:
            texts = [self._prompts[sample.prompt_id].text for sample, _ in found]
            rows = self._metric.rows([picture for _, picture in found], texts)
            for (sample, _), row in zip(found, rows, strict=True):
                self._rows[sample.prompt_id, sample.k] = (str(sample.image_sha256), row)

    def estimates(self, samples: Sequence[Sample], prompts: str, level: float) -> tuple[Estimate, ...]:
        """Of the pictures among the samples."""
        kept = [(sample, self._rows[sample.prompt_id, sample.k][1]) for sample in samples if self._has(sample)]
        kept = [(sample, row) for sample, row in kept if len(row)]
        rows = np.stack([row for _, row in kept]) if kept else np.empty((0, 1))
        return quality_estimates(
            self._metric.settings,
            rows,
            [sample.prompt_id for sample, _ in kept],
            seed=_RESAMPLING_SEED,
            prompts=prompts,
            level=level,
        )

    def keep(self) -> None:
        """Write what was measured; a folder that can only be read is measured all the same."""
        table = pa.table(
            {
                "prompt_id": [prompt_id for prompt_id, _ in self._rows],
                "k": pa.array([k for _, k in self._rows], pa.int64()),
                "image_sha256": [digest for digest, _ in self._rows.values()],
                "row": pa.array([row.tolist() for _, row in self._rows.values()], pa.list_(pa.float64())),
            }
        )
        content = io.BytesIO()
        pq.write_table(table, content, compression="zstd")
        with suppress(LedgerError):
            self._folder.write(self._name, content.getvalue())

    def _has(self, sample: Sample) -> bool:
        found = self._rows.get((sample.prompt_id, sample.k))
        return found is not None and sample.image_sha256 is not None and found[0] == sample.image_sha256

    def _stored(self) -> _Rows:
        return self._folder.load(self._name, _read)


def _read(content: bytes) -> _Rows:
    try:
        rows = pq.read_table(io.BytesIO(content)).to_pylist()
        return {
            (one["prompt_id"], one["k"]): (one["image_sha256"], np.array(one["row"], dtype=np.float64)) for one in rows
        }
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        raise CorruptLedgerError(str(error)) from error


def _decoded(sample: Sample) -> Image.Image | None:
    try:
        with Image.open(io.BytesIO(sample.image or b""), formats=["PNG"]) as opened:
            return opened.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None
