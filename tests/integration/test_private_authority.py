"""HTTPS from a host that trusts a closed network's own authority: by file, by hash, and no longer once it is gone."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.integration.conftest import Target

pytestmark = pytest.mark.lab

NAME = "packages.closed.example"
BY_FILE = f"curl --silent --show-error --resolve {NAME}:8443:127.0.0.1 https://{NAME}:8443/"
# Python on Ubuntu has only the hash directory to look into.
BY_HASH = f"""python3 - <<'END'
import http.client, socket, ssl
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.load_verify_locations(capath="/etc/ssl/certs")
socket.create_connection = lambda address, *rest, connect=socket.create_connection: connect(("127.0.0.1", 8443), *rest)
connection = http.client.HTTPSConnection("{NAME}", 8443, context=context)
connection.request("GET", "/")
print(connection.getresponse().status)
END"""


def openssl(folder: Path, *words: str) -> None:
    subprocess.run(["openssl", *words], cwd=folder, capture_output=True, text=True, timeout=60, check=True)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a bundle of two authorities, the second of which signed a server's certificate."""
    folder = tmp_path_factory.mktemp("authority")
    for name in ("first", "second"):
        openssl(
            folder, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
            "-subj", f"/CN=provision test authority {name}", "-keyout", f"{name}.key", "-out", f"{name}.pem",
        )  # fmt: skip
    openssl(
        folder, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
        "-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME}", "-addext", "basicConstraints=CA:FALSE",
        "-CA", "second.pem", "-CAkey", "second.key", "-keyout", "server.key", "-out", "server.pem",
    )  # fmt: skip
    texts = [(folder / f"{name}.pem").read_text() for name in ("first", "second")]
    (folder / "bundle.pem").write_text("two authorities of a closed network\n".join(["", *texts]))
    return folder


@pytest.fixture(scope="module")
def apply(new_target: Callable[..., Target], authority: Path) -> Callable[[str], Target]:
    """Applies role base with this CA bundle to a target on which a server of that authority listens."""
    target = new_target("private-ca")
    pem = (authority / "server.pem").read_text() + (authority / "server.key").read_text()
    target.sh(f"cat > /root/server.pem <<'END'\n{pem}\nEND")
    target.sh("systemd-run --quiet --unit test-server openssl s_server -accept 8443 -cert /root/server.pem -www")
    mirrors = yaml.safe_load(Path(target.host.inventory).read_text())["all"]["children"]["lab"]["hosts"]
    sources = mirrors[target.name]["mirrors"].get("apt", {}).get("sources", [])

    def play(bundle: str) -> Target:
        done = target.play(["base"], {"base_ca_bundle": bundle, "base_apt_sources": sources})
        assert done.code == 0, done.output[-4000:]
        return target

    return play


def test_a_server_of_a_private_authority_is_trusted_exactly_while_declared(
    apply: Callable[[str], Target], authority: Path
) -> None:
    target = apply("")
    assert "verify" in refused(target, BY_FILE)
    assert "CERTIFICATE_VERIFY_FAILED" in refused(target, BY_HASH)
    apply(str(authority / "bundle.pem"))
    assert "s_server" in target.sh(BY_FILE)
    assert target.sh(BY_HASH) == "200\n"
    apply("")
    assert "verify" in refused(target, BY_FILE)
    assert "CERTIFICATE_VERIFY_FAILED" in refused(target, BY_HASH)
    assert target.sh("find /etc/ssl/certs /usr/local/share/ca-certificates -name 'provision-*'") == ""


def refused(target: Target, script: str) -> str:
    """What a fetch says that must fail."""
    return target.sh(f"! {{ {script}\n}} 2>&1")
