# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the credentials of a relay are on a host: every type of table, who can read it, and passwords that come from the host itself."""

from __future__ import annotations

import concurrent.futures

import pytest
from fault_lab import Faults, install_code
from system_lab import RELEASES

TYPES = ("hash", "lmdb", "cdb", "texthash")
HAVE_SYSTEMD_CREDS = ("debian12", "debian13")


@pytest.fixture(scope="module")
def faults(trio):
    everywhere(install_code, trio)
    return Faults(trio)


def everywhere(test, *arguments) -> None:
    """Do the same on every release at a time."""
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for done in [pool.submit(test, *arguments, host) for host in RELEASES]:
            done.result()


def relay_of_type(faults, table_type: str, **fields) -> dict:
    return faults.relay(table_type=table_type, **fields)


def install_types(faults, host: str) -> None:
    """Install what the module says is missing for the types that are not built in; it says so if that can not help."""
    faults.lab.shell("dpkg --purge postfix-lmdb postfix-cdb >/dev/null 2>&1 || :", host)
    asked = [relay_of_type(faults, table_type) for table_type in TYPES]
    missing = [faults.run(host, side, packages_missing="report")["missing_packages"] for side in asked]
    assert dict(zip(TYPES, missing)) == {"hash": [], "lmdb": ["postfix-lmdb"], "cdb": ["postfix-cdb"], "texthash": []}
    faults.lab.shell("DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes postfix-lmdb postfix-cdb >/dev/null 2>&1", host)
    faults.lab.shell("cd /etc/postfix; cp -a dynamicmaps.cf* /root/; find dynamicmaps.cf* -type f | xargs sed -i /lmdb/d", host)
    said = faults.refused(host, relay_of_type(faults, "lmdb"))
    assert "postfix-lmdb is installed" in said and "dynamicmaps.cf has lost the line" in said, said
    faults.lab.shell("cp -a /root/dynamicmaps.cf* /etc/postfix/", host)


def files_with_password(faults, host: str) -> set:
    """The files below /etc/postfix with the password in them, with mode and owner."""
    script = "read -r password; cd /etc/postfix; grep -rlaFe \"$password\" . | xargs -r stat -c '%a %U:%G %n'"
    return set(faults.lab.shell(script, host, input=faults.lab.accounts["alerts"]["password"] + "\n").stdout.splitlines())


def live_directory(faults, host: str) -> str:
    return faults.lab.shell("dirname \"$(postconf -h outpost_primary_password_maps | sed 's/ .*//; s/^[^:]*://')\"", host).stdout.strip()


def test_every_type_is_used_for_a_login_and_nobody_else_can_read_it(faults):
    everywhere(_use_every_type, faults)
    faults.await_delivery()


def _use_every_type(faults, host: str) -> None:
    faults.begin(host)
    install_types(faults, host)
    suffixes = {"hash": ".db", "lmdb": ".lmdb", "cdb": ".cdb", "texthash": None}
    for table_type in TYPES:
        side = relay_of_type(faults, table_type)
        diff = str(faults.set_up(host, side)["diff"])
        assert faults.lab.accounts["alerts"]["password"] not in diff
        assert faults.lab.shell("postconf -h outpost_primary_password_maps", host).stdout.startswith(f"{table_type}:/")
        faults.mail(host, side, deliver=True)
        # No file of the type before is left, for that has the password, too.
        text = f"./{live_directory(faults, host).partition('/etc/postfix/')[2]}/sasl_passwd"
        names = [text] if suffixes[table_type] is None else [text, text + suffixes[table_type]]
        assert files_with_password(faults, host) == {f"600 root:root {name}" for name in names}
        read = f"cd /etc/postfix; for user in nobody postfix; do runuser -u $user -- cat {' '.join(names)} 2>/dev/null || :; done"
        assert faults.lab.shell(read, host).stdout == ""
    assert not faults.set_up(host, side)["changed"]


HARM = {
    "torn": "truncate -s 100 {0}",
    "lost": "rm {0}",
    "stale": "touch -d '+1 minute' {1}",
    "readable": "chmod 644 {0}",
    "linked": "mv {0} /root/stolen; ln -s /root/stolen {0}",
    "of other entries": "printf 'smtp.provider.test a:b\\n' >/root/other; postmap {2}:/root/other; cat /root/other{3} >{0}",
}


def test_a_map_that_is_not_as_it_was_built_is_built_anew(faults):
    everywhere(_harm_maps, faults)
    faults.await_delivery()


def _harm_maps(faults, host: str) -> None:
    faults.begin(host)
    side = relay_of_type(faults, "hash")
    faults.set_up(host, side)
    for harm, script in list(HARM.items())[RELEASES.index(host) :: len(RELEASES)]:  # each release takes its share
        table = f"{live_directory(faults, host)}/sasl_passwd"
        faults.lab.shell(script.format(f"{table}.db", table, "hash", ".db"), host)
        told = faults.run(host, side, check=True)
        healed = faults.set_up(host, side)
        assert told["changed"] and healed["changed"] and healed["reloaded"] and told["diff"] == healed["diff"], harm
        assert {line.split()[0] for line in files_with_password(faults, host)} == {"600"}, harm
        assert not faults.set_up(host, side)["changed"], harm
        faults.lab.shell("rm -f /root/stolen /root/other*", host)  # a password is in them, and others look for passwords
    faults.mail(host, side, deliver=True)


#: A postmap that ends with 0 and has lost entries, and one that is killed with half of its map written.
BROKEN = {
    "loses entries": 'case "$*" in *-q*) ;; *) source=${{!#}}; : >"${{source#*:}}" ;; esac; exec {real} "$@"',
    "is killed": 'case "$*" in *-q*) exec {real} "$@" ;; *) {real} "$@"; source=${{!#}}; truncate -s 4096 "${{source#*:}}.db"; kill -KILL $$ ;; esac',
}


def test_a_map_that_postmap_does_not_complete_is_never_used(faults):
    everywhere(_break_postmap, faults)
    faults.await_delivery()


def _break_postmap(faults, host: str) -> None:
    faults.begin(host)
    side = relay_of_type(faults, "hash")
    faults.set_up(host, side)
    before = faults.lab.shell("find /etc/postfix -type f | sort | xargs md5sum; postconf -n", host).stdout
    table = side["options"]["secret_tables"]["sasl_passwd"] + "smtp.elsewhere.test a:b\n"
    other = {**side, "options": {**side["options"], "secret_tables": {"sasl_passwd": table}}}
    for fault, body in BROKEN.items():
        wrapper = "#!/bin/bash\n" + body.format(real="/usr/sbin/postmap.real") + "\n"
        faults.lab.shell("mv /usr/sbin/postmap /usr/sbin/postmap.real; cat >/usr/sbin/postmap; chmod 755 /usr/sbin/postmap", host, input=wrapper)
        try:
            assert "nothing was changed" in faults.refused(host, other), fault
        finally:
            faults.lab.shell("mv /usr/sbin/postmap.real /usr/sbin/postmap", host)
        assert faults.lab.shell("find /etc/postfix -type f | sort | xargs md5sum; postconf -n", host).stdout == before, fault
    faults.mail(host, side, deliver=True)
    faults.heals(host, other)


def test_a_password_can_come_from_the_host_itself(faults):
    everywhere(_use_secrets_of_the_host, faults)
    faults.await_delivery()


def _from_host(faults, **source) -> dict:
    """The relay, with its credential from the host in place of the caller's table."""
    side = faults.relay()
    entry = {"key": "smtp.provider.test", "username": faults.lab.accounts["alerts"]["username"], **source}
    options = {**side["options"], "secret_tables": {}, "secret_sources": {"sasl_passwd": [entry]}}
    return {**side, "options": options}


def _use_secrets_of_the_host(faults, host: str) -> None:
    lab, password = faults.lab, faults.lab.accounts["alerts"]["password"]
    faults.begin(host)
    path = "/root/relay_password"
    side = _from_host(faults, file=path)
    lab.shell(f"rm -f {path}", host)
    assert f"secret_sources.sasl_passwd[0].file: {path} does not exist" in faults.refused(host, side)

    lab.shell(f"umask 077; cat >{path}", host, input="not the password\n")
    assert faults.set_up(host, side)["changed"] and not faults.set_up(host, side)["changed"]
    lab.shell(f"cat >{path}", host, input=f"{password}\n")
    told, done = faults.run(host, side, check=True), faults.set_up(host, side)
    assert told["changed"] and done["changed"] and done["reloaded"] and told["diff"] == done["diff"]
    assert password not in str([told, done]) and "not the password" not in str([told, done])
    faults.mail(host, side, deliver=True)
    assert {line.split()[0] for line in files_with_password(faults, host)} == {"600"}

    for harm, reason in (("chmod 640 {0}", "chmod 600"), ("rm {0}; mkfifo -m 600 {0}", "not a regular file")):
        lab.shell(harm.format(path), host)
        assert reason in faults.refused(host, side)
    _use_credentials(faults, host, password)


def _use_credentials(faults, host: str, password: str) -> None:
    lab = faults.lab
    side = _from_host(faults, credential="relay")
    lab.shell("rm -rf /run/credstore /etc/credstore /etc/credstore.encrypted; install -d -m 700 /run/credstore /etc/credstore.encrypted", host)
    assert "there is no credential 'relay'" in faults.refused(host, side)
    lab.shell("umask 077; cat >/run/credstore/relay", host, input=password)
    assert not faults.set_up(host, side)["changed"]  # the same password from elsewhere
    lab.shell("rm /run/credstore/relay", host)
    if host in HAVE_SYSTEMD_CREDS:
        encrypt = "systemd-creds --with-key=host --name=relay encrypt /root/plain /etc/credstore.encrypted/relay"
        lab.shell(f"umask 077; cat >/root/plain; {encrypt}; rm /root/plain", host, input=password)
        assert not faults.set_up(host, side)["changed"]
        faults.mail(host, side, deliver=True)
        lab.shell("cd /etc/credstore.encrypted; mv relay other", host)
        assert "does not decrypt" in faults.refused(host, _from_host(faults, credential="other"))
    else:
        lab.shell("echo sealed >/etc/credstore.encrypted/relay", host)
        assert "systemd 250 or newer" in faults.refused(host, side)
