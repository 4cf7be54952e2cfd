"""evenhand measures, locates and mitigates social bias in multimodal language models.

In: a model. Out: estimates with intervals of what it says about pictures, or of whom it draws.
Texts: ``audit`` asks and scores, ``score`` scores a stored run, ``compare`` pairs two. Pictures: ``audit_pictures``,
``score_run``, ``compare_runs``. Importing this loads nothing heavy; every name is imported when it is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evenhand.attributes import load_attribute
    from evenhand.pipeline import (
        ReadBy,
        ScoringPlan,
        audit,
        audit_pictures,
        compare,
        compare_runs,
        score,
        score_run,
    )
    from evenhand.records import (
        Attribute,
        Claim,
        Comparison,
        Edit,
        Estimate,
        Label,
        PictureComparison,
        Prompt,
        Sample,
        Scored,
        ScoredAnswers,
        ScoredPictures,
    )
    from evenhand.registry import load
    from evenhand.report.html import write_report

__version__ = "0.1.0"

__all__ = [
    "Attribute",
    "Claim",
    "Comparison",
    "Edit",
    "Estimate",
    "Label",
    "PictureComparison",
    "Prompt",
    "ReadBy",
    "Sample",
    "Scored",
    "ScoredAnswers",
    "ScoredPictures",
    "ScoringPlan",
    "audit",
    "audit_pictures",
    "compare",
    "compare_runs",
    "load",
    "load_attribute",
    "score",
    "score_run",
    "write_report",
]

_HOME = {
    **dict.fromkeys(("audit", "compare", "score"), "evenhand.pipeline"),
    **dict.fromkeys(("ReadBy", "ScoringPlan", "audit_pictures", "compare_runs", "score_run"), "evenhand.pipeline"),
    "load_attribute": "evenhand.attributes",
    "load": "evenhand.registry",
    "write_report": "evenhand.report.html",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'evenhand' has no attribute {name!r}")
    return getattr(import_module(_HOME.get(name, "evenhand.records")), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
