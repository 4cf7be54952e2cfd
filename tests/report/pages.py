"""Reading a page: its elements, visible text and figures; and whether it is inert."""

import re
from html.parser import HTMLParser

HOSTILE = (
    "</script><img src=x onerror=alert(1)>",
    "\"'><svg onload=alert(1)><a href='https://evil.example/'>x</a>",
    "{{7*7}}{% include '/etc/passwd' %}$x^2$ &lt;b&gt;",
    "\x1b[31mred\x1b]8;;http://evil.example\x07\u202egnp.exe\u2066\x00\r\n",
    "</style></title><!-- <meta http-equiv=refresh content=0>",
)
CSP = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
ALLOWED = {
    "html",
    "head",
    "meta",
    "title",
    "style",
    "body",
    "main",
    "header",
    "section",
    "h1",
    "h2",
    "h3",
    "p",
    "div",
    "dl",
    "dt",
    "dd",
    "span",
    "b",
    "i",
    "small",
    "table",
    "caption",
    "thead",
    "tbody",
    "tr",
    "th",
    "td",
    "data",
    "mark",
    "article",
    "figure",
    "figcaption",
    "img",
    "details",
    "summary",
    "ul",
    "li",
    "svg",
    "defs",
    "g",
    "path",
    "use",
    "text",
    "clippath",
    "a",
    "sub",
    "rect",
}


class Page(HTMLParser):
    """Elements, their attributes, visible text and figures."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.figures: dict[str, tuple[str, str]] = {}
        self.bare: list[str] = []
        self._open: list[str] = []
        self._key = ""
        self.feed(page)
        self.close()

    @property
    def text(self) -> str:
        return re.sub(r"[ \n]+", " ", "".join(self.texts))

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in {"meta", "img"}:
            self._open.append(tag)
        if tag == "data":
            self._key = dict(attrs)["data-key"]
            self.figures[self._key] = (dict(attrs)["value"], "")

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag  # every element is closed where it should be

    def handle_data(self, data):
        if "style" in self._open:
            return
        self.texts.append(data)
        if self._open[-1:] == ["data"]:
            self.figures[self._key] = (self.figures[self._key][0], data.replace("\u00a0", " "))


def assert_readable(page: str) -> None:
    """What a reader of the markup needs: ids that are unique, tables with a name, headings of cells with a scope."""
    parsed = Page(page)
    ids = [attributes["id"] for _, attributes in parsed.elements if "id" in attributes]
    assert len(ids) == len(set(ids)), sorted({one for one in ids if ids.count(one) > 1})
    tables = re.findall(r"<table[^>]*>\s*(.{0,9})", page)
    assert tables
    assert set(tables) == {"<caption>"}
    captions = re.findall(r"<caption>(.*?)</caption>", page)
    assert all(captions)
    heads = [attributes for tag, attributes in parsed.elements if tag == "th"]
    assert {attributes.get("scope") for attributes in heads} <= {"row", "col"}
    assert not re.search(r"<th[^>]*></th>", page)
    headings = [re.sub(r"<[^>]*>", "", text).strip() for text in re.findall(r"<h[12][^>]*>(.*?)</h[12]>", page)]
    assert headings[0] not in headings[1:]


def assert_inert(page: str) -> Page:
    parsed = Page(page)
    for tag, attributes in parsed.elements:
        assert tag in ALLOWED, tag
        for name, value in attributes.items():
            assert not name.startswith("on"), name
            if name in {"src", "href", "xlink:href", "action", "data", "srcset", "poster"}:
                assert (value or "").startswith(("data:image/jpeg;base64,", "#")), value
            if name == "style":
                assert "url(" not in (value or "").replace("url(#", "")
    styles = "".join(re.findall(r"<style.*?</style>", page, re.DOTALL))
    assert "url(" not in styles
    assert "@import" not in styles
    assert {"http-equiv": "Content-Security-Policy", "content": CSP} in [a for _, a in parsed.elements]
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", page)
    return parsed
