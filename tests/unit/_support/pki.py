# SPDX-License-Identifier: GPL-3.0-or-later
"""Certification authorities of any shape, made by openssl(1), and TLS servers that send any part of them."""

from __future__ import annotations

import datetime
import ssl
import subprocess
import typing as t
from pathlib import Path

KEYS = {
    "ec": ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
    "p384": ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:secp384r1"),
    "rsa": ("-newkey", "rsa:2048"),
    "ed25519": ("-newkey", "ed25519"),
}
LOCAL = "DNS:localhost,IP:127.0.0.1"
AIA = "authorityInfoAccess=OCSP;URI:http://ocsp.test/,caIssuers;URI:http://ca.test/issuer.der"
"""Where the certificate of the issuer is published."""
_CONFIG = (
    "[ca]\ndefault_ca=any\n[any]\ndatabase=index.txt\nnew_certs_dir=.\nrand_serial=yes\ndefault_md=sha256\npolicy=policy\n"
    "unique_subject=no\n[policy]\norganizationName=optional\ncommonName=optional\n"
)


class Pki:
    """Everything is known by a short name, which is that of its files in *directory*: NAME.pem and NAME.key."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        (directory / "index.txt").touch()
        (directory / "ca.cnf").write_text(_CONFIG)

    def path(self, name: str) -> str:
        return str(self._directory / f"{name}.pem")

    def key(self, name: str) -> str:
        return str(self._directory / f"{name}.key")

    def der(self, name: str) -> bytes:
        return ssl.PEM_cert_to_DER_cert(Path(self.path(name)).read_text())

    def bundle(self, *names: str) -> str:
        """Path of a file with the certificates of *names* in this order."""
        path = self._directory / ("+".join(names)[:100] + ".bundle")
        path.write_text("".join(Path(self.path(name)).read_text() for name in names))
        return str(path)

    def root(self, name: str, subject: str, key: str = "ec") -> str:
        self.openssl("req", "-x509", *KEYS[key], "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.pem", "-days", "3650", "-subj", subject)
        return name

    def issue(
        self,
        name: str,
        issuer: str,
        subject: str,
        *extensions: str,
        key: str = "ec",
        start: int = -1,
        end: int = 90,
        digest: str = "sha256",
    ) -> str:
        """A certificate, valid from *start* to *end* days from now, with *extensions* as openssl's configuration has them."""
        self.openssl("req", *KEYS[key], "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", subject)
        (self._directory / f"{name}.ext").write_text("\n".join(extensions) + "\n")
        self.openssl(
            "ca", "-batch", "-notext", "-config", "ca.cnf", "-cert", f"{issuer}.pem", "-keyfile", f"{issuer}.key", "-md", digest,
            "-in", f"{name}.csr", "-out", f"{name}.pem", "-extfile", f"{name}.ext", "-startdate", _utc(start), "-enddate", _utc(end),
        )  # fmt: skip
        return name

    def intermediate(self, name: str, issuer: str, subject: str, *extensions: str, **options: t.Any) -> str:
        return self.issue(name, issuer, subject, "basicConstraints=critical,CA:TRUE", "subjectKeyIdentifier=hash", *extensions, **options)

    def server(self, name: str, issuer: str, *extensions: str, names: str = LOCAL, **options: t.Any) -> str:
        subject = f"/O=Provider/CN={name}"
        return self.issue(name, issuer, subject, f"subjectAltName={names}", "basicConstraints=CA:FALSE", *extensions, **options)

    def context(self, name: str, *sent_with_it: str, client_ca: str = "", newest: str = "") -> ssl.SSLContext:
        """For a server that shows *name* and sends the certificates of *sent_with_it* along, in this order.

        With *client_ca* it demands a certificate that this CA has issued; *newest* is ``1.2`` for one without TLS 1.3.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.bundle(name, *sent_with_it), self.key(name))
        if client_ca:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.path(client_ca))
        if newest == "1.2":
            context.maximum_version = ssl.TLSVersion.TLSv1_2
        return context

    def openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=str(self._directory), check=True, capture_output=True, timeout=60)


def _utc(days: int) -> str:
    moment = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=days)
    return moment.strftime("%Y%m%d%H%M%SZ")
