"""Files for ``accelerate launch``: accelerate reads them, and sharded weights are not drawn with."""

import pytest

from evenhand.errors import BadInputError, UnknownNameError
from evenhand.mitigate.bpo.config import BPOConfig
from evenhand.mitigate.bpo.sharding import refuse_audit_of_shards
from evenhand.train.launching import LAUNCH_FILES, launch_file

KINDS = {"gpus": "MULTI_GPU", "fsdp": "FSDP", "zero2": "DEEPSPEED", "zero3": "DEEPSPEED"}


def test_all_are_known():
    assert set(LAUNCH_FILES) == set(KINDS)
    with pytest.raises(UnknownNameError, match="known: fsdp, gpus, zero2, zero3"):
        launch_file("tpu")


@pytest.mark.parametrize("name", sorted(KINDS))
def test_accelerate_reads_them(name):
    config_args = pytest.importorskip("accelerate.commands.config.config_args")
    read = config_args.load_config_from_file(str(launch_file(name)))
    assert read.distributed_type.value == KINDS[name]
    assert read.mixed_precision == "bf16"
    assert read.fsdp_config.get("fsdp_version", 2) == 2
    assert read.deepspeed_config.get("zero_stage", int(name[-1]) if name.startswith("zero") else None) in (None, 2, 3)


@pytest.mark.parametrize(("variable", "name"), [("ACCELERATE_USE_FSDP", "FSDP"), ("ACCELERATE_USE_DEEPSPEED", "Deep")])
def test_an_audit_of_sharded_weights_is_refused(tmp_path, monkeypatch, variable, name):
    args = BPOConfig(output_dir=str(tmp_path), use_cpu=True)
    refuse_audit_of_shards(args)
    monkeypatch.setenv(variable, "true")
    with pytest.raises(BadInputError, match=f"sharded by {name}"):
        refuse_audit_of_shards(args)
