"""Labels by people: votes by hand, disagreement counted, files that are refused."""

from hashlib import sha256

import pytest
from pictures_of import drawn, plain, png

from evenhand.attributes import load_attribute
from evenhand.classify.pictures.people import Agreement, PeopleLabels
from evenhand.errors import BadInputError, LabelsError
from evenhand.records import Sample

GENDER = load_attribute("gender")
HEAD = "prompt_id,k,attribute,group,rater\n"


@pytest.fixture
def csv(tmp_path):
    def csv(text: str | bytes, name="labels.csv"):
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return tmp_path / name

    return csv


def votes(*rows, attribute="gender"):
    return HEAD + "".join(f"{prompt},{k},{attribute},{said},{rater}\n" for prompt, k, said, rater in rows)


def test_votes_by_hand(csv):
    people = PeopleLabels(
        csv(
            votes(
                *(("p", 0, "male", "a"), ("p", 0, "male", "b"), ("p", 0, "female", "c")),  # 2 of 3
                *(("p", 1, "male", "a"), ("p", 1, "female", "b")),  # 1 of 2 is not more than half
                *(("p", 2, "no face", "a"), ("p", 2, "no face", "b")),
                ("p", 3, "female", "a"),
            )
        ),
        GENDER,
    )
    pictures = [plain(k) for k in range(5)]
    labels = people.label((*drawn(*pictures), Sample("p", 0, 9, None, error="Timeout: gone")))
    assert [(one.group, one.reason) for one in labels] == [
        ("male", None),
        (None, "uncertain"),
        (None, "no face"),
        ("female", None),
        (None, "unlabelled"),
        (None, "error"),
    ]
    assert [one.confidence for one in labels] == pytest.approx([2 / 3, 1 / 2, 1, 1, 0, 0])
    # Pairs alike: 1 of 3, 0 of 1, 1 of 1; picture 3 has one rater.
    told = people.agreement()
    assert (told.pictures, told.several, told.disagreed) == (4, 3, 2)
    assert told.alike == pytest.approx((1 / 3 + 0 + 1) / 3)


def test_one_rater_says_nothing_about_agreement(csv):
    assert PeopleLabels(csv(votes(("p", 0, "male", "a"))), GENDER).agreement() == Agreement(1, 0, 0, None)


def test_pictures_are_found_by_their_bytes(csv, tmp_path):
    for name, red in (("a", 10), ("b", 20)):
        (tmp_path / f"{name}.png").write_bytes(png(plain(red)))
    people = PeopleLabels(csv("file,attribute,group,rater\na.png,gender,male,x\nb.png,gender,female,x\n"), GENDER)
    samples = drawn(plain(20), plain(10), prompt="any")
    assert [label.group for label in people.label(samples)] == ["female", "male"]
    on_disk = Sample("any", 5, 5, None, image_sha256=sha256(png(plain(20))).hexdigest())
    assert people.label([on_disk])[0].group == "female"


def test_rows_of_other_attributes_are_others(csv):
    text = votes(("p", 0, "male", "a")) + "p,0,race,asian,a\n"
    assert PeopleLabels(csv(text), GENDER).label(drawn(plain()))[0].group == "male"
    assert PeopleLabels(csv(text), load_attribute("race")).label(drawn(plain()))[0].group == "asian"


def test_labels_of_another_run_are_refused(csv):
    people = PeopleLabels(csv(votes(("q", 0, "male", "a"))), GENDER)
    with pytest.raises(BadInputError, match="give the labels of this run"):
        people.label(drawn(plain()))
    assert people.label(()) == ()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (votes(("p", 0, "man", "a")), "line 2: group 'man'"),
        (votes(("p", 0, "male", "a"), ("p", 0, "male", "a")), "line 3: rater 'a'"),
        (votes(("p", 0, "male", "")), "line 2: rater ''"),
        (votes(("p", "x", "male", "a")), "line 2: k is 'x'"),
        (votes(("p", 0, "young", "a"), attribute="age"), "no row is about gender"),
        (HEAD, "no row is about gender"),
        ("", "needs attribute"),
        ("attribute,group,rater\ngender,male,a\n", "needs attribute"),
        (HEAD + "p,0,gender\n", "line 2: more or fewer"),
        (b"prompt_id,k,attribute,group,rater\np\xe4,0,gender,male,a\n", "UTF-8"),
        ("file,attribute,group,rater\nabsent.png,gender,male,a\n", "line 2: 'absent.png' is no picture"),
        ("file,attribute,group,rater\n../labels.csv,gender,male,a\n", "is no picture"),
        ("file,attribute,group,rater\n/etc/passwd,gender,male,a\n", "is no picture"),
        ("file,attribute,group,rater\n,gender,male,a\n", "is no picture"),
        (HEAD + '"' + "x" * 200_000 + '",0,gender,male,a\n', "CSV"),
    ],
)
def test_files_that_are_refused(csv, text, says):
    with pytest.raises(LabelsError) as caught:
        PeopleLabels(csv(text), GENDER)
    assert says in str(caught.value)


def test_an_absent_file(tmp_path):
    with pytest.raises(LabelsError, match="no such file"):
        PeopleLabels(tmp_path / "none.csv", GENDER)
