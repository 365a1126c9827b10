"""An index folder is whole or not there: builds that are cut off, folders that are damaged, disks that are full."""

import json
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from index_builder.augment import Augmentation
from index_builder.digest import file_sha256
from index_builder.encode import open_encoder
from index_builder.read import CorpusError, read_corpus, row_of
from index_builder.search import Index
from index_builder.store import BuildSettings, IndexFolderError, _manifest_sha256, build_index, read_manifest, verify
from index_builder.vocabulary import Entry
from tests.conftest import ROOT, small_corpus

VIEWS = BuildSettings(augment=Augmentation("max"))
FILES = (
    "entries.sqlite",
    "graph.ar.hnsw",
    "graph.as.hnsw",
    "graph.bn.hnsw",
    "graph.en.hnsw",
    "graph.hi.hnsw",
    "graph.ne.hnsw",
    "graph.tr.hnsw",
    "questions.bn.hnsw",
)
QUESTION = "পহেলা বৈশাখে কী খায়?"


def quiet(_):
    pass


def many(count=1_300):
    """More than two chunks of 512 entries."""
    return [Entry(f"e{n}", "passage", "en" if n % 3 else "tr", f"Row {n} tells about dish number {n * 7}.") for n in range(count)]


def english(count):
    return [Entry(f"e{n}", "passage", "en", f"Row {n} tells about dish number {n * 7}.") for n in range(count)]


def build(entries, encoder, out, settings=VIEWS, **options):
    return build_index(entries, encoder, out, settings, **{"say": quiet, **options})


@pytest.fixture
def built(encoder, tmp_path) -> Path:
    build(small_corpus(), encoder, tmp_path / "index")
    return tmp_path / "index"


def hidden(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


# A whole build


def test_the_manifest_says_what_is_in_the_folder(built, encoder):
    manifest = read_manifest(built)
    assert manifest["schema"] == 2 and manifest["space"] == "ip"
    assert manifest["entries"] == 9
    assert manifest["entries_by_language"] == {"ar": 1, "as": 1, "bn": 1, "en": 3, "hi": 1, "ne": 1, "tr": 1}
    assert manifest["entries_by_kind"] == {"passage": 2, "qa": 7}
    # the Assamese answer has two sentences: entry, question, two sentences. English: a QA pair of one sentence, two passages of 3.
    assert manifest["views_by_language"] == {"ar": 2, "as": 4, "bn": 2, "en": 2 + (1 + 3) + (1 + 3), "hi": 2, "ne": 2, "tr": 2}
    # a query in Bangla about an English passage lies where questions in Bangla look
    assert manifest["views_by_question_language"] == manifest["queries_by_language"] == {"bn": 1}
    assert manifest["settings"]["augment"] == "max"
    assert manifest["encoder"]["fingerprint"] == encoder.fingerprint and manifest["encoder"]["dimension"] == encoder.dimension
    assert sorted(manifest["files"]) == sorted(FILES)
    assert sorted(path.name for path in built.iterdir()) == sorted((*FILES, "manifest.json"))
    assert hidden(built.parent) == []


def test_two_builds_of_one_corpus_have_the_same_files(built, encoder, tmp_path):
    assert build(small_corpus(), encoder, tmp_path / "again") == read_manifest(built)


def test_entries_come_back_as_they_went_in(built, encoder):
    assert list(Index(built, encoder).entries()) == small_corpus()


def test_texts_without_a_known_piece_are_indexed_too(encoder, tmp_path):
    build([Entry("invisible", "passage", "en", "\u200b"), Entry("salt", "passage", "en", "Salt.")], encoder, tmp_path / "i")
    assert [hit.entry.entry_id for hit in Index(tmp_path / "i", encoder).search("salt")] == ["salt", "invisible"]


def test_a_rebuild_replaces_the_old_index_and_leaves_nothing_beside_it(built, encoder):
    build(many(20), encoder, built)
    assert len(Index(built, encoder)) == 20
    assert hidden(built.parent) == []


# Builds that are cut off


class FailingEncoder:
    """The bundled encoder, until it has encoded `calls` batches."""

    def __init__(self, encoder, calls, error=KeyboardInterrupt):
        self.__dict__ |= {
            name: getattr(encoder, name) for name in ("name", "folder", "dimension", "fingerprint", "query_prefix", "passage_prefix")
        }
        self.encoder, self.left, self.error = encoder, calls, error

    def encode(self, texts, kind):
        if not self.left:
            raise self.error("the encoder broke")
        self.left -= 1
        return self.encoder.encode(texts, kind)


def test_a_build_killed_between_chunks_is_resumed_and_gives_the_same_files(encoder, tmp_path):
    corpus = tmp_path / "rows.jsonl"
    corpus.write_text("".join(json.dumps(row_of(entry)) + "\n" for entry in many()), encoding="utf-8")
    script = f"""
import os, signal
from pathlib import Path
from index_builder.encode import open_encoder
from index_builder.read import read_corpus
from index_builder.store import BuildSettings, build_index
def say(text):
    print(text, flush=True)
    if text.startswith("encoded 1,024"):
        os.kill(os.getpid(), signal.SIGKILL)
build_index(read_corpus([Path({str(corpus)!r})]), open_encoder(Path("assets/models/encoder")), Path({str(tmp_path / "index")!r}), BuildSettings(), say=say)
"""
    killed = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL and killed.stdout.endswith("encoded 1,024 of 1,300 entries\n")
    assert not (tmp_path / "index").exists() and hidden(tmp_path) == [".index.building"]

    said = []
    resumed = build(read_corpus([corpus]), encoder, tmp_path / "index", BuildSettings(), resume=True, say=said.append)
    assert said == ["going on after 1,024 of 1,300 entries", "encoded 1,300 of 1,300 entries"]
    whole = build(read_corpus([corpus]), encoder, tmp_path / "whole", BuildSettings())
    assert resumed["files"] == whole["files"]
    assert hidden(tmp_path) == []


def test_without_resume_an_interrupted_build_starts_again(encoder, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        build(many(), FailingEncoder(encoder, 1), tmp_path / "index")
    said = []
    build(many(), encoder, tmp_path / "index", say=said.append)
    assert said == ["encoded 512 of 1,300 entries", "encoded 1,024 of 1,300 entries", "encoded 1,300 of 1,300 entries"]


@pytest.mark.parametrize("change", ["corpus", "settings", "augment"])
def test_what_belongs_to_another_build_is_not_resumed(encoder, tmp_path, change):
    with pytest.raises(KeyboardInterrupt):
        build(many(), FailingEncoder(encoder, 1), tmp_path / "index")
    entries = many(1_299) if change == "corpus" else many()
    settings = {"settings": BuildSettings(views=("entry",)), "augment": BuildSettings(augment=Augmentation("none"))}.get(change, VIEWS)
    said = []
    resumed = build(entries, encoder, tmp_path / "index", settings, resume=True, say=said.append)
    assert said[0].startswith("encoded 512 of")
    assert resumed == build(entries, encoder, tmp_path / "whole", settings)


@pytest.mark.parametrize("name", ["plan.json", "vectors.done"])
def test_a_note_of_progress_that_was_cut_off_does_not_stop_a_resumed_build(encoder, tmp_path, name):
    with pytest.raises(KeyboardInterrupt):
        build(many(600), FailingEncoder(encoder, 1), tmp_path / "index")
    (tmp_path / ".index.building" / name).with_suffix(".partial").write_text("5", encoding="utf-8")
    (tmp_path / ".index.building" / name).unlink()
    assert build(many(600), encoder, tmp_path / "index", resume=True) == build(many(600), encoder, tmp_path / "whole")


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, OSError])
def test_the_old_index_serves_while_a_rebuild_fails(built, encoder, error):
    serving = Index(built, encoder)
    before = read_manifest(built)
    with pytest.raises((KeyboardInterrupt, IndexFolderError)):
        build(many(), FailingEncoder(encoder, 1, error), built)
    assert read_manifest(built) == before
    verify(built, before)
    assert Index(built, encoder).search(QUESTION, 3) == serving.search(QUESTION, 3)


def test_the_old_index_serves_when_the_corpus_turns_out_bad(built, encoder, tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"lang": "en", "text": "fine"}\n{"lang": "en"\n', encoding="utf-8")
    with pytest.raises(CorpusError, match="rows.jsonl:2"):
        build(read_corpus([tmp_path / "rows.jsonl"]), encoder, built)
    assert len(Index(built, encoder)) == 9


def test_a_corpus_without_a_row_is_refused(built, encoder):
    with pytest.raises(IndexFolderError, match="no usable row"):
        build([], encoder, built)
    assert len(Index(built, encoder)) == 9


def test_an_index_whose_build_was_killed_between_its_two_renames_is_brought_back(built, encoder):
    built.rename(built.parent / ".index.previous")  # what such a kill leaves
    with pytest.raises(KeyboardInterrupt):
        build(many(), FailingEncoder(encoder, 0), built)
    assert len(Index(built, encoder)) == 9


def test_a_rename_that_fails_puts_the_old_index_back(built, encoder, monkeypatch):
    rename = Path.rename

    def failing(self, target):
        if self.name == ".index.building":
            raise OSError("the new folder cannot be renamed")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(IndexFolderError, match="is as it was"):
        build(many(20), encoder, built)
    assert len(Index(built, encoder)) == 9


# A full disk

FULL_DISK = """
import json, resource, sys
from pathlib import Path
from index_builder.encode import open_encoder
from index_builder.store import BuildSettings, IndexFolderError, build_index
from tests.test_store import english
out, encoder, said = Path(sys.argv[1]), open_encoder(Path("assets/models/encoder")), []
for limit in map(int, sys.argv[2:]):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))  # Python ignores SIGXFSZ, so writes past it fail with EFBIG
    try:
        build_index(english(200), encoder, out, BuildSettings(), say=lambda _: None)
        said.append("")
    except IndexFolderError as error:
        said.append(str(error))
print(json.dumps(said))
"""


def test_a_full_disk_ends_in_a_clear_message_and_leaves_the_old_index(built, encoder, tmp_path):
    roomy = build(english(200), encoder, tmp_path / "roomy", BuildSettings())
    database, graph = (roomy["files"][name]["bytes"] for name in ("entries.sqlite", "graph.en.hnsw"))
    vectors = 200 * encoder.dimension * 4
    assert database < vectors < graph
    limits = [0, 5_000, database - 1, vectors - 1, graph - 1]  # the files in the order in which they are written
    run = subprocess.run([sys.executable, "-c", FULL_DISK, str(built), *map(str, limits)], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    messages = json.loads(run.stdout)
    for message in messages:
        assert f"could not be written to {built.parent}" in message and f"{built} is as it was" in message
        assert "Free space" in message and "--resume" in message
    assert "graph.en.hnsw was cut off" in messages[-1]  # hnswlib itself says nothing
    assert len(Index(built, encoder)) == 9
    assert build(english(200), encoder, built, BuildSettings(), resume=True)["files"] == roomy["files"]


# Where an index may go


def test_a_folder_that_is_no_index_is_not_overwritten(encoder, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.md").write_text("years of work", encoding="utf-8")
    with pytest.raises(IndexFolderError, match=r"is not an index \(it has no manifest\.json\) and is not empty"):
        build(small_corpus(), encoder, tmp_path / "thesis")
    assert (tmp_path / "thesis" / "chapter.md").read_text(encoding="utf-8") == "years of work"


def test_a_file_is_not_overwritten(encoder, tmp_path):
    (tmp_path / "notes").write_text("keep me", encoding="utf-8")
    with pytest.raises(IndexFolderError, match="is a file"):
        build(small_corpus(), encoder, tmp_path / "notes")
    with pytest.raises(IndexFolderError, match="could not be written"):
        build(small_corpus(), encoder, tmp_path / "notes" / "index")
    assert (tmp_path / "notes").read_text(encoding="utf-8") == "keep me"


def test_an_empty_or_new_folder_is_filled(encoder, tmp_path):
    (tmp_path / "empty").mkdir()
    for out in (tmp_path / "empty", tmp_path / "a" / "b" / "index"):
        assert build(small_corpus(), encoder, out)["entries"] == len(Index(out, encoder)) == 9


# Folders that are damaged


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_byte_is_found(built, encoder, name):
    damaged = bytearray((built / name).read_bytes())
    damaged[len(damaged) // 2] ^= 0x01
    (built / name).write_bytes(damaged)
    with pytest.raises(IndexFolderError, match=rf"{name} is damaged.*rebuild with `python -m index_builder build"):
        Index(built, encoder)


def test_a_flipped_byte_anywhere_in_the_manifest_is_found(built, encoder):
    """Unless it means the same, as a space for a line end does."""
    whole = (built / "manifest.json").read_bytes()
    meant = json.loads(whole)
    refused = 0
    for place in range(0, len(whole), 7):
        damaged = bytearray(whole)
        damaged[place] ^= 0x01
        (built / "manifest.json").write_bytes(damaged)
        try:
            assert read_manifest(built) == meant
        except IndexFolderError:
            refused += 1
    assert refused > len(whole) / 7 * 0.8


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(built, encoder, name):
    (built / name).unlink()
    with pytest.raises(IndexFolderError, match=rf"{name} is missing.*rebuild"):
        Index(built, encoder)


def test_a_folder_without_a_manifest_is_not_an_index(built, encoder, tmp_path):
    (built / "manifest.json").unlink()
    for folder in (built, tmp_path / "nowhere"):
        with pytest.raises(IndexFolderError, match=r"manifest\.json is missing\. Build it with `python -m index_builder build"):
            Index(folder, encoder)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"entries": 3}', '{"schema": 2}', '{"schema": 2, "files": {}}'])
def test_a_broken_manifest_is_refused(built, encoder, text):
    (built / "manifest.json").write_text(text, encoding="utf-8")
    with pytest.raises(IndexFolderError, match=r"manifest\.json cannot be read .*Build it with"):
        Index(built, encoder)


def test_another_schema_is_refused(built, encoder):
    (built / "manifest.json").write_text('{"schema": 99}', encoding="utf-8")
    with pytest.raises(IndexFolderError, match="written in index schema 99; this version reads schema 2"):
        Index(built, encoder)


def test_an_index_of_another_encoder_is_refused(built, tmp_path):
    folder = shutil.copytree(ROOT / "assets/models/encoder", tmp_path / "other")
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-1] ^= 0x01
    (folder / "model.safetensors").write_bytes(weights)
    with pytest.raises(
        IndexFolderError,
        match=r"was built with encoder majlis-static .*the encoder now in use is other .*models\.toml, or rebuild: "
        rf"python -m index_builder build --corpus PATH --out {built} --encoder {folder}\.",
    ):
        Index(built, open_encoder(folder))


def test_an_encoder_of_another_dimension_is_refused(built, encoder):
    narrow = FailingEncoder(encoder, 0)
    narrow.dimension = 128
    with pytest.raises(IndexFolderError, match=r"\(dimension 256\).*\(dimension 128\)"):
        Index(built, narrow)


def test_an_encoder_with_other_prefixes_is_refused_with_the_command_that_rebuilds(built):
    prefixed = open_encoder(ROOT / "assets/models/encoder", query_prefix="query: ", passage_prefix="passage: ")
    with pytest.raises(IndexFolderError) as refused:
        Index(built, prefixed)
    assert "(query prefix '', passage prefix '')" in str(refused.value)
    assert "(query prefix 'query: ', passage prefix 'passage: ')" in str(refused.value)
    command = f"python -m index_builder build --corpus PATH --out {built} --query-prefix 'query: ' --passage-prefix 'passage: '."
    assert str(refused.value).endswith(command)  # no --encoder: it is the bundled one


# Folders that somebody else made


def forge(folder: Path, change) -> None:
    """A manifest that was changed and signed again, with the files as they now are."""
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    for name in manifest["files"]:
        manifest["files"][name] = {"sha256": file_sha256(folder / name), "bytes": (folder / name).stat().st_size}
    change(manifest)
    manifest["manifest_sha256"] = _manifest_sha256(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


@pytest.mark.parametrize("change, complaint", [
    (lambda manifest: manifest["files"].pop("entries.sqlite"), "files lacks entries.sqlite"),
    (lambda manifest: manifest["files"].pop("graph.tr.hnsw"), "files lacks graph.tr.hnsw"),
    (lambda manifest: manifest["views_by_language"].update({"../x": 1}), "it holds a graph for '../x'; known languages are ar, as,"),
    (lambda manifest: manifest["files"].pop("questions.bn.hnsw"), "files lacks questions.bn.hnsw"),
    (lambda manifest: manifest["views_by_question_language"].update({"xx": 1}), "it holds a graph for 'xx'; known languages are ar, as,"),
    (lambda manifest: manifest["settings"].update(augment="magic"), "The augmentation is 'magic', expected one of"),
    (lambda manifest: manifest.update(space="l2"), "space is 'l2', expected 'ip'"),
    (lambda manifest: manifest.update(metric="dot"), "metric is 'dot', expected 'cosine'"),
])  # fmt: skip
def test_a_manifest_that_promises_something_else_is_refused(built, encoder, change, complaint):
    forge(built, change)
    with pytest.raises(IndexFolderError, match=f"{re.escape(complaint)}.*Build it with"):
        Index(built, encoder)


@pytest.mark.parametrize("path", [
    ("entries",), ("space",), ("metric",), ("files",), ("encoder",), ("views_by_language",), ("views_by_question_language",), ("settings", "augment"), ("encoder", "fingerprint"), ("encoder", "query_prefix"),
    ("files", "entries.sqlite", "bytes"), ("files", "graph.bn.hnsw", "sha256"),
])  # fmt: skip
def test_a_manifest_that_lacks_a_key_is_refused(built, encoder, path):
    def drop(manifest):
        *parents, key = path
        for parent in parents:
            manifest = manifest[parent]
        del manifest[key]

    forge(built, drop)
    with pytest.raises(IndexFolderError, match=f"manifest.json cannot be read .*{path[-1]}.*Build it with"):
        Index(built, encoder)


@pytest.mark.parametrize("name", ["graph.hi.hnsw", "entries.sqlite"])
@pytest.mark.parametrize("content", [b"", b"no such thing " * 100])
def test_a_file_that_is_something_else_is_refused(built, encoder, name, content):
    (built / name).write_bytes(content)
    forge(built, lambda manifest: None)
    with pytest.raises(IndexFolderError, match="cannot be loaded .*Rebuild it: python -m index_builder build --corpus PATH --out"):
        Index(built, encoder)


def test_an_index_without_regions_is_refused(built, encoder):
    with closing(sqlite3.connect(built / "entries.sqlite")) as db, db:
        db.execute("ALTER TABLE entries DROP COLUMN region")
    forge(built, lambda manifest: None)
    with pytest.raises(IndexFolderError, match="cannot be loaded .*region"):
        Index(built, encoder)


def test_the_database_is_never_written_to(built, encoder):
    index = Index(built, encoder)
    index.search(QUESTION)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        index._db.execute("DELETE FROM entries")
    assert sorted(path.name for path in built.iterdir()) == sorted((*FILES, "manifest.json"))
