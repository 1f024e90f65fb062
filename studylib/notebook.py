"""From the parameters of a notebook to the trials that they ask for.

A notebook's first code after its parameters cell checks them, and unattended.py checks them before a kernel starts.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

from studylib import papers, tables, trials
from studylib.ablations import AS_IT_IS, Choice, choices, fused_label, references
from studylib.config import ALIGNMENT, BUDGETS, Trial, trial
from studylib.encoders.registry import encoder
from studylib.errors import NothingToDo, StudyError
from studylib.files import read_yaml, shown
from studylib.keys import is_encoder
from studylib.methods import method
from studylib.parameters import Fields
from studylib.paths import name_of
from studylib.settings import checked

AS_MSCGREC = ", as MSCGRec"  # in 12, of rows that are none of MSCGRec's and have its settings


class Parameters(Fields):
    """The parameters of a notebook, and the trials that they ask for."""

    @property
    def name(self) -> str:
        """What the data set is called, for titles and the papers' tables: a folder by its own name."""
        return name_of(self.data)

    def trials(self) -> list[Trial]:
        """One trial per kind of features and seed, then the baselines.

        Raises:
            StudyError: the reference is none of the features, or a setting of the generator does not exist.
        """
        if self.reference not in self.features:
            raise StudyError(f"reference: {self.reference!r} is none of the features {', '.join(self.features)}")
        return [*chain.from_iterable(map(self.content, self.features)), *self.baseline_trials()]

    def content(self, features: str, choice: Choice = AS_IT_IS) -> list[Trial]:
        """One trial a seed, with the settings that ``choice`` changes; several features are joined by ``+``.

        A row that ``fewer_seeds`` or ``more_seeds`` names, by its features or its choices, has at most, or at least, so
        many; where both do, at least. Steps and rate of alignment among the generator's settings are for aligned rows.
        """
        seeds, more = self._seeds(features, *choice.names), {}
        aligned, generator = ALIGNMENT[self.budget], self.generator | choice.generator
        if choice.aligned:
            generator = aligned | generator
        else:
            generator = {name: value for name, value in generator.items() if name not in aligned}
        if choice.fusion == "stacked":
            more["target"] = choice.target or self.target
        if generator.get("training", BUDGETS[self.budget].training) == "windows":
            if choice.generator.get("positions") == "two-part-past":  # windows are read with what is ahead
                generator["positions"] = "two-part"
            if "both-sides" in choice.names:
                raise StudyError("mscgrec: with sliding windows both-sides is the full row itself; leave it out")
        tokenizer = {"codes": self.codes} | self.tokenizer | choice.tokenizer
        if "collaborative" in features.split("+") or tokenizer.get("name") == "letter":
            more["collaborative"] = {"name": "sasrec", **self.baselines.get("sasrec", {})}  # the same as the baseline
        return [
            trial(
                **more,
                data=self.data,
                features=features,
                fusion=choice.fusion,
                page=choice.page,
                tokenizer=tokenizer,
                generator=generator,
                budget=self.budget,
                seed=seed,
            )
            for seed in range(seeds)
        ]

    def fused(self, table: str) -> dict[str, list[Trial]]:
        """The rows of each text with the image, by each choice of a table of fusions."""
        return {
            fused_label(method(text).label, choice.label): self.content(self._together(text, choice), choice)
            for choice in self.chosen(table).values()
            for text in self.texts
        }

    def controlled(self, table: str) -> dict[str, list[Trial]]:
        """The first text by a table's first choice, with each of ``stand_ins`` in the image's place."""
        found = {}
        for choice in choices(table, getattr(self, table)[:1]).values():
            for other in self.stand_ins:
                features = self.model_copy(update={"image": other})._together(self.texts[0], choice)
                found[f"{method(features).label}, {choice.label}"] = self.content(features, choice)
        return found

    def beside_halves(self, table: str) -> dict[str, list[Trial]]:
        """Each half by itself, the rows of ``fused``, and those of ``controlled``."""
        return self.alone() | self.fused(table) | self.controlled(table)

    def free(self) -> dict[str, list[Trial]]:
        """The first text's rows of late fusion that ``freely`` names, searched without the prefix tree."""
        more = {"texts": self.texts[:1], "late": self.freely, "generator": self.generator | {"search": "free"}}
        return {f"{row}, free search": found for row, found in self.model_copy(update=more).fused("late").items()}

    def _together(self, text: str, choice: Choice) -> str:
        """The features of a text fused with the image, in the order in which their codes are written."""
        return f"{text}+{self.image}" if choice.text_first else f"{self.image}+{text}"

    def of_truth(self) -> "Parameters":
        """The same with ``true_codes`` for text and picture, fused by A in either order (B of unlike lengths may be A).

        Random IDs stand in for the picture: a second code may help by naming the item alone.
        """
        text, image = self.true_codes
        late = {"late": ("A:text-first", "A"), "stand_ins": ("random",)}
        return self.model_copy(update=late | {"texts": (text,), "image": image})

    def as_mscgrec(self) -> "Parameters":
        """The same with ``late_as_mscgrec`` for late fusion, and MSCGRec's settings (``stacked_generator``) throughout.

        All of these rows have as many seeds as ``fewer_seeds`` or ``more_seeds`` says of it.
        """
        more = {
            "late": self.late_as_mscgrec,
            "seeds": self._seeds("late_as_mscgrec"),
            "fewer_seeds": {},
            "more_seeds": {},
        }
        return self.model_copy(update=more | {"generator": self.generator | self.stacked_generator})

    def as_in_004(self) -> "Parameters":
        """Of the rows of fusion those that 004 has: the gate, A and C; of published IDs in as many levels."""
        names = [self._of_004("late", known) for known in ("A", "C")]
        early = [name for name in self.early if name == "gate"]
        return self.model_copy(update={"early": tuple(early), "late": tuple(filter(None, names))})

    def _of_004(self, table: str, name: str) -> str | None:
        """The row of ``table`` that is 004's, if it is asked for: of three levels each, where there is one."""
        return next((row for row in (f"{name}:3", name) if row in getattr(self, table)), None)

    def names_of_004(self) -> dict[str, str]:
        """By row of the first text, what 004 calls it."""
        text, found = method(self.texts[0]).label, {}
        for table, name, known in (("early", "gate", "EF"), ("late", "A", "LF"), ("late", "C", "LF++")):
            if row := self._of_004(table, name):
                found[fused_label(text, choices(table, (row,))[row].label)] = f"MGR-{known}"
        return found

    def gate_and_mean(self) -> dict[str, str]:
        """By gated row of ``beside_mean``, the same text's row of the plain mean."""
        gate, mean = (choices("early", (name,))[name].label for name in ("gate", "mean"))
        texts = [method(text).label for text in self.texts] if "gate" in self.early else []
        return {fused_label(text, gate): fused_label(text, mean) for text in texts}

    def beside_mean(self) -> dict[str, list[Trial]]:
        """The rows of early fusion and of the plain mean, which weighs both halves alike; none without ``early``."""
        mean = self.model_copy(update={"early": ("mean",)})
        return self.fused("early") | mean.fused("early") if self.early else {}

    def of_all_seeds(self) -> "Parameters":
        """The same with every seed of every row: codes of a seed need no trained generator."""
        return self.model_copy(update={"fewer_seeds": {}})

    def steps(self) -> dict[str, str]:
        """By choice, the first text's row without marks and alignment, with one, with both (004, Figure 5)."""
        chosen = self.chosen("late")
        rows = [chosen[name].label for name in ("A", "delimited", "aligned", "C") if name in chosen]
        return {label: fused_label(method(self.texts[0]).label, label) for label in rows}

    def need(self, table: str) -> None:
        """Refuse to go on without a row of ``table``; a notebook that says so is not started without one.

        Raises:
            NothingToDo: the list is empty, or tokenizers are asked for and the reference's Semantic IDs are ready.
        """
        if table == "tokenizers" and self.reference.startswith("index:"):
            raise NothingToDo(f"reference {self.reference} is tokenized already; name an encoder of content")
        if not getattr(self, table):
            raise NothingToDo(f"{table} is empty, so there is nothing to compare here; name at least one row")

    def labels(self, table: str) -> tuple[list[str], list[str], str]:
        """What the texts, the choices of a table of fusions, and the image are called."""
        chosen = self.chosen(table).values()
        return [method(text).label for text in self.texts], [row.label for row in chosen], method(self.image).label

    def references(self, table: str) -> dict[str, str]:
        """Of a table's chosen rows that have a reference of their own among them, its label by theirs."""
        return references(self.chosen(table))

    def spaces(self) -> dict[str, str]:
        """What ``09_geometry`` measures, by label: the image, the texts, and ``also``.

        Raises:
            NothingToDo: one of them is published Semantic IDs.
            StudyError: there is no text, or one name is there twice.
        """
        names = (self.image, *self.texts, *self.also)
        for name in names:
            if name.startswith("index:"):
                raise NothingToDo(
                    f"{name}: Semantic IDs, which have no embeddings to measure; name an encoder of content"
                )
        if not self.texts or len(set(names)) < len(names):
            raise StudyError(f"image, texts and also: {', '.join(names)}; name one text at least, and none twice")
        return {method(name).label: name for name in names}

    def each(self, names: Iterable[str]) -> dict[str, list[Trial]]:
        """The rows of several features, each by itself."""
        return {method(name).label: self.content(name) for name in names}

    def alone(self) -> dict[str, list[Trial]]:
        """The rows of each text and of the image by themselves."""
        return self.each((*self.texts, self.image))

    def in_000(self, names: Iterable[str]) -> dict[str, float]:
        """000's Recall@10 of the rows of ``each(names)``, as far as its Table 2 has them."""
        single = papers.TABLE_2.get(self.name, {})
        known = [method(name) for name in names if method(name).paper in single]
        return {row.label: single[row.paper]["recall@10"] for row in known}

    def beside_paper(self, table: str) -> dict[str, float]:
        """000's Recall@10 of rows of ``alone()`` and ``fused(table)``, as far as it prints them (OCR-text if fused)."""
        found, fused = self.in_000(self.texts), papers.FUSED.get(self.name, {})
        for name, choice in self.chosen(table).items():
            for text in self.texts:
                if name in fused and method(text).paper == "ocr":
                    found[fused_label(method(text).label, choice.label)] = fused[name]["O+I"]["recall@10"]
        return found

    def fused_by_shape(self) -> dict[str, list[Trial]]:
        """The first text with the image, fused by the last of ``late``, in each of ``fused_shapes`` (004, Figure 6).

        Raises:
            StudyError: ready IDs, which every shape would leave as they are.
        """
        ready = [name for name in (self.texts[0], self.image) if name.startswith("index:")]
        if self.fused_shapes and ready:
            raise StudyError(
                f"fused_shapes: {ready[0]} are ready Semantic IDs, which have the shape that they have, so all shapes "
                "would be one trial; write fused_shapes: [], or name encoders"
            )
        if not self.fused_shapes:
            return {}
        fused = [*self.chosen("late").values()][-1]
        return {
            f"{fused.label}, {shape.label}": self.content(
                self._together(self.texts[0], fused),
                replace(fused, tokenizer=shape.tokenizer, names=fused.names + shape.names),
            )
            for shape in self.chosen("fused_shapes").values()
        }

    def retokenized(self) -> dict[str, list[Trial]]:
        """The rows of the first text by each tokenizer of ``rivals``."""
        rows = self.chosen("rivals").values()
        text = method(self.texts[0]).label
        return {f"{choice.label}, {text}": self.content(self.texts[0], choice) for choice in rows}

    def stacked(self) -> dict[str, list[Trial]]:
        """The rows of a history of all modalities, or of the written one alone, by each choice of ``mscgrec``."""
        return {
            choice.label: self._stacked(self.modalities if choice.fusion == "stacked" else (self.target,), choice)
            for choice in self.chosen("mscgrec").values()
        }

    def beside_mscgrec(self) -> dict[str, list[Trial]]:
        """001's Table 2 without the baselines: generators of one modality, late fusion, then the rows of ``stacked()``.

        Late fusion ``as_mscgrec``, if asked for, and its halves come last; their labels end in ``AS_MSCGREC``.
        """
        rows = {f"TIGER, {name}": trials for name, trials in self.alone().items()}
        rows["TIGER, SASRec items"] = self.content("collaborative")
        rows |= self.retokenized() | self.fused("late") | self.stacked()
        if self.late_as_mscgrec:
            alike = self.as_mscgrec()
            rows |= {f"{name}{AS_MSCGREC}": trials for name, trials in (alike.alone() | alike.fused("late")).items()}
        return rows

    def alone_of_mscgrec(self) -> list[str]:
        """The row of ``stacked()`` that reads what is written and nothing else, if it is one."""
        chosen = self.chosen("mscgrec")
        return [chosen["alone"].label] if "alone" in chosen else []

    def masked(self) -> dict[str, list[Trial]]:
        """MSCGRec's masked row; then one for each of ``placeholders``, instead of the last modality but the target.

        Raises:
            StudyError: there is no other modality than the target, or a placeholder is one of them.
        """
        (choice,) = choices("mscgrec", ("masked",)).values()
        found = {choice.label: self._stacked(self.modalities, choice)}
        *_, replaced = (name for name in self.modalities if name != self.target)
        for placeholder in self.placeholders:
            if placeholder in self.modalities:
                raise StudyError(f"placeholders: {placeholder} is one of the modalities; name what says nothing")
            read = [placeholder if name == replaced else name for name in self.modalities]
            row = replace(choice, names=(*choice.names, f"masked:{placeholder}"))
            label = f"{choice.label}, {method(placeholder).label} for {method(replaced).label}"
            found[label] = self._stacked(read, row)
        return found

    def _stacked(self, read: Sequence[str], choice: Choice) -> list[Trial]:
        return self.content("+".join(read), replace(choice, generator=choice.generator | self.stacked_generator))

    def ablated(self) -> dict[str, tuple[str, str]]:
        """Each row of ``mscgrec`` but the first, and the one it is held against: its own reference, or the first."""
        first, *others = (row.label for row in self.chosen("mscgrec").values())
        own = self.references("mscgrec")
        return {f"{row}, against {own.get(row, first)}": (row, own.get(row, first)) for row in others}

    def ablated_in_001(self) -> dict[str, dict[str, float]]:
        """By pair of ``ablated()``, the paper's change in % by metric, where it has the row against the same one."""
        rows, whole = self.chosen("mscgrec"), choices("mscgrec", ("full",))["full"].label
        held = {pair: name for pair, (name, other) in self.ablated().items() if other == whole}
        names = {row.label: name for name, row in rows.items()}
        return {pair: papers.ablation_of_001(names[row]) for pair, row in held.items()}

    def drawn(self) -> dict[str, dict[str, list[Trial]]]:
        """By row and page: each of ``resized`` alone, and the first of them fused with the image as ``fusions`` say.

        Fused rows have the pages of ``fused_pages``, if it names some.

        Raises:
            StudyError: one of them reads no pages, so that every page would give it the same.
        """
        rows = {method(name).label: (name, AS_IT_IS) for name in self.resized}
        for choice in self.chosen("fusions").values():
            label = fused_label(method(self.resized[0]).label, choice.label)
            rows[label] = (self._together(self.resized[0], choice), choice)
        found = {}
        for label, (features, choice) in rows.items():
            pages = (self.fused_pages if choice.fusion != "none" else ()) or self.pages
            drawn_on = choices("pages", pages).values()
            found[label] = {page.label: self._on(page, features, choice) for page in drawn_on}
        return found

    def on_varied(self) -> dict[str, list[Trial]]:
        """The rows of the ``varied`` readers, each item's page in a layout of its own.

        Raises:
            StudyError: as ``drawn``.
        """
        (page,) = choices("pages", ("1024:varied",)).values()
        return {method(name).label: self._on(page, name, AS_IT_IS) for name in self.varied}

    def _seeds(self, *names: str) -> int:
        fewer = min(self.seeds, *(self.fewer_seeds.get(name, self.seeds) for name in names))
        return max(fewer, *(self.more_seeds.get(name, 0) for name in names))

    def _on(self, page: Choice, features: str, choice: Choice) -> list[Trial]:
        if not any(map(_reads_pages, features.split("+"))):
            raise StudyError(f"{features} reads no pages; choose one of kind ocr from 'study encoders'")
        return self.content(features, replace(choice, page=page.page, names=choice.names + page.names))

    def baseline_trials(self) -> list[Trial]:
        """What reads no content: one trial a seed, or one alone where no seed changes anything."""
        return [
            trial(data=self.data, generator={"name": name, **settings}, seed=seed)
            for name, settings in self.baselines.items()
            for seed in range(1 if method("none", name).seedless else self._seeds(name))
        ]

    def rows(self, wanted: dict[str, list[Trial]]) -> dict[str, list[dict]]:
        """The records of several rows of a table, by the rows' names; the baselines' rows come last."""
        baselines = self.baseline_trials()
        records = self.records([*baselines, *chain.from_iterable(wanted.values())])  # an engine is asked for once
        found, content = records[: len(baselines)], iter(records[len(baselines) :])
        return {name: [next(content) for _ in row] for name, row in wanted.items()} | tables.by_method(found)

    def ablate(self, table: str) -> dict[str, list[dict]]:
        """The records of a table's chosen rows, by their labels, on the features of ``reference``."""
        chosen = self.chosen(table).values()
        return self.rows({choice.label: self.content(self.reference, choice) for choice in chosen})

    def records(self, wanted: Sequence[Trial]) -> list[dict]:
        return trials.run(wanted, jobs=self.jobs, train=self.train, engine=self.engine)


def say(lines: Iterable[str], about: str = "") -> None:
    """Print sentences as a list, below what they are about."""
    for line in ([about] if about else []) + [f"- {line}" for line in lines]:
        print(line)


def _reads_pages(features: str) -> bool:
    name = features.removeprefix("shuffled:")
    return is_encoder(name) and encoder(name).reads == "pages"


def parameters(namespace: dict) -> Parameters:
    """The parameters of the notebook that calls this with ``globals()``, checked.

    Raises:
        StudyError: a name that no notebook knows, or a value of the wrong type; names it.
    """
    plain = (str, int, float, bool, list, dict, tuple, type(None))
    given = {
        name: value
        for name, value in namespace.items()
        if not name.startswith("_") and isinstance(value, plain) and name not in ("In", "Out")
    }
    if known := namespace.get("_parameters_checked"):  # run again by hand: other cells have made names of their own
        given = {name: value for name, value in given.items() if name in known}
    found = check(given, "the parameters cell")
    namespace["_parameters_checked"] = frozenset(given)
    return found


def check(given: dict, where: str) -> Parameters:
    """``given`` as parameters; unknown names and wrong values are refused with the names that there are."""
    for name in given:
        if name not in Parameters.model_fields:
            raise StudyError(
                f"{where}: unknown parameter {shown(name)}; choose from {', '.join(Parameters.model_fields)}"
            )
    try:
        return checked(Parameters, given)
    except StudyError as error:
        raise StudyError(f"{where}: {error}") from None


def read_parameters(file: Path) -> dict:
    """A YAML file of parameters, checked.

    Raises:
        StudyError: no such file, not YAML, or a parameter that no notebook takes.
    """
    given = read_yaml(Path(file))
    if given.get("engine"):  # a file may come from anywhere, and an engine runs commands
        raise StudyError(
            f"{file}: 'engine' is not taken from a file; give --cluster or --slurm, or write it in the cell"
        )
    check(given, str(file))
    return given
