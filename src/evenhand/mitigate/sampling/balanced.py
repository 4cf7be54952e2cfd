r"""A model that draws toward a target. In: any model that draws, a target, a strength. Out: a model that draws.

For each picture of a neutral prompt a group is chosen, and the prompt is guided toward its sentence for that group:

.. math:: u + w (c - u), \qquad c = n + s (a - n)

with n the logits of the neutral prompt, a those of the sentence, u those without a prompt, w the model's own guidance
and s the strength. s = 0 is the model as it is, s = 1 the sentence itself, above 1 extrapolates. A model that takes
texts only (a diffusion pipeline, a server) is given the sentence: s is 0 or 1.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from math import isfinite
from typing import Any

import numpy as np

from evenhand.classify.pictures.protocol import Labeller
from evenhand.errors import BadInputError, EvenhandError
from evenhand.mitigate.sampling.planned import PlannedGroups, random_number
from evenhand.mitigate.sampling.quota import next_group
from evenhand.mitigate.sampling.targets import read_target
from evenhand.mitigate.sampling.verdicts import Verdicts
from evenhand.models.protocol import AnsweringModel, ImageModel, MixingModel, PaidModel, SeedCheckingModel
from evenhand.probes.occupations import augmented_text, names_group
from evenhand.records import Attribute, Prompt, Sample

__all__ = ["BalancedModel"]


class BalancedModel:
    """An ``ImageModel`` around another one; a prompt that names a group is drawn as it is.

    A sample's ``text`` is the sentence that names its group. Without a labeller the same prompt and seed give the same
    picture, whatever the batch. With one, what is drawn depends on what was shown before.

    What the model answers and what its pictures cost is passed on. Its likelihoods are not: they are not those of the
    distribution that is drawn from.

    Args:
        model: Any object with the members of ``ImageModel``.
        attribute: What is balanced; several as their product.
        target: ``even``, ``declared`` (the attributes' own), or a share for each group (``targets.read_target``).
        strength: s, 0 or more.
        labeller: Reads the pictures, and what they show decides what is asked for next (quota); one for each attribute.
            None: groups are planned, and nothing is looked at.
        run: Name that the seeds are made from, ``pipeline.drawing.run_name(probe, seed)``: the pictures of each prompt
            then hold the groups as the target says, within one picture or so. None: each draws its group by itself.

    Raises:
        BadInputError: A target that does not fit, a strength out of range or one that the model cannot be drawn with,
            labellers of other attributes, a quota that would change nothing, or a run together with a quota.
    """

    def __init__(
        self,
        model: ImageModel,
        attribute: Attribute | Sequence[Attribute],
        *,
        target: str | Mapping[str, float] = "even",
        strength: float = 1.0,
        labeller: Labeller | Sequence[Labeller] | None = None,
        run: str | None = None,
    ) -> None:
        _check_strength(model, strength)
        if labeller is not None and (strength == 0 or run is not None):
            raise BadInputError(
                "quota: with strength 0 no group is asked for, and with a run's name groups are planned; got strength "
                f"{strength}, run {run!r}. Give a strength above 0 and no run, or no labeller."
            )
        self._model, self._strength = model, float(strength)
        self._target = read_target(target, [attribute] if isinstance(attribute, Attribute) else attribute)
        self._plan = PlannedGroups(self._target.shares, run=run)
        self._verdicts: Verdicts | None = None
        if labeller is not None:
            self._verdicts = Verdicts([labeller] if isinstance(labeller, Labeller) else labeller, self._target)
        told = self._told(run)
        self.settings: Mapping[str, object] = {**model.settings, "balance": told}
        digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode("ascii")).hexdigest()
        self.name, self.revision = f"{model.name}, balanced", f"{model.revision}-{digest[:8]}"
        self.batch_size, self.replayable = model.batch_size, model.replayable and self._verdicts is None
        if isinstance(model, AnsweringModel):
            self.answer_about = model.answer_about
        if isinstance(model, PaidModel):
            self.estimate_cost = model.estimate_cost
        if isinstance(model, SeedCheckingModel):
            self.check_seed = partial(self._checked, model.check_seed)

    def draw(self, prompts: Sequence[Prompt], *, seeds: Sequence[int]) -> tuple[Sample, ...]:
        """One sample per prompt, same order; a neutral prompt whose sentence cannot be written has ``error`` instead.

        Raises:
            BadInputError: Numbers of prompts and seeds differ.
            EvenhandError: As the model and the labellers say.
        """
        if len(seeds) != len(prompts):
            raise BadInputError(f"seeds: got {len(seeds)} for {len(prompts)} prompts; give one per prompt.")
        if self._strength == 0:
            return self._model.draw(prompts, seeds=seeds)
        written = [self._sentences(prompt) for prompt in prompts]
        asked = self._groups(prompts, seeds, written)
        toward = {i: texts[asked[i]] for i, texts in enumerate(written) if isinstance(texts, tuple) and texts}
        samples = {
            i: Sample(prompts[i].id, 0, seeds[i], None, error=f"{type(why).__name__}: {why}")
            for i, why in enumerate(written)
            if isinstance(why, EvenhandError)
        }
        samples |= self._drawn({i: one for i, one in enumerate(prompts) if i not in samples}, toward, seeds)
        if self._verdicts is not None:
            self._verdicts.count([samples[i] for i in asked], list(asked.values()))
        return tuple(samples[i] for i in range(len(prompts)))

    def continue_from(self, prompts: Sequence[Prompt], stored: Iterable[Sample]) -> None:
        """Begin a run, or go on with one: what was counted before is forgotten, what is stored is read and counted.

        Without a labeller nothing is read.

        Args:
            prompts: Of the run.
            stored: Its samples with their pictures, as this model drew them; those that failed too.

        Raises:
            LedgerError: A picture that was not drawn toward a group of the target.
            EvenhandError: As the labellers say.
        """
        if self._verdicts is None:
            return
        # Samples of a prompt whose sentence cannot be written are errors: none of them has a picture.
        written = {prompt.id: self._sentences(prompt) for prompt in prompts}
        self._verdicts.restart(
            stored, {one: texts for one, texts in written.items() if isinstance(texts, tuple) and texts}
        )

    def _checked(self, check: Callable[[], object]) -> object:
        """As the model's own check; ``replayable`` is known afterwards."""
        found = check()
        self.replayable = self._model.replayable and self._verdicts is None
        return found

    def _told(self, run: str | None) -> dict[str, Any]:
        """What is done, as JSON values."""
        quota = None if self._verdicts is None else self._verdicts.settings
        told = {
            "attributes": [one.name for one in self._target.attributes],
            "target": dict(zip(self._target.names, self._target.shares, strict=True)),
            "strength": self._strength,
            "planned for": run,
            "quota": quota,
        }
        plain: dict[str, Any] = json.loads(json.dumps(told, default=str))
        return plain

    def _sentences(self, prompt: Prompt) -> tuple[str, ...] | EvenhandError:
        """The prompt's sentence for each group, nothing where it names a group itself; or why there is none."""
        if names_group(prompt):
            return ()
        try:
            return tuple(augmented_text(prompt, groups) for groups in self._target.groups)
        except EvenhandError as error:
            return error

    def _groups(
        self, prompts: Sequence[Prompt], seeds: Sequence[int], written: Sequence[tuple[str, ...] | EvenhandError]
    ) -> dict[int, int]:
        """The group asked for in each prompt that has sentences, by the prompt's place in the batch."""
        pending: dict[str, Any] = {}
        asked: dict[int, int] = {}
        for i, (prompt, seed, sentences) in enumerate(zip(prompts, seeds, written, strict=True)):
            if not isinstance(sentences, tuple) or not sentences:
                continue
            if self._verdicts is None:
                asked[i] = self._plan.group(prompt.id, seed)
                continue
            waiting = pending.setdefault(prompt.id, np.zeros(len(sentences), dtype=np.int64))
            drawn = random_number(prompt.id, seed)
            seen, unread = self._verdicts.seen(prompt.id), self._verdicts.unread(prompt.id)
            asked[i] = next_group(seen, waiting, self._target.shares, unread=unread, draw=drawn)
            waiting[asked[i]] += 1
        return asked

    def _drawn(
        self, prompts: Mapping[int, Prompt], toward: Mapping[int, str], seeds: Sequence[int]
    ) -> dict[int, Sample]:
        """Samples by place; those drawn toward a sentence bear it as their text."""
        mixes = self._strength != 1 and isinstance(self._model, MixingModel)
        guided = list(toward) if mixes else []
        plain = [i for i in prompts if i not in set(guided)]
        found: dict[int, Sample] = {}
        if plain:
            own = [replace(prompts[i], text=toward.get(i, prompts[i].text)) for i in plain]
            found |= zip(plain, self._model.draw(own, seeds=[seeds[i] for i in plain]), strict=True)
        if guided and isinstance(self._model, MixingModel):
            mixed = self._model.draw_mixed(
                [prompts[i] for i in guided],
                [(toward[i], prompts[i].text) for i in guided],
                weights=(self._strength, 1 - self._strength),
                seeds=[seeds[i] for i in guided],
            )
            found |= zip(guided, mixed, strict=True)
        return {i: one if one.error or i not in toward else replace(one, text=toward[i]) for i, one in found.items()}


def _check_strength(model: ImageModel, strength: float) -> None:
    """Refuse a strength that the model cannot be drawn with.

    Raises:
        BadInputError: It is negative or not finite, or between two prompts of a model that takes texts only.
    """
    if not (isfinite(strength) and strength >= 0):
        raise BadInputError(
            f"strength: got {strength}; allowed: 0 for the model as it is, 1 for the sentence, or more."
        )
    if strength not in (0, 1) and not isinstance(model, MixingModel):
        raise BadInputError(
            f"strength: got {strength}; {model.name} takes a text and nothing else, so the neutral prompt can only be "
            "replaced by the sentence that names the group. Allowed: 0, 1; others with a unified model, whose logits "
            "can be mixed."
        )
