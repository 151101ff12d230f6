#!/usr/bin/python
# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: postfix_config
short_description: Change a Postfix configuration in one staged, atomic step
version_added: "0.1.0"
author: outpost.smtp contributors (@outpost-smtp)
description:
  - Sets parameters of C(main.cf), services of C(master.cf) and lookup tables together. The new configuration is written
    beside the live one, read by Postfix there, linted, and with O(preflight) tried at the relay; only then it is switched to, by
    renaming files. Nothing is edited in place, so a run that is killed at any moment leaves a working configuration, and the
    next run finishes what is left to do.
  - After the switch, a running Postfix must have taken the configuration up and go on without a fatal error in its log. If not, the old
    configuration is put back, Postfix goes back to it, and the module fails with RV(rolled_back) and the cause.
  - Refuses to begin, and says so, where Postfix can not read its configuration before the change, where a restart is needed and
    Postfix would not start again, where a file can not be replaced (immutable, a mount point of its own, a full disk), and where
    somebody else changes the files at the same time.
  - Owns exactly what it was given, and remembers what stood there before. What it set in an earlier run and is no longer
    given is taken back. Every other parameter, service and comment stays as the administrator wrote it. New entries stand
    in one marked block at the end of the file; an entry that existed before is replaced where it stands.
  - Keeps its files in the directory C(outpost_smtp) below O(config_directory). Tables are of types that every Postfix has built in
    and reads from their text, unless O(table_type) says otherwise. A file with secrets has mode 0600 from its first byte on.
  - Reloads a running Postfix, or restarts it where a parameter that postconf(5) says to stop and start Postfix for gets another value
    (C(inet_interfaces), C(inet_protocols), and what they refer to). A Postfix that does not run is configured but not started;
    see RV(running).
  - O(config_directory) may be a link or a file system of its own, and so may C(main.cf) and C(master.cf) be links, also to other
    file systems; a link stays, and what it points to is replaced. A replaced file keeps its owner, mode and extended attributes (ACL,
    SELinux label). New files get the label that the kernel gives to what is made in that directory, which in C(/etc/postfix) is the
    right one by SELinux's own rules for it; this was tried with attributes of other names, not under SELinux.
  - Needs nothing on the host but Python and Postfix, and no facts.
options:
  config_directory:
    description: The configuration directory of the Postfix instance; the default one, or one that postmulti(1) knows.
    type: path
    default: /etc/postfix
  state:
    description:
      - With V(present), what is given is set.
      - With V(absent), everything that earlier runs set is taken back, and the tables are removed. A C(main.cf) that an
        earlier run created is removed if nothing else is in it; Postfix is then stopped, as it can not run without.
      - With V(reverted), the configuration that a run with O(keep_previous) kept is set again, in the same staged way and
        with the tables that it had. Where none is kept, the one that is set stays. No other option says what is set then.
      - With V(linted), nothing is changed, and RV(findings) says what is wrong with the configuration as it is, whoever wrote it, in
        any O(config_directory). No other option counts then. What only root may read, such as tables with passwords, needs
        C(become); without it the findings say what was not read. U(https://github.com/outpost-smtp/outpost.smtp/blob/main/docs/lint.md)
        lists everything that it finds.
    type: str
    choices: [present, absent, reverted, linted]
    default: present
  parameters:
    description:
      - Lines of C(main.cf). C(name = value) sets a parameter; C(name += value) adds to a list that the administrator may
        have in it, at its end. Lines that start with a blank continue the line before, and C(#) starts a comment line.
      - C(@NAME@) stands for the table NAME of this call, as C(type:path). These are filled in on the host, too.
        C(@ca_bundle@) is the file with the system's certificates, C(@ca_bundle_1@) one with these and those of the first of O(ca_files),
        and so on.
        C(@smtp_chroot@) is the chroot column of the host's own C(smtp) service. C(@compatibility_level@) is
        C(3.6), or C(2) for a Postfix that is too old for a dotted one.
    type: str
    default: ''
  initial_parameters:
    description:
      - Like O(parameters), for a Postfix that nobody has configured. They are set if C(main.cf) does not exist, if it is
        unchanged from its RPM package, or if an earlier run set them. On a mail server that already works they are not.
    type: str
    default: ''
  exclusive:
    description:
      - Whether what this call sets is all that is in force in C(main.cf), as for a null client. Every other entry is set aside where
        it stands, as comment lines that start with C(#outpost.smtp set aside:), and the O(initial_parameters) are set.
      - Left in force is what belongs to the installation (directories, owners, C(compatibility_level), logging, C(multi_instance_*)),
        and parameters that it or a service in C(master.cf) refers to.
      - Without this option, or with O(state=absent), all of that is in force again, byte for byte.
    version_added: "0.2.0"
    type: bool
    default: false
  services:
    description: Entries of C(master.cf), with the same placeholders.
    type: str
    default: ''
  tables:
    description:
      - Lookup tables, as text by name; normally one C(key value) per line. A name is of a-z, 0-9 and C(_).
      - Null is an empty text, because that is what a template without output becomes.
    type: dict
    default: {}
  secret_tables:
    description:
      - Lookup tables with secrets, as text by name. They and the maps that are built from them get mode 0600, and diffs show
        only their keys.
    type: dict
    default: {}
  secret_sources:
    description:
      - Lines for secret tables whose secret is on the host already, as a list by name of the table. Each becomes a line
        C(key username:secret) at the end of the table of O(secret_tables) with that name, which need not be given there.
      - An entry has C(key), C(username) and either C(file), the path of a file, or C(credential), the name of a credential of
        systemd. One line break at the end of the secret is removed. What can not be a password in a lookup table is refused, in a
        message that begins with its C(name) if it has one, such as that of a variable.
      - A file must belong to root (or the user that the module runs as) and be closed to everybody else, as by C(chmod 600).
      - A credential is looked for in C(/etc/credstore), C(/run/credstore) and C(/usr/lib/credstore), where the rules for
        files apply, and then in the C(.encrypted) directories beside these. Those need C(systemd-creds), which systemd has since
        version 250 (so not Debian 11).
      - The secret is read in every run, so a change of it is a change of the table.
    version_added: "0.2.0"
    type: dict
    default: {}
  table_type:
    description:
      - The type of the tables that O(table_types) does not name. V(texthash) is built into every Postfix, and as good as any for
        tables of the size that a call can hold.
      - Postfix has to have the type (C(postconf -m)). Where a package brings it, that is one of RV(missing_packages). Newer
        systems have no V(hash) any more.
      - Maps of type V(hash), V(lmdb) and V(cdb) are built beside those in use, and every key of them is read back before they
        are used. One that was lost, damaged or built again by somebody else since is noticed and built anew.
    version_added: "0.2.0"
    type: str
    choices: [texthash, hash, lmdb, cdb]
    default: texthash
  table_types:
    description:
      - The type of single tables by name; that of O(table_type), or V(regexp).
    type: dict
    default: {}
  ca_files:
    description:
      - PEM files on the host with certificates of certification authorities to trust in addition to the system's. Postfix
        takes one file only, so for each of them there is a file with both, made again when one of them changes. It stands where
        C(@ca_bundle_1@) does for the first of them, C(@ca_bundle_2@) for the second, and so on.
    type: list
    elements: path
    default: []
  sasl_mechanisms:
    description: The SASL mechanisms that this configuration needs on the host. Their plug-ins come in packages of their own.
    type: list
    elements: str
    choices: [plain, login, cram-md5, digest-md5, scram-sha-1, scram-sha-256, external]
    default: []
  keep_previous:
    description:
      - Keep the configuration that this run changes, with its tables, so that O(state=reverted) can go back to it. It is kept until
        the next run without this option, which makes the change final and removes it even if there is nothing else to do; so passwords
        that were replaced stay on the host until then. Further runs with this option keep the same one, and not each other's.
      - Only what this module sets is kept. What the administrator changes in the meantime stays either way. Where this run is the first
        that sets anything, going back takes everything back, as with O(state=absent).
    version_added: "0.2.0"
    type: bool
    default: false
  preflight:
    description:
      - Whether to log in to the relays with the new configuration before it is switched to. The test is that of module
        M(outpost.smtp.smtp_auth_info), from this host and as the user that Postfix runs as, with the settings and the credentials that
        Postfix reads in the staged files. Only transports that this module sets are tested. No mail is sent, and each password is
        tried once.
      - If a relay refuses, nothing is changed, and the module fails with the diagnosis; see RV(preflight).
      - With V(never), nothing is tested.
      - With V(auto), those logins are tested that the change makes different, if an earlier run has set up this host. So a new
        password or relay is tried first, while a host that is set up for the first time, whose firewall may not be open yet, and
        a change of something else do not depend on the relay.
      - With V(always), all are tested whenever something changes.
    version_added: "0.2.0"
    type: str
    choices: [never, auto, always]
    default: never
  preflight_timeout:
    description: Seconds that the logins before the switch may take together, at least V(1).
    version_added: "0.2.0"
    type: int
    default: 30
  packages_missing:
    description:
      - What to do when Postfix, a type of map, a plug-in for O(sasl_mechanisms) or the system's certificates are not installed.
      - With V(fail), fail and name the packages.
      - With V(report), change nothing and return RV(missing_packages), so that they can be installed.
      - In check mode V(fail) does not fail; the result is what it would be once they are installed.
    type: str
    choices: [fail, report]
    default: fail
extends_documentation_fragment:
  - outpost.smtp.attributes
attributes:
  check_mode:
    support: full
    details:
      - Where Postfix is not installed yet, the C(master.cf) of its package can not be part of the predicted diff.
      - As nothing is written, the new configuration is neither linted nor tried at the relay.
  diff_mode:
    support: full
    details:
      - Passwords are masked, also those that the administrator has in C(main.cf) or C(master.cf).
  idempotent:
    support: full
"""

EXAMPLES = r"""
- name: Send all mail through one relay that asks for a login
  outpost.smtp.postfix_config:
    services: |
      outpost_primary unix - - @smtp_chroot@ - - smtp
        -o smtp_tls_security_level=secure
        -o smtp_tls_CAfile=@ca_bundle@
        -o smtp_sasl_auth_enable=yes
        -o smtp_sasl_password_maps=$outpost_primary_password_maps
    parameters: |
      default_transport = outpost_primary:[smtp.example.net]:587
      outpost_primary_password_maps = @sasl_passwd@
    secret_tables:
      sasl_passwd: "[smtp.example.net]:587 alerts@example.net:{{ vault_smtp_password }}"
    sasl_mechanisms: [plain, login]

- name: Add an alias, beside those that the host has
  outpost.smtp.postfix_config:
    parameters: |
      virtual_alias_maps += @aliases@
    tables:
      aliases: |
        root admin@example.com

- name: What "postfix check" does not say about a configuration, by whomever
  outpost.smtp.postfix_config:
    state: linted
  register: linted
  failed_when: linted.findings | selectattr("severity", "equalto", "error") | length > 0

- name: Switch to a new password, which is tried first, and keep the old one until mail has been seen to arrive
  outpost.smtp.postfix_config:
    services: "{{ relay_services }}"
    parameters: "{{ relay_parameters }}"
    secret_tables:
      sasl_passwd: "[smtp.example.net]:587 alerts@example.net:{{ vault_smtp_new_password }}"
    preflight: auto
    keep_previous: true

- name: Go back to the old one
  outpost.smtp.postfix_config:
    state: reverted

- name: Take everything back
  outpost.smtp.postfix_config:
    state: absent
"""

RETURN = r"""
parameters:
  description: The names of the parameters of C(main.cf) whose value changed.
  returned: success, but for state=linted
  type: list
  elements: str
  sample: [default_transport]
reloaded:
  description: Whether Postfix was told about the change by a reload, a restart or a stop.
  returned: success, but for state=linted
  type: bool
  sample: true
running:
  description: Whether the instance runs, after the change.
  returned: success, but for state=linted
  type: bool
  sample: true
enabled:
  description:
    - Whether systemd starts Postfix at boot. Null where that can not be told, as without systemd or for another instance than the
      one in C(/etc/postfix).
  returned: success, but for state=linted
  type: bool
  sample: true
oauth_proxy:
  description: Whether there is something of module M(outpost.smtp.smtp_oauth_proxy) on the host.
  version_added: "0.2.0"
  returned: success, but for state=linted
  type: bool
  sample: false
version:
  description: Postfix's version; null when it is not installed.
  returned: success, but for state=linted
  type: str
  sample: 3.7.11
previous_kept:
  description:
    - Whether an earlier configuration is on the host, kept by O(keep_previous), that O(state=reverted) goes back to. So it also tells that a
      switch was made, by this run or one before, and not been made final yet.
  version_added: "0.2.0"
  returned: success, but for state=linted
  type: bool
  sample: false
findings:
  description:
    - What is wrong with the configuration, errors first. An error keeps mail from being sent as it is meant to be, or shows a password.
    - With O(state=linted), about all of it. When a change is made, about the new configuration before it is switched to; an
      error that is about what this call sets makes it fail, and nothing is changed.
    - No finding holds a secret.
  version_added: "0.2.0"
  returned: success, and failure for this reason
  type: list
  elements: dict
  contains:
    code:
      description: An identifier that never changes its meaning.
      type: str
      sample: lint_wrappermode_missing
    severity:
      description: V(error) or V(warning).
      type: str
      sample: error
    place:
      description: The file, and the line, parameter or service in it.
      type: str
      sample: 'main.cf:12: smtp_tls_wrappermode'
    found:
      description: What is there.
      type: str
      sample: '[smtp.example.net]:465 by smtp: port 465 without smtp_tls_wrappermode = yes: both sides wait for the other to begin'
    why:
      description: What comes of it.
      type: str
      sample: Both sides wait for the other to begin, until smtp_helo_timeout is over; the mail stays in the queue.
    remedy:
      description: What to do.
      type: str
      sample: Set smtp_tls_wrappermode = yes and a level of encrypt or stronger for that transport, or use port 587.
    names:
      description: The parameters, services and table files that it is about.
      type: list
      elements: str
      sample: [relayhost, smtp, smtp_tls_wrappermode]
preflight:
  description:
    - What came of the logins before the switch (O(preflight)), one for each server that Postfix would use; empty if none was tested.
    - They are as in RV(outpost.smtp.smtp_auth_info#module:results), of which this is the main part.
  version_added: "0.2.0"
  returned: success but for state=linted, and failure for this reason
  type: list
  elements: dict
  contains:
    name:
      description: The transport in C(master.cf).
      type: str
      sample: outpost_primary
    ok:
      description: Whether the login worked and Postfix would use it.
      type: bool
      sample: false
    diagnosis:
      description: What is wrong; null if nothing is.
      type: dict
      contains:
        code:
          description: An identifier that never changes its meaning.
          type: str
          sample: auth_bad_credentials
        summary:
          description: What was seen.
          type: str
          sample: "smtp.example.net:587 refuses the user name or password: 535 5.7.8 Error: authentication failed."
        remedy:
          description: What to do.
          type: str
          sample: Check both.
rolled_back:
  description: Whether the old configuration was put back after the switch to the new one, because Postfix did not work with that.
  version_added: "0.2.0"
  returned: success but for state=linted, where it is false, and failure
  type: bool
  sample: false
missing_packages:
  description: The packages that have to be installed, called as on this operating system.
  returned: success but for state=linted, and failure for this reason
  type: list
  elements: str
  sample: [postfix, libsasl2-modules]
"""

import os
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.outpost.smtp.plugins.module_utils._postfix.configure import Configurator
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.errors import PostfixError
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.host import Host
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.packages import EXTERNAL, SASL_MECHANISMS, Platform
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.request import Request
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.tables import BUILT_TYPES, TEXTHASH
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.transaction import Conduct

#: Seconds that the linter may take; a table can be on a file system that does not answer.
LINT_TIMEOUT = 30.0

ARGUMENTS: t.Dict[str, t.Any] = {
    "config_directory": {"type": "path", "default": "/etc/postfix"},
    "state": {"type": "str", "choices": ["present", "absent", "reverted", "linted"], "default": "present"},
    "parameters": {"type": "str", "default": ""},
    "initial_parameters": {"type": "str", "default": ""},
    "exclusive": {"type": "bool", "default": False},
    "services": {"type": "str", "default": ""},
    "tables": {"type": "dict", "default": {}},
    # An option of its own, because no_log must be on the outermost level: for one further in, AnsibleModule logs the
    # representation of the whole option to the journal, where a text with line breaks no longer matches what is masked.
    "secret_tables": {"type": "dict", "default": {}, "no_log": True},
    "secret_sources": {"type": "dict", "default": {}, "no_log": False},  # says where the secrets are, and holds none
    "table_type": {"type": "str", "choices": [TEXTHASH, *BUILT_TYPES], "default": TEXTHASH},
    "table_types": {"type": "dict", "default": {}},
    "ca_files": {"type": "list", "elements": "path", "default": []},
    "sasl_mechanisms": {"type": "list", "elements": "str", "choices": [*SASL_MECHANISMS, EXTERNAL], "default": []},
    "keep_previous": {"type": "bool", "default": False},
    "preflight": {"type": "str", "choices": ["never", "auto", "always"], "default": "never"},
    "preflight_timeout": {"type": "int", "default": 30},
    "packages_missing": {"type": "str", "choices": ["fail", "report"], "default": "fail"},
}


def text_tables(tables: t.Dict[str, t.Any], option: str) -> t.Dict[str, str]:
    """Return the tables if all of them are text. Raises PostfixError."""
    for name, content in tables.items():
        # A template without output is null on its way through Ansible.
        if not isinstance(content, (str, type(None))):
            raise PostfixError(f"{option}: {name!r} must be text, one 'key value' per line")
    return {str(name): str(content or "") for name, content in tables.items()}


def run(params: t.Dict[str, t.Any], check_mode: bool) -> t.Dict[str, t.Any]:
    """Do what the parameters ask for and return the result. Raises PostfixError."""
    if params["state"] == "linted":
        return linted(params["config_directory"])
    request, mechanisms = Request(), []
    if params["state"] == "present":
        mechanisms = params["sasl_mechanisms"]
        request = Request(
            params["parameters"],
            params["initial_parameters"],
            params["services"],
            text_tables(params["tables"], "tables"),
            text_tables(params["secret_tables"], "secret_tables"),
            params["table_types"],
            params["ca_files"],
            params["exclusive"],
            params["secret_sources"],
            params["table_type"],
        )
    directory = params["config_directory"]
    if params["preflight_timeout"] < 1:
        raise PostfixError("preflight_timeout: must be at least 1 second")
    conduct = Conduct(params["preflight"], params["preflight_timeout"], params["keep_previous"])
    revert = params["state"] == "reverted"
    configurator = Configurator(directory, request, Host(directory), Platform(), mechanisms, conduct, revert)
    missing = configurator.missing_packages
    if missing and params["packages_missing"] == "report":
        return configurator.nothing_done()
    if missing and not check_mode:
        raise PostfixError(f"These packages have to be installed first: {', '.join(missing)}", missing_packages=missing)
    return configurator.configure(change=not check_mode)


def linted(config_directory: str) -> t.Dict[str, t.Any]:
    """Return what is wrong with the configuration as it is. Raises PostfixError."""
    from ansible_collections.outpost.smtp.plugins.module_utils._postfix.lint.lint import lint  # no other run needs it
    from ansible_collections.outpost.smtp.plugins.module_utils._smtp.deadline import Deadline

    return {"changed": False, "findings": [finding.as_dict() for finding in lint(config_directory, Deadline(LINT_TIMEOUT))]}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        result = run(module.params, module.check_mode)
    except PostfixError as error:
        module.fail_json(msg=error.message, **error.facts)
    except OSError as error:
        hint = "; this needs root's rights (become)" if isinstance(error, PermissionError) and os.geteuid() != 0 else ""
        module.fail_json(msg=f"{error.filename or 'A file'} can not be used: {error.strerror}; nothing was changed{hint}")
    except Exception as error:
        # The text of an unexpected exception may hold a secret; its type and place do not.
        place = error.__traceback__
        while place is not None and place.tb_next is not None:
            place = place.tb_next
        where = f"{place.tb_frame.f_code.co_filename.rsplit('/', 1)[-1]}:{place.tb_lineno}" if place is not None else "an unknown place"
        module.fail_json(msg=f"Unexpected {type(error).__name__} in {where}; this is a fault of the module, please report it")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
