"""Balanced Preference Optimization as a trainer. In: a unified model, tuples, a ``BPOConfig``. Out: a trained adapter.

Method: *Fairness of unified multimodal LLMs for image generation*, arXiv 2502.03429, section 4. transformers'
``Trainer`` does the loop, several processes, mixed precision and logging; ``stored_trainer`` writes the files.
"""

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import TrainerCallback, set_seed

from evenhand.errors import BadInputError
from evenhand.mitigate.bpo.adapters import trained_network
from evenhand.mitigate.bpo.config import BPOConfig
from evenhand.mitigate.bpo.losses import check_target, log_odds_loss, pairs_of, posterior_loss, weighted_nll
from evenhand.mitigate.bpo.reference import kept_reference, set_digest
from evenhand.mitigate.bpo.rows import TupleRows, batched, happens, pictures_looked_at
from evenhand.mitigate.bpo.run_identity import adapter_digest, batch_of, keep_identity, refuse_another_run
from evenhand.mitigate.bpo.scorer import MixtureAsked, TupleScorer
from evenhand.mitigate.bpo.sharding import refuse_audit_of_shards
from evenhand.mitigate.bpo.stored_trainer import StoredTrainer
from evenhand.mitigate.bpo.tuples import TupleSet, check_tuples
from evenhand.mitigate.bpo.watch import Audited, HeldOutAudit
from evenhand.models.unified.model import UnifiedModel

if TYPE_CHECKING:
    from peft import LoraConfig
    from transformers.trainer_utils import TrainOutput

__all__ = ["BPOTrainer"]

_OURS = (
    "loss_type",
    "likelihood",
    "mixture_pictures",
    "anchor",
    "beta",
    "nll_weight",
    "pairs",
    "temperature",
    "guidance",
    "target",
    "condition_dropout",
    "disable_dropout",
)
_KEPT = (*_OURS, "seed", "data_seed", "learning_rate", "weight_decay", "optim", "lr_scheduler_type", "warmup_steps")


class BPOTrainer(StoredTrainer):
    """Trains a unified model so that prompts that ask for nobody draw declared shares.

    ``train()``, ``evaluate()``, ``save_model()`` and ``args`` are those of transformers' ``Trainer``. ``evaluate``
    draws with the model where an audit is given, so that ``metric_for_best_model="disparity"`` with
    ``load_best_model_at_end`` and ``transformers.EarlyStoppingCallback`` stop on what is shown.

    Args:
        model: Is trained in place; the picture tokenizer and the picture encoder stay as they are.
        args: See ``BPOConfig``.
        train_dataset: One picture of every group for each prompt.
        eval_dataset: Other tuples, for the loss of held-out prompts.
        audit: Draws held-out prompts at each evaluation.
        peft_config: A LoRA adapter (``adapters.lora_config``); None trains the language model's own weights.
        start: Folder of an adapter to go on with, such as that of ``loss_type="sft"``.
        callbacks: As in transformers.

    Raises:
        BadInputError: Tuples that are not one picture of each group, codes out of range, a target that is not one share
            of each group, an evaluation without anything to evaluate, an audit where weights are sharded.
        ArtefactError: Tuples of another picture tokenizer, or an adapter of another model.
        ChangedRunError: The folder holds a run of other tuples or of another loss.
        MissingExtraError: PEFT is not installed.
    """

    args: BPOConfig

    def __init__(
        self,
        model: UnifiedModel,
        args: BPOConfig,
        train_dataset: TupleSet,
        *,
        eval_dataset: TupleSet | None = None,
        audit: HeldOutAudit | None = None,
        peft_config: "LoraConfig | None" = None,
        start: str | Path | None = None,
        callbacks: Sequence[TrainerCallback] | None = None,
    ) -> None:
        for tuples in (train_dataset, eval_dataset):
            if tuples is not None:
                check_tuples(tuples, model)
        groups = train_dataset.groups
        if eval_dataset is not None and eval_dataset.groups != groups:
            raise BadInputError(f"eval_dataset: got the groups {eval_dataset.groups}; allowed: {groups}.")
        pairs_of(len(groups), args.pairs)
        check_target(args.target, len(groups))
        if args.likelihood == "mixture" and peft_config is None and start is None:
            raise BadInputError(
                "likelihood: 'mixture' compares with the model before training, which is there where an adapter is "
                "switched off; whole weights are trained here. Give peft_config, or likelihood='pictures'."
            )
        if args.likelihood == "mixture" and any("" in one.asked for one in train_dataset.tuples):
            raise BadInputError(
                "likelihood: 'mixture' asks for each group by a prompt, and some pictures have none; make the data "
                "anew, or give likelihood='pictures'."
            )
        if args.eval_strategy != "no" and eval_dataset is None and audit is None:
            raise BadInputError("eval_strategy: there is nothing to evaluate; give an audit, tuples, or 'no'.")
        if audit is not None:
            refuse_audit_of_shards(args)
        self._groups, self._audit, self._unified = groups, audit, model
        self._before_guidance = args.guidance if args.reference_guidance is None else args.reference_guidance
        self._run = {
            "tuples": set_digest(train_dataset),
            "model": model.revision,
            "start": adapter_digest(start) if peft_config is None else None,
            "adapter": None if peft_config is None else str(peft_config.target_modules),
            "rank": None if peft_config is None else peft_config.r,
            **batch_of(args),
            **{name: _plain(getattr(args, name)) for name in _KEPT},
            "reference_guidance": self._before_guidance,
        }
        refuse_another_run(str(args.output_dir), self._run)
        set_seed(args.seed)
        # Before any adapter: what is compared with is the model as it was.
        rows = [None if one is None else self._rows(one, args) for one in (train_dataset, eval_dataset)]
        network = trained_network(model.family, peft_config, start=start, disable_dropout=args.disable_dropout)
        super().__init__(
            model=TupleScorer(model.family, network, guidance=args.guidance, one_at_a_time=args.one_at_a_time),
            args=args,
            data_collator=batched,
            train_dataset=rows[0],
            eval_dataset={} if rows[1] is None else rows[1],  # the host refuses None where it is to evaluate
            processing_class=model.processor,
            callbacks=list(callbacks or ()),
        )
        self.can_return_loss = True
        self._sums: dict[str, list[float]] = {}

    def train(
        self, resume_from_checkpoint: str | bool | None = None, trial: Any = None, ignore_keys_for_eval: Any = None
    ) -> "TrainOutput":
        """As ``StoredTrainer.train``; the folder remembers what run it is."""
        if self.args.should_save:
            keep_identity(str(self.args.output_dir), self._run)
        return super().train(resume_from_checkpoint, trial, ignore_keys_for_eval)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Mapping[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,  # noqa: ARG002  (tuples count alike)
    ) -> Any:
        """Mean over tuples of the loss; see ``BPOConfig``."""
        args, step = self.args, self.state.global_step
        dropped = [
            model.training and happens(args.condition_dropout, what="dropout", seed=args.seed, step=step, index=index)
            for index in inputs["indices"]
        ]
        mixture = (
            self._mixture(inputs, dropped, training=model.training)
            if args.likelihood == "mixture" and self._weight()
            else None
        )
        told, divergence = model(
            self._prefixes(inputs["prefixes"], dropped),
            inputs["codes"],
            scored=args.loss_type != "sft" or args.likelihood == "pictures",
            mixture=mixture,
        )
        parts: dict[str, Tensor] = {}
        if divergence is not None and mixture is not None:
            parts["divergence"] = (divergence.sum(dim=-1) * self._weights_of(mixture)).mean(dim=-1)
        if told is not None and args.likelihood == "pictures":
            parts["nll"] = weighted_nll(told, target=args.target)
        loss = self._weight() * torch.stack([*parts.values(), torch.zeros(len(dropped), device=self.args.device)]).sum(
            0
        )
        if told is not None and args.loss_type != "sft":
            balance = self._balance(told, inputs["reference"])
            kept = torch.tensor([not out for out in dropped], device=balance.device)
            loss = loss + args.beta * balance * kept
            parts["balance"] = balance[kept]
        self._note(parts, "train" if model.training else "eval")
        mean = loss.mean()
        return (mean, {"log_probs": told}) if return_outputs else mean

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,  # noqa: ARG002  (the loss is all there is)
        ignore_keys: Any = None,  # noqa: ARG002
    ) -> tuple[Tensor, None, None]:
        """The loss of held-out tuples."""
        with torch.no_grad():
            return self.compute_loss(model, self._prepare_inputs(inputs)).detach(), None, None

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """The loss of held-out tuples and the disparity of held-out prompts, of those that were given."""
        if eval_dataset or self.eval_dataset:
            found: dict[str, float] = super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)
            return found
        found = self._audited(metric_key_prefix)
        self.log(dict(found))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, found)
        return found

    def evaluation_loop(self, *given: Any, **named: Any) -> Any:
        """The host's loop, with what the audit says among its numbers."""
        output = super().evaluation_loop(*given, **named)
        (output.metrics or {}).update(self._audited(named.get("metric_key_prefix", "eval")))
        return output

    def log(self, logs: dict[str, float], *given: Any, **named: Any) -> None:
        """Log, with the parts of the loss since the last time."""
        kind = "train" if "loss" in logs else "eval" if any(name.endswith("_loss") for name in logs) else ""
        for name in [one for one in self._sums if one.startswith(f"{kind}/")] if kind else []:
            values = self._sums.pop(name)
            if values:
                logs[name.removeprefix("train/").replace("eval/", "eval_")] = sum(values) / len(values)
        super().log(logs, *given, **named)

    def _rows(self, tuples: TupleSet, args: BPOConfig) -> TupleRows:
        reference = None
        if args.loss_type == "posterior":
            of = sha256(f"{self._unified.revision}/{self._before_guidance}".encode()).hexdigest()[:8]
            folder = Path(str(args.output_dir)) / "reference" / f"{set_digest(tuples)}-{of}"
            with args.main_process_first(local=False, desc="the reference"):  # the others find it in the folder
                reference = kept_reference(
                    self._unified,
                    tuples,
                    folder,
                    guidance=self._before_guidance,
                    write=args.process_index == 0,
                    batch_size=args.per_device_eval_batch_size,
                )
        return TupleRows(tuples, self._unified.family, reference)

    def _weight(self) -> float:
        return 1.0 if self.args.loss_type == "sft" else self.args.nll_weight

    def _prefixes(self, prefixes: Sequence[Sequence[int]], dropped: Sequence[bool]) -> list[tuple[int, ...]]:
        family = self._unified.family
        pairs = zip(prefixes, dropped, strict=True)
        return [family.without_text(tuple(one)) if out else tuple(one) for one, out in pairs]

    def _mixture(self, inputs: Mapping[str, Any], dropped: Sequence[bool], *, training: bool) -> MixtureAsked:
        args, shares = self.args, check_target(self.args.target, len(self._groups))
        step = self.state.global_step
        chosen = [
            pictures_looked_at(args.mixture_pictures, len(shares), seed=args.seed, step=step, index=index)
            for index in inputs["indices"]
        ]
        anchored = [
            training and happens(args.anchor, what="anchor", seed=args.seed, step=step, index=index)
            for index in inputs["indices"]
        ]
        mixed = [[tuple(one) for one in row] for row in inputs["mixed"]]
        # The other branch of guidance draws nothing by itself: it is compared without any.
        without = [out and not held for out, held in zip(dropped, anchored, strict=True)]
        own, before = ([1.0 if one else weight for one in without] for weight in (args.guidance, self._before_guidance))
        return MixtureAsked(mixed, chosen, anchored, own, before, shares)

    def _weights_of(self, mixture: MixtureAsked) -> Tensor:
        """Of each picture that is looked at: its group's wanted share against an even one."""
        even = len(self._groups)
        weights = [[mixture.shares[picture] * even for picture in chosen] for chosen in mixture.pictures]
        return torch.tensor(weights, device=self.args.device)

    def _balance(self, told: Tensor, reference: Tensor) -> Tensor:
        args = self.args
        if args.loss_type == "log_odds":
            return log_odds_loss(told, comparing=args.pairs, target=args.target)
        return posterior_loss(told, reference, comparing=args.pairs, target=args.target, temperature=args.temperature)

    def _note(self, parts: Mapping[str, Tensor], kind: str) -> None:
        for name, values in parts.items():
            if values.numel():
                self._sums.setdefault(f"{kind}/{name}", []).append(float(values.detach().mean()))

    def audited(self) -> Audited:
        """What the model draws of the audit's prompts now; they are dealt out to the processes.

        Raises:
            BadInputError: There is no audit.
            TooFewSamplesError: No picture shows a group.
        """
        audit = self._audit
        if audit is None:
            raise BadInputError("audit: there is none; audit the stored adapter with evenhand audit.")
        here, processes = self.args.process_index, self.args.world_size
        counts = torch.zeros(len(audit.prompts), len(audit.groups) + 1, dtype=torch.long, device=self.args.device)
        own = audit.count(self._unified, audit.prompts[here::processes])
        counts[here::processes] = torch.from_numpy(own).to(counts.device)
        every = self.accelerator.reduce(counts, reduction="sum").cpu().numpy()
        return audit.judge(every)

    def _audited(self, prefix: str) -> dict[str, float]:
        return {} if self._audit is None else self.audited().as_metrics(prefix)


def _plain(value: Any) -> Any:
    """As JSON gives it back."""
    return json.loads(json.dumps(value, default=str))
