"""Files for ``accelerate launch``. In: a name. Out: the path of the file that ships.

``gpus`` several GPUs with a whole model each, ``fsdp`` sharded by torch, ``zero2`` and ``zero3`` sharded by DeepSpeed.
"""

from pathlib import Path

from evenhand.errors import UnknownNameError

__all__ = ["LAUNCH_FILES", "launch_file"]

_FOLDER = Path(__file__).parent / "launch"

LAUNCH_FILES = tuple(sorted(one.stem for one in _FOLDER.glob("*.yaml")))
"""Names."""


def launch_file(name: str) -> Path:
    """The path of a file for ``accelerate launch --config_file``.

    Raises:
        UnknownNameError: No such file.
    """
    if name not in LAUNCH_FILES:
        raise UnknownNameError(f"launch file: got {name[:60]!r}; known: {', '.join(LAUNCH_FILES)}.")
    return _FOLDER / f"{name}.yaml"
