# SPDX-License-Identifier: GPL-3.0-or-later
"""Inputs that have broken mail roles, by kind. Each is refused with the name of its field, or stays what it is to the letter.

What only a host can show (postconf, postmap and nft reading it back, a login, files that are in the way) is in tests/system:
test_inputs.py, test_faults.py, test_credential_store.py, test_egress.py.
"""

from __future__ import annotations

import re
import typing as t
from pathlib import Path

import pytest

from ansible_collections.outpost.smtp.plugins.module_utils._egress import ruleset
from ansible_collections.outpost.smtp.plugins.module_utils._egress.addresses import Addresses
from ansible_collections.outpost.smtp.plugins.module_utils._egress.errors import EgressError
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.addresses import AddressError, normalise_sender_rewrite
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.configtext import parameter_value, parse_parameters
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.errors import PostfixError
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.request import Request
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.tables import parse_table
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.transports import transports
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.fields import RelayError
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.relay import normalise_relays
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.secret_sources import with_password

ROLES = Path(__file__).resolve().parents[4] / "roles"
RELAY = {"name": "primary", "host": "smtp.example.net", "username": "alerts", "password": "p~w"}
Refused = t.Callable[[], t.Any]


def relays(*entries: t.Dict[str, t.Any], **fields: t.Any) -> t.List[t.Dict[str, t.Any]]:
    return normalise_relays([{**RELAY, **entry} for entry in entries or (fields,)])


def field(name: str, *values: t.Any) -> t.List[t.Tuple[str, Refused]]:
    """Values that a field of a relay refuses by its name."""
    return [(f".{name}: ", lambda value=value: relays(**{name: value})) for value in values]  # type: ignore[misc]


def credential(**fields: str) -> t.Tuple[str, str]:
    """User name and password as smtp(8) finds them in the table that is made of a relay; the first colon parts them."""
    routes = transports(relays(**fields), "outpost_smtp_relays")
    request = Request("x = @sasl_primary@", secret_tables=routes["secret_tables"])
    value = parse_table("sasl_primary", request.secret_tables["sasl_primary"])["smtp.example.net"]
    user, _colon, password = value.partition(":")
    return user, password


def rules(line: str, hosts: t.Mapping[str, Addresses]) -> str:
    return ruleset.render(line, hosts, ruleset.Users(1, []))


def sources(tmp_path: Path, content: bytes) -> t.Any:
    path = tmp_path / "secret"
    path.write_bytes(content)
    path.chmod(0o600)
    return with_password({"password_file": str(path)}, "relays[0]")["password"]


class Vaulted(str):
    """What a vault gives is a text of a class of its own."""


BREAKS = ("\n", "\r", "\u2028", "\0")
REFUSED: t.Dict[str, t.List[t.Tuple[str, Refused]]] = {
    "B1": [
        *(case for mark in BREAKS for name in ("host", "port", "username", "password", "ca_file") for case in field(name, f"a{mark}b", f"a{mark}")),
        *(case for mark in BREAKS for case in field("senders", [f"a{mark}b"])),
        *(("rewrite[0].from: ", lambda m=mark: normalise_sender_rewrite([{"from": f"a{m}", "to": "a@b"}], "rewrite")) for mark in BREAKS),  # type: ignore[misc]
        *(("rewrite[0].to: ", lambda m=mark: normalise_sender_rewrite([{"from": "a", "to": f"a@b{m}"}], "rewrite")) for mark in BREAKS),  # type: ignore[misc]
    ],
    "B2": field("host", "[h]:587", "h:587", "[2001:db8::1]:587", "fe80::1%eth0", "bücher.example", "a" * 64, "inet:h", "lmtp:unix:/x", "h..example"),
    "B3": field("port", 0, 65536, "587 ", "submission", [587], True, "0587", 587.0),
    "B4": [*field("password", "p ", " p", "p\t", "\udce9", "\ufeffp", "", 250, True, 1.5), *field("password", None)],
    "B5": field("username", "a:b", ":", "a:"),
    "B6": [
        (".host: ", lambda: transports(relays({}, {"name": "second", "host": "SMTP.example.net."}), "outpost_smtp_relays")),
        (".name: ", lambda: relays({}, {})),
        ("repeats the key", lambda: Request("x = @t@", secret_tables={"t": "[H]:587 a:b\n[h]:587 c:d\n"})),
    ],
    "B7": [
        *field("password", "p\n q", "p\n[evil]:587 a:b"),
        *field("username", "u\n x"),
        ("table t: line 2", lambda: Request(secret_tables={"t": "h a:b\n c"})),
    ],
    "B8": [
        ("parameters: ", lambda text=text: parse_parameters(text, "parameters"))  # type: ignore[misc]
        for text in ("a = x\x0bb = y", "a = x\r", " a = x", "a b")
    ],
    "B9": [
        *field("host", "192.0.2.10 } accept } flush ruleset", "0.0.0.0/0", "::/0", "192.0.2.1/24"),
        ("h.test", lambda: rules("@ipv4:h.test@", {})),
        ("", lambda: rules("@ipv4:h.test@", {"h.test": Addresses(["192.0.2.10 } flush ruleset"], [], "dns")})),
        ("", lambda: rules("@ipv4:h.test@", {"h.test": Addresses(["0.0.0.0/0"], [], "dns")})),
    ],
    "B10": [("", lambda: ruleset.render("@uid:user@", {}, ruleset.Users('0" accept', [])))],  # type: ignore[arg-type]
    "B11": [
        *field("name", "a b", "a" * 300, "Table", "x}"),
        ("must begin with", lambda: ruleset.require_own_table_only("table inet filter { }")),
    ],
    "B12": [("string that goes over", lambda: ruleset.require_own_table_only('log prefix "x\n" accept'))],
    "B13": [*field("ca_file", "ca.pem", "/etc/../x", "/a b", "/a,b", "/$x"), *field("password_file", "secret", "/a b", "/a/../b")],
    "B15": field("port", [25, 25, 587], [[25]]),
    "B17": field("password", "p\n", "p\r\n"),
}
SECRETS = (
    *("#pw", "!pw", ":pw", "p:w", "p w", "p  w", "$", "$$", "${x}", "{}", "\\", "\\n", '"', "'", "%s", "`id`", "é", "e\u0301", "日本", "p" * 5000),
    *("{{ 7*7 }}", "{% raw %}", "{# x #}", "@ca_bundle@", "@sasl_primary@", "[evil]:587 a:b"),
)
KEPT: t.Dict[str, t.List[t.Tuple[t.Any, t.Any]]] = {
    "B2": [
        (relays(host=given)[0]["host"], kept)
        for given, kept in (("H.example.", "h.example"), ("a_b", "a_b"), ("xn--bcher-kva.de", "xn--bcher-kva.de"))
    ],
    "B3": [(relays(port=given)[0]["port"], given) for given in (25, 465, 587, 65535)],
    "B4": [(credential(password=password), ("alerts", password)) for password in (*SECRETS, Vaulted("vault"))],
    "B5": [(credential(username=user), (user, "p~w")) for user in ("#u", "$u", "u@x", "a b", "{{ u }}", '"u"', "日本")],
    "B8": [
        (parameter_value(parse_parameters(f"a ={value}", "parameters")[0]["a"]), value)
        for value in ("", "#x", "$mail_name", "a, b", "x=y", "{ a = b }", "a b")
    ],
    "B9": [
        (rules("@ipv4:h.test@", {"h.test": Addresses([f"10.0.{n // 250}.{n % 250}" for n in range(10000)], [], "dns")}).count(","), 9999),
        (rules("a\n@ipv6:h.test@ accept", {"h.test": Addresses(["192.0.2.1"], [], "dns")}), "a\n"),
    ],
    "B11": [(transports(relays(name=name), "x")["transports"][0]["service"], f"outpost_{name}") for name in ("table", "drop", "smtp")],
    "B12": [
        (len(prefix.encode()) < 128 and prefix.isascii(), True)
        for prefix in re.findall(r'log prefix "([^"]*)"', (ROLES / "smtp_egress" / "templates" / "outpost_smtp.nft.j2").read_text(encoding="utf-8"))
    ],
    "B14": [
        (rules("# Größe: 日本 @x@ } flush\n", {}), "# Größe: 日本 @x@ } flush\n"),  # as the comment it is in the template of smtp_egress
        *(("ansible_managed" in path.read_text(encoding="utf-8"), False) for path in (ROLES / "postfix_relay" / "templates").iterdir()),
    ],
    "B15": [(relays(port=2525)[0]["tls"], "starttls")],
    "B16": [(credential(username=text, password=text), (text, text)) for text in ("{{ 7*7 }}", "{% raw %}", "{# x #}", "{{")],
}
#: Shown by a run on a host only; the file and what it says there.
ON_A_HOST = {"B18": ("test_ownership.py", "SEARCH")}


def test_no_kind_is_left_out() -> None:
    assert {*REFUSED, *KEPT, *ON_A_HOST} == {f"B{number}" for number in range(1, 19)}
    assert all(REFUSED.values()) and all(KEPT.values())
    for file, what in ON_A_HOST.values():
        assert what in (ROLES.parent / "tests" / "system" / file).read_text(encoding="utf-8")


def cases(table: t.Mapping[str, t.List[t.Any]]) -> t.List[t.Any]:
    return [pytest.param(*case, id=f"{kind}-{number}") for kind in table for number, case in enumerate(table[kind])]


@pytest.mark.parametrize(("named", "give"), cases(REFUSED))
def test_it_is_refused_by_the_name_of_its_field(named: str, give: Refused) -> None:
    with pytest.raises((RelayError, AddressError, PostfixError, EgressError, ValueError)) as caught:
        give()
    assert named in str(caught.value)


@pytest.mark.parametrize(("found", "given"), cases(KEPT))
def test_it_stays_what_it_is(found: t.Any, given: t.Any) -> None:
    assert found == given


def test_one_line_break_at_the_end_of_a_file_is_not_part_of_the_secret(tmp_path: Path) -> None:
    """B17: a lookup returns it as well, and there the field is refused, since nobody can tell whose it is."""
    assert sources(tmp_path, b"p w\n") == sources(tmp_path, b"p w") == "p w"
    with pytest.raises(RelayError, match=r"relays\[0\]\.password_file: "):
        sources(tmp_path, b"p w\n\n")
