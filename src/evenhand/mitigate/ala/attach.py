"""ALA on any transformers model's own ``generate``. In: a model, a mitigation, pictures. Out: ids, and a trace.

``attached = attach(model, align(), processor)``, ``ids = attached.generate(**inputs, pictures=[picture])``,
``attached.edits``. Arguments are ``generate``'s; what they ask for (greedy, sampling, beams, assisted decoding) is
found out here and told to the mitigation.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from os import PathLike
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from PIL.Image import Image
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList

from evenhand.errors import BadInputError
from evenhand.mitigate.ala.picture.given import GivenSignal
from evenhand.models.hidden import LastHidden, wants_hidden
from evenhand.models.protocol import Decoding, Intervention, LogitsHook
from evenhand.models.transformers_loop import DecodingLoop, generate_text
from evenhand.pictures import open_picture
from evenhand.records import Claim, Edit

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Attached", "Picture", "attach"]

Picture = Image | str | PathLike[str] | Callable[[], Image]
"""A picture, its file, or a function that opens it when it is needed."""


def attach(model: Any, ala: Intervention, processor_or_tokenizer: Any) -> "Attached":
    """A model with a mitigation; nothing on the model is changed.

    Args:
        model: A transformers model that generates text, with or without pictures.
        ala: For example ``align()``.
        processor_or_tokenizer: The model's.
    """
    return Attached(model, ala, getattr(processor_or_tokenizer, "tokenizer", processor_or_tokenizer))


class Attached:
    """A model whose ``generate`` is mitigated.

    The mitigation sees the scores behind repetition penalty, suppressed tokens, guidance and the user's own logits
    processors, and before temperature, top-k and top-p. A mitigation with ``continuation="draft"`` is decoded by our
    own loop where one answer a row is written at a time; beams and assisted decoding go on from what was emitted.

    Attributes:
        edits: Of the last call, per returned answer: every token whose logits were shifted.
        passed: Per returned answer: every token at which the gate opened and nothing was shifted.
        claims: What the picture signal said, per picture; None where it was not asked.
    """

    def __init__(self, model: Any, ala: Intervention, tokenizer: Any) -> None:
        self.model, self.ala, self.tokenizer = model, ala, tokenizer
        self.edits: tuple[tuple[Edit, ...], ...] = ()
        self.passed: tuple[tuple[Edit, ...], ...] = ()
        self.claims: tuple[Claim | None, ...] = ()

    def generate(
        self,
        inputs: Tensor | None = None,
        *,
        pictures: Sequence[Picture] | None = None,
        asked: Sequence[str] | None = None,
        seeds: Sequence[int] | None = None,
        **call: Any,
    ) -> Any:
        """What ``model.generate`` returns for these arguments, mitigated.

        Args:
            inputs: As ``generate`` takes it.
            pictures: One per prompt; may be left out where the mitigation looks at none.
            asked: What the user asked in their own words, per prompt; words in it are not moved.
            seeds: One per row, for sampling that does not depend on the batch.
            call: ``generate``'s own arguments.

        Raises:
            BadInputError: Pictures or seeds are absent or do not fit, the prompts are padded on the right, the last
                hidden state is needed where it cannot be told apart, or the model dropped the mitigation.
        """
        if inputs is not None:
            call["inputs"] = inputs
        plan = _Plan(self.model, call)
        openers = _openers(pictures, plan.prompts, self.ala)
        if asked is not None and len(asked) != plan.prompts:
            raise BadInputError(f"asked: got {len(asked)} texts for {plan.prompts} prompts; give one per prompt.")
        own_loop = plan.stepwise and (self.ala.continuation == "draft" or seeds is not None)
        if seeds is not None and not (own_loop and plan.decoding == "sampling"):
            raise BadInputError("seeds: allowed with do_sample=True and without beams or assisted decoding; drop them.")
        hidden = plan.hidden(self.model) if wants_hidden(self.ala) else None
        begin = partial(self._start, openers, plan, asked, hidden, own_loop)
        hook = _OnFirstStep(begin, ended=frozenset() if own_loop or plan.decoding == "beams" else plan.stops)
        if own_loop:
            call["custom_generate"] = DecodingLoop(
                hook, self.ala.continuation, seeds=seeds, hidden=hidden, streamer=call.get("streamer")
            )
        else:
            call["logits_processor"] = LogitsProcessorList([*(call.get("logits_processor") or ()), hook])
        with ExitStack() as stack:
            for context in (hidden, plan.silence(hook)):
                if context is not None:
                    stack.enter_context(context)
            made = generate_text(self.model, **call)
        self._keep(hook, made if isinstance(made, Tensor) else made.sequences, plan)
        return made

    def _start(
        self,
        openers: Sequence[Callable[[], Image]],
        plan: "_Plan",
        asked: Sequence[str] | None,
        hidden: LastHidden | None,
        in_place: bool,
        rows: int,
    ) -> LogitsHook:
        """The mitigation's hook, once the number of rows is known; what it has no use for is not passed."""
        if rows % len(openers):
            raise BadInputError(f"{rows} rows of logits for {len(openers)} prompts; give one picture per prompt.")
        each = rows // len(openers)
        more: dict[str, Any] = {}
        if each > 1:
            more["owners"] = [picture for picture in range(len(openers)) for _ in range(each)]
        if asked is not None:
            more["asked"] = list(asked)
        if plan.decoding != "greedy":
            more["decoding"] = plan.decoding
        if hidden is not None:
            more["hidden"] = hidden
        return self.ala.start(openers, self.tokenizer, in_place=in_place, **more)

    def _keep(self, lazy: "_OnFirstStep", sequences: Tensor, plan: "_Plan") -> None:
        """The trace of a call, per returned answer; a picture's answers stand side by side."""
        if lazy.hook is None or not lazy.calls:
            raise BadInputError(
                f"{type(self.model).__name__}.generate took no notice of its logits processors; use continuation="
                "'draft', which does not depend on them."
            )
        answers = [_through_end(row, plan.stops, plan.pad) for row in sequences[:, lazy.prompt :].tolist()]
        each = len(answers) // plan.prompts
        edits: list[tuple[Edit, ...]] = [()] * len(answers)
        passed: list[tuple[Edit, ...]] = [()] * len(answers)
        for nth in range(each):
            edits[nth::each] = lazy.hook.edits(answers[nth::each])
            passed[nth::each] = lazy.hook.passed(answers[nth::each])
        self.edits, self.passed, self.claims = tuple(edits), tuple(passed), lazy.hook.claims()


class _OnFirstStep(LogitsProcessor):
    """A hook that starts when the first scores come, and is kept from rows and calls that are not an answer's."""

    supports_continuous_batching = False

    def __init__(self, begin: Callable[[int], LogitsHook], *, ended: frozenset[int]) -> None:
        self._begin, self._ended = begin, torch.tensor(sorted(ended))
        self.hook: LogitsHook | None = None
        self.calls = self.prompt = 0
        self.quiet = self.assisted = False

    def __call__(
        self, input_ids: Int[Tensor, "rows written"], scores: Float[Tensor, "rows vocab"]
    ) -> Float[Tensor, "rows vocab"]:
        # An assistant's drafts are not corrected, and candidates are first tried out on scores that are all alike.
        if self.assisted and (self.quiet or bool(scores.amax() == scores.amin())):
            return scores
        hook = self._started(len(scores))
        if not self.calls:
            self.prompt = input_ids.shape[1]
        self.calls += 1
        return hook(input_ids, self._without_ended(input_ids, scores))

    def drafted(self) -> Tensor | None:
        return None if self.hook is None else self.hook.drafted()

    def foresee(self, upcoming: Tensor) -> None:
        self._started(len(upcoming)).foresee(upcoming)

    def claims(self) -> tuple[Claim | None, ...]:
        return () if self.hook is None else self.hook.claims()

    def edits(self, emitted: Sequence[Sequence[int]]) -> tuple[tuple[Edit, ...], ...]:
        return ((),) * len(emitted) if self.hook is None else self.hook.edits(emitted)

    def passed(self, emitted: Sequence[Sequence[int]]) -> tuple[tuple[Edit, ...], ...]:
        return ((),) * len(emitted) if self.hook is None else self.hook.passed(emitted)

    def _started(self, rows: int) -> LogitsHook:
        if self.hook is None:
            self.hook = self._begin(rows)
        return self.hook

    def _without_ended(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores in which a row that ended can only repeat its last token: transformers still shows them."""
        if not len(self._ended) or input_ids.shape[1] == self.prompt:
            return scores
        self._ended = self._ended.to(scores.device)
        over = torch.isin(input_ids[:, self.prompt :], self._ended).any(dim=1)
        if scores.device.type == "cpu" and not bool(over.any()):
            return scores
        alone = torch.full_like(scores, -torch.inf).scatter_(1, input_ids[:, -1:], 0.0)
        return torch.where(over[:, None], alone, scores)


class _Plan:
    """What one call of ``generate`` asks for.

    Attributes:
        prompts: How many.
        decoding: How scores become tokens.
        stepwise: One answer a row, one token a step: what our own loop can do.
        stops: Ids that end an answer.
        pad: What stands behind an end, or None.
    """

    def __init__(self, model: Any, call: dict[str, Any]) -> None:
        self._call, self._host = call, _host(model)
        self.prompts = _count(call)
        beams = (self._value("num_beams") or 1) > 1
        self.decoding: Decoding = "beams" if beams else "sampling" if self._value("do_sample") else "greedy"
        self.assisted = call.get("assistant_model") is not None or bool(self._value("prompt_lookup_num_tokens"))
        self.guided = (self._value("guidance_scale") or 1.0) != 1.0 and model.config.model_type != "janus"
        self.stepwise = not (beams or self.assisted or call.get("custom_generate") is not None)
        stop = self._value("eos_token_id")
        if model.config.model_type == "blip":  # its generate passes its own
            stop, pad = model.config.text_config.sep_token_id, model.config.text_config.pad_token_id
        else:
            pad = self._value("pad_token_id")
        self.pad: int | None = pad
        self.stops = frozenset(int(token) for token in torch.as_tensor([] if stop is None else stop).flatten().tolist())
        _refuse_right_padding(model, call, self.pad, self.stops)

    def hidden(self, model: Any) -> LastHidden:
        """The last hidden state of each step, where a step is one forward pass of one model."""
        if self.assisted or self.guided:
            raise BadInputError(
                "this text scorer reads the last hidden state, which assisted decoding and guidance mix up; leave "
                "assistant_model, prompt_lookup_num_tokens and guidance_scale out, or use another scorer."
            )
        return LastHidden(model)

    def silence(self, hook: _OnFirstStep) -> "AbstractContextManager[None] | None":
        """While an assistant decodes, the hook keeps quiet: candidates are drafts."""
        hook.assisted = self.assisted
        assistant = self._call.get("assistant_model")
        return None if assistant is None else _quiet_while(assistant, self._host, hook)

    def _value(self, name: str) -> Any:
        given = self._call.get(name)
        for config in (self._call.get("generation_config"), self._host.generation_config):
            given = getattr(config, name, None) if given is None else given
        return given


@contextmanager
def _quiet_while(assistant: Any, model: Any, hook: _OnFirstStep) -> "Iterator[None]":
    def tell(quiet: bool) -> Callable[..., None]:
        def before(*_: object) -> None:
            hook.quiet = quiet

        return before

    handles = [
        assistant.register_forward_pre_hook(tell(True)),
        model.register_forward_pre_hook(tell(False)),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _host(model: Any) -> Any:
    """The module whose generation config counts: some classes hand ``generate`` on to their language model."""
    own = getattr(type(model).generate, "__qualname__", "").startswith("GenerationMixin.")
    if own or model.config.model_type == "janus":
        return model
    parts = (getattr(model, name, None) for name in ("text_decoder", "language_model"))
    return next((part for part in parts if getattr(part, "generation_config", None) is not None), model)


def _count(call: dict[str, Any]) -> int:
    """How many prompts a call has."""
    for name in ("inputs", "input_ids", "inputs_embeds", "decoder_input_ids", "pixel_values"):
        if call.get(name) is not None:
            return len(call[name])
    return 1


def _openers(pictures: Sequence[Picture] | None, prompts: int, ala: Intervention) -> list[Callable[[], Image]]:
    """One function per prompt that opens its picture."""
    if pictures is None:
        signals = [getattr(mode, "signal", None) for mode in getattr(ala, "modes", (ala,))]
        if any(signal is not None and not isinstance(signal, GivenSignal) for signal in signals):
            raise BadInputError(f"{ala.name} looks at pictures; give pictures=[...], one per prompt.")
        return [partial(_absent, ala.name)] * prompts
    if len(pictures) != prompts:
        raise BadInputError(f"pictures: got {len(pictures)} for {prompts} prompts; give one per prompt.")
    return [picture if callable(picture) else partial(_opened, picture) for picture in pictures]


def _absent(name: str) -> Image:
    raise BadInputError(f"{name} looks at pictures; give pictures=[...], one per prompt.")


def _opened(picture: Image | str | PathLike[str]) -> Image:
    return picture if isinstance(picture, Image) else open_picture(picture)


def _refuse_right_padding(model: Any, call: dict[str, Any], pad: int | None, stops: frozenset[int]) -> None:
    """A decoder that goes on behind padding writes nonsense; transformers only warns."""
    ids = call.get("input_ids") if call.get("input_ids") is not None else call.get("inputs")
    mask = call.get("attention_mask")
    if model.config.is_encoder_decoder:
        return
    if mask is not None:
        wrong = mask.dim() == 2 and bool((mask[:, -1] == 0).any())
    else:
        guessed = ids is not None and len(ids) > 1 and pad is not None and pad not in stops
        wrong = guessed and ids is not None and bool((ids[:, -1] == pad).any())
    if wrong:
        raise BadInputError(
            "prompts are padded on the right; set tokenizer.padding_side = 'left' and encode them again."
        )


def _through_end(ids: list[int], stops: frozenset[int], pad: int | None) -> list[int]:
    """An answer through its stop token, without the padding behind it."""
    for i, token in enumerate(ids):
        if token in stops:
            return ids[: i + 1]
    while ids and ids[-1] == pad:
        ids = ids[:-1]
    return ids
