"""A hub on loopback, and the half-fetched caches that a real one leaves behind."""

from __future__ import annotations

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlparse

from tests.common_simplified import fixtures

TOKEN = "hf_" + "s" * 30


class FakeHub:
    """A hub on loopback that serves directories, some of them gated, as the real one answers."""

    def __init__(self) -> None:
        self.repos: dict[str, Path] = {}
        self.gated: set[str] = set()
        self.requests: list[str] = []
        self.tokens: set[str] = {TOKEN}
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                owner.answer(self, body=True)

            def do_HEAD(self) -> None:
                owner.answer(self, body=False)

            def log_message(self, *_: object) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def answer(self, request: BaseHTTPRequestHandler, *, body: bool) -> None:
        parts = urlparse(request.path).path.strip("/").split("/")
        self.requests.append(request.path)
        if parts[0] == "api":
            name, rest = "/".join(parts[2:4]), parts[4:]
        else:
            parts = parts[1:] if parts[0] == "datasets" else parts
            name, rest = "/".join(parts[:2]), parts[2:]
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if token and token not in self.tokens:
            return self.send(request, 401, b'{"error": "Invalid username or password."}', {}, body)
        if name not in self.repos:
            return self.send(request, 401 if not token else 404, b"{}", {"X-Error-Code": "RepoNotFound"}, body)
        if rest and rest[1] not in ("main", fixtures.SHA):
            return self.send(request, 404, b"{}", {"X-Error-Code": "RevisionNotFound"}, body)
        if name in self.gated and rest[:1] == ["resolve"]:
            status = 403 if token else 401
            return self.send(request, status, b"{}", {"X-Error-Code": "GatedRepo"}, body)
        return self.serve(request, name, rest, body)

    def serve(self, request: BaseHTTPRequestHandler, name: str, rest: list[str], body: bool) -> None:
        root = self.repos[name]
        files = sorted(path for path in root.rglob("*") if path.is_file())
        sizes = {path.relative_to(root).as_posix(): path.stat().st_size for path in files}
        if not rest or rest[0] == "revision":
            siblings = [{"rfilename": path, "size": size} for path, size in sizes.items()]
            data = json.dumps({"id": name, "modelId": name, "sha": fixtures.SHA, "siblings": siblings}).encode()
            return self.send(request, 200, data, {}, body)
        if rest[0] == "tree":
            entries = [{"type": "file", "path": path, "size": size, "oid": path} for path, size in sizes.items()]
            return self.send(request, 200, json.dumps(entries).encode(), {}, body)
        data = (root / "/".join(rest[2:])).read_bytes()
        etag = f'"{hashlib.sha1(data).hexdigest()}"'
        return self.send(request, 200, data, {"ETag": etag, "X-Repo-Commit": fixtures.SHA}, body)

    def send(
        self, request: BaseHTTPRequestHandler, status: int, data: bytes, headers: dict[str, str], body: bool
    ) -> None:
        request.send_response(status)
        for key, value in {"Content-Type": "application/json", "Content-Length": str(len(data)), **headers}.items():
            request.send_header(key, value)
        request.end_headers()
        if body:
            request.wfile.write(data)
