# SPDX-License-Identifier: GPL-3.0-or-later
"""Images: built by mmdebstrap, kept as tar files in a cache, loaded into the container runtime.

Both the tar file and the image are named by a hash of all that they are made from, so what exists under a name is
what a build would give, and a changed recipe is a new name. A tar file gets its name when it is complete.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import hashlib
import json
import os
import pathlib
import shlex
import subprocess
import time
import typing as t

from . import mirror, mta
from .process import Lock, RigError, run, say

_HERE = pathlib.Path(__file__).resolve().parent.parent / "images"
_AT_ONCE = 2
_KEPT_DAYS = 14  # what nobody used for so long goes at the next build; it can be made again
_LABEL = "outpost.smtp.rig"

_EVERYWHERE = (
    *("systemd", "systemd-sysv", "dbus", "netbase", "iproute2", "procps", "nftables", "sudo", "e2fsprogs", "cpio"),
    *("openssh-server", "openssl", "ca-certificates", "python3", "python3-apt"),
)
# Not installed, but kept in apt's cache, so that installing them in a server takes seconds.
_AT_HAND = ("postfix", "postfix-lmdb", "libsasl2-modules", "ufw", "firewalld", "iptables")
# Without what is recommended: for mail servers that is another mail server, or much that a lab has no use for.
_DOWNLOAD = 'chroot "$1" apt-get --quiet --yes --download-only --no-install-recommends install'


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What one image is made from."""

    release: str
    packages: tuple[str, ...]
    at_hand: tuple[str, ...]
    files: tuple[str, ...]  # directories below images/ whose content is laid over the root directory, in order
    alternatives: tuple[tuple[str, ...], ...] = ()  # kept in apt's cache as well; one group replaces another


RECIPES: dict[str, Recipe] = {
    # A default installation of Debian 11 has rsyslog, later ones do not.
    "debian11": Recipe("bullseye", (*_EVERYWHERE, "rsyslog"), _AT_HAND, ("common",)),
    "debian12": Recipe("bookworm", _EVERYWHERE, _AT_HAND, ("common",)),
    "debian13": Recipe("trixie", _EVERYWHERE, _AT_HAND, ("common",)),
    "provider": Recipe(
        "bookworm", (*_EVERYWHERE, "postfix", "dovecot-imapd", "dovecot-lmtpd"), (), ("common", "provider")
    ),
    mta.IMAGE: Recipe("trixie", _EVERYWHERE, (), ("common", "mta"), tuple(mta.PACKAGES.values())),
}
SERVERS = tuple(name for name in RECIPES if name.startswith("debian"))


def cache_directory() -> pathlib.Path:
    """Where tar files are kept."""
    if os.environ.get("OUTPOST_SMTP_CACHE"):
        return pathlib.Path(os.environ["OUTPOST_SMTP_CACHE"])
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(base) / "outpost-smtp"


def build_arguments(recipe: Recipe, sources: t.Sequence[str], check_dates: bool) -> list[str]:
    """The arguments of mmdebstrap but for the target, which belongs between the release and the sources.

    Release files of an archive that is no longer refreshed run out (``check_dates`` false): bullseye's, whose long
    term support ended in August 2026, and those of a mirror for which this machine's apt says so, too.
    """
    hook = f'{shlex.quote(str(_HERE / "customize.sh"))} "$1" {shlex.join([",".join(recipe.files), *recipe.at_hand])}'
    arguments = [
        "--variant=apt",
        f"--include={','.join(recipe.packages)}",
        "--skip=cleanup/apt",  # what is at hand, and the package lists to install it by
        f"--customize-hook={hook}",
        *(f"--customize-hook={_DOWNLOAD} {shlex.join(packages)}" for packages in recipe.alternatives),
    ]
    if not check_dates:
        arguments.append('--aptopt=Acquire::Check-Valid-Until "false"')
    return [*arguments, recipe.release, *sources]


def key(recipe: Recipe, arguments: t.Sequence[str]) -> str:
    """The name of what comes out: twelve digits of a hash over arguments and files."""
    script = _HERE / "customize.sh"
    everywhere_the_same = [word.replace(shlex.quote(str(script)), script.name) for word in arguments]
    digest = hashlib.sha256(json.dumps(everywhere_the_same).encode())
    paths = [script]
    for name in recipe.files:
        paths += sorted(path for path in (_HERE / name).rglob("*") if path.is_file())
    for path in paths:
        content = path.read_bytes()
        digest.update(f"{path.relative_to(_HERE)} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:12]


class Image(t.NamedTuple):
    """An image as it would come out of a build here and now."""

    name: str
    key: str
    arguments: list[str]

    @property
    def reference(self) -> str:
        """The name in the container runtime."""
        return f"localhost/outpost-smtp-rig/{self.name}:{self.key}"


def image(name: str) -> Image:
    """The image of a recipe, built or not."""
    if name not in RECIPES:
        raise RigError(f"there is no image {name!r}; there are {', '.join(RECIPES)}")
    recipe = RECIPES[name]
    arguments = build_arguments(recipe, mirror.machine_lines(recipe.release), _dates_count(recipe.release))
    return Image(name, key(recipe, arguments), arguments)


def _dates_count(release: str) -> bool:
    if release == "bullseye":
        return False
    shown = subprocess.run(
        ["apt-config", "shell", "value", "Acquire::Check-Valid-Until/b"], capture_output=True, text=True, check=False
    )
    return shown.stdout.strip() != "value='false'"


def ensure(runtime: t.Sequence[str], names: t.Iterable[str]) -> dict[str, Image]:
    """Have these images in the runtime, building what is missing, two at a time."""
    wanted = [image(name) for name in dict.fromkeys(names)]
    with concurrent.futures.ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(lambda one: _ensure(runtime, one), wanted))
    return {one.name: one for one in wanted}


def _ensure(runtime: t.Sequence[str], one: Image) -> None:
    if _loaded(runtime, one):
        return
    cache = cache_directory()
    cache.mkdir(parents=True, exist_ok=True)
    with Lock(cache / f"{one.name}.lock").held(refuse_if_busy=False) as lock:
        if _loaded(runtime, one):
            return
        tar = cache / f"{one.name}-{one.key}.tar"
        if not tar.exists():
            _build(one, tar, lock)
            _prune(runtime, cache, lock)
        os.utime(tar)
        say(one.name, f"loading {one.reference}")
        run([*runtime, "import", "--change", f"LABEL {_LABEL}={one.name}", str(tar), one.reference], lock=lock)


def _loaded(runtime: t.Sequence[str], one: Image) -> bool:
    shown = subprocess.run([*runtime, "image", "inspect", one.reference], capture_output=True, check=False)
    return shown.returncode == 0


def _prune(runtime: t.Sequence[str], cache: pathlib.Path, lock: Lock) -> None:
    """Remove images without containers, and tar files, that are older than _KEPT_DAYS."""
    for tar in cache.glob("*.tar"):
        if tar.stat().st_mtime < time.time() - _KEPT_DAYS * 86400:
            tar.unlink(missing_ok=True)
    old = ["--filter", f"label={_LABEL}", "--filter", f"until={_KEPT_DAYS * 24}h"]
    run([*runtime, "image", "prune", "--all", "--force", *old], lock=lock)


def _build(one: Image, tar: pathlib.Path, lock: Lock) -> None:
    # The lock is ours, so nobody is writing these any more.
    for left_over in tar.parent.glob(f"{one.name}-*.part"):
        left_over.unlink()
    part = tar.with_suffix(".part")
    say(one.name, f"building (a minute or so) into {tar}")
    release = RECIPES[one.name].release
    split = one.arguments.index(release) + 1
    arguments = [*one.arguments[:split], str(part), *one.arguments[split:]]
    run(["mmdebstrap", "--format=tar", *arguments], lock=lock)
    part.replace(tar)
    say(one.name, "built")
