"""GRUB's part of the command line on folders that stand for hosts, with real shells and a stand-in of grub-mkconfig."""

from __future__ import annotations

import ast
import json
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from provision.content import load, roles_dir

MKCONFIG = """\
#!/bin/sh
set -e
. "$ROOT/etc/default/grub"
for part in "$ROOT"/etc/default/grub.d/*.cfg; do [ ! -e "$part" ] || . "$part"; done
%s
cat > "$2" <<END
### BEGIN /etc/grub.d/10_linux ###
menuentry 'Debian' {
        linux   /boot/vmlinuz root=UUID=x ro $GRUB_CMDLINE_LINUX $GRUB_CMDLINE_LINUX_DEFAULT
}
menuentry 'Debian (recovery mode)' {
        linux   /boot/vmlinuz root=UUID=x ro single $GRUB_CMDLINE_LINUX
}
### END /etc/grub.d/10_linux ###
### BEGIN /etc/grub.d/30_os-prober ###
menuentry 'Another system' {
        linux   /boot/vmlinuz-other root=UUID=y ro quiet
}
### END /etc/grub.d/30_os-prober ###
END
"""
CHECK = '#!/bin/sh\n! grep broken "$1"\n'


class Box:
    """A host's files, and the commands that look at them."""

    def __init__(self, root: Path, grub: ModuleType) -> None:
        self.root, self.grub = root, grub
        self.programs = root / "programs"
        self.put("programs/grub-script-check", CHECK)
        self.mkconfig("")
        self.put("etc/default/grub", 'GRUB_CMDLINE_LINUX_DEFAULT="quiet"\nGRUB_CMDLINE_LINUX="console=ttyS0"\n')
        self.put("boot/grub/grub.cfg", "linux /boot/vmlinuz root=UUID=x ro console=ttyS0 quiet\n")
        self.put("proc/cmdline", "BOOT_IMAGE=/boot/vmlinuz root=UUID=x ro console=ttyS0 quiet\n")

    def put(self, path: str, text: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        file.chmod(0o755)

    def mkconfig(self, line: str) -> None:
        self.put("programs/grub-mkconfig", MKCONFIG % line)

    def text(self, path: str) -> str:
        return (self.root / path.lstrip("/")).read_text(encoding="utf-8")

    def run(self, words: list[str]) -> tuple[int, str, str]:
        environment = {"PATH": f"{self.programs}:/usr/bin:/bin", "ROOT": str(self.root)}
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr

    def plan(self, *words: str) -> Any:
        return self.grub.plan(self.run, list(words))

    def apply(self, *words: str) -> bool:
        """One run of the module; whether it changed anything."""
        wanted = self.plan(*words)
        differs: bool = self.grub.differs(wanted)
        if differs:
            self.grub.bring(self.run, wanted, list(words))
        return differs

    def boot(self) -> None:
        line = next(line for line in self.text("boot/grub/grub.cfg").splitlines() if "/boot/vmlinuz" in line)
        self.put("proc/cmdline", "BOOT_IMAGE=" + line.split(None, 1)[1])

    def reboot_required(self, *words: str) -> bool:
        required: bool = self.grub.reboot_required(list(words), self.plan(*words).after)
        return required

    @property
    def drop_in(self) -> Path:
        return self.root / "etc/default/grub.d/90-provision.cfg"


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Box:
    grub = load(roles_dir() / "kernel_tuning/module_utils/kernel_tuning_grub.py")
    monkeypatch.setattr(grub, "ROOT", str(tmp_path))
    return Box(tmp_path, grub)


def test_words_are_added_to_what_is_there_and_stay(box: Box) -> None:
    main = box.text("etc/default/grub")
    assert box.apply("iommu=pt", "nowatchdog")
    assert box.text("etc/default/grub") == main
    assert "console=ttyS0 quiet iommu=pt nowatchdog\n" in box.text("boot/grub/grub.cfg")
    assert box.reboot_required("iommu=pt", "nowatchdog")
    box.boot()
    assert not box.reboot_required("iommu=pt", "nowatchdog")
    assert not box.apply("iommu=pt", "nowatchdog")
    assert not list((box.root / "boot/grub").glob("*.provision*"))


def test_the_configuration_before_is_kept(box: Box) -> None:
    before = box.text("boot/grub/grub.cfg")
    box.apply("iommu=pt")
    assert box.text("var/lib/provision/kernel_tuning/grub.cfg.former") == before


def test_the_configuration_is_on_the_disk_before_it_is_in_force(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    def noted(name: str, action: Any) -> Any:
        return lambda *places: (done.append(f"{name} {Path(places[0]).name}"), action(*places))

    monkeypatch.setattr(box.grub.os, "replace", noted("rename", box.grub.os.replace))
    monkeypatch.setattr(box.grub, "sync", noted("sync", box.grub.sync))
    box.apply("iommu=pt")
    assert done[-3:] == ["sync grub.cfg.provision", "rename grub.cfg.provision", "sync grub"]


def test_what_the_administrator_has_is_not_repeated(box: Box) -> None:
    box.put("etc/default/grub.d/50-cloudimg-settings.cfg", 'GRUB_CMDLINE_LINUX_DEFAULT="console=tty1 iommu=pt"\n')
    assert box.plan("iommu=pt").content == ""
    box.apply("iommu=pt", "nowatchdog")
    assert box.text(str(box.grub.DROP_IN)).endswith('"$GRUB_CMDLINE_LINUX_DEFAULT nowatchdog"\n')
    assert "console=ttyS0 console=tty1 iommu=pt nowatchdog" in box.text("boot/grub/grub.cfg")


def test_nothing_declared_takes_away_what_was_added_and_asks_for_the_boot_that_forgets_it(box: Box) -> None:
    box.apply("iommu=pt")
    box.boot()
    assert box.apply()
    assert not box.drop_in.exists()
    assert "iommu" not in box.text("boot/grub/grub.cfg")
    assert box.reboot_required()
    assert not box.apply()
    box.boot()
    assert not box.reboot_required()


def test_without_a_word_nothing_is_ever_written(box: Box) -> None:
    assert not box.apply()
    assert not box.drop_in.exists()
    assert not box.reboot_required()


@pytest.mark.parametrize("own", ["iommu=off", "iommu=soft"])
def test_another_value_of_the_administrators_is_refused(box: Box, own: str) -> None:
    box.put("etc/default/grub.d/10-board.cfg", f'GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX {own}"\n')
    with pytest.raises(box.grub.Trouble, match=rf"/etc/default/grub.d/10-board.cfg has {own}"):
        box.plan("iommu=pt")


def test_a_dash_is_an_underscore_to_the_kernel(box: Box) -> None:
    box.put("etc/default/grub", 'GRUB_CMDLINE_LINUX_DEFAULT="pcie-aspm.policy=powersave"\n')
    with pytest.raises(box.grub.Trouble, match=r"has pcie-aspm.policy=powersave"):
        box.plan("pcie_aspm.policy=performance")


def test_words_that_add_up_stand_beside_each_other(box: Box) -> None:
    box.put("etc/default/grub", 'GRUB_CMDLINE_LINUX_DEFAULT="console=tty0 pci=realloc"\n')
    wanted = box.plan("console=ttyS1", "pci=disable_acs_redir=pci:10b5:8747")
    assert wanted.after == ["console=tty0", "pci=realloc", "console=ttyS1", "pci=disable_acs_redir=pci:10b5:8747"]


def test_a_later_file_that_throws_our_words_away_is_named(box: Box) -> None:
    box.put("etc/default/grub.d/99-own.cfg", 'GRUB_CMDLINE_LINUX_DEFAULT="quiet"\n')
    with pytest.raises(box.grub.Trouble, match=r"/etc/default/grub.d/99-own.cfg sets GRUB_CMDLINE_LINUX_DEFAULT anew"):
        box.plan("iommu=pt")


def test_a_file_of_that_name_that_is_not_ours_stays(box: Box) -> None:
    box.put("etc/default/grub.d/90-provision.cfg", "GRUB_TIMEOUT=3\n")
    with pytest.raises(box.grub.Trouble, match=r"90-provision.cfg is not provision's"):
        box.plan("iommu=pt")


def test_files_that_no_shell_reads_are_told_before_anything_is_written(box: Box) -> None:
    box.put("etc/default/grub", 'GRUB_CMDLINE_LINUX_DEFAULT="quiet\n')
    with pytest.raises(box.grub.Trouble, match=r"GRUB's files cannot be read: .*[Uu]nterminated"):
        box.plan("iommu=pt")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("echo out of paper >&2; exit 1", "grub-mkconfig failed: out of paper"),
        ("GRUB_CMDLINE_LINUX_DEFAULT=broken", "grub-script-check refuses"),
        ("GRUB_CMDLINE_LINUX_DEFAULT=quiet", "made an entry without iommu=pt"),
        ("GRUB_CMDLINE_LINUX=single", "made a configuration without a kernel"),
    ],
)
def test_a_configuration_that_would_not_boot_is_never_put_in_force(box: Box, line: str, said: str) -> None:
    before = box.text("boot/grub/grub.cfg")
    box.mkconfig(line)
    with pytest.raises(box.grub.Trouble, match=rf"{said}.*; /boot/grub/grub.cfg is as it was"):
        box.apply("iommu=pt")
    assert box.text("boot/grub/grub.cfg") == before
    assert not box.drop_in.exists()
    assert not list((box.root / "boot/grub").glob("*.provision*"))
    box.mkconfig("")
    assert box.apply("iommu=pt")  # the cause is mended: nothing stands in the way


def test_a_run_that_died_before_the_configuration_was_made_is_made_good(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(box.grub, "generate", _die)
        with pytest.raises(KeyboardInterrupt):
            box.apply("iommu=pt")
    assert "iommu" not in box.text("boot/grub/grub.cfg")
    assert box.apply("iommu=pt")
    assert "iommu=pt" in box.text("boot/grub/grub.cfg")
    assert not box.apply("iommu=pt")


def _die(*_: object) -> None:
    raise KeyboardInterrupt


def test_only_grub_is_changed(box: Box) -> None:
    assert box.grub.other_loader() == ""
    box.put(box.grub.LOADER.lstrip("/"), "\0".join("systemd-boot 252"))
    assert box.grub.other_loader() == "systemd-boot"


def test_no_grub_at_all(box: Box) -> None:
    (box.root / "boot/grub/grub.cfg").unlink()
    assert box.grub.other_loader() == "a boot loader that is not GRUB"


def test_words_of_former_boots_are_remembered_until_they_are_gone(box: Box) -> None:
    box.apply("iommu=pt")
    box.boot()
    box.apply("nowatchdog")
    assert json.loads(box.text("var/lib/provision/kernel_tuning/words-of-former-boots.json")) == ["iommu=pt"]
    assert box.reboot_required("nowatchdog")
    box.boot()
    assert not box.reboot_required("nowatchdog")


@pytest.mark.parametrize("folder", ["library", "module_utils"])
def test_the_target_needs_no_newer_python(folder: str) -> None:
    for path in (roles_dir() / "kernel_tuning" / folder).glob("*.py"):
        ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 8))
