"""Answers about pictures, by a unified model's understanding path. In: questions, pictures, seeds. Out: texts."""

from collections.abc import Sequence
from typing import Any

from PIL.Image import Image

from evenhand.models.decode import text_of
from evenhand.models.transformers_loop import DecodingLoop, generate_text
from evenhand.models.transformers_prompt import PromptEncoder
from evenhand.models.unified.family import Family
from evenhand.models.unified.modes import evaluating

__all__ = ["answers_about"]


def answers_about(
    family: Family,
    questions: Sequence[str],
    pictures: Sequence[Image],
    *,
    seeds: Sequence[int],
    temperature: float,
    max_tokens: int,
    batch_size: int,
) -> tuple[str, ...]:
    """One answer a question.

    Args:
        family: What answers.
        questions: In the user's words; the model's chat template goes around them.
        pictures: One a question, RGB.
        seeds: One a question.
        temperature: 0 takes the likeliest words.
        max_tokens: Longest answer.
        batch_size: Questions asked together; fewer where pictures of different sizes would change each other.
    """
    model = family.model
    asking = PromptEncoder(family.processor, family.question_form)
    given: dict[str, Any] = {"max_new_tokens": max_tokens, "num_beams": 1, "do_sample": temperature > 0}
    if temperature > 0:
        given |= {"temperature": temperature, "top_p": 1.0, "top_k": 0}
    answers: dict[int, str] = {}
    for rows in _batches(family, pictures, batch_size):
        inputs = asking.encode([questions[i] for i in rows], [pictures[i] for i in rows])
        loop = DecodingLoop(seeds=[seeds[i] for i in rows], answers_only=True)
        with evaluating(model):
            ids: list[list[int]] = generate_text(
                model, **inputs.to(model.device, dtype=model.dtype), **given, custom_generate=loop
            )
        answers |= {i: text_of(family.processor.tokenizer, row).strip() for i, row in zip(rows, ids, strict=True)}
    return tuple(answers[i] for i in range(len(questions)))


def _batches(family: Family, pictures: Sequence[Image], size: int) -> list[list[int]]:
    """Which pictures may be asked about together."""
    groups: dict[object, list[int]] = {}
    for i, picture in enumerate(pictures):
        groups.setdefault(picture.size if family.pads_pictures else None, []).append(i)
    return [rows[start : start + size] for rows in groups.values() for start in range(0, len(rows), size)]
