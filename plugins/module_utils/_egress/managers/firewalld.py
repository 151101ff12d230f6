# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.
"""firewalld, 0.9 and newer: a policy of ours from this host to anywhere, firewalld.policies(5), with one rich rule for each way.

firewalld can not add a policy to what runs, so the first time it must reload. What a reload would lose is a reason not to
(firewalld_reload.py); and one that fails leaves a table that drops every new connection, that to sshd included, so it is
not left at that. Later only rich rules come and go, in what runs and in the file, and nothing is reloaded. What firewalld
calls "direct" is not used: it is another firewall, whose accept does not undo what a policy drops (firewalld.direct(5)).
"""

from __future__ import annotations

import json
import re
import time
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._egress import files, nft
from ansible_collections.outpost.smtp.plugins.module_utils._egress.change import Change
from ansible_collections.outpost.smtp.plugins.module_utils._egress.errors import EgressError
from ansible_collections.outpost.smtp.plugins.module_utils._egress.managers import firewalld_policy as policy
from ansible_collections.outpost.smtp.plugins.module_utils._egress.managers.firewalld_reload import ForeignTables, differences, listed
from ansible_collections.outpost.smtp.plugins.module_utils._egress.managers.manager import Manager, Way

#: firewalld keeps the former text there whenever it writes the file itself.
_BACKUP = f"{policy.PATH}.old"
_CONFIG = "/etc/firewalld/firewalld.conf"
_IPTABLES_BACKEND = re.compile(r"^\s*FirewallBackend\s*=\s*iptables\s*$", re.MULTILINE | re.IGNORECASE)

#: Where firewalld (nftables.py) puts the accepting rich rules of a policy with ingress zone HOST.
_FAMILY, _TABLE, _CHAIN = "inet", "firewalld", f"filter_OUT_policy_{policy.NAME}_allow"
#: Drops all new connections while firewalld reloads, and stays where that fails.
_STOPGAP = "firewalld_policy_drop"
_START_ANEW = "'journalctl -u firewalld' may tell why, and 'systemctl restart firewalld' starts it anew"
#: Seconds for a reload of somebody else's that is under way.
_PATIENCE = 5.0


class Firewalld(Manager):
    """Opens by a policy of its own."""

    name = "firewalld"
    #: That nothing stands in the way, as :meth:`plan` has found out for the next :meth:`apply`; it takes seconds.
    _possible = False

    def opened(self) -> t.Set[Way]:
        kept = self._kept()
        in_force = self._in_force() if kept else None
        return kept if in_force is None else kept & in_force

    def plan(self, ways: t.Collection[Way]) -> t.List[Change]:
        wanted, changes = set(ways), []
        stored, in_force = self._stored(), self._in_force()
        if policy.is_strange(stored):
            if wanted:
                raise EgressError(f"firewalld: {policy.PATH} was not made by this module, and was left alone; rename it, or open the way by hand")
            return []
        if stored is not None if not wanted else policy.read(stored) != wanted:
            changes.append(Change(policy.PATH, stored or "", policy.text(wanted)))
        if in_force is not None and in_force != wanted:
            changes.append(Change(f"policy {policy.NAME} of firewalld, in force", policy.lines(in_force), policy.lines(wanted)))
        unfinished = self._foreign_tables.pending
        if unfinished:
            changes.append(Change("a reload of firewalld", "not finished\n", "finished\n"))
        elif changes and wanted and not self._possible:
            self._require_possible()
            self._possible = True
        return changes

    def apply(self, ways: t.Collection[Way]) -> None:
        wanted = set(ways)
        if self._foreign_tables.pending:
            self._finish_reload()
        if not self.plan(wanted):
            return
        self._possible = False
        if not self._runs():
            self._write(policy.text(wanted))  # firewalld finds the policy, or none, when it starts
        elif not wanted:
            self._remove()
        elif self._must_reload():
            self._write_and_reload(policy.text(wanted))
        else:
            self._adjust(wanted)
        if self.opened() != wanted:
            raise EgressError(f"firewalld did not take over what {policy.PATH} says; 'journalctl -u firewalld' may tell why", changed=True)

    def reopen(self, ways: t.Collection[Way]) -> None:
        """Nothing to do: firewalld itself loads its policies whenever it starts or reloads."""

    # What there is

    def _stored(self) -> t.Optional[str]:
        return files.read(self.root + policy.PATH)

    def _kept(self) -> t.Set[Way]:
        return policy.read(self._stored()) or set()

    def _in_force(self) -> t.Optional[t.Set[Way]]:
        """What our policy accepts in the kernel; None where nothing of firewalld is loaded, since it then stops nothing either."""
        command = nft.find()
        chains = nft.Nft(command, self._run).chains() if command else []
        of_firewalld = {chain["name"] for chain in chains if (chain["family"], chain["table"]) == (_FAMILY, _TABLE)}
        if command is None or not of_firewalld:
            return None
        if _CHAIN not in of_firewalld:
            return set()
        code, out, err = self._run([command, "-j", "list", "chain", _FAMILY, _TABLE, _CHAIN], "")
        if code != 0:
            raise EgressError(f"chain {_CHAIN} of firewalld can not be listed: {err.strip() or f'exit status {code}'}")
        accepted = (policy.accepted(entry["rule"]["expr"]) for entry in json.loads(out)["nftables"] if "rule" in entry)
        return {way for way in accepted if way is not None}

    def _has_table(self, table: str) -> bool:
        command = nft.find()
        return command is not None and any(chain["table"] == table for chain in nft.Nft(command, self._run).chains())

    def _runs(self) -> bool:
        return self._call("--state")[0] == 0

    def _must_reload(self) -> bool:
        """Whether what runs has no policy of our name, or one whose priority, target or zones are not ours."""
        if policy.NAME not in self._call("--get-policies")[1].split():
            return True  # to ask for it all the same would be an error in firewalld's log
        runs = listed(self._call(f"--info-policy={policy.NAME}")[1]).get(policy.NAME, {})
        return any(runs.get(name) != [value] for name, value in policy.FRAME.items())

    @property
    def _foreign_tables(self) -> ForeignTables:
        return ForeignTables(self._run, self.root)

    # Reasons not to begin

    def _require_possible(self) -> None:
        """Raise EgressError for what can not be opened, before anything is changed."""
        if _IPTABLES_BACKEND.search(files.read(self.root + _CONFIG) or ""):
            raise EgressError(
                f"{_CONFIG} says FirewallBackend=iptables, with which every reload of firewalld takes rules of others away, so no way is opened "
                "through it, and nothing was changed. Set FirewallBackend=nftables, which is firewalld's default, and restart firewalld"
            )
        if not self._runs():
            if self._has_table(_TABLE) or self._has_table(_STOPGAP):
                raise EgressError(
                    "rules of firewalld are loaded, but it does not run or does not answer (firewall-cmd --state), so no way can be opened "
                    f"through it, and nothing was changed. {_START_ANEW}"
                )
            return
        self._require_settled()
        if not self._has_table(_TABLE):
            raise EgressError(
                "firewalld runs, but somebody has flushed its rules, so no way can be opened through it, and nothing was changed. " + _START_ANEW
            )
        self._require_replies()
        if self._must_reload():
            self._require_nothing_to_lose()

    def _require_replies(self) -> None:
        """firewalld 0.9.3 and older also drops the later packets of a connection, where a policy drops what leaves the host (its issue 705)."""
        command = nft.find()
        listed_chain = self._run([command, "-j", "list", "chain", _FAMILY, _TABLE, "filter_OUTPUT"], "")[1] if command else ""
        if '"established"' in listed_chain:
            return
        policies = listed(self._call("--list-all-policies")[1])
        drops = [name for name, inner in policies.items() if inner.get("ingress-zones") == ["HOST"] and inner.get("target") in (["DROP"], ["REJECT"])]
        if drops:
            raise EgressError(
                f"policy {' and policy '.join(drops)} of firewalld drops by its target what leaves this host. In this version that also drops the "
                "later packets of every connection, and the answers of sshd, so no way can be opened beside it; nothing was changed. Update "
                "firewalld, or set the target to CONTINUE and drop by rich rules, which are about new connections only: "
                "rule priority=32767 protocol value=tcp drop"
            )

    def _require_settled(self) -> None:
        """Wait for a reload that is under way. Raise EgressError where one has failed and left everything closed."""
        end = time.monotonic() + _PATIENCE
        while self._has_table(_STOPGAP):
            if time.monotonic() > end:
                raise EgressError(
                    f"table inet {_STOPGAP} drops every new connection: a reload of firewalld has failed and left it behind. Nothing was "
                    "changed. Run 'firewall-cmd --check-config', mend what it names, and then run 'firewall-cmd --reload'"
                )
            time.sleep(0.1)

    def _require_nothing_to_lose(self) -> None:
        found = self._differences()
        if found:
            raise EgressError(
                "firewalld must reload to take up a policy, and since what runs is not what is configured, that would change more than this: "
                f"{'; '.join(found)}. Nothing was changed. Keep what runs with 'firewall-cmd --runtime-to-permanent', or go back to what is "
                "configured with 'firewall-cmd --reload', and run this again"
            )

    def _differences(self) -> t.List[str]:
        return differences(lambda *arguments: self._call(*arguments)[1], policy.NAME, self.root)

    # Changes

    def _adjust(self, wanted: t.Set[Way]) -> None:
        """Change the rich rules of our policy, which runs. What is to be opened is open before anything else is closed."""
        running = self._in_force() or set()
        self._change_rules("--add-rich-rule", wanted - running)
        self._write(policy.text(wanted))
        self._change_rules("--remove-rich-rule", running - wanted)

    def _remove(self) -> None:
        """Take our policy away; where a reload would lose something, only what it does, and its empty shell runs on until the next one."""
        self._require_settled()
        if self._differences():
            self._change_rules("--remove-rich-rule", self._in_force() or set())
            self._write("")
        else:
            self._write_and_reload("")

    def _change_rules(self, option: str, ways: t.Collection[Way]) -> None:
        if ways:
            arguments = [f"--policy={policy.NAME}", *(f"{option}={policy.rich_rule(way)}" for way in sorted(ways))]
            code, out, err = self._call(*arguments)
            if code != 0:
                raise EgressError(f"firewall-cmd {' '.join(arguments)} failed: {_reason(out, err)}", changed=True)

    def _write(self, text: str) -> None:
        """Write the file of our policy; without a text, remove it."""
        if text:
            files.write(self.root + policy.PATH, text)
        else:
            for path in (policy.PATH, _BACKUP):
                files.remove(self.root + path)

    def _write_and_reload(self, text: str) -> None:
        """Have firewalld read another policy file, or none. Whatever fails, the former one is in place and in force again."""
        former = self._stored() or ""
        self._write(text)
        code, out, err = self._call("--check-config")
        if code != 0:
            self._write(former)
            raise EgressError(f"firewalld finds its configuration broken, so it was not reloaded and nothing was changed: {_reason(out, err)}")
        failed = self._reload_twice()
        if failed:
            self._write(former)
            again = self._reload_twice()
            self._open_what_a_failure_closed()
            state = f"and without it too: {again}. See to it before anything else" if again else "so it is as it was before"
            raise EgressError(f"firewalld fails to reload with policy {policy.NAME} ({failed}), {state}", changed=bool(again))

    def _reload_twice(self) -> str:
        """A reload fails where somebody has flushed firewalld's rules, since there is nothing to delete; the one after it then works."""
        return self._reload() and self._reload()

    def _finish_reload(self) -> None:
        """Bring to its end what a run that was killed has begun."""
        try:
            self._require_settled()
        except EgressError:
            self._reload()
        self._foreign_tables.put_back()

    def _reload(self) -> str:
        """Reload, and put back what that empties of others. Returns why it failed, or nothing."""
        self._foreign_tables.save()
        code, out, err = self._call("--reload")
        self._foreign_tables.put_back()
        if code != 0:
            return _reason(out, err)
        return f"table inet {_STOPGAP} stays" if self._has_table(_STOPGAP) else ""

    def _open_what_a_failure_closed(self) -> None:
        command = nft.find()
        if command is not None and self._has_table(_STOPGAP):
            self._run([command, "delete", "table", "inet", _STOPGAP], "")

    def _call(self, *arguments: str) -> t.Tuple[int, str, str]:
        return self._run([nft.find("firewall-cmd") or "firewall-cmd", *arguments], "")


def _reason(out: str, err: str) -> str:
    """What firewall-cmd said, in one line."""
    return " ".join((err.strip() or out.strip() or "no reason given").split())
