# SPDX-License-Identifier: GPL-3.0-or-later
"""A server of the lab with all scenarios configured: what its Postfix does with mail, and what is predicted."""

from __future__ import annotations

import io
import json
import re
import subprocess
import tarfile
import time
from pathlib import Path

import jinja2
from from_postfix_scenarios import BY_SENDER, CA, CRASHES, HOST, RELAYHOST, RIGHT, ROLE, SCENARIOS, SENDER_RELAYHOSTS, Scenario
from system_lab import ROOT, Lab

from ansible_collections.outpost.smtp.plugins.module_utils._postfix.transports import transports
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.relay import normalise_relays

HERE = Path(__file__).parent
DIRECTORY = "/etc/postfix"
LOG = "/var/log/postfix.log"
COMMON = {
    "smtp_tls_CAfile": CA,
    "smtp_tls_security_level": "secure",
    "smtp_sasl_auth_enable": "yes",
    "smtp_sasl_password_maps": "TABLE",
    "smtp_sasl_security_options": "noanonymous",
    "smtp_sasl_tls_security_options": "noanonymous",
    "smtp_tls_fingerprint_digest": "sha256",
    # Each of these is waited for in full by one of the scenarios.
    "smtp_connect_timeout": "3s",
    "smtp_helo_timeout": "3s",
}
MAIN = f"""\
compatibility_level = 2
maillog_file = {LOG}
mydestination =
inet_interfaces = loopback-only
inet_protocols = ipv4
alias_maps =
transport_maps = texthash:{DIRECTORY}/transport
defer_transports = s_deferred
relayhost = {RELAYHOST}
sender_dependent_relayhost_maps = texthash:{DIRECTORY}/relayhosts
sender_dependent_default_transport_maps = texthash:{DIRECTORY}/transports
"""


class Server:
    """One server of the lab."""

    def __init__(self, lab: Lab, name: str) -> None:
        self.lab = lab
        self.name = name

    def run(self, script: str, stdin: bytes = b"") -> str:
        """Run a shell script; secrets go by its standard input."""
        done = subprocess.run([*self.lab.entrance(self.name), "bash", "-c", script], input=stdin, capture_output=True, check=False)
        assert done.returncode == 0, (self.name, script[:80], done.stderr.decode()[-2000:])
        return done.stdout.decode()

    def recipients(self) -> dict[str, list[str]]:
        """The recipients by sender."""
        found: dict[str, list[str]] = {}
        for scenario in SCENARIOS:
            found.setdefault(scenario.sender, []).append(scenario.recipient(self.name))
        return found

    # -- configuration ------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Install Postfix and the collection's Python, and configure every scenario."""
        self.run(
            "echo postfix postfix/main_mailer_type select No configuration | debconf-set-selections;"
            "DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet postfix libsasl2-modules >/dev/null 2>&1"
        )
        collection = "/root/lib/ansible_collections/outpost/smtp"
        code = {f"{collection}/plugins/{path.relative_to(ROOT / 'plugins')}": path.read_text() for path in ROOT.glob("plugins/module_utils/**/*.py")}
        code["/root/driver.py"] = (HERE / "from_postfix_driver.py").read_text()
        code["/root/name_server.py"] = (HERE / "from_postfix_name_server.py").read_text()
        self._write({**code, **self._configuration()})
        # A name server with MX records, in front of the lab's own.
        self.run(
            "systemd-run --quiet --unit name-server python3 /root/name_server.py $(awk '/^nameserver/ {print $2; exit}' /etc/resolv.conf);"
            f"getent ahostsv4 {HOST} | awk '{{print $1, \"hosts.test\"; exit}}' >>/etc/hosts;"
            "echo nameserver 127.0.0.1 >/etc/resolv.conf; systemctl restart postfix"
        )

    def _write(self, files: dict[str, str]) -> None:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for path, text in files.items():
                entry = tarfile.TarInfo(path.lstrip("/"))
                entry.size, entry.mode = len(text.encode()), 0o600 if "/passwords/" in path else 0o644
                archive.addfile(entry, io.BytesIO(text.encode()))
        self.run("tar x -C /", buffer.getvalue())

    def _configuration(self) -> dict[str, str]:
        role_main, role_master, files = self._role()
        services = self.run("cat /usr/share/postfix/master.cf.dist") + "postlog unix-dgram n - n - 1 postlogd\n" + role_master
        fingerprint = Server(self.lab, "provider").run("openssl x509 -in /etc/ssl/rig/expired.crt -noout -fingerprint -sha256")
        values = {"OWN_ADDRESS": self.run("hostname -I").split()[0], "FINGERPRINT": fingerprint.split("=")[1].strip()}
        routes = ""
        for scenario in SCENARIOS:
            if scenario is ROLE:
                continue
            path = f"{DIRECTORY}/passwords/{scenario.name}"
            files[path] = "".join(f"{key} {self._login(scenario) if value == RIGHT else value}\n" for key, value in scenario.table.items())
            services += f"{scenario.transport} unix - - y - - smtp\n"
            for name, value in {**COMMON, **scenario.options}.items():
                for placeholder, text in {**values, "TABLE": f"texthash:{path}"}.items():
                    value = value.replace(placeholder, text)
                services += f"  -o {{ {name} = {value} }}\n"
            if scenario.nexthop:
                routes += f"{scenario.recipient(self.name)} {scenario.transport}:{scenario.nexthop}\n"
        return {
            **files,
            f"{DIRECTORY}/main.cf": MAIN + role_main,
            f"{DIRECTORY}/master.cf": services,
            f"{DIRECTORY}/transport": routes,
            f"{DIRECTORY}/relayhosts": "".join(f"{sender} {relayhost}\n" for sender, relayhost in SENDER_RELAYHOSTS.items()),
            f"{DIRECTORY}/transports": "".join(f"{scenario.sender} {scenario.transport}:\n" for scenario in BY_SENDER),
        }

    def _login(self, scenario: Scenario) -> str:
        account = self.lab.accounts[scenario.sender.partition("@")[0]]
        return f"{account['username']}:{account['password']}"

    def _role(self) -> tuple[str, str, dict[str, str]]:
        """What role postfix_relay makes of a relay, by its own templates: parts of main.cf and master.cf, and its table."""
        account = self.lab.accounts["alerts"]
        relay = {"name": "primary", "host": HOST, "port": 465, "username": account["username"], "password": account["password"]}
        environment = jinja2.Environment(loader=jinja2.FileSystemLoader(ROOT / "roles/postfix_relay/templates"), trim_blocks=True)  # noqa: S701
        routes = transports(normalise_relays([relay]), "relays")
        context = {
            "__postfix_relay_routes": routes,
            "__postfix_relay_transports": routes["transports"],
            "__postfix_relay_alias_entries": [],
            "__postfix_relay_senders": {"rules": [], "everybody": None},
        }
        path = f"{DIRECTORY}/passwords/of_the_role"
        fill = {"@ca_bundle@": CA, "@sasl_primary@": f"texthash:{path}", "@smtp_chroot@": "y", "write_maps +=": "write_maps ="}
        texts = []
        for name in ("main.cf.j2", "master.cf.j2"):
            text = environment.get_template(name).render(context)
            for placeholder, value in fill.items():
                text = text.replace(placeholder, value)
            texts.append(text)
        return texts[0], texts[1], {path: routes["secret_tables"]["sasl_primary"]}

    # -- what happens ---------------------------------------------------------------------------------------------------

    def send(self) -> None:
        """Give one message for each scenario to Postfix, which must not send a bounce for it."""
        lines = [f"echo test | sendmail -N never -f {scenario.sender} {scenario.recipient(self.name)}" for scenario in SCENARIOS]
        self.run("\n".join(lines))

    def outcomes(self) -> tuple[dict[str, tuple[str, str, str]], str]:
        """Status, DSN and reason that were logged first for each scenario that logs any; and the log itself."""
        wanted = {scenario.name for scenario in SCENARIOS if scenario.action != CRASHES}
        pattern = re.compile(rf"to=<inbox\+(\w+)\.{self.name}@provider\.test>.*? dsn=([\d.]+), status=(\w+) \((.*)\)$", re.MULTILINE)
        deadline = time.monotonic() + 90
        while True:
            log = self.run(f"cat {LOG}")
            found: dict[str, tuple[str, str, str]] = {}
            for match in pattern.finditer(log):
                found.setdefault(match[1], (match[3], match[2], match[4]))
            if wanted <= set(found) or time.monotonic() > deadline:
                return found, log
            time.sleep(1)

    def predictions(self, mail: dict[str, list[str]], user: str = "root") -> list[dict]:
        """What the collection says about recipients by sender: one entry for each server of each."""
        asked = {"mail": mail, "config_directory": DIRECTORY, "timeout": 40}
        command = f"cp -r /root/lib /root/driver.py /tmp/; cd /tmp; PYTHONPATH=/tmp/lib setpriv --reuid={user} --clear-groups python3 /tmp/driver.py"
        return json.loads(self.run(command, json.dumps(asked).encode()))


class Provider:
    """What the provider's log says about messages: who logged in, and where."""

    def __init__(self, log: str) -> None:
        self._logins = dict(re.findall(r"/smtpd\[\d+\]: (\w+): client=.*?, sasl_method=\w+, sasl_username=(\S+)", log))
        clients = re.findall(r"postfix(?:/(\w+))?/smtpd\[\d+\]: (\w+): client=", log)
        self._services = {queue_id: service for service, queue_id in clients}
        self._queue_ids = {recipient: queue_id for queue_id, recipient in re.findall(r"/lmtp\[\d+\]: (\w+): to=<([^>]+)>", log)}

    def has(self, recipient: str) -> bool:
        return recipient in self._queue_ids

    def login(self, recipient: str) -> str | None:
        """Who logged in to send the message to a recipient."""
        return self._logins.get(self._queue_ids.get(recipient, ""))

    def in_clear(self, recipient: str) -> bool:
        """Whether it came in on the port that has no TLS."""
        return self._services.get(self._queue_ids.get(recipient, "")) == "notls"
