"""scripts/fetch_movielens.py against a server on the loopback interface."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import importlib.util
import io
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pooch
import pytest

from tests.jobs.checkout import Checkout

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "scripts" / "lib" / "fetch_movielens.py"
NAME = "ml-latest-small"
ARCHIVE = f"{NAME}.zip"
NOTICES = {"ml-1m": ("ratings.dat", "README"), "ml-100k": ("u.data", "README")}
HEX = "6b51fb2759a8657d3bfcbfc42b592ada"
# Random digits: they do not shrink in the archive, so that it needs many reads.
RATINGS = random.Random(0).randbytes(150_000)


def load_program() -> Any:
    spec = importlib.util.spec_from_file_location("fetch_movielens", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


fetcher = load_program()


def make_zip(members: dict[str, bytes]) -> bytes:
    """Pack `members` as they are named, however evil the names."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def make_archive(name: str = NAME, ratings: bytes = RATINGS) -> bytes:
    """Pack a data set as GroupLens does: one folder, the files below."""
    ratings_file, notice = NOTICES.get(name, ("ratings.csv", "README.txt"))
    return make_zip(
        {f"{name}/": b"", f"{name}/{ratings_file}": ratings, f"{name}/{notice}": b"Terms of use"}
    )


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


@dataclass
class Site:
    """What the server holds, how it misbehaves and what it was asked."""

    url: str
    files: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True
    cuts: list[int] = field(default_factory=list)  # bytes to send of the next archives
    statuses: list[int] = field(default_factory=list)  # answers to the next requests
    stall: threading.Event | None = None  # wait for it where an archive is cut
    seen: list[tuple[str, str | None]] = field(default_factory=list)  # path, range

    def publish(self, content: bytes, name: str = NAME) -> None:
        """Put an archive and its checksum on the server."""
        line = f"MD5 ({name}.zip) = {md5(content)}\n".encode()
        self.files = {f"/{name}.zip": content, f"/{name}.zip.md5": line}

    def ranges_asked(self) -> list[str | None]:
        """Return the ranges of the requests for the archive."""
        return [asked for path, asked in self.seen if path == f"/{ARCHIVE}"]


class Handler(BaseHTTPRequestHandler):
    """Serves the files of a `Site` with its quirks."""

    server: Server

    def do_GET(self) -> None:
        site, asked = self.server.site, self.headers.get("Range")
        site.seen.append((self.path, asked))
        body = site.files.get(self.path)
        status = site.statuses.pop(0) if site.statuses else 200 if body is not None else 404
        if status == 200 and body and asked and site.ranges:
            body = body[int(asked.removeprefix("bytes=").removesuffix("-")) :]
            status = 206 if body else 416
        if status not in (200, 206) or body is None:
            self.send_error(status)
            return
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        cut = site.cuts.pop(0) if site.cuts and self.path.endswith(".zip") else len(body)
        self.wfile.write(body[:cut])
        if cut < len(body) and site.stall is not None:
            self.wfile.flush()
            site.stall.wait(30)

    def log_message(self, *args: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    """A server that is silent about clients that go away."""

    daemon_threads = True
    site: Site

    def handle_error(self, request: object, client_address: object) -> None:
        assert isinstance(sys.exception(), ConnectionError), sys.exception()


@pytest.fixture
def site() -> Iterator[Site]:
    with Server(("127.0.0.1", 0), Handler) as server:
        server.site = Site(f"http://127.0.0.1:{server.server_port}")
        server.site.publish(make_archive())
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.site
        if server.site.stall is not None:
            server.site.stall.set()
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Let retries not wait, and note how long they would have."""
    noted: list[float] = []
    monkeypatch.setattr(pooch.core, "time", SimpleNamespace(sleep=noted.append))
    return noted


@pytest.fixture(autouse=True)
def elsewhere(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a folder that does not hold the output: paths are shown in full."""
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def part(data: Path) -> Path:
    """Where the archive arrives."""
    return data / f".{NAME}.fetch" / f"{ARCHIVE}.{md5(make_archive())}.part"


Run = Callable[..., int]
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def run(site: Site, data: Path) -> Run:
    def call(*arguments: str, name: str = NAME) -> int:
        code = fetcher.main([name, "--base-url", site.url, "--output", str(data), *arguments])
        assert isinstance(code, int)
        return code

    return call


def only_error(capsys: Capture) -> str:
    """Return what stands on standard error, which is one line."""
    error = capsys.readouterr().err
    assert re.fullmatch(r"fetch_movielens: error: [^\n]+\n", error), error
    return error


def tree(folder: Path) -> dict[str, bytes | str]:
    """Return the bytes of each file below `folder`, where a link leads, and what else is there."""
    found: dict[str, bytes | str] = {}
    for path in folder.rglob("*"):
        name = str(path.relative_to(folder))
        plain = path.is_file() and not path.is_symlink()
        link = str(path.readlink()) if path.is_symlink() else "folder"
        found[name] = path.read_bytes() if plain else link
    return found


def is_whole(folder: Path, ratings: bytes) -> bool:
    return tree(folder).items() >= {"ratings.csv": ratings, "README.txt": b"Terms of use"}.items()


def assert_unpacked(data: Path, ratings: bytes = RATINGS) -> None:
    """The data set is there and nothing else is."""
    assert [path.name for path in data.iterdir()] == [NAME]
    assert is_whole(data / NAME, ratings)


def assert_nothing_left(data: Path) -> None:
    assert list(data.iterdir()) == []


# --- a plain download ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ml-25m", "ml-1m", "ml-100k"])
def test_a_data_set_is_fetched_and_reported(name, site, data, run, capsys):
    site.publish(make_archive(name), name)
    assert run(name=name) == 0
    ratings, notice = NOTICES.get(name, ("ratings.csv", "README.txt"))
    assert (data / name / ratings).read_bytes() == RATINGS
    assert [path.name for path in data.iterdir()] == [name]
    (data / "plain").mkdir()
    assert (data / name).stat().st_mode == (data / "plain").stat().st_mode
    captured = capsys.readouterr()
    assert captured.err == ""
    lines = captured.out.splitlines()
    assert lines[-3] == f"ratings: {data / name / ratings}"
    assert lines[-2].startswith(f"licence: {data / name / notice} ")
    assert re.fullmatch(
        rf"next: +\S*scripts/sweep\.sh --ratings {re.escape(str(data / name / ratings))} "
        rf"--output \S*results/{name}",
        lines[-1],
    )


def test_paths_are_shown_relative_and_quoted(site, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert fetcher.main([NAME, "--base-url", site.url + "/", "--output", "my data"]) == 0
    output = capsys.readouterr().out
    assert f"ratings: my data/{NAME}/ratings.csv\n" in output
    assert f"--ratings 'my data/{NAME}/ratings.csv' --output" in output


def test_folders_inside_are_kept_and_what_stands_beside_is_left_out(site, data, run):
    inside = {f"{NAME}/ratings.csv": b"r", f"{NAME}/README.txt": b"x", f"{NAME}/a/b.csv": b"y"}
    site.publish(make_zip({**inside, "__MACOSX/._x": b"z", "notes.txt": b"z"}))
    assert run() == 0
    assert tree(data).keys() - {f"{NAME}/.fetched.json"} == {NAME, f"{NAME}/a", *inside}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_on_a_terminal(run, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert run() == 0
    assert re.search(rf"{ARCHIVE}: 100%\|.*150k/150k", terminal.getvalue())


# --- the checksum -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"MD5 (ml-25m.zip) = {HEX.upper()}\n", HEX),
        (f"{'0' * 32}  ml-1m.zip\n{HEX} *./dist/ml-25m.zip\r\n", HEX),
        (f"MD5 (ml-1m.zip) = {HEX}\n{HEX}  ml-25mxzip", None),
        (f"{HEX[:-1]}  ml-25m.zip\n{HEX}0  ml-25m.zip\n", None),
    ],
)
def test_find_md5(text, expected):
    assert fetcher.find_md5(text, "ml-25m.zip") == expected


def test_without_a_checksum_it_must_be_pinned(site, data, run, capsys):
    del site.files[f"/{ARCHIVE}.md5"]
    assert run() == 2
    assert re.search(r"no checksum: \S+\.md5: 404 .* --md5 HEX", only_error(capsys))
    site.files[f"/{ARCHIVE}.md5"] = b"<html>\nlog in" + b" " * 1_000_000
    assert run() == 2
    assert re.search("holds no MD5, it begins with '<html>.*--base-url.*--md5", only_error(capsys))
    assert site.ranges_asked() == []
    assert_nothing_left(data)
    site.seen.clear()
    assert run("--md5", md5(make_archive()).upper()) == 0
    assert [path for path, _ in site.seen] == [f"/{ARCHIVE}"]
    assert_unpacked(data)


def test_a_corrupted_archive_is_fetched_twice_then_refused(site, data, run, capsys):
    good = make_archive()
    site.files[f"/{ARCHIVE}"] = bytes([good[0] ^ 1]) + good[1:]
    assert run() == 2
    assert re.search(
        rf"checksum of \S+ is wrong \(downloads: 2\), not MD5 {md5(good)}; likely .*--base-url",
        only_error(capsys),
    )
    assert site.ranges_asked() == [None, None]
    assert_nothing_left(data)


def test_an_archive_that_changed_in_between_restarts(site, data, run):
    site.cuts = [100_000]
    assert run("--retries", "0") == 2
    site.publish(make_archive(ratings=RATINGS[::-1]))
    assert run() == 0
    assert site.ranges_asked() == [None, None]
    assert_unpacked(data, RATINGS[::-1])


# --- broken downloads ---------------------------------------------------------------------------


def test_a_truncated_body_is_resumed(site, data, run, waits, capsys):
    site.cuts = [100_000]
    assert run() == 0
    first, second = site.ranges_asked()
    kept = int((second or "").removeprefix("bytes=").removesuffix("-"))
    assert first is None
    assert 60_000 < kept <= 100_000
    assert waits == [1]
    output = capsys.readouterr().out
    assert re.search(r"IncompleteRead.*; trying again \(5 left\)", output)
    assert f"after the first {kept} bytes" in output
    assert_unpacked(data)


def test_the_next_run_resumes(site, data, run, part, capsys):
    site.cuts = [100_000]
    assert run("--retries", "0") == 2
    assert re.search(
        r"\(tries: 1\); .*goes on from what has arrived.*--retries", only_error(capsys)
    )
    assert not (data / NAME).exists()
    kept = part.stat().st_size
    assert make_archive().startswith(part.read_bytes())
    assert run() == 0
    assert site.ranges_asked()[1:] == [f"bytes={kept}-"]
    assert_unpacked(data)


@pytest.mark.parametrize(
    ("content", "ranges", "requests"),
    [
        (make_archive()[:5000], False, 1),  # The server sends all of it.
        (RATINGS[:5000], True, 2),  # Not the beginning of the archive: the checksum tells.
        (make_archive(), True, 1),  # 416: all is here already.
        (make_archive() + b"x", True, 2),
    ],
    ids=["no-ranges", "wrong", "whole", "too-long"],
)
def test_whatever_a_part_holds_the_archive_is_right(
    content, ranges, requests, site, data, run, part
):
    part.parent.mkdir(parents=True)
    part.write_bytes(content)
    site.ranges = ranges
    assert run() == 0
    assert site.ranges_asked() == [f"bytes={len(content)}-", None][:requests]
    assert_unpacked(data)


# --- network failures ---------------------------------------------------------------------------


def test_a_busy_server_is_asked_again(site, data, run, capsys):
    site.statuses = [503, 200, 429]
    assert run() == 0
    output = capsys.readouterr().out
    assert re.search(r"\.md5: 503 .*; trying again", output)
    assert re.search(r"\.zip: 429 .*; trying again", output)
    assert_unpacked(data)


@pytest.mark.parametrize("status", [403, 404])
def test_a_refusal_is_final(status, site, data, run, capsys):
    site.statuses = [200, status]
    assert run() == 2
    assert re.search(rf": {status} Client Error.*check --base-url", only_error(capsys))
    assert len(site.ranges_asked()) == 1
    assert_nothing_left(data)


def test_no_server(data, capsys, waits):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        arguments = [NAME, "--base-url", url, "--output", str(data), "--retries", "2"]
        assert fetcher.main(arguments) == 2
    assert re.search(r"Connection refused.*\(tries: 3\); likely the network", only_error(capsys))
    assert waits == [1, 2]
    assert_nothing_left(data)


def test_a_silent_server_times_out(site, run, part, capsys):
    site.cuts, site.stall = [100_000], threading.Event()
    assert run("--timeout", "0.2", "--retries", "0") == 2
    assert re.search(r"timed out \(tries: 1\); .*--timeout", only_error(capsys))
    assert part.stat().st_size > 0


def test_no_https_is_final(site, data, capsys):
    url = site.url.replace("http:", "https:")
    assert fetcher.main([NAME, "--base-url", url, "--output", str(data)]) == 2
    assert re.search("SSL.*REQUESTS_CA_BUNDLE", only_error(capsys))
    assert_nothing_left(data)


# --- bad archives -------------------------------------------------------------------------------


@pytest.mark.parametrize("member", [f"{NAME}/../../evil", "/evil", f"{NAME}\\..\\evil"])
def test_an_archive_that_tries_to_escape(member, site, data, run, tmp_path, capsys):
    files = {f"{NAME}/ratings.csv": RATINGS, f"{NAME}/README.txt": b"x", member: b""}
    site.publish(make_zip(files))
    assert run() == 2
    assert re.search("holds the unsafe path .*, nothing was unpacked", only_error(capsys))
    assert_nothing_left(data)
    assert list(tmp_path.iterdir()) == [data]


def damaged_inside() -> bytes:
    """Pack an archive whose list of members is fine and whose ratings are not."""
    archive = bytearray(make_archive())
    archive[1000:1100] = bytes(100)
    return bytes(archive)


def encrypted() -> bytes:
    """Pack an archive that says of every member that it needs a password."""
    archive = bytearray(make_archive())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        for match in re.finditer(re.escape(signature), bytes(archive)):
            archive[match.start() + offset] |= 1
    return bytes(archive)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no zip at all", r"cannot be unpacked \(File is not a zip file\): .*--base-url"),
        (damaged_inside(), "has the right checksum but cannot be unpacked"),
        (encrypted(), r"cannot be unpacked \(.*password"),
        (make_archive(ratings=b""), "has no ratings.csv, or an empty one: .*--base-url"),
    ],
    ids=["no-zip", "damaged", "encrypted", "empty"],
)
def test_an_archive_that_cannot_be_used(content, message, site, data, run, capsys):
    site.publish(content)
    assert run() == 2
    assert re.search(message, only_error(capsys))
    assert_nothing_left(data)


# --- what is there already ----------------------------------------------------------------------


def test_a_second_run_has_nothing_to_do(site, data, run, capsys):
    assert run() == 0
    before = tree(data)
    site.seen.clear()
    assert run() == 0
    assert run("--md5", md5(make_archive())) == 0
    assert site.seen == []
    assert tree(data) == before
    assert capsys.readouterr().out.count("is already there; nothing to do") == 2


def test_force_replaces_what_it_wrote(site, data, run):
    assert run() == 0
    (data / NAME / "README.txt").unlink()
    assert run() == 2
    site.publish(make_archive(ratings=b"new"))
    assert run("--force") == 0
    assert_unpacked(data, b"new")


def by_hand(target: Path) -> None:
    shutil.rmtree(target)
    target.mkdir()
    for name in ("ratings.csv", "README.txt"):
        (target / name).write_bytes(b"mine")


def a_link(target: Path) -> None:
    target.rename(target.parent.parent / "disk")
    target.symlink_to("../disk")


def moved_behind_a_link(target: Path) -> None:
    (target / "ratings.csv").rename(target.parent.parent / "ratings.csv")
    (target / "ratings.csv").symlink_to("../../ratings.csv")


def a_file(target: Path) -> None:
    shutil.rmtree(target)
    target.write_bytes(b"mine")


FOREIGN: dict[str, Callable[[Path], object]] = {
    "a file more": lambda target: (target / "models.parquet").write_bytes(b"mine"),
    "a hidden file": lambda target: (target / ".notes").write_bytes(b"mine"),
    "an empty folder": lambda target: (target / "results").mkdir(),
    "a link inside": lambda target: (target / "link").symlink_to("ratings.csv"),
    "a file moved": moved_behind_a_link,
    "a file edited": lambda target: (target / "ratings.csv").write_bytes(b"mine"),
    "a pipe": lambda target: os.mkfifo(target / "pipe"),
    "by hand": by_hand,
    "a link": a_link,
    "a file": a_file,
}


@pytest.mark.parametrize("change", FOREIGN.values(), ids=FOREIGN.keys())
def test_force_leaves_alone_what_it_did_not_write(change, site, data, run, capsys):
    assert run() == 0
    change(data / NAME)
    before = tree(data.parent)
    site.seen.clear()
    assert run("--force") == 2
    assert "move it away" in only_error(capsys)
    assert tree(data.parent) == before
    assert site.seen == []


def test_what_is_added_while_it_downloads_stays(data, run, monkeypatch):
    assert run() == 0

    def unpack(*arguments: object) -> object:
        (data / NAME / "mine").write_bytes(b"mine")
        return real(*arguments)

    real = fetcher.unpack
    monkeypatch.setattr(fetcher, "unpack", unpack)
    assert run("--force") == 2
    assert is_whole(data / NAME, RATINGS)
    assert (data / NAME / "mine").read_bytes() == b"mine"


@pytest.mark.parametrize("kind", ["folder", "file", "link"])
def test_a_scratch_folder_of_somebody_else_stays(kind, site, data, run, capsys):
    mine = data / "mine" if kind == "link" else data / f".{NAME}.fetch"
    data.mkdir()
    if kind == "file":
        mine.write_bytes(b"mine")
    else:
        mine.mkdir()
        (mine / "mine.txt").write_bytes(b"mine")
    if kind == "link":
        (data / f".{NAME}.fetch").symlink_to(mine)
    before = tree(data)
    assert run() == 2
    assert re.search(r"\.fetch is in the way.*move it away", only_error(capsys))
    assert tree(data) == before


def test_a_folder_of_another_version_than_pinned(data, run, capsys):
    assert run() == 0
    assert run("--md5", HEX) == 2
    pattern = f"comes from an archive with MD5 {md5(make_archive())}, not {HEX}: .*--force"
    assert re.search(pattern, only_error(capsys))


@pytest.mark.parametrize("fault", ["checksum", "archive", "gone", "rename"])
def test_the_old_folder_stays_when_the_new_one_fails(fault, site, data, run, monkeypatch):
    assert run() == 0
    before = tree(data / NAME)
    site.publish(make_zip({"../evil": b""}) if fault == "archive" else make_archive(ratings=b"n"))
    if fault == "checksum":
        site.files[f"/{ARCHIVE}"] += b"x"
    if fault == "gone":
        del site.files[f"/{ARCHIVE}"]
    real = Path.rename

    def rename(path: Path, target: Path) -> Path:
        if path.parent.name == "unpacked":
            raise OSError(errno.EIO, "Input/output error", str(path))
        return real(path, target)

    if fault == "rename":
        monkeypatch.setattr(Path, "rename", rename)
    assert run("--force") == 2
    assert tree(data / NAME) == before


def test_what_a_killed_run_unpacked_is_not_taken(data, run):
    left = data / f".{NAME}.fetch" / "unpacked" / NAME
    left.mkdir(parents=True)
    (left / "half.csv").write_bytes(b"half")
    assert run() == 0
    assert not (data / NAME / "half.csv").exists()
    assert_unpacked(data)


def test_one_fetch_into_a_folder_after_the_other(site, data, run):
    data.mkdir()
    lock = os.open(data, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    thread = threading.Thread(target=run)
    thread.start()
    thread.join(0.5)
    assert (thread.is_alive(), site.seen) == (True, [])
    os.close(lock)
    thread.join(60)
    assert_unpacked(data)


# --- the disk -----------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["download", "unpack"])
def test_a_disk_that_fills_up_keeps_what_has_arrived(where, site, data, run, capsys):
    command = [sys.executable, str(PROGRAM), NAME, "--base-url", site.url, "--output", str(data)]
    blocks = 50_000 if where == "download" else len(make_archive()) - 2000
    limit = (
        "import resource, runpy, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({blocks}, {blocks})); "
        "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    if where == "unpack":  # zeros: the archive is small, what is in it is not
        site.publish(make_archive(ratings=bytes(300_000)))
    full = [sys.executable, "-c", limit, *command[1:]]
    done = subprocess.run(full, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert re.fullmatch(r"fetch_movielens: error: .*cannot be used \(.*\n", done.stderr)
    assert "--output" in done.stderr
    assert [path.name for path in data.iterdir()] == [f".{NAME}.fetch"]
    asked = len(site.seen)
    assert run() == 0
    again = [asked for _, asked in site.seen[asked + 1 :]]
    assert again == ([] if where == "unpack" else ["bytes=50000-"])
    assert_unpacked(data, bytes(300_000) if where == "unpack" else RATINGS)


def test_an_output_that_cannot_be_a_folder(site, tmp_path, capsys):
    (tmp_path / "file").write_bytes(b"mine")
    for output in (tmp_path / "file" / "data", tmp_path / "file", Path("/proc/nowhere")):
        assert fetcher.main([NAME, "--base-url", site.url, "--output", str(output)]) == 2
        assert re.search(r"cannot be used \(.*--output", only_error(capsys))
    assert tree(tmp_path) == {"file": b"mine"}


# --- interruption -------------------------------------------------------------------------------


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGKILL])
def test_a_download_that_is_stopped_goes_on(signum, site, data, run, part):
    command = [sys.executable, str(PROGRAM), NAME, "--base-url", site.url, "--output", str(data)]
    site.cuts, site.stall = [100_000], threading.Event()
    with sigint_enabled():
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not (part.exists() and part.stat().st_size > 0):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signum)
    error = process.communicate(timeout=120)[1].decode()
    kept = part.stat().st_size
    if signum == signal.SIGINT:
        line = rf"interrupted; \S+\.fetch keeps {kept} bytes, the same command goes on there"
        assert re.fullmatch(rf"fetch_movielens: {line}\n", error)
    assert process.returncode == (130 if signum == signal.SIGINT else -9)
    assert not (data / NAME).exists()
    assert run() == 0
    assert site.ranges_asked()[1] == f"bytes={kept}-"
    assert_unpacked(data)


@contextlib.contextmanager
def sigint_enabled() -> Iterator[None]:
    """Let a child take SIGINT even where this process was started to ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


# Forks a run of --force for each change of the file system, and kills it just before that change.
KILLER = """
import itertools, os, shutil, signal, sys
sys.path.insert(0, sys.argv[1])
import fetch_movielens
import requests
CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir"}
def run(number, output):
    seen = itertools.count(1)
    def hook(event, arguments):
        if event in CHANGES and next(seen) == number:
            os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)
    os._exit(fetch_movielens.main([*sys.argv[4:], "--force", "--output", output]))
for number in itertools.count(1):
    output = os.path.join(sys.argv[3], str(number))
    shutil.copytree(sys.argv[2], output)
    child = os.fork()
    if child == 0:
        run(number, output)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, -signal.SIGKILL), status
    if status == 0:
        break
"""


def test_a_kill_at_any_point_leaves_the_old_or_the_new(site, data, run, tmp_path):
    assert run() == 0
    site.publish(make_archive(ratings=b"new"))
    folders = [str(PROGRAM.parent), str(data), str(tmp_path / "killed")]
    command = [sys.executable, "-c", KILLER, *folders, NAME, "--base-url", site.url]
    subprocess.run(command, check=True, timeout=240, stdout=subprocess.DEVNULL)
    site.files.clear()
    found = set()
    outputs = sorted((tmp_path / "killed").iterdir(), key=lambda path: int(path.name))
    for output in outputs:
        # Between the two renames the old one is aside; the next run puts it back.
        arguments = [NAME, "--base-url", site.url, "--output", str(output)]
        in_place = (output / NAME).exists()
        assert in_place or is_whole(output / f".{NAME}.fetch" / "old", RATINGS)
        assert fetcher.main(arguments) == 0
        old, new = is_whole(output / NAME, RATINGS), is_whole(output / NAME, b"new")
        assert old != new
        found.add((in_place, new))
    assert found == {(True, False), (False, False), (True, True)}
    site.publish(make_archive(ratings=b"new"))
    for output in outputs:
        assert fetcher.main([*arguments[:-1], str(output), "--force"]) == 0
        assert_unpacked(output, b"new")


# --- the program --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ml-25"], "'ml-25' is not a data set; choose one of ml-latest-small, .*ml-100k .*--help"),
        ([], "required: NAME"),
        ([NAME, "--forced"], "unrecognized arguments: --forced .*--help"),
        ([NAME, "--md5", "abc"], "--md5: 'abc' is not an MD5: give its 32"),
        ([NAME, "--timeout", "0.0"], "--timeout: '0.0' is not a number of seconds above 0"),
        ([NAME, "--retries", "1.5"], "--retries: '1.5' is not a whole number, 0 or more"),
        ([NAME, "--base-url", "http://me:pw@h"], "--base-url: 'http://me.* is not the address of"),
        ([NAME, "--base-url", "http://h/?a=b"], "is not the address .*no user name, no query"),
    ],
)
def test_wrong_usage(arguments, message, capsys):
    with pytest.raises(SystemExit) as caught:
        fetcher.main(arguments)
    assert caught.value.code == 2
    assert re.search(message, only_error(capsys))


def test_the_defaults():
    options = fetcher.parse_options([NAME])
    assert options.target == ROOT / "data" / NAME
    assert (options.retries, options.timeout, options.md5, options.force) == (5, 30.0, None, False)


def test_one_command_in_a_fresh_clone(site, tmp_path):
    checkout = Checkout(tmp_path)
    first = checkout.run("scripts/fetch_movielens.py", NAME, "--base-url", site.url)
    assert first.returncode == 0, first.stderr
    assert "environment ready" in first.stderr
    assert_unpacked(checkout.root / "data")
    second = checkout.run("scripts/fetch_movielens.py", NAME, "--base-url", site.url)
    assert (second.returncode, second.stderr) == (0, "")
    assert "nothing to do" in second.stdout
    wrong = checkout.run("scripts/fetch_movielens.py", "my data")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "'my data' is not a data set" in wrong.stderr
