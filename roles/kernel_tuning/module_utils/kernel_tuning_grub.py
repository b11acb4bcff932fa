"""GRUB's part of the kernel's command line: what the administrator has, what provision adds, how it is put in force.

For the target's Python 3.8. `run` is a function that takes the words of a command and returns (code, output, errors).
"""

from __future__ import annotations

import glob
import json
import os
import re
import shutil
import tempfile
from collections import namedtuple

from ansible.module_utils.provision_io import atomic_write, sync

ROOT = "/"
HEADER = "# Managed by provision (role kernel_tuning): added to what the files before it say.\n"
MAIN, PARTS = "/etc/default/grub", "/etc/default/grub.d"
DROP_IN = PARTS + "/90-provision.cfg"
CONFIG = "/boot/grub/grub.cfg"
DRAFT = CONFIG + ".provision"
FORMER = "/var/lib/provision/kernel_tuning/grub.cfg.former"
LEFT = "/var/lib/provision/kernel_tuning/words-of-former-boots.json"
MARK = "/var/lib/provision/pending/kernel-tuning-boot"
LOADER = "/sys/firmware/efi/efivars/LoaderInfo-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
# Words that may stand on the line several times, each with an effect of its own.
MANY = {"console", "earlycon", "pci", "dyndbg", "module_blacklist", "modprobe.blacklist"}

SOURCE = r"""
for file in "$@"; do . "$file" > /dev/null; done
printf '%s\n' "$GRUB_CMDLINE_LINUX $GRUB_CMDLINE_LINUX_DEFAULT"
"""

# `content` is the drop-in's, empty for none; `before` and `after` are the words that GRUB's files give.
Plan = namedtuple("Plan", "content before after")


class Trouble(Exception):
    """A sentence about what forbids the change. Nothing is changed then, or it was taken back."""


def at(path):
    return os.path.join(ROOT, path.lstrip("/"))


def text_of(path):
    try:
        with open(at(path), "rb") as stream:
            return stream.read().decode("utf-8", "replace")
    except OSError:
        return ""


def running():
    return text_of("/proc/cmdline").split()


def other_loader():
    """The boot loader where it is not GRUB, else an empty text."""
    if "systemd-boot" in text_of(LOADER).replace("\0", ""):
        return "systemd-boot"
    return "" if os.path.exists(at(CONFIG)) else "a boot loader that is not GRUB"


def files():
    """The files that grub-mkconfig reads, in its order; ours stands among them whether it is there or not."""
    parts = {"/" + os.path.relpath(path, ROOT) for path in glob.glob(at(PARTS) + "/*.cfg")} | {DROP_IN}
    return [path for path in (MAIN, *sorted(parts)) if path == DROP_IN or os.path.exists(at(path))]


def words(run, content):
    """The command line's words with this content of our file, as the shell that grub-mkconfig is reads them."""
    with tempfile.NamedTemporaryFile("w", suffix=".cfg") as draft:
        draft.write(content)
        draft.flush()
        read = [draft.name if path == DROP_IN else at(path) for path in files()]
        code, out, err = run(["sh", "-c", SOURCE, "sh", *read])
    if code != 0:
        raise Trouble("GRUB's files cannot be read: %s" % " ".join(err.split())[:300])
    return out.split()


def key(word):
    """The kernel takes a dash for an underscore."""
    return word.partition("=")[0].replace("-", "_")


def drop_in(added):
    if not added:
        return ""
    return '%sGRUB_CMDLINE_LINUX_DEFAULT="$GRUB_CMDLINE_LINUX_DEFAULT %s"\n' % (HEADER, " ".join(added))


def added_by(content):
    found = re.search(r'^GRUB_CMDLINE_LINUX_DEFAULT="\$GRUB_CMDLINE_LINUX_DEFAULT (.*)"$', content, re.MULTILINE)
    return found.group(1).split() if found else []


def origin(word):
    """The file in which the administrator has a word."""
    return next((path for path in files() if path != DROP_IN and word in text_of(path)), "GRUB's configuration")


def plan(run, declared):
    """What our file shall say.

    Raises:
        Trouble: the administrator has another value, which stands, or a file after ours throws our words away.
    """
    there = text_of(DROP_IN)
    if there and not there.startswith(HEADER):
        raise Trouble("%s is not provision's: rename it, or take it away" % DROP_IN)
    theirs = words(run, "")
    for word in declared:
        other = next((own for own in theirs if key(own) == key(word) and own != word and key(own) not in MANY), "")
        if other:
            raise Trouble(
                "kernel_tuning_boot_parameters has %s, and %s has %s, which somebody set for this machine: take it out "
                "there, or set kernel_tuning_boot_parameters without %s" % (word, origin(other), other, word)
            )
    content = drop_in([word for word in declared if word not in theirs])
    after = words(run, content)
    lost = [word for word in declared if word not in after]
    if lost:
        later = [path for path in files() if path > DROP_IN and "GRUB_CMDLINE_LINUX_DEFAULT" in text_of(path)]
        told = (" and ".join(later) or "a later file", " ".join(lost))
        raise Trouble("%s sets GRUB_CMDLINE_LINUX_DEFAULT anew, and %s is lost: let it add to what is there" % told)
    return Plan(content, words(run, there), after)


def differs(wanted):
    """Whether something is to be done: the file differs, or a run died before GRUB's configuration was made of it."""
    return text_of(DROP_IN) != wanted.content or os.path.exists(at(MARK))


def bring(run, wanted, declared):
    """Write our file and put a configuration made with it in force; where one of both fails, put our file back."""
    before = text_of(DROP_IN)
    atomic_write(at(MARK), "")
    remember([*remembered(), *added_by(before)])
    lay_down(wanted.content)
    try:
        generate(run, declared)
        shutil.copyfile(at(CONFIG), at(FORMER))
        os.chmod(at(FORMER), 0o600)
        sync(at(DRAFT))  # or a power cut could leave a machine without a configuration
        os.replace(at(DRAFT), at(CONFIG))
    except (OSError, Trouble) as error:
        lay_down(before)
        raise Trouble("%s; %s is as it was" % (error, CONFIG)) from error
    finally:
        for path in (DRAFT, DRAFT + ".new"):
            if os.path.exists(at(path)):
                os.unlink(at(path))
    sync(os.path.dirname(at(CONFIG)))
    os.unlink(at(MARK))


def generate(run, declared):
    """Make a configuration beside the one in force, and judge it."""
    code, _, err = run(["grub-mkconfig", "-o", at(DRAFT)])
    if code != 0 or not text_of(DRAFT):
        raise Trouble("grub-mkconfig failed: %s" % " ".join(err.split())[-300:])
    code, out, err = run(["grub-script-check", at(DRAFT)])
    if code != 0:
        raise Trouble("grub-script-check refuses what grub-mkconfig made: %s" % " ".join((err or out).split())[:300])
    entries = lines(text_of(DRAFT))
    if not entries:
        raise Trouble("grub-mkconfig made a configuration without a kernel")
    for words_of_entry in entries:
        lost = [word for word in declared if word not in words_of_entry]
        if lost:
            raise Trouble("grub-mkconfig made an entry without %s: %s" % (" ".join(lost), " ".join(words_of_entry)))


def lines(config):
    """The words of each entry that boots this system as usual: not one for a rescue, nor another system's beside it."""
    own = "".join(re.findall(r"(?ms)^### BEGIN /etc/grub.d/10_linux\w* ###$(.*?)^### END ", config))
    every = [line.split() for line in re.findall(r"^\s*linux(?:efi)?\s+(.*)$", own, re.MULTILINE)]
    return [found for found in every if not {"single", "recovery"} & set(found)]


def lay_down(content):
    """Our file; without content there shall be none."""
    if content:
        atomic_write(at(DROP_IN), content)
    elif os.path.exists(at(DROP_IN)):
        os.unlink(at(DROP_IN))


def remembered():
    """Every word that provision ever added."""
    try:
        return json.loads(text_of(LEFT) or "[]")
    except ValueError:
        return []


def left(after):
    """Words that provision took out of GRUB's files and that the running kernel still has."""
    return [word for word in remembered() if word in running() and word not in after]


def remember(known):
    atomic_write(at(LEFT), json.dumps(sorted(set(known))) + "\n")


def reboot_required(declared, after):
    """Whether the running kernel lacks a declared word, or has one that was declared once."""
    return any(word not in running() for word in declared) or bool(left(after))
