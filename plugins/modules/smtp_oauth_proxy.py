#!/usr/bin/python
# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: smtp_oauth_proxy
short_description: Run a service that logs Postfix in to relays by OAuth 2.0
version_added: "0.2.0"
author: outpost.smtp contributors (@outpost-smtp)
description:
  - Postfix has no OAuth 2.0 of its own. This module installs a service, C(outpost-smtp-oauth.service), that listens on the loopback
    interface with one port for each relay. A connection to such a port is one to the relay, with verified TLS and a login by XOAUTH2
    already done. All that follows is passed on unchanged, in both directions.
  - The service gets access tokens from the provider's token endpoint, with a refresh token or with the application's own secret
    (RFC 6749 sections 6 and 4.4), and gets new ones when half of their life is over. A refresh token that the endpoint
    exchanges is stored before anything else happens.
  - Only Postfix and root may connect; who a connection is from, the kernel says. The ports are below 1024, so that nobody else can take one
    while the service does not run. The service runs as the user of Postfix, so that an outbound
    firewall rule for that user fits.
  - New settings are tried out before they are put in place. If no token can be had with them, nothing is changed.
  - The role P(outpost.smtp.postfix_relay#role) is the usual way to call this module.
extends_documentation_fragment:
  - outpost.smtp.attributes
attributes:
  check_mode:
    support: full
    details:
      - No token is fetched in check mode.
  diff_mode:
    support: full
    details:
      - Shows the settings; secrets are masked.
  idempotent:
    support: full
requirements:
  - systemd
options:
  state:
    description:
      - V(present) runs the service for the relays, V(absent) removes it with its settings and tokens.
    type: str
    choices: [present, absent]
    default: present
  relays:
    description:
      - Relays as in the role's C(outpost_smtp_relays). Those that have C(oauth) are served, others are ignored. Without any, the service
        is removed.
    type: list
    elements: dict
    default: []
  packages_missing:
    description:
      - What to do when Postfix or the system's certificates are not installed.
      - With V(fail), fail and name the packages.
      - With V(report), change nothing and return RV(missing_packages), so that they can be installed.
      - In check mode V(fail) does not fail; the result is what it would be once they are installed.
    type: str
    choices: [fail, report]
    default: fail
"""

EXAMPLES = r"""
- name: Let Postfix reach a relay that wants an access token
  outpost.smtp.smtp_oauth_proxy:
    relays:
      - name: primary
        host: smtp.office365.com
        port: 587
        username: alerts@example.com
        oauth:
          token_endpoint: https://login.microsoftonline.com/{{ tenant_id }}/oauth2/v2.0/token
          client_id: "{{ application_id }}"
          client_secret: "{{ vault_client_secret }}"
          scope: https://outlook.office365.com/.default

- name: Remove the service, its settings and its tokens
  outpost.smtp.smtp_oauth_proxy:
    state: absent
"""

RETURN = r"""
ports:
  description: The port on C(127.0.0.1) that leads to each relay, by the relay's name.
  returned: success
  type: dict
  sample: {primary: 288}
missing_packages:
  description: The packages that have to be installed, called as on this operating system.
  returned: success, and failure for this reason
  type: list
  elements: str
  sample: [postfix]
"""

import os
import pwd
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._module import DiscreetModule
from ansible_collections.outpost.smtp.plugins.module_utils._oauth.install import Installation
from ansible_collections.outpost.smtp.plugins.module_utils._oauth.settings import OAuthError, RelaySettings
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.errors import PostfixError
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.host import run_program
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.oauth_relays import proxies
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.packages import CA, POSTFIX, Platform, find_program
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.relay import RelayError, normalise_relays

ARGUMENTS: t.Dict[str, t.Any] = {
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "relays": {"type": "list", "elements": "dict", "default": []},
    "packages_missing": {"type": "str", "choices": ["fail", "report"], "default": "fail"},
}


def wanted(params: t.Dict[str, t.Any]) -> t.List[RelaySettings]:
    """The relays to serve. Raises RelayError."""
    if params["state"] == "absent" or not params["relays"]:
        return []
    return proxies(normalise_relays(params["relays"], "relays"), "relays")


def mail_owner() -> t.Optional[str]:
    """The user whom Postfix runs as; None where it is not installed."""
    if find_program("postconf") is None:
        return None
    name = run_program(["postconf", "-h", "mail_owner"]).out.strip() or run_program(["postconf", "-d", "-h", "mail_owner"]).out.strip()
    try:
        return pwd.getpwnam(name).pw_name
    except KeyError:
        return None


def missing_packages(user: t.Optional[str]) -> t.List[str]:
    platform = Platform()
    return platform.package_names([*([POSTFIX] if user is None else []), *([CA] if platform.ca_bundle() is None else [])])


def run(module: DiscreetModule) -> t.Dict[str, t.Any]:
    """Do what the options ask for. Raises RelayError, OAuthError, PostfixError, OSError."""
    relays = wanted(module.params)
    installation = Installation(run_program)
    result: t.Dict[str, t.Any] = {"ports": {relay.name: relay.local_port for relay in relays}, "missing_packages": []}
    diff = installation.diff(relays)
    if not relays:
        return {**result, "changed": installation.remove(not module.check_mode), "diff": diff}
    if not os.path.isdir("/run/systemd/system"):
        raise OAuthError("A relay with 'oauth' needs systemd, which does not run on this host; nothing was changed")
    user = mail_owner()
    missing = missing_packages(user)
    if missing and module.params["packages_missing"] == "report":
        return {**result, "changed": False, "diff": [], "missing_packages": missing}
    if missing and not module.check_mode:
        raise PostfixError(f"These packages have to be installed first: {', '.join(missing)}", missing_packages=missing)
    if user is None:
        return {**result, "changed": True, "diff": diff, "missing_packages": missing}
    return {**result, "changed": installation.set_up(relays, user, not module.check_mode), "diff": diff, "missing_packages": missing}


def main() -> None:
    module = DiscreetModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        result = run(module)
    except (RelayError, OAuthError) as error:
        module.fail_json(msg=str(error))
    except PostfixError as error:
        module.fail_json(msg=error.message, **error.facts)
    except OSError as error:
        hint = "; this needs root's rights (become)" if isinstance(error, PermissionError) and os.geteuid() != 0 else ""
        module.fail_json(msg=f"{error.filename or 'A file'} can not be used: {error.strerror}{hint}")
    except Exception as error:
        # Only the type: the text of an unexpected exception might quote a secret.
        module.fail_json(msg=f"Unexpected {type(error).__name__}; this is a fault of the module, please report it")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
