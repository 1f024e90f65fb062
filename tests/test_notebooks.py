"""Notebooks as documents, their parameters, and every one of them at the smallest scale through papermill itself."""

import ast
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
import papermill
import pytest
import yaml

from studylib import notebook, paths, unattended
from studylib.ablations import choices, references
from studylib.cli import main
from studylib.config import BUDGETS
from studylib.errors import NothingToDo, StudyError

NOTEBOOKS = sorted((paths.ROOT / "notebooks").glob("*.ipynb"))
SMOKE = paths.ROOT / "params" / "smoke" / "planted.yaml"
PARAMS = [*sorted((paths.ROOT / "params").glob("*.yaml")), SMOKE]
SMALLEST = {
    "features": ["minilm", "random"], "seeds": 1, "budget": "smoke", "codes": 32,
    "generator": {"epochs": 1, "alignment": 3},
    "baselines": {"item-knn": {}, "sasrec": {"epochs": 1}}, "tokenizers": ["residual-kmeans", "rq-vae"],
    "encoders": ["minilm"], "shapes": ["3x32", "2x32"], "collisions": ["dedup", "none"], "generators": ["base", "free"],
    "texts": ["minilm", "random"], "image": "pixels", "early": ["gate"], "late": ["A", "delimited", "C"],
    "resized": ["pixels"], "pages": ["1024", "256:varied"],
    "readers": ["pixels", "random-crnn"], "modalities": ["minilm", "pixels", "collaborative"],
    "mscgrec": ["full", "masked"], "fused_shapes": ["2x32"], "freely": ["A"],
    "true_codes": ["index:index_text", "index:index_image"], "late_as_mscgrec": ["A"],
    "stacked_generator": {"history": 9}, "ranked": ["planted"],
}  # fmt: skip
READS = {"06b_why_it_helps": "02_unimodal"}  # what must have run before


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_notebook_is_a_document(file):
    book = nbformat.read(file, as_version=4)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert book.metadata.kernelspec.name == "python3"
    assert book.cells[0].cell_type == "markdown"
    assert all(word in book.cells[0].source for word in ("**Question", "**Answers**", "**Costs**"))
    assert book.cells[1].metadata.tags == ["parameters"]
    assert max(len(cell.source.splitlines()) for cell in code) <= 20
    for cell in code:
        assert not cell.outputs
        assert cell.execution_count is None
        assert not any(word in cell.source for word in ("class ", "def ", ".backward("))


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_every_parameter_is_known_typed_and_explained(file):
    found = papermill.inspect_notebook(str(file))
    cell = nbformat.read(file, as_version=4).cells[1]
    assert len(found) == len(ast.parse(cell.source).body)  # papermill leaves out a line that it cannot parse
    for name, parameter in found.items():
        assert name in notebook.Parameters.model_fields
        assert parameter["inferred_type_name"] != "None"
        assert parameter["help"]


@pytest.mark.parametrize("file", PARAMS, ids=lambda file: str(file.relative_to(paths.ROOT)))
def test_params_files_are_valid(file):
    given = notebook.read_parameters(file)
    trials = notebook.check(given, str(file)).trials()
    assert len({trial.model_dump_json() for trial in trials}) == len(trials)
    parameters = notebook.check(given, str(file))
    fused = [parameters.fused("early"), parameters.fused("late"), parameters.fused_by_shape()]
    for rows in (parameters.alone(), *fused):
        wanted = [trial.model_dump_json() for row in rows.values() for trial in row]
        assert all(rows.values())
        assert len(set(wanted)) == len(wanted)
    assert given["reference"] in given["features"] if "reference" in given else True


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Trials and embeddings that one notebook leaves to the next: many share rows, and each is trained once."""
    return tmp_path_factory.mktemp("kept")


@pytest.mark.xdist_group("notebooks")
@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_every_notebook_runs_at_the_smallest_scale(file, folders, kept, monkeypatch):
    monkeypatch.setenv("STUDY_CACHE", str(kept / "cache"))
    store = folders / "results" / "trials"
    if (kept / "trials").exists():
        shutil.copytree(kept / "trials", store)
    if file.stem in READS:
        unattended.execute(file.with_stem(READS[file.stem]), SMALLEST, folders / "executed")
        shutil.rmtree(folders / "figures")
    done = unattended.execute(file, SMALLEST, folders / "executed")
    book = nbformat.read(done, as_version=4)
    assert all(cell.execution_count for cell in book.cells if cell.cell_type == "code")
    assert not list((folders / "executed").glob("*.partial.ipynb"))
    assert list((folders / "results").glob("*/*.csv"))
    assert list((folders / "figures").glob("*/*.png"))
    drawn = {figure: figure.read_bytes() for figure in (folders / "figures").glob("*/*")}
    shutil.rmtree(folders / "figures")
    unattended.execute(file, SMALLEST | {"train": False}, folders / "executed")
    assert all(figure.read_bytes() == content for figure, content in drawn.items())
    if store.exists():
        shutil.copytree(store, kept / "trials", dirs_exist_ok=True)


@pytest.mark.xdist_group("notebooks")
def test_two_runs_in_one_folder_do_not_share_sockets(folders, monkeypatch):
    """Kernels talk through sockets in the file system; by default these have one name in one folder."""
    monkeypatch.chdir(folders)
    books = []
    for name in ("one", "other"):
        book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("import time\ntime.sleep(3)")])
        nbformat.write(book, folders / f"{name}.ipynb")
        books.append(folders / f"{name}.ipynb")
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda book: unattended.execute(book, {}, folders / "executed"), books))
    assert all(file.exists() for file in done)
    assert not list(folders.glob("kernel-ipc*"))


def test_copies_have_the_parameters_and_stay_as_they_are_edited(folders, capsys):
    params = str(paths.ROOT / "params" / "planted.yaml")
    asked = ["run", str(paths.ROOT / "notebooks" / "02_unimodal.ipynb"), params, "--copies", str(folders / "lab")]
    assert main(asked) == 0
    copy = folders / "lab" / "02_unimodal.ipynb"
    injected = [cell for cell in nbformat.read(copy, 4).cells if "injected-parameters" in cell.metadata.get("tags", ())]
    assert "codes = 32" in injected[0].source
    assert "knobs" not in injected[0].source, "which this notebook does not take"
    copy.write_text("mine")
    assert main(asked) == 0
    assert copy.read_text() == "mine"
    assert "remove it for a new one" in capsys.readouterr().out
    assert [file.name for file in (folders / "lab").iterdir()] == ["02_unimodal.ipynb"]
    assert main([*asked[:2], params, *asked[2:]]) == 2
    assert "one file of parameters at a time" in capsys.readouterr().err


@pytest.mark.xdist_group("notebooks")
def test_plain_papermill_refuses_a_misspelt_parameter(folders):
    book = paths.ROOT / "notebooks" / "02_unimodal.ipynb"
    with pytest.raises(papermill.PapermillExecutionError) as error:
        papermill.execute_notebook(
            str(book), str(folders / "out.ipynb"), parameters={"sede": 3}, progress_bar=False, kernel_name="python3"
        )
    assert error.value.ename == "StudyError"
    assert "unknown parameter 'sede'" in error.value.evalue


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"sede": 1}, "unknown parameter 'sede'; choose from data"),
        ({"seeds": 0}, "setting 'seeds'"),
        ({"seeds": "many"}, "setting 'seeds'"),
        ({"budget": "huge"}, "must be one of smoke, cpu, paper"),
        ({"features": 3}, "setting 'features'"),
        ({"reference": ["minilm"]}, "setting 'reference'"),
        ({"features": ["random", "random"]}, "features must differ"),
        ({"fewer_seeds": {"opk": 1}}, "fewer_seeds: no row is called 'opk'"),
        ({"fewer_seeds": {"shuffled:opk": 1}}, "fewer_seeds: no row is called 'shuffled:opk'"),
        ({"fewer_seeds": {"writing:minilmm": 1}}, "fewer_seeds: no row is called 'writing:minilmm'"),
        ({"fewer_seeds": {"opq": 0}}, "fewer_seeds: opq needs one seed at least"),
        ({"more_seeds": {"opk": 4}}, "more_seeds: no row is called 'opk'"),
        ({"fusions": ["opq"]}, "'opq' is none of gate"),
        ({"pages": ["1024", "512"], "fused_pages": ["256"]}, "256: none of pages"),
        ({"pages": ["1024"]}, "setting 'pages'"),
        ({"features": ["random"], "reference": "minilm"}, "'minilm' is none of the features random"),
        ({"generator": {"lrr": 1}}, "unknown setting 'generator.tiger.lrr'"),
    ],
)
def test_wrong_parameters_are_refused_before_a_kernel_starts(given, complaint, tmp_path):
    with pytest.raises(StudyError) as error:
        unattended.execute(NOTEBOOKS[0].with_stem("02_unimodal"), given, tmp_path)
    assert complaint in str(error.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("stem", "given", "complaint"),
    [
        ("08_modality_values", {"knobs": ["planted:crossed=5"]}, "items must be a multiple of 125"),
        ("08_modality_values", {"knobs": ["planted:text=0.1,text=0.2"]}, "text is given twice"),
        ("12_mscgrec", {"mscgrec": []}, "setting 'mscgrec'"),
        ("03_early_fusion", {"early": []}, "early is empty, so there is nothing to compare"),
        ("04_late_fusion", {"late": []}, "late is empty, so there is nothing to compare"),
        ("04_late_fusion", {"true_codes": ["index:index_text"]}, "true_codes.*name two"),
        ("04_late_fusion", {"true_codes": ["minilm", "pixels"]}, "true_codes.*name two ready IDs"),
        (
            "04_late_fusion",
            {"texts": ["index:a"], "image": "index:b", "fused_shapes": ["3x256", "2x256"]},
            "fused_shapes: index:a are ready Semantic IDs.*write fused_shapes: \\[\\]",
        ),
        (  # by the notebook's own fused_shapes
            "04_late_fusion",
            {"texts": ["index:a"], "image": "index:b"},
            "fused_shapes: index:a are ready Semantic IDs.*write fused_shapes: \\[\\]",
        ),
    ],
)
def test_what_one_notebook_cannot_use_is_refused_there_too(stem, given, complaint, tmp_path):
    with pytest.raises(StudyError, match=complaint):
        unattended.execute(NOTEBOOKS[0].with_stem(stem), given, tmp_path)


def test_a_parameters_cell_has_plain_values_alone(tmp_path):
    file = tmp_path / "own.ipynb"
    cell = nbformat.v4.new_code_cell("seeds: int = len(range(3))", metadata={"tags": ["parameters"]})
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata=kernel), file)
    with pytest.raises(StudyError, match=r"own.ipynb: parameter seeds: 'len\(range\(3\)\)' is no plain value"):
        unattended.ready(file, {})


def test_sentences_are_said_as_a_list(capsys):
    notebook.say(["one", "two"], "Both:")
    notebook.say(())
    assert capsys.readouterr().out == "Both:\n- one\n- two\n"


def test_spaces_are_of_encoders_and_one_text_is_enough():
    def spaces(**given):
        return notebook.check(given, "x").spaces()

    assert list(spaces(texts=["minilm"], image="pixels", also=["random"]).values()) == ["pixels", "minilm", "random"]
    with pytest.raises(StudyError, match="index:mine: Semantic IDs, which have no embeddings"):
        spaces(texts=["index:mine"])
    with pytest.raises(StudyError, match="name one text at least, and none twice"):
        spaces(also=["minilm"])
    with pytest.raises(StudyError, match="name one text at least"):
        spaces(texts=[])


def test_a_parameter_given_by_hand_is_taken_by_some_notebook(folders, capsys):
    """One of a file may be meant for another notebook; one that is typed is meant."""
    files = [str(paths.ROOT / name) for name in ("notebooks/02_unimodal.ipynb", "params/planted.yaml")]
    assert main(["run", *files, "-p", "tokenizers", "[rq-vae]"]) == 2
    assert "-p tokenizers: none of 02_unimodal.ipynb takes it; they take baselines, budget" in capsys.readouterr().err


def test_a_notebook_of_several_data_sets_looks_at_its_own_without_a_list():
    assert notebook.check({"data": "mine/Shop"}, "here").datasets == ("mine/Shop",)
    assert notebook.check({"data": "mine/Shop", "datasets": []}, "here").datasets == ("mine/Shop",)
    assert notebook.check({"data": "mine/Shop", "datasets": ["HM"]}, "here").datasets == ("HM",)


def test_the_template_for_ones_own_data_is_the_papers_size_where_that_is_asked_for():
    given = notebook.read_parameters(paths.ROOT / "params" / "templates" / "own.yaml")
    own = notebook.check(given | {"budget": "paper", "tokenizer": {"levels": 4}}, "own.yaml").trials()[0]
    assert own.generator == BUDGETS["paper"]
    assert (own.tokenizer.levels, own.tokenizer.codes) == (4, 256)


def test_the_template_of_mscgrec_trains_as_001_does():
    given = notebook.read_parameters(paths.ROOT / "params" / "templates" / "mscgrec.yaml")
    full, first, *_ = (trials[0] for trials in notebook.check(given, "mscgrec.yaml").stacked().values())
    told, paper = full.generator, BUDGETS["paper"]
    assert (told.heads, told.d_head, told.d_ff, told.lr, told.epochs) == (8, 64, 2048, 2e-3, 25)
    assert (told.targets_per_step, told.history, told.beams, told.softmax) == (2048, 20, 20, "tree")
    assert told.encoder_layers == paper.encoder_layers
    assert (full.target, full.tokenizer.codes, full.tokenizer.levels) == ("collaborative", 256, 3)
    assert (told.positions, first.generator.positions) == ("two-part", "t5")


def test_a_data_set_that_is_left_out_need_not_be_there(folders):
    given = {"datasets": ["planted", "nowhere"]}
    assert unattended.ready(NOTEBOOKS[0].with_stem("06b_why_it_helps"), given) == given
    with pytest.raises(StudyError, match="nowhere"):
        unattended.ready(NOTEBOOKS[0].with_stem("01_datasets"), given)


def test_a_notebook_without_rows_is_skipped_and_named(folders, capsys):
    """As `study run notebooks/*.ipynb params/*.yaml` meets it; the others run."""
    params = folders / "p.yaml"
    params.write_text("early: []\nbudget: smoke\n")
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 + 1")], metadata=kernel)
    nbformat.write(book, folders / "other.ipynb")
    needy = str(paths.ROOT / "notebooks" / "03_early_fusion.ipynb")
    assert main(["run", needy, str(folders / "other.ipynb"), str(params)]) == 0
    said = capsys.readouterr().out
    assert "03_early_fusion.ipynb on planted: skipped: early is empty" in said
    states = {line.split()[0]: line.split()[2] for line in said.splitlines() if line.startswith(("03_", "other "))
              and "planted" in line and ":" not in line}  # fmt: skip
    assert states == {"03_early_fusion": "skipped", "other": "done"}
    assert main(["run", needy, str(folders / "other.ipynb"), str(params), "--copies", str(folders / "lab")]) == 0
    assert [file.name for file in (folders / "lab").iterdir()] == ["other.ipynb"]


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_no_cell_gives_a_parameters_name_to_something_else(file):
    """The set-up cell, run again by hand, would take it for the parameter."""

    def names(cell) -> set[str]:
        found = (node for node in ast.walk(ast.parse(cell.source)) if isinstance(node, ast.Name))
        return {node.id for node in found if isinstance(node.ctx, ast.Store)}

    code = [cell for cell in nbformat.read(file, as_version=4).cells if cell.cell_type == "code"]
    given = set().union(*(names(cell) for cell in code if "parameters" in cell.metadata.get("tags", [])))
    for cell in code:
        if "parameters" not in cell.metadata.get("tags", []):
            assert not names(cell) & given - {"data"}, cell.source


@pytest.mark.parametrize(("name", "empty"), [("instruments", []), ("arts", [])])
def test_what_reads_embeddings_is_skipped_where_ids_are_published(name, empty):
    """03, 05, 06, 09, 10, and what has an empty list (``empty``); the others would start from their finished trials."""
    given, skipped = notebook.read_parameters(paths.ROOT / "params" / f"{name}.yaml"), []
    for file in NOTEBOOKS:
        try:
            unattended.ready(file, given | {"train": False, "datasets": ["planted"]})
        except NothingToDo:
            skipped.append(file.stem[:2])
    assert skipped == sorted(["03", "05", "06", "09", "10", *empty])


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_the_smallest_scale_leaves_no_notebook_out(file):
    """`make smoke` gives all notebooks one file: none has nothing to do, and what trains trains the smallest trials."""
    given = unattended.ready(file, notebook.read_parameters(SMOKE))
    trains = "budget" in unattended.taken(file)
    assert given.get("budget") == ("smoke" if trains else None)


def test_the_same_codes_in_the_other_order():
    found = notebook.check({"late": ["A", "A:text-first", "C"], "texts": ["minilm"], "seeds": 1}, "x")
    features = {row: trials[0].features for row, trials in found.fused("late").items()}
    assert features == {
        "MiniLM-L6 + image, A concatenated": "efficientnet-lite0+minilm",
        "MiniLM-L6 + image, A concatenated, text first": "minilm+efficientnet-lite0",
        "MiniLM-L6 + image, C delimited and aligned": "efficientnet-lite0+minilm",
    }
    shaped = notebook.check({"late": ["A:text-first"], "fused_shapes": ["2x32"], "seeds": 1}, "x").fused_by_shape()
    assert [trials[0].features for trials in shaped.values()] == ["minilm+efficientnet-lite0"]


def test_papers_numbers_stand_beside_the_rows_that_they_are_of():
    found = notebook.check({"data": "Scientific", "early": ["gate", "mean"], "late": ["A", "C"]}, "x")
    single = {"MiniLM-L6": 0.0795, "PP-OCRv6": 0.0840}
    assert found.beside_paper("early") == single | {"PP-OCRv6 + image, gate": 0.0829}
    assert found.beside_paper("late") == single | {"PP-OCRv6 + image, C delimited and aligned": 0.0840}
    assert notebook.check({"data": "planted"}, "x").beside_paper("late") == {}


def test_parts_of_letter_stand_against_letter():
    names = ("residual-kmeans", "letter", "letter:no-ranking", "letter:no-alignment", "letter:no-diversity")
    rows = choices("tokenizers", names)
    whole = rows["letter"]
    assert set(references(rows).values()) == {whole.label}
    assert len(references(rows)) == 3
    for name, lacking in (("letter:no-alignment", "alignment"), ("letter:no-diversity", "diversity")):
        row = rows[name]
        assert row.generator == whole.generator
        assert row.tokenizer | {lacking: 0.0} == whole.tokenizer | {lacking: 0.0} == row.tokenizer
    assert rows["letter:no-ranking"].tokenizer == whole.tokenizer
    assert whole.generator["temperature"] < 1
    assert rows["letter:no-ranking"].generator == {}


def test_the_parameters_cell_can_be_run_again_by_hand():
    namespace = {"data": "planted", "seeds": 2}
    assert notebook.parameters(namespace).seeds == 2
    namespace |= {"rows": [1, 2], "line": "made by another cell", "seeds": 3}
    assert notebook.parameters(namespace).seeds == 3


@pytest.mark.parametrize(("seeds", "opq", "random"), [(3, 1, 2), (1, 1, 1)])
def test_rows_with_fewer_seeds(seeds, opq, random):
    given = {"features": ["minilm", "random"], "seeds": seeds, "fewer_seeds": {"opq": 1, "random": 2}}
    given["fewer_seeds"]["shuffled:minilm"] = 1  # a row of another notebook
    parameters = notebook.check(given, "x")
    rows = choices("tokenizers", ("residual-kmeans", "opq"))
    assert [len(parameters.content("minilm", row)) for row in rows.values()] == [seeds, opq]
    assert len(parameters.content("random")) == random


def test_rows_with_more_seeds():
    given = {"seeds": 2, "more_seeds": {"1024:varied": 4}, "varied": ["pixels"], "resized": ["pixels"], "fusions": []}
    parameters = notebook.check(given | {"pages": ["1024", "1024:varied"], "fewer_seeds": {"1024": 1}}, "x")
    assert [len(trials) for trials in parameters.drawn()["raw pixels 64x64"].values()] == [1, 4]
    assert [len(trials) for trials in parameters.on_varied().values()] == [4]
    both = notebook.check(given | {"pages": ["1024", "1024:varied"], "fewer_seeds": {"pixels": 1}}, "x")
    assert [len(trials) for trials in both.drawn()["raw pixels 64x64"].values()] == [1, 4]


def test_pages_are_for_what_reads_pages():
    rows = notebook.check({"resized": ["shuffled:pixels"], "fusions": ["gate", "B"]}, "x").drawn()
    fused = [row.removeprefix(next(iter(rows))) for row in rows]
    assert fused == ["", " + image, gate", " + image, B interleaved"]
    given = {"resized": ["pixels"], "pages": ["1024", "256", "256:varied"], "fused_pages": ["1024", "256:varied"]}
    alone, fused = notebook.check(given, "x").drawn().values()
    assert ([*alone], [*fused]) == (["1024 px", "256 px", "256 px, varied"], ["1024 px", "256 px, varied"])
    varied = notebook.check({"varied": ["pixels"], "resized": ["pixels"], "pages": ["1024:varied", "256:varied"]}, "x")
    assert [*varied.on_varied().values()] == [varied.drawn()["raw pixels 64x64"]["1024 px, varied"]]
    for name in ("minilm", "random", "index:x", "features:x"):
        given = notebook.check({"resized": [name], "varied": [name], "fusions": []}, "x")
        for rows in (given.drawn, given.on_varied):
            with pytest.raises(StudyError, match=f"{name} reads no pages"):
                rows()


def test_baselines_with_fewer_seeds():
    given = {"seeds": 3, "fewer_seeds": {"sasrec": 2}, "baselines": {"sasrec": {}, "gru4rec": {}, "item-knn": {}}}
    names = [spec.generator.name for spec in notebook.check(given, "x").baseline_trials()]
    assert names == ["sasrec"] * 2 + ["gru4rec"] * 3 + ["item-knn"]


def test_alignment_is_the_budgets_if_nothing_else_is_said():
    """000, section 4.1.2: 2,000 steps at 1e-4, for the paper's sizes."""

    def aligned(late="C", **given):
        found = notebook.check({"late": [late], "texts": ["minilm"], "seeds": 1, **given}, "here").fused("late")
        (spec,) = next(iter(found.values()))
        return spec.generator.alignment, spec.generator.alignment_lr

    assert aligned(budget="paper") == (2000, 1e-4)
    assert aligned() == (1000, 1e-3)
    assert aligned(generator={"alignment": 7}) == (7, 1e-3)
    assert aligned("A", generator={"alignment": 7, "alignment_lr": 1e-3}) == aligned("A") == (0, 1e-4)


def test_settings_of_the_stacked_rows_are_theirs_alone():
    def rows(**given):
        found = notebook.check({"texts": ["minilm"], "late": ["A"], "seeds": 1, **given}, "here")
        return found.alone() | found.fused("late"), found.stacked()

    rivals, stacked = rows()
    same, longer = rows(stacked_generator={"epochs": 77})
    assert same == rivals
    assert {spec.generator.epochs for (spec,) in longer.values()} == {77}
    assert {spec.generator.positions for (spec,) in stacked.values()} == {"two-part-past", "t5"}
    assert {spec.generator.positions for (spec,) in rows(budget="paper")[1].values()} == {"two-part", "t5"}
    with pytest.raises(StudyError, match="softmax: in this the rows of mscgrec differ"):
        rows(stacked_generator={"softmax": "level"})


def test_late_fusion_trained_as_mscgrec_has_both_halves_trained_so():
    own = {"augmentation": "both-ways", "epochs": 50}
    given = {"texts": ["minilm"], "seeds": 3, "generator": own, "stacked_generator": {"epochs": 77}, "late": ["A"]}
    given |= {"fewer_seeds": {"late_as_mscgrec": 2, "B": 1}, "rivals": []}
    found = notebook.check(given | {"late_as_mscgrec": ["B"]}, "here")
    alike = found.as_mscgrec()
    rows = alike.alone() | alike.fused("late")
    assert list(rows) == ["MiniLM-L6", "EfficientNet-Lite0", "MiniLM-L6 + image, B interleaved"]
    for trials in rows.values():
        assert [(spec.generator.epochs, spec.generator.augmentation) for spec in trials] == [(77, "both-ways")] * 2
    assert {spec.generator.epochs for trials in found.fused("late").values() for spec in trials} == {50}
    beside = found.beside_mscgrec()
    assert [row for row in beside if row.endswith(notebook.AS_MSCGREC)] == [f"{row}, as MSCGRec" for row in rows]
    assert [*notebook.check(given, "here").beside_mscgrec()] == [*beside][:-3]
    with pytest.raises(StudyError, match="setting 'late_as_mscgrec': 'gate' is none of A, A:text"):
        notebook.check({"late_as_mscgrec": ["gate"]}, "here")
    with pytest.raises(StudyError, match="of stacked_generator, which is empty; fill it"):
        notebook.check({"late_as_mscgrec": ["A"]}, "here")


def test_codes_are_asked_for_of_all_seeds():
    found = notebook.check({"seeds": 3, "texts": ["minilm"], "early": ["gate"], "fewer_seeds": {"gate": 1}}, "here")
    assert [len(trials) for trials in found.fused("early").values()] == [1]
    assert [len(trials) for trials in found.of_all_seeds().fused("early").values()] == [3]


def test_the_written_modality_alone_and_other_modalities_written():
    given = {"seeds": 2, "stacked_generator": {"epochs": 77}, "mscgrec": ["full", "alone", "writing:minilm"]}
    found = notebook.check(given | {"fewer_seeds": {"alone": 1, "writing:minilm": 1}}, "here")
    stacked = found.stacked()
    (alone,) = stacked["MSCGRec, written modality alone"]
    assert alone.generator == stacked["MSCGRec"][0].generator
    assert alone.generator.epochs == 77
    assert (
        alone.model_copy(update={"generator": found.content("collaborative")[0].generator})
        == (found.content("collaborative")[0])
    )
    (other,) = stacked["MSCGRec, writing MiniLM-L6"]
    assert other.model_copy(update={"target": "collaborative"}) == stacked["MSCGRec"][0]
    assert other.target == "minilm"
    assert found.ablated() == {
        f"{row}, against MSCGRec": (row, "MSCGRec")
        for row in ("MSCGRec, written modality alone", "MSCGRec, writing MiniLM-L6")
    }
    for wrong in ("collaborative", "ppocr-v6"):
        with pytest.raises(StudyError, match=f"writing:{wrong} is not one of the other modalities; choose from minilm"):
            notebook.check({"mscgrec": ["full", f"writing:{wrong}"]}, "here")
    with pytest.raises(StudyError, match="'write:minilm' is none of full"):
        notebook.check({"mscgrec": ["write:minilm"]}, "here")


def test_placeholders_stand_for_a_modality_that_is_not_written():
    given = {"seeds": 2, "placeholders": ["random"], "fewer_seeds": {"masked:random": 1}}
    found = notebook.check(given, "here").masked()
    assert {label: [spec.features for spec in row] for label, row in found.items()} == {
        "MSCGRec, masked": ["minilm+efficientnet-lite0+collaborative"] * 2,
        "MSCGRec, masked, random IDs for EfficientNet-Lite0": ["minilm+random+collaborative"],
    }
    assert {spec.generator.masking for row in found.values() for spec in row} == {0.75}
    turned = notebook.check(given | {"target": "efficientnet-lite0"}, "here").masked()
    assert [*turned.values()][1][0].features == "minilm+efficientnet-lite0+random"
    for modalities, complaint in (
        (["collaborative"], "fusion stacked of 1 features"),
        (["minilm", "random", "collaborative"], "placeholders: random is one of the modalities"),
    ):
        with pytest.raises(StudyError, match=complaint):
            notebook.check(given | {"modalities": modalities}, "here").masked()
    with pytest.raises(StudyError, match="begin with one that reads all modalities"):
        notebook.check({"mscgrec": ["alone"]}, "here")


@pytest.mark.parametrize(
    "file", [*PARAMS, *sorted((paths.ROOT / "params" / "templates").glob("*.yaml"))], ids=lambda file: file.stem
)
def test_a_file_of_parameters_serves_every_notebook(file):
    """Each is handed what it takes of the file, and checks that by itself: a row may be another notebook's."""
    given = notebook.read_parameters(file)
    for book in NOTEBOOKS:
        takes = unattended.taken(book)
        notebook.check({name: value for name, value in given.items() if name in takes}, f"{file} for {book}")


def test_the_papers_changes_stand_beside_rows_that_begin_with_its_whole_model():
    rows = ["full", "both-sides", "t5-positions", "unconstrained"]
    found = notebook.check({"mscgrec": rows}, "here")
    whole, bins = "MSCGRec", "MSCGRec, bins for both sides"
    t5, unconstrained = "MSCGRec, T5's positions", "MSCGRec, unconstrained loss"
    pairs = ((bins, whole), (t5, bins), (unconstrained, whole))
    assert found.ablated() == {f"{row}, against {other}": (row, other) for row, other in pairs}
    beside = found.ablated_in_001()
    change = pytest.approx(100 * (0.0291 / 0.0315 - 1))
    assert beside[f"{unconstrained}, against MSCGRec"]["recall@10"] == change
    assert beside[f"{bins}, against MSCGRec"] == {}
    assert len(beside) == 2  # not what has another
    turned = notebook.check({"mscgrec": ["t5-positions", "both-sides"]}, "here")
    assert turned.ablated() == {f"{bins}, against {t5}": (bins, t5)}
    assert turned.ablated_in_001() == {}


def test_numbers_that_yaml_leaves_as_text_are_numbers():
    assert notebook.check(yaml.safe_load("seeds: '2'\ngenerator: {lr: 1e-3}"), "x").trials()[0].generator.lr == 1e-3


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("[1, 2]", "expected lines of"),
        ("a: [", "not YAML"),
        ("sede: 1", "unknown parameter 'sede'"),
        ("", "expected lines"),
    ],
)
def test_broken_params_files(tmp_path, content, complaint):
    file = tmp_path / "p.yaml"
    file.write_text(content)
    with pytest.raises(StudyError) as error:
        notebook.read_parameters(file)
    assert str(file) in str(error.value)
    assert complaint in str(error.value)


def test_missing_files(tmp_path):
    with pytest.raises(StudyError, match="no such file; choose one of notebooks"):
        unattended.execute(Path("nowhere.ipynb"), {}, tmp_path)
    with pytest.raises(StudyError, match=r"nowhere.yaml: no such file.*params"):
        notebook.read_parameters(Path("nowhere.yaml"))


@pytest.mark.parametrize(
    "text", ["'); import os; os.abort() #", '"""\nraise SystemExit', "\\'; 1/0", "{1/0}", "\x00\n1/0"]
)
def test_a_parameter_cannot_run_code(text):
    """Papermill writes parameters into a cell as source: whatever they hold, they are read back as plain values."""
    from papermill.translators import PythonTranslator

    given = {"data": text, "features": [text], "generator": {text: text}}
    tree = ast.parse(PythonTranslator.codify(given))
    found = {node.targets[0].id: ast.literal_eval(node.value) for node in tree.body if isinstance(node, ast.Assign)}
    assert len(found) == len(tree.body)
    assert found == given
    with pytest.raises(StudyError, match="unknown parameter"):
        notebook.check({text: 1}, "here")
