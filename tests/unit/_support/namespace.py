# SPDX-License-Identifier: GPL-3.0-or-later
"""A network of its own for tests of real firewall rules: nothing that is done there reaches the machine's."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import typing as t

OWN, FAR, OWN6, FAR6 = "192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2"
"""This host's addresses there, and those of a neighbour that never answers."""

_LINK = f"""
ip link set lo up
ip link add name out type veth peer name far
ip link set out up
ip link set far up
ip address add {OWN}/24 dev out
ip -6 address add {OWN6}/64 dev out nodad
"""


def guard(uid: int) -> str:
    """Our own table, which lets this user alone send mail, to the neighbour's port 587."""
    return f"""
table inet outpost_smtp {{
    counter accepted {{
    }}
    counter refused {{
    }}
    chain managed_by_outpost_smtp {{
    }}
    chain output {{
        type filter hook output priority 60; policy accept
        oifname "lo" accept
        tcp flags & (fin | syn | rst | ack) == syn jump smtp
    }}
    chain smtp {{
        ip daddr {FAR} tcp dport 587 meta skuid {uid} counter name "accepted" accept
        ip6 daddr {FAR6} tcp dport 587 meta skuid {uid} counter name "accepted" accept
        tcp dport {{ 25, 465, 587 }} counter name "refused" reject with tcp reset
    }}
}}
"""


@functools.lru_cache(maxsize=None)
def available() -> bool:
    """Whether this machine lets its user make one, and has nft."""
    try:
        done = subprocess.run(["unshare", "--net", "sh", "-ec", _LINK + "nft list ruleset"], capture_output=True, timeout=20, check=False)
    except OSError:
        return False
    return done.returncode == 0


def run(rules: str, script: str) -> t.Any:
    """Load *rules* (as nft -f takes them) in a new network and run the Python *script* there; what it prints, from JSON."""
    return _run(rules, script, 'exec "$0" -c "$1"')


_NEIGHBOUR = """
unshare --net sleep 200 &
neighbour=$!
trap 'kill $neighbour' EXIT
until [ "$(readlink /proc/$neighbour/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.01; done
ip link set far netns $neighbour
nsenter --target $neighbour --net sh -ec "$2"
"$0" -c "$1"
"""

_LISTENER = """
import os, socket, time
listening = [socket.create_server((address, port), family=family) for port in {ports!r}
             for address, family in (("{far}", socket.AF_INET), ("{far6}", socket.AF_INET6))]
if os.fork() == 0:
    os.closerange(0, 3)
    while os.path.exists("/proc/%d" % {shell}):
        time.sleep(0.1)
"""


def run_beside(ports: t.Sequence[int], rules: str, script: str, far_rules: str = "") -> t.Any:
    """As run(), with a neighbour that listens on *ports* of FAR and FAR6 and has *far_rules*; it resets all other connections."""
    far = f"""
ip link set lo up
ip link set far up
ip address add {FAR}/24 dev far
ip -6 address add {FAR6}/64 dev far nodad
nft -f - <<'RULES'
{far_rules}
RULES
{sys.executable} - <<'LISTENER'
{_LISTENER.format(ports=list(ports), far=FAR, far6=FAR6, shell="int(os.environ['SHELL_OF_TEST'])")}
LISTENER
"""
    return _run(rules, script, "export SHELL_OF_TEST=$$\n" + _NEIGHBOUR, far)


def _run(rules: str, script: str, last: str, *arguments: str) -> t.Any:
    setup = f"{_LINK}nft -f - <<'RULES'\n{rules}\nRULES\n{last}"
    prelude = f"import sys; sys.path[:0] = {sys.path!r}\n"
    command = ["unshare", "--net", "sh", "-ec", setup, sys.executable, prelude + script, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
