"""Files of every known form become entries; what cannot be read is named with file and line."""

import json
from hashlib import md5

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from index_builder.read import CorpusError, entry_of, read_corpus, row_of
from index_builder.vocabulary import LANGUAGES, TOPICS, Entry, GeneratedQuery
from tests.texts import any_text, some_text

GOOD = {"id": "a", "kind": "qa", "lang": "bn", "question": "পহেলা বৈশাখে কী খায়?", "answer": "পান্তা ভাত আর ইলিশ।"}
OTHER = {"id": "b", "kind": "passage", "lang": "en", "text": "The Doha Metro has three lines."}


def jsonl(path, *rows):
    path.write_text(
        "".join((row if isinstance(row, str) else json.dumps(row, ensure_ascii=False)) + "\n" for row in rows), encoding="utf-8"
    )
    return path


def read(*paths, **options):
    return list(read_corpus(paths, **options))


# Forms


def test_a_jsonl_row_becomes_an_entry_and_unknown_keys_are_kept(tmp_path):
    row = GOOD | {"locale": "bn-BD", "topic": "events", "source": "written for Majlis", "data_id": "956a", "votes": [1, {"up": None}]}
    queries = [{"lang": "en", "text": "What is eaten on Pohela Boishakh?", "score": 0.5, "model": "hand"}]
    [entry] = read(jsonl(tmp_path / "a.jsonl", row | {"queries": queries}))
    assert entry == Entry(
        "a", "qa", "bn", "পান্তা ভাত আর ইলিশ।", question="পহেলা বৈশাখে কী খায়?", locale="bn-BD", topic="events", source="written for Majlis",
        queries=(GeneratedQuery("en", "What is eaten on Pohela Boishakh?", 0.5, "hand"),), extra={"data_id": "956a", "votes": [1, {"up": None}]},
    )  # fmt: skip


def test_a_row_without_kind_is_a_qa_pair_when_it_has_a_question(tmp_path):
    rows = [{"lang": "en", "question": "Q?", "answer": "A."}, {"lang": "en", "text": "T."}]
    assert [entry.kind for entry in read(jsonl(tmp_path / "a.jsonl", *rows))] == ["qa", "passage"]


def test_the_language_is_taken_from_the_locale_when_it_is_not_given(tmp_path):
    [entry] = read(jsonl(tmp_path / "a.jsonl", {"locale": "ne-NP", "text": "गुन्द्रुक"}))
    assert entry.lang == "ne"


def test_null_means_that_a_field_is_not_given(tmp_path):
    [entry] = read(jsonl(tmp_path / "a.jsonl", GOOD | {"title": None, "queries": None, "reviewer": None}))
    assert entry.title == "" and entry.queries == () and entry.extra == {"reviewer": None}


def test_a_context_beside_a_question_and_answer_is_kept(tmp_path):
    [qa, passage] = read(jsonl(tmp_path / "a.jsonl", GOOD | {"text": "the page it came from"}, OTHER | {"question": "Which?"}))
    assert qa.extra == {"text": "the page it came from"} and passage.extra == {"question": "Which?"}
    assert entry_of(row_of(qa), "here") == qa and entry_of(row_of(passage), "here") == passage


def test_windows_line_ends_and_a_byte_order_mark_are_read(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + json.dumps(GOOD).encode() + b"\r\n\r\n" + json.dumps(OTHER).encode() + b"\r\n")
    assert [entry.entry_id for entry in read(tmp_path / "a.jsonl")] == ["a", "b"]


NATIVQA = {
    "data_id": "956a93f99e4c7f50a42b2d582ae36759",
    "category": "food_and_drinks",
    "input_query": "নববর্ষের খাবার",
    "question": "পহেলা বৈশাখে কী খায়?",
    "is_reliable": "very_reliable",
    "answer": "পান্তা ভাত।",
    "source_answer_url": "https://example.org/a",
}


@pytest.mark.parametrize("as_lines", [False, True])
def test_multinativqa_is_read_as_a_list_and_as_lines(tmp_path, as_lines):
    path = tmp_path / "NativQA_bn_scb_bd_train.json"
    rows = [NATIVQA, NATIVQA | {"data_id": "0" * 32}]
    path.write_text("\n".join(map(json.dumps, rows)) if as_lines else json.dumps(rows, indent=2), encoding="utf-8")
    first, second = read(path)
    assert (first.entry_id, second.entry_id) == (NATIVQA["data_id"], "0" * 32)
    assert (first.kind, first.lang, first.locale, first.topic) == ("qa", "bn", "bn-BD", "food_drinks")
    assert (first.question, first.text) == ("পহেলা বৈশাখে কী খায়?", "পান্তা ভাত।")
    assert (first.source, first.reliability) == ("https://example.org/a", "very_reliable")
    assert first.extra["input_query"] == "নববর্ষের খাবার" and first.extra["category"] == "food_and_drinks"


def test_multinativqa_fields_that_its_copies_disagree_on_may_be_missing_or_named_otherwise(tmp_path):
    row = {
        "category": "Event",
        "input_query_id": "q7",
        "question": "Bihu?",
        "answer": ["In Assam,", "in spring."],
        "answer_URLs": ["u1", "u2"],
    }
    path = tmp_path / "NativQA_asm_NA_in_test.json"
    path.write_text(json.dumps([row | {"is_reliable": None}]), encoding="utf-8")
    [entry] = read(path)
    assert (entry.lang, entry.locale, entry.topic, entry.text) == ("as", "as-IN", "events", "In Assam, in spring.")
    assert (entry.source, entry.reliability) == ("u1 u2", "")
    assert entry.entry_id == md5(b"q7 Bihu?").hexdigest()  # as MultiNativQA makes its ids


@pytest.mark.parametrize(
    "name, locale",
    [
        ("NativQA_ar_msa_qa_dev", "ar-QA"), ("NativQA_asm_NA_in_dev", "as-IN"), ("NativQA_bn_scb_bd_dev", "bn-BD"), ("NativQA_bn_scb_in_dev", "bn-IN"),
        ("NativQA_en_NA_bd_dev", "en-BD"), ("NativQA_en_NA_qa_dev", "en-QA"), ("NativQA_hi_NA_in_dev", "hi-IN"), ("NativQA_ne_NA_np_dev", "ne-NP"),
        ("NativQA_tr_NA_tr_dev", "tr-TR"),
    ],
)  # fmt: skip
def test_the_locale_of_multinativqa_is_in_the_file_name(tmp_path, name, locale):
    path = tmp_path / f"{name}.json"
    path.write_text(json.dumps([NATIVQA]), encoding="utf-8")
    [entry] = read(path)
    assert (entry.locale, entry.lang) == (locale, locale[:2])


def test_tsv_and_csv_are_read_by_their_header(tmp_path):
    (tmp_path / "a.tsv").write_text('id\tlang\tquestion\tanswer\n1\ttr\tAşure nedir?\t"Bir ""tatlı""\nolur."\n', encoding="utf-8")
    (tmp_path / "b.csv").write_text('id,locale,text,votes\r\n2,hi-IN,"लू, गरम हवा",3\r\n', encoding="utf-8")
    first, second = read(tmp_path)
    assert (first.entry_id, first.kind, first.lang, first.text) == ("1", "qa", "tr", 'Bir "tatlı"\nolur.')
    assert (second.entry_id, second.kind, second.lang, second.text, second.extra) == ("2", "passage", "hi", "लू, गरम हवा", {"votes": "3"})


def test_the_language_given_is_that_of_table_rows_that_name_none(tmp_path):
    (tmp_path / "a.csv").write_text("lang,locale,text\ntr,,Çay\n,hi-IN,चाय\n,,চা\n", encoding="utf-8")
    (tmp_path / "b.tsv").write_text("question\tanswer\nকী?\tচা।\n", encoding="utf-8")
    assert [entry.lang for entry in read(tmp_path, lang="bn")] == ["tr", "hi", "bn", "bn"]
    with pytest.raises(CorpusError, match=r"a\.csv:4: field 'lang' is ''"):
        read(tmp_path)


def test_text_files_of_one_name_in_different_folders_have_passages_of_different_ids(tmp_path):
    for place in ("assam/notes.md", "nepal/notes.md", "notes.md", "notes.txt"):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_text("Tea.\n", encoding="utf-8")
    assert [entry.entry_id for entry in read(tmp_path, lang="en")] == ["assam/notes.md:1", "nepal/notes.md:1", "notes.md:1", "notes.txt:1"]
    assert [entry.entry_id for entry in read(tmp_path / "assam", tmp_path / "notes.txt", lang="en")] == ["notes.md:1", "notes.txt:1"]


def test_a_framework_tsv_is_read_like_multinativqa(tmp_path):
    path = tmp_path / "NativQA_hi_NA_in_train.tsv"
    path.write_text("data_id\tcategory\tinput_query\tquestion\tanswer\n7\tweather\tलू\tलू क्या है?\tगरम हवा।\n", encoding="utf-8")
    [entry] = read(path)
    assert (entry.entry_id, entry.locale, entry.topic, entry.text) == ("7", "hi-IN", "weather", "गरम हवा।")


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_markdown_is_cut_at_headings_and_at_about_120_words(tmp_path, line_end):
    long = " ".join(f"w{n}" for n in range(100))
    text = f"# The Metro\n\nThree lines.\nNo drivers.\n\n## Stations\n{long}\n\n{long}\n"
    (tmp_path / "doha.md").write_bytes(text.replace("\n", line_end).encode())
    entries = read(tmp_path / "doha.md", lang="en")
    assert [(entry.title, entry.text) for entry in entries] == [
        ("The Metro", "Three lines. No drivers."), ("Stations", long), ("Stations", long),
    ]  # fmt: skip
    assert {entry.source for entry in entries} == {"doha.md"} and len({entry.entry_id for entry in entries}) == 3


def test_a_text_file_has_its_name_as_title_and_needs_a_language(tmp_path):
    (tmp_path / "bihu.txt").write_text("# not a heading here\n\nভোগালী বিহু।", encoding="utf-8")
    [entry] = read(tmp_path / "bihu.txt", lang="as")
    assert (entry.title, entry.text) == ("bihu", "# not a heading here\nভোগালী বিহু।")
    with pytest.raises(CorpusError, match=r"bihu\.txt: a text file does not say its language.*--lang"):
        read(tmp_path / "bihu.txt")


def test_a_folder_is_read_in_name_order_without_its_readme(tmp_path):
    (tmp_path / "sub").mkdir()
    jsonl(tmp_path / "sub" / "z.jsonl", OTHER)
    jsonl(tmp_path / "a.jsonl", GOOD)
    (tmp_path / "README.md").write_text("# About\n", encoding="utf-8")
    (tmp_path / "notes.docx").write_bytes(b"\x00")
    assert [entry.entry_id for entry in read(tmp_path)] == ["a", "b"]


# Round trip

plain = some_text.map(str.strip)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | any_text, lambda inner: st.lists(inner) | st.dictionaries(any_text, inner), max_leaves=4
)
shared = {
    "entry_id": some_text,
    "lang": st.sampled_from(LANGUAGES),
    "text": plain,
    "title": any_text.map(str.strip),
    "locale": any_text,
    "region": any_text,
    "topic": st.sampled_from(("", *TOPICS)),
    "source": any_text,
    "reliability": any_text,
    "queries": st.lists(
        st.builds(GeneratedQuery, st.sampled_from(LANGUAGES), some_text, st.floats(allow_nan=False, allow_infinity=False), any_text),
        max_size=2,
    ).map(tuple),
    "extra": st.dictionaries(any_text.map("x".__add__), json_values, max_size=3),
}
entries = st.one_of(st.builds(Entry, kind=st.just("qa"), question=plain, **shared), st.builds(Entry, kind=st.just("passage"), **shared))


@settings(deadline=None, max_examples=150)
@given(entries)
def test_an_entry_survives_its_row_and_json(entry):
    assert entry_of(row_of(entry), "here") == entry
    assert entry_of(json.loads(json.dumps(row_of(entry), ensure_ascii=False)), "here") == entry


# Bad input


@pytest.mark.parametrize(
    "row, complaint",
    [
        ({key: value for key, value in GOOD.items() if key != "answer"}, r"a qa row needs a non-empty 'answer'; found \['id', 'kind', 'lang', 'question'\]"),
        (GOOD | {"answer": " \n"}, "a qa row needs a non-empty 'answer'"),
        (GOOD | {"question": ""}, "a qa row needs a non-empty 'question'"),
        (OTHER | {"text": ""}, "a passage row needs a non-empty 'text'"),
        (GOOD | {"lang": "fr"}, "field 'lang' is 'fr', expected one of ar, as, bn, en, hi, ne, tr"),
        (GOOD | {"topic": "politics"}, "field 'topic' is 'politics', expected one of animal"),
        (GOOD | {"kind": "poem"}, "field 'kind' is 'poem', expected 'qa' or 'passage'"),
        (GOOD | {"answer": 7}, "field 'answer' must be text, found int '7'"),
        (GOOD | {"queries": [{"lang": "en"}]}, "field 'queries' must be a list of"),
        (GOOD | {"queries": [{"lang": "en", "text": 5}]}, "field 'queries' must be a list of"),
        ([GOOD], "expected an object with keys such as question and answer, found list"),
        (json.dumps(GOOD).replace('"a"', '"\\ud800"'), "half of a surrogate pair"),
        ('{"id": "a", "lang"', "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
    ],
)  # fmt: skip
def test_a_bad_row_is_named_with_file_and_line_and_can_be_left_out(tmp_path, row, complaint):
    path = jsonl(tmp_path / "rows.jsonl", OTHER, row if isinstance(row, str) else json.dumps(row), OTHER | {"id": "c"})
    with pytest.raises(CorpusError, match=rf"rows\.jsonl:2: .*{complaint}"):
        read(path)
    said = []
    kept = read(path, skip_bad=True, say=said.append)
    assert [entry.entry_id for entry in kept] == ["b", "c"]
    assert len(said) == 1 and said[0].startswith("left out: ") and "rows.jsonl:2: " in said[0]


def test_an_id_used_twice_is_refused_with_both_places(tmp_path):
    path = jsonl(tmp_path / "rows.jsonl", OTHER, GOOD, OTHER)
    with pytest.raises(CorpusError, match=r"rows\.jsonl:3: the id 'b' was already used at .*rows\.jsonl:1"):
        read(path)
    assert len(read(path, skip_bad=True, say=lambda _: None)) == 2


def test_a_file_that_is_not_utf8_is_refused_with_its_line(tmp_path):
    path = tmp_path / "latin.jsonl"
    path.write_bytes(json.dumps(OTHER).encode() + b'\n{"id": "c", "lang": "en", "text": "caf\xe9"}\n')
    with pytest.raises(CorpusError, match=r"latin\.jsonl:2: not UTF-8 \(byte 0xe9\)\. Save the file as UTF-8"):
        read(path)
    said = []
    assert [entry.text for entry in read(path, skip_bad=True, say=said.append)] == [OTHER["text"], "caf\ufffd"]
    assert len(said) == 1 and "latin.jsonl:2" in said[0]


def test_table_rows_with_too_many_or_too_few_cells_are_named(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("id,lang,text\n1,en,one\n2,en\n3,en,three,more\n4,en,four\n", encoding="utf-8")
    with pytest.raises(CorpusError, match=r"t\.csv:3: the row has more or fewer cells than the header"):
        read(path)
    said = []
    assert [entry.entry_id for entry in read(path, skip_bad=True, say=said.append)] == ["1", "4"]
    assert len(said) == 2


@pytest.mark.parametrize(
    "text, complaint",
    [
        ("a,b\n1,2\n", r"t\.csv:1: the header must name question and answer \(or text\); found \['a', 'b'\]"),
        ("", r"t\.csv:1: the header must name"),
        ('id,lang,text\n1,en,"never closed\n2,en,two\n', r"t\.csv:2: not a valid table \(unexpected end"),
        ("id,lang,text\n1,en," + "x" * 200_000 + "\n", r"t\.csv:2: not a valid table \(field larger"),
    ],
)
def test_a_table_that_cannot_be_understood_is_refused_and_swallows_no_row(tmp_path, text, complaint):
    (tmp_path / "t.csv").write_text(text, encoding="utf-8")
    with pytest.raises(CorpusError, match=complaint):
        read(tmp_path / "t.csv")


def test_a_broken_json_list_is_refused_with_its_place(tmp_path):
    (tmp_path / "NativQA_bn_scb_bd_dev.json").write_text('[{"question": "a",\n "answer": }]', encoding="utf-8")
    with pytest.raises(CorpusError, match=r"NativQA_bn_scb_bd_dev\.json: not valid JSON \(.*line 2"):
        read(tmp_path)


def test_a_bad_item_of_a_json_list_is_named_by_its_number(tmp_path):
    (tmp_path / "NativQA_bn_scb_bd_dev.json").write_text(
        json.dumps([NATIVQA, NATIVQA | {"answer": None, "data_id": "x"}]), encoding="utf-8"
    )
    with pytest.raises(CorpusError, match=r"item 2: a qa row needs a non-empty 'answer'"):
        read(tmp_path)


@pytest.mark.parametrize(
    "name, complaint", [("none.jsonl", "is not there"), ("a.pdf", "files of kind .pdf are not known"), ("empty", "holds no corpus file")]
)
def test_a_path_that_is_no_corpus_is_refused(tmp_path, name, complaint):
    (tmp_path / "a.pdf").write_bytes(b"%PDF")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CorpusError, match=complaint):
        read(tmp_path / name)
