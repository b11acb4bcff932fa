"""A model hub on a real socket: enough of the Hugging Face API for the real client, and able to misbehave on demand.

It serves synthetic repositories with small git files and redirected LFS files; Xet is absent, as on a plain mirror.
In a test: `with Hub(address) as hub: hub.add("acme/tiny", {...}); ...; hub.misbehave("weights.bin", cut_after=1000)`.
Alone: `python3 -m tests.standins.hub --address 127.0.0.1 --port 8500` serves one demonstration repository.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import threading
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import cast
from urllib.parse import quote, unquote, urlsplit

CHUNK = 16 * 1024


@dataclass(frozen=True)
class HubFile:
    """One file of a repository. `lfs` ones are answered with a redirect to the content store, as the hub does."""

    content: bytes
    lfs: bool

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def git_oid(self) -> str:
        """The blob's id in git: of the pointer for LFS, of the content otherwise."""
        body = self.content
        if self.lfs:
            pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {len(body)}\n"
            body = pointer.encode()
        return hashlib.sha1(b"blob %d\0" % len(body) + body, usedforsecurity=False).hexdigest()

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.git_oid


@dataclass(frozen=True)
class Repository:
    """One revision of a model repository; a `token` makes it private."""

    name: str
    revision: str
    files: dict[str, HubFile]
    token: str | None = None

    def manifest(self, *pinned: str) -> dict[str, object]:
        """An entry of `model_cache_models` that pins these files (all of them when none is named)."""
        names = pinned or tuple(self.files)
        return {
            "repo": self.name,
            "revision": self.revision,
            "files": {name: self.files[name].sha256 for name in names},
        }


@dataclass
class Fault:
    """What goes wrong with the content of one file, `times` times.

    `cut_after` closes the connection after so many bytes of the body; `stall_after` keeps it open without sending
    more until it is released; `flip` alters the last byte; `status` answers with that error instead of a body.
    """

    cut_after: int | None = None
    stall_after: int | None = None
    flip: bool = False
    status: int | None = None
    times: int = 1


@dataclass(frozen=True)
class Request:
    """What a client asked for, and how many bytes of body it was sent."""

    method: str
    path: str
    range: str | None
    authorized: bool
    status: int
    sent: int


@dataclass
class Hub:
    """The server as a context manager. `port` 0 lets the system choose."""

    address: str = "127.0.0.1"
    port: int = 0
    repositories: dict[str, Repository] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._faults: dict[str, Fault] = {}
        self._lock = threading.Lock()
        self.released = threading.Event()
        self.stalled = threading.Event()

    def __enter__(self) -> Hub:
        # Content has an origin of its own, as on the real hub: there the client must not show its token.
        self._servers = [HubServer((self.address, port), HubHandler) for port in (self.port, 0)]
        self.port, self.content_port = (server.server_address[1] for server in self._servers)
        for server in self._servers:
            server.hub = self
            threading.Thread(target=server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
        for server in self._servers:
            server.shutdown()
            server.server_close()

    @property
    def endpoint(self) -> str:
        return f"http://{self.address}:{self.port}"

    def add(
        self, name: str, files: dict[str, bytes], lfs: tuple[str, ...] = (".bin",), token: str | None = None
    ) -> Repository:
        """Publish a repository; names ending in one of `lfs` are stored as LFS files."""
        held = {path: HubFile(content, path.endswith(lfs)) for path, content in files.items()}
        seed = json.dumps({path: file.sha256 for path, file in sorted(held.items())}) + name
        revision = hashlib.sha1(seed.encode(), usedforsecurity=False).hexdigest()
        self.repositories[name] = Repository(name, revision, held, token)
        return self.repositories[name]

    def misbehave(self, path: str, fault: Fault) -> None:
        """The next `fault.times` requests for the content of `path` go wrong in this way."""
        self._faults[path] = fault
        self.stalled.clear()
        self.released.clear()

    def release(self) -> None:
        """Let the transfers that stalled end, cut short."""
        self.released.set()

    def fault_for(self, path: str) -> Fault | None:
        with self._lock:
            fault = self._faults.get(path)
            if fault is None or fault.times < 1:
                return None
            fault.times -= 1
            return fault

    def record(self, request: Request) -> None:
        with self._lock:
            self.requests.append(request)

    def content_bytes(self) -> int:
        """Bytes of file content sent since the last `forget`."""
        return sum(request.sent for request in self.requests if "/api/" not in request.path)

    def forget(self) -> None:
        """Drop the record of requests and the faults that have not been used up."""
        with self._lock:
            self.requests.clear()
            self._faults.clear()


class HubServer(ThreadingHTTPServer):
    daemon_threads = True
    hub: Hub


class HubHandler(BaseHTTPRequestHandler):
    """One request. The routes are those that `huggingface_hub` uses for models."""

    protocol_version = "HTTP/1.1"

    @property
    def hub(self) -> Hub:
        return cast(HubServer, self.server).hub

    def log_message(self, format: str, *args: object) -> None:
        """The hub keeps its own record of requests; stderr stays the test's."""

    def do_HEAD(self) -> None:
        self.route()

    def do_GET(self) -> None:
        self.route()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.refuse(HTTPStatus.NOT_FOUND, "EntryNotFound", "this hub takes no posts")

    def route(self) -> None:
        parts = [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]
        api = parts[:2] == ["api", "models"]
        if parts[0] == "content":
            return self.send_content(self.find_content(parts[1]), parts[-1])
        if api:
            parts = parts[2:]
        repository = self.hub.repositories.get("/".join(parts[:2]))
        if repository is None or not self.may_read(repository):
            return self.refuse(HTTPStatus.UNAUTHORIZED, "RepoNotFound", "Repository not found")
        verb, revision, path = (*parts[2:4], "main", "main")[0], (*parts[3:4], "main")[0], "/".join(parts[4:])
        if revision not in (repository.revision, "main"):
            return self.refuse(HTTPStatus.NOT_FOUND, "RevisionNotFound", f"Invalid rev id: {revision}")
        if api:
            return self.send_json(tree(repository) if verb == "tree" else information(repository))
        if path not in repository.files:
            return self.refuse(HTTPStatus.NOT_FOUND, "EntryNotFound", "Entry not found")
        return self.resolve(repository, path)

    def may_read(self, repository: Repository) -> bool:
        return repository.token is None or self.headers.get("Authorization") == f"Bearer {repository.token}"

    def find_content(self, sha256: str) -> HubFile | None:
        held = (file for repository in self.hub.repositories.values() for file in repository.files.values())
        return next((file for file in held if file.sha256 == sha256), None)

    def resolve(self, repository: Repository, path: str) -> None:
        file = repository.files[path]
        headers = {"X-Repo-Commit": repository.revision, "Accept-Ranges": "bytes"}
        if not file.lfs:
            return self.send_content(file, path, headers)
        headers |= {"X-Linked-Etag": f'"{file.etag}"', "X-Linked-Size": str(len(file.content))}
        store = f"http://{self.hub.address}:{self.hub.content_port}"
        headers["Location"] = f"{store}/content/{file.sha256}/{quote(path, safe='')}"
        return self.answer(HTTPStatus.FOUND, b"", headers)

    def send_content(self, file: HubFile | None, path: str, headers: dict[str, str] | None = None) -> None:
        if file is None:
            return self.refuse(HTTPStatus.NOT_FOUND, "EntryNotFound", "no such content")
        fault = self.hub.fault_for(path) if self.command == "GET" else None
        if fault and fault.status:
            return self.refuse(HTTPStatus(fault.status), "", "told to fail")
        headers = {"ETag": f'"{file.etag}"', "Accept-Ranges": "bytes", **(headers or {})}
        body, status, first = file.content, HTTPStatus.OK, 0
        if asked := self.headers.get("Range"):
            first = int(asked.removeprefix("bytes=").split("-")[0])
            if first >= len(body):
                return self.answer(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, b"", headers)
            headers["Content-Range"] = f"bytes {first}-{len(body) - 1}/{len(body)}"
            status = HTTPStatus.PARTIAL_CONTENT
        if fault and fault.flip:
            body = body[:-1] + bytes([body[-1] ^ 0xFF])
        return self.answer(status, body[first:], headers, fault)

    def send_json(self, data: object) -> None:
        self.answer(HTTPStatus.OK, json.dumps(data).encode(), {"Content-Type": "application/json"})

    def refuse(self, status: HTTPStatus, code: str, message: str) -> None:
        headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
        self.answer(status, json.dumps({"error": message}).encode(), headers)

    def answer(self, status: HTTPStatus, body: bytes, headers: dict[str, str], fault: Fault | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        sent = self.write(body, fault) if self.command != "HEAD" else 0
        authorized = "Authorization" in self.headers
        self.hub.record(Request(self.command, self.path, self.headers.get("Range"), authorized, int(status), sent))

    def write(self, body: bytes, fault: Fault | None) -> int:
        """Send the body as far as the fault lets it; return the number of bytes sent."""
        limits = [limit for limit in (fault.cut_after, fault.stall_after) if limit is not None] if fault else []
        end = min([len(body), *limits])
        for start in range(0, end, CHUNK):
            try:
                self.wfile.write(body[start : min(start + CHUNK, end)])
            except OSError:
                self.close_connection = True
                return start
        if fault and limits:
            self.close_connection = True
        if fault and fault.stall_after is not None:
            self.wfile.flush()
            self.hub.stalled.set()
            self.hub.released.wait()
        return end


def information(repository: Repository) -> dict[str, object]:
    """What `/api/models/NAME/revision/REV` says."""
    siblings = [{"rfilename": path} for path in sorted(repository.files)]
    private = repository.token is not None
    return {"id": repository.name, "sha": repository.revision, "private": private, "siblings": siblings, "tags": []}


def tree(repository: Repository) -> list[dict[str, object]]:
    """What `/api/models/NAME/tree/REV?recursive=true` says."""
    entries: list[dict[str, object]] = []
    for path, file in sorted(repository.files.items()):
        entry: dict[str, object] = {"type": "file", "oid": file.git_oid, "size": len(file.content), "path": path}
        if file.lfs:
            entry["lfs"] = {"oid": file.sha256, "size": len(file.content), "pointerSize": 134}
        entries.append(entry)
    return entries


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8500)
    options = parser.parse_args()
    with Hub(options.address, options.port) as hub:
        repository = hub.add("acme/tiny", {"config.json": b'{"demo": true}\n', "weights.bin": bytes(range(256)) * 4096})
        entry = json.dumps([repository.manifest()])
        print(f"model_cache_endpoint: {hub.endpoint}\nmodel_cache_models: {entry}", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
