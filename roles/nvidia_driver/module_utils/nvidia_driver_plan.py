"""From what is wished to the exact set of packages: apt's own solver decides, this asks and judges."""

from __future__ import annotations

import re

from ansible.module_utils.nvidia_driver_apt import without_our_lock
from ansible.module_utils.nvidia_driver_names import (
    META,
    STRICT,
    closure_id,
    expand,
    flavour,
    is_meta,
    kernel_part,
    mismatch,
    release_of,
)
from ansible.module_utils.provision_names import in_family, upstream


class Impossible(Exception):
    """apt cannot do what is wished; the text says why and what next."""


class Plan:
    """The transaction: its words for apt, its outcome, and the closure that it makes."""

    def __init__(self, words, outcome, closure, package_version):
        self.words, self.outcome, self.closure, self.package_version = words, outcome, closure, package_version


class Planner:
    """Works out the closure of a wish on this host.

    `route` is the data of vars/main.yml; `running` the running kernel's release, empty in a container.
    """

    def __init__(self, apt, wish, route, running):
        self.apt, self.wish, self.route, self.running = apt, wish, route, running
        self.before = apt.installed()
        self.metas = sorted(name for name in self.before if is_meta(name))
        self.flavour = self._flavour()

    def plan(self):
        with without_our_lock() as options:
            series, anchor, package_version = self._anchor(options)
        version = upstream(package_version)
        with without_our_lock(package_version) as options:
            words = self._driver_words(series, version, options)
            reasons = []
            for extra in self._kernel_words(series, options):
                way, outcome, why = self._attempt(words + extra, series, version, options)
                if not why:
                    return Plan(way, outcome, self._closure(version, outcome), package_version)
                reasons.append("with %s: %s" % (" ".join(extra) or "the kernel as it is", why))
        raise Impossible(
            "apt cannot install %s=%s together with a kernel that it fits: %s"
            % (anchor, package_version, "; ".join(reasons))
        )

    def _values(self, series, modules=None):
        return {
            "branch": self.wish["branch"],
            "series": series.format(branch=self.wish["branch"]),
            "open": "-open" if (modules or self.wish["modules"]) == "open" else "",
            "flavour": self.flavour,
        }

    def _flavour(self):
        """The flavour whose meta package brought the kernel that runs, such as generic or generic-hwe-22.04."""
        images = [name for name in self.metas if name.startswith("linux-image-")]
        needs = self.apt.needs(images) if images else {}
        ours = [name for name in images if self.running and self.running in needs[name]]
        return META.match((ours or images or ["linux-image-" + self.route["flavour"]])[0]).group(2)

    def _module_names(self, series, modules):
        """The packages of one flavour of kernel modules."""
        return expand(self.route["modules"][modules], self._values(series, modules))

    def _names(self, series):
        """Wished driver packages, the one whose version decides first."""
        modules = self.wish["modules"]
        more = self.route["display" if self.wish["display"] else "compute"][modules]
        more = more + (self.route["fabric_manager"] if self.wish["fabric_manager"] else [])
        return self._module_names(series, modules) + expand(more, self._values(series))

    def _anchor(self, options):
        """The series of names that this archive knows the branch by, its first package, and that one's version."""
        seen = []
        for series in self.route["series"]:
            anchor = self._names(series)[0]
            offered = [version for version, _ in self.apt.offers([anchor], *options).get(anchor, [])]
            seen += ["%s=%s" % (anchor, version) for version in offered]
            fit = [version for version in offered if upstream(version).split(".")[0] == self.wish["branch"]]
            if self.wish["version"]:
                fit = [version for version in fit if upstream(version) == self.wish["version"]]
            if fit:
                return series, anchor, fit[0]
        wanted = self.wish["version"] or "branch " + self.wish["branch"]
        tried = ", ".join(self._names(series)[0] for series in self.route["series"])
        raise Impossible(
            "apt offers no %s of NVIDIA's driver %s (%s modules) on this host; it has %s"
            % (tried, wanted, self.wish["modules"], ", ".join(seen) or "none of any branch")
        )

    def _driver_words(self, series, version, options):
        """The wished packages as words for apt: at the driver's version where they carry it, else as apt has them."""
        words = []
        alternatives = [(entry.rstrip("?").split("|"), entry.endswith("?")) for entry in self._names(series)]
        offers = self.apt.offers(sorted({name for names, _ in alternatives for name in names}), *options)
        for names, optional in alternatives:
            there = [name for name in names if offers.get(name)]
            if not there and not optional:
                raise Impossible("apt offers no %s, which the driver %s needs" % (" or ".join(names), version))
            for name in there[:1]:
                fit = [offered for offered, _ in offers[name] if upstream(offered) == version]
                if not fit and STRICT.match(name):
                    raise Impossible("apt offers no %s in version %s" % (name, version))
                words.append("%s=%s" % (name, fit[0]) if fit else name)
        return words

    def _kernel_words(self, series, options):
        """Ways to have modules and kernel fit each other, the least movement first where DKMS builds them."""
        images = [name for name in self.metas if name.startswith("linux-image-")]
        kernels = [name for name in self.metas if not name.startswith("linux-image-")]
        if self.route["prebuilt"]:
            module = expand(self.route["prebuilt"], self._values(series))[0]
            exact = expand(self.route["prebuilt"], dict(self._values(series), flavour=self.running))[0]
            ways = [[module, *images, *kernels], [module]]
            older = [offered for offered, _ in self.apt.offers([module], *options).get(module, [])[1:]]
            ways += [self.apt.tied("%s=%s" % (module, offered), *options) for offered in older]
            return ways + ([[exact]] if self.running else [])
        headers = [name.replace("linux-image-", "linux-headers-") for name in images] or [
            "linux-headers-" + self.route["flavour"]
        ]
        same = ["%s=%s" % (name, self.before[name.replace("headers", "image")]) for name in headers if images]
        own = ["linux-headers-" + self.running] if "linux-image-" + self.running in self.before else []
        newest = headers + images + kernels
        return ([same + own] if same else []) + ([own] if own and not images else []) + [newest + own, newest]

    def _attempt(self, words, series, version, options):
        """One way to install: its words, and those that remove what it leaves behind; its outcome; why it fails."""
        outcome, why = self.apt.simulate(words, *options)
        rivals = self._rivals(series, options)
        if why and rivals:
            # apt rather gives up than takes away what another archive brought.
            words = words + [name + "-" for name in rivals]
            outcome, why = self.apt.simulate(words, *options)
        if why:
            return words, outcome, why
        rivals = [name for name in rivals if name in outcome.versions and name not in outcome.installed]
        left = sorted({*self._leftovers(outcome, series, version), *rivals})
        # Ubuntu's drivers may want the firmware of the version before, where that did not change.
        needless = [name for name in left if not name.startswith("nvidia-firmware-")]
        for removed in [left, needless] if left else []:
            way = words + [name + "-" for name in removed]
            tried, why = self.apt.simulate(way, *options)
            if not why:
                return way, tried, self._unfit(tried, series, version)
        return words, outcome, why or self._unfit(outcome, series, version)

    def _rivals(self, series, options):
        """Installed packages that the wished archive has under another name: `-580-server` is `-580` elsewhere."""
        wished = self._values(series)["series"].strip("-")
        twins = {}
        for name in filter(in_family, self.before):
            mark = re.search(r"-\d{3}(-server)?(?=-|:|$)", name)
            mark = mark.group() if mark else ""
            if mark.strip("-") != wished:
                new = "-" + wished if wished else ""
                twins[name] = name.replace(mark, new, 1) if mark else name + new
        offers = self.apt.offers(sorted(set(twins.values())), *options)
        server = "-server" not in wished
        return sorted(name for name, twin in twins.items() if offers.get(twin) or (server and "-server" in name))

    def _leftovers(self, outcome, series, version):
        """Packages of another branch or route that the outcome would leave behind."""
        left = [
            name
            for name in outcome.versions
            if name in self.before and in_family(name) and name not in outcome.installed
        ]
        other = "proprietary" if self.wish["modules"] == "open" else "open"
        unwished = self._module_names(series, other)
        # NVIDIA's pinning packages bear no driver's version; one of another branch or route would speak against this.
        wished = {name for entry in self._names(series) for name in entry.rstrip("?").split("|")}
        unwished += [name for name in left if name.startswith("nvidia-driver-pinning-") and name not in wished]
        return sorted(n for n in left if n in unwished or self._of_another(n, outcome.versions[n], version))

    def _of_another(self, name, found, version):
        branch = re.search(r"-(\d{3})(-|:|$)", name)
        if name.startswith("nvidia-firmware-"):
            return version not in name and upstream(found) != version
        return (branch and branch.group(1) != self.wish["branch"]) or mismatch(name, found, version)

    def _unfit(self, outcome, series, version):
        """Why the outcome would be a machine without a driver, or an empty text."""
        wrong = sorted(
            "%s %s" % (name, found)
            for name, found in outcome.versions.items()
            if in_family(name) and mismatch(name, found, version)
        )
        if wrong:
            return "%s would not be of version %s" % (", ".join(wrong), version)
        for release in boots(self.apt, outcome.versions):
            need = "linux-headers-" + release
            if self.route["prebuilt"]:
                need = expand(self.route["prebuilt"], dict(self._values(series), flavour=release))[0]
            if need not in outcome.versions:
                return "kernel %s would boot without %s" % (release, need)
        return ""

    def _closure(self, version, outcome):
        kernels = boots(self.apt, outcome.versions) or [
            name[len("linux-headers-") :]
            for name in sorted(outcome.versions)
            if name.startswith("linux-headers-") and flavour(name[len("linux-headers-") :]) not in ("", "common")
        ]
        releases = sorted(set(kernels + ([self.running] if "linux-image-" + self.running in outcome.versions else [])))
        packages = {
            name: found for name, found in outcome.versions.items() if in_family(name) or kernel_part(name, releases)
        }
        return {
            "id": closure_id(version, packages),
            "wish": self.wish,
            "version": version,
            "kernels": releases,
            "packages": packages,
            "origins": {name: origin for name, origin in outcome.origins.items() if name in packages},
        }


def boots(apt, versions):
    """The kernel that would boot: the newest whose image is installed. As a list, which is empty in a container."""
    newest = []
    for release in sorted(filter(None, (release_of(name) for name in versions))):
        if not newest or apt.module.run_command(["dpkg", "--compare-versions", release, "gt", newest[0]])[0] == 0:
            newest = [release]
    return newest
