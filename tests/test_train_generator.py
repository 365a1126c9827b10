"""The nano Llama from rows to GGUF on toy data: what the rows hold, what the circuit can do before any training, a few steps, a kill, a resume; and a LoRA."""

import json
import lzma
import random

import llama_cpp
import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from demo.languages import strings
from demo.prompt import build_messages
from demo.quote import candidates
from index_builder.text import sentences
from index_builder.train import generator, generator_fit
from index_builder.train.generator import Config, Nano, save, train
from index_builder.train.generator_circuit import build_model, nano_config
from index_builder.train.generator_lora import Config as LoraConfig
from index_builder.train.generator_lora import train_and_save_lora
from index_builder.train.generator_match import Matcher, fit_matcher, share_right
from index_builder.train.generator_rows import RowMaker, asks_of_corpus, asks_of_qa, asks_of_sentences, is_held_out, retrieved
from index_builder.train.generator_vocabulary import load_vocabulary, piece_meanings, special_tokens, train_vocabulary
from index_builder.train.settings import read_toml
from index_builder.vocabulary import LANGUAGES, Entry, Evidence, GeneratedQuery, Hit, MajlisError
from tests.conftest import ROOT, small_corpus
from tests.tiny_gguf import SENTENCES

ENCODER = ROOT / "assets/models/encoder"
THINGS = [
    "salt",
    "rice",
    "honey",
    "silk",
    "copper",
    "paper",
    "wool",
    "tea",
    "fish",
    "wood",
    "glass",
    "bread",
    "cotton",
    "soap",
    "milk",
    "gold",
]
PLACES = [
    "Doha",
    "Dhaka",
    "Kathmandu",
    "Guwahati",
    "Ankara",
    "Delhi",
    "Kolkata",
    "Muscat",
    "Izmir",
    "Lhasa",
    "Patna",
    "Sylhet",
    "Konya",
    "Jorhat",
    "Pokhara",
    "Agra",
]


def xz(path, *rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(lzma.compress("".join(row + "\n" for row in rows).encode()))


def market(number: int) -> Entry:
    """A pair about one thing in one place, both of which only it names."""
    thing, place = THINGS[number % 16], PLACES[number // 16 % 16]
    text = f"{thing.title()} comes to {place} by boat. The price of {thing} is called out at noon."
    return Entry(f"en-QA.market.{number:02}", "qa", "en", text, question=f"How does {thing} reach {place}?", locale="en-QA", topic="food_drinks",
                 source="written for Majlis", queries=(GeneratedQuery("en", f"{place} {thing} transport?", 0.9, "hand"),))  # fmt: skip


@pytest.fixture(scope="module")
def corpus():
    return [*(market(number) for number in range(0, 160, 3)), *small_corpus()]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    questions = [
        {"lang": "en", "question": f"Who sells {thing}?", "answer": "Rahim", "passage": f"It is hot. Rahim sells {thing}. He is old.", "title": f"Market of {thing}",
         "source": "toy-qa", "licence": "CC0"}
        for thing in THINGS
    ]  # fmt: skip
    xz(folder / "qa/qa.jsonl.xz", *map(json.dumps, [*questions, questions[0] | {"answer": "is in no sentence"}]))
    mkqa = {
        lang: {"question": question, "answers": ["1971"]}
        for lang, question in (("en", "When was it?"), ("ar", "متى كان ذلك؟"), ("tr", "Ne zamandı?"))
    }
    xz(folder / "qa/mkqa_dev.jsonl.xz", *(json.dumps(mkqa | {"id": f"{number}", "licence": "CC BY 3.0"}) for number in range(6)))
    for lang, sentence in zip(LANGUAGES, SENTENCES, strict=True):
        rows = [
            f"The {thing} of the market is {number} years old.\t{sentence} {number}\ttoy:{number}\tCC0"
            for number, thing in enumerate(THINGS)
        ]
        if lang != "en":
            xz(folder / f"parallel/en-{lang}.tsv.xz", *rows)
        xz(folder / f"text/{lang}.common_voice.txt.xz", *(f"{sentence} {number} {thing} {number}" for number, thing in enumerate(THINGS)))
    return folder


@pytest.fixture(scope="module")
def words(tmp_path_factory, corpus):
    path = tmp_path_factory.mktemp("words") / "words.model"
    place_and_topic = "(Qatar and the Gulf, Food and drinks)"
    texts = [text for entry in corpus for text in (entry.text, entry.question, place_and_topic)] * 3 + [string for lang in LANGUAGES for string in (
        strings(lang)["unknown"], strings(lang)["prompt_question"], strings(lang)["prompt_evidence"])]  # fmt: skip
    path.write_bytes(train_vocabulary(texts, 1_200))
    return load_vocabulary(path)


@pytest.fixture(scope="module")
def maker(corpus, encoder, words):
    asks = asks_of_corpus(corpus)
    return RowMaker(asks, encoder, lambda text: len(words.encode(text)), 2048, 0), asks


# rows


def test_a_row_is_what_the_app_would_ask_and_copy(maker, words):
    rows, asks = maker
    for number in range(0, len(asks), 4):
        row = rows.row(number, refuse=0.0, least_evidence=3)
        assert row.right and row.messages[1]["content"].endswith(f" {asks[number].question}")
        quoted = [part.rsplit(" [", 1) for part in row.target.split("] ")]
        assert [part[0] for part in quoted] == list(row.given[row.right])[: len(quoted)]
        assert {part[1].rstrip("]") for part in quoted} == {str(row.right)}
        assert row.target in candidates(row.given, strings(row.lang)["unknown"])


def test_without_its_evidence_a_row_refuses_in_the_language_asked(maker):
    rows, asks = maker
    for number in range(0, len(asks), 7):
        row = rows.row(number, refuse=1.0)
        assert (row.right, row.target) == (0, strings(asks[number].lang)["unknown"])
        assert all(asks[number].entry.text[:20] not in " ".join(texts) for texts in row.given.values())


def test_evidence_is_numbered_as_retrieval_found_it_or_at_random(maker, encoder):
    rows, asks = maker
    number = next(n for n, ask in enumerate(asks) if ask.source == "corpus queries" and not ask.held_out)
    places = {rows.pick(number, refuse=0.0, least_evidence=5, in_order=0.0).right for _ in range(40)}
    assert places == {1, 2, 3, 4, 5}
    ordered = rows.pick(number, refuse=0.0, least_evidence=5, in_order=1.0)
    near = [
        float(encoder.encode([f"{e.question} {e.title} {e.text}"], "passage")[0] @ encoder.encode([asks[number].question], "query")[0])
        for e in ordered.entries
    ]
    assert near == sorted(near, reverse=True)


def test_wrong_evidence_is_what_our_own_retrieval_finds_and_never_what_is_held_out(corpus, index, encoder):
    asks = asks_of_corpus(small_corpus())
    found = retrieved(asks, index)
    assert set(found) == set(range(len(asks)))
    rows = RowMaker(asks, encoder, len, 10_000, 0, found)
    held_out = {ask.entry.entry_id for ask in asks if ask.held_out}
    assert held_out and held_out == {entry.entry_id for entry in small_corpus() if is_held_out(entry.entry_id, 5)}
    for number, ask in enumerate(asks):
        for _ in range(5):
            picked = rows.pick(number, refuse=0.0, least_evidence=4)
            assert picked.entries[picked.right - 1].entry_id == ask.entry.entry_id
            wrong = {entry.entry_id for place, entry in enumerate(picked.entries, 1) if place != picked.right}
            assert wrong <= {entry.entry_id for entry in found[number]}
            assert ask.held_out or not wrong & held_out


def test_answers_that_stand_in_no_sentence_are_left_out(data):
    asks = asks_of_qa(data)
    assert len(asks) == len(THINGS)
    for ask in asks:
        (place,) = ask.answer
        assert "Rahim sells" in sentences(ask.entry.text)[place]


def test_every_language_asks(data):
    asks = asks_of_sentences(data, 20, 0)
    assert {ask.lang for ask in asks} == set(LANGUAGES)
    assert any(ask.lang != ask.entry.lang for ask in asks)


# the circuit


@pytest.fixture(scope="module")
def matched(maker, words):
    """A matcher that has learned which market is meant."""
    rows, asks = maker
    english = [number for number, ask in enumerate(asks) if ask.lang == "en"]
    matcher = Matcher(*piece_meanings(words, ENCODER))
    chooser = random.Random(0)
    pairs = (rows.pair(chooser.choice(english), words.encode, refuse=0.1, in_order=0.0) for _ in range(10**6))
    held_out = [rows.pair(number, words.encode, refuse=0.0, least_evidence=5, in_order=0.0) for number in english[:70]]
    before = share_right(matcher, held_out)["all"]
    after = fit_matcher(matcher, pairs, held_out, 60, 5e-3, lambda _: None, rows=16)["all"]
    return matcher, english, before, after


@pytest.fixture(scope="module")
def model(matched, maker, words):
    """The Llama before any training of its own."""
    matcher, english, *_ = matched
    special = special_tokens(words)
    sample = [Nano(words, special.end_of_turn).prompt(maker[0].row(number, least_evidence=4).messages) for number in english[:6]]
    learned = matcher.result().leaning(first=0.0, refusal=-8.0)  # this toy has an answer to every question
    return build_model(nano_config(words.vocab_size(), special), learned, special, sample).eval()


def test_the_matcher_learns_which_evidence_is_meant(matched):
    _, _, before, after = matched
    assert after >= 0.9 > before or after > before + 0.1


def test_before_training_the_llama_points_where_the_matcher_does(matched, model, maker, words):
    rows, asks = maker
    speaker = Nano(words, special_tokens(words).end_of_turn)
    # a text is known by what stands before it, its question or title
    numbers = [number for number in matched[1] if asks[number].source == "corpus queries"][:20]
    figures = generator_fit.measure(model, [rows.row(number, refuse=0.0, least_evidence=5, in_order=0.0) for number in numbers], speaker)
    assert figures["right evidence"] >= 0.7  # by chance 0.2
    assert figures["wrongly refused"] == 0.0


def test_leaning_moves_the_choice_towards_the_first_and_the_refusal(matched, maker, words):
    rows, _ = maker
    matcher, english, *_ = matched
    special = special_tokens(words)
    speaker = Nano(words, special.end_of_turn)
    given = [rows.row(number, refuse=0.0, least_evidence=5, in_order=0.0) for number in english[:20]]
    # a sentence is known by what stands before it: the question of its pair, or the title of its passage
    given = [row for row in given if "?" in next(line for line in row.messages[1]["content"].split("\n") if line.startswith("[1]"))]
    sample = [speaker.prompt(row.messages) for row in given[:4]]
    refusal = strings("en")["unknown"]
    for first, to_refusal, expected in ((30.0, -30.0, "[1]"), (0.0, 30.0, refusal)):
        model = build_model(nano_config(words.vocab_size(), special), matcher.result().leaning(first, to_refusal), special, sample).eval()
        for row in given:
            said = generator_fit.choose(model, speaker.prompt(row.messages), candidates(row.given, refusal), speaker)
            assert said.endswith(expected)


def written(model, prompt, end):
    """What the model writes after `prompt` when it is left alone."""
    ids = torch.tensor([prompt])
    out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=90, do_sample=False, eos_token_id=end, pad_token_id=0)
    return out[0, len(prompt) :].tolist()


def test_left_alone_it_writes_the_sentences_of_one_piece_each_with_its_number_and_ends(model, maker, words, matched):
    rows, asks = maker
    speaker = Nano(words, special_tokens(words).end_of_turn)
    for number in [number for number in matched[1] if asks[number].source == "corpus queries"][:12]:
        row = rows.row(number, refuse=0.0, least_evidence=4)
        *text, last = written(model, speaker.prompt(row.messages), speaker.end)
        answer = words.decode(text).strip()
        assert last == speaker.end
        assert answer in [" ".join(f"{sentence} [{n}]" for sentence in given[:2]) for n, given in row.given.items() if len(given) > 1], (
            answer
        )


def test_a_name_that_stands_in_several_places_does_not_lead_the_copy_astray(model, words):
    """In the head, twice in the sentence, in another piece and in the question: a copy that only looked at the token before would go round in circles."""
    salt = "Salt comes to Doha by boat, and salt comes to Izmir by boat, but salt comes to Lhasa on foot. Salt comes to Agra by boat."
    entries = [
        Entry("a", "qa", "en", salt, question="How does salt come to Doha by boat?", locale="en-QA", topic="food_drinks"),
        Entry(
            "b",
            "qa",
            "en",
            "Wool comes to Doha by boat, and wool comes to Agra by boat.",
            question="How does wool come to Doha?",
            locale="en-QA",
        ),
    ]
    evidence = [Evidence(n, Hit(entry, n, 0.0, 0.0, 0.0, 0.0, "text"), 0, 0) for n, entry in enumerate(entries, 1)]
    messages, given = build_messages("How does salt come to Doha by boat?", evidence, "en", lambda text: len(words.encode(text)), 2048)
    speaker = Nano(words, special_tokens(words).end_of_turn)
    first, second = given[1]
    assert words.decode(written(model, speaker.prompt(messages), speaker.end)[:-1]).strip() == f"{first} [1] {second} [1]"


def test_a_vocabulary_without_citations_is_refused(tmp_path):
    import sentencepiece

    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES),
        model_prefix=str(tmp_path / "x"),
        model_type="bpe",
        vocab_size=420,
        byte_fallback=True,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    with pytest.raises(MajlisError, match="no pieces for citations"):
        special_tokens(load_vocabulary(tmp_path / "x.model"))
    (tmp_path / "x.model").write_bytes(b"half")
    with pytest.raises(MajlisError, match="cannot be read"):
        load_vocabulary(tmp_path / "x.model")


# the whole run


@pytest.fixture(scope="module")
def settings():
    return Config(
        vocabulary=1_500, vocabulary_bytes=20_000, context=1_024, longest=700, sentences_per_language=10, matching_steps=4, steps=4, batch_tokens=1_200,
        learning_rate=1e-4, warmup=2, checkpoint_every=2, evaluate_rows=7,
    )  # fmt: skip


def test_a_run_that_was_killed_goes_on_and_its_gguf_says_what_transformers_says(settings, data, corpus, tmp_path, monkeypatch):
    said = []
    steps = []

    def dies(*arguments):
        steps.append(1)
        if len(steps) == 4:
            raise KeyboardInterrupt
        return real(*arguments)

    real = generator_fit.answer_loss
    with monkeypatch.context() as patch:
        patch.setattr(generator_fit, "answer_loss", dies)
        with pytest.raises(KeyboardInterrupt):
            train(settings, data, corpus, tmp_path / "work", encoder=ENCODER, say=said.append)
    assert not list((tmp_path / "work").glob("*.partial"))
    said.clear()
    model, words, record = train(settings, data, corpus, tmp_path / "work", encoder=ENCODER, say=said.append)
    assert "going on from step 2" in said and not any(line.startswith("matching") for line in said)
    assert record["config"]["steps"] == 4 and record["sources"] and set(record["languages"]) == set(LANGUAGES)

    path = save(model, words, record, tmp_path / "out", "Q8_0")
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["majlis-nano-q8_0.gguf", "training.json"]
    whole = save(model, words, record, tmp_path / "whole", "F32")
    messages, _ = build_messages("How does honey reach Doha?", [], "en", len, 10_000)
    prompt = Nano(words, 0).prompt(messages)
    with torch.no_grad():
        expected = model.eval()(input_ids=torch.tensor([prompt])).logits[0].numpy()
    for file, tolerance in ((whole, 0.02), (path, 0.15)):
        llm = llama_cpp.Llama(str(file), n_ctx=1024, n_threads=1, logits_all=True, verbose=False)
        llm.eval(prompt)
        found = np.array(llm.scores[: len(prompt)])
        assert np.sqrt(np.mean((found - expected) ** 2)) < tolerance * expected.std()
        assert llm.metadata["general.architecture"] == "llama"
        llm.close()


@pytest.mark.parametrize("text, message", [
    ("steps = 5\nspeed = 3", "unknown setting 'speed'"), ("steps = [", "cannot be read"), ('quantisation = "Q3"', "expected one of F32"),
])  # fmt: skip
def test_a_configuration_with_a_mistake_is_refused_before_any_work(tmp_path, data, text, message):
    path = tmp_path / "nano.toml"
    path.write_text(text)
    with pytest.raises(MajlisError, match=message):
        generator.train_and_save(path, data, [], [], tmp_path / "work", tmp_path / "out", ENCODER, print)
    assert not (tmp_path / "work").exists()


def test_the_configurations_that_ship_can_be_read():
    for path in sorted((ROOT / "index_builder/train").glob("generator.*.toml")):
        (LoraConfig if generator.is_lora(path) else Config).read(path)
    assert "base" in read_toml(ROOT / "index_builder/train/generator.llama-3.2-1b.toml")


# a LoRA


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A tiny Llama in a folder, with a tokenizer and a chat template of its own."""
    folder = tmp_path_factory.mktemp("base")
    tokenizer = Tokenizer(models.BPE(byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        SENTENCES, trainers.BpeTrainer(vocab_size=600, special_tokens=["<s>", "</s>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")
    fast.chat_template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant: "
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=len(fast), hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1,
                         max_position_embeddings=4096, bos_token_id=0, eos_token_id=1)  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture
def lora_config(tmp_path):
    path = tmp_path / "lora.toml"
    path.write_text(
        'base = "tiny"\nlicence = "CC0"\nrank = 2\nalpha = 4\ndtype = "float32"\nsteps = 2\nbatch_tokens = 4000\nlongest = 4000\nwarmup = 1\n'
        "sentences_per_language = 4\ncheckpoint_every = 1\nevaluate_rows = 7\n"
    )
    return path


def test_a_lora_is_trained_merged_and_written_as_gguf(base, data, lora_config, tmp_path):
    said = []
    (lora,) = train_and_save_lora(
        lora_config, base, data, small_corpus(), [], tmp_path / "work", tmp_path / "out", ENCODER, None, said.append
    )
    assert lora.read_bytes()[:4] == b"GGUF"
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "out/merged").state_dict()
    first = AutoModelForCausalLM.from_pretrained(base).state_dict()
    changed = [name for name, value in merged.items() if not torch.equal(value, first[name])]
    assert changed and all("proj" in name for name in changed)
    assert json.loads((tmp_path / "out/training.json").read_text())["config"]["rank"] == 2
    assert any("2/2" in line for line in said)


def test_a_lora_without_its_base_converter_or_template_is_refused(base, data, lora_config, tmp_path):
    def run(base, converter=None):
        train_and_save_lora(lora_config, base, data, [], [], tmp_path / "work", tmp_path / "out", ENCODER, converter, print)

    with pytest.raises(MajlisError, match="Fetch tiny"):
        run(None)
    with pytest.raises(MajlisError, match="convert_hf_to_gguf"):
        run(base, tmp_path / "no.py")
    plain = PreTrainedTokenizerFast.from_pretrained(base)
    plain.chat_template = None
    other = tmp_path / "other"
    AutoModelForCausalLM.from_pretrained(base).save_pretrained(other)
    plain.save_pretrained(other)
    with pytest.raises(MajlisError, match="no chat template"):
        run(other)
    broken = tmp_path / "broken.toml"
    broken.write_text(lora_config.read_text() + 'quantisations = ["Q1"]\n')
    with pytest.raises(MajlisError, match="Q1"):
        LoraConfig.read(broken)
