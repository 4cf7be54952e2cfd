"""A written report of drawn pictures passes its check; every change to its page, numbers or card is found."""

import dataclasses
import json
import re

import pytest

from evenhand.errors import ReportMismatchError
from evenhand.report import check_report, write_report


def test_a_written_report_passes_its_check(drawn, audit, tmp_path):
    runs, pairs = drawn
    given = {"pictures": runs, "picture_comparisons": pairs}
    path = write_report([], [], tmp_path / "alone", title="Audit", **given)
    assert sorted(one.name for one in path.parent.iterdir()) == ["model-card.md", "report.html", "report.json"]
    assert check_report(path, [], [], **given) > path.read_text().count("<data ")
    both = write_report(*audit, tmp_path / "both", title="Audit", **given)
    assert check_report(both, *audit, **given) > check_report(path, [], [], **given)
    again = write_report([], [], tmp_path / "again", title="Audit", **given)
    for name in ("report.html", "report.json", "model-card.md"):
        assert (again.parent / name).read_bytes() == (path.parent / name).read_bytes()
    with pytest.raises(ReportMismatchError):
        check_report(path, [], [], pictures=runs[::-1], picture_comparisons=pairs)


@pytest.fixture(scope="module")
def written(drawn, tmp_path_factory):
    runs, pairs = drawn
    folder = tmp_path_factory.mktemp("drawn")
    write_report([], [], folder, title="Audit", pictures=runs, picture_comparisons=pairs)
    return {name: (folder / name).read_text() for name in ("report.html", "report.json", "model-card.md")}


@pytest.mark.parametrize(
    ("name", "pattern", "by"),
    [
        ("report.html", r'(data-key="pictures/plain/gender/headline/RD/value">)[\d.]+', r"\g<1>0.01"),
        ("report.html", r'(data-key="pictures/plain/sheet/sewer/neutral/0/gender">)\d+', r"\g<1>51"),
        ("report.html", r'(class="fill g0" style="width:)95', r"\g<1>15"),
        ("report.html", r"data:image/jpeg;base64,/9j/", "data:image/jpeg;base64,/9k/"),
        ("report.html", r">18.%", ">28\u00a0%"),
        ("report.html", r"(18.% \[)4(–47\] of 11</text>)", r"\g<1>14\2"),
        ("report.html", r'(<use xlink:href="#\w+" x=")[\d.]+', r"\g<1>9.0"),
        ("report.html", r"Nobody checked", "Somebody checked"),
        ("report.html", r'title="gender: male"', 'title="gender: female"'),
        ("report.json", r'"prompts_above": 1', '"prompts_above": 2'),
        ("report.json", r'"RD difference",(\s+"value": )[-.\d]+', r'"RD difference",\g<1>0.5'),
        ("model-card.md", r"RD 0\.\d+", "RD 0.001"),
        ("model-card.md", r"value: 0\.\d+", "value: 0.001"),
        ("model-card.md", r"Nobody checked", "Somebody checked"),
    ],
)
def test_any_change_is_found(written, drawn, tmp_path, name, pattern, by):
    runs, pairs = drawn
    changed = re.sub(pattern, by, written[name], count=1)
    assert changed != written[name]
    for other, text in written.items():
        (tmp_path / other).write_text(changed if other == name else text)
    with pytest.raises(ReportMismatchError):
        check_report(tmp_path / "report.html", [], [], pictures=runs, picture_comparisons=pairs)


def test_an_absent_card_is_found(written, drawn, tmp_path):
    runs, pairs = drawn
    for name in ("report.html", "report.json"):
        (tmp_path / name).write_text(written[name])
    with pytest.raises(ReportMismatchError, match=r"model-card\.md"):
        check_report(tmp_path / "report.html", [], [], pictures=runs, picture_comparisons=pairs)


def test_json_holds_the_same_numbers(written):
    numbers = json.loads(written["report.json"])
    first = numbers["pictures"][0]
    assert first["attributes"]["gender"]["pattern"]["groups"][0] == {
        "group": "male",
        "pictures": 20,
        "prompts_above": 1,
        "prompts_below": 0,
    }
    assert first["attributes"]["gender"]["unknown"] == {"no face": 1, "uncertain": 1}
    rows = first["attributes"]["gender"]["per_prompt"]
    assert [row["title"] for row in rows] == ["sewer", "nurse", "clerk"]
    assert rows[1]["estimates"][0]["value"] == 2 / 11
    assert first["settings"]["model.name"] == ["miniature"]
    assert "gaps" in first["answers"]["gender"]
    assert numbers["picture_comparisons"][0]["moved"]["gender"]["female"]["male"] == 3
    assert "base64" not in written["report.json"]


def renamed(run, name):
    return dataclasses.replace(run, run=name)


def test_a_run_of_another_name_is_told_first(drawn, tmp_path):
    (first, second), (pair,) = drawn
    path = write_report([], [], tmp_path, title="Audit", pictures=[first, second], picture_comparisons=[pair])
    copy, again = renamed(first, "copy"), dataclasses.replace(pair, baseline="copy")
    with pytest.raises(ReportMismatchError) as told:
        check_report(path, [], [], pictures=[copy, second], picture_comparisons=[again])
    assert str(told.value).startswith(
        "report.html: the run 'copy' is called 'plain' in the report; nothing else differs."
    )
    better = dataclasses.replace(
        copy, estimates={"gender": (dataclasses.replace(copy.estimates["gender"][0], value=0.1),)}
    )
    with pytest.raises(
        ReportMismatchError, match=r"the run 'copy' is called 'plain' in the report\. Beside the name: \d+"
    ):
        check_report(path, [], [], pictures=[better, second], picture_comparisons=[again])
    with pytest.raises(ReportMismatchError) as told:
        check_report(path, [], [], pictures=[renamed(first, "moved"), renamed(second, "plain")])
    assert "is called" not in str(told.value)
