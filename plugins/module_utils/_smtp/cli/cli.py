# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The login test for humans: what module smtp_auth_info does, from a command line. Needs nothing but Python.

Options are the fields of endpoint.py, and are checked there. No secret is ever an argument, since every user of the
host can read the arguments of a process.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import sys
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._smtp import endpoint
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.cli import cli_show
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.cli.cli_secrets import SecretError, Source, read_secret
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.fields import RelayError
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.probe import probe_all
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.relay import TLS_MODES
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.result import overall
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.route import FAMILIES
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.run_options import DEFAULT_TIMEOUT, check_run_options
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.tls.trust import TLS_VERSIONS

PASSED, FAILED, INTERRUPTED = 0, 1, 130
"""Exit statuses; a wrong argument is 2, as argparse has it."""
_STATUS_OF_STAGE = {
    "resolve": 10,
    "connect": 10,
    "starttls": 11,
    "tls": 11,
    "auth": 12,
    "sender": 13,
    "recipient": 13,
    "greeting": 14,
    "ehlo": 14,
    "ehlo_tls": 14,
}
_EPILOG = """\
exit status:
  0    every endpoint passed
  1    endpoints failed in different phases, or this program has a defect
  2    an argument or a secret can not be used; nothing was tried
  10   name resolution, connection or proxy failed
  11   STARTTLS, TLS or the certificate failed
  12   the login failed, or was not possible
  13   the sender or the recipient was refused
  14   the server does not speak SMTP as it should (greeting, EHLO)
  130  interrupted
With several targets, 10 to 14 mean that all which failed did so in that phase.

secrets are never arguments. Each comes from its file, else from the environment, else from a prompt:
  --password-file        OUTPOST_SMTP_PASSWORD
  --access-token-file    OUTPOST_SMTP_ACCESS_TOKEN
  --proxy-password-file  OUTPOST_SMTP_PROXY_PASSWORD
A password is tried once, over TLS with a verified certificate. Remedies call options by the names that they have
in module outpost.smtp.smtp_auth_info.
"""

_FIELDS = (
    *("tls", "username", "mechanism", "ca_file", "allow_unencrypted", "family", "source_address", "server_name", "minimum_tls"),
    *("client_certificate", "client_key", "fingerprints", "dane", "sender", "recipient", "every_address", "try_all_mechanisms"),
)
"""Options that are fields of an endpoint as they stand."""
_PATHS = ("ca_file", "client_certificate", "client_key")
_CALLED = {"host": "TARGET", "name": "TARGET", "fingerprints": "--fingerprint", "password": "--password-file", "access_token": "--access-token-file"}
"""The options that are not called like their field."""

_TARGET = re.compile(r"\[(?P<literal>[^\]]*)\](?::(?P<literal_port>.*))?|(?P<host>[^:]*):(?P<port>[^:]*)")
_PROXY = re.compile(r"(?P<type>[a-z0-9]+)://(?:(?P<username>[^/:]+)@)?(?P<target>[^/@]+)/?")


class UsageError(ValueError):
    """What was given can not be used; the message names the option and holds no secret."""


def main(arguments: t.Sequence[str] | None = None) -> int:
    """Do what *arguments* (default: those of the process) say; return the exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        results = _run(options)
    except (UsageError, SecretError) as exc:
        parser.error(str(exc))
    except KeyboardInterrupt:
        return INTERRUPTED
    with contextlib.suppress(BrokenPipeError):  # who has seen enough may stop reading
        _show(results, options)
    return _status(results)


def _run(options: argparse.Namespace) -> list[dict[str, t.Any]]:
    try:
        check_run_options(options.timeout, options.ehlo_name)
        endpoints = endpoint.normalise_endpoints(_entries(options), "TARGET")
    except RelayError as exc:
        raise UsageError(_in_words(exc, options.targets)) from None

    ask = (endpoints, options.timeout, options.ehlo_name, options.investigate)
    explain = _who_blocks if options.investigate else None
    if options.run_as is None:
        return probe_all(*ask, explain=explain)
    # Imported here, as in late.py: few tests need it.
    from ansible_collections.outpost.smtp.plugins.module_utils._smtp import as_user, run_as

    try:
        return as_user.probe_all_as(options.run_as, *ask, explain)
    except run_as.RunAsError as exc:
        raise UsageError(f"--run-as: {exc.reason}") from None


def _who_blocks(addresses: t.Sequence[str], port: int, uid: int | None = None) -> list[str]:
    """See local_block.py; *uid* is this process' user if it is not given."""
    from ansible_collections.outpost.smtp.plugins.module_utils._egress import who_blocks

    return who_blocks.explain(addresses, port, uid)


# -- arguments -----------------------------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python3 -m {__package__}" if sys.argv[0].endswith("__main__.py") else None,
        description="Log in at SMTP servers and leave, without sending mail; say what is wrong and what to do.",
        epilog=_EPILOG,
        # To ask for the width of the terminal, argparse imports compression libraries (through shutil), at every start.
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, width=100),
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("targets", nargs="+", metavar="TARGET", help="HOST, HOST:PORT or [IPV6]:PORT; all are tested at the same time")
    add("--timeout", type=float, default=DEFAULT_TIMEOUT, metavar="SECONDS", help="after which all has ended (default: %(default)g)")
    add("--ehlo-name", metavar="NAME", help="by which this host introduces itself")
    add("--run-as", metavar="USER", help="connect as this user, such as postfix (needs root)")
    add("--no-investigate", dest="investigate", action="store_false", help="do not look for the cause over further connections")
    _add_login(parser.add_argument_group("login").add_argument)
    _add_connection(parser.add_argument_group("connection").add_argument)
    _add_certificates(parser.add_argument_group("TLS").add_argument)
    add = parser.add_argument_group("permission (no mail is sent)").add_argument
    add("--sender", metavar="ADDRESS", help="see whether mail from this address is allowed")
    add("--recipient", metavar="ADDRESS", help="see whether mail to this address is allowed, with --sender")
    add = parser.add_argument_group("output").add_argument
    add("--json", action="store_true", help="the result of module smtp_auth_info, for programs")
    add("--transcript", action="store_true", help="show the dialogues, without credentials")
    return parser


def _add_login(add: t.Callable[..., t.Any]) -> None:
    add("--username", metavar="NAME", help="log in as; without it, all but the login is tested")
    add("--password-file", metavar="FILE", help="file that holds the password, or - for standard input")
    add("--access-token-file", metavar="FILE", help="file that holds an OAuth 2.0 access token, or -; in place of a password")
    add("--mechanism", choices=endpoint.MECHANISMS, default="auto", metavar="NAME", help=f"one of {', '.join(endpoint.MECHANISMS)}")
    add("--try-all-mechanisms", action="store_true", help="after a refusal try the others, too; may lock the account")
    add("--allow-unencrypted", action="store_true", help="log in also with --tls none, where everybody can read the password")


def _add_connection(add: t.Callable[..., t.Any]) -> None:
    add("--port", metavar="PORT", help="for targets without one (default: by --tls, 465 or 587)")
    add("--tls", choices=TLS_MODES, help="default: by the port, implicit for 465 and starttls for others")
    add("--family", choices=FAMILIES, default="any")
    add("--source-address", metavar="ADDRESS", help="connect from this address")
    add("--proxy", metavar="URL", help="socks5://[USER@]HOST[:PORT] or http://[USER@]HOST[:PORT]")
    add("--proxy-password-file", metavar="FILE", help="file that holds the password of the proxy's user, or -")
    add("--every-address", action="store_true", help="test every address of the host, not only the first that answers")


def _add_certificates(add: t.Callable[..., t.Any]) -> None:
    add("--ca-file", metavar="FILE", help="trust these CA certificates, too (PEM)")
    add("--server-name", metavar="NAME", help="ask for this name (SNI) and demand a certificate for it")
    add("--minimum-tls", choices=TLS_VERSIONS, default=TLS_VERSIONS[0])
    add("--fingerprint", dest="fingerprints", action="append", metavar="SHA256", help="trust this certificate or public key only; can be repeated")
    add("--client-certificate", metavar="FILE", help="show this certificate (PEM)")
    add("--client-key", metavar="FILE", help="its key, unless it is in the same file")
    add("--dane", action="store_true", help="trust what signed TLSA records say")


def _entries(options: argparse.Namespace) -> list[dict[str, t.Any]]:
    """The targets as entries of endpoint.py, which checks them."""
    if [options.password_file, options.access_token_file, options.proxy_password_file].count("-") > 1:
        raise UsageError("standard input (-) can hold one secret only")
    common = {field: getattr(options, field) for field in _FIELDS}
    common.update({field: os.path.abspath(common[field]) for field in _PATHS if common[field]})
    common["proxy"] = _proxy(options)
    by_token = options.access_token_file is not None or options.mechanism in endpoint.TOKEN_MECHANISMS
    by_password = options.username is not None and not by_token and options.mechanism != "external"
    if by_token:
        source = Source("--access-token-file", options.access_token_file, "OUTPOST_SMTP_ACCESS_TOKEN", f"Access token of {options.username}: ")
        common["access_token"] = read_secret(source)
    if by_password or options.password_file is not None:
        source = Source("--password-file", options.password_file, "OUTPOST_SMTP_PASSWORD", f"Password of {options.username}: ")
        common["password"] = read_secret(source)
    names = _names(options.targets)
    return [{**common, **_target(target, options.port), "name": name} for target, name in zip(options.targets, names)]


def _names(targets: t.Sequence[str]) -> list[str]:
    """What results call each target: a relay's name has 1 to 32 of a few characters, and is unique."""
    names: list[str] = []
    for number, target in enumerate(targets, 1):
        name = re.sub(r"[^a-z0-9]+", "-", target.lower()).strip("-")[:28].strip("-") or "target"
        names.append(f"{name}-{number}" if name in names else name)
    return names


def _target(target: str, port: str | None) -> dict[str, t.Any]:
    match = _TARGET.fullmatch(target)
    if match is None:
        return {"host": target, "port": port}
    own = match.group("literal_port") if match.group("literal") else match.group("port")
    return {"host": match.group("literal") or match.group("host"), "port": port if own is None else own}


def _proxy(options: argparse.Namespace) -> dict[str, t.Any] | None:
    if options.proxy is None and options.proxy_password_file is None:
        return None
    match = _PROXY.fullmatch(options.proxy or "")
    if match is None:
        raise UsageError("--proxy: must be socks5://[USER@]HOST[:PORT] or http://[USER@]HOST[:PORT], without a password")
    proxy = {"type": match.group("type"), "username": match.group("username"), **_target(match.group("target"), None)}
    if proxy["username"] is not None:
        source = Source("--proxy-password-file", options.proxy_password_file, "OUTPOST_SMTP_PROXY_PASSWORD", "Password for the proxy: ")
        proxy["password"] = read_secret(source)
    elif options.proxy_password_file is not None:
        raise UsageError("--proxy-password-file: needs a user name in --proxy")
    return proxy


def _in_words(exc: RelayError, targets: t.Sequence[str]) -> str:
    """The message of *exc*, in terms of the command line: ``smtp.example.net:465: --tls: 'starttls' contradicts ...``."""
    match = re.match(r"TARGET\[(\d+)\][^.]*\.", exc.field)
    name = (exc.field[match.end() :] if match else exc.field).partition(".")[0]
    option = _CALLED.get(name, "--" + name.replace("_", "-"))
    return f"{targets[int(match.group(1))]}: {option}: {exc.reason}" if match and len(targets) > 1 else f"{option}: {exc.reason}"


# -- results -------------------------------------------------------------------------------------------------------------


def _show(results: list[dict[str, t.Any]], options: argparse.Namespace) -> None:
    if options.json:
        import json  # most runs do not need it

        text = json.dumps(overall(results), indent=2)
    else:
        paint = cli_show.in_colour if _colours() else cli_show.plain
        text = "\n\n".join("\n".join(cli_show.lines(result, paint, options.transcript)) for result in results)
    # A terminal that can not show a character of a server's text shall show its escape, not end this program.
    sys.stdout.buffer.write((text + "\n").encode(sys.stdout.encoding, "backslashreplace"))
    sys.stdout.flush()


def _colours() -> bool:
    """On a terminal, unless its user does not want any (no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _status(results: list[dict[str, t.Any]]) -> int:
    found = {_STATUS_OF_STAGE.get(result["diagnosis"]["stage"], FAILED) for result in results if not result["ok"]}
    return PASSED if not found else found.pop() if len(found) == 1 else FAILED
