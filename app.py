"""Majlis: ask about culture and everyday life in your own language. `python app.py` opens it; a Hugging Face Space starts it here too."""

import os

# Before anything that might look them up: nothing is reported anywhere, and no hub is asked at start.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("DO_NOT_TRACK", "1")

import argparse
import io
import sys
import time
from collections.abc import Sequence

from index_builder.vocabulary import MajlisError


def main(arguments: Sequence[str] | None = None) -> int:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8")  # Windows would write a redirected stream in its code page
    options = _parser().parse_args(arguments)
    if options.offline:
        os.environ["HF_HUB_OFFLINE"] = "1"
    began = time.monotonic()
    print("Majlis: starting …", flush=True)
    try:
        from demo.opening import OpeningEngine
        from demo.settings import load_settings
        from index_builder.store import read_manifest

        settings = load_settings(model=options.model, offline=options.offline)
        if os.environ.get("SPACE_ID") and settings.generator != "none":
            from demo import hub

            model = settings.model(settings.generator)
            if not model.url:  # who sets MAJLIS_MODEL on a Space has asked for that model; there is no terminal to fetch it from
                hub.fetch(model, settings)
        _check_port(options.host, options.port)
        read_manifest(settings.index)  # a page that opens and closes again would say less
        engine = OpeningEngine(settings, options.gpu)
        from demo.page import build_page

        # who reaches this app from another computer shares it with others, and changes nothing for them
        page = build_page(engine, engine, engine.wait, may_choose=options.host in ("127.0.0.1", "localhost", "::1"))
        _, address, _ = page.launch(server_name=options.host, server_port=options.port, inbrowser=options.open, prevent_thread_lock=True)
        engine.open()  # models load while the page is already there
        print(f"Majlis: {address} is open after {time.monotonic() - began:.1f} s. Press Ctrl+C to end.", flush=True)
        engine.wait()
        print(f"Majlis: ready to answer after {time.monotonic() - began:.1f} s.", flush=True)
        page.blocks.block_thread()
    except MajlisError as error:
        print(f"Majlis cannot start: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    on_a_space = bool(os.environ.get("SPACE_ID"))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--host", default="0.0.0.0" if on_a_space else "127.0.0.1", help="address to listen on (default: this computer only)"
    )
    parser.add_argument("--port", type=int, default=7860)
    parser.add_argument(
        "--model",
        default=os.environ.get("MAJLIS_MODEL", ""),
        help="generator: a name from models.toml, a .gguf file, or none (default: models.toml)",
    )
    parser.add_argument("--gpu", default="auto", help="auto, off, or the number of layers to put on the GPU")
    parser.add_argument("--offline", action="store_true", help="forbid every download")
    parser.add_argument("--open", action="store_true", help="open the page in the browser")
    parser.add_argument("--share", choices=("no",), default="no", help="Majlis never opens a public tunnel")
    return parser


def _check_port(host: str, port: int) -> None:
    import socket

    with socket.socket() as probe:
        if os.name != "nt":  # on Windows the option lets two programs share a port, which is what this looks for
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, OverflowError) as error:
            raise MajlisError(
                f"Port {port} on {host} cannot be used ({error}). Choose another with --port {port + 1 if port < 65535 else 7860}."
            ) from error


if __name__ == "__main__":
    sys.exit(main())
