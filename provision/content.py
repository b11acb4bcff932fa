"""Where the playbooks, roles and catalogue files lie: inside an installed wheel, or at the top of a checkout."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_ROOT = _PACKAGE / "_content" if (_PACKAGE / "_content").is_dir() else _PACKAGE.parent


def roles_dir() -> Path:
    """The directory to give Ansible as roles path; in a checkout a link beside the playbooks leads to it."""
    return (playbooks_dir() / "roles").resolve()


def playbooks_dir() -> Path:
    """The directory of site.yml, with the project's own modules and action plugins beside it."""
    return _ROOT / "playbooks"


def catalog_dir() -> Path:
    """The directory of the catalogue's data files; it is in the package in both layouts."""
    return _PACKAGE / "catalog"


def schemas_dir() -> Path:
    """The directory of the JSON schemas that others may rely on; in the package as well."""
    return _PACKAGE / "schemas"
