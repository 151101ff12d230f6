# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.

"""Our directory beside main.cf: lookup tables by generation, what is ours, the journal of a change, the lock.

::

    outpost_smtp/             0755
      lock                    0600  held by the one run at work
      state.json              0600  what is ours and what stood there before
      journal.json            0600  the change under way; gone when it is complete, or taken back
      stage/                  0700  the new main.cf and master.cf while Postfix checks them
      3/                      0755  lookup tables and CA bundle that the live main.cf refers to; secret ones 0600
      2/                            those of the configuration before, where it is kept to go back to

A change writes its tables into a new generation. So main.cf's rename switches from one complete set to the next, and a
run killed before it leaves the old set untouched.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
import time
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._postfix import built_maps
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.errors import PostfixError
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.files import (
    create_file,
    is_own,
    read_file,
    remove_tree,
    replace_file,
    sync_directory,
    temporary_name,
)
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.ownership import Owned, Ownership

_T = t.TypeVar("_T")

NAME = "outpost_smtp"
_FORMAT = 1
#: Seconds to wait for another run on this host, and between two looks.
_LOCK_TIMEOUT, _LOCK_INTERVAL = 60.0, 0.2


class State(t.NamedTuple):
    """What earlier runs did here."""

    generation: int = 0  #: directory of the tables in use; 0: none
    parameters: Ownership = {}
    services: Ownership = {}
    initial: bool = False  #: the parameters for a Postfix that nobody configured were applied
    created: bool = False  #: main.cf did not exist before
    unterminated: t.Tuple[str, ...] = ()  #: files whose last line had no newline before our block came
    exclusive: bool = False  #: the administrator's entries of main.cf are set aside (set_aside.py)
    previous: t.Optional[State] = None  #: the configuration to go back to, if one is kept; has none itself

    def alone(self) -> State:
        """Without the one before."""
        return self._replace(previous=None)

    def generations(self) -> t.Set[int]:
        """The directories of tables that it needs."""
        return {self.generation, *([self.previous.generation] if self.previous is not None else [])} - {0}

    def to_json(self) -> t.Dict[str, t.Any]:
        plain = self._asdict()
        for name in ("parameters", "services"):
            plain[name] = {key: entry._asdict() for key, entry in plain[name].items()}
        plain["previous"] = self.previous.to_json() if self.previous is not None else None
        return plain

    @classmethod
    def from_json(cls, plain: t.Dict[str, t.Any]) -> State:
        for name in ("parameters", "services"):
            plain[name] = {key: Owned(**entry) for key, entry in plain[name].items()}
        plain["unterminated"] = tuple(plain["unterminated"])
        if plain.get("previous") is not None:
            plain["previous"] = cls.from_json(plain["previous"])
        return cls(**plain)


class Journal(t.NamedTuple):
    """A change under way."""

    state: State  #: what it leads to
    before: State  #: the last one known to work, without what was kept before it
    action: str  #: what Postfix has to be told once the files are in place (plan.py)


class TableFile(t.NamedTuple):
    """A file of a generation."""

    content: bytes
    mode: int
    map_type: str = ""  #: the type of the map that is built from it, if one is


def map_types(files: t.Mapping[str, TableFile]) -> t.Dict[str, str]:
    """The types of those maps that are built from files, by name."""
    return {name: file.map_type for name, file in files.items() if file.map_type}


class OwnDirectory:
    """The directory ``outpost_smtp`` in a Postfix configuration directory."""

    def __init__(self, config_directory: str) -> None:
        self.path = os.path.join(config_directory, NAME)
        self.stage = os.path.join(self.path, "stage")
        self._state_file = os.path.join(self.path, "state.json")
        self._journal_file = os.path.join(self.path, "journal.json")

    def exists(self) -> bool:
        return os.path.isdir(self.path)

    def create(self) -> None:
        with contextlib.suppress(FileExistsError):
            os.mkdir(self.path, 0o700)
            sync_directory(os.path.dirname(self.path))
        if stat.S_IMODE(os.stat(self.path).st_mode) != 0o755:  # whatever the umask, and if a run was killed right here
            os.chmod(self.path, 0o755)

    @contextlib.contextmanager
    def locked(self, timeout: float = _LOCK_TIMEOUT) -> t.Iterator[None]:
        """Create the directory and hold its lock; wait for another run to end. Raises PostfixError after ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        descriptor = self._try_lock()
        while descriptor is None:
            if time.monotonic() >= deadline:
                raise PostfixError(f"Another run has been changing Postfix's configuration on this host for {timeout:.0f} seconds; try again later")
            time.sleep(_LOCK_INTERVAL)
            descriptor = self._try_lock()
        try:
            yield
        finally:
            if self.exists() and os.listdir(self.path) == ["lock"]:  # nothing came of it
                self.remove()
            os.close(descriptor)

    def _try_lock(self) -> t.Optional[int]:
        """Return a descriptor that holds the lock, or None while another process does, or has just removed the file."""
        self.create()
        path = os.path.join(self.path, "lock")
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except FileNotFoundError:  # another run has just removed the directory
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_ino == os.stat(path).st_ino:
                return descriptor
        except (BlockingIOError, FileNotFoundError):
            pass
        os.close(descriptor)
        return None

    def state(self) -> State:
        return self._read(self._state_file, State.from_json) or State()

    def journal(self) -> t.Optional[Journal]:
        """The change that a killed run left, or None."""

        def from_json(plain: t.Dict[str, t.Any]) -> Journal:
            return Journal(State.from_json(plain["state"]), State.from_json(plain["before"]), plain["action"])

        return self._read(self._journal_file, from_json)

    def has_begun(self) -> bool:
        """Whether a killed run left the half of a journal; it had not done anything else yet."""
        return os.path.lexists(temporary_name(self._journal_file))

    @staticmethod
    def _read(path: str, from_json: t.Callable[[t.Dict[str, t.Any]], _T]) -> t.Optional[_T]:
        content = read_file(path)
        if content is None:
            return None
        try:
            plain = json.loads(content)
            if plain.pop("format") != _FORMAT:
                raise PostfixError(f"{path} was written by a newer release of this collection; use that one on this host")
            return from_json(plain)
        except (ValueError, TypeError, KeyError, AttributeError):
            raise PostfixError(f"{path} is damaged; restore it, or remove {os.path.dirname(path)} after removing our entries from main.cf") from None

    def write_state(self, state: State) -> None:
        self._write(self._state_file, state.to_json())

    def write_journal(self, journal: Journal) -> None:
        self._write(self._journal_file, {"state": journal.state.to_json(), "before": journal.before.to_json(), "action": journal.action})

    @staticmethod
    def _write(path: str, plain: t.Dict[str, t.Any]) -> None:
        text = json.dumps({"format": _FORMAT, **plain}, indent=1) + "\n"
        replace_file(path, text.encode(), 0o600)

    def end_journal(self) -> None:
        remove_tree(self._journal_file)
        sync_directory(self.path)

    def generations(self) -> t.List[int]:
        try:
            return sorted(int(name) for name in os.listdir(self.path) if name.isdigit())
        except FileNotFoundError:
            return []

    def has(self, state: State) -> bool:
        """Whether the tables of a state are still there."""
        return state.generation == 0 or state.generation in self.generations()

    def table_path(self, generation: int, name: str) -> str:
        return os.path.join(self.path, str(generation), name)

    def files(self, generation: int) -> t.Dict[str, TableFile]:
        """The files that a generation was made of."""
        directory = os.path.join(self.path, str(generation))
        names = set(os.listdir(directory)) if generation else set()
        found = {}
        for name in names - built_maps.derived(names):
            mode = stat.S_IMODE(os.lstat(os.path.join(directory, name)).st_mode)
            found[name] = TableFile(read_file(os.path.join(directory, name)) or b"", mode, built_maps.type_of(name, names))
        return found

    def holds(self, generation: int, files: t.Mapping[str, TableFile]) -> bool:
        """Whether a generation is exactly these files, with these modes and root's."""
        if not files:
            return generation == 0
        try:
            names = os.listdir(os.path.join(self.path, str(generation)))
        except OSError:
            return False
        if set(names) != {*files, *built_maps.file_names(map_types(files))}:
            return False
        return all(self._is(generation, name, file) for name, file in files.items())

    def _is(self, generation: int, name: str, file: TableFile) -> bool:
        path = self.table_path(generation, name)
        if not is_own(path, file.mode) or read_file(path) != file.content:
            return False
        return not file.map_type or built_maps.intact(os.path.dirname(path), name, file.map_type)

    def write_generation(self, generation: int, files: t.Mapping[str, TableFile], build: built_maps.Build) -> None:
        """Write a generation that does not exist yet; nobody else can look into it before it is complete."""
        directory = os.path.join(self.path, str(generation))
        os.mkdir(directory, 0o700)
        for name, file in files.items():
            create_file(os.path.join(directory, name), file.content, file.mode)
        built_maps.build_all(directory, map_types(files), build)
        os.chmod(directory, 0o755)
        sync_directory(directory)
        sync_directory(self.path)

    def write_stage(self, main: str, master: str) -> None:
        remove_tree(self.stage)
        os.mkdir(self.stage, 0o700)
        create_file(os.path.join(self.stage, "main.cf"), main.encode("utf-8", "surrogateescape"), 0o600)
        create_file(os.path.join(self.stage, "master.cf"), master.encode("utf-8", "surrogateescape"), 0o600)

    def clean(self, kept: t.Collection[int]) -> None:
        """Remove what nothing refers to: other generations, the stage, halves of files. They may hold secrets."""
        for other in self.generations():
            if other not in kept:
                remove_tree(os.path.join(self.path, str(other)))
        remove_tree(self.stage)
        for path in (self._state_file, self._journal_file):
            remove_tree(temporary_name(path))

    def remove(self) -> None:
        """Remove everything of ours; the lock goes last, while it is held."""
        self.clean(())
        for name in ("state.json", "journal.json", "lock"):
            remove_tree(os.path.join(self.path, name))
        with contextlib.suppress(OSError):  # somebody keeps a file of their own in it
            os.rmdir(self.path)
        sync_directory(os.path.dirname(self.path))
