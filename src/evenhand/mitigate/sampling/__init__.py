"""Balance while drawing, without training. In: any model that draws, a target. Out: a model that draws nearer to it."""

from evenhand.mitigate.sampling.balanced import BalancedModel

__all__ = ["BalancedModel"]
