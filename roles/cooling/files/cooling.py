#!/usr/bin/python3
# Managed by provision (role cooling)
"""Fans follow declared curves, and end at full or automatic whatever happens to a sensor, a driver or this program.

cooling run [FILE]         drive the outputs of /etc/provision/cooling.json until told to stop
cooling check [FILE]       judge that file
cooling failsafe [MODULE]  give up every output that was ever driven since boot, or those of one kernel module

How sources and outputs are written stands in cooling_devices.py. Temperatures are Celsius, duties percent.
"""

import fcntl
import json
import os
import signal
import socket
import sys
import time

from cooling_devices import OUTPUT, PATIENCE_S, SOURCE, Lost, attempt, device, read, run, write

CONFIG = "/etc/provision/cooling.json"
RUN = os.environ.get("PROVISION_COOLING_RUN", "/run/provision-cooling")
BAD_CONFIG = 78  # EX_CONFIG: the unit does not try again what cannot work


def say(text):
    print(text, flush=True)


def remember(name, value):
    """A file in /run, whole or not at all."""
    path = os.path.join(RUN, name)
    write(path + ".new", json.dumps(value, sort_keys=True))
    os.replace(path + ".new", path)


def recall(name):
    try:
        return json.loads(read(os.path.join(RUN, name)))
    except (Lost, ValueError):
        return {}


# -- the curve -----------------------------------------------------------------------------------------------------


def faults(config):
    """Every reason why this is no configuration to drive fans with."""
    try:
        if config["interval_s"] <= 0 or config["stale_s"] < config["interval_s"] or config["hold_s"] < 0:
            told = tuple(config[name] for name in ("interval_s", "stale_s", "hold_s"))
            yield "interval_s %g, stale_s %g and hold_s %g do not fit together" % told
        dict(config["modules"])
        names = [curve["name"] for curve in config["curves"]]
        if not names or len(set(names)) != len(names):
            yield "there is no curve, or two have one name"
        for curve in config["curves"]:
            for fact in curve_faults(curve):
                yield "curve %s %s" % (curve["name"], fact)
    except (KeyError, TypeError, ValueError) as error:
        yield "is no configuration: %s %s" % (type(error).__name__, error)


def curve_faults(curve):
    points = [(float(celsius), float(percent)) for celsius, percent in curve["points"]]
    for (cooler, less), (hotter, more) in zip(points, points[1:]):
        if hotter <= cooler or more < less:
            yield "falls at [%g, %g] after [%g, %g]" % (hotter, more, cooler, less)
    if not points or points[-1][1] != 100 or not all(0 <= percent <= 100 for _, percent in points):
        yield "leaves 0..100 percent or does not end at 100"
    if not 0 <= curve["floor_percent"] <= 100 or curve["failsafe_percent"] != 100 or curve["hysteresis_c"] < 0:
        told = tuple(curve[name] for name in ("floor_percent", "failsafe_percent", "hysteresis_c"))
        yield "has a floor outside 0..100 (%g), a failsafe that is not 100 (%g), or a hysteresis below 0 (%g)" % told
    if not curve["sources"] or not curve["outputs"]:
        yield "has no source or no output"
    for form, what in ((SOURCE, "source"), (OUTPUT, "output")):
        for address in curve[what + "s"]:
            if not form.fullmatch(address):
                yield "names %r, which is no %s" % (address, what)


def duty(curve, celsius):
    """The percent that a curve declares for a temperature."""
    points = curve["points"]
    percent = points[0][1] if celsius <= points[0][0] else 100
    for (cooler, less), (hotter, more) in zip(points, points[1:]):
        if cooler < celsius <= hotter:
            percent = less + (more - less) * (celsius - cooler) / (hotter - cooler)
    return max(percent, curve["floor_percent"])


def follow(held, celsius, hysteresis):
    """The temperature that counts: it rises at once and falls when what is measured lies lower by the hysteresis."""
    return celsius if held is None else max(celsius, min(held, celsius + hysteresis))


# -- giving up -----------------------------------------------------------------------------------------------------


class Lock:
    """One writer at a time: between the failsafe of a driver and its unloading no duty is written."""

    def __enter__(self):
        os.makedirs(RUN, exist_ok=True)
        self.stream = open(os.path.join(RUN, "lock"), "w")
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:  # a frozen holder must not keep the fans from their failsafe
            try:
                fcntl.flock(self.stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except OSError:
                time.sleep(0.05)

    def __exit__(self, *_):
        self.stream.close()


def bring_back(address, modules):
    """Load the driver of a chip that is gone. What became of it, in words; nothing where no driver is gone."""
    module = modules.get(device(address).chip) if address.startswith("hwmon:") else None
    if not module or not attempt(device(address).folder)[1]:
        return ""
    _, why = attempt(run, "modprobe", module)
    return "its driver does not load: " + why if why else "its driver %s was loaded again" % module


def give_up(found, modules):
    """Every output at full or automatic, each whatever becomes of the others. Returns the number of those lost."""
    lost = 0
    for address, before in sorted(found.items()):
        _, why = attempt(device(address).release, before)
        told = bring_back(address, modules) if why else ""
        if told:
            say("%s: %s" % (address, told))
            _, why = attempt(device(address).release, before)
        say("%s: %s" % (address, "LOST, its fans keep their last speed: " + why if why else "given up"))
        lost += bool(why)
    return lost


def failsafe(module=None):
    known = recall("found.json")
    found, modules = known.get("outputs", {}), known.get("modules", {})
    if module:
        chips = {chip for chip, name in modules.items() if name == module.replace("-", "_")}
        found = {each: was for each, was in found.items() if each.split("@")[0] in {"hwmon:" + c for c in chips}}
    with Lock():
        if module:
            remember("unloading-" + module.replace("-", "_"), True)
        return 1 if give_up(found, modules) else 0


# -- the service ---------------------------------------------------------------------------------------------------


def notify(text):
    path = os.environ.get("NOTIFY_SOCKET")
    if path:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
            connection.connect("\0" + path[1:] if path.startswith("@") else path)
            connection.send(text.encode())


class Service:
    """The state between two looks: what each source read last, which temperature counts, since when all is well."""

    def __init__(self, config):
        self.config = config
        self.sources = {name: device(name) for curve in config["curves"] for name in curve["sources"]}
        self.outputs = {name: device(name) for curve in config["curves"] for name in curve["outputs"]}
        self.good = {}
        self.held = {}
        self.fault_at = {}
        self.told = {}
        self.lost = {}

    def claim(self):
        """Remember how each output was found, once a boot: the first look finds what the firmware left."""
        known = recall("found.json").get("outputs", {})
        for name, output in self.outputs.items():
            if name not in known:
                known[name], why = attempt(output.found)
                if why:
                    del known[name]
        remember("found.json", {"outputs": {**dict.fromkeys(self.outputs), **known}, "modules": self.config["modules"]})

    def look(self, now):
        """Read the sources. Returns why each lost one is lost: unread for longer than `stale_s`."""
        lost = {}
        for name, source in self.sources.items():
            notify("WATCHDOG=1")
            celsius, why = attempt(source.celsius)
            if why is None:
                self.good[name] = (now, celsius)
            elif now - self.good.get(name, (-1e9, 0))[0] > self.config["stale_s"]:
                lost[name] = why
        return lost

    def decide(self, lost, now):
        """The percent of each output, the highest of its curves, and each curve's temperature and percent."""
        percents, curves = {}, {}
        for curve in self.config["curves"]:
            name, percent = curve["name"], curve["failsafe_percent"]
            if any(source in lost for source in curve["sources"]):
                self.fault_at[name] = now
            at_failsafe = now - self.fault_at.get(name, -1e9) <= self.config["hold_s"]
            celsius = max((self.good[source][1] for source in curve["sources"] if source not in lost), default=None)
            if not at_failsafe:
                self.held[name] = follow(self.held.get(name), celsius, curve["hysteresis_c"])
                percent = duty(curve, self.held[name])
            curves[name] = {"celsius": celsius, "percent": percent, "failsafe": at_failsafe}
            for output in curve["outputs"]:
                percents[output] = max(percents.get(output, 0), percent)
        return percents, curves

    def unloading(self, name):
        """Whether somebody is just unloading the driver of this output; its mark is dropped once it is back."""
        module = self.config["modules"].get(getattr(self.outputs[name], "chip", None))
        mark = os.path.join(RUN, "unloading-%s" % module)
        if not module or not os.path.exists(mark):
            return False
        if not attempt(self.outputs[name].folder)[1] and time.time() - os.path.getmtime(mark) > 2 * PATIENCE_S:
            os.unlink(mark)
            return False
        return True

    def act(self, percents):
        """Set the outputs. Returns why those that are lost are lost; a driver that vanished is brought back."""
        lost = {}
        for name, percent in percents.items():
            notify("WATCHDOG=1")
            with Lock():
                if self.unloading(name):
                    lost[name] = "its driver was unloaded"
                    continue
                _, why = attempt(self.outputs[name].set, percent)
                if why:
                    lost[name] = "; ".join(word for word in (why, bring_back(name, self.config["modules"])) if word)
                    attempt(self.outputs[name].set, 100)
        return lost

    def tick(self, now):
        lost = self.look(now)
        percents, curves = self.decide(lost, now)
        gone = self.act(percents)
        if gone:  # what remains has to do the work of what is gone
            self.fault_at = dict.fromkeys(curves, now)
            self.act({name: 100 for name in self.outputs if name not in gone})
        lost.update(gone)
        self.tell(curves, lost)
        remember("status.json", {"at": time.time(), "curves": curves, "outputs": percents, "lost": lost})

    def tell(self, curves, lost):
        for name, each in curves.items():
            before = self.told.get(name)
            if before is None or abs(each["percent"] - before) >= 5 or (each["percent"] == 100) != (before == 100):
                self.told[name] = each["percent"]
                celsius = "lost" if each["celsius"] is None else "%.1f C" % each["celsius"]
                say("%s: %s, %.0f %%%s" % (name, celsius, each["percent"], " (failsafe)" if each["failsafe"] else ""))
        for name in sorted(set(lost) ^ set(self.lost)):
            say("%s: %s" % (name, "LOST: " + lost[name] if name in lost else "is back"))
        self.lost = lost


def serve(path):
    config, wrong = load(path)
    if wrong:
        say("%s is refused: %s" % (path, "; ".join(wrong)))
        failsafe()
        return BAD_CONFIG
    stop = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.append(True))
    service = Service(config)
    with Lock():
        service.claim()
    while not stop:
        began = time.monotonic()
        service.tick(began)
        notify("READY=1\nWATCHDOG=1")
        while not stop and time.monotonic() - began < config["interval_s"]:
            time.sleep(0.1)
    return failsafe()


def load(path):
    try:
        with open(path) as stream:
            config = json.load(stream)
    except (OSError, ValueError) as error:
        return None, [str(error)]
    return config, list(faults(config))


def main(words):
    verb, rest = (words[0] if words else ""), words[1:]
    if verb == "run":
        return serve(rest[0] if rest else CONFIG)
    if verb == "check":
        _, wrong = load(rest[0] if rest else CONFIG)
        for fact in wrong:
            print(fact, file=sys.stderr)
        return 1 if wrong else 0
    if verb == "failsafe":
        return failsafe(*rest[:1])
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
