"""What token importances cost. In: a language model's tokenizer. Out: CPU time per token and vocabulary, as a table.

Two classifiers of random weights (time does not depend on them): the paper's, which reads the language model's own
token ids, and one the size of MiniLM, which reads WordPieces, so that the vocabulary is decoded, written in pieces,
each sequence once, and sorted by length. `captum` takes integrated gradients token by token, 50 steps, on a sample;
completeness takes one forward pass a token. Both alternate on the same texts in one process, one thread, CPU time. The
whole vocabulary is then done once, tokenising included. Where a network has kinks (ReLU), 50 steps are not yet the
integral; captum with 2,000 is, to the bar, and it is what completeness equals.

    python benchmarks/token_weights.py --tokenizer FOLDER --minilm FOLDER [--out benchmarks/results]

The second folder is that of all-MiniLM-L6-v2, of which only the tokenizer is read, and the weights with
--trained-minilm.
"""

import json
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from captum.attr import IntegratedGradients
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from transformers import AutoTokenizer, BertConfig, BertModel

from evenhand.mitigate.ala.importance import (
    EmbeddingClassifier,
    completeness_importance,
    pieces_of_vocabulary,
    sequence_importance,
)
from evenhand.mitigate.ala.text.paper import PaperNetwork

RATIO_BAR, MINUTES_BAR, DIFFERENCE_BAR = 100.0, 4.0, 1e-4
STEPS, MANY_STEPS, BATCH = 50, 2000, 1024


class PaperSized:
    """The paper's network on the language model's ids."""

    def __init__(self, vocabulary: int) -> None:
        torch.manual_seed(0)
        self.network = PaperNetwork(vocabulary, 2).eval()

    def embed(self, ids: Tensor) -> Tensor:
        """Token embeddings."""
        return self.network.embed(ids)

    def logits_from_embeddings(self, embeddings: Tensor, mask: Tensor) -> Tensor:
        """Logits."""
        return self.network.from_embeddings(embeddings, mask)


class MiniLmSized:
    """A BERT encoder of 6 layers, 384 wide, with masked mean and a linear head."""

    def __init__(self, vocabulary: int, folder: Path | None) -> None:
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=vocabulary,
            hidden_size=384,
            num_hidden_layers=6,
            num_attention_heads=12,
            intermediate_size=1536,
        )
        given = BertModel.from_pretrained(folder, add_pooling_layer=False) if folder else None
        self.network = (given or BertModel(config, add_pooling_layer=False)).eval()
        self.head = nn.Linear(384, 2)

    def embed(self, ids: Tensor) -> Tensor:
        """Token embeddings."""
        return self.network.embeddings.word_embeddings(ids)

    def logits_from_embeddings(self, embeddings: Tensor, mask: Tensor) -> Tensor:
        """Logits."""
        states = self.network(inputs_embeds=embeddings, attention_mask=mask.long()).last_hidden_state
        own = mask[..., None].to(states.dtype)
        return self.head((states * own).sum(dim=1) / own.sum(dim=1))


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """CPU seconds of this process, and the result."""
    started = time.process_time()
    result = work()
    return time.process_time() - started, result


def captum_importance(
    classifier: EmbeddingClassifier, text: Sequence[int], ends: tuple[list[int], list[int]], steps: int
) -> float:
    """One text's importance for the first group: integrated gradients of its pieces, summed."""
    before, after = ends
    x = classifier.embed(torch.tensor([[*before, *text, *after]])).detach()
    absent = x.clone()
    absent[:, len(before) : len(before) + len(text)] = 0.0

    def logits(embeddings: Tensor) -> Tensor:
        return classifier.logits_from_embeddings(embeddings, torch.ones(embeddings.shape[:2], dtype=torch.bool))

    return float(IntegratedGradients(logits).attribute(x, absent, target=0, n_steps=steps).sum())


def compare(
    classifier: EmbeddingClassifier, texts: Sequence[Sequence[int]], ends: tuple[list[int], list[int]], blocks: int
) -> dict[str, float]:
    """Milliseconds a text, one by one with captum and in batches by completeness, in alternation; and differences.

    Blocks of one batch are taken evenly from the texts sorted by length, and captum gets three texts of each block.
    """
    texts = sorted(texts, key=len)
    ours, theirs, far, near = [], [], [], []
    captum_importance(classifier, texts[0], ends, STEPS)
    for number in range(blocks):
        start = (2 * number + 1) * len(texts) // (2 * blocks) - BATCH // 2
        block = texts[start : start + BATCH]
        spent, found = seconds(
            lambda: sequence_importance(classifier, block, before=ends[0], after=ends[1], batch_size=BATCH)  # noqa: B023
        )
        ours.append(spent / len(block))
        timed = []
        for place in (0, len(block) // 2, len(block) - 1):
            spent, reference = seconds(lambda: captum_importance(classifier, block[place], ends, STEPS))  # noqa: B023
            timed.append(spent)
            far.append(abs(float(found[place, 0]) - reference))
        theirs.append(statistics.median(timed))
        near.append(abs(float(found[0, 0]) - captum_importance(classifier, block[0], ends, MANY_STEPS)))
    return {
        "captum_ms": 1000 * statistics.median(theirs),
        "ours_ms": 1000 * statistics.median(ours),
        "ratio": statistics.median(one / many for one, many in zip(theirs, ours, strict=True)),
        f"largest_difference_{STEPS}_steps": max(far),
        f"largest_difference_{MANY_STEPS}_steps": max(near),
    }


def main(
    tokenizer: Annotated[Path, typer.Option(help="Folder of a language model's tokenizer.")],
    minilm: Annotated[Path, typer.Option(help="Folder of all-MiniLM-L6-v2's tokenizer.")],
    trained_minilm: Annotated[bool, typer.Option(help="Its weights too, instead of random ones.")] = False,
    blocks: Annotated[int, typer.Option(min=1, help="Batches timed; captum gets three texts of each.")] = 8,
    out: Annotated[Path, typer.Option(help="Folder for the JSON.")] = Path("benchmarks/results"),
) -> None:
    """Measure, print a table, write JSON."""
    torch.set_num_threads(1)
    lm, other = AutoTokenizer.from_pretrained(tokenizer), AutoTokenizer.from_pretrained(minilm)
    size = min(len(lm), 2**18)
    rows: list[dict[str, Any]] = []

    paper = PaperSized(size)
    measured = compare(paper, [(token,) for token in range(size)], ([], []), blocks)
    spent, _ = seconds(lambda: completeness_importance(paper, torch.arange(size), batch_size=BATCH))
    rows.append({"classifier": "paper's, LM token ids", "sequences": size, "minutes": spent / 60, **measured})

    small = MiniLmSized(len(other), minilm if trained_minilm else None)
    spent_pieces, pieces = seconds(lambda: pieces_of_vocabulary(lm, other, size=size))
    ends = [other.cls_token_id], [other.sep_token_id]
    measured = compare(small, pieces.sequences, ends, blocks)
    spent, _ = seconds(
        lambda: sequence_importance(small, pieces.sequences, before=ends[0], after=ends[1], batch_size=BATCH)
    )
    rows.append(
        {
            "classifier": "MiniLM's size, WordPieces",
            "sequences": len(pieces.sequences),
            "minutes": (spent + spent_pieces) / 60,
            "tokenising_seconds": spent_pieces,
            **measured,
        }
    )

    table = Table("", *(row["classifier"] for row in rows), "bar")
    for name, title, form, bar in (
        ("sequences", "sequences", ",", ""),
        ("captum_ms", "captum, ms each", ".1f", ""),
        ("ours_ms", "ours, ms each", ".3f", ""),
        ("ratio", "captum / ours", ".0f", f">= {RATIO_BAR:.0f}"),
        (f"largest_difference_{STEPS}_steps", f"difference, captum of {STEPS} steps", ".1e", ""),
        (f"largest_difference_{MANY_STEPS}_steps", f"of {MANY_STEPS} steps", ".1e", f"<= {DIFFERENCE_BAR:.0e}"),
        ("minutes", "all of them, CPU minutes", ".2f", f"<= {MINUTES_BAR:.0f}"),
    ):
        table.add_row(title, *(f"{row[name]:{form}}" for row in rows), bar)
    table.title = f"Importances of {size:,} tokens, one thread, CPU time"
    Console().print(table)
    about = {"python": platform.python_version(), "torch": torch.__version__, "vocabulary": size, "steps": STEPS}
    bars = {"ratio": RATIO_BAR, "minutes": MINUTES_BAR, "difference": DIFFERENCE_BAR}
    result = {**about, "blocks": blocks, "trained_minilm": trained_minilm, "bars": bars, "rows": rows}
    out.mkdir(parents=True, exist_ok=True)
    (out / "token_weights.json").write_text(json.dumps(result, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    typer.run(main)
