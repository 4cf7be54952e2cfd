"""What VDD contrasts with. In: a model and a batch's inputs. Out: a hook whose references see no picture.

The paper's references leave the picture's tokens out (``none``), put an unknown token in each one's place
(``unknown``), or average both; later work uses Gaussian noise for pixels (``noise``).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from evenhand.errors import BadInputError
from evenhand.mitigate.baselines.vdd import ContrastiveHook, ContrastRule, ReferencePass
from evenhand.models.protocol import Continuation, Decoding

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from evenhand.models.clipcap import ClipCap

__all__ = ["CaptionerContrast", "contrastive_hook", "with_noise", "with_unknown", "without_picture"]

Reference = Literal["none", "unknown", "both", "noise"]
CaptionerReference = Literal["none", "zero", "noise"]
_NOISE_SIDE = 224


def without_picture(inputs: Mapping[str, Tensor], *, picture_token: int) -> dict[str, Tensor]:
    """The ids and mask of a prompt with its picture tokens left out.

    Raises:
        BadInputError: A row has no picture token, or rows have different numbers of them.
    """
    ids, keep = inputs["input_ids"], inputs["input_ids"] != picture_token
    counts = (~keep).sum(dim=1)
    if int(counts.min()) < 1 or int(counts.min()) != int(counts.max()):
        raise BadInputError(
            f"picture tokens (id {picture_token}) per row: got {counts.tolist()}; allowed: the same number in every "
            "row, at least 1. Give prompts with one picture each."
        )
    mask = inputs.get("attention_mask", torch.ones_like(ids))
    return {"input_ids": ids[keep].view(len(ids), -1), "attention_mask": mask[keep].view(len(ids), -1)}


def with_unknown(inputs: Mapping[str, Tensor], *, picture_token: int, unknown: int = 0) -> dict[str, Tensor]:
    """The ids and mask of a prompt with an unknown token in each picture token's place.

    Raises:
        BadInputError: A row has no picture token.
    """
    ids = inputs["input_ids"]
    if not bool((ids == picture_token).any(dim=1).all()):
        raise BadInputError(f"a row has no picture token (id {picture_token}); give prompts with a picture each.")
    mask = inputs.get("attention_mask", torch.ones_like(ids))
    return {"input_ids": ids.masked_fill(ids == picture_token, unknown), "attention_mask": mask}


def with_noise(inputs: Mapping[str, Tensor], *, seed: int) -> dict[str, Tensor]:
    """The inputs with standard normal noise for ``pixel_values``; the same noise for the same seed and shape.

    Raises:
        BadInputError: There are no ``pixel_values``.
    """
    if "pixel_values" not in inputs:
        raise BadInputError(f"inputs hold {sorted(inputs)}; noise replaces pixel_values, so they are needed.")
    pixels = inputs["pixel_values"]
    noise = torch.randn(pixels.shape, generator=torch.Generator().manual_seed(seed))
    return {**inputs, "pixel_values": noise.to(pixels)}


def contrastive_hook(
    model: Any,
    inputs: Mapping[str, Tensor],
    *,
    seed: int,
    reference: Reference = "both",
    rule: ContrastRule | None = None,
    unknown: int = 0,
) -> ContrastiveHook:
    """A fresh hook for ``model.generate(**inputs, do_sample=False, logits_processor=[hook])``.

    Args:
        model: A vision-language model of transformers.
        inputs: Of its processor.
        seed: Of the noise.
        reference: What is contrasted with.
        rule: Strength and cut.
        unknown: Id of the unknown token.

    Raises:
        BadInputError: The reference is unknown or cannot be made from these inputs.
    """
    if reference not in ("none", "unknown", "both", "noise"):
        raise BadInputError(f"reference: got {reference!r}; allowed: none, unknown, both, noise.")
    token: Any = getattr(model.config, "image_token_id", None)
    made: list[Mapping[str, Tensor]] = []
    if reference == "noise":
        made.append(with_noise(inputs, seed=seed))
    elif not isinstance(token, int):
        raise BadInputError(f"{type(model).__name__} names no image_token_id; use reference='noise'.")
    if reference in ("none", "both"):
        made.append(without_picture(inputs, picture_token=token))
    if reference in ("unknown", "both"):
        made.append(with_unknown(inputs, picture_token=token, unknown=unknown))
    return ContrastiveHook([ReferencePass(model, one) for one in made], rule or ContrastRule())


class CaptionerContrast:
    """VDD for a CLIP-CAP captioner; see ``models.protocol.Intervention``.

    Args:
        captioner: The captioner whose answers are contrasted; the reference runs on its language model.
        seed: Of the noise.
        reference: ``noise``: a picture of Gaussian noise, through encoder and mapper. ``zero``: features of zeros,
            through the mapper. ``none``: no prefix, only the start token.
        rule: Strength and cut.

    Raises:
        BadInputError: The reference is unknown, or ``none`` for a captioner without a start token.
    """

    name = "vdd"
    continuation: Continuation = "emitted"

    def __init__(
        self,
        captioner: "ClipCap",
        *,
        seed: int,
        reference: CaptionerReference = "noise",
        rule: ContrastRule | None = None,
    ) -> None:
        if reference not in ("none", "zero", "noise"):
            raise BadInputError(f"reference: got {reference!r}; allowed: none, zero, noise.")
        if reference == "none" and not captioner.decoding.bos:
            raise BadInputError("this captioner has no start token before its prefix; use reference='zero' or 'noise'.")
        self._captioner, self._reference, self._seed = captioner, reference, seed
        self._rule = rule or ContrastRule()
        self.settings: Mapping[str, object] = {"reference": reference, "seed": seed, **asdict(self._rule)}

    def start(
        self,
        pictures: Sequence[Callable[[], Image.Image]],
        tokenizer: "PreTrainedTokenizerBase",  # noqa: ARG002  (the protocol's signature)
        *,
        in_place: bool = False,  # noqa: ARG002
        owners: Sequence[int | None] | None = None,
        asked: Sequence[str] | None = None,
        decoding: Decoding = "greedy",
        hidden: "Callable[[], Tensor] | None" = None,  # noqa: ARG002
    ) -> ContrastiveHook:
        """A fresh hook for a batch; no picture is opened.

        Raises:
            BadInputError: Beams, several rows of a picture, or a text before the pictures.
        """
        if asked is not None and any(asked):
            raise BadInputError(
                "the reference of a captioner holds no text, and these prompts have one; contrast a plain caption, "
                "or a vision-language model through contrastive_hook."
            )
        if decoding == "beams" or (owners is not None and list(owners) != list(range(len(pictures)))):
            raise BadInputError("contrastive decoding keeps a cache per picture; use greedy decoding or sampling.")
        prefix = self._prefix().expand(len(pictures), -1, -1)
        reference = ReferencePass(self._captioner.lm, {"inputs_embeds": prefix})
        return ContrastiveHook([reference], self._rule)

    @torch.no_grad()
    def _prefix(self) -> Tensor:
        captioner = self._captioner
        if self._reference == "noise":
            draw = np.random.default_rng(self._seed).normal(127.5, 64, (_NOISE_SIDE, _NOISE_SIDE, 3))
            picture = Image.fromarray(draw.round().clip(0, 255).astype(np.uint8))
            return captioner.prefix(captioner.encoder.encode([picture]))
        prefix = captioner.prefix(torch.zeros(1, captioner.encoder.feature_dim))
        return prefix if self._reference == "zero" else prefix[:, :1]
