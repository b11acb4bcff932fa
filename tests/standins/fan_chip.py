"""Runs on a virtual machine: a fan controller whose registers a test writes and reads, and the drill made of it.

The kernel's i2c-stub holds the registers, and the kernel's own adt7475 driver makes a hwmon chip of them: what the fan
service writes is what stands in the registers, and nothing answers to it by itself.
"""

import ctypes
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

ADDRESS = 0x2E
TEMPERATURES, PWM, CONFIGURATION = (0x25, 0x26, 0x27), 0x30, 0x5C
# Who it is, that its measurements run, and that its temperatures are two's complements.
IDENTITY = {0x3D: 0x75, 0x3E: 0x41, 0x3F: 0x02, 0x40: 0x01, 0x7C: 0x01}
STATUS, CONFIG = Path("/run/provision-cooling/status.json"), Path("/etc/provision/cooling.json")
UNIT = "provision-cooling"
PATIENCE_S = 120  # an emulated machine beside a busy test suite


class Data(ctypes.Union):
    _fields_ = (("byte", ctypes.c_uint8), ("block", ctypes.c_uint8 * 34))


class Request(ctypes.Structure):
    _fields_ = (
        ("read", ctypes.c_uint8),
        ("command", ctypes.c_uint8),
        ("size", ctypes.c_uint32),
        ("data", ctypes.POINTER(Data)),
    )


def bus():
    for path in Path("/sys/class/i2c-adapter").glob("i2c-*/name"):
        if "stub" in path.read_text():
            return path.parent.name
    raise SystemExit("there is no i2c-stub")


def register(number, value=None):
    """Write a register, or read it."""
    data = Data(byte=value or 0)
    with Path("/dev", bus()).open("r+b", buffering=0) as stream:
        fcntl.ioctl(stream, 0x0706, ADDRESS)  # I2C_SLAVE_FORCE
        fcntl.ioctl(stream, 0x0720, Request(value is None, number, 2, ctypes.pointer(data)))  # I2C_SMBUS, a byte
    return data.byte


def plug_in():
    """Three chips: those before the fan controller take the hwmon number that was its.

    Their driver is there before them: udev would load it beside the controller's, in either order. And they are two,
    because the NVMe disk has a number too, early or late.
    """
    for words in (["i2c-dev"], ["lm75"], ["i2c-stub", f"chip_addr=0x48,0x49,{ADDRESS:#x}"]):
        subprocess.run(["modprobe", *words], check=True)
    for number, value in IDENTITY.items():
        register(number, value)
    heat(40)
    chips = ["lm75 0x48", "lm75 0x49"] if "first" not in sys.argv else []
    for chip in (*chips, f"adt7475 {ADDRESS:#x}"):
        Path("/sys/class/i2c-adapter", bus(), "new_device").write_text(chip)


def heat(celsius):
    for number in TEMPERATURES:
        register(number, celsius & 0xFF)


def sensor():
    """What the driver tells the service: it asks the chip anew only after two seconds."""
    inputs = Path("/sys/bus/i2c/drivers/adt7475").glob(f"*-00{ADDRESS:02x}/hwmon/hwmon*/temp*_input")
    return max(int(path.read_text()) for path in inputs) / 1000


def status():
    return json.loads(STATUS.read_text())


def until(condition, what):
    """Wait for it; how many seconds it took."""
    began = time.monotonic()
    while time.monotonic() - began < PATIENCE_S:
        try:
            if condition():
                return round(time.monotonic() - began, 2)
        except (OSError, ValueError, KeyError):
            pass  # the driver or the service is away at the moment
        time.sleep(0.05)
    raise SystemExit(f"{what}: not within {PATIENCE_S} s; {STATUS.read_text()}")


def curve():
    return status()["curves"]["cpu"]


def failsafe():
    """Full, and the chip's own control."""
    return register(PWM) == 255 and register(CONFIGURATION) >> 5 == 0


def full():
    return register(PWM) == 255


def driven():
    return register(CONFIGURATION) >> 5 == 7 and not curve()["failsafe"] and register(PWM) < 255


class Trace(threading.Thread):
    """What the registers held, several times a second."""

    def __init__(self):
        super().__init__(daemon=True)
        self.rows, self.phase, self.began = [], "", time.monotonic()

    def run(self):
        while True:
            self.sample()
            time.sleep(0.2)

    def sample(self):
        row = [register(TEMPERATURES[0]), register(PWM), register(CONFIGURATION) >> 5]
        self.rows.append([round(time.monotonic() - self.began, 2), self.phase, *row])


def pid():
    told = subprocess.run(["systemctl", "show", "-p", "MainPID", "--value", UNIT], stdout=subprocess.PIPE, check=True)
    return int(told.stdout)


def step(celsius, looks):
    """Heat it and wait for the look that reads it. Tells what then stands in the register, and how many looks of the
    service ended without having read it since the driver told it: one may have been under way.
    """
    told_at, late = [], set()

    def read():
        if not told_at and sensor() == celsius:
            told_at.append(time.time())
        look = status()
        looks.add(look["at"])
        if look["curves"]["cpu"]["celsius"] == celsius:
            return True
        if told_at and look["at"] > told_at[0]:
            late.add(look["at"])
        return False

    heat(celsius)
    until(read, f"{celsius} C is read")
    return [celsius, register(PWM), len(late)]


def drill():
    trace, seconds, steps, looks = Trace(), {}, {}, set()
    trace.start()

    def phase(name, action, end):
        trace.phase = name
        action()
        seconds[name] = until(end, name)
        trace.sample()

    until(driven, "the service drives the chip")
    trace.phase = "up"
    steps["up"] = [step(celsius, looks) for celsius in range(40, 91, 10)]
    trace.phase = "down"
    steps["down"] = [step(celsius, looks) for celsius in range(88, 57, -6)]
    phase("SIGKILL", lambda: os.kill(pid(), signal.SIGKILL), failsafe)
    phase("after SIGKILL", lambda: None, driven)
    phase("SIGSTOP", lambda: os.kill(pid(), signal.SIGSTOP), failsafe)
    phase("after SIGSTOP", lambda: None, driven)
    phase("faulty sensor", lambda: register(TEMPERATURES[1], 0x80), full)
    phase("after faulty sensor", lambda: heat(58), driven)
    phase("modprobe -r", lambda: subprocess.run(["modprobe", "-r", "adt7475"], stdout=sys.stderr, check=True), failsafe)
    phase("after modprobe -r", lambda: subprocess.run(["modprobe", "adt7475"], check=True), driven)
    phase("rmmod", lambda: subprocess.run(["rmmod", "adt7475"], check=True), full)
    phase("after rmmod", lambda: None, driven)
    good = CONFIG.read_text()
    CONFIG.write_text(good.replace("100", "90"))
    phase("bad configuration", lambda: subprocess.run(["systemctl", "restart", UNIT], check=False), full)
    refused = subprocess.run(["systemctl", "is-failed", UNIT], stdout=subprocess.PIPE, check=False).stdout.decode()
    CONFIG.write_text(good)
    phase("after bad configuration", lambda: subprocess.run(["systemctl", "restart", UNIT], check=True), driven)
    found = {"trace": trace.rows, "seconds": seconds, "steps": steps, "looks": sorted(looks)}
    print(json.dumps({**found, "refused": refused.strip()}))


if __name__ == "__main__":
    {"plug": plug_in, "drill": drill, "failsafe": lambda: print(json.dumps(failsafe()))}[sys.argv[1]]()
