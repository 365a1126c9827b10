"""From process start to the page and to the first answer, and what the app then holds in memory."""

import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable

import psutil

from benchmarks.measure import COLUMNS, Options, line
from index_builder.evaluate.runs import ROOT, Table

TITLE = "start, first answer and memory"
NOTE = "`app.py --offline` as a user starts it; the first answer comes over HTTP, through the page's own queue."
_SETTLED_S = 2.0  # until what is read in the background has been read


def tables(options: Options) -> list[Table]:
    from gradio_client import Client  # before the clock starts

    http, first, memory = [], [], []
    for _ in range(options.runs):
        port = _free_port()
        began = time.perf_counter()
        app = subprocess.Popen([sys.executable, "app.py", "--port", str(port), "--offline"], cwd=ROOT, stdout=subprocess.DEVNULL)
        try:
            http.append(_until(lambda port=port: _answers(port), app) - began)
            client = Client(f"http://127.0.0.1:{port}/", verbose=False)
            answer = str(client.predict("What is a kalboishakhi storm?", "en", api_name="/answer"))
            first.append(time.perf_counter() - began)
            if not re.search(r"\[\d\]", answer):
                raise RuntimeError(f"the app gave no answer with evidence: {answer}")
            time.sleep(_SETTLED_S)
            process = psutil.Process(app.pid)
            memory.append(sum(one.memory_info().rss for one in (process, *process.children(recursive=True))) / 1e6)
        finally:
            _end(app)
    rows = [
        line("process start to first HTTP answer", "s", http),
        line("process start to first answer with evidence", "s", first),
        line("resident memory of the app and its children, models loaded", "MB", memory),
    ]
    return [Table("app", COLUMNS, rows)]


def _end(app: subprocess.Popen) -> None:
    children = psutil.Process(app.pid).children(recursive=True) if app.poll() is None else []
    for process in (app, *children):
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue  # a child that ended by itself
    app.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _answers(port: int) -> bool:
    try:
        return urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=1).status == 200
    except (urllib.error.URLError, OSError):
        return False


def _until(true: Callable[[], bool], process: subprocess.Popen, limit: float = 60) -> float:
    ends = time.perf_counter() + limit
    while time.perf_counter() < ends:
        if process.poll() is not None:
            raise RuntimeError(f"the app ended with status {process.returncode} before it answered")
        if true():
            return time.perf_counter()
        time.sleep(0.02)
    raise TimeoutError(f"the app did not answer within {limit:.0f} s")
