"""Emu3. In: the model of transformers and its processor. Out: a ``Family``.

Codes are tokens of the vocabulary, each row of them followed by an end-of-line token that is never in question: it is
fed with the row's last code. A softmax is over the codebook alone, which is what decoding under Emu3's grammar amounts
to. The unconditional branch is a fixed negative prompt. End of frame and end of picture are never reached.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from PIL.Image import Image
from torch import Tensor

from evenhand.errors import ArtefactError, BadInputError
from evenhand.models.transformers_prompt import PromptForm
from evenhand.models.unified.pixels import fitted, to_pixels
from evenhand.models.unified.tokens import check_room, id_of, refuse_tokens, with_start

__all__ = ["NEGATIVE_PROMPT", "SUFFIX", "Emu3"]

SUFFIX = " masterpiece, film grained, best quality."
"""Put behind every prompt, as published (baaivision/Emu3, image generation)."""
NEGATIVE_PROMPT = (
    "lowres, bad anatomy, bad hands, text, error, missing fingers, extra digit, fewer digits, cropped, worst quality, "
    "low quality, normal quality, jpeg artifacts, signature, watermark, username, blurry."
)
"""What the unconditional branch is asked for, as published."""


class Emu3:
    """An Emu3 model as a ``Family``; see ``family.Family`` for the members.

    Args:
        model: An ``Emu3ForConditionalGeneration``. Its dropout is set to 0: at the config's 0.1 a model in training
            mode would give another likelihood each time.
        processor: Its ``Emu3Processor``.
        picture_size: Height and width in pixels, multiples of the tokenizer's factor (8); by default the processor's
            area as a square (720 x 720).
        suffix: Put behind every prompt.
        negative_prompt: The unconditional branch.

    Raises:
        ArtefactError: Another model class, or a special token is missing.
        BadInputError: A size that is not such a multiple.
    """

    guidance: float = 3.0
    top_k: int = 2048
    pads_pictures: bool = True  # the padding is encoded with the picture, and its border's codes with it
    places: tuple[str, ...] = ("encoder", "codes", "projected")
    question_form = PromptForm(
        "You are a helpful assistant. USER: {image}{question}. ASSISTANT:", "Please describe the image"
    )

    def __init__(
        self,
        model: Any,
        processor: Any,
        *,
        picture_size: tuple[int, int] | None = None,
        suffix: str = SUFFIX,
        negative_prompt: str = NEGATIVE_PROMPT,
    ) -> None:
        from transformers import Emu3ForConditionalGeneration

        if not isinstance(model, Emu3ForConditionalGeneration):
            raise ArtefactError(f"got a {type(model).__name__}; allowed: Emu3ForConditionalGeneration.")
        self.model: Any = model
        self.processor: Any = processor
        self._vq: Any = model.model.vqmodel
        self._scale = int(self._vq.spatial_scale_factor)
        self.code_shape = _grid(picture_size, self._scale, processor)
        self.codebook_size = int(self._vq.config.codebook_size)
        self.code_ids: Int[Tensor, " codebook"] = _code_ids(model, self.codebook_size)
        self._runs = bool((self.code_ids.diff() == 1).all())
        self.row_end: int | None = _row_end(model)
        self._start = id_of(processor, model, "bos_token")
        self._wrapper = processor.tokenizer.convert_tokens_to_ids(processor.fake_token_around_image)
        self._suffix = suffix
        _without_dropout(model)
        self.settings: dict[str, object] = {
            "code_shape": list(self.code_shape),
            "suffix": suffix,
            "negative_prompt": negative_prompt,
        }
        self._negative = self._ids(negative_prompt)

    @property
    def language_model(self) -> Any:
        """The Llama-like transformer inside."""
        return self.model.model.text_model

    @property
    def picture_modules(self) -> tuple[Any, ...]:
        """Of the VQ model the encoder and the codebook; the embeddings of codes belong to the language model."""
        return self._vq.encoder, self._vq.quant_conv, self._vq.quantize

    @property
    def codebook(self) -> Float[Tensor, "codebook dimension"]:
        """The quantiser's table."""
        table: Tensor = self._vq.quantize.embedding.weight
        return table

    def prefix(self, text: str) -> tuple[int, ...]:
        """Start, the text with the suffix, and the header that says how many rows and columns follow."""
        own = self.processor
        refuse_tokens(
            text,
            (own.image_token, own.image_start_token, own.image_end_token, own.fake_token_around_image, own.eof_token),
        )
        return self._ids(text + self._suffix)

    def without_text(self, prefix: tuple[int, ...]) -> tuple[int, ...]:  # noqa: ARG002  (the protocol's signature)
        """The negative prompt with the same header, whatever the prompt."""
        return self._negative

    def embed(self, ids: Int[Tensor, "*shape"]) -> Float[Tensor, "*shape hidden"]:
        """The language model's embeddings."""
        embedded: Tensor = self.model.get_input_embeddings()(ids)
        return embedded

    def embed_codes(self, codes: Int[Tensor, "*shape"]) -> Float[Tensor, "*shape hidden"]:
        """Embeddings of the codes' tokens."""
        return self.embed(self._ids_of(codes))

    def before_head(self, hidden: Float[Tensor, "*shape hidden"]) -> Float[Tensor, "*shape read"]:
        """The hidden state itself: the language head is one linear layer."""
        return hidden

    def code_logits(self, read: Float[Tensor, "*shape read"]) -> Float[Tensor, "*shape codebook"]:
        """The language head's scores of the codes' tokens; those of all other tokens are not worked out."""
        head = self.model.lm_head
        ids = self.code_ids.to(read.device)
        if type(head) is not torch.nn.Linear or not self._runs:  # an adapter sits on the head, or ids have gaps
            every: Tensor = head(read)
            return every[..., ids].float()
        first = int(self.code_ids[0])
        return torch.nn.functional.linear(read, head.weight[first : first + self.codebook_size]).float()

    @torch.no_grad()
    def encode(self, picture: Image) -> Int[Tensor, " codes"]:
        """The VQ model's codes, without end-of-line tokens."""
        codes: Tensor = self._encoded(picture).image_tokens[0]
        return codes.flatten().long()

    @torch.no_grad()
    def decode(self, codes: Int[Tensor, " codes"]) -> Float[Tensor, "3 height width"]:
        """The VQ model's picture, the processor's normalisation undone, clamped."""
        pixels: Tensor = self._vq.decode(codes.view(1, *self.code_shape))[0].float()
        mean, deviation = (torch.tensor(part, device=pixels.device)[:, None, None] for part in self._scaling())
        return (pixels * deviation + mean).clamp(0, 1)

    @torch.no_grad()
    def features(self, picture: Image, where: str) -> Float[Tensor, " features"]:
        """A mean over positions.

        ``encoder``: the VQ model's encoder before quantisation. ``codes``: the codebook's vectors of the picture's
        codes. ``projected``: the language model's embeddings of those codes; Emu3 has no other projection.
        """
        if where == "encoder":
            states: Tensor = self._encoded(picture).last_hidden_state
            return states[0].transpose(0, 1).flatten(1).float().mean(dim=1)
        codes = self.encode(picture)
        table: Any = self._vq.quantize.embedding if where == "codes" else self.embed_codes
        vectors: Tensor = table(codes)
        return vectors.float().mean(dim=0)

    def _ids(self, text: str) -> tuple[int, ...]:
        lines, columns = self.code_shape
        ids = self.processor(
            text=[text],
            return_for_image_generation=True,
            ratio=f"{columns}:{lines}",
            image_area=lines * columns * self.processor.downsample_ratio**2,
            return_tensors="pt",
        )["input_ids"][0].tolist()
        if ids[-1] != self._wrapper:
            raise ArtefactError("the processor puts no image header behind a prompt; give an Emu3Processor.")
        whole = with_start(ids, self._start)
        check_room(whole, picture=lines * (columns + 1), model=self.model)
        return whole

    def _ids_of(self, codes: Tensor) -> Tensor:
        return self.code_ids.to(codes.device)[codes]

    def _encoded(self, picture: Image) -> Any:
        lines, columns = self.code_shape
        height, width = lines * self._scale, columns * self._scale
        mean, deviation = self._scaling()
        pixels = to_pixels(fitted(picture, height=height, width=width), mean=mean, deviation=deviation)
        sizes = torch.tensor([[height, width]])
        return self._vq.encode(pixels.to(self.model.device, self.model.dtype), sizes, return_dict=True)

    def _scaling(self) -> tuple[list[float], list[float]]:
        own = self.processor.image_processor
        if not own.do_normalize:
            return [0.0] * 3, [1.0] * 3
        return list(own.image_mean), list(own.image_std)


def _grid(picture_size: tuple[int, int] | None, scale: int, processor: Any) -> tuple[int, int]:
    """Rows and columns of codes."""
    if picture_size is None:
        lines, columns = processor.calculate_generate_size(processor.ratio, processor.image_area, scale)
        return int(lines), int(columns)
    height, width = picture_size
    if height < scale or width < scale or height % scale or width % scale:
        raise BadInputError(f"picture_size: got {picture_size}; allowed: height and width, multiples of {scale}.")
    return height // scale, width // scale


def _code_ids(model: Any, size: int) -> Tensor:
    """The vocabulary's id of each code."""
    mapping = model.vocabulary_mapping.img2bpe
    if sorted(mapping) != list(range(size)):
        raise ArtefactError(
            f"the vocabulary map names {len(mapping)} visual tokens for a codebook of {size}; get the checkpoint again."
        )
    return torch.tensor([mapping[code] for code in range(size)])


def _row_end(model: Any) -> int:
    found = model.vocabulary_mapping.eol_token_id
    if found is None:
        raise ArtefactError("the vocabulary map has no end-of-line token <|extra_200|>; get the checkpoint again.")
    return int(found)


def _without_dropout(model: Any) -> None:
    model.config.get_text_config().attention_dropout = 0.0
    for module in model.model.text_model.modules():
        if hasattr(module, "attention_dropout"):
            module.attention_dropout = 0.0
        if isinstance(module, torch.nn.Dropout):  # the layers' own, of the same rate
            module.p = 0.0
