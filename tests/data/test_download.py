"""Downloads from a server here that plays D4RL's host and its mirror, and misbehaves.

Over 300 lines: the server, and each of its tricks.
"""

import errno
import http.client
import http.server
import json
import socket
import ssl
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import h5py
import numpy as np
import pytest

from tskd_jax.data import download as module
from tskd_jax.data.d4rl_files import FILES, D4rlFile, local_file
from tskd_jax.data.download import IN_USE, LOCK, TRIES, download
from tskd_jax.errors import DatasetError

WANTED = D4rlFile("hopper-tiny-v2", "gym", "hopper_tiny-v2.hdf5", episodes=3)


@dataclass
class Host:
    """What the server does, request by request, and what it was asked for."""

    content: bytes
    answers: list[str] = field(default_factory=list)  # before it behaves
    ranges: bool = True
    tag: str = '"1"'
    asked: list[tuple[str, str | None]] = field(default_factory=list)


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    """A file of D4RL's keys: two episodes and the fragment behind the last end."""
    path = tmp_path_factory.mktemp("made") / "a.hdf5"
    rng = np.random.default_rng(0)
    flags = np.zeros(30_000, bool)
    with h5py.File(path, "w") as file:
        file["observations"] = rng.normal(size=(len(flags), 11))
        file["actions"] = rng.normal(size=(len(flags), 3))
        file["rewards"] = rng.normal(size=len(flags))
        file["terminals"], file["timeouts"] = flags.copy(), flags.copy()
        file["terminals"][999] = file["timeouts"][1999] = True
    return path.read_bytes()


@pytest.fixture
def serve():
    """Serves hosts by the first part of the path; gives the server's address."""

    @contextmanager
    def serve(**hosts: Host):
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_GET(self):
                name = self.path.split("/")[1]
                host = hosts[name]
                host.asked.append((self.path, self.headers.get("Range")))
                answer = host.answers.pop(0) if host.answers else "well"
                body, status = host.content, 200
                if answer.isdigit():
                    self.send_error(int(answer))
                    return
                asked = self.headers.get("Range")
                if asked and host.ranges and self.headers.get("If-Range") == host.tag:
                    body, status = body[int(asked[6:-1]) :], 206
                self.send_response(status)
                claimed = len(body) + (1000 if answer == "claims more" else 0)
                said = str(claimed) if answer != "claims nonsense" else f"{claimed}, {claimed}"
                self.send_header("Content-Length", said)
                self.send_header("ETag", host.tag)
                self.end_headers()
                if answer == "cut":
                    body = body[: len(body) // 3]
                self.wfile.write(body)
                if answer in ("cut", "claims more", "claims nonsense"):
                    self.close_connection = True

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    return serve


@pytest.fixture
def fetch(tmp_path):
    """Fetches from the given paths of a server; gives (file, waited seconds, reported lines)."""

    def fetch(address, *places, wanted=WANTED):
        waited, reported = [], []
        path = download(
            wanted,
            folder=tmp_path / "datasets",
            urls=[f"{address}/{place}/{wanted.file}" for place in places],
            report=reported.append,
            wait=waited.append,
        )
        return path, waited, reported

    return fetch


def files(tmp_path):
    return sorted(one.name for one in (tmp_path / "datasets").iterdir() if one.name != IN_USE)


def test_a_whole_file(serve, fetch, content, tmp_path):
    host = Host(content)
    with serve(host=host) as address:
        path, waited, reported = fetch(address, "host")
        assert path.read_bytes() == content
        assert (waited, reported) == ([], [])
        assert files(tmp_path) == [LOCK, WANTED.file]
        fetch(address, "host")  # there already
    assert len(host.asked) == 1


def test_progress(serve, content, tmp_path):
    seen = []
    with serve(host=Host(content)) as address:
        download(
            WANTED,
            folder=tmp_path,
            urls=[f"{address}/host/x"],
            on_progress=lambda there, total: seen.append((there, total)),
        )
    assert seen[-1] == (len(content), len(content))
    assert [there for there, _ in seen] == sorted(there for there, _ in seen)


def test_a_cut_connection_goes_on_where_it_was(serve, fetch, content):
    host = Host(content, ["cut", "cut"])
    with serve(host=host) as address:
        path, waited, _ = fetch(address, "host")
    assert path.read_bytes() == content
    first = len(content) // 3
    second = first + (len(content) - first) // 3
    assert [asked for _, asked in host.asked] == [None, f"bytes={first}-", f"bytes={second}-"]
    assert waited == [2.0, 4.0]


def test_a_later_command_goes_on_where_the_first_was(serve, fetch, content, tmp_path):
    host = Host(content, ["cut", "404"])
    with serve(host=host) as address:
        with pytest.raises(DatasetError, match="HTTP 404"):
            fetch(address, "host")
        assert WANTED.file not in files(tmp_path)
        path, _, _ = fetch(address, "host")
    assert host.asked[-1][1] == f"bytes={len(content) // 3}-"
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    "failure",
    [
        ssl.SSLEOFError(ssl.SSL_ERROR_EOF, "EOF occurred in violation of protocol"),
        OSError(errno.EHOSTUNREACH, "No route to host"),
    ],
)
def test_a_connection_that_breaks(serve, fetch, content, monkeypatch, failure):
    """In the middle of a record or on the way, which is an OSError, but not one of the disk."""
    tries = []

    def breaks(file, size=-1, read=http.client.HTTPResponse.read):
        tries.append(size)
        if len(tries) == 1:
            raise failure
        return read(file, size)

    monkeypatch.setattr(http.client.HTTPResponse, "read", breaks)
    with serve(host=Host(content)) as address:
        path, waited, _ = fetch(address, "host")
    assert path.read_bytes() == content
    assert waited == [2.0]


def test_another_process_waits_for_the_file(serve, content, tmp_path):
    """Two threads here: the lock is one of open files."""
    host, begun, waiting, heard, paths = Host(content), threading.Event(), threading.Event(), [], []

    def first_progress(*_):
        begun.set()
        waiting.wait(2)

    def second_report(line):
        heard.append(line)
        waiting.set()

    def get(**calls):
        paths.append(download(WANTED, folder=tmp_path, urls=[f"{address}/host/x"], **calls))

    with serve(host=host) as address:
        first = threading.Thread(target=get, kwargs={"on_progress": first_progress})
        first.start()
        begun.wait(10)
        get(report=second_report)
        first.join()
    assert heard == [f"{tmp_path}: another process downloads into it; waiting for it to end"]
    assert [path.read_bytes() for path in paths] == [content] * 2
    assert len(host.asked) == 1


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / IN_USE).mkdir()
    with pytest.raises(DatasetError, match="cannot be written: Is a directory"):
        download(WANTED, folder=tmp_path, urls=["http://127.0.0.1:9/x"])


def test_another_version_in_between_begins_anew(serve, fetch, content):
    host = Host(b"x" * len(content), ["cut", "404"])
    with serve(host=host) as address:
        with pytest.raises(DatasetError):
            fetch(address, "host")
        host.content, host.tag = content, '"2"'
        path, _, _ = fetch(address, "host")
    assert path.read_bytes() == content


def test_a_server_that_ignores_ranges(serve, fetch, content):
    host = Host(content, ["cut"], ranges=False)
    with serve(host=host) as address:
        path, _, _ = fetch(address, "host")
    assert path.read_bytes() == content
    assert host.asked[1][1] is not None


def test_busy_twice(serve, fetch, content):
    with serve(host=Host(content, ["503", "503"])) as address:
        path, waited, reported = fetch(address, "host")
    assert path.read_bytes() == content
    assert (waited, reported) == ([2.0, 4.0], [])


def test_busy_for_ever(serve, fetch, content, tmp_path):
    host = Host(content, ["503"] * 20)
    with serve(host=host) as address, pytest.raises(DatasetError, match="HTTP 503") as caught:
        fetch(address, "host")
    assert len(host.asked) == TRIES
    assert "\n" not in str(caught.value)
    assert WANTED.file not in files(tmp_path)


def test_the_mirror_when_the_host_has_it_not(serve, fetch, content):
    with serve(host=Host(content, ["404"]), mirror=Host(content)) as address:
        path, waited, reported = fetch(address, "host", "mirror")
    assert path.read_bytes() == content
    assert waited == []
    assert len(reported) == 1
    assert "/host/" in reported[0]
    assert "HTTP 404" in reported[0]


def test_the_mirror_does_not_go_on_with_the_hosts_bytes(serve, fetch, content):
    other = Host(b"y" * len(content), ["cut", "404"])
    mirror = Host(content)
    with serve(host=other, mirror=mirror) as address:
        path, _, _ = fetch(address, "host", "mirror")
    assert path.read_bytes() == content
    assert mirror.asked[0][1] is None


def test_no_server_at_all(fetch, tmp_path):
    with pytest.raises(DatasetError) as caught:
        fetch("http://127.0.0.1:9", "host")
    message = str(caught.value)
    for words in (WANTED.file, str(tmp_path / "datasets"), "embedded", "refused"):
        assert words in message


def test_no_network(tmp_path, monkeypatch):
    def unknown(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    waited = []
    with pytest.raises(DatasetError, match="is there a network"):
        download(WANTED, folder=tmp_path, urls=["http://nowhere.invalid/a"], wait=waited.append)
    assert waited == []


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (replace(WANTED, size=5), "5 are known"),
        (replace(WANTED, sha256="0" * 64), "SHA-256"),
        (replace(WANTED, episodes=4), "3 episodes, 4 are known"),
    ],
    ids=["size", "hash", "episodes"],
)
def test_not_the_file_that_is_known(serve, fetch, content, tmp_path, wanted, words):
    with serve(host=Host(content)) as address, pytest.raises(DatasetError, match=words):
        fetch(address, "host", wanted=wanted)
    assert files(tmp_path) in ([], [f".{WANTED.file}.partial.json"])


@pytest.mark.parametrize("body", [b"", b"<html>Moved</html>", None], ids=["empty", "html", "half"])
def test_something_else_than_the_file(serve, fetch, content, tmp_path, body):
    served = content[: len(content) // 2] if body is None else body
    with serve(host=Host(served)) as address, pytest.raises(DatasetError, match="not a readable"):
        fetch(address, "host")
    assert WANTED.file not in files(tmp_path)


def test_more_claimed_than_sent(serve, fetch, content, tmp_path):
    host = Host(content, ["claims more"] * 20)
    with serve(host=host) as address, pytest.raises(DatasetError, match="tries"):
        fetch(address, "host")
    assert WANTED.file not in files(tmp_path)


def test_a_length_that_is_no_number(serve, fetch, content):
    with serve(host=Host(content, ["claims nonsense"])) as address:
        path, waited, _ = fetch(address, "host")
    assert path.read_bytes() == content
    assert waited == []


def test_a_lock_file_with_something_else_in_it(serve, fetch, content, tmp_path):
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / LOCK).write_text(json.dumps({WANTED.file: "text"}))
    with serve(host=Host(content)) as address:
        path, _, _ = fetch(address, "host")
    assert path.read_bytes() == content
    lock = json.loads((tmp_path / "datasets" / LOCK).read_text())
    assert lock[WANTED.file]["size"] == len(content)


def test_later_downloads_are_held_to_the_first(serve, fetch, content, tmp_path):
    with serve(host=Host(content)) as address:
        path, _, _ = fetch(address, "host")
    lock = json.loads((tmp_path / "datasets" / LOCK).read_text())
    assert lock[WANTED.file]["size"] == len(content)
    path.unlink()
    tampered = tmp_path / "b.hdf5"
    tampered.write_bytes(content)
    with h5py.File(tampered, "a") as file:
        file["rewards"][0] = 1e6
    bad, good = Host(tampered.read_bytes()), Host(content)
    with serve(bad=bad, good=good) as address:
        path, _, reported = fetch(address, "bad", "good")
    assert path.read_bytes() == content
    assert LOCK in reported[0]


def test_no_room(serve, fetch, content, tmp_path, monkeypatch):
    usage = module.shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage)
    with serve(host=Host(content)) as address, pytest.raises(DatasetError, match="1 kB are free"):
        fetch(address, "host")
    assert WANTED.file not in files(tmp_path)


def test_the_disk_fills_up(serve, fetch, content, tmp_path, monkeypatch):
    """As the bytes arrive: they stay, and the next command goes on."""
    host = Host(content, ["cut", "cut"])

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with serve(host=host) as address:
        with monkeypatch.context() as patch:
            patch.setattr(module, "_to_disk", full)
            with pytest.raises(DatasetError, match="No space left on device; mend that"):
                fetch(address, "host")
        assert WANTED.file not in files(tmp_path)
        path, _, _ = fetch(address, "host")
    assert path.read_bytes() == content


def test_the_table():
    assert FILES["hopper-medium-v2"].urls() == (
        "http://rail.eecs.berkeley.edu/datasets/offline_rl/gym_mujoco_v2/hopper_medium-v2.hdf5",
        "https://huggingface.co/datasets/imone/D4RL/resolve/main/hopper_medium-v2.hdf5",
    )
    maze = "Ant_maze_u-maze_noisy_multistart_False_multigoal_False_sparse_fixed.hdf5"
    assert FILES["antmaze-umaze-v2"].file == maze
    assert local_file("antmaze-umaze-v2").name == maze
    assert len({one.file for one in FILES.values()}) == len(FILES)
