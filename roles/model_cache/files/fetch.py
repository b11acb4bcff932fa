"""Bring the files of one pinned model into a hub cache: resumable, and proved before they appear in it.

Reads one request as JSON on stdin, writes one answer as JSON on stdout; `provision_models` runs it as the cache's user.
Since huggingface_hub 1.x a download that dies begins again from zero, and nothing compares the bytes with a checksum.
Here a part survives its process, a file enters the cache only after its checksum is proved, and then the client's own
`snapshot_download` links the snapshot.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import hashlib
import json
import os
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
from huggingface_hub import HfApi, constants, get_hf_file_metadata, hf_hub_url, snapshot_download
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.file_download import http_get, repo_folder_name
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import build_hf_headers, filter_repo_objects

AT_ONCE = 4  # files brought at the same time
READ = 8 * 1024 * 1024


class Fault(Exception):
    """A sentence for the operator."""


@dataclass
class Request:
    """What to bring: `files` pins paths to sha256, `include` adds paths by glob.

    Of what is in the cache, `good` (path to sha256) is known to be right and `bad` to be wrong.
    """

    repo: str
    revision: str
    files: dict[str, str]
    include: list[str]
    good: dict[str, str]
    bad: list[str]
    cache: str
    endpoint: str
    token: str
    reserve_bytes: int
    resumed: int = field(default=0, init=False)

    @property
    def storage(self) -> Path:
        return Path(self.cache) / repo_folder_name(repo_id=self.repo, repo_type="model")

    def pointer(self, path: str) -> Path:
        return self.storage / "snapshots" / self.revision / path


def sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(READ):
            digest.update(chunk)
    return digest.hexdigest()


def git_id_of(path: Path) -> str:
    """The id git gives a file. Only small files are held in git itself."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def prove(request: Request, entry: RepoFile, held: Path) -> str:
    """Compare a file with the manifest, or with the hub's own checksum where the manifest names none.

    Returns its sha256. Removes the file and raises Fault when it differs, so that the next run downloads it again.
    """
    sha256 = got = sha256_of(held)
    expected = request.files.get(entry.path) or (entry.lfs.sha256 if entry.lfs else None)
    if expected is None:
        expected, got = entry.blob_id, git_id_of(held)
    if got == expected:
        return sha256
    held.unlink()
    raise Fault(
        f"{request.repo} {entry.path}: expected {expected}, got {got} from {request.endpoint}; "
        "it was removed and the next run downloads it again"
    )


def listing(request: Request) -> dict[str, RepoFile]:
    """The revision's files by path. Everything that contradicts the manifest is told before anything is downloaded."""
    api = HfApi(endpoint=request.endpoint, token=request.token or False)
    entries = api.list_repo_tree(request.repo, revision=request.revision, recursive=True)
    listed = {entry.path: entry for entry in entries if isinstance(entry, RepoFile)}
    faults = [f"{request.repo} has no file {path} at this revision" for path in request.files if path not in listed]
    for path, expected in request.files.items():
        lfs = listed[path].lfs if path in listed else None
        if lfs and lfs.sha256 != expected:
            faults.append(
                f"{request.repo} {path}: expected {expected}, the hub holds {lfs.sha256}; nothing was downloaded"
            )
    if faults:
        raise Fault("; ".join(faults))
    included = filter_repo_objects(listed, allow_patterns=request.include) if request.include else []
    return {path: listed[path] for path in sorted({*request.files, *included})}


def remove_bad(request: Request) -> None:
    """Take a wrong file out of the cache with its blob; a blob outside the cache is not ours to remove."""
    for path in request.bad:
        pointer = request.pointer(path)
        blob = Path(os.path.realpath(pointer))
        with contextlib.suppress(FileNotFoundError):
            pointer.unlink()
            if blob.is_relative_to(os.path.realpath(request.cache)):
                blob.unlink()


def need_space(request: Request, absent: list[RepoFile]) -> None:
    """Refuse before the first byte when the disk cannot hold what is missing and still keep its reserve."""
    parts = sum(part.stat().st_size for part in (request.storage / "blobs").glob("*.part"))
    needed = max(0, sum(entry.size for entry in absent) - parts)
    free = shutil.disk_usage(request.cache).free
    if needed + request.reserve_bytes > free:
        told = [f"{count / 1e9:.1f} GB" for count in (needed, request.reserve_bytes, free)]
        spare = f"{told[1]} to spare in {request.cache}"
        raise Fault(f"{request.repo} needs {told[0]} and {spare}, where {told[2]} are free")


def bring(request: Request, entry: RepoFile) -> str | None:
    """Download one file into the blobs, going on from an earlier part. Returns its sha256.

    Returns None for a file that the hub serves over Xet only; `snapshot_download` then brings it.
    """
    url = hf_hub_url(request.repo, entry.path, revision=request.revision, endpoint=request.endpoint)
    token = request.token or False
    found = get_hf_file_metadata(url, token=token, retry_on_errors=True)
    size = entry.size if found.size is None else found.size
    if size > constants.MAX_HTTP_DOWNLOAD_SIZE:
        return None
    # A signed address at a content store must not be shown the token.
    same_host = urlsplit(found.location).netloc == urlsplit(url).netloc
    headers = build_hf_headers(token=token if same_host else False)
    blob = request.storage / "blobs" / str(found.etag)
    part = blob.with_name(f"{blob.name}.part")
    part.parent.mkdir(parents=True, exist_ok=True)
    with part.open("ab") as stream:
        # A run whose controller died may still be downloading this very file.
        fcntl.flock(stream, fcntl.LOCK_EX)
        if blob.exists():
            part.unlink(missing_ok=True)
            return prove(request, entry, blob)
        if stream.tell() > size:
            stream.truncate(0)
        had = stream.seek(0, os.SEEK_END)
        http_get(found.location, stream, resume_size=had, headers=headers, expected_size=size)
        stream.flush()
        request.resumed += had
        sha256 = prove(request, entry, part)
        part.rename(blob)
    return sha256


def fulfil(request: Request) -> dict[str, object]:
    """Everything that is wanted of one model, proved and linked."""
    wanted = listing(request)
    remove_bad(request)
    absent = [entry for path, entry in wanted.items() if not request.pointer(path).exists()]
    need_space(request, absent)
    proved = {path: sha256 for path, sha256 in request.good.items() if path in wanted}
    faults = []
    with ThreadPoolExecutor(AT_ONCE) as pool:
        coming = {entry.path: pool.submit(bring, request, entry) for entry in absent}
    for path, future in coming.items():
        try:
            if sha256 := future.result():
                proved[path] = sha256
        except (Fault, HfHubHTTPError, httpx2.HTTPError, OSError) as error:
            faults.append(sentence(request, error, path))
    if faults:
        raise Fault("; ".join(faults))
    snapshot_download(
        request.repo,
        revision=request.revision,
        cache_dir=request.cache,
        endpoint=request.endpoint,
        token=request.token or False,
        allow_patterns=[glob.escape(path) for path in wanted],
    )
    for listed in (request.storage / "trees").glob("*.json"):
        # The client writes it through mkstemp, 0600: the other members could not read it.
        if listed.stat().st_uid == os.geteuid():
            listed.chmod(0o664)
    for path, entry in wanted.items():
        proved[path] = proved.get(path) or prove(request, entry, Path(os.path.realpath(request.pointer(path))))
    size = sum(entry.size for entry in absent)
    return {"files": proved, "downloaded": [entry.path for entry in absent], "bytes": size, "resumed": request.resumed}


def sentence(request: Request, error: Exception, path: str = "") -> str:
    """What the operator is told about an error."""
    subject = f"{request.repo} {path}".strip()
    if isinstance(error, Fault):
        return str(error)
    if isinstance(error, GatedRepoError | RepositoryNotFoundError):
        held = "with the given token" if request.token else "without a token: set model_cache_token"
        return f"{subject} is not found at {request.endpoint}, or not to be read {held}"
    if isinstance(error, RevisionNotFoundError):
        return f"{subject} has no revision {request.revision} at {request.endpoint}"
    if isinstance(error, HfHubHTTPError):
        return f"{subject}: {request.endpoint} answered {error.response.status_code}"
    told = str(error).splitlines()
    return f"{subject}: {request.endpoint}: {type(error).__name__}: {told[0] if told else 'no message'}"


def main() -> None:
    os.umask(0o002)
    request = Request(**json.load(sys.stdin))
    try:
        answer = fulfil(request)
    except (Fault, HfHubHTTPError, httpx2.HTTPError, OSError) as error:
        answer = {"failed": sentence(request, error)}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
