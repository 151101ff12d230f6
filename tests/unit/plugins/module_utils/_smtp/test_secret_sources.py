# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets on the managed host: real files in every state, and systemd-creds played by a script."""

from __future__ import annotations

import os
import typing as t
from pathlib import Path

import pytest

from ansible_collections.outpost.smtp.plugins.module_utils._smtp import secret_sources
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.fields import RelayError
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.secret_sources import MAX_SECRET, read_credential, read_file, with_password

CANARY = "CANARY-7d1e"
FIELD = "outpost_smtp_relays[0] (primary).password_file"


def private(path: Path, content: bytes) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(0o600)
    path.write_bytes(content)
    return str(path)


def refused(call: t.Callable[[], object]) -> str:
    """What a refusal says, which names the field and never the secret."""
    with pytest.raises(RelayError) as caught:
        call()
    assert caught.value.field == FIELD and CANARY not in str(caught.value)
    return caught.value.reason


@pytest.mark.parametrize(
    ("content", "secret"),
    [
        (b"secret", "secret"),
        (b"secret\n", "secret"),
        (b"#in ner\t:$x{}\\\"'`%s", None),
        (b"in ner:#$x${y}{{ z }}\\\"'`%s!", "in ner:#$x${y}{{ z }}\\\"'`%s!"),
        ("pä\u00df\u20ac\n".encode(), "pä\u00df\u20ac"),
        (b"x" * MAX_SECRET, "x" * MAX_SECRET),
    ],
)
def test_a_secret_is_what_the_file_holds_without_one_line_break(tmp_path: Path, content: bytes, secret: t.Optional[str]) -> None:
    path = private(tmp_path / "password", content)
    if secret is None:
        assert "control character" in refused(lambda: read_file(path, FIELD))
    else:
        assert read_file(path, FIELD) == secret


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (f"{CANARY}\n\n".encode(), "line break"),
        (f"{CANARY}\r\n".encode(), "control character"),
        (f"{CANARY}\n[evil]:587 a:b\n".encode(), "line break"),
        (f"{CANARY}\x00".encode(), "control character"),
        (f"{CANARY}\u2028x".encode(), "control character"),
        (f"\ufeff{CANARY}".encode(), "control character"),
        (f"{CANARY} \n".encode(), "blank"),
        (f" {CANARY}\n".encode(), "blank"),
        (f"{CANARY}\xe4".encode("latin-1"), "not text in UTF-8"),
        (b"", "is empty"),
        (b"\n", "is empty"),
        (CANARY.encode() * MAX_SECRET, "longer than"),
    ],
)
def test_what_can_not_be_a_password_is_refused_with_the_file(tmp_path: Path, content: bytes, reason: str) -> None:
    path = private(tmp_path / "password", content)
    said = refused(lambda: read_file(path, FIELD))
    assert reason in said and path in said


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o644, 0o601, 0o666])
def test_a_file_that_others_can_open_is_refused(tmp_path: Path, mode: int) -> None:
    path = private(tmp_path / "password", CANARY.encode())
    os.chmod(path, mode)
    said = refused(lambda: read_file(path, FIELD))
    assert path in said and f"{mode:04o}" in said and "chmod 600" in said


def test_a_file_may_be_read_only(tmp_path: Path) -> None:
    path = private(tmp_path / "password", b"secret")
    os.chmod(path, 0o400)
    assert read_file(path, FIELD) == "secret"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_refused(tmp_path: Path) -> None:
    path = private(tmp_path / "password", CANARY.encode())
    os.chown(path, 65534, -1)
    assert "65534" in refused(lambda: read_file(path, FIELD))


def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo", 0o600)  # opening one would wait for a writer for ever
    (tmp_path / "directory").mkdir(0o700)
    for path in (tmp_path / "fifo", tmp_path / "directory", Path("/dev/zero")):
        said = refused(lambda path=path: read_file(str(path), FIELD))  # type: ignore[misc]
        assert "not a regular file" in said and str(path) in said


def test_a_file_that_is_missing_or_can_not_be_read_is_named(tmp_path: Path) -> None:
    assert "does not exist" in refused(lambda: read_file(str(tmp_path / "nowhere"), FIELD))
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    assert "can not be read" in refused(lambda: read_file(str(loop), FIELD))


def test_a_link_is_followed_to_a_file_that_is_private(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(private(tmp_path / "password", b"secret"))
    assert read_file(str(link), FIELD) == "secret"


@pytest.fixture(name="store")
def _store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Credential directories of systemd below a temporary one, and a directory for programs."""
    monkeypatch.setattr(secret_sources, "PLAIN_DIRECTORIES", (str(tmp_path / "etc"), str(tmp_path / "run")))
    monkeypatch.setattr(secret_sources, "ENCRYPTED_DIRECTORIES", (str(tmp_path / "etc.encrypted"), str(tmp_path / "run.encrypted")))
    monkeypatch.setattr(secret_sources, "_PROGRAM_PATH", str(tmp_path / "bin"))
    return tmp_path


def systemd_creds(store: Path, script: str) -> None:
    program = store / "bin" / "systemd-creds"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def test_a_plain_credential_comes_before_an_encrypted_one_and_etc_before_run(store: Path) -> None:
    private(store / "etc.encrypted" / "smtp", b"sealed")
    private(store / "run" / "smtp", b"from run\n")
    assert read_credential("smtp", FIELD) == "from run"
    private(store / "etc" / "smtp", b"from etc")
    assert read_credential("smtp", FIELD) == "from etc"


def test_a_plain_credential_is_as_private_as_a_file(store: Path) -> None:
    os.chmod(private(store / "etc" / "smtp", CANARY.encode()), 0o644)
    assert "chmod 600" in refused(lambda: read_credential("smtp", FIELD))


def test_an_encrypted_credential_is_decrypted_under_its_name_and_never_passed_as_an_argument(store: Path) -> None:
    path = private(store / "etc.encrypted" / "smtp", b"sealed")
    os.chmod(path, 0o644)
    systemd_creds(store, f'[ "$*" = "decrypt --name=smtp {path} -" ] && echo secret')
    assert read_credential("smtp", FIELD) == "secret"


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo 'Failed to decrypt: Bad message' >&2; exit 1", "Bad message"),
        ("exit 3", "exit code 3"),
        (f"printf '{CANARY}\\n\\n'", "line break"),
        ("", "is empty"),
        ("printf %065537d 0", "longer than 65536 octets"),
        ("exec /usr/bin/env PATH=/usr/bin:/bin sleep 60", "within 0 seconds"),
    ],
)
def test_a_credential_that_is_not_decrypted_is_named(store: Path, monkeypatch: pytest.MonkeyPatch, script: str, reason: str) -> None:
    if "sleep" in script:
        monkeypatch.setattr(secret_sources, "_DECRYPT_TIMEOUT", 0.3)
    path = private(store / "run.encrypted" / "smtp", b"sealed")
    systemd_creds(store, script)
    said = refused(lambda: read_credential("smtp", FIELD))
    assert reason in said and path in said


def test_without_systemd_creds_an_encrypted_credential_is_an_error_that_says_so(store: Path) -> None:
    private(store / "etc.encrypted" / "smtp", b"sealed")
    assert "systemd 250" in refused(lambda: read_credential("smtp", FIELD))


def test_a_credential_that_is_nowhere_is_named_with_the_places_that_were_searched(store: Path) -> None:
    said = refused(lambda: read_credential("smtp", FIELD))
    assert "'smtp'" in said and str(store / "etc") in said and str(store / "run.encrypted") in said


@pytest.mark.parametrize("name", ["", ".", "..", "../shadow", "a/b", "a b", "a\n", "x" * 256, "--help\0"])
def test_a_name_that_is_none_is_refused(store: Path, name: str) -> None:
    assert "name of a credential" in refused(lambda: read_credential(name, FIELD))


def test_an_entry_gets_its_password_from_where_it_says(store: Path) -> None:
    path = private(store / "password", b"from file\n")
    private(store / "etc" / "smtp", b"from credential\n")
    assert with_password({"password_file": path, "port": 465}, "relays[0]")["password"] == "from file"
    assert with_password({"password_credential": "smtp"}, "relays[0]")["password"] == "from credential"
    entry = {"password": "given", "password_file": None}
    assert with_password(entry, "relays[0]") is entry
    with pytest.raises(RelayError, match=r"relays\[1\] \(x\)\.password_credential: there is no credential 'other'"):
        with_password({"password_credential": "other"}, "relays[1] (x)")
