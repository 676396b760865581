"""A Hugging Face Hub on this machine, as much of it as publishing one model and loading it back takes."""

import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any


class HubStub:
    """Serves one repository on a free port while the `with` block runs; `files` is what was committed to it."""

    last_commit = "0123456789abcdef0123456789abcdef01234567"

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (HubHandler,), {"hub": self}))
        self.address = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> "HubStub":
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.server.shutdown()
        self.server.server_close()

    def commit(self, lines: list[dict[str, Any]]) -> None:
        """Take over the files of a commit, which come as base64."""
        values = [line["value"] for line in lines if line["key"] == "file"]
        self.files.update({value["path"]: base64.b64decode(value["content"]) for value in values})


class HubHandler(BaseHTTPRequestHandler):
    """The Hub's addresses: create, preupload, commit, repository facts, and the files."""

    hub: HubStub
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))) or self.read_chunks()
        path = self.path.split("?")[0]
        if path == "/api/repos/create":
            self.answer({"url": f"{self.hub.address}/someone/tiny", "name": "someone/tiny"})
        elif "/preupload/" in path:
            modes = {"uploadMode": "regular", "shouldIgnore": False}
            self.answer({"files": [{"path": file["path"], **modes} for file in json.loads(body)["files"]]})
        elif "/commit/" in path:
            self.hub.commit([json.loads(line) for line in body.splitlines()])
            commit = self.hub.last_commit
            address = f"{self.hub.address}/someone/tiny/commit/{commit}"
            self.answer({"commitUrl": address, "commitOid": commit, "success": True})
        else:
            self.answer({"errors": [], "warnings": []})

    def do_GET(self) -> None:
        if "/resolve/" not in self.path:
            missing = "/tree/" in self.path
            siblings = [{"rfilename": name} for name in self.hub.files]
            facts = {
                "id": "someone/tiny",
                "sha": self.hub.last_commit,
                "siblings": siblings,
                "private": False,
                "tags": [],
            }
            self.answer({} if missing else facts, status=404 if missing else 200)
            return
        name = self.path.split("?")[0].split("/resolve/")[1].partition("/")[2]  # after the revision
        content = self.hub.files.get(name)
        self.send(content or b"", status=404 if content is None else 200)

    def do_HEAD(self) -> None:
        self.do_GET()

    def answer(self, content: dict[str, Any], *, status: int = 200) -> None:
        self.send(json.dumps(content).encode(), status=status, kind="application/json")

    def send(self, content: bytes, *, status: int, kind: str = "application/octet-stream") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("X-Repo-Commit", self.hub.last_commit)
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        if status == 404:
            self.send_header("X-Error-Code", "EntryNotFound")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def read_chunks(self) -> bytes:
        """A body sent with `Transfer-Encoding: chunked`."""
        chunks = []
        while self.headers.get("Transfer-Encoding") == "chunked" and (size := int(self.rfile.readline(), 16)):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        return b"".join(chunks)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is printed."""
