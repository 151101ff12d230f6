# SPDX-License-Identifier: GPL-3.0-or-later
"""Labs: a mail provider and servers under test on a network of their own. Up, down, list, and the ways in."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import os
import pathlib
import secrets
import sys
import typing as t

from . import containers, images, inventory, mta, provider
from .process import Lock, RigError, say, write_private

LABS = containers.CHECKOUT / ".dev" / "labs"
_AT_ONCE = 8

# Run by sh in a new container: let root log in, wait for the end of the boot (systemctl(1), is-system-running) and
# show how it went.
_SETTLE = """set -eu
install -d -m 700 /root/.ssh
cat > /root/.ssh/authorized_keys
deadline=$(($(date +%s) + 90))
while ! state=$(systemctl is-system-running --wait 2>/dev/null) && [ "$state" != degraded ]; do
    [ "$(date +%s)" -lt "$deadline" ] || { echo "systemd: ${state:-no answer}" >&2; exit 1; }
    sleep 0.1
done
systemctl is-active ssh >&2
echo "$state"
cat /etc/ssh/ssh_host_ed25519_key.pub
systemctl --failed --plain --no-legend
"""


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a lab is made of."""

    servers: tuple[str, ...]  # names of images
    count: int  # of each
    provider: bool
    mtas: tuple[str, ...] = ()  # names in mta.PACKAGES; they need the provider
    ipv6: bool = False

    def hosts(self) -> dict[str, str]:
        """Name of each host -> name of its image; the provider comes first."""
        hosts = {"provider": "provider"} if self.provider else {}
        hosts.update(dict.fromkeys(self.mtas, mta.IMAGE))
        for server in self.servers:
            names = [server] if self.count == 1 else [f"{server}-{number}" for number in range(1, self.count + 1)]
            hosts.update(dict.fromkeys(names, server))
        return hosts


def up(name: str, plan: Plan, command: t.Sequence[str], options: t.Sequence[str]) -> None:
    """Start a lab afresh; what an earlier run of the same name left goes first."""
    lab = containers.Containers(command, name)
    built = images.ensure(command, plan.hosts().values())
    directory = LABS / name
    with Lock(LABS / f"{name}.lock").held(refuse_if_busy=True) as lock:
        lab.remove(lock)
        inventory.remove(directory)
        login = inventory.create(directory)
        lab.create_network(lock, plan.ipv6)
        lent: concurrent.futures.Future[provider.Lent] = concurrent.futures.Future()

        def bring_up(host: str, names: t.Sequence[str]) -> inventory.Host:
            address = lab.start(host, built[plan.hosts()[host]].reference, options, names, lock)
            state, host_key, *failed = lab.feed(host, login, "sh", "-c", _SETTLE).splitlines()
            say(host, "; ".join([f"{address}, systemd {state}", *failed]))
            return inventory.Host(host, address, host_key)

        def bring_up_provider() -> inventory.Host:
            try:
                host = bring_up("provider", provider.NAMES)
                lent.set_result(_set_up_provider(lab, directory))
                if plan.mtas:
                    username = lent.result().accounts["alerts"]["username"]
                    write_private(directory / "alerts.pem", mta.client_certificate(lab, username))
            except BaseException as error:
                lent.set_exception(error)
                raise
            provider.await_ports(host.address)
            say("provider", "every port answers")
            return host

        def bring_up_mta(name: str) -> inventory.Host:
            host = bring_up(name, (f"{name}.{provider.DOMAIN}",))
            request = mta.install(lab, name)
            mta.set_up(lab, name, request, lent.result())
            mta.await_ports(host.address)
            say(name, "every port answers")
            return host

        def bring_up_server(name: str) -> inventory.Host:
            host = bring_up(name, (f"{name}.lab.test",))
            if plan.provider:
                lab.feed(name, lent.result().ca, "sh", "-c", "cat > /usr/local/share/rig-ca.pem")
            return host

        with concurrent.futures.ThreadPoolExecutor(_AT_ONCE) as pool:
            # The provider is first in line, so that no server waits for a CA that nobody makes.
            coming = [pool.submit(bring_up_provider)] if plan.provider else []
            for host in plan.hosts():
                if host != "provider":
                    coming.append(pool.submit(bring_up_mta if host in plan.mtas else bring_up_server, host))
            hosts = [one.result() for one in coming]
        inventory.write(directory, hosts)
    say(name, f"ready: {directory / 'inventory.yml'}")


def _set_up_provider(lab: containers.Containers, directory: pathlib.Path) -> provider.Lent:
    """Give the provider its accounts and certificates, and the lab's directory what clients need."""
    accounts = provider.new_accounts()
    pem = lab.feed("provider", provider.setup_input(accounts), "rig-provider-setup")
    lent = provider.Lent(pem, accounts, secrets.token_hex(32))
    provider.write_accounts(directory, lent)
    return lent


def down(name: str | None, command: t.Sequence[str]) -> None:
    """Remove one lab or, with None, every lab of this checkout and of checkouts that are gone."""
    own = str(containers.CHECKOUT)
    labs = {(name, own)} if name else {(path.name, own) for path in LABS.glob("*") if path.is_dir()}
    if name is None:
        every = {(one.lab, one.checkout) for one in containers.find(command)}
        labs |= {one for one in every if one[1] == own or not pathlib.Path(one[1]).exists()}
    for lab, checkout in sorted(labs):
        found = containers.Containers(command, lab, checkout)
        with Lock(LABS / f"{lab}.lock").held(refuse_if_busy=True) as lock:
            found.remove(lock)
            if checkout == own:
                inventory.remove(LABS / lab)
        say(lab, "removed")


def show(command: t.Sequence[str]) -> None:
    """Print the hosts of this checkout's labs, one on each line: lab, host, state, address."""
    for one in containers.find(command):
        if one.checkout == str(containers.CHECKOUT) and one.host:
            print(f"{one.lab:<20} {one.host:<14} {one.state:<10} {one.address}")


def ssh(name: str, host: str, words: t.Sequence[str]) -> t.NoReturn:
    """Become ssh(1) to a host."""
    _become([*inventory.ssh_command(LABS / name, host), *words])


def execute(name: str, host: str, words: t.Sequence[str], command: t.Sequence[str]) -> t.NoReturn:
    """Become a command in a host, started by the container runtime."""
    if not words:
        raise RigError("exec needs a command")
    terminal = ["--tty"] if sys.stdin.isatty() and sys.stdout.isatty() else []
    _become([*command, "exec", "--interactive", *terminal, containers.Containers(command, name).name(host), *words])


def _become(argv: t.Sequence[str]) -> t.NoReturn:
    sys.stdout.flush()
    os.execvp(argv[0], list(argv))
