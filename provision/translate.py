"""`mirrors`, the one setting a user writes, as the role variables it stands for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

# role variable <- where its value stands in `mirrors`
_FROM_MIRRORS: dict[str, tuple[str, ...]] = {
    "base_ca_bundle": ("ca_bundle",),
    "base_apt_sources": ("apt", "sources"),
    "nvidia_driver_debian_url": ("apt", "debian"),
    "cuda_repository_url": ("nvidia", "cuda"),
    "cuda_repository_key_url": ("nvidia", "cuda_key_url"),
    "nvidia_container_toolkit_repository_url": ("nvidia", "container_toolkit"),
    "nvidia_container_toolkit_repository_key_url": ("nvidia", "container_toolkit_key_url"),
    "docker_repository_url": ("docker", "repository"),
    "docker_repository_key_url": ("docker", "key_url"),
    "docker_registry_mirrors": ("docker", "registries"),
    "uv_index_url": ("python", "index"),
    "uv_extra_index_urls": ("python", "extra_indexes"),
    "uv_find_links": ("python", "find_links"),
    "uv_python_install_mirror": ("python", "interpreters"),
    "python_ml_torch_index_url": ("python", "torch_index"),
    "model_cache_endpoint": ("huggingface",),
}


def role_variables(mirrors: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """Each role variable that this much of `mirrors` decides: its name, the mirrors key and the value."""
    for name, path in _FROM_MIRRORS.items():
        value: Any = mirrors
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        if value is not None:
            yield name, ".".join(("mirrors", *path)), value
