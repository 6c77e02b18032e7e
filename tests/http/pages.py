"""What holds for every page of the dashboard, whatever is on it; and a reader of pages."""

import re
from collections import Counter
from html.parser import HTMLParser

import httpx

VOID = {"meta", "link", "input", "br", "hr", "img"}
FOREIGN = re.compile(r"(?:https?:)?//")
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


class Page(HTMLParser):
    """A page taken apart; what is wrong with it is collected."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.wrong: list[str] = []
        self.tags: Counter[str] = Counter()
        self.ids: Counter[str] = Counter()
        self.links: list[str] = []
        self.fields: dict[str, str] = {}
        """Name → value of what a form would send."""
        self.action = ""
        self.title = ""
        self.headings: list[str] = []
        self.main: dict[str, str] = {}
        self.named_by: list[str] = []
        """Ids that names and descriptions are taken from."""
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        self.wrong += [f"<{tag}> is not closed" for tag in self._open]
        self.wrong += [f"there is no id {name} to be named by" for name in self.named_by if name not in self.ids]
        self.wrong += [f"id {name} stands {count} times" for name, count in self.ids.items() if count > 1]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.tags[tag] += 1
        for name, value in given.items():
            if name == "style" or name.startswith("on") or value.lstrip().lower().startswith("javascript:"):
                self.wrong.append(f"<{tag} {name}> is against the policy")
            if name in {"href", "src", "action", "data-live"} and FOREIGN.match(value):
                self.wrong.append(f"<{tag} {name}> leads to a foreign host: {value}")
        if tag == "script" and "src" not in given:
            self.wrong.append("a script inside the page")
        if tag in {"input", "select", "textarea"}:
            if given.get("type") != "hidden" and "label" not in self._open:
                self.wrong.append(f"<{tag} name={given.get('name')}> has no label")
            if given.get("type") not in {"checkbox", "radio"} or "checked" in given:
                self.fields[given["name"]] = given.get("value", "")
        self._check_accessible(tag, given)
        if "id" in given:
            self.ids[given["id"]] += 1
        if "href" in given:
            self.links.append(given["href"])
        if tag == "form":
            self.action = given["action"]
        if tag == "main":
            self.main = given
        if tag not in VOID:
            self._open.append(tag)

    def _check_accessible(self, tag: str, given: dict[str, str]) -> None:
        """What those need who hear a page: names of landmarks and pictures, what a heading of a table is about."""
        named = any(given.get(name) for name in ("aria-label", "aria-labelledby"))
        if tag in {"nav", "section"} and not named:
            self.wrong.append(f"<{tag}> has no name")
        if tag == "th" and given.get("scope") not in {"col", "row"}:
            self.wrong.append("<th> does not say what it is the heading of")
        if (
            tag == "svg"
            and "svg" not in self._open
            and not (given.get("aria-hidden") == "true" or (given.get("role") == "img" and named))
        ):
            self.wrong.append("<svg> has no name, and is not hidden")
        if tag == "html" and not given.get("lang"):
            self.wrong.append("<html> does not say its language")
        if tag in {"button", "a"} and given.get("tabindex", "0") != "0":
            self.wrong.append(f"<{tag}> is out of the keyboard's order")
        for name in ("aria-labelledby", "aria-describedby"):
            self.named_by += given.get(name, "").split()

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open[-1] != tag:
            self.wrong.append(f"</{tag}> closes {self._open[-1:]}")
            return
        self._open.pop()

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if self._open[-1:] == ["title"] and "svg" not in self._open:
            self.title += data
        if self._open[-1:] == ["h1"]:
            self.headings.append(data.strip())


def page_of(response: httpx.Response, status: int = 200) -> Page:
    """The page in an answer, after checking that it is a good one."""
    assert response.status_code == status, response.text[:2000]
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.headers.get_list("content-security-policy") == [CSP]
    assert response.headers.get_list("referrer-policy") == ["same-origin"]
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["cache-control"] == "no-store"
    page = Page(response.text)
    assert not page.wrong
    assert [page.tags[each] for each in ("h1", "main", "header", "footer")] == [1, 1, 1, 1]
    assert next(link for link in page.links if not link.startswith("/assets/")) == "#main"
    assert page.title.strip(" ·")
    return page
