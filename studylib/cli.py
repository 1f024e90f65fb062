"""The command ``study``; each subcommand imports what it needs when it is called."""

import argparse
import json
import os
import sys
from pathlib import Path

from studylib.errors import StudyError


def main(arguments: list[str] | None = None) -> int:
    """Run one subcommand; bad input prints one line and returns 2."""
    parser = argparse.ArgumentParser(prog="study", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for add in (_check, _convert, _encoders, _run, _trials, _recommend, _bench):
        add(commands)
    options = parser.parse_args(arguments)
    try:
        return options.do(options) or 0
    except StudyError as error:
        print(f"study: error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of our output, head for example, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _check(commands) -> None:
    parser = commands.add_parser("check", help="validate a data set and print its statistics as JSON")
    parser.add_argument("folder", help="a folder with NAME.inter.json, a name under STUDY_DATA, or 'planted'")

    def do(options):
        from studylib.data import load

        data = load(options.folder)
        print(json.dumps(data.statistics))
        data.check_texts()

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


def _run(commands) -> None:
    parser = commands.add_parser("run", help="run notebooks unattended, one after the other")
    parser.add_argument("notebooks", type=Path, nargs="+", help="notebooks/*.ipynb")
    parser.add_argument("-f", "--params", type=Path, required=True, help="a YAML file of parameters, params/*.yaml")
    parser.add_argument(
        "-p", "--set", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="one parameter"
    )

    parser.add_argument("--jobs", type=int, help="trials at a time (default: one per core)")

    def do(options):
        import yaml

        from studylib import notebook, paths

        given = notebook.read_parameters(options.params)
        for name, value in options.set:
            try:
                given[name] = yaml.safe_load(value)
            except yaml.YAMLError:
                raise StudyError(f"-p {name}: {value!r} is not YAML; write for example -p {name} '[a, b]'") from None
        if options.jobs is not None:
            given["jobs"] = options.jobs
        folder = paths.results_of(notebook.check(given, "parameters").data) / "notebooks"
        for file in options.notebooks:
            notebook.execute(file, given, folder)

    parser.set_defaults(do=do)


def _trials(commands) -> None:
    parser = commands.add_parser("trials", help="list the finished trials")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--data", help="only trials on this data set")

    def do(options):
        from studylib.trials import Store

        for record in Store.default().records():
            trial = record["trial"]
            if options.data not in (None, trial["data"]):
                continue
            if options.json:
                row = {"key": record["key"], **trial}
                row |= {"metrics": record["metrics"], "metrics_unseen": record["metrics_unseen"]}
                print(json.dumps(row | {name: record["cost"].get(name) for name in ("cpu_seconds", "peak_mb")}))
            else:
                print(
                    f"{record['key']}  {trial['data']:12} {trial['features']:26} {trial['generator']['name']:10} "
                    f"{trial['budget']:6} seed {trial['seed']}  recall@10 {record['metrics']['recall@10']:.4f}  "
                    f"{record['cost'].get('cpu_seconds', 0):.0f} CPU s"
                )

    parser.set_defaults(do=do)


def _recommend(commands) -> None:
    parser = commands.add_parser("recommend", help="a user's history and top items, as titles, by a finished trial")
    parser.add_argument("key", help="the trial's key: see 'study trials'")
    parser.add_argument("--user", help="the user's name in the data set (default: the first)")
    parser.add_argument("--count", type=int, default=10, help="how many items (default 10)")
    parser.add_argument("--seen", action="store_true", help="allow items that the user already had")

    def do(options):
        from studylib.recommend import recommend

        recommend(options.key, options.user, options.count, options.seen)

    parser.set_defaults(do=do)


def _bench(commands) -> None:
    parser = commands.add_parser("bench", help="measure speed on one thread, in CPU seconds")
    parser.add_argument("what", choices=("train", "decode", "tokenize", "render", "encode"))
    parser.add_argument("--data-set", default="planted", help="a folder, a name under STUDY_DATA, or 'planted'")
    parser.add_argument("--index", type=Path, help="a Semantic-ID index; by default random IDs of 4 levels of 256")
    parser.add_argument("--seconds", type=float, default=60, help="bound of the whole run (default 60)")
    parser.add_argument("--encoders", default="minilm,ppocr-v6,efficientnet-lite0,pixels", help="for 'encode'")

    def do(options):
        # Set before torch is imported, which reads it once.
        os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"
        from studylib import bench

        print(json.dumps(bench.run(options.what, options.data_set, options.index, options.seconds, options.encoders)))

    parser.set_defaults(do=do)


if __name__ == "__main__":
    sys.exit(main())
