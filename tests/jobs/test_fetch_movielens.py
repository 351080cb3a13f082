"""scripts/fetch_movielens.py against a server on the loopback interface."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import importlib.util
import io
import os
import random
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple
from urllib.error import URLError

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "fetch_movielens.py"
NAME = "ml-latest-small"
ARCHIVE = f"{NAME}.zip"
PART_FILES = [f"{ARCHIVE}.part", f"{ARCHIVE}.part.validator"]
NOTICES = {"ml-1m": ("ratings.dat", "README"), "ml-100k": ("u.data", "README")}
# Random digits: they do not shrink in the archive, so that it needs many reads.
RATINGS = random.Random(0).randbytes(150_000)


def load_script() -> ModuleType:
    """Import the script from its path."""
    spec = importlib.util.spec_from_file_location("fetch_movielens", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


fetcher: Any = load_script()


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


class Seen(NamedTuple):
    """A request that reached the server."""

    path: str
    range: str | None
    if_range: str | None


@dataclass
class Site:
    """What the server holds, how it misbehaves and what it was asked."""

    url: str
    files: dict[str, bytes] = field(default_factory=dict)
    etag: str | None = '"v1"'
    last_modified: str | None = formatdate(1_700_000_000, usegmt=True)
    ranges: str = "honour"  # or "ignore"; "refuse"; "blind", which does not heed If-Range
    send_length: bool = True
    cuts: list[int] = field(default_factory=list)  # bytes to send of the next archives
    statuses: list[int] = field(default_factory=list)  # answers to the next requests
    stall: threading.Event | None = None  # wait for it where an archive is cut
    seen: list[Seen] = field(default_factory=list)

    def publish(self, content: bytes, name: str = NAME, etag: str = '"v1"') -> None:
        """Put an archive and its checksum on the server."""
        self.files = {
            f"/{name}.zip": content,
            f"/{name}.zip.md5": f"MD5 ({name}.zip) = {md5(content)}\n".encode(),
        }
        self.etag = etag

    def asked(self, name: str = ARCHIVE) -> list[Seen]:
        """Return the requests for one file."""
        return [seen for seen in self.seen if seen.path == f"/{name}"]


class Handler(BaseHTTPRequestHandler):
    """Serves the files of a `Site` with its quirks."""

    server: Server

    def do_GET(self) -> None:
        site = self.server.site
        headers = self.headers
        site.seen.append(Seen(self.path, headers.get("Range"), headers.get("If-Range")))
        body = site.files.get(self.path)
        status = site.statuses.pop(0) if site.statuses else 200 if body is not None else 404
        if status != 200 or body is None:
            self.send_error(status)
            return
        current = headers.get("If-Range") in (site.etag, site.last_modified)
        current = current or site.ranges == "blind"
        if "Range" in headers and current and site.ranges != "ignore":
            self.answer_range(site, body)
        else:
            self.answer(200, {"ETag": site.etag}, body)

    def answer_range(self, site: Site, body: bytes) -> None:
        start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
        if site.ranges == "refuse" or start >= len(body):
            self.send_error(416)
            return
        span = f"bytes {start}-{len(body) - 1}/{len(body)}"
        self.answer(206, {"ETag": site.etag, "Content-Range": span}, body[start:])

    def answer(self, status: int, headers: dict[str, str | None], body: bytes) -> None:
        site = self.server.site
        self.send_response(status)
        if site.send_length:
            self.send_header("Content-Length", str(len(body)))
        for key, value in {**headers, "Last-Modified": site.last_modified}.items():
            if value is not None:
                self.send_header(key, value)
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
    # The script's own name alone: the module is shared with every thread of this process.
    monkeypatch.setattr(fetcher, "time", SimpleNamespace(sleep=noted.append))
    return noted


@pytest.fixture(autouse=True)
def elsewhere(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a folder that does not hold the output: paths are shown in full."""
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


Run = Callable[..., int]


@pytest.fixture
def run(site: Site, data: Path) -> Run:
    def call(*arguments: str, name: str = NAME) -> int:
        code = fetcher.main([name, "--base-url", site.url, "--output", str(data), *arguments])
        assert isinstance(code, int)
        return code

    return call


def leave_part(data: Path, content: bytes) -> None:
    """Leave what an interrupted run of the past leaves."""
    data.mkdir()
    (data / f"{ARCHIVE}.part").write_bytes(content)
    (data / f"{ARCHIVE}.part.validator").write_text('"v1"')


def only_error(capsys: pytest.CaptureFixture[str]) -> str:
    """Return what stands on standard error, which is one line."""
    error = capsys.readouterr().err
    assert re.fullmatch(r"fetch_movielens: error: [^\n]+\n", error), error
    return error


def assert_unpacked(data: Path, ratings: bytes = RATINGS) -> None:
    """The data set is there and nothing else is."""
    assert [path.name for path in data.iterdir()] == [NAME]
    assert (data / NAME / "ratings.csv").read_bytes() == ratings


def assert_nothing_left(data: Path) -> None:
    assert list(data.iterdir()) == []


# --- a plain download ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ml-25m", "ml-100k"])
def test_a_data_set_is_fetched_and_reported(
    name: str, site: Site, data: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    site.publish(make_archive(name), name)
    assert run(name=name) == 0
    ratings, notice = NOTICES.get(name, ("ratings.csv", "README.txt"))
    assert (data / name / ratings).read_bytes() == RATINGS
    assert (data / name / notice).read_bytes() == b"Terms of use"
    assert [path.name for path in data.iterdir()] == [name]
    assert not (data / name).stat().st_mode & 0o077 & ~0o755
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


def test_paths_are_shown_relative_and_quoted(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert fetcher.main([NAME, "--base-url", site.url + "/", "--output", "my data"]) == 0
    output = capsys.readouterr().out
    assert f"ratings: my data/{NAME}/ratings.csv\n" in output
    assert f"--ratings 'my data/{NAME}/ratings.csv' --output" in output


def test_the_folder_is_readable_as_any_new_folder(data: Path, run: Run) -> None:
    assert run() == 0
    (data / "plain").mkdir()
    assert (data / NAME).stat().st_mode == (data / "plain").stat().st_mode


def test_folders_inside_are_kept_and_what_stands_beside_is_left_out(
    site: Site, data: Path, run: Run
) -> None:
    inside = {f"{NAME}/ratings.csv": RATINGS, f"{NAME}/README.txt": b"x", f"{NAME}/a/b.csv": b"y"}
    site.publish(make_zip({**inside, "__MACOSX/._x": b"z", "notes.txt": b"z"}))
    assert run() == 0
    assert_unpacked(data)
    assert (data / NAME / "a" / "b.csv").read_bytes() == b"y"


# --- the checksum -------------------------------------------------------------------------------

HEX = "6b51fb2759a8657d3bfcbfc42b592ada"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"MD5 (ml-25m.zip) = {HEX.upper()}\n", HEX),
        (f"{'0' * 32}  ml-1m.zip\n{HEX} *./dist/ml-25m.zip\r\n", HEX),
        (f"MD5 (ml-1m.zip) = {HEX}\n{HEX}  ml-25mxzip", None),
        (f"{HEX[:-1]}  ml-25m.zip\n{HEX}0  ml-25m.zip\n", None),
    ],
)
def test_parse_md5(text: str, expected: str | None) -> None:
    assert fetcher.parse_md5(text, "ml-25m.zip") == expected


def test_missing_checksum(
    site: Site, data: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    del site.files[f"/{ARCHIVE}.md5"]
    assert run() == 1
    assert re.search(
        rf"no checksum at {site.url}/{ARCHIVE}\.md5 \(the server answered 404\).* --md5 HEX",
        only_error(capsys),
    )
    assert site.asked() == []
    assert_nothing_left(data)


def test_a_pinned_md5_needs_no_checksum_file(site: Site, data: Path, run: Run) -> None:
    del site.files[f"/{ARCHIVE}.md5"]
    assert run("--md5", md5(make_archive()).upper()) == 0
    assert site.asked(f"{ARCHIVE}.md5") == []
    assert_unpacked(data)


def test_a_page_in_place_of_the_checksum(
    site: Site, data: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    site.files[f"/{ARCHIVE}.md5"] = b"<html>\nlog in" + b" " * 1_000_000
    assert run() == 1
    assert re.search(
        rf"holds no MD5 of {ARCHIVE}, it begins with '<html>.*--base-url.*--md5", only_error(capsys)
    )
    assert_nothing_left(data)


def test_a_corrupted_archive_is_fetched_twice_then_refused(
    site: Site, data: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    good = make_archive()
    bad = bytes([good[0] ^ 1]) + good[1:]
    site.files[f"/{ARCHIVE}"] = bad
    assert run() == 1
    captured = capsys.readouterr()
    assert "starting again" in captured.out
    assert re.search(
        rf"checksum of \S+ is wrong twice: MD5 {md5(bad)}, expected {md5(good)}; likely .*"
        "--base-url",
        captured.err,
    )
    assert "--md5" not in captured.err
    assert [seen.range for seen in site.asked()] == [None, None]
    assert_nothing_left(data)


def test_a_wrong_pinned_md5_is_named_as_a_cause(
    site: Site, data: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--md5", HEX) == 1
    assert re.search(f"expected {HEX}; .*a --md5 of another version", only_error(capsys))
    assert_nothing_left(data)


def test_a_checksum_that_changes_with_the_archive_is_read_again(
    site: Site, data: Path, run: Run
) -> None:
    # "ml-latest" is replaced in place: the checksum seen first may be that of the old archive.
    replaced = make_archive(ratings=b"new")
    original = site.files[f"/{ARCHIVE}.md5"]
    site.publish(replaced)
    fresh, site.files[f"/{ARCHIVE}.md5"] = site.files[f"/{ARCHIVE}.md5"], original
    real = fetcher.fetch_md5

    def switch(options: object) -> object:
        found = real(options)
        site.files[f"/{ARCHIVE}.md5"] = fresh
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fetcher, "fetch_md5", switch)
        assert run() == 0
    assert_unpacked(data, b"new")


# --- broken downloads ---------------------------------------------------------------------------


def test_a_truncated_body_is_resumed(
    site: Site, data: Path, run: Run, waits: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    site.cuts = [100_000]
    assert run() == 0
    first, second = site.asked()
    assert (first.range, first.if_range) == (None, None)
    assert second == (f"/{ARCHIVE}", "bytes=100000-", '"v1"')
    assert waits == [1]
    output = capsys.readouterr().out
    assert f"the connection ended after 100000 of {len(make_archive())} bytes" in output
    assert "trying again in 1 s (1 of 5)" in output
    assert "going on after 100.0 kB" in output
    assert_unpacked(data)


def test_the_next_run_resumes(
    site: Site, data: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    site.cuts = [100_000]
    assert run("--retries", "0") == 1
    assert re.search(
        r"ended after 100000 of .*\(tries: 1\); .*goes on from what has arrived.*--retries",
        only_error(capsys),
    )
    assert not (data / NAME).exists()
    assert (data / f"{ARCHIVE}.part").stat().st_size == 100_000
    assert run() == 0
    assert site.asked()[1:] == [(f"/{ARCHIVE}", "bytes=100000-", '"v1"')]
    assert_unpacked(data)


def test_always_truncated(
    site: Site, data: Path, run: Run, waits: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    site.ranges = "ignore"
    site.cuts = [1000] * 10
    assert run("--retries", "7") == 1
    assert re.search(r"ended after 1000 of .*\(tries: 8\)", only_error(capsys))
    assert waits == [1, 2, 4, 8, 16, 30, 30]
    assert len(site.asked()) == 8
    assert sorted(path.name for path in data.iterdir()) == PART_FILES


def test_an_archive_that_changed_in_between_restarts(
    site: Site, data: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    site.cuts = [100_000]
    assert run("--retries", "0") == 1
    site.publish(make_archive(ratings=RATINGS[::-1]), etag='"v2"')
    assert run() == 0
    assert site.asked()[1:] == [(f"/{ARCHIVE}", "bytes=100000-", '"v1"')]
    assert "the archive has changed" in capsys.readouterr().out
    assert_unpacked(data, RATINGS[::-1])


@pytest.mark.parametrize("quirk", ["refuse", "blind"])
def test_a_wrong_answer_to_a_range_costs_one_restart(
    quirk: str, site: Site, data: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    leave_part(data, make_archive(ratings=RATINGS[::-1])[:5000])
    site.ranges = quirk
    assert run("--retries", "0") == 0
    assert [seen.range for seen in site.asked()] == ["bytes=5000-", None]
    assert "starting again" in capsys.readouterr().out
    assert_unpacked(data)


def test_a_refusal_other_than_416_is_an_error(
    site: Site, data: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    leave_part(data, make_archive()[:5000])
    site.statuses = [403]
    assert run("--md5", md5(make_archive())) == 1
    assert re.search(r"answered 403 Forbidden; .*check --base-url", only_error(capsys))
    assert (data / f"{ARCHIVE}.part").stat().st_size == 5000


def test_a_weak_etag_is_not_sent(site: Site, run: Run) -> None:
    site.etag = 'W/"v1"'
    site.cuts = [100_000]
    assert run() == 0
    assert site.asked()[1].if_range == site.last_modified


def test_no_validator_no_range(site: Site, data: Path, run: Run) -> None:
    site.etag = site.last_modified = None
    site.cuts = [100_000]
    assert run() == 0
    assert [seen.range for seen in site.asked()] == [None, None]
    assert_unpacked(data)


def test_a_complete_part_is_not_sent_again(
    site: Site, data: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    leave_part(data, make_archive())
    assert run() == 0
    assert [seen.range for seen in site.asked()] == [f"bytes={len(make_archive())}-"]
    assert "are here already" in capsys.readouterr().out
    assert_unpacked(data)


def test_an_archive_of_unknown_size(site: Site, data: Path, run: Run) -> None:
    site.send_length = False
    assert run() == 0
    assert_unpacked(data)


# --- network failures ---------------------------------------------------------------------------


def test_a_busy_server_is_asked_again(
    site: Site, data: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    site.statuses = [503, 200, 429]
    assert run() == 0
    output = capsys.readouterr().out
    assert f"{ARCHIVE}.md5: the server answered 503; trying again" in output
    assert f"{ARCHIVE}: the server answered 429; trying again" in output
    assert_unpacked(data)


def test_a_missing_archive_is_not_asked_for_again(
    site: Site, data: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    del site.files[f"/{ARCHIVE}"]
    assert run() == 1
    assert re.search(r"answered 404 Not Found; .*check --base-url", only_error(capsys))
    assert len(site.asked()) == 1
    assert_nothing_left(data)


def test_no_server(data: Path, capsys: pytest.CaptureFixture[str], waits: list[float]) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        arguments = [NAME, "--base-url", url, "--output", str(data), "--retries", "1"]
        assert fetcher.main(arguments) == 1
    assert re.search(r"Connection refused.*\(tries: 2\); likely the network", only_error(capsys))
    assert waits == [1]
    assert_nothing_left(data)


def test_a_silent_server_times_out(
    site: Site, data: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    site.cuts = [100_000]
    site.stall = threading.Event()
    assert run("--timeout", "0.2", "--retries", "0") == 1
    assert re.search(r"timed out \(tries: 1\); .*--timeout", only_error(capsys))
    assert (data / f"{ARCHIVE}.part").stat().st_size > 0


def test_a_certificate_that_is_not_accepted_is_final(
    run: Run, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise URLError(ssl.SSLCertVerificationError(1, "self-signed\ncertificate"))

    monkeypatch.setattr(fetcher, "urlopen", refuse)
    assert run() == 1
    assert re.search("certificate is not accepted .*SSL_CERT_FILE", only_error(capsys))
    assert_nothing_left(data)


# --- bad archives -------------------------------------------------------------------------------


@pytest.mark.parametrize("member", [f"{NAME}/../../evil", "/evil", f"{NAME}\\..\\evil"])
def test_zip_slip(
    member: str,
    site: Site,
    data: Path,
    run: Run,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    files = {f"{NAME}/ratings.csv": RATINGS, f"{NAME}/README.txt": b"x", member: b""}
    site.publish(make_zip(files))
    assert run() == 1
    assert re.search(
        "holds the unsafe path .*, nothing was unpacked; .*--base-url", only_error(capsys)
    )
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
        (b"no zip at all", r"cannot be unpacked \(File is not a zip file\); .*--base-url"),
        (damaged_inside(), "has the right checksum but cannot be unpacked"),
        (encrypted(), r"cannot be unpacked \(.*password"),
        (make_archive(ratings=b""), f"holds no {NAME}/ratings.csv, or an empty one; .*--base-url"),
    ],
    ids=["no-zip", "damaged", "encrypted", "empty"],
)
def test_an_archive_that_cannot_be_used(
    content: bytes,
    message: str,
    site: Site,
    data: Path,
    run: Run,
    capsys: pytest.CaptureFixture[str],
) -> None:
    site.publish(content)
    assert run() == 1
    assert re.search(message, only_error(capsys))
    assert_nothing_left(data)


# --- what is there already ----------------------------------------------------------------------


def test_a_complete_folder_is_left_alone(
    site: Site, data: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run() == 0
    site.seen.clear()
    before = (data / NAME / "ratings.csv").stat()
    assert run() == 0
    assert run("--md5", md5(make_archive())) == 0
    assert site.seen == []
    assert (data / NAME / "ratings.csv").stat() == before
    output = capsys.readouterr().out
    assert output.count("is already there; nothing to do") == 2
    assert output.count("next: ") == 3


def test_a_folder_from_elsewhere_is_left_alone(site: Site, data: Path, run: Run) -> None:
    (data / NAME).mkdir(parents=True)
    (data / NAME / "ratings.csv").write_bytes(b"mine")
    (data / NAME / "README.txt").write_bytes(b"x")
    assert run("--md5", HEX) == 0
    assert site.seen == []


def test_an_incomplete_folder_is_named_and_force_repairs_it(
    data: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run() == 0
    (data / NAME / "README.txt").write_bytes(b"")
    assert run() == 2
    message = rf"{NAME} exists but has no README.txt, or an empty one: .* --force"
    assert re.search(message, only_error(capsys))
    assert run("--force") == 0
    assert_unpacked(data)


def test_a_folder_of_another_version_than_pinned(
    data: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run() == 0
    assert run("--md5", HEX) == 2
    pattern = f"comes from an archive with MD5 {md5(make_archive())}, not {HEX}: .*--force"
    assert re.search(pattern, only_error(capsys))


def test_force_replaces_all(site: Site, data: Path, run: Run) -> None:
    assert run() == 0
    (data / NAME / "stray.csv").write_bytes(b"x")
    site.publish(make_archive(ratings=b"new"), etag='"v2"')
    assert run("--force") == 0
    assert_unpacked(data, b"new")
    assert not (data / NAME / "stray.csv").exists()


def test_force_keeps_the_old_folder_when_it_fails(site: Site, data: Path, run: Run) -> None:
    assert run() == 0
    site.publish(make_zip({"../evil": b""}))
    assert run("--force") == 1
    assert_unpacked(data)


def test_force_replaces_a_link_but_not_what_it_points_to(
    data: Path, run: Run, tmp_path: Path
) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "keep").touch()
    data.mkdir()
    (data / NAME).symlink_to(tmp_path / "disk")
    assert run("--force") == 0
    assert_unpacked(data)
    assert (tmp_path / "disk" / "keep").exists()


def test_the_old_folder_returns_when_the_last_rename_fails(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    with pytest.raises(FileNotFoundError):
        fetcher.move_into_place(tmp_path / "absent", tmp_path / "old", tmp_path / "aside")
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    with pytest.raises(FileNotFoundError):
        fetcher.move_into_place(tmp_path / "absent", tmp_path / "fresh", tmp_path / "aside")
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


def test_what_a_killed_run_left_is_removed(data: Path, run: Run) -> None:
    left = data / f".{NAME}.unpack" / "new" / NAME
    left.mkdir(parents=True)
    (left / "ratings.csv").write_bytes(b"half")
    assert run() == 0
    assert_unpacked(data)


# --- the disk -----------------------------------------------------------------------------------


def test_a_disk_that_fills_up_keeps_the_archive(
    site: Site, data: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    def fill(source: zipfile.ZipFile, folder: Path) -> None:
        (folder / NAME).mkdir(parents=True)
        raise OSError(errno.ENOSPC, "No space left on device", str(folder))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zipfile.ZipFile, "extractall", fill)
        assert run() == 1
    assert re.search(
        r"cannot be written \(No space left on device\); .*--output", only_error(capsys)
    )
    assert sorted(path.name for path in data.iterdir()) == PART_FILES
    assert run() == 0
    assert [seen.range for seen in site.asked()] == [None, f"bytes={len(make_archive())}-"]


# --- wrong usage --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ml-25"], "unknown data set 'ml-25'; choose one of ml-latest-small, .*ml-100k .*--help"),
        ([], "required: NAME"),
        ([NAME, "--forced"], "unrecognized arguments: --forced .*--help"),
        ([NAME, "--md5", "abc"], "--md5: 'abc' is not an MD5: give its 32"),
        ([NAME, "--timeout", "0.0"], "--timeout: '0.0' is not a number of seconds above 0"),
        ([NAME, "--retries", "1.5"], "--retries: '1.5' is not a whole number, 0 or more"),
        ([NAME, "--base-url", "http://me:pw@h"], "--base-url: 'http://me.* is not the address of"),
        ([NAME, "--base-url", "http://h/?a=b"], "is not the address .*no user name, no query"),
    ],
)
def test_wrong_usage(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        fetcher.main(arguments)
    assert caught.value.code == 2
    assert re.search(message, only_error(capsys))


def test_an_output_below_a_file(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    output = tmp_path / "file" / "data"
    assert fetcher.main([NAME, "--base-url", site.url, "--output", str(output)]) == 2
    assert re.search(r"cannot be used \(Not a directory\)", only_error(capsys))


def test_a_file_where_the_folder_goes(
    data: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    data.mkdir()
    (data / NAME).write_text("mine")
    assert run("--force") == 2
    assert re.search(f"{NAME} is a file, not a folder: move it away", only_error(capsys))
    assert (data / NAME).read_text() == "mine"


# --- interruption -------------------------------------------------------------------------------


def test_ctrl_c_keeps_the_part_and_the_next_run_resumes(site: Site, data: Path) -> None:
    command = [sys.executable, str(SCRIPT), NAME, "--base-url", site.url, "--output", str(data)]
    site.cuts = [100_000]
    site.stall = threading.Event()
    with sigint_enabled():
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
    part = data / f"{ARCHIVE}.part"
    wait_until(lambda: part.exists() and part.stat().st_size > 0)
    process.send_signal(signal.SIGINT)
    error = process.communicate(timeout=120)[1]
    assert process.returncode == 130
    kept = part.stat().st_size
    assert re.fullmatch(
        rf"fetch_movielens: interrupted; {re.escape(str(part))} keeps {kept / 1000:.1f} kB, "
        r"the same command goes on from there\n",
        error,
    )
    assert not (data / NAME).exists()

    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert site.asked()[1].range == f"bytes={kept}-"
    assert_unpacked(data)


@contextlib.contextmanager
def sigint_enabled() -> Iterator[None]:
    """Let a child take SIGINT even where this process was started to ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


REAL_SLEEP = time.sleep


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        REAL_SLEEP(0.01)


def interrupt(*args: object, **kwargs: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("where", "message", "left"),
    [
        ("fetch_md5", "nothing is left to go on from", []),
        ("move_into_place", "goes on from there", PART_FILES),
    ],
)
def test_ctrl_c_before_and_after_the_download(
    where: str,
    message: str,
    left: list[str],
    data: Path,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(fetcher, where, interrupt)
    assert run() == 130
    assert re.search(rf"interrupted; .*{message}", capsys.readouterr().err)
    assert sorted(path.name for path in data.iterdir()) == left


# --- progress -----------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_on_a_terminal(data: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert run() == 0
    assert re.search(rf"{ARCHIVE}: 100%\|.*150k/150k", terminal.getvalue())
    assert_unpacked(data)


def test_no_bar_without_tqdm(data: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setitem(sys.modules, "tqdm", None)
    assert run() == 0
    assert terminal.getvalue() == ""
    assert_unpacked(data)


# --- the program --------------------------------------------------------------------------------


def test_it_is_a_program() -> None:
    assert os.access(SCRIPT, os.X_OK)
    command = [sys.executable, str(SCRIPT), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0
    assert "ml-100k" in done.stdout
    assert "https://files.grouplens.org/datasets/movielens" in done.stdout


def test_the_default_output_is_the_data_folder_of_the_project() -> None:
    options = fetcher.parse_options([NAME])
    assert options.target == ROOT / "data" / NAME
    assert (options.retries, options.timeout, options.md5, options.force) == (5, 30.0, None, False)
