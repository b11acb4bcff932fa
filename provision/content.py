"""Where the playbooks, roles and catalogue files lie: inside an installed wheel, or at the top of a checkout."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from types import ModuleType

from provision.errors import refuse

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


def load(path: Path) -> ModuleType:
    """One of our Python files that lie outside the package, as Ansible would run it: with the module_utils beside it.

    A file of a module_utils folder is imported once, under Ansible's name for it: whoever else imports it, by this or
    by that name, has the same module. Any other file is run anew.

    Raises:
        ProvisionError: where the file is missing.
    """
    from ansible import module_utils

    for folder in (playbooks_dir() / "module_utils", path.parents[1] / "module_utils"):
        if str(folder) not in module_utils.__path__:
            module_utils.__path__.append(str(folder))
    if path.parent.name == "module_utils" and path.exists():
        return importlib.import_module(f"ansible.module_utils.{path.stem}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.exists():
        raise refuse("provision", f"lacks its file {path}", "install provision again")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
