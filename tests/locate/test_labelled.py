"""Labelled pictures: the avatars that ship, CSV and Parquet files, FairFace's own words; nothing is opened early."""

from collections import Counter
from dataclasses import replace
from hashlib import sha256

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from evenhand.attributes import load_attribute
from evenhand.errors import ArtefactError, BadInputError, LabelsError, PictureError, TooFewSamplesError
from evenhand.locate.balance import balanced_rows
from evenhand.locate.labelled import balanced_pictures, read_labelled, strata_of
from evenhand.miniature.labelled import AVATARS, read_avatars

_GENDER = load_attribute("gender")


def _folder(tmp_path, pictures=24):
    (tmp_path / "val").mkdir()
    for i in range(pictures):
        Image.new("RGB", (4, 6), (i, 0, 0)).save(tmp_path / "val" / f"{i}.png")
    return [f"val/{i}.png" for i in range(pictures)]


def _csv(tmp_path, lines, header="file,gender"):
    path = tmp_path / "labels.csv"
    path.write_text("\n".join([header, *lines]), encoding="utf-8-sig")
    return str(path)


def test_the_avatars_are_balanced_and_all_different():
    found = read_avatars()
    cells = Counter(zip(*(found.shown[name] for name in ("gender", "skin_tone", "age")), strict=True))
    assert len(cells) == 12
    assert set(cells.values()) == {40}
    assert len({opener().tobytes() for opener in found.pictures}) == 480
    assert found.pictures[0]().size == (32, 32)
    assert AVATARS.stat().st_size < 1.5 * 2**20
    assert found.sha256 == sha256(AVATARS.read_bytes()).hexdigest()


def test_avatars_by_attribute():
    found = read_labelled("avatars", [_GENDER])
    assert Counter(facts["gender"] for facts in found.facts) == {"male": 240, "female": 240}
    assert set(strata_of(found, "gender")) == {"skin_tone=light", "skin_tone=medium", "skin_tone=dark"}
    assert set(strata_of(found, "skin_tone")) == {"gender=male", "gender=female"}
    assert len(set(found.names)) == 480
    assert found.facts == read_labelled("avatars", [_GENDER, load_attribute("race")]).facts
    with pytest.raises(LabelsError, match="got attributes race: white"):
        read_labelled("avatars", [load_attribute("race")])
    with pytest.raises(BadInputError, match="attributes: got none"):
        read_labelled("avatars", [])


def test_damaged_avatars_are_refused(tmp_path):
    broken = tmp_path / "avatars.parquet"
    broken.write_bytes(AVATARS.read_bytes()[:1000])
    with pytest.raises(ArtefactError, match="install evenhand anew"):
        read_avatars(broken)
    with pytest.raises(ArtefactError, match="install evenhand anew"):
        read_avatars(tmp_path / "none.parquet")


def test_a_csv_by_hand(tmp_path):
    files = _folder(tmp_path)
    lines = [f"{file},{'female' if i % 2 else 'male'}" for i, file in enumerate(files)]
    found = read_labelled(_csv(tmp_path, [*lines[:23], f"{files[23]},"]), [_GENDER])
    assert [facts["gender"] for facts in found.facts] == ["male", "female"] * 11 + ["male"]  # the last has no label
    assert strata_of(found, "gender") is None
    assert found.names == tuple(files[:23])
    assert found.source == "labels.csv"
    assert found.open(7).getpixel((0, 0)) == (7, 0, 0)
    assert found.sha256 == sha256((tmp_path / "labels.csv").read_bytes()).hexdigest()


def test_parquet_says_the_same(tmp_path):
    files = _folder(tmp_path)
    groups = ["female" if i % 2 else "male" for i in range(24)]
    written = _csv(
        tmp_path,
        [f"{file},{group},{i % 3}" for i, (file, group) in enumerate(zip(files, groups, strict=True))],
        "file,gender,race",
    )
    table = pa.table({"file": files, "gender": groups, "race": [i % 3 for i in range(24)], "picture": [b"x"] * 24})
    pq.write_table(table, tmp_path / "labels.parquet")
    first, second = (read_labelled(one, [_GENDER]) for one in (written, str(tmp_path / "labels.parquet")))
    assert (first.names, first.facts) == (second.names, second.facts)
    assert strata_of(first, "gender")[:4] == ("race=0", "race=1", "race=2", "race=0")
    assert [one.args for one in first.pictures] == [one.args for one in second.pictures]


def test_fairface_as_it_comes(tmp_path):
    files = _folder(tmp_path)
    kinds = ("East Asian", "Southeast Asian", "White")
    lines = [f"{file},3-9,{'Male' if i % 2 else 'Female'},{kinds[i % 3]},True" for i, file in enumerate(files)]
    source = _csv(tmp_path, lines, "file,age,gender,race,service_test")
    found = read_labelled(source, [_GENDER])
    assert found.facts[0] == {"gender": "female", "race": "East Asian"}
    assert found.facts[1]["gender"] == "male"
    race = replace(load_attribute("race"), groups=("white", "asian"))
    with pytest.raises(TooFewSamplesError, match="8 pictures of 'white'"):
        read_labelled(source, [_GENDER, race])


def test_numbers_are_fairfaces_only_in_its_own_columns(tmp_path):
    files = _folder(tmp_path)
    with pytest.raises(LabelsError, match="gender is '0'; allowed: male, female"):
        read_labelled(_csv(tmp_path, [f"{file},{i % 2}" for i, file in enumerate(files)]), [_GENDER])


def test_pictures_are_opened_when_asked_for(tmp_path):
    files = _folder(tmp_path)
    (tmp_path / files[5]).write_bytes(b"not a picture")
    found = read_labelled(
        _csv(tmp_path, [f"{f},{'female' if i % 2 else 'male'}" for i, f in enumerate(files)]), [_GENDER]
    )
    assert found.open(4).size == (4, 6)
    with pytest.raises(PictureError, match="not a pic"):
        found.open(5)


def test_balanced_pictures_by_hand():
    found = balanced_pictures(read_labelled("avatars", [_GENDER]), _GENDER, at_most=31, seed=0)
    # 31 of a group over three skin tones: 10 each.
    assert set(Counter(tuple(facts.values()) for facts in found.facts).values()) == {10}
    assert len(found.pictures) == len(found.names) == 60
    assert found.source == "avatars"


@pytest.mark.parametrize(
    ("lines", "header", "said"),
    [
        (["val/0.png,man"], "file,gender", "gender is 'man'; allowed: male, female, or empty"),
        (["val/99.png,male"], "file,gender", "'val/99.png' is no picture in the folder"),
        (["../x.png,male"], "file,gender", "is no picture in the folder"),
        (["/etc/passwd,male"], "file,gender", "is no picture in the folder"),
        (["val/0.png,male"], "path,gender", "columns path, gender; allowed: file, and gender"),
        (["val/0.png,male"], "file,sex", "columns file, sex; allowed: file, and gender"),
        (["val/0.png,male"] * 2, "file,gender", "'val/0.png' is named twice"),
        (["val/0.png"], "file,gender", "give each column once, each a value"),
        ([], "", "columns none; allowed"),
    ],
)
def test_bad_files_are_refused(tmp_path, lines, header, said):
    _folder(tmp_path, 1)
    with pytest.raises(LabelsError, match=said):
        read_labelled(_csv(tmp_path, lines, header), [_GENDER])


def test_files_that_are_none_are_refused(tmp_path):
    with pytest.raises(LabelsError, match="no such file; give avatars"):
        read_labelled(str(tmp_path / "none.csv"), [_GENDER])
    with pytest.raises(LabelsError, match="cannot be read"):
        read_labelled(str(tmp_path), [_GENDER])
    (tmp_path / "a.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(LabelsError, match="CSV in UTF-8"):
        read_labelled(str(tmp_path / "a.csv"), [_GENDER])
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(LabelsError, match="as Parquet"):
        read_labelled(str(tmp_path / "a.parquet"), [_GENDER])


def test_too_few_are_refused(tmp_path):
    files = _folder(tmp_path)
    with pytest.raises(TooFewSamplesError, match="9 pictures of 'female'; allowed: 10"):
        read_labelled(
            _csv(tmp_path, [f"{file},{'female' if i < 9 else 'male'}" for i, file in enumerate(files)]), [_GENDER]
        )


def test_rare_strata_are_left_out_where_that_keeps_more():
    # Cells of 20, 15 and 1 pictures: two strata of 15 keep 30 of each group, three of 1 would keep 3.
    cells = [("male", "light", 20), ("female", "light", 25), ("male", "dark", 15), ("female", "dark", 18)]
    cells += [("male", "odd", 1), ("female", "odd", 4)]
    labels = [group for group, _, n in cells for _ in range(n)]
    strata = [kind for _, kind, n in cells for _ in range(n)]
    rows = balanced_rows(labels, groups=("male", "female"), strata=strata, seed=0)
    kept = Counter((labels[row], strata[row]) for row in rows)
    assert kept == {(group, kind): 15 for group in ("male", "female") for kind in ("light", "dark")}
