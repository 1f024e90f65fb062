"""The planted truth is in the data, where it should be and nowhere else."""

import json
import subprocess
import sys

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import adjusted_mutual_info_score
from sklearn.model_selection import cross_val_score
from sklearn.neighbors import KNeighborsClassifier

from studylib.config import ItemKnnSettings
from studylib.data import planted
from studylib.data.planted import CAUSES, Knobs, generate
from studylib.errors import StudyError
from studylib.models.baselines import ItemKnn, Popularity, full_ranks
from studylib.semantic_ids import SemanticIds
from studylib.settings import checked

DATA, PICTURES, TRUTH = generate(Knobs())


def test_same_knobs_same_bytes(tmp_path, monkeypatch):
    folders = [planted.write(tmp_path / name / "planted", Knobs(users=20, items=30)) for name in ("one", "other")]
    files = sorted(file.relative_to(folders[0]) for file in folders[0].rglob("*") if file.is_file())
    assert len(files) == 30 + 7
    for file in files:
        assert (folders[0] / file).read_bytes() == (folders[1] / file).read_bytes()


def test_proportions_are_what_the_knobs_say():
    causes = np.concatenate(TRUTH.causes)
    shares = np.bincount(causes, minlength=4) / len(causes)
    # A step whose items were all seen falls to popularity, which happens most to the single hidden successor.
    for share, wanted, slack in zip(shares, (0.4, 0.25, 0.2, 0.15), (0.02, 0.02, 0.04, 0.05), strict=True):
        assert abs(share - wanted) < slack


@pytest.mark.parametrize("silent", ["text", "image", "collaborative"])
def test_weight_zero_means_never(silent):
    others = {"text": 0.3, "image": 0.3, "collaborative": 0.3} | {silent: 0.0}
    truth = generate(Knobs(users=100, **others))[2]
    assert CAUSES.index(silent) not in np.concatenate(truth.causes)


def test_each_step_follows_its_cause():
    for sequence, causes in zip(DATA.sequences, TRUTH.causes, strict=True):
        for last, item, cause in zip(sequence, sequence[1:], causes, strict=False):
            if CAUSES[cause] == "text":
                assert TRUTH.text_group[item] == (TRUTH.text_group[last] + 1) % 12
            elif CAUSES[cause] == "image":
                assert TRUTH.image_group[item] == TRUTH.image_group[last]
            elif CAUSES[cause] == "collaborative":
                assert (TRUTH.hidden_group[last] + 1) % 300 == TRUTH.hidden_group[item]
        assert len(set(sequence.tolist())) == len(sequence)


def test_text_tells_its_group_and_no_other():
    words = TfidfVectorizer().fit_transform(DATA.text(item) for item in range(DATA.n_items)).toarray()
    own = cross_val_score(KNeighborsClassifier(3), words, TRUTH.text_group, cv=5).mean()
    picture = cross_val_score(KNeighborsClassifier(3), words, TRUTH.image_group, cv=5).mean()
    assert own > 0.95
    assert picture < 0.45  # a fifth of the items have both groups alike


def test_pictures_tell_their_group_and_no_other():
    pixels = np.stack([np.asarray(picture.resize((24, 24)), dtype=float).ravel() for picture in PICTURES])
    own = cross_val_score(KNeighborsClassifier(3), pixels, TRUTH.image_group, cv=5).mean()
    text = cross_val_score(KNeighborsClassifier(3), pixels, TRUTH.text_group, cv=5).mean()
    assert own > 0.8
    assert text < 0.45


def test_overlap_of_the_groups_follows_the_knob():
    found = []
    for correlation in (0.0, 0.5, 1.0):
        truth = generate(Knobs(users=10, correlation=correlation))[2]
        found.append(adjusted_mutual_info_score(truth.text_group, truth.image_group))
    assert abs(found[0]) < 0.06
    assert found[0] + 0.1 < found[1] < found[2] - 0.3
    assert found[2] == pytest.approx(1)


def test_hidden_groups_are_one_round_trip():
    assert sorted(TRUTH.hidden_group) == list(range(DATA.n_items))


def test_crossed_groups_tell_nothing_of_each_other():
    knobs = Knobs(crossed=3, items=54, users=300)
    data, _, truth = generate(knobs)
    groups = np.column_stack([truth.text_group, truth.image_group, truth.hidden_group])
    cells, times = np.unique(groups, axis=0, return_counts=True)
    assert (len(cells), set(times)) == (27, {2})
    assert len(set(truth.size)) == len(set(truth.popularity)) == 1
    counts = np.bincount(np.concatenate(data.sequences), minlength=54)
    assert counts.std() < 2 * counts.mean() ** 0.5  # a fair draw: Poisson's spread or nearly
    with pytest.raises(StudyError, match="crossed=5: items must be a multiple of 125"):
        planted.knobs_of("planted:crossed=5")


def test_the_groups_can_be_read_as_semantic_ids(tmp_path):
    folder = planted.write(tmp_path / "planted", Knobs(users=20, items=30))
    truth = generate(Knobs(users=20, items=30))[2]
    for name, codes in truth.codes().items():
        assert np.array_equal(SemanticIds.load(folder / f"planted.index_{name}.json", 30).codes, codes)


def test_there_is_something_to_learn():
    recall = {}
    for model in (Popularity(DATA.training, 300), ItemKnn(DATA.training, 300, ItemKnnSettings())):
        ranks = full_ranks(model, DATA.test.histories, DATA.test.targets, leave_out_seen=True)
        recall[type(model).__name__] = (ranks < 10).mean()
    assert recall["ItemKnn"] > recall["Popularity"] + 0.08


def test_a_folder_that_is_there_is_not_taken_for_the_data_set(tmp_path):
    (tmp_path / "planted").mkdir()
    with pytest.raises(StudyError, match=r"planted: exists already; remove it or choose another"):
        planted.write(tmp_path / "planted", Knobs(users=20, items=30))
    assert [file.name for file in tmp_path.iterdir()] == ["planted"]


def test_processes_that_load_at_once_read_the_same_and_leave_one_folder(folders):
    program = (
        "from studylib.data.planted import Knobs, load; data = load(Knobs(users=50, items=60)); "
        "print(data.fingerprint, len(data.pictures))"
    )
    started = [subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    said = {process.communicate()[0] for process in started}
    assert [process.returncode for process in started] == [0, 0, 0]
    assert len(said) == 1
    assert said.pop().endswith(" 60\n")
    (cached,) = (folders / "cache" / "data").iterdir()
    assert [folder.name for folder in cached.iterdir()] == ["planted"]


def test_who_comes_second_reads_what_the_first_wrote(folders, monkeypatch):
    """The other process finishes between our look and our rename."""
    write = planted.write

    def beaten(folder, knobs):
        write(folder, knobs)
        return write(folder, knobs)

    monkeypatch.setattr(planted, "write", beaten)
    assert planted.load(Knobs(users=20, items=30)).n_items == 30


def test_loading_generates_once_and_reads_the_same(folders):
    first, again = planted.load(Knobs(users=20, items=30)), planted.load(Knobs(users=20, items=30))
    assert first.fingerprint == again.fingerprint
    assert len(first.pictures) == 30
    truth = json.loads((first.folder / "planted.truth.json").read_text())
    assert truth["knobs"]["items"] == 30


@pytest.mark.parametrize(
    ("knobs", "complaint"),
    [
        ({"text": 0.8, "image": 0.4}, "must not exceed 1"),
        ({"text": -0.1}, "setting 'text'"),
        ({"items": 5}, "setting 'items'"),
        ({"shortest": 9, "longest": 8}, "shortest <= longest"),
        ({"colour": 1}, "unknown setting 'colour'"),
    ],
)
def test_knobs_out_of_range(knobs, complaint):
    with pytest.raises(StudyError) as error:
        checked(Knobs, knobs)
    assert complaint in str(error.value)
