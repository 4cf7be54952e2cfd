"""Seeds as servers take them. In: a seed of 63 bits. Out: one of 31."""

__all__ = ["sent_seed"]

_SENT = 2**31 - 1


def sent_seed(seed: int) -> int:
    """What is sent for a sample's seed: ``1 + seed mod (2**31 - 1)``, from 1 to 2**31 - 1.

    Servers take 32 bits at most, and several take 0 and below for "any".
    """
    return 1 + seed % _SENT
