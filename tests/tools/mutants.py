# SPDX-License-Identifier: GPL-3.0-or-later
"""Break the code in ways that matter, one at a time and in a copy, and make sure that the tests notice.

    mutants.py              all of them; exit status 1 if one of them survives
    mutants.py redact       those whose file name holds this word

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
SOURCE = Path("plugins", "module_utils", "_smtp")
TESTS = "tests/unit/plugins/module_utils/_smtp"
SECONDS = 180
"""A mutant that hangs is noticed, too."""


class Mutant(t.NamedTuple):
    """In *file* the only *old* becomes *new*; *tests* (file, and a word of pytest -k) must fail then."""

    file: str
    old: str
    new: str
    tests: tuple[str, str]
    meaning: str


MUTANTS = (
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
)


def copy_of_the_tree(place: Path) -> Path:
    """What the tests need, and nothing that was built."""
    for name in ("plugins", "tests"):
        shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__", "output"))
    shutil.copy(ROOT / "pyproject.toml", place)
    return place


def passes(tree: Path, tests: tuple[str, str]) -> bool:
    file, word = tests
    command = [sys.executable, "-m", "pytest", "--quiet", "--exitfirst", "-p", "no:cacheprovider", "-k", word, f"{TESTS}/{file}"]
    try:
        done = subprocess.run(command, cwd=tree, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return False
    if done.returncode not in (0, 1):
        sys.exit(f"{file} -k {word!r} does not run:\n{done.stdout.decode(errors='replace')}")
    return done.returncode == 0


def survives(mutant: Mutant, tree: Path) -> bool:
    (path,) = (tree / SOURCE).rglob(mutant.file)
    text = path.read_text(encoding="utf-8")
    if text.count(mutant.old) != 1:
        sys.exit(f"{mutant.file} has {text.count(mutant.old)} times {mutant.old!r}, not once")
    path.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
    try:
        return passes(tree, mutant.tests)
    finally:
        path.write_text(text, encoding="utf-8")


def main() -> int:
    chosen = [mutant for mutant in MUTANTS if not sys.argv[1:] or sys.argv[1] in mutant.file]
    survivors = 0
    with tempfile.TemporaryDirectory() as directory:
        tree = copy_of_the_tree(Path(directory))
        for tests in dict.fromkeys(mutant.tests for mutant in chosen):
            if not passes(tree, tests):
                sys.exit(f"{tests[0]} -k {tests[1]!r} fails as it is")
        for mutant in chosen:
            survived = survives(mutant, tree)
            survivors += survived
            print(f"{'SURVIVED' if survived else 'noticed '}  {mutant.file}: {mutant.meaning}", flush=True)
    print(f"{len(chosen) - survivors} of {len(chosen)} noticed")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
