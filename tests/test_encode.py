"""The static encoder against sentence-transformers' own, and encoder folders that are missing, altered or foreign."""

import io
import json
import shutil
import sys
import tracemalloc
from hashlib import sha256

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from index_builder.__main__ import main
from index_builder.encode import EncoderError, fingerprint, normalised, open_encoder
from tests.conftest import ROOT
from tests.texts import any_text

BUNDLED = ROOT / "assets/models/encoder"
TEXTS = [
    "পান্তা ভাত আর ইলিশ",
    "القَهْوة العربية",
    "ভোগালী বিহু কেতিয়া?",
    "What is it?",
    "लू से बचना",
    "गुन्द्रुक",
    "Aşure ne zaman?",
    "😀",
    "word " * 500,
    "",
]


@pytest.fixture
def copy(tmp_path):
    return shutil.copytree(BUNDLED, tmp_path / "encoder")


def test_vectors_are_those_of_sentence_transformers(encoder):
    from sentence_transformers import SentenceTransformer

    # In the float16 of the file torch would sum in float16 too, and divide by zero for an empty text.
    reference = SentenceTransformer(str(BUNDLED), local_files_only=True, device="cpu").float()
    assert np.abs(encoder.encode(TEXTS, "passage") - reference.encode(TEXTS)).max() < 1e-5


@settings(deadline=None, max_examples=100)
@given(st.lists(any_text, max_size=4))
def test_any_text_gives_a_unit_row_or_zeros(encoder, texts):
    vectors = encoder.encode(texts, "query")
    assert vectors.shape == (len(texts), encoder.dimension) and vectors.dtype == np.float32
    lengths = np.linalg.norm(vectors, axis=1)
    assert np.all((np.abs(lengths - 1) < 1e-5) | (lengths == 0))


def test_a_text_has_the_same_vector_alone_and_in_a_batch(encoder):
    together = encoder.encode(TEXTS, "query")
    for row, text in enumerate(TEXTS):
        assert np.array_equal(encoder.encode([text], "query")[0], together[row])


def test_empty_and_invisible_texts_give_zeros(encoder):
    assert not encoder.encode(["", "\u200b\u202e"], "query").any()
    assert encoder.encode([], "query").shape == (0, encoder.dimension)


def test_a_text_of_100_000_characters_is_encoded_whole(encoder):
    salt, long = encoder.encode(["salt", "salt " * 19_999 + "salt."], "passage")
    assert salt @ long > 0.99
    assert abs(np.linalg.norm(encoder.encode(["বাংলা" * 20_000], "query")) - 1) < 1e-5


def test_an_unknown_language_is_text_like_any_other(encoder):
    """The encoder is told no language: pieces that it knows count, and what is in no vocabulary is the unknown piece."""
    texts = ["Où est la bibliothèque ?", "図書館はどこですか", "ⵜⴰⵎⴰⵣⵉⵖⵜ", "Kaj gutis?"]
    vectors = encoder.encode(texts, "query")
    assert vectors.shape == (4, encoder.dimension) and np.isfinite(vectors).all()
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_a_line_of_100_000_characters_in_a_file_is_one_row(encoder, monkeypatch, tmp_path):
    lines = ["salt", "বাংলা " * 16_666 + "ভাত", "", "tuz"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("\n".join(lines).encode())))
    assert main(["encode", "--kind", "passage", "--out", str(tmp_path / "x.npy")]) == 0
    found = np.load(tmp_path / "x.npy")
    assert found.shape == (4, encoder.dimension) and not found[2].any()
    assert np.allclose(found, encoder.encode(lines, "passage"), atol=1e-6)


class Lines(io.RawIOBase):
    """Many lines that are nowhere held at once."""

    def __init__(self, count):
        self.left = count

    def readable(self):
        return True

    def readinto(self, buffer):
        lines = min(self.left, len(buffer) // 4)
        self.left -= lines
        buffer[: lines * 4] = b"tuz\n" * lines
        return lines * 4


def test_lines_are_encoded_in_constant_memory_with_progress(monkeypatch, tmp_path, capsys):
    """40 MB of vectors through a few; a million lines are more of the same."""
    monkeypatch.setattr("index_builder.__main__._BATCH", 100)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(Lines(40_000))))
    main(["encode", "--kind", "query", "--out", str(tmp_path / "warm.npy")])  # what opening an encoder takes is not what lines take
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(Lines(40_000))))
    capsys.readouterr()
    loaded = open_encoder(BUNDLED)
    monkeypatch.setattr("index_builder.__main__.open_encoder", lambda *_, **__: loaded)
    tracemalloc.start()
    assert main(["encode", "--kind", "query", "--out", str(tmp_path / "x.npy")]) == 0
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4_000_000
    assert np.load(tmp_path / "x.npy", mmap_mode="r").shape == (40_000, loaded.dimension)
    assert capsys.readouterr().err.splitlines()[:2] == ["10,000 lines", "20,000 lines"]


def test_vectors_can_be_cut_to_their_first_dimensions(encoder, monkeypatch, tmp_path, capsys):
    feed = lambda: monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("\n".join(TEXTS).encode())))
    feed()
    assert main(["encode", "--kind", "query", "--dimensions", "64", "--out", str(tmp_path / "x.npy")]) == 0
    found = np.load(tmp_path / "x.npy")
    assert found.shape == (len(TEXTS) - 1, 64)  # the last of TEXTS is empty, and no line without an end
    assert np.array_equal(found, normalised(encoder.encode(TEXTS[:-1], "query")[:, :64]))
    for dimensions in ("0", "-3", "512"):
        feed()
        assert main(["encode", "--kind", "query", "--dimensions", dimensions, "--out", str(tmp_path / "y.npy")]) == 1
        assert "the encoder makes vectors of 256. Give 1 to 256." in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["x.npy"]


def test_texts_that_differ_only_in_spelling_have_one_vector(encoder):
    vectors = encoder.encode(["القَهْوَةُ", "القهوه"], "query")
    assert np.array_equal(vectors[0], vectors[1])


def test_prefixes_are_put_before_queries_and_passages(encoder):
    prefixed = open_encoder(BUNDLED, query_prefix="query: ", passage_prefix="passage: ")
    assert np.array_equal(prefixed.encode(["salt"], "query"), encoder.encode(["query: salt"], "query"))
    assert np.array_equal(prefixed.encode(["salt"], "passage"), encoder.encode(["passage: salt"], "query"))


def test_normalising_keeps_zero_rows():
    assert normalised(np.array([[3.0, 4.0], [0.0, 0.0]])).tolist() == [[0.6, 0.8], [0.0, 0.0]]


def test_the_fingerprint_changes_with_weights_and_vocabulary_but_not_with_the_readme(copy):
    before = fingerprint(copy)
    (copy / "README.md").write_text("other words", encoding="utf-8")
    assert fingerprint(copy) == before == fingerprint(BUNDLED)
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "model.safetensors").write_bytes(weights)
    altered = fingerprint(copy)
    assert altered != before
    (copy / "tokenizer.json").write_text("{}", encoding="utf-8")
    assert fingerprint(copy) not in (before, altered)


def test_a_fingerprint_is_taken_in_constant_memory(tmp_path):
    with (tmp_path / "model.safetensors").open("wb") as weights:
        weights.truncate(64_000_000)
    tracemalloc.start()
    found = fingerprint(tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8_000_000
    assert found == sha256(b"model.safetensors\0" + sha256(bytes(64_000_000)).digest()).hexdigest()


@pytest.mark.parametrize("name", ["modules.json", "model.safetensors", "tokenizer.json"])
def test_a_missing_file_is_named(copy, name):
    (copy / name).unlink()
    with pytest.raises(EncoderError, match="encoder") as caught:
        open_encoder(copy)
    assert name in str(caught.value) or str(copy) in str(caught.value)
    assert "estore" in str(caught.value)


@pytest.mark.parametrize("name", ["modules.json", "model.safetensors", "tokenizer.json"])
@pytest.mark.parametrize("keep", [0.0, 0.5])
def test_a_file_cut_off_is_refused(copy, name, keep):
    whole = (copy / name).read_bytes()
    (copy / name).write_bytes(whole[: int(len(whole) * keep)])
    with pytest.raises(EncoderError, match="estore"):
        open_encoder(copy)


def test_altered_weights_do_not_serve_an_index_that_was_built_with_others(copy, index):
    from index_builder.search import Index
    from index_builder.store import IndexFolderError

    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "model.safetensors").write_bytes(weights)
    with pytest.raises(IndexFolderError, match="encoder"):
        Index(index.folder, open_encoder(copy, "majlis-static"))


# Static models as others publish them


@pytest.mark.parametrize("layout", ["subfolder", "model2vec", "model2vec with rows and weights of tokens"])
def test_static_models_of_other_layouts_are_read_as_sentence_transformers_does(encoder, copy, layout):
    from sentence_transformers import SentenceTransformer

    table = load_file(copy / "model.safetensors")["embedding.weight"].astype(np.float32)
    if layout == "subfolder":  # static-similarity-mrl-multilingual-v1
        (copy / "0_StaticEmbedding").mkdir()
        for name in ("model.safetensors", "tokenizer.json"):
            (copy / name).rename(copy / "0_StaticEmbedding" / name)
        modules = [{"idx": 0, "name": "0", "path": "0_StaticEmbedding", "type": "sentence_transformers.models.StaticEmbedding"}]
        (copy / "modules.json").write_text(json.dumps(modules))
    elif layout == "model2vec":  # potion-multilingual-128M
        save_file({"embeddings": table}, copy / "model.safetensors")
    else:
        rows = np.arange(len(table))[::-1].copy()
        save_file(
            {"embeddings": table[::-1].copy(), "mapping": rows, "weights": np.linspace(0.5, 2, len(table))}, copy / "model.safetensors"
        )
    ours = open_encoder(copy).encode(TEXTS, "passage")
    theirs = SentenceTransformer(str(copy), local_files_only=True, device="cpu").float().encode(TEXTS, normalize_embeddings=True)
    assert np.abs(ours - theirs).max() < 1e-5
    if layout != "model2vec with rows and weights of tokens":
        assert np.abs(ours - encoder.encode(TEXTS, "passage")).max() < 1e-6


@pytest.mark.parametrize("modules", ['{"a": 1}', "[1]", '[{"type": 3}]', '[{"name": "0"}]', "null"])
def test_a_module_list_that_is_none_is_refused(copy, modules):
    (copy / "modules.json").write_text(modules, encoding="utf-8")
    with pytest.raises(EncoderError, match=r"modules\.json is not a sentence-transformers module list"):
        open_encoder(copy)


@pytest.mark.parametrize(
    "tensors",
    [
        {"other.weight": np.zeros((2, 2), np.float16)},
        {"embedding.weight": np.zeros(7, np.float16)},
        {"embedding.weight": np.zeros((100, 8), np.float16)},  # fewer rows than the vocabulary has pieces
    ],
)
def test_weights_that_are_not_of_this_vocabulary_are_refused(copy, tensors):
    save_file(tensors, copy / "model.safetensors")
    with pytest.raises(EncoderError, match="Restore"):
        open_encoder(copy)


def test_a_folder_that_is_no_encoder_says_how_to_get_one(tmp_path):
    with pytest.raises(EncoderError, match=r"modules\.json is missing.*python -m demo models fetch"):
        open_encoder(tmp_path / "nowhere")


def test_the_encoder_that_ships_is_a_static_one_of_at_most_32_mb():
    files = [path for path in BUNDLED.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 32_000_000
    assert [module["type"].split(".")[-1] for module in json.loads((BUNDLED / "modules.json").read_text())] == [
        "StaticEmbedding",
        "Normalize",
    ]
