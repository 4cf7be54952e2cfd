import errno
import hashlib
import inspect
import io
import json
import os
import random
import shutil
import subprocess
import sys
import textwrap
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from evenhand.errors import (
    BadInputError,
    ChangedRunError,
    CorruptLedgerError,
    LedgerBusyError,
    LedgerError,
)
from evenhand.ledger import Ledger, seed_of
from evenhand.records import Claim, Edit, Prompt, Sample

SETTINGS = {"model": "captioner", "mitigation": {"name": "align", "strength": 2.0}, "seed": 7}
PROMPTS = tuple(Prompt(f"{name}.jpg", "captioning", "", None, {"gender": name}) for name in ("b", "a", "c"))


def make(folder, *, run="demo", settings=SETTINGS, prompts=PROMPTS) -> Ledger:
    return Ledger.create_or_resume(folder, run=run, settings=settings, prompts=prompts)


def sample(prompt_id: str, k: int, text: str | None = "a person", run: str = "demo", **fields) -> Sample:
    return Sample(prompt_id, k, seed_of(run, prompt_id, k), text, **fields)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture
def run(tmp_path):
    with make(tmp_path / "run") as ledger:
        yield ledger


# Seeds --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "prompt_id", "k", "seed"),
    # printf '%s' '["demo","a.jpg",0]' | sha256sum starts with 4c9b8267bf5b2028; shifted right by one bit
    # that is 0x264dc133dfad9014 = 2760074575188168724.
    [
        (b'["demo","a.jpg",0]', "a.jpg", 0, 2760074575188168724),
        (b'["demo","a.jpg",1]', "a.jpg", 1, 759335227785211047),
        (b'["demo","caf\\u00e9/\\"b\\".jpg",7]', 'café/"b".jpg', 7, 8927615638048256227),
    ],
)
def test_seeds_published(address, prompt_id, k, seed):
    assert int(hashlib.sha256(address).hexdigest()[:16], 16) >> 1 == seed
    assert seed_of("demo", prompt_id, k) == seed


def test_seeds_are_63_bits_and_differ():
    seeds = {seed_of(run, f"{p}", k) for run in ("x", "y") for p in range(50) for k in range(20)}
    assert len(seeds) == 2000
    assert 0 <= min(seeds) <= max(seeds) < 2**63
    assert max(seeds) > 2**62  # the top bit is used


def test_seed_addresses_cannot_be_confused():
    assert seed_of('a","b', "c", 0) != seed_of("a", 'b","c', 0)
    assert seed_of("a", "b1", 0) != seed_of("a", "b", 10)


def test_negative_sample_number():
    with pytest.raises(BadInputError, match="got k=-1"):
        seed_of("demo", "a.jpg", -1)


# What goes in comes out -----------------------------------------------------------------------------


def test_samples_come_in_the_order_of_prompts_then_k(run):
    run.append([sample("c.jpg", 1), sample("a.jpg", 0)])
    run.append([sample("b.jpg", 1)])
    run.append([sample("b.jpg", 0), sample("c.jpg", 0)])
    keys = [(found.prompt_id, found.k) for found in run.samples()]
    assert keys == [("b.jpg", 0), ("b.jpg", 1), ("a.jpg", 0), ("c.jpg", 0), ("c.jpg", 1)]


def test_missing_in_fixed_order(run, tmp_path):
    run.append([sample("a.jpg", 0), sample("b.jpg", 1, None, error="ValueError: no")])
    expected = [("b.jpg", 0), ("a.jpg", 1), ("c.jpg", 0), ("c.jpg", 1)]
    assert [(prompt.id, k) for prompt, k in run.missing(2)] == expected
    assert [(prompt.id, k) for prompt, k in Ledger.open(tmp_path / "run").missing(2)] == expected
    assert run.missing(0) == []


def test_top_up_asks_only_for_what_is_new(run):
    run.append([sample(prompt.id, k) for prompt, k in run.missing(1)])
    assert run.missing(1) == []
    assert {k for _, k in run.missing(3)} == {1, 2}


def test_reader_sees_what_a_writer_appends_later(run, tmp_path):
    reader = Ledger.open(tmp_path / "run")
    assert reader.samples() == ()
    run.append([sample("a.jpg", 0)])
    assert reader.samples() == (sample("a.jpg", 0),)


def test_reader_cannot_write(run, tmp_path):
    before = contents(tmp_path / "run")
    with pytest.raises(LedgerError, match="read only"):
        Ledger.open(tmp_path / "run").append([sample("a.jpg", 0)])
    assert contents(tmp_path / "run") == before


def test_append_nothing_writes_nothing(run, tmp_path):
    run.append([])
    assert not list((tmp_path / "run").glob("samples-*"))


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ([sample("a.jpg", 0)], "there already"),
        ([sample("a.jpg", 1), sample("a.jpg", 1)], "twice"),
        ([sample("z.jpg", 0)], "no such prompt"),
        ([replace(sample("a.jpg", 1), seed=5)], "got seed 5"),
        ([replace(sample("a.jpg", 0), k=-1)], "cannot append"),
    ],
)
def test_refused_samples_leave_the_ledger_as_it_was(run, tmp_path, bad, why):
    run.append([sample("a.jpg", 0)])
    before = contents(tmp_path / "run")
    with pytest.raises(BadInputError, match=why):
        run.append([sample("c.jpg", 0), *bad])
    assert contents(tmp_path / "run") == before
    run.append([sample("c.jpg", 0)])


def test_values_of_another_type_are_refused(run):
    claim = Claim(0.0, "given")
    object.__setattr__(claim, "s", "left")  # the constructor is checked in tests, and in tests only
    with pytest.raises(BadInputError, match="cannot store"):
        run.append([sample("a.jpg", 0, claim=claim)])
    assert run.samples() == ()


def test_counts_of_more_than_64_bits_are_refused(run):
    with pytest.raises(BadInputError, match="cannot store"):
        run.append([sample("a.jpg", 0, claim=Claim(0.0, "given", 2**63))])
    assert run.samples() == ()


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
NUMBER = st.floats(allow_nan=False)
COUNT = st.integers(0, 2**63 - 1)
EDITS = st.builds(Edit, COUNT, COUNT, COUNT, TEXT, TEXT, NUMBER, NUMBER, NUMBER, NUMBER)
CLAIMS = st.builds(Claim, st.none() | NUMBER, TEXT, st.none() | COUNT)
ANSWERS = st.builds(
    Sample,
    prompt_id=st.sampled_from([prompt.id for prompt in PROMPTS]),
    k=st.integers(0, 4),
    seed=st.just(0),
    text=st.none() | TEXT,
    error=st.none() | TEXT,
    claim=st.none() | CLAIMS,
    edits=st.lists(EDITS, max_size=3).map(tuple),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(ANSWERS, max_size=8, unique_by=lambda found: (found.prompt_id, found.k)), st.integers(1, 8))
def test_samples_round_trip_exactly(drawn, shard):
    samples = [replace(one, seed=seed_of("demo", one.prompt_id, one.k)) for one in drawn]
    with make(f"memory://{uuid4().hex}") as ledger:
        for start in range(0, len(samples), shard):
            ledger.append(samples[start : start + shard])
        found = ledger.samples()
        ledger.verify()
    assert {(one.prompt_id, one.k): one for one in found} == {(one.prompt_id, one.k): one for one in samples}
    assert repr(sorted(found, key=repr)) == repr(sorted(samples, key=repr))  # -0.0 is not 0.0


def test_order_of_appending_does_not_matter(tmp_path):
    samples = [sample(prompt.id, k, f"{prompt.id} {k}") for prompt in PROMPTS for k in range(3)]
    found = []
    for turn in range(3):
        random.Random(turn).shuffle(samples)  # noqa: S311
        with make(tmp_path / str(turn)) as ledger:
            for one in samples:
                ledger.append([one])
            found.append(ledger.samples())
    assert found[0] == found[1] == found[2]


def test_lone_surrogates_are_replaced_one_for_one(tmp_path):
    bad = Prompt("caf\udce9.jpg", "captioning", "\ud83d?", None, {"\udc80": "x\udfff"})
    text = "a \ud83d man"
    edit = Edit(1, 4, 7, "\udc00 woman", "man", 0.5, -0.5, 0.0, 1.0)
    with make(tmp_path / "run", prompts=[bad]) as ledger:
        ((prompt, k),) = ledger.missing(1)
        assert prompt.id == "caf\ufffd.jpg"
        ledger.append([sample(bad.id, k, text, error="\ud800", claim=Claim(0.0, "\ud801"), edits=(edit,))])
        (found,) = ledger.samples()
    with make(tmp_path / "run", prompts=[bad]) as ledger:
        assert ledger.missing(1) == []
    assert found.prompt_id == "caf\ufffd.jpg"
    assert found.text == "a \ufffd man"
    assert found.text[found.edits[0].start : found.edits[0].end] == "man"
    assert (found.error, found.claim) == ("\ufffd", Claim(0.0, "\ufffd"))
    (prompt,) = Ledger.open(tmp_path / "run").prompts()
    assert prompt == Prompt("caf\ufffd.jpg", "captioning", "\ufffd?", None, {"\ufffd": "x\ufffd"})


# Manifest -------------------------------------------------------------------------------------------


def test_manifest(run, tmp_path):
    stored = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert stored == dict(run.manifest)
    assert stored["format"] == 3
    assert stored["run"] == run.run == "demo"
    assert stored["settings"] == SETTINGS == dict(run.settings)
    canonical = '{"mitigation":{"name":"align","strength":2.0},"model":"captioner","seed":7}'
    assert stored["settings_sha256"] == hashlib.sha256(canonical.encode()).hexdigest()
    assert set(stored) == {
        "format",
        "run",
        "created",
        "evenhand",
        "settings",
        "prompts_sha256",
        "settings_sha256",
    }


def test_default_run_name_comes_from_the_settings_alone(tmp_path):
    with make(tmp_path / "x", run=None) as x, make(tmp_path / "y", run=None, prompts=PROMPTS[:1]) as y:
        assert x.run == y.run == f"run-{x.manifest['settings_sha256'][:12]}"
    with make(tmp_path / "z", run=None, settings={**SETTINGS, "seed": 8}) as z:
        assert z.run != x.run


def test_two_runs_may_share_seeds(tmp_path):
    with make(tmp_path / "plain", settings={"strength": 0}) as plain:
        plain.append([sample("a.jpg", 0)])
    with make(tmp_path / "mitigated", settings={"strength": 1}) as mitigated:
        mitigated.append([sample("a.jpg", 0)])
    assert plain.samples()[0].seed == mitigated.samples()[0].seed


@pytest.mark.parametrize(
    ("value", "where"),
    [
        (float("nan"), r"settings\.a\.1: got nan"),
        (float("-inf"), r"settings\.a\.1: got -inf"),
        (Path("x"), r"settings\.a\.1: got PosixPath"),
        (b"x", "bytes"),
        ({1: 2}, "text keys"),
        ({1, 2}, "set"),
    ],
)
def test_settings_that_are_not_json(tmp_path, value, where):
    with pytest.raises(BadInputError, match=where):
        make(tmp_path / "run", settings={"a": [0, value]})
    assert not (tmp_path / "run").exists()


def test_secrets_in_urls_and_the_environment_are_not_stored(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "canary-env")
    urls = {
        "a": "https://user:canary@host.org/v1?x=a@b",
        "b": ["see git+ssh://canary@host:22/x and http://u:p@canary@h"],
        "https://canary@h": "//canary:canary@host/x",
        "c": "mail@host and https://host/path@v1",
    }
    with make(tmp_path / "run", settings=urls) as ledger:
        ledger.append([sample("a.jpg", 0)])
        stored = dict(ledger.settings)
    assert stored == {
        "a": "https://host.org/v1?x=a@b",
        "b": ["see git+ssh://host:22/x and http://h"],
        "https://h": "//host/x",
        "c": "mail@host and https://host/path@v1",
    }
    assert not [name for name, content in contents(tmp_path / "run").items() if b"canary" in content]
    with make(tmp_path / "run", settings={**urls, "a": "https://user:other@host.org/v1?x=a@b"}):
        pass  # a new token is not a new run


# Prompts and previews -------------------------------------------------------------------------------


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.new("RGB", (640, 480), "red").save(folder / "whole.png")
    whole = (folder / "whole.png").read_bytes()
    (folder / "truncated.png").write_bytes(whole[: len(whole) // 2])
    (folder / "text.png").write_text("hello")
    names = ("whole.png", "truncated.png", "text.png", "absent.png")
    return tuple(Prompt(name, "captioning", "who?", str(folder / name), {"scene": "desk"}) for name in names)


def test_prompts_and_previews_from_disk(tmp_path, pictures):
    asked = (*pictures, Prompt("words only", "captioning", "who?", None))
    with make(tmp_path / "run", prompts=asked) as ledger:
        assert ledger.prompts() == asked
    ledger = Ledger.open(tmp_path / "run")
    assert [prompt.id for prompt in ledger.prompts()] == [prompt.id for prompt in asked]
    assert ledger.prompts()[0] == replace(pictures[0], image="whole.png")
    assert ledger.prompts()[4] == asked[4]
    assert list(ledger.previews()) == ["whole.png"]
    assert Image.open(io.BytesIO(ledger.previews()["whole.png"])).size == (320, 240)


def test_prompts_table(tmp_path, pictures):
    make(tmp_path / "run", prompts=pictures).close()
    rows = {row["id"]: row for row in pq.read_table(tmp_path / "run" / "prompts.parquet").to_pylist()}
    whole = Path(pictures[0].image).read_bytes()
    assert rows["whole.png"]["image_sha256"] == hashlib.sha256(whole).hexdigest()
    assert rows["whole.png"]["image"]["path"] == "whole.png"
    assert json.loads(rows["whole.png"]["facts"]) == {"scene": "desk"}
    assert rows["truncated.png"]["image"] is None
    assert rows["truncated.png"]["image_name"] == "truncated.png"
    assert rows["absent.png"]["image_sha256"] is None
    assert not [name for name, content in contents(tmp_path / "run").items() if str(tmp_path).encode() in content]


def test_layout_is_the_one_datasets_decodes(tmp_path, pictures):
    make(tmp_path / "run", prompts=pictures).close()
    schema = pq.read_schema(tmp_path / "run" / "prompts.parquet")
    features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    assert features["image"] == {"_type": "Image"}
    assert features["text"] == {"dtype": "string", "_type": "Value"}
    assert set(features) == set(schema.names)
    kind = schema.field("image").type
    assert {kind[at].name: str(kind[at].type) for at in range(kind.num_fields)} == {
        "bytes": "binary",
        "path": "string",
    }


def test_pictures_may_move_but_not_change(tmp_path, pictures):
    make(tmp_path / "run", prompts=pictures).close()
    shutil.copytree(tmp_path / "pictures", tmp_path / "moved")
    moved = [replace(prompt, image=str(tmp_path / "moved" / prompt.id)) for prompt in pictures]
    with make(tmp_path / "run", prompts=moved) as ledger:
        assert ledger.prompts()[0].image == moved[0].image
    Image.new("RGB", (640, 480), "blue").save(tmp_path / "moved" / "whole.png")
    with pytest.raises(ChangedRunError, match=r"prompts\.whole\.png\.image_sha256"):
        make(tmp_path / "run", prompts=moved)


def test_duplicate_prompt_ids(tmp_path):
    with pytest.raises(BadInputError, match=r"'b\.jpg' more than once"):
        make(tmp_path / "run", prompts=[*PROMPTS, PROMPTS[0]])


@pytest.mark.parametrize("name", ["../../etc/x", "/etc/x", "a\0b", "CON", "n" * 300, "..", ""])
def test_names_never_become_paths(tmp_path, name):
    prompt = Prompt(name, name, name, name or None, {name: name})
    with make(tmp_path / "out" / "run", run=name, settings={name: name}, prompts=[prompt]) as ledger:
        ledger.append([sample(name, 0, run=name)])
        ledger.verify()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["run"]
    expected = [".lock", "manifest.json", "prompts.parquet", "samples-00000.parquet"]
    assert sorted(contents(tmp_path / "out" / "run")) == expected


# Another world on resume ----------------------------------------------------------------------------


def refuse(folder, *shown, **changed):
    before = contents(folder)
    with pytest.raises(ChangedRunError) as caught:
        make(folder, **changed)
    for part in (*shown, "another --out", "delete the folder"):
        assert part in str(caught.value)
    assert contents(folder) == before


def test_changed_settings(tmp_path):
    make(tmp_path / "run").close()
    changed = {"model": "captioner", "mitigation": {"name": "align", "strength": 3.0}, "top_p": 1}
    refuse(
        tmp_path / "run",
        "settings.mitigation.strength: 2.0 in the folder, 3.0 now",
        "settings.seed: 7 in the folder, absent now",
        "settings.top_p: absent in the folder, 1 now",
        settings=changed,
    )


@pytest.mark.parametrize("value", [7.0, True, "7", None, [7], {}])
def test_a_value_of_another_type_is_another_value(tmp_path, value):
    make(tmp_path / "run").close()
    refuse(tmp_path / "run", "settings.seed: 7 in the folder", settings={**SETTINGS, "seed": value})


def test_same_settings_in_another_order_are_the_same(tmp_path):
    make(tmp_path / "run").close()
    make(tmp_path / "run", settings=dict(reversed(SETTINGS.items()))).close()


def test_changed_prompts(tmp_path):
    folder = tmp_path / "run"
    make(folder).close()
    edited = replace(PROMPTS[0], text="who is it?")
    shown = 'prompts.b.jpg.text: "" in the folder, "who is it?" now'
    refuse(folder, shown, prompts=[edited, *PROMPTS[1:]])
    refuse(folder, "prompts.c.jpg: {", "absent now", prompts=PROMPTS[:2])
    refuse(folder, "order of prompts", prompts=PROMPTS[::-1])
    refuse(folder, "and 2 more", prompts=[replace(PROMPTS[0], id=str(at)) for at in range(9)])


def test_changed_run_name(tmp_path):
    make(tmp_path / "run").close()
    refuse(tmp_path / "run", 'run: "demo" in the folder, "other" now', run="other")
    refuse(tmp_path / "run", 'run: "demo" in the folder', run=None)


def test_hostile_values_cannot_write_to_the_terminal(tmp_path):
    make(tmp_path / "run").close()
    with pytest.raises(ChangedRunError) as caught:
        make(tmp_path / "run", settings={"\x1b[2J": "\x1b[31m" * 1000, "\u202e": 1})
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 2000


def test_folder_of_something_else_is_not_touched(tmp_path):
    (tmp_path / "holiday.txt").write_text("mine")
    with pytest.raises(LedgerError, match=r"holiday\.txt"):
        make(tmp_path)
    assert contents(tmp_path) == {"holiday.txt": b"mine"}


def test_prompts_of_something_else_are_not_overwritten(tmp_path):
    (tmp_path / "prompts.parquet").write_bytes(b"mine")
    with pytest.raises(LedgerError, match="not a run folder"):
        make(tmp_path)
    assert contents(tmp_path) == {"prompts.parquet": b"mine"}


def test_a_file_in_place_of_the_folder(tmp_path):
    (tmp_path / "run").write_text("mine")
    for path in (tmp_path / "run", tmp_path / "run" / "below"):
        with pytest.raises(LedgerError):
            make(path)
    assert (tmp_path / "run").read_text() == "mine"


def test_open_what_is_not_there(tmp_path):
    for path in (tmp_path / "absent", tmp_path, "nosuchprotocol://x"):
        with pytest.raises(LedgerError):
            Ledger.open(path)
    assert list(tmp_path.iterdir()) == []


# Crashes --------------------------------------------------------------------------------------------


def draw(folder):
    prompts = [Prompt(f"{at}.jpg", "captioning", "", None) for at in range(20)]
    with Ledger.create_or_resume(folder, run="kill", settings={"n": 1}, prompts=prompts) as ledger:
        print("ready", flush=True)
        for prompt, k in ledger.missing(4):
            seed = seed_of("kill", prompt.id, k)
            edit = Edit(0, 0, 1, "a", "b", seed / 2**63, 0.0, 0.0, 1.0)
            claim = Claim(0.5, "given")
            ledger.append([Sample(prompt.id, k, seed, f"text {seed}", claim=claim, edits=(edit,))])


# The source of `draw`, so that a writer does not import this file and pytest.
WRITER = f"""
import sys
from evenhand.ledger import Ledger, seed_of
from evenhand.records import Claim, Edit, Prompt, Sample

{inspect.getsource(draw)}
draw(sys.argv[1])
"""


def start_writer(folder):
    return subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", WRITER, str(folder)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        stdout=subprocess.PIPE,
    )


def test_killed_three_times_then_resumed_equals_uninterrupted(tmp_path):
    draw(tmp_path / "whole")
    expected = Ledger.open(tmp_path / "whole").samples()
    assert len(expected) == 80

    moments = random.Random(5)  # noqa: S311
    counts = []
    for _ in range(3):
        writer = start_writer(tmp_path / "killed")
        assert writer.stdout.readline() == b"ready\n"
        enough = (counts[-1] if counts else 0) + moments.randrange(2, 8)
        while len(list((tmp_path / "killed").glob("samples-*"))) < enough:
            assert writer.poll() is None
            time.sleep(0.0005)
        time.sleep(moments.uniform(0.0, 0.004))
        writer.kill()
        writer.communicate()
        ledger = Ledger.open(tmp_path / "killed")
        ledger.verify()
        found = ledger.samples()
        assert set(found) <= set(expected)
        counts.append(len(found))
    assert counts == sorted(set(counts))
    assert counts[-1] < 80
    (tmp_path / "killed" / ".tmp-samples-99999.parquet-0123abcd").write_bytes(b"half")
    draw(tmp_path / "killed")
    assert Ledger.open(tmp_path / "killed").samples() == expected
    assert not [name for name in contents(tmp_path / "killed") if name.startswith(".tmp-")]


def test_killed_while_being_created(tmp_path, monkeypatch):
    real = os.replace
    for survivors in (0, 1):  # before the manifest is there; between the manifest and the prompts
        folder = tmp_path / str(survivors)
        left = iter(range(survivors))

        def dies(source, target, left=left):
            if next(left, None) is None:
                raise KeyboardInterrupt
            real(source, target)

        monkeypatch.setattr(os, "replace", dies)
        with pytest.raises(KeyboardInterrupt):
            make(folder)
        monkeypatch.setattr(os, "replace", real)
        with make(folder) as ledger:
            ledger.append([sample("a.jpg", 0)])
            ledger.verify()
        assert Ledger.open(folder).prompts() == PROMPTS


def test_half_created_folder_refuses_other_prompts(tmp_path):
    make(tmp_path / "run").close()
    (tmp_path / "run" / "prompts.parquet").unlink()
    with pytest.raises(ChangedRunError, match="prompts_sha256"):
        make(tmp_path / "run", prompts=PROMPTS[:2])
    make(tmp_path / "run").close()
    assert Ledger.open(tmp_path / "run").prompts() == PROMPTS


@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_disk_refuses(run, tmp_path, monkeypatch, call, number):
    run.append([sample("a.jpg", 0)])
    before = contents(tmp_path / "run")

    def refuses(*_):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, refuses)
        with pytest.raises(LedgerError, match=os.strerror(number)):
            run.append([sample("b.jpg", 0)])
    assert contents(tmp_path / "run") == before
    assert run.samples() == (sample("a.jpg", 0),)
    run.append([sample("b.jpg", 0)])
    run.verify()
    assert len(run.samples()) == 2


def test_disk_full_in_the_middle_of_a_shard(run, tmp_path, monkeypatch):
    real, calls = os.write, []

    def short(descriptor, data):
        calls.append(len(data))
        if len(calls) > 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(descriptor, bytes(data[:100]))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", short)
        with pytest.raises(LedgerError, match="No space left"):
            run.append([sample("a.jpg", 0)])
    assert len(calls) == 4
    assert run.samples() == ()
    assert not list((tmp_path / "run").glob(".tmp-*"))


def test_short_writes_are_completed(run, monkeypatch):
    real = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda descriptor, data: real(descriptor, bytes(data[:97])))
        run.append([sample("a.jpg", 0)])
    run.verify()


def test_failed_sync_of_the_folder_is_reported_and_can_be_repeated(run, monkeypatch):
    real, calls = os.fsync, []

    def second_fails(descriptor):
        calls.append(descriptor)
        if len(calls) == 2:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", second_fails)
        with pytest.raises(LedgerError):
            run.append([sample("a.jpg", 0)])
    run.append([sample("a.jpg", 0)])
    run.verify()
    assert run.samples() == (sample("a.jpg", 0),)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root writes anywhere")
def test_read_only_folder(tmp_path):
    folder = tmp_path / "run"
    make(folder).close()
    folder.chmod(0o500)
    try:
        assert Ledger.open(folder).samples() == ()
        with pytest.raises(LedgerError, match="Permission denied"), make(folder) as ledger:
            ledger.append([sample("a.jpg", 0)])
    finally:
        folder.chmod(0o700)


# Two writers ----------------------------------------------------------------------------------------


def test_second_writer_in_one_process(run, tmp_path):
    with pytest.raises(LedgerBusyError, match="another process"):
        make(tmp_path / "run")
    run.append([sample("a.jpg", 0)])
    run.close()
    run.close()
    with pytest.raises(LedgerError, match="closed"):
        run.append([sample("b.jpg", 0)])
    with make(tmp_path / "run") as again:
        assert again.samples() == (sample("a.jpg", 0),)


def test_second_process_is_refused_and_readers_are_not(tmp_path):
    with make(tmp_path / "run") as ledger:
        script = textwrap.dedent(
            """
            import sys
            from evenhand.errors import LedgerBusyError
            from evenhand.ledger import Ledger
            print(len(Ledger.open(sys.argv[1]).prompts()))
            try:
                Ledger.create_or_resume(sys.argv[1], run="demo", settings={}, prompts=[])
            except LedgerBusyError:
                print("busy")
            """
        )
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-c", script, str(tmp_path / "run")],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.split() == ["3", "busy"]
        assert ledger.missing(1)


def test_a_forgotten_ledger_lets_go(tmp_path):
    make(tmp_path / "run")
    make(tmp_path / "run").close()


def test_a_refused_resume_lets_go(tmp_path):
    make(tmp_path / "run").close()
    with suppress(ChangedRunError):
        make(tmp_path / "run", settings={})
    make(tmp_path / "run").close()


def test_lock_is_never_made_through_a_link(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LedgerError):
        make(tmp_path / "run")
    assert not (tmp_path / "elsewhere").exists()


# Corruption -----------------------------------------------------------------------------------------


@pytest.fixture
def filled(tmp_path):
    folder = tmp_path / "run"
    with make(folder) as ledger:
        edit = Edit(0, 0, 1, "he", "she", 0.25, -0.5, 0.0, 1.5)
        for prompt, k in ledger.missing(2):
            ledger.append([sample(prompt.id, k, f"{prompt.id} {k}", claim=Claim(0.5, "given", 1), edits=(edit,))])
    return folder


@pytest.mark.parametrize("name", ["samples-00003.parquet", "prompts.parquet", "manifest.json"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_truncated_file(filled, name, share):
    whole = (filled / name).read_bytes()
    (filled / name).write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(CorruptLedgerError, match=name):
        Ledger.open(filled).verify()
    with pytest.raises(CorruptLedgerError, match=name):
        make(filled)


@pytest.mark.parametrize("name", ["samples-00003.parquet", "prompts.parquet"])
def test_flipped_byte_is_found_or_harmless(filled, name):
    before = Ledger.open(filled)
    expected = (before.samples(), before.prompts(), before.previews())
    whole = (filled / name).read_bytes()
    found = 0
    for at in range(0, len(whole), 41):
        damaged = bytearray(whole)
        damaged[at] ^= 0xFF
        (filled / name).write_bytes(damaged)
        try:
            ledger = Ledger.open(filled)
            ledger.verify()
            assert (ledger.samples(), ledger.prompts(), ledger.previews()) == expected
        except CorruptLedgerError:
            found += 1
    assert found > 0.3 * len(whole) / 41  # the rest is statistics and names that nothing reads


def test_flipped_byte_in_a_preview_is_found(tmp_path, pictures):
    make(tmp_path / "run", prompts=pictures).close()
    path = tmp_path / "run" / "prompts.parquet"
    whole = bytearray(path.read_bytes())
    middle = whole.index(b"\xff\xd8\xff") + 300
    whole[middle] ^= 1
    path.write_bytes(whole)
    with pytest.raises(CorruptLedgerError):
        Ledger.open(tmp_path / "run").verify()


def test_deleted_shard_is_drawn_again_with_the_same_seeds(filled):
    expected = Ledger.open(filled).samples()
    (filled / "samples-00003.parquet").write_bytes(b"broken")
    with pytest.raises(CorruptLedgerError, match="delete it and resume"):
        make(filled)
    (filled / "samples-00003.parquet").unlink()
    with make(filled) as ledger:
        ((prompt, k),) = ledger.missing(2)
        lost = next(one for one in expected if (one.prompt_id, one.k) == (prompt.id, k))
        ledger.append([replace(lost, seed=seed_of(ledger.run, prompt.id, k))])
        assert ledger.samples() == expected
    assert (filled / "samples-00006.parquet").exists()


def test_shard_twice(filled):
    shutil.copy(filled / "samples-00000.parquet", filled / "samples-00009.parquet")
    with pytest.raises(CorruptLedgerError, match="two places"):
        Ledger.open(filled).verify()


@pytest.mark.parametrize(
    ("other", "why"),
    [({"run": "other"}, "not its own"), ({"prompts": [Prompt("z.jpg", "p", "", None)]}, "no such prompt")],
)
def test_shard_of_another_run(filled, tmp_path, other, why):
    with make(tmp_path / "other", **other) as ledger:
        prompt, k = ledger.missing(1)[0]
        ledger.append([Sample(prompt.id, k, seed_of(ledger.run, prompt.id, k), "x")])
    shutil.copy(tmp_path / "other" / "samples-00000.parquet", filled / "samples-00000.parquet")
    for read in (Ledger.verify, Ledger.samples):
        with pytest.raises(CorruptLedgerError, match=why):
            read(Ledger.open(filled))


def test_edited_text_is_found(filled):
    path = filled / "samples-00000.parquet"
    table = pq.read_table(path)
    rows = table.to_pylist()
    rows[0]["text"] = "something nicer"
    pq.write_table(type(table).from_pylist(rows, schema=table.schema), path)
    with pytest.raises(CorruptLedgerError, match="rows_sha256"):
        Ledger.open(filled).verify()


def test_parquet_of_something_else(filled):
    shutil.copy(filled / "prompts.parquet", filled / "samples-00001.parquet")
    with pytest.raises(CorruptLedgerError, match="other columns"):
        Ledger.open(filled).verify()


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"format": 1}, LedgerError),
        ({"settings": {"model": "x"}}, CorruptLedgerError),
        ({"settings": None}, CorruptLedgerError),
        ({"prompts_sha256": "0" * 64}, CorruptLedgerError),
        ({"run": 5}, CorruptLedgerError),
        ({"run": "other"}, CorruptLedgerError),
    ],
)
def test_edited_manifest(filled, change, error):
    path = filled / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(error):
        Ledger.open(filled).verify()


def test_manifest_changed_after_opening(filled):
    ledger = Ledger.open(filled)
    path = filled / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "created": "never"}))
    with pytest.raises(CorruptLedgerError, match="changed since"):
        ledger.verify()


@pytest.mark.parametrize("text", ["[]", "null", "{", "[" * 100_000, "\xff"])
def test_manifest_that_is_none(filled, text):
    (filled / "manifest.json").write_text(text, encoding="latin-1")
    with pytest.raises(CorruptLedgerError):
        Ledger.open(filled)


def test_missing_prompts(filled):
    (filled / "prompts.parquet").unlink()
    with pytest.raises(CorruptLedgerError, match="it is missing"):
        Ledger.open(filled)
