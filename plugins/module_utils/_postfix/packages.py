# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.

"""What has to be installed, and what its packages are called, read from the host itself without Ansible's facts."""

from __future__ import annotations

import glob
import os
import re
import shutil
import typing as t

POSTFIX, SASL, CA = "postfix", "sasl", "ca"

#: Package names by family of distributions. Sources: the package databases of each; shared by all releases still alive.
PACKAGES: t.Dict[str, t.Dict[str, t.Tuple[str, ...]]] = {
    "debian": {POSTFIX: ("postfix",), SASL: ("libsasl2-modules",), CA: ("ca-certificates",)},
    "redhat": {POSTFIX: ("postfix",), SASL: ("cyrus-sasl-plain",), CA: ("ca-certificates",)},
    "suse": {POSTFIX: ("postfix",), SASL: ("cyrus-sasl-plain",), CA: ("ca-certificates", "ca-certificates-mozilla")},
    "alpine": {POSTFIX: ("postfix",), SASL: ("cyrus-sasl", "cyrus-sasl-login"), CA: ("ca-certificates",)},
}
_FAMILIES = {
    "debian": "debian",
    "ubuntu": "debian",
    "rhel": "redhat",
    "fedora": "redhat",
    "centos": "redhat",
    "amzn": "redhat",
    "suse": "suse",
    "opensuse": "suse",
    "sles": "suse",
    "alpine": "alpine",
}
#: Where the system's certificates are in one file. The first that exists is used.
CA_BUNDLES = {
    "debian": ("/etc/ssl/certs/ca-certificates.crt",),
    "redhat": ("/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "/etc/pki/tls/certs/ca-bundle.crt"),
    "suse": ("/etc/ssl/ca-bundle.pem", "/var/lib/ca-certificates/ca-bundle.pem"),
    "alpine": ("/etc/ssl/certs/ca-certificates.crt",),
}
_PLUGIN_DIRECTORIES = ("usr/lib/*/sasl2", "usr/lib64/sasl2", "usr/lib/sasl2")
_PROGRAM_PATH = "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin"


def find_program(name: str) -> t.Optional[str]:
    """Return the path of a program; Postfix's are in sbin, which a login by SSH may not have in its PATH."""
    return shutil.which(name, path=_PROGRAM_PATH)


class Platform:
    """The operating system below ``root`` ("/" except in tests)."""

    def __init__(self, root: str = "/") -> None:
        self.root = root
        self.family = self._family()

    def _family(self) -> t.Optional[str]:
        """The family by ID and ID_LIKE of os-release(5); None for one we have no package names for."""
        try:
            with open(os.path.join(self.root, "etc/os-release"), encoding="utf-8", errors="replace") as file:
                fields = dict(re.findall(r"^(ID|ID_LIKE)=[\"']?([^\"'\n]*)", file.read(), re.MULTILINE))
        except OSError:
            return None
        names = f"{fields.get('ID', '')} {fields.get('ID_LIKE', '')}".lower()
        return next((_FAMILIES[word] for word in re.split(r"[ -]+", names) if word in _FAMILIES), None)

    def has_program(self, name: str) -> bool:
        return any(os.access(os.path.join(self.root, directory.lstrip("/"), name), os.X_OK) for directory in _PROGRAM_PATH.split(":"))

    def package_names(self, needs: t.Iterable[str]) -> t.List[str]:
        """Return the packages that meet ``needs``; where the system is unknown, names that say what is meant."""
        plain: t.Dict[str, t.Tuple[str, ...]] = {POSTFIX: ("postfix",), SASL: ("cyrus-sasl-plain",), CA: ("ca-certificates",)}
        table = PACKAGES.get(self.family or "", plain)
        return [name for need in needs for name in table[need]]

    def has_sasl_mechanism(self, mechanism: str) -> bool:
        """Whether Cyrus SASL's client plug-in for ``mechanism`` is there; without it: "No worthy mechs found"."""
        library = f"lib{mechanism.lower()}.so*"
        return any(glob.glob(os.path.join(self.root, directory, library)) for directory in _PLUGIN_DIRECTORIES)

    def ca_bundle(self) -> t.Optional[str]:
        """Return the file with the system's certificates, or None when there is none."""
        known = CA_BUNDLES.get(self.family or "", tuple(path for paths in CA_BUNDLES.values() for path in paths))
        return next((path for path in known if os.path.isfile(os.path.join(self.root, path.lstrip("/")))), None)

    def expected_ca_bundle(self) -> str:
        """Where the certificates will be once the package is installed."""
        return CA_BUNDLES.get(self.family or "debian", CA_BUNDLES["debian"])[0]

    def default_chroot(self) -> str:
        """The chroot column that the distribution's own master.cf has for smtp: Debian alone runs it in a chroot."""
        return "y" if self.family == "debian" else "n"
