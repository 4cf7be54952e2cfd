"""A trainer whose files can be trusted. In: a network that ``adapters`` stores. Out: checkpoints without pickles.

transformers' ``Trainer`` writes optimizer, schedule, random numbers and arguments with pickle. Here they are
safetensors and JSON, a checkpoint that was not written to its end is never gone on from, and a disk that is full
removes the checkpoint that did not fit and nothing else. Under FSDP and DeepSpeed, whose states are spread over
processes, their own formats stay.
"""

import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import Trainer

from evenhand.errors import BadInputError, DivergedError, LedgerError
from evenhand.mitigate.bpo.adapters import load_weights, save_weights
from evenhand.mitigate.bpo.checkpoints import draws_now, last_whole, put_draws_back, read_state, whole, write_state

if TYPE_CHECKING:
    from transformers.trainer_utils import TrainOutput

__all__ = ["StoredTrainer"]

_ARGUMENTS = "arguments.json"


class StoredTrainer(Trainer):
    """A ``Trainer`` of a module whose ``network`` is what is stored."""

    def __init__(self, *given: Any, **named: Any) -> None:
        try:
            super().__init__(*given, **named)
        except ValueError as error:  # the host checks some arguments here, and not where they are given
            raise BadInputError(f"arguments of training: {error}") from error

    def train(
        self, resume_from_checkpoint: str | bool | None = None, trial: Any = None, ignore_keys_for_eval: Any = None
    ) -> "TrainOutput":
        """Train; ``True`` goes on from the newest checkpoint that was written to its end, or begins if there is none.

        Raises:
            LedgerError: The checkpoint that is named was not written to its end, or the disk is full. A full disk
                leaves the checkpoints before.
        """
        if resume_from_checkpoint is True:
            found = last_whole(str(self.args.output_dir))
            resume_from_checkpoint = None if found is None else str(found)
        elif resume_from_checkpoint and not whole(resume_from_checkpoint):
            raise LedgerError(
                f"{resume_from_checkpoint!r} is no checkpoint that was written to its end; go on with "
                "resume_from_checkpoint=True, which takes the newest one that was."
            )
        told: TrainOutput = super().train(resume_from_checkpoint, trial, ignore_keys_for_eval)
        return told

    def _sharded(self) -> bool:
        return bool(self.is_fsdp_enabled or self.is_deepspeed_enabled)

    def _stateful(self) -> dict[str, Any]:
        return {"optimizer": self.optimizer, "scheduler": self.lr_scheduler}

    def _network(self) -> nn.Module:
        network: nn.Module = self.accelerator.unwrap_model(self.model).network
        return network

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        if not self.args.should_save:
            return
        self._refuse_what_came_apart()
        folder = Path(output_dir or str(self.args.output_dir))
        folder.mkdir(parents=True, exist_ok=True)
        state = None if state_dict is None else {k.removeprefix("network."): v for k, v in state_dict.items()}
        save_weights(self._network(), folder, state=state)
        if self.processing_class is not None:
            self.processing_class.save_pretrained(str(folder))
        (folder / _ARGUMENTS).write_text(json.dumps(asdict(self.args), indent=2, default=str) + "\n", "utf-8")

    def _refuse_what_came_apart(self) -> None:
        """Refuse to store weights that are no numbers; what was stored before stays.

        Raises:
            DivergedError: There are some.
        """
        trained = [one for one in self._network().parameters() if one.requires_grad]
        if not all(bool(torch.isfinite(one).all()) for one in trained):
            raise DivergedError(
                f"learning_rate: got {self.args.learning_rate:g}, and at step {self.state.global_step} weights are no "
                "longer finite; nothing of them is stored. Train anew with a smaller one, into another folder."
            )

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        try:
            super()._save_checkpoint(model, trial)
        except (OSError, SafetensorError) as error:
            unfinished = Path(str(self.args.output_dir)) / f"checkpoint-{self.state.global_step}"
            if not whole(unfinished):
                shutil.rmtree(unfinished, ignore_errors=True)
            kept = last_whole(str(self.args.output_dir))
            raise LedgerError(
                f"step {self.state.global_step}: the checkpoint could not be written ({error}). Make room and go on "
                f"with the same command: {'from ' + kept.name if kept else 'it begins anew, there is no earlier one'}."
            ) from error

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if self._sharded():
            super()._save_optimizer_and_scheduler(output_dir)
        elif self.args.should_save:
            for name, one in self._stateful().items():
                write_state(output_dir, name, one.state_dict())

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if self._sharded():
            super()._load_optimizer_and_scheduler(checkpoint)
        elif checkpoint is not None:
            for name, one in self._stateful().items():
                one.load_state_dict(read_state(checkpoint, name))

    def _save_scaler(self, output_dir: str) -> None:
        scaler = getattr(self.accelerator, "scaler", None)
        if scaler is not None and self.args.should_save:
            write_state(output_dir, "scaler", scaler.state_dict())

    def _load_scaler(self, checkpoint: str | None) -> None:
        scaler = getattr(self.accelerator, "scaler", None)
        if scaler is not None and checkpoint is not None:
            scaler.load_state_dict(read_state(checkpoint, "scaler"))

    def _save_rng_state(self, output_dir: str) -> None:
        write_state(output_dir, f"draws-{self.args.process_index}", draws_now())

    def _load_rng_state(self, checkpoint: str | None) -> None:
        # Another number of processes has no state for some of them; dropout alone depends on it.
        name = f"draws-{self.args.process_index}"
        if checkpoint is not None and os.path.isfile(os.path.join(checkpoint, f"{name}.json")):
            put_draws_back(read_state(checkpoint, name))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        if self._sharded():
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        else:
            load_weights(self._network(), resume_from_checkpoint)

    def _load_best_model(self) -> None:
        if self._sharded():
            super()._load_best_model()
        elif self.state.best_model_checkpoint is not None:
            load_weights(self._network(), self.state.best_model_checkpoint)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
