"""The site from an executed notebook: nothing from outside, every figure described, every link there."""

import json
import re
from html.parser import HTMLParser
from urllib.parse import unquote

import matplotlib.pyplot as plt
import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from studylib import paths, plots
from studylib.cli import main
from studylib.errors import StudyError
from studylib.site import SAVED, build


class Tags(HTMLParser):
    def __init__(self, text: str):
        super().__init__()
        self.found: list[tuple[str, dict]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


@pytest.fixture
def site(folders):
    figure, axis = plt.subplots()
    axis.barh(["MiniLM", "random"], [0.2, 0.1])
    axis.set(title="a comparison", xlabel="test Recall@10")
    plots.save_figure(figure, "bars", "Toy")
    plt.close(figure)
    shown = new_output("display_data", {"image/png": "aGk=", "text/plain": "<Figure>"})
    told = [new_output("stream", text="trials: 1 of 2 done\n"), new_output("stream", text="- a finding\n")]
    cells = [
        new_markdown_cell("# 02 · A <question>\n\nSee [the data](01_datasets.html) and [nothing](../params/x.yaml)."),
        new_code_cell('plots.save_figure(figure, "bars", data)', outputs=[shown]),
        new_code_cell("print()", outputs=told),
    ]
    for data in ("Toy", "Toys & games #1"):
        folder = paths.results_of(data) / "notebooks"
        folder.mkdir(parents=True)
        for name in ("01_datasets", "02_unimodal", "03_broken.failed"):
            nbformat.write(new_notebook(cells=cells), folder / f"{name}.ipynb")
    build(folders / "site")
    return folders / "site"


def test_every_link_leads_somewhere_and_nothing_comes_from_outside(site):
    pages = list(site.rglob("*.html"))
    assert {page.relative_to(site).as_posix() for page in pages} >= {
        "index.html",
        "Toy/02_unimodal.html",
        "Toys & games #1/02_unimodal.html",
        "about/readme.html",
    }
    for page in pages:
        text = page.read_text()
        for tag, given in Tags(text).found:
            assert tag != "script"
            target = given.get("src", "") if tag != "a" else given.get("href", "")
            if tag == "link":
                target = given["href"]
            assert tag == "a" or not target.startswith("http")
            if target and not target.startswith(("http", "data:", "#")):
                assert (page.parent / unquote(target.split("#")[0])).is_file(), (page.name, target)
        assert not re.search(r"@import|url\(http", text)


def test_a_figure_is_the_saved_one_with_its_description(site):
    images = [given for tag, given in Tags((site / "Toy" / "02_unimodal.html").read_text()).found if tag == "img"]
    assert len(images) == 1
    for words in ("a comparison", "test Recall@10", "MiniLM, random"):
        assert words in images[0]["alt"]
    assert len(images[0]["src"]) > 1000


def test_findings_stay_and_progress_goes(site):
    text = (site / "Toy" / "02_unimodal.html").read_text()
    assert "a finding" in text
    assert "trials: 1 of 2" not in text
    assert "A &lt;question&gt;" in text
    assert '<a href="01_datasets.html">the data</a>' in text
    assert "x.yaml" not in text
    assert "failed" not in {page.stem.split(".")[-1] for page in site.rglob("*.html")}


def test_it_is_made_anew_and_touches_nothing_else(site, folders, capsys):
    (site / "old.html").write_text("")
    assert main(["site", str(site)]) == 0
    assert not (site / "old.html").exists()
    (folders / "mine").mkdir()
    (folders / "mine" / "thesis.tex").write_text("")
    (folders / "mine" / "index.html").write_text("somebody's own page")
    assert main(["site", str(folders / "mine")]) == 2
    assert "not a site" in capsys.readouterr().err
    assert (folders / "mine" / "thesis.tex").exists()


def test_without_an_executed_notebook_it_says_what_to_run(folders):
    with pytest.raises(StudyError, match="run 'make study'"):
        build(folders / "site")
    assert not (folders / "site").exists()


def test_the_name_of_every_figure_that_a_notebook_saves_is_found():
    found = []
    for file in sorted((paths.ROOT / "notebooks").glob("*.ipynb")):
        for cell in json.loads(file.read_text())["cells"]:
            source = "".join(cell["source"])
            if "save_figure(" in source:
                found.append(SAVED.search(source)[1])
    assert {"figure_5", "shapley_planted", "tokenizer_curves", "table_2"} <= set(found)
    assert "data" not in found
