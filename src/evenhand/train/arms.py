"""What a study compares. In: an arm's name, a seed. Out: the folder of its adapter, trained if it is not there.

====================  ================================================================================================
``start``             the model before training
``prompt``            the same, asked for diversity: the published suffix (*..., any gender*)
``understanding``     finetuned to say who is in a picture, pictures and groups of the same data
``sft``               finetuned on the balanced pictures (stage 1)
``paper``             ``sft`` of the same seed, then eq. 10 and 11 as published (stage 2, learning rate 8e-7)
``bpo``               Balanced Preference Optimization as evenhand does it by default, from the start
====================  ================================================================================================
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evenhand.errors import UnknownNameError
from evenhand.mitigate.bpo.tuples import TupleSet
from evenhand.train.answers import train_answers
from evenhand.train.runs import train_model

__all__ = ["ARMS", "DEFINING", "STARTS_FROM", "TRAINED", "Training", "check_arms", "train_arm"]

TRAINED = ("understanding", "sft", "paper", "bpo")
"""Arms with an adapter, one for each seed."""

ARMS = ("start", "prompt", *TRAINED)
"""In the order they are compared."""

STARTS_FROM = {"paper": "sft"}
"""Arm -> the arm of the same seed whose adapter it goes on with."""

DEFINING = frozenset(
    {"beta", "likelihood", "loss_type", "nll_weight", "output_dir", "pairs", "preset", "seed", "stage", "start"}
)
"""Arguments that make an arm what it is."""

_OURS = (
    "anchor",
    "condition_dropout",
    "disable_dropout",
    "guidance",
    "mixture_pictures",
    "reference_guidance",
    "temperature",
)
"""Of the default's loss; the published second stage has its own."""

_OWN_LENGTH = ("max_steps", "learning_rate", "num_train_epochs", "lr_scheduler_type", "warmup_steps")


@dataclass(frozen=True, slots=True)
class Training:
    """How the arms are trained.

    Attributes:
        model: By name.
        options: Of the model.
        tuples: What all arms are trained on.
        rank: Of the adapter.
        arguments: Of ``BPOConfig``, of every arm; steps and learning rate do not reach ``paper``'s second stage.
    """

    model: str
    options: Mapping[str, object]
    tuples: TupleSet
    rank: int
    arguments: Mapping[str, Any]


def check_arms(arms: Sequence[str]) -> tuple[str, ...]:
    """The arms in the order they are compared.

    Raises:
        UnknownNameError: None, one twice, or one that is not known.
    """
    odd = [one for one in arms if one not in ARMS]
    if not arms or odd or len(set(arms)) < len(arms):
        raise UnknownNameError(f"arms: got {', '.join(arms) or 'none'}; known: {', '.join(ARMS)}, each once.")
    return tuple(one for one in ARMS if one in arms)


def train_arm(arm: str, seed: int, how: Training, folder: Path) -> str | None:
    """The folder of an arm's adapter; None where nothing is trained. What is there already is not trained again.

    Args:
        arm: One of ``ARMS``.
        seed: Of its training.
        how: It is trained.
        folder: Of all arms; the adapter goes to ``ARM-SEED`` in it.

    Raises:
        EvenhandError: As training says; a run that was stopped goes on from its last checkpoint.
    """
    if arm not in TRAINED:
        return None
    out = folder / f"{arm}-{seed}"
    given: dict[str, Any] = {"model_options": how.options, **how.arguments, "seed": seed}
    if arm == "understanding":
        train_answers(how.model, how.tuples, out, rank=how.rank, **given)
    elif arm == "sft":
        published = {**given, "likelihood": "pictures", "guidance": 1.0, "reference_guidance": 1.0}
        train_model(how.model, how.tuples, out, stage="sft", rank=how.rank, **published)
    elif arm == "bpo":
        train_model(how.model, how.tuples, out, stage="bpo", rank=how.rank, **given)
    else:
        start = train_arm(STARTS_FROM[arm], seed, how, folder)
        published = {name: value for name, value in given.items() if name not in (*_OWN_LENGTH, *_OURS)}
        train_model(how.model, how.tuples, out, stage="bpo", preset="paper", start=start, **published)
    return str(out)
