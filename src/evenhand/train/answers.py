"""Finetuning for understanding. In: balanced tuples. Out: an adapter that says better who is in a picture.

The paper's arm *Finetune (-> T)*: the pictures of the tuples, decoded, each with the question for every attribute and
its group as the answer. Nothing is drawn, so what it changes of what is drawn it changes through understanding.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from PIL.Image import Image
from transformers import PrinterCallback

from evenhand.mitigate.bpo.adapters import lora_config
from evenhand.mitigate.bpo.answering import AnsweredPictures, AnswerTrainer, question_of
from evenhand.mitigate.bpo.config import BPOConfig
from evenhand.mitigate.bpo.kept_json import read_json, write_json
from evenhand.mitigate.bpo.reference import set_digest
from evenhand.mitigate.bpo.run_identity import batch_of, keep_identity, refuse_another_run
from evenhand.mitigate.bpo.tuples import TupleSet, check_tuples, read_tuples
from evenhand.models.unified.model import UnifiedModel
from evenhand.models.unified.pixels import png_bytes
from evenhand.pictures import decode_picture
from evenhand.train.opening import open_unified

__all__ = ["asked_about", "train_answers"]

_DONE = "trained.json"
_DECODED = 32
"""Pictures decoded together."""


def train_answers(
    model: str | UnifiedModel,
    data: str | Path | TupleSet,
    out: str | Path,
    *,
    rank: int | None = 32,
    model_options: Mapping[str, object] | None = None,
    **arguments: Any,
) -> int:
    """Train a unified model to say which group a picture shows.

    Args:
        model: ``unified:FOLDER_OR_HUB_ID``, ``miniature`` or an open one, which is trained in place.
        data: A folder of ``evenhand mitigate data``, or a set; of each tuple every picture is asked about.
        out: The run's folder; one that holds part of the same run goes on.
        rank: Of the LoRA adapter; None trains the language model's own weights.
        model_options: Of a model by name.
        arguments: Of ``BPOConfig``; those about balance are not used. A batch is of tuples: of each picture one answer
            to each question.

    Returns:
        Steps of the optimizer.

    Raises:
        BadInputError: A model that writes no codes.
        ChangedRunError: The folder holds another run.
        EvenhandError: As the parts say; nothing is trained before everything is checked.
    """
    tuples = data if isinstance(data, TupleSet) else read_tuples(data)
    drawing = open_unified(model, model_options)
    check_tuples(tuples, drawing)
    attributes = tuples.attribute.split(" x ")
    each = len(tuples.groups) * len(attributes)
    batch = {"per_device_train_batch_size": arguments.pop("per_device_train_batch_size", 8) * each}
    args = BPOConfig(**{**arguments, **batch, "output_dir": str(out), "loss_type": "sft", "likelihood": "pictures"})
    run = {
        "trained": "answers",
        "tuples": set_digest(tuples),
        "model": drawing.revision,
        "rank": rank,
        "seed": args.seed,
        "learning_rate": args.learning_rate,
        "max_steps": args.max_steps,
        "epochs": args.num_train_epochs,
        **batch_of(args),
    }
    refuse_another_run(out, run)
    done = read_json(out, _DONE)
    if done is not None:
        return int(done["steps"])
    torch.manual_seed(args.seed)
    pictures, questions, answers = asked_about(tuples, drawing)
    trainer = AnswerTrainer(
        drawing,
        args,
        AnsweredPictures(pictures, questions, answers),
        peft_config=None if rank is None else lora_config(drawing.family, r=rank, lora_alpha=rank),
    )
    trainer.remove_callback(PrinterCallback)  # it writes on stdout
    if args.should_save:
        keep_identity(out, run)
    trainer.train(resume_from_checkpoint=True)
    trainer.save_model()
    if args.should_save:
        write_json(out, _DONE, {"steps": trainer.state.global_step})
    return trainer.state.global_step


def asked_about(tuples: TupleSet, model: UnifiedModel) -> tuple[list[Image], list[str], list[str]]:
    """Every picture once for each question about it: pictures, questions, answers.

    Args:
        tuples: Their codes are decoded.
        model: Decodes them.
    """
    attributes = tuples.attribute.split(" x ")
    allowed = {
        name: tuple(dict.fromkeys(group.split(" x ")[at] for group in tuples.groups))
        for at, name in enumerate(attributes)
    }
    groups = [group.split(" x ") for one in tuples.tuples for group in one.groups]
    rows = [
        (picture, question_of(name.replace("_", " "), allowed[name]), shown[at])
        for picture, shown in zip(_decoded(tuples, model), groups, strict=True)
        for at, name in enumerate(attributes)
    ]
    pictures, questions, answers = zip(*rows, strict=True)
    return list(pictures), list(questions), list(answers)


def _decoded(tuples: TupleSet, model: UnifiedModel) -> Iterator[Image]:
    codes = torch.cat([torch.from_numpy(one.codes).long() for one in tuples.tuples])
    for part in torch.split(codes, _DECODED):
        yield from (decode_picture(png_bytes(one)) for one in model.decode(part))
