"""What goes onto the disk of a virtual machine, and the scripts that run while its image is made and it comes up."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

BOOT_LOADER_PATH = "/usr/local/sbin/provision-lab-boot-loader"
BOOT_LOADER_DONE = "the boot loader is installed"
# The only process of the very first boot, which QEMU gives the kernel by hand.
BOOT_LOADER = f"""\
#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -o remount,rw / && grub-install /dev/sda && update-grub && rm "$0" && sync && echo '{BOOT_LOADER_DONE}'
reboot -f
"""

FILES: Mapping[str, str] = {
    "etc/fstab": "LABEL=root / ext4 errors=remount-ro 0 1\n",
    "etc/resolv.conf": "nameserver 10.0.2.3\n",
    "etc/systemd/network/10-lab.network": (
        "[Match]\nDriver=virtio_net\n[Network]\nAddress=10.0.2.15/24\nGateway=10.0.2.2\n"
    ),
    BOOT_LOADER_PATH.lstrip("/"): BOOT_LOADER,
}

PASSWORDS = "/run/provision-lab-passwords"

# Before the kernel is installed. The initramfs has this machine's drivers and no more: under emulation a full one costs
# ten seconds at each boot and a minute at each kernel update.
PREPARE = """\
mkdir -p /etc/initramfs-tools/conf.d /etc/initramfs-tools/hooks
echo MODULES=list > /etc/initramfs-tools/conf.d/provision-lab
cat > /etc/initramfs-tools/hooks/provision-lab <<'END'
#!/bin/sh
[ "$1" != prereqs ] || exit 0
. /usr/share/initramfs-tools/hook-functions
for module in ahci sd_mod ext4; do force_load "$module"; done
END
chmod 0755 /etc/initramfs-tools/hooks/provision-lab
"""

# The timers would start apt behind a test's back once a saved machine's clock is set.
FINISH = """\
cat > /etc/default/grub <<'END'
GRUB_DEFAULT=0
GRUB_TIMEOUT=0
GRUB_DISTRIBUTOR=Debian
GRUB_CMDLINE_LINUX_DEFAULT="quiet"
GRUB_CMDLINE_LINUX="console=ttyS0,115200"
GRUB_TERMINAL=console
END
echo 'grub-pc grub-pc/install_devices multiselect /dev/sda' | debconf-set-selections
systemctl enable systemd-networkd
systemctl disable apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer
"""

# Arguments: the root's archive, the disk, where its partition begins in bytes, the size of the file system. Standard
# input: an archive of files to put over it.
WRITE_DISK = """\
root=$(dirname "$1")/root
mkdir "$root"
trap 'rm -rf "$root"' EXIT
tar --numeric-owner -xf "$1" -C "$root"
tar --numeric-owner -xf - -C "$root"
cp "$root"/boot/vmlinuz-* "$(dirname "$2")/vmlinuz"
cp "$root"/boot/initrd.img-* "$(dirname "$2")/initrd.img"
PATH="$PATH:/usr/sbin:/sbin"
mkfs.ext4 -q -F -L root -d "$root" -E "offset=$3,lazy_itable_init=1" "$2" "$4"
"""

# Read once what a first connection needs, so that the saved memory has it, and leave the rest of the memory empty.
SETTLE = """\
systemctl is-system-running --wait && sync && echo 3 | sudo tee /proc/sys/vm/drop_caches > /dev/null &&
python3 -c 'import apt, json, zipfile'
"""


def hosts(name: str) -> str:
    """The hosts file of a machine."""
    return f"127.0.0.1 localhost\n127.0.1.1 {name}\n::1 localhost ip6-localhost ip6-loopback\n"


def shared(folders: list[str]) -> str:
    """The lines of fstab for folders of the controller, in the order in which they are plugged in."""
    options = "ro,trans=virtio,version=9p2000.L,msize=262144,nofail"
    lines = [f"folder{number} {_escaped(folder)} 9p {options} 0 0\n" for number, folder in enumerate(folders)]
    return FILES["etc/fstab"] + "".join(lines)


def _escaped(folder: str) -> str:
    """A path as fstab spells it."""
    return folder.replace("\\", "\\134").replace(" ", "\\040")


def become(name: str, folders: list[str], now: int) -> str:
    """The script, run as root, with which a saved machine takes the identity on its standard input: an archive."""
    places = " ".join(shlex.quote(folder) for folder in folders)
    return f"""set -eu
date --utc --set=@{now} > /dev/null
tar -C / -xf -
hostname {name}
chpasswd < {PASSWORDS}
rm {PASSWORDS} /etc/machine-id
systemd-machine-id-setup 2> /dev/null
systemctl daemon-reload
for place in {places}; do mkdir -p "$place" && mount "$place"; done
hwclock --systohc
systemctl restart ssh
"""
