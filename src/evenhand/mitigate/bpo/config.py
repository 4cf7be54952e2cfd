"""How a model is trained. In: choices. Out: ``BPOConfig``, the arguments of transformers' trainer and ours.

Names are TRL's where TRL has one for the same thing (``beta``, ``loss_type``, ``disable_dropout``).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from types import MappingProxyType
from typing import Any, Literal, get_args

from transformers import TrainingArguments

from evenhand.errors import BadInputError, UnknownNameError
from evenhand.mitigate.bpo.losses import Comparing

__all__ = ["PRESETS", "BPOConfig", "Likelihood", "LossType", "Stage"]

LossType = Literal["posterior", "log_odds", "sft"]
"""``posterior``: the corrected loss. ``log_odds``: the published one. ``sft``: the likelihood of balanced pictures."""

Likelihood = Literal["mixture", "pictures"]
"""Of what the likelihood is: ``pictures`` as they are in the data, or the ``mixture`` that would draw them: the model
before training, asked for a group drawn from the target. The second says at every code how likely each next code is to
be, where a picture says which one it was: the same optimum, a fraction of the noise."""

Stage = Literal["sft", "bpo"]

# The published code's numbers (pkulium/Unified_MLLM_Fairness): stage 1 lr 1e-4, 10 epochs; stage 2 lr 8e-7, 2 epochs
# (gender; 1 for races), its NLL switched off; cosine, warm-up of 3 %, no weight decay, dropout of 0.1 in the adapter.
_PUBLISHED: dict[str, Any] = {
    "lr_scheduler_type": "cosine",
    "warmup_steps": 0.03,
    "weight_decay": 0.0,
    "condition_dropout": 0.0,
    "likelihood": "pictures",
    "guidance": 1.0,
    "reference_guidance": 1.0,
    "disable_dropout": False,
}

PRESETS: Mapping[tuple[str, Stage], Mapping[str, Any]] = MappingProxyType(
    {
        ("recommended", "sft"): {"loss_type": "sft"},
        ("recommended", "bpo"): {"loss_type": "posterior"},
        ("paper", "sft"): {"loss_type": "sft", "learning_rate": 1e-4, "num_train_epochs": 10.0, **_PUBLISHED},
        ("paper", "bpo"): {
            "loss_type": "log_odds",
            "pairs": "cycle",
            "nll_weight": 0.0,
            "learning_rate": 8e-7,
            "num_train_epochs": 2.0,
            **_PUBLISHED,
        },
    }
)
"""(name, stage) -> arguments. ``paper``: the published recipe with eq. 10 and 11 as they are written."""


_COUNTS = (
    "mixture_pictures",
    "per_device_train_batch_size",
    "per_device_eval_batch_size",
    "gradient_accumulation_steps",
)


@dataclass
class BPOConfig(TrainingArguments):
    """Arguments of ``BPOTrainer``: those of transformers' ``TrainingArguments``, and these.

    The loss of a tuple is ``beta`` times the balance of its pairs plus ``nll_weight`` times the weighted negative
    log-likelihood; with ``loss_type="sft"`` the likelihood alone.

    Attributes:
        loss_type: See ``LossType``.
        beta: Weight of the balance loss, 0 or more.
        likelihood: See ``Likelihood``. ``mixture`` needs an adapter: switched off, it leaves the model before training.
        mixture_pictures: How many pictures of a tuple the mixture is compared along, each step; 1 or more.
        nll_weight: Weight of the likelihood, 0 or more: the negative log-likelihood of a code (``pictures``) or the
            divergence of a picture (``mixture``), in nats. The balance loss alone pushes one
            group's pictures down as readily as another's up; nothing else holds the likelihood where it is.
        pairs: Which groups are compared.
        temperature: Of the posterior loss, above 0.
        guidance: Weight w of classifier-free guidance at which the model is trained; 1 is none. A model that is even at
            one is not at another. Any but 1 reads each picture under the unconditional branch too, and trains both.
        reference_guidance: The weight at which the model before training is asked for groups; None is ``guidance``. It
            should be one at which it draws whom it is asked for.
        target: Wanted share of each group in the data's order; None is even.
        anchor: Share of tuples whose pictures are compared under the prompts that ask for them, not under the neutral
            one, with ``likelihood="mixture"``; in [0, 1). Without it a model learns to pass over words that name a
            group, wherever they stand.
        condition_dropout: Share of tuples whose prompt is left out, so that guidance's other branch is trained too; in
            [0, 1). Such a tuple counts by its likelihood alone. Which ones follows from seed, step and tuple.
        disable_dropout: No dropout anywhere; without it the balance loss compares pictures under different networks.
        one_at_a_time: Keep the activations of one picture of a tuple at a time: a third more time, memory that does
            not grow with the number of groups.
    """

    loss_type: LossType = field(default="posterior", metadata={"help": "posterior, log_odds or sft."})
    beta: float = field(default=1.0, metadata={"help": "Weight of the balance loss."})
    nll_weight: float = field(default=1.0, metadata={"help": "Weight of the negative log-likelihood."})
    likelihood: Likelihood = field(default="mixture", metadata={"help": "mixture or pictures."})
    mixture_pictures: int = field(default=2, metadata={"help": "Pictures of a tuple the mixture is compared along."})
    pairs: Comparing = field(default="all", metadata={"help": "all or cycle."})
    temperature: float = field(default=1.0, metadata={"help": "Of the posterior loss."})
    guidance: float = field(default=1.0, metadata={"help": "Weight w of classifier-free guidance; 1 is none."})
    reference_guidance: float | None = field(
        default=None, metadata={"help": "That of the model before training; as guidance by default."}
    )
    target: list[float] | None = field(default=None, metadata={"help": "Wanted share of each group; even by default."})
    anchor: float = field(default=0.25, metadata={"help": "Share of tuples compared under prompts that ask."})
    condition_dropout: float = field(default=0.1, metadata={"help": "Share of tuples without their prompt."})
    disable_dropout: bool = field(default=True, metadata={"help": "No dropout anywhere."})
    one_at_a_time: bool = field(default=False, metadata={"help": "One picture's activations in memory at a time."})

    learning_rate: float = field(default=1e-4, metadata={"help": "Largest learning rate."})
    report_to: None | str | list[str] = field(  # noqa: RUF036  (the host's parser reads the members in this order)
        default="none", metadata={"help": "Who is told; nobody by default."}
    )
    remove_unused_columns: bool = field(default=False, metadata={"help": "Tuples have no columns."})
    logging_steps: float = field(default=10, metadata={"help": "Steps between log lines."})

    def __post_init__(self) -> None:
        """Refuse choices that are not allowed."""
        for name, kinds in (("loss_type", LossType), ("likelihood", Likelihood), ("pairs", Comparing)):
            if getattr(self, name) not in get_args(kinds):
                raise BadInputError(f"{name}: got {getattr(self, name)!r}; allowed: {', '.join(get_args(kinds))}.")
        self._check_numbers()
        try:
            super().__post_init__()  # type: ignore[no-untyped-call]
        except (ValueError, ImportError) as error:  # DeepSpeed, say, is not installed
            raise BadInputError(f"arguments of training: {error}") from error

    def _check_numbers(self) -> None:
        for name in ("beta", "nll_weight"):
            if not (isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise BadInputError(f"{name}: got {getattr(self, name)}; allowed: 0 or more.")
        if self.loss_type != "sft" and self.beta == 0:
            raise BadInputError("beta: got 0; nothing is balanced then. Give more than 0, or loss_type='sft'.")
        if not (isfinite(self.temperature) and self.temperature > 0):
            raise BadInputError(f"temperature: got {self.temperature}; allowed: above 0, 1 by default.")
        for name in ("guidance", "reference_guidance"):
            weight = getattr(self, name)
            if weight is not None and not (isfinite(weight) and weight > 0):
                raise BadInputError(f"{name}: got {weight}; allowed: above 0, 1 is none.")
        if not (isfinite(self.learning_rate) and self.learning_rate >= 0):
            raise BadInputError(f"learning_rate: got {self.learning_rate}; allowed: 0 or more, for example 1e-4.")
        for name in _COUNTS:
            if getattr(self, name) < 1:
                raise BadInputError(f"{name}: got {getattr(self, name)}; allowed: 1 and more.")
        for name in ("condition_dropout", "anchor"):
            if not 0 <= getattr(self, name) < 1:
                raise BadInputError(f"{name}: got {getattr(self, name)}; allowed: a share in [0, 1).")

    @classmethod
    def from_preset(cls, name: str, *, stage: Stage, output_dir: str, **given: Any) -> "BPOConfig":
        """The arguments of a preset; what is given takes precedence.

        Args:
            name: ``recommended`` or ``paper``.
            stage: ``sft`` is supervised finetuning on balanced pictures, ``bpo`` balances pairs.
            output_dir: Where checkpoints and the adapter go.
            given: Any argument of this class.

        Raises:
            UnknownNameError: No such preset.
            BadInputError: An argument out of its range.
        """
        if (name, stage) not in PRESETS:
            raise UnknownNameError(
                f"preset: got {name!r} for stage {stage!r}; known: "
                f"{', '.join(dict.fromkeys(one for one, _ in PRESETS))}, each with sft and bpo."
            )
        return cls(output_dir=output_dir, **{**PRESETS[name, stage], **given})
