# SPDX-License-Identifier: GPL-3.0-or-later
"""What a hostile server can not do to Ansible, and what is left of a module that was killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import typing as t
from pathlib import Path

import pytest

pytest.importorskip("ansible")

import yaml
from smtp_server import HOST, PASSWORD, USERNAME, Certificates, Peer, Server, conversation

from ansible_collections.outpost.smtp.plugins.modules import smtp_auth_info

ROOT = Path(__file__).resolve().parents[4]
Entry = t.Dict[str, t.Any]


def entry(port: int, certificates: Certificates, **fields: t.Any) -> Entry:
    login = {"username": USERNAME, "password": PASSWORD, "ca_file": certificates.ca_file}
    return {"host": HOST, "port": port, "tls": "implicit", **login, **fields}


_CONTENT = "{{ {'kept': kept, 'facts': ansible_facts} | to_json }}"

# -- Ansible -----------------------------------------------------------------------------------------------------------


def play(directory: Path, relays: t.List[Entry]) -> t.Tuple[str, Entry]:
    """Run a play on this host that tests *relays* and uses what it learned; its output, and what its template became."""
    tasks = [
        {"outpost.smtp.smtp_auth_info": {"relays": relays, "timeout": 5, "on_failure": "report"}, "register": "seen"},
        {"ansible.builtin.debug": {"var": "seen.results[0].transcript"}},
        {"ansible.builtin.debug": {"msg": "{{ seen.diagnosis.summary }} {{ seen.results[0].transcript | join(' ') }}"}},
        {"ansible.builtin.debug": {"msg": "looked"}, "when": "seen.results[0].transcript | join(' ') is search('pipe')"},
        {"ansible.builtin.set_fact": {"kept": "{{ seen.results[0].transcript }}"}},
        {"ansible.builtin.copy": {"dest": str(directory / "out.json"), "content": _CONTENT, "mode": "0600"}},
    ]
    playbook = directory / "play.yml"
    playbook.write_text(yaml.safe_dump([{"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": tasks}]))
    program = str(Path(sys.executable).parent / "ansible-playbook")
    done = subprocess.run(
        [program, "-i", "localhost,", "-e", f"ansible_python_interpreter={sys.executable}", str(playbook)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        env={
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "tests" / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".dev" / "collections"),
            "ANSIBLE_HOME": str(directory / "home"),
        },
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout, t.cast(Entry, json.loads((directory / "out.json").read_text()))


def test_a44_a45_what_a_server_says_is_text_to_ansible(tmp_path: Path, certificates: Certificates) -> None:
    """It is no template in debug, when or set_fact, and it sets no facts (CVE-2023-5764 and its kin)."""
    marker = tmp_path / "executed"
    lookup = "{{ lookup('pipe', 'touch " + str(marker) + "') }}"
    said = ["{{ 7*7 }}", "{% for x in range(3) %}x{% endfor %}", lookup, "{# no #}", "!unsafe {{ 1 }}"]
    facts = ["ansible_facts {{ {'owned': true} }}", '{"ansible_facts": {"owned": true}}', "ansible_python_interpreter /bin/false", "failed=true"]
    handler = conversation(
        tls="implicit",
        context=certificates.good(),
        greeting=[f"220-{text}" for text in [*said, *facts]] + ["220 ok"],
        offer_tls=[*said, *facts, "AUTH PLAIN"],
        replies={"AUTH": [f"535-5.7.8 {text}" for text in [*said, *facts]] + ["535 5.7.8 {{ 7*7 }}"]},
    )
    with Server(handler) as server:
        output, result = play(tmp_path, [entry(server.port, certificates)])

    assert not marker.exists()
    for text in said:
        assert sum(text in line for line in result["kept"]) >= 3, text
    assert "owned" not in result["facts"] and "/bin/false" not in str(result["facts"])
    assert "49" not in output.replace(str(server.port), "") and "looked" in output and "failed=0" in output


# -- a module that is killed -------------------------------------------------------------------------------------------


def children(pid: int) -> t.List[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [int(child) for child in (task / "children").read_text().split()]
    return found


def gone(pid: int, seconds: float = 5.0) -> bool:
    """Whether the process ends within *seconds*; a zombie that nobody has reaped yet has ended."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if "State:\tZ" in Path(f"/proc/{pid}/status").read_text():
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("user", [None, "nobody"])
def test_a46_nothing_is_left_of_a_module_that_is_killed(certificates: Certificates, number: int, user: t.Optional[str]) -> None:
    if user and os.geteuid() != 0:
        pytest.skip("only root can become another user")
    reached, left = threading.Event(), threading.Event()

    def silent(peer: Peer) -> None:
        reached.set()
        peer.wait_until_closed()
        left.set()

    with tempfile.TemporaryDirectory() as temporary, Server(silent) as server:
        os.chmod(temporary, 0o777)
        relay = entry(server.port, certificates)
        if user:
            relay.pop("ca_file")  # which it could not read
        options = {"relays": [relay], "timeout": 30, **({"run_as": user} if user else {})}
        with subprocess.Popen(
            [sys.executable, smtp_auth_info.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={"PYTHONPATH": ":".join(sys.path), "LC_ALL": "C.UTF-8", "TMPDIR": temporary, "HOME": temporary},
        ) as module:
            assert module.stdin is not None
            module.stdin.write(json.dumps({"ANSIBLE_MODULE_ARGS": options}).encode())
            module.stdin.close()
            assert reached.wait(20)
            started = children(module.pid)
            assert bool(started) is bool(user)
            module.send_signal(number)
            assert module.wait(20) == -number
        assert all(gone(child) for child in started)
        assert left.wait(20), "the connection is still open"
        assert os.listdir(temporary) == []
