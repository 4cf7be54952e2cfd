"""What was made so far. In: pictures and what each was asked for. Out: per prompt, pictures by asked and shown group.

Of a picture in which no group is read (no face, several, uncertain) only that it was made is known.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
from jaxtyping import Int64

from evenhand.classify.pictures.people import PeopleLabels
from evenhand.classify.pictures.protocol import Labeller
from evenhand.errors import BadInputError, LedgerError
from evenhand.mitigate.sampling.targets import Target
from evenhand.records import Sample

__all__ = ["Verdicts"]

_AT_ONCE = 256


class Verdicts:
    """Counts per prompt.

    Args:
        labellers: One for each attribute of the target, in any order.
        target: Whose combinations are counted.

    Raises:
        BadInputError: An attribute without a labeller, one too many, other groups, or labels by people, who look at
            pictures when they are done.
    """

    def __init__(self, labellers: Sequence[Labeller], target: Target) -> None:
        for one in labellers:
            if isinstance(one, PeopleLabels):
                raise BadInputError(
                    "quota: got labels by people; a verdict is needed while pictures are drawn. Give a classifier that "
                    "reads pictures."
                )
        by_name = {one.attribute.name: one for one in labellers}
        wanted = {one.name: set(one.groups) for one in target.attributes}
        got = {name: set(one.attribute.groups) for name, one in by_name.items()}
        if wanted != got or len(labellers) != len(wanted):
            raise BadInputError(
                f"quota: pictures are read for {', '.join(one.attribute.name for one in labellers)}; needed: one "
                f"labeller for each of {', '.join(wanted)}, of the same groups."
            )
        self._readers = [by_name[one.name] for one in target.attributes]
        self._places = {groups: place for place, groups in enumerate(target.groups)}
        self._seen: dict[str, Int64[np.ndarray, "asked shown"]] = {}
        self._unread: Counter[str] = Counter()

    @property
    def settings(self) -> list[Mapping[str, object]]:
        """What the labellers say of themselves."""
        return [{"attribute": one.attribute.name, **one.settings} for one in self._readers]

    def seen(self, prompt_id: str) -> Int64[np.ndarray, "asked shown"]:
        """Pictures of a prompt by the group asked for and the group shown."""
        size = len(self._places)
        return self._seen.setdefault(prompt_id, np.zeros((size, size), dtype=np.int64))

    def unread(self, prompt_id: str) -> int:
        """Pictures of a prompt in which no group was read, or that failed."""
        return self._unread[prompt_id]

    def count(self, samples: Sequence[Sample], asked: Sequence[int]) -> None:
        """Read pictures and count them.

        Args:
            samples: With their pictures, where they did not fail.
            asked: The place of the group each was asked for.

        Raises:
            EvenhandError: As the labellers say.
        """
        made = [(sample, group) for sample, group in zip(samples, asked, strict=True) if sample.image is not None]
        told: list[Any] = [one.label([sample for sample, _ in made]) for one in self._readers] if made else []
        self._unread.update(sample.prompt_id for sample in samples if sample.image is None)
        for (sample, group), labels in zip(made, zip(*told, strict=True), strict=True):
            shown = self._places.get(tuple(one.group for one in labels))
            if shown is None:
                self._unread[sample.prompt_id] += 1
            else:
                self.seen(sample.prompt_id)[group, shown] += 1

    def restart(self, stored: Iterable[Sample], sentences: Mapping[str, Sequence[str]]) -> None:
        """Count anew what is stored of a run.

        Args:
            stored: With pictures, where they did not fail.
            sentences: Of each prompt that is balanced, the words that name each group.

        Raises:
            LedgerError: A picture says other words than any of its prompt's.
            EvenhandError: As the labellers say.
        """
        self._seen.clear()
        self._unread.clear()
        places = {prompt: {text: at for at, text in enumerate(texts)} for prompt, texts in sentences.items()}
        balanced = (one for one in stored if one.prompt_id in places)
        while batch := list(islice(balanced, _AT_ONCE)):
            self._unread.update(one.prompt_id for one in batch if one.error is not None)
            batch = [one for one in batch if one.error is None]
            unknown = [one for one in batch if one.text not in places[one.prompt_id]]
            if unknown:
                raise LedgerError(
                    f"sample {unknown[0].k} of {unknown[0].prompt_id!r} was drawn from {str(unknown[0].text)[:80]!r}, "
                    "which names no group of the target; it is not of a run that was balanced so. Give another folder."
                )
            self.count(batch, [places[one.prompt_id][str(one.text)] for one in batch])
