"""The training loop of the small networks. In: a network, labelled ids. Out: the same network, trained; its logits."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from evenhand.errors import BadInputError

__all__ = ["Schedule", "idle_decay", "logits_of", "pad_rows", "train_network"]

_WEIGHT_DECAY = 0.01

Loss = Callable[[Int[Tensor, "rows tokens"], Bool[Tensor, "rows tokens"], Int[Tensor, " rows"]], Tensor]


@dataclass(frozen=True, slots=True)
class Schedule:
    """How a network is trained: AdamW, a rate that falls linearly to 0, gradients of norm 1 at most.

    Attributes:
        epochs: Times each text is seen.
        learning_rate: At the first step.
        batch_size: Texts a step.

    Raises:
        BadInputError: A number is not above 0.
    """

    epochs: int
    learning_rate: float
    batch_size: int

    def __post_init__(self) -> None:
        if min(self.epochs, self.batch_size) < 1 or not 0 < self.learning_rate < 1:
            raise BadInputError(f"{self}: epochs and batch_size must be from 1 on, learning_rate in (0, 1).")


def idle_decay(schedule: Schedule, rows: int) -> float:
    r"""What AdamW's weight decay leaves of a weight that never has a gradient: :math:`\prod_t (1 - 0.01\, r_t)`.

    So rows of an embedding that no text uses need not be in the network while it is trained.
    """
    steps = _steps(schedule, rows)
    rates = schedule.learning_rate * (1 - np.arange(steps) / steps)
    return float(np.prod(1 - _WEIGHT_DECAY * rates))


def pad_rows(rows: Sequence[Sequence[int]]) -> tuple[Int[Tensor, "rows tokens"], Bool[Tensor, "rows tokens"]]:
    """Ids in one tensor, 0 after a row's end, and True where an id is the row's own; an empty row gets one 0."""
    width = max(1, max((len(row) for row in rows), default=1))
    ids = torch.zeros(len(rows), width, dtype=torch.int64)
    mask = torch.zeros(len(rows), width, dtype=torch.bool)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row, dtype=torch.int64)
        mask[i, : max(1, len(row))] = True
    return ids, mask


def train_network(
    network: nn.Module,
    loss: Loss,
    rows: Sequence[Sequence[int]],
    labels: Int[np.ndarray, " rows"],
    *,
    schedule: Schedule,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Train in place; the same seed gives the same weights on the same machine.

    Args:
        network: Its parameters are trained.
        loss: Mean loss of a batch from ids, mask and labels.
        rows: Ids of each text.
        labels: Index of each one's group.
        schedule: How.
        seed: Of the batches and the dropout.
        progress: Called with (texts seen, texts to see).
    """
    order = np.random.default_rng(seed)
    optimizer = torch.optim.AdamW(network.parameters(), lr=schedule.learning_rate, weight_decay=_WEIGHT_DECAY)
    size, steps = schedule.batch_size, _steps(schedule, len(rows))
    falling = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    network.train()
    seen = 0
    with torch.random.fork_rng(), torch.enable_grad():
        torch.manual_seed(seed)
        for _ in range(schedule.epochs):
            for batch in _batches([len(row) for row in rows], size, order):
                ids, mask = pad_rows([rows[i] for i in batch])
                value = loss(ids, mask, torch.from_numpy(labels[batch].astype(np.int64)))
                optimizer.zero_grad(set_to_none=True)
                value.backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(network.parameters(), 1.0)
                optimizer.step()
                falling.step()
                seen += len(batch)
                if progress is not None:
                    progress(seen, schedule.epochs * len(rows))
    network.eval()


@torch.inference_mode()
def logits_of(
    score: Callable[[Int[Tensor, "rows tokens"], Bool[Tensor, "rows tokens"]], Float[Tensor, "rows groups"]],
    rows: Sequence[Sequence[int]],
    *,
    batch_size: int = 64,
) -> Float[np.ndarray, "rows groups"]:
    """The logits of ids, in the order given; texts of like length are scored together."""
    order = np.argsort([len(row) for row in rows], kind="stable")
    found = [
        score(*pad_rows([rows[i] for i in order[first : first + batch_size]]))
        for first in range(0, len(rows), batch_size)
    ]
    logits = np.empty((len(rows), found[0].shape[1]))
    logits[order] = torch.cat(found).double().numpy()
    return logits


def _steps(schedule: Schedule, rows: int) -> int:
    return schedule.epochs * -(-rows // schedule.batch_size)


def _batches(lengths: Sequence[int], size: int, random: np.random.Generator) -> list[Int[np.ndarray, " batch"]]:
    """All rows in random order; those of a batch are of like length, so that little is padding."""
    jittered = np.asarray(lengths) * random.uniform(0.8, 1.25, len(lengths))
    order = np.argsort(jittered, kind="stable")
    batches = [order[first : first + size] for first in range(0, len(order), size)]
    return [batches[i] for i in random.permutation(len(batches))]
