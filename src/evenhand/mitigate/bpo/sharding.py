"""Weights that are spread over processes. In: arguments, the environment of ``accelerate launch``. Out: a refusal."""

import os
from typing import Any

from evenhand.errors import BadInputError

__all__ = ["refuse_audit_of_shards"]

_BY_LAUNCH = {"ACCELERATE_USE_FSDP": "FSDP", "ACCELERATE_USE_DEEPSPEED": "DeepSpeed"}
_BY_ARGUMENT = {"fsdp": "FSDP", "deepspeed": "DeepSpeed"}


def refuse_audit_of_shards(arguments: Any) -> None:
    """Refuse an audit while training where weights are sharded: drawing needs them whole in every process.

    Args:
        arguments: transformers' ``TrainingArguments``.

    Raises:
        BadInputError: They are, by ``accelerate launch`` or by the arguments.
    """
    told = [name for variable, name in _BY_LAUNCH.items() if os.environ.get(variable, "").lower() == "true"]
    told += [name for key, name in _BY_ARGUMENT.items() if getattr(arguments, key, None)]
    if told:
        raise BadInputError(
            f"audit: weights are sharded by {told[0]}, and drawing needs them whole. Train without held-out prompts, "
            "and audit the stored adapter with evenhand audit; or launch with whole weights in each process "
            "(launch file gpus)."
        )
