"""What pictures cost, said before the first one. In: a model, its prompts, a run folder. Out: a line on stderr."""

from pathlib import Path

from evenhand.cli.output import notes
from evenhand.models.protocol import ImageModel, PaidModel

__all__ = ["say_cost"]


def say_cost(model: ImageModel, *, prompts: int, samples: int, folder: Path) -> None:
    """Say what a model whose pictures are paid for asks for those that a run folder lacks; of others nothing."""
    if not isinstance(model, PaidModel):
        return
    wanted, missing = prompts * samples, _missing(folder, samples)
    if missing is None:
        said = model.estimate_cost(wanted)
    elif not missing:
        said = f"all {wanted:,} pictures are stored; none is asked for, and nothing is paid."
    else:
        said = f"{wanted - missing:,} of {wanted:,} pictures are stored; the others: {model.estimate_cost(missing)}"
    notes.print(said, soft_wrap=True)


def _missing(folder: Path, samples: int) -> int | None:
    """How many pictures a run folder lacks; None where there is none yet."""
    from evenhand.ledger import Ledger
    from evenhand.run_folder import MANIFEST

    return len(Ledger.open(folder).missing(samples)) if (folder / MANIFEST).is_file() else None
