"""apt and dpkg as the role needs them: what is there, what would happen, and making it happen."""

from __future__ import annotations

import contextlib
import glob
import os
import re
import shutil
import tempfile

from ansible.module_utils.nvidia_driver_state import PREFERENCES
from ansible.module_utils.provision_quiet import KEEP_CONFIGURATION, NETWORK_PATIENCE, QUIET

OPTIONS = [
    "--yes", "--quiet", "--no-install-recommends", "--allow-downgrades", "--allow-change-held-packages",
    "-o", "APT::Ignore-Hold=1", "-o", "DPkg::Lock::Timeout=300", *KEEP_CONFIGURATION, *NETWORK_PATIENCE,
]  # fmt: skip
STEP = re.compile(r"^(Inst|Remv) (\S+)(?: \[([^]]*)\])?(?: \((\S+) (.*?)\[(\w+)\]\))?")


class Outcome:
    """What a transaction makes of the host: every package's version afterwards, and where the new ones come from."""

    def __init__(self, before, text, native):
        self.versions, self.installed, self.removed, self.origins = dict(before), {}, [], {}
        for line in text.splitlines():
            found = STEP.match(line)
            if not found:
                continue
            verb, name, _, version, origin, _ = found.groups()
            name = name[: -len(native) - 1] if name.endswith(":" + native) else name
            if verb == "Remv":
                self.versions.pop(name, None)
                self.removed.append(name)
            elif version:
                self.versions[name] = self.installed[name] = version
                self.origins[name] = origin.split(", ")[0].strip()


class Apt:
    def __init__(self, module):
        self.module = module
        self.native = self._run("dpkg", "--print-architecture")[1].strip()

    def _run(self, *argv, **options):
        return self.module.run_command(list(argv), environ_update=QUIET, **options)

    def table(self):
        """All packages dpkg knows: name to (wanted, status, version)."""
        form = "${Package}\t${Architecture}\t${db:Status-Want}\t${db:Status-Status}\t${Version}\n"
        rows = [line.split("\t") for line in self._run("dpkg-query", "--show", "--showformat", form)[1].splitlines()]
        own = (self.native, "all", "")
        return {
            name if arch in own else "%s:%s" % (name, arch): (want, status, version)
            for name, arch, want, status, version in rows
        }

    def needs(self, names):
        """What installed packages depend on, as dpkg's text by name."""
        rows = self._run("dpkg-query", "--show", "--showformat", "${Package}\t${Depends}\n", *names)[1].splitlines()
        return dict(row.split("\t") for row in rows)

    def installed(self):
        return {name: row[2] for name, row in self.table().items() if row[1] not in ("not-installed", "config-files")}

    def offers(self, names, *options):
        """The versions of each package that apt would take, newest first, each with whether an archive still has it."""
        if not names:
            return {}
        found, name, versions = {}, "", []
        for line in self._run("apt-cache", *options, "policy", *names)[1].splitlines():
            if line and not line.startswith(" "):
                name, versions = line.rstrip(":"), []
                found[name] = versions
            entry = re.match(r" (?:\*\*\*|   ) (\S+) (-?\d+)$", line)
            if entry:
                versions.append([entry.group(1), int(entry.group(2)), False])
            elif versions and re.match(r" {8} *-?\d+ ", line) and "/var/lib/dpkg/status" not in line:
                versions[-1][2] = True
        return {name: [(v, there) for v, priority, there in rows if priority > 0] for name, rows in found.items()}

    def tied(self, entry, *options):
        """`name=1.2` and all that it wants in an exact version, which apt would not look for by itself."""
        found, waiting = [], [entry]
        while waiting:
            found.append(waiting.pop())
            _, out, _ = self._run("apt-cache", *options, "show", found[-1])
            needs = re.search(r"^Depends: (.*)$", out, re.MULTILINE)
            ties = ["%s=%s" % pair for pair in re.findall(r"([^\s,|]+) \(= ([^)]+)\)", needs.group(1) if needs else "")]
            waiting += [tie for tie in ties if tie not in found + waiting]
        return found

    def simulate(self, words, *options):
        """The outcome of installing these words, or apt's own reason why not."""
        code, out, err = self._run("apt-get", "install", "--dry-run", *OPTIONS, *options, *words)
        return (Outcome(self.installed(), out, self.native), "") if code == 0 else (None, told(out, err))

    def install(self, words, *options):
        """Why it did not work, or an empty text."""
        code, out, err = self._run("apt-get", "install", *OPTIONS, *options, *words)
        return "" if code == 0 else told(out, err)

    def finish(self):
        """Have dpkg write down the steps of a run that died; until then apt refuses to work. Nothing is configured."""
        self._run("dpkg", "--set-selections", data="")

    def download(self, words, folder, *options):
        """Fetch what installing these words needs. Why it did not work, or an empty text."""
        os.makedirs(os.path.join(folder, "partial"), mode=0o755, exist_ok=True)
        return self.install(words, "--download-only", "-o", "Dir::Cache::archives=" + folder, *options)

    def fetch(self, words, folder):
        """Fetch these packages alone, whether installed or not."""
        code, out, err = self._run("apt-get", "download", "--quiet", *words, cwd=folder)
        return "" if code == 0 else told(out, err)

    def sizes(self, words, *options):
        """Bytes to download, and bytes by which the disk fills up, as apt rounds them when it asks."""
        asking = ["--assume-no", *[option for option in OPTIONS if option != "--yes"]]
        _, out, _ = self._run("apt-get", "install", *asking, *options, *words)
        return size_after("Need to get", out), size_after("After this operation,", out)

    def hold(self, names):
        self._mark("hold", names)

    def unhold(self, names):
        self._mark("unhold", names)

    def _mark(self, verb, names):
        if names:
            code, out, err = self._run("apt-mark", verb, *sorted(names))
            if code != 0:
                self.module.fail_json(msg="apt-mark %s did not work: %s" % (verb, told(out, err)))


@contextlib.contextmanager
def without_our_lock(version=""):
    """Options for apt that leave our own pins out and, with a version, prefer it for the driver's whole family."""
    folder = tempfile.mkdtemp(prefix="provision-nvidia-")
    try:
        os.chmod(folder, 0o755)
        for path in glob.glob(os.path.join(os.path.dirname(PREFERENCES), "*")):
            if path != PREFERENCES and not os.path.isdir(path):
                os.symlink(path, os.path.join(folder, os.path.basename(path)))
        if version:
            # The first name of all, so that this counts: no other archive has a package of this very version.
            with open(os.path.join(folder, "00-provision"), "w") as stream:
                stream.write(
                    "Package: *nvidia* cuda-drivers* libcuda1 libnvcuvid1\nPin: version %s\nPin-Priority: 1001\n"
                    % version
                )
        yield ["-o", "Dir::Etc::PreferencesParts=" + folder]
    finally:
        shutil.rmtree(folder)


def size_after(words, text):
    """The size in bytes that apt names after these words; 0 where it does not, or where disk space is freed."""
    found = re.search(r"^%s ([\d,.]+) (k|M|G|)B\b(?! disk space will be freed)" % re.escape(words), text, re.MULTILINE)
    factor = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}
    return int(float(found.group(1).replace(",", "")) * factor[found.group(2)]) if found else 0


def told(out, err):
    """The lines in which apt and dpkg say what is wrong, as one sentence."""
    text = out + "\n" + err
    said = [
        line
        for line in text.splitlines()
        if re.match(r"E: |dpkg: error| ?\S+ : (Depends|Conflicts|Breaks|PreDepends)", line.strip())
    ]
    return " ".join(line.strip() for line in said or (err or out).strip().splitlines()[-5:])
