"""The page: one file, safe, whole."""

import re
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path

import pytest
from sample_run import Sample, leave, made, make_run

from tapir.errors import RunError
from tapir.report import write_report

VOID = {"meta", "link", "input", "br"}

ATTACKS = (
    "<script>document.title='owned'</script>",
    "<img src=x onerror=\"document.title='owned'\">",
    "<svg onload=\"document.title='owned'\"><style>*{display:none}</style></svg>",
    "</div></section></main><h1>gone</h1>",
    '"><a href="javascript:document.title=\'owned\'">click</a>',
    "{{ 7 * 7 }} {% raw %} ${7*7}",
    "<style>body{display:none}</style><link rel=stylesheet href=//evil.example/x.css>",
    "\u202egnp.exe\u2066 zero\u200bwidth\ufeff tag\U000e0041 nul\x00 bell\x07",
    "<iframe srcdoc='<script>1</script>'></iframe><base href=//evil.example/>",
    "&lt;script&gt; &amp;quot; &#x3C;b&#x3E;",
)


class Page(HTMLParser):
    """What a browser would see of the page's structure."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def values(self, name: str) -> list[str]:
        return [value for _, attribute, value in self.attributes if attribute == name]


@pytest.fixture(scope="module")
def page(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_report(sample, tmp_path_factory.mktemp("page") / "page.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> str:
    sample = Sample(rows=120, rounds=1, done=1, new=40, arms=(), per_cell=1, planted=ATTACKS)
    run = made(make_run(tmp_path_factory.mktemp("attacked"), sample))
    leave(run)
    return write_report(run).read_text(encoding="utf-8")


def test_the_page_asks_nothing_of_any_server_and_runs_no_script(page: str) -> None:
    parsed = Page(page)
    assert not {"script", "link", "img", "iframe", "object", "embed", "base", "form"} & set(parsed.tags)
    assert all(value.startswith("#") for value in parsed.values("href"))
    assert not parsed.values("src")
    assert "url(" not in page
    assert "@import" not in page


def test_the_policy_allows_this_style_sheet_and_nothing_else(page: str) -> None:
    found = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    css = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
    assert found and css
    digest = b64encode(sha256(css[1].encode()).digest()).decode()
    policy = found[1].replace("&#39;", "'")
    assert f"style-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    parsed = Page(page)
    assert not parsed.values("style")
    assert not [name for _, name, _ in parsed.attributes if name.startswith("on")]


def test_the_page_is_well_formed_and_its_ids_are_unique(page: str) -> None:
    parsed = Page(page)
    assert parsed.open == []
    ids = parsed.values("id")
    assert len(ids) == len(set(ids))
    assert {value.removeprefix("#") for value in parsed.values("href")} <= set(ids)


def test_every_figure_has_a_conclusion_a_name_and_its_numbers(page: str) -> None:
    figures = re.findall(r"<figure.*?</figure>", page, re.DOTALL)
    assert len(figures) >= 10
    for figure in figures:
        caption = re.search(r"<figcaption>(.+?)</figcaption>", figure, re.DOTALL)
        assert caption and len(caption[1]) > 20
        assert "<table>" in figure
        assert 'role="img" aria-label="' in figure
    assert page.count("<th scope") > 50


def test_the_page_is_small(page: str) -> None:
    assert len(page.encode()) < 1_000_000


def test_no_figure_holds_a_number_that_is_none(page: str) -> None:
    assert "nan" not in re.sub(r"[a-z]*nan[a-z]+|[a-z]+nan", "", page.lower())
    assert "None" not in page


def test_hostile_instructions_change_nothing(attacked: str, page: str) -> None:
    parsed = Page(attacked)
    assert parsed.open == []
    assert set(parsed.tags) <= set(Page(page).tags)
    assert not [name for _, name, _ in parsed.attributes if name.startswith("on")]
    assert all(value.startswith("#") for value in parsed.values("href"))


def test_hostile_instructions_are_shown_as_they_are(attacked: str) -> None:
    families = attacked[attacked.index('id="examples"') : attacked.index('id="contamination"')]
    shown = "".join(Page(f"<p>{''.join(families.split('>', 1)[1:])}".rpartition("</section>")[0] + "</p>").text)
    assert any(attack in shown for attack in ATTACKS[:6])


def test_invisible_characters_never_reach_the_page(attacked: str) -> None:
    assert not set("\u202e\u2066\u200b\ufeff\U000e0041\x00\x07") & set(attacked)


def test_a_page_that_cannot_be_written_is_named_and_leaves_nothing(sample: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(RunError, match=r"taken: cannot be written \(Is a directory\); give another file with --out"):
        write_report(sample, tmp_path / "taken")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
