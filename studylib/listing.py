"""The trial store as a person or a script reads it: rows, filters, and what differs between two trials."""

import json
from collections.abc import Iterator

from studylib import paths
from studylib.store import Store


def rows(store: Store, wanted: dict, as_json: bool = False) -> Iterator[str]:
    """A line for every finished trial whose settings are ``wanted`` (None: any)."""
    if wanted["data"]:
        wanted = wanted | {"data": paths.name_of(wanted["data"])}
    for record in store.records():
        trial = record["trial"]
        settings = trial | {"generator": trial["generator"]["name"], "data": paths.name_of(trial["data"])}
        if any(value not in (None, settings[name]) for name, value in wanted.items()):
            continue
        if as_json:
            row = {"key": record["key"], **trial}
            row |= {name: record[name] for name in ("metrics", "metrics_unseen")}
            yield json.dumps(row | {name: record["cost"].get(name) for name in ("cpu_seconds", "peak_mb")})
        else:
            shape = trial["tokenizer"].get("name", "none")
            if trial["fusion"] != "none":
                shape = f"{trial['fusion']}, {shape}"
            yield (
                f"{record['key']}  {settings['data']:12} {trial['features']:26} {shape:20} {settings['generator']:10} "
                f"{trial['budget']:6} seed {trial['seed']}  recall@10 {record['metrics']['recall@10']:.4f}  "
                f"{record['cost'].get('cpu_seconds', 0):.0f} CPU s"
            )


def diff(store: Store, first: str, second: str, as_json: bool = False) -> Iterator[str]:
    """A line for every setting and metric in which two trials differ.

    Raises:
        StudyError: there is no such trial, or several whose keys begin so.
    """
    records = [store.found(key) for key in (first, second)]
    both = [
        {"data fingerprint": record["data"]["fingerprint"][:16], **_flat(record["trial"])}
        | {f"test {name}": round(value, 6) for name, value in record["metrics"].items()}
        for record in records
    ]
    for name in dict.fromkeys([*both[0], *both[1]]):
        values = [facts.get(name) for facts in both]
        if values[0] != values[1]:
            row = {"name": name, first: values[0], second: values[1]}
            yield json.dumps(row) if as_json else f"{name:32} {values[0]!s:>20} {values[1]!s:>20}"
    if records[0]["data"]["fingerprint"] == records[1]["data"]["fingerprint"]:
        yield _tested(records, as_json)


def _tested(records: list[dict], as_json: bool) -> str:
    """The second less the first over the same users, of this one seed each."""
    from studylib import tables  # a listing does without what this needs
    from studylib.analysis.significance import compare

    first, second = ([record] for record in records)
    found = compare(tables.per_user(second, "recall@10"), tables.per_user(first, "recall@10"))
    row = {"name": "recall@10, second less first"} | {
        name: round(getattr(found, name), 6) for name in ("difference", "low", "high", "p")
    }
    if as_json:
        return json.dumps(row)
    return (
        f"recall@10, second less first over users: {found.difference:+.4f} [{found.low:+.4f}, {found.high:+.4f}], "
        f"p {found.p:.4f}; nothing is said of other seeds"
    )


def _flat(settings: dict, prefix: str = "") -> dict:
    """``{"a": {"b": 1}}`` as ``{"a.b": 1}``."""
    flat = {}
    for name, value in settings.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat
