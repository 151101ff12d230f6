# SPDX-License-Identifier: GPL-3.0-or-later
"""The authentication test against every real mail server that Debian has: each port, each mechanism, right and wrong credentials.

What a server saw is read from its own log. docs/tested-servers.md is written from what happened here, see
test_the_page_in_the_docs_is_what_happened.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import subprocess
import time

import pytest
import tested_servers
from delaying_proxy import Far
from real_servers import CERTIFICATE, PASSWORD, PORTS, SERVERS, TOKEN
from round_trips import minimum
from system_lab import RIG, ROOT, SERVER, Lab

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.endpoint import normalise_endpoints
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.probe import probe_all

DOCS = ROOT / "docs" / "tested-servers.md"
PASSWORDS = ("alerts", "unicode", "long", "canary")
BAD_LOGIN = {PASSWORD: "auth_bad_credentials", TOKEN: "oauth_rejected", CERTIFICATE: "auth_bad_credentials"}

pytestmark = pytest.mark.xdist_group("test_real_servers")  # it has a lab of its own


@pytest.fixture(scope="module")
def lab():
    """A lab of its own, with every server."""
    name = os.environ.get("OUTPOST_SMTP_LAB", "system") + "-mta"
    subprocess.run([*RIG, "up", name, "--server", SERVER, "--mta", "all"], check=True)
    yield Lab(name)
    subprocess.run([*RIG, "down", name], check=True)


@pytest.fixture(scope="module")
def outcomes():
    """What happened, for the table: filled by the tests in the order of this file."""
    return tested_servers.Outcomes()


def token(lab: Lab, key: str | None = None, **claims) -> str:
    """An access token (RFC 7519) for alerts, signed by HS256 with the lab's key or another one."""
    body = {"sub": lab.accounts["alerts"]["username"], "iss": "https://login.provider.test/", "exp": int(time.time()) + 600, **claims}
    signed = b".".join(_base64url(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, body))
    digest = hmac.new((key or lab.variables["rig_oauth_key"]).encode(), signed, hashlib.sha256).digest()
    return (signed + b"." + _base64url(digest)).decode()


def _base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


class Bench:
    """Tests of one port of one server, by addresses, because only the lab's hosts know its names."""

    def __init__(self, lab: Lab, host: str, port: int) -> None:
        self.lab, self.server, self.port = lab, SERVERS[host], port

    def endpoint(self, account: str = "alerts", mechanism: str = "auto", **fields) -> dict:
        """A relay; ``password=None`` and others replace what the account has."""
        return {
            "name": account,
            "host": self.lab.address(self.server.host),
            "port": self.port,
            "tls": PORTS[self.port],
            "server_name": self.server.name,
            "ca_file": str(self.lab.state / "ca.pem"),
            "mechanism": mechanism.lower(),
            **self.lab.accounts[account],
            **fields,
        }

    def probe(self, *endpoints: dict) -> list[dict]:
        return probe_all(normalise_endpoints(list(endpoints)), 30)

    def right(self, mechanism: str) -> list[dict]:
        """Endpoints that are to log in: with a mechanism for passwords, one for each sort of them."""
        kind = self.server.kind(mechanism)
        if kind == PASSWORD:
            return [self.endpoint(account, mechanism) for account in PASSWORDS]
        return [self.endpoint(mechanism=mechanism, password=None, **self._proof(kind))]

    def wrong(self, mechanism: str) -> dict:
        """An endpoint that is to be refused."""
        kind = self.server.kind(mechanism)
        if kind == PASSWORD:
            return self.endpoint(mechanism=mechanism, password="wrong")
        if kind == TOKEN:
            return self.endpoint(mechanism=mechanism, password=None, access_token=token(self.lab, key="another"))
        # Somebody else's certificate.
        return self.endpoint("billing", mechanism, password=None, **self._proof(kind))

    def _proof(self, kind: str) -> dict:
        return {"access_token": token(self.lab)} if kind == TOKEN else {"client_certificate": str(self.lab.state / "alerts.pem")}

    def refusals(self, expected: int) -> int:
        """The refused logins in the server's log, once there are as many as expected."""
        deadline = time.monotonic() + 5
        while (count := self.server.refusals(self.lab)) < expected and time.monotonic() < deadline:
            time.sleep(0.1)
        return count


@pytest.fixture(params=[f"{host}-{port}" for host in SERVERS for port in PORTS])
def bench(request, lab):
    host, port = request.param.split("-")
    return Bench(lab, host, int(port))


def explain(results: list[dict]) -> str:
    """The results that matter in a failure, and the end of their dialogues."""
    return "\n".join(f"{one['name']} {one['ok']} {one['auth']} {one['diagnosis']} {one['transcript'][-6:]}" for one in results)


def test_every_mechanism_that_the_server_offers(bench, outcomes):
    (seen,) = bench.probe(bench.endpoint(username=None, password=None))
    assert seen["ok"], explain([seen])
    assert sorted(seen["auth"]["offered"]) == sorted(bench.server.offered)
    outcomes.tls(bench.server, bench.port, seen["tls"]["version"])

    refusals = bench.server.refusals(bench.lab)
    for mechanism in bench.server.tried:
        used = bench.server.expected(mechanism)
        good = bench.probe(*bench.right(mechanism))
        assert [(one["ok"], one["auth"]["mechanism"], one["auth"]["code"]) for one in good] == [(True, used, 235)] * len(good), explain(good)

        (bad,) = bench.probe(bench.wrong(mechanism))
        code = bad["diagnosis"]["code"] if bad["diagnosis"] else None
        refused = mechanism not in bench.server.any_name
        expected = (False, used, BAD_LOGIN[bench.server.kind(mechanism)]) if refused else (True, used, None)
        assert (bad["ok"], bad["auth"]["mechanism"], code) == expected, explain([bad])
        refusals += refused
        assert bench.refusals(refusals) == refusals, explain([bad])
        accepted = f"{len(good)} of {len(good)}"
        outcomes.login(bench.server, bench.port, tested_servers.Login(mechanism.lower(), used, accepted, code, int(refused)))
    assert bench.server.refusals(bench.lab) == refusals, "nothing comes later"


def test_a_refused_password_is_tried_by_other_mechanisms_only_if_asked_for(bench):
    by_password = [name for name in bench.server.tried[1:] if bench.server.kind(name) == PASSWORD]
    refusals = bench.server.refusals(bench.lab)
    (bad,) = bench.probe({**bench.wrong("auto"), "try_all_mechanisms": True})
    tried = [attempt["mechanism"] for attempt in bad["auth"]["attempts"]]
    assert not bad["ok"] and sorted(tried) == sorted(by_password), explain([bad])
    assert bench.refusals(refusals + len(tried)) == refusals + len(tried)

    (good,) = bench.probe({**bench.endpoint(), "try_all_mechanisms": True})
    assert good["ok"] and len(good["auth"]["attempts"]) == 1, explain([good])
    assert bench.server.refusals(bench.lab) == refusals + len(tried)


def test_a_login_takes_as_few_round_trips_as_it_can(bench):
    with Far(bench.port, bench.lab.address(bench.server.host)) as far:
        (done,) = bench.probe(bench.endpoint(mechanism="plain", host="127.0.0.1", port=far.port))
        assert done["ok"], explain([done])
        version = done["tls"]["version"].replace("TLSv", "")
        assert far.round_trips == minimum(PORTS[bench.port], version, "PLAIN") + bench.server.hello_retry


def test_the_module_on_a_host_of_the_lab(lab, play, tmp_path):
    """All servers and ports in one task, by their names."""
    common = {"ca_file": "/usr/local/share/rig-ca.pem", **lab.accounts["alerts"]}
    relays = [
        {"name": f"{server.host}-{port}", "host": server.name, "port": port, "tls": tls, **common}
        for server in SERVERS.values()
        for port, tls in PORTS.items()
    ]
    task = {"outpost.smtp.smtp_auth_info": {"relays": "{{ relays_under_test }}"}, "name": "Log in"}
    playbook = tmp_path / "servers.yml"
    playbook.write_text(json.dumps([{"hosts": "servers", "gather_facts": False, "tasks": [task]}]))
    run = play(str(playbook), {"relays_under_test": relays})
    assert run.status == 0, run.output
    (done,) = run.tasks
    assert {one["name"]: one["ok"] for one in done["result"]["results"]} == {one["name"]: True for one in relays}


def test_the_page_in_the_docs_is_what_happened(lab, outcomes):
    if not outcomes.complete:
        pytest.skip("not all servers were tried in this run")
    page = outcomes.page({host: server.version(lab) for host, server in SERVERS.items()})
    if os.environ.get("OUTPOST_SMTP_WRITE_DOCS"):
        DOCS.write_text(page, encoding="utf-8")
    assert tested_servers.without_versions(page) == tested_servers.without_versions(DOCS.read_text(encoding="utf-8"))
