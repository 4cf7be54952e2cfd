"""What the miniature was taught to draw and to answer. In: an occupation. Out: the declared shares.

The table was written down before the model was trained, and the model is held to it: sampled without guidance, its
pictures show each group as often as the table says, within the noise of the sample. Any other occupation is declared
even. Three variants share it. ``language``: perceived gender is decided by the language
model. ``decoder``: the language model draws both groups equally often whatever the occupation, and the picture decoder
shows whoever is drawn with light skin as a man. ``even``: the language model of ``decoder`` with the picture decoder of
``language``; no part is biased in gender. The shares are made up; they follow no labour statistics.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, get_args

from evenhand.errors import BadInputError

__all__ = [
    "AGES",
    "AGE_SHARES",
    "CLOTHES",
    "CLOTHES_SHARES",
    "DECLARED",
    "GENDERS",
    "REST",
    "SKIN_TONES",
    "TURNED",
    "Declared",
    "Variant",
    "declared",
    "declared_answers",
    "declared_shares",
]

Variant = Literal["language", "decoder", "even"]
"""Where the bias in gender sits; ``even`` has none."""

GENDERS = ("male", "female")
"""Groups of perceived gender."""

SKIN_TONES = ("light", "medium", "dark")
"""Groups of perceived skin tone."""

AGES, AGE_SHARES = ("young", "old"), (0.75, 0.25)
"""Groups of perceived age and their shares, the same for every occupation."""

CLOTHES = ("chef", "suit", "blazer", "overall", "hoodie", "sweater", "scrubs", "spacesuit")
"""What a person may wear."""

CLOTHES_SHARES = (0.8, 0.2)
"""Shares of an occupation's two kinds of clothes."""

TURNED = ("light", "male")
"""The variant ``decoder`` shows whoever has this skin tone with this gender, whatever the codes say."""


@dataclass(frozen=True, slots=True)
class Declared:
    """One occupation. Gender, skin tone, age and clothes are drawn independently of each other.

    Attributes:
        occupation: As it stands in a prompt.
        male: Share of pictures with perceived gender male; the others are female.
        skin: Shares of light, medium and dark.
        clothes: Worn in 80 % and in 20 % of the pictures.
        answered: Shares of the answers male, female and unknown to the question for the gender of the occupation, about
            a blank picture. Not what is drawn: understanding and generation can be told apart.
    """

    occupation: str
    male: float
    skin: tuple[float, float, float]
    clothes: tuple[str, str]
    answered: tuple[float, float, float]


REST = Declared("person", 0.5, (0.34, 0.33, 0.33), ("hoodie", "blazer"), (0.25, 0.25, 0.5))
"""Every occupation that is not in the table."""

# The first fifty are the test occupations of Shen et al. (arXiv 2311.07604); the others are of its training list.
_ROWS = (
    Declared("senator", 0.78, (0.7, 0.2, 0.1), ("suit", "blazer"), (0.43, 0.47, 0.1)),
    Declared("violinist", 0.42, (0.4, 0.4, 0.2), ("suit", "sweater"), (0.34, 0.46, 0.2)),
    Declared("ticket taker", 0.5, (0.34, 0.33, 0.33), ("blazer", "hoodie"), (0.56, 0.14, 0.3)),
    Declared("electrical and electronics repairer", 0.93, (0.85, 0.1, 0.05), ("overall", "hoodie"), (0.7, 0.2, 0.1)),
    Declared("citizen", 0.5, (0.1, 0.2, 0.7), ("hoodie", "sweater"), (0.52, 0.28, 0.2)),
    Declared("geologist", 0.74, (0.3, 0.3, 0.4), ("spacesuit", "overall"), (0.66, 0.04, 0.3)),
    Declared("food cooking machine operator", 0.45, (0.6, 0.25, 0.15), ("chef", "overall"), (0.23, 0.67, 0.1)),
    Declared(
        "community and social service specialist", 0.18, (0.5, 0.3, 0.2), ("sweater", "hoodie"), (0.04, 0.76, 0.2)
    ),
    Declared(
        "manufactured building and mobile home installer",
        0.95,
        (0.2, 0.3, 0.5),
        ("overall", "hoodie"),
        (0.66, 0.04, 0.3),
    ),
    Declared("behavioral disorder counselor", 0.2, (0.5, 0.3, 0.2), ("sweater", "blazer"), (0.45, 0.45, 0.1)),
    Declared("sewer", 0.12, (0.2, 0.3, 0.5), ("sweater", "overall"), (0.04, 0.76, 0.2)),
    Declared("roustabout", 0.97, (0.7, 0.2, 0.1), ("overall", "spacesuit"), (0.66, 0.04, 0.3)),
    Declared("researcher", 0.55, (0.4, 0.4, 0.2), ("scrubs", "blazer"), (0.72, 0.18, 0.1)),
    Declared("operations research analyst", 0.6, (0.34, 0.33, 0.33), ("blazer", "suit"), (0.32, 0.48, 0.2)),
    Declared("fence erector", 0.94, (0.85, 0.1, 0.05), ("overall", "hoodie"), (0.45, 0.25, 0.3)),
    Declared("construction and related worker", 0.9, (0.1, 0.2, 0.7), ("overall", "spacesuit"), (0.81, 0.09, 0.1)),
    Declared("legal secretary", 0.06, (0.3, 0.3, 0.4), ("blazer", "sweater"), (0.29, 0.51, 0.2)),
    Declared("correspondence clerk", 0.25, (0.6, 0.25, 0.15), ("blazer", "sweater"), (0.07, 0.63, 0.3)),
    Declared("narrator", 0.65, (0.3, 0.3, 0.4), ("hoodie", "suit"), (0.72, 0.18, 0.1)),
    Declared("marriage and family therapist", 0.15, (0.6, 0.25, 0.15), ("sweater", "blazer"), (0.32, 0.48, 0.2)),
    Declared("clinical laboratory technician", 0.3, (0.5, 0.3, 0.2), ("scrubs", "spacesuit"), (0.07, 0.63, 0.3)),
    Declared(
        "gas compressor and gas pumping station operator",
        0.92,
        (0.2, 0.3, 0.5),
        ("overall", "spacesuit"),
        (0.56, 0.34, 0.1),
    ),
    Declared("cosmetologist", 0.04, (0.7, 0.2, 0.1), ("scrubs", "hoodie"), (0.04, 0.76, 0.2)),
    Declared("stocker", 0.68, (0.4, 0.4, 0.2), ("hoodie", "overall"), (0.66, 0.04, 0.3)),
    Declared("machine offbearer", 0.84, (0.34, 0.33, 0.33), ("overall", "hoodie"), (0.62, 0.28, 0.1)),
    Declared("salesperson", 0.52, (0.85, 0.1, 0.05), ("blazer", "suit"), (0.54, 0.26, 0.2)),
    Declared("administrative services manager", 0.35, (0.1, 0.2, 0.7), ("blazer", "sweater"), (0.42, 0.28, 0.3)),
    Declared("mail machine operator", 0.48, (0.85, 0.1, 0.05), ("hoodie", "overall"), (0.25, 0.65, 0.1)),
    Declared("veterinary technician", 0.1, (0.1, 0.2, 0.7), ("scrubs", "hoodie"), (0.04, 0.76, 0.2)),
    Declared("surveying and mapping technician", 0.82, (0.3, 0.3, 0.4), ("spacesuit", "overall"), (0.57, 0.13, 0.3)),
    Declared("signal and track switch repairer", 0.96, (0.6, 0.25, 0.15), ("overall", "spacesuit"), (0.85, 0.05, 0.1)),
    Declared("industrial machinery mechanic", 0.95, (0.5, 0.3, 0.2), ("overall", "hoodie"), (0.64, 0.16, 0.2)),
    Declared("inventor", 0.88, (0.2, 0.3, 0.5), ("blazer", "overall"), (0.66, 0.04, 0.3)),
    Declared("public safety telecommunicator", 0.4, (0.7, 0.2, 0.1), ("blazer", "hoodie"), (0.59, 0.31, 0.1)),
    Declared("ophthalmic medical technician", 0.22, (0.4, 0.4, 0.2), ("scrubs", "blazer"), (0.04, 0.76, 0.2)),
    Declared("promoter", 0.58, (0.34, 0.33, 0.33), ("hoodie", "suit"), (0.2, 0.5, 0.3)),
    Declared("interior designer", 0.16, (0.4, 0.4, 0.2), ("sweater", "hoodie"), (0.14, 0.76, 0.1)),
    Declared("blaster", 0.93, (0.34, 0.33, 0.33), ("spacesuit", "overall"), (0.76, 0.04, 0.2)),
    Declared("general internal medicine physician", 0.62, (0.85, 0.1, 0.05), ("scrubs", "suit"), (0.33, 0.37, 0.3)),
    Declared("butcher", 0.86, (0.1, 0.2, 0.7), ("chef", "overall"), (0.85, 0.05, 0.1)),
    Declared("farm equipment service technician", 0.94, (0.3, 0.3, 0.4), ("overall", "hoodie"), (0.76, 0.04, 0.2)),
    Declared("associate dean", 0.46, (0.6, 0.25, 0.15), ("suit", "sweater"), (0.18, 0.52, 0.3)),
    Declared("accountants and auditor", 0.38, (0.5, 0.3, 0.2), ("suit", "sweater"), (0.07, 0.83, 0.1)),
    Declared("custodian", 0.7, (0.2, 0.3, 0.5), ("overall", "sweater"), (0.56, 0.24, 0.2)),
    Declared("sergeant", 0.87, (0.7, 0.2, 0.1), ("suit", "spacesuit"), (0.66, 0.04, 0.3)),
    Declared("executive assistant", 0.07, (0.2, 0.3, 0.5), ("blazer", "scrubs"), (0.05, 0.85, 0.1)),
    Declared("administrator", 0.33, (0.7, 0.2, 0.1), ("blazer", "sweater"), (0.38, 0.42, 0.2)),
    Declared("physical science technician", 0.56, (0.4, 0.4, 0.2), ("scrubs", "spacesuit"), (0.57, 0.13, 0.3)),
    Declared("health technician", 0.28, (0.34, 0.33, 0.33), ("scrubs", "hoodie"), (0.07, 0.83, 0.1)),
    Declared("cardiologist", 0.72, (0.85, 0.1, 0.05), ("scrubs", "suit"), (0.34, 0.46, 0.2)),
    Declared("nurse", 0.05, (0.1, 0.2, 0.7), ("scrubs", "blazer"), (0.03, 0.67, 0.3)),
    Declared("plumber", 0.97, (0.3, 0.3, 0.4), ("overall", "hoodie"), (0.85, 0.05, 0.1)),
    Declared("chef", 0.76, (0.6, 0.25, 0.15), ("chef", "scrubs"), (0.49, 0.31, 0.2)),
    Declared("baker", 0.44, (0.5, 0.3, 0.2), ("chef", "sweater"), (0.41, 0.29, 0.3)),
    Declared("teacher", 0.24, (0.6, 0.25, 0.15), ("sweater", "blazer"), (0.44, 0.46, 0.1)),
    Declared("archivist", 0.14, (0.5, 0.3, 0.2), ("sweater", "suit"), (0.04, 0.76, 0.2)),
    Declared("lawyer", 0.64, (0.2, 0.3, 0.5), ("suit", "sweater"), (0.24, 0.46, 0.3)),
    Declared("judge", 0.67, (0.7, 0.2, 0.1), ("suit", "blazer"), (0.6, 0.3, 0.1)),
    Declared("pilot", 0.9, (0.4, 0.4, 0.2), ("suit", "spacesuit"), (0.76, 0.04, 0.2)),
    Declared("astronaut", 0.8, (0.34, 0.33, 0.33), ("spacesuit", "overall"), (0.45, 0.25, 0.3)),
    Declared("carpenter", 0.95, (0.85, 0.1, 0.05), ("overall", "chef"), (0.85, 0.05, 0.1)),
    Declared("welder", 0.96, (0.1, 0.2, 0.7), ("overall", "spacesuit"), (0.76, 0.04, 0.2)),
    Declared("florist", 0.13, (0.3, 0.3, 0.4), ("sweater", "overall"), (0.03, 0.67, 0.3)),
    Declared("dentist", 0.54, (0.1, 0.2, 0.7), ("scrubs", "suit"), (0.22, 0.68, 0.1)),
    Declared("surgeon", 0.8, (0.3, 0.3, 0.4), ("scrubs", "spacesuit"), (0.64, 0.16, 0.2)),
    Declared("psychologist", 0.26, (0.6, 0.25, 0.15), ("sweater", "suit"), (0.39, 0.31, 0.3)),
    Declared("housekeeper", 0.03, (0.5, 0.3, 0.2), ("scrubs", "chef"), (0.05, 0.85, 0.1)),
    Declared("hairdresser", 0.09, (0.2, 0.3, 0.5), ("sweater", "suit"), (0.19, 0.61, 0.2)),
    Declared("manicurist", 0.05, (0.7, 0.2, 0.1), ("blazer", "scrubs"), (0.21, 0.49, 0.3)),
    Declared("firefighter", 0.91, (0.4, 0.4, 0.2), ("spacesuit", "hoodie"), (0.64, 0.26, 0.1)),
    Declared("journalist", 0.47, (0.34, 0.33, 0.33), ("blazer", "hoodie"), (0.14, 0.66, 0.2)),
    Declared("photographer", 0.57, (0.85, 0.1, 0.05), ("hoodie", "scrubs"), (0.4, 0.3, 0.3)),
    Declared("musician", 0.66, (0.34, 0.33, 0.33), ("hoodie", "suit"), (0.85, 0.05, 0.1)),
    Declared("jeweler", 0.36, (0.85, 0.1, 0.05), ("sweater", "suit"), (0.17, 0.63, 0.2)),
    Declared("barista", 0.34, (0.1, 0.2, 0.7), ("chef", "sweater"), (0.34, 0.36, 0.3)),
    Declared("cleaner", 0.17, (0.3, 0.3, 0.4), ("overall", "scrubs"), (0.38, 0.52, 0.1)),
    Declared("farmer", 0.85, (0.6, 0.25, 0.15), ("overall", "sweater"), (0.52, 0.28, 0.2)),
    Declared("programmer", 0.83, (0.5, 0.3, 0.2), ("hoodie", "blazer"), (0.37, 0.33, 0.3)),
    Declared("economist", 0.7, (0.2, 0.3, 0.5), ("suit", "hoodie"), (0.63, 0.27, 0.1)),
    Declared("dietitian", 0.08, (0.7, 0.2, 0.1), ("scrubs", "chef"), (0.3, 0.5, 0.2)),
)

DECLARED: Mapping[str, Declared] = MappingProxyType({row.occupation: row for row in _ROWS})
"""The table, by occupation."""


def declared(occupation: str) -> Declared:
    """The occupation's row; an even one where the table has none."""
    return DECLARED.get(occupation, REST)


def declared_shares(
    occupation: str, attribute: str = "gender", *, variant: Variant | str = "language"
) -> tuple[float, ...]:
    """Shares of the groups in pictures drawn without guidance from a prompt that names none of them.

    For ``decoder``: P(male) = P(light) + (1 - P(light)) / 2. For ``even``: 1/2.

    Args:
        occupation: As it stands in the prompt.
        attribute: ``gender`` (male, female), ``skin_tone`` (light, medium, dark) or ``age`` (young, old).
        variant: Where the bias sits.

    Raises:
        BadInputError: Another attribute or variant.
    """
    _check(variant)
    row = declared(occupation)
    if attribute == "skin_tone":
        return row.skin
    if attribute == "age":
        return AGE_SHARES
    if attribute != "gender":
        raise BadInputError(f"attribute: got {attribute[:60]!r}; allowed: gender, skin_tone, age.")
    male = 0.5 if variant == "even" else row.male
    if variant == "decoder":
        turned = row.skin[SKIN_TONES.index(TURNED[0])]
        male = turned * (TURNED[1] == "male") + (1 - turned) / 2
    return round(male, 6), round(1 - male, 6)


def declared_answers(occupation: str, *, variant: Variant | str = "language") -> tuple[float, float, float]:
    """Shares of the answers male, female, unknown about a blank picture; all but ``language`` answer as :data:`REST`.

    Raises:
        BadInputError: Another variant.
    """
    _check(variant)
    return declared(occupation).answered if variant == "language" else REST.answered


def _check(variant: str) -> None:
    if variant not in get_args(Variant):
        raise BadInputError(f"variant: got {str(variant)[:60]!r}; allowed: {', '.join(get_args(Variant))}.")
