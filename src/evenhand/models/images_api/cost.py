"""What a run will cost. In: pictures, price and pace. Out: a ``Cost``, or a sentence."""

from dataclasses import dataclass

__all__ = ["Cost", "cost_in_words", "cost_of"]


@dataclass(frozen=True, slots=True)
class Cost:
    """What will be paid, where every request is answered at once.

    Attributes:
        pictures: Paid for, those of the seed check included.
        price: Of one picture, in the user's currency.
        total: ``pictures * price``.
    """

    pictures: int
    price: float
    total: float


def cost_of(pictures: int, *, checks: int, price: float | None) -> Cost | None:
    """The cost of a run, or None where the price is not known.

    Args:
        pictures: To be drawn.
        checks: Pictures of the seed check.
        price: Of one picture.
    """
    paid = pictures + checks
    return None if price is None else Cost(paid, price, paid * price)


def cost_in_words(pictures: int, *, checks: int, price: float | None, requests_per_minute: float | None) -> str:
    """The same as a sentence, with the least time that the pace allows."""
    paid = pictures + checks
    counted = f"{pictures:,} pictures" + (f" and {checks} for the seed check, {paid:,} in all" if checks else "")
    known = cost_of(pictures, checks=checks, price=price)
    if known is None:
        said = f"{counted}; what they cost is not known: give price=, the price of one picture"
    else:
        said = f"{counted}, at {known.price:g} each: {known.total:,.2f}"
    if requests_per_minute is not None:
        said += f"; at least {_duration((paid - 1) * 60 / requests_per_minute)} at {requests_per_minute:g} a minute"
    return f"{said}. A request that is tried again after a timeout may be paid twice."


def _duration(seconds: float) -> str:
    minutes = round(max(0.0, seconds) / 60)
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{minutes} min"
