"""What goes onto the disk of a virtual machine, and the scripts that run while its image is made and it comes up."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

SYSTEM_DISK = "/dev/disk/by-id/ata-LAB-SSD_LAB0SSD"

FILES: Mapping[str, str] = {
    "etc/fstab": "LABEL=root / ext4 errors=remount-ro 0 1\n",
    "etc/resolv.conf": "nameserver 10.0.2.3\n",
    "etc/systemd/network/10-lab.network": (
        "[Match]\nDriver=virtio_net\n[Network]\nAddress=10.0.2.15/24\nGateway=10.0.2.2\n"
    ),
}

PASSWORDS = "/run/provision-lab-passwords"

# Before the kernel is installed. The initramfs has this machine's drivers and no more: under emulation a full one costs
# ten seconds at each boot and a minute at each kernel update. Packing even that as tightly as usual takes ten more.
PREPARE = """\
mkdir -p /etc/initramfs-tools/conf.d /etc/initramfs-tools/hooks
printf 'MODULES=list\\nCOMPRESS=zstd\\nCOMPRESSLEVEL=1\\n' > /etc/initramfs-tools/conf.d/provision-lab
cat > /etc/initramfs-tools/hooks/provision-lab <<'END'
#!/bin/sh
[ "$1" != prereqs ] || exit 0
. /usr/share/initramfs-tools/hook-functions
for module in ahci sd_mod ext4; do force_load "$module"; done
END
chmod 0755 /etc/initramfs-tools/hooks/provision-lab
"""

# What no lab machine has hardware for. depmod reads every module at each build of a driver and of an initramfs, which
# takes ten seconds under emulation.
UNUSED_MODULES = (
    "sound", "drivers/media", "drivers/net/ethernet", "drivers/net/wireless", "drivers/gpu/drm/amd",
    "drivers/gpu/drm/i915", "drivers/gpu/drm/radeon", "drivers/infiniband", "drivers/staging", "drivers/iio",
    "drivers/isdn", "drivers/usb", "drivers/input", "drivers/hid", "drivers/mtd", "drivers/bluetooth", "net/bluetooth",
    "net/mac80211", "drivers/platform", "drivers/comedi", "drivers/net/can", "drivers/net/usb", "drivers/rtc",
)  # fmt: skip

# Programs that look, at every reload of systemd's units, for what no lab machine has: a tenth of a second each under
# emulation, and roles reload often.
UNUSED_GENERATORS = (
    "bless-boot", "cryptsetup", "debug", "gpt-auto", "hibernate-resume", "integritysetup", "rc-local", "run",
    "system-update", "veritysetup",
)  # fmt: skip

# The timers would start apt behind a test's back once a saved machine's clock is set. What grub-install would do needs
# the machine's disk, or half a minute of an emulated one: GRUB is laid into place here, and onto the disk with it.
FINISH = f"""\
cat > /etc/default/grub <<'END'
GRUB_DEFAULT=0
GRUB_TIMEOUT=0
GRUB_DISTRIBUTOR=Debian
GRUB_CMDLINE_LINUX_DEFAULT="quiet"
GRUB_CMDLINE_LINUX="console=ttyS0,115200"
GRUB_TERMINAL=console
END
echo 'grub-pc grub-pc/install_devices multiselect {SYSTEM_DISK}' | debconf-set-selections
for folder in {" ".join(UNUSED_MODULES)}; do rm -rf /lib/modules/*/kernel/"$folder"; done
depmod "$(ls /lib/modules)"
mkdir -p /etc/systemd/system-generators
for name in {" ".join(UNUSED_GENERATORS)}; do
    ln -s /dev/null "/etc/systemd/system-generators/systemd-$name-generator"
done
mkdir -p /boot/grub/fonts
cp -R /usr/lib/grub/i386-pc /boot/grub/i386-pc
cp /usr/share/grub/unicode.pf2 /boot/grub/fonts/
grub-editenv /boot/grub/grubenv create
grub-mkimage --format=i386-pc --prefix='(,msdos1)/boot/grub' --output=/boot/grub/i386-pc/core.img \\
    biosdisk part_msdos ext2
systemctl enable systemd-networkd
systemctl disable apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer e2scrub_reap.service
"""

# After more packages have gone over a finished root.
CLEAN = """\
apt-get clean
rm -rf /var/lib/apt/lists/* /var/log/apt /var/log/dpkg.log
"""

# A machine that was installed today has lists of today, and reading them takes half a minute under emulation.
LISTS = """\
apt-get -q update
apt-cache gencaches
mkdir -p /var/lib/apt/periodic
touch /var/lib/apt/periodic/update-success-stamp
"""

# Arguments: the root's archive, the disk, where its partition begins in bytes, the size of the file system. Standard
# input: an archive of files to put over it. The first boot has the words of the kernel that update-grub will give it.
WRITE_DISK = """\
folder=$(dirname "$2")
root=$folder/root
mkdir "$root"
trap 'rm -rf "$root"' EXIT
tar --numeric-owner -xf "$1" -C "$root"
tar --numeric-owner -xf - -C "$root"
cp "$root/boot/grub/i386-pc/boot.img" "$root/boot/grub/i386-pc/core.img" "$folder"
uuid=$(cat /proc/sys/kernel/random/uuid)
kernel=$(cd "$root/boot" && echo vmlinuz-*)
cat > "$root/boot/grub/grub.cfg" <<END
linux /boot/$kernel root=UUID=$uuid ro console=ttyS0,115200 quiet
initrd /boot/initrd.img-${kernel#vmlinuz-}
boot
END
PATH="$PATH:/usr/sbin:/sbin"
mkfs.ext4 -q -F -L root -U "$uuid" -d "$root" -E "offset=$3,lazy_itable_init=1" "$2" "$4"
"""

# Read once what a first connection needs, so that the saved memory has it, and leave the rest of the memory empty.
SETTLE = """\
systemctl is-system-running --wait && sudo update-grub && sync &&
echo 3 | sudo tee /proc/sys/vm/drop_caches > /dev/null &&
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
