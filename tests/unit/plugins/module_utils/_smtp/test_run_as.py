# SPDX-License-Identifier: GPL-3.0-or-later
"""What is called as another user has nothing of root's, and nothing of it stays behind."""

from __future__ import annotations

import ast
import contextlib
import os
import pwd
import select
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import typing as t
from pathlib import Path

import pytest
from hostile import descriptors
from smtp_server import PASSWORD, USERNAME, Certificates, Peer, Server, conversation

from ansible_collections.outpost.smtp.plugins.module_utils._smtp import as_user, probe, run_as
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.run_as import RunAsError

UID, GROUPS = 64321, [64322, 64323]
MTA = pwd.struct_passwd(("mta", "x", UID, GROUPS[0], "", "/nonexistent", "/usr/sbin/nologin"))

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture(autouse=True)
def mta(monkeypatch: pytest.MonkeyPatch) -> None:
    """The host has a user that nothing else on it knows, with a group of its own and one more."""
    known = pwd.getpwnam
    monkeypatch.setattr(pwd, "getpwnam", lambda name: MTA if name == "mta" else known(name))
    monkeypatch.setattr(os, "getgrouplist", lambda name, gid: GROUPS if name == "mta" and gid == GROUPS[0] else [])


@pytest.fixture(autouse=True)
def nothing_stays() -> t.Iterator[None]:
    """Each test leaves no child, no descriptor and the identity of this process as they were."""
    before = descriptors()
    yield
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
    assert not descriptors() - before
    assert os.getresuid() == (0, 0, 0)


@pytest.fixture
def public() -> t.Iterator[Path]:
    """A directory that every user can get into; those of pytest are closed."""
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o711)
        yield Path(directory)


def status(*fields: str) -> t.Dict[str, t.List[str]]:
    """Those lines of /proc/self/status."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {field: lines[field].split() for field in fields}


def test_the_identity_is_that_of_the_user_alone() -> None:
    seen = run_as.call("mta", lambda: status("Uid", "Gid", "Groups", "CapEff", "CapPrm", "CapAmb", "Umask"), 5)

    assert seen["Uid"] == [str(UID)] * 4 and seen["Gid"] == [str(GROUPS[0])] * 4
    assert sorted(seen["Groups"]) == sorted(map(str, GROUPS))
    assert {seen[field][0].strip("0") for field in ("CapEff", "CapPrm", "CapAmb")} == {""}
    assert seen["Umask"] == ["0077"]


def test_root_can_not_be_regained() -> None:
    def regain() -> t.List[str]:
        refused = []
        for attempt in (lambda: os.setuid(0), lambda: os.seteuid(0), lambda: os.setgid(0), lambda: os.setgroups([0])):
            try:
                attempt()
            except PermissionError:
                refused.append("refused")
        return refused

    assert run_as.call("mta", regain, 5) == ["refused"] * 4


@pytest.mark.parametrize("kept", ["setresuid", "setresgid"])
def test_an_identity_that_could_be_regained_is_refused(monkeypatch: pytest.MonkeyPatch, kept: str) -> None:
    monkeypatch.setattr(os, kept, lambda *_ids: None)

    with pytest.raises(RunAsError, match="run_as: can not become user mta: the rights of root could be taken back"):
        run_as.call("mta", lambda: "must not run", 5)


def test_a_refusal_of_the_system_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_groups: t.List[int]) -> t.NoReturn:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "setgroups", refuse)
    with pytest.raises(RunAsError, match="run_as: can not become user mta: Operation not permitted"):
        run_as.call("mta", lambda: "must not run", 5)


def test_nothing_that_was_open_can_be_used(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("of root")
    with (tmp_path / "secret").open() as secret, Server(Peer.wait_until_closed) as server:
        number = secret.fileno()
        os.set_inheritable(number, True)

        def look() -> t.Dict[str, t.Any]:
            links = [link.split() for link in descriptors()]
            return {"open": dict(links), "content": os.read(number, 100).decode()}

        seen = run_as.call("mta", look, 5)
        assert server.port

    links = list(seen["open"].values())
    assert {link.split(":")[0] for link in links} == {"/dev/null", "pipe"} and sum(link.startswith("pipe:") for link in links) == 1
    assert [seen["open"][name] for name in "012"] == ["/dev/null"] * 3 and seen["content"] == ""


def test_a_file_of_root_can_not_be_read(tmp_path: Path) -> None:
    secret = tmp_path / "sasl_passwd"
    secret.write_text("of root")
    secret.chmod(0o600)

    def read() -> str:
        try:
            return secret.read_text()
        except PermissionError:
            return "refused"

    assert run_as.call("mta", read, 5) == "refused"


def test_no_process_of_the_user_can_read_the_memory() -> None:
    """A process that can not be dumped belongs to root in /proc, and can not be traced by others of its user."""
    assert run_as.call("mta", lambda: os.stat("/proc/self/mem").st_uid, 5) == 0


def test_handlers_of_the_parent_do_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(signal.SIGTERM, lambda *_args: None)
    try:
        assert run_as.call("mta", lambda: signal.getsignal(signal.SIGTERM) == signal.SIG_DFL, 5) is True
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_large_result_arrives() -> None:
    assert run_as.call("mta", lambda: ["ü" * 1000000], 10) == ["ü" * 1000000]


def test_a_result_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_as, "MAX_RESULT", 100000)

    with pytest.raises(RunAsError, match="ended without a whole result"):
        run_as.call("mta", lambda: "x" * 1000000, 10)


def _exit() -> None:
    os._exit(3)


def _be_killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("function", [_exit, _be_killed, object], ids=["exits", "is killed", "no JSON"])
def test_an_end_without_a_result_is_told(function: t.Callable[[], t.Any]) -> None:
    with pytest.raises(RunAsError, match="run_as: what was started as user mta ended without a whole result"):
        run_as.call("mta", function, 5)


def test_an_exception_tells_its_type_only() -> None:
    def fail() -> t.NoReturn:
        raise RuntimeError(f"the password is {PASSWORD}")

    with pytest.raises(RunAsError) as caught:
        run_as.call("mta", fail, 5)

    assert str(caught.value) == "run_as: what was started as user mta failed: RuntimeError"


@pytest.mark.parametrize("stubborn", [False, True], ids=["as it is", "that does not watch"])
def test_the_deadline_ends_it(monkeypatch: pytest.MonkeyPatch, stubborn: bool) -> None:
    if stubborn:
        monkeypatch.setattr(run_as, "_watch", lambda _writing: None)
    started = time.monotonic()
    with pytest.raises(RunAsError, match="did not end within 0.3 seconds"):
        run_as.call("mta", lambda: threading.Event().wait(5), 0.3)

    assert time.monotonic() - started < 2


def test_it_ends_where_it_can_not_be_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without CAP_KILL the child is left to see that nobody wants its result."""

    def refuse(_pid: int, _signal: int) -> t.NoReturn:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "kill", refuse)
    with pytest.raises(RunAsError, match="did not end within"):
        run_as.call("mta", lambda: threading.Event().wait(60), 0.3)


@pytest.mark.parametrize(
    ("username", "reason"),
    [
        ("no-such-user", "there is no user 'no-such-user' on this host"),
        ("", "there is no user '' on this host"),
        ("nul\0byte", "there is no user 'nul\\x00byte' on this host"),
        ("root", "root has all rights"),
    ],
)
def test_users_that_can_not_be_meant(username: str, reason: str) -> None:
    with pytest.raises(RunAsError) as caught:
        run_as.call(username, lambda: "must not run", 5)

    assert caught.value.field == "run_as" and caught.value.reason.startswith(reason)


def test_only_root_can_do_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: UID)

    with pytest.raises(RunAsError, match="only root can become user mta"):
        run_as.call("mta", lambda: "must not run", 5)


def test_no_process_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> t.NoReturn:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", refuse)
    with pytest.raises(RunAsError, match="no process can be started: Resource temporarily unavailable"):
        run_as.call("mta", lambda: "must not run", 5)


# -- the end of the parent ---------------------------------------------------------------------------------------------

_PARENT = """
    import os, socket, sys, threading
    sys.path[:0] = {path!r}
    from ansible_collections.outpost.smtp.plugins.module_utils._smtp import run_as
    if {lame!r} == "no ctypes":
        run_as._prctl = lambda: None
    if {lame!r} == "no thread":
        run_as._watch = lambda writing: None
    def tell_and_stay():
        socket.create_connection({place!r}).sendall(b"%d\\n" % os.getpid())
        threading.Event().wait(60)
    run_as.call("nobody", tell_and_stay, 60)
"""


@pytest.mark.parametrize("lame", ["", "no ctypes", "no thread"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_child_ends_with_its_parent(number: int, lame: str) -> None:
    """Each of the two ways is enough alone."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        listener.settimeout(10)
        script = textwrap.dedent(_PARENT.format(path=sys.path, lame=lame, place=listener.getsockname()))
        with subprocess.Popen([sys.executable, "-c", script]) as parent:
            connection, _address = listener.accept()
            with connection, connection.makefile() as said:
                child = int(said.readline())
            handle = _pidfd(child)
            assert os.path.exists(f"/proc/{child}/status")
            parent.send_signal(number)
            parent.wait(5)
    _wait_for_end(child, handle)


def _pidfd(pid: int) -> t.Optional[int]:
    return os.pidfd_open(pid) if hasattr(os, "pidfd_open") else None


def _wait_for_end(pid: int, handle: t.Optional[int]) -> None:
    if handle is not None:
        watcher = select.poll()
        watcher.register(handle, select.POLLIN)
        ended = watcher.poll(5000)
        os.close(handle)
        assert ended
        return
    end = time.monotonic() + 5
    while os.path.exists(f"/proc/{pid}") and time.monotonic() < end:
        with contextlib.suppress(FileNotFoundError):
            if "Z (zombie)" in Path(f"/proc/{pid}/status").read_text():
                return
        time.sleep(0.02)
    assert not os.path.exists(f"/proc/{pid}")


# -- with the probe ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "code"), [(0o644, None), (0o600, "cfg_ca_file")], ids=["readable", "of root alone"])
def test_the_probe_sees_what_the_user_sees(
    relay: t.Callable[..., t.Dict[str, t.Any]], certificates: Certificates, public: Path, mode: int, code: t.Optional[str]
) -> None:
    """The password is in no file that the user could read, and the CA file is read as the user."""
    ca_file = public / "ca.pem"
    shutil.copyfile(certificates.ca_file, str(ca_file))
    ca_file.chmod(mode)
    with Server(conversation(tls="implicit", context=certificates.good())) as server:
        entry = relay(server.port, ca_file=str(ca_file), username=USERNAME, password=PASSWORD)
        (result,) = run_as.call("mta", lambda: probe.probe_all([entry], 5, "client.example.org"), 10)
        server.settle()

    assert (result["diagnosis"] or {"code": None})["code"] == code, result["diagnosis"]
    assert result["ok"] is (code is None) and server.auth_attempts == (1 if code is None else 0)


def test_the_ca_file_and_the_clients_key_may_be_of_root_alone(
    relay: t.Callable[..., t.Dict[str, t.Any]], certificates: Certificates, public: Path
) -> None:
    """As for smtp(8), which reads them while it still has root's rights."""
    own = public / "client.pem"
    shutil.copyfile(certificates.client(), str(own))
    own.chmod(0o600)
    context = certificates.good()
    context.load_verify_locations(certificates.ca_file)
    context.verify_mode = ssl.CERT_REQUIRED
    ca_file = shutil.copy(certificates.ca_file, str(public))
    os.chmod(ca_file, 0o600)
    with Server(conversation(tls="implicit", context=context)) as server:
        login = {"username": USERNAME, "password": PASSWORD, "ca_file": ca_file}
        entries = [relay(server.port, **login, client_certificate=str(own)), relay(server.port, **login, name="none")]
        entries.append(relay(server.port, **login, name="missing", client_certificate=str(public / "missing.pem")))
        shown, nothing, missing = as_user.probe_all_as("mta", entries, 5, "client.example.org", investigate=False)

    assert shown["ok"] and not nothing["ok"], shown["diagnosis"]
    assert missing["diagnosis"]["code"] == "cfg_client_certificate" and "No such file" in missing["diagnosis"]["summary"]


class _NoImports:
    """As where the user can read neither root's Python nor the archive that Ansible has put the module into."""

    @staticmethod
    def find_spec(name: str, *_args: t.Any) -> t.NoReturn:
        raise ModuleNotFoundError(name)


@pytest.mark.parametrize("kind", ["good", "wrong_name", "expired", "self_signed"])
@pytest.mark.parametrize("reply", ["235 2.7.0 welcome", "535 5.7.8 no", "what?"])
def test_nothing_is_imported_any_more(
    relay: t.Callable[..., t.Dict[str, t.Any]], certificates: Certificates, public: Path, kind: str, reply: str
) -> None:
    def without_imports() -> t.Any:
        sys.meta_path.insert(0, t.cast(t.Any, _NoImports))
        return probe.probe_all(entries, 3, "client.example.org")

    ca_file = shutil.copy(certificates.ca_file, str(public))
    os.chmod(ca_file, 0o644)
    with Server(conversation(context=getattr(certificates, kind)(), replies={"AUTH": reply})) as server:
        login = {"ca_file": ca_file, "username": USERNAME, "password": "pässword"}
        hosts = ("127.0.0.1", "localhost", "no-such-name.invalid")
        entries = [relay(server.port, "starttls", name=host.replace(".", "-"), host=host, **login) for host in hosts]
        results = run_as.call("mta", without_imports, 10)

    codes = [result["diagnosis"]["code"] for result in results if not result["ok"]]
    assert codes and not {"internal_error", "cfg_ca_file"} & set(codes), [result["diagnosis"] for result in results]


def _imported_late() -> t.Iterator[str]:
    """What functions of the package import, but for those of the command line, which does not come from an archive.

    What an entry says, and the secret that it leads to, is read before a test begins, as root.
    """
    before = ("__main__.py", "relay_login.py", "secret_sources.py")
    directory = Path(run_as.__file__).parent
    for path in directory.rglob("*.py"):
        if path.parent.name == "cli" or path.name in before:
            continue
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(function, ast.FunctionDef):
                continue
            for node in ast.walk(function):
                if isinstance(node, ast.Import):
                    yield from (alias.name for alias in node.names)
                elif isinstance(node, ast.ImportFrom) and node.module:
                    package = (directory.parent / node.module.partition(".module_utils.")[2].replace(".", "/")).is_dir()
                    yield from (f"{node.module}.{alias.name}" for alias in node.names) if package else (node.module,)


def test_whatever_is_imported_late_is_loaded_before() -> None:
    names = run_as.__name__.rpartition(".")[0]
    script = f"import importlib, sys; sys.path[:0] = {sys.path!r}; from {names} import late, probe, run_as\n"
    script += "for name in run_as._LOADED_LATE: importlib.import_module(name)\nrun_as._prctl(); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, check=True, timeout=60).stdout.split()
    late = set(_imported_late())

    assert f"{names}.surroundings.differential" in late, "there are some"
    assert late <= set(loaded), late - set(loaded)


def test_a_socket_belongs_to_the_user() -> None:
    """This is what egress rules look at."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)

        def connect_and_look() -> t.List[str]:
            with socket.create_connection(listener_address) as sock:
                inode = str(os.fstat(sock.fileno()).st_ino)
                rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
                return [row[7] for row in rows if row[9] == inode]

        listener_address = listener.getsockname()
        assert run_as.call("mta", connect_and_look, 5) == [str(UID)]
