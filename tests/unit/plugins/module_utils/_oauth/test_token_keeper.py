# SPDX-License-Identifier: GPL-3.0-or-later
"""When a token is renewed, what is stored, and what happens while there is none to be had."""

from __future__ import annotations

import os
import stat
import threading
import time
import typing as t
from pathlib import Path

import pytest

from ansible_collections.outpost.smtp.plugins.module_utils._oauth import stored_token, token_keeper
from ansible_collections.outpost.smtp.plugins.module_utils._oauth.settings import OAuthError, RelaySettings
from ansible_collections.outpost.smtp.plugins.module_utils._oauth.stored_token import Stored
from ansible_collections.outpost.smtp.plugins.module_utils._oauth.token_endpoint import Grant
from ansible_collections.outpost.smtp.plugins.module_utils._oauth.token_keeper import TokenKeeper

Make = t.Callable[..., RelaySettings]


class World:
    """A clock and an endpoint, which gives tokens A1, A2, ... that live for an hour."""

    def __init__(self, directory: Path, relay: RelaySettings) -> None:
        self.directory, self.relay = str(directory), relay
        self.now = 1_000_000.0
        self.down = False
        self.rotates = False
        self.asked_with: t.List[t.Optional[str]] = []
        self.logged: t.List[str] = []
        self.keeper = self.start()

    def start(self) -> TokenKeeper:
        self.keeper = TokenKeeper(self.relay, self.directory, self.logged.append, self.request, lambda: self.now, lambda: 0.0)
        return self.keeper

    def request(self, _relay: RelaySettings, refresh_token: t.Optional[str]) -> Grant:
        self.asked_with.append(refresh_token)
        if self.down:
            raise OAuthError("the token endpoint refuses: HTTP 503")
        number = len(self.asked_with)
        return Grant(f"A{number}", self.now + 3600, 3600.0, f"R{number}" if self.rotates else None)

    def stored(self) -> Stored:
        return stored_token.load(stored_token.path_of(self.directory, self.relay))


@pytest.fixture
def world(tmp_path: Path, settings: Make) -> World:
    return World(tmp_path, settings(refresh_token="R0"))


def test_a_token_is_renewed_at_half_of_its_life(world: World) -> None:
    assert world.keeper.step() == 1800.0
    world.now += 1799
    assert world.keeper.step() == 1.0 and world.keeper.token() == "A1"
    world.now += 1
    assert world.keeper.step() == 1800.0 and world.keeper.token() == "A2"


def test_every_wait_is_shortened_by_chance_alone(world: World) -> None:
    keeper = TokenKeeper(world.relay, world.directory, world.logged.append, world.request, lambda: world.now, lambda: 1.0)
    assert keeper.step() == pytest.approx(1800.0 * (1 - token_keeper.JITTER))


def test_a_restart_needs_no_endpoint(world: World) -> None:
    world.keeper.step()
    world.down = True
    assert world.start().token() == "A1"
    assert world.keeper.step() == 1800.0 and len(world.asked_with) == 1


def test_while_the_endpoint_is_down_the_old_token_serves_until_it_expires(world: World) -> None:
    world.keeper.step()
    world.down = True
    world.now += 1800
    assert [world.keeper.step() for _attempt in range(8)] == [15.0, 30.0, 60.0, 120.0, 240.0, 480.0, 900.0, 900.0]
    assert world.keeper.token() == "A1"
    assert "HTTP 503; the one in use is valid for 1800 more seconds, next attempt in 15 seconds" in world.logged[0]
    world.now += 1800
    world.keeper.step()
    assert "mail for this relay waits in the queue" in world.logged[-1]
    with pytest.raises(OAuthError, match="no valid access token: the token endpoint refuses: HTTP 503"):
        world.keeper.token()
    world.down = False
    assert world.keeper.step() == 1800.0
    assert world.keeper.token().startswith("A") and world.logged[-1] == "primary: there is an access token again"
    world.down = True
    world.now += 1800
    assert world.keeper.step() == 15.0


def test_an_exchanged_refresh_token_is_stored_and_used(world: World) -> None:
    world.rotates = True
    for _round in range(3):
        world.keeper.step()
        world.now += 1800
    assert world.asked_with == ["R0", "R1", "R2"]
    assert world.stored().refresh_token == "R3"
    world.start().step()
    assert world.asked_with[-1] == "R3"


def test_where_the_endpoint_keeps_the_refresh_token_so_do_we(world: World) -> None:
    world.rotates = True
    world.keeper.step()
    world.rotates = False
    world.now += 1800
    world.keeper.step()
    assert world.stored() == ("A2", world.now + 3600, 3600.0, "R1")


def test_a_refresh_token_that_somebody_else_stored_is_used(world: World) -> None:
    """Settings are tried out while the service runs with the old ones."""
    world.keeper.step()
    stored_token.save(stored_token.path_of(world.directory, world.relay), world.stored()._replace(refresh_token="R9"))
    world.now += 1800
    world.keeper.step()
    assert world.asked_with == ["R0", "R9"]


def full_disk(_descriptor: int) -> None:
    raise OSError(28, "No space left on device")


def test_a_token_that_can_not_be_stored_serves_all_the_same(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_token.os, "fsync", full_disk)
    world.rotates = True
    assert world.keeper.step() == 15.0
    assert world.keeper.token() == "A1"
    assert "No space left on device" in world.logged[0]
    assert os.listdir(world.directory) == []


def test_a_refresh_token_that_could_not_be_stored_is_not_forgotten(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.rotates = True
    with monkeypatch.context() as full:
        full.setattr(stored_token.os, "fsync", full_disk)
        world.keeper.step()
        world.now += 1800
        world.keeper.step()
    assert world.asked_with == ["R0", "R1"]
    world.now += 15
    world.keeper.step()
    assert world.stored().refresh_token == "R2" and len(world.asked_with) == 2


def test_a_refused_token_is_renewed_early_but_not_again_and_again(world: World) -> None:
    world.keeper.step()
    world.keeper.refused("A0")  # an older one: it is replaced already
    assert not world.keeper.due()
    world.keeper.refused("A1")
    assert world.keeper.due() and world.keeper.token() == "A1"
    world.keeper.step()
    world.keeper.refused("A2")
    assert not world.keeper.due()
    world.now += token_keeper.AFTER_REFUSAL
    world.keeper.refused("A2")
    assert world.keeper.due()


def test_a_refusal_counts_where_the_clock_was_set_back_since(world: World) -> None:
    world.keeper.step()
    world.keeper.refused("A1")
    world.keeper.step()
    world.now -= 365 * 86400
    world.keeper.refused("A2")
    assert world.keeper.due()


def test_another_grant_takes_nothing_from_the_one_before(world: World, settings: Make) -> None:
    world.keeper.step()
    world.relay = settings(refresh_token="other")
    with pytest.raises(OAuthError):
        world.start().token()
    world.relay = settings(refresh_token="R0", client_secret="renewed")
    assert world.start().token() == "A1"


def test_tokens_that_are_no_longer_wanted_are_removed(world: World, settings: Make) -> None:
    world.keeper.step()
    kept = os.listdir(world.directory)
    world.relay = settings(refresh_token="other")
    world.start().step()
    world.relay = settings(refresh_token="R0")
    stored_token.remove_others(world.directory, [world.relay])
    assert os.listdir(world.directory) == kept


def test_the_file_is_for_its_owner_alone_from_the_first_byte(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    write = stored_token.json.dump

    def watch(plain: t.Any, file: t.Any) -> None:
        seen.append(stat.S_IMODE(os.fstat(file.fileno()).st_mode))
        write(plain, file)

    monkeypatch.setattr(stored_token.json, "dump", watch)
    before = os.umask(0)
    try:
        world.keeper.step()
    finally:
        os.umask(before)
    assert seen == [0o600]


def test_what_another_program_of_the_user_puts_in_its_place_is_not_waited_for(world: World) -> None:
    """Root reads the file, too."""
    path = stored_token.path_of(world.directory, world.relay)
    os.mkfifo(path)
    with pytest.raises(OAuthError, match="is no regular file"):
        stored_token.load(path)
    os.unlink(path)
    os.symlink("/dev/zero", path)
    with pytest.raises(OAuthError, match="can not be read"):
        stored_token.load(path)


@pytest.mark.parametrize("content", ["[" * 100_000, "", "[]", "{", '{"access_token": 1}', '{"unknown": 1}', '{"expires": "soon"}', '"x"', "null"])
def test_a_damaged_file_counts_as_none(world: World, content: str) -> None:
    Path(stored_token.path_of(world.directory, world.relay)).write_text(content)
    world.start().step()
    assert world.keeper.token() == "A1"


def test_run_notices_that_the_clock_was_set(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that boots with a wrong time takes an old token for a new one, until it asks for the time."""
    monkeypatch.setattr(token_keeper, "LOOK_AGAIN", 0.02)
    stop = threading.Event()
    thread = threading.Thread(target=world.keeper.run, args=(stop,))
    thread.start()
    try:
        limit = time.monotonic() + 5
        while world.stored().access_token != "A2" and time.monotonic() < limit:
            if world.stored().access_token == "A1":
                world.now = 2_000_000.0
        assert world.keeper.token() == "A2"
    finally:
        stop.set()
        world.keeper.wake()
        thread.join(5)


def test_run_renews_until_it_is_stopped(world: World) -> None:
    fetched = threading.Event()
    inner = world.request

    def request(relay: RelaySettings, refresh_token: t.Optional[str]) -> Grant:
        grant = inner(relay, refresh_token)
        fetched.set()
        return grant

    keeper, stop = TokenKeeper(world.relay, world.directory, world.logged.append, request, lambda: world.now), threading.Event()
    thread = threading.Thread(target=keeper.run, args=(stop,))
    thread.start()
    try:
        assert fetched.wait(5)
        fetched.clear()
        while not world.stored().access_token:
            pass
        keeper.refused("A1")
        assert fetched.wait(5)
    finally:
        stop.set()
        keeper.wake()
        thread.join(5)
    assert not thread.is_alive()
