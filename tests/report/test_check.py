"""A changed figure, text, element or JSON number is found and named."""

import dataclasses
import re

import pytest

from evenhand.errors import BadInputError, ReportMismatchError
from evenhand.report import check_report, write_report


@pytest.fixture(scope="module")
def pages(audit, tmp_path_factory):
    path = write_report(*audit, tmp_path_factory.mktemp("report"), title="Audit <b>& more\x1b")
    return path.read_text(), path.with_name("report.json").read_text()


@pytest.fixture
def check(audit, tmp_path):
    def run(page: str, numbers: str) -> int:
        (tmp_path / "report.html").write_text(page)
        (tmp_path / "report.json").write_text(numbers)
        return check_report(tmp_path / "report.html", *audit)

    return run


def swap(text: str, old: str, new: str) -> str:
    assert old in text
    return text.replace(old, new, 1)


def test_an_untouched_report_passes(check, pages):
    page, _ = pages
    assert check(*pages) > page.count("<data ") > 300


def test_a_changed_shown_number_is_named(check, pages):
    page, numbers = pages
    old = 'data-key="plain/estimate/MR_F/value">37.5'
    with pytest.raises(ReportMismatchError, match=r"plain/estimate/MR_F/value.*“31\.5.*“37\.5"):
        check(swap(page, old, old.replace("37.5", "31.5")), numbers)


def test_a_changed_value_is_named(check, pages):
    page, numbers = pages
    old = 'value="0.375" data-key="plain/estimate/MR_F/value"'
    with pytest.raises(ReportMismatchError, match=r"1 difference.*plain/estimate/MR_F/value: in the report 0\.374 "):
        check(swap(page, old, old.replace("0.375", "0.374")), numbers)


def test_a_number_in_the_plot_is_caught(check, pages):
    page, numbers = pages
    start = page.index("<svg")
    found = re.search(r">(37\.5.%)</text>", page[start:])
    assert found
    plot = swap(page[start:], found.group(0), ">11.5 %</text>")
    with pytest.raises(ReportMismatchError, match=r"in the report 11\.5 %"):
        check(page[:start] + plot, numbers)


def test_a_moved_marker_is_caught(check, pages):
    page, numbers = pages
    moved = re.sub(r'(<use xlink:href="#\w+" x=")[\d.]+', r"\g<1>9.0", page, count=1)
    assert moved != page
    with pytest.raises(ReportMismatchError, match="drawing of the plot"):
        check(moved, numbers)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("How to read this", "How to believe this"),
        ("</style>", "data{display:none}</style>"),
        ("</main>", "<p>MR_C is 0.01</p></main>"),
        ("</main>", "<!-- --><script>1</script></main>"),
        ('<mark class="reached">woman</mark>', '<mark class="reached">man</mark>'),
        ("says male ≠ declared", "says female"),
        ("data:image/jpeg;base64,/9j/", "data:image/jpeg;base64,/9k/"),
        ("</main>", '<data value="1" data-key="plain/estimate/MR_X/value">1</data></main>'),
    ],
)
def test_any_other_change_is_caught(check, pages, old, new):
    page, numbers = pages
    with pytest.raises(ReportMismatchError):
        check(swap(page, old, new), numbers)


def test_a_missing_figure_is_named(check, pages):
    page, numbers = pages
    page = re.sub(r'<data [^>]*data-key="align/comparison/MR_C ratio/low">[^<]*</data>', "0.09", page, count=1)
    with pytest.raises(ReportMismatchError, match=r"align/comparison/MR_C ratio/low: in the report \(absent\)"):
        check(page, numbers)


def test_json_is_checked(check, pages):
    page, numbers = pages
    with pytest.raises(ReportMismatchError, match=r"report\.json/runs/0/estimates/0/value.*0\.38.*0\.375"):
        check(page, swap(numbers, '"value": 0.375', '"value": 0.38'))
    with pytest.raises(ReportMismatchError, match="cannot be read"):
        check(page, numbers[:-9])


def test_other_records_do_not_pass(audit, pages, tmp_path):
    runs, comparisons = audit
    path = write_report(runs, comparisons, tmp_path, title="Audit")
    better = dataclasses.replace(runs[1].estimates[0], value=0.0)
    other = dataclasses.replace(runs[1], estimates=(better, *runs[1].estimates[1:]))
    with pytest.raises(ReportMismatchError, match="align/headline/MR_F/value"):
        check_report(path, (runs[0], other, runs[2]), comparisons)


def test_no_report_is_bad_input(audit, tmp_path):
    with pytest.raises(BadInputError, match=r"give the path of report\.html"):
        check_report(tmp_path / "report.html", *audit)


def test_captions_of_another_name_are_told_first(audit, tmp_path):
    runs, comparisons = audit
    path = write_report(runs, comparisons, tmp_path, title="Audit")
    copies = [dataclasses.replace(run, run=f"{run.run} copy") for run in runs]
    pairs = [
        dataclasses.replace(one, baseline=f"{one.baseline} copy", other=f"{one.other} copy") for one in comparisons
    ]
    with pytest.raises(
        ReportMismatchError, match=r"'align copy' is called 'align' in the report.*nothing else differs"
    ):
        check_report(path, copies, pairs)
