"""Janus and Janus-Pro. In: the model of transformers and its processor. Out: a ``Family``.

Two visual paths around one language model. Understanding: SigLIP features through an aligner. Generation: codes of a
VQGAN, embedded by their own table and aligner, predicted by their own head, so that a softmax is over codes alone. The
unconditional branch is the prompt with every token but start and picture start replaced by padding, which is attended.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from PIL.Image import Image
from torch import Tensor
from torch.nn.functional import normalize

from evenhand.errors import ArtefactError
from evenhand.models.transformers_prompt import PromptForm
from evenhand.models.unified.pixels import fitted, to_pixels
from evenhand.models.unified.tokens import check_room, id_of, refuse_tokens, with_start

__all__ = ["Janus"]

_HALF = (0.5, 0.5, 0.5)  # the VQGAN's pixels are in [-1, 1], whatever the processor does for SigLIP


class Janus:
    """A Janus model as a ``Family``; see ``family.Family`` for the members.

    Codes are found by the angle to the codebook's vectors, as the published tokenizer does and its decoder assumes
    (deepseek-ai/Janus, ``VectorQuantizer`` with ``l2_norm``); the ``encode`` of transformers 5.23 leaves the vectors'
    lengths in.

    Args:
        model: A ``JanusForConditionalGeneration``.
        processor: Its ``JanusProcessor``.

    Raises:
        ArtefactError: Another model class, a language model with sliding windows, or a special token is missing.
    """

    guidance: float = 5.0
    top_k: int = 0
    row_end: int | None = None
    pads_pictures: bool = False
    places: tuple[str, ...] = ("encoder", "latents", "codes", "projected")

    def __init__(self, model: Any, processor: Any) -> None:
        from transformers import JanusForConditionalGeneration

        if not isinstance(model, JanusForConditionalGeneration):
            raise ArtefactError(f"got a {type(model).__name__}; allowed: JanusForConditionalGeneration.")
        self.model: Any = model
        self.processor: Any = processor
        kinds = set(getattr(model.config.text_config, "layer_types", None) or ["full_attention"])
        if kinds != {"full_attention"}:
            raise ArtefactError(
                f"its language model has layers of {', '.join(sorted(kinds))}; allowed: full attention."
            )
        self._vq: Any = model.model.vqmodel
        lines, columns = self._vq.quantize.quant_state_dims
        self.code_shape: tuple[int, int] = (int(lines), int(columns))
        self.codebook_size = int(self._vq.config.num_embeddings)
        self._scale = 2 ** (len(self._vq.config.channel_multiplier) - 1)
        self._start, self._pad = id_of(processor, model, "bos_token"), id_of(processor, model, "pad_token")
        self._begin = id_of(processor, model, "boi_token")
        # Janus-Pro has tokens for who speaks; Janus 1.3B writes them as words.
        self._asked = "<|User|>: {question}\n\n<|Assistant|>:"
        if "<|User|>" not in processor.tokenizer.get_vocab():
            self._asked = self._asked.replace("<|User|>", "User").replace("<|Assistant|>", "Assistant")
        seen = self._asked.replace("{question}", "{image}\n{question}")
        self.question_form = PromptForm(seen, "Describe the photo in detail.")
        self.settings: dict[str, object] = {}

    @property
    def language_model(self) -> Any:
        """The Llama inside."""
        return self.model.model.language_model

    @property
    def picture_modules(self) -> tuple[Any, ...]:
        """SigLIP and its aligner; of the VQGAN the encoder and the codebook."""
        own, vq = self.model.model, self._vq
        return own.vision_model, own.aligner, vq.encoder, vq.quant_conv, vq.quantize

    @property
    def codebook(self) -> Float[Tensor, "codebook dimension"]:
        """The quantiser's table."""
        table: Tensor = self._vq.quantize.embedding.weight
        return table

    def prefix(self, text: str) -> tuple[int, ...]:
        """Start, the chat template around the text, and the token that begins a picture."""
        own = self.processor
        refuse_tokens(text, (own.image_token, own.image_start_token, own.image_end_token))
        if getattr(own, "chat_template", None):
            turn = [{"role": "user", "content": [{"type": "text", "text": text}]}]
            asked = own.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
        else:
            asked = self._asked.format(question=text)
        ids = own(text=[asked], generation_mode="image", return_tensors="pt")["input_ids"][0].tolist()
        if ids[-1] != self._begin:
            raise ArtefactError("the processor puts no begin-of-image token behind a prompt; give a JanusProcessor.")
        whole = with_start(ids, self._start)
        check_room(whole, picture=self.code_shape[0] * self.code_shape[1], model=self.model)
        return whole

    def without_text(self, prefix: tuple[int, ...]) -> tuple[int, ...]:
        """The same number of tokens: padding in place of everything but start and begin-of-image."""
        kept = {self._start, self._begin}
        return tuple(one if one in kept else self._pad for one in prefix)

    def embed(self, ids: Int[Tensor, "*shape"]) -> Float[Tensor, "*shape hidden"]:
        """The language model's embeddings."""
        embedded: Tensor = self.model.get_input_embeddings()(ids)
        return embedded

    def embed_codes(self, codes: Int[Tensor, "*shape"]) -> Float[Tensor, "*shape hidden"]:
        """The generation path's table and aligner."""
        embedded: Tensor = self.model.prepare_embeddings_for_image_generation(codes)
        return embedded

    def before_head(self, hidden: Float[Tensor, "*shape hidden"]) -> Float[Tensor, "*shape read"]:
        """The generation head up to its last layer."""
        head = self.model.model.generation_head
        read: Tensor = head.activation_fn(head.proj_out(hidden))
        return read

    def code_logits(self, read: Float[Tensor, "*shape read"]) -> Float[Tensor, "*shape codebook"]:
        """The generation head's last layer."""
        logits: Tensor = self.model.model.generation_head.vision_head(read)
        return logits.float()

    @torch.no_grad()
    def encode(self, picture: Image) -> Int[Tensor, " codes"]:
        """The codebook's vectors of smallest angle to what the VQGAN's encoder sees."""
        seen = self._latents(picture)
        table = self._vq.quantize.embedding.weight.float()
        cosines: Tensor = normalize(seen, dim=-1) @ normalize(table, dim=-1).T
        return cosines.argmax(dim=-1)

    @torch.no_grad()
    def decode(self, codes: Int[Tensor, " codes"]) -> Float[Tensor, "3 height width"]:
        """The VQGAN's picture, ``(x + 1) / 2`` clamped; channels first."""
        pixels: Tensor = self._vq.decode(codes[None])[0].float()
        return ((pixels + 1) / 2).clamp(0, 1)

    @torch.no_grad()
    def features(self, picture: Image, where: str) -> Float[Tensor, " features"]:
        """A mean over positions.

        ``encoder``: SigLIP's last hidden state (understanding). ``projected``: the same behind the aligner, as the
        language model gets it. Generation: ``latents``, what the VQGAN's encoder gives before it is quantised, as unit
        vectors, of which the angle alone decides the code; ``codes``: the unit vectors of those codes in the codebook.
        """
        if where == "latents":
            seen = self._latents(picture)
            return normalize(seen, dim=-1).mean(dim=0)
        if where == "codes":
            vectors = self._vq.quantize.embedding(self.encode(picture))
            unit: Tensor = normalize(vectors.float(), dim=-1)
            return unit.mean(dim=0)
        inputs = self.processor.image_processor(images=[picture], return_tensors="pt")["pixel_values"]
        found = self.model.model.get_image_features(inputs.to(self.model.device, self.model.dtype), return_dict=True)
        states: Tensor = found.last_hidden_state if where == "encoder" else found.pooler_output
        return states.float().flatten(0, -2).mean(dim=0)

    def _latents(self, picture: Image) -> Tensor:
        latents: Tensor = self._vq.quant_conv(self._vq.encoder(self._pixels(picture)))[0]
        return latents.flatten(1).T.float()

    def _pixels(self, picture: Image) -> Tensor:
        lines, columns = self.code_shape
        whole = fitted(picture, height=lines * self._scale, width=columns * self._scale)
        return to_pixels(whole, mean=_HALF, deviation=_HALF).to(self.model.device, self.model.dtype)
