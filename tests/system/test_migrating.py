# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/migrating.md, run as it stands there: its variables and its commands, on hosts that were set up in other ways."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from concurrent.futures import ThreadPoolExecutor

import old_styles
import pytest
import yaml
from mail_count import await_queue, await_received, end_of_stream, received, send, stream
from system_lab import ROOT

PAGE = ROOT / "docs" / "migrating.md"
#: The hosts of the page, and those of the lab that stand for them.
HOSTS = {"web1": "debian11", "web2": "debian12", "web3": "debian13"}
STYLES = {"web1": old_styles.BY_HAND, "web2": old_styles.WHOLE_FILE, "web3": old_styles.SINGLE_LINES}
#: The lab's CA among the system's, as that of a real provider is.
_TRUST = """set -e
cd /etc/ssl/certs
cp --no-clobber ca-certificates.crt /root/ca-certificates.crt
cat /root/ca-certificates.crt /usr/local/share/rig-ca.pem >ca-certificates.crt
ln -sf /usr/local/share/rig-ca.pem $(openssl x509 -hash -noout -in /usr/local/share/rig-ca.pem).0
"""
_DISTRUST = "cd /etc/ssl/certs; cp /root/ca-certificates.crt .; rm $(openssl x509 -hash -noout -in /usr/local/share/rig-ca.pem).0"
_CONFIGURATION = "cd /etc/postfix && find . -type f -exec sha256sum {} + | sort"


class Page:
    """The commands and the variables of the page by section, as an administrator has them in a directory of theirs."""

    def __init__(self, directory, lab) -> None:
        self._directory = directory
        self._text = PAGE.read_text().replace("example.net", "provider.test")
        self._environment = self._as_an_administrator(lab)
        self.not_run = re.findall(r"^(?:ansible|ansible-playbook) .*$", self._text, re.MULTILINE)

    def _as_an_administrator(self, lab) -> dict[str, str]:
        inventory = yaml.safe_load((lab.state / "inventory.yml").read_text())["all"]
        hosts = {name: {"ansible_host": lab.address(host)} for name, host in HOSTS.items()}
        (self._directory / "inventory.yml").write_text(json.dumps({"all": {"vars": inventory["vars"], "hosts": hosts}}))
        (self._directory / "group_vars/all").mkdir(parents=True)
        passwords = {"smtp": "alerts", "billing": "billing", "imap": "inbox"}
        vault = {f"vault_{name}_password": lab.accounts[account]["password"] for name, account in passwords.items()}
        (self._directory / "group_vars/all/vault.yml").write_text(json.dumps(vault))
        return {
            **os.environ,
            "PATH": f"{ROOT / '.dev/venv/bin'}:{os.environ['PATH']}",
            "ANSIBLE_CONFIG": str(ROOT / "tests" / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".dev" / "collections"),
            "ANSIBLE_INVENTORY": str(self._directory / "inventory.yml"),
        }

    def section(self, title: str) -> str:
        return re.split(rf"^## .*{re.escape(title)}$", self._text, flags=re.MULTILINE)[1].split("\n## ")[0]

    def write_variables(self, title: str) -> None:
        """Every YAML block of a section, to the file that its first line names."""
        for path, text in re.findall(r"^```yaml\n# (\S+)\n(.*?)^```$", self.section(title), re.MULTILINE | re.DOTALL):
            file = self._directory / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)

    def run(self, title: str, containing: str = "") -> list[str]:
        """Run the commands of a section that contain a text; what each printed. All of them must succeed."""
        commands = [line for line in self.section(title).splitlines() if line in self.not_run and containing in line]
        assert commands, (title, containing)
        printed = []
        for command in commands:
            self.not_run.remove(command)
            options = {"cwd": self._directory, "env": self._environment, "capture_output": True, "text": True}
            done = subprocess.run(shlex.split(command), check=False, **options)
            if done.returncode != 0:
                pytest.fail(f"{command}\n{done.stdout}{done.stderr}")
            printed.append(done.stdout)
        return printed


def everywhere(work) -> list:
    with ThreadPoolExecutor() as pool:
        return list(pool.map(work, HOSTS))


def authenticated_as(lab, name: str) -> str:
    """The account by which a message came to the provider."""
    script = f"grep -rlx 'Subject: count {name}' /var/mail/inbox/Maildir | xargs grep -hoP '(?<=Authenticated sender: )[^)]*'"
    return lab.shell(script, "provider").stdout.strip()


@pytest.fixture(scope="module")
def page(trio, tmp_path_factory):
    def set_up(name: str) -> None:
        old_styles.set_up(trio, HOSTS[name], STYLES[name])
        trio.shell(_TRUST, HOSTS[name])

    everywhere(set_up)
    yield Page(tmp_path_factory.mktemp("administrator"), trio)
    everywhere(lambda name: trio.shell(_DISTRUST, HOSTS[name]))


def test_the_page(page, trio):
    def waiting_mail(name: str) -> list[str]:
        """Mail that can not leave now, one with the second account's sender on the host that has one."""
        names = [send(trio, HOSTS[name], f"{name}-{number}") for number in (1, 2)]
        return names + ([send(trio, HOSTS[name], f"{name}-billing", "billing@provider.test")] if name == "web1" else [])

    before = dict(zip(HOSTS, everywhere(lambda name: trio.shell(_CONFIGURATION, HOSTS[name]).stdout)))
    trio.shell("systemctl stop postfix", "provider")
    try:
        waiting = dict(zip(HOSTS, everywhere(waiting_mail)))
        everywhere(lambda name: await_queue(trio, HOSTS[name], *["deferred"] * len(waiting[name])))
    finally:
        trio.shell("systemctl start postfix", "provider")
    everywhere(lambda name: stream(trio, HOSTS[name], f"{name}-stream"))

    findings, queues = page.run("1. Look")
    assert queues.count("(connect to smtp.provider.test") >= sum(map(len, waiting.values()))
    assert "lint_" in findings and trio.accounts["alerts"]["password"] not in findings

    page.write_variables("2. Describe")
    predicted, done = page.run("3. Take over one host", "--limit web1")
    assert everywhere(lambda name: "outpost" in trio.shell("cat /etc/postfix/main.cf", HOSTS[name]).stdout) == [True, False, False]
    assert "web1: OK, the message arrived" in done
    assert "+default_transport = " in predicted and not re.search(r"^-[^-]", predicted, re.MULTILINE), "only additions"
    page.run("3. Take over one host", "ansible web1 ")
    await_received(trio, waiting["web1"])
    assert authenticated_as(trio, waiting["web1"][-1]) == "billing@provider.test"

    # Its smtp_generic_maps make a sender of this one that the provider takes.
    await_received(trio, [send(trio, HOSTS["web1"], "web1-generic", sender="root")])
    page.run("3. Take over one host")
    await_received(trio, [name for names in waiting.values() for name in names])

    page.run("4. The way back", "remove")
    assert trio.shell(_CONFIGURATION, HOSTS["web3"]).stdout == before["web3"]
    await_received(trio, [send(trio, HOSTS["web3"], "web3-back")])
    page.run("4. The way back")

    # The old role runs once more, on the host whose main.cf it owns; the run of site.yml in this section repairs that.
    template = old_styles.WHOLE_FILE.files["/etc/postfix/main.cf"].replace("NAME", HOSTS["web2"])
    trio.shell("cat >/etc/postfix/main.cf", HOSTS["web2"], input=template)
    page.write_variables("5. Remove what is left")
    page.run("5. Remove what is left", "site")
    page.run("5. Remove what is left", "ansible web1 ")
    page.run("5. Remove what is left")
    assert page.not_run == []

    sent = [name for names in everywhere(lambda name: end_of_stream(trio, HOSTS[name], f"{name}-stream")) for name in names]
    everywhere(lambda name: await_queue(trio, HOSTS[name]))
    await_received(trio, sent)
    assert max(received(trio).values()) == 1
    for name in HOSTS:
        search = "grep --recursive --files-with-matches --binary-files=text --fixed-strings --file=- /etc/postfix"
        tables = trio.shell(search, HOSTS[name], input=trio.accounts["alerts"]["password"]).stdout.split()
        assert [path for path in tables if "/outpost_smtp/" not in path] == [], name
