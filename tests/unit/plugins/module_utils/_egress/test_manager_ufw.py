# SPDX-License-Identifier: GPL-3.0-or-later
"""What is opened through ufw, on a stand-in that writes and loads rules in the forms of ufw 0.36 and 0.36.2."""

from __future__ import annotations

import os
import typing as t

import pytest

from ansible_collections.outpost.smtp.plugins.module_utils._egress import nft
from ansible_collections.outpost.smtp.plugins.module_utils._egress.errors import EgressError
from ansible_collections.outpost.smtp.plugins.module_utils._egress.managers.manager import Way
from ansible_collections.outpost.smtp.plugins.module_utils._egress.managers.ufw import Ufw

FIRST, SECOND, SIXTH = Way.to("192.0.2.10", 465), Way.to("192.0.2.10", 587), Way.to("2001:db8::10", 465)
EVERY = {FIRST, SECOND, SIXTH, Way.to("203.0.113.0/24", 587), Way(4, "", 2525), Way(6, "", 2525)}

CHAINS = {4: "ufw-user-output", 6: "ufw6-user-output"}

# What an administrator has, as "ufw allow out 53", "ufw allow in on eth0 to any port 22", "ufw deny out 587/tcp" and "ufw allow out WWW" leave it.
ADMIN = """
### tuple ### allow any 53 0.0.0.0/0 any 0.0.0.0/0 out
-A ufw-user-output -p tcp --dport 53 -j ACCEPT
-A ufw-user-output -p udp --dport 53 -j ACCEPT

### tuple ### allow tcp 22 0.0.0.0/0 any 0.0.0.0/0 in_eth0
-A ufw-user-input -i eth0 -p tcp --dport 22 -j ACCEPT

### tuple ### deny tcp 587 0.0.0.0/0 any 0.0.0.0/0 out comment=6f7574706f73745f736d7470
-A ufw-user-output -p tcp --dport 587 -j DROP

### tuple ### allow tcp 80 0.0.0.0/0 any 0.0.0.0/0 WWW - out
-A ufw-user-output -p tcp --dport 80 -j ACCEPT -m comment --comment 'dapp_WWW'
"""
RULES = "*filter\n:ufw{v}-user-output - [0:0]\n### RULES ###\n{rules}\n### END RULES ###\nCOMMIT\n"


class Host:
    """ufw and iptables on a host whose files are below `root`. ``loaded`` is what the chains of ufw's user hold; None: there are none."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.loaded: t.Dict[int, t.Optional[t.List[str]]] = {4: [], 6: []}
        self.told: t.List[str] = []
        self.dies_at = ""
        self.write("/etc/ufw/user.rules", RULES.format(v="", rules=ADMIN))
        self.write("/etc/ufw/user6.rules", RULES.format(v="6", rules=""))
        self.write("/etc/ufw/before.rules", "*filter\n-A ufw-before-input -i lo -j ACCEPT\nCOMMIT\n")
        self.write("/etc/default/ufw", "# IPV6=no\nIPV6=yes\n")

    def path(self, name: str) -> str:
        return self.root + name

    def write(self, name: str, text: str) -> None:
        os.makedirs(os.path.dirname(self.path(name)), exist_ok=True)
        with open(self.path(name), "w", encoding="utf-8") as file:
            file.write(text)

    def read(self, name: str) -> str:
        with open(self.path(name), encoding="utf-8") as file:
            return file.read()

    def run(self, arguments: t.Sequence[str], text: str) -> t.Tuple[int, str, str]:
        program, rest = os.path.basename(arguments[0]), list(arguments[1:])
        if program.endswith("-restore"):
            assert rest == ["--test", "--noflush"]
            return (2, "", 'iptables-restore v1.8.9 (nf_tables): unknown option "--bogus"') if "--bogus" in text else (0, "", "")
        if program in ("iptables", "ip6tables"):
            return self.listing(6 if program == "ip6tables" else 4, rest)
        assert program == "ufw"
        self.told.append(" ".join(rest))
        if self.told[-1] == self.dies_at:
            raise KeyboardInterrupt
        return self.ufw(rest[0], rest[1:])

    def listing(self, version: int, rest: t.List[str]) -> t.Tuple[int, str, str]:
        chain = CHAINS[version]
        assert rest == ["-w", "-S", chain]
        lines = self.loaded[version]
        if lines is None:
            return 1, "", f"iptables v1.8.9 (nf_tables): chain `{chain}' in table `filter' is incompatible, use 'nft' tool."
        return 0, "".join(f"{line}\n" for line in [f"-N {chain}", *lines]), ""

    def ufw(self, action: str, rule: t.List[str]) -> t.Tuple[int, str, str]:
        assert rule[:5] == ["allow", "out", "proto", "tcp", "to"] and rule[6] == "port" and rule[8:] == ["comment", "outpost_smtp"]
        address, port = rule[5], rule[7]
        version = 6 if ":" in address else 4
        name = "/etc/ufw/user6.rules" if version == 6 else "/etc/ufw/user.rules"
        anywhere = {4: "0.0.0.0/0", 6: "::/0"}[version]
        key = f" tcp {port} {address} any {anywhere} out"
        entry = f"\n### tuple ### allow{key} comment={b'outpost_smtp'.hex()}\n-A rule\n"
        text = self.read(name)
        if action == "prepend":
            if key in text:
                return 0, "Skipping inserting existing rule", ""
            text = text.replace("### RULES ###\n", f"### RULES ###\n{entry}")
        elif entry not in text:
            return 0, "Could not delete non-existent rule", ""
        else:
            text = text.replace(entry, "")
        self.write(name, text)
        lines = self.loaded[version]
        if lines is None:
            return 1, "", "ERROR: problem running"
        where = "" if address == anywhere else f"-d {address if '/' in address else address + {4: '/32', 6: '/128'}[version]} "
        line = f"-A {CHAINS[version]} {where}-p tcp -m tcp --dport {port} -j ACCEPT"
        self.loaded[version] = [line] * (action == "prepend") + [other for other in lines if other != line]
        return 0, "Rule inserted", ""


@pytest.fixture
def host(tmp_path, monkeypatch):
    monkeypatch.setattr(nft, "find", lambda name="nft": f"/usr/sbin/{name}")
    return Host(str(tmp_path))


@pytest.fixture
def ufw(host):
    return Ufw(host.run, host.root)


def test_ways_come_and_go_and_the_rest_stays(host, ufw):
    untouched = host.read("/etc/ufw/user.rules"), host.read("/etc/ufw/user6.rules")
    (change,) = ufw.plan(EVERY)
    assert change.before == "" and "allow out proto tcp to 192.0.2.10 port 465 comment outpost_smtp\n" in change.after
    assert host.told == []

    ufw.apply(EVERY)
    assert ufw.opened() == EVERY and ufw.plan(EVERY) == []
    assert host.told[-1] == "prepend allow out proto tcp to 0.0.0.0/0 port 2525 comment outpost_smtp", "sorted, since each comes first"

    del host.told[:]
    ufw.apply([SIXTH, FIRST])
    assert ufw.opened() == {FIRST, SIXTH} and all(told.startswith("delete ") for told in host.told)
    ufw.apply([])
    assert ufw.opened() == set() and ufw.plan([]) == []
    assert (host.read("/etc/ufw/user.rules"), host.read("/etc/ufw/user6.rules")) == untouched


def test_a_second_run_tells_ufw_nothing(host, ufw):
    ufw.apply([FIRST])
    del host.told[:]
    ufw.apply([FIRST])
    assert host.told == []


def test_a_way_that_is_not_loaded_is_opened_again(host, ufw):
    ufw.apply([FIRST, SECOND])
    host.loaded[4] = [line for line in host.loaded[4] if "587" not in line]
    assert ufw.opened() == {FIRST}
    (change,) = ufw.plan([FIRST, SECOND])
    assert "587" in change.after and "587" not in change.before
    assert ufw.plan([FIRST]) != [], "ufw would load the other one when it starts"
    ufw.apply([FIRST, SECOND])
    assert ufw.opened() == {FIRST, SECOND} and ufw.plan([FIRST, SECOND]) == []


@pytest.mark.parametrize(
    ("rule", "behind"),
    [
        ("-p tcp -m tcp --dport 587 -j DROP", {SECOND}),
        ("-d 192.0.2.0/24 -p tcp -j REJECT --reject-with tcp-reset", {FIRST, SECOND}),
        ("-p udp -m udp --dport 587 -j DROP", set()),
        ("-p tcp -m tcp --dport 465 -m conntrack --ctstate NEW -m recent --set --name DEFAULT --mask 255.255.255.255 --rsource", set()),
        ("-d 203.0.113.9/32 -j DROP", set()),
    ],
)
def test_what_somebody_put_before_ours_does_not_stay_there(host, ufw, rule, behind):
    """As by "ufw insert 1 deny out 587/tcp". What is none of our business stays where it is."""
    ufw.apply([FIRST, SECOND])
    host.loaded[4].insert(0, f"-A ufw-user-output {rule}")
    del host.told[:]
    assert ufw.opened() == {FIRST, SECOND} - behind and bool(ufw.plan([FIRST, SECOND])) == bool(behind)
    ufw.apply([FIRST, SECOND])
    assert len(host.told) == 2 * len(behind) and ufw.opened() == {FIRST, SECOND}


def test_of_a_ufw_that_has_loaded_nothing_the_files_count(host, ufw):
    host.loaded = {4: None, 6: None}
    ufw.apply([FIRST, SIXTH])
    assert ufw.opened() == {FIRST, SIXTH} and ufw.plan([FIRST, SIXTH]) == []


def test_what_is_open_stays_open_until_the_new_is(host, ufw):
    ufw.apply([FIRST])
    host.dies_at = "delete allow out proto tcp to 192.0.2.10 port 465 comment outpost_smtp"
    with pytest.raises(KeyboardInterrupt):
        ufw.apply([SECOND])
    assert ufw.opened() == {FIRST, SECOND}
    host.dies_at = ""
    ufw.apply([SECOND])
    assert ufw.opened() == {SECOND}


@pytest.mark.parametrize("action", ["deny", "allow", "reject_log-all"])
def test_a_rule_of_the_administrators_for_the_same_connection_is_named(host, ufw, action):
    rival = f"\n### tuple ### {action} tcp 587 192.0.2.10 any 0.0.0.0/0 out\n-A x\n"
    host.write("/etc/ufw/user.rules", RULES.format(v="", rules=ADMIN + rival))
    with pytest.raises(EgressError, match="nothing was changed") as caught:
        ufw.apply([FIRST, SECOND])
    assert str(caught.value).endswith(f": ufw delete {action.replace('_', ' ')} out proto tcp to 192.0.2.10 port 587")
    assert host.told == [] and ufw.opened() == set()
    assert ufw.plan([FIRST]) != [], "it does not stand in the way of others"


def test_without_ipv6_in_ufw_a_way_by_ipv6_can_not_be_opened(host, ufw):
    host.write("/etc/default/ufw", "IPV6=no\n")
    with pytest.raises(EgressError, match="IPV6=yes"):
        ufw.plan([FIRST, SIXTH])
    ufw.apply([FIRST])
    assert ufw.opened() == {FIRST}


@pytest.mark.parametrize("name", ["before.rules", "after6.rules"])
def test_files_that_ufw_could_not_load_are_named_and_nothing_is_changed(host, ufw, name):
    ufw.apply([FIRST])
    host.write(f"/etc/ufw/{name}", "*filter\n-A x --bogus\nCOMMIT\n")
    del host.told[:]
    with pytest.raises(EgressError, match=f"/etc/ufw/{name} is broken.*do not run 'ufw reload'.*--bogus"):
        ufw.apply([FIRST, SECOND])
    assert host.told == [] and ufw.opened() == {FIRST}
    ufw.apply([])
    assert ufw.opened() == set(), "to close a way loads no such file"


def test_a_failure_of_ufw_is_told(host, ufw, monkeypatch):
    monkeypatch.setattr(host, "ufw", lambda _action, _rule: (1, "", "ERROR: Couldn't update rules file"))
    with pytest.raises(EgressError, match="ufw did not do what it was told, and said: ERROR: Couldn't update rules file"):
        ufw.apply([FIRST])


def test_a_privilege_that_is_missing_is_not_taken_for_ufw_being_off(host, ufw, monkeypatch):
    ufw.apply([FIRST])
    monkeypatch.setattr(host, "listing", lambda _version, _rest: (4, "", "iptables v1.8.9 (nf_tables): Could not fetch rule set: Permission denied"))
    with pytest.raises(EgressError, match="can not be listed.*Permission denied"):
        ufw.opened()


def test_it_loads_its_rules_itself(host, ufw):
    ufw.reopen([FIRST])
    assert host.told == [] and ufw.services == ()
