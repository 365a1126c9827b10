"""The served page without the addresses of other hosts that Gradio's template carries for link previews."""

import re
from typing import Any

_PREVIEW = re.compile(rb'\s*<meta\s+(?:property|name)="(?:og|twitter):[^>]*>', re.DOTALL)


class WithoutForeignAddresses:
    """ASGI middleware: removes the og: and twitter: tags from the one HTML document, and leaves every other response alone."""

    def __init__(self, app: Any):
        self._app = app

    async def __call__(self, scope: dict, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["path"] not in ("", "/") or scope["method"] != "GET":
            await self._app(scope, receive, send)
            return
        start: dict = {}
        body = b""

        async def rewrite(message: dict) -> None:
            nonlocal start, body
            if message["type"] == "http.response.start":
                start = message
                return
            body += message.get("body", b"")
            if message.get("more_body"):
                return
            cleaned = _PREVIEW.sub(b"", body)
            headers = [(name, value) for name, value in start["headers"] if name.lower() != b"content-length"]
            await send({**start, "headers": [*headers, (b"content-length", str(len(cleaned)).encode())]})
            await send({"type": "http.response.body", "body": cleaned})

        await self._app(scope, receive, rewrite)
