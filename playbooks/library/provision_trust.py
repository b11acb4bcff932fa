#!/usr/bin/python
"""One task for the certificate authorities a host trusts. See DOCUMENTATION."""

from __future__ import annotations

DOCUMENTATION = r"""
module: provision_trust
short_description: Make a host trust the certificates of one PEM bundle, exactly these and no earlier ones
description:
  - Debian's C(update-ca-certificates) wants one certificate per file; programs that look certificates up by hash
    (Python among them) do not see the others of a file. The bundle is therefore split.
  - Certificates that the distribution trusts anyway are left out, so that a full bundle brings only what it adds.
  - Where ca-certificates is not installed yet, the bundle itself becomes the trust store, because apt may need it to
    fetch that very package. RV(bootstrapped) then asks for a second run once the package is there.
options:
  bundle:
    description: The text of a PEM file, empty for none. What stands between the certificates is ignored.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Trust the certificates of the closed network
  provision_trust:
    bundle: "{{ lookup('ansible.builtin.file', base_ca_bundle) }}"
"""

RETURN = r"""
paths:
  description: Files that were (or would be) written or removed.
  type: list
  returned: always
bootstrapped:
  description: Whether the package that maintains the trust store is missing, so that only a stopgap is in place.
  type: bool
  returned: always
"""

import base64
import binascii
import glob
import hashlib
import os
import re
import ssl

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.provision_io import atomic_write

LINKS = "/etc/ssl/certs"
STORE = "/etc/ssl/certs/ca-certificates.crt"
LOCAL = "/usr/local/share/ca-certificates"
SHIPPED = "/usr/share/ca-certificates"
SELECTED = "/etc/ca-certificates.conf"
TOOL = "/usr/sbin/update-ca-certificates"
CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----(.+?)-----END CERTIFICATE-----", re.DOTALL)


def certificates(text):
    """The certificates of a PEM text as DER, in their order, each once."""
    found = []
    for body in CERTIFICATE.findall(text):
        der = base64.b64decode("".join(body.split()), validate=True)
        if der not in found:
            found.append(der)
    return found


def read(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except FileNotFoundError:
        return ""


def shipped():
    """The certificates the distribution ships and the administrator has not deselected."""
    lines = [line.strip() for line in read(SELECTED).splitlines()]
    chosen = [line for line in lines if line and not line.startswith(("#", "!"))]
    return {der for line in chosen for der in certificates(read(os.path.join(SHIPPED, line)))}


def wanted_files(bundle):
    """Path and content of the files that make the host trust what the distribution does not."""
    known = shipped()
    files = {}
    for der in bundle:
        if der not in known:
            name = "provision-%s.crt" % hashlib.sha256(der).hexdigest()[:16]
            files[os.path.join(LOCAL, name)] = ssl.DER_cert_to_PEM_cert(der)
    return files


def parse(module):
    """The bundle's certificates; fails when a part of it is none."""
    try:
        bundle = certificates(module.params["bundle"])
        for der in bundle:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=der)
    except (binascii.Error, ssl.SSLError) as error:
        module.fail_json(msg="the CA bundle holds something that is not a certificate: %s" % error)
    if module.params["bundle"].strip() and not bundle:
        module.fail_json(msg="the CA bundle holds no certificate in PEM form")
    return bundle


def bootstrap(module, bundle):
    """Without the package that maintains it: the bundle is the trust store."""
    content = "".join(ssl.DER_cert_to_PEM_cert(der) for der in bundle)
    changed = bool(bundle) and not set(bundle) <= set(certificates(read(STORE)))
    if changed and not module.check_mode:
        atomic_write(STORE, content)
    module.exit_json(changed=changed, paths=[STORE] if changed else [], bootstrapped=bool(bundle))


def main():
    module = AnsibleModule(
        argument_spec={"bundle": {"type": "str", "default": ""}},
        supports_check_mode=True,
    )
    bundle = parse(module)
    if not os.path.exists(TOOL):
        bootstrap(module, bundle)
    files = wanted_files(bundle)
    present = glob.glob(os.path.join(LOCAL, "provision-*.crt"))
    stale = [path for path in present if path not in files]
    missing = [path for path in files if read(path) != files[path]]
    # The result is compared as well as the files: a run that died before the tool was done leaves them apart.
    store = certificates(read(STORE))
    links = [os.path.join(LINKS, os.path.basename(path)[: -len(".crt")] + ".pem") for path in files]
    leftover = set(glob.glob(os.path.join(LINKS, "provision-*.pem"))) - set(links)
    incomplete = leftover or not set(bundle) <= set(store) or not all(os.path.exists(link) for link in links)
    changed = bool(stale or missing or incomplete)
    if changed and not module.check_mode:
        for path in stale:
            os.unlink(path)
        for path in missing:
            atomic_write(path, files[path])
        # Without --fresh the links of removed certificates stay.
        code, out, err = module.run_command([TOOL, "--fresh"])
        if code != 0:
            module.fail_json(msg="the trust store was not rebuilt: %s" % (err or out).strip())
    module.exit_json(changed=changed, paths=sorted(stale + missing), bootstrapped=False)


if __name__ == "__main__":
    main()
