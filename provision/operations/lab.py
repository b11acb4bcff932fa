"""The lab's targets as reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from provision import lab
from provision.errors import refuse
from provision.report import Report


def bring_up(name: str, image: str = "", *, vm: bool = False) -> Report:
    """Bring a target up, or say that it is up already. Without an image: the usual one of its kind."""
    chosen = image or (lab.DEFAULT_VM_IMAGE if vm else lab.DEFAULT_IMAGE)
    if vm and not lab.is_virtual(chosen):
        raise refuse("--vm", f"contradicts --image {chosen}, a container's", "see the images: provision lab images")
    host = lab.up(name, chosen)
    steps = (
        f"provision lab ssh {name}",
        f"provision apply --tier budget -i {host.inventory} --limit {name} --accept-hardware",
        f"provision lab down {name}",
    )
    return Report("lab up", data={"targets": [asdict(host)]}, next_steps=steps)


def list_targets() -> Report:
    """Every target of this lab."""
    targets = [asdict(host) for host in lab.hosts()]
    return Report("lab list", data={"targets": targets}, next_steps=() if targets else ("provision lab up demo",))


def list_images() -> Report:
    """What a target can be made from."""
    images = [{"name": image.name, "summary": image.summary} for image in lab.IMAGES.values()]
    return Report("lab images", data={"images": images})


def build_images(names: Sequence[str] = ()) -> Report:
    """Make images, or find them made: the usual ones when none is named."""
    chosen = tuple(dict.fromkeys(names)) or (lab.DEFAULT_IMAGE, lab.DEFAULT_VM_IMAGE)
    lab.build(chosen)
    images = [{"name": name, "summary": lab.IMAGES[name].summary} for name in chosen]
    return Report("lab build", data={"images": images})


def take_down(name: str | None, *, every: bool) -> Report:
    """Remove one target, or all."""
    if every == bool(name):
        raise refuse("lab down", "needs a name, or --all", "see what there is: provision lab list")
    return Report("lab down", data={"removed": lab.down(name or "", every=every)})
