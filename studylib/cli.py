"""The command ``study``; each subcommand imports what it needs when it is called."""

import argparse
import json
import os
import sys
from pathlib import Path

from studylib.errors import StudyError


class _Parser(argparse.ArgumentParser):
    """Complains in one line, as everything here does; a shortened option is a misspelt one."""

    def __init__(self, **settings):
        super().__init__(**settings, allow_abbrev=False)

    def error(self, message: str):
        raise StudyError(f"{message}; see '{self.prog} --help'")


def parser() -> argparse.ArgumentParser:
    """Of all subcommands."""
    found = _Parser(prog="study", description=__doc__.splitlines()[0])
    commands = found.add_subparsers(dest="command", required=True)
    for add in (
        _check, _convert, _import, _encoders, _embed, _run, _tune, _trials, _verify, _gc, _recommend, _export, _bench,
        _selftest, _site,
    ):  # fmt: skip
        add(commands)
    return found


def main(arguments: list[str] | None = None) -> int:
    """Run one subcommand; bad input prints one line and returns 2."""
    try:
        options = parser().parse_args(arguments)
        return options.do(options) or 0
    except StudyError as error:
        print(f"study: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstudy: stopped; finished trials and embeddings are kept", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output, head for example, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _check(commands) -> None:
    parser = commands.add_parser("check", help="validate a data set and print its statistics as JSON")
    parser.add_argument("folder", help="a folder with NAME.inter.json, a name under STUDY_DATA, or 'planted'")

    def do(options):
        from studylib.data import load
        from studylib.doubts import doubts

        data = load(options.folder)
        print(json.dumps(data.statistics))
        data.check_texts()
        for line in doubts(data):
            print(line, file=sys.stderr)

    parser.set_defaults(do=do)


def _convert(commands) -> None:
    parser = commands.add_parser("convert", help="raw Amazon Reviews dumps (2018 or 2023) to a data set folder")
    parser.add_argument("reviews", type=Path, help="reviews, .json.gz or .jsonl.gz")
    parser.add_argument("metadata", type=Path, help="metadata, .json.gz or .jsonl.gz")
    parser.add_argument("folder", type=Path, help="the folder to make; its name is the data set's")
    parser.add_argument("--core", type=int, default=5, help="fewest interactions of a user and of an item (default 5)")

    def do(options):
        from studylib.data.amazon import convert

        print(json.dumps(convert(options.reviews, options.metadata, options.folder, options.core).statistics))

    parser.set_defaults(do=do)


def _import(commands) -> None:
    parser = commands.add_parser("import", help="two tables of your own, CSV or TSV, to a data set folder")
    parser.add_argument("interactions", type=Path, help="columns user, item and, unless rows are in order, time")
    parser.add_argument("items", type=Path, help="columns item and title, brand, categories, description or others")
    parser.add_argument("folder", type=Path, help="the folder to make; its name is the data set's")
    parser.add_argument("--images", type=Path, help="a folder with <item>.jpg or .png for every item; copied")
    parser.add_argument("--core", type=int, default=5, help="fewest interactions of a user and of an item (default 5)")

    def do(options):
        from studylib.data.from_tables import convert

        made = convert(options.interactions, options.items, options.folder, options.images, options.core)
        print(json.dumps(made.statistics))

    parser.set_defaults(do=do)


def _encoders(commands) -> None:
    parser = commands.add_parser("encoders", help="list the encoders, and where their weights would come from here")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")

    def do(options):
        from studylib.encoders.weights import list_encoders

        for row in list_encoders():
            if options.json:
                print(json.dumps(row))
            else:
                state = row["source"] if row["available"] else f"not here: {row['why']}"
                print(f"{row['name']:22} {row['kind']:8} {row['dims'] or '?':>5}  {state}")

    parser.set_defaults(do=do)


def _embed(commands) -> None:
    parser = commands.add_parser("embed", help="encode a data set's items into the cache, ahead of any trial")
    parser.add_argument("data", help="a folder with NAME.inter.json, a name under STUDY_DATA, or 'planted'")
    parser.add_argument("features", nargs="+", help="encoders: see 'study encoders'")
    parser.add_argument("--page", default="{}", help="how pages are drawn: '{resolution: 256}'")
    parser.add_argument("--keep", action="store_true", help="keep the rows with the results, for other machines")

    def do(options):
        from studylib.data import load
        from studylib.encoders import embed, embeddings
        from studylib.files import parse_yaml
        from studylib.render import Page

        settings = parse_yaml("--page", options.page)
        if not isinstance(settings, dict):
            raise StudyError(f"--page {options.page!r}: write settings, for example '{{resolution: 256}}'")
        page, data = Page(**settings), load(options.data)
        for name in options.features:
            matrix = embed(data, name, page, lambda line: print(line, flush=True)).matrix
            print(f"{name} on {data.name}: {matrix.shape[0]} items, {matrix.shape[1]} dimensions", flush=True)
            if options.keep:
                print(f"kept in {embeddings.keep(data, name, page)}", flush=True)

    parser.set_defaults(do=do)


def _run(commands) -> None:
    parser = commands.add_parser("run", help="run notebooks unattended, on one data set after the other")
    parser.add_argument("files", type=Path, nargs="+", help="notebooks/*.ipynb and params/*.yaml, in any order")
    parser.add_argument("-f", "--params", type=Path, action="append", default=[], help="one more file of parameters")
    parser.add_argument(
        "-p", "--set", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="one parameter"
    )
    parser.add_argument("--jobs", type=_count, help="trials at a time here (default: one per GPU, or else core)")
    engine = parser.add_mutually_exclusive_group()
    engine.add_argument("--cluster", metavar="ADDRESS", help="a Dask scheduler, tcp://host:8786")
    engine.add_argument("--slurm", metavar="YAML", help="Slurm jobs as this file says: params/cluster/slurm.yaml")
    parser.add_argument(
        "--task",
        default=os.environ.get("STUDY_TASK", ""),
        help="of several runners that share the work which one this is: 0/8",
    )
    parser.add_argument("--copies", type=Path, metavar="FOLDER", help="run nothing: write copies with these parameters")

    def do(options):
        from studylib import notebook, trials, unattended
        from studylib.files import parse_yaml

        notebooks = [file for file in options.files if file.suffix == ".ipynb"]
        params = [file for file in options.files if file.suffix != ".ipynb"] + options.params
        if not notebooks or not params:
            raise StudyError("run: give at least one notebook (.ipynb) and one file of parameters (.yaml)")
        extra = {name: parse_yaml(f"-p {name}", value) for name, value in options.set}
        if options.jobs is not None:
            extra["jobs"] = options.jobs
        if options.cluster or options.slurm:
            extra["engine"] = options.cluster or options.slurm
        unattended.check_taken({name for name, _ in options.set}, notebooks)
        givens = [notebook.read_parameters(file) | extra for file in params]
        if options.copies:
            if len(givens) > 1:
                raise StudyError("run --copies: one file of parameters at a time, into a folder of its own")
            unattended.copies(notebooks, givens[0], options.copies)
            return 0
        trials.own_share_first([], options.task)  # complains now, not in a kernel
        os.environ[trials.TASK] = options.task
        rows = unattended.execute_all(notebooks, givens)
        print(unattended.summary(rows))
        return 1 if any(row.error for row in rows) else 0

    parser.set_defaults(do=do)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) > 2**31:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is no whole number from 0 up")
    return int(text)


def _tune(commands) -> None:
    parser = commands.add_parser("tune", help="rank a small grid of settings, a baseline's or MSCGRec's, on validation")
    parser.add_argument("generator", choices=("sasrec", "gru4rec", "item-knn", "mscgrec"))
    parser.add_argument(
        "data",
        help="a folder with NAME.inter.json, a name under STUDY_DATA, or 'planted'; of mscgrec a params/NAME.yaml",
    )
    parser.add_argument("--seed", type=_count, default=0, help="of every trial (default 0)")
    parser.add_argument("--jobs", type=_count, default=0, help="trials at a time (default: one per GPU, or else core)")

    def do(options):
        from studylib import tuning

        table = tuning.tune(options.generator, options.data, options.seed, options.jobs)
        print(table.to_markdown(index=False))
        print(f"best on validation: {tuning.winner(table)}")

    parser.set_defaults(do=do)


def _trials(commands) -> None:
    parser = commands.add_parser("trials", help="list the finished trials, or compare two")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    for name in ("data", "features", "generator", "budget"):
        parser.add_argument(f"--{name}", help=f"only trials of this {name}")
    parser.add_argument("--seed", type=int, help="only trials of this seed")
    parser.add_argument("--diff", nargs=2, metavar="KEY", help="the settings and metrics in which two trials differ")

    def do(options):
        from studylib import listing
        from studylib.store import Store

        store = Store.default()
        if options.diff:
            lines = listing.diff(store, *options.diff, as_json=options.json)
        else:
            wanted = {name: getattr(options, name) for name in ("data", "features", "generator", "budget", "seed")}
            lines = listing.rows(store, wanted, as_json=options.json)
        for line in lines:
            print(line)

    parser.set_defaults(do=do)


def _verify(commands) -> None:
    parser = commands.add_parser("verify", help="check the trial store, the tables' trials and the cache")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")

    def do(options):
        from studylib import upkeep

        problems = list(upkeep.verify())
        for problem in problems:
            print(json.dumps(problem.__dict__) if options.json else f"{problem.kind}: {problem.file}: {problem.what}")
        if not options.json:
            print(f"{len(problems)} problems" if problems else "everything is as it was written")
        return 1 if problems else 0

    parser.set_defaults(do=do)


def _gc(commands) -> None:
    parser = commands.add_parser("gc", help="remove trials that no table uses, and what killed processes left")
    parser.add_argument("--yes", action="store_true", help="do not ask")

    def do(options):
        from studylib import upkeep

        garbage = list(upkeep.garbage())
        for found in garbage:
            print(f"{found.size / 2**20:9.2f} MB  {found.path}  ({found.why})")
        if not garbage:
            print("nothing to remove")
            return
        if not options.yes:
            if not sys.stdin.isatty():
                raise StudyError("gc: there is nobody to ask; look at the list above and give --yes")
            if input(f"remove these {len(garbage)}? [y/N] ").strip().lower() != "y":
                return
        left = upkeep.remove(garbage)
        for found in left:
            print(f"left: {found.path} (it is in use by now)")
        print(f"removed {len(garbage) - len(left)}")

    parser.set_defaults(do=do)


def _selftest(commands) -> None:
    parser = commands.add_parser("selftest", help="kill trials, runners, kernels and workers, and see what is lost")
    parser.add_argument("--moments", type=int, default=20, help="kills of each kind, at random moments (default 20)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default 0)")
    parser.add_argument("--only", help="one of trial, runner, kernel, worker")

    def do(options):
        from studylib import selftest

        return selftest.main(options.moments, options.seed, options.only)

    parser.set_defaults(do=do)


def _recommend(commands) -> None:
    parser = commands.add_parser("recommend", help="a user's history and top items, as titles, by a finished trial")
    parser.add_argument("key", help="the trial's key, or its beginning: see 'study trials'")
    whose = parser.add_mutually_exclusive_group()
    whose.add_argument("--user", help="the user's name in the data set (default: the first)")
    whose.add_argument("--history", type=_items, default=[], help="items in place of a user's, oldest first: 3,17,5")
    parser.add_argument("--count", type=_count, default=10, help="how many items (default 10)")
    parser.add_argument("--seen", action="store_true", help="allow items of the history")
    parser.add_argument(
        "--without",
        type=lambda names: names.split(","),
        default=[],
        metavar="NAMES",
        help="modalities that the history lacks, of a generator trained with masks: minilm,collaborative",
    )
    parser.add_argument("--data", default="", help="where the data set is now, if its folder has moved")

    def do(options):
        from studylib.recommend import lines, opened

        finished = opened(options.key, options.data)
        for line in lines(finished, options.user, options.count, options.seen, options.history, options.without):
            print(line)

    parser.set_defaults(do=do)


def _items(text: str) -> list[int]:
    return [_count(item) for item in text.split(",")]


def _export(commands) -> None:
    parser = commands.add_parser("export", help="write the Semantic IDs of a finished trial, as an index of tokens")
    parser.add_argument("key", help="the trial's key, or its beginning: see 'study trials'")
    parser.add_argument("file", type=Path, help="a .json file; {item: tokens}, as the data sets' X.index.json")
    parser.add_argument("--data", default="", help="where the data set is now, if its folder has moved")

    def do(options):
        from studylib.recommend import opened

        ids = opened(options.key, options.data).ids
        ids.save(options.file)
        print(f"{options.file}: {len(ids.codes)} Semantic IDs, like {' '.join(ids.tokens(0))}")

    parser.set_defaults(do=do)


def _site(commands) -> None:
    parser = commands.add_parser(
        "site", help="build a static site of executed notebooks, figures, ledger and documents"
    )
    parser.add_argument("folder", type=Path, help="made anew; open index.html in it")

    def do(options):
        from studylib.site import build

        print(f"{len(build(options.folder))} pages: {options.folder / 'index.html'}")

    parser.set_defaults(do=do)


def _bench(commands) -> None:
    parser = commands.add_parser("bench", help="measure speed on one thread, in CPU seconds")
    parser.add_argument("what", choices=("train", "decode", "fused", "tree", "tokenize", "render", "encode", "runner"))
    parser.add_argument("--data-set", default="planted", help="a folder, a name under STUDY_DATA, or 'planted'")
    parser.add_argument("--index", type=Path, help="a Semantic-ID index; by default random IDs of 4 levels of 256")
    parser.add_argument(
        "--seconds",
        type=float,
        default=60,
        help="of the whole run (default 60), or four steps of each if they are longer",
    )
    parser.add_argument("--encoders", default="minilm,ppocr-v6,efficientnet-lite0,pixels", help="for 'encode'")
    parser.add_argument("--items", default="", help="for 'tokenize': a table by size, '10000,100000,1000000'")
    parser.add_argument("--tokenizers", default="residual-kmeans", help="for that table (default residual-kmeans)")

    def do(options):
        # Set before torch is imported, which reads it once.
        os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"
        from studylib import bench

        found = bench.run(
            options.what, options.data_set, options.index, options.seconds, options.encoders, options.items,
            options.tokenizers,
        )  # fmt: skip
        print(json.dumps(found))

    parser.set_defaults(do=do)


if __name__ == "__main__":
    sys.exit(main())
