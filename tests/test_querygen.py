"""Query generation with a tiny real model of each family: random weights, transformers' files, CTranslate2's own converters."""

import json
import lzma
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import ctranslate2
import pytest
import sentencepiece
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from index_builder.__main__ import main
from index_builder.evaluate.runs import find_runs, read_run
from index_builder.queries import QueriesError, corpus_digest, read_queries
from index_builder.querygen.convert import convert
from index_builder.querygen.families import Family, QueryModelError, read_family, write_family
from index_builder.querygen.generate import generate_queries
from index_builder.querygen.model import Decoding, Request, Written, open_seq2seq
from index_builder.querygen.writers import Job, LlamaWriter, Seq2SeqWriter, questions_of, spread, windows
from index_builder.read import row_of
from index_builder.train.seq2seq_measure import measure
from index_builder.vocabulary import LANGUAGES, GeneratedQuery
from tests.conftest import ROOT, small_corpus
from tests.texts import any_text
from tests.tiny_gguf import SENTENCES, tiny_llama, write_gguf

PROMPT = "Generate a {language} question for this passage: {title} {text}"
ENTRIES = small_corpus()
SMALL = {"d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
         "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "init_std": 0.3}  # fmt: skip


def vocabulary(path, **marks):
    with path.open("wb") as writer:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(SENTENCES * 4), model_writer=writer, model_type="unigram", vocab_size=500, character_coverage=1.0,
            hard_vocab_limit=False, num_threads=1, minloglevel=2, **marks,
        )  # fmt: skip
    return sentencepiece.SentencePieceProcessor(model_file=str(path))


def pieces(words):
    return [words.id_to_piece(number) for number in range(words.vocab_size())]


def hub_model(kind, folder):
    """(model, its pieces by id) as transformers would save it, in `folder`."""
    torch.manual_seed(7)
    folder.mkdir()
    if kind == "t5":
        words = vocabulary(folder / "spiece.model", pad_id=0, eos_id=1, unk_id=2, bos_id=-1, byte_fallback=True)
        names = pieces(words) + [f"<extra_id_{n}>" for n in range(100)]
        config = transformers.MT5Config(
            vocab_size=len(names), d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, initializer_factor=3.0
        )
        model = transformers.MT5ForConditionalGeneration(config)
    elif kind == "marian":
        words = vocabulary(folder / "source.spm", eos_id=0, unk_id=1, bos_id=-1, pad_id=-1)
        shutil.copy(folder / "source.spm", folder / "target.spm")
        names = [*pieces(words), ">>hin<<", "<pad>"]
        pad = len(names) - 1
        config = transformers.MarianConfig(
            vocab_size=len(names), pad_token_id=pad, eos_token_id=0, decoder_start_token_id=pad, forced_eos_token_id=None, **SMALL
        )
        model = transformers.MarianMTModel(config)
    else:
        from transformers.models.m2m_100.tokenization_m2m_100 import FAIRSEQ_LANGUAGE_CODES as m2m100
        from transformers.models.nllb.tokenization_nllb import FAIRSEQ_LANGUAGE_CODES as nllb

        if kind == "m2m100":
            words = vocabulary(folder / "sentencepiece.bpe.model", bos_id=0, pad_id=1, eos_id=2, unk_id=3)
            names = [*pieces(words), *(f"__{code}__" for code in m2m100["m2m100"]), *(f"madeupword{n}" for n in range(8))]
        else:
            words = vocabulary(folder / "sentencepiece.bpe.model")
            names = ["<s>", "<pad>", "</s>", "<unk>", *pieces(words)[3:], *nllb, "<mask>", "madeupword0", "madeupword1"]
        model = transformers.M2M100ForConditionalGeneration(transformers.M2M100Config(vocab_size=len(names), **SMALL))
    model.eval().save_pretrained(folder)
    if kind in ("marian", "m2m100"):
        known = names[: words.vocab_size()] if kind == "m2m100" else names
        (folder / "vocab.json").write_text(json.dumps({piece: n for n, piece in enumerate(known)}), encoding="utf-8")
    tokenizers = {"t5": "T5Tokenizer", "marian": "MarianTokenizer", "m2m100": "M2M100Tokenizer", "nllb": "NllbTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": tokenizers[kind]}), encoding="utf-8")
    return model, names


ASKED = {"t5": {"prompt": PROMPT, "languages": ("ar", "bn")}, "marian": {"languages": ("en", "hi")}, "m2m100": {}, "nllb": {}}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """{family: (transformers model, pieces, folder of its hub files, converted folder in float32)}"""
    root, out = tmp_path_factory.mktemp("families"), {}
    for kind, asked in ASKED.items():
        model, names = hub_model(kind, root / kind)
        convert(root / kind, root / f"{kind}.ct2", f"tiny/{kind}", quantization="float32", **asked)
        out[kind] = model, names, root / kind, root / f"{kind}.ct2"
    return out


# Conversion


@pytest.mark.parametrize(
    "kind, request_, before",
    [
        ("t5", Request("ask", "en", "bn", "The metro in Doha.", "Doha"), "▁"),
        ("m2m100", Request("translate", "en", "hi", "Men in Qatar wear a ghutra."), "__en__"),
        ("nllb", Request("translate", "bn", "as", "পহেলা বৈশাখে অনেকে পান্তা ভাত খান।"), "ben_Beng"),
        ("marian", Request("translate", "en", "hi", "Men in Qatar wear a ghutra."), ">>hin<<"),
    ],
)  # fmt: skip
def test_greedy_tokens_are_those_of_transformers(models, kind, request_, before):
    model, names, _, folder = models[kind]
    converted = open_seq2seq(folder, compute_type="float32")
    source = converted.source_tokens(request_)
    assert source[0].startswith(before) and source[-1] == "</s>"
    prefix = converted.family.tokens(request_.task, request_.source, request_.target)[2]
    forced = {"forced_bos_token_id": names.index(prefix[0])} if prefix else {}
    ids = torch.tensor([[names.index(token) for token in source]])
    theirs = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=24, do_sample=False, num_beams=1, **forced)[0].tolist()
    raw = ctranslate2.Translator(str(folder), compute_type="float32").translate_batch(
        [source], target_prefix=[prefix] if prefix else None, beam_size=1, max_decoding_length=24, max_input_length=0, return_scores=True
    )
    ours = [names.index(token) for token in raw[0].hypotheses[0]]
    assert len(ours) > 2 and ours == [token for token in theirs[1:] if token != model.config.eos_token_id][: len(ours)]
    written = converted.write([request_], Decoding(most_tokens=24))[0]
    text = converted._target_words.decode([token for token in raw[0].hypotheses[0][len(prefix) :]])
    assert [found.text for found in written] == [" ".join(text.split())]
    assert written[0].score == pytest.approx(raw[0].scores[0])


def test_our_pieces_are_those_of_the_tokenizers_of_transformers(models):
    for kind in ("m2m100", "marian"):  # the others need protobuf to read a SentencePiece file
        _, names, hub, folder = models[kind]
        theirs = (
            transformers.AutoTokenizer.from_pretrained(hub, source_lang="en", target_lang="hi")
            if kind == "marian"
            else transformers.AutoTokenizer.from_pretrained(hub, src_lang="en")
        )
        for sentence in ("Men in Qatar wear a ghutra.", "Aşure ne zaman pişirilir?"):
            ours = open_seq2seq(folder).source_tokens(Request("translate", "en", "hi", sentence))
            assert [names.index(token) if token in names else theirs.unk_token_id for token in ours if token != ">>hin<<"] == theirs(
                sentence
            ).input_ids


def test_the_converted_folder_says_what_the_model_can(models):
    assert {kind: (read_family(found[3]).tasks, tuple(read_family(found[3]).languages)) for kind, found in models.items()} == {
        "t5": (("ask",), ("ar", "bn")),
        "marian": (("translate",), ("hi",)),
        "m2m100": (("translate",), ("ar", "bn", "en", "hi", "ne", "tr")),
        "nllb": (("translate",), LANGUAGES),
    }


def test_a_t5_without_a_prompt_asks_in_the_language_of_the_passage(models, tmp_path):
    family = convert(models["t5"][2], tmp_path / "out", "doc2query", ("ar", "en", "hi"))
    assert family.can("ask", "ar", "ar") and not family.can("ask", "ar", "en") and not family.can("ask", "bn", "bn")
    assert family.text("ar", "T", "passage") == "T. passage"


def test_the_prompt_names_the_language_in_english(models):
    family = read_family(models["t5"][3])
    assert family.text("bn", "Doha", "The metro.") == "Generate a Bengali question for this passage: Doha The metro."


def test_int8_is_a_quarter_of_float32(models, tmp_path):
    convert(models["m2m100"][2], tmp_path / "int8", "tiny")
    sizes = [(folder / "model.bin").stat().st_size for folder in (tmp_path / "int8", models["m2m100"][3])]
    assert sizes[0] < sizes[1]  # positions stay float32, and are most of a model this small
    assert open_seq2seq(tmp_path / "int8").translate(["Men in Qatar"], "en", "hi") != [""]


def test_a_family_that_is_not_known_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}', encoding="utf-8")
    with pytest.raises(QueryModelError, match="of the family 'bert'; known are t5, mt5, m2m_100"):
        convert(tmp_path, tmp_path / "out", "x")
    with pytest.raises(QueryModelError, match=r"config\.json cannot be read"):
        convert(tmp_path / "nothing", tmp_path / "out", "x")


def test_a_hub_folder_without_vocabulary_is_refused(models, tmp_path):
    shutil.copytree(models["t5"][2], tmp_path / "t5", ignore=shutil.ignore_patterns("spiece.model"))
    with pytest.raises(QueryModelError, match=r"has no vocabulary spiece\.model"):
        convert(tmp_path / "t5", tmp_path / "out", "x")


def test_a_broken_download_leaves_no_folder(models, tmp_path):
    shutil.copytree(models["m2m100"][2], tmp_path / "hub")
    weights = tmp_path / "hub/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(QueryModelError, match="could not be converted"):
        convert(tmp_path / "hub", tmp_path / "out", "x")
    assert [path.name for path in tmp_path.iterdir()] == ["hub"]


def test_a_folder_with_other_things_is_not_written_over(models, tmp_path):
    (tmp_path / "letter.txt").write_text("keep me", encoding="utf-8")
    with pytest.raises(QueryModelError, match="is not empty and holds no converted model"):
        convert(models["t5"][2], tmp_path, "x")


def test_a_marian_model_must_be_told_its_languages(models, tmp_path):
    with pytest.raises(QueryModelError, match="--langs en hi"):
        convert(models["marian"][2], tmp_path / "out", "x")


def test_a_prompt_needs_a_place_for_the_passage(models, tmp_path):
    with pytest.raises(QueryModelError, match="has no place for the passage"):
        convert(models["t5"][2], tmp_path / "out", "x", prompt="Ask!")


# Opening


def copied(models, kind, tmp_path, *without):
    shutil.copytree(models[kind][3], tmp_path / "model", ignore=shutil.ignore_patterns(*without))
    return tmp_path / "model"


@pytest.mark.parametrize(
    "without, complaint",
    [("model.bin", "holds no model in CTranslate2 format"), ("family.json", "does not say of which family"), ("*.bpe.model", r"has no vocabulary sentencepiece\.bpe\.model"),
     ("shared_vocabulary.json", "cannot be opened")],
)  # fmt: skip
def test_an_incomplete_folder_is_refused_with_what_is_missing(models, tmp_path, without, complaint):
    with pytest.raises(QueryModelError, match=complaint):
        open_seq2seq(copied(models, "m2m100", tmp_path, without))


def test_an_unknown_family_and_a_damaged_family_file_are_refused(models, tmp_path):
    folder = copied(models, "m2m100", tmp_path)
    write_family(folder, replace(read_family(folder), family="gpt"))
    with pytest.raises(QueryModelError, match="family 'gpt' is not known; known are majlis, t5"):
        open_seq2seq(folder)
    for text in ("{", "[]", '{"schema": 2}', '{"schema": 1, "tasks": [], "sources": []}'):
        (folder / "family.json").write_text(text, encoding="utf-8")
        with pytest.raises(QueryModelError, match=r"family\.json cannot be read"):
            open_seq2seq(folder)


@pytest.mark.parametrize(
    "kind, request_, complaint",
    [
        ("m2m100", Request("translate", "en", "as", "x"), r"writes ar, bn, en, hi, ne, tr, not as\. Leave as out of --langs"),
        ("m2m100", Request("translate", "as", "en", "x"), "reads ar, bn, en, hi, ne, tr, not as"),
        ("m2m100", Request("ask", "en", "hi", "x"), "can translate, not ask"),
        ("t5", Request("ask", "en", "tr", "x"), "writes ar, bn, not tr"),
        ("nllb", Request("translate", "en", "en", "x"), "needs no translation"),
    ],
)
def test_what_a_model_cannot_do_is_refused(models, kind, request_, complaint):
    with pytest.raises(QueryModelError, match=complaint):
        open_seq2seq(models[kind][3]).write([request_], Decoding())


# Measuring


def test_a_hub_translator_is_measured_in_the_directions_that_it_has(models, tmp_path):
    folder = copied(models, "m2m100", tmp_path)
    (tmp_path / "dev").mkdir()
    for lang in LANGUAGES:
        (tmp_path / f"dev/flores.{lang}.txt.xz").write_bytes(lzma.compress(b"Doha\nmetro\n"))
    chrf, untranslated = measure(folder, tmp_path, ENTRIES, tmp_path / "runs", sentences=2)
    assert len(json.loads((folder / "directions.json").read_text(encoding="utf-8"))["chrf"]) == 6 * 5
    assert all(
        (cell is None) == ("as" in (row[0], lang) or row[0] == lang)
        for row in chrf.rows
        for lang, cell in zip(LANGUAGES, row[1:], strict=True)
    )
    assert untranslated.rows[0][2] == 100.0  # the same words in every language
    (kept,) = find_runs([tmp_path / "runs"])
    assert read_run(kept).title == "Translation and questions by tiny/m2m100"


# Writing


@pytest.fixture(scope="module")
def nllb(models):
    return open_seq2seq(models["nllb"][3], compute_type="float32")


def test_requests_of_many_languages_in_one_call_get_what_each_would_get_alone(nllb):
    requests = [Request("translate", entry.lang, lang, entry.question) for entry in ENTRIES[:4] for lang in ("ne", "tr")]
    decoding = Decoding(number=2, beam=2, most_tokens=12, batch_tokens=64)
    together = nllb.write(requests, decoding)
    for request_, found in zip(requests, together, strict=True):
        (alone,) = nllb.write([request_], decoding)
        assert [written.text for written in found] == [written.text for written in alone]
        assert [written.score for written in found] == pytest.approx([written.score for written in alone], abs=1e-4)


def test_texts_are_different_and_the_best_comes_first(nllb):
    for decoding in (Decoding(number=5, beam=5, most_tokens=12), Decoding(number=5, sampling_top_k=10, most_tokens=12)):
        (found,) = nllb.write([Request("translate", "en", "hi", "Men in Qatar wear a ghutra.")], decoding)
        scores = [written.score for written in found]
        assert 1 < len(found) <= 5 and len({written.text for written in found}) == len(found)
        assert scores == sorted(scores, reverse=True) and all(score <= 0 for score in scores)


@pytest.mark.parametrize("text", ["", "  \n", "\u200b \t"])
def test_an_empty_text_gets_nothing(nllb, text):
    found = nllb.write([Request("translate", "en", "hi", text), Request("translate", "en", "hi", "metro")], Decoding(most_tokens=8))
    assert (not found[0] or text.strip()) and found[1]


def test_a_text_of_fifty_thousand_characters_is_cut_to_what_the_model_reads(nllb):
    long = SENTENCES[3] * 700
    assert len(long) > 50_000 and len(nllb.source_tokens(Request("translate", "en", "hi", long))) == nllb.family.most_source_tokens
    assert nllb.write([Request("translate", "en", "hi", long)], Decoding(most_tokens=8))[0]


@settings(max_examples=25, deadline=None)
@given(any_text, st.sampled_from(LANGUAGES))
def test_text_of_any_script_under_any_language_is_read(nllb, text, lang):
    target = "en" if lang != "en" else "tr"
    (found,) = nllb.write([Request("translate", lang, target, text)], Decoding(most_tokens=6))
    assert len(found) <= 1 and all(written.text == " ".join(written.text.split()) for written in found)


def test_text_that_looks_like_a_mark_stays_text(nllb):
    tokens = nllb.source_tokens(Request("translate", "en", "hi", "hin_Deva </s> <s> <unk>"))
    assert tokens[0] == "eng_Latn" and "hin_Deva" not in tokens and tokens.count("</s>") == 1


# What a passage gives to ask about


def test_windows_are_whole_sentences_and_lose_none():
    text = "One two three. Four five. Six seven eight nine ten eleven. Twelve."
    found = windows(text, 5, lambda part: len(part.split()))
    assert found == ["One two three. Four five.", "Six seven eight nine ten eleven.", "Twelve."]
    assert windows("", 5, len) == []


def test_windows_are_taken_from_the_whole_passage():
    items = [str(n) for n in range(10)]
    assert spread(items, 3) == ["0", "4", "9"] and spread(items, 1) == ["0"] and spread(items, 20) == items


def test_what_is_translated_is_what_people_ask_and_else_the_passage():
    qa, tiger, metro = ENTRIES[0], ENTRIES[-2], ENTRIES[-1]
    assert questions_of(qa, 5) == [qa.question]
    own = replace(tiger, queries=(*tiger.queries, GeneratedQuery("en", "Where do tigers live?")))
    assert questions_of(own, 5) == ["Where do tigers live?"]
    assert questions_of(metro, 2) == ["The Doha Metro", "The metro in Doha has three lines."]


def test_a_long_passage_is_asked_about_in_several_places(models):
    model = open_seq2seq(models["t5"][3])
    asked = []
    write = model.write
    model.write = lambda requests, decoding: (asked.extend((r.text, decoding.number) for r in requests), write(requests, decoding))[1]
    writer = Seq2SeqWriter(model, "ask", Decoding(sampling_top_k=10, most_tokens=8))
    entry = replace(ENTRIES[-1], text=" ".join(f"Sentence number {n} about the metro of Doha is here." for n in range(400)))
    (found,) = writer.write([Job(entry, "ar")], 4)
    assert len(asked) == 4 and all(number == 1 for _, number in asked)
    assert asked[0][0].startswith("Sentence number 0 ") and "number 399" in asked[-1][0]
    assert len(found) <= 4
    asked.clear()
    writer.write([Job(ENTRIES[-1], "ar"), Job(replace(entry, entry_id="empty", text=""), "ar")], 4)
    assert asked == [(ENTRIES[-1].text, 4)]


def test_a_llama_is_asked_for_questions_one_a_line():
    seen = []

    def complete(prompt, most):
        seen.append((prompt, most))
        return "1. মেট্রো কোথায়?\n\n২. কয়টি লাইন?\n- মেট্রো কোথায়?\n"

    (found,) = LlamaWriter("llama", complete).write([Job(ENTRIES[-1], "bn")], 2)
    assert found == [Written("মেট্রো কোথায়?", 0.0), Written("কয়টি লাইন?", -1.0)]
    assert "2 short questions in Bengali" in seen[0][0] and ENTRIES[-1].text in seen[0][0] and seen[0][1] == 128


# The file


def test_every_entry_gets_its_queries_in_every_language_with_the_model_and_the_settings(nllb, tmp_path):
    out, said = tmp_path / "q.jsonl.xz", []
    writer = Seq2SeqWriter(nllb, "translate", Decoding(beam=2, most_tokens=8))
    count = generate_queries(lambda: ENTRIES, writer, ("ar", "tr"), 2, out, say=said.append)
    header, rows = read_queries(out)
    rows = list(rows)
    assert count == len(rows) and header.corpus_sha256 == corpus_digest(ENTRIES) and header.model == "tiny/nllb"
    assert header.settings["per_language"] == 2 and header.settings["task"] == "translate" and len(header.settings["model_sha256"]) == 64
    served = {(entry_id, query.lang) for entry_id, query in rows}
    assert served == {(entry.entry_id, lang) for entry in ENTRIES for lang in ("ar", "tr") if entry.lang != lang}
    assert "9/9 entries" in said[-1] and "min left" in said[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["q.jsonl.xz"]


class Counting:
    """Writes two queries for each job, and fails or stops where it is told to."""

    name, entries_at_a_time = "counting", 2

    def __init__(self, fail_at=None, error=KeyboardInterrupt):
        self.calls, self.fail_at, self.error = 0, fail_at, error

    def settings(self):
        return {"seed": 1}

    def can_write(self, lang):
        pass

    def write(self, jobs, number):
        self.calls += 1
        if self.calls == self.fail_at:
            raise self.error
        return [[Written(f"{job.entry.entry_id} {job.lang} {n}", -n / 2) for n in range(number)] for job in jobs]


def lines(path):
    return path.read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("fail_at", [1, 2, 4])
def test_a_stopped_run_goes_on_without_a_row_lost_or_twice(tmp_path, fail_at):
    whole = tmp_path / "whole.jsonl"
    generate_queries(lambda: ENTRIES, Counting(), ("ar", "tr"), 2, whole, say=lambda _: None)
    out = tmp_path / "q.jsonl"
    with pytest.raises(KeyboardInterrupt):
        generate_queries(lambda: ENTRIES, Counting(fail_at), ("ar", "tr"), 2, out, say=lambda _: None)
    assert not out.exists()
    partial = tmp_path / "q.jsonl.partial"
    with partial.open("ab") as file:
        file.write(b'{"id": "half a li')  # written, but not yet counted when the power went
    second = Counting()
    count = generate_queries(lambda: ENTRIES, second, ("ar", "tr"), 2, out, resume=True, say=lambda _: None)
    assert lines(out) == lines(whole) and count == 9 * 2 * 2
    assert second.calls == 5 - (fail_at - 1)  # nothing that was finished is written again
    assert sorted(path.name for path in tmp_path.iterdir()) == ["q.jsonl", "whole.jsonl"]


def test_a_killed_process_goes_on_without_a_row_lost_or_twice(models, tmp_path):
    corpus = tmp_path / "corpus.jsonl"
    entries = [replace(entry, entry_id=f"{entry.entry_id}.{n}") for n in range(60) for entry in ENTRIES]
    corpus.write_text("".join(json.dumps(row_of(entry)) + "\n" for entry in entries), encoding="utf-8")
    arguments = ["generate-queries", "--corpus", str(corpus), "--model", str(models["nllb"][3]), "--langs", "ar,tr", "--per-language", "1",
                 "--sampling-top-k", "0", "--out", str(tmp_path / "q.jsonl"), "--threads", "1"]  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "index_builder", *arguments], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    done = tmp_path / "q.jsonl.partial.done"
    while not done.exists() and process.poll() is None:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL and not (tmp_path / "q.jsonl").exists()
    assert 0 < json.loads(done.read_text(encoding="utf-8"))["entries"] < len(entries)
    assert main([*arguments, "--resume"]) == 0
    found = [(row["id"], row["lang"]) for row in map(json.loads, lines(tmp_path / "q.jsonl")[1:])]
    assert sorted(found) == sorted((entry.entry_id, lang) for entry in entries for lang in ("ar", "tr") if entry.lang != lang)


def test_without_resume_a_run_begins_again_and_a_whole_file_is_left_alone_with_it(tmp_path):
    out = tmp_path / "q.jsonl"
    with pytest.raises(KeyboardInterrupt):
        generate_queries(lambda: ENTRIES, Counting(3), ("tr",), 1, out, say=lambda _: None)
    again = Counting()
    generate_queries(lambda: ENTRIES, again, ("tr",), 1, out, say=lambda _: None)
    assert again.calls == 5 and len(lines(out)) == 1 + 9
    third, said = Counting(), []
    assert generate_queries(lambda: ENTRIES, third, ("tr",), 1, out, resume=True, say=said.append) == 9
    assert third.calls == 0 and said == [f"{out} is whole"]


@pytest.mark.parametrize("change", ["corpus", "settings"])
def test_a_run_begun_otherwise_is_not_gone_on_with(tmp_path, change):
    out = tmp_path / "q.jsonl"
    with pytest.raises(KeyboardInterrupt):
        generate_queries(lambda: ENTRIES, Counting(3), ("tr",), 1, out, say=lambda _: None)
    entries, number = (ENTRIES[:-1], 1) if change == "corpus" else (ENTRIES, 2)
    with pytest.raises(QueriesError, match="begun for another corpus, model or settings.*without --resume"):
        generate_queries(lambda: entries, Counting(), ("tr",), number, out, resume=True, say=lambda _: None)


def test_a_full_disk_says_that_the_run_can_go_on(tmp_path):
    out = tmp_path / "q.jsonl"
    with pytest.raises(QueriesError, match="No space left.*--resume"):
        generate_queries(lambda: ENTRIES, Counting(3, OSError(28, "No space left on device")), ("tr",), 1, out, say=lambda _: None)
    generate_queries(lambda: ENTRIES, Counting(), ("tr",), 1, out, resume=True, say=lambda _: None)
    assert len(lines(out)) == 1 + 9


def test_an_empty_corpus_is_refused(tmp_path):
    with pytest.raises(QueriesError, match="nothing to ask about"):
        generate_queries(lambda: [], Counting(), ("tr",), 1, tmp_path / "q.jsonl", say=lambda _: None)


# Commands


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "corpus.jsonl"
    path.write_text("".join(json.dumps(row_of(entry)) + "\n" for entry in ENTRIES), encoding="utf-8")
    return path


def test_convert_and_generate_from_the_command_line(models, corpus, tmp_path, capsys):
    assert (
        main(["convert", "--hub-folder", str(models["t5"][2]), "--out", str(tmp_path / "t5"), "--prompt", PROMPT, "--langs", "ar", "bn"])
        == 0
    )
    assert "t5, ask, writes ar, bn" in capsys.readouterr().out
    out = tmp_path / "q.jsonl"
    arguments = [
        "generate-queries",
        "--corpus",
        str(corpus),
        "--model",
        str(tmp_path / "t5"),
        "--langs",
        "ar,bn",
        "--per-language",
        "2",
        "--out",
        str(out),
    ]
    assert main(arguments) == 0
    printed = capsys.readouterr()
    assert "queries" in printed.out and "9/9 entries" in printed.err
    assert {query.lang for _, query in read_queries(out)[1]} == {"ar", "bn"}


@pytest.mark.parametrize(
    "change, complaint",
    [(["--langs", "ar,tr"], "writes ar, bn, not tr. Leave tr out of --langs"), (["--task", "translate"], "can ask, not translate"),
     (["--per-language", "0"], "--per-language is 0, expected 1 or more"), (["--model", "no-such-model"], "no-such-model"),
     (["--corpus", "nowhere.jsonl"], "nowhere.jsonl is not there"), (["--queries", "none.jsonl"], "none.jsonl is not there")],
)  # fmt: skip
def test_what_cannot_be_done_is_said_before_anything_is_written(models, corpus, tmp_path, capsys, change, complaint):
    arguments = [
        "generate-queries",
        "--corpus",
        str(corpus),
        "--model",
        str(models["t5"][3]),
        "--langs",
        "ar,bn",
        "--out",
        str(tmp_path / "q.jsonl"),
    ]
    assert main([*arguments, *change]) == 1
    assert complaint in capsys.readouterr().err and [path.name for path in tmp_path.iterdir()] == ["corpus.jsonl"]


def test_a_hub_model_that_was_not_fetched_names_the_command_and_the_licence(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("MAJLIS_MODELS", str(tmp_path))
    assert main(["convert", "nllb-200-distilled-600m", "--out", str(tmp_path / "out")]) == 1
    complaint = capsys.readouterr().err
    assert "python -m demo models fetch nllb-200-distilled-600m" in complaint and "CC BY-NC 4.0" in complaint


def test_a_language_that_is_not_known_is_refused(corpus, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["generate-queries", "--corpus", str(corpus), "--langs", "ar,fr", "--out", str(tmp_path / "q.jsonl")])
    assert "fr given, expected some of ar,as,bn,en,hi,ne,tr" in capsys.readouterr().err


def test_a_real_llama_writes_queries_through_the_generator_of_the_app(corpus, tmp_path):
    model = write_gguf(tiny_llama(width=32, layers=1, context=1024), tmp_path / "tiny.gguf")
    few = tmp_path / "few.jsonl"
    few.write_text(lines(corpus)[3] + "\n", encoding="utf-8")
    out = tmp_path / "q.jsonl"
    assert (
        main(["generate-queries", "--corpus", str(few), "--model", str(model), "--langs", "en", "--per-language", "1", "--out", str(out)])
        == 0
    )
    header, rows = read_queries(out)
    assert header.model == "tiny" and all(query.lang == "en" and query.text for _, query in rows)


def test_a_translator_needs_a_translating_model_not_a_llama(corpus, tmp_path, capsys):
    assert (
        main(["generate-queries", "--corpus", str(corpus), "--model", "x.gguf", "--task", "translate", "--out", str(tmp_path / "q.jsonl")])
        == 1
    )
    assert "needs a model in CTranslate2 format" in capsys.readouterr().err


def test_families_are_read_as_they_were_written(models, tmp_path):
    family = Family("majlis", "m", {"as": "<2as>"}, ("ask", "translate"), "v.model", "v.model", most_source_tokens=96)
    (tmp_path / "model.bin").touch()
    (tmp_path / "v.model").touch()
    write_family(tmp_path, family)
    assert read_family(tmp_path) == family
