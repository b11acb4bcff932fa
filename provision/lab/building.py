"""Make images before they are needed, side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from provision.errors import ProvisionError
from provision.lab import container, roots, vm, vm_images
from provision.lab.images import ensure, find
from provision.lab.podman import Podman, storage_lock, use_lock
from provision.lab.system import VIRTUAL, locked, require


def build(names: Sequence[str]) -> None:
    """Make these images, those that are there left alone; refuse with every fault when some cannot be made.

    Containers' images share a storage and follow each other; beside them each virtual machine's is made by itself.
    """
    machines = [name for name in names if name in vm.IMAGES]
    containers = [find(name).name for name in names if name not in vm.IMAGES]
    tasks: list[Callable[[], None]] = [_machine(name) for name in machines]
    if containers:
        tasks.insert(0, lambda: _containers(containers))
    with _in_use(), ThreadPoolExecutor(max_workers=max(1, len(tasks))) as pool:
        errors = [future.exception() for future in [pool.submit(task) for task in tasks]]
    for error in errors:
        if error is not None and not isinstance(error, ProvisionError):
            raise error
    if refusals := [refusal for error in errors if isinstance(error, ProvisionError) for refusal in error.refusals]:
        raise ProvisionError(refusals)
    roots.discard()


@contextmanager
def _in_use() -> Iterator[None]:
    """Keep others from winding the storage down; wind it down afterwards."""
    try:
        with locked(use_lock(), shared=True):
            yield
    finally:
        container.wind_down()


def _containers(names: Sequence[str]) -> None:
    """Make the images of containers, one after the other."""
    podman = Podman()
    with locked(storage_lock()):
        for name in names:
            ensure(podman, name)


def _machine(name: str) -> Callable[[], None]:
    """What makes the image of a virtual machine."""

    def make() -> None:
        require(*VIRTUAL)
        image = vm.IMAGES[name]
        with locked(vm_images.lock(image)):
            vm_images.ensure(image)

    return make
