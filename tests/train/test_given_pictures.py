"""Pictures from a folder: what is read, confirmed, encoded and kept; and every row that is refused."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from evenhand.attributes import load_attribute
from evenhand.errors import BadInputError, ChangedRunError, LabelsError, PictureError, TooFewSamplesError
from evenhand.miniature.labelled import read_avatars
from evenhand.miniature.model import load_miniature
from evenhand.mitigate.bpo.tuples import read_tuples
from evenhand.mitigate.sampling.targets import read_target
from evenhand.models.servers.replies import Reply
from evenhand.pipeline.plans import ReadBy
from evenhand.train.data import make_balanced_data
from evenhand.train.given_pictures import read_given
from evenhand.train.wordings import Rewording

GENDER, TONE = load_attribute("gender"), load_attribute("skin_tone")
READ_BY = (ReadBy(GENDER, "avatars"),)
TARGET = read_target("even", [GENDER])
HEADER = "file,occupation,gender"


@pytest.fixture(scope="module")
def miniature():
    return load_miniature()


@pytest.fixture(scope="module")
def avatars():
    """Two pictures of each gender, as PNG files' bytes."""
    found = read_avatars()
    picked = {group: [] for group in GENDER.groups}
    for picture, group, tone in zip(found.pictures, found.shown["gender"], found.shown["skin_tone"], strict=True):
        if tone == "light" and len(picked[group]) < 2:
            written = io.BytesIO()
            picture().save(written, "PNG")
            picked[group].append(written.getvalue())
    return picked


@pytest.fixture
def folder(avatars, tmp_path):
    (tmp_path / "in").mkdir()
    for group, pictures in avatars.items():
        for number, content in enumerate(pictures):
            (tmp_path / "in" / f"{group}{number}.png").write_bytes(content)
    return tmp_path / "in"


def listed(folder, *lines, header=HEADER):
    (folder / "list.csv").write_text("\n".join([header, *lines]) + "\n")
    return folder / "list.csv"


FOUR = [f"{group}{k}.png,nurse,{group}" for k in range(2) for group in ("male", "female")]


def made(miniature, folder, out, *lines, header=HEADER, **given):
    return make_balanced_data(
        miniature, READ_BY, out, pictures_from=listed(folder, *lines, header=header), min_confidence=0.5, **given
    )


def test_confirmed_pictures_are_paired_and_encoded_by_the_model(miniature, folder, tmp_path, avatars):
    wrong = "male1.png,nurse,female"  # asked for one, shows the other
    found = made(miniature, folder, tmp_path / "d", *FOUR[:2], wrong, FOUR[3], keep_pictures=True)
    assert [(one.group, one.asked, one.kept, dict(one.instead)) for one in found.groups] == [
        ("male", 1, 1, {}),
        ("female", 3, 2, {"male": 1}),
    ]
    assert (found.tuples, found.prompts, found.failed) == (1, 1, 0)
    (one,) = read_tuples(tmp_path / "d", pictures=True).tuples
    assert (one.prompt_id, one.source) == ("nurse/neutral", "folder")
    assert one.prompt == "a photo of the face of a nurse, a person"
    assert one.asked == (
        "a photo of the face of a male nurse, a person",
        "a photo of the face of a female nurse, a person",
    )
    for group, codes, kept in zip(GENDER.groups, one.codes, one.images, strict=True):
        original = Image.open(io.BytesIO(avatars[group][0]))
        assert np.array_equal(codes, miniature.encode([original])[0].numpy())
        assert Image.open(io.BytesIO(kept)).tobytes() == original.tobytes()


def test_parquet_templates_and_a_picture_that_changed(miniature, folder, tmp_path):
    rows = {"file": ["male0.png", "female0.png"], "occupation": ["nurse"] * 2, "gender": ["male", "female"]}
    rows["template"] = ["an oil painting of a {group} {occupation}"] * 2
    pq.write_table(pa.table(rows), folder / "list.parquet")
    options = {"pictures_from": folder / "list.parquet", "min_confidence": 0.5}
    make_balanced_data(miniature, READ_BY, tmp_path / "d", **options)
    (one,) = read_tuples(tmp_path / "d").tuples
    assert one.prompt == "an oil painting of a nurse"
    assert one.asked == ("an oil painting of a male nurse", "an oil painting of a female nurse")
    # Labels are kept by the picture's own bytes: another picture under the same name is read anew.
    (folder / "female0.png").write_bytes((folder / "male1.png").read_bytes())
    with pytest.raises(TooFewSamplesError, match=r"list.parquet row 2 \('female0.png'\) was asked to show female"):
        make_balanced_data(miniature, READ_BY, tmp_path / "d", **options)


def test_every_wording_is_of_all_pictures_of_a_tuple(miniature, folder, tmp_path):
    class Server:
        name, settings = "toy", {"model": "toy"}

        def ask(self, question, seed):
            return Reply("text", text='["a portrait of a {occupation}"]')

    found = made(miniature, folder, tmp_path / "d", *FOUR, rewording=Rewording(1, Server()))
    told = read_tuples(tmp_path / "d").tuples
    assert [one.prompt for one in told] == ["a photo of the face of a nurse, a person"] * 2 + [
        "a portrait of a nurse"
    ] * 2
    assert np.array_equal(told[0].codes, told[2].codes)
    assert told[2].asked == ("a portrait of a male nurse", "a portrait of a female nurse")
    assert (found.tuples, found.prompts) == (4, 2)


@pytest.mark.parametrize(
    ("lines", "header", "kind", "said"),
    [
        (["x.png,nurse,male"], HEADER, LabelsError, r"list.csv row 1 \('x.png'\): .*no picture in the folder"),
        ([FOUR[0], "../a.png,nurse,male"], HEADER, LabelsError, r"row 2 .*no picture in the folder"),
        (["/etc/passwd,nurse,male"], HEADER, LabelsError, "row 1 .*no picture in the folder"),
        (["C:\\a.png,nurse,male"], HEADER, LabelsError, "row 1 .*no picture in the folder"),
        ([FOUR[0], "female0.png,nurse,woman"], HEADER, LabelsError, "row 2 .*gender is 'woman'; allowed: male, female"),
        (["male0.png,nurse,"], HEADER, LabelsError, "row 1 .*gender is ''; allowed"),
        ([FOUR[0], FOUR[0]], HEADER, LabelsError, "row 2 .*stands in list.csv row 1 .*already"),
        ([FOUR[0], "./male0.png,cook,male"], HEADER, LabelsError, "row 2 .*stands in list.csv row 1 .*already"),
        (["male0.png,Held,male"], HEADER, BadInputError, "row 1 .*'Held' is held out by --leave-out"),
        (["male0.png,,male"], HEADER, BadInputError, "row 1 .*give an occupation"),
        (["male0.png,nurse,male,a job"], f"{HEADER},template", BadInputError, "row 1 .*needs the place {occupation}"),
        (["male0.png,nurse"], "file,occupation", LabelsError, "without gender; allowed: file, occupation, gender"),
        (["male0.png,male"], "file,gender", LabelsError, "without occupation"),
        ([], HEADER, LabelsError, "got no row"),
    ],
)
def test_rows_that_are_refused(folder, lines, header, kind, said):
    with pytest.raises(kind, match=said):
        read_given(listed(folder, *lines, header=header), TARGET, held_out={"held"})


def test_a_picture_that_cannot_be_read_names_its_row(folder):
    (folder / "male0.png").write_bytes(b"no picture")
    found = read_given(listed(folder, *FOUR), TARGET)
    assert [one.image for one in found.samples()] == [None] * 4
    with pytest.raises(PictureError, match=r"list.csv row 1 \('male0.png'\): cannot open picture"):
        found.samples(pictures=True)


def test_groups_of_several_attributes_are_crossed(folder):
    lines = ["male0.png,nurse,male,dark", "female0.png,nurse,female,light"]
    found = read_given(listed(folder, *lines, header=f"{HEADER},skin_tone"), read_target("even", [GENDER, TONE]))
    assert [one.prompt_id for one in found.samples()] == ["nurse/neutral/male x dark", "nurse/neutral/female x light"]


def test_what_excludes_it(miniature, folder, tmp_path):
    for given in ({"source": miniature}, {"pictures": 2}, {"data": "test"}):
        with pytest.raises(BadInputError, match="--pictures-from: got --"):
            made(miniature, folder, tmp_path / "d", *FOUR, **given)
    with pytest.raises(LabelsError, match="no such file; give --pictures-from"):
        make_balanced_data(miniature, READ_BY, tmp_path / "d", pictures_from=folder / "none.csv")
    (tmp_path / "d" / "drawn").mkdir(parents=True)
    with pytest.raises(ChangedRunError, match="holds pictures that were drawn"):
        made(miniature, folder, tmp_path / "d", *FOUR)
    (tmp_path / "e" / "read").mkdir(parents=True)
    with pytest.raises(ChangedRunError, match="its pictures came from a file"):
        make_balanced_data(miniature, READ_BY, tmp_path / "e")
