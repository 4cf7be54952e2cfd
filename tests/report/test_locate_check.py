"""A written page of a location passes its check; every change to it or to its numbers is found."""

import dataclasses
import re

import pytest
from located_runs import bare, full

from evenhand.errors import BadInputError, ReportMismatchError
from evenhand.report.locate import check_location, write_location


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path = write_location([full(), bare()], tmp_path_factory.mktemp("located"), title="Where <b>it</b> sits")
    return {name: path.with_name(name).read_text() for name in ("locate.html", "locate.json")}


@pytest.fixture
def check(tmp_path):
    def run(files, found=None) -> int:
        for name, text in files.items():
            (tmp_path / name).write_text(text)
        return check_location(tmp_path / "locate.html", found or [full(), bare()])

    return run


def test_an_untouched_page_passes(check, written):
    assert check(written) > written["locate.html"].count("<data ") > 500


def test_every_figure_is_compared(check, written):
    page = written["locate.html"]
    spoiled = re.sub(r'<data value="[^"]*"', '<data value="7777"', page)
    with pytest.raises(ReportMismatchError) as told:
        check({**written, "locate.html": spoiled})
    named = re.search(r"(\d+) difference", str(told.value))
    assert named
    assert int(named.group(1)) == page.count("<data ")


@pytest.mark.parametrize(
    ("name", "pattern", "by"),
    [
        ("locate.html", r'(data-key="runs/janus-pro-1b/gender/part/language model/size/value">)31', r"\g<1>11"),
        ("locate.html", r'(data-key="runs/janus-pro-1b/gender/turned/male/female">)5', r"\g<1>4"),
        ("locate.html", r"The bias sits in the language model", "The bias sits in the picture decoder"),
        ("locate.html", r'(class="band" style="left:)\d+', r"\g<1>3"),
        ("locate.html", r'<path fill="#082756" d="M4 3', '<path fill="#082756" d="M3 3'),
        ("locate.html", r'style="background:#(?!ff)\w+', 'style="background:#ffffff'),
        ("locate.html", r"97.% · 98", "57\u00a0% · 98"),
        ("locate.html", r'(<use xlink:href="#\w+" x=")[\d.]+', r"\g<1>9.0"),
        ("locate.html", r"data:image/jpeg;base64,/9j/", "data:image/jpeg;base64,/9k/"),
        ("locate.html", r"not calibrated", "calibrated"),
        ("locate.html", r"</main>", "<p>RD is 0</p></main>"),
        ("locate.json", r'"p_value": 0.508', '"p_value": 0.9'),
        ("locate.json", r'"verdict": "biased"', '"verdict": "no evidence"'),
    ],
)
def test_any_change_is_found(check, written, name, pattern, by):
    changed = re.sub(pattern, by, written[name], count=1)
    assert changed != written[name]
    with pytest.raises(ReportMismatchError):
        check({**written, name: changed})


def test_other_records_do_not_pass(check, written):
    prompt = dataclasses.replace(full().prompts[0], pictures=41)
    other = dataclasses.replace(full(), prompts=(prompt, *full().prompts[1:]))
    with pytest.raises(ReportMismatchError, match=r"prompt/plumber/pictures: in the report 40 .* from the ledger 41"):
        check(written, [other, bare()])


def test_a_run_of_another_name_is_told_first(check, written):
    copy = dataclasses.replace(full(), run="copy")
    with pytest.raises(ReportMismatchError, match=r"'copy' is called 'runs/janus-pro-1b' in the report; nothing"):
        check(written, [copy, bare()])
    with pytest.raises(ReportMismatchError, match=r"Beside the name: \d+ difference"):
        check(written, [dataclasses.replace(copy, margin=0.1), bare()])


def test_what_is_no_page_is_refused(tmp_path):
    with pytest.raises(BadInputError, match=r"give the path of locate\.html"):
        check_location(tmp_path / "locate.html", [full()])
