"""The linter: each defect planted once, named with file, line, field, what was found and what was expected; and nothing in what ships."""

import json
from hashlib import md5
from pathlib import Path

import pytest

from index_builder.__main__ import main
from index_builder.check import check_corpus
from index_builder.check.characters import character_defects
from index_builder.check.corpus import MINIMUM
from index_builder.check.evaluation import SUITES
from index_builder.check.language import language_defects
from index_builder.check.similar import NEAR, Similar, trigrams
from index_builder.read import CorpusError
from index_builder.vocabulary import TOPICS

ROOT = Path(__file__).resolve().parent.parent
TEXTS = {
    "ar-QA": ("متى يخرج الناس إلى البر في قطر؟", "يخرج الناس إلى البر في الشتاء عندما يبرد الجو، وينصبون الخيام مع الأهل والأصدقاء."),
    "as-IN": ("পিঠা বনাবলৈ কি চাউল লাগে?", "পিঠা বনাবলৈ বৰা চাউল লাগে। চাউল তিয়াই খুন্দি গুড়ি কৰা হয় আৰু তাৰ ভিতৰত তিল দিয়ে।"),
    "bn-BD": ("শীতের সকালে গ্রামে কী পিঠা খায়?", "শীতের সকালে গ্রামের মানুষ ভাপা পিঠা খায়, যা চালের গুঁড়া আর খেজুরের গুড় দিয়ে তৈরি হয়।"),
    "bn-IN": ("পয়লা বৈশাখে দোকানে হালখাতা কেন করে?", "নতুন বছরের প্রথম দিনে দোকানিরা পুরোনো হিসেব মিটিয়ে নতুন খাতা খোলেন এবং খদ্দেরদের মিষ্টি খাওয়ান।"),
    "en-QA": ("What do families take along to the desert?", "Families take tents, mats and a grill to the desert, and they stay there from Friday until the evening."),
    "hi-IN": ("लू से बचने के लिए क्या पीते हैं?", "लू से बचने के लिए लोग आम पन्ना और छाछ पीते हैं, क्योंकि इनसे शरीर ठंडा रहता है।"),
    "ne-NP": ("गुन्द्रुक केबाट बनाइन्छ?", "गुन्द्रुक रायो र मुलाको पात कुहाएर बनाइन्छ, अनि घाममा सुकाएर वर्षभरि राख्न सकिन्छ।"),
    "tr-TR": ("Aşure ne zaman pişirilir?", "Aşure muharrem ayında pişirilir ve komşulara dağıtılır; içine buğday, nohut, kuru üzüm ve incir konur."),
}  # fmt: skip


def row(locale="en-QA", identity="", **changes):
    """A row without a defect, but for `changes`."""
    question, answer = TEXTS[locale]
    good = {"id": identity or f"{locale}.1", "kind": "qa", "lang": locale[:2], "locale": locale, "topic": "tradition", "input_query": "seed", "question": question,
            "answer": answer, "source": "written for a test", "reliability": "unreviewed"} | changes  # fmt: skip
    return {"data_id": md5(f"{good['input_query']} {good['question']}".encode()).hexdigest()} | good


def jsonl(path, *rows):
    path.write_bytes(
        b"".join((one if isinstance(one, bytes) else json.dumps(one, ensure_ascii=False).encode("utf-8", "surrogatepass")) + b"\n" for one in rows)
    )
    return path


def found(report, check):
    """The findings of one check. Too few rows is what every small corpus has; no test but one asks for it."""
    return [finding for finding in report.findings if finding.check == check]


def the_one(report, check="schema"):
    """The only finding besides those about counts."""
    [finding] = [finding for finding in report.findings if finding.check != "counts"]
    assert finding.check == check, finding
    return finding


def check(tmp_path, *rows):
    return check_corpus([jsonl(tmp_path / "corpus.jsonl", *rows)])


# What ships


def test_the_shipped_corpus_and_evaluation_files_have_no_errors():
    report = check_corpus([ROOT / "assets/corpus"], ROOT / "assets/evaluation")
    assert not report.errors
    assert min(report.pairs.values()) >= MINIMUM and len(report.pairs) == 9 * len(TOPICS)
    assert all(count > 0 for count in (report.questions[suite, split] for suite in SUITES for split in ("dev", "test")))


def test_the_readme_of_the_corpus_shows_the_counts_that_the_linter_counts():
    card = (ROOT / "assets/corpus/README.md").read_text(encoding="utf-8")
    tables = check_corpus([ROOT / "assets/corpus"]).as_table().split("### ")
    assert all(line in card for table in tables[1:3] for line in table.splitlines()[1:])


# Schema: the reader's own errors, and going on after them


def test_rows_in_eight_locales_without_a_defect_have_no_finding(tmp_path):
    report = check(tmp_path, *map(row, TEXTS))
    assert {finding.check for finding in report.findings} == {"counts"} and report.pairs["bn-IN", "tradition"] == 1


@pytest.mark.parametrize(
    "bad, field, seen, expected",
    [
        (b'{"id": "x",', "", "not valid JSON", "valid JSON"),
        (b"[" * 100_000, "", "recursion", "valid JSON"),
        (b"[1, 2]", "", "list", "an object"),
        (row(answer=" "), "answer", "nothing", "non-empty 'answer'"),
        (row(question=""), "question", "nothing", "non-empty 'question'"),
        (row(kind="passage"), "text", "nothing", "non-empty 'text'"),
        (row(kind="poem"), "kind", "'poem'", "'qa' or 'passage'"),
        (row(lang="ur"), "lang", "'ur'", "one of ar, as, bn, en, hi, ne, tr"),
        (row(topic="politics"), "topic", "'politics'", "one of animal"),
        (row(topic=7), "topic", "int '7'", "text"),
        (row(queries=["a question"]), "queries", "must be a list", "a list of"),
        (json.dumps(row(identity="\ud800")).encode(), "", "surrogate", "UTF-8 can hold"),
    ],
)  # fmt: skip
def test_a_row_that_cannot_be_read_is_named_and_the_others_are_still_checked(tmp_path, bad, field, seen, expected):
    report = check(tmp_path, row("hi-IN"), bad, row("tr-TR", lang="xx"))
    first, second = report.errors
    assert (first.severity, first.file, first.line, first.field) == ("error", str(tmp_path / "corpus.jsonl"), 2, field)
    assert seen in first.found and expected in first.expected
    assert (second.line, second.field, second.found) == (3, "lang", "'xx'")
    assert report.pairs.total() == 1


def test_a_row_that_is_not_utf8_is_named_with_its_line_and_byte(tmp_path):
    report = check(tmp_path, row("hi-IN"), json.dumps(row("tr-TR"), ensure_ascii=False).encode("iso-8859-9"))
    finding = found(report, "not UTF-8")[0]
    assert (finding.severity, finding.line, finding.expected) == ("error", 2, "UTF-8") and "byte 0xfe" in finding.found


@pytest.mark.parametrize(
    "name, text, line, expected",
    [
        ("a.csv", "lang,question,answer\nen,What is it?\n", 2, "as many cells as the header"),
        ("a.csv", "lang,question\nen,What is it?\n", 1, "a header that names question and answer, or text"),
        ("a.tsv", 'lang\tquestion\tanswer\nen\t"What is it?\tA\n', 2, "cells with quotes"),
        ("a.json", "[{]", 0, "valid JSON"),
    ],
)
def test_tables_and_arrays_are_checked_too(tmp_path, name, text, line, expected):
    (tmp_path / name).write_text(text)
    [finding] = check_corpus([tmp_path / name]).errors
    assert (finding.file, finding.line) == (str(tmp_path / name), line) and expected in finding.expected


@pytest.mark.parametrize(
    "changes, severity, field, seen, expected",
    [
        ({"locale": "bn-XX"}, "error", "locale", "'bn-XX'", "one of ar-QA"),
        ({"locale": "hi-IN"}, "error", "locale", "'hi-IN' in a row whose lang is 'en'", "a locale of 'en'"),
        ({"region": ""}, "error", "region", "an empty field", "a value"),
    ],
)
def test_what_the_reader_lets_pass_the_linter_does_not(tmp_path, changes, severity, field, seen, expected):
    finding = the_one(check(tmp_path, row() | changes))
    assert (finding.severity, finding.field, finding.found) == (severity, field, seen) and expected in finding.expected


def test_a_row_without_source_or_topic_is_warned_of(tmp_path):
    bare = {key: value for key, value in row().items() if key not in ("source", "topic")}
    assert [(finding.severity, finding.field) for finding in found(check(tmp_path, bare), "schema")] == [("warning", "topic"), ("warning", "source")]


def test_an_id_used_twice_is_named_with_its_first_place(tmp_path):
    finding = the_one(check(tmp_path, row("hi-IN", "a"), row("tr-TR", "a")), "duplicate id")
    assert (finding.severity, finding.line, finding.field) == ("error", 2, "id") and "corpus.jsonl:1" in finding.found


def test_a_data_id_is_the_md5_of_seed_and_question(tmp_path):
    good = row()
    finding = the_one(check(tmp_path, good | {"data_id": "0" * 32}), "data_id")
    assert (finding.severity, finding.field) == ("error", "data_id") and finding.expected.endswith(good["data_id"])


def test_a_text_file_is_left_out_with_a_warning(tmp_path):
    (tmp_path / "notes.txt").write_text("The metro has three lines.")
    assert "names no language" in the_one(check_corpus([tmp_path])).found


def test_a_path_that_is_not_there_is_no_finding_but_an_error(tmp_path):
    with pytest.raises(CorpusError, match="is not there"):
        check_corpus([tmp_path / "none.jsonl"])


# Duplicates


def test_the_same_question_in_other_punctuation_and_order_is_a_duplicate(tmp_path):
    again = row(identity="b", question="to the desert: what do families take along")
    finding = the_one(check(tmp_path, row(identity="a"), again), "duplicate")
    assert (finding.severity, finding.line, finding.field) == ("error", 2, "question") and "1.00 like 'a'" in finding.found


@pytest.mark.parametrize(
    "locale, question, severity",
    [
        ("en-QA", "What do most families take along to the desert?", "error"),
        ("en-BD", "What do most families take along to the desert?", "warning"),  # another place, perhaps another answer
        ("en-QA", "What do families take along to the beach?", "warning"),  # one word, perhaps the one that matters
    ],
)
def test_nearly_the_same_question_is_a_near_duplicate(tmp_path, locale, question, severity):
    finding = the_one(check(tmp_path, row(identity="a"), row(identity="b", question=question) | {"locale": locale}), "near-duplicate")
    assert finding.severity == severity and "like 'a' at" in finding.found and f"below {NEAR}" in finding.expected


def test_different_questions_on_one_pattern_are_no_duplicates():
    shipped = [json.loads(line)["question"] for line in (ROOT / "assets/corpus/qa/en-QA.jsonl").open(encoding="utf-8")]
    similar = Similar([*shipped, "What is the difference between an abaya and a shayla in colour?"])
    assert "What is the difference between an abaya and a shayla?" in shipped and "What is the difference between harees and madrouba?" in shipped
    assert [later for _, _, later in similar.pairs()] == [len(shipped)]


def test_similarity_is_a_weighted_jaccard_of_trigrams():
    assert trigrams("Tap, tap!") == {" ta", "tap", "ap "}
    similarity, number = Similar(["red tent", "green tent"]).near("Green tent?")
    assert (similarity, number) == (1.0, 1)
    assert Similar(["red tent"]).near("blue sky") is None and Similar([]).near("blue sky") is None


# Language and script


@pytest.mark.parametrize(
    "lang, text, check, severity, seen",
    [
        ("hi", "What do people drink in the summer?", "script", "error", "0% of the letters are Devanagari"),
        ("bn", "শীতে winter tour package নিয়ে যাই আর ঘুরি", "script", "error", "of the letters are Bengali"),
        ("as", "তেওঁ করে আৰু খায়", "language", "error", "করে: র is a letter of Bangla"),
        ("bn", "গ্রামে কৰা হয়", "language", "error", "ৰ is a letter of Assamese"),
        ("bn", "ইয়াক কেনেকৈ খোৱা", "language", "error", "ৱ is a letter of Assamese"),
        ("as", "এটি কখন এবং কীভাবে হয়?", "language", "error", "words of Bangla"),
        ("ne", "दिल्ली में लोग क्या खाते हैं और कहाँ जाते हैं?", "language", "error", "words of Hindi"),
        ("hi", "नेपालमा मानिसहरू के खान्छन् र कहाँ जान्छन्?", "language", "error", "words of Nepali"),
        ("hi", "पुण्यात लोक काय खातात आणि कसे राहतात?", "language", "error", "words of Marathi"),
        ("en", "Ramazan ayında akşam ne zaman ve nerede yemek yenir?", "language", "error", "words of Turkish"),
        ("tr", "What do people eat in the evening and where?", "language", "error", "words of English"),
        ("ar", "مردم در زمستان برای سفر به این شهر می آیند", "language", "error", "words of Persian"),
        ("en", "Wir fahren morgen früh mit dem Zug nach Hamburg und kommen erst abends wieder zurück nach Hause", "language", "warning", "no common word of English"),
        ("en", "the pаlace of the emir", "mixed scripts", "error", "Cyrillic and Latin"),
        ("tr", "!?…", "no words", "error", "!?"),
    ],
)  # fmt: skip
def test_a_text_in_another_script_or_language_than_its_row_says(lang, text, check, severity, seen):
    [defect] = language_defects(text, lang)
    assert defect[:2] == (severity, check) and seen in defect[2]


@pytest.mark.parametrize("lang, text", [
    ("en", 'The kelaynak of Şanlıurfa is called "kel aynak ve bir kuş" by children.'),
    ("bn", "অসমিয়া ‘ৰঙালী’ শব্দের মানে কী?"),
    ("ne", "विदेश जाने विद्यार्थीहरूले IELTSको तयारी कहाँ गर्छन्?"),
    ("ar", "1949"),
    ("tr", "Kelaynak nedir?"),
])  # fmt: skip
def test_names_quotations_and_years_are_at_home_in_any_language(lang, text):
    assert not list(language_defects(text, lang))


# Characters


@pytest.mark.parametrize(
    "lang, text, check, severity, seen, expected",
    [
        ("ar", "في \u202eقطر", "bidi control", "error", "U+202E after 'في ' (character 4)", "direction"),
        ("en", "the \u200bhouse", "hidden character", "error", "U+200B after 'the '", "characters that show"),
        ("en", "soft\u00adly", "hidden character", "error", "U+00AD", "characters that show"),
        ("en", "na\u200dme", "hidden character", "error", "U+200D", "Indic word"),
        ("bn", "প্রাক্\u200c-প্রাথমিক", "hidden character", "error", "U+200C", "Indic word"),
        ("en", "lost \ufffd here", "hidden character", "error", "U+FFFD", "characters that show"),
        ("en", "a bell\u0007", "hidden character", "error", "U+0007", "characters that show"),
        ("en", "two  spaces", "spaces", "warning", "at character 4", "single plain spaces"),
        ("en", "hard\u00a0space", "spaces", "warning", "<U+00A0>", "single plain spaces"),
        ("tr", "Aşure".replace("ş", "s\u0327"), "not NFC", "error", "U+0073 U+0327 at character 2", "form C"),
        ("bn", "বাড\u09bcি".replace("ড\u09bc", "\u09dc"), "not NFC", "warning", "U+09DC", "form C"),
        ("en", "a <b>bold</b> word", "markup", "error", "<b>", "plain text"),
        ("en", "salt &amp; pepper", "markup", "error", "&amp;", "plain text"),
        ("en", "see https://example.org", "markup", "error", "https://example.org", "plain text"),
        ("en", "a **bold** word", "markup", "error", "**", "plain text"),
        ("bn", "১৯৫২ সালের 21 ফেব্রুয়ারি", "mixed digits", "error", "Bengali (১৯৫২), 0-9 (21)", "one set of digits"),
        ("hi", "सन ১৯৫২ में", "foreign digits", "error", "Bengali (১৯৫২)", "Devanagari digits, or 0-9"),
        ("en", "an open (bracket", "unbalanced", "error", "( is not closed", "closed"),
        ("en", "a closed) bracket", "unbalanced", "error", ") without (", "closed"),
        ("en", "crossed ([brackets)]", "unbalanced", "error", ") without (", "in order"),
        ("ar", "مثل «مدّ ريولك", "unbalanced", "error", "« is not closed", "closed"),
        ("hi", 'वह "कल आएगा', "unbalanced", "error", 'odd number of "', "closed"),
        ("bn", "একে ‘জলখাবার বলে", "unbalanced", "error", "‘ is not closed", "closed"),
        ("bn", "একে 'জলখাবার বলে", "unbalanced", "warning", "' is not closed", "closed"),
    ],
)  # fmt: skip
def test_a_character_that_does_not_belong(lang, text, check, severity, seen, expected):
    [defect] = character_defects(text, lang)
    assert defect[:2] == (severity, check) and seen in defect[2] and expected in defect[3]


@pytest.mark.parametrize("lang, text", [
    ("ne", "त्यहाँ पुर्\u200dयाउन सकिन्छ"),
    ("bn", "জসীমউদ্\u200cদীন ১৯০৩ সালে জন্মান"),
    ("as", "ক'ত ৰেডিঅ' বাজে আৰু ষ্টুডিঅ' আছে?"),
    ("bn", "কেউ 'যাই' বললে বড়রা বলেন, 'যাই বলতে নেই, বলো আসি।'"),
    ("en", "the workers' bus and the farmers' markets (near Doha) open at 5"),
    ("en", "1) wash the rice, 2) cook it"),
    ("en", "a 6\" pan, 'small' or “large”, and a man of 5'6\""),
    ("tr", "Buna „aşure“ ya da “anuş abur” denir."),
    ("ar", "سنة 2006، وتسمى «المقيض»"),
])  # fmt: skip
def test_joiners_apostrophes_and_measures_are_no_defects(lang, text):
    assert not list(character_defects(text, lang))


def test_every_field_is_looked_at_and_named(tmp_path):
    hidden = "a\u200bb is the word for it"
    passage = {"id": "p", "kind": "passage", "lang": "en", "locale": "en-IN", "topic": "animal", "title": hidden, "text": f"{hidden}. " * 10, "source": "s", "reliability": "r"}  # fmt: skip
    asked = row(question=hidden, answer=f"{hidden} and a b c", input_query=hidden, queries=[{"lang": "en", "text": hidden}])
    fields = [finding.field for finding in found(check(tmp_path, passage, asked), "hidden character")]
    assert fields == ["title", "text", "question", "answer", "input_query", "queries"]


# Lengths and counts


@pytest.mark.parametrize("locale, answer, severity, seen", [
    ("en-QA", "In winter.", "error", "2 words"),
    ("en-QA", "Families go in winter and stay.", "warning", "6 words"),
    ("en-QA", "It is " + "very " * 120 + "good.", "warning", "123 words"),
    ("hi-IN", "यह है " + "बहुत " * 220 + "अच्छा।", "error", "223 words"),
    ("as-IN", "মাঘ মাহত।", "error", "2 words"),
    ("ar-QA", "في الشتاء.", "error", "2 words"),
])  # fmt: skip
def test_an_answer_too_short_or_too_long_in_words_of_any_script(tmp_path, locale, answer, severity, seen):
    finding = the_one(check(tmp_path, row(locale, answer=answer)), "length")
    assert (finding.severity, finding.field, finding.found, finding.expected) == (severity, "answer", seen, "8 to 100 words")


def test_topics_and_locales_with_too_few_rows_are_warned_of(tmp_path):
    topics, locales = found(check(tmp_path, row("hi-IN")), "counts")
    assert topics.severity == locales.severity == "warning"
    assert "hi-IN: animal 0" in topics.found and "tradition 1" in topics.found and "8 QA pairs" in topics.expected
    assert "no QA pair of ar-QA, as-IN" in locales.found


# Evaluation files


def question(identity, split, text, answer="In winter", **changes):
    return {"id": identity, "lang": "en", "topic": "tradition", "question": text, "answer": answer, "evidence_lang": "en", "qrels": {"en-QA.1": 1}, "split": split} | changes  # fmt: skip


GOOD_DEV = question("t1", "dev", "In which season is camping popular?")
GOOD_TEST = question("t2", "test", "Which day of the week do trips begin?")


def check_questions(tmp_path, suite, *questions):
    folder = tmp_path / "evaluation"
    folder.mkdir(exist_ok=True)
    jsonl(folder / f"{suite}.jsonl", *questions)
    report = check_corpus([jsonl(tmp_path / "corpus.jsonl", row())], folder)
    return [finding for finding in report.findings if finding.file.endswith(f"{suite}.jsonl")]


def test_good_questions_have_no_finding_and_missing_files_a_warning(tmp_path):
    assert check_questions(tmp_path, "temporal", GOOD_DEV, GOOD_TEST) == []
    report = check_corpus([tmp_path / "corpus.jsonl"], tmp_path / "evaluation")
    assert report.questions == {("temporal", "dev"): 1, ("temporal", "test"): 1}
    assert sum(finding.found == "no such file" for finding in report.warnings) == 5


@pytest.mark.parametrize(
    "suite, bad, name, check, seen, expected",
    [
        ("temporal", b"{", "", "schema", "not valid JSON", "one JSON object a line"),
        ("temporal", b"[]", "", "schema", "list", "one JSON object a line"),
        ("temporal", b'{"id": "\xff"}', "", "not UTF-8", "byte 0xff", "UTF-8"),
        ("temporal", b'{"id": "\\ud800"}', "", "not UTF-8", "lone surrogate", "UTF-8 can hold"),
        ("temporal", question("b", "dev", "  "), "question", "schema", "'  '", "text"),
        ("temporal", question("b", "dev", "Who leads the trip?", answer=""), "answer", "schema", "''", "text"),
        ("cross_lingual", question("b", "dev", "Who leads the trip?"), "answer_en", "schema", "nothing", "text"),
        ("romanised", question("b", "dev", "Who leads the trip?", script="Arab"), "script", "schema", "'Arab'", "Latn"),
        ("temporal", question("b", "dev", "Who leads the trip?", lang="fr"), "lang", "schema", "'fr'", "one of ar"),
        ("temporal", question("b", "dev", "Who leads the trip?", topic="x"), "topic", "schema", "'x'", "one of animal"),
        ("temporal", question("b", "train", "Who leads the trip?"), "split", "schema", "'train'", "dev, test"),
        ("temporal", question("t1", "dev", "Who leads the trip?"), "id", "duplicate id", "temporal.jsonl:1", "an id of its own"),
        ("temporal", question("b", "dev", "Who leads the trip?", qrels={"gone": 1}), "qrels", "qrels", "'gone', which the corpus does not hold", "ids of corpus rows"),
        ("temporal", question("b", "dev", "Who leads the trip?", qrels={"en-QA.1": 0}), "qrels", "qrels", "grade 0", "1 or more"),
        ("temporal", question("b", "dev", "Who leads the trip?", qrels={"en-QA.1": True}), "qrels", "qrels", "grade True", "1 or more"),
        ("temporal", question("b", "dev", "Who leads the trip?", qrels={}), "qrels", "qrels", "{}", "at least one"),
        ("temporal", question("b", "dev", "Who leads the trip?", qrels=["en-QA.1"]), "qrels", "qrels", "['en-QA.1']", "an object"),
        ("temporal", question("b", "dev", "Who leads the trip?", evidence_lang="bn"), "evidence_lang", "schema", "'bn'", "en"),
        ("temporal", question("b", "dev", "Wer (leads the trip?"), "question", "unbalanced", "( is not closed", "closed"),
        ("temporal", question("b", "dev", "Who leads the trip?", answer="१९५२"), "answer", "foreign digits", "Devanagari", "0-9"),
        ("temporal", question("b", "dev", "In which season is camping popular"), "question", "duplicate", "1.00 like", "of its own"),
    ],
)  # fmt: skip
def test_a_bad_evaluation_row_is_named_and_the_others_are_still_checked(tmp_path, suite, bad, name, check, seen, expected):
    good = [one | {"script": "Latn", "answer_en": "In winter"} for one in (GOOD_DEV, GOOD_TEST)]
    findings = check_questions(tmp_path, suite, *good, bad, question("c", "test", "Who brings the carpets?", script="Latn", answer_en="A", lang="xx"))
    last = [finding for finding in findings if finding.line == 4]
    [finding] = [finding for finding in findings if finding.line == 3]
    assert (finding.severity, finding.field, finding.check) == ("error", name, check) and seen in finding.found and expected in finding.expected
    assert [(one.field, one.found) for one in last] == [("lang", "'xx'")]


def test_an_unanswerable_question_has_no_qrels(tmp_path):
    rows = [question("u1", "dev", "Who invented the tent?", qrels={}), question("u2", "test", "How heavy is a carpet?")]
    [finding] = check_questions(tmp_path, "unanswerable", *rows)
    assert (finding.line, finding.field, finding.found) == (2, "qrels", "en-QA.1") and "nothing in the corpus" in finding.expected


def test_a_freely_asked_question_needs_no_topic_and_may_have_no_answer(tmp_path):
    rows = [question("f1", "dev", "Who invented the tent?", qrels={}), question("f2", "test", "How heavy is a carpet?"), question("f3", "dev", "Why so?", qrels={"x": 1})]
    for row in rows:
        del row["topic"]
    [unknown] = check_questions(tmp_path, "free", *rows)
    assert (unknown.line, unknown.field) == (3, "qrels") and "does not hold" in unknown.found


def test_a_file_without_a_test_half_is_an_error(tmp_path):
    [finding] = check_questions(tmp_path, "temporal", GOOD_DEV)
    assert (finding.severity, finding.line, finding.found) == ("error", 0, "0% of the questions are test")


@pytest.mark.parametrize("suite", ["cross_lingual", "paraphrase", "temporal", "unanswerable"])
@pytest.mark.parametrize("text", ["What do families take along to the desert?", "What do the families take along to the desert"])
def test_a_question_that_the_index_holds_leaks(tmp_path, suite, text):
    qrels = {} if suite == "unanswerable" else {"en-QA.1": 1}
    rows = [one | {"qrels": qrels, "answer_en": "In winter"} for one in (GOOD_DEV, GOOD_TEST, question("l", "dev", text))]
    [finding] = check_questions(tmp_path, suite, *rows)
    assert (finding.severity, finding.line, finding.field, finding.check) == ("error", 3, "question", "leak")
    assert "like 'en-QA.1' at" in finding.found and "unlike every indexed one" in finding.expected


def test_a_generated_question_of_the_corpus_leaks_too(tmp_path):
    corpus = jsonl(tmp_path / "corpus.jsonl", row(queries=[{"lang": "en", "text": GOOD_DEV["question"]}]))
    (tmp_path / "evaluation").mkdir()
    jsonl(tmp_path / "evaluation/temporal.jsonl", GOOD_DEV, GOOD_TEST)
    [finding] = check_corpus([corpus], tmp_path / "evaluation").errors
    assert finding.check == "leak"


def test_an_evaluation_folder_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(CorpusError, match="is no folder"):
        check_corpus([jsonl(tmp_path / "corpus.jsonl", row())], tmp_path / "none")


# Report and command


def test_the_table_names_place_field_found_and_expected_and_keeps_its_columns(tmp_path):
    table = check(tmp_path, row(topic="a|b")).as_table()
    [line] = [line for line in table.splitlines() if line.startswith("| error")]
    assert f"{tmp_path / 'corpus.jsonl'}:1 | topic | schema | 'a\\|b' | one of animal" in line
    assert table.endswith("1 errors, 0 warnings in 0 corpus rows (none).")


def test_the_table_lists_sixty_findings_of_one_kind_and_counts_the_rest(tmp_path):
    report = check(tmp_path, *(row("hi-IN", str(number), question=f"ल{'ा' * number}ल क्या है और क्यों है?  ") for number in range(70)))
    assert len(found(report, "spaces")) == 70
    assert report.as_table().count("| spaces |") == 60 and "10 more of warning 'spaces'" in report.as_table()


def test_a_hidden_character_is_shown_by_its_code_point(tmp_path):
    report = check(tmp_path, row(answer="Families \u202e\u202ego there in winter and stay for days."))
    assert "\u202e" not in report.as_table() and "U+202E" in report.as_table()


def test_the_command_prints_json_and_exits_1_on_errors_and_0_on_warnings(tmp_path, capsys):
    bad, good = jsonl(tmp_path / "bad.jsonl", row(lang="xx")), jsonl(tmp_path / "good.jsonl", row())
    assert main(["check", "--corpus", str(bad), "--json"]) == 1
    [error] = json.loads(capsys.readouterr().out)["errors"]
    assert error == {"severity": "error", "file": str(bad), "line": 1, "field": "lang", "found": "'xx'", "expected": "one of ar, as, bn, en, hi, ne, tr", "check": "schema"}  # fmt: skip
    assert main(["check", "--corpus", str(good)]) == 0
    assert "| tradition | 1 | 1 |" in capsys.readouterr().out
