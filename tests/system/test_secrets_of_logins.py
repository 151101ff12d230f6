# SPDX-License-Identifier: GPL-3.0-or-later
"""Canaries in everything that smtp_auth_info can be given or find on the host: searched for in all that a run tells or leaves."""

from __future__ import annotations

import base64
import json

import pytest
from pack_cli import pack
from system_lab import ROOT
from test_hostile import CA_FILE, HOST, STOP_WATCHING, WATCH
from test_secrets import SEARCH_FILES, SEARCH_JOURNAL, forms, found_in

USERNAME = "alerts@provider.test"
IN_TABLE, IN_MAIN, MALFORMED, BROKEN, FOR_PROXY = (f"Cänary-{name}-\"'\\-4711" for name in ("table", "main", "malformed", "broken", "proxy"))
CLAIMS = base64.urlsafe_b64encode(b'{"aud": "https://outlook.office365.com", "exp": 4102444800, "jti": "canary-of-a-token"}').decode().rstrip("=")
TOKEN = f"eyJhbGciOiJub25lIn0.{CLAIMS}.c2lnbmF0dXJlLW9mLXRoZS1jYW5hcnk"
PROXY_PORT = 3128

POSTFIX = f"""\
compatibility_level = 2
mydestination =
relayhost = [{HOST}]:587
smtp_tls_security_level = secure
smtp_tls_CAfile = {CA_FILE}
smtp_sasl_auth_enable = yes
smtp_sasl_tls_security_options = noanonymous
smtp_sasl_password_maps = """
TABLE = "texthash:/etc/canary/sasl_passwd\n"
# It refuses every login and quotes what it got.
PROXY = f"""
cat > /run/proxy.py <<'PY'
import socket
listener = socket.create_server(("127.0.0.1", {PROXY_PORT}))
while True:
    connection, _client = listener.accept()
    with connection:
        asked = connection.recv(65536).split(b"Basic ")[-1].split(b"\\r")[0]
        connection.sendall(b"HTTP/1.1 407 " + asked + b"\\r\\nProxy-Authenticate: Basic realm=\\"" + asked + b"\\"\\r\\n\\r\\n")
PY
systemd-run --quiet --unit=echoing-proxy python3 /run/proxy.py
for attempt in $(seq 100); do ss -Hltn 'sport = :{PROXY_PORT}' | grep -q . && exit 0; sleep 0.1; done; exit 1
"""


@pytest.fixture(scope="module")
def server(lab):
    lab.shell("id postfix || apt-get --quiet --yes install postfix >/dev/null")
    lab.shell(PROXY)
    yield lab
    lab.shell("systemctl stop echoing-proxy; rm -rf /run/proxy.py /run/watch /etc/canary /run/cli.pyz")


@pytest.fixture(scope="module")
def canaries() -> list[str]:
    """Each form of each secret. The ends of the passwords are the same, so what tells them apart is before it."""
    plain = [secret[:16] for secret in (IN_TABLE, IN_MAIN, MALFORMED, BROKEN, FOR_PROXY)]
    encoded = [form for secret in (IN_TABLE, IN_MAIN, MALFORMED, BROKEN, FOR_PROXY) for form in forms(USERNAME, secret)[1:]]
    return [*plain, *encoded, TOKEN, CLAIMS, TOKEN.rpartition(".")[2]]


@pytest.fixture
def run(server, play, tmp_path):
    """Run the module with these options on the server, at full verbosity; secrets are variables, as they should be."""

    def run_with(options: dict) -> object:
        task = {"outpost.smtp.smtp_auth_info": {"timeout": 10, "on_failure": "report", **options}}
        playbook = tmp_path / "play.yml"
        playbook.write_text(json.dumps([{"hosts": "servers", "gather_facts": False, "tasks": [{"name": "Test", **task}]}]))
        environment = {"ANSIBLE_CALLBACK_RESULT_FORMAT": "json", "ANSIBLE_LOG_PATH": str(tmp_path / "ansible.log")}
        secrets = {"secret_proxy": FOR_PROXY, "secret_token": TOKEN}
        return play(str(playbook), secrets, "-vvvv", "--diff", environment=environment)

    return run_with


def configure(server, main: str, table: str) -> None:
    """Of a directory of its own; secrets go by standard input."""
    server.shell("install -d -m 700 /etc/canary; cp /etc/postfix/master.cf /etc/canary/; cat > /etc/canary/main.cf", input=main)
    server.shell("umask 077; cat > /etc/canary/sasl_passwd", input=table)


FROM_POSTFIX = {"from_postfix": True, "config_directory": "/etc/canary"}
GOOD = f"[{HOST}]:587 {USERNAME}:{IN_TABLE}\n"
MAIN = POSTFIX + TABLE
CASES = {
    "a table": (FROM_POSTFIX, MAIN, GOOD),
    "a table, as the user of the MTA": ({**FROM_POSTFIX, "run_as": "postfix"}, MAIN, GOOD),
    "main.cf": (FROM_POSTFIX, f"{POSTFIX}static:{USERNAME}:{IN_MAIN}\n", ""),
    "main.cf, inline": (FROM_POSTFIX, f"{POSTFIX}inline:{{ {{ [{HOST}]:587 = {USERNAME}:{IN_MAIN} }} }}\n", ""),
    "an entry without a user name": (FROM_POSTFIX, MAIN, f"[{HOST}]:587 {MALFORMED}\n"),
    # What Postfix can not parse, or has twice, it writes to the journal itself whenever it opens the table; so this is neither.
    "an entry the wrong way round": (FROM_POSTFIX, MAIN, USERNAME + ":" + MALFORMED.replace('"', "") + f" [{HOST}]:587\n"),
    "an entry with a blank for the colon": (FROM_POSTFIX, MAIN, f"[{HOST}]:587 {USERNAME} {MALFORMED}\n"),
    "a line of main.cf that is broken": (FROM_POSTFIX, f"{POSTFIX}\nstatic:{USERNAME}:{BROKEN}\n", ""),
    "a proxy that quotes": (
        {"relays": [{"host": HOST, "proxy": {"type": "http", "host": "127.0.0.1", "username": USERNAME, "password": "{{ secret_proxy }}"}}]},
        "",
        "",
    ),
    "a token": ({"relays": [{"host": HOST, "ca_file": CA_FILE, "username": USERNAME, "access_token": "{{ secret_token }}"}]}, "", ""),
    "refused options": ({"relays": [{"host": HOST, "port": 465, "tls": "none", "username": USERNAME, "access_token": "{{ secret_token }}"}]}, "", ""),
}


@pytest.mark.parametrize("case", CASES)
def test_nothing_is_told_or_left(server, run, canaries, tmp_path, case):
    options, main, table = CASES[case]
    configure(server, main, table)
    server.shell(WATCH)
    done = run(options)
    watched = server.shell(STOP_WATCHING).stdout
    server.shell("rm -rf /etc/canary")

    assert "smtp_auth_info" in watched and done.tasks, done.output
    assert (done.status == 0) is (case not in ("a line of main.cf that is broken", "refused options")), done.output
    for place, text in (("output", done.output), ("tasks", json.dumps(done.tasks, ensure_ascii=False)), ("tasks", json.dumps(done.tasks))):
        assert not found_in(text, canaries), (place, text[-3000:])
    assert not found_in((tmp_path / "ansible.log").read_text(), canaries)
    assert not found_in(watched, canaries)
    assert server.shell(SEARCH_FILES, input="\n".join(canaries)).stdout == ""
    assert server.shell(SEARCH_JOURNAL, input="\n".join(canaries)).stdout.strip() == "0"


def test_the_cases_come_as_far_as_they_should(server, run):
    """A login that is tried, or a canary that is never read, would make all of this worthless."""
    configure(server, *CASES["main.cf"][1:])
    (result,) = run(FROM_POSTFIX).tasks[-1]["result"]["results"]
    server.shell("rm -rf /etc/canary")
    assert result["diagnosis"]["code"] == "auth_bad_credentials", result["diagnosis"]
    assert result["auth"]["tried"] and result["postfix"]["credential"]["table"] == "static:..."


@pytest.mark.parametrize("user", [[], ["--run-as", "postfix"]])
def test_the_command_line(server, canaries, tmp_path, user):
    pack(tmp_path / "cli.pyz")
    archive = base64.b64encode((tmp_path / "cli.pyz").read_bytes()).decode()
    server.shell("base64 --decode > /run/cli.pyz", input=archive)
    server.shell(WATCH)
    options = " ".join(["--ca-file", CA_FILE, "--username", USERNAME, "--password-file", "-", "--transcript", *user])
    told = [server.shell(f"python3 /run/cli.pyz {HOST} {options} {form} 2>&1 || true", input=IN_TABLE + "\n").stdout for form in ("", "--json")]
    watched = server.shell(STOP_WATCHING).stdout

    assert "cli.pyz" in watched and all("auth_bad_credentials" in text for text in told), told
    assert not found_in("".join(told) + watched, canaries)
    assert server.shell(SEARCH_FILES, input="\n".join(canaries)).stdout == ""


def test_the_repository_has_no_canary_in_its_results(canaries):
    """The search itself would otherwise find this file on a server that the collection is copied to."""
    assert not [path for path in (ROOT / "plugins").rglob("*.py") if found_in(path.read_text(), canaries)]
