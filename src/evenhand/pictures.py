"""Pictures from files nobody vouches for. In: a path. Out: an upright RGB picture, or the JPEG of a preview.

Only listed formats are opened, the declared size is checked before a pixel is decoded, and whatever is wrong
with a file is one ``PictureError``.
"""

import io
import stat
import struct
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from evenhand.errors import PictureError

__all__ = ["MAX_PIXELS", "decode_picture", "open_picture", "preview"]

MAX_PIXELS = 50_000_000
"""Largest width times height that is opened unless something else is said."""

_UNREADABLE = (
    OSError,  # truncated data, and most decoder errors
    SyntaxError,  # broken PNG chunks
    ValueError,  # oversized text chunks, bad colour profiles
    TypeError,  # fields of an unexpected kind
    IndexError,
    KeyError,
    EOFError,
    OverflowError,
    struct.error,  # short headers
    MemoryError,
    Image.DecompressionBombError,
    Warning,  # where the caller turns warnings into errors
)
_ORIENTATION_TAG = 0x0112  # EXIF 2.32, tag Orientation
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# 16-bit RGBA, uncompressed, is the largest an honest file gets; the rest is room for metadata.
_BYTES_PER_PIXEL = 8
_METADATA_BYTES = 16 * 2**20


def open_picture(
    path: str | PathLike[str],
    *,
    max_pixels: int = MAX_PIXELS,
    formats: Sequence[str] = ("JPEG", "PNG", "WEBP"),
) -> Image.Image:
    """The first frame of a picture file: RGB, 8 bits a channel, turned upright, transparency laid on white.

    The same file gives the same pixels with the same Pillow. An EXIF block that cannot be parsed turns
    nothing.

    Args:
        path: A file on this machine; never fetched from anywhere.
        max_pixels: Largest width times height, as declared in the header.
        formats: Pillow's names of the formats allowed; the file's contents decide, not its suffix.

    Raises:
        PictureError: Missing, not a regular file, of another format, too large, or broken; the message says
            which.
    """
    _check_file(path, max_pixels)
    try:
        with Image.open(path, formats=list(formats)) as image:
            pixels = image.width * image.height
            if pixels <= max_pixels:
                return _to_rgb(_turn_upright(image))
    except UnidentifiedImageError as error:
        raise PictureError(
            f"cannot open picture {str(path)!r}: got a file that starts with {_first_bytes(path)!r}; "
            f"allowed: {', '.join(formats)}; do: convert the picture, or leave it out"
        ) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(path, str(error), max_pixels) from error
    except _UNREADABLE as error:
        raise PictureError(
            f"cannot decode picture {str(path)!r}: got {type(error).__name__}: {error}; "
            f"allowed: a whole {', '.join(formats)} file; do: replace the file, or leave it out"
        ) from error
    raise _too_large(path, f"{pixels:,} pixels", max_pixels)


def decode_picture(content: bytes, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """The RGB picture of a PNG file's bytes, as a model drew it.

    Args:
        content: The file.
        max_pixels: Largest width times height, as declared in the header.

    Raises:
        PictureError: They are not a PNG, are broken, or are of too many pixels.
    """
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            pixels = image.width * image.height
            if pixels <= max_pixels:
                return _to_rgb(image)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise PictureError(f"picture: {error}; allowed: {max_pixels:,} pixels; draw smaller ones.") from error
    except _UNREADABLE as error:
        raise PictureError(f"picture cannot be decoded: {error}; draw it again.") from error
    raise PictureError(f"picture of {pixels:,} pixels; allowed: {max_pixels:,}; draw smaller ones.")


def preview(path_or_image: str | PathLike[str] | Image.Image, *, side: int = 320, quality: int = 80) -> bytes:
    """JPEG bytes of a picture that fits into a square; a smaller picture keeps its size.

    The same picture gives the same bytes with the same Pillow. No EXIF block is written.

    Args:
        path_or_image: A file for ``open_picture``, or a picture; the picture is not modified.
        side: Side of the square in pixels, at least 1.
        quality: JPEG quality, 1 to 95.

    Raises:
        PictureError: As ``open_picture``.
    """
    image = path_or_image if isinstance(path_or_image, Image.Image) else open_picture(path_or_image)
    small = _to_rgb(image)
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    written = io.BytesIO()
    small.save(written, "JPEG", quality=quality, optimize=False, progressive=False)
    return written.getvalue()


def _check_file(path: str | PathLike[str], max_pixels: int) -> None:
    # Before opening: reading from a pipe or a device may never end.
    try:
        found = Path(path).stat()
        got = None if stat.S_ISREG(found.st_mode) else "a folder, pipe or device"
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        got = str(error)
    if got is not None:
        raise PictureError(
            f"cannot open picture {str(path)!r}: got {got}; allowed: a file that can be read; "
            "do: check the path, or leave it out"
        )
    size = found.st_size
    if size > _BYTES_PER_PIXEL * max_pixels + _METADATA_BYTES:
        raise _too_large(path, f"{size:,} bytes", max_pixels)


def _too_large(path: str | PathLike[str], got: str, max_pixels: int) -> PictureError:
    return PictureError(
        f"picture {str(path)!r} is too large: got {got}; allowed: {max_pixels:,} pixels; "
        "do: scale it down, or raise max_pixels if you trust the file"
    )


def _first_bytes(path: str | PathLike[str]) -> bytes:
    with Path(path).open("rb") as file:
        return file.read(12)


def _turn_upright(image: Image.Image) -> Image.Image:
    image.load()
    try:
        orientation = image.getexif().get(_ORIENTATION_TAG)
    except _UNREADABLE:
        return image
    turn = _UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    return image if turn is None else image.transpose(turn)


def _to_rgb(image: Image.Image) -> Image.Image:
    """A copy in RGB; Pillow would clip 16-bit greys to white and drop transparency."""
    if image.mode.startswith("I"):
        image = image.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB") if image.mode != "RGB" else image.copy()
