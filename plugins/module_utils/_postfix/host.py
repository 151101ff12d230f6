# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.

"""Postfix's own programs and systemd, as far as a change of the configuration needs them."""

from __future__ import annotations

import os
import re
import select
import selectors
import subprocess
import time
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._postfix.errors import PostfixError
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
#: Up to Debian 12 and Ubuntu 24.04 this one runs Postfix. The other then only stands for all instances, and a change of
#: its state does not wait for theirs.
INSTANCE_UNIT = "postfix@-.service"


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
    """Return what a program of Postfix said, as one line: its messages without the name of the program before each."""
    lines = (result.err or result.out).strip().splitlines()
    return "; ".join(re.sub(r"^(\S+: )?(fatal|error|warning): ", "", line) for line in lines[:5]) or f"exit code {result.rc}"


class Host:
    """One Postfix instance: the one whose configuration is in ``config_directory``."""

    def __init__(self, config_directory: str, run: Run = run_program, systemd_directory: str = "/run/systemd/system") -> None:
        self.config_directory = config_directory
        self._run = run
        self._has_systemd = os.path.isdir(systemd_directory) and config_directory == DEFAULT_DIRECTORY

    def version_and_defaults(self, names: t.Iterable[str]) -> t.Tuple[str, t.Dict[str, str]]:
        """Return Postfix's version and the built-in defaults of parameters; needs no main.cf."""
        result = self._run(["postconf", "-d", "mail_version", *names], "")
        if result.rc != 0:
            raise PostfixError(f"postconf does not tell Postfix's version: {complaint(result)}")
        defaults = {name.strip(): value.strip() for name, _equals, value in (line.partition("=") for line in result.out.splitlines())}
        return defaults.pop("mail_version", ""), defaults

    def check(self, directory: str, ours: t.AbstractSet[str]) -> None:
        """Let Postfix read the main.cf and master.cf in ``directory``. Raises PostfixError when it finds a fault in them.

        postconf ends with 0 for most mistakes and only warns (postconf(1)); a warning about one of ``ours``, the
        parameters that are to be set, is a fault too. Warnings about the administrator's own are not for us to judge.
        """
        for option in ("-n", "-M"):
            result = self._run(["postconf", option, "-c", directory], "")
            about_ours = [line for line in result.err.splitlines() if ours & set(re.findall(r"[A-Za-z0-9_]+", line))]
            if result.rc != 0 or about_ours:
                text = complaint(result._replace(err="\n".join(about_ours) if result.rc == 0 else result.err))
                raise PostfixError(f"Postfix does not accept the new configuration, nothing was changed: {text}")

    def check_patterns(self, directory: str, path: str) -> None:
        """Let Postfix read a regexp table. Raises PostfixError when it warns about a line, which it would then ignore."""
        result = self._run(["postmap", "-c", directory, "-q", "x", f"regexp:{path}"], "")
        if "warning:" in result.err or "fatal:" in result.err:
            raise PostfixError(f"Postfix does not accept table {os.path.basename(path)}, nothing was changed: {complaint(result)}")

    def check_entries(self, directory: str, path: str, entries: t.Mapping[str, str]) -> None:
        """Look up every key of a texthash table as Postfix will, with the configuration in ``directory``. Raises PostfixError."""
        result = self._run(["postmap", "-c", directory, "-q", "-", f"texthash:{path}"], "".join(f"{key}\n" for key in entries))
        found = dict(line.split("\t", 1) for line in result.out.split("\n") if "\t" in line)
        wrong = [key for key, value in entries.items() if found.get(key) != value]
        if wrong:
            raise PostfixError(f"Postfix does not read {wrong[0]!r} of table {os.path.basename(path)} back as it was written, nothing was changed")

    def is_as_packaged(self, path: str) -> bool:
        """Whether a file is the one that its RPM package brought; False where rpm does not manage it."""
        if find_program("rpm") is None:
            return False
        result = self._run(["rpm", "-Vf", path], "")
        owned = "not owned by any package" not in result.out + result.err
        return owned and not any(line.endswith(f" {path}") for line in result.out.splitlines())

    def running(self) -> bool:
        """Whether the instance's master(8) runs.

        Asks master(8) itself; "postfix status" would leave a line in the system's log every time.
        """
        if not os.path.isfile(os.path.join(self.config_directory, "main.cf")):
            return False
        directory = self._run(["postconf", "-d", "-h", "daemon_directory"], "").out.strip()
        return self._run([os.path.join(directory, "master"), "-t", "-c", self.config_directory], "").rc != 0

    def enabled(self) -> t.Optional[bool]:
        """Whether systemd starts Postfix at boot; None where that is not for systemd's unit to say."""
        state = self._units().get(SERVICE_UNIT)
        return None if state is None else state.get("UnitFileState") in ("enabled", "enabled-runtime", "alias")

    def _units(self) -> t.Dict[str, t.Dict[str, str]]:
        """The state of those of Postfix's systemd units that there are; none without systemd or for another instance."""
        if not self._has_systemd:
            return {}
        result = self._run(["systemctl", "show", "-p", "Id,LoadState,ActiveState,UnitFileState", INSTANCE_UNIT, SERVICE_UNIT], "")
        states = [dict(re.findall(r"^(\w+)=(.*)$", block, re.MULTILINE)) for block in result.out.split("\n\n")]
        return {state["Id"]: state for state in states if state.get("LoadState") == "loaded"}

    def _active_unit(self) -> t.Optional[str]:
        """The unit that holds the running Postfix, or None when it was started by hand."""
        units = self._units()
        return next((unit for unit in (INSTANCE_UNIT, SERVICE_UNIT) if units.get(unit, {}).get("ActiveState") == "active"), None)

    def reload(self) -> None:
        """Let a running Postfix read its configuration again."""
        self._change(["postfix", "-c", self.config_directory, "reload"], "reload")

    def restart(self) -> None:
        """Stop and start, which inet_interfaces and inet_protocols need (postconf(5)); by systemd if it started Postfix."""
        unit = self._active_unit()
        if unit is not None:
            self._change(["systemctl", "restart", unit], "restart")
        else:
            self.stop()
            self._change(["postfix", "-c", self.config_directory, "start"], "start")

    def stop(self) -> None:
        """Stop Postfix; queued mail stays in the queue."""
        unit = self._active_unit()
        self._change(["systemctl", "stop", unit] if unit is not None else ["postfix", "-c", self.config_directory, "stop"], "stop")

    def _change(self, argv: t.Sequence[str], what: str) -> None:
        result = self._run(argv, "")
        if result.rc != 0:
            raise PostfixError(f"The new configuration is in place, but Postfix did not {what}: {complaint(result)}; the next run tries again")
