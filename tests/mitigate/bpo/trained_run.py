"""One training run, as a program: in folder, accumulation and loss; out its losses, as JSON, by the first process."""

import json
import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "models" / "unified"))

import tiny_unified

from evenhand.mitigate.bpo.adapters import lora_config
from evenhand.mitigate.bpo.config import BPOConfig
from evenhand.mitigate.bpo.trainer import BPOTrainer
from evenhand.mitigate.bpo.tuples import PictureTuple, TupleSet
from evenhand.mitigate.bpo.watch import HeldOutAudit
from evenhand.records import Label, Prompt

GROUPS = ("male", "female")


class Reader:
    """Reads the parity of a picture's codes."""

    def __init__(self):
        from evenhand.attributes import load_attribute

        self.attribute, self.settings, self.name = load_attribute("gender"), {}, "parity"

    def label(self, samples):
        """One label each."""
        return tuple(Label(one.prompt_id, one.k, "gender", GROUPS[sum(one.codes) % 2], None, 1.0) for one in samples)


def main() -> None:
    """Train for six steps and say what the losses were."""
    out, accumulation, loss_type = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    torch.set_num_threads(1)
    model = tiny_unified.made("janus")
    drawn, codes = np.random.default_rng(0), model.code_shape[0] * model.code_shape[1]
    subjects = ("nurse", "sewer", "dog", "woman and a cat")
    tuples = tuple(
        PictureTuple(
            str(i),
            f"a photo of the face of a {subjects[i % 4]}",
            tuple(f"a photo of a {group} {subjects[i % 4]}" for group in GROUPS),
            GROUPS,
            drawn.integers(0, model.codebook_size, (2, codes)).astype(np.int32),
            (1.0, 1.0),
            "model",
        )
        for i in range(12)
    )
    args = BPOConfig(
        output_dir=str(out),
        loss_type=loss_type,
        max_steps=6,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=accumulation,
        learning_rate=1e-2,
        condition_dropout=0.3,
        logging_steps=1,
        save_strategy="no",
        eval_strategy="steps",
        eval_steps=3,
        disable_tqdm=True,
        use_cpu=True,
    )
    audit = HeldOutAudit(
        [Prompt(one, "p", f"a {one}", None) for one in ("dog", "cat", "man")], [Reader()], groups=GROUPS, pictures=4
    )
    trainer = BPOTrainer(
        model,
        args,
        TupleSet("gender", GROUPS, model.code_shape, model.codebook_size, model.codebook_digest, tuples),
        audit=audit,
        peft_config=lora_config(model.family, r=2),
    )
    trainer.train()
    if args.process_index == 0:
        rows = trainer.state.log_history
        told = {
            "processes": args.world_size,
            "loss": [row["loss"] for row in rows if "loss" in row],
            "grad_norm": [row["grad_norm"] for row in rows if "loss" in row],
            "disparity": [row["eval_disparity"] for row in rows if "eval_disparity" in row],
        }
        (out / "losses.json").write_text(json.dumps(told))


main()
