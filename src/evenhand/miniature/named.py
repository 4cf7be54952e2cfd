"""The miniature by name. In: what follows the name. Out: the model, or the judge of its pictures.

What the registry's ``miniature`` and ``avatars`` point to.
"""

from typing import TYPE_CHECKING

from evenhand.errors import BadInputError

if TYPE_CHECKING:
    from evenhand.miniature.judge import AvatarJudge
    from evenhand.models.unified.model import UnifiedModel
    from evenhand.records import Attribute

__all__ = ["open_avatars", "open_miniature"]


def open_miniature(
    argument: str | None = None,
    *,
    device: str = "cpu",
    guidance: float = 1.0,
    temperature: float = 1.0,
    batch_size: int = 32,
    adapter: str | None = None,
) -> "UnifiedModel":
    """``miniature``, ``miniature:decoder`` or ``miniature:even``; options are those of ``load_miniature``.

    Raises:
        UnknownNameError: No such variant.
    """
    from evenhand.miniature.model import load_miniature

    return load_miniature(
        argument or "language",
        device=device,
        guidance=guidance,
        temperature=temperature,
        batch_size=batch_size,
        adapter=adapter,
    )


def open_avatars(argument: str | None, attribute: "Attribute") -> "AvatarJudge":
    """``avatars``: what the miniature's pictures show; it reads avatars and nothing else.

    Raises:
        UnknownNameError: Another attribute than gender, skin_tone and age.
        BadInputError: It takes no argument.
    """
    from evenhand.miniature.judge import load_judge

    if argument:
        raise BadInputError(f"classifier avatars: got the argument {argument!r}; it takes none.")
    return load_judge(attribute.name)
