"""The study as one static site: executed notebooks, their figures, the ledger and the documents, for any browser.

No page loads anything from outside. Every figure is the saved one, with a description made from its axes as its
alternative text; code is folded away.
"""

import base64
import html
import re
import shutil
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from urllib.parse import quote

import jinja2
import nbformat
from nbconvert import HTMLExporter
from nbconvert.filters import markdown2html
from PIL import Image
from pygments.formatters import HtmlFormatter

from studylib import paths
from studylib.analysis.claims import MARKS
from studylib.errors import StudyError

HERE = Path(__file__).parent
SAVED = re.compile(r'save_figure\(.*"(\w+)", ')
PROGRESS = re.compile(r"^(trials: \d|.*: \d+ of \d+ items, )")
WIDGET = "application/vnd.jupyter.widget-view+json"
LINK = re.compile(r'<a href="([^"]*)"[^>]*>(.*?)</a>', re.DOTALL)
IMAGE = re.compile(r'src="([^":]+\.png)"')
MARK = ".study-site"  # stands in a folder that is a site, and may be made anew
DOCUMENTS = ("README.md", "docs/findings.md", "docs/extending.md", "docs/scaling.md", "docs/security.md")
# Folded code, no prompts: what is left of a notebook reads like a paper's section.
TEMPLATE = """{% extends 'basic/index.html.j2' %}
{% block input_group %}<details class="code"><summary>code</summary>{{ super() }}</details>{% endblock %}
{% block in_prompt %}{% endblock %}
{% block output_area_prompt %}{% endblock %}"""


@dataclass(frozen=True)
class Page:
    """A page to be: where it goes below the site's folder, what it is called, and its content."""

    file: str
    title: str
    body: str
    group: str


def build(folder: Path) -> list[Path]:
    """Write the site into ``folder``, which is made anew, from every executed notebook there is.

    Raises:
        StudyError: no notebook has been executed, or the folder holds something else.
    """
    executed = sorted(paths.results_root().glob("*/notebooks/[0-9]*.ipynb"))
    executed = [file for file in executed if not file.stem.endswith(".failed")]
    if not executed:
        raise StudyError(f"{paths.results_root()}: no executed notebook; run 'make study' or 'make figures' first")
    if folder.exists() and not (folder / MARK).exists():
        raise StudyError(f"{folder}: not a site; name a new folder, what is there would be removed")
    pages = [_notebook(file) for file in executed]
    pages += [_document(paths.ROOT / name) for name in DOCUMENTS]
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / MARK).write_text("Made by `study site`, which may remove this folder.\n")
    page = jinja2.Environment(autoescape=False).from_string((HERE / "page.html.j2").read_text(encoding="utf-8"))
    groups: dict[str, list[Page]] = {}
    for one in pages:
        groups.setdefault(one.group, []).append(one)
    known = {one.file for one in pages} | {"index.html"}
    pages.append(Page("index.html", "How item content becomes Semantic IDs", _front(groups), ""))
    for one in pages:
        file = folder / one.file
        file.parent.mkdir(parents=True, exist_ok=True)
        up = "../" * one.file.count("/")
        body = LINK.sub(partial(_link, page=one, known=known), one.body)
        text = page.render(title=html.escape(one.title), body=body, up=up, groups=groups, here=one)
        file.write_text(text, encoding="utf-8")
    style = (HERE / "style.css").read_text(encoding="utf-8") + HtmlFormatter(style="default").get_style_defs(
        ".highlight"
    )
    (folder / "style.css").write_text(style, encoding="utf-8")
    return [folder / one.file for one in pages]


@cache
def _exporter() -> HTMLExporter:
    exporter = HTMLExporter()
    exporter.raw_template = TEMPLATE
    return exporter


def _notebook(file: Path) -> Page:
    data = file.parent.parent.name
    book = nbformat.read(file, as_version=4)
    book.cells = [cell for cell in book.cells if "injected-parameters" not in cell.metadata.get("tags", ())]
    for cell in book.cells:
        for output in cell.get("outputs", ()):
            _described(output, cell.source, data)
        if cell.cell_type == "code":
            cell.outputs = _quiet(cell.outputs)
    body, _ = _exporter().from_notebook_node(book)
    title = book.cells[0].source.splitlines()[0].lstrip("# ")
    return Page(f"{data}/{file.stem}.html", title, body, data)


def _quiet(outputs: list[dict]) -> list[dict]:
    """Streams in one piece, without the lines that told how far a run was; no widgets, which want a kernel."""
    kept: list[dict] = []
    for output in outputs:
        if WIDGET in output.get("data", {}):
            continue
        if output["output_type"] != "stream":
            kept.append(output)
            continue
        text = "".join(line for line in output["text"].splitlines(keepends=True) if not PROGRESS.search(line))
        if text and kept and kept[-1]["output_type"] == "stream":
            kept[-1]["text"] += text
        elif text:
            kept.append(output | {"text": text})
    return kept


def _described(output: dict, source: str, data: str) -> None:
    """Put the saved figure in place of the one shown, with its description as alternative text."""
    if "image/png" not in output.get("data", {}):
        return
    name = SAVED.search(source)
    file = paths.figures_of(data) / f"{name[1]}.png" if name else None
    if name and not file.exists():  # the ledger's figure is of no data set
        file = next(paths.figures_root().glob(f"*/{name[1]}.png"), None)
    if file is None:
        output.setdefault("metadata", {})["alt"] = "a figure without a description"
        return
    with Image.open(file) as picture:
        output.setdefault("metadata", {})["alt"] = picture.info.get("Description", name[1].replace("_", " "))
    output["data"]["image/png"] = _base64(file)
    output["data"].pop("text/plain", None)


def _document(file: Path) -> Page:
    text = file.read_text(encoding="utf-8")
    name = "readme" if file.stem == "README" else file.stem
    body = markdown2html(text)
    body = IMAGE.sub(lambda image: f'src="data:image/png;base64,{_base64(file.parent / image[1])}"', body)
    return Page(f"about/{name}.html", text.splitlines()[0].lstrip("# "), body, "about")


def _base64(file: Path) -> str:
    return base64.b64encode(file.read_bytes()).decode()


def _link(link: re.Match, page: Page, known: set[str]) -> str:
    """A link that works on the site: to a document's page, outside, or none at all."""
    target, text = link[1], link[2]
    if target.startswith(("#", "https://", "http://")) or text.strip() == "¶":
        return link[0]
    document = f"about/{Path(target.split('#')[0]).stem.lower()}.html"
    if target.split("#")[0].endswith(".md") and document in known:
        return f'<a href="{"../" * page.file.count("/")}{document}">{text}</a>'
    path = (Path(page.file).parent / target.split("#")[0]).as_posix()
    return link[0] if path in known else text


def _front(groups: dict[str, list[Page]]) -> str:
    ledger = paths.results_of("claims") / "ledger.md"
    text = (HERE / "front.md").read_text(encoding="utf-8")
    if ledger.exists():
        marks = ", ".join(f"{mark} {verdict}" for verdict, mark in MARKS.items())
        text += f"\n## The ledger of claims\n\n{marks}.\n\n"
        text += ledger.read_text(encoding="utf-8")
    lists = "".join(
        f"<h2>{html.escape(group)}</h2><ul>"
        + "".join(f'<li><a href="./{quote(page.file)}">{html.escape(page.title)}</a></li>' for page in pages)
        + "</ul>"
        for group, pages in groups.items()
    )
    return markdown2html(text) + lists
