"""What Gradio serves and we do not want: addresses of other hosts in the page, and a door for uploads."""

import re
from typing import Any

_PREVIEW = re.compile(rb'\s*<meta\s+(?:property|name)="(?:og|twitter):[^>]*>', re.DOTALL)


class Private:
    """ASGI middleware: removes the og: and twitter: tags from the one HTML document, and answers 404 to uploads, which nothing here needs
    and which would let anybody fill the disk. Every other request and response passes untouched."""

    def __init__(self, app: Any):
        self._app = app

    async def __call__(self, scope: dict, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"].rstrip("/").endswith("/upload"):
            await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body", "body": b""})
            return
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
