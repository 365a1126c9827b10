"""app.py as a program: it opens, or it says in one line what to do, and exits 1."""

import os
import re
import socket
import subprocess
import sys
import threading
import urllib.request
from dataclasses import replace

import psutil
import pytest

import app
from demo.engine import Question
from demo.events import Done, Failed, Token
from demo.opening import OpeningEngine
from demo.settings import ROOT, load_settings
from index_builder.vocabulary import MajlisError
from tests.tiny_gguf import tiny_llama, write_gguf


def environment_with(**changed: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if "proxy" not in name.lower() and not name.startswith("MAJLIS_")}
    return kept | {"OMP_NUM_THREADS": "1"} | changed


def start(*arguments: str, **environment: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "app.py", *arguments], cwd=ROOT, env=environment_with(**environment), text=True, encoding="utf-8",
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def ended(*arguments: str, **environment: str) -> tuple[int, str]:
    """Exit status and complaint of an app that cannot start."""
    process = start(*arguments, **environment)
    try:
        _, complaint = process.communicate(timeout=60)
    finally:
        process.kill()
    return process.returncode, complaint


@pytest.fixture
def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_a_port_in_use_is_named_with_another_to_try():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        status, complaint = ended("--port", str(port))
    assert status == 1 and "Traceback" not in complaint
    assert (
        f"Majlis cannot start: Port {port} on 127.0.0.1 cannot be used" in complaint
        and f"--port {port + 1 if port < 65535 else 7860}" in complaint
    )


@pytest.mark.parametrize("arguments, said", [
    (("--port", "99999"), "Port 99999 on 127.0.0.1 cannot be used"),
    (("--host", "256.1.1.1"), "256.1.1.1 cannot be used"),
    (("--model", "nonsense"), "No generator called 'nonsense' in models.toml; it has "),
    (("--model", "nowhere/x.gguf"), "x.gguf is not there. --model takes the path of a .gguf file"),
])  # fmt: skip
def test_a_wrong_option_ends_in_one_line(capsys, arguments, said):
    assert app.main(arguments) == 1
    complaint = capsys.readouterr().err
    assert complaint.startswith("Majlis cannot start: ") and said in complaint and complaint.count("\n") == 1


def test_a_missing_index_gives_the_command_that_mends_it(tmp_path, free_port):
    status, complaint = ended("--port", str(free_port), MAJLIS_INDEX=str(tmp_path))
    assert status == 1 and "Traceback" not in complaint
    assert f"Majlis cannot start: {tmp_path} is not a whole index" in complaint
    assert f"python -m index_builder build --corpus PATH --out {tmp_path}" in complaint


def test_the_app_opens_its_page_on_this_computer_and_says_when_it_can_answer(index, free_port):
    process = start("--port", str(free_port), "--offline", MAJLIS_INDEX=str(index.folder))
    watchdog = threading.Timer(60, process.kill)
    watchdog.start()
    try:
        said = ""
        while "ready to answer" not in said:
            line = process.stdout.readline()
            assert line, f"it ended: {said} {process.stderr.read()}"
            said += line
        assert f"http://127.0.0.1:{free_port}" in said
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://127.0.0.1:{free_port}/", timeout=10) as answer:
            page = answer.read().decode()
        assert answer.status == 200 and "Majlis" in page
        assert not re.search(r'<meta\s+(property|name)="(og|twitter):', page)
        with opener.open(f"http://127.0.0.1:{free_port}/fonts/NotoSansBengali-Regular.woff2", timeout=10) as font:
            assert font.read(4) == b"wOF2"
    finally:
        watchdog.cancel()
        process.kill()
        process.wait()


def test_the_page_never_goes_public():
    with pytest.raises(SystemExit) as refused:
        app.main(["--share", "yes"])
    assert refused.value.code == 2


def test_only_a_space_listens_to_other_computers(monkeypatch):
    monkeypatch.delenv("SPACE_ID", raising=False)
    assert app._parser().parse_args([]).host == "127.0.0.1"
    monkeypatch.setenv("SPACE_ID", "someone/majlis")
    assert app._parser().parse_args([]).host == "0.0.0.0"


def test_importing_the_app_turns_reports_to_others_off():
    told = "import app, os; print(os.environ['GRADIO_ANALYTICS_ENABLED'], os.environ['HF_HUB_DISABLE_TELEMETRY'])"
    kept = {name: value for name, value in os.environ.items() if name not in ("GRADIO_ANALYTICS_ENABLED", "HF_HUB_DISABLE_TELEMETRY")}
    printed = subprocess.run([sys.executable, "-c", told], cwd=ROOT, env=kept, capture_output=True, text=True, check=True)
    assert printed.stdout.split() == ["False", "1"]


# --- an engine that opens beside the page


def test_a_question_asked_while_the_engine_opens_waits_for_it(index):
    engine = OpeningEngine(load_settings(model="none", environment={"MAJLIS_INDEX": str(index.folder)}))
    events = list(engine.ask(Question("What do men in Qatar wear on the head?")))
    assert isinstance(events[-1], Done) and "ghutra" in events[-1].answer
    assert engine.modes == engine.wait().modes == ("verbatim",) and engine.model_command == "python -m demo models"
    engine.wait().close()


def test_an_engine_that_could_not_open_says_why_to_every_question(tmp_path):
    engine = OpeningEngine(load_settings(environment={"MAJLIS_INDEX": str(tmp_path)}))
    for _ in range(2):
        (failed,) = engine.ask(Question("Why?"))
        assert isinstance(failed, Failed) and "manifest.json is missing" in failed.values["detail"]
    with pytest.raises(Exception, match="is not a whole index"):
        engine.wait()


# --- another model while the app runs


@pytest.fixture(scope="module")
def gguf(tmp_path_factory):
    return write_gguf(tiny_llama(context=4096), tmp_path_factory.mktemp("tiny") / "tiny.gguf")


@pytest.fixture
def changeable(index, gguf, monkeypatch):
    """An engine without a model, which knows the one in `gguf`."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    settings = load_settings(model=str(gguf), environment={"MAJLIS_INDEX": str(index.folder)})
    engine = OpeningEngine(replace(settings, generator="none"))
    yield engine
    engine.wait().close()


HEAD = "What do men in Qatar wear on the head?"


def test_another_model_answers_from_the_next_question_on_and_quotes_come_back(changeable):
    assert changeable.modes == ("verbatim",) and changeable.model_command
    changeable.change("tiny")
    assert changeable.modes == changeable.wait().modes == ("verbatim", "generate") and not changeable.model_command
    done = list(changeable.ask(Question(HEAD, mode="verbatim")))[-1]
    assert done.model["generator"] == "tiny"
    (used,) = (offer for offer in changeable.offers() if offer.in_use)
    assert used.name == "tiny" and used.bytes > 0
    process = psutil.Process(changeable.wait().generator.pid)
    changeable.change("none")
    assert not process.is_running() and changeable.modes == ("verbatim",)
    assert "generator" not in list(changeable.ask(Question(HEAD)))[-1].model


@pytest.mark.parametrize("name, said", [
    ("llama-3.2-1b", "is not on this computer"), ("nonsense", "No generator called 'nonsense'"), ("tiny", "could not be loaded"),
])  # fmt: skip
def test_a_model_that_cannot_be_had_leaves_everything_as_it_was(changeable, gguf, name, said):
    whole = gguf.read_bytes()
    gguf.write_bytes(whole[:1000])
    try:
        with pytest.raises(MajlisError, match=said):
            changeable.change(name)
    finally:
        gguf.write_bytes(whole)
    assert changeable.modes == ("verbatim",) and isinstance(list(changeable.ask(Question(HEAD)))[-1], Done)


def test_an_answer_in_the_middle_of_a_change_ends_as_if_stopped(changeable):
    changeable.change("tiny")
    answer = changeable.ask(Question(HEAD, mode="generate"))
    while not isinstance(next(answer), Token):
        pass
    changeable.change("none")
    done = list(answer)[-1]
    assert isinstance(done, Done) and done.stopped and done.answer
