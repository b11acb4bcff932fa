"""The archives of the NVIDIA stack together, behind one server: Ubuntu's, NVIDIA's CUDA repositories, the toolkit's.

In a test: `with Archives(folder) as archives: archives.settings(address)`; `archives.ubuntu_source(address)` goes among
the target's sources, where a real Ubuntu host has its own archive.
Alone: `python3 -m tests.standins.nvidia_archives --port 8600` serves them and prints what a host needs to use them.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
from pathlib import Path
from types import TracebackType

from tests.standins import nvidia_container, nvidia_cuda, nvidia_ubuntu
from tests.standins.apt_repository import Repository, Server, SigningKey

CUDA = "cuda/repos"
TOOLKIT = "libnvidia-container"


class Archives:
    """Four published repositories, each owner with a key of its own, served while the `with` block lasts."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        self.keys = {name: SigningKey(name) for name in ("ubuntu", "cuda", "toolkit")}
        self.ubuntu = Repository(
            folder / "ubuntu", self.keys["ubuntu"], "jammy", "restricted", origin="Ubuntu", label="Ubuntu"
        )
        self.cuda = nvidia_cuda.repository(folder / CUDA / "ubuntu2204/x86_64", self.keys["cuda"])
        self.cuda_debian = nvidia_cuda.repository(folder / CUDA / "debian12/x86_64", self.keys["cuda"])
        self.toolkit = nvidia_container.repository(folder / TOOLKIT / "stable/deb/amd64", self.keys["toolkit"])
        nvidia_ubuntu.fill(self.ubuntu)
        nvidia_cuda.fill_ubuntu(self.cuda)
        nvidia_cuda.fill_debian(self.cuda_debian)
        self.toolkit.add_all(nvidia_container.packages(nvidia_container.VERSIONS[0]))
        for repository in (self.ubuntu, self.cuda, self.cuda_debian, self.toolkit):
            repository.publish()
        self.server = Server(folder, port)

    def renew(self, keep: bool = True) -> None:
        """A newer version of everything that a host may hold appears, and a newer kernel."""
        nvidia_ubuntu.renew(self.ubuntu, keep)
        self.ubuntu.publish()
        self.toolkit.add_all(nvidia_container.packages(nvidia_container.VERSIONS[1]))
        self.toolkit.publish()

    def url(self, address: str, controller: str = "") -> str:
        """Where a host at `address` finds them; `controller` is this machine's address there, where it is known."""
        return f"http://{controller}:{self.server.port}" if controller else self.server.url_for(address)

    def settings(self, address: str, controller: str = "") -> dict[str, str]:
        """The roles' settings for such a host."""
        url = self.url(address, controller)
        return {
            "cuda_repository_url": f"{url}/{CUDA}",
            "cuda_repository_key_fingerprint": self.keys["cuda"].fingerprint,
            "nvidia_container_toolkit_repository_url": f"{url}/{TOOLKIT}/stable/deb",
            "nvidia_container_toolkit_repository_key_url": f"{url}/{TOOLKIT}/gpgkey",
            "nvidia_container_toolkit_repository_key_fingerprint": self.keys["toolkit"].fingerprint,
        }

    def ubuntu_source(self, address: str) -> str:
        """A deb822 stanza with its key inside: what a Ubuntu host has from the start."""
        key = "".join(f" {line or '.'}\n" for line in self.keys["ubuntu"].public.splitlines())
        return (
            f"Types: deb\nURIs: {self.server.url_for(address)}/ubuntu\nSuites: jammy\nComponents: restricted\n"
            f"Signed-By:\n{key}"
        )

    def __enter__(self) -> Archives:
        self.server.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.server.__exit__(kind, error, trace)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8600)
    parser.add_argument("--host", default="192.0.2.1", help="address of the host that is to use them")
    parser.add_argument("--renewed", action="store_true", help="offer the newer versions and the newer kernel too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="archives-") as folder, Archives(Path(folder), options.port) as archives:
        if options.renewed:
            archives.renew()
        print("".join(f"{name}: {value}\n" for name, value in archives.settings(options.host).items()))
        print(f"# /etc/apt/sources.list.d/ubuntu.sources\n{archives.ubuntu_source(options.host)}", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
