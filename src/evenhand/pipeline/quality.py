"""How good the pictures of a run are. In: a ledger, metrics by name. Out: estimates; rows are kept beside the samples.

As with labels, one file for each metric's exact settings, and a row is used for the picture it was measured on only.
"""

from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
import pyarrow as pa
from PIL import Image

from evenhand.errors import PictureError
from evenhand.ledger import Ledger
from evenhand.metrics.picture_quality import quality_estimates
from evenhand.models.picture_quality.protocol import QualityMetric
from evenhand.pictures import decode_picture
from evenhand.pipeline.kept import KeptRows
from evenhand.pipeline.labels import Reading
from evenhand.records import Estimate, Prompt, Sample
from evenhand.registry import load

__all__ = ["measure_quality", "open_quality"]

_RESAMPLING_SEED = 0
_AT_ONCE = 32
_COLUMNS = (pa.field("row", pa.list_(pa.float64())),)


def open_quality(spec: str) -> QualityMetric:
    """The metric of ``NAME:ARGUMENT``.

    Raises:
        UnknownNameError: No such name.
        EvenhandError: As its loader says.
    """
    name, _, argument = spec.partition(":")
    return cast(Callable[[str | None], QualityMetric], load("quality", name))(argument or None)


def measure_quality(
    run: str,
    ledger: Ledger,
    metrics: Sequence[QualityMetric],
    *,
    prompts: str = "fixed",
    level: float = 0.95,
    reading: Reading = "kept",
) -> tuple[Estimate, ...]:
    """The estimates of some metrics over all pictures that can be decoded.

    Args:
        run: The run folder; rows are kept there where it can be written to.
        ledger: Of that folder.
        metrics: What is measured.
        prompts: ``fixed`` or ``sampled``.
        level: Coverage the intervals aim at.
        reading: As for labels.

    Raises:
        TooFewSamplesError: Too few pictures.
        EvenhandError: As the metrics say.
    """
    asked = {prompt.id: prompt for prompt in ledger.prompts()}
    samples = ledger.samples()
    tables = [_Measured(run, metric, asked, fresh=reading != "kept") for metric in metrics]
    if any(table.kept.lacks(samples) for table in tables):
        batch: list[Sample] = []
        for sample in ledger.drawn():
            batch.append(sample)
            if len(batch) == _AT_ONCE:
                for table in tables:
                    table.measure(batch)
                batch.clear()
        for table in tables:
            table.measure(batch)
            if reading != "check":
                table.kept.write()
    return tuple(one for table in tables for one in table.estimates(samples, prompts, level))


class _Measured:
    """The rows of one metric, some of them measured earlier; a picture that cannot be decoded has an empty one."""

    def __init__(self, run: str, metric: QualityMetric, prompts: dict[str, Prompt], *, fresh: bool) -> None:
        self._metric, self._prompts = metric, prompts
        self.kept = KeptRows(run, "quality", {"name": metric.name, **metric.settings}, _COLUMNS, fresh=fresh)

    def measure(self, samples: Sequence[Sample]) -> None:
        """Measure those that were not."""
        found: list[tuple[Sample, Image.Image]] = []
        for sample in samples:
            if not self.kept.has(sample):
                try:
                    found.append((sample, decode_picture(sample.image or b"")))
                except PictureError:
                    self.kept.put(sample, ([],))
        if found:
            texts = [self._prompts[sample.prompt_id].text for sample, _ in found]
            rows = self._metric.rows([picture for _, picture in found], texts)
            for (sample, _), row in zip(found, rows, strict=True):
                self.kept.put(sample, (row.tolist(),))

    def estimates(self, samples: Sequence[Sample], prompts: str, level: float) -> tuple[Estimate, ...]:
        """Of the pictures among the samples."""
        rows = [(sample.prompt_id, self.kept.row(sample)[0]) for sample in samples if self.kept.has(sample)]
        rows = [(prompt, row) for prompt, row in rows if row]
        return quality_estimates(
            self._metric.settings,
            np.array([row for _, row in rows], dtype=np.float64).reshape(len(rows), -1) if rows else np.empty((0, 1)),
            [prompt for prompt, _ in rows],
            seed=_RESAMPLING_SEED,
            prompts=prompts,
            level=level,
        )
