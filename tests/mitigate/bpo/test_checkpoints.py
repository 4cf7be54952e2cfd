"""What is stored of a training comes back as it was, without pickle."""

import random

import numpy as np
import pytest
import torch

from evenhand.errors import CorruptLedgerError
from evenhand.mitigate.bpo.checkpoints import draws_now, last_whole, put_draws_back, read_state, whole, write_state


def test_nested_state_comes_back_with_its_kinds(tmp_path):
    state = {
        "state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.arange(6.0).view(2, 3)}},
        "param_groups": [{"lr": 1e-4, "betas": (0.9, 0.999), "params": [0], "name": None, "fused": False}],
    }
    write_state(tmp_path, "optimizer", state)
    found = read_state(tmp_path, "optimizer")
    assert list(found["state"]) == [0]  # a number, not "0"
    assert torch.equal(found["state"][0]["exp_avg"], state["state"][0]["exp_avg"])
    assert found["param_groups"] == state["param_groups"]
    assert isinstance(found["param_groups"][0]["betas"], tuple)
    assert {one.suffix for one in tmp_path.iterdir()} == {".json", ".safetensors"}


def test_a_real_optimizer_and_schedule_go_on_as_if_nothing_had_happened(tmp_path):
    def made():
        weight = torch.nn.Parameter(torch.ones(3))
        optimizer = torch.optim.AdamW([weight], lr=0.1)
        return weight, optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))

    def steps(weight, optimizer, schedule, number):
        for _ in range(number):
            optimizer.zero_grad()
            (weight**2).sum().backward()
            optimizer.step()
            schedule.step()

    whole_run = made()
    steps(*whole_run, 5)
    first, second = made(), made()
    steps(*first, 2)
    for name, one in zip(("optimizer", "schedule"), first[1:], strict=True):
        write_state(tmp_path, name, one.state_dict())
    with torch.no_grad():
        second[0].copy_(first[0])
    for name, one in zip(("optimizer", "schedule"), second[1:], strict=True):
        one.load_state_dict(read_state(tmp_path, name))
    steps(*second, 3)
    assert torch.equal(second[0], whole_run[0])


def test_tensors_that_share_memory_are_stored_apart(tmp_path):
    one = torch.arange(4.0)
    write_state(tmp_path, "s", {"a": one, "b": one[:2]})
    assert read_state(tmp_path, "s")["b"].tolist() == [0, 1]


def test_random_numbers_go_on(tmp_path):
    write_state(tmp_path, "draws", draws_now())
    wanted = (random.gauss(), np.random.rand(), torch.rand(()).item())
    put_draws_back(read_state(tmp_path, "draws"))
    assert (random.gauss(), np.random.rand(), torch.rand(()).item()) == wanted


def test_what_cannot_be_stored_is_said(tmp_path):
    with pytest.raises(TypeError, match="a object"):
        write_state(tmp_path, "s", {"a": object()})


@pytest.mark.parametrize("spoil", ["absent", "cut", "json"])
def test_damaged_state(tmp_path, spoil):
    write_state(tmp_path, "s", {"a": torch.ones(5)})
    if spoil == "absent":
        (tmp_path / "s.safetensors").unlink()
    elif spoil == "cut":
        (tmp_path / "s.safetensors").write_bytes((tmp_path / "s.safetensors").read_bytes()[:-4])
    else:
        (tmp_path / "s.json").write_text("{")
    with pytest.raises(CorruptLedgerError, match="earlier checkpoint"):
        read_state(tmp_path, "s")


def test_the_newest_checkpoint_that_is_whole(tmp_path):
    assert last_whole(tmp_path / "nowhere") is None
    for step, content in ((2, "{}"), (10, "{}"), (30, '{"epo'), (100, None)):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        if content is not None:
            (folder / "trainer_state.json").write_text(content)
    (tmp_path / "checkpoint-best").mkdir()
    assert last_whole(tmp_path) == tmp_path / "checkpoint-10"  # by number, and neither a cut nor an unwritten one
    assert not whole(tmp_path / "checkpoint-100")
