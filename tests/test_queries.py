"""Files of generated queries: what is written is attached again, to the same corpus and to no other."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from index_builder.queries import Header, QueriesError, attach, corpus_digest, read_queries, write_queries
from index_builder.vocabulary import LANGUAGES, Entry, GeneratedQuery
from tests.conftest import small_corpus
from tests.texts import any_text

ENTRIES = small_corpus()
DIGEST = corpus_digest(ENTRIES)
TIGER, METRO = ENTRIES[-2].entry_id, ENTRIES[-1].entry_id


def written(path, *rows, digest=DIGEST):
    write_queries(path, Header(digest, "tiny", {"per_language": 2}), rows)
    return path


@pytest.mark.parametrize("name", ["q.jsonl", "q.jsonl.xz"])
def test_queries_come_back_on_their_entry_in_their_order_with_their_model(tmp_path, name):
    rows = [(METRO, GeneratedQuery("tr", "Doha metrosunda kaç hat var?", -0.5)), (METRO, GeneratedQuery("ne", "दोहा मेट्रो?", -0.75))]
    path = written(tmp_path / name, *rows)
    found = attach(ENTRIES, path)
    assert [entry.entry_id for entry in found] == [entry.entry_id for entry in ENTRIES]
    assert found[-1].queries == tuple(replace(query, model="tiny") for _, query in rows)
    assert found[0] == ENTRIES[0]
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_the_first_line_says_what_the_file_belongs_to(tmp_path):
    path = written(tmp_path / "q.jsonl", (TIGER, GeneratedQuery("hi", "बाघ कहाँ है?", -1 / 3)))
    head, row = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    assert head == {"schema": 1, "corpus_sha256": DIGEST, "model": "tiny", "settings": {"per_language": 2}}
    assert row == {"id": TIGER, "lang": "hi", "text": "बाघ कहाँ है?", "score": -0.333333}


@given(
    st.lists(
        st.tuples(st.sampled_from([entry.entry_id for entry in ENTRIES]), st.sampled_from(LANGUAGES), any_text.filter(str.strip)),
        max_size=5,
    )
)
def test_text_of_every_script_survives(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("any") / "q.jsonl"
    rows = [(entry_id, GeneratedQuery(lang, text, -1.0)) for entry_id, lang, text in rows]
    written(path, *rows)
    assert [(entry_id, replace(query, model="")) for entry_id, query in read_queries(path)[1]] == rows


def test_queries_that_an_entry_has_stay_first_and_none_is_there_twice(tmp_path):
    own = ENTRIES[-2].queries[0]
    path = written(
        tmp_path / "a.jsonl",
        (TIGER, replace(own, score=-9.0)),
        (TIGER, GeneratedQuery("tr", own.text)),
        (TIGER, GeneratedQuery("tr", own.text)),
    )
    assert attach(ENTRIES, path, path)[-2].queries == (own, GeneratedQuery("tr", own.text, 0.0, "tiny"))


# The corpus that a file belongs to


def test_the_digest_is_of_the_entries_whatever_files_they_lie_in():
    assert corpus_digest(reversed(ENTRIES)) == DIGEST
    assert corpus_digest(replace(entry, source="elsewhere", topic="general", queries=()) for entry in ENTRIES) == DIGEST


@pytest.mark.parametrize(
    "change", [{"text": "x"}, {"question": "x"}, {"title": "x"}, {"lang": "tr"}, {"kind": "passage"}, {"entry_id": "x"}]
)
def test_the_digest_changes_with_what_queries_are_asked_about(change):
    assert corpus_digest([replace(ENTRIES[0], **change), *ENTRIES[1:]]) != DIGEST


def test_fields_do_not_run_into_each_other():
    entries = [Entry("a", "qa", "en", text="bc", question="d"), Entry("a", "qa", "en", text="b", question="cd")]
    assert corpus_digest(entries[:1]) != corpus_digest(entries[1:])


def test_a_file_of_another_corpus_is_refused(tmp_path):
    path = written(tmp_path / "q.jsonl", (METRO, GeneratedQuery("tr", "Metro?")))
    with pytest.raises(QueriesError, match=rf"made for another corpus \(sha256 {DIGEST[:12]}….*generate-queries"):
        attach(ENTRIES[:-1], path)


def test_a_row_for_an_entry_that_the_corpus_does_not_have_is_refused(tmp_path):
    with pytest.raises(QueriesError, match="no entry 'nobody'"):
        attach(ENTRIES, written(tmp_path / "q.jsonl", ("nobody", GeneratedQuery("tr", "Metro?"))))


# Damage


HEAD = json.dumps({"schema": 1, "corpus_sha256": DIGEST, "model": "m", "settings": {}})


@pytest.mark.parametrize(
    "text, complaint",
    [
        ("", "1: expected the header"),
        ('{"id": "a", "lang": "tr", "text": "x", "score": 0}\n', "1: expected the header"),
        (HEAD.replace('"schema": 1', '"schema": 9') + "\n", "1: schema is 9, this version reads 1"),
        (HEAD.replace("{}", "3") + "\n", "1: corpus_sha256 and model must be text and settings an object"),
        (HEAD + '\n{"id": "a", "lang": "tr", "te', "2: damaged"),
        (HEAD + '\n{"id": "a", "lang": "tr", "text": "", "score": 0}\n', "2: expected an object with id, lang and text"),
        (HEAD + '\n["a"]\n', "2: expected an object"),
        (HEAD + '\n{"id": "a", "lang": "xx", "text": "x", "score": 0}\n', "2: lang is 'xx', expected one of ar, as"),
        (HEAD + '\n{"id": "a", "lang": "tr", "text": "x", "score": "high"}\n', "2: score must be a number, found 'high'"),
        (HEAD + '\n{"id": "a", "lang": "tr", "text": "x", "score": true}\n', "2: score must be a number"),
    ],
)
def test_a_damaged_file_is_refused_with_its_line(tmp_path, text, complaint):
    path = tmp_path / "q.jsonl"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(QueriesError, match=f"q.jsonl:{complaint}"):
        list(read_queries(path)[1])


@pytest.mark.parametrize("keep", [0, 10, -20])
def test_a_torn_or_foreign_compressed_file_is_refused(tmp_path, keep):
    path = written(tmp_path / "q.jsonl.xz", *((METRO, GeneratedQuery("tr", f"Metro {n}?")) for n in range(500)))
    path.write_bytes(path.read_bytes()[:keep] or b"no xz")
    with pytest.raises(QueriesError, match=r"q\.jsonl\.xz:\d+: damaged"):
        list(read_queries(path)[1])


def test_bytes_that_are_no_text_are_refused(tmp_path):
    (tmp_path / "q.jsonl").write_bytes(HEAD.encode() + b"\n\xff\xfe\n")
    with pytest.raises(QueriesError, match=r"q\.jsonl:\d: damaged"):
        list(read_queries(tmp_path / "q.jsonl")[1])


def test_a_missing_file_names_the_command_that_makes_it(tmp_path):
    with pytest.raises(QueriesError, match=r"generate-queries --corpus … --out .*none\.jsonl"):
        read_queries(tmp_path / "none.jsonl")


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    def rows():
        yield METRO, GeneratedQuery("tr", "Metro?")
        raise OSError(28, "No space left on device")

    with pytest.raises(QueriesError, match="could not be written.*No space left"):
        write_queries(tmp_path / "q.jsonl", Header(DIGEST, "m", {}), rows())
    assert list(tmp_path.iterdir()) == []


# The build


def test_build_attaches_the_files_and_refuses_those_of_another_corpus(tmp_path, capsys):
    from index_builder.__main__ import main
    from index_builder.encode import BUNDLED, open_encoder
    from index_builder.read import row_of
    from index_builder.search import Index

    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("".join(json.dumps(row_of(entry)) + "\n" for entry in ENTRIES), encoding="utf-8")
    path = written(tmp_path / "q.jsonl.xz", (METRO, GeneratedQuery("tr", "Doha metrosunda kaç hat var?", -0.5)))
    out = tmp_path / "index"
    assert main(["build", "--corpus", str(corpus), "--out", str(out), "--queries", str(path), "--augment", "max"]) == 0
    best = Index(out, open_encoder(BUNDLED)).search("Doha metrosunda kaç hat var?", 1)[0]
    assert (best.entry.entry_id, best.matched_by, best.matched_query_lang) == (METRO, "query", "tr")
    other = tmp_path / "other.jsonl"
    other.write_text(corpus.read_text(encoding="utf-8").replace("metro", "tram"), encoding="utf-8")
    capsys.readouterr()
    assert main(["build", "--corpus", str(other), "--out", str(out), "--queries", str(path)]) == 1
    assert "made for another corpus" in capsys.readouterr().err
