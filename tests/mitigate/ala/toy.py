"""Thirteen words, six of them listed, and signals that remember what they were asked."""

# ruff: noqa: S106  (special tokens are not passwords)

from typing import ClassVar

import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from evenhand.errors import PictureError
from evenhand.mitigate.ala.weights import TokenWeights, tokenizer_hash
from evenhand.records import Claim
from tiny_lm import tiny_lm

WORDS = ("<unk>", "<pad>", "</s>", "▁a", "▁man", "▁woman", "▁person", "▁he", "▁she", "▁they", "▁rides", "▁.", "▁the")
PAD, END, A, MAN, WOMAN, PERSON, HE, SHE, THEY, RIDES, STOP, THE = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12
SIGN = {MAN: 1.0, WOMAN: -1.0, PERSON: 0.0, HE: 0.5, SHE: -0.5, THEY: 0.0}
OTHER = {MAN: WOMAN, WOMAN: MAN, HE: SHE, SHE: HE}
NEUTRAL = {MAN: PERSON, WOMAN: PERSON, HE: THEY, SHE: THEY}
VOCABULARY = 20  # wider than the tokenizer, as padded checkpoints are


def toy_tokenizer() -> PreTrainedTokenizerFast:
    model = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<unk>"))
    model.pre_tokenizer = pre_tokenizers.Metaspace()
    model.decoder = decoders.Metaspace()
    return PreTrainedTokenizerFast(tokenizer_object=model, unk_token="<unk>", pad_token="<pad>", eos_token="</s>")


def toy_weights(tokenizer: PreTrainedTokenizerFast) -> TokenWeights:
    """Written out by hand: ids ascending, the same in both states, one entry per word of a group."""
    ids = sorted(SIGN)  # man woman person he she they
    carried = [token for token in ids if SIGN[token]]  # entries: man woman he she
    column = {token: i for i, token in enumerate(ids)}
    group = [-1 if not SIGN[t] else int(SIGN[t] < 0) for t in ids]
    entry = [carried.index(t) if t in carried else -1 for t in ids]
    counterparts = [[column[OTHER[t]] if g != int(SIGN[t] < 0) else -1 for g in (0, 1)] for t in carried]
    return TokenWeights(
        attribute="gender",
        groups=("male", "female"),
        token_ids=torch.tensor(ids),
        group=torch.tensor([group, group], dtype=torch.int8),
        weight=torch.tensor([[abs(SIGN[t]) for t in ids]] * 2),
        entry=torch.tensor([entry, entry], dtype=torch.int16),
        neutral_forms=torch.tensor([[column[NEUTRAL[t]]] for t in carried], dtype=torch.int16),
        counterparts=torch.tensor(counterparts, dtype=torch.int16),
        spelling=torch.zeros(len(carried), dtype=torch.int8),
        words=tuple(WORDS[t][1:] for t in carried),
        keys=torch.empty(0, dtype=torch.int64),
        nexts=torch.empty(0, dtype=torch.int64),
        depth=0,
        tokenizer=tokenizer_hash(tokenizer),
        left_out=(),
    )


class RowSignal:
    """The claim of each picture, read off it; remembers which pictures were looked at."""

    settings: ClassVar[dict[str, str]] = {"kind": "rows"}

    def __init__(self, *says: float | None) -> None:
        self.says = says
        self.asked: list[int] = []

    def claim(self, picture) -> Claim:
        row = picture().getpixel((0, 0))
        self.asked.append(row)
        return Claim(self.says[row], "test")


class RaisingSignal:
    settings: ClassVar[dict[str, str]] = {"kind": "raising"}

    def claim(self, picture) -> Claim:
        raise PictureError("the picture cannot be read")


class RecordingScorer:
    """Shares that depend on the written text; remembers every text it was asked about."""

    settings: ClassVar[dict[str, str]] = {"kind": "recording"}

    def __init__(self) -> None:
        self.by_token = None
        self.asked: list[tuple[list[list[int]], list[list[int]]]] = []

    def start(self, weights, tokenizer):
        return self

    def shares(self, written, candidates, hidden=None):
        self.asked.append((written.tolist(), candidates.tolist()))
        sign = torch.tensor([SIGN.get(token, 0.0) for token in range(VOCABULARY)])
        total = sign[candidates] + 0.25 * sign[written].sum(dim=1, keepdim=True)
        first = torch.sigmoid(4 * total)
        return torch.stack([first, 1 - first], dim=2)


def openers(rows: int) -> list:
    return [lambda row=row: Image.new("L", (1, 1), row) for row in range(rows)]


def logits(*greedy: int, columns: int = VOCABULARY) -> torch.Tensor:
    """One row per greedy token: it has 5 nats, every other token 0.1 times its id."""
    scores = (torch.arange(columns) * 0.1).repeat(len(greedy), 1)
    scores[range(len(greedy)), greedy] = 5.0
    return scores


def bits(values: torch.Tensor) -> bytes:
    return values.numpy().tobytes()


def tiny(kind: str, seed: int):
    """A random model of a real class over the toy's vocabulary."""
    return tiny_lm(kind, vocabulary=VOCABULARY, seed=seed, bos=A, eos=END, pad=PAD)
