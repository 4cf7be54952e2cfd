"""Adapters that training stores and goes on with: opened with their model, refused where they are not whole."""

import pytest
import torch
from training_config import config

from evenhand.errors import ArtefactError, BadInputError, ChangedRunError
from evenhand.mitigate.bpo.adapters import lora_config
from evenhand.mitigate.bpo.trainer import BPOTrainer


def test_stage_two_goes_on_with_the_adapter_of_stage_one(tiny, make_tuples, tmp_path):
    model = tiny.made("janus")
    tuples = make_tuples(model, 2)
    first = BPOTrainer(
        model, config(tmp_path / "sft", loss_type="sft"), tuples, peft_config=lora_config(model.family, r=2)
    )
    first.train()
    first.save_model()
    other = tiny.made("janus")
    second = BPOTrainer(other, config(tmp_path / "bpo", loss_type="log_odds"), tuples, start=tmp_path / "sft")
    codes = torch.from_numpy(tuples.tuples[0].codes).long()
    texts = [tuples.tuples[0].prompt] * 2
    assert torch.allclose(other.log_prob(texts, codes, guidance=1), model.log_prob(texts, codes, guidance=1))
    second.train()
    assert not torch.allclose(other.log_prob(texts, codes, guidance=1), model.log_prob(texts, codes, guidance=1))


def test_an_adapter_is_opened_with_its_model(tiny, make_tuples, tmp_path):
    folder = tiny.save("janus", tmp_path / "model")
    model = type(tiny.made("janus")).from_pretrained(str(folder))
    tuples = make_tuples(model, 2)
    trainer = BPOTrainer(model, config(tmp_path / "run"), tuples, peft_config=lora_config(model.family, r=2))
    trainer.train()
    trainer.save_model()
    codes, text = torch.from_numpy(tuples.tuples[0].codes).long()[:1], [tuples.tuples[0].prompt]
    wanted = model.log_prob(text, codes, guidance=1)
    plain = type(model).from_pretrained(str(folder))
    opened = type(model).from_pretrained(str(folder), adapter=str(tmp_path / "run"))
    assert torch.allclose(opened.log_prob(text, codes, guidance=1), wanted, atol=1e-5)
    assert not torch.allclose(plain.log_prob(text, codes, guidance=1), wanted, atol=1e-3)
    assert opened.revision != plain.revision  # another model to a run folder
    with pytest.raises(ArtefactError, match="has no adapter_model"):
        type(model).from_pretrained(str(folder), adapter=str(folder))
    other = tiny.save("emu3", tmp_path / "other")
    with pytest.raises(ArtefactError, match="does not fit"):
        type(model).from_pretrained(str(other), adapter=str(tmp_path / "run"), picture_size=tiny.SIZE)


def test_another_adapter_to_go_on_with_is_another_run(tiny, make_tuples, tmp_path):
    for name, seed in (("one", 0), ("two", 1)):
        model = tiny.made("janus")
        args = config(tmp_path / name, max_steps=1, loss_type="sft", likelihood="pictures", seed=seed)
        BPOTrainer(model, args, make_tuples(model, 2), peft_config=lora_config(model.family, r=2)).save_model()

    def second(start):
        model = tiny.made("janus")
        return BPOTrainer(model, config(tmp_path / "run", max_steps=1), make_tuples(model, 2), start=tmp_path / start)

    second("one").train()
    with pytest.raises(ChangedRunError, match="start"):
        second("two")


def test_weights_that_are_no_numbers_are_not_stored(tiny, make_tuples, tmp_path):
    model = tiny.made("janus")
    args = config(tmp_path, learning_rate=1e30, max_steps=3, max_grad_norm=0.0)
    trainer = BPOTrainer(model, args, make_tuples(model, 2), peft_config=lora_config(model.family, r=2))
    trainer.train()
    with pytest.raises(BadInputError, match="no longer finite"):
        trainer.save_model()
    assert not (tmp_path / "adapter_model.safetensors").exists()


@pytest.mark.parametrize("change", ["renamed", "absent"])
def test_an_adapter_that_lacks_weights_is_refused(tiny, make_tuples, tmp_path, change):
    from safetensors.torch import load_file, save_file

    from evenhand.models.unified.adapted import merge_adapter

    model = tiny.made("janus")
    args = config(tmp_path, max_steps=1, loss_type="sft", likelihood="pictures")
    BPOTrainer(model, args, make_tuples(model, 2), peft_config=lora_config(model.family, r=2)).save_model()
    place = tmp_path / "adapter_model.safetensors"
    weights = load_file(place)
    if change == "absent":
        del weights[sorted(weights)[0]]
    else:
        weights = {name.replace("base_model", "module"): one for name, one in weights.items()}
    save_file(weights, place)
    with pytest.raises(ArtefactError, match="weights are absent"):
        merge_adapter(tiny.made("janus").model, str(tmp_path))
    other = tiny.made("janus")
    with pytest.raises(ArtefactError, match="weights are absent"):
        BPOTrainer(other, config(tmp_path / "next"), make_tuples(other, 2), start=tmp_path)
