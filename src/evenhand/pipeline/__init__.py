"""THE FLOW. In: a model, a probe's data, a mitigation. Out: a ledger, and from it labels, estimates, comparisons.

The rooms that know all stages: ``captions`` for texts about pictures, ``pictures`` for pictures from texts.
"""

from evenhand.pipeline.captions import audit, compare, score
from evenhand.pipeline.filling import Progress
from evenhand.pipeline.pictures import draw, score_pictures

__all__ = ["Progress", "audit", "compare", "draw", "score", "score_pictures"]
