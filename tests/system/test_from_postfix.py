# SPDX-License-Identifier: GPL-3.0-or-later
"""What is predicted for a Postfix is what it does: on three releases, for every scenario, with real mail to a real provider."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import json
import os
import re
import subprocess

import pytest
from from_postfix_lab import DIRECTORY, Provider, Server
from from_postfix_scenarios import BOUNCES, CRASHES, DEFERS, IN_CLEAR, SCENARIOS, SENDS, UNAUTHENTICATED, Scenario
from system_lab import RIG, Lab

from ansible_collections.outpost.smtp.plugins.module_utils._postfix import settings
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.host import Result
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.predict import of_message

SERVERS = ("debian11", "debian12", "debian13")
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}
STATUS = {"sent": SENDS, "deferred": DEFERS, "bounced": BOUNCES}


@dataclasses.dataclass
class Report:
    """What came of the messages of one server, and what was said about them."""

    outcomes: dict
    log: str
    predictions: dict
    as_nobody: dict


pytestmark = pytest.mark.xdist_group("test_from_postfix")  # it has a lab of its own


@pytest.fixture(scope="module")
def lab():
    name = os.environ.get("OUTPOST_SMTP_LAB", "system") + "-postfix"
    subprocess.run([*RIG, "up", name, *(option for server in SERVERS for option in ("--server", server))], check=True)
    yield Lab(name)
    subprocess.run([*RIG, "down", name], check=True)


def report_of(server: Server) -> Report:
    server.prepare()
    server.send()
    predictions = by_recipient(server.predictions(server.recipients()))
    readable = BY_NAME["starttls"]
    as_nobody = by_recipient(server.predictions({readable.sender: [readable.recipient(server.name)]}, user="nobody"))
    outcomes, log = server.outcomes()
    return Report(outcomes, log, predictions, as_nobody)


def by_recipient(report: list[dict]) -> dict[str, list[dict]]:
    found: dict[str, list[dict]] = {}
    for entry in report:
        found.setdefault(entry["facts"]["recipient"], []).append(entry)
    return found


@pytest.fixture(scope="module")
def reports(lab):
    with concurrent.futures.ThreadPoolExecutor() as pool:
        return dict(zip(SERVERS, pool.map(report_of, [Server(lab, name) for name in SERVERS])))


@pytest.fixture(scope="module")
def provider(lab, reports):
    return Provider(Server(lab, "provider").run("cat /var/log/mail.log"))


def what_happened(report: Report, provider: Provider, scenario: Scenario, recipient: str) -> tuple[str, str | None]:
    """As a prediction would say it."""
    if scenario.name not in report.outcomes:
        return CRASHES, None
    status, dsn, reason = report.outcomes[scenario.name]
    if "(in reply to MAIL FROM" in reason or "(in reply to RCPT TO" in reason:
        return UNAUTHENTICATED, None  # the provider takes everything from those who are logged in
    if status != "sent":
        return STATUS[status], dsn
    if provider.login(recipient) is None:
        return UNAUTHENTICATED, None
    return IN_CLEAR if provider.in_clear(recipient) else SENDS, None


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
@pytest.mark.parametrize("server", SERVERS)
def test_what_is_predicted_is_what_happens(reports, provider, server, scenario):
    report, recipient = reports[server], scenario.recipient(server)
    real = what_happened(report, provider, scenario, recipient)
    assert real[0] == scenario.action and scenario.dsn in (None, real[1]), report.outcomes.get(scenario.name)
    if scenario.action == CRASHES:
        assert re.search(scenario.log, report.log)
    prediction = of_message([entry["prediction"] for entry in report.predictions[recipient]])
    assert prediction["action"] == real[0], prediction
    assert prediction["dsn"] == (real[1] if scenario.dsn else None), prediction


@pytest.mark.parametrize("server", SERVERS)
def test_parameters_mean_what_postconf_says(reports, lab, server):
    host = Server(lab, server)
    read = settings.read(DIRECTORY, lambda argv, _stdin: Result(0, host.run(" ".join(argv) + " 2>/dev/null"), ""))
    expanded = dict(line.split(" = ", 1) for line in host.run("postconf -x 2>/dev/null").splitlines() if " = " in line)
    assert len(expanded) > 700
    # Postfix does not expand these, or only a running process can; and postconf makes runs of blanks one blank.
    other = re.compile(r"process_|postscreen_|default_rbl_reply|forward_path|smtpd_expansion_filter")
    names = [name for name in expanded if not other.match(name)]
    assert not [name for name in names if read.global_parameters.get(name).split() != expanded[name].split()]
    for line in host.run("postconf -P -x 2>/dev/null").splitlines():
        place, _equals, value = line.partition(" = ")
        name, kind, parameter = place.split("/")
        if kind == "unix":
            assert read.of_service(name).get(parameter) == value.strip(), place


@pytest.mark.parametrize("server", SERVERS)
def test_no_password_is_in_what_is_told(reports, lab, server):
    told = json.dumps([reports[server].predictions, reports[server].as_nobody])
    for account in lab.accounts.values():
        assert account["password"] not in told and json.dumps(account["password"])[1:-1] not in told


@pytest.mark.parametrize("server", SERVERS)
def test_who_may_not_read_the_credentials_says_so(reports, server):
    entry = reports[server].as_nobody[BY_NAME["starttls"].recipient(server)][0]
    assert entry["prediction"]["action"] == "unknown" and "Permission denied" in entry["prediction"]["text"]
    assert not entry["facts"]["credential"]["found"] and not entry["result"]["auth"]["tried"]
