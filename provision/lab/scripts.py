"""Shell scripts that run as root inside an image while it is made. Plain sh; `set -eu` is given by the caller."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

# On a root that came from a registry: what a bootstrapped root has from the start.
INSTALL = """\
export DEBIAN_FRONTEND=noninteractive
{sources}
apt-get update
apt-get install -y --no-install-recommends {packages}
"""

# The users that tests need; Ubuntu's own image has a user in the place of the first.
# Host keys and machine-id are per target, so the image has none.
FINISH = """\
rm -f /usr/sbin/policy-rc.d
! id ubuntu > /dev/null 2>&1 || userdel --remove ubuntu
useradd --create-home --shell /bin/bash --uid 1000 admin
useradd --create-home --shell /bin/bash --uid 1001 needpass
useradd --create-home --shell /bin/bash --uid 1002 nosudo
printf '%s\\n' 'admin ALL=(ALL) NOPASSWD: ALL' 'needpass ALL=(ALL) ALL' > /etc/sudoers.d/provision-lab
chmod 0440 /etc/sudoers.d/provision-lab
rm -f /etc/ssh/ssh_host_*
: > /etc/machine-id
systemctl mask getty.target console-getty.service systemd-logind-varlink.socket 2>/dev/null
apt-get clean
rm -rf /var/lib/apt/lists/* /var/log/apt /var/log/dpkg.log /var/log/bootstrap.log
"""

# A box on which nothing has installed Python yet: preflight has to bring it by `raw`.
BARE = """\
export DEBIAN_FRONTEND=noninteractive
apt-get purge -y --auto-remove 'python3*' 'libpython3*'
rm -rf /usr/lib/python3 /usr/local/lib/python3* /var/log/apt /var/log/dpkg.log
! command -v python3
"""

# The word with a capital D that this root really is must not stand in os-release: Ansible would believe it over ID.
STANDIN = """\
for file in /usr/lib/os-release /etc/lsb-release /etc/issue /etc/issue.net /etc/debian_version; do
    dpkg-divert --quiet --local --rename --divert "$file.debian" --add "$file"
done
cat > /usr/lib/os-release <<'END'
PRETTY_NAME="Ubuntu {version} stand-in by provision"
NAME="Ubuntu"
VERSION_ID="{version}"
VERSION="{version} LTS stand-in ({codename})"
VERSION_CODENAME={codename}
UBUNTU_CODENAME={codename}
ID=ubuntu
ID_LIKE=debian
END
cat > /etc/lsb-release <<'END'
DISTRIB_ID=Ubuntu
DISTRIB_RELEASE={version}
DISTRIB_CODENAME={codename}
DISTRIB_DESCRIPTION="Ubuntu {version} stand-in by provision"
END
echo 'Ubuntu {version} stand-in by provision' | tee /etc/issue > /etc/issue.net
echo '{debian}/sid' > /etc/debian_version
"""


def install(packages: Iterable[str], sources: Sequence[str]) -> str:
    """The script that installs what a target needs, from these one-line sources or, without any, the image's own."""
    own = ""
    if sources:
        lines = "\n".join(sources)
        own = f"rm -f /etc/apt/sources.list.d/*\ncat > /etc/apt/sources.list <<'END'\n{lines}\nEND"
    return INSTALL.format(sources=own, packages=" ".join(packages))


def standin(version: str, codename: str) -> str:
    """The script that makes a Debian root call itself Ubuntu, surviving upgrades of base-files."""
    return STANDIN.format(version=version, codename=codename, debian="bullseye" if codename == "focal" else "bookworm")
