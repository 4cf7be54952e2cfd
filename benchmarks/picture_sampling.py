"""What our sampling loop saves. In: the miniature, and a random Janus of the real class. Out: time ratios.

Sixteen pictures of one prompt with classifier-free guidance, three ways in turn, in one process and one thread:
transformers' ``generate`` called once a picture, ``generate`` called once with ``num_return_sequences=16``, and our
batched loop. All draw at temperature 1 from every code and stop at the codes: no picture is decoded. Of the random
Janus the codebook and the loop's parts are the published ones; its language model is small, so that the ratio is one of
loops, and the number of codes can be set. By wall time and by processor time; a ratio is the median over rounds of
ratios within a round.

    python benchmarks/picture_sampling.py [--rounds 5] [--side 12] [--hidden 256] [--out benchmarks/results]
"""

import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import torch
import transformers
import typer
from rich.console import Console
from rich.table import Table
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from evenhand.attributes import load_attribute
from evenhand.miniature.model import load_miniature
from evenhand.models.unified.load import family_of
from evenhand.models.unified.model import UnifiedModel
from evenhand.probes.occupations import occupations

PICTURES, GUIDANCE = 16, 5.0
PROMPT = "a photo of the face of a community and social service specialist, a person"
ONE_BY_ONE, TOGETHER, OURS = "generate, once a picture", "generate, num_return_sequences=16", "our loop"
BARS = {ONE_BY_ONE: 8.0, TOGETHER: 1.3}


def processor(image_tokens: int) -> Any:
    """A real Janus processor; its tokenizer makes about as many tokens of a prompt as the published one."""
    special = ["<s>", "</s>", "<pad>", "<image_placeholder>", "<begin_of_image>", "<end_of_image>"]
    pieces = Tokenizer(models.BPE())
    pieces.pre_tokenizer, pieces.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=4000,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    asked = occupations("train", load_attribute("gender"))
    pieces.train_from_iterator([f"<|User|>: {one.text}\n\n<|Assistant|>:" for one in asked], trainer)
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=pieces,
        bos_token=special[0],
        eos_token=special[1],
        pad_token=special[2],
        extra_special_tokens=dict(zip(("image_token", "boi_token", "eoi_token"), special[3:], strict=True)),
    )
    return transformers.JanusProcessor(transformers.JanusImageProcessorPil(), tokenizer, num_image_tokens=image_tokens)


def model(side: int, hidden: int, own: Any) -> Any:
    """A Janus with random weights: four layers, the published codebook, ``side`` x ``side`` codes."""
    config = transformers.JanusConfig(
        text_config={
            "model_type": "llama",
            "vocab_size": len(own.tokenizer),
            "hidden_size": hidden,
            "intermediate_size": hidden * 3,
            "num_hidden_layers": 4,
            "num_attention_heads": hidden // 64,
            "max_position_embeddings": 1024,
            "bos_token_id": 0,
            "eos_token_id": 1,
            "pad_token_id": 2,
        },
        vision_config={
            "hidden_size": 64,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": side * 16,
            "patch_size": 16,
            "projection_dim": hidden,
            "num_image_tokens": side * side,
        },
        vq_config={
            "base_channels": 32,
            "channel_multiplier": [1, 1],
            "num_res_blocks": 1,
            "latent_channels": 32,
            "projection_dim": hidden,
            "image_token_embed_dim": hidden,
        },
        image_token_id=own.tokenizer.convert_tokens_to_ids("<image_placeholder>"),
        tie_word_embeddings=False,
    )
    torch.manual_seed(0)
    made = transformers.JanusForConditionalGeneration(config).eval()
    made.generation_config.update(bos_token_id=0, eos_token_id=1, pad_token_id=2)
    made.generation_config.generation_kwargs = {"boi_token_id": own.tokenizer.convert_tokens_to_ids("<begin_of_image>")}
    return made


def ways(drawing: UnifiedModel) -> dict[str, Callable[[], torch.Tensor]]:
    """Three ways to the same number of pictures; each gives their codes."""
    prefix = torch.tensor([drawing.family.prefix(PROMPT)])
    call = {
        "input_ids": prefix,
        "attention_mask": torch.ones_like(prefix),
        "generation_mode": "image",
        "do_sample": True,
        "top_k": 0,
        "guidance_scale": GUIDANCE,
    }
    generate = drawing.model.generate

    def one_by_one() -> torch.Tensor:
        return torch.cat([generate(**call) for _ in range(PICTURES)])

    def together() -> torch.Tensor:
        codes: torch.Tensor = generate(**call, num_return_sequences=PICTURES)
        return codes

    def ours() -> torch.Tensor:
        return drawing.generate([PROMPT] * PICTURES, seeds=range(PICTURES), guidance=GUIDANCE)

    return {ONE_BY_ONE: one_by_one, TOGETHER: together, OURS: ours}


def timed(way: Callable[[], torch.Tensor]) -> tuple[float, float]:
    """Wall and processor seconds of one call, after a look at what it gave."""
    wall, processor_time = time.perf_counter(), time.process_time()
    drawn = way()
    took = time.perf_counter() - wall, time.process_time() - processor_time
    assert len(drawn) == PICTURES
    return took


def measured(drawing: UnifiedModel, rounds: int) -> dict[str, dict[str, float | bool]]:
    """Every way in turn, ``rounds`` times; its median times and the medians of its ratios to our loop."""
    calls = ways(drawing)
    timed(calls[OURS])
    timed(calls[TOGETHER])  # warm
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, way in calls.items():
            times[name].append(timed(way))
    found: dict[str, dict[str, float | bool]] = {}
    for name, seconds in times.items():
        wall, busy = (statistics.median(one[i] for one in seconds) for i in (0, 1))
        ratios = [
            statistics.median(one[i] / ours[i] for one, ours in zip(seconds, times[OURS], strict=True)) for i in (0, 1)
        ]
        found[name] = {"wall_s": wall, "processor_s": busy, "ratio_wall": ratios[0], "ratio_processor": ratios[1]}
        if name in BARS:
            found[name] |= {"bar": BARS[name], "met": ratios[0] >= BARS[name]}
    return found


def shown(title: str, found: dict[str, dict[str, float | bool]]) -> Table:
    """The times and ratios of one model."""
    table = Table(title=title)
    for column in ("way", "wall s", "processor s", "over ours, wall", "over ours, processor", "bar"):
        table.add_column(column)
    for name, one in found.items():
        numbers = (f"{one[key]:.2f}" for key in ("wall_s", "processor_s", "ratio_wall", "ratio_processor"))
        table.add_row(name, *numbers, f"{one['bar']}" if "bar" in one else "")
    return table


def main(
    rounds: Annotated[int, typer.Option(min=1, help="times every way is timed")] = 5,
    side: Annotated[int, typer.Option(min=2, help="rows and columns of the random model's codes")] = 12,
    hidden: Annotated[int, typer.Option(min=64, help="width of its language model, a multiple of 64")] = 256,
    out: Annotated[Path, typer.Option(help="folder for the JSON file")] = Path("benchmarks/results"),
) -> None:
    """Time the three ways in turn and write the ratios."""
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    own = processor(side * side)
    random = UnifiedModel(family_of(model(side, hidden, own), own), name="random", revision="0", batch_size=PICTURES)
    drawn_by = {"the miniature": load_miniature(batch_size=PICTURES), "a random Janus, published codebook": random}
    found = {}
    for name, drawing in drawn_by.items():
        lines, columns = drawing.code_shape
        found[name] = measured(drawing, rounds)
        title = f"{name}: {PICTURES} pictures of {lines * columns} codes, guidance {GUIDANCE}"
        Console().print(shown(title, found[name]))
    result = {
        "pictures": PICTURES,
        "hidden of the random model": hidden,
        "rounds": rounds,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "codes": {name: drawing.code_shape[0] * drawing.code_shape[1] for name, drawing in drawn_by.items()},
        "models": found,
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "picture_sampling.json").write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    if not all(one[name]["met"] for one in found.values() for name in BARS):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
