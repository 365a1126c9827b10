"""Downloads, against a small Hub on this computer that can lie, break off and stay away."""

import json
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from demo import hub
from demo.hub import HubError
from demo.settings import ROOT, Model, ModelFile, Settings, load_settings

CHUNK = 10 * 1024 * 1024  # what huggingface-hub writes at a time
WEIGHTS = bytes(range(256)) * (CHUNK // 128 + CHUNK // 512)  # two chunks and a half
CUT = CHUNK * 2 + CHUNK // 4  # a reset also takes what the system had received and nobody had read, less than one chunk
CONFIG = b'{"words": 7}\n'


class SmallHub(ThreadingHTTPServer):
    """GET and HEAD of /{repo}/resolve/{revision}/{file}, with what huggingface-hub looks for in the headers."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files = {"/someone/model/resolve/v1/weights.bin": WEIGHTS, "/someone/model/resolve/v1/sub/config.json": CONFIG}
        self.commit = "c" * 40  # of v1
        self.store = ""  # large files are redirected to this address, as the real Hub does
        self.tokens: list[str] = []
        self.cut_after = 0  # the next GET is reset after so many bytes
        self.seen: list[tuple[str, str, str]] = []  # (method, path, Range)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request, client_address):
        """Broken connections are what these tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: SmallHub

    def do_HEAD(self):
        self._serve(with_body=False)

    def do_GET(self):
        self._serve(with_body=True)

    def _serve(self, with_body: bool) -> None:
        wanted = self.headers.get("Range", "")
        self.server.seen.append((self.command, self.path, wanted))
        self.server.tokens.append(self.headers.get("Authorization", ""))
        revision = self.path.split("/")[4]
        commit = self.server.commit if revision == "v1" else revision
        content = self.server.files.get(self.path) or self.server.files.get(self.path.replace(self.server.commit, "v1"))
        if content is None:
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if self.server.store and len(content) > CHUNK:
            self.send_response(302)
            self.send_header("Location", f"{self.server.store}{self.path}")
            self.send_header("X-Linked-ETag", f'"{sha256(content).hexdigest()}"')
            self.send_header("X-Linked-Size", str(len(content)))
            self.send_header("X-Repo-Commit", commit)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        self.send_response(206 if wanted else 200)
        self.send_header("ETag", f'"{sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", commit)
        self.send_header("Content-Length", str(len(content) - start))
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        if not with_body:
            return
        if self.server.cut_after:
            cut, self.server.cut_after = self.server.cut_after, 0
            self.wfile.write(content[start : start + cut])
            # a reset, as from a router that was switched off
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True
            return
        self.wfile.write(content[start:])

    def log_message(self, *_):
        """Quiet."""


@contextmanager
def serving(server: SmallHub) -> Iterator[SmallHub]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def small_hub(monkeypatch):
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with serving(SmallHub()) as server:
        yield server


@pytest.fixture
def settings(tmp_path):
    return Settings({}, "e", "none", "l", cache=tmp_path / "models")


def digest(content: bytes) -> str:
    return sha256(content).hexdigest()


def model(weights_sha: str = digest(WEIGHTS), config_sha: str = digest(CONFIG), size: int = 0) -> Model:
    files = (ModelFile("weights.bin", weights_sha, size), ModelFile("sub/config.json", config_sha))
    return Model("tiny", "encoder", "Tiny", "MIT", ("en",), repo="someone/model", revision="v1", files=files)


def quiet(_: str) -> None:
    pass


def whole_files(folder):
    """Files under their final names."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file() and ".incoming" not in path.parts)


def test_a_fetched_model_is_on_disk_whole_and_verified(small_hub, settings):
    said = []
    assert not hub.on_disk(model(), settings)
    folder = hub.fetch(model(), settings, said.append, small_hub.url)
    assert (folder / "weights.bin").read_bytes() == WEIGHTS
    assert (folder / "sub/config.json").read_bytes() == CONFIG
    assert whole_files(folder) == ["sub/config.json", "verified.json", "weights.bin"] and not (folder / ".incoming").exists()
    assert hub.on_disk(model(), settings) and hub.verify(model(), settings) == [] and hub.require(model(), settings) == folder
    assert "file 1 of 2, weights.bin" in said[0] and "complete" in said[-1]


def test_a_second_fetch_asks_the_hub_nothing(small_hub, settings):
    hub.fetch(model(), settings, quiet, small_hub.url)
    asked = len(small_hub.seen)
    hub.fetch(model(), settings, quiet, small_hub.url)
    assert len(small_hub.seen) == asked


def test_a_file_with_another_hash_is_discarded_and_both_hashes_are_named(small_hub, settings):
    with pytest.raises(HubError) as refused:
        hub.fetch(model(weights_sha="1" * 64), settings, quiet, small_hub.url)
    assert "1" * 64 in str(refused.value) and digest(WEIGHTS) in str(refused.value) and "discarded" in str(refused.value)
    assert whole_files(settings.cache / "tiny") == []
    assert not [path for path in (settings.cache / "tiny").rglob("*") if path.is_file() and path.stat().st_size]
    assert not hub.on_disk(model(), settings)


def test_a_broken_download_leaves_no_final_name_and_the_next_call_goes_on_where_it_stopped(small_hub, settings):
    small_hub.cut_after = CUT
    with pytest.raises(HubError, match="weights.bin of someone/model could not be fetched .* run the same command again to go on"):
        hub.fetch(model(), settings, quiet, small_hub.url)
    folder = settings.cache / "tiny"
    assert whole_files(folder) == [] and not hub.on_disk(model(), settings)

    arrived = max(path.stat().st_size for path in (folder / ".incoming").iterdir())
    assert arrived >= CHUNK
    small_hub.seen.clear()
    hub.fetch(model(), settings, quiet, small_hub.url)
    assert ("GET", f"/someone/model/resolve/{small_hub.commit}/weights.bin", f"bytes={arrived}-") in small_hub.seen
    assert (folder / "weights.bin").read_bytes() == WEIGHTS and hub.verify(model(), settings) == []


def test_a_large_file_comes_from_the_store_that_the_hub_names_resumes_there_and_the_token_stays_with_the_hub(
    small_hub, settings, monkeypatch
):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with serving(SmallHub()) as store:
        small_hub.store, store.cut_after = store.url, CUT
        with pytest.raises(HubError, match="run the same command again to go on"):
            hub.fetch(model(), settings, quiet, small_hub.url)
        hub.fetch(model(), settings, quiet, small_hub.url)
    assert hub.verify(model(), settings) == []
    assert [asked_for == "" for _, _, asked_for in store.seen] == [True, False]
    assert set(small_hub.tokens) == {"Bearer hf_secret"} and set(store.tokens) == {""}


def test_a_part_of_another_version_is_not_continued(small_hub, settings):
    small_hub.cut_after = CUT
    with pytest.raises(HubError):
        hub.fetch(model(weights_sha=""), settings, quiet, small_hub.url)
    newer = WEIGHTS[::-1]
    small_hub.files["/someone/model/resolve/v1/weights.bin"] = newer
    folder = hub.fetch(model(weights_sha=""), settings, quiet, small_hub.url)
    assert (folder / "weights.bin").read_bytes() == newer


def test_a_file_that_arrived_is_not_fetched_again_when_the_next_one_fails(small_hub, settings):
    config = small_hub.files.pop("/someone/model/resolve/v1/sub/config.json")
    with pytest.raises(HubError, match="sub/config.json of someone/model could not be fetched"):
        hub.fetch(model(), settings, quiet, small_hub.url)
    assert whole_files(settings.cache / "tiny") == ["verified.json", "weights.bin"] and not hub.on_disk(model(), settings)
    small_hub.files["/someone/model/resolve/v1/sub/config.json"] = config
    small_hub.seen.clear()
    hub.fetch(model(), settings, quiet, small_hub.url)
    assert {path for _, path, _ in small_hub.seen} == {f"/someone/model/resolve/{small_hub.commit}/sub/config.json"}


def move_on(small_hub, config: bytes) -> None:
    """A new commit with another config; what the old one held can still be had by its name."""
    at = "/someone/model/resolve/{}/{}".format
    for file in ("weights.bin", "sub/config.json"):
        small_hub.files[at(small_hub.commit, file)] = small_hub.files[at("v1", file)]
    small_hub.files[at("v1", "sub/config.json")] = config
    small_hub.commit = "d" * 40


def test_all_files_of_a_fetch_come_from_one_commit_when_the_repository_moves_on_between_them(small_hub, settings):
    unknown = model(weights_sha="", config_sha="")

    def say(text: str) -> None:
        if "file 2 of 2" in text:
            move_on(small_hub, b"newer")

    folder = hub.fetch(unknown, settings, say, small_hub.url)
    assert (folder / "sub/config.json").read_bytes() == CONFIG and small_hub.commit == "d" * 40


def test_a_fetch_that_was_interrupted_goes_on_with_the_commit_of_its_first_file(small_hub, settings):
    unknown = model(weights_sha="", config_sha="")
    config = small_hub.files.pop("/someone/model/resolve/v1/sub/config.json")
    with pytest.raises(HubError, match="could not be fetched"):
        hub.fetch(unknown, settings, quiet, small_hub.url)
    small_hub.files["/someone/model/resolve/v1/sub/config.json"] = config
    move_on(small_hub, b"newer")
    folder = hub.fetch(unknown, settings, quiet, small_hub.url)
    assert (folder / "sub/config.json").read_bytes() == CONFIG
    assert json.loads((folder / "verified.json").read_text())["@commit"] == "c" * 40


def test_a_file_that_a_space_has_in_its_cache_fixes_the_commit_too(small_hub, settings, monkeypatch, tmp_path):
    cached = tmp_path / "snapshots" / small_hub.commit / "weights.bin"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(WEIGHTS)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda _, name, **__: str(cached) if name == "weights.bin" else None)
    move_on(small_hub, b"newer")
    folder = hub.fetch(model(weights_sha="", config_sha=""), settings, quiet, small_hub.url)
    assert (folder / "weights.bin").read_bytes() == WEIGHTS and (folder / "sub/config.json").read_bytes() == CONFIG


def test_a_hub_that_is_not_there_ends_in_a_message(settings):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(HubError, match="could not be fetched"):
        hub.fetch(model(), settings, quiet, nobody)


def test_offline_refuses_and_asks_nothing(small_hub, tmp_path):
    offline = Settings({}, "e", "none", "l", offline=True, cache=tmp_path / "models")
    with pytest.raises(HubError, match="--offline, so tiny was not fetched"):
        hub.fetch(model(), offline, quiet, small_hub.url)
    assert small_hub.seen == [] and not offline.cache.exists()


def test_an_unknown_hash_is_recorded_and_compared_later(small_hub, settings):
    unknown = model(weights_sha="", config_sha="")
    folder = hub.fetch(unknown, settings, quiet, small_hub.url)
    assert json.loads((folder / "verified.json").read_text()) == {
        "@commit": small_hub.commit, "weights.bin": digest(WEIGHTS), "sub/config.json": digest(CONFIG),
    }  # fmt: skip
    assert hub.verify(unknown, settings) == []

    (folder / "sub/config.json").write_bytes(b'{"words": 8}\n')
    assert hub.verify(unknown, settings) == ["sub/config.json is not the file that was fetched (sha256 differs)"]
    (folder / "sub/config.json").unlink()
    assert hub.verify(unknown, settings) == ["sub/config.json is missing"]


def test_a_second_download_must_match_the_hash_that_the_first_one_recorded(small_hub, settings):
    unknown = model(weights_sha="", config_sha="")
    folder = hub.fetch(unknown, settings, quiet, small_hub.url)
    (folder / "sub/config.json").unlink()
    small_hub.files["/someone/model/resolve/v1/sub/config.json"] = b'{"words": 9}\n'
    with pytest.raises(HubError, match=f"at the first download it had {digest(CONFIG)}"):
        hub.fetch(unknown, settings, quiet, small_hub.url)
    assert not (folder / "sub/config.json").exists()


def test_a_flipped_byte_is_found_by_verify(small_hub, settings):
    folder = hub.fetch(model(), settings, quiet, small_hub.url)
    with (folder / "weights.bin").open("r+b") as file:
        file.seek(1000)
        file.write(b"\x00")
    assert hub.verify(model(), settings) == ["weights.bin is not the file that was fetched (sha256 differs)"]


def test_a_disk_that_is_too_small_is_told_before_anything_is_fetched(small_hub, settings):
    with pytest.raises(HubError, match=r"tiny needs 1000000000\.0 GB .* free\. Free space, or set MAJLIS_MODELS"):
        hub.fetch(model(size=10**18), settings, quiet, small_hub.url)
    assert small_hub.seen == []


def test_whole_files_are_recognised_when_their_record_is_broken_and_deleted(small_hub, settings):
    folder = hub.fetch(model(), settings, quiet, small_hub.url)
    for broken in ("{half", "[1]"):
        (folder / "verified.json").write_text(broken)
        with pytest.raises(HubError, match="verified.json cannot be read .* Delete it and fetch the model again"):
            hub.on_disk(model(), settings)
    (folder / "verified.json").unlink()
    small_hub.seen.clear()
    hub.fetch(model(), settings, quiet, small_hub.url)
    assert small_hub.seen == [] and hub.on_disk(model(), settings)


def test_a_model_that_was_not_fetched_names_the_command(settings):
    with pytest.raises(HubError, match=r"not on this computer \(MIT, about 0\.03 GB\)\. Fetch it with: python -m demo models fetch tiny"):
        hub.require(model(size=26_214_400), settings)


def test_a_bundled_model_that_is_missing_names_the_command_that_restores_it(settings):
    bundled = Model("own", "encoder", "Own", "MIT", (), folder="assets/models/nowhere")
    with pytest.raises(HubError, match=r"ships with Majlis: restore it from the repository \(git checkout -- assets/models/nowhere\)"):
        hub.require(bundled, settings)
    assert hub.verify(bundled, settings)[0].endswith("nowhere is missing")


def test_the_files_of_a_bundled_model_are_checked_where_their_hash_is_known(settings, tmp_path):
    def bundled(*files: ModelFile) -> Model:
        return Model("own", "encoder", "Own", "MIT", (), folder=str(tmp_path), files=files)

    (tmp_path / "config.json").write_bytes(CONFIG)
    config = ModelFile("config.json", digest(CONFIG))
    assert hub.verify(bundled(config), settings) == []
    assert hub.verify(bundled(), settings) == ["not checked: no sha256 in models.toml"]
    assert hub.verify(bundled(ModelFile("config.json")), settings) == ["config.json not checked: no sha256 in models.toml"]
    assert hub.verify(bundled(config, ModelFile("weights.bin", "0" * 64)), settings) == ["weights.bin is missing"]
    (tmp_path / "config.json").write_bytes(CONFIG[::-1])
    assert hub.verify(bundled(config), settings) == ["config.json is not the file that ships (sha256 differs)"]


def test_the_encoder_that_ships_is_the_one_that_the_registry_names():
    registry = load_settings(environment={})
    encoder = registry.model("majlis-static")
    assert {"model.safetensors", "tokenizer.json", "modules.json"} <= {file.path for file in encoder.files}
    assert hub.verify(encoder, registry) == []


def test_models_are_looked_after_without_loading_what_searches():
    loaded = "import sys, demo.hub; print([name for name in ('hnswlib', 'torch', 'huggingface_hub') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", loaded], cwd=ROOT, capture_output=True, text=True).stdout == "[]\n"


def test_a_generators_gguf_is_found_as_a_file_or_in_its_folder(settings, tmp_path):
    (tmp_path / "a.gguf").write_bytes(b"GGUF")
    as_file = Model("a", "generator", "A", "MIT", (), folder=str(tmp_path / "a.gguf"))
    as_folder = Model("a", "generator", "A", "MIT", (), folder=str(tmp_path))
    assert hub.gguf_of(as_file, settings) == hub.gguf_of(as_folder, settings) == tmp_path / "a.gguf"
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(HubError, match="holds no .gguf file for the generator b"):
        hub.gguf_of(Model("b", "generator", "B", "MIT", (), folder=str(empty)), settings)
