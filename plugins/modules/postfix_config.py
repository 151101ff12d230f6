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
    beside the live one, read and checked by Postfix there, and then switched to by renaming files, C(main.cf) last.
    Nothing is edited in place, so a run that is killed at any moment leaves a working configuration, and the next run
    finishes what is left to do.
  - Owns exactly what it was given, and remembers what stood there before. What it set in an earlier run and is no longer
    given is taken back. Every other parameter, service and comment stays as the administrator wrote it. New entries stand
    in one marked block at the end of the file; an entry that existed before is replaced where it stands.
  - Keeps its files in the directory C(outpost_smtp) below O(config_directory). Tables are of types that every
    Postfix has built in and reads from their text. A file with secrets has mode 0600 from its first byte on.
  - Reloads a running Postfix, or restarts it where a parameter needs that (C(inet_interfaces), C(inet_protocols)). A
    Postfix that does not run is configured but not started; see RV(running).
  - Needs nothing on the host but Python and Postfix, and no facts.
options:
  config_directory:
    description: The configuration directory of the Postfix instance.
    type: path
    default: /etc/postfix
  state:
    description:
      - With V(present), what is given is set.
      - With V(absent), everything that earlier runs set is taken back, and the tables are removed. A C(main.cf) that an
        earlier run created is removed if nothing else is in it; Postfix is then stopped, as it can not run without.
    type: str
    choices: [present, absent]
    default: present
  parameters:
    description:
      - Lines of C(main.cf). C(name = value) sets a parameter; C(name += value) adds to a list that the administrator may
        have in it, at its end. Lines that start with a blank continue the line before, and C(#) starts a comment line.
      - C(@NAME@) stands for the table NAME of this call, as C(type:path). Three more are filled in on the host.
        C(@ca_bundle@) is the file with the system's certificates, together with those of O(ca_files).
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
      - Lookup tables with secrets, as text by name. They get mode 0600, and diffs show only their keys.
    type: dict
    default: {}
  table_types:
    description:
      - The type of tables, V(texthash) or V(regexp), by name. A table that is not named here is of type V(texthash).
    type: dict
    default: {}
  ca_files:
    description:
      - PEM files on the host with certificates of certification authorities to trust in addition to the system's. Postfix
        takes one file only, so C(@ca_bundle@) is then a file with all of them, made again when one of them changes.
    type: list
    elements: path
    default: []
  sasl_mechanisms:
    description: The SASL mechanisms that this configuration needs on the host. Their plug-ins come in packages of their own.
    type: list
    elements: str
    choices: [plain, login]
    default: []
  packages_missing:
    description:
      - What to do when Postfix, a plug-in for O(sasl_mechanisms) or the system's certificates are not installed.
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

- name: Take everything back
  outpost.smtp.postfix_config:
    state: absent
"""

RETURN = r"""
parameters:
  description: The names of the parameters of C(main.cf) whose value changed.
  returned: success
  type: list
  elements: str
  sample: [default_transport]
reloaded:
  description: Whether Postfix was told about the change by a reload, a restart or a stop.
  returned: success
  type: bool
  sample: true
running:
  description: Whether the instance runs, after the change.
  returned: success
  type: bool
  sample: true
enabled:
  description:
    - Whether systemd starts Postfix at boot. Null where that can not be told, as without systemd or for another instance than the
      one in C(/etc/postfix).
  returned: success
  type: bool
  sample: true
version:
  description: Postfix's version; null when it is not installed.
  returned: success
  type: str
  sample: 3.7.11
missing_packages:
  description: The packages that have to be installed, called as on this operating system.
  returned: success, and failure for this reason
  type: list
  elements: str
  sample: [postfix, libsasl2-modules]
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.outpost.smtp.plugins.module_utils._postfix.configure import Configurator
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.errors import PostfixError
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.host import Host
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.packages import Platform
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.request import Request

ARGUMENTS: t.Dict[str, t.Any] = {
    "config_directory": {"type": "path", "default": "/etc/postfix"},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "parameters": {"type": "str", "default": ""},
    "initial_parameters": {"type": "str", "default": ""},
    "services": {"type": "str", "default": ""},
    "tables": {"type": "dict", "default": {}},
    # An option of its own, because no_log must be on the outermost level: for one further in, AnsibleModule logs the
    # representation of the whole option to the journal, where a text with line breaks no longer matches what is masked.
    "secret_tables": {"type": "dict", "default": {}, "no_log": True},
    "table_types": {"type": "dict", "default": {}},
    "ca_files": {"type": "list", "elements": "path", "default": []},
    "sasl_mechanisms": {"type": "list", "elements": "str", "choices": ["plain", "login"], "default": []},
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
        )
    directory = params["config_directory"]
    configurator = Configurator(directory, request, Host(directory), Platform(), mechanisms)
    missing = configurator.missing_packages
    if missing and params["packages_missing"] == "report":
        return configurator.nothing_done()
    if missing and not check_mode:
        raise PostfixError(f"These packages have to be installed first: {', '.join(missing)}", missing_packages=missing)
    return configurator.configure(change=not check_mode)


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        result = run(module.params, module.check_mode)
    except PostfixError as error:
        module.fail_json(msg=error.message, **error.facts)
    except OSError as error:
        hint = "; this needs root's rights (become)" if isinstance(error, PermissionError) else ""
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
