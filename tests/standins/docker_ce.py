"""A stand-in for Docker's repository: Docker's package names and relations around Debian's own binaries.

The daemon, client, containerd and runc are Debian's and really run; compose and buildx are plugins that only answer
`version`. What is proved with it is the route (key, apt's solver, switch-over, daemon), not Docker's own builds.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.standins.apt_repository import Package, Repository

DEBIAN = ("docker.io", "containerd", "runc")
PLUGINS = "/usr/libexec/docker/cli-plugins"
DISTRIBUTION = "docker, docker-engine, docker.io"

UNIT = """\
[Unit]
Description=Docker Application Container Engine
After=network-online.target docker.socket containerd.service
Wants=network-online.target containerd.service
Requires=docker.socket

[Service]
Type=notify
ExecStart=/usr/bin/dockerd -H fd:// --containerd=/run/containerd/containerd.sock
ExecReload=/bin/kill -s HUP $MAINPID
TimeoutStartSec=0
RestartSec=2
Restart=always
LimitNPROC=infinity
LimitCORE=infinity
TasksMax=infinity
Delegate=yes
KillMode=process
OOMScoreAdjust=-500

[Install]
WantedBy=multi-user.target
"""

POSTINST = """\
#!/bin/sh
set -e
[ "$1" = configure ] || exit 0
{group}
for unit in {units}; do
    deb-systemd-helper enable $unit >/dev/null
    systemctl daemon-reload
    deb-systemd-invoke start $unit || :
done
"""
PRERM = """\
#!/bin/sh
[ "$1" = remove ] || exit 0
deb-systemd-invoke stop {units} || :
"""

PLUGIN = """\
#!/bin/sh
# stand-in: answers Docker's question who it is, and `version`
if [ "$1" = docker-cli-plugin-metadata ]; then
    echo '{{"SchemaVersion":"0.1.0","Vendor":"stand-in","Version":"{version}","ShortDescription":"stand-in"}}'
else
    echo "{name} version {version} (stand-in)"
fi
"""


def binaries(folder: Path) -> Path:
    """Debian's packages, downloaded from this machine's own apt sources and unpacked into one tree."""
    tree = folder / "debian"
    if not tree.exists():
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["apt-get", "download", *DEBIAN], cwd=folder, check=True, capture_output=True, timeout=300)
        for deb in sorted(folder.glob("*.deb")):
            subprocess.run(["dpkg-deb", "--extract", str(deb), str(tree)], check=True, timeout=120)
    return tree


def fill(repository: Repository, tree: Path, version: str) -> None:
    """Build the five packages of an engine `version` (such as 29.1.0) into a repository."""
    for package in packages(tree, version):
        repository.add(package)


def packages(tree: Path, version: str) -> list[Package]:
    """Docker's five packages with the relations that Docker's own declare."""
    return [_engine(tree, version), _client(tree, version), _containerd(tree), *_plugins()]


def _engine(tree: Path, version: str) -> Package:
    units = "docker.socket docker.service"
    group = "getent group docker >/dev/null || groupadd --system docker"
    return Package(
        "docker-ce",
        f"5:{version}-1~standin",
        depends="containerd.io (>= 1.7.27), docker-ce-cli, iptables, libsystemd0, libdevmapper1.02.1",
        fields={"Conflicts": DISTRIBUTION, "Replaces": DISTRIBUTION, "Recommends": "apparmor, ca-certificates"},
        files={
            "/usr/bin/dockerd": tree / "usr/sbin/dockerd",
            "/usr/bin/docker-proxy": tree / "usr/sbin/docker-proxy",
            "/lib/systemd/system/docker.service": UNIT,
            "/lib/systemd/system/docker.socket": tree / "lib/systemd/system/docker.socket",
        },
        scripts={"postinst": POSTINST.format(group=group, units=units), "prerm": PRERM.format(units=units)},
    )


def _client(tree: Path, version: str) -> Package:
    return Package(
        "docker-ce-cli",
        f"5:{version}-1~standin",
        depends="libc6",
        fields={"Conflicts": "docker, docker.io", "Replaces": "docker.io"},
        files={"/usr/bin/docker": tree / "usr/bin/docker"},
    )


def _containerd(tree: Path) -> Package:
    names = ("containerd", "containerd-shim", "containerd-shim-runc-v1", "containerd-shim-runc-v2", "ctr")
    return Package(
        "containerd.io",
        "2.1.0-1~standin",
        depends="libc6, libseccomp2",
        fields={"Conflicts": "containerd, runc", "Replaces": "containerd, runc", "Provides": "containerd, runc"},
        files={
            **{f"/usr/bin/{name}": tree / "usr/bin" / name for name in names},
            "/usr/bin/runc": tree / "usr/sbin/runc",
            "/lib/systemd/system/containerd.service": tree / "lib/systemd/system/containerd.service",
            "/etc/containerd/config.toml": 'disabled_plugins = ["cri"]\n',
        },
        scripts={
            "postinst": POSTINST.format(group=":", units="containerd.service"),
            "prerm": PRERM.format(units="containerd.service"),
        },
        conffiles=("/etc/containerd/config.toml",),
    )


def _plugins() -> list[Package]:
    versions = {"compose": "2.40.0", "buildx": "0.30.0"}
    return [
        Package(
            f"docker-{name}-plugin",
            f"{version}-1~standin",
            fields={"Enhances": "docker-ce-cli"},
            files={f"{PLUGINS}/docker-{name}": PLUGIN.format(name=f"docker {name}", version=version)},
        )
        for name, version in versions.items()
    ]
