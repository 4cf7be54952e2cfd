"""A fitted mitigation on disk is the same mitigation; a damaged one is refused."""

import json

import pytest
import torch
from planting import planted
from safetensors.torch import load_file, save_file

from evenhand.errors import ArtefactError
from evenhand.mitigate.baselines.clip_clip import fit_clip_clip
from evenhand.mitigate.baselines.dear import AdditiveResidual
from evenhand.mitigate.baselines.sfid import fit_sfid
from evenhand.mitigate.baselines.stored import load_mitigation, save_mitigation


def mitigations():
    features, labels = planted(120, 10, [1, 2], seed=0)
    draw = torch.Generator().manual_seed(1)
    first, second = torch.randn(7, 10, generator=draw), torch.randn(10, 7, generator=draw)
    return [
        fit_sfid(features, labels, seed=0, dims=3),
        fit_clip_clip(features, labels, seed=0, dims=3),
        AdditiveResidual("dear", 10, first, second, {"gamma": 1.0}),
    ]


@pytest.mark.parametrize("number", range(3))
def test_round_trip(number, tmp_path):
    saved = mitigations()[number]
    save_mitigation(saved, tmp_path / "made")
    loaded = load_mitigation(tmp_path / "made")
    given = torch.randn(4, 10)
    assert torch.equal(loaded(given), saved(given))
    assert not torch.equal(loaded(given), given)
    assert (loaded.name, loaded.feature_dim, dict(loaded.settings)) == (saved.name, 10, dict(saved.settings))
    assert sorted(path.suffix for path in (tmp_path / "made").iterdir()) == [".json", ".safetensors"]


def test_what_is_not_a_mitigation_is_refused(tmp_path):
    with pytest.raises(ArtefactError, match=r"mitigation\.json"):
        load_mitigation(tmp_path)
    saved = mitigations()[0]
    save_mitigation(saved, tmp_path)
    stated = json.loads((tmp_path / "mitigation.json").read_text())
    for change in ({"format": 2}, {"kind": "other"}, {"feature_dim": "10"}, {"settings": None}):
        (tmp_path / "mitigation.json").write_text(json.dumps({**stated, **change}))
        with pytest.raises(ArtefactError, match="feature mitigation"):
            load_mitigation(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"values": torch.tensor([0.0, torch.nan, 1.0])},
        {"values": torch.zeros(2)},
        {"values": torch.zeros(3, 1)},
        {"dims": torch.tensor([0, 1, 10])},
        {"dims": torch.tensor([0.0, 1.0, 2.0])},
        {"more": torch.zeros(1)},
    ],
)
def test_damaged_tensors_are_refused(change, tmp_path):
    save_mitigation(mitigations()[0], tmp_path)
    path = tmp_path / "mitigation.safetensors"
    save_file({**load_file(path), **change}, path)
    with pytest.raises(ArtefactError):
        load_mitigation(tmp_path)


def test_a_file_that_is_no_safetensors_is_refused(tmp_path):
    save_mitigation(mitigations()[0], tmp_path)
    (tmp_path / "mitigation.safetensors").write_bytes(b"\x80\x04not tensors")
    with pytest.raises(ArtefactError, match="safetensors"):
        load_mitigation(tmp_path)
