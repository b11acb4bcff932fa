"""A kernel module called nvidia that DKMS really builds and the kernel really loads: 20 lines, no hardware.

It answers in /proc/driver/nvidia/version as NVIDIA's does, so that "loaded module = installed library" is judged for
real. The faulty ones are what an operator meets: `build`, a source that does not compile, so that the installation
fails; `load`, a module that finds fault with the card, so that all goes well until a reboot.
"""

from __future__ import annotations

from tests.standins.apt_repository import Content

SOURCE = """\
// stand-in for NVIDIA's kernel module: it drives nothing and answers which version it is
#include <linux/module.h>
#include <linux/proc_fs.h>
#include <linux/seq_file.h>
{failing_build}
#define TOLD "NVRM version: NVIDIA UNIX {kind} Kernel Module for x86_64  {version}  Release Build  (stand-in)\\n" \\
	"GCC version: stand-in\\n"
static struct proc_dir_entry *folder;
static int tell(struct seq_file *out, void *unused)
{{
	seq_puts(out, TOLD);
	return 0;
}}
static int __init begin(void)
{{
	{failing_load}
	folder = proc_mkdir("driver/nvidia", NULL);
	return folder && proc_create_single("version", 0444, folder, tell) ? 0 : -ENOMEM;
}}
static void __exit end(void)
{{
	proc_remove(folder);
}}
module_init(begin);
module_exit(end);
MODULE_LICENSE("GPL");
MODULE_VERSION("{version}");
"""
BUILD_FAILS = '#error "stand-in: this version does not build"'
LOAD_FAILS = "return -ENODEV;"
CONFIGURATION = """\
PACKAGE_NAME="nvidia"
PACKAGE_VERSION="{version}"
BUILT_MODULE_NAME[0]="nvidia"
DEST_MODULE_LOCATION[0]="/updates/dkms"
MAKE[0]="make -C $kernel_source_dir M=$dkms_tree/nvidia/{version}/build modules"
CLEAN="true"
AUTOINSTALL="yes"
"""
POSTINST = """\
#!/bin/sh
set -e
[ "$1" = configure ] || exit 0
/usr/lib/dkms/common.postinst nvidia {version} /usr/share/nvidia amd64 "$2"
"""
PRERM = """\
#!/bin/sh
set -e
case "$1" in remove|upgrade|deconfigure) dkms remove -m nvidia -v {version} --all || : ;; esac
"""


def files(version: str, flavour: str, fault: str = "") -> dict[str, Content]:
    """The module's source in its place under /usr/src, and the order to load it at boot.

    The real one is loaded because a card is there: here nothing calls for it, hence the file in modules-load.d.
    """
    text = SOURCE.format(
        version=version,
        kind="Open" if flavour == "open" else "x86_64",
        failing_build=BUILD_FAILS if fault == "build" else "",
        failing_load=LOAD_FAILS if fault == "load" else "",
    )
    folder = f"/usr/src/nvidia-{version}"
    return {
        f"{folder}/nvidia.c": text,
        f"{folder}/Makefile": "obj-m := nvidia.o\n",
        f"{folder}/dkms.conf": CONFIGURATION.format(version=version),
        "/usr/lib/modules-load.d/nvidia.conf": "nvidia\n",
    }


def scripts(version: str) -> dict[str, str]:
    return {"postinst": POSTINST.format(version=version), "prerm": PRERM.format(version=version)}
