"""A unified model. In: prompts or pictures, and seeds. Out: pictures, codes, likelihoods, answers, features.

One class around a ``Family`` (Janus, Emu3): it is a ``CodeModel`` and an ``ImageModel`` of ``models.protocol``. Codes
are 0-based and in raster order; where a family keeps them in its vocabulary is nobody's business outside.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from PIL.Image import Image
from torch import Tensor

from evenhand.errors import ArtefactError, BadInputError, EvenhandError
from evenhand.models.unified.adapted import merge_adapter
from evenhand.models.unified.answering import answers_about
from evenhand.models.unified.arguments import check_mixture, check_numbers, check_pairs, checked_codes
from evenhand.models.unified.codes import DrawnCodes, draw_codes, draw_mixture
from evenhand.models.unified.comparing import compared_log_probs, mean_probabilities
from evenhand.models.unified.family import Family
from evenhand.models.unified.likelihood import code_log_probs, forced_logits
from evenhand.models.unified.load import load_family
from evenhand.models.unified.modes import evaluating
from evenhand.models.unified.pixels import png_bytes, readable
from evenhand.records import Prompt, Sample

if TYPE_CHECKING:
    import transformers

__all__ = ["UnifiedModel"]


class UnifiedModel:
    """Draws pictures with codes and answers questions about pictures; see ``protocol.CodeModel`` and ``ImageModel``.

    The same prompt and seed give the same picture whatever the batch size and its neighbours, up to rounding: another
    batch size may take other matrix kernels, and a draw differs if the two best codes are closer than their last bits.

    Args:
        family: The model, its processor and what is special about them.
        name: Shown in reports.
        revision: Changes whenever the weights may.
        guidance: w of classifier-free guidance; by default the family's published one (Janus 5, Emu3 3).
        temperature: Of ``draw``; 0 takes the likeliest codes.
        top_k: Of ``draw``: how many likeliest codes a code is drawn from; 0 is all, by default the family's published
            number (Janus all, Emu3 2,048).
        batch_size: Pictures drawn together; with guidance each takes two rows.

    Raises:
        BadInputError: A number is out of range.
    """

    def __init__(
        self,
        family: Family,
        *,
        name: str,
        revision: str,
        guidance: float | None = None,
        temperature: float = 1.0,
        top_k: int | None = None,
        batch_size: int = 8,
    ) -> None:
        self.guidance = family.guidance if guidance is None else guidance
        self.temperature, self.top_k = temperature, family.top_k if top_k is None else top_k
        check_numbers(self.guidance, temperature, self.top_k)
        if batch_size < 1:
            raise BadInputError(f"batch_size: got {batch_size}; allowed: 1 and more.")
        self.family, self.model, self.name, self.batch_size = family, family.model.eval(), name, batch_size
        self.code_shape: tuple[int, ...] = family.code_shape
        self.codebook_size = family.codebook_size
        self.processor: Any = family.processor
        self.tokenizer: "transformers.PreTrainedTokenizerBase" = self.processor.tokenizer
        self.replayable = True
        self.settings: Mapping[str, object] = {
            "guidance": self.guidance,
            "temperature": temperature,
            "top_k": self.top_k,
            "dtype": str(self.model.dtype).removeprefix("torch."),
            **family.settings,
        }
        digest = hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode()).hexdigest()
        self.revision = f"{revision}-{digest[:8]}"

    @classmethod
    def from_pretrained(
        cls,
        source: str,
        *,
        device: str = "cpu",
        dtype: "torch.dtype | str" = "auto",
        revision: str | None = None,
        guidance: float | None = None,
        temperature: float = 1.0,
        top_k: int | None = None,
        batch_size: int = 8,
        adapter: str | None = None,
        **family_options: Any,
    ) -> "UnifiedModel":
        """A model from a folder or the hub; code that comes with a model is never run.

        Args:
            source: A folder, or a hub id.
            device: Where it runs, for example ``cpu`` or ``cuda``.
            dtype: Of the weights, for example ``float32`` or ``bfloat16``; ``auto`` takes the files'.
            revision: Commit, tag or branch on the hub.
            guidance: As the class.
            temperature: As the class.
            top_k: As the class.
            batch_size: As the class.
            adapter: Folder of a LoRA adapter (``evenhand mitigate bpo``), added to the weights.
            family_options: Emu3: ``picture_size=(height, width)``, ``suffix``, ``negative_prompt``.

        Raises:
            ArtefactError: No image output, incomplete or not finite weights, no processor, or an
                adapter of another model.
            BadInputError: A number or a picture size is out of range.
        """
        family, found = load_family(source, device=device, dtype=dtype, revision=revision, **family_options)
        name = source.rstrip("/").rsplit("/", 1)[-1]
        if adapter is not None:
            found = f"{found}-{merge_adapter(family.model, adapter)}"
        return cls(
            family,
            name=name,
            revision=found,
            guidance=guidance,
            temperature=temperature,
            top_k=top_k,
            batch_size=batch_size,
        )

    @property
    def codebook_digest(self) -> str:
        """Which picture tokenizer its codes are of: SHA-256 of the codebook's vectors, 16 hex characters."""
        vectors = self.family.codebook.detach().to("cpu", torch.bfloat16).contiguous().view(torch.int16)
        return hashlib.sha256(f"{self.code_shape}".encode() + vectors.numpy().tobytes()).hexdigest()[:16]

    def draw(self, prompts: Sequence[Prompt], *, seeds: Sequence[int]) -> tuple[Sample, ...]:
        """One sample per prompt, same order, with PNG bytes and codes; a prompt that fails has ``error`` instead."""
        return self.draw_mixed(prompts, [(prompt.text,) for prompt in prompts], weights=(1.0,), seeds=seeds)

    def draw_mixed(
        self,
        prompts: Sequence[Prompt],
        texts: Sequence[tuple[str, ...]],
        *,
        weights: Sequence[float],
        seeds: Sequence[int],
    ) -> tuple[Sample, ...]:
        r"""``draw``, from several texts a picture, whose logits are mixed before guidance is applied.

        .. math:: u + w (c - u), \qquad c = \sum_i v_i \, \mathrm{logits}(text_i)

        u is the unconditional branch of the last text. Each text is one more row a picture; at w = 1 there is no u.

        Args:
            prompts: Whose samples these are; their own texts are not read.
            texts: The same number a picture, at least one.
            weights: v, one a text, of sum 1.
            seeds: One a picture.

        Raises:
            BadInputError: Numbers of texts, weights, seeds and prompts do not fit, or the weights' sum is not 1.
        """
        check_pairs("seeds", seeds, prompts)
        check_mixture(texts, weights, prompts)
        samples: dict[int, Sample] = {}
        prefixes: dict[int, list[tuple[int, ...]]] = {}
        for i, prompt in enumerate(prompts):
            try:
                prefixes[i] = [self.family.prefix(text) for text in texts[i]]
            except EvenhandError as error:
                samples[i] = _failed(prompt, seeds[i], error)
        asked = list(prefixes)
        for start in range(0, len(asked), self.batch_size):
            rows = asked[start : start + self.batch_size]
            with evaluating(self.model):
                drawn = draw_mixture(
                    self.family,
                    [prefixes[i] for i in rows],
                    shares=weights,
                    seeds=[seeds[i] for i in rows],
                    guidance=self.guidance,
                    temperature=self.temperature,
                    top_k=self.top_k,
                )
            for i, codes, finite in zip(rows, drawn.codes.cpu(), drawn.finite.tolist(), strict=True):
                samples[i] = self._sample(prompts[i], seeds[i], codes, finite=finite)
        return tuple(samples[i] for i in range(len(prompts)))

    def generate(
        self,
        texts: Sequence[str],
        *,
        seeds: Sequence[int],
        guidance: float | None = None,
        temperature: float = 1.0,
        top_k: int = 0,
    ) -> Int[Tensor, "pictures codes"]:
        """Codes of one picture per text, on the CPU.

        Args:
            texts: What to draw; equal ones share their prefix.
            seeds: One a picture.
            guidance: w; None is the model's own.
            temperature: 0 takes the likeliest codes.
            top_k: Draw from this many likeliest codes; 0 from all, so that ``log_prob`` scores what is drawn from.

        Raises:
            BadInputError: No text, a number out of range, a text that does not fit.
            ArtefactError: The model gives NaN.
        """
        weight = self.guidance if guidance is None else guidance
        check_numbers(weight, temperature, top_k)
        check_pairs("seeds", seeds, texts)
        prefixes = self._prefixes(texts)
        parts: list[DrawnCodes] = []
        for start in range(0, len(texts), self.batch_size):
            rows = slice(start, start + self.batch_size)
            with evaluating(self.model):
                parts.append(
                    draw_codes(
                        self.family,
                        prefixes[rows],
                        seeds=seeds[rows],
                        guidance=weight,
                        temperature=temperature,
                        top_k=top_k,
                    )
                )
        if not all(bool(part.finite.all()) for part in parts):
            raise ArtefactError(f"{self.name}: {_NOT_FINITE}")
        return torch.cat([part.codes for part in parts]).cpu()

    def logits(
        self, texts: Sequence[str], codes: Int[Tensor, "pictures codes"], *, guidance: float | None = None
    ) -> Float[Tensor, "pictures codes codebook"]:
        """Guided logits of every position in nats, given all codes before it; differentiable.

        Raises:
            BadInputError: As ``log_prob``.
        """
        weight, prefixes, own = self._scored(texts, codes, guidance)
        return forced_logits(self.family, prefixes, own, guidance=weight)

    def log_prob(
        self, texts: Sequence[str], codes: Int[Tensor, "pictures codes"], *, guidance: float | None = None
    ) -> Float[Tensor, "pictures codes"]:
        r"""Log-probability of each code in nats, given its text and all codes before it; at most 0, differentiable.

        .. math:: \log p(z_t | x, z_{<t}) = \log \mathrm{softmax}(u_t + w (c_t - u_t))[z_t]

        Renormalised over the codebook where the vocabulary holds other tokens too. The distribution is the one
        ``generate`` draws from with the same guidance. Give ``guidance=1`` for the model as it was trained: half the
        work.

        Args:
            texts: One a picture.
            codes: 0-based, raster order.
            guidance: w; None is the model's own, as in ``generate``.

        Raises:
            BadInputError: No text, numbers of texts and pictures differ, codes out of range or of another picture
                size, guidance not finite.
        """
        weight, prefixes, own = self._scored(texts, codes, guidance)
        return code_log_probs(self.family, prefixes, own, guidance=weight)

    def log_probs_under(
        self,
        texts: Sequence[str],
        codes: Int[Tensor, "pictures codes"],
        *,
        guidance: float | None = None,
        batch_size: int | None = None,
    ) -> Float[Tensor, "pictures texts codes"]:
        """``log_prob`` of every picture under every text, in nats, at most 0; float32 on the CPU, no gradient.

        Each text is read once for all pictures. Memory grows with ``batch_size`` and hardly with the pictures: of each
        only the result is kept.

        Args:
            texts: One or more.
            codes: 0-based, raster order.
            guidance: w; None is the model's own, as in ``generate``.
            batch_size: Pictures read together; None is the model's own.

        Raises:
            BadInputError: No text, codes out of range or of another picture size, or a number out of range.
        """
        weight, size, own = self._compared(codes, guidance, batch_size)
        with evaluating(self.model):
            return compared_log_probs(self.family, self._prefixes(texts), own, guidance=weight, batch_size=size)

    def mean_probabilities(
        self,
        text: str,
        codes: Int[Tensor, "pictures codes"],
        *,
        guidance: float | None = None,
        batch_size: int | None = None,
        positions: slice | None = None,
    ) -> Float[Tensor, "positions codebook"]:
        """Of each position the mean over pictures of the next code's probabilities, given all codes before it.

        Rows sum to 1; float32 on the CPU, no gradient. Memory: 4 bytes a position and code of the codebook, and what a
        batch takes.

        Args:
            text: In front of every picture.
            codes: 0-based, raster order.
            guidance: As ``log_probs_under``.
            batch_size: As ``log_probs_under``.
            positions: Which codes; None: all.

        Raises:
            BadInputError: As ``log_probs_under``.
        """
        weight, size, own = self._compared(codes, guidance, batch_size)
        with evaluating(self.model):
            return mean_probabilities(
                self.family,
                self.family.prefix(text),
                own,
                guidance=weight,
                batch_size=size,
                positions=positions or slice(None),
            )

    def encode(self, pictures: Sequence[Image]) -> Int[Tensor, "pictures codes"]:
        """Codes of pictures, on the CPU; each is cropped to the grid's shape at its centre and scaled.

        Raises:
            BadInputError: No picture.
            PictureError: A picture cannot be read.
        """
        with evaluating(self.model):
            return torch.stack([self.family.encode(picture) for picture in _readable(pictures)]).cpu()

    def decode(self, codes: Int[Tensor, "pictures codes"]) -> Float[Tensor, "pictures 3 height width"]:
        """Pixels in [0, 1], on the CPU; one picture at a time, so that its neighbours change nothing.

        Raises:
            BadInputError: Codes out of range or of another picture size.
        """
        own = checked_codes(codes, self.code_shape, self.codebook_size).to(self.model.device)
        with evaluating(self.model):
            return torch.stack([self.family.decode(row) for row in own]).cpu()

    def answer_about(
        self,
        questions: Sequence[str],
        pictures: Sequence[Image],
        *,
        seeds: Sequence[int],
        temperature: float = 1.0,
        max_tokens: int = 16,
    ) -> tuple[str, ...]:
        """Text about a picture, one per question, by the model's understanding path.

        Args:
            questions: In the user's words; the model's chat template goes around them.
            pictures: One a question.
            seeds: One a question; an answer is a function of question, picture and seed, up to rounding.
            temperature: 0 takes the likeliest words.
            max_tokens: Longest answer.

        Raises:
            BadInputError: No question, lengths differ, or a number is out of range.
            PictureError: A picture cannot be read.
        """
        check_numbers(1.0, temperature, 0)
        check_pairs("pictures", pictures, questions)
        check_pairs("seeds", seeds, questions)
        if not questions or max_tokens < 1:
            raise BadInputError(f"got {len(questions)} questions, max_tokens {max_tokens}; allowed: 1 and more.")
        return answers_about(
            self.family,
            questions,
            _readable(pictures),
            seeds=seeds,
            temperature=temperature,
            max_tokens=max_tokens,
            batch_size=self.batch_size,
        )

    def features(self, pictures: Sequence[Image], *, where: str) -> Float[Tensor, "pictures features"]:
        """Features of pictures, a mean over positions, float32 on the CPU.

        Args:
            pictures: At least one.
            where: ``encoder`` what the picture encoder sees, ``codes`` the codebook's vectors of the picture's codes,
                ``projected`` what the language model gets. Janus: encoder and projected belong to the understanding
                path (SigLIP, aligner), codes to the generation path, and so do ``latents``, the unit vectors that codes
                are found from, before the quantisation. Emu3 has one path: encoder is before the quantisation,
                projected are the codes' embeddings.

        Raises:
            BadInputError: No picture, or a place the model does not have.
            PictureError: A picture cannot be read.
        """
        if where not in self.family.places:
            raise BadInputError(f"where: got {where!r}; allowed: {', '.join(self.family.places)}.")
        with evaluating(self.model):
            return torch.stack([self.family.features(picture, where) for picture in _readable(pictures)]).cpu()

    def _sample(self, prompt: Prompt, seed: int, codes: Tensor, *, finite: bool) -> Sample:
        if not finite:
            return _failed(prompt, seed, ArtefactError(_NOT_FINITE))
        drawn = png_bytes(self.decode(codes[None])[0])
        digest = hashlib.sha256(drawn).hexdigest()
        return Sample(prompt.id, 0, seed, None, image=drawn, image_sha256=digest, codes=tuple(codes.tolist()))

    def _prefixes(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        if not texts:
            raise BadInputError("texts: got none; give at least one.")
        known = {text: self.family.prefix(text) for text in dict.fromkeys(texts)}
        return [known[text] for text in texts]

    def _scored(
        self, texts: Sequence[str], codes: Tensor, guidance: float | None
    ) -> tuple[float, list[tuple[int, ...]], Tensor]:
        weight = self.guidance if guidance is None else guidance
        check_numbers(weight, 1.0, 0)
        check_pairs("codes", codes, texts)
        return (
            weight,
            self._prefixes(texts),
            checked_codes(codes, self.code_shape, self.codebook_size).to(self.model.device),
        )

    def _compared(self, codes: Tensor, guidance: float | None, batch_size: int | None) -> tuple[float, int, Tensor]:
        weight, size = (self.guidance if guidance is None else guidance, batch_size or self.batch_size)
        check_numbers(weight, 1.0, 0)
        if batch_size is not None and batch_size < 1:
            raise BadInputError(f"batch_size: got {batch_size}; allowed: 1 and more.")
        return weight, size, checked_codes(codes, self.code_shape, self.codebook_size).to(self.model.device)


_NOT_FINITE = "the logits are not finite (NaN or infinity); load the weights in float32 or bfloat16."


def _readable(pictures: Sequence[Image]) -> list[Image]:
    if not pictures:
        raise BadInputError("pictures: got none; give at least one.")
    return [readable(picture, which=f"picture {i}") for i, picture in enumerate(pictures)]


def _failed(prompt: Prompt, seed: int, error: EvenhandError) -> Sample:
    return Sample(prompt.id, 0, seed, None, error=f"{type(error).__name__}: {error}")
