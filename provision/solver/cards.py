"""Which NVIDIA cards a box has: by PCI id, or by the product that `--assume-gpu` names. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from provision import comparison
from provision.catalog.nvidia import Nvidia, Product
from provision.contradictions import Contradiction
from provision.errors import ProvisionError, refuse
from provision.model import Card, Hardware, Refusal
from provision.nearest import nearest
from provision.solver.box import Box, say

_BRANDS = {"geforce", "nvidia"}  # everybody leaves them out
# docs.nvidia.com/datacenter/tesla/mig-user-guide/supported-gpus.html; of 12.0 some, which the role asks the card itself
_MIG = ("8.0", "9.0", "10.0", "10.3", "12.0")


def identify(host: str, hardware: Hardware, nvidia: Nvidia, assume: str = "") -> tuple[Card, ...]:
    """The cards in the order of the bus. `assume` stands for those that the catalogue does not know, or for one.

    Raises:
        ProvisionError: for every card that is not known, and for an `assume` that is no product.
    """
    assumed = product_named(assume, nvidia) if assume else None
    cards: list[Card] = []
    unknown: dict[tuple[str, str], list[str]] = {}
    for gpu in comparison.nvidia(hardware):
        product = nvidia.products.get(gpu.pci_id.lower())
        if product:
            cards.append(_card(gpu.address, gpu.pci_id.lower(), product))
        elif assumed:
            cards.append(_card(gpu.address, gpu.pci_id.lower(), assumed, assumed=True))
        else:
            unknown.setdefault((gpu.name, gpu.pci_id), []).append(gpu.address)
    if unknown:
        hint = 'name a product like it, --assume-gpu "RTX 3080"; or add it to the catalogue: docs/selection.md'
        fact = "has an NVIDIA GPU that the catalogue does not know"
        raise ProvisionError(
            Refusal(host, f"{fact}: {name} ({pci_id}) at {', '.join(places)}", hint)
            for (name, pci_id), places in unknown.items()
        )
    if assumed and not cards:
        cards.append(_card("", assumed.pci_id, assumed, assumed=True))
    return tuple(cards)


def product_named(name: str, nvidia: Nvidia) -> Product:
    """The product by its PCI id, its name, or enough words of it that all products with them are alike to software.

    Raises:
        ProvisionError: no product has those words, with the nearest names, or products that differ have them.
    """
    if name.lower() in nvidia.products:
        return nvidia.products[name.lower()]
    wanted = _words(name)
    products = sorted(nvidia.products.values(), key=lambda product: (len(_words(product.name)), product.pci_id))
    matching = [product for product in products if wanted and wanted <= _words(product.name)]
    exact = [product for product in matching if wanted == _words(product.name)]
    alike = exact or matching
    kinds = {(product.architecture.name, product.compute_capability) for product in alike}
    if len(kinds) == 1:
        return alike[0]
    if kinds:
        names = _names(alike)
        more = f" and {len(names) - 4} more" if len(names) > 5 else ""
        told = ", ".join(names[: 4 if more else None])
        raise refuse(f"--assume-gpu {name}", f"could be any of {told}{more}", f'write one out: "{names[0]}"')
    plain = {_plain(known): known for known in _names(products)}
    near = [plain[known] for known in nearest(_plain(name), plain)]
    hint = f"did you mean {' or '.join(near)}?" if near else "write it as pci.ids does: GeForce RTX 3080"
    raise refuse(f"--assume-gpu {name}", "is no product that the catalogue knows", hint)


def mig_faults(box: Box) -> Iterator[Contradiction]:
    """Partitions asked of a box in which no card can be partitioned."""
    if box.setting("gpu_power_mig") and not any(card.compute_capability in _MIG for card in box.cards):
        yield "gpu_power_mig", f"asks for MIG, which no card here can do: {say(box.cards)}", "leave it out"


def _card(address: str, pci_id: str, product: Product, assumed: bool = False) -> Card:
    return Card(
        address=address,
        pci_id=pci_id,
        product=product.name,
        architecture=product.architecture.name,
        compute_capability=product.compute_capability,
        memory_gib=product.memory_gib,
        passive=product.passive,
        assumed=assumed,
    )


def _plain(name: str) -> str:
    """A name as people say it: small letters, without punctuation and brand."""
    return " ".join(word for word in re.findall(r"[a-z0-9]+", name.lower()) if word not in _BRANDS)


def _words(name: str) -> set[str]:
    return set(_plain(name).split())


def _names(products: Iterable[Product]) -> list[str]:
    return list(dict.fromkeys(product.name for product in products))
