"""The worker when a model does not fit: layers leave the GPU by halves, and only then does the context shrink."""

import io
import json

import llama_cpp
import pytest

from demo.generate.worker import Worker
from tests.tiny_gguf import tiny_llama, write_gguf

LAYERS = 9


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_gguf(tiny_llama(layers=LAYERS, width=32), tmp_path_factory.mktemp("tiny") / "tiny.gguf")


@pytest.fixture
def load(monkeypatch, path):
    """Loads on a computer whose GPU takes `fit` layers and whose memory takes a context of `context`; gives what was tried and what was said."""

    def run(gpu_layers: int, fit: int, context: int = 4096):
        tried = []

        def llama(path, *, n_ctx, n_gpu_layers, **options):
            tried.append((n_gpu_layers, n_ctx))
            if (LAYERS if n_gpu_layers < 0 else min(n_gpu_layers, LAYERS)) > fit:
                raise ValueError("Failed to load model from file")
            if n_ctx > context:
                raise ValueError("Failed to create llama_context")
            return real(path, n_ctx=n_ctx, n_gpu_layers=0, **options)

        real = llama_cpp.Llama
        with monkeypatch.context() as patch:
            patch.setattr(llama_cpp, "Llama", llama)
            patch.setattr(llama_cpp, "llama_supports_gpu_offload", lambda: True)
            out = io.StringIO()
            Worker(out)._load({"id": 1, "path": str(path), "context": 2048, "threads": 1, "gpu_layers": gpu_layers, "lora": ""})
        return tried, json.loads(out.getvalue())

    return run


@pytest.mark.parametrize("asked, fit, layers", [
    (-1, 99, [-1]),
    (-1, 4, [-1, 4]),
    (-1, 1, [-1, 4, 2, 1]),
    (-1, 0, [-1, 4, 2, 1, 0]),
    (99, 3, [99, 4, 2]),
    (6, 3, [6, 3]),
    (0, 99, [0]),
])  # fmt: skip
def test_layers_are_halved_from_those_of_the_model_until_they_fit(load, asked, fit, layers):
    tried, said = load(asked, fit)
    assert tried == [(count, 2048) for count in layers]
    assert (said["event"], said["gpu_layers"], said["context"]) == ("loaded", tried[-1][0], 2048)


def test_the_context_shrinks_only_after_the_last_layer_has_left_the_gpu(load):
    tried, said = load(-1, fit=99, context=1024)
    assert tried == [(-1, 2048), (4, 2048), (2, 2048), (1, 2048), (0, 2048), (0, 1024)]
    assert said["context"] == 1024
