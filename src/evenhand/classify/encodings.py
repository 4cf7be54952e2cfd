"""How data sets write groups down. In: a cell of a label file. Out: the group's name, or an error.

FairFace (Karkkainen and Joo 2021) writes names, and where its labels are numbers 0 is female. FACET (Gustafson et
al. 2023) and code made from it count the other way round: 0 is male. The two are kept apart here and nowhere else.
"""

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType

from evenhand.errors import LabelsError

__all__ = ["FAIRFACE_COLUMNS", "Encoding"]

FAIRFACE_COLUMNS = ("file", "age", "gender", "race")
"""What ``fairface_label_train.csv`` and ``fairface_label_val.csv`` hold; ``service_test`` follows."""


class Encoding(Enum):
    """What the values of one column mean."""

    FAIRFACE_GENDER = MappingProxyType({"Female": "female", "Male": "male", "0": "female", "1": "male"})
    FACET_GENDER = MappingProxyType({"0": "male", "1": "female"})
    FAIRFACE_RACE = MappingProxyType(
        {
            "White": "white",
            "Black": "black",
            "Latino_Hispanic": "latino",
            "East Asian": "asian",
            "Southeast Asian": "asian",
            "Indian": "indian",
            "Middle Eastern": "middle eastern",
        }
    )

    @property
    def groups(self) -> Mapping[str, str]:
        """Cell to group; two cells may name one group: FairFace's seven race names fill six."""
        return self.value

    def group(self, cell: str) -> str:
        """The group a cell names.

        Raises:
            LabelsError: The data set has no such value.
        """
        if cell not in self.value:
            raise LabelsError(f"{self.name}: got {cell!r}; allowed: {', '.join(self.value)}.")
        return self.value[cell]
