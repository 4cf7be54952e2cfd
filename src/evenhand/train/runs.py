"""One training run by names. In: a model, a set of tuples, choices. Out: a folder with an adapter, or whole weights.

A run that was stopped goes on where its newest whole checkpoint is. The disparity of held-out occupations is measured
before the first step and after the last one, and stands in the model card.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from transformers import EarlyStoppingCallback, PrinterCallback, TrainerCallback

from evenhand.errors import ChangedRunError
from evenhand.mitigate.bpo.adapters import lora_config
from evenhand.mitigate.bpo.card import training_card
from evenhand.mitigate.bpo.config import BPOConfig, Stage
from evenhand.mitigate.bpo.kept_json import read_json, write_json
from evenhand.mitigate.bpo.sharding import refuse_audit_of_shards
from evenhand.mitigate.bpo.trainer import BPOTrainer
from evenhand.mitigate.bpo.tuples import TupleSet, read_tuples
from evenhand.mitigate.bpo.watch import Audited, HeldOutAudit
from evenhand.models.unified.model import UnifiedModel
from evenhand.pipeline.drawing import prompts_to_draw
from evenhand.pipeline.opening import open_labeller
from evenhand.pipeline.plans import ReadBy
from evenhand.train.held_out import refuse_trained
from evenhand.train.opening import open_unified

__all__ = ["HeldOut", "Trained", "train_model"]

_BEFORE, _RESULT = "before.json", "trained.json"


@dataclass(frozen=True, slots=True)
class HeldOut:
    """What is drawn to see whether training does what it should.

    Attributes:
        data: Occupations: ``test``, a file; none of them may be trained on.
        read_by: What reads the pictures, one for each attribute of the data, in their order.
        pictures: Of each prompt.
        every: Steps between two audits while training; 0: before and after alone.
        patience: Audits without a smaller disparity after which training stops; 0: never. The best weights are kept.
    """

    data: str
    read_by: tuple[ReadBy, ...]
    pictures: int = 20
    every: int = 0
    patience: int = 0


@dataclass(frozen=True, slots=True)
class Trained:
    """What a run came to.

    Attributes:
        out: Folder of the adapter or the weights.
        steps: Of the optimizer.
        before: Of held-out prompts; None where none were given.
        after: The same, of what is stored.
    """

    out: str
    steps: int
    before: Audited | None
    after: Audited | None


def train_model(
    model: str | UnifiedModel,
    data: str | Path | TupleSet,
    out: str | Path,
    *,
    stage: Stage,
    preset: str = "recommended",
    rank: int | None = 32,
    start: str | Path | None = None,
    held_out: HeldOut | None = None,
    model_options: Mapping[str, object] | None = None,
    **arguments: Any,
) -> Trained:
    """Train a unified model on balanced tuples.

    Args:
        model: ``unified:FOLDER_OR_HUB_ID``, ``miniature`` or an open one, which is trained in place.
        data: A folder of ``evenhand mitigate data``, or a set.
        out: The run's folder; one that holds part of the same run goes on.
        stage: ``sft`` or ``bpo``.
        preset: ``recommended`` or ``paper``.
        rank: Of the LoRA adapter; None trains the language model's own weights. Unused with ``start``.
        start: Folder of an adapter to go on with.
        held_out: Audited before and after, and while training.
        model_options: Of a model by name.
        arguments: Of ``BPOConfig``.

    Raises:
        EvenhandError: As the parts say; nothing is trained before everything is checked.
    """
    tuples = data if isinstance(data, TupleSet) else read_tuples(data)
    drawing = open_unified(model, model_options)
    audit = None if held_out is None else _audit(held_out, tuples, arguments.get("target"))
    args = BPOConfig.from_preset(preset, stage=stage, output_dir=str(out), **{**_watching(held_out), **arguments})
    if audit is not None:
        refuse_audit_of_shards(args)
    before = _before(Path(out), audit, drawing, write=args.process_index == 0)
    trainer = BPOTrainer(
        drawing,
        args,
        tuples,
        audit=audit,
        peft_config=None
        if rank is None or start is not None
        else lora_config(drawing.family, **_adapter(rank, preset)),
        start=start,
        callbacks=_stopping(held_out),
    )
    trainer.remove_callback(PrinterCallback)  # it writes on stdout
    planned = {"max_steps": args.max_steps, "num_train_epochs": args.num_train_epochs}
    done = _done(Path(out), planned)
    if done is not None:
        return done
    trainer.train(resume_from_checkpoint=True)
    after = None if audit is None else trainer.audited()
    trainer.save_model()
    found = Trained(str(out), trainer.state.global_step, before, after)
    if args.process_index == 0:
        write_json(out, _RESULT, {**asdict(found), **planned})
        card = training_card(drawing.name, tuples, args, before, after, steps=found.steps, adapter=rank)
        (Path(out) / "README.md").write_text(card, "utf-8")
    return found


def _audit(held_out: HeldOut, tuples: TupleSet, target: object) -> HeldOutAudit:
    labellers = [open_labeller(one) for one in held_out.read_by]
    prompts = prompts_to_draw("occupations", held_out.data, held_out.read_by[0].attribute)
    refuse_trained(prompts, tuples)
    return HeldOutAudit(
        prompts,
        labellers,
        groups=tuples.groups,
        pictures=held_out.pictures,
        target=target,  # type: ignore[arg-type]
    )


def _watching(held_out: HeldOut | None) -> dict[str, Any]:
    """Arguments that make the trainer audit while it trains."""
    if held_out is None or not held_out.every:
        return {}
    steps = held_out.every
    return {
        "eval_strategy": "steps",
        "eval_steps": steps,
        "save_strategy": "steps",
        "save_steps": steps,
        "save_total_limit": 2,
        "load_best_model_at_end": True,
        "metric_for_best_model": "disparity",
        "greater_is_better": False,
    }


def _stopping(held_out: HeldOut | None) -> list[TrainerCallback]:
    if held_out is None or not (held_out.every and held_out.patience):
        return []
    return [EarlyStoppingCallback(early_stopping_patience=held_out.patience)]


def _adapter(rank: int, preset: str) -> dict[str, Any]:
    """The published adapter has a dropout of 0.1; its scale is its rank."""
    return {"r": rank, "lora_alpha": rank, "lora_dropout": 0.1 if preset == "paper" else 0.0}


def _before(out: Path, audit: HeldOutAudit | None, model: UnifiedModel, *, write: bool) -> Audited | None:
    """What the model draws before the first step; a run that goes on finds it in its folder."""
    if audit is None:
        return None
    held = read_json(out, _BEFORE)
    if held is not None:
        if held.pop("of", None) != audit.digest:
            raise ChangedRunError(
                f"{str(out)!r} was begun with other held-out prompts, another number of pictures or another "
                "classifier; give the same, or another folder."
            )
        return Audited(**held)
    found = audit(model)
    if write:
        write_json(out, _BEFORE, {**asdict(found), "of": audit.digest})
    return found


def _done(out: Path, planned: Mapping[str, Any]) -> Trained | None:
    """What a run that was trained to its end came to; None where it was not, or more steps are wanted now."""
    held = read_json(out, _RESULT)
    if held is None or any(held.get(name) != value for name, value in planned.items()):
        return None
    before, after = (None if held[name] is None else Audited(**held[name]) for name in ("before", "after"))
    return Trained(str(out), int(held["steps"]), before, after)
