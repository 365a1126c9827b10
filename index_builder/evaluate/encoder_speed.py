"""How fast an encoder is, in processes of its own: one thread, and nothing loaded but what the first answer needs."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path

import numpy as np

from index_builder.encode import Encoder
from index_builder.evaluate.encoder_material import Material
from index_builder.evaluate.runs import ROOT, Row
from index_builder.vocabulary import LANGUAGES, MajlisError

WORDS = 12  # of a timed question
ROUNDS = 5

_FIRST = """import sys, time; from pathlib import Path; from index_builder.encode import open_encoder
open_encoder(Path(sys.argv[1])).encode([sys.argv[2]], "query"); print(time.process_time(), flush=True)"""
_MANY = """import json, sys, time; from pathlib import Path; from index_builder.encode import open_encoder
encoder = open_encoder(Path(sys.argv[1])); questions = json.load(sys.stdin); rounds = []; single = []
for _ in range(int(sys.argv[2])):
    began = time.process_time()
    for start in range(0, len(questions), 256): encoder.encode(questions[start : start + 256], "query")
    rounds.append(time.process_time() - began)
for question in questions[:500]:
    began = time.perf_counter(); encoder.encode([question], "query"); single.append(time.perf_counter() - began)
print(json.dumps({"rounds": rounds, "single": single}))"""
_ONE_THREAD = {
    "RAYON_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


def timed_questions(material: Material) -> list[str]:
    """The bundled questions of every language, written one after the other and cut every twelve words."""
    found = []
    for lang in LANGUAGES:
        said = [entry.question for entry in material.entries if entry.lang == lang] + [
            one.text for one in material.cross if one.lang == lang
        ]
        split = " ".join(said).split()
        found += [" ".join(split[start : start + WORDS]) for start in range(0, len(split) - WORDS + 1, WORDS)]
    # mixed, as questions come
    return sorted(found, key=lambda text: blake2b(text.encode(), digest_size=8).digest())


def speed_row(encoder: Encoder, questions: Sequence[str]) -> Row:
    first, processor = zip(*(_first_vector(encoder.folder, questions[0]) for _ in range(ROUNDS)), strict=True)
    with _started(_MANY, [str(encoder.folder), str(ROUNDS)]) as process:
        many = json.loads(_finished(process, json.dumps(list(questions))))
    size = sum(path.stat().st_size for path in encoder.folder.rglob("*") if path.is_file())
    return {
        "id": "speed", "set": "speed", "lang": "all", "n": len(questions), "dimension": encoder.dimension, "megabytes": round(size / 1e6, 1),
        "per_second": round(len(questions) / float(np.median(many["rounds"]))), "single_us": round(float(np.median(many["single"])) * 1e6, 1),
        "first_s": round(float(np.median(first)), 3), "first_processor_s": round(float(np.median(processor)), 3),
    }  # fmt: skip


def _first_vector(folder: Path, question: str) -> tuple[float, float]:
    """(seconds from the start of a process to its first vector, processor time of it)."""
    began = time.perf_counter()
    with _started(_FIRST, [str(folder), question]) as process:
        assert process.stdout
        said = process.stdout.readline()
        seconds = time.perf_counter() - began  # leaving takes time too, but nobody waits for it
        _finished(process)
    return seconds, float(said)


def _started(program: str, arguments: Sequence[str]) -> subprocess.Popen[str]:
    environment = os.environ | _ONE_THREAD | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"}
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, encoding="utf-8", env=environment)


def _finished(process: subprocess.Popen[str], stdin: str = "") -> str:
    said, complaint = process.communicate(stdin)
    if process.returncode:
        raise MajlisError(f"The encoder could not be timed in a process of its own: {complaint.strip()[-500:]}")
    return said
