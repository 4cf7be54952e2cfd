"""A map put where a model reads its picture changes what it says; taken away, the model is bit-identical."""

import pytest
import torch
from PIL import Image
from planting import planted

from evenhand.errors import BadInputError
from evenhand.mitigate.baselines.clip_clip import fit_clip_clip
from evenhand.mitigate.baselines.dear import AdditiveResidual
from evenhand.mitigate.baselines.features import FixedDims
from evenhand.mitigate.baselines.places import (
    MitigatedEncoder,
    Place,
    mitigated_captioner,
    mitigating,
    picture_place,
    read_features,
)
from evenhand.mitigate.baselines.sfid import fit_sfid


def fitted(kind: str, width: int):
    features, labels = planted(120, width, [1, 2], seed=0)
    if kind == "sfid":
        return fit_sfid(features, labels, seed=0, dims=5)
    if kind == "clip_clip":
        return fit_clip_clip(features, labels, seed=0, dims=5)
    draw = torch.Generator().manual_seed(1)
    first, second = (0.3 * torch.randn(width, width, generator=draw) for _ in range(2))
    return AdditiveResidual("dear", width, first, second, {})


@pytest.mark.parametrize("kind", ["sfid", "clip_clip", "dear"])
@torch.no_grad()
def test_the_logits_change_and_off_is_bit_identical(kind, llava, question):
    before = llava(**question).logits
    with mitigating(llava, fitted(kind, 24)) as reads:
        inside = llava(**question).logits
    assert (reads.calls, reads.changed) == (1, 1)
    assert not torch.equal(inside[:, -1], before[:, -1])
    assert torch.equal(llava(**question).logits, before)


@torch.no_grad()
def test_before_the_projector_is_where_the_model_reads(llava, question):
    # By hand: the tower's inner layer, without its class token, through the map, into the projector.
    mitigation = fitted("clip_clip", 24)
    core = llava.model
    states = core.vision_tower(question["pixel_values"], output_hidden_states=True).hidden_states
    wanted = core.multi_modal_projector(mitigation(states[-2][:, 1:]))
    seen = []
    handle = core.multi_modal_projector.register_forward_hook(lambda _, __, out: seen.append(out))
    with mitigating(llava, mitigation):
        llava(**question)
    handle.remove()
    assert torch.equal(seen[0], wanted)


@torch.no_grad()
def test_the_towers_output_is_not_where_this_model_reads(llava, question):
    # The published no-op: what was edited is never read. Kept here so that the default place is not moved there.
    before = llava(**question).logits
    with mitigating(llava, fitted("clip_clip", 24), place=Place(llava.model.vision_tower, "output")):
        assert torch.equal(llava(**question).logits, before)


def test_the_hook_goes_after_an_error(llava, question):
    before = llava(**question).logits
    with pytest.raises(RuntimeError, match="stop"), mitigating(llava, fitted("dear", 24)):
        raise RuntimeError("stop")
    assert torch.equal(llava(**question).logits, before)


def test_a_block_that_reads_no_picture_says_so(llava):
    nothing = pytest.raises(BadInputError, match="nothing passed LlavaMultiModalProjector")
    with nothing, mitigating(llava, fitted("dear", 24)):
        llava(input_ids=torch.tensor([[1, 5, 6]]))


def test_features_of_another_length_are_refused(llava, question):
    with pytest.raises(BadInputError, match="fitted on 23"), mitigating(llava, fitted("dear", 23)):
        llava(**question)


@torch.no_grad()
def test_rows_to_fit_on_are_what_the_model_reads(llava, question):
    states = llava.model.vision_tower(question["pixel_values"], output_hidden_states=True).hidden_states
    assert torch.allclose(read_features(llava, question), states[-2][:, 1:].mean(dim=1), atol=1e-6)
    with pytest.raises(BadInputError, match="nothing passed"):
        read_features(llava, {"input_ids": torch.tensor([[1, 5]])})


@torch.no_grad()
def test_blip_reads_the_towers_output():
    from transformers import BlipConfig, BlipForConditionalGeneration

    text = {"vocab_size": 60, "hidden_size": 24, "encoder_hidden_size": 24, "intermediate_size": 32}
    text |= {"num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 32}
    vision = {"hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = BlipConfig(text_config=text, vision_config=vision | {"image_size": 32, "patch_size": 16})
    torch.manual_seed(0)
    model = BlipForConditionalGeneration(config).eval()
    for weight in model.parameters():
        if weight.dim() > 1:
            torch.nn.init.normal_(weight, std=0.3)
    inputs = {"pixel_values": torch.randn(1, 3, 32, 32), "input_ids": torch.tensor([[1, 4, 5]])}
    before = model(**inputs).logits
    with mitigating(model, fitted("sfid", 24)):
        assert not torch.equal(model(**inputs).logits, before)
    assert torch.equal(model(**inputs).logits, before)


@torch.no_grad()
def test_qwen_reads_before_its_merger(tiny_qwen):
    model, inputs = tiny_qwen
    assert picture_place(model).module is model.model.visual.merger
    before = model(**inputs).logits
    with mitigating(model, fitted("dear", 16)):
        assert not torch.equal(model(**inputs).logits, before)
    assert torch.equal(model(**inputs).logits, before)
    assert read_features(model, inputs).shape == (1, 16)


def test_a_model_without_a_known_place_is_refused():
    with pytest.raises(BadInputError, match="Place"):
        picture_place(torch.nn.Linear(2, 2))


def test_an_encoder_is_followed_by_the_map(brightness):
    fixed = FixedDims("sfid", 9, torch.tensor([4]), torch.tensor([0.75]), {})
    encoder = MitigatedEncoder(brightness, fixed)
    picture = Image.new("RGB", (2, 2), (255, 0, 51))
    assert encoder.encode([picture])[0].tolist() == pytest.approx([1, 0, 0.2, 1, 0.75, 0.2, 1, 0, 0.2])
    assert (encoder.name, encoder.feature_dim) == ("brightness + sfid", 9)
    with pytest.raises(BadInputError, match="9"):
        MitigatedEncoder(brightness, FixedDims("sfid", 8, torch.tensor([4]), torch.tensor([0.75]), {}))


def test_a_mitigated_captioner_has_its_own_revision(clipcap):
    picture = Image.new("RGB", (2, 2), (255, 0, 51))
    fixed = [FixedDims("sfid", 9, torch.tensor([0, 4]), torch.tensor([0.75, v]), {}) for v in (3.0, -3.0)]
    made = [mitigated_captioner(clipcap, one) for one in fixed]
    assert len({clipcap.revision, made[0].revision, made[1].revision}) == 3
    assert made[0].name == "tiny + sfid"
    prefixes = [one.prefix(one.encoder.encode([picture])) for one in (clipcap, *made)]
    assert not torch.equal(prefixes[0], prefixes[1])
    assert not torch.equal(prefixes[1], prefixes[2])
    assert clipcap.encoder.name == "brightness"
