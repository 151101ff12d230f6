# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on a server of the lab: module postfix_config, killed before each of its effects, and what a mail server must still do then.

Standard input is one request as JSON; see the functions in COMMANDS. The module runs in a forked child, with ansible-core's
own AnsibleModule, so nothing of it is replaced. An effect is what changes the file system or starts a program. Python's audit
events tell of nearly all of them (sys.addaudithook); they know nothing of os.write(), which is therefore wrapped.
"""

from __future__ import annotations

import collections
import email.message
import email.utils
import hashlib
import importlib
import itertools
import json
import os
import re
import shutil
import signal
import smtplib
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ansible.module_utils.testing import patch_module_args

from ansible_collections.outpost.smtp.plugins.modules import postfix_config

POSTFIX = Path("/etc/postfix")
OWN = POSTFIX / "outpost_smtp"
QUEUE = Path("/var/spool/postfix")
QUEUES = ("maildrop", "incoming", "active", "deferred", "hold", "corrupt")
BUILT = {"hash": ".db", "lmdb": ".lmdb", "cdb": ".cdb"}
#: Audit events of effects (Python's "Audit events table"); "open" is one when it is for writing, and "os.fork" makes the process that logs in.
EVENTS = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.chown", "os.link", "os.utime", "os.setxattr", "os.fork", "os.kill")
#: Those by which names change or other programs work. The others fill files that nobody has been pointed to yet.
BORDERS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.fork", "os.kill", "start", "in")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
#: Programs, and words of a command line, that change nothing; master(8) is only asked whether it runs.
_READERS, _READING = ("postconf", "master", "rpm", "journalctl"), ("-q", "-s", "show", "is-active", "is-enabled")
_EVERYWHERE = {"LC_ALL": "C", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}


class Effects:
    """Tells the effects of this process, and does something before one of them: a number, or the first that matches a pattern."""

    def __init__(self, step, action, report):
        self.count, self._step, self._action, self._report = 0, step, action, report
        self._write = os.write
        self._start = subprocess.Popen.__init__
        self._busy = False
        self._process = os.getpid()
        os.fsync = lambda descriptor: None  # takes most of the time, and no process sees a difference
        sys.addaudithook(self._audit)
        os.write = self._counted_write
        subprocess.Popen.__init__ = self._counted_start(self._start)

    def _audit(self, event, arguments):
        if self._busy or os.getpid() != self._process:
            return
        if event in ("os.remove", "os.mkdir") and os.path.isabs(arguments[0]) and os.path.lexists(arguments[0]) != (event == "os.remove"):
            return  # an effect that fails
        if event == "os.kill" and arguments[1] == 0:
            return  # only a question
        if event in EVENTS:
            self.effect(" ".join([event, *(argument for argument in arguments[:1] if isinstance(argument, str))]))
        elif event == "open" and isinstance(arguments[0], str) and isinstance(arguments[2], int) and arguments[2] & _WRITING:
            self.effect(f"open {arguments[0]}")

    def effect(self, what):
        self.count += 1
        self._busy = True
        self._write(self._report, f"{what}\n".encode())
        if self._is_the_one(what):
            self._action()
        self._busy = False

    def _is_the_one(self, what):
        if not isinstance(self._step, re.Pattern):
            return self.count == self._step
        matches = self._step.search(what)
        if matches:
            self._step = 0
        return matches

    def _counted_write(self, descriptor, data):
        if self._busy or not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return self._write(descriptor, data)
        self.effect("write")
        half = self._write(descriptor, data[: len(data) // 2])
        self.effect("half of a write")
        return half + self._write(descriptor, data[half:])

    def _counted_start(self, start):
        def counted(process, argv, *arguments, **options):
            changes = os.path.basename(argv[0]) not in _READERS and not set(_READING) & set(argv)
            name = f"{os.path.basename(argv[0])} {re.sub('postfix(@-)?.service', 'postfix', argv[-1])}"
            if changes:
                self.effect(f"start {name}")
            start(process, argv, *arguments, **options)
            if changes:
                self.effect(f"in {name}")

        return counted


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def run_module(options, step=0, action=die, check=False):
    """Run the module in a child that does ``action`` before its effect number ``step``, or the first that matches the pattern ``step``.

    Returns its result, None when it was killed, and its effects in order, the last one not done when it was killed.
    """
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as told:
        child = os.fork()
        if child == 0:
            sys.stdout = out
            Effects(step, action, told.fileno())
            try:
                with patch_module_args({**options, "_ansible_check_mode": check}):
                    postfix_config.main()
            finally:
                out.flush()
                os._exit(0)
        status = os.waitpid(child, 0)[1]
        out.seek(0)
        told.seek(0)
        text, effects = out.read(), told.read().splitlines()
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL, status
        return None, effects
    return json.loads(text), effects


def ask(*argv, stdin=""):
    """What a program prints; AssertionError when it fails."""
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False, env=_EVERYWHERE)
    assert done.returncode == 0, f"{' '.join(argv)}: exit {done.returncode}: {done.stderr}"
    return done.stdout


def parameters():
    """What Postfix reads from the live main.cf."""
    return {name: value for name, _equals, value in (line.partition(" = ") for line in ask("postconf", "-n").splitlines())}


def check_consistent(sides):
    """What any process of Postfix reads now fits together, and mail goes where one of ``sides`` wants it, with its login."""
    main = parameters()
    services = {"/".join(line.split()[:2]) for line in ask("postconf", "-M").splitlines()}
    overrides = ask("postconf", "-P").splitlines()
    transport = main.get("default_transport")
    assert transport in [side["transport"] for side in sides], f"default_transport is {transport}"
    for value in [*main.values(), *overrides]:
        for kind, path in re.findall(r"(?:^|[\s,:])(texthash|regexp|pcre|hash|lmdb|cdb|btree):(/[^\s,]+)", value):
            assert os.path.exists(path + BUILT.get(kind, "")), f"{kind}:{path} is missing"
            if kind in BUILT:
                assert os.stat(path + BUILT[kind]).st_size > 0, path
    for line in overrides:
        service = line.split("/")[0]
        if service == (transport or "").partition(":")[0] or service in ("smtp", "relay"):
            for name in re.findall(r"\$\{?(outpost_[a-z0-9_]+)", line):
                assert name in main, f"{service} refers to {name}, which is not in main.cf"
    if transport:
        service, nexthop = transport.split(":", 1)
        assert f"{service}/unix" in services, f"there is no service {service}"
        maps = main[f"{service}_password_maps"].split()[0]
        found = ask("postmap", "-q", re.sub(r"\[(.*)\].*", r"\1", nexthop), maps).rstrip("\n")
        assert found in [side["login"] for side in sides if side["transport"] == transport], f"{nexthop} has no credential in {maps}"


def fingerprint():
    """Everything in the configuration directory, without the number of the generation and without secrets in the clear."""
    found = {}
    for path in sorted(POSTFIX.rglob("*")):
        name = re.sub(r"outpost_smtp/\d+", "outpost_smtp/N", str(path.relative_to(POSTFIX)))
        status = path.lstat()
        same = path.is_file() and path.name != "built.json" and path.suffix not in BUILT.values()  # no two databases are the same
        content = re.sub(rb"outpost_smtp/\d+", b"outpost_smtp/N", path.read_bytes()) if same else b""
        if path.name == "state.json":
            content = re.sub(rb'"generation": \d+', b'"generation": "N"', content)
        found[name] = f"{stat.filemode(status.st_mode)} {status.st_uid}:{status.st_gid} {hashlib.sha256(content).hexdigest()[:12]}"
    return found


def visible():
    """What Postfix can see of the configuration: both files, and the tables that they refer to."""
    texts = [path.read_bytes() for path in (POSTFIX / "main.cf", POSTFIX / "master.cf") if path.exists()]
    generations = sorted(set(re.findall(rb"outpost_smtp/(\d+)/", b"".join(texts))))
    tables = [path for number in generations for path in sorted((OWN / number.decode()).rglob("*")) if path.is_file()]
    return hashlib.sha256(b"\0".join([*texts, *(path.read_bytes() for path in tables)])).hexdigest()


def difference(one, other):
    return {name: [one.get(name), other.get(name)] for name in {*one, *other} if one.get(name) != other.get(name)}


def message(mark, account):
    mail = email.message.EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = account["sender"], account["recipient"], mark
    mail["Date"], mail["Message-ID"] = email.utils.formatdate(), f"<{mark}@faults.test>"
    mail.set_content("to be delivered once")
    return mail


def submit(mark, account, smtp):
    """Hand a message in by sendmail(1) and, with ``smtp``, another on the loopback; return their marks."""
    sent = [f"{mark}-local"]
    ask("sendmail", "-f", account["sender"], account["recipient"], stdin=message(sent[0], account).as_string())
    if smtp:
        sent.append(f"{mark}-smtp")
        deadline = time.monotonic() + 15
        while True:  # a restart that the killed run had begun may be under way
            try:
                with smtplib.SMTP("127.0.0.1", 25, "faults.test", timeout=10) as client:
                    client.send_message(message(sent[1], account))
                break
            except (OSError, smtplib.SMTPException):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
    return sent


def queued():
    return [path for queue in QUEUES for path in (QUEUE / queue).rglob("*") if path.is_file()]


def await_empty_queue(seconds=60):
    """Let Postfix deliver all that is queued. AssertionError with the names of what is left."""
    deadline = time.monotonic() + seconds
    ask("postqueue", "-f")
    again = time.monotonic() + 3
    while queued():
        assert time.monotonic() < deadline, f"{ask('postqueue', '-p')}"
        if time.monotonic() > again:
            ask("postqueue", "-f")
            again = time.monotonic() + 3
        time.sleep(0.05)


def running():
    master = Path(ask("postconf", "-d", "-h", "daemon_directory").strip()) / "master"
    return (POSTFIX / "main.cf").exists() and subprocess.run([master, "-t"], capture_output=True, check=False, env=_EVERYWHERE).returncode != 0


def await_running():
    """Whether Postfix runs, or soon does: systemd goes on with a restart whose systemctl was killed."""
    deadline = time.monotonic() + 30
    while not running():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def forget_starts():
    """systemd starts no unit more than five times in ten seconds; what a killed run had begun, nobody would begin again."""
    subprocess.run(["systemctl", "reset-failed", "postfix*"], capture_output=True, check=False, env=_EVERYWHERE)


def load_everything():
    """Import what the module imports only when something changes, so that not every child has to."""
    for path in sorted(Path(__file__).parent.glob("ansible_collections/outpost/smtp/plugins/module_utils/_*/**/*.py")):
        importlib.import_module(".".join(path.relative_to(Path(__file__).parent).with_suffix("").parts))


def succeed(options):
    """Run the module and return its effects and whether it reports a change. AssertionError when it fails."""
    result, effects = run_module(options)
    assert not result.get("failed"), result.get("msg")
    return effects, result["changed"]


def change(side):
    """Go to a side of a change, or to one that Postfix refuses, so that the old one is put back; return the effects."""
    if not side.get("refused"):
        return succeed(side["options"])[0]
    result, effects = run_module(side["options"])
    assert result.get("rolled_back"), result
    return effects


def named(effects):
    """The effects, each with how often there was the same before, and without the numbers of generations."""
    seen = collections.Counter()
    for effect in effects:
        name = re.sub(r"/outpost_smtp/[0-9]+", "/outpost_smtp/N", effect)
        seen[name] += 1
        yield f"{name} {seen[name]}"


def chosen(effects, request, share):
    """The numbers of the effects before which a run is to be killed: this server's share, and those that no earlier change had."""
    first, stride = share
    steps = [step for step, effect in enumerate(effects, 1) if request["every"] or effect.split()[0] in BORDERS]
    names = list(named(effects))
    new = {step for step in steps if request["known"] and names[step - 1] not in request["known"]}
    return sorted({*steps[first::stride], *new})


def kills(request):
    """Change to and fro between two configurations, killed before effect after effect; heal each time.

    Where Postfix refuses the second, the way there is the way back, too, and each run starts from the first.

    What Postfix can see is the same after many of the kills. It is tried once, with the processes that run and with new ones.
    """
    sides = request["sides"]
    load_everything()
    wanted, effects = [], []
    succeed(request["start"]["options"])
    for side in (*sides, *sides):  # twice round: the first time, it depends on what was there before
        effects.append(change(side))
        wanted.append(fingerprint())
    wanted, effects = wanted[2:], effects[2:]
    plans = [chosen(effects[index], request, request["shares"][index]) for index in (0, 1)]
    sent, seen = [], set()
    for steps in itertools.zip_longest(*plans):
        for index, side in enumerate(sides):
            step, heal = steps[index], sides[0] if side.get("refused") else side
            if step is None:
                change(side)
                continue
            forget_starts()
            result, done = run_module(side["options"], step)
            try:
                assert result is None, "it had less effects than before"
                sent += try_mail(request, f"{request['mark']}-{step}-{index}", index, seen)
                succeed(heal["options"])
                left = difference(wanted[index], fingerprint())
                assert not left, f"the next run left {left}"
                assert not request["daemon"] or await_running(), "Postfix does not run"
                assert step % 4 or not succeed(heal["options"])[1], "the run after the next changes something"
            except (AssertionError, OSError, smtplib.SMTPException) as error:
                raise AssertionError(f"killed at effect {step}, {done[-1]}, on the way to {side['name']}: {error}") from None
    succeed(request["last"]["options"])
    if not running():
        forget_starts()
        ask("systemctl", "restart", "postfix")
    await_empty_queue()
    steps = {name for index in (0, 1) for name in named(effects[index]) if name.split()[0] in BORDERS}
    return {"sent": sent, "killed": plans, "steps": sorted(steps)}


def try_mail(request, mark, index, seen):
    """Check what a killed run left and hand messages in; return their marks. Nothing when Postfix has already been tried so."""
    if not (POSTFIX / "main.cf").exists() or (index, visible()) in seen:
        return []
    seen.add((index, visible()))
    check_consistent(request["sides"])
    sent = submit(mark, request["account"], request["daemon"])
    if running():
        ask("postfix.real" if shutil.which("postfix.real") else "postfix", "reload")  # a test may have put something in its place
        sent += submit(f"{mark}-reloaded", request["account"], request["daemon"])
    return sent


def run(request):
    """Run the module once. With ``at``, do ``script`` before the first effect that matches it, and with ``kill`` die there."""

    def script():
        ask("sh", "-c", request["script"])
        if request["kill"]:
            die()

    at = re.compile(request["at"]) if request["at"] else None
    result, effects = run_module(request["options"], at, script, request["check"])
    assert at is None or any(at.search(effect) for effect in effects), effects
    return {"result": result, "effects": effects}


def starve(request):
    """Change the configuration on a file system with no room at all, then with a little more each time, until there is enough.

    After each of these, what Postfix sees is complete and mail is accepted. Returns how many changes failed, and what was sent.
    """
    sides, filler, sent, refused = request["sides"], POSTFIX / "filler", [], []
    load_everything()
    succeed(sides[0]["options"])
    before, seen, room = visible(), set(), 0
    while True:
        fill(filler, request["kind"], room)
        result, _effects = run_module(sides[1]["options"])
        if not result.get("failed"):
            break
        refused.append(result["msg"])
        check_consistent(sides[:1])
        assert visible() == before, f"with room for {room}, {result['msg']!r} has changed what Postfix sees"
        sent += try_mail(request, f"{request['mark']}-{room}", 0, seen)
        room += 1
        assert room < 200, result["msg"]
    empty(filler)
    check_consistent(sides[1:])
    assert not succeed(sides[1]["options"])[1], "the run after the next changes something"
    sent += submit(f"{request['mark']}-healed", request["account"], True)
    await_empty_queue()
    return {"refused": refused, "sent": sent}


def fill(filler, kind, room):
    """Leave room for so many more blocks, or for so many more files."""
    empty(filler)
    filler.mkdir()
    free = os.statvfs(POSTFIX)
    if kind == "space":
        with open(filler / "0", "wb") as file:
            file.write(bytes(max(0, free.f_bavail - room) * free.f_frsize))
    else:
        for number in range(max(0, free.f_ffree - room)):
            (filler / str(number)).touch()


def empty(filler):
    for path in sorted(filler.rglob("*")) if filler.exists() else []:
        path.unlink()
    if filler.exists():
        filler.rmdir()


def mail(request):
    """Check that what Postfix reads is one of ``sides``, if any; hand messages in, and with ``deliver`` wait until they are away."""
    if request["sides"]:
        check_consistent(request["sides"])
    sent = submit(request["mark"], request["account"], request["daemon"])
    if request["deliver"]:
        await_empty_queue()
    return {"sent": sent, "queued": [path.name for path in queued()], "running": running()}


COMMANDS = {"kills": kills, "run": run, "starve": starve, "mail": mail}


def main():
    request = json.load(sys.stdin)
    began = time.monotonic()
    try:
        report = COMMANDS[request["command"]](request)
    except (AssertionError, OSError, smtplib.SMTPException) as error:
        report = {"error": f"{type(error).__name__}: {error}"}
    json.dump({**report, "seconds": time.monotonic() - began}, sys.stdout)


if __name__ == "__main__":
    main()
