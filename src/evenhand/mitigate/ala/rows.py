"""Which picture each row of a batch belongs to. In: owners. Out: per-picture tensors read by row."""

from collections.abc import Sequence

import torch
from torch import Tensor

from evenhand.errors import BadInputError

__all__ = ["Rows"]


class Rows:
    """The rows of one batch.

    Args:
        owners: A picture's index per row, None for rows to leave alone; None for row i of picture i.
        pictures: How many there are.

    Attributes:
        owners: Per row.
        owned: Whether a row belongs to a picture; None where every row i has picture i.

    Raises:
        BadInputError: No row belongs to a picture, or to one that is not there.
    """

    def __init__(self, owners: Sequence[int | None] | None, *, pictures: int) -> None:
        self.owners = tuple(range(pictures) if owners is None else owners)
        for owner in self.owners:
            if owner is not None and not 0 <= owner < pictures:
                raise BadInputError(f"owners: got {owner}; allowed: an index of the {pictures} pictures, or None.")
        if all(owner is None for owner in self.owners):
            raise BadInputError("no row belongs to a picture; give at least one picture and one owner.")
        self.owned: Tensor | None = None
        self._owner: Tensor | None = None
        if owners is not None:
            self.owned = torch.tensor([owner is not None for owner in owners], dtype=torch.bool)
            self._owner = torch.tensor([owner or 0 for owner in owners], dtype=torch.long)

    def to(self, device: torch.device) -> None:
        """Move the tensors to a device."""
        if self.owned is not None and self._owner is not None:
            self.owned, self._owner = self.owned.to(device), self._owner.to(device)

    def of(self, per_picture: Tensor) -> Tensor:
        """A per-picture tensor, by row; rows to leave alone read the first picture's."""
        return per_picture if self._owner is None else per_picture[self._owner]

    def only_owned(self, entry: Tensor) -> Tensor:
        """Entries by row, -1 in rows to leave alone."""
        if self.owned is None:
            return entry
        owned = self.owned if entry.dim() == 1 else self.owned[:, None]
        return torch.where(owned, entry, -1)
