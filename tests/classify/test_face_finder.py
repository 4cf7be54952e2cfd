"""The cascade: its parts by hand, an independent count of its weights, what is refused, and pictures."""

import threading
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from evenhand.classify.face_finder import WEIGHTS, FaceFinder, _cells, _crops, _moved, _squares, _suppress
from evenhand.errors import ArtefactError, BadInputError

needs_people = pytest.mark.skipif(find_spec("openpeople") is None, reason="openpeople is not installed (extra `demo`)")


def portrait(side):
    folder = Path(find_spec("openpeople").submodule_search_locations[0], "data", "curated", "P001", "assets")
    with Image.open(folder / "studio_portrait.jpg") as opened:
        return opened.convert("RGB").resize((side, side))


def test_the_weights_are_those_of_the_published_networks():
    # Zhang et al. 2016, figure 2, kernel x kernel x in x out + biases + PReLUs.
    # P: 3*3*3*10+20 + 3*3*10*16+32 + 3*3*16*32+64 + 32*2+2 + 32*4+4 = 6,632
    # R: 3*3*3*28+56 + 3*3*28*48+96 + 2*2*48*64+128 + 576*128+256 + 128*6+6 = 100,178 and O: 389,040
    stored = load_file(WEIGHTS)
    counts = {net: sum(value.numel() for name, value in stored.items() if name[0] == net) for net in "pro"}
    assert counts == {"p": 6632, "r": 100178, "o": 389040}
    assert WEIGHTS.stat().st_size < 2_000_000


def test_overlap_by_hand():
    # a and b: common 5 x 10 = 50, union 150, so 1/3; c lies in a: 25 of 100 in all, but all of the smaller.
    boxes = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [0, 0, 5, 5]], dtype=float)
    scores = np.array([0.7, 0.9, 0.8], dtype=np.float32)
    assert _suppress(boxes, scores, 0.34).tolist() == [1, 2, 0]
    assert _suppress(boxes, scores, 0.30).tolist() == [1, 2]  # a overlaps b by 1/3
    assert _suppress(boxes, scores, 0.9, of_smaller=True).tolist() == [1, 2]  # a holds all of c
    assert _suppress(np.zeros((0, 4)), np.zeros(0, np.float32), 0.5).tolist() == []


def test_squares_and_moves_by_hand():
    # 4 wide, 10 high around (12, 25): a square of 10 is 7 20 17 30. A tenth of 10 to the right is one pixel.
    square = _squares(np.array([[10.0, 20.0, 14.0, 30.0]]))
    assert square.tolist() == [[7, 20, 17, 30]]
    moved = _moved(square, np.array([[0.1, 0, 0, -0.2]], dtype=np.float32))
    np.testing.assert_allclose(moved, [[8, 20, 17, 28]], rtol=1e-6)


def test_a_cell_lies_where_the_network_looked():
    # Row 1, column 2 with stride 2: the corner is (4, 2) of the level, 12 pixels wide. One pixel of the level is 3
    # across and 2 down in the picture: 12 4 48 28.
    face, shift = np.zeros((3, 4), np.float32), np.zeros((4, 3, 4), np.float32)
    face[1, 2] = 0.9
    boxes, scores = _cells(face, shift, 0.5, np.array([3.0, 2.0, 3.0, 2.0]))
    assert boxes.tolist() == [[12, 4, 48, 28]]
    assert scores.tolist() == [np.float32(0.9)]


def test_outside_the_picture_is_black():
    # The left half of the box lies outside a white picture.
    (crop,) = _crops(Image.new("RGB", (40, 40), "white"), np.array([[-24.0, 0.0, 24.0, 48.0]]), 24)
    pixels = np.asarray(crop)[:16]
    assert pixels[:, :10].max() == 0
    assert pixels[:, 14:].min() == 255


@pytest.mark.parametrize("smallest", [0.0, 0.01, 0.6, float("nan")])
def test_smallest_out_of_range(smallest):
    with pytest.raises(BadInputError, match="smallest"):
        FaceFinder().find(Image.new("RGB", (64, 64)), smallest=smallest)


@pytest.mark.parametrize("sure", [(0.5, 0.5), (0.5, 0.5, 1.0), (0.0, 0.5, 0.5), (0.5, float("nan"), 0.5)])
def test_scores_out_of_range(sure):
    with pytest.raises(BadInputError, match="sure"):
        FaceFinder(sure=sure)


@pytest.mark.parametrize("told", [0.0, 1.1, float("nan")])
def test_told_out_of_range(told):
    with pytest.raises(BadInputError, match="told"):
        FaceFinder(told=told)


def test_bad_weights_are_refused(tmp_path):
    stored = load_file(WEIGHTS)
    for name, change in {
        "absent": None,
        "short": {k: v for k, v in stored.items() if k != "p.body.0.bias"},
        "shape": stored | {"p.body.0.bias": torch.zeros(11)},
        "nan": stored | {"p.body.0.bias": torch.full((10,), torch.nan)},
    }.items():
        path = tmp_path / f"{name}.safetensors"
        if change is not None:
            save_file(change, path)
        with pytest.raises(ArtefactError):
            FaceFinder(weights=path)
    (tmp_path / "text.safetensors").write_text("not tensors")
    with pytest.raises(ArtefactError, match="safetensors"):
        FaceFinder(weights=tmp_path / "text.safetensors")


@pytest.mark.parametrize("size", [(300, 200), (1000, 1), (5, 5), (1, 1)])
@pytest.mark.parametrize("colour", ["black", "white", "grey"])
def test_a_blank_picture_shows_nobody(size, colour):
    assert FaceFinder().find(Image.new("RGB", size, colour), smallest=0.08) == ()


@needs_people
def test_the_face_is_found_where_it_is_put():
    # The same portrait at 160 pixels, pasted into grey: shifting the picture shifts what is found by as much.
    finder, face = FaceFinder(), portrait(160)
    found = []
    for left, top in ((40, 30), (200, 110)):
        canvas = Image.new("RGB", (400, 300), "grey")
        canvas.paste(face, (left, top))
        (one,) = finder.find(canvas, smallest=0.08)
        x, y = np.array(one.points).T
        assert x[0] < x[2] < x[1]  # nose between the eyes
        assert max(y[:2]) < y[2] < min(y[3:])  # eyes above the nose, the mouth below
        left_edge, upper, right_edge, lower = one.box
        assert left < left_edge < x.min()
        assert x.max() < right_edge < left + 160
        assert upper < y.min()
        assert y.max() < lower
        found.append(np.array(one.points))
    assert np.abs(found[1] - found[0] - [160, 80]).max() < 3  # pixels


@needs_people
def test_what_is_told_need_not_be_sure():
    face = portrait(160)
    (sure,) = FaceFinder().find(face, smallest=0.1)
    assert 0.9 <= sure.score < 1
    above = (0.7, 0.7, (1 + sure.score) / 2)
    assert FaceFinder(sure=above).find(face, smallest=0.1) == ()
    assert replace(sure, sure=False) in FaceFinder(sure=above, told=0.9).find(face, smallest=0.1)
    assert FaceFinder(told=0.95).find(face, smallest=0.1) == (sure,)  # what is sure is told whatever `told` is


@needs_people
def test_threads_agree_with_one():
    pictures = [portrait(side) for side in (120, 160, 200, 240)]
    finder = FaceFinder()
    alone = [finder.find(one, smallest=0.1) for one in pictures]
    together = [[], []]

    def work(k):
        together[k] = [finder.find(one, smallest=0.1) for one in pictures]

    threads = [threading.Thread(target=work, args=(k,)) for k in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == [alone, alone]
    assert all(alone)
