"""Steering of hidden states. In: a model, a batch and a text that names the attribute. Out: a block without it.

Ratzlaff et al. 2024, "Debias your Large Multi-Modal Model at Test-Time via Non-Contrastive Visual Attribute Steering",
arXiv 2411.12590: one gradient step on the picture tells which direction of the hidden states the attribute takes, and
that direction is taken out of them while the answer is written. Needs no data; costs one backward pass a batch. The
paper's constants are not public; defaults here are the usual ones of one-step picture perturbation.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from evenhand.errors import BadInputError
from evenhand.mitigate.baselines.places import Place, editing

__all__ = ["Directions", "attribute_directions", "decoder_layers", "middle_third", "project_out", "steering"]


@dataclass(frozen=True, slots=True, eq=False)
class Directions:
    """The attribute's direction in some layers.

    Attributes:
        layers: Indices of the layers.
        values: Of length 1 along the last axis; one row per answer, or one row for all.
    """

    layers: tuple[int, ...]
    values: Float[Tensor, "layers rows hidden"]

    def __post_init__(self) -> None:
        lengths = self.values.float().norm(dim=-1)
        if len(self.layers) != len(self.values) or not bool(((lengths - 1).abs() < 1e-3).all()):
            raise BadInputError(
                f"directions: {len(self.layers)} layers, {len(self.values)} rows of vectors whose length must be 1; "
                "make them with attribute_directions, or divide each by its length."
            )


def project_out(
    hidden: Float[Tensor, "rows positions hidden"], direction: Float[Tensor, "directions hidden"], strength: float
) -> Float[Tensor, "rows positions hidden"]:
    r"""Take part of a direction out of hidden states.

    .. math:: h - \gamma \hat r \hat r^\top h

    The component along the direction becomes 1 - gamma of what it was, the rest is untouched; gamma 0 is the identity.
    The input is not modified.

    Args:
        hidden: Of a layer.
        direction: Of length 1.
        strength: gamma.

    Raises:
        BadInputError: The directions are neither one nor as many as the rows.
    """
    if direction.shape[0] not in (1, hidden.shape[0]):
        raise BadInputError(
            f"{direction.shape[0]} directions for {hidden.shape[0]} rows; give one for each, or one for all (beams: "
            "repeat each as often as there are beams)."
        )
    unit = direction.to(hidden)[:, None, :]
    return hidden - strength * (hidden * unit).sum(dim=-1, keepdim=True) * unit


def decoder_layers(model: Any) -> nn.ModuleList:
    """The layers of a transformers model's text decoder, first to last.

    Raises:
        BadInputError: None are found; give them yourself.
    """
    decoder = model.get_decoder()
    for name in ("layers", "h", "block"):
        found = getattr(decoder, name, None)
        if isinstance(found, nn.ModuleList):
            return found
    raise BadInputError(f"{type(model).__name__} has no decoder layers of a known name; give `layers` yourself.")


def middle_third(count: int) -> tuple[int, ...]:
    """Indices of the middle third of ``count`` layers, at least one: 6 -> (2, 3)."""
    first = count // 3
    return tuple(range(first, max(first + 1, count - first)))


def attribute_directions(
    model: Any,
    inputs: Mapping[str, Tensor],
    attribute_text: Int[Tensor, "rows tokens"],
    *,
    step: float = 8 / 255,
    image_std: Sequence[float] = (1.0,),
    layers: Sequence[int] | None = None,
) -> Directions:
    r"""The direction the hidden states take when the picture shows a little less of the attribute.

    .. math:: x^- = x + \epsilon \, sign \, \nabla_x CE(text | x), \qquad
              r_l = \mathrm{mean}_{pos} (h_l(x) - h_l(x^-)), \qquad \hat r = r / \|r\|

    Args:
        model: A vision-language model, or a causal LM that reads its picture as ``inputs_embeds`` (CLIP-CAP).
        inputs: Of the prompt: ``pixel_values`` with ``input_ids`` (and ``attention_mask``), or ``inputs_embeds``.
        attribute_text: Ids that name the attribute as an answer, for example `` The person is a man``; of one length.
        step: epsilon, on a scale where a pixel is in [0, 1]; for ``inputs_embeds`` in their own units.
        image_std: The processor's ``image_std``: one per channel of (rows, channels, height, width), or one for all.
        layers: Indices; by default the middle third.

    Raises:
        BadInputError: There is no picture in the inputs, it does not reach the text, or ``image_std`` does not fit it.
    """
    name = "pixel_values" if "pixel_values" in inputs else "inputs_embeds"
    if name not in inputs:
        raise BadInputError(f"inputs hold {sorted(inputs)}; steering needs pixel_values or inputs_embeds.")
    stack = decoder_layers(model)
    chosen = tuple(layers) if layers is not None else middle_third(len(stack))
    picture = inputs[name].detach()
    scale = torch.tensor(tuple(image_std), dtype=picture.dtype, device=picture.device)
    if len(scale) > 1:
        if picture.dim() < 4:
            raise BadInputError(
                f"image_std has {len(scale)} values and the picture has shape {tuple(picture.shape)}; give one for all "
                "channels where pixels do not come as (rows, channels, height, width)."
            )
        scale = scale.view(-1, 1, 1)
    gradient = _gradient(model, inputs, attribute_text, name)
    if not bool(gradient.flatten(1).any(dim=1).all()):
        raise BadInputError("the attribute text does not depend on a picture; give the inputs the model answers from.")
    less = picture + step / scale * gradient.sign()
    plain = _mean_states(model, inputs, stack, chosen)
    moved = _mean_states(model, {**inputs, name: less}, stack, chosen)
    difference = (plain - moved).float()
    lengths = difference.norm(dim=-1, keepdim=True)
    if not bool((lengths > 0).all()):
        raise BadInputError(f"a picture step of {step} moves no hidden state; give a larger `step`.")
    return Directions(chosen, difference / lengths)


@contextmanager
def steering(model: Any, directions: Directions, *, strength: float = 1.0) -> Iterator[None]:
    """Inside the block, each layer's hidden states lose their part along its direction; see ``project_out``.

    Args:
        model: The model the directions were made for.
        directions: One row per row of the batch, or one for all.
        strength: gamma, finite; 1 takes all of it out.

    Raises:
        BadInputError: A layer does not exist, or the model was not run inside the block.
    """
    stack = decoder_layers(model)
    if not set(directions.layers) <= set(range(len(stack))):
        raise BadInputError(f"layers {directions.layers}: the model has {len(stack)}; make directions for this model.")
    edits = [
        (Place(stack[layer], "output"), partial(project_out, direction=value, strength=strength))
        for layer, value in zip(directions.layers, directions.values, strict=True)
    ]
    with editing(edits):
        yield


@torch.enable_grad()
def _gradient(model: Any, inputs: Mapping[str, Tensor], text: Tensor, name: str) -> Tensor:
    """Of the text's cross-entropy, with respect to the picture."""
    picture = inputs[name].detach().clone().requires_grad_(True)
    given: dict[str, Tensor] = {**inputs, name: picture}
    if "input_ids" in given:
        given["input_ids"] = torch.cat([given["input_ids"], text], dim=1)
    else:
        given["inputs_embeds"] = torch.cat([picture, model.get_input_embeddings()(text)], dim=1)
    for along in ("attention_mask", "token_type_ids", "mm_token_type_ids"):
        if along in given:
            fill = 1 if along == "attention_mask" else 0
            given[along] = functional.pad(given[along], (0, text.shape[1]), value=fill)
    logits = model(**_with_positions(model, given)).logits[:, -text.shape[1] - 1 : -1].float()
    loss = functional.cross_entropy(logits.flatten(0, 1), text.flatten(), reduction="sum")
    return torch.autograd.grad(loss, picture)[0]


def _with_positions(model: Any, inputs: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Padding on the left is not counted; Qwen-VL (``rope_deltas``) reads that from the mask itself."""
    mask = inputs.get("attention_mask")
    if mask is None or bool(mask.all()) or any(hasattr(module, "rope_deltas") for module in model.modules()):
        return inputs
    return {**inputs, "position_ids": (mask.long().cumsum(dim=1) - 1).clamp_min(0)}


@torch.no_grad()
def _mean_states(
    model: Any, inputs: Mapping[str, Tensor], stack: nn.ModuleList, layers: Sequence[int]
) -> Float[Tensor, "layers rows hidden"]:
    """Each layer's hidden states, averaged over the positions that are not padding."""
    kept: dict[int, Tensor] = {}

    def keeper(layer: int) -> Callable[[Tensor], Tensor]:
        def keep(hidden: Tensor) -> Tensor:
            kept[layer] = hidden.detach()
            return hidden

        return keep

    with editing([(Place(stack[layer], "output"), keeper(layer)) for layer in layers]):
        model(**_with_positions(model, inputs))
    states = torch.stack([kept[layer] for layer in layers])
    mask = inputs.get("attention_mask")
    weight = states.new_ones(states.shape[1:3]) if mask is None else mask.to(states)
    return (states * weight[None, :, :, None]).sum(dim=2) / weight.sum(dim=1)[None, :, None]
