"""The language model's last hidden state, for text scorers that read it. In: a model. Out: the state of each step."""

from types import TracebackType
from typing import Any

from jaxtyping import Float
from torch import Tensor

from evenhand.errors import BadInputError

__all__ = ["LastHidden", "language_head", "wants_hidden"]


def wants_hidden(intervention: object) -> bool:
    """Whether an intervention's text scorer reads the language model's last hidden state."""
    return any(
        bool(getattr(part, "wants_hidden", False)) for part in (intervention, getattr(intervention, "scorer", None))
    )


class LastHidden:
    """The language model's last hidden state of the step, (rows, hidden), while it is used as a context manager.

    Read by a forward hook in front of the output head; nothing stays on the model afterwards.

    Raises:
        BadInputError: The model has no output head.
    """

    def __init__(self, model: Any) -> None:
        self._head: Any = language_head(model)
        self._handle: Any = None
        self.shown: Float[Tensor, "rows hidden"] | None = None
        if self._head is None:
            raise BadInputError(f"{type(model).__name__} has no output head; give a model that generates text.")

    def __call__(self) -> Tensor:
        """The state of the step the hook is asked about."""
        if self.shown is None:
            raise BadInputError("no step has been taken yet; ask for the hidden state while the model decodes.")
        return self.shown

    def __enter__(self) -> "LastHidden":
        self._handle = self._head.register_forward_pre_hook(self._keep)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._handle is not None:
            self._handle.remove()

    def _keep(self, module: Any, inputs: tuple[Tensor, ...]) -> None:  # noqa: ARG002  (torch's signature)
        self.shown = inputs[0][:, -1]


def language_head(model: Any) -> Any:
    """The layer that turns hidden states into logits, or None; BLIP keeps it in its text decoder."""
    parts: list[Any] = [model, getattr(model, "text_decoder", None), getattr(model, "language_model", None)]
    heads = (part.get_output_embeddings() for part in parts if hasattr(part, "get_output_embeddings"))
    return next((head for head in heads if head is not None), None)
