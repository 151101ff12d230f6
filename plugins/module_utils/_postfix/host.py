# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.

"""Postfix's own programs and systemd, as far as a change of the configuration needs them."""

from __future__ import annotations

import contextlib
import os
import re
import select
import selectors
import subprocess
import tempfile
import time
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._postfix.configtext import split_list
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.errors import PostfixError
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.files import create_file, read_file
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.packages import find_program

#: Seconds that a program may take; `postfix stop` waits some for deliveries that are under way.
_TIMEOUT = 120.0
#: Octets that a program may write; `postmap -s` lists whole tables, and those of a large site have millions of entries.
MAX_OUTPUT = 4 << 20
_CHUNK = 65536
_OF_POSTFIX = ("postfix", "postconf", "postmap")
#: The instance that the distributions' service unit runs.
DEFAULT_DIRECTORY = "/etc/postfix"
SERVICE_UNIT = "postfix.service"


class Result(t.NamedTuple):
    """How a program ended, and what it wrote."""

    rc: int
    out: str
    err: str


Run = t.Callable[[t.Sequence[str], str], Result]


def run_program(argv: t.Sequence[str], stdin: str = "", timeout: float = _TIMEOUT) -> Result:
    """Run a program with untranslated messages. Raises PostfixError when it does not start or does not end in ``timeout``.

    One that writes more than MAX_OUTPUT is ended, and the beginning of what it wrote is returned with a complaint.
    """
    path = find_program(argv[0])
    if path is None:
        missing = "Postfix is not on this host: there is no program" if argv[0] in _OF_POSTFIX else "There is no program"
        raise PostfixError(f"{missing} {argv[0]}")
    environment = {"LC_ALL": "C", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    try:
        # pylint: disable-next=ansible-bad-function  # run_command belongs to AnsibleModule, which this package does not know
        process = subprocess.Popen([path, *argv[1:]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
    except OSError as error:
        raise PostfixError(f"{argv[0]} does not start: {error.strerror}") from None
    with process:
        try:
            out, err = _communicate(process, stdin.encode(), time.monotonic() + timeout)
        except subprocess.TimeoutExpired:
            raise PostfixError(f"{argv[0]} {argv[-1]} did not end within {timeout:.0f} seconds") from None
        finally:
            process.kill()  # does nothing to one that has ended and was waited for
    return Result(process.returncode, out.decode("utf-8", "replace"), err.decode("utf-8", "replace"))


def _communicate(process: subprocess.Popen[bytes], stdin: bytes, limit: float) -> t.Tuple[bytes, bytes]:
    """What a program writes, and wait for its end until ``limit`` on the monotonic clock. Raises TimeoutExpired."""
    received: t.Dict[t.Any, bytearray] = {process.stdout: bytearray(), process.stderr: bytearray()}
    with selectors.DefaultSelector() as selector:
        for stream in received:
            selector.register(stream, selectors.EVENT_READ)
        selector.register(t.cast(t.IO[bytes], process.stdin), selectors.EVENT_WRITE)
        while selector.get_map():
            ready = selector.select(max(0.0, limit - time.monotonic()))
            if not ready:
                raise subprocess.TimeoutExpired(process.args, 0)
            for key, _events in ready:
                stream = t.cast(t.IO[bytes], key.fileobj)
                if stream is process.stdin:
                    stdin = _feed(stream, stdin)
                    chunk = stdin
                else:
                    chunk = os.read(key.fd, _CHUNK)
                    received[stream] += chunk
                if not chunk:
                    selector.unregister(stream)
                    stream.close()
            if sum(map(len, received.values())) > MAX_OUTPUT:
                received[process.stderr] += f"fatal: it wrote more than {MAX_OUTPUT} bytes".encode()
                return bytes(received[process.stdout]), bytes(received[process.stderr])
    process.wait(max(0.0, limit - time.monotonic()))
    return bytes(received[process.stdout]), bytes(received[process.stderr])


def _feed(stream: t.IO[bytes], data: bytes) -> bytes:
    """Write some of ``data`` and return what is left: nothing for a program that does not read it."""
    try:
        return data[os.write(stream.fileno(), data[: select.PIPE_BUF]) :]
    except BrokenPipeError:
        return b""


def complaint(result: Result) -> str:
    """Return what a program of Postfix said, as one line, warnings last: its messages without the name of the program before each."""
    lines = sorted((result.err or result.out).strip().splitlines(), key=lambda line: "warning: " in line)
    return "; ".join(re.sub(r"^(\S+: )?(fatal|error|warning): ", "", line) for line in lines[:5]) or f"exit code {result.rc}"


def _complaints(result: Result) -> t.List[str]:
    """What a program of Postfix wrote, but for an entry that stands twice in main.cf: the last one counts, which is as good as any."""
    return [line for line in result.err.splitlines() if "overriding earlier entry" not in line]


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


class Host:
    """One Postfix instance: the one whose configuration is in ``config_directory``."""

    def __init__(
        self, config_directory: str, run: Run = run_program, systemd_directory: str = "/run/systemd/system", proc: str = "/proc"
    ) -> None:
        self.config_directory = config_directory
        self.run = run
        self._has_systemd = os.path.isdir(systemd_directory)
        self._proc = proc
        self._daemon_directory = ""  # as it is built in; empty: not asked yet

    def version_and_defaults(self, names: t.Iterable[str]) -> t.Tuple[str, t.Dict[str, str]]:
        """Return Postfix's version and the built-in defaults of parameters; needs no main.cf."""
        result = self.run(["postconf", "-d", "mail_version", "daemon_directory", *names], "")
        if result.rc != 0:
            raise PostfixError(f"postconf does not tell Postfix's version: {complaint(result)}")
        defaults = {name.strip(): value.strip() for name, _equals, value in (line.partition("=") for line in result.out.splitlines())}
        self._daemon_directory = defaults.pop("daemon_directory", "")
        return defaults.pop("mail_version", ""), defaults

    def check_is_instance(self) -> None:
        """Raises PostfixError when the directory is none that a Postfix of this host is configured in (MULTI_INSTANCE_README)."""
        if self.config_directory == DEFAULT_DIRECTORY:
            return
        default = self.run(["postconf", "-d", "-h", "config_directory"], "").out.strip()
        listed = self.run(["postconf", "-c", default, "-h", "multi_instance_directories", "alternate_config_directories"], "").out
        instances = [default, *split_list(listed.replace("\n", " "))]
        if os.path.realpath(self.config_directory) not in map(os.path.realpath, instances):
            raise PostfixError(
                f"config_directory: {self.config_directory} is no Postfix instance of this host; they are {', '.join(instances)}"
                " (multi_instance_directories). postmulti -e create makes one, nothing was changed"
            )

    def check(self, directory: str, ours: t.AbstractSet[str] = frozenset()) -> None:
        """Let Postfix read the main.cf and master.cf in ``directory``. Raises PostfixError when it finds a fault in them.

        postconf ends with 0 for most mistakes and only warns (postconf(1)); a warning about one of ``ours``, the
        parameters that are to be set, is a fault too. Warnings about the administrator's own are not for us to judge.
        """
        for option in ("-n", "-M"):
            result = self.run(["postconf", option, "-c", directory], "")
            if result.rc != 0:
                # What postconf quotes of main.cf may be a password, as in a broken "static:user:password".
                raise PostfixError(re.sub(r'"[^"\n]*"?', "...", complaint(result)))
            about_ours = [line for line in _complaints(result) if ours & set(re.findall(r"[A-Za-z0-9_]+", line))]
            if about_ours:
                raise PostfixError(complaint(result._replace(err="\n".join(about_ours))))

    def check_patterns(self, directory: str, path: str) -> None:
        """Let Postfix read a regexp table. Raises PostfixError when it warns about a line, which it would then ignore."""
        result = self.run(["postmap", "-c", directory, "-q", "x", f"regexp:{path}"], "")
        about_table = [line for line in _complaints(result) if f"{directory}/main.cf" not in line]
        if any(word in line for line in about_table for word in ("warning:", "fatal:")):
            text = complaint(result._replace(err="\n".join(about_table)))
            raise PostfixError(f"Postfix does not accept table {os.path.basename(path)}: {text}")

    def map_types(self) -> t.Set[str]:
        """Return the types of lookup tables that Postfix has, with the packages of extensions that are installed."""
        with contextlib.ExitStack() as stack:
            directory = self.config_directory
            if not os.path.isfile(os.path.join(directory, "main.cf")):  # postconf wants one, though the answer is not in it
                directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="outpost_smtp_"))
                create_file(os.path.join(directory, "main.cf"), b"", 0o600)
            result = self.run(["postconf", "-m", "-c", directory], "")
        if result.rc != 0:
            raise PostfixError(f"postconf does not tell the types of lookup tables: {complaint(result)}")
        return set(result.out.split())

    def build_map(self, directory: str, map_type: str, path: str) -> None:
        """Build a map beside its text, with the configuration in ``directory``. Raises PostfixError.

        postmap gives the map the mode of the text from its first byte on, whatever the umask. It ends with 0 when it has
        left entries out; check_entries() tells.
        """
        result = self.run(["postmap", "-c", directory, f"{map_type}:{path}"], "")
        if result.rc != 0:
            cause = complaint(result) if result.rc > 0 else f"postmap was ended by signal {-result.rc}"
            raise PostfixError(f"Postfix does not build table {os.path.basename(path)} as {map_type}: {cause}")

    def check_entries(self, directory: str, table: str, entries: t.Mapping[str, str]) -> None:
        """Look up every key of a table, ``type:path``, as Postfix will, with the configuration in ``directory``. Raises PostfixError."""
        result = self.run(["postmap", "-c", directory, "-q", "-", table], "".join(f"{key}\n" for key in entries))
        if "fatal:" in result.err:
            raise PostfixError(f"Postfix can not read table {os.path.basename(table)}: {complaint(result)}")
        found = dict(line.split("\t", 1) for line in result.out.split("\n") if "\t" in line)
        wrong = [key for key, value in entries.items() if found.get(key) != value]
        if wrong:
            raise PostfixError(f"Postfix does not read {wrong[0]!r} of table {os.path.basename(table)} back as it was written")

    def is_as_packaged(self, path: str) -> bool:
        """Whether a file is the one that its RPM package brought; False where rpm does not manage it."""
        if find_program("rpm") is None:
            return False
        result = self.run(["rpm", "-Vf", path], "")
        owned = "not owned by any package" not in result.out + result.err
        return owned and not any(line.endswith(f" {path}") for line in result.out.splitlines())

    def running(self) -> bool:
        """Whether the instance's master(8) runs.

        Asks master(8) itself; "postfix status" would leave a line in the system's log every time. It answers the same when it
        can not even start with its configuration, and without a word. So a process that has ended tells otherwise.
        """
        if not os.path.isfile(os.path.join(self.config_directory, "main.cf")):
            return False
        directory = self._daemon_directory or self.run(["postconf", "-d", "-h", "daemon_directory"], "").out.strip()
        if self.run([os.path.join(directory, "master"), "-t", "-c", self.config_directory], "").rc == 0:
            return False
        pid = self.master_pid()
        return pid is None or _lives(pid)

    def enabled(self) -> t.Optional[bool]:
        """Whether systemd starts Postfix at boot; None where that is not for systemd's unit to say."""
        if not self._has_systemd or self.config_directory != DEFAULT_DIRECTORY:
            return None
        result = self.run(["systemctl", "show", "-p", "LoadState,UnitFileState", SERVICE_UNIT], "")
        state = dict(re.findall(r"^(\w+)=(.*)$", result.out, re.MULTILINE))
        return state.get("UnitFileState") in ("enabled", "enabled-runtime", "alias") if state.get("LoadState") == "loaded" else None

    def master_pid(self) -> t.Optional[int]:
        """The process id of the instance's master(8), from the file that it keeps locked; None where it can not be told."""
        directory = self.run(["postconf", "-c", self.config_directory, "-h", "queue_directory"], "").out.strip()
        content = (read_file(os.path.join(directory, "pid", "master.pid")) or b"").strip()
        return int(content) if content.isdigit() else None

    def active_unit(self) -> t.Optional[str]:
        """The systemd unit that holds the running Postfix, by the control group of master(8); None when it was started by hand.

        It has another name on each release: postfix.service, postfix@-.service up to Debian 12 and Ubuntu 24.04, and
        one of its own for each further instance.
        """
        pid = self.master_pid() if self._has_systemd else None
        groups = (read_file(os.path.join(self._proc, str(pid), "cgroup")) or b"").decode() if pid is not None else ""
        unit = re.search(r"^(?:\d+:name=systemd|0:):.*/(postfix[^/\n]*\.service)$", groups, re.MULTILINE)
        return unit.group(1) if unit is not None else None

    def reload(self) -> None:
        """Let a running Postfix read its configuration again."""
        self._change(["postfix", "-c", self.config_directory, "reload"], "reload")

    def check_start(self) -> None:
        """Let Postfix look for what would keep it from starting. Raises PostfixError for that, not for mere warnings."""
        self._change(["postfix", "-c", self.config_directory, "check"], "pass its own check")

    def start(self, unit: t.Optional[str]) -> None:
        """Start Postfix that has ended by itself; ``unit`` held it before, and systemd may not have noticed yet.

        systemd refuses to start a unit more often than five times in ten seconds (StartLimitBurst=, systemd.unit(5)), for the sake of
        units that restart themselves; Postfix would then stay down, with the former configuration, too. Ours are counted anew.
        """
        if unit is None:
            self._change(["postfix", "-c", self.config_directory, "start"], "start")
            return
        try:
            self._change(["systemctl", "restart", unit], "start")
        except PostfixError:
            if self.run(["systemctl", "show", "-p", "Result", unit], "").out.strip() != "Result=start-limit-hit":
                raise
            self._change(["systemctl", "reset-failed", unit], "start")
            self._change(["systemctl", "restart", unit], "start")

    def restart(self, unit: t.Optional[str]) -> None:
        """Stop and start; by systemd if ``unit`` holds it."""
        if unit is None:
            self.stop(unit)
        self.start(unit)

    def stop(self, unit: t.Optional[str]) -> None:
        """Stop Postfix; queued mail stays in the queue."""
        self._change(["systemctl", "stop", unit] if unit is not None else ["postfix", "-c", self.config_directory, "stop"], "stop")

    def _change(self, argv: t.Sequence[str], what: str) -> None:
        result = self.run(argv, "")
        if result.rc != 0:
            raise PostfixError(f"Postfix did not {what}: {complaint(result)}")
