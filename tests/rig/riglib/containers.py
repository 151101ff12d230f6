# SPDX-License-Identifier: GPL-3.0-or-later
"""The containers and the network of one lab, as the container runtime knows them.

They carry labels with the lab's name and the checkout it belongs to. So they are found again when nothing else is
left of an earlier run, and the labs of two checkouts never meet.
"""

from __future__ import annotations

import hashlib
import json
import pathlib
import re
import typing as t

from .process import Lock, RigError, run

CHECKOUT = pathlib.Path(__file__).resolve().parents[3]

_LABEL = "outpost.smtp.lab"
_LABEL_HOST = "outpost.smtp.host"
_LABEL_CHECKOUT = "outpost.smtp.checkout"


class Found(t.NamedTuple):
    """A container or a network (then without host) of some lab."""

    lab: str
    checkout: str
    host: str
    state: str
    address: str


class Containers:
    """What there is of one lab."""

    def __init__(self, command: t.Sequence[str], lab: str, checkout: str = str(CHECKOUT)) -> None:
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,30}", lab):
            raise RigError(f"{lab!r} is no name for a lab: lower-case letters, digits and hyphens, at most 31")
        self._command = list(command)
        self._labels = (f"{_LABEL}={lab}", f"{_LABEL_CHECKOUT}={checkout}")
        self._network = f"outpost-{hashlib.sha256(checkout.encode()).hexdigest()[:6]}-{lab}"

    def name(self, host: str) -> str:
        """The name of a host's container."""
        return f"{self._network}-{host}"

    def create_network(self, lock: Lock, ipv6: bool = False) -> None:
        """Create the lab's network, with subnets of the runtime's choice and its own DNS."""
        families = ["--ipv6"] if ipv6 else []
        run([*self._command, "network", "create", *families, *_each("--label", self._labels), self._network], lock=lock)

    def start(self, host: str, image: str, options: t.Sequence[str], names: t.Sequence[str], lock: Lock) -> str:
        """Start a host that the lab's DNS knows by ``names``, the first of them its own; its address."""
        own = [
            *("--name", self.name(host), "--hostname", names[0]),
            *("--network", self._network, *_each("--network-alias", names)),
            *_each("--label", (*self._labels, f"{_LABEL_HOST}={host}")),
        ]
        run([*self._command, "run", "--detach", *options, *own, image, "/sbin/init"], lock=lock)
        facts = json.loads(run([*self._command, "inspect", self.name(host)]))[0]
        return str(facts["NetworkSettings"]["Networks"][self._network]["IPAddress"])

    def feed(self, host: str, text: str, *command: str) -> str:
        """Run a command in a host with ``text`` as its standard input; its output."""
        return run([*self._command, "exec", "--interactive", self.name(host), *command], stdin=text)

    def remove(self, lock: Lock) -> None:
        """Remove the lab's containers, their volumes and its network, whatever there is of them."""
        ours = _each("--filter", [f"label={label}" for label in self._labels])
        containers = run([*self._command, "ps", "--all", "--quiet", "--no-trunc", *ours]).split()
        if containers:
            # docker kills at once when it removes by force; podman first waits for the stop signal's effect.
            at_once = ["--time", "0"] if self._command[0] == "podman" else []
            run([*self._command, "rm", "--force", "--volumes", *at_once, *containers], lock=lock)
        networks = run([*self._command, "network", "ls", "--quiet", *ours]).split()
        if networks:
            run([*self._command, "network", "rm", *networks], lock=lock)


def find(command: t.Sequence[str]) -> list[Found]:
    """All that belongs to a lab, of any checkout."""
    found = []
    containers = run([*command, "ps", "--all", "--quiet", "--no-trunc", "--filter", f"label={_LABEL}"]).split()
    for facts in json.loads(run([*command, "inspect", *containers])) if containers else []:
        networks = facts["NetworkSettings"]["Networks"].values()
        address = next((one["IPAddress"] for one in networks), "")
        found.append(_found(facts["Config"]["Labels"], facts["State"]["Status"], address))
    names = run([*command, "network", "ls", "--quiet", "--filter", f"label={_LABEL}"]).split()
    for facts in json.loads(run([*command, "network", "inspect", *names])) if names else []:
        found.append(_found(facts.get("labels") or facts["Labels"], "", ""))
    return sorted(found)


def _found(labels: dict[str, str], state: str, address: str) -> Found:
    return Found(labels[_LABEL], labels.get(_LABEL_CHECKOUT, ""), labels.get(_LABEL_HOST, ""), state, address)


def _each(option: str, values: t.Iterable[str]) -> list[str]:
    return [word for value in values for word in (option, value)]
