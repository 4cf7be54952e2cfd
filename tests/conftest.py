"""Types and shapes in evenhand's annotations are checked while the tests run, and only then.

``is_pep484_tower`` makes the check agree with mypy: an int is a float.
"""

import os
from importlib.util import find_spec

from jaxtyping import install_import_hook

install_import_hook("evenhand", "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))")

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test waits for a network

if find_spec("torch") is not None:
    import torch

    torch.set_num_threads(1)
