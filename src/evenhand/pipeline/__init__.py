"""THE FLOW. In: a model, a probe's data, a mitigation. Out: a ledger, and from it labels, estimates, comparisons.

The rooms that know all stages: ``captions`` for texts about pictures, ``picture_runs`` for pictures from texts.
"""

from evenhand.pipeline.captions import audit, compare, score
from evenhand.pipeline.drawing import draw
from evenhand.pipeline.filling import Progress
from evenhand.pipeline.picture_runs import audit_pictures, compare_runs, sample_pictures, score_run
from evenhand.pipeline.pictures import score_pictures
from evenhand.pipeline.plans import ReadBy, ScoringPlan

__all__ = [
    "Progress",
    "ReadBy",
    "ScoringPlan",
    "audit",
    "audit_pictures",
    "compare",
    "compare_runs",
    "draw",
    "sample_pictures",
    "score",
    "score_pictures",
    "score_run",
]
