"""Finetuning for understanding from balanced tuples: what is asked about which picture."""

from dataclasses import replace

import pytest

from evenhand.attributes import load_attribute
from evenhand.errors import ArtefactError, ChangedRunError
from evenhand.miniature.judge import load_judge
from evenhand.miniature.model import load_miniature
from evenhand.mitigate.bpo.tuples import read_tuples
from evenhand.pipeline.plans import ReadBy
from evenhand.train.answers import asked_about, train_answers
from evenhand.train.data import make_balanced_data

FEW = {"max_steps": 1, "per_device_train_batch_size": 1, "disable_tqdm": True, "use_cpu": True, "save_strategy": "no"}


@pytest.fixture(scope="module")
def tuples(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    (folder / "one.txt").write_text("sewer\n")
    read_by = tuple(ReadBy(load_attribute(name), "avatars") for name in ("gender", "skin_tone"))
    make_balanced_data(load_miniature(), read_by, folder / "d", data=str(folder / "one.txt"), pictures=4)
    return read_tuples(folder / "d")


def test_every_picture_is_asked_about_for_each_attribute_and_its_group_is_the_answer(tuples):
    pictures, questions, answers = asked_about(tuples, load_miniature())
    assert len(pictures) == len(tuples.tuples) * 6 * 2
    assert questions[0] == (
        "What is the gender of the person? Possible answers: male, female. Answer with a single word."
    )
    assert questions[1].startswith("What is the skin tone of the person? Possible answers: light, medium, dark.")
    for name, at in (("gender", 0), ("skin_tone", 1)):
        # The judge, which confirmed the pictures when they were drawn, reads the decoded ones as the answers say.
        judge = load_judge(name)
        read = [
            judge.groups[max(range(len(judge.groups)), key=one.shares.__getitem__)]
            for one in judge.read(pictures[at::2])
        ]
        assert read == answers[at::2]


def test_a_run_is_not_done_twice_and_a_folder_holds_one(tuples, tmp_path):
    assert train_answers("miniature", tuples, tmp_path, rank=2, **FEW) == 1
    before = (tmp_path / "adapter_model.safetensors").stat().st_mtime_ns
    assert train_answers("miniature", tuples, tmp_path, rank=2, **FEW) == 1
    assert (tmp_path / "adapter_model.safetensors").stat().st_mtime_ns == before
    with pytest.raises(ChangedRunError, match="rank 2, now 4"):
        train_answers("miniature", tuples, tmp_path, rank=4, **FEW)


def test_codes_of_another_model(tuples, tmp_path):
    with pytest.raises(ArtefactError, match="tokenizer"):
        train_answers("miniature", replace(tuples, codebook_digest="other"), tmp_path, **FEW)
