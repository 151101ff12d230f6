# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line against real servers on loopback: exit statuses, output, and where secrets come from and never go."""

from __future__ import annotations

import json
import os
import pty
import pwd
import re
import select
import signal
import subprocess
import sys
import threading
import typing as t
from pathlib import Path

import pytest
from smtp_server import PASSWORD, USERNAME, Certificates, Handler, Peer, Server, conversation

from ansible_collections.outpost.smtp.plugins.module_utils._egress import who_blocks
from ansible_collections.outpost.smtp.plugins.module_utils._smtp import endpoint, probe, result
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.cli import cli

ROOT = Path(__file__).resolve().parents[5]
MODULE = "ansible_collections.outpost.smtp.plugins.module_utils._smtp"
ESCAPE = "\x1b"
WAIT = 20.0


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, certificates: Certificates, tmp_path: Path) -> None:
    """The system trusts one root, there is no secret and no wish about colours, and this checkout is importable."""
    monkeypatch.setenv("SSL_CERT_FILE", certificates.unrelated_root())
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(ROOT / ".dev" / "collections"))
    monkeypatch.setenv("TERM", "xterm")
    for name in ("OUTPOST_SMTP_PASSWORD", "OUTPOST_SMTP_ACCESS_TOKEN", "OUTPOST_SMTP_PROXY_PASSWORD", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def password_file(tmp_path: Path) -> str:
    path = tmp_path / "password"
    path.write_text(PASSWORD + "\n", encoding="utf-8")
    return str(path)


@pytest.fixture
def provider(certificates: Certificates) -> t.Iterator[Server]:
    """A provider with implicit TLS that behaves well."""
    with Server(conversation(tls="implicit", context=certificates.good())) as server:
        yield server


@pytest.fixture
def login(certificates: Certificates, password_file: str) -> t.Callable[..., t.List[str]]:
    """The arguments for a login at each of the servers, with implicit TLS."""

    def arguments(*servers: Server) -> t.List[str]:
        targets = [f"127.0.0.1:{server.port}" for server in servers]
        options = ["--tls", "implicit", "--ca-file", certificates.ca_file, "--username", USERNAME, "--password-file", password_file]
        return [*targets, *options, "--ehlo-name", "client.example.org", "--timeout", "10", "--no-investigate"]

    return arguments


def start(*arguments: str, **options: t.Any) -> subprocess.Popen[bytes]:
    """The command in a process of its own, which an interrupt ends also where these tests run in the background of a shell."""
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    command = [sys.executable, "-m", MODULE, *arguments]
    return subprocess.Popen(["env", "--default-signal=INT", *command], **{**streams, **options})


def on_terminal(arguments: t.Sequence[str], typed: str = "") -> t.Tuple[int, str]:
    """Run the command at a terminal of its own, and type *typed* at its prompt; return its status and what the terminal shows."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-m", MODULE, *arguments])
    shown = b""
    try:
        while select.select([terminal], [], [], WAIT)[0]:
            try:
                data = os.read(terminal, 4096)
            except OSError:  # EIO: the command has ended
                break
            shown += data
            if typed and shown.endswith(b": "):
                os.write(terminal, typed.encode() + b"\n")
                typed = ""
    finally:
        os.close(terminal)
        _pid, status = os.waitpid(pid, 0)
    return (os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status)), shown.decode()


# -- what is shown -------------------------------------------------------------------------------------------------------


def test_shows_each_stage_and_what_was_learned(provider: Server, login: t.Any, capfd: t.Any) -> None:
    assert cli.main(login(provider)) == 0

    lines = capfd.readouterr().out.splitlines()
    assert lines[0] == f"127.0.0.1:{provider.port} (implicit TLS)"
    stages = {line.split()[1]: line for line in lines[1:-1]}
    assert list(stages) == ["resolve", "connect", "tls", "greeting", "ehlo_tls", "auth", "quit"]
    assert all(re.match(r"  ok +\w+ +\d+ ms", line) for line in stages.values())
    assert "127.0.0.1 connected" in stages["connect"]
    assert re.search(r"TLSv1\.[23], certificate verified, 89 days left, issued by CN=Test CA", stages["tls"])
    assert stages["ehlo_tls"].endswith("AUTH PLAIN LOGIN")
    assert stages["auth"].endswith("PLAIN: 235 2.7.0 Authentication successful")
    assert lines[-1].strip() == "passed"


def test_shows_diagnosis_evidence_and_remedy(provider: Server, login: t.Any, capfd: t.Any, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("not-the-password")

    assert cli.main([*login(provider), "--password-file", str(wrong)]) == 12

    shown = capfd.readouterr().out
    assert re.search(r"^  FAIL +auth +\d+ ms  PLAIN: 535 5\.7\.8 Error: authentication failed$", shown, re.MULTILINE)
    assert re.search(r"^  FAILED: .*\[auth_bad_credentials\]$", shown, re.MULTILINE)
    assert "    seen: reply to AUTH PLAIN: 535 5.7.8 Error: authentication failed\n" in shown
    assert re.search(r"^    do: .+", shown, re.MULTILINE)


def test_stages_that_were_not_reached_are_marked(login: t.Any, certificates: Certificates, capfd: t.Any) -> None:
    with Server(conversation(tls="implicit", context=certificates.good(), greeting=("554 go away",))) as server:
        assert cli.main(login(server)) == 14
    assert re.search(r"^  -     auth$", capfd.readouterr().out, re.MULTILINE)


def test_says_that_no_login_was_asked_for(provider: Server, certificates: Certificates, capfd: t.Any) -> None:
    assert cli.main([f"127.0.0.1:{provider.port}", "--tls", "implicit", "--ca-file", certificates.ca_file]) == 0
    assert "passed, no login was asked for" in capfd.readouterr().out
    assert provider.auth_attempts == 0


def test_shows_the_transcript_without_credentials(provider: Server, login: t.Any, capfd: t.Any) -> None:
    assert cli.main([*login(provider), "--transcript"]) == 0
    shown = capfd.readouterr().out
    assert "    C: EHLO client.example.org\n" in shown
    assert "    C: AUTH PLAIN ********\n" in shown


def test_json_is_the_result_of_the_module(provider: Server, login: t.Any, certificates: Certificates, capfd: t.Any) -> None:
    assert cli.main([*login(provider), "--json"]) == 0

    fields = {"name": f"127-0-0-1-{provider.port}", "host": "127.0.0.1", "port": provider.port, "tls": "implicit"}
    fields.update(ca_file=certificates.ca_file, username=USERNAME, password=PASSWORD)
    results = probe.probe_all(endpoint.normalise_endpoints([fields]), 10, "client.example.org", investigate=False)
    assert without_times(json.loads(capfd.readouterr().out)) == without_times(result.overall(results))


def without_times(value: t.Any) -> t.Any:
    if isinstance(value, dict):
        return {key: None if key == "elapsed_ms" else without_times(item) for key, item in value.items()}
    return [without_times(item) for item in value] if isinstance(value, list) else value


def test_json_tells_the_first_failure(provider: Server, login: t.Any, certificates: Certificates, capfd: t.Any) -> None:
    with Server(conversation(tls="implicit", context=certificates.good(), greeting=("554 go away",))) as refusing:
        assert cli.main([*login(provider, refusing), "--json"]) == 14
    shown = json.loads(capfd.readouterr().out)
    assert (shown["ok"], shown["diagnosis"]["code"]) == (False, "greet_554")
    assert [one["ok"] for one in shown["results"]] == [True, False]


# -- terminals -----------------------------------------------------------------------------------------------------------


def test_colours_are_for_terminals(provider: Server, login: t.Any) -> None:
    status, shown = on_terminal(login(provider))
    assert status == 0
    assert f"{ESCAPE}[32mok  {ESCAPE}[0m" in shown


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_no_colours_for_who_wants_none(provider: Server, login: t.Any, monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    status, shown = on_terminal(login(provider))
    assert status == 0
    assert "passed" in shown
    assert ESCAPE not in shown


def test_no_colours_in_a_pipe(provider: Server, login: t.Any) -> None:
    shown, _errors = start(*login(provider)).communicate(timeout=WAIT)
    assert b"passed" in shown
    assert ESCAPE.encode() not in shown


HOSTILE = "\x1b[2J\x1b]0;owned\x07 \x9b31m \x08\x08\x7f\u202e\u2028"


def test_no_control_character_of_a_server_reaches_the_terminal(login: t.Any, certificates: Certificates) -> None:
    replies = {"AUTH": f"535 5.7.8 no {HOSTILE} way"}
    handler = conversation(
        tls="implicit", context=certificates.good(), greeting=(f"220 {HOSTILE}",), offer_tls=(f"AUTH PLAIN {HOSTILE}",), replies=replies
    )
    with Server(handler) as server:
        status, shown = on_terminal([*login(server), "--transcript"])
    assert status == 12
    assert "\\x1b[2J" in shown
    ours = re.sub(r"\x1b\[\d+m", "", shown).replace("\r\n", "")
    assert ours.isprintable()


def test_a_terminal_without_unicode_gets_escapes(login: t.Any, certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    with Server(conversation(tls="implicit", context=certificates.good(), replies={"AUTH": "535 5.7.8 refusé"})) as server:
        process = start(*login(server))
        shown, _errors = process.communicate(timeout=WAIT)
    assert process.returncode == 12
    assert b"refus\\xe9" in shown


# -- exit status -----------------------------------------------------------------------------------------------------------


def refusing(verb: str, reply: str) -> t.Callable[[Certificates], Handler]:
    return lambda certificates: conversation(tls="implicit", context=certificates.good(), replies={verb: reply})


FAILURES = {
    "tls": (11, lambda certificates: conversation(tls="implicit", context=certificates.wrong_name())),
    "auth": (12, refusing("AUTH", "535 5.7.8 no")),
    "sender": (13, refusing("MAIL", "550 5.7.1 not you")),
    "recipient": (13, refusing("RCPT", "550 5.7.1 not there")),
    "greeting": (14, lambda certificates: conversation(tls="implicit", context=certificates.good(), greeting=("554 no",))),
    "ehlo": (14, refusing("EHLO_TLS", "550 no")),
}
MAIL = ["--sender", USERNAME, "--recipient", "somebody@example.net"]


@pytest.mark.parametrize("failure", FAILURES)
def test_the_status_tells_the_phase(failure: str, login: t.Any, certificates: Certificates) -> None:
    status, handler = FAILURES[failure]
    with Server(handler(certificates)) as server:
        assert cli.main([*login(server), *MAIL]) == status


def test_status_of_a_port_that_nobody_listens_at(login: t.Any, certificates: Certificates) -> None:
    with Server(conversation()) as server:
        pass
    assert cli.main(login(server)) == 10


def test_starttls_that_is_refused_is_of_the_tls_phase(login: t.Any) -> None:
    with Server(conversation(replies={"STARTTLS": "454 4.7.0 not now"})) as server:
        assert cli.main([*login(server), "--tls", "starttls"]) == 11


def test_one_phase_for_several_targets_or_none(login: t.Any, certificates: Certificates) -> None:
    def server(failure: str) -> Server:
        return Server(FAILURES[failure][1](certificates))

    with server("auth") as first, server("auth") as second, server("tls") as other:
        assert cli.main(login(first, second)) == 12
        assert cli.main(login(first, other)) == 1


def test_a_defect_is_not_a_failure_of_the_server(provider: Server, login: t.Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_self: t.Any) -> None:
        raise RuntimeError("text that might hold anything")

    monkeypatch.setattr(probe.Probe, "_dialogue", broken)
    assert cli.main(login(provider)) == 1


def test_an_interrupt_ends_it(login: t.Any) -> None:
    connected = threading.Event()

    def silent(peer: Peer) -> None:
        connected.set()
        peer.wait_until_closed()

    with Server(silent) as server:
        process = start(*login(server))
        assert connected.wait(WAIT)
        process.send_signal(signal.SIGINT)
        _shown, errors = process.communicate(timeout=WAIT)
    assert (process.returncode, errors) == (130, b"")


USAGE = [
    (["127.0.0.1:0"], "TARGET_PORT"),
    (["127.0.0.1:smtp"], "--port: must be a number"),
    (["127.0.0.1", "--port", "70000"], "--port: must be a number"),
    (["[::1"], "TARGET: is not a host name"),
    (["a host"], "TARGET: is not a host name"),
    (["127.0.0.1:465", "--tls", "starttls"], "--tls: 'starttls' contradicts port 465"),
    (["one.example:587", "two.example:465", "--tls", "starttls"], "two.example:465: --tls: "),
    (["127.0.0.1", "--recipient", "somebody@example.net"], "--sender: is required"),
    (["127.0.0.1", "--client-key", "/key.pem"], "--client-certificate: is required"),
    (["127.0.0.1", "--mechanism", "external"], "--client-certificate: is required"),
    (["127.0.0.1", "--mechanism", "rot13"], "--mechanism"),
    (["127.0.0.1", "--fingerprint", "abc"], "--fingerprint: must be SHA-256"),
    (["127.0.0.1", "--proxy", "127.0.0.1:1080"], "--proxy: must be socks5://"),
    (["127.0.0.1", "--proxy", "ftp://127.0.0.1"], "--proxy: must be one of socks5, http"),
    (["127.0.0.1", "--proxy", "socks5://127.0.0.1:0"], "--proxy: must be a number"),
    (["127.0.0.1", "--proxy", "socks5://me@127.0.0.1", "--proxy-password-file", "/nowhere"], "--proxy-password-file: No such file"),
    (["127.0.0.1", "--timeout", "0"], "--timeout: must be more than 0"),
    (["127.0.0.1", "--timeout", "nan"], "--timeout: must be more than 0"),
    (["127.0.0.1", "--ehlo-name", "a b"], "--ehlo-name: must be a host name"),
    (["127.0.0.1", "--username", "me", "--password-file", "/nowhere"], "--password-file: No such file"),
    (["127.0.0.1", "--access-token-file", "/nowhere"], "--access-token-file: No such file"),
    (["127.0.0.1", "--proxy", "socks5://127.0.0.1", "--proxy-password-file", "/nowhere"], "--proxy-password-file: needs a user name"),
    (["127.0.0.1", "--proxy-password-file", "/nowhere"], "--proxy: must be socks5://"),
    (["127.0.0.1", "--username", "me", "--password-file", "/dev/null"], "is empty"),
    (["127.0.0.1", "--password-file", __file__], "--password-file: "),
    (["127.0.0.1", "--password", "x"], "unrecognized arguments: --password"),
    (["127.0.0.1", "--run-as", "no such user"], "--run-as: "),
    (["127.0.0.1", "--username", "me", "--password-file", "-", "--access-token-file", "-"], "standard input (-) can hold one secret only"),
]


@pytest.mark.parametrize(("arguments", "message"), USAGE)
def test_wrong_usage_names_the_option(arguments: t.List[str], message: str, capfd: t.Any) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    shown = capfd.readouterr()
    assert ended.value.code == 2
    assert message.replace("TARGET_PORT", "--port: must be a number") in shown.err
    assert shown.out == ""


# -- secrets ---------------------------------------------------------------------------------------------------------------


def test_password_from_standard_input(provider: Server, login: t.Any) -> None:
    process = start(*login(provider), "--password-file", "-", stdin=subprocess.PIPE)
    process.communicate(PASSWORD.encode() + b"\r\n", timeout=WAIT)
    assert process.returncode == 0


def without_file(arguments: t.Sequence[str]) -> t.List[str]:
    at = list(arguments).index("--password-file")
    return [*arguments[:at], *arguments[at + 2 :]]


def test_password_from_the_environment_is_not_inherited(provider: Server, login: t.Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTPOST_SMTP_PASSWORD", PASSWORD)
    assert cli.main(without_file(login(provider))) == 0
    assert "OUTPOST_SMTP_PASSWORD" not in os.environ


def test_a_file_comes_before_the_environment(provider: Server, login: t.Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTPOST_SMTP_PASSWORD", "not-the-password")
    assert cli.main(login(provider)) == 0


def test_the_environment_alone_is_no_wish_to_log_in(provider: Server, certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTPOST_SMTP_PASSWORD", PASSWORD)
    assert cli.main([f"127.0.0.1:{provider.port}", "--tls", "implicit", "--ca-file", certificates.ca_file]) == 0
    assert provider.auth_attempts == 0


def test_password_from_a_prompt_that_shows_nothing_of_it(provider: Server, login: t.Any) -> None:
    status, shown = on_terminal(without_file(login(provider)), typed=PASSWORD)
    assert status == 0
    assert f"Password of {USERNAME}: " in shown
    assert PASSWORD not in shown


def test_without_terminal_and_password_it_does_not_wait(provider: Server, login: t.Any) -> None:
    reading, writing = os.pipe()  # a standard input that stays silent
    process = start(*without_file(login(provider)), stdin=reading, start_new_session=True)
    os.close(reading)
    try:
        _shown, errors = process.communicate(timeout=WAIT)
    finally:
        os.close(writing)
    assert process.returncode == 2
    assert b"--password-file or the environment variable OUTPOST_SMTP_PASSWORD is needed" in errors


NO_PASSWORDS = [(b"caf\xe9", "not text in UTF-8"), (b"x" * 70000, "larger than 65536 bytes"), (b"two\nlines\n", "line break")]


@pytest.mark.parametrize(("content", "message"), NO_PASSWORDS)
def test_a_file_that_holds_no_password(content: bytes, message: str, tmp_path: Path, capfd: t.Any) -> None:
    path = tmp_path / "secret"
    path.write_bytes(content)
    with pytest.raises(SystemExit) as ended:
        cli.main(["127.0.0.1", "--username", "me", "--password-file", str(path)])
    errors = capfd.readouterr().err
    assert ended.value.code == 2
    assert "--password-file" in errors and message in errors
    assert content[:3].decode("latin-1") not in errors.partition("error:")[2]


def test_access_token_in_place_of_a_password(certificates: Certificates, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("ya29.a0AfH6SMB\n")
    with Server(conversation(tls="implicit", context=certificates.good(), offer_tls=("AUTH XOAUTH2",), replies={"AUTH": "235 2.7.0 ok"})) as server:
        options = ["--tls", "implicit", "--ca-file", certificates.ca_file, "--username", USERNAME, "--access-token-file", str(token)]
        assert cli.main([f"127.0.0.1:{server.port}", *options]) == 0
        server.settle()
        assert [line for line in server.lines if line.startswith(b"AUTH XOAUTH2")]


def test_a_token_mechanism_takes_the_token_from_the_environment(certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTPOST_SMTP_ACCESS_TOKEN", "ya29.a0AfH6SMB")
    with Server(conversation(tls="implicit", context=certificates.good(), offer_tls=("AUTH XOAUTH2",), replies={"AUTH": "235 2.7.0 ok"})) as server:
        options = ["--tls", "implicit", "--ca-file", certificates.ca_file, "--username", USERNAME, "--mechanism", "xoauth2"]
        assert cli.main([f"127.0.0.1:{server.port}", *options]) == 0


def test_a_password_beside_a_token_is_refused(tmp_path: Path, capfd: t.Any) -> None:
    for name in ("password", "token"):
        (tmp_path / name).write_text("s3cret")
    options = ["--username", "me", "--password-file", str(tmp_path / "password"), "--access-token-file", str(tmp_path / "token")]
    with pytest.raises(SystemExit) as ended:
        cli.main(["127.0.0.1", *options])
    assert ended.value.code == 2
    assert "--access-token-file: contradicts 'password'" in capfd.readouterr().err


def test_secrets_are_neither_in_the_output_nor_in_the_arguments(login: t.Any, certificates: Certificates, tmp_path: Path) -> None:
    arguments: t.List[bytes] = []
    process: t.Optional[subprocess.Popen[bytes]] = None
    started = threading.Event()

    def gossip(peer: Peer) -> None:
        assert started.wait(WAIT) and process is not None
        arguments.append(Path(f"/proc/{process.pid}/cmdline").read_bytes())
        peer.send(f"535 5.7.8 wrong password {PASSWORD} of {USERNAME}")
        peer.line()

    with Server(conversation(tls="implicit", context=certificates.good(), replies={"AUTH": gossip})) as server:
        for form in ("--transcript", "--json"):
            started.clear()
            process = start(*without_file(login(server)), form, env={**os.environ, "OUTPOST_SMTP_PASSWORD": PASSWORD})
            started.set()
            shown, errors = process.communicate(timeout=WAIT)
            assert process.returncode == 12
            for part in (PASSWORD, json.dumps(PASSWORD)[1:-1]):
                assert part.encode() not in shown + errors
    assert len(arguments) == 2
    assert not any(PASSWORD.encode() in seen for seen in arguments)


def test_a_password_in_the_url_of_a_proxy_is_refused_and_not_repeated(capfd: t.Any) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["127.0.0.1", "--proxy", "socks5://me:geheim@127.0.0.1:1080"])
    errors = capfd.readouterr().err
    assert ended.value.code == 2
    assert "without a password" in errors
    assert "geheim" not in errors


# -- what is handed on -----------------------------------------------------------------------------------------------------


def test_every_option_reaches_the_endpoint(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: t.List[t.Any] = []
    monkeypatch.setattr(cli, "probe_all", lambda *arguments, **options: seen.append((arguments, options)) or [])
    secret = tmp_path / "secret"
    secret.write_text("s3cret")
    monkeypatch.chdir(tmp_path)
    fingerprints = ["ab" * 32, "cd" * 32]
    arguments = ["[2001:db8::25]:2525", "mail.example.net:465", "mail.example.net:465", "--username", "me", "--password-file", str(secret)]
    arguments += ["--mechanism", "scram-sha-256", "--ca-file", "ca.pem", "--server-name", "other.example", "--minimum-tls", "1.3"]
    arguments += ["--fingerprint", fingerprints[0], "--fingerprint", fingerprints[1], "--client-certificate", "cert.pem", "--client-key", "/key.pem"]
    arguments += ["--proxy", "http://you@proxy.example", "--proxy-password-file", str(secret), "--sender", "a@example.net", "--recipient"]
    arguments += ["b@example.net", "--allow-unencrypted", "--try-all-mechanisms", "--source-address", "192.0.2.7", "--family", "ipv4"]
    arguments += ["--timeout", "7", "--ehlo-name", "me.example", "--no-investigate"]

    assert cli.main(arguments) == 0

    (((endpoints, timeout, ehlo_name, investigate), options),) = seen
    assert (timeout, ehlo_name, investigate, options) == (7.0, "me.example", False, {"explain": None})
    assert [one["name"] for one in endpoints] == ["2001-db8-25-2525", "mail-example-net-465", "mail-example-net-465-3"]
    assert endpoints[0] == {
        **endpoint.UNSET,
        "name": "2001-db8-25-2525",
        "host": "2001:db8::25",
        "port": 2525,
        "tls": "starttls",
        "username": "me",
        "password": "s3cret",
        "access_token": None,
        "mechanism": "scram-sha-256",
        "ca_file": str(tmp_path / "ca.pem"),
        "allow_unencrypted": True,
        "family": "ipv4",
        "source_address": "192.0.2.7",
        "proxy": {"type": "http", "host": "proxy.example", "port": 3128, "username": "you", "password": "s3cret"},
        "server_name": "other.example",
        "minimum_tls": "1.3",
        "client_certificate": str(tmp_path / "cert.pem"),
        "client_key": "/key.pem",
        "fingerprints": [f"sha256:{digits}" for digits in fingerprints],
        "dane": False,
        "sender": "a@example.net",
        "recipient": "b@example.net",
        "every_address": False,
        "try_all_mechanisms": True,
    }
    assert endpoints[1]["tls"] == "implicit"


def test_names_the_rule_of_this_host_that_blocks(login: t.Any, monkeypatch: pytest.MonkeyPatch, capfd: t.Any) -> None:
    """The rules themselves can only be read with rights and a firewall that a unit test has not."""
    asked: t.List[t.Any] = []
    monkeypatch.setattr(who_blocks, "explain", lambda addresses, port, uid: asked.append((list(addresses), port, uid)) or ["rule 7 of table mail"])
    with Server(conversation()) as server:
        pass
    arguments = [option for option in login(server) if option != "--no-investigate"]
    assert cli.main(arguments) == 10
    assert asked == [(["127.0.0.1"], server.port, None)]
    assert "rule 7 of table mail" in capfd.readouterr().out


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_names_the_rule_that_blocks_another_user(monkeypatch: pytest.MonkeyPatch, capfd: t.Any) -> None:
    asked: t.List[t.Any] = []
    monkeypatch.setattr(who_blocks, "explain", lambda addresses, port, uid: asked.append((port, uid)) or ["rule 7 of table mail"])
    with Server(conversation()) as server:
        pass
    assert cli.main([f"127.0.0.1:{server.port}", "--tls", "none", "--run-as", "nobody"]) == 10
    assert asked == [(server.port, pwd.getpwnam("nobody").pw_uid)]
    assert "rule 7 of table mail" in capfd.readouterr().out


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_connects_as_another_user(capfd: t.Any) -> None:
    owners: t.List[str] = []

    def look(peer: Peer) -> None:
        port = peer.connection.getpeername()[1]
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            fields = line.split()
            if int(fields[1].rpartition(":")[2], 16) == port:
                owners.append(fields[7])
        conversation(offer=())(peer)

    with Server(look) as server:
        assert cli.main([f"127.0.0.1:{server.port}", "--tls", "none", "--run-as", "nobody"]) == 0
    assert owners == ["65534"]


# -- the single file -------------------------------------------------------------------------------------------------------


def test_runs_as_a_single_file(provider: Server, login: t.Any, tmp_path: Path) -> None:
    """On a Python without its site directory and without this checkout, as a bare host has it."""
    packed = tmp_path / "smtp-test.pyz"
    subprocess.run([sys.executable, str(ROOT / "tests" / "tools" / "pack_cli.py"), str(packed)], check=True)
    before = packed.read_bytes()

    command = [sys.executable, "-I", "-S", str(packed), *login(provider)]
    done = subprocess.run(command, cwd=str(tmp_path), stdout=subprocess.PIPE, timeout=WAIT, check=False)
    assert done.returncode == 0
    assert b"PLAIN: 235 2.7.0 Authentication successful" in done.stdout

    subprocess.run([sys.executable, str(ROOT / "tests" / "tools" / "pack_cli.py"), str(packed)], check=True)
    assert packed.read_bytes() == before


def test_the_single_file_holds_what_is_imported_late(tmp_path: Path) -> None:
    packed = tmp_path / "smtp-test.pyz"
    subprocess.run([sys.executable, str(ROOT / "tests" / "tools" / "pack_cli.py"), str(packed)], check=True)
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(packed), "127.0.0.1", "--run-as", "no such user"], stderr=subprocess.PIPE, timeout=WAIT, check=False
    )
    assert done.returncode == 2
    assert b"--run-as: there is no user" in done.stderr
