"""A stand-in for the repository of NVIDIA's container toolkit: four packages of one version, CDI refresh units.

`nvidia-ctk cdi generate` writes a specification with no devices in it, and the runtime hands over to runc: what runs in
such a container sees no GPU, truly.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.standins.apt_repository import FLAT, Package, Repository, SigningKey
from tests.standins.nvidia_parts import library

VERSIONS = ("1.19.1", "1.20.0")

CTK = """\
#!/bin/sh
# stand-in: which version it is, its configuration, and a CDI specification without devices
case "$*" in
*--version*)
    echo "NVIDIA Container Toolkit CLI version {version} (stand-in)"
    ;;
*"cdi generate"*)
    out=$(echo "$*" | sed -n 's/.*--output[= ]\\([^ ]*\\).*/\\1/p')
    out=${{out:-${{NVIDIA_CTK_CDI_OUTPUT_FILE_PATH:-/dev/stdout}}}}
    mkdir -p "$(dirname "$out")"
    printf 'cdiVersion: 0.5.0\\nkind: nvidia.com/gpu\\ndevices:\\n- name: all\\n  containerEdits:\\n' > "$out"
    printf '    env:\\n    - NVIDIA_STANDIN=void\\ncontainerEdits: {{}}\\n' >> "$out"
    ;;
*"cdi list"*)
    grep -hs '^- name: ' /etc/cdi/*.yaml /var/run/cdi/*.yaml | sed 's|^- name: |nvidia.com/gpu=|'
    ;;
*"config"*"--in-place"*)
    file=/etc/nvidia-container-runtime/config.toml
    [ -s "$file" ] || printf '[nvidia-container-runtime]\\nmode = "auto"\\n' > "$file"
    ;;
*)
    echo "nvidia-ctk: stand-in, does not know: $*" >&2
    exit 1
    ;;
esac
"""
RUNTIME = """\
#!/bin/sh
# stand-in: adds nothing to the container
if [ "$1" = --version ]; then
    echo "NVIDIA Container Runtime version {version} (stand-in)"
fi
exec runc "$@"
"""
CLI = """\
#!/bin/sh
echo "nvidia-container-cli: stand-in {version}: there is no driver"
exit 1
"""
# The conditions are the real unit's: no specification where the running kernel has no nvidia module.
REFRESH_SERVICE = """\
[Unit]
Description=Refresh NVIDIA CDI specification file (stand-in)
ConditionPathExists=|/usr/bin/nvidia-smi
ConditionPathExists=/usr/bin/nvidia-ctk
After=multi-user.target

[Service]
Type=oneshot
Environment=NVIDIA_CTK_CDI_OUTPUT_FILE_PATH=/var/run/cdi/nvidia.yaml
EnvironmentFile=-/etc/nvidia-container-toolkit/nvidia-cdi-refresh.env
ExecCondition=/usr/bin/grep -qE '/(nvidia|nvidia-current)\\.ko' /lib/modules/%v/modules.dep
ExecStart=/usr/bin/nvidia-ctk cdi generate
RemainAfterExit=yes

[Install]
WantedBy=multi-user.target
"""
REFRESH_PATH = """\
[Unit]
Description=Trigger CDI refresh on NVIDIA driver install or uninstall events (stand-in)

[Path]
PathChanged=/lib/modules/%v/modules.dep
PathChanged=/lib/modules/%v/modules.dep.bin

[Install]
WantedBy=multi-user.target
"""
POSTINST = """\
#!/bin/sh
set -e
[ "$1" = configure ] || exit 0
mkdir -p /etc/nvidia-container-runtime
/usr/bin/nvidia-ctk --quiet config --config-file=/etc/nvidia-container-runtime/config.toml --in-place
case "$(systemctl is-system-running 2>/dev/null || :)" in
running|degraded)
    systemctl daemon-reload
    systemctl enable --now nvidia-cdi-refresh.path nvidia-cdi-refresh.service || :
    ;;
esac
"""


def repository(root: Path, key: SigningKey) -> Repository:
    """An empty flat repository at .../stable/deb/amd64; its key lies three folders above, in `gpgkey`."""
    origin = "https://nvidia.github.io/libnvidia-container"
    return Repository(root, key, FLAT, origin=origin, label="NVIDIA CORPORATION", key_name="../../../gpgkey")


def packages(version: str) -> Iterator[Package]:
    """The four packages of one version, such as 1.20.0."""
    full = f"{version}-1"
    yield Package("libnvidia-container1", full, depends="libc6", files=library("libnvidia-container", version=version))
    yield Package(
        "libnvidia-container-tools",
        full,
        depends=f"libc6, libnvidia-container1 (>= {full})",
        files={"/usr/bin/nvidia-container-cli": CLI.format(version=version)},
    )
    yield Package(
        "nvidia-container-toolkit-base",
        full,
        fields={"Breaks": "nvidia-container-runtime (<= 3.5.0-1)", "Replaces": "nvidia-container-runtime (<= 3.5.0-1)"},
        files={
            "/usr/bin/nvidia-ctk": CTK.format(version=version),
            "/usr/bin/nvidia-cdi-hook": CTK.format(version=version),
            "/usr/bin/nvidia-container-runtime": RUNTIME.format(version=version),
            "/etc/systemd/system/nvidia-cdi-refresh.service": REFRESH_SERVICE,
            "/etc/systemd/system/nvidia-cdi-refresh.path": REFRESH_PATH,
            "/etc/nvidia-container-toolkit/nvidia-cdi-refresh.env": "",
        },
        scripts={"postinst": POSTINST},
    )
    yield Package(
        "nvidia-container-toolkit",
        full,
        depends=(
            f"nvidia-container-toolkit-base (= {full}), libnvidia-container-tools (>= {full}), "
            "libnvidia-container-tools (<< 2.0.0)"
        ),
        fields={"Breaks": "nvidia-container-runtime-hook", "Replaces": "nvidia-container-runtime-hook"},
        files={"/usr/bin/nvidia-container-runtime-hook": "#!/bin/sh\n# stand-in: adds nothing\nexit 0\n"},
    )
