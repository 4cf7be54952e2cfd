import io
import os
import resource
import struct
import zlib
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from evenhand.errors import PictureError
from evenhand.pictures import open_picture, preview

WHITE, BLACK, RED = (255, 255, 255), (0, 0, 0), (255, 0, 0)


def png(width: int, height: int, rows: bytes = b"") -> bytes:
    """A PNG written by hand: 8-bit grey, of any declared size."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def save(image: Image.Image, path: Path, **options: object) -> Path:
    image.save(path, **options)  # type: ignore[arg-type]
    return path


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    written = io.BytesIO()
    image.save(written, kind, **options)  # type: ignore[arg-type]
    return written.getvalue()


# By hand ------------------------------------------------------------------------------------------


def test_grey_png_written_by_hand(tmp_path):
    # Two rows of two pixels, each row behind its filter byte 0.
    path = tmp_path / "grey.png"
    path.write_bytes(png(2, 2, bytes([0, 0, 255, 0, 10, 20])))
    image = open_picture(path)
    assert image.mode == "RGB"
    assert [image.getpixel(at) for at in ((0, 0), (1, 0), (0, 1), (1, 1))] == [
        BLACK,
        WHITE,
        (10, 10, 10),
        (20, 20, 20),
    ]


@pytest.mark.parametrize(
    ("orientation", "size", "red_at"),
    # A picture 2 wide and 3 high, red in its top left corner, which 6 turns clockwise (to the top right)
    # and 8 counter-clockwise (to the bottom left).
    [
        (1, (2, 3), (0, 0)),
        (2, (2, 3), (1, 0)),
        (3, (2, 3), (1, 2)),
        (4, (2, 3), (0, 2)),
        (5, (3, 2), (0, 0)),
        (6, (3, 2), (2, 0)),
        (7, (3, 2), (2, 1)),
        (8, (3, 2), (0, 1)),
        (99, (2, 3), (0, 0)),
    ],
)
def test_exif_orientation(tmp_path, orientation, size, red_at):
    image = Image.new("RGB", (2, 3), WHITE)
    image.putpixel((0, 0), RED)
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = open_picture(save(image, tmp_path / "a.png", exif=exif))
    assert turned.size == size
    assert turned.getpixel(red_at) == RED


def test_alpha_is_laid_on_white(tmp_path):
    image = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    image.putpixel((1, 0), (255, 0, 0, 255))
    opened = open_picture(save(image, tmp_path / "a.png"))
    assert [opened.getpixel((0, 0)), opened.getpixel((1, 0))] == [WHITE, RED]


def test_half_transparent_black_is_mid_grey(tmp_path):
    # 0 * 128/255 + 255 * 127/255 = 127
    opened = open_picture(save(Image.new("RGBA", (1, 1), (0, 0, 0, 128)), tmp_path / "a.png"))
    assert opened.getpixel((0, 0)) == (127, 127, 127)


def test_transparent_palette_entry_is_white(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([0, 0, 0, 255, 0, 0])
    image.putpixel((1, 0), 1)
    opened = open_picture(save(image, tmp_path / "a.png", transparency=0))
    assert [opened.getpixel((0, 0)), opened.getpixel((1, 0))] == [WHITE, RED]


def test_16_bit_grey_is_scaled_not_clipped(tmp_path):
    # 32768 / 256 = 128; 65535 / 256 = 255.996, cut to 255
    image = Image.new("I;16", (2, 1), 32768)
    image.putpixel((1, 0), 65535)
    opened = open_picture(save(image, tmp_path / "a.png"))
    assert [opened.getpixel((0, 0)), opened.getpixel((1, 0))] == [(128, 128, 128), WHITE]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_every_png_mode_becomes_rgb(tmp_path, mode):
    assert open_picture(save(Image.new(mode, (3, 2)), tmp_path / "a.png")).mode == "RGB"


def test_cmyk_jpeg_becomes_rgb(tmp_path):
    opened = open_picture(save(Image.new("CMYK", (8, 8), (0, 0, 0, 0)), tmp_path / "a.jpg"))
    assert opened.getpixel((4, 4)) == WHITE


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_first_frame_of_an_animation(tmp_path, kind):
    frames = [Image.new("RGB", (4, 4), colour) for colour in (RED, BLACK, WHITE)]
    path = tmp_path / "a"
    path.write_bytes(encoded(frames[0], kind, save_all=True, append_images=frames[1:], lossless=True))
    assert open_picture(path).getpixel((2, 2)) == RED


def test_contents_decide_not_the_suffix(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(encoded(Image.new("RGB", (2, 2), RED), "PNG"))
    assert open_picture(str(path)).getpixel((0, 0)) == RED


# Bad files ----------------------------------------------------------------------------------------


def test_bomb_is_refused_in_bounded_memory(tmp_path):
    path = tmp_path / "bomb.png"
    path.write_bytes(png(60_000, 60_000))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(PictureError, match="too large"):
        open_picture(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB on Linux


def test_declared_size_is_checked_before_decoding(tmp_path):
    # The data is missing, so decoding would be a different error.
    path = tmp_path / "a.png"
    path.write_bytes(png(101, 100))
    with pytest.raises(PictureError, match=r"10,100 pixels; allowed: 10,000 pixels"):
        open_picture(path, max_pixels=10_000)
    with pytest.raises(PictureError, match="cannot decode"):
        open_picture(path, max_pixels=10_100)


def test_huge_file_is_refused_unread(tmp_path):
    path = tmp_path / "a.jpg"
    with path.open("wb") as file:
        file.truncate(2**40)  # sparse
    with pytest.raises(PictureError, match="too large: got 1,099,511,627,776 bytes"):
        open_picture(path)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_truncated(tmp_path, kind):
    whole = encoded(Image.effect_noise((64, 64), 90).convert("RGB"), kind)
    path = tmp_path / "a"
    for share in (0.1, 0.5, 0.9):
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(PictureError):
            open_picture(path)


@pytest.mark.parametrize(
    "start",
    [
        b"GIF89a" + bytes(40),
        b"SIMPLE  =                    T",
        b"%!PS-Adobe-3.0 EPSF-3.0\n",
        b"%PDF-1.7\n",
        b"",
    ],
)
def test_other_formats_under_a_png_suffix(tmp_path, start):
    path = tmp_path / "a.png"
    path.write_bytes(start)
    with pytest.raises(PictureError, match="allowed: JPEG, PNG, WEBP"):
        open_picture(path)


def test_long_gif_is_refused_by_its_first_bytes(tmp_path):
    frames = [Image.new("L", (4, 4), shade % 256) for shade in range(300)]
    path = save(frames[0], tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    with pytest.raises(PictureError, match="GIF8"):
        open_picture(path)


def test_format_list_is_the_callers(tmp_path):
    path = save(Image.new("RGB", (2, 2)), tmp_path / "a.png")
    with pytest.raises(PictureError, match="allowed: JPEG;"):
        open_picture(path, formats=("JPEG",))


def test_missing_folder_pipe_and_impossible_names(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (tmp_path / "absent.png", tmp_path, pipe, "nul\0.png", "x" * 300, tmp_path / ("y" * 300)):
        with pytest.raises(PictureError, match="cannot open picture"):
            open_picture(path)


def test_name_cannot_write_to_the_terminal(tmp_path):
    with pytest.raises(PictureError) as caught:
        open_picture(tmp_path / "\x1b[31m.png")
    assert "\x1b" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_broken_exif_turns_nothing(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(encoded(Image.new("RGB", (4, 2), RED), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff"))
    assert open_picture(path).size == (4, 2)


SEEDS = [encoded(Image.linear_gradient("L").resize((20, 12)).convert("RGB"), kind) for kind in ("JPEG", "PNG", "WEBP")]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(SEEDS),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=9),
)
def test_damaged_bytes_open_or_raise_picture_error(tmp_path, whole, changes):
    damaged = bytearray(whole)
    for where, value in changes:
        damaged[int(where * len(damaged))] = value
    path = tmp_path / "a"
    path.write_bytes(damaged)
    with suppress(PictureError):
        assert open_picture(path, max_pixels=10**6).mode == "RGB"


# Previews -----------------------------------------------------------------------------------------


def test_preview_fits_the_square_and_keeps_the_ratio(tmp_path):
    # 1000 x 500 into 320: 320 x 160
    path = save(Image.new("RGB", (1000, 500), RED), tmp_path / "a.png")
    small = Image.open(io.BytesIO(preview(path)), formats=["JPEG"])
    assert small.size == (320, 160)
    red, green, blue = small.getpixel((160, 80))
    assert red > 245
    assert max(green, blue) < 10


def test_preview_does_not_enlarge():
    assert Image.open(io.BytesIO(preview(Image.new("RGB", (10, 5))))).size == (10, 5)


def test_preview_keeps_a_line_of_one_pixel():
    assert Image.open(io.BytesIO(preview(Image.new("RGB", (5000, 1))))).size == (320, 1)


def test_preview_is_deterministic_leaves_its_input_and_writes_no_exif(tmp_path):
    image = Image.effect_noise((500, 400), 90)
    before = image.tobytes()
    first = preview(image)
    assert first == preview(image)
    assert (image.tobytes(), image.size) == (before, (500, 400))
    exif = Image.Exif()
    exif[0x010E] = "where it was taken"
    assert b"taken" not in preview(save(image, tmp_path / "a.jpg", exif=exif))


def test_preview_of_a_broken_file(tmp_path):
    with pytest.raises(PictureError):
        preview(tmp_path / "absent.png")
