# Managed by provision (role cooling)
"""What has a temperature or a fan: chips of the kernel, NVIDIA cards, liquid coolers and BMCs.

Sources and outputs are written alike. `hwmon:nct6798@platform/nct6775.656#pwm1`: a chip by its name and its device
below /sys/devices, where a number that is counted anew at each boot is a `*`; `hwmon:coretemp@platform/coretemp.0`: the
hottest of a chip; `nvml:0000:01:00.0`: a card and all its fans; `liquidctl:1e71:3008#pump`: a cooler by its USB ids;
`supermicro:#0`: a zone of its BMC; `dell:`: all fans of an old iDRAC. Temperatures are Celsius, duties percent.
"""

import ctypes
import glob
import json
import math
import os
import re
import subprocess
import time

SYS = os.environ.get("PROVISION_COOLING_SYS", "/sys")
CHIP, COOLER = r"hwmon:[^@#]+@[^#]+", r"liquidctl:[\da-f]{4}:[\da-f]{4}#"
SOURCE = re.compile(CHIP + r"(#temp\d+)?|nvml:[\da-f:.]+|" + COOLER + "liquid")
OUTPUT = re.compile(CHIP + r"#pwm\d+|nvml:[\da-f:.]+|" + COOLER + r"(pump|fan\d?)|supermicro:#\d|dell:")
PLAUSIBLE = (-10.0, 125.0)  # what no part of a running machine leaves; a faulty input reads -128, -64 or 255
PATIENCE_S = 3  # for a program that talks to a device


class Lost(Exception):
    """A sensor or an output that does not answer, in words."""


def read(path):
    try:
        with open(path) as stream:
            return stream.read().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Lost("%s cannot be read: %s" % (path, getattr(error, "strerror", error))) from error


def write(path, text):
    try:
        with open(path, "w") as stream:
            stream.write(str(text))
    except OSError as error:
        raise Lost("%s cannot be written: %s" % (path, error.strerror)) from error


def run(*words):
    try:
        done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=PATIENCE_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Lost("%s: %s" % (words[0], error)) from error
    if done.returncode:
        raise Lost("%s: %s" % (" ".join(words), done.stderr.decode(errors="replace").strip()))
    return done.stdout.decode(errors="replace")


class Hwmon:
    """A chip of the kernel. Its pwmN_enable is 1 while it is driven, and is given back as it was found."""

    def __init__(self, rest, channel):
        self.chip, self.place = rest.split("@")
        self.channel = channel

    def folder(self):
        found = glob.glob("%s/devices/%s/hwmon/hwmon*" % (SYS, self.place))
        found = [path for path in found if read(path + "/name") == self.chip]
        if len(found) != 1:
            raise Lost("%s is %s at %s" % (self.chip, "there %d times" % len(found) if found else "not", self.place))
        return found[0]

    def celsius(self):
        """The hottest, and only where all of them answer: the one that does not may be it."""
        folder = self.folder()
        paths = ["%s/%s_input" % (folder, self.channel)] if self.channel else glob.glob(folder + "/temp*_input")
        if not paths:
            raise Lost("%s has no temperature" % self.chip)
        return max(self.input(path) for path in paths)

    def input(self, path):
        fault = path[: -len("input")] + "fault"
        if os.path.exists(fault) and read(fault) != "0":
            raise Lost("%s tells of a fault" % path)
        return plausible(int(read(path)) / 1000.0, path)

    def found(self):
        switch = self.switch()
        return read(switch) if switch else None

    def switch(self):
        path = "%s/%s_enable" % (self.folder(), self.channel)
        return path if os.path.exists(path) else None

    def set(self, percent):
        switch = self.switch()
        if switch and read(switch) != "1":
            write(switch, 1)
        write("%s/%s" % (self.folder(), self.channel), math.ceil(percent * 255 / 100))

    def release(self, found):
        """Full, and then what the chip did by itself before; 0 and 1 are no control at all.

        A driver that was loaded while the chip was driven may know no way back: the chip then stays at full.
        """
        self.set(100)
        if found not in (None, "0", "1"):
            attempt(write, self.switch(), found)


def plausible(celsius, subject):
    if not PLAUSIBLE[0] < celsius < PLAUSIBLE[1]:
        raise Lost("%s reads %g C" % (subject, celsius))
    return celsius


class Nvml:
    """An NVIDIA card by its PCI address. While it is asked its driver is in use and cannot be unloaded."""

    library = None

    def __init__(self, rest, _):
        self.address = rest

    @classmethod
    def call(cls, name, *arguments):
        try:
            if cls.library is None:
                library = ctypes.CDLL("libnvidia-ml.so.1")
                if library.nvmlInit_v2():
                    raise Lost("NVML does not start: the NVIDIA driver does not answer")
                cls.library = library
            code = getattr(cls.library, name)(*arguments)
        except (OSError, AttributeError) as error:
            raise Lost("NVML: %s" % error) from error
        if code:
            cls.library.nvmlShutdown()
            cls.library = None
            raise Lost("NVML: %s of %s answers with error %d" % (name, arguments[0], code))

    def handle(self):
        handle = ctypes.c_void_p()
        self.call("nvmlDeviceGetHandleByPciBusId_v2", self.address.encode(), ctypes.byref(handle))
        return handle

    def number(self, name, *arguments):
        value = ctypes.c_uint()
        self.call(name, self.handle(), *arguments, ctypes.byref(value))
        return value.value

    def celsius(self):
        return plausible(float(self.number("nvmlDeviceGetTemperature", 0)), self.address)

    def found(self):
        return None

    def set(self, percent):
        least, most = ctypes.c_uint(), ctypes.c_uint()
        for fan in range(self.number("nvmlDeviceGetNumFans")):
            self.call("nvmlDeviceGetMinMaxFanSpeed", self.handle(), ctypes.byref(least), ctypes.byref(most))
            speed = min(max(math.ceil(percent), least.value), most.value)
            self.call("nvmlDeviceSetFanSpeed_v2", self.handle(), fan, speed)

    def release(self, _):
        """The card's own control, which answers to its own temperature."""
        for fan in range(self.number("nvmlDeviceGetNumFans")):
            self.call("nvmlDeviceSetDefaultFanSpeed_v2", self.handle(), fan)


class Told:
    """A device that is told a duty by a program: when it differs, and again from time to time."""

    AGAIN_S = 30

    def __init__(self, rest, channel):
        self.rest, self.channel = rest, channel
        self.last, self.at = None, 0.0

    def found(self):
        return None

    def set(self, percent):
        if math.ceil(percent) == self.last and time.monotonic() - self.at < self.AGAIN_S:
            return
        self.last = None
        self.tell(math.ceil(percent))
        self.last, self.at = math.ceil(percent), time.monotonic()

    def release(self, _):
        self.tell(100)


class Liquidctl(Told):
    """A liquid cooler on USB. Its liquid changes slowly, and the program that asks it takes a second to start."""

    READ_S = 10

    def liquidctl(self, *words):
        vendor, product = self.rest.split(":")
        return run("liquidctl", "--vendor", "0x" + vendor, "--product", "0x" + product, *words)

    def celsius(self):
        if self.last is None or time.monotonic() - self.at > self.READ_S:
            self.last = None
            for device in json.loads(self.liquidctl("--json", "status")):
                for each in device["status"]:
                    if each["key"].lower().startswith(self.channel):
                        self.last, self.at = plausible(float(each["value"]), self.rest), time.monotonic()
        if self.last is None:
            raise Lost("%s tells no temperature of %s" % (self.rest, self.channel))
        return self.last

    def tell(self, percent):
        if self.at == 0.0:
            self.liquidctl("initialize")  # most coolers want it after each boot
        self.liquidctl("set", self.channel, "speed", str(percent))


class Supermicro(Told):
    """A zone of the BMC of X10 to X13 and H10 to H13 boards. Only in the mode `full` it keeps to duties."""

    def tell(self, percent):
        if run("ipmitool", "raw", "0x30", "0x45", "0x00").strip() != "01" or percent == 100:
            run("ipmitool", "raw", "0x30", "0x45", "0x01", "0x01")
        run("ipmitool", "raw", "0x30", "0x70", "0x66", "0x01", "0x%02x" % int(self.channel), "0x%02x" % percent)


class Dell(Told):
    """All fans of an iDRAC before 9, or 9 before 3.30.30.30."""

    def tell(self, percent):
        run("ipmitool", "raw", "0x30", "0x30", "0x01", "0x00")
        run("ipmitool", "raw", "0x30", "0x30", "0x02", "0xff", "0x%02x" % percent)

    def release(self, _):
        run("ipmitool", "raw", "0x30", "0x30", "0x01", "0x01")


KINDS = {"hwmon": Hwmon, "nvml": Nvml, "liquidctl": Liquidctl, "supermicro": Supermicro, "dell": Dell}


def device(address):
    kind, rest = address.split(":", 1)
    rest, _, channel = rest.partition("#")
    return KINDS[kind](rest, channel)


def attempt(action, *arguments):
    """What a device answers, or why it is lost, whatever odd thing it said."""
    try:
        return action(*arguments), None
    except Lost as error:
        return None, str(error)
    except (ValueError, KeyError, TypeError) as error:
        return None, "a device answers what nobody understands: %s %s" % (type(error).__name__, error)
