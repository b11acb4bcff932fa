#!/usr/bin/python3
# Managed by provision (role gpu_power)
"""Brings the NVIDIA cards of this host to what is declared: persistence, power caps, MIG instances.

    gpu-power [--check] [/etc/provision/gpu-power.json]

The unit provision-gpu-power.service runs it at every boot, because none of this outlives one. What it can do it does,
whatever else fails: a cap protects the power supply. It ends with 1 where a card is gone or refuses, and says which.
With --check it changes nothing, and ends with 3 where something would change. Runs on Python 3.8.
"""

import json
import os
import re
import subprocess
import sys
from collections import Counter, namedtuple
from xml.etree import ElementTree

DECLARED = "/etc/provision/gpu-power.json"
CAPPED = "/run/provision/gpu-power-capped.json"  # the cards that this program capped since the boot
PATIENCE = 120  # seconds for one nvidia-smi; a change of the MIG mode resets the card
DIFFERS = 3

Card = namedtuple("Card", "uuid name persistence limit minimum maximum default mig pending busy")
# `wanted` is a sentence; `commands` are what follows `nvidia-smi -i UUID`, or `nvidia-smi mig -i UUID` for `mig`.
Change = namedtuple("Change", "card wanted commands")

_INSTANCE = re.compile(r"\bMIG\s+(\d+g\.\S+)\s+\d+\s+\d+\s+\d+:\d+")


class Trouble(Exception):
    """A sentence about a card or the driver."""


def nvidia_smi(*arguments):
    """What nvidia-smi says; Trouble with its own words where it fails."""
    try:
        done = subprocess.run(
            ["nvidia-smi", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            universal_newlines=True,
            timeout=PATIENCE,
            check=False,
        )
    except FileNotFoundError:
        raise Trouble("nvidia-smi is not installed") from None
    except subprocess.TimeoutExpired:
        raise Trouble("nvidia-smi %s does not come to an end in %d s" % (" ".join(arguments), PATIENCE)) from None
    if done.returncode != 0:
        said = " ".join(done.stdout.split())[:300] or "nothing"
        raise Trouble("nvidia-smi %s ended with %d and says: %s" % (" ".join(arguments), done.returncode, said))
    return done.stdout


def look():
    """The cards as the driver shows them."""
    text = nvidia_smi("-q", "-x")
    try:
        root = ElementTree.fromstring(text[text.index("<nvidia_smi_log") : text.rindex("</nvidia_smi_log>") + 17])
    except (ValueError, ElementTree.ParseError):
        raise Trouble("nvidia-smi says: %s" % (" ".join(text.split())[:300] or "nothing")) from None
    return [read_card(element) for element in root.iter("gpu")]


def read_card(element):
    """One card. The driver called the section power_readings before R535."""

    def watts(*names):
        for name in names:
            for section in ("gpu_power_readings", "power_readings"):
                text = element.findtext("%s/%s" % (section, name), "").strip()
                if re.match(r"\d+(\.\d+)? W$", text):
                    return float(text[:-2])
        return None

    def switch(path):
        return {"Enabled": True, "Disabled": False}.get(element.findtext(path, "").strip())

    return Card(
        uuid=element.findtext("uuid", "").strip(),
        name=element.findtext("product_name", "").strip(),
        persistence=switch("persistence_mode"),
        limit=watts("requested_power_limit", "power_limit"),
        minimum=watts("min_power_limit"),
        maximum=watts("max_power_limit"),
        default=watts("default_power_limit"),
        mig=switch("mig_mode/current_mig"),
        pending=switch("mig_mode/pending_mig"),
        busy=[pid.text.strip() for pid in element.iterfind("processes/process_info/pid") if pid.text],
    )


def instances(card):
    """The profiles a card is divided into, such as 3g.40gb."""
    if not card.mig:
        return []
    try:
        return sorted(_INSTANCE.findall(nvidia_smi("mig", "-i", card.uuid, "-lgi")))
    except Trouble as trouble:
        if "No GPU instances found" in str(trouble):
            return []
        raise


def label(card):
    return "%s (%s)" % (card.uuid, card.name)


def asked_of(declared, card):
    """The declared cap of a card in watts; 0 where none is."""
    return float(declared["limits"].get(card.uuid, declared["limit_watts"]))


def cap_of(declared, card):
    """The declared cap within what the card allows; None where none is declared, or the card has none."""
    asked = asked_of(declared, card)
    if not asked or card.minimum is None or card.maximum is None:
        return None
    return min(max(asked, card.minimum), card.maximum)


def notes(declared, cards):
    """Caps that the cards do not allow as they are declared."""
    for card in cards:
        asked, cap = asked_of(declared, card), cap_of(declared, card)
        if cap is not None and cap != asked:
            bound = "least" if cap > asked else "most"
            yield "%s is capped at %g W, not %g W: that is the %s it allows" % (label(card), cap, asked, bound)


def refusals(declared, cards):
    """What is declared and cannot be: cards that are not there, caps or MIG where a card has none, too much power."""
    there = ", ".join(card.uuid for card in cards) or "none"
    for what, named in (("gpu_power_limits", declared["limits"]), ("gpu_power_mig", declared["mig"])):
        for uuid in sorted(set(named) - {card.uuid for card in cards}):
            yield "%s names %s, and no such card answers; those there: %s" % (what, uuid, there)
    for card in cards:
        if asked_of(declared, card) and card.maximum is None:
            yield "%s has no power limit that could be set" % label(card)
        if declared["mig"].get(card.uuid) and card.mig is None:
            yield "%s cannot be divided: MIG needs an A100, an A30, an H100 or one of their successors" % label(card)
    yield from overload(declared, cards)


def overload(declared, cards):
    """Caps, or default limits where a card has none, whose sum the power supply does not give."""
    if not declared["psu_watts"]:
        return
    each = [cap_of(declared, card) or card.default or card.maximum or 0 for card in cards]
    total = sum(each) + declared["rest_watts"]
    if total > declared["psu_watts"]:
        yield "the cards may draw %s W and the rest %d W, together %g W, and the power supply gives %d W" % (
            " + ".join("%g" % watts for watts in each) or "0",
            declared["rest_watts"],
            total,
            declared["psu_watts"],
        )


def changes(declared, cards, capped):
    """What has to be done to which card. Trouble stands in the list where a card cannot be asked or is in use."""
    for card in cards:
        if declared["persistence"] and card.persistence is False:
            yield Change(card, "persistence mode on", [["-pm", "1"]])
        cap = cap_of(declared, card)
        if cap is None and card.uuid in capped and card.default is not None:
            cap = card.default  # a cap of ours that is no longer declared
        if cap is not None and cap != card.limit:
            yield Change(card, "a cap of %g W instead of %g W" % (cap, card.limit or 0), [["-pl", "%g" % cap]])
        if card.uuid in declared["mig"] and card.mig is not None:
            try:
                yield from division(card, sorted(declared["mig"][card.uuid]))
            except Trouble as trouble:
                yield trouble


def division(card, wanted):
    """Instances are made anew only where they differ, and never under a running program."""
    made = instances(card)
    if card.mig == bool(wanted) and made == wanted:
        return
    if card.busy:
        told = "%s is used by the processes %s: stop them, and apply again" % (label(card), " ".join(card.busy))
        raise Trouble("%s; its MIG instances differ from those declared" % told)
    cleared = [["mig", "-dci"], ["mig", "-dgi"]] if made else []
    if not wanted:
        yield Change(card, "MIG off", [*cleared, ["-mig", "0"]])
        return
    switched = [] if card.mig else [["-mig", "1"]]
    told = " and ".join("%d of %s" % (count, name) for name, count in sorted(Counter(wanted).items()))
    yield Change(card, "MIG instances: %s" % told, [*switched, *cleared, ["mig", "-cgi", ",".join(wanted), "-C"]])


def make(change):
    """Bring one change about, and see that a new MIG mode is in force."""
    for words in change.commands:
        mig, rest = (["mig"], words[1:]) if words[0] == "mig" else ([], words)
        try:
            nvidia_smi(*mig, "-i", change.card.uuid, *rest)
        except Trouble as trouble:
            raise Trouble("%s: %s" % (label(change.card), trouble)) from trouble
        if rest[0] == "-mig":
            now = next((card for card in look() if card.uuid == change.card.uuid), change.card)
            if now.mig != (rest[1] == "1"):
                raise Trouble("%s: its MIG mode waits for a reset, reboot the host" % label(change.card))


def already_capped():
    try:
        with open(CAPPED) as stream:
            return set(json.load(stream))
    except (OSError, ValueError):
        return set()


def remember(declared, cards):
    os.makedirs(os.path.dirname(CAPPED), exist_ok=True)
    with open(CAPPED, "w") as stream:
        json.dump(sorted(card.uuid for card in cards if cap_of(declared, card) is not None), stream)


def apply(declared, check, say):
    """Do, or with `check` only say, what is to be done. Returns the number of changes and the troubles."""
    cards = look()
    for note in notes(declared, cards):
        say(note)
    done, troubles = 0, list(refusals(declared, cards))
    for change in list(changes(declared, cards, already_capped())):
        if isinstance(change, Trouble):
            troubles.append(str(change))
            continue
        try:
            if not check:
                make(change)
            done += 1
            say("%s: %s" % (label(change.card), change.wanted))
        except Trouble as trouble:
            troubles.append(str(trouble))
    if not check:
        remember(declared, cards)
    return done, troubles


def main(arguments):
    check = "--check" in arguments
    with open(([word for word in arguments if word != "--check"] or [DECLARED])[0]) as stream:
        declared = json.load(stream)
    try:
        done, troubles = apply(declared, check, print)
    except Trouble as trouble:
        done, troubles = 0, [str(trouble)]
    for trouble in troubles:
        print("gpu-power: %s" % trouble, file=sys.stderr)
    if troubles:
        return 1
    return DIFFERS if check and done else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
