"""What a family of unified models must say of itself. In: nothing. Out: the protocol the loop and the scores use.

A picture is a grid of codes, written row by row behind a prefix of ordinary tokens. A family knows which prefix asks
for a picture, how ids and codes become embeddings, and how a hidden state becomes logits over the codebook alone.
Offsets of codes in a vocabulary, tokens that end a row and the like stay inside.
"""

from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float, Int
from PIL.Image import Image
from torch import Tensor

from evenhand.models.transformers_prompt import PromptForm

__all__ = ["Family"]


@runtime_checkable
class Family(Protocol):
    """One family of unified models around one model and its processor.

    Attributes:
        model: The transformers model.
        processor: Its processor.
        code_shape: Rows and columns of a picture's codes.
        codebook_size: Codes are 0 up to, not including, this.
        guidance: The guidance it was published with.
        top_k: The number of likeliest codes it was published to draw from; 0 draws from all.
        row_end: The token that stands behind each row of codes, or None.
        question_form: How it is asked about a picture where its processor has no chat template.
        pads_pictures: Whether pictures of different sizes, asked about in one batch, change each other's codes.
        places: What ``features`` can be taken from.
        settings: What else, with the weights, decides which picture is drawn; JSON values.
    """

    model: Any
    processor: Any
    code_shape: tuple[int, int]
    codebook_size: int
    guidance: float
    top_k: int
    row_end: int | None
    question_form: PromptForm
    pads_pictures: bool
    places: tuple[str, ...]
    settings: dict[str, object]

    @property
    def language_model(self) -> Any:
        """The transformer without a head; called with ``inputs_embeds``."""
        ...

    @property
    def picture_modules(self) -> tuple[Any, ...]:
        """The torch modules between pixels and features: what is trained to see, without what draws and writes."""
        ...

    @property
    def codebook(self) -> Float[Tensor, "codebook dimension"]:
        """The vectors that codes stand for."""
        ...

    def prefix(self, text: str) -> tuple[int, ...]:
        """The ids that ask for a picture of ``text``, up to the token behind which the first code stands.

        Raises:
            BadInputError: The text holds a token that only the model may write, or leaves no room for the picture.
        """
        ...

    def without_text(self, prefix: tuple[int, ...]) -> tuple[int, ...]:
        """The ids of the unconditional branch that belongs to a prefix."""
        ...

    def embed(self, ids: Int[Tensor, "*shape"]) -> Float[Tensor, "*shape hidden"]:
        """Input embeddings of ordinary tokens."""
        ...

    def embed_codes(self, codes: Int[Tensor, "*shape"]) -> Float[Tensor, "*shape hidden"]:
        """Input embeddings of codes."""
        ...

    def before_head(self, hidden: Float[Tensor, "*shape hidden"]) -> Float[Tensor, "*shape read"]:
        """What the last layer of the head, a linear one, reads; from last hidden states."""
        ...

    def code_logits(self, read: Float[Tensor, "*shape read"]) -> Float[Tensor, "*shape codebook"]:
        """Scores of the next code in nats, float32, up to a constant a position: affine in what is read."""
        ...

    def encode(self, picture: Image) -> Int[Tensor, " codes"]:
        """The codes of one RGB picture, cropped to the grid's shape at its centre."""
        ...

    def decode(self, codes: Int[Tensor, " codes"]) -> Float[Tensor, "3 height width"]:
        """The pixels of one picture in [0, 1], float32."""
        ...

    def features(self, picture: Image, where: str) -> Float[Tensor, " features"]:
        """Features of one RGB picture at one of ``places``, a mean over its positions, float32."""
        ...
