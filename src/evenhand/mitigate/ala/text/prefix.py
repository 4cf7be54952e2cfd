"""Recurrent states kept by what was written. In: ids so far, one step of a recurrence. Out: each row's state.

A state is found again by comparing ids, never by a row's number: beams may be reordered, drafted tokens taken back,
rows left out, and the gate may have been closed for some steps. What cannot be found is computed from the start.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["PrefixStates"]


class PrefixStates:
    """The latest states of a recurrence, with the ids that led to each.

    Args:
        start: The state before anything is written.
        step: New states from states and one more id per row.
        kept: How many states are remembered at least.
    """

    def __init__(
        self,
        start: Float[Tensor, " size"],
        step: Callable[[Float[Tensor, "rows size"], Int[Tensor, " rows"]], Float[Tensor, "rows size"]],
        *,
        kept: int = 64,
    ) -> None:
        self._start, self._step, self._kept = start, step, kept
        self._ids = torch.empty(0, 0, dtype=torch.int64, device=start.device)
        self._lengths = torch.empty(0, dtype=torch.int64, device=start.device)
        self._states = torch.empty(0, start.numel(), dtype=start.dtype, device=start.device)
        self.steps = 0
        """Steps taken so far, each for a whole batch."""

    def at(self, written: Int[Tensor, "rows written"]) -> Float[Tensor, "rows size"]:
        """Each row's state after what is written, from the longest beginning of it that is remembered.

        One number, how many steps are missing, is read back from the device.
        """
        written = written.to(torch.int64)
        rows, length = written.shape
        states, known = self._find(written)
        first = int(known.min()) if rows and length else length
        for place in range(first, length):
            stepped = self._step(states, written[:, place])
            states = torch.where((known <= place)[:, None], stepped, states)
            self.steps += 1
        if first < length:
            self._keep(written, states)
        return states

    def _find(self, written: Int[Tensor, "rows written"]) -> tuple[Float[Tensor, "rows size"], Int[Tensor, " rows"]]:
        """For each row the state of the longest remembered beginning, and how many ids it covers."""
        rows, length = written.shape
        nothing = torch.zeros(rows, dtype=torch.int64, device=written.device)
        if not self._lengths.numel():
            return self._start.expand(rows, -1), nothing
        shared = min(length, self._ids.shape[1])
        beyond = torch.arange(shared, device=written.device) >= self._lengths[:, None]
        same = (written[:, None, :shared] == self._ids[None, :, :shared]) | beyond
        fits = same.all(dim=-1) & (self._lengths <= length)
        known, place = torch.where(fits, self._lengths, 0).max(dim=1)
        return torch.where((known > 0)[:, None], self._states[place], self._start), known

    def _keep(self, written: Int[Tensor, "rows written"], states: Float[Tensor, "rows size"]) -> None:
        rows, length = written.shape
        width = max(length, self._ids.shape[1])
        older = max(self._kept - rows, 0)
        self._ids = torch.cat(
            [torch.nn.functional.pad(ids, (0, width - ids.shape[1]), value=-1) for ids in (written, self._ids[:older])]
        )
        lengths = torch.full((rows,), length, dtype=torch.int64, device=written.device)
        self._lengths = torch.cat([lengths, self._lengths[:older]])
        self._states = torch.cat([states, self._states[:older]])
