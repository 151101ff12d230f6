# SPDX-License-Identifier: GPL-3.0-or-later
"""Any string as user name, password, host or sender: it gets to the provider as it was given, or is refused with the field's name.

Many accounts at once, each with a sender of its own, on each release with another type of table. The login test of the run itself
(preflight) and then Postfix, with a message of each sender, log in with each; every key is looked up in the tables that Postfix has then.
"""

from __future__ import annotations

import json
import random
import re
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from mail_count import RUN, await_received
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
#: Senders as they are in the list, and as they are in the envelope where that is something else.
SENDERS = {
    **dict.fromkeys(("O'Brien&Co=?^~_*@Provider.Test", "_@provider.test", "a+b+c@provider.test", "a..b@provider.test", "end.@x-1.provider.test")),
    **{"@sub.Provider.test": "anybody@sub.provider.test", "daemon": "daemon", "xn--caf-dma@xn--caf-dma.test": "XN--CAF-DMA@xn--caf-dma.TEST"},
}
ALPHABET = (*map(chr, range(0x21, 0x7F)), " ", "\t", "\n", "\0", "\x85", "\xa0", "é", "ß", "\u0301", "\u2028", "\ufeff", "日", "\U0001f511", "\ud800")
NAMES = "abzAZ09" * 12 + "...--@@:_+[]%&*/ \n\0é"


def strings(seed: int, count: int, alphabet=ALPHABET) -> list[str]:
    source = random.Random(seed)
    return ["".join(source.choices(alphabet, k=source.randint(6, 24) * (source.random() < 0.95))) for _number in range(count)]


def normalised(**fields):
    """The relay with these fields, or the field that it is refused for."""
    from ansible_collections.outpost.smtp.plugins.module_utils._smtp.relay import RelayError, normalise_relays

    try:
        (relay,) = normalise_relays([{"host": "smtp.provider.test", "server_name": "smtp.provider.test", "username": "u", "password": "p", **fields}])
    except RelayError as error:
        assert "password" not in fields or len(fields["password"]) < 4 or fields["password"] not in str(error)
        return error.field.rpartition(".")[2]
    return relay


def credentials() -> tuple[list[tuple[str, str]], int]:
    """Pairs of user name and password that are taken, and how many of those at random were refused, with the field's name."""
    fixed = [(f"{USERS[number % len(USERS)]}{number}", f"{password}~{number}") for number, password in enumerate(PASSWORDS)]
    # What is masked because of these is part of almost everything that a server says.
    fixed += [(f"short{number}", password) for number, password in enumerate("eA.5=-")]
    taken, refused = [], 0
    for user, password in [*fixed, *zip(strings(1, 100), strings(2, 100))]:
        relay = normalised(username=user, password=password)
        if isinstance(relay, str):
            assert (user, password) not in fixed and relay in ("username", "password")
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


#: The provider knows a user name as it is, whatever is in it, and takes any sender from each; afterwards it is as before.
WIDE_OPEN = """
set -eu; cd /etc/dovecot; cp -p users users.kept; cp -p dovecot.conf dovecot.conf.kept
printf 'auth_username_chars =\\nauth_username_format = %%u\\n' >> dovecot.conf
sed 's/ \\({SSHA512}[^ ]*\\)$/:\\1/' >> users; systemctl reload dovecot
cp -p /etc/postfix/main.cf /root/main.cf.kept
postconf -e smtpd_sender_restrictions= smtpd_client_connection_count_limit=0; postfix reload
"""
RESTORED = """
cd /etc/dovecot; mv users.kept users; mv dovecot.conf.kept dovecot.conf; systemctl reload dovecot
cp -p /root/main.cf.kept /etc/postfix/main.cf; postfix reload
"""
#: Asks Postfix for the key of each relay's table; reads what is expected from standard input, so that it is no argument.
LOOK_UP = """
cat > /run/look_up.py <<'END'
import glob, json, os, re, stat, subprocess, sys
expected, wrong = json.load(sys.stdin), []
main = open("/etc/postfix/main.cf", encoding="utf-8").read()
for service, (key, credential) in expected.items():
    table = re.search("^" + service + "_sasl_password_maps = ([^ ]+) ", main, re.MULTILINE).group(1)
    asked = subprocess.run(["postmap", "-q", key, table], capture_output=True)
    if asked.stdout.decode() != credential + chr(10) or asked.stderr:
        wrong.append(service)
modes = {oct(stat.S_IMODE(os.stat(path).st_mode)) for path in glob.glob("/etc/postfix/outpost_smtp/*/sasl_*")}
print(json.dumps({"wrong": wrong, "type": table.split(":")[0], "modes": sorted(modes)}))
END
python3 /run/look_up.py
"""
#: What a table has for keys; both come by standard input, with an empty line between.
ASK_TABLE = """
rm -rf /run/asked; mkdir /run/asked; cd /run/asked; touch main.cf; cat >given
sed '1,/^$/d' given >table; sed '/^$/,$d' given | postmap -c . -q - texthash:/run/asked/table
"""
SEND = """
import json, subprocess, sys
for name, sender in json.load(sys.stdin).items():
    text = "Subject: count " + name + chr(10) + chr(10)
    subprocess.run(["sendmail", "-f", sender, "inbox@provider.test"], input=text.encode(), check=True)
"""
#: The letters and digits of who logged in to send each message, by its name: a header has not all that a user name may have.
SENT_BY = """
import json, pathlib, re
found = {}
for path in filter(pathlib.Path.is_file, pathlib.Path("/var/mail/inbox/Maildir").rglob("*")):
    head = path.read_bytes().partition(b"\\n\\n")[0]
    name = re.search(rb"^Subject: count (\\S+)$", head, re.MULTILINE)
    user = re.search(rb"Authenticated sender: (.*)\\)\\n", head)
    if name and user:
        found[name[1].decode()] = re.sub(rb"[^A-Za-z0-9]+", b"", user[1]).decode()
print(json.dumps(found))
"""


@pytest.fixture
def open_provider(trio):
    with ThreadPoolExecutor() as pool:
        list(pool.map(trio.fresh_postfix, RELEASES))
    # The role is to install it; and what it puts into /etc/postfix has gone with the old one.
    trio.shell("dpkg --purge postfix-lmdb 2>&1", "debian13")
    accounts, refused = credentials()
    users = {str(number): {"username": as_dovecot_asks(user), "password": password} for number, (user, password) in enumerate(accounts)}
    trio.shell(WIDE_OPEN, "provider", input=setup_input(users))
    yield trio, accounts, refused
    trio.shell(RESTORED, "provider")


def relays_of(lab, accounts) -> tuple[list[dict], list[str]]:
    """A relay for each account, with its server written in every way and a sender of its own; and those senders in an envelope."""
    address, named = lab.address("provider"), {"server_name": "smtp.provider.test"}
    servers = [{"host": name} for name in ("smtp.provider.test", "SMTP.Provider.Test.", "imap.provider.test")]
    servers += [{"host": name, **named} for name in (address, f"::ffff:{address}")]
    senders = [*SENDERS.items(), *((f"s{number}@provider.test", None) for number in range(len(SENDERS), len(accounts)))]
    relays = [
        {**servers[number % len(servers)], "name": f"a{number}", "username": user, "password": password, "senders": [senders[number][0]]}
        for number, (user, password) in enumerate(accounts)
    ]
    relays.append({**servers[0], "name": "rest", **lab.accounts["alerts"]})
    ca = {"port": 465, "ca_file": "/usr/local/share/rig-ca.pem"}
    return [{**relay, **ca} for relay in relays], [written or sender for sender, written in senders]


def test_any_user_name_and_password_gets_to_the_provider_or_is_refused(open_provider, tmp_path):
    lab, accounts, refused = open_provider
    assert refused > 30 and len(accounts) > 35
    relays, senders = relays_of(lab, accounts)
    (tmp_path / "relays.json").write_text(json.dumps(relays))
    given = {
        # What a lookup returns is no template to Ansible, so braces in it are only braces.
        "outpost_smtp_relays": f"{{{{ lookup('ansible.builtin.file', '{tmp_path}/relays.json') | from_json }}}}",
        "postfix_relay_map_type": f"{{{{ {json.dumps(MAP_TYPES)}[inventory_hostname] }}}}",
        "postfix_relay_preflight": "always",
        "postfix_relay_preflight_timeout": 120,
    }
    # One host after the other: all logins of a host are tried at once, within one deadline.
    run = run_playbook(lab, tmp_path, "playbooks/site.yml", given, "--tags", "postfix_relay", "--forks", "1")
    assert run.status == 0, [task["result"].get("msg") for task in run.tasks if task["status"] == "failed"] or run.output[-3000:]
    logins = {task["host"]: task["result"]["preflight"] for task in run.tasks if task["result"].get("preflight")}
    services = {f"outpost_{relay['name']}" for relay in relays}
    assert {host: {one["name"] for one in results if one["ok"]} for host, results in logins.items()} == dict.fromkeys(RELEASES, services)

    keys = [normalised(host=relay["host"])["host"] for relay in relays]
    expected = {f"outpost_a{number}": (keys[number], f"{user}:{password}") for number, (user, password) in enumerate(accounts)}
    looked_up = on_each(lab, LOOK_UP, dict.fromkeys(RELEASES, expected))
    assert looked_up == {host: {"wrong": [], "type": map_type, "modes": ["0o600"]} for host, map_type in MAP_TYPES.items()}

    messages = {host: {f"{RUN}-input-{host}-{number}": sender for number, sender in enumerate(senders)} for host in RELEASES}
    on_each(lab, f"cat >/run/send.py <<'END'{SEND}END\npython3 /run/send.py; echo null", messages)
    await_received(lab, [name for sent in messages.values() for name in sent])
    sent_by = json.loads(lab.shell(f"python3 - <<'END'{SENT_BY}END", "provider").stdout)
    for host in RELEASES:
        for number, (user, _password) in enumerate(accounts):
            assert sent_by[f"{RUN}-input-{host}-{number}"] == re.sub("[^A-Za-z0-9]+", "", user), (host, senders[number], user)


def on_each(lab, script: str, given: dict) -> dict:
    """What a script that reads and prints JSON says on each release."""
    with ThreadPoolExecutor() as pool:
        return dict(zip(RELEASES, pool.map(lambda host: json.loads(lab.shell(script, host, input=json.dumps(given[host])).stdout), RELEASES)))


def test_any_host_and_sender_is_a_key_as_it_was_given_or_is_refused(trio):
    from ansible_collections.outpost.smtp.plugins.module_utils._postfix.transports import transports

    hosts = {relay["host"]: text for text in strings(3, 400, NAMES) for relay in [normalised(host=text)] if relay != "host"}
    senders = {text.lower(): text for text in strings(4, 400, NAMES) if normalised(senders=[text]) != "senders"}
    assert len(hosts) > 20 and len(senders) > 20
    many = [{**normalised(host=host), "name": f"a{number}", "senders": [f"s{number}"]} for number, host in enumerate(hosts)]
    table = "".join(transports([*many, normalised(name="rest")], "relays")["secret_tables"].values())
    for key in hosts:
        assert f"{key} u:p\n" in table
    routes = transports([normalised(name="one", senders=list(senders.values())), normalised(name="rest")], "relays")["senders"]
    table += "".join(f"{route['sender']} {route['transport']}\n" for route in routes)

    expected = "".join(f"{key}\tu:p\n" for key in hosts) + "".join(f"{text}\toutpost_one:[smtp.provider.test]:587\n" for text in senders.values())
    keys = "".join(f"{key}\n" for key in [*hosts, *senders.values()])
    for host in RELEASES:
        assert trio.shell(ASK_TABLE, host, input=f"{keys}\n{table}").stdout == expected, host


#: Parameters whose value is any text to Postfix, none of which is used here.
VALUES = {
    "mail_name": "a, b = c {x} \"q\" 'q' \\ é 日本 @",
    "smtpd_banner": "# no comment $$ ${mail_name?{yes}:{no}} -o x=y",
    "double_bounce_sender": "=",
    "error_notice_recipient": "$mail_owner",
}


def test_a_value_of_main_cf_is_what_was_given(trio, tmp_path):
    with ThreadPoolExecutor() as pool:
        list(pool.map(trio.fresh_postfix, RELEASES))
    text = "".join(f"{name} = \t {value}\n" for name, value in VALUES.items())
    play = {
        **{"hosts": ",".join(RELEASES), "gather_facts": False},
        "tasks": [
            {"outpost.smtp.postfix_config": {"parameters": "{{ text }}", "services": "a unix - - n - - smtp\n  -o { mail_name = { x, # y } }\n"}},
            {"ansible.builtin.command": {"argv": ["postconf", "-h", *VALUES]}},
            {"ansible.builtin.command": {"argv": ["postconf", "-P", "a/unix/mail_name"]}},
        ],
    }
    (tmp_path / "play.yml").write_text(json.dumps([play]))
    given = {"text": f"{{{{ lookup('ansible.builtin.file', '{tmp_path}/text', rstrip=false) }}}}"}
    (tmp_path / "text").write_text(text)
    run = run_playbook(trio, tmp_path, str(tmp_path / "play.yml"), given)
    assert run.status == 0, run.output
    printed = [task["result"]["stdout"] for task in run.tasks if "stdout" in task["result"]]
    assert printed == ["\n".join(VALUES.values())] * 3 + ["a/unix/mail_name = { x, # y }"] * 3
