"""What a step on K pictures of a prompt costs, against TRL's trainers. In: nothing. Out: ratios of time and of memory.

One model (Llama of 6 layers of 256, 32,000 words and 16,384 picture codes, LoRA of rank 32), the same prompt and
pictures for everybody, one thread, no optimizer. Time: 288 codes, processor time of a step forward and back, variants
in turn. Memory: 576 codes, how far the resident set grows in the first step, each variant in a process of its own in
which freed memory goes back at once: glibc keeps holes of up to 32 MB, and they would be counted as the step's.

- ``naive``: K passes, log-softmax over the whole vocabulary, all kept. ``batched``: the same in one pass.
- ``full``: ours over the whole vocabulary, like for like. ``codes``: ours over the codes, which is what is drawn from.
  ``guided``: the same with guidance, which reads each picture under the unconditional branch too.
- ``checkpointed``: ``full``, activations made again. ``one at a time``: ``full``, one picture's activations in memory.
- ``orpo``, ``dpo``: TRL's, on the K pairs of a cycle; DPO's reference is the adapter switched off.

    python benchmarks/bpo_step.py [--rounds 3] [--out FILE]
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import torch
import typer
from torch import Tensor
from torch.nn.functional import linear

from evenhand.mitigate.bpo.losses import log_odds_loss
from evenhand.models.unified.tuple_pass import tuple_log_probs

WORDS, CODES, PROMPT = 32_000, 16_384, 64
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
VARIANTS = ("naive", "batched", "full", "codes", "guided", "checkpointed", "one at a time", "orpo", "dpo")
TRL = ("orpo", "dpo")
RETURNING = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0", "MALLOC_TOP_PAD_": "0"}
Step = Callable[[], Tensor]


class Words:
    """A language model that writes codes as words of its vocabulary, as a family.

    Args:
        model: A causal language model.
        full: Whether a code's probability is taken among all words, or among codes.
    """

    row_end = None
    code_shape = (1, 1)

    def __init__(self, model: Any, *, full: bool) -> None:
        self.model, self._first = model, 0 if full else WORDS

    @property
    def language_model(self) -> Any:
        """The transformer without its head."""
        return self.model.model

    def embed(self, ids: Tensor) -> Tensor:
        """Of words."""
        return self.model.get_input_embeddings()(ids)

    def embed_codes(self, codes: Tensor) -> Tensor:
        """Of codes."""
        return self.embed(codes + self._first)

    def without_text(self, prefix: tuple[int, ...]) -> tuple[int, ...]:
        """As many tokens of padding."""
        return (0,) * len(prefix)

    def before_head(self, hidden: Tensor) -> Tensor:
        """The hidden state itself."""
        return hidden

    def code_logits(self, read: Tensor) -> Tensor:
        """Of all words, or of codes."""
        return linear(read, self.model.lm_head.weight[self._first :]).float()


def made() -> Any:
    """The model, without an adapter."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=WORDS + CODES,
        hidden_size=256,
        intermediate_size=688,
        num_hidden_layers=6,
        num_attention_heads=8,
        max_position_embeddings=2048,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        tie_word_embeddings=False,
    )
    return LlamaForCausalLM(config)


def adapter() -> Any:
    """As published, without dropout."""
    from peft import LoraConfig

    return LoraConfig(r=32, lora_alpha=32, lora_dropout=0.0, target_modules=TARGETS)


def given(groups: int, codes: int) -> tuple[tuple[int, ...], Tensor]:
    """A prompt, and the words of its pictures."""
    drawn = torch.Generator().manual_seed(1)
    prompt = torch.randint(3, WORDS, (PROMPT,), generator=drawn)
    return tuple(prompt.tolist()), WORDS + torch.randint(0, CODES, (1, groups, codes), generator=drawn)


def built(variant: str, groups: int, codes: int) -> tuple[Any, Step]:
    """A network with its adapter, and what gives a step's loss."""
    if variant in TRL:
        return built_by_trl(variant, groups, codes)
    from peft import get_peft_model

    model = made()
    network = get_peft_model(model, adapter()).train()
    prompt, words = given(groups, codes)
    own = Words(model, full=variant not in ("codes", "guided"))
    asked = words - WORDS if variant in ("codes", "guided") else words
    if variant == "checkpointed":
        model.activation_checkpointing_enable()

    def plain() -> Tensor:
        rows = torch.cat([torch.tensor(prompt).expand(groups, -1), words[0]], dim=1)

        def score(part: Tensor) -> Tensor:
            told = model(part, use_cache=False).logits.float().log_softmax(dim=-1)
            return told[:, PROMPT - 1 : -1].gather(-1, part[:, PROMPT:, None])[..., 0]

        parts = rows[None] if variant == "batched" else rows[:, None]
        return log_odds_loss(torch.cat([score(part) for part in parts])[None]).mean()

    def lean() -> Tensor:
        told = tuple_log_probs(
            own,
            [prompt],
            asked,
            guidance=5.0 if variant == "guided" else 1.0,
            one_at_a_time=variant == "one at a time",
        )
        return log_odds_loss(told).mean()

    return network, plain if variant in ("naive", "batched") else lean


def built_by_trl(variant: str, groups: int, codes: int) -> tuple[Any, Step]:
    """TRL's trainer on the pairs of a cycle, and the loss of its first batch."""
    import datasets
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {"<pad>": 0, "<s>": 1, "</s>": 2, **{f"w{i}": i for i in range(3, WORDS + CODES)}}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))  # noqa: S106
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", bos_token="<s>", eos_token="</s>")  # noqa: S106
    prompt, pictures = given(groups, codes)
    asked = " ".join(f"w{one}" for one in prompt)
    told = [" " + " ".join(f"w{one}" for one in row.tolist()) for row in pictures[0]]
    rows = [{"prompt": asked, "chosen": told[k], "rejected": told[(k + 1) % groups]} for k in range(groups)]
    common = {
        "output_dir": tempfile.mkdtemp(),
        "per_device_train_batch_size": groups,
        "max_length": PROMPT + codes + 8,
        "report_to": "none",
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
    }
    if variant == "orpo":
        from trl.experimental.orpo import ORPOConfig, ORPOTrainer

        kind, args = ORPOTrainer, ORPOConfig(**common, max_completion_length=codes + 8)
    else:
        from trl import DPOConfig, DPOTrainer

        kind, args = DPOTrainer, DPOConfig(**common)
    trainer = kind(
        model=made(),
        args=args,
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=adapter(),
    )
    batch = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    trainer.model.train()
    return trainer.model, lambda: trainer.compute_loss(trainer.model, dict(batch))


def slopes(network: Any) -> Tensor:
    """All gradients in one row, which are then forgotten."""
    found = torch.cat([one.grad.flatten() for one in network.parameters() if one.grad is not None])
    network.zero_grad(set_to_none=True)
    return found


def peak(variant: str, groups: int, codes: int) -> float:
    """How far the resident set grows in a first step, in MB."""
    _, step = built(variant, groups, codes)
    small, warm = built("codes", 2, 8)  # what a first use of every library takes is not the step's
    warm().backward()
    del small, warm
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    step().backward()
    return (_status("VmHWM") - before) / 1024


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


def main(
    rounds: int = 3,
    out: Annotated[Path | None, typer.Option(help="JSON.")] = None,
    only: Annotated[
        str | None, typer.Option(help="VARIANT:GROUPS:CODES: memory of one, for the program itself.")
    ] = None,
) -> None:
    """Measure, print."""
    torch.set_num_threads(1)
    if only is not None:
        variant, groups, codes = only.split(":")
        print(json.dumps(peak(variant, int(groups), int(codes))))
        return
    ready = {name: built(name, 4, 288) for name in VARIANTS}
    seconds: dict[str, list[float]] = {name: [] for name in VARIANTS}
    gradients: dict[str, Tensor] = {}
    for _ in range(rounds):
        for name, (network, step) in ready.items():
            start = time.process_time()
            step().backward()
            seconds[name].append(time.process_time() - start)
            gradients[name] = slopes(network)
    base = gradients["naive"]
    off = {
        name: float((gradients[name] - base).norm() / base.norm())
        for name in ("batched", "full", "checkpointed", "one at a time")
    }
    del ready
    memory = {name: _apart(name, 4) for name in VARIANTS}
    growth = {groups: _apart("one at a time", groups) for groups in (2, 8)}
    times = {name: median(values) for name, values in seconds.items()}
    found = {
        "seconds": times,
        "time over naive": {name: times[name] / times["naive"] for name in VARIANTS},
        "time over orpo": {name: times[name] / times["orpo"] for name in VARIANTS},
        "gradient, relative error": off,
        "peak MB": memory,
        "peak over batched": {name: memory[name] / memory["batched"] for name in VARIANTS},
        "peak over orpo": {name: memory[name] / memory["orpo"] for name in VARIANTS},
        "one at a time, 2 and 8 pictures, MB": growth,
        "torch": torch.__version__,
    }
    print(json.dumps(found, indent=1))
    if out is not None:
        out.write_text(json.dumps(found, indent=1) + "\n")


def _apart(variant: str, groups: int) -> float:
    command = [sys.executable, __file__, "--only", f"{variant}:{groups}:576"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **RETURNING})  # noqa: S603
    found: float = json.loads(done.stdout.strip().splitlines()[-1])
    return found


if __name__ == "__main__":
    typer.run(main)
