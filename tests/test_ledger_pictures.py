"""Pictures in a run folder: what was drawn comes back, byte for byte, and is read only where it is wanted."""

import hashlib
import io
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from evenhand.errors import BadInputError, CorruptLedgerError
from evenhand.ledger import Ledger, seed_of
from evenhand.records import Prompt, Sample

PROMPTS = tuple(Prompt(f"{job}", "occupations", f"a photo of a {job}", None, {"occupation": job}) for job in "ab")


def png(colour: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 4), colour).save(file, "PNG")
    return file.getvalue()


def drawn(prompt_id: str, k: int, colour: str, **fields) -> Sample:
    return Sample(prompt_id, k, seed_of("run", prompt_id, k), None, image=png(colour), codes=(3, 0, 16383), **fields)


@pytest.fixture
def folder(tmp_path):
    with Ledger.create_or_resume(tmp_path / "run", run="run", settings={}, prompts=PROMPTS) as ledger:
        ledger.append([drawn("b", 0, "red"), drawn("a", 0, "blue")])
        ledger.append([drawn("a", 1, "green"), Sample("b", 1, seed_of("run", "b", 1), None, error="E: no")])
    return tmp_path / "run"


def test_pictures_and_codes_come_back(folder):
    ledger = Ledger.open(folder)
    ledger.verify()
    found = ledger.samples(pictures=True)
    assert [(s.prompt_id, s.k) for s in found] == [("a", 0), ("a", 1), ("b", 0), ("b", 1)]
    assert [s.image for s in found] == [png("blue"), png("green"), png("red"), None]
    assert [s.codes for s in found] == [(3, 0, 16383)] * 3 + [None]
    assert found[0].image_sha256 == hashlib.sha256(png("blue")).hexdigest()
    assert [s.image for s in ledger.drawn()] == [png("red"), png("blue"), png("green")]  # as they were written


def test_pictures_stay_on_disk_unless_they_are_wanted(folder):
    with_pictures, without = (Ledger.open(folder).samples(pictures=wanted) for wanted in (True, False))
    assert without == tuple(replace(sample, image=None) for sample in with_pictures)
    assert without[0].image_sha256 == with_pictures[0].image_sha256


def test_samples_without_their_pictures_cannot_be_stored_as_if_whole(folder, tmp_path):
    left = Ledger.open(folder).samples()
    with Ledger.create_or_resume(tmp_path / "other", run="run", settings={}, prompts=PROMPTS) as other:
        with pytest.raises(BadInputError, match="with their pictures"):
            other.append(left[:1])
        other.append(Ledger.open(folder).samples(pictures=True))
    assert Ledger.open(tmp_path / "other").samples(pictures=True) == Ledger.open(folder).samples(pictures=True)


def test_a_given_hash_must_be_the_pictures(tmp_path):
    with Ledger.create_or_resume(tmp_path / "run", run="run", settings={}, prompts=PROMPTS) as ledger:
        with pytest.raises(BadInputError, match="image_sha256"):
            ledger.append([drawn("a", 0, "red", image_sha256="0" * 64)])
        ledger.append([drawn("a", 0, "red", image_sha256=hashlib.sha256(png("red")).hexdigest())])


def test_an_exchanged_picture_is_found(folder):
    shard = folder / "samples-00000.parquet"
    table = pq.read_table(shard)
    pictures = [{"bytes": png("black"), "path": None}, *table.column("image").to_pylist()[1:]]
    place = table.schema.get_field_index("image")
    changed = table.set_column(place, table.schema.field(place), pa.array(pictures, table.schema.field(place).type))
    pq.write_table(changed, shard)
    ledger = Ledger.open(folder)
    assert len(ledger.samples()) == 4  # every other field is as it was written
    for read in (ledger.verify, lambda: ledger.samples(pictures=True), lambda: list(ledger.drawn())):
        with pytest.raises(CorruptLedgerError, match="picture of sample 0"):
            read()


def test_top_up_draws_what_is_missing(folder):
    with Ledger.create_or_resume(folder, run="run", settings={}, prompts=PROMPTS) as ledger:
        assert [(prompt.id, k) for prompt, k in ledger.missing(3)] == [("a", 2), ("b", 2)]


def test_datasets_opens_a_shard_with_its_pictures(folder):
    datasets = pytest.importorskip("datasets")
    found = datasets.load_dataset(
        "parquet", data_files=str(folder / "samples-*.parquet"), split="train", cache_dir=str(folder.parent / "cache")
    )
    assert found[0]["image"].convert("RGB").getpixel((0, 0)) == (255, 0, 0)
    assert found[0]["codes"] == [3, 0, 16383]
