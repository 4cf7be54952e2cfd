"""A linear signal: fitted on pictures of known colour, stored, read back, refused; labels in both layouts."""

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from evenhand.attributes import load_attribute
from evenhand.classify.calibration import FitReport
from evenhand.classify.encodings import Encoding
from evenhand.classify.pictures.encoder import FeatureEncoder
from evenhand.classify.pictures.labelled import labelled_pictures
from evenhand.errors import ArtefactError, BadInputError, LabelsError, TooFewSamplesError
from evenhand.mitigate.ala.picture.fit import fit_picture_signal
from evenhand.mitigate.ala.picture.linear import LinearReading, LinearSignal, load_picture_signal
from evenhand.mitigate.ala.signals import PictureSignal
from evenhand.records import Claim

pytest.importorskip("sklearn", reason="scikit-learn is not installed (extra `hf`)")
GENDER = load_attribute("gender")
RACE = load_attribute("race")
GOOD = FitReport(accuracy=0.9, ece=0.02, temperature=2.0, train=60, held_out=20, majority=0.5, calibration=20)


@dataclass
class MeanColour:
    """An encoder whose features can be read off a picture: mean red, green and blue in [0, 1]."""

    name: str = "mean-colour"
    feature_dim: int = 3

    def encode(self, pictures):
        return torch.tensor(
            np.array([np.asarray(one).reshape(-1, 3).mean(0) / 255 for one in pictures]), dtype=torch.float32
        )


def paint(folder, name, colour):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), tuple(int(c) for c in colour)).save(path)


def labelled_folder(folder, *, n=200, noise=40, seed=0):
    """Pictures of `male` are redder, of `female` bluer; ``noise`` makes some of them wrong."""
    rng = np.random.default_rng(seed)
    rows = ["file,gender"]
    for i in range(n):
        group = GENDER.groups[i % 2]
        shift = 40 if group == "male" else -40
        red, blue = np.clip([128 + shift + rng.normal() * noise, 128 - shift + rng.normal() * noise], 0, 255)
        paint(folder, f"p/{i}.png", (red, i % 256, blue))
        rows.append(f"p/{i}.png,{group}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fit")
    data = labelled_folder(folder / "data")
    report = fit_picture_signal(
        data, features=MeanColour(), attribute=GENDER, out=folder / "signal", seed=3, accuracy=0.99
    )
    return folder / "signal", report, data


def picture(red, blue):
    return lambda: Image.new("RGB", (8, 8), (red, 100, blue))


def test_shares_by_hand():
    # W rows (1, 0, 0) and (0, 0, 1), b = (0, 0.2), T = 2: red 1 and blue 0 give logits 1 and 0.2, so
    # s = tanh((1 - 0.2) / 2 / 2) = tanh(0.2).
    weight = torch.tensor([[1.0, 0, 0], [0, 0, 1.0]])
    reading = LinearReading("gender", GENDER.groups, "mean-colour", weight, torch.tensor([0.0, 0.2]), 0.1, 0.9, GOOD, 0)
    said = LinearSignal(reading, MeanColour(), GENDER).claim(picture(255, 0))
    assert said.s == pytest.approx(np.tanh(0.2), abs=1e-6)
    assert said.shares == pytest.approx(((1 + np.tanh(0.2)) / 2, (1 - np.tanh(0.2)) / 2), abs=1e-6)
    assert LinearSignal(reading, MeanColour(), GENDER, certain=0.5).claim(picture(255, 0)) == Claim(None, "uncertain")
    assert LinearSignal(reading, MeanColour(), GENDER, sharpen=True).claim(picture(255, 0)).s == 1.0


def test_fitted_signal_is_right_where_it_claims(fitted):
    folder, report, _ = fitted
    # Red minus blue is +-80 with noise of 40 * sqrt(2): a Bayes accuracy of Phi(80 / 56.6) = 0.921.
    assert 0.8 < report.accuracy <= 1
    assert report.train + report.calibration + report.held_out == 200
    signal = load_picture_signal(folder, features=MeanColour(), attribute=GENDER)
    assert isinstance(signal, PictureSignal)
    assert isinstance(MeanColour(), FeatureEncoder)
    assert signal.claim(picture(230, 30)).s > 0.8
    assert signal.claim(picture(30, 230)).s < -0.8
    assert signal.claim(picture(128, 128)) == Claim(None, "uncertain")
    json.dumps(signal.settings)


def test_the_same_seed_writes_the_same_bytes(fitted, tmp_path):
    folder, report, data = fitted
    again = fit_picture_signal(
        data, features=MeanColour(), attribute=GENDER, out=tmp_path / "again", seed=3, accuracy=0.99
    )
    assert again == report
    for name in ("signal.json", "signal.safetensors", "README.md"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


def test_what_was_stored_is_scikit_learns_own_answer(fitted):
    # An independent reading of the stored numbers: odds from W and b are scikit-learn's on standardised features.
    from sklearn.linear_model import LogisticRegression

    folder, _, data = fitted
    train = [one for one in labelled_pictures(data, GENDER, seed=3) if one.part == "train"]
    features = MeanColour().encode([Image.open(one.file) for one in train]).double().numpy()
    scaled = (features - features.mean(0)) / features.std(0)
    odds = LogisticRegression(max_iter=1000).fit(scaled, [one.group for one in train]).decision_function(scaled)
    stored = load_file(folder / "signal.safetensors")
    logits = torch.from_numpy(features).float() @ stored["weight"].T + stored["bias"]
    np.testing.assert_allclose((logits[:, 1] - logits[:, 0]).numpy(), odds, atol=1e-4)


def test_labels_that_mean_nothing_are_refused(tmp_path):
    data = labelled_folder(tmp_path / "data", n=60)
    rows = (data / "labels.csv").read_text().splitlines()
    shuffled = [
        f"{row.split(',')[0]},{GENDER.groups[k]}"
        for k, row in zip(np.random.default_rng(1).integers(0, 2, 60), rows[1:], strict=True)
    ]
    (data / "labels.csv").write_text("\n".join([rows[0], *shuffled]))
    with pytest.raises(ArtefactError):
        fit_picture_signal(data, features=MeanColour(), attribute=GENDER, out=tmp_path / "out", seed=0)
    assert not (tmp_path / "out").exists()


def test_a_group_without_pictures_is_refused(tmp_path):
    data = labelled_folder(tmp_path / "data", n=8)
    with pytest.raises(TooFewSamplesError, match="has none of"):
        fit_picture_signal(data, features=MeanColour(), attribute=GENDER, out=tmp_path / "out", seed=0)


def change(folder, tmp_path, *, record=None, tensors=None):
    out = tmp_path / "changed"
    out.mkdir()
    stored = json.loads((folder / "signal.json").read_text())
    save_file(load_file(folder / "signal.safetensors") | (tensors or {}), out / "signal.safetensors")
    if tensors:
        from hashlib import sha256

        stored["sha256"] = sha256((out / "signal.safetensors").read_bytes()).hexdigest()
    (out / "signal.json").write_text(json.dumps(stored | (record or {})))
    return out


@pytest.mark.parametrize(
    ("record", "tensors", "match"),
    [
        ({"format": "other"}, None, "form"),
        ({"extra": 1}, None, "form"),
        ({"sha256": "0"}, None, "not what"),
        ({"certain": "0.4"}, None, "wrong type"),
        ({"certain": 1.5}, None, "certain"),
        ({"report": {}}, None, "fit report"),
        ({"report": replace(GOOD, accuracy=0.5).to_dict()}, None, "commonest"),
        ({"report": replace(GOOD, ece=0.3).to_dict()}, None, "calibration error"),
        ({"report": replace(GOOD, accuracy=float("nan")).to_dict()}, None, "report"),
        (None, {"weight": torch.full((2, 3), torch.nan)}, "NaN"),
        (None, {"weight": torch.zeros(3, 3)}, "shapes"),
        (None, {"bias": torch.tensor([torch.inf, 0.0])}, "NaN"),
        (None, {"other": torch.zeros(1)}, "tensors"),
    ],
)
def test_a_changed_signal_is_refused(fitted, tmp_path, record, tensors, match):
    out = change(fitted[0], tmp_path, record=record, tensors=tensors)
    with pytest.raises((ArtefactError, BadInputError), match=match):
        load_picture_signal(out, features=MeanColour(), attribute=GENDER)


def test_other_features_groups_and_folders_are_refused(fitted, tmp_path):
    folder = fitted[0]
    for other in (MeanColour(name="other"), MeanColour(feature_dim=4)):
        with pytest.raises(ArtefactError, match="fitted on mean-colour"):
            load_picture_signal(folder, features=other, attribute=GENDER)
    with pytest.raises(BadInputError, match="groups"):
        load_picture_signal(folder, features=MeanColour(), attribute=replace(GENDER, groups=GENDER.groups[::-1]))
    with pytest.raises(ArtefactError, match="picture signal"):
        load_picture_signal(tmp_path / "nowhere", features=MeanColour(), attribute=GENDER)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("keep me")
    with pytest.raises(BadInputError, match="new folder"):
        fit_picture_signal(fitted[2], features=MeanColour(), attribute=GENDER, out=tmp_path / "mine", seed=3)


def test_fairface_layout_and_six_groups(tmp_path):
    names = list(Encoding.FAIRFACE_RACE.groups)
    for part, n in (("train", 420), ("val", 140)):
        rows = ["file,age,gender,race,service_test"]
        for i in range(n):
            name = names[i % 7]
            place = RACE.groups.index(Encoding.FAIRFACE_RACE.group(name))
            # six corners of the colour cube, a little moved so that no two files have the same bytes
            corner = [((place + 1) >> bit & 1) * 180 for bit in range(3)]
            paint(tmp_path, f"{part}/{i}.jpg", [c + (i // 7) % 60 for c in corner])
            rows.append(f"{part}/{i}.jpg,20-29,{'Male' if i % 2 else 'Female'},{name},True")
        (tmp_path / f"fairface_label_{part}.csv").write_text("\n".join(rows))
    pictures = labelled_pictures(tmp_path, RACE, seed=0)
    assert [one.part for one in pictures].count("held_out") == 140
    assert {one.file.parent.name for one in pictures if one.part == "held_out"} == {"val"}
    genders = labelled_pictures(tmp_path, GENDER, seed=0)
    assert [GENDER.groups[one.group] for one in genders[:2]] == ["female", "male"]
    report = fit_picture_signal(tmp_path, features=MeanColour(), attribute=RACE, out=tmp_path / "out", seed=0)
    assert report.accuracy > 0.95
    said = load_picture_signal(tmp_path / "out", features=MeanColour(), attribute=RACE).claim(
        lambda: Image.new("RGB", (8, 8), (210, 30, 30))  # corner 1: the first group
    )
    assert said.s is None
    assert int(np.argmax(said.shares)) == 0
    assert len(said.shares) == 6


def test_one_person_falls_into_one_part(tmp_path):
    rows = ["file,gender,person"]
    for i in range(60):
        paint(tmp_path, f"{i}.png", (i, 0, 0))
        rows.append(f"{i}.png,{GENDER.groups[i % 2]},person {i // 6}")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    parts = [one.part for one in labelled_pictures(tmp_path, GENDER, seed=0)]
    assert all(len(set(parts[k : k + 6])) == 1 for k in range(0, 60, 6))
    assert set(parts) == {"train", "calibration", "held_out"}


def test_same_bytes_fall_into_one_part(tmp_path):
    rows = ["file,gender"]
    for i in range(40):
        paint(tmp_path, f"{i}.png", (i // 2, 0, 0))
        rows.append(f"{i}.png,male")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    parts = [one.part for one in labelled_pictures(tmp_path, GENDER, seed=1)]
    assert parts[::2] == parts[1::2]


def test_encoded_labels_and_empty_cells(tmp_path):
    for i in range(3):
        paint(tmp_path, f"{i}.png", (i, 0, 0))
    (tmp_path / "labels.csv").write_text("file,gender\n0.png,0\n1.png,1\n2.png,\n")
    pictures = labelled_pictures(tmp_path, GENDER, seed=0, encoding=Encoding.FACET_GENDER)
    assert [GENDER.groups[one.group] for one in pictures] == ["male", "female"]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (None, "labels.csv"),
        ("file,sex\n0.png,male\n", "no column gender"),
        ("file,gender\n0.png,man\n", "allowed: male, female"),
        ("file,gender\n9.png,male\n", "not a file"),
        ("file,gender\n../0.png,male\n", "not a file"),
        ("file,gender\n/etc/passwd,male\n", "not a file"),
    ],
)
def test_bad_labels(tmp_path, text, match):
    data = tmp_path / "data"
    data.mkdir()
    paint(data, "0.png", (0, 0, 0))
    paint(tmp_path, "0.png", (0, 0, 0))
    if text is not None:
        (data / "labels.csv").write_text(text)
    with pytest.raises(LabelsError, match=match):
        labelled_pictures(data, GENDER, seed=0)
