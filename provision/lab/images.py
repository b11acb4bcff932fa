"""Images of lab targets: a minimal Debian root made once, thin layers over it, all cached by a hash of their recipe."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass

from provision.errors import refuse
from provision.lab import mirrors, paths, roots, scripts
from provision.lab.podman import BUILD_PREFIX, Podman
from provision.lab.steps import step

REPOSITORY = "localhost/provision-lab"
CODENAME = "bookworm"
# What Ubuntu's and Debian's server images have, and not more: a target is a bare box.
PACKAGES = (
    "systemd", "systemd-sysv", "dbus", "openssh-server", "python3", "python3-apt", "sudo", "iproute2", "procps", "kmod",
    "udev", "ca-certificates",
)  # fmt: skip
PROBE_SECONDS = 6
PROBE_MEMORY_SECONDS = 24 * 3600


@dataclass(frozen=True)
class Image:
    """One kind of target: the registry image to start from, or the image it is a layer of, and what makes it."""

    name: str
    summary: str
    script: str
    codename: str
    registry: str = ""
    parent: str = ""
    bootstrap: bool = False


def _ubuntu(version: str, codename: str) -> Image:
    summary = f"Ubuntu {version} from a registry, where one answers"
    return Image(f"ubuntu-{version}", summary, scripts.FINISH, codename, registry=f"docker.io/library/ubuntu:{version}")


def _standin(version: str, codename: str) -> Image:
    summary = f"a Debian 12 root that says it is Ubuntu {version}: a stand-in, for code paths only"
    return Image(f"ubuntu-{version}-standin", summary, scripts.standin(version, codename), CODENAME, parent="debian-12")


def _debian(version: str, codename: str) -> Image:
    summary = f"Debian {version} from a registry where one answers, else from this machine's own package sources"
    registry = f"docker.io/library/debian:{version}"
    return Image(f"debian-{version}", summary, scripts.FINISH, codename, registry=registry, bootstrap=True)


IMAGES: Mapping[str, Image] = {
    image.name: image
    for image in (
        _debian("12", CODENAME),
        Image("debian-12-bare", "Debian 12 without Python", scripts.BARE, CODENAME, parent="debian-12"),
        _debian("13", "trixie"),
        _ubuntu("20.04", "focal"),
        _ubuntu("22.04", "jammy"),
        _ubuntu("24.04", "noble"),
        _standin("20.04", "focal"),
        _standin("22.04", "jammy"),
        _standin("24.04", "noble"),
    )
}


def root(codename: str) -> roots.Root:
    """The root of Debian's targets of a release, containers and machines."""
    return roots.Root(f"debian-{codename}", codename, PACKAGES)


def find(name: str) -> Image:
    """The image of that name, or a refusal that lists those there are."""
    if name not in IMAGES:
        raise refuse(f"lab image {name!r}", "does not exist", f"choose one of: {', '.join(IMAGES)}")
    return IMAGES[name]


def recipe_hash(image: Image) -> str:
    """Twelve hexadecimal digits that change whenever anything that goes into the image changes."""
    parent = recipe_hash(find(image.parent)) if image.parent else ""
    recipe = [
        image.name,
        image.script,
        image.registry,
        image.codename,
        parent,
        image.bootstrap,
        PACKAGES,
        scripts.INSTALL,
    ]
    return hashlib.sha256(json.dumps(recipe).encode()).hexdigest()[:12]


def reference(image: Image) -> str:
    """The tag under which the lab's storage keeps the image."""
    return f"{REPOSITORY}/{image.name}:{recipe_hash(image)}"


def ensure(podman: Podman, name: str) -> str:
    """The tag of a ready image, made (up to minutes) when the cache lacks it. The caller holds the storage lock."""
    image = find(name)
    tag = reference(image)
    if podman.attempt("image", "exists", tag)[0] == 0:
        return tag
    parent = ensure(podman, image.parent) if image.parent else ""
    with step(f"image {name}"):
        _make(podman, image, parent, tag)
    _forget_older(podman, tag)
    return tag


def _make(podman: Podman, image: Image, parent: str, tag: str) -> None:
    """Make an image, over its parent's tag where it has one."""
    if parent:
        _layer(podman, parent, tag, image.script)
    elif _pulled(podman, image.registry):
        sources = mirrors.one_line_sources(mirrors.apt_sources(image.codename))
        _layer(podman, image.registry, tag, scripts.install(PACKAGES, sources) + image.script)
    elif image.bootstrap:
        _bootstrap(podman, tag, image)
    else:
        hint = f"use the stand-in: provision lab up --image {image.name}-standin"
        raise refuse(f"lab image {image.name}", "comes from a registry, and none answers here", hint)


def _bootstrap(podman: Podman, tag: str, image: Image) -> None:
    """Make a Debian root from this machine's own package sources."""
    archive = roots.ensure(root(image.codename))
    podman.call("import", "--quiet", "--change", 'CMD ["/sbin/init"]', str(archive), f"{tag}-root", timeout=300)
    _layer(podman, f"{tag}-root", tag, image.script)
    podman.attempt("untag", f"{tag}-root")


def _layer(podman: Podman, base: str, tag: str, script: str) -> None:
    """Run a shell script in a container of `base` and keep the result as `tag`."""
    container = f"{BUILD_PREFIX}{tag.rpartition(':')[2]}"
    podman.remove(container)
    # --cgroups=disabled: a build needs no limits, and on a hybrid cgroup mount podman cannot set any.
    options = ["--interactive", "--network=host", "--cgroups=disabled"]
    options += [] if podman.machine.sys_resource else ["--ulimit=nofile=4096:4096", "--ulimit=nproc=4096:4096"]
    try:
        podman.call("run", "--name", container, *options, base, "/bin/sh", "-eus", timeout=600, stdin=script)
        podman.call("commit", "--quiet", "--change", 'CMD ["/sbin/init"]', container, tag, timeout=300)
    finally:
        podman.remove(container)


def _pulled(podman: Podman, registry: str) -> bool:
    """Whether the registry shows this image within seconds and hands it over; a "no" is remembered for a day."""
    memory = paths.cache_root() / "registry.json"
    try:
        asked = json.loads(memory.read_text())
    except (OSError, ValueError):
        asked = {}
    if time.time() - asked.get(registry, 0) < PROBE_MEMORY_SECONDS:
        return False
    if podman.attempt("manifest", "inspect", registry, timeout=PROBE_SECONDS)[0] == 0:
        return podman.attempt("pull", "--quiet", registry, timeout=300)[0] == 0
    memory.write_text(json.dumps({**asked, registry: time.time()}))
    return False


def _forget_older(podman: Podman, tag: str) -> None:
    """Remove images of an earlier recipe that no target uses."""
    repository = tag.rpartition(":")[0]
    listed = podman.attempt("images", "--format", "{{.Repository}}:{{.Tag}}", "--filter", f"reference={repository}")[1]
    for other in set(listed.split()) - {tag}:
        podman.attempt("rmi", other)
