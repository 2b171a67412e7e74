"""Downloads against a local server that misbehaves when told to."""

import base64
import hashlib
import http.server
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import time

import download_openai
import numpy as np
import pytest
from absl import app
from absl import flags
from conftest import ROOT

NAME = "datasets/cifar10_trX.npy"
BODY = np.random.default_rng(0).bytes(50_000)
OTHER = np.random.default_rng(1).bytes(40_000)
SCRIPT = ROOT / "tools" / "download_openai.py"


def md5(content):
    return base64.b64encode(hashlib.md5(content).digest()).decode()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        if self.server.on_get:
            self.server.on_get.pop(0)()
        self.answer()

    def answer(self):
        server, asked = self.server, self.headers
        server.requests.append((self.command, self.path[1:], dict(asked)))
        content = server.files.get(self.path[1:])
        status = server.statuses.pop(0) if server.statuses else 200
        if content is None:
            status = 404
        if status != 200:
            return self.head(status, {"Content-Length": "0"})
        etag = server.etag(content)
        start = 0
        if "Range" in asked and "range" not in server.ignores:
            fresh = asked["If-Range"] == etag or "if-range" in server.ignores
            if fresh:
                status = 206
                start = int(re.fullmatch(r"bytes=(\d+)-", asked["Range"])[1])
        body = content[start:]
        headers = {
            "Content-Length": str(len(body)),
            "ETag": etag,
            # Azure's is of the range in an answer to Range.
            "Content-MD5": md5(body),
        }
        if status == 206:
            last = len(content) - 1
            headers["Content-Range"] = f"bytes {start}-{last}/{len(content)}"
        for key, value in server.lies.get(self.command, {}).items():
            if status == 206 or key != "Content-Range":
                headers[key] = value
        self.head(status, headers)
        if self.command == "GET":
            self.send(body[: int(headers["Content-Length"] or 0)])

    def head(self, status, headers):
        self.send_response(status)
        for key, value in headers.items():
            if value is not None:
                self.send_header(key, value)
        self.end_headers()

    def send(self, body):
        cut = self.server.cuts.pop(0) if self.server.cuts else None
        self.wfile.write(body[:cut])
        self.server.sent += len(body[:cut])
        if cut is not None:
            self.server.stall.wait()
            self.close_connection = True

    def log_message(self, *arguments):
        pass


class Server(http.server.ThreadingHTTPServer):
    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/"
        self.files = {NAME: BODY}
        self.etag = lambda content: f'"{hashlib.md5(content).hexdigest()}"'
        self.requests = []
        self.sent = 0  # Bytes of bodies.
        self.cuts = []  # Bytes after which the next answers end.
        self.stall = threading.Event()  # Cut answers wait for it to end.
        self.stall.set()
        self.statuses = []  # Of the next answers, whatever they are to.
        self.ignores = set()  # Request headers.
        self.lies = {}  # Response headers, by method.
        self.on_get = []  # Called before the next answers to GET.

    def handle_error(self, request, client_address):
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    def asked(self, method="GET"):
        return [headers for verb, _, headers in self.requests if verb == method]

    def ranges(self):
        """First bytes asked for; None where all are."""
        ranges = [headers.get("Range") for headers in self.asked()]
        return [r and int(re.findall(r"\d+", r)[0]) for r in ranges]


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(download_openai, "PAUSES", (0, 0, 0, 0))
    monkeypatch.setattr(download_openai, "CHUNK", 1000)
    with Server() as server:
        serve = threading.Thread(target=server.serve_forever, args=(0.01,))
        serve.start()
        yield server
        server.stall.set()
        server.shutdown()
        serve.join()


@pytest.fixture
def download(server, tmp_path):
    """Downloads; the content of the first name, and nothing half done."""

    def download(*names):
        names = names or (NAME,)
        download_openai.download(names, tmp_path, server.url)
        assert not list(tmp_path.rglob("*.partial*"))
        return (tmp_path / names[0]).read_bytes()

    return download


def main(*arguments):
    before = set(flags.FLAGS)
    download_openai.define_flags()
    try:
        flags.FLAGS(["download_openai.py", *arguments])
        download_openai.main([])
    finally:
        for name in set(flags.FLAGS) - before:
            delattr(flags.FLAGS, name)


def start(*arguments, before=""):
    """The command in a process of its own, after the statement `before`."""
    program = (
        f"import sys; sys.path.insert(0, {str(SCRIPT.parent)!r}); "
        "import download_openai; "
        f"download_openai.CHUNK = 1000; {before or 'pass'}; "
        "download_openai.define_flags(); "
        "download_openai.app.run(download_openai.main)"
    )
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("model, shards", [("s", 32), ("m", 32), ("l", 64)])
@pytest.mark.parametrize("bert, suffix", [(False, ""), (True, "-bert")])
def test_checkpoint_names(model, shards, bert, suffix):
    *data, index = download_openai.checkpoint_names(model, "131000", bert)
    stem = f"checkpoints/igpt-{model}{suffix}/131000/model.ckpt-131000"
    assert index == f"{stem}.index"
    assert len(set(data)) == shards
    assert data[0] == f"{stem}.data-00000-of-000{shards}"
    assert data[-1] == f"{stem}.data-000{shards - 1}-of-000{shards}"


def test_fresh(server, download):
    assert download() == BODY
    assert server.sent == len(BODY)
    assert server.ranges() == [None]
    for headers in server.asked("HEAD") + server.asked("GET"):
        assert headers["Accept-Encoding"] == "identity"


def test_empty(server, download):
    server.files[NAME] = b""
    assert download() == b""


def test_cut_continues(server, download):
    server.cuts = [20_000, 10_000]
    assert download() == BODY
    assert server.ranges() == [None, 20_000, 30_000]
    assert server.sent == len(BODY)
    etags = [headers.get("If-Range") for headers in server.asked()]
    assert etags == [None, server.etag(BODY), server.etag(BODY)]


def test_stalled_server_is_left(server, download, monkeypatch):
    monkeypatch.setattr(download_openai, "TIMEOUT", (1, 0.2))
    server.cuts = [20_000]
    server.stall.clear()
    assert download() == BODY
    assert server.ranges() == [None, 20_000]


def test_always_cut_fails_and_the_next_command_continues(
    server, download, tmp_path
):
    server.cuts = [1000] * 5
    with pytest.raises(
        download_openai.Failure,
        match=r"cifar10_trX.npy.* 5000 of 50000 bytes; the same command cont",
    ):
        download()
    assert not (tmp_path / NAME).exists()
    assert (tmp_path / f"{NAME}.partial").read_bytes() == BODY[:5000]
    assert len(server.asked()) == 5
    assert download() == BODY
    assert server.sent == len(BODY)


def test_whole_partial_is_not_asked_for_again(server, download, tmp_path):
    partial = tmp_path / f"{NAME}.partial"
    partial.parent.mkdir()
    partial.write_bytes(BODY)
    tag = tmp_path / f"{NAME}.partial.etag"
    tag.write_text(server.etag(BODY))
    assert download() == BODY
    assert not server.asked()


def cut_once(server, download):
    server.cuts = [20_000] + [0] * 4
    with pytest.raises(download_openai.Failure):
        download()
    server.requests.clear()


def test_changed_file_starts_again(server, download):
    cut_once(server, download)
    server.files[NAME] = OTHER
    assert download() == OTHER
    assert server.ranges() == [None]


@pytest.mark.parametrize("ignored", ["nothing", "if-range"])
def test_file_that_changes_as_it_is_asked_for(server, download, ignored):
    cut_once(server, download)
    server.ignores = {ignored}
    # Of the same length, so that only the ETag tells.
    other = OTHER + BODY[: len(BODY) - len(OTHER)]
    server.on_get = [lambda: server.files.update({NAME: other})]
    assert download() == other
    assert server.ranges() == [20_000, None]


def test_server_without_ranges(server, download):
    cut_once(server, download)
    server.ignores = {"range"}
    assert download() == BODY
    assert server.ranges() == [20_000]


@pytest.mark.parametrize("etag", [None, 'W/"1"'])
def test_no_strong_etag_starts_again(server, download, etag):
    server.etag = lambda content: etag
    cut_once(server, download)
    assert download() == BODY
    assert server.ranges() == [None]


@pytest.mark.parametrize(
    "content_range",
    [None, "bytes 0-49999/50000", "bytes 20000-50000/50001"],
)
def test_wrong_range_starts_again(server, download, content_range):
    cut_once(server, download)
    server.lies = {"GET": {"Content-Range": content_range}}
    assert download() == BODY
    assert server.ranges() == [20_000, None]


def test_refused_range_starts_again(server, download):
    cut_once(server, download)
    server.on_get = [lambda: server.statuses.append(416)]
    assert download() == BODY
    assert server.ranges() == [20_000, None]


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_size_that_is_not_true(server, download, tmp_path, method):
    server.lies = {method: {"Content-Length": "30000"}}
    with pytest.raises(download_openai.Failure, match=NAME):
        download()
    assert not (tmp_path / NAME).exists()


def test_rest_that_is_too_short(server, download, tmp_path):
    cut_once(server, download)
    server.lies = {"GET": {"Content-Length": "10"}}
    with pytest.raises(download_openai.Failure, match=" 20050 of 50000 bytes"):
        download()
    assert not (tmp_path / NAME).exists()


def test_unknown_size_is_refused(server, download):
    server.lies = {"HEAD": {"Content-Length": None}}
    with pytest.raises(download_openai.Failure, match="Content-Length"):
        download()
    assert server.sent == 0


def test_wrong_md5(server, download, tmp_path):
    wrong = md5(OTHER)
    server.lies = {"HEAD": {"Content-MD5": wrong}}
    with pytest.raises(download_openai.Failure) as failure:
        download()
    assert wrong in str(failure.value) and md5(BODY) in str(failure.value)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_palette_is_the_known_one(server, download, tmp_path, monkeypatch):
    palette = download_openai.PALETTE
    server.files[palette] = BODY
    with pytest.raises(download_openai.Failure) as failure:
        download(palette)
    assert download_openai.SHA256[palette] in str(failure.value)
    assert hashlib.sha256(BODY).hexdigest() in str(failure.value)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]

    known = {palette: hashlib.sha256(BODY).hexdigest()}
    monkeypatch.setattr(download_openai, "SHA256", known)
    assert download(palette) == BODY
    (tmp_path / palette).write_bytes(BODY[::-1])
    assert download(palette) == BODY


def test_whole_file_is_skipped(server, download, capsys):
    download()
    assert download() == BODY
    assert server.sent == len(BODY)
    assert f"{NAME}: already here" in capsys.readouterr().out


def test_damaged_file_of_the_same_size_is_fetched_again(
    server, download, tmp_path
):
    download()
    (tmp_path / NAME).write_bytes(bytes(len(BODY)))
    assert download() == BODY


def test_file_of_another_size_is_fetched_again(
    server, download, tmp_path, capsys
):
    (tmp_path / NAME).parent.mkdir()
    (tmp_path / NAME).write_bytes(BODY[:-1])
    assert download() == BODY
    assert "49999 bytes that are not it" in capsys.readouterr().out


def test_missing_file_is_named_before_anything_is_fetched(server, tmp_path):
    names = download_openai.checkpoint_names("s", "1000000", True)
    server.files = dict.fromkeys(names[:-1], b"shard")
    with pytest.raises(SystemExit) as stop:
        main("--model=s", "--bert", f"--base_url={server.url}")
    url = server.url + names[-1]
    assert f"404 Not Found for {url}. Not all twelve BERT" in stop.value.code
    assert server.sent == 0


def test_busy_server_is_asked_again(server, download):
    server.statuses = [503, 200, 200, 500]
    assert download() == BODY
    server.statuses = [503] * 5
    with pytest.raises(download_openai.Failure, match="503 Service Unavail"):
        download()


def test_no_network():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{unused.getsockname()[1]}"
        process = start(
            "--palette",
            f"--base_url=http://{host}",
            before="download_openai.PAUSES = (0,)",
        )
        _, errors = process.communicate()
    assert process.returncode == 1
    assert errors.startswith(f"download_openai.py: No answer from {host} ")
    assert "--base_url" in errors and errors.count("\n") == 1


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGKILL])
def test_stopped_command_continues(server, tmp_path, stop):
    names = download_openai.dataset_names("cifar10")
    server.files = dict.fromkeys(names, BODY)
    server.cuts = [20_500]
    server.stall.clear()
    flags = ["--dataset=cifar10", f"--directory={tmp_path}"]
    flags.append(f"--base_url={server.url}")
    process = start(*flags)
    partial = tmp_path / f"{names[0]}.partial"
    deadline = time.monotonic() + 10
    while not partial.is_file() or partial.stat().st_size < 10_000:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(stop)
    _, errors = process.communicate()
    if stop == signal.SIGTERM:
        assert process.returncode == 130
        assert errors == "\nStopped; the same command continues.\n"
    assert not (tmp_path / names[0]).exists()
    server.stall.set()
    main(*flags)
    assert server.ranges()[1] >= 10_000
    assert all((tmp_path / name).read_bytes() == BODY for name in names)


def test_full_disk_leaves_the_old_file(server, tmp_path):
    names = download_openai.dataset_names("cifar10")
    server.files = dict.fromkeys(names, BODY)
    old = tmp_path / names[0]
    old.parent.mkdir()
    old.write_bytes(OTHER)
    limit = (30_000, resource.RLIM_INFINITY)
    process = start(
        "--dataset=cifar10",
        f"--directory={tmp_path}",
        f"--base_url={server.url}",
        before="import resource; resource.setrlimit"
        f"(resource.RLIMIT_FSIZE, {limit})",
    )
    _, errors = process.communicate()
    assert process.returncode == 1
    assert errors.startswith(f"download_openai.py: cannot write in {tmp_path}:")
    assert errors.count("\n") == 1
    assert old.read_bytes() == OTHER
    assert (tmp_path / f"{names[0]}.partial").stat().st_size == 30_000
    assert not (tmp_path / names[1]).exists()


def test_directory_that_cannot_be_written(server, tmp_path):
    server.files[download_openai.PALETTE] = BODY
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit, match="cannot write in .*: Not a directory"):
        main(
            "--palette",
            f"--directory={tmp_path / 'file'}",
            f"--base_url={server.url}",
        )


@pytest.mark.parametrize(
    "arguments, error",
    [
        ([], "Give --model, --palette or --dataset"),
        (["--bert", "--palette"], "need --model"),
        (["--step=131000", "--palette"], "need --model"),
        (["--model=xl"], "should be one of"),
        (["--model=s", "--step=65000"], "should be one of"),
    ],
)
def test_flags(arguments, error):
    with pytest.raises((app.UsageError, flags.Error), match=error):
        main(*arguments)


def test_command(server, tmp_path):
    names = download_openai.checkpoint_names("s", "131000", False)
    names += download_openai.dataset_names("cifar10")
    server.files = {name: name.encode() for name in names}
    result = subprocess.run(
        [
            *(sys.executable, SCRIPT, "--model=s", "--step=131000"),
            *("--dataset=cifar10", f"--base_url={server.url}"),
        ],
        cwd=tmp_path,
        env={**os.environ, "NO_PROXY": "127.0.0.1"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert [n for verb, n, _ in server.requests if verb == "GET"] == names
    for name in names:
        assert (tmp_path / "openai" / name).read_bytes() == name.encode()
    folder = "openai/checkpoints/igpt-s/131000"
    assert result.stdout.splitlines()[-3:] == [
        f"{folder}: 33 files",
        "openai/datasets: 6 files",
        f'Next: igpt_keras.load_openai_checkpoint("{folder}")',
    ]
    assert not result.stderr
