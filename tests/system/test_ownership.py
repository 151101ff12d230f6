# SPDX-License-Identifier: GPL-3.0-or-later
"""Who owns what: an administrator's files come back byte for byte, no secret stays, and instances are kept apart."""

from __future__ import annotations

import json
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from system_lab import RELEASES, run_playbook, variables

#: Entries that span lines, comments inside of them, one given twice, and no newline at the end; master.cf likewise.
HAND_MADE = """
cat > /etc/postfix/main.cf <<'END'
# Ours since 2009, do not touch
compatibility_level = 2
queue_directory = /var/spool/postfix
inet_interfaces = loopback-only
myhostname=old.example.org
myhostname = mail.example.org

smtp_sasl_password_maps = inline:{ {[other.example.org]:587 = someone:CANARY-OF-THE-ADMINISTRATOR},
    # inside
    {[more.example.org]:587 = someone:CANARY-OF-THE-ADMINISTRATOR} }
default_transport = smtp:[other.example.org]:587
mydestination = $myhostname,
   # a comment inside of the value

   localhost
END
printf 'biff = no' >> /etc/postfix/main.cf
printf '# the end\nspare unix - - n - - smtp\n  -o smtp_helo_name=$myhostname' >> /etc/postfix/master.cf
systemctl restart postfix
"""
#: Kept at no moment but while it is set up: debian11 has no main.cf, the others one made by hand.
STATE = """
cd /etc; find postfix -printf '%p %y %m %u %g %l\\n' | sort; find postfix -type f -exec sha256sum {} + | sort
find /etc -name '*outpost*' -o -name '.*outpost*'; dpkg-query -W postfix
postfix status >/dev/null 2>&1 && echo running || echo stopped
"""
PLACES = "/etc /var /tmp /root /run /home /usr/local /opt /srv /dev/shm"
SEARCH = f"""
p=$(cat); grep -r -l -a -F --file=<(printf '%s' "$p") {PLACES} 2>/dev/null || :
journalctl --all --no-pager --output=export | grep -a -c -F --file=<(printf '%s' "$p") | sed '/^0$/d; s/$/ lines of the journal/'
"""


def on_each(lab, script: str, **options) -> dict[str, str]:
    with ThreadPoolExecutor() as pool:
        return dict(zip(RELEASES, pool.map(lambda host: lab.shell(script, host, **options).stdout, RELEASES)))


def relay_of(lab, account: str, **more) -> dict:
    return {"outpost_smtp_relays": variables(lab, account)["outpost_smtp_relays"], **more}


def play(lab, tmp_path, playbook: str, given: dict, *options: str):
    run = run_playbook(lab, tmp_path, playbook, given, *options, hosts="servers")
    assert run.status == 0, [task["result"].get("msg") for task in run.tasks if task["status"] == "failed"] or run.output[-3000:]
    return run


def diffs(run) -> dict:
    return {(task["host"], task["task"]): task["diff"] for task in run.tasks if task["changed"]}


@pytest.fixture
def postfixes(trio):
    """Every release with its Postfix as the package brings it, without a main.cf."""
    with ThreadPoolExecutor() as pool:
        list(pool.map(trio.fresh_postfix, RELEASES))
    return trio


def test_absent_gives_back_what_was_there_and_leaves_no_secret(postfixes, tmp_path):
    lab = postfixes
    for host in ("debian12", "debian13"):
        lab.shell(HAND_MADE, host)
    before = on_each(lab, STATE)
    assert [before[host].splitlines()[-1] for host in RELEASES] == ["stopped", "running", "running"]
    canary = lab.accounts["canary"]["password"][-32:]

    given = relay_of(lab, "canary", postfix_relay_exclusive="{{ inventory_hostname == 'debian13' }}")
    given["postfix_relay_map_type"] = "{{ 'hash' if inventory_hostname == 'debian12' else 'texthash' }}"
    first = play(lab, tmp_path, "playbooks/site.yml", given, "--tags", "postfix_relay", "--diff")
    assert {task["host"] for task in first.tasks if task["changed"]} == set(RELEASES)
    again = play(lab, tmp_path, "playbooks/site.yml", given, "--tags", "postfix_relay")
    assert not again.changed(), again.output
    in_force = on_each(lab, "postconf -n -h mydestination smtp_sasl_password_maps 2>/dev/null || :")
    assert "CANARY-OF-THE-ADMINISTRATOR" in in_force["debian12"] and "CANARY-OF-THE-ADMINISTRATOR" not in in_force["debian13"]
    holders = on_each(lab, SEARCH, input=canary)
    assert [len(found.split()) for found in holders.values()] == [1, 2, 1], "the search finds what is there, and a built map has it, too"
    assert all(path.startswith("/etc/postfix/outpost_smtp/") for found in holders.values() for path in found.splitlines()), holders

    # A run that was killed has left its journal, a stage and half a generation.
    on_each(lab, "cd /etc/postfix/outpost_smtp; cp -r [0-9]* 99; mkdir -m 700 stage; cp */sasl_* stage/ 2>/dev/null || cp -r 99/. stage/")
    predicted = play(lab, tmp_path, "playbooks/remove.yml", {}, "--check", "--diff")
    real = play(lab, tmp_path, "playbooks/remove.yml", {}, "--diff")
    assert real.changed() and predicted.changed() == real.changed()
    assert diffs(predicted) == diffs(real)
    assert not play(lab, tmp_path, "playbooks/remove.yml", {}).changed()

    assert on_each(lab, STATE) == before
    assert not any(on_each(lab, SEARCH, input=canary).values())
    for run in (first, predicted, real):
        assert canary not in run.output and "CANARY-OF-THE-ADMINISTRATOR" not in run.output


NEW_INSTANCE = """
printf 'compatibility_level = 2\\ninet_interfaces = loopback-only\\n' > /etc/postfix/main.cf
rm -rf /etc/postfix-out /var/lib/postfix-out /var/spool/postfix-out
systemctl restart postfix
postmulti -e init; postmulti -I postfix-out -e create; postmulti -i postfix-out -e enable
systemctl daemon-reload
postconf -c /etc/postfix-out -e 'authorized_submit_users = root' 'inet_interfaces = all' 'relayhost = [nowhere.example.org]'
unit=postfix@out; [ -e /lib/systemd/system-generators/postfix-instance-generator ] && unit=postfix@postfix-out
systemctl start $unit; echo $unit
"""
PROCESS = "tr -d ' ' < /var/spool/{}/pid/master.pid"


def send(lab, host: str, directory: str, sender: str) -> str:
    """Send a message by an instance and return its Message-ID."""
    name = f"{uuid.uuid4().hex}@{host}.test"
    script = f"printf 'Message-ID: <{name}>\\n\\ntext\\n' | sendmail -C {directory} -f {sender} inbox@provider.test"
    lab.shell(script, host)
    return name


def logins(lab, names: list[str]) -> dict[str, str]:
    """Who logged in at the provider to send each message; waits until it has all of them."""
    script = """
for name in {names}; do
    timeout 30 sh -c "until grep -q 'message-id=<$name>' /var/log/mail.log; do sleep 0.2; done"
    queue=$(sed -n "s/.*cleanup[^:]*: \\\\([0-9A-Za-z]*\\\\): message-id=<$name>.*/\\\\1/p" /var/log/mail.log | head -n 1)
    echo "$name $(sed -n "s/.*smtpd[^:]*: $queue: .*sasl_username=//p" /var/log/mail.log)"
done
"""
    return dict(line.split() for line in lab.shell(script.replace("{names}", " ".join(names)), "provider").stdout.splitlines())


def test_each_instance_has_its_own_relay_and_service(postfixes, tmp_path):
    lab = postfixes
    units = {host: output.split()[-1] for host, output in on_each(lab, NEW_INSTANCE).items()}
    play(lab, tmp_path, "playbooks/site.yml", relay_of(lab, "alerts"), "--tags", "postfix_relay")
    default, instance = on_each(lab, PROCESS.format("postfix")), on_each(lab, PROCESS.format("postfix-out"))
    kept = on_each(lab, "sha256sum /etc/postfix/*.cf")

    given = relay_of(lab, "billing", postfix_relay_config_directory="/etc/postfix-out", postfix_relay_exclusive=True)
    play(lab, tmp_path, "playbooks/site.yml", given, "--tags", "postfix_relay")
    assert not play(lab, tmp_path, "playbooks/site.yml", given, "--tags", "postfix_relay").changed()
    assert on_each(lab, "sha256sum /etc/postfix/*.cf") == kept
    assert on_each(lab, PROCESS.format("postfix")) == default, "the default instance was not restarted"
    for host in RELEASES:
        assert lab.shell(PROCESS.format("postfix-out"), host).stdout != instance[host], "inet_interfaces needs a restart"
        assert lab.shell(f"systemctl is-active {units[host]}", host).stdout == "active\n"
        listed = lab.shell("postmulti -l; postconf -c /etc/postfix-out -h relayhost inet_interfaces master_service_disable", host).stdout.splitlines()
        assert listed[1].split()[-1] == "/etc/postfix-out" and listed[2:] == ["", "loopback-only", "inet"]

    sent = {}
    for host in RELEASES:
        sent[send(lab, host, "/etc/postfix", "alerts@provider.test")] = "alerts@provider.test"
        sent[send(lab, host, "/etc/postfix-out", "billing@provider.test")] = "billing@provider.test"
    assert logins(lab, list(sent)) == sent

    play(lab, tmp_path, "playbooks/remove.yml", {"postfix_relay_config_directory": "/etc/postfix-out"})
    assert set(on_each(lab, "postconf -c /etc/postfix-out -h relayhost").values()) == {"[nowhere.example.org]\n"}
    assert on_each(lab, "sha256sum /etc/postfix/*.cf") == kept


def test_a_directory_that_is_no_instance_is_refused(postfixes, tmp_path):
    given = relay_of(postfixes, "alerts", postfix_relay_config_directory="/etc")
    run = run_playbook(postfixes, tmp_path, "playbooks/site.yml", given, "--tags", "postfix_relay", hosts="debian13")
    assert run.status != 0, run.output
    assert "config_directory: /etc is no Postfix instance of this host; they are /etc/postfix" in json.dumps(run.tasks)
    assert "outpost" not in postfixes.shell("ls /etc", "debian13").stdout
