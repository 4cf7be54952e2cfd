"""Decoding for transformers' ``generate``. In: a prepared model call and a hook. Out: token ids.

``model.generate(**inputs, custom_generate=DecodingLoop(hook, continuation="draft"))``: transformers prepares inputs,
cache and processors as always, this loop takes the steps. It adds what transformers' loops cannot do: the model may
be fed the token it drafted instead of the corrected one, a hook may hear what the model would say next, and a draw
depends on its row's seed alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import GenerationMixin, LogitsProcessorList
from transformers.generation.logits_process import (
    EpsilonLogitsWarper,
    EtaLogitsWarper,
    LogitNormalization,
    MinPLogitsWarper,
    SynthIDTextWatermarkLogitsProcessor,
    TemperatureLogitsWarper,
    TopHLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
    WatermarkLogitsProcessor,
)

from evenhand.errors import BadInputError
from evenhand.models.hidden import LastHidden
from evenhand.models.protocol import Continuation, LogitsHook

if TYPE_CHECKING:
    from transformers import GenerationConfig, StoppingCriteriaList

__all__ = ["DecodingLoop", "generate_text"]

_WARPERS = (
    TemperatureLogitsWarper,
    TopHLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    MinPLogitsWarper,
    TypicalLogitsWarper,
    EpsilonLogitsWarper,
    EtaLogitsWarper,
    WatermarkLogitsProcessor,
    SynthIDTextWatermarkLogitsProcessor,
    LogitNormalization,
)
"""What ``generate`` puts behind a user's processors: the hook runs before these and after everything else."""
_CHECK_EVERY = 8
"""Steps between two looks at a device to see whether every row has ended; each look waits for the device."""
_DRAWS = 3
"""Random numbers a row uses in a step: one for the draft, two for what a correction makes of it."""


@dataclass(frozen=True, slots=True)
class DecodingLoop:
    """Greedy decoding or sampling with a hook; hand it to ``generate`` as ``custom_generate``.

    The hook sees the scores after repetition penalty, suppressed tokens and the user's own processors, and before
    temperature and top-k or top-p. Rows do not touch each other. Sampling under a hook is a maximal coupling: where
    the hook leaves a distribution alone the model's own draw is emitted, else it is kept with probability
    ``min(1, q / p)`` and replaced by a draw from ``max(0, q - p)`` otherwise, so that what is emitted follows q and
    differs from the draft as seldom as any method can make it.

    Attributes:
        hook: Called once a step on the scores of all rows; None decodes plainly.
        continuation: What the model is fed after a corrected token. With ``draft`` it goes on from its own token,
            so its scores never depend on a correction; each step is held back until the next draft is known.
        seeds: One a row, for sampling: a row's text is a function of its prompt and seed. By default taken from
            torch's global generator.
        hidden: Kept in step with the scores that are held back.
        streamer: A transformers ``BaseStreamer``; gets every emitted token.
        answers_only: Return a list of token ids a row, its stop token included, instead of what ``generate`` returns.
    """

    hook: LogitsHook | None = None
    continuation: Continuation = "emitted"
    seeds: Sequence[int] | None = None
    hidden: "LastHidden | None" = None
    streamer: Any = None
    answers_only: bool = False

    def __call__(
        self,
        model: Any,
        input_ids: Int[Tensor, "rows prompt"],
        logits_processor: LogitsProcessorList,
        stopping_criteria: "StoppingCriteriaList",
        generation_config: "GenerationConfig",
        **model_kwargs: Any,
    ) -> Any:
        """Prompt and answer of each row, padded behind its end; the signature is what ``generate`` calls.

        Raises:
            BadInputError: Beams, attentions or hidden states are asked for, the seeds do not fit the rows, or rows
                can end one by one and nothing says what to pad with.
        """
        run = _Run(self, model, input_ids, logits_processor, stopping_criteria, generation_config)
        run.decode(model_kwargs)
        return run.result()


def generate_text(model: Any, **call: Any) -> Any:
    """``model.generate``, also where a model's own method would drop arguments in silence.

    Janus' text mode hands ``generate`` neither logits processors nor, in part, the generation config (transformers
    5.23); there the general method is called, which prepares the same inputs.

    Raises:
        BadInputError: Pictures are to be generated.
    """
    if model.config.model_type != "janus":
        return model.generate(**call)
    if (mode := call.pop("generation_mode", "text")) != "text":
        raise BadInputError(f"generation_mode: got {mode!r}; allowed: 'text'. Words are corrected, not pictures.")
    return GenerationMixin.generate(model, **{**call, "guidance_scale": None})


@dataclass(frozen=True, slots=True)
class _Step:
    """One step's scores and what the model alone makes of them."""

    number: int
    scores: Float[Tensor, "rows vocab"]
    warped: Float[Tensor, "rows vocab"]
    draft: Int[Tensor, " rows"]
    chances: Float[Tensor, "rows vocab"] | None
    hidden: Tensor | None


class _Run:
    """One call of the loop: what has been emitted, what the model was fed, and which rows have ended."""

    def __init__(
        self,
        loop: DecodingLoop,
        model: Any,
        input_ids: Tensor,
        processors: LogitsProcessorList,
        criteria: "StoppingCriteriaList",
        config: "GenerationConfig",
    ) -> None:
        self.loop, self.model, self.criteria, self.config = loop, model, criteria, config
        self.before: Any
        self.after: Any
        self.before, self.after = _split(processors)
        self.prompt, self.rows, self.device = input_ids.shape[1], input_ids.shape[0], input_ids.device
        self.room = int(config.max_length) - self.prompt
        self.stops: Tensor | None = next(
            (rule.eos_token_id for rule in criteria if hasattr(rule, "eos_token_id")), None
        )
        self.filler = _filler(config, self.stops, criteria)
        self.draws = _draws(loop.seeds, self.rows, self.room, self.device) if config.do_sample else None
        self.emitted = self.fed = input_ids
        self.ended = torch.zeros(self.rows, dtype=torch.bool, device=self.device)
        self.lengths = torch.zeros(self.rows, dtype=torch.long, device=self.device)
        self.some_ended = False
        self.kept_scores: list[Tensor] = []
        self.kept_logits: list[Tensor] = []
        if (config.num_beams or 1) > 1 or config.output_attentions or config.output_hidden_states:
            raise BadInputError(
                "this loop takes greedy and sampling steps and returns tokens, scores and logits; for beams, "
                "attentions or hidden states leave custom_generate out."
            )

    def decode(self, model_kwargs: dict[str, Any]) -> None:
        """Take steps until every row has ended or no room is left."""
        hooked = self.loop.hook is not None
        ahead = hooked and self.loop.continuation == "draft"
        held: _Step | None = None
        for number in range(self.room):
            outputs = self._forward(number, model_kwargs)
            model_kwargs = self.model._update_model_kwargs_for_generation(
                outputs, model_kwargs, is_encoder_decoder=self.model.config.is_encoder_decoder
            )
            step = self._draft(number, outputs.logits[:, -1])
            del outputs
            if held is not None:
                self._emit(held, self._upcoming(held, step.draft))
            last = number == self.room - 1
            if ahead and not last and not self._nothing_follows(step):
                held = step
            else:
                held = None
                self._emit(step, torch.full_like(step.draft, -1) if ahead else None)
                if last or self._look(number, self.ended):
                    break
            self.fed = torch.cat([self.fed, step.draft[:, None]], dim=1) if ahead else self.emitted

    def result(self) -> Any:
        """What ``generate`` returns."""
        if self.loop.streamer is not None:
            self.loop.streamer.end()
        lengths = self.lengths.tolist()
        if self.loop.answers_only:
            answers = self.emitted[:, self.prompt :].tolist()
            return [row[:length] for row, length in zip(answers, lengths, strict=True)]
        longest = max(lengths, default=0)
        sequences = self.emitted[:, : self.prompt + longest]
        if not self.config.return_dict_in_generate:
            return sequences
        from transformers.generation.utils import GenerateDecoderOnlyOutput, GenerateEncoderDecoderOutput

        kind: Any = GenerateEncoderDecoderOutput if self.model.config.is_encoder_decoder else GenerateDecoderOnlyOutput
        scores = tuple(self.kept_scores[:longest]) if self.config.output_scores else None
        logits = tuple(self.kept_logits[:longest]) if self.config.output_logits else None
        return kind(sequences=sequences, scores=scores, logits=logits)

    def _forward(self, number: int, model_kwargs: dict[str, Any]) -> Any:
        if number == 0:
            return self.model._prefill(self.fed, self.config, model_kwargs)
        length = 1 if model_kwargs.get("use_cache") else None
        inputs = self.model.prepare_inputs_for_generation(self.fed, next_sequence_length=length, **model_kwargs)
        return self.model(**inputs, return_dict=True)

    def _draft(self, number: int, logits: Tensor) -> _Step:
        """What the model alone would say: its scores before the hook, and its own choice."""
        raw = logits.to(dtype=torch.float32, device=self.device, copy=True)
        if self.config.output_logits:
            self.kept_logits.append(raw.clone())
        scores = self.before(self.fed, raw)
        warped = self.after(self.fed, scores)
        chances = None
        if self.draws is None:
            draft = warped.argmax(dim=-1)
        else:
            chances = warped.softmax(dim=-1)
            draft = _draw(chances, self.draws[:, number, 0])
        hidden = self.loop.hidden
        return _Step(number, scores, warped, draft, chances, None if hidden is None else hidden.shown)

    def _emit(self, step: _Step, upcoming: Tensor | None) -> None:
        """Let the hook correct a step, and append what comes of it."""
        chosen, shown = step.draft, step.warped
        if self.loop.hook is not None:
            chosen, shown = self._corrected(self.loop.hook, step, upcoming)
        if self.config.output_scores:
            self.kept_scores.append(shown)
        self.lengths += ~self.ended
        if self.filler is not None:
            chosen = torch.where(self.ended, self.filler, chosen)
        self.emitted = torch.cat([self.emitted, chosen[:, None]], dim=1)
        self.ended = self.ended | self.criteria(self.emitted, None)
        if self.device.type == "cpu":
            self.some_ended = bool(self.ended.any())
        if self.loop.streamer is not None:
            self.loop.streamer.put(chosen.cpu())

    def _corrected(self, hook: LogitsHook, step: _Step, upcoming: Tensor | None) -> tuple[Tensor, Tensor]:
        """What is emitted, and the scores it was chosen by."""
        scores = self._without_ended(step.scores)
        if upcoming is not None:
            hook.foresee(upcoming)
        if self.loop.hidden is not None:
            self.loop.hidden.shown = step.hidden
        shifted = hook(self.emitted, scores)
        if shifted is scores and hook.drafted() is None:
            return step.draft, step.warped
        warped = self.after(self.emitted, shifted)
        if self.draws is None or step.chances is None:
            return warped.argmax(dim=-1), warped
        before, after = step.chances, warped.softmax(dim=-1)
        place, draws = step.draft[:, None], self.draws[:, step.number]
        kept = draws[:, 1] * before.gather(1, place)[:, 0] <= after.gather(1, place)[:, 0]
        redrawn = _draw((after - before).clamp(min=0), draws[:, 2])
        return torch.where(kept, step.draft, redrawn), warped

    def _without_ended(self, scores: Tensor) -> Tensor:
        """An ended row can only say its filler, so that no hook acts on it."""
        if self.filler is None or (self.device.type == "cpu" and not self.some_ended):
            return scores
        scores = scores.masked_fill(self.ended[:, None], -torch.inf)
        scores[:, self.filler] = scores[:, self.filler].masked_fill(self.ended, 0.0)
        return scores

    def _upcoming(self, held: _Step, draft: Tensor) -> Int[Tensor, " rows"]:
        """What the model says after a held draft; -1 where that draft ended the answer."""
        return torch.where(self._stopping(held.draft), -1, draft)

    def _nothing_follows(self, step: _Step) -> bool:
        return self._look(step.number, self.ended | self._stopping(step.draft))

    def _stopping(self, tokens: Tensor) -> Bool[Tensor, " rows"]:
        if self.stops is None:
            return torch.zeros_like(tokens, dtype=torch.bool)
        return torch.isin(tokens, self.stops.to(tokens.device))

    def _look(self, number: int, over: Tensor) -> bool:
        """Whether a mask holds everywhere; on a device asked only now and then, as the answer has to be waited for."""
        if self.device.type != "cpu" and number % _CHECK_EVERY != _CHECK_EVERY - 1:
            return False
        return bool(over.all())


def _split(processors: LogitsProcessorList) -> tuple[LogitsProcessorList, LogitsProcessorList]:
    """The processors before the hook, and the warpers behind it."""
    end = len(processors)
    while end and isinstance(processors[end - 1], _WARPERS):
        end -= 1
    return LogitsProcessorList(processors[:end]), LogitsProcessorList(processors[end:])


def _filler(config: "GenerationConfig", stops: Tensor | None, criteria: "StoppingCriteriaList") -> int | None:
    """The token an ended row repeats."""
    pad: int | None = config.pad_token_id
    if pad is None and stops is not None:
        pad = int(stops.flatten()[0])
    if pad is None and any(not hasattr(rule, "max_length") for rule in criteria):
        raise BadInputError("rows can end one by one and there is no pad_token_id; give one to generate.")
    return pad


def _draws(seeds: Sequence[int] | None, rows: int, steps: int, device: torch.device) -> Float[Tensor, "rows steps 3"]:
    """Uniform numbers in [0, 1), a row's from its own seed; a longer answer begins with a shorter one's numbers."""
    if seeds is None:
        seeds = torch.randint(2**62, (rows,)).tolist()
    if len(seeds) != rows:
        raise BadInputError(f"seeds: got {len(seeds)} for {rows} rows; give one per row.")
    drawn = [torch.rand(steps, _DRAWS, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return torch.stack(drawn).to(device)


def _draw(chances: Float[Tensor, "rows vocab"], uniform: Float[Tensor, " rows"]) -> Int[Tensor, " rows"]:
    """The token at which the running sum of the chances passes ``uniform`` of their total; never one of chance 0."""
    wide = torch.float32 if chances.device.type == "mps" else torch.float64
    edges = chances.to(wide).cumsum(dim=-1)
    aim = uniform[:, None].to(wide) * edges[:, -1:]
    return torch.searchsorted(edges, aim, right=True)[:, 0].clamp(max=chances.shape[1] - 1)
