"""Settings of the right type that no host can have, or not together. Pure."""

from __future__ import annotations

import ipaddress
import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

Contradiction = tuple[str, str, str]
"""The setting, the fact, the hint. Without a setting it is about the host itself."""

_DIRECTORIES = (
    "docker_data_root", "docker_containerd_root", "model_cache_root", "python_ml_root", "storage_fast_mountpoint",
    "storage_archive_mountpoint",
)  # fmt: skip
_SHARED = ("/", "/etc", "/home", "/mnt", "/opt", "/root", "/srv", "/tmp", "/usr", "/var")  # noqa: S108  they are refused

_TUNED = (r"(max|keep|[1-9][0-9]*)?", "number of them", "write max, keep or a number")
_ACCOUNT = (r"[A-Za-z_][A-Za-z0-9_.-]{0,31}", "name of an account", "use letters, digits, dots, dashes and underscores")
_FORMS = {  # the roles guard the same: here it is told before a host is reached
    "base_admin_authorized_keys": (
        r"\s*(.* )?(ssh|ecdsa|sk)-\S+ AAAA.*\s*",
        "public key",
        "test it: ssh-keygen -l -f FILE",
    ),
    "base_admin_user": (r"([a-z_][a-z0-9_.-]{0,30})?", "user name", "use small letters, digits, dots and dashes"),
    "base_journal_max_age": (r"[0-9]+ ?[a-z]*", "time span", "write it like 30day"),
    "base_journal_max_use": (r"[0-9]+[KMGT]?", "size", "write it like 1G"),
    "base_limits_memlock": (r"unlimited|[0-9]+", "limit", "write unlimited or a number of KiB"),
    "base_time_servers": (r"[A-Za-z0-9.:-]+", "host name or address", "write it like ntp.example"),
    "base_unattended_blacklist": (r'[^"\s;]*', "pattern of package names", "write it like nvidia-"),
    "cuda_versions": (r"[0-9]+[.][0-9]+", "CUDA release", "write it like '13.0', in quotes"),
    "kernel_tuning_boot_parameters": (
        r"[A-Za-z0-9_][A-Za-z0-9_.:,=/+@%*~^-]*",
        "word of the kernel's command line",
        "write it like iommu=pt, without spaces, quotes and semicolons",
    ),
    "model_cache_group": _ACCOUNT,
    "model_cache_user": _ACCOUNT,
    "network_queues": _TUNED,
    "network_rings": _TUNED,
    "network_wifi_country": (r"([A-Z]{2})?", "code of a country", "write two capital letters, like DE"),
    "nvidia_driver_branch": (r"([0-9]+)?", "driver branch", "write it like 580"),
    "nvidia_driver_version": (r"([0-9]+([.][0-9]+){1,2})?", "driver version", "write it like 580.95.05"),
    "python_ml_group": _ACCOUNT,
    "python_ml_user": _ACCOUNT,
    "storage_group": _ACCOUNT,
    "storage_health_mail": (r"\S+", "mail address", "write it like root or ops@example.org"),
}
_PROFILE = r"\d+g\.\d+gb[+.a-z0-9]*"  # of MIG, 1g.10gb+me
_Parser = Callable[[str], object]
_ADDRESSES: Mapping[str, tuple[_Parser, str]] = {
    "network_addresses": (ipaddress.ip_interface, "192.0.2.7/24"),
    "network_gateway": (ipaddress.ip_address, "192.0.2.1"),
    "network_nameservers": (ipaddress.ip_address, "192.0.2.1"),
    "network_mtu_peers": (ipaddress.ip_address, "192.0.2.9"),
}
"""What reads each setting's addresses, and an address of its form."""
_MTU, _STANDARD_MTU = range(576, 9216 + 1), 1500  # bytes of a packet; above the standard one the whole path must agree
_REVERT = range(20, 600 + 1)  # seconds: long enough to log in again, short enough to wait for
_NOFILE = range(1024, 1048576 + 1)  # above it the kernel refuses every login, below it programs fail


def of_settings(settings: Mapping[str, Any]) -> list[Contradiction]:
    """What contradicts itself on any host."""
    judges = (_forms, _directories, _environments, _models, _power, _kernel, _addresses, _link, _ports, _wireless)
    return [fault for judge in judges for fault in judge(settings)]


def _forms(settings: Mapping[str, Any]) -> Iterator[Contradiction]:
    for name, (pattern, what, hint) in _FORMS.items():
        value = settings[name]
        for text in value if isinstance(value, list) else [value]:
            if not re.fullmatch(pattern, text):
                yield name, f"has {text!r}, which is no {what}", hint
    if settings["base_limits_nofile"] not in _NOFILE:
        hint = f"choose from {_NOFILE.start} to {_NOFILE.stop - 1}"
        yield "base_limits_nofile", f"is {settings['base_limits_nofile']}, with which nobody could log in or work", hint
    if settings["base_admin_authorized_keys_exclusive"] and not settings["base_admin_authorized_keys"]:
        fact = "would leave the account without a key"
        yield "base_admin_authorized_keys_exclusive", fact, "set base_admin_authorized_keys"


def _directories(settings: Mapping[str, Any]) -> Iterator[Contradiction]:
    for name in _DIRECTORIES:
        path = settings.get(name) or ""
        if path and not path.startswith("/"):
            yield name, f"is not an absolute path: {path}", "begin it with a slash"
        elif ".." in PurePosixPath(path).parts:
            yield name, f"climbs with ..: {path}", "write the path out"
        elif path and (path.rstrip("/") or "/") in _SHARED:
            hint = f"name one of its own, such as {path.rstrip('/')}/own"
            yield name, f"is a directory that others use: {path}", hint
    for name, other in itertools.combinations(_DIRECTORIES, 2):
        path = settings.get(name)
        if path and path == settings.get(other):
            yield other, f"is the same directory as {name}: {path}", "give each a directory of its own"


def _environments(settings: Mapping[str, Any]) -> Iterator[Contradiction]:
    name = "python_ml_environments"
    names = [environment["name"] for environment in settings.get(name) or ()]
    for twice in [each for each, count in Counter(names).items() if count > 1]:
        yield name, f"has two environments named {twice}", "rename one of them"
    for wrong in [each for each in names if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", each)]:
        hint = "use lower case letters, digits, dashes and underscores"
        yield name, f"has an environment whose name no directory should have: {wrong!r}", hint


def _models(settings: Mapping[str, Any]) -> Iterator[Contradiction]:
    """A manifest pins everything: what could change by itself is not proved by a checksum of yesterday."""
    name = "model_cache_models"
    if settings.get("model_cache_user") == "root":
        yield "model_cache_user", "is root, and models are not downloaded as root", "name a service account"
    for model in settings.get(name) or ():
        repo, revision, files = model["repo"], model["revision"], model["files"]
        if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", repo) or "--" in repo or ".." in repo:
            yield name, f"has a repository that is no name: {repo!r}", "write owner/name"
        if not re.fullmatch(r"[0-9a-f]{40}", revision):
            yield name, f"has {repo} at {revision}, which can move", "give the full commit hash, 40 hexadecimal digits"
        if not files:
            yield name, f"pins no file of {repo}", "give the SHA-256 of at least one under files"
        for path, digest in files.items():
            if not re.fullmatch(r"[0-9a-f]{64}", str(digest)):
                yield name, f"has no SHA-256 for {path} of {repo}: {digest}", "give 64 small hexadecimal digits"
            if path.startswith("/") or ".." in PurePosixPath(path).parts:
                yield name, f"has a path that leads out of {repo}: {path}", "name a path inside the repository"
    pins = Counter((model["repo"], model["revision"]) for model in settings.get(name) or ())
    for repo, revision in [each for each, count in pins.items() if count > 1]:
        yield name, f"names {repo} at {revision} twice", "keep one of the two"


def _power(settings: Mapping[str, Any]) -> Iterator[Contradiction]:
    """What no card is called and no power supply gives; what a card itself does not allow, the role refuses."""
    limits, mig = settings["gpu_power_limits"], settings["gpu_power_mig"]
    for name, uuid in [("gpu_power_limits", each) for each in limits] + [("gpu_power_mig", each) for each in mig]:
        if not str(uuid).startswith("GPU-"):
            yield name, f"names {uuid!r}, which is no UUID of a GPU", "list them: nvidia-smi -L"
    for wrong in [watts for watts in limits.values() if type(watts) is not int or watts < 1]:
        yield "gpu_power_limits", f"has {wrong!r}, which are no watts", "write a whole number, such as 250"
    for profiles in mig.values():
        if not isinstance(profiles, list) or not all(re.fullmatch(_PROFILE, str(each)) for each in profiles):
            yield "gpu_power_mig", f"has {profiles!r}, which is no list of profiles", "write it like [3g.40gb, 3g.40gb]"
    for name in ("gpu_power_limit_watts", "gpu_power_psu_watts", "gpu_power_rest_watts"):
        if settings[name] < 0:
            yield name, f"is {settings[name]}, less than nothing", "write watts, or 0 for none"
    supply, rest = settings["gpu_power_psu_watts"], settings["gpu_power_rest_watts"]
    total = rest + sum(watts for watts in limits.values() if type(watts) is int)
    if 0 < supply < total:
        fact = f"is {supply}, and the caps of gpu_power_limits and gpu_power_rest_watts add up to {total}"
        yield "gpu_power_psu_watts", fact, "lower the caps"


def _kernel(settings: Mapping[str, Any]) -> Iterator[Contradiction]:
    if settings["kernel_tuning_swappiness"] not in range(-1, 201):
        fact = f"is {settings['kernel_tuning_swappiness']}, which no kernel takes"
        yield "kernel_tuning_swappiness", fact, "choose from 0 to 200, or -1 to leave what is there"
    for name in ("kernel_tuning_hugepages_2m", "kernel_tuning_hugepages_1g"):
        if settings[name] < 0:
            yield name, f"is {settings[name]}, less than nothing", "write a number of pages, or 0 for none"


def _addresses(settings: Mapping[str, Any]) -> Iterator[Contradiction]:
    for name, (parse, example) in _ADDRESSES.items():
        value = settings[name]
        for text in value if isinstance(value, list) else [value] if value else []:
            if not _parses(parse, text):
                yield name, f"has {text!r}, which is no address", f"write it like {example}"
            elif name == "network_addresses" and "/" not in text:
                yield name, f"has {text} without a prefix length", f"write it like {text}/24"


def _parses(parse: _Parser, text: str) -> bool:
    try:
        parse(text)
    except ValueError:
        return False
    return True


def _link(settings: Mapping[str, Any]) -> Iterator[Contradiction]:
    mtu = settings["network_mtu"]
    if mtu and mtu not in _MTU:
        hint = f"choose from {_MTU.start} to {_MTU.stop - 1}, or 0 to leave it"
        yield "network_mtu", f"is {mtu}, which is no size of a packet", hint
    elif mtu > _STANDARD_MTU and not settings["network_mtu_peers"]:
        hint = "name addresses that have to answer such a packet in network_mtu_peers"
        yield "network_mtu", f"is {mtu}, and nothing proves that the network carries it", hint
    if settings["network_revert_seconds"] not in _REVERT:
        hint = f"choose from {_REVERT.start} to {_REVERT.stop - 1}"
        yield "network_revert_seconds", f"is {settings['network_revert_seconds']}", hint
    if len(set(settings["network_bond_members"])) == 1:
        yield "network_bond_members", "has fewer than two members", "name two cards or more, or leave it out"


def _ports(settings: Mapping[str, Any]) -> Iterator[Contradiction]:
    name = "network_firewall_open"
    for entry in settings[name]:
        first, _, last = entry["port"].partition("-")
        numbers = [int(text) if text.isdigit() else 0 for text in (first, last or first)]
        if not 1 <= numbers[0] <= numbers[1] <= 65535:
            yield name, f"has the port {entry['port']!r}", "write a number up to 65535, or a range like 8000-8010"
        for text in entry["from"]:
            if not _parses(ipaddress.ip_network, text):
                yield name, f"admits {text!r}, which is no network", "write it like 192.0.2.0/24"


def _wireless(settings: Mapping[str, Any]) -> Iterator[Contradiction]:
    phrase = settings["network_wifi_passphrase"]
    if phrase and not re.fullmatch(r"[ -~]{8,63}", phrase):  # the value stays unsaid
        yield "network_wifi_passphrase", "is no passphrase of 8 to 63 printable characters", "look it up again"
    if len(settings["network_wifi_ssid"].encode()) > 32:
        yield "network_wifi_ssid", "is longer than the 32 bytes that a network's name may have", "look it up again"
