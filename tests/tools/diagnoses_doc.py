# SPDX-License-Identifier: GPL-3.0-or-later
"""Make docs/diagnoses.md from the catalogue and the rules.

diagnoses_doc.py            write it
diagnoses_doc.py --check    fail, with the difference, if it is not what would be written
"""

from __future__ import annotations

import difflib
import errno
import re
import socket
import sys
import typing as t
from pathlib import Path

from collection_path import ensure_collection_path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ensure_collection_path(ROOT)))

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.diagnosis import recognise, recognise_reply, recognise_tls  # noqa: E402
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.diagnosis.catalogue import ANY_STAGE, Entry  # noqa: E402
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.diagnosis.catalogue_postfix import POSTFIX  # noqa: E402
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.diagnosis.diagnoses import AREAS, CATALOGUE  # noqa: E402
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.diagnosis.provider_advice import ADVICE  # noqa: E402
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.diagnosis.provider_rules import PROVIDER_RULES  # noqa: E402
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.diagnosis.providers import BY_ID, PROVIDERS  # noqa: E402
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.diagnosis.reply_rules import ReplyRule  # noqa: E402
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.errors import Kind  # noqa: E402

PAGE = ROOT / "docs" / "diagnoses.md"

INTRODUCTION = """\
# Diagnoses

What `smtp_auth_info` and `smtp_roundtrip` call a failure, how they recognise it, and what to do. There are {codes} codes,
{provider_rules} rules for the replies of single providers, and {advice} remedies of their own for these.

This page is made from the catalogue and the rules in the code (`tests/tools/diagnoses_doc.py`); change it there.

* A **code** never changes its meaning, so alerts can be set on it. One that begins with another one and an underscore is a
  particular case of that: an alert on `auth_basic_disabled` and whatever follows finds `auth_basic_disabled_tenant`, too.
* The **first rule that fits** decides, particular before general. An enhanced status code alone decides nothing, since
  providers use the same one for different things (5.7.30 has three meanings). A provider is known by the name of its
  server, by its certificate or by its greeting; words that only one provider writes are understood behind an alias as well.
* A failure that no rule fits is [`unknown`](#unknown), with all that was seen in its evidence. Nothing is guessed.
* **Who** must act: *operator* runs this server, *account owner* can sign in to the mail account, *administrator* manages the
  organisation's account at the provider, *provider* is its own staff, *network* runs what is in between.
* **Retryable** means that the same test may pass later without any change.

In the texts, words in capitals stand for what was seen. What providers are about to change is dated.
"""

KINDS = {
    Kind.RESOLVE: "the name can not be resolved",
    Kind.CONNECT: "no address can be connected to",
    Kind.TIMEOUT: "the deadline passes",
    Kind.CLOSED: "the server closes the connection",
    Kind.OS_ERROR: "the connection breaks",
    Kind.MALFORMED: "what comes is no SMTP reply",
    Kind.LINE_TOO_LONG: "a line does not end",
    Kind.REPLY_TOO_LARGE: "a reply does not end",
    Kind.UNSOLICITED: "the server speaks before it is asked",
    Kind.REPLY: "a reply refuses",
    Kind.INJECTION: "clear text follows the reply to STARTTLS",
    Kind.NO_STARTTLS: "STARTTLS is not offered",
    Kind.NOT_TLS: "the answer to the TLS ClientHello is not TLS",
    Kind.CA_FILE: "the CA file can not be read",
    Kind.CLIENT_CERTIFICATE: "the client certificate or its key can not be loaded",
    Kind.FINGERPRINT: "the certificate is none of those that were pinned",
    Kind.DANE: "DANE fails",
    Kind.PROXY: "the proxy fails",
    Kind.NO_AUTH: "AUTH is not offered",
    Kind.NO_MECHANISM: "none of the wanted mechanisms is offered",
    Kind.UNPROTECTED: "the connection has no verified TLS when the login would be sent",
    Kind.CREDENTIALS: "the credentials can not be sent by the mechanism",
    Kind.CHALLENGE: "the server asks for what the mechanism does not have",
    Kind.SERVER_SIGNATURE: "the server's proof is missing or wrong",
    Kind.TOKEN: "the access token can not be used",
    Kind.INTERNAL: "an exception in the test itself",
}
FIELDS = {
    "login": "(What the provider wants as user name and password, see below.)",
    "switch": "(The way that works, if one was found.)",
    "tries": "It was tried once only, so as not to lock the account.",
    "tls_wanted": "TLS 1.2 or later (or what was asked for)",
    "tls_remedy": "The provider must offer TLS 1.2 or later; older versions are not safe and are not used. (With minimum_tls 1.3 or a "
    "mechanism with -plus, the option to change.)",
    "clock": "Check the clock of this server first.",
    "where": "HOST:PORT",
}


def page() -> str:
    """The whole page."""
    recognised = _recognised()
    numbers = {"codes": len(CATALOGUE), "provider_rules": len(PROVIDER_RULES), "advice": len(ADVICE)}
    parts = [INTRODUCTION.format(**numbers), _contents()]
    for title, entries in AREAS:
        parts.append(f"## {title}\n")
        parts += [_entry(entry, recognised[entry.code]) for entry in entries]
    return "\n".join([*parts, _providers()])


def _contents() -> str:
    lines = []
    for title, entries in AREAS:
        codes = " ".join(f"[{entry.code}](#{entry.code})" for entry in entries)
        lines.append(f"**{title}** ({len(entries)}): {codes}\n")
    return "\n".join(lines)


def _entry(entry: Entry, recognised: t.Sequence[str]) -> str:
    lines = [f"### {entry.code}", "", _text(entry.summary), ""]
    lines += [f"* Recognised: {line}" for line in recognised]
    lines.append(f"* Remedy: {_text(entry.remedy)}")
    lines += [f"* At {BY_ID[advice.provider].name} ({advice.who}): {_text(advice.remedy)}" for advice in ADVICE if advice.code == entry.code]
    lines.append(f"* Who: {entry.who}. Retryable: {'yes' if entry.retryable else 'no'}. Source: {entry.source}")
    return "\n".join([*lines, ""])


def _text(template: str) -> str:
    shown = re.sub(r"\{(\w+)\}", lambda match: FIELDS.get(match.group(1), match.group(1).upper()), template)
    return shown.replace("*", r"\*").replace("<", "&lt;")


def _recognised() -> dict[str, list[str]]:
    """By code, the rules that lead to it, in words."""
    found: dict[str, list[str]] = {}
    for code, line in [*_by_sight(), *_by_tables(), *_by_reply(), *_by_refinement()]:
        if line not in found.setdefault(code, []):
            found[code].append(line)
    found["unknown"] = ["no rule fits"]
    found.update((entry.code, ["in the configuration of Postfix itself, with `from_postfix: true`"]) for entry in POSTFIX)
    found["postfix_unit_may_not_connect"] = ["in the properties of the unit that runs Postfix (`systemctl show`), with `from_postfix: true`"]
    return found


def _by_sight() -> t.Iterator[tuple[str, str]]:
    for rule in recognise.SEEN_RULES:
        parts = [KINDS[rule.kind]] if rule.kind else ["whatever fails"]
        parts += [f"at {_listed(rule.stages)}"] if rule.stages else []
        parts += [f"and {(rule.condition.__doc__ or '').strip()}"] if rule.condition else []
        yield rule.diagnosis, " ".join(parts)


def _by_tables() -> t.Iterator[tuple[str, str]]:
    for kind, code in recognise.KIND_CODES.items():
        yield code, KINDS[kind]
    for (kind, reason), code in recognise.REASON_CODES.items():
        yield code, f"{KINDS[kind]}: {reason.replace('_', ' ')}"
    names = {number: name for name, number in vars(socket).items() if name.startswith("EAI_")}
    for number, code in recognise.RESOLVE_CODES.items():
        yield code, f"getaddrinfo(3) says {names[number]}" if number is not None else "getaddrinfo(3) gives no answer in time"
    yield "dns_failed", "any other error of getaddrinfo(3)"
    for outcome, code in recognise.CONNECT_CODES.items():
        yield code, f"no address can be connected to, and one of them ends as `{outcome}`{_errno(outcome)}"
    yield "tcp_failed", "no address can be connected to, and none of them ends in a way that has a diagnosis of its own"
    for verify_code, code in recognise_tls.VERIFY_CODES.items():
        yield code, f"OpenSSL verify code {verify_code}"
    yield "tls_cert_invalid", "any other verify code of OpenSSL"
    for pattern, code in recognise_tls.REASONS:
        yield code, f"OpenSSL's reason for the failed handshake has {_code(pattern)}"
    yield "tls_handshake_failed", "any other reason of OpenSSL"


def _errno(outcome: str) -> str:
    numbers = {
        "refused": errno.ECONNREFUSED,
        "timeout": errno.ETIMEDOUT,
        "net_unreachable": errno.ENETUNREACH,
        "host_unreachable": errno.EHOSTUNREACH,
        "reset": errno.ECONNRESET,
        "not_permitted": errno.EPERM,
        "access_denied": errno.EACCES,
        "no_source_address": errno.EADDRNOTAVAIL,
    }
    return f" ({errno.errorcode[numbers[outcome]]})"


def _by_reply() -> t.Iterator[tuple[str, str]]:
    for rule in recognise_reply.RULES:
        yield rule.diagnosis, _reply_rule(rule)


def _reply_rule(rule: ReplyRule) -> str:
    parts = [f"reply {_code(rule.code.replace('.', 'x')) if rule.code != '...' else 'of any code'}"]
    parts += [f"with enhanced code {_code(rule.enhanced)}"] if rule.enhanced else []
    parts += [f"and text {_code(rule.text)}"] if rule.text else []
    parts += [f"at {_listed(rule.stages)}"] if rule.stages else []
    if rule.provider:
        parts.append(f"from {BY_ID[rule.provider].name}{' (or a server that is not known)' if rule.alone else ''}")
    return " ".join(parts)


def _by_refinement() -> t.Iterator[tuple[str, str]]:
    for general, particular, condition in [*recognise_tls.REFINED, *recognise_reply.REFINED]:
        links = ", ".join(f"[{code}](#{code})" for code in general)
        yield particular, f"instead of {links} where {(condition.__doc__ or '').strip()}"


def _listed(stages: t.Sequence[str]) -> str:
    return "any step" if tuple(stages) == ANY_STAGE else ", ".join(stages)


def _code(pattern: str) -> str:
    """A regular expression as code, without the marks that only a program needs."""
    return "`` " + pattern.replace("\\.", ".").replace("\\b", "").replace("\\[", "[").replace("\\]", "]") + " ``"


def _providers() -> str:
    lines = [
        "## Providers that are known",
        "",
        f"{len(PROVIDERS)} of them, by the name of the server (`*` stands for one label), and what they want as login.",
        "",
        "| id | provider | servers at or below | login |",
        "|---|---|---|---|",
    ]
    lines += [f"| `{entry.id}` | {entry.name} | {', '.join(f'`{host}`' for host in entry.hosts)} | {_text(entry.login)} |" for entry in PROVIDERS]
    return "\n".join([*lines, ""])


def main() -> int:
    wanted = page()
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(wanted, encoding="utf-8")
        return 0
    present = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    sys.stdout.writelines(difflib.unified_diff(present.splitlines(True), wanted.splitlines(True), "docs/diagnoses.md", "from the catalogue"))
    if present != wanted:
        print("docs/diagnoses.md is not up to date: run tests/tools/diagnoses_doc.py")
    return int(present != wanted)


if __name__ == "__main__":
    sys.exit(main())
