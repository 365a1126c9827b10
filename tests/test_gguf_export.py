"""Weights of transformers in llama.cpp: the same tokens in F32, nearly the same scores in fewer bits, and what cannot be written is refused."""

import sys
import threading
from dataclasses import replace

import gguf
import llama_cpp
import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from demo.generate import GenerationError, open_generator
from demo.settings import load_settings
from index_builder.train.generator_vocabulary import CHAT_TEMPLATE
from index_builder.train.gguf_export import QUANTISATIONS, ExportError, convert, export_llama, export_lora, quantise
from tests.conftest import ROOT
from tests.tiny_gguf import SENTENCES, TEMPLATE, tiny_llama, vocabulary


def opened(path, **options):
    return llama_cpp.Llama(str(path), n_ctx=256, n_threads=1, logits_all=True, verbose=False, **options)


def scores(path, tokens, **options):
    """(tokens, vocabulary): llama.cpp's scores of what follows each token."""
    llm = opened(path, **options)
    try:
        llm.eval(tokens)
        return np.array(llm.scores[: len(tokens)])
    finally:
        llm.close()


def theirs(model, tokens):
    with torch.no_grad():
        return model(input_ids=torch.tensor([tokens])).logits[0].numpy()


def greedy(path, prompt, count):
    llm = opened(path)
    try:
        llm.eval(prompt)
        out = []
        for _ in range(count):
            out.append(int(np.argmax(llm.scores[llm.n_tokens - 1])))
            llm.eval(out[-1:])
        return out
    finally:
        llm.close()


@pytest.fixture(scope="module")
def tiny():
    """Four heads, two of them shared for keys, a vocabulary in seven languages, and a few steps of training behind it."""
    tiny = tiny_llama(width=256)
    optimiser = torch.optim.AdamW(tiny.model.parameters(), lr=1e-3)
    for sentence in SENTENCES:
        tokens = torch.tensor([tiny.vocabulary.encode(sentence)])
        loss = tiny.model(input_ids=tokens, labels=tokens).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    tiny.model.eval()
    return tiny


@pytest.fixture(scope="module")
def whole(tiny, tmp_path_factory):
    return export_llama(
        tiny.model,
        tiny.vocabulary,
        tmp_path_factory.mktemp("gguf") / "f32.gguf",
        name="tiny",
        chat_template=TEMPLATE,
        end_of_turn="<|end|>",
    )


@pytest.mark.parametrize("sentence", SENTENCES)
def test_f32_says_what_transformers_says(tiny, whole, sentence):
    prompt = tiny.prompt(("user", sentence))
    expected = []
    for _ in range(24):
        expected.append(int(theirs(tiny.model, [*prompt, *expected])[-1].argmax()))
    assert greedy(whole, prompt, 24) == expected


@pytest.mark.parametrize("kind, tolerance", [("F32", 0.005), ("F16", 0.01), ("Q8_0", 0.08), ("Q5_K_M", 0.5), ("Q4_K_M", 0.8)])
def test_fewer_bits_move_the_scores_by_no_more_than_this_share_of_their_spread(tiny, whole, tmp_path, kind, tolerance):
    path = quantise(whole, tmp_path / f"{kind}.gguf", kind)
    tokens = tiny.prompt(("user", SENTENCES[2]))
    expected, found = theirs(tiny.model, tokens), scores(path, tokens)
    assert np.sqrt(np.mean((found - expected) ** 2)) < tolerance * expected.std()
    if kind != "F32":
        assert path.stat().st_size < 0.75 * whole.stat().st_size


def test_tied_and_wide_headed_models_are_the_same_in_llama_cpp(tmp_path):
    words = vocabulary()
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=words.vocab_size(), hidden_size=96, intermediate_size=96, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2,
        head_dim=64, max_position_embeddings=512, tie_word_embeddings=True, rope_parameters={"rope_type": "default", "rope_theta": 1e12},
        initializer_range=0.2,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    path = export_llama(model, words, tmp_path / "wide.gguf", name="wide", chat_template=None, end_of_turn="<|end|>")
    tokens = [words.bos_id(), *words.encode(" ".join(SENTENCES))][:200]
    expected = theirs(model, tokens)
    assert np.abs(scores(path, tokens) - expected).max() < 0.02 * expected.std()


@pytest.mark.parametrize("text", [*SENTENCES, "[1] [2]", "a  b", "½ € 𝔘 🙂", "তা\u200cও", "e\u0301 é", "\n\n"])
def test_llama_cpp_reads_the_vocabulary_as_sentencepiece_does(tiny, whole, text):
    llm = opened(whole)
    try:
        assert llm.tokenize(text.encode(), add_bos=False, special=False) == tiny.vocabulary.encode(text)
        assert b"".join(llm.detokenize([token]) for token in tiny.vocabulary.encode(text)).strip() == text.encode().strip()
    finally:
        llm.close()


def test_the_file_says_what_it_is(whole):
    fields = gguf.GGUFReader(whole).fields
    said = {name: field.contents() for name, field in fields.items()}
    assert said["general.architecture"] == "llama"
    assert said["tokenizer.chat_template"] == TEMPLATE
    assert said["tokenizer.ggml.tokens"][said["tokenizer.ggml.eot_token_id"]] == "<|end|>"


def test_the_nanos_chat_template_keeps_only_the_refusal_of_the_system_message(tiny, tmp_path):
    path = export_llama(tiny.model, tiny.vocabulary, tmp_path / "t.gguf", name="t", chat_template=CHAT_TEMPLATE, end_of_turn="<|end|>")
    from llama_cpp.llama_chat_format import Jinja2ChatFormatter

    llm = opened(path)
    try:
        template = Jinja2ChatFormatter(llm.metadata["tokenizer.chat_template"], eos_token="</s>", bos_token="<s>")
    finally:
        llm.close()
    messages = [{"role": "system", "content": "Rules. If not, say: I do not know."}, {"role": "user", "content": "who: me?"}]
    assert template(messages=messages).prompt == "<s><|system|>I do not know.<|end|><|user|>who: me?<|end|><|assistant|>"


@pytest.fixture(scope="module")
def adapter(tiny, tmp_path_factory):
    """A LoRA on attention and feed-forward layers that changes what the model says, its folder, and the merged model."""
    import copy

    from peft import LoraConfig, get_peft_model

    torch.manual_seed(5)
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    adapted = get_peft_model(
        copy.deepcopy(tiny.model), LoraConfig(r=4, lora_alpha=8, target_modules=targets, init_lora_weights=False, task_type="CAUSAL_LM")
    )
    folder = tmp_path_factory.mktemp("adapter")
    adapted.save_pretrained(folder)
    return folder, adapted.merge_and_unload().eval()


def test_a_lora_beside_the_model_scores_as_the_merged_model(tiny, whole, adapter, tmp_path):
    folder, merged = adapter
    lora = export_lora(folder, tiny.config, tmp_path / "lora.gguf", name="lora")
    tokens = tiny.prompt(("user", SENTENCES[3]))
    expected = theirs(merged, tokens)
    assert np.abs(theirs(tiny.model, tokens) - expected).max() > 0.1 * expected.std()  # it does change something
    assert np.sqrt(np.mean((scores(whole, tokens, lora_path=str(lora)) - expected) ** 2)) < 0.01 * expected.std()


def test_the_app_loads_the_lora_that_models_toml_names(tiny, whole, adapter, tmp_path):
    lora = export_lora(adapter[0], tiny.config, tmp_path / "lora.gguf", name="lora")

    def answer(lora):
        toml = tmp_path / "models.toml"
        text = (ROOT / "models.toml").read_text()
        entry = f'[[model]]\nname = "tiny"\nrole = "generator"\ntitle = "tiny"\nlicence = "CC0"\nfolder = "{whole}"\nlanguages = []\nlora = "{lora}"\n'
        toml.write_text(f"{text}\n{entry}")
        generator = open_generator(load_settings(toml, model="tiny", environment={}))
        try:
            said = generator.stream([{"role": "user", "content": SENTENCES[0]}], 12, threading.Event())
            return "".join(piece for piece in said if isinstance(piece, str))
        finally:
            generator.close()

    assert answer(lora) != answer("")
    with pytest.raises(GenerationError, match=r"no\.gguf, is not there"):
        answer(tmp_path / "no.gguf")


# what cannot be written


def test_a_vocabulary_without_byte_fallback_is_refused(tmp_path):
    tiny = tiny_llama(byte_fallback=False)
    with pytest.raises(ExportError, match="byte fallback"):
        export_llama(tiny.model, tiny.vocabulary, tmp_path / "x.gguf", name="x", chat_template=None, end_of_turn="<|end|>")
    assert not list(tmp_path.iterdir())


def test_a_vocabulary_of_another_model_is_refused(tiny, tmp_path):
    other = replace(tiny, config=LlamaConfig(**{**tiny.config.to_dict(), "vocab_size": 100}))
    other.config.vocab_size = 100
    with pytest.raises(ExportError, match="do not belong together"):
        export_llama(
            LlamaForCausalLM(other.config), tiny.vocabulary, tmp_path / "x.gguf", name="x", chat_template=None, end_of_turn="<|end|>"
        )


def test_weights_that_a_llama_has_no_place_for_are_refused(tiny, tmp_path):
    config = LlamaConfig(**{**tiny.config.to_dict(), "attention_bias": True})
    with pytest.raises(ExportError, match=r"self_attn\.q_proj\.bias"):
        export_llama(LlamaForCausalLM(config), tiny.vocabulary, tmp_path / "x.gguf", name="x", chat_template=None, end_of_turn="<|end|>")
    assert not (tmp_path / "x.gguf").exists()


def test_a_folder_that_is_not_there_is_said(tiny, tmp_path):
    with pytest.raises(ExportError, match="could not be written"):
        export_llama(tiny.model, tiny.vocabulary, tmp_path / "no/x.gguf", name="x", chat_template=None, end_of_turn="<|end|>")


def test_only_known_quantisations_of_whole_files(whole, tmp_path):
    with pytest.raises(ExportError, match="Q3_X"):
        quantise(whole, tmp_path / "x.gguf", "Q3_X")
    half = tmp_path / "half.gguf"
    half.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    for source in (half, tmp_path / "missing.gguf"):
        with pytest.raises(ExportError, match="could not quantise"):
            quantise(source, tmp_path / "x.gguf", "Q8_0")
    assert [path.name for path in tmp_path.iterdir()] == ["half.gguf"]
    assert "Q8_0" in QUANTISATIONS


def test_a_folder_that_is_no_lora_is_refused(tiny, tmp_path):
    with pytest.raises(ExportError, match="not a LoRA"):
        export_lora(tmp_path, tiny.config, tmp_path / "x.gguf", name="x")


def test_llama_cpps_converter_is_called_and_its_failure_told(tmp_path):
    with pytest.raises(ExportError, match="not there"):
        convert(tmp_path, tmp_path / "x.gguf", tmp_path / "convert_hf_to_gguf.py")
    script = tmp_path / "convert.py"
    script.write_text("import sys, pathlib; pathlib.Path(sys.argv[3]).write_text(' '.join(sys.argv[1:]))")
    assert convert(tmp_path, tmp_path / "x.gguf", script).read_text() == f"{tmp_path} --outfile {tmp_path / 'x.gguf'} --outtype f16"
    script.write_text("raise SystemExit('unknown model')")
    with pytest.raises(ExportError, match="unknown model"):
        convert(tmp_path, tmp_path / "x.gguf", script)
    assert sys.executable
