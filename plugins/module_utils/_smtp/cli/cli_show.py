# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The result of one endpoint as people read it: a line for each stage, then what is wrong and what to do.

Every text in a result is fit to print already (see Transcript.show), so nothing is escaped here.
"""

from __future__ import annotations

import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.text import shorten

GREEN, RED, YELLOW, DIM, BOLD = "32", "31", "33", "2", "1"
"""Parameters of SGR, "Select Graphic Rendition" (ECMA-48 section 8.3.117)."""

_WIDTH = 100
"""Characters of what was learned in a stage."""
_MARKS = {"ok": ("ok", GREEN), "failed": ("FAIL", RED), "skipped": ("-", DIM)}
_TLS_MODES = {"implicit": "implicit TLS", "starttls": "STARTTLS", "none": "no TLS"}

Result = t.Mapping[str, t.Any]
"""As probe_all() returns it."""
Paint = t.Callable[[str, str], str]
"""Makes a text appear by the parameter of SGR that is given beside it."""


def in_colour(text: str, style: str) -> str:
    return f"\x1b[{style}m{text}\x1b[0m"


def plain(text: str, _style: str) -> str:
    return text


def lines(result: Result, paint: Paint, transcript: bool = False) -> list[str]:
    """The result of one endpoint, with its transcript if that is asked for."""
    host = f"[{result['host']}]" if ":" in result["host"] else result["host"]
    title = paint(f"{host}:{result['port']}", BOLD)
    provider = f", {result['provider']}" if result["provider"] else ""
    shown = [f"{title} ({_TLS_MODES[result['tls_mode']]}{provider})"]
    shown += [_stage(stage, result, paint) for stage in result["stages"]]
    shown += [_address(address, paint) for address in result["addresses"] if "ok" in address]
    shown += [f"  {paint('warning', YELLOW)}: {warning}" for warning in result["warnings"]]
    shown += _verdict(result, paint)
    if transcript:
        shown += ["  transcript:", *(f"    {line}" for line in result["transcript"])]
    return shown


def _stage(stage: Result, result: Result, paint: Paint) -> str:
    mark, style = _MARKS[stage["status"]]
    elapsed = "" if stage["elapsed_ms"] is None else f"{stage['elapsed_ms']} ms"
    learn = _LEARNED.get(stage["stage"])
    learned = learn(result) if learn and stage["status"] != "skipped" else ""
    return f"  {paint(f'{mark:<4}', style)}  {stage['stage']:<10} {elapsed:>9}  {shorten(learned, _WIDTH)}".rstrip()


def _address(address: Result, paint: Paint) -> str:
    """What a dialogue with one of several addresses came to."""
    mark, style = _MARKS["ok" if address["ok"] else "failed"]
    reason = "everything up to the login" if address["ok"] else f"{address['stage']}: {address['detail']}"
    return f"  {paint(f'{mark:<4}', style)}  {address['address']}  {reason}"


def _verdict(result: Result, paint: Paint) -> list[str]:
    if result["ok"]:
        login = "" if result["auth"]["tried"] else ", no login was asked for"
        return [f"  {paint('passed', GREEN)}{login}"]
    diagnosis = result["diagnosis"]
    shown = [f"  {paint('FAILED', RED)}: {diagnosis['summary']} [{diagnosis['code']}]"]
    shown += [f"    seen: {line}" for line in diagnosis["evidence"]]
    shown += [f"    works: port {other['port']} with tls {other['tls']}" for other in result["alternatives"] if other["works"]]
    return [*shown, f"    do: {diagnosis['remedy']}"]


# -- what was learned in a stage -----------------------------------------------------------------------------------------


def _resolve(result: Result) -> str:
    return ", ".join(address["address"] for address in result["addresses"])


def _connect(result: Result) -> str:
    return ", ".join(f"{address['address']} {address['outcome'].replace('_', ' ')}" for address in result["addresses"])


def _tls(result: Result) -> str:
    tls = result["tls"]
    if tls is None:
        return ""
    facts = [tls["version"], "certificate verified" if tls["verified"] else "certificate NOT verified"]
    if tls["days_left"] is not None:
        facts += [f"{tls['days_left']} days left", f"issued by {tls['issuer'] or 'nobody'}"]
    return tls["error"] or ", ".join(fact for fact in facts if fact)


def _offers(when: str) -> t.Callable[[Result], str]:
    def offers(result: Result) -> str:
        """The mechanisms of AUTH, and of the other extensions their keywords."""
        offered = result["capabilities"][when] or []
        return ", ".join(line if line.upper().startswith("AUTH") else line.partition(" ")[0] for line in offered)

    return offers


def _login(result: Result) -> str:
    auth = result["auth"]
    return ": ".join(part for part in (auth["mechanism"], _reply(auth)) if part)


def _reply(reply: Result | None) -> str:
    """A reply as people quote it: ``535 5.7.8 Authentication failed``."""
    if reply is None:
        return ""
    return " ".join(str(reply[key]) for key in ("code", "enhanced_code", "text") if reply[key])


_LEARNED: dict[str, t.Callable[[Result], str]] = {
    "resolve": _resolve,
    "connect": _connect,
    "tls": _tls,
    "ehlo": _offers("before_tls"),
    "ehlo_tls": _offers("after_tls"),
    "auth": _login,
    "sender": lambda result: _reply(result["sender"]),
    "recipient": lambda result: _reply(result["recipient"]),
}
