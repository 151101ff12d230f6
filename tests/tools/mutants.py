# SPDX-License-Identifier: GPL-3.0-or-later
"""Break the code in ways that matter, one at a time and in a copy, and make sure that the tests notice.

    mutants.py              all of them; exit status 1 if one of them survives
    mutants.py redact       those whose package or file name holds this word

It takes some minutes, so it is run by hand (make mutants) and not by CI.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import typing as t
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE = Path("plugins", "module_utils")
TESTS = Path("tests", "unit", "plugins", "module_utils")
SECONDS = 180
"""A mutant that hangs is noticed, too."""


class Mutant(t.NamedTuple):
    """In *file* the only *old* becomes *new*; *tests* (file, and a word of pytest -k) must fail then. Both are in *package*."""

    file: str
    old: str
    new: str
    tests: tuple[str, str]
    meaning: str
    package: str = "_smtp"


SMTP = (
    Mutant("reply.py", "if len(line) > MAX_LINE:", "if False:", ("test_reply.py", "limits"), "lines without a limit"),
    Mutant("reply.py", "len(self._lines) >= MAX_LINES or", "", ("test_reply.py", "limits"), "replies of any number of lines"),
    Mutant(
        "reply.py",
        "if self._lines and code != self._code:",
        "if False:",
        ("test_hostile_bytes.py", "a10"),
        "codes may differ in a reply",
    ),
    Mutant("text.py", "if text.isprintable():", "if text:", ("test_hostile_bytes.py", "a13"), "control characters are shown"),
    Mutant(
        "client.py",
        "if self._parser.pending:\n            self._hang_up()",
        "if False:\n            self._hang_up()",
        ("test_hostile_tls.py", "a17"),
        "clear text after STARTTLS is read",
    ),
    Mutant(
        "client.py",
        'self.expect(reply, (220,), "")',
        'self.expect(reply, (220, 250), "")',
        ("test_hostile_bytes.py", "250"),
        "250 is a greeting",
    ),
    Mutant(
        "login.py",
        "if not (client.trusted or",
        "if False and not (client.trusted or",
        ("test_hostile_tls.py", "a19"),
        "a password in clear text",
    ),
    Mutant(
        "login.py",
        "if reply.code == 235:",
        "if reply.code // 100 == 2:",
        ("test_hostile_bytes.py", "250_to_auth"),
        "250 is a login",
    ),
    Mutant("login.py", 'client.exchange("*", "*")', "pass", ("test_hostile_auth.py", "a29"), "an exchange is left open"),
    Mutant(
        "sasl.py",
        '"CRAM-MD5", "PLAIN", "LOGIN"',
        '"PLAIN", "LOGIN", "CRAM-MD5"',
        ("test_hostile_auth.py", "a27"),
        "the weaker mechanism is preferred",
    ),
    Mutant("late.py", "    sasl_md5,\n", "", ("test_run_as.py", "late"), "a module that can not be loaded any more"),
    Mutant(
        "sasl_scram.py",
        "not hmac.compare_digest(match.group(1), self._signature)",
        "False",
        ("test_hostile_auth.py", "proof"),
        "any server signature is good",
    ),
    Mutant(
        "redact.py",
        "for alignment in range(3):",
        "for alignment in range(1):",
        ("test_redact.py", "alignment"),
        "base64 at one alignment only",
    ),
    Mutant(
        "transcript.py",
        "self.redactor.clean(printable(text))",
        "printable(text)",
        ("test_parts.py", "secret"),
        "what the server quotes is shown",
    ),
    Mutant(
        "tls.py",
        "if deadline.expired or not wait(tls, event, deadline):",
        "if not wait(tls, event, deadline):",
        ("test_parts.py", "silent"),
        "a busy server has all the time",
    ),
    Mutant(
        "tls_socket.py",
        "self._sock.recv(_CHUNK)",
        "self._sock.recv(1 << 20)",
        ("test_tls_socket.py", "one_chunk"),
        "OpenSSL gets all at once",
    ),
    Mutant(
        "tls.py",
        "context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)",
        "context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)\n    context.check_hostname = False",
        ("test_hostile_tls.py", "a22 or wrong_name"),
        "certificates for any name",
    ),
    Mutant(
        "connect.py",
        "MAX_ADDRESSES = 16",
        "MAX_ADDRESSES = 5000",
        ("test_hostile_network.py", "a38_many"),
        "a connection to each of 200 addresses",
    ),
    Mutant(
        "permission.py",
        '*steps.values(), "RSET") if',
        '*steps.values(), "NOOP") if',
        ("test_hostile_dialogue.py", "nothing_is_ever_sent"),
        "the transaction stays open",
    ),
    Mutant("run_as.py", "os.setgroups(groups)", "pass", ("test_run_as.py", "identity"), "the groups of root are kept"),
    Mutant(
        "run_as.py",
        "os.dup2(null, int(name), inheritable=False)",
        "pass",
        ("test_run_as.py", "open"),
        "the files of root stay open",
    ),
    Mutant(
        "run_as.py",
        "prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)",
        "pass",
        ("test_run_as.py", "ends_with_its_parent"),
        "the child outlives its parent",
    ),
    Mutant(
        "run_as.py", "os.kill(child, signal.SIGKILL)", "pass", ("test_run_as.py", "deadline"), "the child outlives its deadline"
    ),
    Mutant(
        "srv.py",
        "return trust._replace(server_name=domain)",
        "return trust",
        ("test_srv.py", "certificate"),
        "whoever forges SRV records gets the password",
    ),
    Mutant(
        "secret_sources.py",
        "if status.st_mode & 0o077:",
        "if status.st_mode & 0o007:",
        ("test_secret_sources.py", "others"),
        "a password that a group can read",
    ),
)

POSTFIX = (
    Mutant(
        "transaction.py",
        "if name == MASTER and MAIN in [later for later, _text in steps[number + 1 :]]:",
        "if False:",
        ("test_transaction.py", "knows"),
        "main.cf names a transport that master(8) does not know",
    ),
    Mutant(
        "transaction.py",
        "            self._refuse_interference()\n",
        "",
        ("test_transaction.py", "is_not_lost"),
        "what somebody else writes meanwhile is overwritten",
    ),
    Mutant(
        "transaction.py",
        "problem = self._tell_again()",
        'problem = ""',
        ("test_transaction.py", "rolled_back"),
        "old files, and a Postfix that runs with the new ones",
    ),
    Mutant(
        "transaction.py",
        "self._own.write_journal(Journal(live.state, live.good, live.owed))",
        "self._own.end_journal()",
        ("test_kill.py", "outlives"),
        "what a killed run owed is forgotten",
    ),
    Mutant(
        "host.py",
        "wrong = [key for key, value in entries.items() if found.get(key) != value]",
        "wrong = []",
        ("test_configure.py", "reads_back"),
        "tables are not read back",
    ),
    Mutant(
        "built_maps.py",
        "os.fchmod(descriptor, mode)",
        "pass",
        ("test_built_maps.py", "wider"),
        "a built map that everybody can read",
    ),
    Mutant(
        "plan.py",
        'NEED_RESTART = ("inet_interfaces", "inet_protocols")',
        "NEED_RESTART = ()",
        ("test_transaction.py", "restart_only"),
        "a reload where Postfix needs a restart",
    ),
    Mutant(
        "ownership.py",
        "    if before.appended is None:\n        return {}\n",
        "    if before.appended is None:\n        return {key: before.previous}\n",
        ("test_configure.py", "somebody_changed"),
        "an administrator's change is taken back",
    ),
    Mutant(
        "set_aside.py",
        "    while found:\n",
        "    if False:\n",
        ("test_set_aside.py", "installation"),
        "parameters that others refer to are set aside",
    ),
    Mutant(
        "transports.py",
        "alike = all(one[field] == relay[field] for field in _SHARED) and has_secret(one) == has_secret(relay)",
        "alike = True",
        ("test_transports.py", "differs"),
        "465 and 587 by one client",
    ),
    Mutant(
        "examination.py",
        "fault = next((finding for finding in found if finding.severity == ERROR and finding.names & ours), None)",
        "fault = next((finding for finding in found if finding.severity == ERROR), None)",
        ("test_transaction.py", "administrators_settings"),
        "an administrator's fault refuses a change",
    ),
    Mutant(
        "preflight.py",
        '    return {**endpoint, "name"',
        '    return {**endpoint, "password": None, "name"',
        ("test_preflight.py", "different"),
        "a new password is switched to untried",
    ),
)

EGRESS = (
    Mutant(
        "egress.py",
        "        self.rollback.arm(former, MARGIN + terms.proof_timeout + terms.rollback_timeout)\n",
        "",
        ("test_rollback.py", "killed_run"),
        "nobody takes back what a killed run has begun",
    ),
    Mutant(
        "egress.py",
        "proofs = self.prover.prove(goal.request, goal.resolved, terms.proof_timeout)",
        "proofs = []",
        ("test_rollback.py", "disprove"),
        "rules that keep the mail in stay",
    ),
    Mutant(
        "egress.py",
        "        self.opener.apply(goal.opening)\n        return",
        "        return",
        ("test_opening.py", "opened_before"),
        "it closes and does not open",
    ),
    Mutant(
        "egress.py",
        "with self._alone():\n            return self._present(",
        "if True:\n            return self._present(",
        ("test_host_faults.py", "two_runs"),
        "two runs at once",
    ),
    Mutant(
        "program.py",
        "if former is None or (when and when[1] != former.token):",
        "if former is None:",
        ("test_rollback.py", "another_change"),
        "the timer of one change takes back another",
    ),
    Mutant(
        "addresses.py",
        "kept[family] = last[family] if answer is None else",
        "kept[family] = {} if answer is None else",
        ("test_addresses.py", "failed_query"),
        "a query that fails takes addresses away",
    ),
    Mutant(
        "addresses.py",
        "if not any(answered.values()):",
        "if not any(answer is not None for answer in answered.values()):",
        ("test_refresh.py", "failed_or_empty"),
        "an empty answer takes all addresses away",
    ),
    Mutant(
        "opening.py",
        "kept.intersection(ways.wanted(request, resolved))",
        "kept",
        ("test_opening.py", "no_longer_wanted"),
        "a way that nobody wants any more stays open",
    ),
    Mutant(
        "own_table.py",
        "if self.nft and listed is not None and nft.is_ours(listed):\n            self.nft.delete_own_table()",
        "if self.nft and listed is not None:\n            self.nft.delete_own_table()",
        ("test_egress.py", "strangers_table"),
        "a stranger's table of our name is deleted",
    ),
    Mutant("ruleset.py", '    "drop",\n', "", ("test_ruleset.py", "beyond_our_table"), "a template can lock its administrator out"),
    Mutant(
        "users.py",
        'return "@uid:user@" in request.text and "reject" in request.text',
        "return False",
        ("test_rollback.py", "kept_in"),
        "the guard is not proved",
    ),
    Mutant(
        "nftables.py",
        "lines = [f\"delete rule {self} {rule['chain']} handle {int(rule['handle'])}\" for rule in self._jumps]",
        "lines = [f\"flush chain {self} {rule['chain']}\" for rule in self._jumps]",
        ("test_manager_nftables.py", "by_its_handle"),
        "rules of others go with ours",
    ),
    Mutant(
        "ufw.py",
        "            self._require_sound_files()\n",
        "            pass\n",
        ("test_manager_ufw.py", "could_not_load"),
        "ufw is told to load files that are broken",
    ),
    Mutant(
        "proof.py",
        'self.others == "refused" and self.counted is True',
        'self.others == "refused"',
        ("test_proof.py", "not_count"),
        "somebody else's refusal proves our guard",
    ),
)

MUTANTS = (
    *SMTP,
    *(mutant._replace(package="_postfix") for mutant in POSTFIX),
    *(mutant._replace(package="_egress") for mutant in EGRESS),
)


def copy_of_the_tree(place: Path) -> Path:
    """What the tests need, and nothing that was built."""
    for name in ("plugins", "tests"):
        shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__", "output"))
    shutil.copy(ROOT / "pyproject.toml", place)
    return place


def passes(tree: Path, mutant: Mutant) -> bool:
    file, word = mutant.tests
    path = str(TESTS / mutant.package / file)
    command = [sys.executable, "-m", "pytest", "--quiet", "--exitfirst", "-p", "no:cacheprovider", "-k", word, path]
    try:
        done = subprocess.run(command, cwd=tree, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return False
    if done.returncode not in (0, 1):
        sys.exit(f"{file} -k {word!r} does not run:\n{done.stdout.decode(errors='replace')}")
    return done.returncode == 0


def survives(mutant: Mutant, tree: Path) -> bool:
    (path,) = (tree / SOURCE / mutant.package).rglob(mutant.file)
    text = path.read_text(encoding="utf-8")
    if text.count(mutant.old) != 1:
        sys.exit(f"{mutant.file} has {text.count(mutant.old)} times {mutant.old!r}, not once")
    path.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
    try:
        return passes(tree, mutant)
    finally:
        path.write_text(text, encoding="utf-8")


def main() -> int:
    chosen = [mutant for mutant in MUTANTS if not sys.argv[1:] or sys.argv[1] in f"{mutant.package}/{mutant.file}"]
    survivors = 0
    with tempfile.TemporaryDirectory() as directory:
        tree = copy_of_the_tree(Path(directory))
        for mutant in {(mutant.package, mutant.tests): mutant for mutant in chosen}.values():
            if not passes(tree, mutant):
                sys.exit(f"{mutant.tests[0]} -k {mutant.tests[1]!r} fails as it is")
        for mutant in chosen:
            survived = survives(mutant, tree)
            survivors += survived
            print(f"{'SURVIVED' if survived else 'noticed '}  {mutant.file}: {mutant.meaning}", flush=True)
    print(f"{len(chosen) - survivors} of {len(chosen)} noticed")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
