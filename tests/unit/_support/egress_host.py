# SPDX-License-Identifier: GPL-3.0-or-later
"""A host for the engine of smtp_egress: files in a directory; the kernel's part of nft, systemd and a firewall manager are stand-ins."""

from __future__ import annotations

import ipaddress
import typing as t
from pathlib import Path

from ansible_collections.outpost.smtp.plugins.module_utils._egress import addresses, files, lock, program
from ansible_collections.outpost.smtp.plugins.module_utils._egress.addresses import Relay
from ansible_collections.outpost.smtp.plugins.module_utils._egress.change import Change
from ansible_collections.outpost.smtp.plugins.module_utils._egress.egress import Egress
from ansible_collections.outpost.smtp.plugins.module_utils._egress.errors import EgressError
from ansible_collections.outpost.smtp.plugins.module_utils._egress.managers.manager import Manager, Way
from ansible_collections.outpost.smtp.plugins.module_utils._egress.nft import Json
from ansible_collections.outpost.smtp.plugins.module_utils._egress.proof import Proof
from ansible_collections.outpost.smtp.plugins.module_utils._egress.request import Request, Terms
from ansible_collections.outpost.smtp.plugins.module_utils._egress.systemd import Systemd
from ansible_collections.outpost.smtp.plugins.module_utils._egress.units import ENABLED

TEXT = """\
table inet outpost_smtp
delete table inet outpost_smtp
table inet outpost_smtp {
    counter accepted {
    }
    chain managed_by_outpost_smtp {
    }
    chain output {
        type filter hook output priority 60; policy accept;
        ip daddr @ipv4:smtp.example.net@ tcp dport 465 accept
        ip6 daddr @ipv6:smtp.example.net@ tcp dport 465 accept
        meta skuid @uid:user@ accept
    }
}
"""
RELAYS = [Relay("primary", "smtp.example.net", 465)]
MARK = {"chain": {"family": "inet", "table": "outpost_smtp", "name": "managed_by_outpost_smtp"}}
OUTPUT = {"chain": {"family": "inet", "table": "outpost_smtp", "name": "output", "hook": "output", "prio": 60}}
DROPPING = {"family": "inet", "table": "filter", "name": "output", "type": "filter", "hook": "output", "prio": 0, "policy": "drop"}
WAYS = (Way(4, "192.0.2.10", 465), Way(6, "2001:db8::10", 465))


class Killed(BaseException):
    """The process ends here: nothing of ours goes on."""


class Kernel:
    """What nft would do: it lists as our table the text that was last loaded. ``opened`` lets pass what the manager has opened."""

    command = "/usr/sbin/nft"

    def __init__(self) -> None:
        self.loaded: t.Optional[t.List[Json]] = None
        self.foreign: t.List[Json] = []
        self.foreign_rules: t.List[Json] = []
        self.counted = 0
        self.calls: t.List[str] = []
        self.fails_on = ""

    def own_table(self) -> t.Optional[t.List[Json]]:
        if self.loaded is None:
            return None
        return [*self.loaded, {"counter": {"name": "accepted", "packets": self.counted, "bytes": 0}}]

    def own_table_text(self) -> str:
        return repr(self.loaded or "")

    def tables(self, names: t.Collection[t.Tuple[str, str]]) -> t.Dict[t.Tuple[str, str], t.List[Json]]:
        return dict.fromkeys(names, self.foreign_rules)

    def chains(self) -> t.List[Json]:
        return self.foreign

    def check(self, text: str) -> None:
        self._called("check")

    def load(self, text: str) -> None:
        self._called("load")
        if "delete table" in text:
            self.counted = 0
        rules = [line.strip() for line in text.splitlines() if "accept" in line]
        self.loaded = [MARK, OUTPUT, {"rule": {"chain": "output", "text": rules}}]

    def delete_own_table(self) -> None:
        self._called("delete")
        self.loaded = None

    def _called(self, call: str) -> None:
        self.calls.append(call)
        if call == self.fails_on:
            self.fails_on = ""
            raise EgressError(f"{call} failed")


class Init(Systemd):
    """systemd that only keeps its files, and says what it was told."""

    installed = True
    running = False

    def __init__(self, root: str) -> None:
        super().__init__(lambda _arguments, _text: (0, "", ""), root)
        self.told: t.List[str] = []
        self.reloads = 0
        self.fails = "nothing"

    def reload(self) -> None:
        self.reloads += 1

    def run(self, *arguments: str, tolerate: bool = False) -> bool:
        self.told.append(" ".join(arguments))
        return not self.told[-1].startswith(self.fails)

    def enable(self, unit: str) -> None:
        link = Path(self.root + ENABLED[unit])
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(f"/etc/systemd/system/{unit}")

    def disable(self, unit: str) -> None:
        Path(self.root + ENABLED[unit]).unlink()


class Gate(Manager):
    """A manager of which only what it has open is of interest: a rule for each way in the foreign chain."""

    name = "nftables"
    services = ("nftables.service",)

    def __init__(self, host: Host, name: str) -> None:
        super().__init__(lambda _arguments, _text: (0, "", ""))
        self.name = name
        self._host = host

    def opened(self) -> t.Set[Way]:
        return set(self._host.opened.get(self.name, ()))

    def plan(self, ways: t.Collection[Way]) -> t.List[Change]:
        before, after = sorted(self.opened()), sorted(ways)
        return [] if before == after else [Change(self.name, *("".join(f"{way}\n" for way in some) for some in (before, after)))]

    def apply(self, ways: t.Collection[Way]) -> None:
        self._host.open(self.name, ways)

    def reopen(self, ways: t.Collection[Way]) -> None:
        self._host.open(self.name, ways)


class Host:
    """A host in a directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.kernel: t.Optional[Kernel] = Kernel()
        self.init = Init(str(root))
        self.dns: t.Dict[str, addresses.Answer] = {"ipv4": ["192.0.2.10"], "ipv6": ["2001:db8::10"]}
        self.opened: t.Dict[str, t.Set[Way]] = {}
        self.order: t.List[str] = []
        self.proof: t.Dict[str, t.Any] = {"mta": "reached", "others": "", "counted": None}
        self.proved: t.List[t.Tuple[t.Any, ...]] = []
        self.spawned: t.List[t.List[str]] = []
        self.request = Request(RELAYS, "root", [], TEXT)
        self.terms = Terms()

    def egress(self, check_mode: bool = False) -> Egress:
        lookup: addresses.Lookup = lambda _host, family: self.dns[family]  # noqa: E731
        return Egress(
            self.kernel,  # type: ignore[arg-type]
            lambda _arguments, _text: (0, "", ""),
            check_mode=check_mode,
            root=str(self.root),
            entry=program.__name__,
            systemd=self.init,
            make=lambda name: Gate(self, name),
            lookup=lookup,
            prove=self._prove,
            spawn=lambda arguments: self.spawned.append(list(arguments)),
        )

    def _prove(self, *arguments: t.Any) -> t.List[Proof]:
        """As prove(), also where a test puts something else in its place meanwhile."""
        return self.prove(*arguments)

    def prove(
        self, ways: t.Sequence[Way], uid: int, guarded: bool, deadline: float, counters: t.Callable[[], t.Dict[str, int]], other: int
    ) -> t.List[Proof]:
        self.proved.append((tuple(ways), uid, guarded, deadline, other))
        return [
            Proof(way.network, way.port, way.version, self.proof["mta"], 1, self.proof["others"], 0, self.proof["counted"]) for way in ways
        ]

    def open(self, name: str, ways: t.Collection[Way]) -> None:
        """Open exactly these ways: an accepting rule for each, before the foreign chain's policy is asked."""
        self.order.append(f"{name} {len(ways)}")
        self.opened[name] = set(ways)
        if self.kernel:
            opened = sorted(way for some in self.opened.values() for way in some)
            self.kernel.foreign_rules = [self.rule(chain["name"], way) for chain in self.kernel.foreign for way in opened]

    def rule(self, chain: str, way: Way) -> Json:
        network = ipaddress.ip_network(way.network)
        where = {"prefix": {"addr": str(network.network_address), "len": network.prefixlen}}
        expressions = [_matches("ip" if way.version == 4 else "ip6", "daddr", where), _matches("tcp", "dport", way.port), {"accept": None}]
        return {"rule": {"chain": chain, "handle": 1, "expr": expressions}}

    def present(self, check_mode: bool = False, **options: t.Any) -> t.Dict[str, t.Any]:
        return self.egress(check_mode).present(self.request, self.terms, **options)

    def absent(self, check_mode: bool = False) -> t.Dict[str, t.Any]:
        return self.egress(check_mode).absent()

    def program(self, *arguments: str) -> int:
        """Run the helper program as its units do."""
        return program.call(self.egress(), list(arguments), str(self.root))

    def path(self, path: str) -> Path:
        return Path(str(self.root) + path)

    def read(self, path: str) -> t.Optional[str]:
        return files.read(str(self.root) + path)

    def snapshot(self) -> t.Tuple[t.Any, ...]:
        """Everything that a run could touch."""
        found = [path for path in sorted(self.root.rglob("*")) if not path.is_symlink() and path != self.path(lock.PATH)]
        stored = {str(path): path.read_bytes() for path in found if path.is_file()}
        links = sorted(str(path) for path in self.root.rglob("*") if path.is_symlink())
        opened = {name: sorted(ways) for name, ways in self.opened.items() if ways}
        return stored, links, self.kernel and self.kernel.loaded, opened


def _matches(protocol: str, field: str, value: t.Any) -> Json:
    return {"match": {"op": "==", "left": {"payload": {"protocol": protocol, "field": field}}, "right": value}}
