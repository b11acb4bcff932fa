#!/bin/sh
# Hands over the files that provision_probe.py reads, for a machine without Python: the controller then runs the very
# same code over them. One line each, tab separated, contents in base64. Runs as root and changes nothing.
LC_ALL=C
export LC_ALL

files() {
    for path in "$@"; do
        [ -f "$path" ] || continue
        printf 'file\t%s\t%s\n' "${path#/}" "$(base64 -w0 <"$path" 2>/dev/null)"
    done
}

links() {
    for path in "$@"; do
        [ -L "$path" ] || continue
        printf 'link\t%s\t%s\n' "${path#/}" "$(readlink -f "$path")"
    done
}

marks() {
    for path in "$@"; do
        [ -e "$path" ] && printf 'file\t%s\t\n' "${path#/}"
    done
}

output() {
    command -v "$1" >/dev/null 2>&1 || return
    printf 'output\t%s\t%s\n' "$*" "$("$@" 2>/dev/null | base64 -w0)"
}

files /etc/os-release /proc/cpuinfo /proc/meminfo /proc/sys/kernel/osrelease /run/systemd/container
files /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes
files /sys/devices/system/node/node*/cpulist
files /sys/bus/pci/devices/*/class /sys/bus/pci/devices/*/vendor /sys/bus/pci/devices/*/device
for device in /sys/bus/pci/devices/*; do
    [ "$(cat "$device/vendor" 2>/dev/null)" != 0x10de ] || files "$device/config"
done
links /sys/bus/pci/devices/*/driver
files /proc/driver/nvidia/gpus/*/information
files /usr/share/misc/pci.ids /usr/share/hwdata/pci.ids
files /sys/class/net/*/speed /sys/class/net/*/operstate
links /sys/class/net/*/device /sys/class/net/*/device/driver /sys/class/net/*/phy80211
files /sys/block/*/size /sys/block/*/queue/rotational
files /var/lib/provision/storage/volumes.json
links /sys/block/* /sys/block/*/device /dev/disk/by-id/*
files /sys/class/hwmon/*/name
links /sys/class/hwmon/* /sys/class/hwmon/*/device/driver/module
marks /sys/class/hwmon/*/pwm* /sys/class/hwmon/*/fan*_input /sys/class/hwmon/*/temp*_input
files /sys/bus/usb/devices/*/idVendor /sys/bus/usb/devices/*/idProduct
files /sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c
files /sys/class/dmi/id/sys_vendor /sys/class/dmi/id/product_name /sys/class/dmi/id/board_name
marks /.dockerenv /run/.containerenv /dev/ipmi0 /dev/ipmi/0 /dev/ipmidev/0 /dev/nvidia* /dev/dri/*
for disk in /sys/block/*; do marks "/dev/${disk##*/}"; done
output uname -m
output systemd-detect-virt --container
output systemd-detect-virt --vm
output lsblk --json --bytes --output NAME,TYPE,FSTYPE,PTTYPE,MOUNTPOINT,UUID
echo 'end		'
