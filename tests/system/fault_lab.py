# SPDX-License-Identifier: GPL-3.0-or-later
"""What the fault tests need of a lab: the collection on its servers, their file systems, reboots, and what the provider got."""

from __future__ import annotations

import collections
import contextlib
import io
import itertools
import json
import re
import secrets
import subprocess
import sys
import tarfile
import threading
import time
import typing as t
from pathlib import Path

import ansible
from mail_count import await_that
from system_lab import RESTART, ROOT

sys.path.insert(0, str(ROOT / "tests" / "rig"))

from riglib import containers, runtime  # noqa: E402  (needs the path set above)

PLUGINS = ROOT / "plugins"
HERE = "/opt/faults"
CA = "/usr/local/share/rig-ca.pem"


#: An administrator's own main.cf, with which mail for the provider's users goes to its port 25, without a login.
OLD_MAIN = """\
compatibility_level = 2
relayhost = [smtp.provider.test]:25
inet_interfaces = loopback-only
mydestination =
alias_maps =
"""
#: The two ends of every change: what the administrator has, and nothing at all.
ABSENT = {"name": "nothing", "transport": None, "login": None, "options": {"state": "absent"}}


_SECOND_PASSWORD = """
cat > /etc/dovecot/more-users; chown root:dovecot /etc/dovecot/more-users; chmod 640 /etc/dovecot/more-users
cp -p /etc/dovecot/dovecot.conf /etc/dovecot/dovecot.conf.faults
printf 'passdb {\\n driver = passwd-file\\n args = username_format=%%u /etc/dovecot/more-users\\n}\\n' >> /etc/dovecot/dovecot.conf
doveadm reload
"""


class Faults:
    """A lab under test, and the messages that were handed in on its servers so far."""

    def __init__(self, lab) -> None:
        self.lab = lab
        self.mark = f"fault-{secrets.token_hex(3)}"
        self.sent: list[str] = []
        self._second = secrets.token_urlsafe(18)
        self._count = itertools.count(1)
        self._changing = threading.Lock()
        self.account = {"sender": lab.accounts["alerts"]["username"], "recipient": lab.accounts["inbox"]["username"]}

    def relay(self, **fields) -> dict:
        return relay_options({**self.lab.accounts["alerts"], **fields.pop("account", {})}, **fields)

    def new_password(self) -> dict:
        """The account with the second of the passwords that it has within two_passwords()."""
        return {"password": self._second}

    @contextlib.contextmanager
    def two_passwords(self) -> t.Iterator[None]:
        """Let the provider take two passwords for one account, as one does that is being given a new one."""
        line = f"{self.lab.accounts['alerts']['username']}:{{PLAIN}}{self._second}\n"
        self.lab.shell(_SECOND_PASSWORD, "provider", input=line)
        yield
        self.lab.shell("mv /etc/dovecot/dovecot.conf.faults /etc/dovecot/dovecot.conf; doveadm reload", "provider")

    def kept_and_reverted(self) -> tuple[dict, dict]:
        """A change that keeps what was before, and the way back."""
        old, new = self.relay(), self.relay(name="second", port=587)
        kept = {**new, "options": {**new["options"], "keep_previous": True}}
        return {**old, "name": "reverted", "options": {"state": "reverted"}}, kept

    def prepare(self, host: str) -> None:
        """What a server needs for all tests of a file: the code, and Postfix, which a test may have taken away."""
        install_code(self.lab, host)
        self.lab.shell("dpkg --status postfix >/dev/null 2>&1 || rm -f /root/pristine.tar", host)
        self.lab.fresh_postfix(host)

    def begin(self, host: str, main: str = OLD_MAIN) -> None:
        """A server as an administrator has it, with Postfix at work; or, without a main.cf, as it was just installed."""
        self.lab.fresh_postfix(host)
        if main:
            self.lab.shell(f"cat > /etc/postfix/main.cf; {RESTART}", host=host, input=main)

    def queue_up(self, host: str, number: int = 5) -> None:
        """Begin with messages that were to be sent later, before any of our runs."""
        self.begin(host, f"{OLD_MAIN}default_transport = retry:later\n")
        for _number in range(number):
            self.mail(host, daemon=False)
        self.lab.shell(f"until [ $(find /var/spool/postfix/deferred -type f | wc -l) = {number} ]; do sleep 0.1; done", host)
        self.lab.shell("cat > /etc/postfix/main.cf; postfix reload", host, input=OLD_MAIN)

    def drive(self, host: str, command: str, bare: bool = False, **request) -> dict:
        mark = f"{self.mark}-{next(self._count)}-{host}"
        report = drive(self.lab, host, {"command": command, "mark": mark, "account": self.account, **request}, bare)
        with self._changing:
            self.sent += report.get("sent", [])
        return report

    def run(self, host: str, side: dict, check: bool = False, at: str = "", script: str = "", kill: bool = False, bare: bool = False, **options):
        """Run the module; do ``script`` before its first effect that matches ``at``, and with ``kill`` end it there.

        Returns its result, None when it was killed. ``bare``: without systemd and /proc.
        """
        options = {**side["options"], **options}
        result = self.drive(host, "run", bare=bare, options=options, check=check, at=at, script=script, kill=kill)["result"]
        told = json.dumps(result, ensure_ascii=False)
        assert not [password for password in (self.lab.accounts["alerts"]["password"], self._second) if password in told], "the result holds a secret"
        return result

    def set_up(self, host: str, side: dict, **options) -> dict:
        """Run the module, which must succeed."""
        result = self.run(host, side, **options)
        assert not result.get("failed"), result["msg"]
        return result

    def refused(self, host: str, side: dict, **options) -> str:
        """Run the module, which must fail; what it says."""
        result = self.run(host, side, **options)
        assert result.get("failed"), f"{side['name']} should have failed"
        return result["msg"]

    def mail(self, host: str, *sides: dict, daemon: bool = True, deliver: bool = False) -> None:
        """Mail works on a server, as one of ``sides`` wants it; with ``deliver``, all that is queued gets away."""
        self.drive(host, "mail", sides=sides, daemon=daemon, deliver=deliver)

    def heals(self, host: str, side: dict) -> None:
        """The next run succeeds, the one after it changes nothing, and mail goes out as ``side`` wants it."""
        self.set_up(host, side)
        assert not self.set_up(host, side)["changed"], "the run after the next changes something"
        self.mail(host, side, deliver=True)

    def await_delivery(self) -> None:
        """Every message that was handed in has arrived, and none of them twice. The provider has a queue of its own."""
        sent = collections.Counter(self.sent)

        def wrong() -> dict[str, int]:
            arrived = delivered(self.lab, self.mark)
            return {name: arrived[name] for name in sent | arrived if arrived[name] != sent[name]}

        await_that(lambda: not wrong(), "all messages arrive once", wrong)


def with_parameters(side: dict, text: str, services: str = "") -> dict:
    """A side with more of main.cf and master.cf."""
    options = side["options"]
    return {**side, "options": {**options, "parameters": options["parameters"] + text, "services": options["services"] + services}}


def install_code(lab, host: str) -> None:
    """Put this collection, ansible-core's module_utils and the driver on a server, as Ansible would for one module."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("ansible/__init__.py"))  # its own needs all of ansible-core
        for path in sorted(PLUGINS.rglob("*.py")):
            archive.add(path, f"ansible_collections/outpost/smtp/plugins/{path.relative_to(PLUGINS)}", recursive=False)
        core = Path(ansible.__file__).parent
        for path in sorted((core / "module_utils").rglob("*.py")):
            archive.add(path, f"ansible/{path.relative_to(core)}", recursive=False)
        archive.add(ROOT / "tests" / "system" / "fault_driver.py", "fault_driver.py")
    script = f"rm -rf {HERE}; mkdir -p {HERE}; tar -C {HERE} --no-same-owner -xf -"
    subprocess.run([*lab.entrance(host), "bash", "-c", script], input=content.getvalue(), check=True, capture_output=True)


def drive(lab, host: str, request: dict, bare: bool) -> dict:
    """Let the driver do something on a server. What it needs goes by standard input, as it may hold secrets."""
    words = ["env", f"PYTHONPATH={HERE}", "python3", f"{HERE}/fault_driver.py"]
    entrance = lab.entrance(host)
    if bare:
        hide = 'mount -t tmpfs none /run/systemd; mount -t tmpfs none /proc; exec "$@"'
        pid = str(container(lab, host)["State"]["Pid"])
        entrance = ["nsenter", "--target", pid, "--mount", "--uts", "--ipc", "--net", "--pid", "unshare", "--mount", "sh", "-c", hide, "sh"]
    done = subprocess.run([*entrance, *words], input=json.dumps(request), capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{host}: {done.stderr[-3000:]}"
    report = json.loads(done.stdout)
    assert "error" not in report, f"{host}: {report['error']}"
    return report


def _runtime() -> list[str]:
    return runtime.base_command(runtime.read_facts())


def container(lab, host: str) -> dict:
    """What the container runtime knows of a server."""
    name = containers.Containers(_runtime(), lab.name).name(host)
    return json.loads(subprocess.run([*_runtime(), "inspect", name], capture_output=True, check=True).stdout)[0]


def from_outside(lab, host: str, *words: str) -> None:
    """Run a program of a server, such as mount(8), with rights that the server itself does not have."""
    pid = str(container(lab, host)["State"]["Pid"])
    subprocess.run(["nsenter", "--target", pid, "--mount", "--pid", *words], check=True, capture_output=True)


#: Several servers may boot at once, and one may get the address that another one had.
_RESTARTING = threading.Lock()


def reboot(lab, host: str) -> None:
    """Boot a server anew. Its address may be another one then, so the lab's files follow."""
    with _RESTARTING:
        old = lab.address(host)
        name = container(lab, host)["Name"].lstrip("/")
        subprocess.run([*_runtime(), "restart", "--time", "10", name], check=True, capture_output=True)
        (network,) = container(lab, host)["NetworkSettings"]["Networks"].values()
        for path in (lab.state / "inventory.yml", lab.state / "known_hosts"):
            path.write_text(re.sub(rf"(?<![\d.]){re.escape(old)}(?![\d.])", network["IPAddress"], path.read_text()))
    deadline = time.monotonic() + 60
    while lab.shell("systemctl is-system-running 2>/dev/null || :", host).stdout.strip() not in ("running", "degraded"):
        assert time.monotonic() < deadline, "the server does not come up again"
        time.sleep(0.1)


def delivered(lab, mark: str) -> collections.Counter:
    """The subjects of the messages in the provider's mailbox that start with ``mark``, each with the number of copies."""
    found = lab.shell(f"find /var/mail/inbox/Maildir -type f -exec grep -h '^Subject: {mark}' {{}} + || :", host="provider").stdout
    return collections.Counter(line.split(": ", 1)[1] for line in found.splitlines())


def relay_options(account: dict, name: str = "primary", port: int = 465, table_type: str = "texthash", ca_files: tuple = (CA,), **more) -> dict:
    """One relay of the lab's provider as the role asks module postfix_config for it, short of what no fault depends on."""
    implicit = "yes" if port == 465 else "no"
    service = f"outpost_{name}"
    ca = "@ca_bundle_1@" if ca_files else CA
    return {
        "name": f"{name} on {port} with {table_type}",
        "transport": f"{service}:[smtp.provider.test]:{port}",
        "login": f"{account['username']}:{account['password']}",
        "options": {
            "parameters": f"default_transport = {service}:[smtp.provider.test]:{port}\n"
            f"{service}_tls_wrappermode = {implicit}\n"
            f"{service}_password_maps = @sasl_passwd@ fail:no_credential_for_this_server\n"
            "virtual_alias_maps += @aliases@\n",
            "initial_parameters": "compatibility_level = @compatibility_level@\ninet_interfaces = loopback-only\n"
            "smtpd_relay_restrictions = permit_mynetworks, reject\nmydestination =\nalias_maps =\nalias_database =\n",
            "services": f"{service} unix - - @smtp_chroot@ - - smtp\n"
            f"  -o smtp_tls_wrappermode=${service}_tls_wrappermode -o smtp_tls_security_level=secure -o smtp_tls_CAfile={ca}\n"
            f"  -o smtp_sasl_auth_enable=yes -o smtp_sasl_password_maps=${service}_password_maps\n"
            "  -o smtp_sasl_tls_security_options=noanonymous\n",
            "tables": {"aliases": "nobody@faults.test root@faults.test\n"},
            "secret_tables": {"sasl_passwd": f"smtp.provider.test {account['username']}:{account['password']}\n"},
            "table_types": {} if table_type == "texthash" else {"sasl_passwd": table_type},
            "ca_files": list(ca_files),
            **more,
        },
    }
