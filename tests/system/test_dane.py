# SPDX-License-Identifier: GPL-3.0-or-later
"""DANE with a zone that is really signed (ldns), served by nsd and validated by unbound, all of Debian.

They run on loopback, without privileges and without being installed: their packages are unpacked in a directory.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from system_lab import ROOT

sys.path.insert(0, str(ROOT / "tests" / "unit" / "_support"))

from pki import Pki  # noqa: E402  (needs the path set above)
from smtp_server import HOST, Server, conversation  # noqa: E402

from ansible_collections.outpost.smtp.plugins.module_utils._smtp import dns  # noqa: E402
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.client import Client  # noqa: E402
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.deadline import Deadline  # noqa: E402
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.errors import SmtpError  # noqa: E402
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.resolve import Address  # noqa: E402
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.tls import x509  # noqa: E402
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.tls.trust import Trust  # noqa: E402

PACKAGES = ("unbound", "nsd", "ldnsutils")
HEAD = "$TTL 60\n@ SOA ns hostmaster 1 3600 600 86400 60\n@ NS ns\nns A 127.0.0.1\nmx A 127.0.0.1\nwww CNAME mx\n"
NSD = """server:
  ip-address: 127.0.0.1@{authority}
  username: ""
  chroot: ""
  zonesdir: "{directory}"
  pidfile: ""
  database: ""
  zonelistfile: "{directory}/zone.list"
  xfrdfile: "{directory}/xfrd.state"
  server-count: 1
remote-control:
  control-enable: no
zone:
  name: dane.test
  zonefile: dane.test.signed
zone:
  name: plain.test
  zonefile: plain.test
"""
UNBOUND = """server:
  interface: 127.0.0.1@{resolver}
  username: ""
  chroot: ""
  directory: "{directory}"
  pidfile: ""
  use-syslog: no
  do-not-query-localhost: no
  module-config: "validator iterator"
  trust-anchor-file: "{anchor}"
  local-zone: "test." nodefault
  domain-insecure: "plain.test"
remote-control:
  control-enable: no
stub-zone:
  name: dane.test
  stub-addr: 127.0.0.1@{authority}
stub-zone:
  name: plain.test
  stub-addr: 127.0.0.1@{authority}
"""


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """Runs a program of the packages, wherever they are; those that are not installed are unpacked with what they need."""
    directory = tmp_path_factory.mktemp("packages")
    simulated = subprocess.run(["apt-get", "--simulate", "--no-install-recommends", "install", *PACKAGES], check=True, capture_output=True, text=True)
    missing = [line.split()[1] for line in simulated.stdout.splitlines() if line.startswith("Inst ")]
    if missing:
        subprocess.run(["apt-get", "--quiet", "download", *missing], cwd=directory, check=True)
    for package in directory.glob("*.deb"):
        subprocess.run(["dpkg", "--extract", package, directory], check=True)
    places = [directory / "usr/sbin", directory / "usr/bin", *map(Path, os.environ["PATH"].split(":"))]
    libraries = ":".join(str(path) for path in {library.parent for library in directory.rglob("*.so.*")})

    def start(name, *arguments, **options):
        program = shutil.which(name, path=":".join(map(str, places)))
        return subprocess.Popen([program, *arguments], env={**os.environ, "LD_LIBRARY_PATH": libraries}, text=True, **options)

    return start


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    made = Pki(tmp_path_factory.mktemp("pki"))
    made.root("root", "/O=Test Trust/CN=Test Root")
    made.intermediate("inter", "root", "/O=Test Trust/CN=Test Issuing CA")
    made.server("mx", "inter", names="DNS:mx.dane.test")
    return made


@pytest.fixture(scope="module")
def server(pki):
    """A mail server whose certificate no root of this system vouches for. Its port is that of the records."""
    with Server(conversation(tls="implicit", context=pki.context("mx", "inter", "root"))) as running:
        yield running


@pytest.fixture
def zone(programs, server, tmp_path, monkeypatch):
    """Call with the TLSA records of mx.dane.test, and with what is changed in the zone after it was signed."""
    started = []

    def serve(*records, forge=None):
        lines = "".join(f"_{server.port}._tcp.mx TLSA {record}\n" for record in records)
        for name, extra in (("dane.test", lines), ("plain.test", "")):
            (tmp_path / name).write_text(f"$ORIGIN {name}.\n{HEAD}{extra}")
        key = programs("ldns-keygen", "-a", "ECDSAP256SHA256", "-k", "dane.test", cwd=tmp_path, stdout=subprocess.PIPE)
        name = key.communicate()[0].strip()
        assert programs("ldns-signzone", "dane.test", name, cwd=tmp_path).wait() == 0
        if forge:
            signed = tmp_path / "dane.test.signed"
            signed.write_text(signed.read_text().replace(*forge))
        facts = {"directory": tmp_path, "authority": _free_port(), "resolver": _free_port(), "anchor": tmp_path / f"{name}.key"}
        for program, text in (("nsd", NSD), ("unbound", UNBOUND)):
            configuration = tmp_path / f"{program}.conf"
            configuration.write_text(text.format(**facts))
            started.append(programs(program, "-d", "-c", str(configuration), stderr=subprocess.DEVNULL))
        resolver = dns.Resolver((dns.Server(HOST, facts["resolver"]),), True)
        _await(resolver)
        monkeypatch.setattr(dns, "system_resolver", lambda: resolver)

    yield serve
    for process in started:
        process.terminate()
        process.wait(10)


def _free_port():
    with socket.socket() as listener, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        listener.bind((HOST, 0))
        datagrams.bind(listener.getsockname())
        return listener.getsockname()[1]


def _await(resolver):
    deadline = Deadline(20)
    while not deadline.expired:
        try:
            if dns.query("mx.dane.test", dns.A, Deadline(1), resolver).records:
                return
        except SmtpError:
            pass
        time.sleep(0.1)  # nothing tells when both answer
    raise AssertionError("the name servers do not answer")


def visit(server, host="mx.dane.test"):
    """What came of the handshake: the session's word about DANE, or the error."""
    where = [Address(socket.AF_INET, (HOST, server.port))]
    client = Client(host, server.port, "implicit", deadline=Deadline(10), ehlo_name="h.example", trust=Trust(dane=True), addresses=where)
    with client:
        try:
            client.connect()
            client.greeting()
        except SmtpError as exc:
            return exc
        return client.session.dane


def test_a_record_for_the_certificate(zone, server, pki):
    zone(f"3 1 1 {x509.parse(pki.der('mx')).public_key_sha256}")

    assert visit(server)["status"] == "verified"
    assert visit(server, "www.dane.test")["status"] == "verified"


def test_a_record_for_the_ca(zone, server, pki):
    zone(f"2 0 1 {x509.parse(pki.der('root')).fingerprint_sha256}")

    assert visit(server)["status"] == "verified"


def test_a_record_for_another_certificate(zone, server):
    zone(f"3 1 1 {'0' * 64}")

    error = visit(server)
    assert (error.kind, error.reason) == ("dane", "mismatch")


def test_a_record_that_was_changed_on_its_way(zone, server, pki):
    """The record would match, but its signature is of another one."""
    zone(f"3 1 1 {'0' * 64}", forge=("0" * 64, x509.parse(pki.der("mx")).public_key_sha256))

    error = visit(server)
    assert (error.kind, error.reason) == ("dane", "unusable") and "SERVFAIL" in str(error)


def test_no_record_and_no_signature(zone, server):
    zone()

    for host in ("mx.dane.test", "mx.plain.test"):
        assert visit(server, host).verify_code == 19  # the certificate is verified as always, and is of an unknown root
