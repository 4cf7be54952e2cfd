"""Special tokens of a unified model. In: a processor, a model and a text. Out: ids, or a typed error."""

from collections.abc import Sequence
from typing import Any

from evenhand.errors import ArtefactError, BadInputError

__all__ = ["check_room", "id_of", "refuse_tokens", "with_start"]


def id_of(processor: Any, model: Any, name: str) -> int:
    """The id of ``boi_token``, ``pad_token`` and the like: the tokenizer's, else the generation config's.

    Raises:
        ArtefactError: Neither names it.
    """
    tokenizer = processor.tokenizer
    found = getattr(tokenizer, f"{name}_id", None)
    if found is None and (text := getattr(tokenizer, name, None)) is not None:
        found = tokenizer.convert_tokens_to_ids(text)
    config = getattr(model, "generation_config", None)
    if found is None:
        found = getattr(config, f"{name}_id", None)
    if found is None:
        found = (getattr(config, "generation_kwargs", None) or {}).get(f"{name}_id")
    if found is None:
        raise ArtefactError(
            f"neither the tokenizer nor the generation config names a {name}; give the processor that was saved with "
            "the model."
        )
    return int(found)


def refuse_tokens(text: str, tokens: Sequence[str]) -> None:
    """Keep tokens out of a prompt that only the model or its processor may write.

    Raises:
        BadInputError: The text holds one of them.
    """
    held = next((token for token in tokens if token and token in text), None)
    if held is not None:
        raise BadInputError(f"a prompt holds {held!r}, which stands for a picture or a part of one; take it out.")


def with_start(ids: Sequence[int], start: int) -> tuple[int, ...]:
    """The ids with the start token in front, once."""
    body = list(ids)
    while body and body[0] == start:
        body.pop(0)
    return (start, *body)


def check_room(prefix: Sequence[int], *, picture: int, model: Any) -> None:
    """Whether a prompt and a picture fit into the positions a model has.

    Args:
        prefix: Ids of the prompt.
        picture: Tokens of a picture.
        model: The transformers model.

    Raises:
        BadInputError: They do not.
    """
    most = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if most is not None and len(prefix) + picture > most:
        raise BadInputError(
            f"a prompt of {len(prefix)} tokens and a picture of {picture} need more than the {most} positions of "
            f"{type(model).__name__}; give a shorter prompt or a smaller picture."
        )
