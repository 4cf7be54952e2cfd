"""What a model is. In: prompts and their seeds. Out: one sample each, a text or a picture.

No base class: any object with these members qualifies. ``TextModel`` answers, ``ImageModel`` draws, ``CodeModel`` is a
unified model that draws by writing picture codes and can be asked for their likelihood; one object may be all three.
A mitigation that works at decode time is handed to a model as an ``Intervention``; a model that decodes through
transformers calls its hook on every step's logits.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from evenhand.records import Claim, Edit, Prompt, Sample

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from PIL.Image import Image
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "AnsweringModel",
    "CodeModel",
    "ComparingModel",
    "Continuation",
    "ContinuingModel",
    "Decoding",
    "ImageModel",
    "Intervention",
    "LogitsHook",
    "MixingModel",
    "PaidModel",
    "SeedCheckingModel",
    "TextModel",
]

Continuation = Literal["draft", "emitted"]
"""What the model conditions on after a corrected token: the token it drafted, or the token that was emitted.

``emitted`` is ordinary decoding. ``draft`` keeps the model on the answer it would have given, so that nothing
changes but the corrected words themselves; it costs nothing, because the drafted token is fed in its place.
"""

Decoding = Literal["greedy", "sampling", "beams"]
"""How a loop turns scores into tokens: the best one, a draw, or the best few rows of a beam."""


@runtime_checkable
class LogitsHook(Protocol):
    """Shifts the logits of one batch, step by step, and remembers what it did."""

    def __call__(self, input_ids: "Tensor", scores: "Tensor") -> "Tensor":
        """New scores (rows, vocabulary) in nats from the ids emitted so far (rows, tokens); inputs unmodified."""
        ...

    def drafted(self) -> "Tensor | None":
        """The ids the model alone would have chosen in the step just done, -1 in rows left alone; None if all were.

        A hook that gives back the very scores it was given, and says None here, has changed nothing.
        """
        ...

    def foresee(self, upcoming: "Tensor") -> None:
        """Tell, before a step's call, which id (rows,) the model would choose after its draft of this step.

        A loop that feeds the draft (``continuation="draft"``) knows it one step later and may hold a step's scores
        until then; words that mean something else before some words (``chairman of``) are told apart by it.
        """
        ...

    def claims(self) -> tuple[Claim | None, ...]:
        """What the picture signal said, per row; None where it was not asked."""
        ...

    def edits(self, emitted: Sequence[Sequence[int]]) -> tuple[tuple[Edit, ...], ...]:
        """Per picture, every token whose logits were shifted, given the ids that were emitted."""
        ...

    def passed(self, emitted: Sequence[Sequence[int]]) -> tuple[tuple[Edit, ...], ...]:
        """Per picture, every token at which the gate opened and nothing was shifted, with the reason."""
        ...


@runtime_checkable
class Intervention(Protocol):
    """A decode-time mitigation, ready to start on any batch.

    Attributes:
        name: For example ``align``.
        continuation: What the model conditions on after a corrected token.
        settings: JSON values that, with the name, say exactly what is done; they go into the manifest.
    """

    name: str
    continuation: Continuation
    settings: Mapping[str, object]

    def start(
        self,
        pictures: Sequence[Callable[[], "Image"]],
        tokenizer: "PreTrainedTokenizerBase",
        *,
        in_place: bool = False,
        owners: Sequence[int | None] | None = None,
        asked: Sequence[str] | None = None,
        decoding: Decoding = "greedy",
        hidden: "Callable[[], Tensor] | None" = None,
    ) -> LogitsHook:
        """A fresh hook for a batch; ``pictures[i]()`` opens a picture when it is needed.

        Args:
            pictures: One opener per answer.
            tokenizer: The model's.
            in_place: The hook may change the scores it is given: for loops that own their logits.
            owners: Which picture each row of the logits belongs to: a picture's beams or samples repeat it, a row
                that must be left alone (guidance) has None. By default row i belongs to picture i.
            asked: What the user asked in their own words, per picture; words in it are not moved. A passage
                retrieved for the prompt does not belong here.
            decoding: How the loop turns scores into tokens.
            hidden: Gives the language model's last hidden state of the step, (rows, hidden).
        """
        ...


@runtime_checkable
class TextModel(Protocol):
    """Answers prompts about pictures.

    The same ``(prompt, seed)`` gives the same text whatever the batch size.

    Attributes:
        name: Shown in reports.
        revision: Changes whenever the same prompt and seed may give another answer.
        batch_size: How many prompts one call of ``answer`` handles well.
    """

    name: str
    revision: str
    batch_size: int

    def answer(
        self,
        prompts: Sequence[Prompt],
        *,
        seeds: Sequence[int],
        intervention: Intervention | None = None,
    ) -> tuple[Sample, ...]:
        """One sample per prompt, same order; a prompt that fails becomes a sample with ``error``."""
        ...


@runtime_checkable
class ImageModel(Protocol):
    """Draws pictures from prompts.

    The same ``(prompt, seed)`` gives the same picture whatever the batch size, where ``replayable`` says so.

    Attributes:
        name: Shown in reports.
        revision: Changes whenever the same prompt and seed may give another picture.
        batch_size: How many prompts one call of ``draw`` handles well.
        settings: JSON values that, with the revision, say exactly how is drawn: guidance, temperature, steps ...
        replayable: False for a server that does not honour seeds.
    """

    name: str
    revision: str
    batch_size: int
    settings: Mapping[str, object]
    replayable: bool

    def draw(self, prompts: Sequence[Prompt], *, seeds: Sequence[int]) -> tuple[Sample, ...]:
        """One sample per prompt, same order: a PNG in ``image``, or ``error`` where a prompt failed."""
        ...


@runtime_checkable
class PaidModel(Protocol):
    """What an ``ImageModel`` that is paid for has besides."""

    def estimate_cost(self, pictures: int) -> str:
        """What so many pictures will cost, in words."""
        ...


@runtime_checkable
class SeedCheckingModel(Protocol):
    """What an ``ImageModel`` has that must be tried to know whether it honours seeds."""

    def check_seed(self) -> object:
        """Find out, which may cost pictures; ``replayable`` is known afterwards."""
        ...


@runtime_checkable
class MixingModel(Protocol):
    """What an ``ImageModel`` has that can draw between prompts, by their logits."""

    def draw_mixed(
        self,
        prompts: Sequence[Prompt],
        texts: Sequence[tuple[str, ...]],
        *,
        weights: Sequence[float],
        seeds: Sequence[int],
    ) -> tuple[Sample, ...]:
        """One sample per prompt from several texts each, whose logits have these weights, of sum 1, any sign."""
        ...


@runtime_checkable
class ContinuingModel(Protocol):
    """What an ``ImageModel`` has whose next pictures depend on those of the same run before."""

    def continue_from(self, prompts: Sequence[Prompt], stored: Iterable[Sample]) -> None:
        """Told before a run is begun or gone on with: its prompts, and what is stored of it, pictures included."""
        ...


@runtime_checkable
class AnsweringModel(Protocol):
    """What an ``ImageModel`` that answers about pictures has; a ``CodeModel`` answers so.

    Attributes:
        name: Shown in reports.
        revision: As for ``ImageModel``.
        batch_size: How many questions one call handles well.
        settings: As for ``ImageModel``.
    """

    name: str
    revision: str
    batch_size: int
    settings: Mapping[str, object]

    def answer_about(
        self, questions: Sequence[str], pictures: "Sequence[Image]", *, seeds: Sequence[int]
    ) -> tuple[str, ...]:
        """What the model says of each picture, at temperature 1."""
        ...


@runtime_checkable
class CodeModel(Protocol):
    """A unified model: a picture is a sequence of discrete codes that a language model writes.

    Codes are 0-based and in raster order; vocabulary offsets, row ends and special tokens stay inside. Guidance w mixes
    the logits as u + w (c - u), c with the prompt and u without; None means the model's own default, 1 no guidance.

    Attributes:
        name: Shown in reports.
        revision: As for ``ImageModel``.
        code_shape: Rows and columns of codes in a picture.
        codebook_size: How many different codes there are.
    """

    name: str
    revision: str
    code_shape: tuple[int, ...]
    codebook_size: int

    def generate(
        self, texts: Sequence[str], *, seeds: Sequence[int], guidance: float | None = None, temperature: float = 1.0
    ) -> "Int[Tensor, 'pictures codes']":
        """The codes of one picture per text, each drawn with its own seed; temperature 0 takes the likeliest."""
        ...

    def encode(self, pictures: "Sequence[Image]") -> "Int[Tensor, 'pictures codes']":
        """The codes of pictures."""
        ...

    def decode(self, codes: "Int[Tensor, 'pictures codes']") -> "Float[Tensor, 'pictures 3 height width']":
        """The pictures of codes, in [0, 1]."""
        ...

    def log_prob(
        self, texts: Sequence[str], codes: "Int[Tensor, 'pictures codes']", *, guidance: float | None = None
    ) -> "Float[Tensor, 'pictures codes']":
        """The log-probability of each code after those before it, in nats; over the codebook alone; differentiable."""
        ...

    def answer_about(
        self,
        questions: Sequence[str],
        pictures: "Sequence[Image]",
        *,
        seeds: Sequence[int],
        temperature: float = 1.0,
        max_tokens: int = 16,
    ) -> tuple[str, ...]:
        """What the model says of each picture; temperature 0 takes the likeliest words."""
        ...

    def features(self, pictures: "Sequence[Image]", *, where: str) -> "Float[Tensor, 'pictures features']":
        """Features of each picture, averaged over places: of the ``encoder``, its ``codes``, or ``projected``."""
        ...


@runtime_checkable
class ComparingModel(Protocol):
    """What a ``CodeModel`` has that compares prompts without doing the work of each picture anew; no gradients.

    Attributes:
        codebook_size: How many different codes there are.
    """

    codebook_size: int

    def log_probs_under(
        self,
        texts: Sequence[str],
        codes: "Int[Tensor, 'pictures codes']",
        *,
        guidance: float | None = None,
        batch_size: int | None = None,
    ) -> "Float[Tensor, 'pictures texts codes']":
        """``log_prob`` of every picture under every text, on the CPU; memory grows with ``batch_size`` alone."""
        ...

    def mean_probabilities(
        self,
        text: str,
        codes: "Int[Tensor, 'pictures codes']",
        *,
        guidance: float | None = None,
        batch_size: int | None = None,
        positions: slice | None = None,
    ) -> "Float[Tensor, 'positions codebook']":
        """Of each position the mean over pictures of the next code's probabilities after the codes before it."""
        ...
