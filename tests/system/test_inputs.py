# SPDX-License-Identifier: GPL-3.0-or-later
"""Any string as user name and password: it gets to the provider as it was given, or is refused with the field's name.

Many accounts at once, each with a sender of its own, on each release with another type of table. The login test of the run itself
(preflight) and then Postfix log in with each; every key is looked up in the tables that Postfix has then.
"""

from __future__ import annotations

import json
import random
import re
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from system_lab import RELEASES, ROOT, run_playbook

sys.path.insert(0, str(ROOT / "tests" / "rig"))

from riglib.provider import setup_input  # noqa: E402  (needs the path set above)

MAP_TYPES = {"debian11": "hash", "debian12": "texthash", "debian13": "lmdb"}
#: What has meant something to Postfix, YAML, Jinja, a shell, SASL or a table at one time or another.
PASSWORDS = (
    *("#hash", "!bang", ":colon", "a b", "a  b", "$", "$$", "${x}", "$(x)", "{}", "{{ 7*7 }}", "{% raw %}", "\\", "\\n", '"quoted"', "'"),
    *("%s %%", "`id`", "é", "e\u0301", "日本", "\U0001f511", "x\u00a0y", "@ca_bundle@", "@sasl_a0@", "250", "true", "~", "0x1", "1e3"),
    *("[h]:587 a:b", "p" * 1000),
)
USERS = (
    *("a b", "$user", "${user}", "user@provider.test", "Großer.Name", "日本", "'quoted\"", "\\back", "{{ user }}", "a,b;c", "%u", "UPPER"),
    *("@", "-o", "a/b", "<x>"),
)
ALPHABET = (*map(chr, range(0x21, 0x7F)), " ", "\t", "\n", "\0", "\x85", "\xa0", "é", "ß", "\u0301", "\u2028", "\ufeff", "日", "\U0001f511", "\ud800")


def strings(seed: int, count: int) -> list[str]:
    source = random.Random(seed)
    return ["".join(source.choices(ALPHABET, k=source.randint(6, 24) * (source.random() < 0.95))) for _number in range(count)]


def credentials() -> tuple[list[tuple[str, str]], int]:
    """Pairs of user name and password that are taken, and how many of those at random were refused, with the field's name."""
    from ansible_collections.outpost.smtp.plugins.module_utils._smtp.relay import RelayError, normalise_relays

    fixed = [(f"{USERS[number % len(USERS)]}{number}", f"{password}~{number}") for number, password in enumerate(PASSWORDS)]
    taken, refused = [], 0
    for user, password in [*fixed, *zip(strings(1, 100), strings(2, 100))]:
        try:
            (relay,) = normalise_relays([{"host": "smtp.provider.test", "username": user, "password": password}])
        except RelayError as error:
            assert (user, password) not in fixed, error
            assert error.field.endswith((".username", ".password")) and (len(password) < 4 or password not in str(error))
            refused += 1
        else:
            assert (relay["username"], relay["password"]) == (user, password)
            taken.append((user, password))
    names = [user for user, _password in taken]
    # Dovecot's passwd-file has no way to write a name that begins like a comment; any other is the provider's to know.
    return [(user, password) for user, password in taken if names.count(user) == 1 and not user.startswith("#")], refused


def as_dovecot_asks(user: str) -> str:
    """A user name as Dovecot looks it up in its passwd-file."""
    return re.sub(r"(['\"\\])", r"\\\1", user)


#: The provider knows a user name as it is, whatever is in it; afterwards its own settings and accounts are back.
WIDE_OPEN = """
set -eu; cd /etc/dovecot; cp -p users users.kept; cp -p dovecot.conf dovecot.conf.kept
printf 'auth_username_chars =\\nauth_username_format = %%u\\n' >> dovecot.conf
sed 's/ \\({SSHA512}[^ ]*\\)$/:\\1/' >> users; systemctl reload dovecot
"""
RESTORED = "cd /etc/dovecot; mv users.kept users; mv dovecot.conf.kept dovecot.conf; systemctl reload dovecot"
#: Asks Postfix for the key of each relay's table; reads what is expected from standard input, so that it is no argument.
LOOK_UP = """
cat > /run/look_up.py <<'END'
import glob, json, os, re, stat, subprocess, sys
expected, wrong = json.load(sys.stdin), []
main = open("/etc/postfix/main.cf", encoding="utf-8").read()
for service, credential in expected.items():
    table = re.search("^" + service + "_sasl_password_maps = ([^ ]+) ", main, re.MULTILINE).group(1)
    asked = subprocess.run(["postmap", "-q", "smtp.provider.test", table], capture_output=True)
    if asked.stdout.decode() != credential + chr(10) or asked.stderr:
        wrong.append(service)
modes = {oct(stat.S_IMODE(os.stat(path).st_mode)) for path in glob.glob("/etc/postfix/outpost_smtp/*/sasl_*")}
print(json.dumps({"wrong": wrong, "type": table.split(":")[0], "modes": sorted(modes)}))
END
python3 /run/look_up.py
"""


@pytest.fixture
def open_provider(trio):
    with ThreadPoolExecutor() as pool:
        list(pool.map(trio.fresh_postfix, RELEASES))
    # Again if it is there already: what it puts into /etc/postfix has gone with the old one.
    trio.shell("apt-get install --yes --quiet --reinstall postfix-lmdb >/dev/null 2>&1", "debian13")
    accounts, refused = credentials()
    users = {str(number): {"username": as_dovecot_asks(user), "password": password} for number, (user, password) in enumerate(accounts)}
    trio.shell(WIDE_OPEN, "provider", input=setup_input(users))
    yield trio, accounts, refused
    trio.shell(RESTORED, "provider")


def test_any_user_name_and_password_gets_to_the_provider_or_is_refused(open_provider, tmp_path):
    lab, accounts, refused = open_provider
    assert refused > 30 and len(accounts) > 35
    relay = {"host": "smtp.provider.test", "port": 465, "ca_file": "/usr/local/share/rig-ca.pem"}
    relays = [
        {**relay, "name": f"a{number}", "username": user, "password": password, "senders": [f"s{number}@provider.test"]}
        for number, (user, password) in enumerate(accounts)
    ]
    relays.append({**relay, "name": "rest", "username": lab.accounts["alerts"]["username"], "password": lab.accounts["alerts"]["password"]})
    (tmp_path / "relays.json").write_text(json.dumps(relays))
    given = {
        # What a lookup returns is no template to Ansible, so braces in it are only braces.
        "outpost_smtp_relays": f"{{{{ lookup('ansible.builtin.file', '{tmp_path}/relays.json') | from_json }}}}",
        "postfix_relay_map_type": f"{{{{ {json.dumps(MAP_TYPES)}[inventory_hostname] }}}}",
        "postfix_relay_preflight": "always",
    }
    # One host after the other: all logins of a host are tried at once, within one deadline.
    run = run_playbook(lab, tmp_path, "playbooks/site.yml", given, "--tags", "postfix_relay", "--forks", "1")
    assert run.status == 0, [task["result"].get("msg") for task in run.tasks if task["status"] == "failed"] or run.output[-3000:]
    logins = {task["host"]: task["result"]["preflight"] for task in run.tasks if task["result"].get("preflight")}
    assert {host: [one["ok"] for one in results] for host, results in logins.items()} == dict.fromkeys(RELEASES, [True] * len(relays))

    expected = json.dumps({f"outpost_a{number}": f"{user}:{password}" for number, (user, password) in enumerate(accounts)})
    with ThreadPoolExecutor() as pool:
        looked_up = dict(zip(RELEASES, pool.map(lambda host: json.loads(lab.shell(LOOK_UP, host, input=expected).stdout), RELEASES)))
    assert looked_up == {host: {"wrong": [], "type": map_type, "modes": ["0o600"]} for host, map_type in MAP_TYPES.items()}
