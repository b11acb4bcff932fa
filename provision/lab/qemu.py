"""One QEMU process: a machine that looks like a server, started as a daemon and known by its process id file."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shlex
import signal
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from provision.errors import refuse
from provision.lab import emulator, paths
from provision.lab.system import run

KVM = Path("/dev/kvm")
CPUINFO = Path("/proc/cpuinfo")
CONTROLLER = "10.0.2.2"  # where the guest reaches the controller's loopback in QEMU's user-mode network
DISK_GIB = 20
EMPTY_DISK_GIB = 64
GONE_SECONDS = 60  # a busy machine takes its time to give back two gigabytes
# QEMU cannot save a machine that has an NVMe disk or a shared folder: these are plugged into slots afterwards.
SLOTS = 8
CHASSIS = (
    "-machine", "q35", "-smp", "2", "-m", "2048", "-nodefaults", "-display", "none", "-boot", "strict=on",
    "-rtc", "base=utc", "-device", "virtio-rng-pci", "-device", "vmgenid,guid=auto",
    "-netdev", "user,id=lan,hostfwd=tcp:127.0.0.1:0-:22", "-device", "virtio-net-pci,netdev=lan,romfile=",
    "-netdev", "user,id=spare,restrict=on,net=10.0.3.0/24",
    "-device", "vmxnet3,netdev=spare,mac=52:54:00:4c:41:42,romfile=",
    "-device", "ipmi-bmc-sim,id=bmc", "-device", "isa-ipmi-kcs,bmc=bmc",
    *(word for slot in range(SLOTS) for word in ("-device", f"pcie-root-port,id=slot{slot},chassis={slot + 1}")),
)  # fmt: skip
# The kernel looks at both SATA disks at the same time and names first whichever answers first, mostly that of the lower
# port. So nothing may rest on sda and sdb, and with the ports exchanged it shows whether something does.
DISK_ORDER = "PROVISION_LAB_DISK_ORDER"
SATA = {"system": "bootindex=1,rotation_rate=1,serial=LAB0SSD,model=LAB-SSD",
        "hdd": "rotation_rate=7200,serial=LAB0HDD,model=LAB-HDD"}  # fmt: skip
PORTS = {"usual": ("system", "hdd"), "flipped": ("hdd", "system")}
NVME = {"driver": "nvme", "id": "nvme0", "drive": "nvme", "serial": "LAB0NVME", "bus": "slot0"}


def program() -> list[str]:
    """The words that start QEMU."""
    return [emulator.PROGRAM] if has_kvm() else emulator.program()


def accelerator() -> tuple[str, ...]:
    """The processor: the machine's own where KVM can give it, else an emulated one."""
    if has_kvm():
        return ("-accel", "kvm", "-cpu", "host")
    return ("-accel", "tcg,thread=multi,tb-size=512", "-cpu", "max,svm=off,la57=off")


def has_kvm() -> bool:
    """Whether KVM is usable: the device alone says little, as some virtual machines have one that runs nothing."""
    flags = set(CPUINFO.read_text().split())
    return os.access(KVM, os.R_OK | os.W_OK) and not flags.isdisjoint({"vmx", "svm"})


def disk_order() -> str:
    """Which SATA disk has the lower port: `usual` (the system disk) or `flipped`, as the environment says."""
    order = os.environ.get(DISK_ORDER) or "usual"
    if order not in PORTS:
        raise refuse(f"{DISK_ORDER}={order}", "names no order of disks", f"use one of: {', '.join(PORTS)}")
    return order


def chassis(order: str) -> tuple[str, ...]:
    """The machine's board and devices, with its SATA disks in this order."""
    disks = [f"ide-hd,drive={name},bus=ide.{port},{SATA[name]}" for port, name in enumerate(PORTS[order])]
    return (*CHASSIS, *(word for disk in disks for word in ("-device", disk)))


def fingerprint() -> str:
    """Changes with whatever a saved machine's memory depends on: QEMU, its devices, and under KVM the processor."""
    processor = [line for line in CPUINFO.read_text().splitlines() if line.startswith(("model name", "flags"))][:2]
    under_kvm = [*processor, platform.release()] if "kvm" in accelerator() else []
    parts = [run([*program(), "--version"], timeout=20), *accelerator(), *chassis(disk_order()), *under_kvm]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


class Qemu:
    """A machine by name, whose disks lie in a folder. Every call has a time limit."""

    def __init__(self, name: str, folder: Path, order: str = "") -> None:
        self.name = name
        self._order = order or disk_order()
        self.disk = folder / "disk.qcow2"
        self.console = folder / "console.log"
        self._folder = folder
        self._pidfile = folder / "qemu.pid"
        self._socket = paths.run_root() / f"{name}.qmp"

    def blank_disks(self) -> None:
        """Empty disks, which take no space until something is written."""
        for file in self._blank().values():
            file.touch(mode=0o600)
            os.truncate(file, EMPTY_DISK_GIB << 30)

    def start(self, *options: str) -> None:
        """Start the machine detached from this process; it returns once its devices are there."""
        paths.run_root().mkdir(parents=True, exist_ok=True, mode=0o700)
        control = f"unix:{_word(self._socket)},server=on,wait=off"
        run([*self._argv(), "-qmp", control, "-pidfile", str(self._pidfile), "-daemonize", *options], timeout=60)

    def pid(self) -> int | None:
        """The process id of this machine, or None when it does not run."""
        with suppress(OSError, ValueError):
            pid = int(self._pidfile.read_text())
            # Process ids are reused: it is ours when it was told to write this very file.
            if os.fsencode(self._pidfile) in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                return pid
        return None

    def kill(self) -> None:
        """End the machine, if it runs, and take its socket away."""
        pid = self.pid()
        if pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            self.wait_gone(GONE_SECONDS)
        self._socket.unlink(missing_ok=True)

    def wait_gone(self, timeout: float) -> None:
        """Wait until the machine has ended."""
        self._until(lambda: self.pid() is None, timeout, "does not end")

    def wait_status(self, status: str, timeout: float) -> None:
        """Wait until QEMU says that the machine is `paused`, `postmigrate`, ..."""
        self._until(lambda: self.tell("query-status")["status"] == status, timeout, f"is not {status}")

    def tell(self, command: str, **arguments: Any) -> Any:
        """Give QEMU one command of its machine protocol; its answer."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(30)
            try:
                connection.connect(str(self._socket))
                with connection.makefile("rw") as stream:
                    stream.readline()
                    _ask(stream, "qmp_capabilities", {})
                    answer = _ask(stream, command, arguments)
            except (OSError, ValueError) as error:
                raise self._refusal(f"does not answer {command}: {error}") from None
        if "error" in answer:
            raise self._refusal(f"refused {command}: {answer['error']['desc']}")
        return answer["return"]

    def port(self) -> int:
        """The port of 127.0.0.1 behind which the machine's SSH server is."""
        table = self.tell("human-monitor-command", **{"command-line": "info usernet"})
        row: list[str] = next(line.split() for line in table.splitlines() if "HOST_FORWARD" in line)
        return int(row[3])

    def save(self, memory: Path) -> None:
        """Write the machine's memory and devices to a file and end it; `-incoming` goes on from there."""
        self.tell("stop")
        self.tell("migrate-set-parameters", **{"max-bandwidth": 4 << 30})
        self.tell("migrate", uri=f"exec:cat > {shlex.quote(str(memory))}")
        self.wait_status("postmigrate", 120)
        self.tell("quit")
        self.wait_gone(GONE_SECONDS)

    def _blank(self) -> dict[str, Path]:
        return {name: self._folder / f"{name}.raw" for name in ("hdd", "nvme")}

    def _argv(self) -> list[str]:
        """The command line of the machine, without what starts it."""
        drives = [f"file={_word(self.disk)},format=qcow2,if=none,id=system,cache=unsafe,discard=unmap"]
        drives += [
            f"file={_word(file)},format=raw,if=none,id={name},discard=unmap" for name, file in self._blank().items()
        ]
        words = [*program(), "-name", self.name, *accelerator(), "-serial", f"file:{self.console}"]
        return [*words, *(word for drive in drives for word in ("-drive", drive)), *chassis(self._order)]

    def _until(self, holds: Any, timeout: float, fact: str) -> None:
        deadline = time.monotonic() + timeout
        while not holds():
            if time.monotonic() > deadline:
                raise self._refusal(f"{fact} after {timeout:g} s")
            time.sleep(0.05)

    def _refusal(self, fact: str) -> Exception:
        return refuse(f"the virtual machine {self.name}", fact, f"see what it wrote: {self.console}")


def _ask(stream: Any, command: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """One question on an open connection; events that come between are passed over."""
    stream.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
    stream.flush()
    while True:
        answer: dict[str, Any] = json.loads(stream.readline())
        if "event" not in answer:
            return answer


def _word(path: object) -> str:
    """A path as one value of a QEMU option, where a comma would begin the next."""
    return str(path).replace(",", ",,")


def incoming(memory: Path, folders: Sequence[str]) -> list[str]:
    """Options that start a machine from saved memory, with folders of this machine to be plugged in read-only."""
    words = ["-incoming", f"exec:cat {shlex.quote(str(memory))}"]
    for number, folder in enumerate(folders):
        words += ["-fsdev", f"local,id=folder{number},path={_word(folder)},security_model=none,readonly=on"]
    return words
