"""Kept states against states from scratch, whatever happens to the rows, and the work that is saved."""

import torch
from torch import Tensor

from evenhand.mitigate.ala.text.prefix import PrefixStates


def step(states: Tensor, ids: Tensor) -> Tensor:
    return (states * 3 + ids[:, None] + 1) % 1_000_003


def from_scratch(written: Tensor) -> Tensor:
    states = torch.zeros(written.shape[0], 2, dtype=torch.int64)
    for column in written.unbind(dim=1):
        states = step(states, column)
    return states


class Counting(PrefixStates):
    def __init__(self, kept: int = 64) -> None:
        start = torch.zeros(2, dtype=torch.float64)
        super().__init__(start, lambda states, ids: step(states.long(), ids).double(), kept=kept)


def test_one_more_token_is_one_step():
    ids = torch.randint(50, (5, 12), generator=torch.Generator().manual_seed(0))
    states = Counting()
    for length in range(1, 13):
        assert torch.equal(states.at(ids[:, :length]).long(), from_scratch(ids[:, :length]))
        assert states.steps == length


def test_a_pause_costs_only_what_was_missed():
    ids = torch.randint(50, (5, 12), generator=torch.Generator().manual_seed(1))
    states = Counting()
    states.at(ids[:, :4])
    assert torch.equal(states.at(ids).long(), from_scratch(ids))
    assert states.steps == 12


def test_reordered_repeated_left_out_rows_cost_no_more():
    random = torch.Generator().manual_seed(2)
    ids = torch.randint(50, (6, 9), generator=random)
    states = Counting()
    states.at(ids)
    for order in ([5, 4, 3, 2, 1, 0], [2, 2, 2, 0], [1], [0, 1, 2, 3, 4, 5]):
        longer = torch.cat([ids[order], torch.randint(50, (len(order), 1), generator=random)], dim=1)
        before = states.steps
        assert torch.equal(states.at(longer).long(), from_scratch(longer))
        assert states.steps == before + 1


def test_a_rejected_draft_goes_back():
    ids = torch.randint(50, (3, 8), generator=torch.Generator().manual_seed(3))
    states = Counting()
    states.at(ids[:, :5])
    states.at(ids)
    other = ids[:, :6].clone()
    other[:, 5] += 1
    assert torch.equal(states.at(other).long(), from_scratch(other))
    assert states.steps == 8 + 1


def test_anything_goes():
    random = torch.Generator().manual_seed(4)
    states = Counting(kept=7)
    ids = torch.randint(3, (4, 3), generator=random)
    for _ in range(200):
        choice = int(torch.randint(5, (1,), generator=random))
        rows = torch.randint(len(ids), (int(torch.randint(1, 7, (1,), generator=random)),), generator=random)
        if choice == 0:
            ids = ids[rows][:, : int(torch.randint(1, 1 + ids.shape[1], (1,), generator=random))]
        elif choice == 1:
            ids = torch.randint(3, (5, 4), generator=random)
        else:
            ids = torch.cat([ids[rows], torch.randint(3, (len(rows), choice), generator=random)], dim=1)
        assert torch.equal(states.at(ids).long(), from_scratch(ids))


def test_nothing_written_is_the_start():
    states = Counting()
    empty = torch.empty(3, 0, dtype=torch.int64)
    assert torch.equal(states.at(empty), torch.zeros(3, 2, dtype=torch.float64))
    assert states.steps == 0
