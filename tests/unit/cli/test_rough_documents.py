"""Documents that somebody has damaged, edited or written with another tool, one by one.

Each is read by the program that would meet it: it ends with exit code 2 and one line that names
file and entry, or does its work with a warning; never with a traceback.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from als_spark.cli.config.stored import EvaluateConfig
from als_spark.cli.config.sweep import SweepConfig
from als_spark.cli.config.train import TrainConfig
from als_spark.cli.from_sweep import best_of_sweep
from als_spark.cli.options import parse
from als_spark.cli.program import run_program
from als_spark.cli.store import main as store_main
from als_spark.files.outputs import check_local_target
from als_spark.ml.als import ALS
from als_spark.ml.metadata import read_metadata, set_params
from als_spark.ml.model import ALSModel
from als_spark.model.files import load_model
from als_spark.nightly.run_log import RunLog, new_record
from als_spark.report.progress import ProgressReporter
from als_spark.store.layout import numbered
from als_spark.store.store import ModelStore, open_store
from tests.store_tools import make_folder, value_of

HUGE, VAST = "1" + 400 * "0", "1" + 5000 * "0"
DEEP = "[" * 100_000
DOCUMENTS = {
    "deep": DEEP,
    "deep and closed": DEEP + "]" * 100_000,
    "deep objects": '{"a":' * 100_000,
    "deep within": '{"format": %s}' % (DEEP + "]" * 100_000),
    "400 digits": f'{{"number": {HUGE}}}',
    "5,000 digits": f'{{"number": {VAST}}}',
    "not a number": '{"number": NaN}',
    "infinite": '{"number": 1e400}',
    "a list": "[1, 2]",
    "a number": "7",
    "empty": "",
    "cut off": '{"format": ',
    "no UTF-8": b'{"format": "\xff\xfe"}',
    "half a character": '{"format": "\\ud800"}',
    "null": "null",
    "another format": '{"format": {"a": [1]}}',
    "nothing in it": "{}",
}
"""What may stand in the place of any JSON."""

Captured = pytest.CaptureFixture[str]


def put(path: Path, content: str | bytes) -> None:
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def told(captured: Captured, code: int, *names: str) -> str:
    """Check that one line was told, with exit code 2 and the names in it."""
    line = captured.readouterr().err
    assert "Traceback" not in line
    assert code == 2, line
    assert line.endswith("\n")
    assert len(line.splitlines()) == 1, line
    assert len(line) < 800
    for name in names:
        assert re.search(name, line), line
    return line


def work(action: Callable[[], object]) -> int:
    def run() -> int:
        action()
        return 0

    return run_program("job", run, "stopped")


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    """A store with the models 1 and 2."""
    store = open_store(tmp_path / "store")
    for value in (1, 2):
        store.publish(make_folder(tmp_path / str(value), value), run=f"run-{value}")
    return store


@pytest.fixture
def root(store: ModelStore) -> Path:
    return Path(store.label)


def nightly(root: Path) -> list[str]:
    """Begin and end a run as ``retrain`` does; return its warnings."""
    progress = ProgressReporter(1, logger=logging.getLogger("tests"))
    codes = {"kept": 3, "bad_input": 2, "failed": 1}
    log = RunLog(
        open_store(root),
        new_record("retrain", {}, {}),
        progress,
        ttl=timedelta(minutes=1),
        exit_codes=codes,  # type: ignore[arg-type]
        shield=nullcontext,
    )
    with log.recorded():
        log.store.recover()
        log.end("kept", "kept")
    assert log.store.load() is not None
    return list(log.record.warnings)


# --- configurations


@pytest.mark.parametrize(
    ("text", "says"),
    [
        *(
            (f"{key} = {number}", rf"{key} = 1000")
            for key in ("tol", "lambda", "max_iter", "seed", "rank", "alpha", "lock_minutes")
            for number in (HUGE, VAST)
        ),
        (f"max_iter = 0x1{5000 * '0'}", r"max_iter = \(too long to show, of type int\): not us"),
        ("tol = 1e400", "tol = inf: not usable: use a finite number"),
        (f"tol = {DEEP}", "not valid TOML: nested too deeply"),
        (f"tol = {DEEP}{'[' * 100_000}", "not valid TOML: nested too deeply"),
        ("tol = " + "{a=" * 100_000, "not valid TOML: nested too deeply"),
        ("a" + 100_000 * ".a" + " = 1", r"not valid TOML: a key of more than 50 parts \(at line 1"),
        ("\n[a" + 100_000 * ' . "a"' + "]", r"a key of more than 50 parts \(at line 2\)"),
        ("tol = {a" + 100_000 * ".a" + " = 1}", r"a key of more than 50 parts \(at line 1\)"),
        ("tol = [[[1]]]", r"tol = \[\[\[1\]\]\]: not usable: use a finite number"),
    ],
    ids=lambda value: value[:25],
)
def test_configurations(text: str, says: str, tmp_path: Path, capsys: Captured) -> None:
    put(tmp_path / "c.toml", text)
    code = work(lambda: parse(TrainConfig, ["--config", str(tmp_path / "c.toml")]))
    told(capsys, code, rf"{tmp_path}/c\.toml: ", says)


def test_dots_of_a_configuration_that_are_no_keys(tmp_path: Path) -> None:
    dots, lambdas = 60 * "x.", ", ".join(f"1.{k}" for k in range(10, 100))
    text = f'# {60 * "."}\nratings = "{dots}csv"\nlambdas = [{lambdas}]\noutput = "o" # {dots}'
    put(tmp_path / "c.toml", text)
    found = parse(SweepConfig, ["--config", str(tmp_path / "c.toml")])
    assert found.ratings == f"{dots}csv"


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("--top=1" + 20 * "0", f"use a whole number of at least 1 and at most {2**31 - 1}$"),
        (f"--top={HUGE}", f"use a whole number of at least 1 and at most {2**31 - 1}$"),
        (f"--top={VAST}", "use a whole number of at least 1"),
        ("--top=nan", "use a whole number of at least 1$"),
        (f"--relevant-from={HUGE}", "use a finite number"),
    ],
    ids=lambda value: value[:25],
)
def test_numbers_on_the_command_line(option: str, says: str, capsys: Captured) -> None:
    code = work(lambda: parse(EvaluateConfig, [option]))
    told(capsys, code, option.split("=")[0], f"not usable: {says}")


# --- models


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "model", 1)


@pytest.mark.parametrize("content", DOCUMENTS.values(), ids=DOCUMENTS)
def test_descriptions_of_a_model(content: str | bytes, model: Path, capsys: Captured) -> None:
    put(model / "model.json", content)
    told(capsys, work(lambda: load_model(model)), str(model), r"model\.json")


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ('"lambda_reg": NaN, "exponent": 1', "lambda_reg is NaN: no finite number"),
        ('"lambda_reg": 1e400, "exponent": 1', "lambda_reg is 1e400: no finite number"),
        (f'"lambda_reg": {HUGE}', "lambda_reg is 1000.*: an integer of more than 64 bits"),
        ('"lambda_reg": null', "lambda_reg is None, no number of at least 0"),
        ('"lambda_reg": "1"', "lambda_reg is '1', no number"),
        ('"lambda_reg": -1', "lambda_reg is -1, no number of at least 0"),
        ('"exponent": [1]', r"exponent is \[1\], no number"),
        ('"lambda_reg": 1, "exponent": 1, "implicit": 1', "implicit 1: use True or False"),
        ('"lambda_reg": 1, "exponent": 1, "implicit": true', "its objective has no alpha"),
        ('"lambda_reg": 1, "exponent": 1, "bias_reg": 1', "its objective has no mean"),
        ('"rank": 2.0', "rank is 2.0, no whole number"),
        ('"rank": 0', "rank is 0, no whole number of at least 1"),
        ('"n_users": true', "n_users is True, no whole number"),
        ('"warm_runs": "many"', "warm_runs is 'many', no whole number"),
        ('"warm_runs": -1', "warm_runs is -1, no whole number"),
        ('"dtype": "int8"', "dtype is 'int8', neither float32 nor float64"),
        ('"dtype": ["float64"]', "dtype is .*, neither float32 nor float64"),
        ('"dtype": "float32"', "speaks of factors of float32, the files hold float64 and float64"),
        (
            '"n_items": 4',
            r"speaks of \(users, items, ranks\) \(2, 4, 2, 2\), the files hold \(2, 3",
        ),
    ],
)
def test_entries_of_a_description(entries: str, says: str, model: Path, capsys: Captured) -> None:
    usual = (model / "model.json").read_text().strip().removesuffix("}")
    # Of two entries of a name the last one counts.
    put(model / "model.json", f"{usual}, {entries}}}")
    told(capsys, work(lambda: load_model(model)), str(model), r"model\.json", says)


def lists(values: list[Any], kind: pa.DataType) -> pa.Array:
    return pa.array([[value, value] for value in values], pa.list_(kind, 2))


@pytest.mark.parametrize(
    ("column", "values", "says"),
    [
        ("factors", lists([1, 2], pa.int64()), r"factors of type fixed_size_list<.*int64"),
        ("factors", lists([1, 2], pa.float16()), r"factors of type fixed_size_list<.*halffloat"),
        ("factors", pa.array([[1.0, 2.0]] * 2), r"factors of type list<.*double"),
        ("factors", pa.array(["a", "b"]), "factors of type string"),
        ("factors", lists([1.0, None], pa.float32()), "2 values are missing"),
        ("factors", lists([1.0, float("nan")], pa.float32()), "factors that are not finite"),
        ("id", pa.array([1.0, 2.0]), "ids of type double, where integers or text are needed"),
        ("id", pa.array([b"a", b"b"]), "ids of type binary, where integers or text"),
        ("id", pa.array([True, False]), "ids of type bool"),
        ("id", pa.array([1, None]), "1 values are missing"),
        ("id", pa.array([7, 7]), "1 ids are there more than once"),
        ("id", pa.array(["a", "a"]).dictionary_encode(), "1 ids are there more than once"),
        (
            "id",
            pa.array([1, 2**64 - 1], pa.uint64()),
            "Integer value 18446744073709551615 not in range",
        ),
        ("n_ratings", pa.array([1, None]), "1 values are missing"),
        ("n_ratings", pa.array([1, -1]), "a number of ratings is -1"),
        ("n_ratings", pa.array([1, 2**40]), "Integer value 1099511627776 not in range"),
        ("n_ratings", pa.array([1.0, 2.5]), "numbers of type double, where integers are needed"),
        ("sum_ratings", pa.array([1.0, float("nan")]), "sums that are not finite"),
        ("sum_ratings", pa.array([1.0, float("inf")]), "sums that are not finite"),
        ("sum_ratings", pa.array([1.0, None]), "1 values are missing"),
        ("sum_ratings", pa.array(["1", "2"]), "sums of type string"),
    ],
    ids=str,
)
def test_columns_of_a_model(
    column: str, values: pa.Array, says: str, model: Path, capsys: Captured
) -> None:
    path = model / "user_factors.parquet"
    table = pq.read_table(path)
    pq.write_table(table.set_column(table.schema.names.index(column), column, values), path)
    names = (str(model), rf"user_factors\.parquet, column {column}: {says}")
    told(capsys, work(lambda: load_model(model)), *names)


def test_ids_that_are_no_text(model: Path, capsys: Captured) -> None:
    path = model / "user_factors.parquet"
    data = pa.py_buffer(b"\xff\xfe")
    ids = pa.Array.from_buffers(
        pa.string(), 2, [None, pa.py_buffer(bytes(4) + b"\1\0\0\0\2\0\0\0"), data]
    )
    pq.write_table(pq.read_table(path).set_column(0, "id", ids), path)
    told(capsys, work(lambda: load_model(model)), r"user_factors\.parquet, column id: .*UTF-?8")


def test_a_column_twice(model: Path, capsys: Captured) -> None:
    path = model / "user_factors.parquet"
    table = pq.read_table(path)
    pq.write_table(table.append_column("id", table.column("id")), path)
    told(capsys, work(lambda: load_model(model)), r"user_factors\.parquet has 2 columns called id")


@pytest.mark.parametrize(
    ("ids", "taken"),
    [
        (pa.array([1, 2], pa.int32()), pa.int64()),
        (pa.array([1, 2], pa.uint8()), pa.int64()),
        (pa.array([1, 2], pa.uint64()), pa.int64()),
        (pa.array([1, 2]).dictionary_encode(), pa.int64()),
        (pa.array(["a", "b"], pa.large_string()), pa.string()),
        (pa.array(["a", "b"]).dictionary_encode(), pa.string()),
        (pa.array(["a", "b"], pa.string_view()), pa.string()),
    ],
    ids=str,
)
def test_ids_of_other_tools(ids: pa.Array, taken: pa.DataType, model: Path) -> None:
    path = model / "user_factors.parquet"
    table = pq.read_table(path).set_column(0, "id", ids)
    table = table.set_column(2, "sum_ratings", pa.array([1.0, 1.0], pa.float32()))
    table = table.set_column(1, "n_ratings", pa.array([1, 1], pa.uint16()))
    # What else there is does not matter, whatever it is.
    pq.write_table(table.append_column("more", pa.array([1, 2], pa.time32("s"))), path)
    found = load_model(model)
    assert found.users.ids.equals(pa.array(ids.to_pylist(), taken))
    assert value_of(found) == 1
    assert found.users.rows_of(ids.to_pylist()[::-1]).tolist() == [1, 0]


@pytest.mark.parametrize("name", ["model.json", "user_factors.parquet"])
def test_a_folder_in_the_place_of_a_file_of_a_model(
    name: str, model: Path, capsys: Captured
) -> None:
    (model / name).unlink()
    (model / name).mkdir()
    told(capsys, work(lambda: load_model(model)), str(model), re.escape(name))


# --- stores


@pytest.mark.parametrize("content", DOCUMENTS.values(), ids=DOCUMENTS)
def test_marks_of_a_store(content: str | bytes, root: Path, capsys: Captured) -> None:
    put(root / "store.json", content)
    for command in (["list"], ["prune", "--keep", "1"], ["rollback"]):
        told(capsys, store_main([*command, "--store", str(root)]), rf"{root}/store\.json")


@dataclass(frozen=True)
class Edit:
    """An entry of a document that is given another value, as JSON; or none, if it is None."""

    key: str
    value: str | None

    def apply(self, path: Path) -> None:
        record = json.loads(path.read_text())
        record.pop(self.key)
        more = "" if self.value is None else f', "{self.key}": {self.value}'
        put(path, f"{json.dumps(record)[:-1]}{more}}}")


POINTERS = [
    Edit("version", "7"),
    Edit("version", '["a"]'),
    Edit("version", "null"),
    Edit("version", '"../.."'),
    Edit("version", '"a/b"'),
    Edit("version", '""'),
    Edit("number", "null"),
    Edit("number", HUGE),
    Edit("number", "2.5"),
    Edit("number", "1"),
    Edit("sha256", "5"),
    Edit("action", '"steal"'),
    Edit("run", None),
]


@pytest.mark.parametrize(
    "damage", [*DOCUMENTS.values(), *POINTERS], ids=[*DOCUMENTS, *map(str, POINTERS)]
)
def test_pointers(damage: str | bytes | Edit, root: Path, capsys: Captured) -> None:
    path = root / numbered("pointers", 2)
    damage.apply(path) if isinstance(damage, Edit) else put(path, damage)
    name = r"the current pointer pointers/0000000002\.json cannot be read \("
    for command in (["current"], ["show"], ["prune", "--keep", "1"]):
        told(capsys, store_main([*command, "--store", str(root)]), str(root), name)
    assert store_main(["list", "--store", str(root)]) == 0
    assert store_main(["verify", "--store", str(root)]) == 1
    assert "pointers/0000000002.json: cannot be read (" in capsys.readouterr().out
    # And the remedy works.
    assert store_main(["rollback", "--store", str(root)]) == 0
    assert value_of(open_store(root).load()) in (1, 2)


def test_a_pointer_of_the_highest_number(root: Path, capsys: Captured) -> None:
    """The number after it has a digit more, and counts none the less."""
    pointer = json.loads((root / numbered("pointers", 2)).read_text())
    last = 10**10 - 1
    put(root / numbered("pointers", last), json.dumps({**pointer, "number": last}))
    first = json.loads((root / numbered("pointers", 1)).read_text())["version"]
    assert store_main(["rollback", "--store", str(root), "--to", first]) == 0
    assert open_store(root).current() == first
    capsys.readouterr()


@pytest.mark.parametrize("content", DOCUMENTS.values(), ids=DOCUMENTS)
def test_manifests(content: str | bytes, root: Path, capsys: Captured) -> None:
    version = open_store(root).current()
    put(root / "versions" / str(version) / "manifest.json", content)
    told(capsys, store_main(["show", "--store", str(root)]), str(root), r"manifest\.json")
    assert store_main(["list", "--store", str(root)]) == 0


@pytest.mark.parametrize("content", DOCUMENTS.values(), ids=DOCUMENTS)
def test_locks_and_leases(content: str | bytes, root: Path, capsys: Captured) -> None:
    for folder, name in (("locks", numbered("locks", 1)), ("readers", "readers/v.1.json")):
        (root / folder).mkdir(exist_ok=True)
        put(root / name, content)
    assert store_main(["prune", "--store", str(root), "--keep", "1"]) == 5
    line = capsys.readouterr().err
    assert re.search(r"locks/0000000001\.json is unreadable, so somebody may hold the lock", line)
    assert len(line.splitlines()) == 1
    assert store_main(["current", "--store", str(root)]) == 0


@pytest.mark.parametrize(
    "time", ['"9999-12-31T23:59:59-23:59"', '"0001-01-01T00:00:00+23:59"', "1e300", '"soon"']
)
def test_times_at_the_ends_of_the_calendar(time: str, root: Path, capsys: Captured) -> None:
    with open_store(root).lock("somebody"):
        held = json.loads((root / numbered("locks", 1)).read_text())
    for folder, name in (("locks", numbered("locks", 1)), ("runs/r", "runs/r/run.json")):
        (root / folder).mkdir(exist_ok=True, parents=True)
        put(root / name, json.dumps({**held, "released": None, "status": "running"}))
        for key in ("acquired", "expires", "started"):
            record = json.loads((root / name).read_text())
            record.pop(key, None)
            put(root / name, f'{json.dumps(record)[:-1]}, "{key}": {time}}}')
    assert store_main(["prune", "--store", str(root), "--keep", "1"]) == 5
    assert "is unreadable, so somebody may hold" in capsys.readouterr().err
    (root / numbered("locks", 1)).unlink()
    assert any(" run r " in f" {warning}" for warning in nightly(root))


@pytest.mark.parametrize("content", DOCUMENTS.values(), ids=DOCUMENTS)
def test_records_of_runs(content: str | bytes, root: Path, caplog: Any) -> None:
    (root / "runs" / "r").mkdir(parents=True)
    put(root / "runs" / "r" / "run.json", content)
    put(root / "history.jsonl", content)
    warnings = nightly(root)
    assert (root / "runs" / "r" / "run.json").exists()
    lines = (root / "history.jsonl").read_text().splitlines()
    assert len(lines) in (1, 2)
    assert json.loads(lines[-1])["outcome"] == "kept"
    left_out = [record for record in caplog.records if "line 1 is left out" in record.message]
    assert bool(left_out) is bool(content)
    assert warnings == (["history.jsonl: 1 damaged line left out"] if content else [])


RECORD = {"run": "20261101T000000Z-000aa", "status": "published", "outcome": "published"}
HISTORY = [
    ({"version": ["v"]}, "version is .*: Input should be a valid string"),
    ({"training": "text"}, "training is 'text': Input should be an object"),
    ({"data": {"ratings": None}}, "data.ratings is None: Input should be a valid integer"),
    ({"data": {"ratings": 2.5}}, "data.ratings is 2.5: "),
    ({"comparison": {"margin": 0.1}}, "comparison.measure: Field required"),
    ({"seconds": {"total": "long"}}, "seconds.total is 'long': Input should be a valid number"),
    ({"warnings": "one"}, "warnings is 'one': Input should be a valid"),
    ({"checks": [{"name": "a"}]}, "checks.0.value: Field required"),
    ({"exit_code": "0"}, "exit_code is '0': Input should be a valid integer"),
]


@pytest.mark.parametrize(("entries", "says"), HISTORY, ids=[str(entry[0]) for entry in HISTORY])
def test_lines_of_the_history(entries: Mapping[str, Any], says: str, root: Path) -> None:
    good = json.dumps({**RECORD, "run": "20261102T000000Z-000aa"})
    put(root / "history.jsonl", f"{json.dumps({**RECORD, **entries})}\n{good}\n")
    warnings = nightly(root)
    assert len(warnings) == 1
    assert re.search(
        f"the line of run {RECORD['run']} is passed over \\({says}.*\\): mend or", warnings[0]
    )
    assert len((root / "history.jsonl").read_text().splitlines()) == 3


def test_attachments_that_are_none(root: Path) -> None:
    for number, more in enumerate((5, "text", {"a": 1}, [None, "../x", "a"], None)):
        run = f"20261101T00000{number}Z-000aa"
        (root / "runs" / run).mkdir(parents=True)
        record = {**RECORD, "run": run, "attachments": more}
        put(root / "runs" / run / "run.json", json.dumps(record))
    store = open_store(root)
    with store.lock("somebody"):
        assert len(store.history.gather(keep=1)) == 5
    assert [path.name for path in (root / "runs").iterdir()] == ["20261101T000004Z-000aa"]


@pytest.mark.parametrize("name", ["history.jsonl", "store.json", numbered("pointers", 2)])
def test_a_folder_in_the_place_of_a_file(name: str, root: Path, capsys: Captured) -> None:
    (root / name).unlink(missing_ok=True)
    (root / name).mkdir()
    told(capsys, work(lambda: nightly(root)), re.escape(name), "is a folder|no JSON|cannot be read")


@pytest.mark.parametrize("name", ["runs", "locks", "pointers", "versions", "staging"])
def test_a_file_in_the_place_of_a_folder(name: str, root: Path, capsys: Captured) -> None:
    shutil.rmtree(root / name, ignore_errors=True)
    put(root / name, "")
    line = told(capsys, work(lambda: nightly(root)), f"{root}/{name} is a file, where the store")
    assert line.count(str(root)) == 1


def test_a_file_among_the_runs(root: Path) -> None:
    (root / "runs").mkdir()
    put(root / "runs" / "notes.txt", "of somebody")
    assert nightly(root) == []
    assert (root / "runs" / "notes.txt").read_text() == "of somebody"


@pytest.mark.parametrize("number", ["0", "-1", "1.5", "²", HUGE, VAST])
def test_versions_to_keep(number: str, root: Path, capsys: Captured) -> None:
    code = store_main(["prune", "--store", str(root), f"--keep={number}"])
    told(capsys, code, "--keep: .* is not a whole number above 0")


@pytest.mark.parametrize("name", ["deep", "5,000 digits", "not a number", "cut off"])
def test_metrics_of_a_version(name: str, tmp_path: Path, capsys: Captured) -> None:
    store, folder = open_store(tmp_path / "store"), make_folder(tmp_path / "1", 1)
    put(folder / "metrics.json", DOCUMENTS[name])
    version = store.publish(folder, run="r")
    code = store_main(["show", "--store", store.label])
    told(capsys, code, store.label, rf"metrics\.json of version {version} cannot be read \(")


# --- results of a sweep, and outputs


@pytest.mark.parametrize("name", ["results.json", "run.json"])
@pytest.mark.parametrize("content", DOCUMENTS.values(), ids=DOCUMENTS)
def test_results_of_a_sweep(
    content: str | bytes, name: str, tmp_path: Path, capsys: Captured
) -> None:
    put(tmp_path / "results.json", '[{"d": 2, "lambda_reg": 0.5, "best": true}]')
    put(tmp_path / "run.json", '{"config": {"exponent": 1}}')
    assert best_of_sweep(str(tmp_path)).rank == 2
    put(tmp_path / name, content)
    names = (rf"--from-sweep {tmp_path}: no results of a sweep there \({name}: ",)
    told(capsys, work(lambda: best_of_sweep(str(tmp_path))), *names)


@pytest.mark.parametrize(
    ("point", "config", "says"),
    [
        ('"d": 2.5, "lambda_reg": 1', '"exponent": 1', "results.json: d is 2.5: Input should be"),
        ('"d": 0, "lambda_reg": 1', '"exponent": 1', "results.json: d is 0: "),
        ('"d": 2, "lambda_reg": 1e400', '"exponent": 1', "results.json: 0.lambda_reg is 1e400: no"),
        ('"d": 2, "lambda_reg": null', '"exponent": 1', "lambda_reg is None: "),
        (f'"d": {HUGE}, "lambda_reg": 1', '"exponent": 1', "0.d is 1000.*: an integer of more"),
        ('"d": 2, "lambda_reg": 1', '"exponent": "1"', "run.json: config.exponent is '1': "),
        ('"d": 2, "lambda_reg": 1', '"exponent": 1, "implicit": 1', "config.implicit is 1: "),
        ('"d": 2, "lambda_reg": 1', '"exponent": 1, "alpha": 2', "run.json: alpha 2 has no effect"),
    ],
)
def test_numbers_of_a_sweep(
    point: str, config: str, says: str, tmp_path: Path, capsys: Captured
) -> None:
    put(tmp_path / "results.json", f'[{{"best": true, {point}}}]')
    put(tmp_path / "run.json", f'{{"config": {{{config}}}}}')
    told(capsys, work(lambda: best_of_sweep(str(tmp_path))), str(tmp_path), says)


@pytest.mark.parametrize("name", ["model.json", "store.json"])
@pytest.mark.parametrize("content", DOCUMENTS.values(), ids=DOCUMENTS)
def test_what_lies_around_an_output(content: str | bytes, name: str, tmp_path: Path) -> None:
    put(tmp_path / name, content)
    options = ["--ratings", "x", "--output", str(tmp_path / "out")]
    assert parse(TrainConfig, options).output == str(tmp_path / "out")


@pytest.mark.parametrize("content", DOCUMENTS.values(), ids=DOCUMENTS)
def test_lists_of_an_output(content: str | bytes, tmp_path: Path, capsys: Captured) -> None:
    out = tmp_path / "out"
    out.mkdir()
    put(out / "_ALS_SPARK", content)

    check = partial(check_local_target, out, "sweep", f"--output {out}")
    told(capsys, work(check), f"--output {out}: .* holds '_ALS_SPARK', which no earlier sweep")
    assert (out / "_ALS_SPARK").exists()


# --- metadata of a saved estimator or model


SAVED: dict[str, Any] = {
    "class": "als_spark.ml.als.ALS",
    "uid": "ALS_1",
    "sparkVersion": "4.0.1",
    "paramMap": {"rank": 3, "coldStartStrategy": "drop"},
    "defaultParamMap": {"regParam": 0.5, "initialModel": None, "callback": None},
    "rank": 3,
}
CLASSES = ("als_spark.ml.als.ALS", "org.apache.spark.ml.recommendation.ALS")


def load_saved(content: str | bytes, *, model: bool = False) -> ALS | ALSModel:
    """Read metadata as ``ALS.load`` does of the text that Spark has made of them."""
    text = content if isinstance(content, str) else content.decode(errors="replace")
    found = read_metadata(text, "m", CLASSES, model=model)
    instance: ALS | ALSModel = ALSModel() if model else ALS()
    set_params(instance, found, "m")
    return instance


@pytest.mark.parametrize("model", [False, True])
@pytest.mark.parametrize("content", DOCUMENTS.values(), ids=DOCUMENTS)
def test_saved_metadata(content: str | bytes, model: bool, capsys: Captured) -> None:
    code = work(lambda: load_saved(content, model=model))
    told(capsys, code, "m/metadata: .*: save it again, or take the folder from a backup$")


def test_what_was_saved_is_set() -> None:
    found = load_saved(json.dumps(SAVED))
    assert isinstance(found, ALS)
    assert (found.uid, found.getRank(), found.getColdStartStrategy()) == ("ALS_1", 3, "drop")
    assert found.getRegParam() == 0.5
    # Spark before 2.4 had no defaults, and MLlib has a class of its own.
    old = {**SAVED, "sparkVersion": "2.3.0", "class": CLASSES[1]}
    del old["defaultParamMap"]
    assert load_saved(json.dumps(old)).uid == "ALS_1"


@pytest.mark.parametrize(
    ("changes", "model", "says"),
    [
        ({"class": 3}, False, "class is 3, and not a text"),
        ({"class": "a.B"}, False, "Expected class name als_spark.ml.als.ALS but found .* a.B"),
        ({"uid": None}, False, "uid is None, and not a text"),
        ({"uid": ...}, False, "has no entry uid"),
        ({"sparkVersion": "soon"}, False, "sparkVersion is 'soon', and no version"),
        ({"sparkVersion": "1" * 5000}, False, "sparkVersion is '1111.*, and no version"),
        ({"paramMap": []}, False, r"paramMap is \[\], and not an object"),
        ({"paramMap": ...}, False, "has no entry paramMap"),
        ({"defaultParamMap": ...}, False, "has no entry defaultParamMap"),
        ({"paramMap": {"rank": "x"}}, False, "paramMap.rank is 'x', which cannot be "),
        ({"paramMap": {"ranks": 1}}, False, "paramMap.ranks is 1, which is no parameter that ALS"),
        ({"defaultParamMap": {"userCol": 1.5}}, False, "defaultParamMap.userCol is 1.5, which c"),
        ({"paramMap": {"callback": 1}}, False, "paramMap.callback is 1, which is no parameter"),
        ({"paramMap": {"x" * 5000: 1}}, False, "paramMap.xxx.*… is 1, which is no parameter"),
        ({"initialModel": "yes"}, False, "initialModel is 'yes', and not true or false"),
        ({"rank": ...}, True, "has no entry rank"),
        ({"rank": True}, True, "rank is True, and not a whole number"),
        ({"rank": 0}, True, "rank is 0, and not above 0"),
        ({"stats": 1}, True, "stats is 1, and not true or false"),
        ({"objective": [1]}, True, r"objective is \[1\], and not an object"),
    ],
)
def test_entries_of_saved_metadata(
    changes: Mapping[str, Any], model: bool, says: str, capsys: Captured
) -> None:
    entries = {**SAVED, **changes}
    text = json.dumps({key: value for key, value in entries.items() if value is not ...})
    told(capsys, work(lambda: load_saved(text, model=model)), f"m(/metadata)?: {says}")
