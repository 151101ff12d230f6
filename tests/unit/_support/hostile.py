# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests a relay in a process of its own and demands what must hold whatever its server does.

After each test: it ended within its deadline and a second, grew by less than 8 MiB, left no descriptor open and nothing on
standard error, the server saw the end of every connection, nothing that is told holds a secret in any form, and the
server was sent the credentials exactly as often as the test says, which is never unless it does.
"""

from __future__ import annotations

import base64
import json
import os
import select
import signal
import sys
import tempfile
import threading
import time
import typing as t
import urllib.parse

from smtp_server import PASSWORD, USERNAME, Certificates, Handler, Peer, Server

GROWTH = 8 * 1024 * 1024
"""Octets of memory that a test may need."""
LATE = 1.0
"""Seconds after its deadline within which a test has ended."""
_HANGING = 10.0
"""Seconds after its deadline until a test that still runs is killed."""
_SAMPLE = 0.005

Result = t.Dict[str, t.Any]


class Report(t.NamedTuple):
    """What a function returned in a process of its own, and what it took."""

    value: t.Any
    seconds: float
    growth: int
    left_open: t.List[str]
    errors: str


class Hostile:
    """The fixture ``hostile``: runs a server and the test of it. *server* and *report* are those of the last run."""

    def __init__(self, certificates: Certificates, complete: t.Callable[..., Result]) -> None:
        self.certificates = certificates
        self.server: Server
        self.report: Report
        self._complete = complete

    def __call__(self, handler: Handler, tls: str = "implicit", **options: t.Any) -> Result:
        """The result of testing *handler*; for *options* see :meth:`test`."""
        with Server(handler) as self.server:
            return self.test(self.server.port, tls, **options)

    def test(
        self, port: int, tls: str = "implicit", *, logins: int = 0, timeout: float = 3.0, unchecked: t.Optional[Result] = None, **fields: t.Any
    ) -> Result:
        """The result of testing what is on *port*, which may be none of this fixture's servers.

        Credentials are sent *logins* times. *fields* are those of the endpoint; those of *unchecked* take effect though
        validation would refuse them.
        """
        from ansible_collections.outpost.smtp.plugins.module_utils._smtp import probe

        login = {} if tls == "none" else {"username": USERNAME, "password": PASSWORD, "ca_file": self.certificates.ca_file}
        endpoint = {**self._complete(port, tls, **{**login, **fields}), **(unchecked or {})}
        server = self.server if hasattr(self, "server") else None
        settle = server.settle if server else lambda: None
        self.report = isolated(lambda: probe.probe_all([endpoint], timeout, "client.example.org"), timeout + _HANGING, settle)
        self._demand(timeout, logins, endpoint)
        (result,) = self.report.value
        return t.cast(Result, result)

    def _demand(self, timeout: float, logins: int, endpoint: Result) -> None:
        report, secrets = self.report, secrets_of(endpoint)
        assert report.seconds < timeout + LATE, f"it took {report.seconds} s"
        assert report.growth < GROWTH, f"it grew by {report.growth} bytes"
        assert not report.left_open, f"it left open: {report.left_open}"
        assert not report.errors, f"on standard error: {report.errors}"
        told = "\n".join(texts(report.value))
        assert not found(told, secrets), f"a secret is told: {found(told, secrets)}"
        if hasattr(self, "server"):
            assert not self.server.running, "a connection is still open"
            self._demand_discretion(logins, secrets)

    def _demand_discretion(self, logins: int, secrets: t.List[str]) -> None:
        server = self.server
        assert server.auth_attempts == logins, f"{server.auth_attempts} logins instead of {logins}: {self.report.value}"
        assert not found(server.clear_text.decode("latin-1"), secrets), "credentials came in clear text"
        assert logins or not found(b"\n".join(server.lines).decode("latin-1"), secrets), "credentials came without a login"


def failed(result: Result, code: str, stage: str) -> Result:
    """The diagnosis, which is the one that was expected."""
    diagnosis = result["diagnosis"]
    assert diagnosis is not None, "it passed"
    assert (diagnosis["code"], diagnosis["stage"]) == (code, stage), diagnosis
    return t.cast(Result, diagnosis)


def endless(data: bytes) -> Handler:
    def handle(peer: Peer) -> None:
        while True:
            peer.send_raw(data * (65536 // len(data) + 1))

    return handle


def dripping(data: bytes, seconds: float) -> Handler:
    """One octet at a time."""

    def handle(peer: Peer) -> None:
        never = threading.Event()
        for octet in data:
            peer.send_raw(bytes([octet]))
            never.wait(seconds)

    return handle


def raw(data: bytes) -> Handler:
    """Send *data*, then wait for the client to hang up."""

    def handle(peer: Peer) -> None:
        peer.send_raw(data)
        peer.wait_until_closed()

    return handle


def secrets_of(endpoint: Result) -> t.List[str]:
    """Those that are long enough not to be part of other words by chance."""
    proxy = endpoint["proxy"] or {}
    candidates = [endpoint["password"], endpoint["access_token"], proxy.get("password")]
    return [secret for secret in candidates if secret and len(secret) >= 8]


def encodings(secret: str) -> t.Set[str]:
    """Every form in which *secret* could be recovered from a text. Written without the code under test."""
    forms = {secret, secret[::-1], urllib.parse.quote(secret, safe=""), urllib.parse.quote_plus(secret), json.dumps(secret)[1:-1]}
    forms |= {secret.encode("utf-8").hex(), secret.encode("utf-8").hex().upper()}
    raw = secret.encode("utf-8")
    for offset in range(3):
        # Only what the secret alone decides: its neighbours have a part in the first and the last character.
        encoded = base64.b64encode(b"x" * offset + raw + b"zz").decode("ascii")
        piece = encoded[-(-8 * offset // 6) : 8 * (offset + len(raw)) // 6][:12]
        forms |= {piece, piece.replace("+", "-").replace("/", "_")}
    return forms


def found(text: str, secrets: t.List[str]) -> t.List[str]:
    """The encodings of *secrets* that *text* holds."""
    return [form for secret in secrets for form in encodings(secret) if form in text]


def texts(value: t.Any) -> t.Iterator[str]:
    """Every text in *value*, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, entry in value.items():
            yield from (key, *texts(entry))
    elif isinstance(value, (list, tuple)):
        for entry in value:
            yield from texts(entry)


# -- a process of its own ----------------------------------------------------------------------------------------------


def isolated(function: t.Callable[[], t.Any], seconds: float, before_end: t.Callable[[], None] = lambda: None) -> Report:
    """Call *function* in a child and return what came of it; killed after *seconds*, which is a failure.

    The child lives until *before_end* has returned, so what it has not closed itself is still open then.
    """
    reading, writing = os.pipe()
    waiting, releasing = os.pipe()
    with tempfile.TemporaryFile() as errors:
        child = os.fork()
        if child == 0:
            os.close(releasing)  # or it would wait for itself
            _be_the_child(function, errors.fileno(), writing, waiting)
        try:
            os.close(writing)
            raw = _receive(reading, time.monotonic() + seconds)
            before_end()
        finally:
            os.close(releasing)
            if not _ended(child, 2.0):
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
            os.close(reading)
            os.close(waiting)
        errors.seek(0)
        told = errors.read().decode("utf-8", "replace")
    assert raw is not None, f"it hangs\n{told}"
    assert raw, f"it crashed\n{told}"
    return Report(**json.loads(raw), errors=told)


def _be_the_child(function: t.Callable[[], t.Any], errors: int, writing: int, waiting: int) -> t.NoReturn:
    try:
        os.dup2(errors, 2)
        sys.stderr = os.fdopen(2, "w", buffering=1)  # pytest's own goes elsewhere
        memory = _Memory()
        before = descriptors()
        started = time.monotonic()
        value = function()
        seconds = time.monotonic() - started
        left_open = sorted(descriptors() - before)
        report = {"value": value, "seconds": seconds, "growth": memory.growth(), "left_open": left_open}
        with os.fdopen(writing, "w") as out:
            json.dump(report, out)
        select.select([waiting], [], [], 30)  # until the parent closes the other end
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(0)


def descriptors() -> t.Set[str]:
    """What this process has open."""
    links = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            links.add(f"{name} {os.readlink(f'/proc/self/fd/{name}')}")
        except FileNotFoundError:
            continue  # the listing itself
    return links


class _Memory:
    """The anonymous memory of this process: how far it has grown at most, looked at every few milliseconds."""

    def __init__(self) -> None:
        self._statm = open("/proc/self/statm", "rb", buffering=0)  # noqa: SIM115  # as long as the process lives
        self._stopped = threading.Event()
        self._before = self._peak = self._now()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def growth(self) -> int:
        self._stopped.set()
        self._thread.join()
        return max(self._peak, self._now()) - self._before

    def _watch(self) -> None:
        while not self._stopped.wait(_SAMPLE):
            self._peak = max(self._peak, self._now())

    def _now(self) -> int:
        self._statm.seek(0)
        _size, resident, shared = self._statm.read().split()[:3]
        return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")


def _receive(reading: int, end: float) -> t.Optional[bytes]:
    received = b""
    while True:
        ready, _write, _except = select.select([reading], [], [], max(0.0, end - time.monotonic()))
        if not ready:
            return None
        data = os.read(reading, 65536)
        if not data:
            return received
        received += data


def _ended(child: int, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if os.waitpid(child, os.WNOHANG) != (0, 0):
            return True
        time.sleep(0.005)
    return False
