#!/usr/bin/python3
"""Stands in for nvidia-smi where there is no card: answers from a recorded document, and remembers what is set.

The document is the file that NVIDIA_SMI_STANDIN names, else /var/lib/nvidia-smi-standin.xml. Known: `-q -x`, `-L`,
`-i UUID -pm|-pl|-mig VALUE`, `mig -i UUID -lgi|-dci|-dgi|-cgi PROFILES -C`. Its words and exit codes are those that
nvidia-smi was seen to use. `--boot` does to the cards what a boot does. Runs on Python 3.8.
"""

import os
import re
import sys
from pathlib import Path
from xml.etree import ElementTree

DOCUMENT = Path(os.environ.get("NVIDIA_SMI_STANDIN", "/var/lib/nvidia-smi-standin.xml"))
SLICES = 7  # compute slices of an A100 or H100
PROFILE_OF_MIB = {"19968": "1g.20gb"}  # of recorded instances, which do not tell it


def end(code, said):
    sys.stdout.write(said.rstrip("\n") + "\n" if said else "")
    sys.exit(code)


class Cards:
    def __init__(self):
        text = DOCUMENT.read_text(encoding="utf-8")
        if "<nvidia_smi_log" not in text:
            end(9, text)  # a recorded failure
        self.prolog = text[: text.index("<nvidia_smi_log")]
        self.root = ElementTree.fromstring(text[len(self.prolog) :])

    def save(self):
        DOCUMENT.write_text(self.prolog + ElementTree.tostring(self.root, encoding="unicode"), encoding="utf-8")

    def all(self):
        return list(self.root.iter("gpu"))

    def one(self, uuid):
        for number, gpu in enumerate(self.all()):
            if gpu.findtext("uuid") == uuid:
                return number, gpu
        return end(6, "No devices were found")


def power(gpu, name):
    for section in ("gpu_power_readings", "power_readings"):
        found = gpu.find("%s/%s" % (section, name))
        if found is not None:
            return found
    return None


def limits(gpu):
    return [each for name in ("requested_power_limit", "current_power_limit", "power_limit", "enforced_power_limit")
            if (each := power(gpu, name)) is not None]  # fmt: skip


def set_limit(gpu, watts):
    bus = gpu.get("id")
    least, most = (float(power(gpu, name).text[:-2]) for name in ("min_power_limit", "max_power_limit"))
    if not least <= watts <= most:
        told = "Provided power limit %.2f W is not a valid power limit which should be between %.2f W and %.2f W for GPU %s"
        end(2, told % (watts, least, most, bus) + "\nTerminating early due to previous errors.")
    before = limits(gpu)[0].text
    for each in limits(gpu):
        each.text = "%.2f W" % watts
    return "Power limit for GPU %s was set to %.2f W from %s.\nAll done." % (bus, watts, before)


def set_persistence(gpu, value):
    gpu.find("persistence_mode").text = "Enabled" if value == "1" else "Disabled"
    return "%s persistence mode for GPU %s.\nAll done." % ("Enabled" if value == "1" else "Disabled", gpu.get("id"))


def set_mig(gpu, value):
    current, pending = gpu.find("mig_mode/current_mig"), gpu.find("mig_mode/pending_mig")
    if current.text == "N/A":
        end(3, "Unable to set MIG mode for GPU %s: Not Supported" % gpu.get("id"))
    if instances(gpu) and value == "0":
        end(19, "Unable to disable MIG Mode for GPU %s: In use by another client" % gpu.get("id"))
    pending.text = "Enabled" if value == "1" else "Disabled"
    if gpu.get("held") == "yes":  # by something that is no process of the list, as a display or a profiler
        return "Warning: MIG mode is in pending enable state for GPU %s:In use by another client" % gpu.get("id")
    current.text = pending.text
    return "%s MIG Mode for GPU %s\nAll done." % (current.text, gpu.get("id"))


def instances(gpu):
    return gpu.findall("mig_devices/mig_device")


def profile(device):
    return device.findtext("standin_profile") or PROFILE_OF_MIB.get(device.findtext("fb_memory_usage/total", "")[:-4])


def mig(cards, arguments):
    number, gpu = cards.one(arguments[arguments.index("-i") + 1])
    bus = gpu.get("id")
    if gpu.findtext("mig_mode/current_mig") != "Enabled":
        end(6, "No MIG-enabled devices found.")
    made = instances(gpu)
    if "-lgi" in arguments:
        if not made:
            end(6, "No GPU instances found: Not Found")
        rows = ["|%4d  MIG %-12s %8d %8s          0:1     |" % (number, profile(each), 9, each.findtext("gpu_instance_id"))
                for each in made]  # fmt: skip
        return "| GPU instances:                                        |\n" + "\n".join(rows)
    parent = gpu.find("mig_devices")
    if "-dci" in arguments:
        for each in made:
            each.set("compute", "gone")
        return "Successfully destroyed compute instances on GPU %d" % number
    if "-dgi" in arguments:
        if any(each.get("compute") != "gone" for each in made):
            end(19, "Unable to destroy GPU instance ID 1 from GPU %s: In use by another client" % bus)
        for each in made:
            parent.remove(each)
        parent.text = "None"
        return "Successfully destroyed GPU instances from GPU %d" % number
    names = arguments[arguments.index("-cgi") + 1].split(",")
    taken = sum(int(re.match(r"\d+", profile(each)).group()) for each in made)
    for identity, name in enumerate(names, len(made) + 1):
        taken += int(re.match(r"\d+", name).group())
        if taken > SLICES:
            cards.save()
            end(
                19,
                "Unable to create a GPU instance on GPU %d using profile %s: Insufficient Resources" % (number, name),
            )
        device = ElementTree.SubElement(parent, "mig_device")
        for tag, value in (("index", identity - 1), ("gpu_instance_id", identity), ("compute_instance_id", 0)):
            ElementTree.SubElement(device, tag).text = str(value)
        ElementTree.SubElement(device, "standin_profile").text = name
    parent.text = None
    return "\n".join(
        "Successfully created GPU instance ID %d on GPU %d" % (at, number) for at, _ in enumerate(names, 1)
    )


def boot(cards):
    """A boot forgets limits, persistence and instances; the MIG mode of an A100 outlives it."""
    for gpu in cards.all():
        for each in limits(gpu):
            each.text = power(gpu, "default_power_limit").text
        gpu.find("persistence_mode").text = "Disabled"
        for each in instances(gpu):
            gpu.find("mig_devices").remove(each)
        gpu.find("mig_mode/current_mig").text = gpu.findtext("mig_mode/pending_mig")
        gpu.attrib.pop("held", None)
    return "booted"


def answer(cards, arguments):
    if arguments == ["-q", "-x"]:
        return DOCUMENT.read_text(encoding="utf-8")
    if arguments == ["-L"]:
        return "\n".join("GPU %d: %s (UUID: %s)" % (at, gpu.findtext("product_name"), gpu.findtext("uuid"))
                         for at, gpu in enumerate(cards.all()))  # fmt: skip
    if arguments == ["--boot"]:
        return boot(cards)
    if arguments[:1] == ["mig"]:
        return mig(cards, arguments)
    if len(arguments) == 4 and arguments[0] == "-i" and arguments[2] in ("-pm", "-pl", "-mig"):
        _, gpu = cards.one(arguments[1])
        if arguments[2] == "-pl":
            return set_limit(gpu, float(arguments[3]))
        return (set_persistence if arguments[2] == "-pm" else set_mig)(gpu, arguments[3])
    return end(2, "Invalid combination of input arguments. Please run 'nvidia-smi -h' for help.")


if __name__ == "__main__":
    everything = Cards()
    said = answer(everything, sys.argv[1:])
    if sys.argv[1:] != ["-q", "-x"]:
        with (DOCUMENT.parent / (DOCUMENT.name + ".calls")).open("a", encoding="utf-8") as log:
            log.write(" ".join(sys.argv[1:]) + "\n")
        everything.save()
    end(0, said)
