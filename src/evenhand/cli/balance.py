"""``--balance``, ``--strength``, ``--quota``. In: what was typed, an open model. Out: the model, balanced if asked."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from evenhand.errors import BadInputError
from evenhand.models.protocol import ImageModel

if TYPE_CHECKING:
    from evenhand.classify.pictures.protocol import Labeller
    from evenhand.records import Attribute

__all__ = ["BalanceOption", "BalanceOptions", "QuotaOption", "StrengthOption"]

BalanceOption = Annotated[
    str | None,
    typer.Option(
        help="Draw toward shares: even, declared (the attributes' target) or male=0.7,female=0.3. Of all --attribute "
        "as their product; of some: ATTRIBUTE,...:SHARES."
    ),
]
StrengthOption = Annotated[
    float | None,
    typer.Option(
        min=0, help="How far --balance goes: 0 not at all, 1 (default) the sentence naming a group, 1.5 more."
    ),
]
QuotaOption = Annotated[
    bool, typer.Option("--quota", help="With --balance: what the classifier reads decides which group is drawn next.")
]


@dataclass(frozen=True, slots=True)
class BalanceOptions:
    """What was typed.

    Attributes:
        balance: Of ``--balance``, None where it was not given.
        strength: As typed.
        quota: As typed.
    """

    balance: str | None
    strength: float | None
    quota: bool

    def __post_init__(self) -> None:
        """Refuse options that need ``--balance`` without it."""
        if self.balance is None and self.given():
            raise BadInputError(
                f"{self.given()[0]}: it says how --balance is done; give --balance even, or leave it out."
            )

    @property
    def suffix(self) -> str:
        """Of the name of a run folder that nobody named."""
        return "" if self.balance is None else "-balanced"

    def given(self) -> tuple[str, ...]:
        """The options that were typed, as they are typed."""
        said = {"--balance": self.balance is not None, "--strength": self.strength is not None, "--quota": self.quota}
        return tuple(name for name, typed in said.items() if typed)

    def check(self, attributes: "Sequence[Attribute]") -> None:
        """Refuse shares that do not fit the attributes, before a model is opened.

        Raises:
            BadInputError: As ``read_target``, or an attribute that is not the run's.
        """
        if self.balance is not None:
            from evenhand.mitigate.sampling.targets import read_target

            chosen, shares = _chosen(self.balance, attributes)
            read_target(shares, chosen)

    def around(
        self, drawing: ImageModel, attributes: "Sequence[Attribute]", labellers: "Sequence[Labeller]", *, run: str
    ) -> ImageModel:
        """The model, balanced where that was asked for.

        Args:
            drawing: Open.
            attributes: Of the run.
            labellers: What reads its pictures; looked at for a quota alone.
            run: Name that its seeds are made from.

        Raises:
            BadInputError: An attribute that is not the run's, or as ``BalancedModel``.
        """
        if self.balance is None:
            return drawing
        from evenhand.mitigate.sampling import BalancedModel

        chosen, shares = _chosen(self.balance, attributes)
        names = {one.name for one in chosen}
        return BalancedModel(
            drawing,
            chosen,
            target=shares,
            strength=1.0 if self.strength is None else self.strength,
            labeller=[one for one in labellers if one.attribute.name in names] if self.quota else None,
            run=None if self.quota else run,
        )


def _chosen(balance: str, attributes: "Sequence[Attribute]") -> "tuple[list[Attribute], str]":
    """The attributes that are balanced, in the run's order, and their shares."""
    named, colon, shares = balance.partition(":")
    if not colon or "=" in named:
        return list(attributes), balance
    wanted = [one.strip() for one in named.split(",")]
    known = [one.name for one in attributes]
    odd = [one for one in wanted if one not in known]
    if odd:
        raise BadInputError(f"--balance: {odd[0][:60]!r} is not among the attributes; allowed: {', '.join(known)}.")
    return [one for one in attributes if one.name in wanted], shares
