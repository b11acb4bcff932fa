#!/usr/bin/python
"""The target's half of a guarded change of links and firewall. The action plugin of the same name is the other half."""

from __future__ import annotations

DOCUMENTATION = r"""
module: network_change
short_description: Change MTU, addresses, bond, Wi-Fi and firewall so that a mistake takes itself back
description:
  - The task compares what is declared with the host. Where something differs, the former files are kept and a timer is
    set that brings them back; the change is made; the controller opens a new SSH connection, sees that the peers
    answer, and stops the timer. Where that does not come about within O(seconds), the task waits until the host is
    back as it was and fails, saying what was tried.
  - Writes netplan where the host uses it, else systemd-networkd. Other managers of networks are refused.
options:
  declared:
    description: Links and firewall, as the role's variables say it.
    type: dict
    required: true
  passphrase:
    description: Of the wireless network.
    type: str
    default: ""
  seconds:
    description: How long SSH may stay away before the former files come back.
    type: int
    default: 120
  step:
    description: C(begin) and C(confirm) are the action plugin's.
    type: str
    choices: [begin, confirm]
    default: begin
"""

EXAMPLES = r"""
- name: Change the link
  network_change:
    declared: "{{ __network_declared }}"
    passphrase: "{{ network_wifi_passphrase }}"
    seconds: 120
"""

RETURN = r"""
what:
  description: What is (or was) changed, as a phrase.
  type: str
  returned: always, unless step confirm confirmed
paths:
  description: The files that differ.
  type: list
  returned: at step begin
state:
  description: C(none), C(armed), C(confirmed) or C(reverted).
  type: str
  returned: always
why:
  description: Why the change was taken back; empty where it was not.
  type: str
  returned: at step confirm, unless it confirmed
troubles:
  description: What did not come back when the change was taken back.
  type: list
  returned: at step confirm, unless it confirmed
proof:
  description: An answer as long as several packets, which a path that loses large ones does not carry.
  type: str
  returned: at step confirm
"""

import glob
import json
import os
import re

from ansible.module_utils import network_files, network_guard
from ansible.module_utils.basic import AnsibleModule

OWNED = network_guard.HOME + "/owned.json"
# Larger than a jumbo frame, so that a path which loses large packets shows on the way back too.
PROOF = "x" * 20000


def text_of(path):
    try:
        with open(path, "rb") as stream:
            return stream.read().decode("utf-8", "replace")
    except OSError:
        return None


def owned():
    try:
        return json.loads(text_of(OWNED) or "[]")
    except ValueError:
        return []


# -- looking ---------------------------------------------------------------------------------------------------------


def renderer(module):
    """netplan or networkd; anything else would not notice our files."""
    theirs = set(glob.glob("/etc/netplan/*.yaml")) - {network_files.NETPLAN}
    if module.get_bin_path("netplan") and theirs:
        return "netplan"
    if module.run_command(["systemctl", "is-active", "systemd-networkd.service"])[1].strip() != "active":
        module.fail_json(
            msg="this host's network is managed by neither netplan nor systemd-networkd, which the role can write: set "
            "it there, and leave network_mtu, network_addresses, network_bond_members and network_wifi_ssid alone"
        )
    return "networkd"


def network_file(module, card):
    """The administrator's .network file for a card, empty for none; refused where other cards have the same, which
    the change would reach too.
    """

    def file_of(name):
        told = module.run_command(["networkctl", "status", "--no-pager", name])[1]
        found = re.search(r"^\s*Network File: (/\S+)$", told, re.MULTILINE)
        return found.group(1) if found else ""

    file = file_of(card)
    if not file or "/05-provision-" in file:
        return ""
    others = [name for name in sorted(os.listdir("/sys/class/net")) if name not in (card, "lo")]
    sharing = [name for name in others if file_of(name) == file]
    if sharing:
        module.fail_json(
            msg="%s shares %s with %s, and they would change too: give it a .network file of its own"
            % (card, file, ", ".join(sharing))
        )
    return file


def ssh_ports(module):
    """The ports that sshd listens on, and the one that this very connection came in by."""
    told = module.run_command(["sshd", "-T"])[1] if module.get_bin_path("sshd") else ""
    ports = {int(port) for port in re.findall(r"^port (\d+)$", told, re.MULTILINE)}
    arrived = ssh_arrival()
    return sorted(ports | ({int(arrived[3])} if arrived else set()) or {22})


def ssh_arrival():
    """Client address and port, server address and port. sudo drops the variable: an ancestor still has it."""
    for pid in ancestors():
        found = re.search(r"(?:^|\0)SSH_CONNECTION=([^\0]*)", text_of("/proc/%d/environ" % pid) or "")
        if found:
            return found.group(1).split()
    return None


def ancestors():
    """This process, its parent, and so on."""
    pid = os.getpid()
    while pid > 1:
        yield pid
        stat = text_of("/proc/%d/stat" % pid)
        pid = int(stat.rpartition(")")[2].split()[1]) if stat else 0


def mtu_of(card):
    return int((text_of("/sys/class/net/%s/mtu" % card) or "0").strip())


def addresses(module, card):
    told = module.run_command(["ip", "-json", "address", "show", "dev", card])[1]
    try:
        return {info["local"] for entry in json.loads(told) for info in entry.get("addr_info", [])}
    except ValueError:
        return set()


def look(module, declared):
    linked = network_files.declared_links(declared)
    plain = linked and not declared["bond"] and not declared["addresses"] and not declared["wifi"]["ssid"]
    kind = renderer(module) if linked else ""
    if not linked and any("netplan" in path for path in owned()):
        kind = "netplan"
    return {
        "renderer": kind,
        "network_file": network_file(module, declared["interface"]) if plain and kind == "networkd" else "",
        "ssh_ports": ssh_ports(module),
    }


# -- refusing --------------------------------------------------------------------------------------------------------


def refuse_cutting_the_branch(module, declared):
    """An address is changed in two runs: the new one beside the old one, and then without the old one."""
    arrived = ssh_arrival()
    if not declared["addresses"] or not arrived:
        return
    kept = {address.split("/")[0] for address in declared["addresses"]}
    there = {address for card in network_files.cards(declared) for address in addresses(module, card)}
    if arrived[2] in there - kept:
        module.fail_json(
            msg="SSH reaches this host at %s, which network_addresses does not hold: declare it beside the new one, "
            "apply, point the inventory to the new one, and only then leave this one out" % arrived[2]
        )


def refuse_rivals(module, declared):
    """Two firewalls that know nothing of each other help nobody."""
    if not declared["firewall"]:
        return
    for rival, off in (("ufw", "ufw disable"), ("firewalld", "systemctl disable --now firewalld")):
        if module.run_command(["systemctl", "is-active", rival + ".service"])[1].strip() != "active":
            continue
        if rival == "ufw" and "ENABLED=yes" not in (text_of("/etc/ufw/ufw.conf") or ""):
            continue
        module.fail_json(msg="%s is active, and two firewalls would judge each packet: run `%s` first" % (rival, off))


def refuse_unsound_rules(module, path):
    if not module.get_bin_path("nft"):
        return  # check mode on a bare host: nothing that could judge it is installed yet
    code, out, err = module.run_command(["nft", "--check", "--file", path])
    if code != 0:
        module.fail_json(msg="nft refuses the firewall of network_firewall_open: %s" % (err or out).strip())


# -- the steps -------------------------------------------------------------------------------------------------------


def phrase(declared, files):
    told = []
    if network_files.NFT in files:
        told.append("the firewall" if declared["firewall"] else "no firewall")
    if any(path not in (network_files.NFT, network_files.REGDOM) for path in files):
        told += ["MTU %d" % declared["mtu"]] if declared["mtu"] else []
        told += ["the addresses %s" % ", ".join(declared["addresses"])] if declared["addresses"] else []
        told += ["the bond of %s" % " and ".join(declared["bond"]["members"])] if declared["bond"] else []
        told += ["the wireless network"] if declared["wifi"]["ssid"] else []
        told = told or ["the network files of before"]
        return "%s on %s" % (" and ".join(told), network_files.main_link(declared))
    return " and ".join(told) or ("the regulatory domain" if files else "nothing")


def begin(module):
    declared = module.params["declared"]
    seen = look(module, declared)
    wanted = network_files.files(declared, module.params["passphrase"], seen)
    here = {path: text_of(path) for path in {*wanted, *owned()}}
    changed = {path: wanted.get(path, (None, ""))[0] for path in here}
    changed = {path: text for path, text in changed.items() if text != here[path] or drifted(wanted, path)}
    result = {"changed": bool(changed), "paths": sorted(changed), "what": phrase(declared, changed), "state": "none"}
    if not changed or module.check_mode:
        module.exit_json(**result)
    refuse_rivals(module, declared)
    refuse_cutting_the_branch(module, declared)
    if changed.get(network_files.NFT):
        draft = os.path.join(module.tmpdir, "network.nft")
        network_guard.write(draft, changed[network_files.NFT].encode(), 0o600)
        refuse_unsound_rules(module, draft)
    if network_guard.abandoned():
        network_guard.revert("an earlier change was left unproved")
        module.fail_json(msg="an earlier change of the network had been left half way and was taken back: run again")
    if network_guard.armed():
        module.fail_json(msg="another change of this host's network waits for its proof: try again in two minutes")
    touched = any(path not in (network_files.NFT, network_files.REGDOM) for path in changed)
    links = {card: mtu_of(card) for card in network_files.cards(declared) if os.path.exists("/sys/class/net/" + card)}
    made = [declared["bond"]["name"]] if declared["bond"] else []
    change = {
        "what": result["what"],
        "files": dict(changed, **{OWNED: json.dumps(sorted(wanted))}),
        "modes": dict({path: mode for path, (_, mode) in wanted.items()}, **{OWNED: "0600"}),
        "links": links if touched else {},
        "made": [name for name in made if not os.path.exists("/sys/class/net/" + name)] if touched else [],
        "renderer": seen["renderer"] or "networkd",
    }
    make(change, module.params["seconds"])
    module.exit_json(**dict(result, state="armed"))


def make(change, seconds):
    network_guard.arm(change, seconds)
    try:
        network_guard.write_new(change)
        network_guard.apply_later()
    except (OSError, network_guard.Trouble) as error:
        troubles = network_guard.revert(str(error))
        told = "; not all of it came back: %s" % "; ".join(troubles) if troubles else ""
        raise network_guard.Trouble("%s was tried and taken back: %s%s" % (change["what"], error, told)) from error


def drifted(wanted, path):
    """A secret that others may read is as wrong as a wrong text."""
    return path in wanted and (os.stat(path).st_mode & 0o7777) != int(wanted[path][1], 8)


def tell(module):
    """Where the change stands, for a controller that has to try again or to give up."""
    change, outcome = network_guard.load("change.json"), network_guard.load("outcome.json")
    name = "armed" if network_guard.armed() else "reverted" if outcome else "confirmed"
    told = {"what": change.get("what", ""), "why": outcome.get("why", ""), "troubles": outcome.get("troubles", [])}
    module.exit_json(changed=False, state=name, **told)


def proves(applied):
    """Whether this connection is younger than the change. sshd has a process for each; without one nothing is proved
    and nothing can be cut.
    """
    for pid in ancestors():
        name = text_of("/proc/%d/comm" % pid) or ""
        if name.startswith("sshd"):
            ticks = int(text_of("/proc/%d/stat" % pid).rpartition(")")[2].split()[19])
            return ticks / os.sysconf("SC_CLK_TCK") > applied
    return True


def confirm(module):
    """Over a connection that is younger than the change."""
    applied = network_guard.load("applied")
    if not applied or not proves(applied["at"]):
        tell(module)
    declared = module.params["declared"]
    size = (declared["mtu"] or 1500) - 28  # the headers of IP and ICMP
    for peer in declared["peers"] if declared["mtu"] else []:
        if module.run_command(["ping", "-M", "do", "-c", "3", "-i", "0.3", "-W", "2", "-s", str(size), peer])[0] != 0:
            why = "%s does not answer a packet of %d bytes that may not be divided" % (peer, size + 28)
            network_guard.revert(why)
            tell(module)
    if not network_guard.disarm():
        tell(module)
    module.exit_json(changed=True, state="confirmed", proof=PROOF)


def main():
    module = AnsibleModule(
        argument_spec={
            "declared": {"type": "dict", "required": True},
            "passphrase": {"type": "str", "default": "", "no_log": True},
            "seconds": {"type": "int", "default": 120},
            "step": {"type": "str", "default": "begin", "choices": ["begin", "confirm"]},
        },
        supports_check_mode=True,
    )
    try:
        {"begin": begin, "confirm": confirm}[module.params["step"]](module)
    except (OSError, network_guard.Trouble) as trouble:
        module.fail_json(msg=str(trouble))


if __name__ == "__main__":
    main()
