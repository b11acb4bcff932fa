#!/usr/bin/python3
"""Stands in for nvidia-smi where there is no card: answers from a recorded document, and remembers what is set.

The document is the file that NVIDIA_SMI_STANDIN names, else /var/lib/nvidia-smi-standin.xml. Known: `-q -x`,
`-i UUID -pm|-pl|-mig VALUE`, `mig -i UUID -lgi|-dci|-dgi|-cgi PROFILES -C`; the calls that set something are listed in
the file beside it. Its words and exit codes are those that nvidia-smi was seen to use, as far as they are known.
`--boot` does to the cards what a boot does. Runs on Python 3.8.
"""

import os
import re
import sys
from pathlib import Path
from xml.etree import ElementTree

DOCUMENT = Path(os.environ.get("NVIDIA_SMI_STANDIN", "/var/lib/nvidia-smi-standin.xml"))
CALLS = Path(f"{DOCUMENT}.calls")
SLICES = 7  # compute slices of an A100 or H100
PROFILE_OF_MIB = {"19968 MiB": "1g.20gb"}  # a recorded instance does not tell its profile
IN_USE = "In use by another client"


def end(code, said):
    print(said.rstrip("\n"))
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

    def one(self, uuid):
        for number, gpu in enumerate(self.root.iter("gpu")):
            if gpu.findtext("uuid") == uuid:
                return number, gpu
        return end(6, "No devices were found")


def power(gpu, *names):
    """Those of the fields that the document has, by either name of their section."""
    sections = ("gpu_power_readings", "power_readings")
    found = [gpu.find(f"{section}/{name}") for section in sections for name in names]
    return [each for each in found if each is not None]


def limits(gpu):
    return power(gpu, "requested_power_limit", "current_power_limit", "power_limit", "enforced_power_limit")


def set_limit(gpu, value):
    bus, watts = gpu.get("id"), float(value)
    least, most = (float(power(gpu, name)[0].text[:-2]) for name in ("min_power_limit", "max_power_limit"))
    if not least <= watts <= most:
        told = f"which should be between {least:.2f} W and {most:.2f} W for GPU {bus}"
        end(2, f"Provided power limit {watts:.2f} W is not a valid power limit {told}\nTerminating early.")
    before = limits(gpu)[0].text
    for each in limits(gpu):
        each.text = f"{watts:.2f} W"
    return f"Power limit for GPU {bus} was set to {watts:.2f} W from {before}.\nAll done."


def set_persistence(gpu, value):
    gpu.find("persistence_mode").text = mode = "Enabled" if value == "1" else "Disabled"
    return f"{mode} persistence mode for GPU {gpu.get('id')}.\nAll done."


def set_mig(gpu, value):
    bus, current, pending = gpu.get("id"), gpu.find("mig_mode/current_mig"), gpu.find("mig_mode/pending_mig")
    if current.text == "N/A":
        end(3, f"Unable to set MIG mode for GPU {bus}: Not Supported")
    if instances(gpu) and value == "0":
        end(19, f"Unable to disable MIG Mode for GPU {bus}: {IN_USE}")
    pending.text = "Enabled" if value == "1" else "Disabled"
    if gpu.get("held") == "yes":  # by something that is no process of the list, such as a monitor
        return f"Warning: MIG mode is in pending enable state for GPU {bus}:{IN_USE}"
    current.text = pending.text
    return f"{current.text} MIG Mode for GPU {bus}\nAll done."


def instances(gpu):
    return gpu.findall("mig_devices/mig_device")


def profile(device):
    return device.findtext("standin_profile") or PROFILE_OF_MIB[device.findtext("fb_memory_usage/total")]


def slices(name):
    return int(re.match(r"\d+", name).group())


def mig(number, gpu, arguments):
    if gpu.findtext("mig_mode/current_mig") != "Enabled":
        end(6, "No MIG-enabled devices found.")
    made = instances(gpu)
    if "-lgi" in arguments:
        if not made:
            end(6, "No GPU instances found: Not Found")
        ids = [(profile(each), each.findtext("gpu_instance_id")) for each in made]
        return "\n".join(f"|{number:4}  MIG {name:12} {9:8} {identity:>8}          0:1     |" for name, identity in ids)
    if "-dci" in arguments:
        for each in made:
            each.set("compute", "gone")
        return f"Successfully destroyed {len(made)} compute instances on GPU {number}"
    if "-dgi" in arguments:
        if any(each.get("compute") != "gone" for each in made):
            end(19, f"Unable to destroy GPU instances from GPU {number}: {IN_USE}")
        for each in made:
            gpu.find("mig_devices").remove(each)
        return f"Successfully destroyed {len(made)} GPU instances from GPU {number}"
    return create(number, gpu, arguments[arguments.index("-cgi") + 1].split(","))


def create(number, gpu, names):
    taken = sum(slices(profile(each)) for each in instances(gpu))
    for identity, name in enumerate(names, 1):
        taken += slices(name)
        if taken > SLICES:
            end(19, f"Unable to create a GPU instance on GPU {number} using profile {name}: Insufficient Resources")
        device = ElementTree.SubElement(gpu.find("mig_devices"), "mig_device")
        fields = {"index": identity - 1, "gpu_instance_id": identity, "compute_instance_id": 0, "standin_profile": name}
        for tag, value in fields.items():
            ElementTree.SubElement(device, tag).text = str(value)
    return f"Successfully created {len(names)} GPU instances on GPU {number}"


def boot(gpu):
    """A boot forgets limits, persistence and instances; the MIG mode of an A100 outlives it."""
    for each in limits(gpu):
        each.text = power(gpu, "default_power_limit")[0].text
    gpu.find("persistence_mode").text = "Disabled"
    for each in instances(gpu):
        gpu.find("mig_devices").remove(each)
    gpu.find("mig_mode/current_mig").text = gpu.findtext("mig_mode/pending_mig")
    gpu.attrib.pop("held", None)


def change(cards, arguments):
    if arguments == ["--boot"]:
        for gpu in cards.root.iter("gpu"):
            boot(gpu)
        return "booted"
    number, gpu = cards.one(arguments[arguments.index("-i") + 1]) if "-i" in arguments else end(2, "Invalid arguments")
    if arguments[0] == "mig":
        return mig(number, gpu, arguments)
    settings = {"-pl": set_limit, "-pm": set_persistence, "-mig": set_mig}
    if len(arguments) != 4 or arguments[2] not in settings:
        end(2, "Invalid combination of input arguments. Please run 'nvidia-smi -h' for help.")
    return settings[arguments[2]](gpu, arguments[3])


def main(arguments):
    cards = Cards()
    if arguments == ["-q", "-x"]:
        end(0, DOCUMENT.read_text(encoding="utf-8"))
    if "-lgi" not in arguments:
        with CALLS.open("a", encoding="utf-8") as log:
            log.write(" ".join(arguments) + "\n")
    said = change(cards, arguments)
    cards.save()
    end(0, said)


if __name__ == "__main__":
    main(sys.argv[1:])
