"""Opening a model that is to draw. In: what was typed. Out: the model, and a line on what its pictures will cost."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from evenhand.cli.output import notes
from evenhand.cli.picture_options import model_options
from evenhand.models.protocol import ImageModel, PaidModel

if TYPE_CHECKING:
    from evenhand.records import Attribute

__all__ = ["open_to_draw"]


def open_to_draw(
    model: str,
    option: Sequence[str] | None,
    *,
    probe: str,
    data: str,
    attribute: "Attribute",
    samples: int,
    folder: Path,
) -> ImageModel:
    """The model, after its prompts were read; where its pictures are paid for, what those cost that a folder lacks.

    Args:
        model: As typed.
        option: ``KEY=VALUE`` each.
        probe: Whose prompts are drawn.
        data: Of the probe.
        attribute: What augmented prompts name.
        samples: Pictures of each prompt.
        folder: The run folder; it need not be there.

    Raises:
        EvenhandError: As the probe says of its data, and the model's loader of the model.
    """
    from evenhand.pipeline.drawing import prompts_to_draw
    from evenhand.pipeline.opening import open_image_model

    prompts = prompts_to_draw(probe, data, attribute)
    drawing = open_image_model(model, model_options(option))
    if isinstance(drawing, PaidModel):
        notes.print(_cost(drawing, len(prompts) * samples, _missing(folder, samples)), soft_wrap=True)
    return drawing


def _cost(model: PaidModel, wanted: int, missing: int | None) -> str:
    if missing is None:
        return model.estimate_cost(wanted)
    if not missing:
        return f"all {wanted:,} pictures are stored; none is asked for, and nothing is paid."
    return f"{wanted - missing:,} of {wanted:,} pictures are stored; the others: {model.estimate_cost(missing)}"


def _missing(folder: Path, samples: int) -> int | None:
    """How many pictures a run folder lacks; None where there is none yet."""
    from evenhand.ledger import Ledger
    from evenhand.run_folder import MANIFEST

    return len(Ledger.open(folder).missing(samples)) if (folder / MANIFEST).is_file() else None
