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

from ansible_collections.outpost.smtp.plugins.module_utils._postfix.errors import PostfixError

#: What a configuration may need, beside the SASL mechanisms and the types of maps, which are called as Postfix calls them.
POSTFIX, CA = "postfix", "ca"

#: Package names by family of distributions, and by what they bring; shared by all releases still alive. Sources: the
#: package databases of each. A type of map that is not named here comes with postfix itself or is not to be had.
PACKAGES: t.Dict[str, t.Dict[str, t.Tuple[str, ...]]] = {
    "debian": {
        POSTFIX: ("postfix",),
        CA: ("ca-certificates",),
        **dict.fromkeys(("plain", "login", "crammd5", "digestmd5", "scram"), ("libsasl2-modules",)),
        "lmdb": ("postfix-lmdb",),
        "cdb": ("postfix-cdb",),
    },
    "redhat": {
        POSTFIX: ("postfix",),
        CA: ("ca-certificates",),
        **dict.fromkeys(("plain", "login"), ("cyrus-sasl-plain",)),
        **dict.fromkeys(("crammd5", "digestmd5"), ("cyrus-sasl-md5",)),
        "scram": ("cyrus-sasl-scram",),
        "lmdb": ("postfix-lmdb",),
        "cdb": ("postfix-cdb",),
    },
    "suse": {
        POSTFIX: ("postfix",),
        CA: ("ca-certificates", "ca-certificates-mozilla"),
        **dict.fromkeys(("plain", "login"), ("cyrus-sasl-plain",)),
        "crammd5": ("cyrus-sasl-crammd5",),
        "digestmd5": ("cyrus-sasl-digestmd5",),
        "scram": ("cyrus-sasl-scram",),
        "lmdb": ("postfix-bdb-lmdb",),  # postfix has it built in; it can be missing beside the other Postfix, postfix-bdb
    },
    "alpine": {
        POSTFIX: ("postfix",),
        CA: ("ca-certificates",),
        "plain": ("cyrus-sasl",),
        "login": ("cyrus-sasl-login",),
        "crammd5": ("cyrus-sasl-crammd5",),
        "digestmd5": ("cyrus-sasl-digestmd5",),
        "scram": ("cyrus-sasl-scram",),
        "lmdb": ("postfix-lmdb",),
    },
}
#: Types of maps that the postfix package of some release of the family brings itself.
_WITH_POSTFIX = {"debian": ("hash",), "redhat": ("hash",), "suse": ("lmdb",)}
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
#: SASL mechanisms that a configuration can need a plug-in for; EXTERNAL is in Cyrus SASL's library itself.
SASL_MECHANISMS = ("plain", "login", "cram-md5", "digest-md5", "scram-sha-1", "scram-sha-256")
EXTERNAL = "external"
_PLUGIN_DIRECTORIES = ("usr/lib/*/sasl2", "usr/lib64/sasl2", "usr/lib/sasl2")
#: Where a package of a type of map has its library, in all of PACKAGES; dynamicmaps.cf tells Postfix of it (dynamicmaps(5)).
_LIBRARIES = ("usr/lib/postfix/postfix-{}.so", "usr/lib64/postfix/postfix-{}.so")
_PROGRAM_PATH = "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin"


def find_program(name: str) -> t.Optional[str]:
    """Return the path of a program; Postfix's are in sbin, which a login by SSH may not have in its PATH."""
    return shutil.which(name, path=_PROGRAM_PATH)


def plugin_of(mechanism: str) -> str:
    """What Cyrus SASL calls the plug-in of a mechanism: like it, without hyphens; one has all of SCRAM."""
    return mechanism.lower().split("-sha-")[0].replace("-", "")


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
        """Return the packages that meet ``needs``, each once. Where the system is unknown, names that say what is meant."""
        table = PACKAGES.get(self.family or "", PACKAGES["redhat"])
        found = [name for need in needs for name in table.get(need, (f"postfix-{need}",))]
        return list(dict.fromkeys(found))

    def missing_plugins(self, mechanisms: t.Iterable[str]) -> t.List[str]:
        """Return the plug-ins of Cyrus SASL that have to be installed for ``mechanisms``.

        Raises PostfixError for one that this release has not: its package is there, and brings others only.
        """
        missing = [mechanism for mechanism in mechanisms if mechanism != EXTERNAL and not self.has_sasl_mechanism(mechanism)]
        table = PACKAGES.get(self.family or "", {})
        for mechanism in missing:
            package = table.get(plugin_of(mechanism))
            if any(table[plugin_of(other)] == package and self.has_sasl_mechanism(other) for other in SASL_MECHANISMS if package):
                raise PostfixError(f"sasl_mechanisms: Cyrus SASL of this host has no {mechanism}; choose another mechanism, or auto")
        return list(dict.fromkeys(map(plugin_of, missing)))

    def has_sasl_mechanism(self, mechanism: str) -> bool:
        """Whether Cyrus SASL's client plug-in for ``mechanism`` is there; without it: "No worthy mechs found"."""
        library = f"lib{plugin_of(mechanism)}.so*"
        return any(glob.glob(os.path.join(self.root, directory, library)) for directory in _PLUGIN_DIRECTORIES)

    def map_packages(self, map_type: str) -> t.Optional[t.Tuple[str, ...]]:
        """The packages of a type of map beside postfix itself, maybe none; None where this family has no such type."""
        table = PACKAGES.get(self.family or "")
        if table is None or map_type in _WITH_POSTFIX.get(self.family or "", ()):
            return ()
        return table.get(map_type)

    def has_map_library(self, map_type: str) -> bool:
        """Whether the package of a type of map is installed, even if Postfix does not know the type."""
        return any(os.path.isfile(os.path.join(self.root, path.format(map_type))) for path in _LIBRARIES)

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
