"""The house: dependencies agree, the command line is polite, what things are called."""

import json
import re
import tomllib

import pytest
import yaml

from studylib import paths
from studylib.cli import main
from studylib.config import trial
from studylib.encoders.registry import ENCODERS
from studylib.errors import StudyError
from studylib.methods import METHODS, method

PROJECT = tomllib.loads((paths.ROOT / "pyproject.toml").read_text())["project"]


def test_environment_yml_is_a_door_to_pyproject():
    environment = yaml.safe_load((paths.ROOT / "environment.yml").read_text())
    pip = next(entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    extras = re.fullmatch(r"-e \.\[([a-z,]+)\]", next(line for line in pip if line.startswith("-e")))[1].split(",")
    assert set(extras) <= set(PROJECT["optional-dependencies"])
    others = [entry for entry in environment["dependencies"] if isinstance(entry, str)]
    assert sorted(re.split(r"[=<>]", entry)[0] for entry in others) == ["pip", "python"]


def test_every_package_is_installed():
    """A package that the list forgets is there in a checkout, and missing for whoever installs the project."""
    listed = tomllib.loads((paths.ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    there = {file.parent.relative_to(paths.ROOT) for file in (paths.ROOT / "studylib").rglob("__init__.py")}
    assert sorted(".".join(folder.parts) for folder in there) == listed


def test_constraints_fit_the_dependencies():
    lines = (paths.ROOT / "constraints.txt").read_text().splitlines()
    pinned = {re.split("==", line)[0].lower().replace("_", "-") for line in lines if "==" in line}
    wanted = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["encoders"]
    assert {re.split(r"[=<>\[]", entry)[0].lower() for entry in wanted} <= pinned


def test_check_prints_statistics_as_json(folders, capsys):
    assert main(["check", str(folders / "data" / "Toy")]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert list(printed) == ["users", "items", "interactions", "mean_length", "mean_words"]
    assert printed["users"] == 60


def test_bad_input_is_one_line_and_status_2(folders, capsys):
    for arguments in (["check", "nowhere"], ["recommend", "0123"], ["bench", "train", "--data-set", "nowhere"]):
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert error.startswith("study: error: ")
        assert error.count("\n") == 1


def test_encoders_are_listed(capsys):
    assert main(["encoders", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    names = {row["name"] for row in rows}
    assert {"minilm", "ppocr-v6", "efficientnet-lite0", "pixels", "random-crnn", "deepseek-ocr", "donut-base"} <= names
    assert all(row["available"] or row["why"] for row in rows)


def test_a_misspelt_setting_is_told_what_it_may_have_meant():
    with pytest.raises(StudyError, match=r"unknown setting 'generator.tiger.epoch'; did you mean 'epochs'\? There are"):
        trial(data="x", generator={"epoch": 2})
    with pytest.raises(StudyError, match=r"'generator.sasrec.layer'; did you mean 'layers'"):
        trial(data="x", generator={"name": "sasrec", "layer": 2})


def test_kinds_of_methods_that_no_table_lists():
    assert method("index:index_lemb_unique").paper == method("minilm").paper == "text"
    assert method("ppocr-v6-backbone").kind == "contrast"


def test_what_is_no_rival_of_a_reader_stands_beside_no_paper():
    assert ENCODERS.keys() <= METHODS.keys()
    readers = {name for name, encoder in ENCODERS.items() if encoder.kind == "ocr"}
    contrasts = {name for name in readers if METHODS[name].kind == "contrast"}
    assert all(method(name).paper == (None if name in contrasts else "ocr") for name in readers)
    assert contrasts == {"craft", "ppocr-v4-backbone", "ppocr-v6-backbone", "transcript-minilm"}
