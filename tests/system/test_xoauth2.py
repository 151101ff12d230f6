# SPDX-License-Identifier: GPL-3.0-or-later
"""A relay that wants an OAuth 2.0 access token, on every Debian release, with a real token endpoint and a real server.

debian11 and debian12 have a refresh token each, debian13 acts as the application itself (client credentials). Beside it is
a relay with a password. The tests are steps of one story, in the order of this file.
"""

from __future__ import annotations

import concurrent.futures
import functools
import hashlib
import hmac
import time

import pytest
from system_lab import RELEASES, Lab, run_playbook
from test_secrets import SEARCH_JOURNAL, WATCH_PROCESSES

CA = "/usr/local/share/rig-ca.pem"
WITH_REFRESH_TOKEN = RELEASES[:2]
ENDPOINT = "/run/rig-token-endpoint"
TOKENS = "/var/lib/outpost-smtp-oauth/tokens"
PLAYBOOK = """
- hosts: "{{ outpost_smtp_hosts }}"
  gather_facts: false
  roles:
    - role: outpost.smtp.postfix_relay
"""
PLACES = "/etc /var /tmp /root /run /home /usr/local /opt"
SEARCH_FILES = f"grep --recursive --files-with-matches --binary-files=text --fixed-strings --file=- {PLACES} || true"


def secret(lab: Lab, purpose: str) -> str:
    """As the rig's token endpoint makes them."""
    return hmac.new(lab.variables["rig_oauth_key"].encode(), purpose.encode(), hashlib.sha256).hexdigest()


def secrets(lab: Lab) -> list[str]:
    """All secrets of the story: those that were given, those that were exchanged, and the tokens, by what all of them hold."""
    exchanged = {host: int(lab.shell(f"cat {ENDPOINT}/uses-{host}", "postfix").stdout) for host in WITH_REFRESH_TOKEN}
    refresh_tokens = [secret(lab, f"refresh {uses} {host}") for host, last in exchanged.items() for uses in range(last + 1)]
    return [secret(lab, "client"), *refresh_tokens, token_mark(lab)]


def token_mark(lab: Lab) -> str:
    """A part of every access token: base64 of the padding, at the alignment that it has there."""
    access_tokens = lab.shell(f"cat {TOKENS}/*.json 2> /dev/null || true", RELEASES[0]).stdout
    return access_tokens.split('"access_token": "')[1].split(".")[1][200:300]


def given(lab: Lab, **oauth) -> dict:
    """The variables of the role."""
    oauth_relay = {
        "name": "primary",
        "host": "postfix.provider.test",
        "port": 587,
        "username": lab.accounts["alerts"]["username"],
        "ca_file": CA,
        "oauth": {
            "token_endpoint": "https://postfix.provider.test/token",
            "client_id": "outpost",
            "client_secret": secret(lab, "client"),
            "refresh_token": "{{ refresh_tokens[inventory_hostname] | default(none) }}",
            "ca_file": CA,
            **oauth,
        },
    }
    plain_relay = {
        "name": "beside",
        "host": "smtp.provider.test",
        "port": 465,
        **lab.accounts["billing"],
        "ca_file": CA,
        "senders": [lab.accounts["billing"]["username"]],
    }
    return {
        "outpost_smtp_relays": [oauth_relay, plain_relay],
        "refresh_tokens": {host: secret(lab, f"refresh 0 {host}") for host in WITH_REFRESH_TOKEN},
    }


def everywhere(function, *arguments) -> list:
    """What a function of a host returns for every release, all at once."""
    with concurrent.futures.ThreadPoolExecutor() as pool:
        return list(pool.map(functools.partial(function, *arguments), RELEASES))


def steer(lab: Lab, script: str) -> None:
    """Change how the token endpoint answers."""
    lab.shell(f"cd {ENDPOINT} && {script}", "postfix")


def send(lab: Lab, sender: str, mark: str, host: str) -> None:
    address = lab.accounts[sender]["username"]
    lab.shell(f"printf 'From: {address}\\nSubject: {mark}-{host}\\n\\nx\\n' | sendmail -f {address} {lab.accounts['inbox']['username']}", host)


def await_arrival(lab: Lab, mark: str) -> None:
    """Wait until the message of every host with this mark is in the inbox."""
    deadline = time.monotonic() + 30
    wanted = {f"Subject: {mark}-{host}" for host in RELEASES}
    search = f"grep -rhs '^Subject: {mark}-' /var/mail/inbox/Maildir || true"
    while missing := wanted - set(lab.shell(search, "provider").stdout.splitlines()):
        assert time.monotonic() < deadline, (missing, everywhere(lambda host: lab.shell("mailq; journalctl -n 40 --no-pager", host).stdout))
        time.sleep(0.2)


def deliver(lab: Lab, mark: str, sender: str = "alerts") -> None:
    everywhere(functools.partial(send, lab, sender, mark))
    await_arrival(lab, mark)


def await_journal(lab: Lab, text: str, host: str) -> None:
    """Wait until the service has said something since the mark of the step."""
    lab.shell(
        f"until journalctl --unit outpost-smtp-oauth --since @$(cat /root/step) --output cat | grep -qF '{text}'; do sleep 0.2; done",
        host,
        timeout=40,
    )


def change_token(lab: Lab, change: str, host: str) -> None:
    """Change what is stored of the token, and let the service take it up."""
    lab.shell(
        f"""date +%s > /root/step
systemctl stop outpost-smtp-oauth
python3 - {TOKENS}/*.json <<'E'
import json, sys, time
with open(sys.argv[1], "r+") as file:
    token, now = json.load(file), time.time()
    {change}
    file.seek(0), json.dump(token, file), file.truncate()
E
systemctl start outpost-smtp-oauth""",
        host,
    )


@pytest.fixture(scope="module")
def run(trio, tmp_path_factory):
    """Run the role on every release."""
    directory = tmp_path_factory.mktemp("oauth")
    (directory / "role.yml").write_text(PLAYBOOK)

    def run(variables: dict, *options: str):
        return run_playbook(trio, directory, str(directory / "role.yml"), variables, *options)

    return run


@pytest.fixture(scope="module")
def first(trio, run):
    """The first run of the role, with tokens that live for some seconds."""
    everywhere(trio.fresh_postfix)
    steer(trio, "rm -f * && echo 8 > lifetime && touch rotate")
    trio.shell(WATCH_PROCESSES)
    outcome = run(given(trio), "-vvvv", "--diff")
    assert outcome.status == 0, outcome.output[-5000:]
    return outcome


def test_mail_goes_out_by_xoauth2_beside_a_relay_with_a_password(trio, first):
    deliver(trio, "token")
    deliver(trio, "password", "billing")
    by_token = trio.shell("grep -h 'sasl_method=XOAUTH2, sasl_username=alerts@provider.test' /var/log/mail.log", "postfix").stdout
    by_password = trio.shell("grep -h 'sasl_method=PLAIN, sasl_username=billing@provider.test' /var/log/mail.log", "provider").stdout
    for host in RELEASES:
        assert f"[{trio.address(host)}]" in by_token and f"[{trio.address(host)}]" in by_password


def test_tokens_are_renewed_and_refresh_tokens_exchanged(trio, first):
    for host in WITH_REFRESH_TOKEN:
        trio.shell(f'until [ "$(cat {ENDPOINT}/uses-{host})" -ge 3 ]; do sleep 0.2; done', "postfix", timeout=30)
    deliver(trio, "renewed")
    assert " 400" not in trio.shell(f"cat {ENDPOINT}/log", "postfix").stdout


def test_while_the_endpoint_is_down_the_token_serves(trio, first):
    steer(trio, "echo 3600 > lifetime")
    everywhere(functools.partial(change_token, trio, "token['expires'] = now"))
    everywhere(lambda host: trio.shell(f"until grep -q '\"lifetime\": 3600' {TOKENS}/*.json; do sleep 0.2; done", host, timeout=30))
    steer(trio, "echo 503 > fail")
    everywhere(functools.partial(change_token, trio, "token['lifetime'] = 3 * (token['expires'] - now)"))
    everywhere(functools.partial(await_journal, trio, "the token endpoint refuses: HTTP 503 temporarily_unavailable; the one in use is valid for "))
    deliver(trio, "down")


def test_without_a_token_mail_waits_until_there_is_one(trio, first):
    everywhere(functools.partial(change_token, trio, "token['expires'] = now - 1"))
    everywhere(functools.partial(send, trio, "alerts", "waits"))
    reason = "there is no valid access token: the token endpoint refuses: HTTP 503"
    everywhere(lambda host: trio.shell(f"until mailq | grep -qF '{reason}'; do sleep 0.2; done", host, timeout=30))
    steer(trio, "rm fail")
    everywhere(functools.partial(await_journal, trio, "there is an access token again"))
    everywhere(lambda host: trio.shell("postqueue -f", host))
    await_arrival(trio, "waits")


def test_settings_that_earn_no_token_change_nothing(trio, run, first):
    sums = "md5sum /var/lib/outpost-smtp-oauth/settings.json /etc/postfix/main.cf"
    before = trio.shell(sums, RELEASES[0]).stdout
    outcome = run(given(trio, client_secret="CANARY0123456789"), "--limit", RELEASES[0])
    assert outcome.status != 0 and "CANARY" not in outcome.output
    said = "No access token can be had, nothing was changed: primary: the token endpoint refuses: HTTP 401 invalid_client AADSTS7000215"
    assert [task["result"]["msg"] for task in outcome.tasks if task["status"] == "failed"] == [said]
    assert trio.shell(sums, RELEASES[0]).stdout == before
    deliver(trio, "unharmed")


def test_only_postfix_and_root_get_in(trio, first):
    connect = "import socket; print(socket.create_connection(('127.0.0.1', 288)).makefile().readline())"
    assert everywhere(lambda host: trio.shell(f'setpriv --reuid nobody --clear-groups python3 -c "{connect}"', host).stdout[:4]) == ["554 "] * 3


def test_nobody_else_can_take_the_port_while_the_service_does_not_run(trio, first):
    """Whoever had it would receive the mail."""
    take = "import socket; socket.socket().bind(('127.0.0.1', 288))"
    script = f"""systemctl stop outpost-smtp-oauth
setpriv --reuid nobody --clear-groups python3 -c "{take}" 2>&1 | tail -n 1
systemctl start outpost-smtp-oauth"""
    assert everywhere(lambda host: trio.shell(script, host).stdout) == ["PermissionError: [Errno 13] Permission denied\n"] * 3


def test_a_second_run_changes_nothing(trio, run, first):
    outcome = run(given(trio), "-vvvv", "--diff")
    assert outcome.status == 0 and not outcome.changed(), outcome.output[-5000:]
    patterns = secrets(trio)
    for output in (first.output, outcome.output, str(first.tasks), str(outcome.tasks)):
        assert not [pattern for pattern in patterns if pattern in output]


def test_secrets_are_in_their_own_files_alone(trio, first):
    trio.shell("touch /run/watch.stop; while systemctl is-active --quiet watch; do sleep 0.1; done")
    patterns = secrets(trio)
    watched = trio.shell("cat /run/watched.txt").stdout
    assert "oauth.pyz" in watched and not [pattern for pattern in patterns if pattern in watched]

    def look(host: str) -> None:
        files = trio.shell(SEARCH_FILES, host, input="\n".join(patterns)).stdout.split()
        assert {path.rsplit("/", 1)[0] for path in files} == {TOKENS, TOKENS.rsplit("/", 1)[0]}, files
        assert set(trio.shell("stat --format='%a %U' " + " ".join(files), host).stdout.splitlines()) == {"600 postfix"}
        assert trio.shell(SEARCH_JOURNAL, host, input="\n".join(patterns)).stdout.strip() == "0"

    everywhere(look)


def test_a_configuration_that_is_kept_keeps_the_service(trio, run, first):
    """Going back to it would lead mail to the service."""
    (_oauth_relay, plain_relay) = given(trio)["outpost_smtp_relays"]
    relays = [{**plain_relay, "senders": None}]
    outcome = run({"outpost_smtp_relays": relays, "postfix_relay_keep_previous": True}, "--limit", RELEASES[0])
    assert outcome.status == 0, outcome.output[-5000:]
    assert trio.shell("systemctl is-active outpost-smtp-oauth", RELEASES[0]).stdout == "active\n"


def test_absent_leaves_nothing(trio, run, first):
    patterns = secrets(trio)
    outcome = run({"postfix_relay_state": "absent"})
    assert outcome.status == 0, outcome.output[-5000:]

    def look(host: str) -> None:
        assert not trio.shell(SEARCH_FILES, host, input="\n".join(patterns)).stdout
        left = "ls -d /var/lib/outpost-smtp-oauth /usr/local/lib/outpost-smtp /etc/systemd/system/*outpost-smtp-oauth* 2> /dev/null || true"
        left += "; systemctl list-units --all --no-legend 'outpost-smtp-oauth*'; pgrep -f '[o]auth.pyz' || true"
        assert not trio.shell(left, host).stdout.split()

    everywhere(look)
