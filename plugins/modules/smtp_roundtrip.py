#!/usr/bin/python
# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: smtp_roundtrip
short_description: Send one marked message and prove that this very message arrived
version_added: "0.1.0"
author: outpost.smtp contributors (@outpost-smtp)
description:
  - Opens a mailbox, sends one short message with a random token through the host's own mail server or directly to a relay,
    and waits until exactly that message is in the mailbox.
  - Reads from its C(Received) header which way it took, how long each hop needed, and whether it reached the relay
    encrypted and authenticated.
  - Removes the message from the mailbox afterwards, and nothing else.
  - When the message does not arrive, the local Postfix queue is asked what became of it, so the reason of a delay
    (such as a refused login) is in the error message.
notes:
  - A message is really sent. The host itself is not changed, so the module never reports RV(ignore:changed).
  - TLS is always verified, to the relay and to the mailbox. Nothing falls back to clear text, and each password is tried once.
  - The module needs nothing but Python 3.8 or newer on the managed host.
  - With O(via=local) the message takes the way of all other mail of the host, so it proves the configuration of its mail
    server. The way to the relay is read from what the relay wrote into the header.
extends_documentation_fragment:
  - outpost.smtp.attributes
attributes:
  check_mode:
    support: full
    details: The options are checked; nothing is connected to and nothing is sent.
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  via:
    description:
      - V(local) hands the message to the mail server of the managed host, at C(127.0.0.1) port 25.
      - V(relay) hands it directly to O(relay), with its credentials.
    type: str
    choices: [local, relay]
    default: local
  relay:
    description:
      - The relay for O(via=relay), one entry of C(outpost_smtp_relays).
    type: dict
    suboptions:
      name:
        description: Label of the relay. It is accepted so that an entry can be given as it is.
        type: str
      host:
        description: Host name or address of the submission server.
        type: str
        required: true
      port:
        description: Port, 465 or 587 as a rule. Follows from O(relay.tls) when it is left out.
        type: int
      tls:
        description: V(implicit) for TLS from the first byte, V(starttls), or V(none). Follows from O(relay.port) when it is left out.
        type: str
        choices: [implicit, starttls, none]
      srv:
        description: Whether SRV records of O(relay.host), a domain, tell server and port, as in M(outpost.smtp.smtp_auth_info).
        type: bool
        default: false
        version_added: "0.2.0"
      family:
        description: Address family to use.
        type: str
        choices: [any, ipv4, ipv6]
        default: any
        version_added: "0.2.0"
      username:
        description: User name to log in with.
        type: str
      password:
        description: Password to log in with.
        type: str
      password_file:
        description: File on the managed host that holds the password, as in M(outpost.smtp.smtp_auth_info).
        type: str
        version_added: "0.2.0"
      password_credential:
        description: Name of a credential of systemd on the managed host that is the password, as in M(outpost.smtp.smtp_auth_info).
        type: str
        version_added: "0.2.0"
      oauth:
        description: How this host gets an access token for the relay, as in M(outpost.smtp.smtp_auth_info).
        type: dict
        version_added: "0.2.0"
        suboptions:
          token_endpoint:
            description: URL that gives access tokens.
            type: str
            required: true
          client_id:
            description: The application at the provider.
            type: str
            required: true
          client_secret:
            description: Its secret.
            type: str
          refresh_token:
            description: What a token is given for. Without it, it is given for O(relay.oauth.client_secret).
            type: str
          scope:
            description: What the token is to be good for.
            type: str
          ca_file:
            description: File on the managed host with CA certificates for the token endpoint.
            type: str
          local_port:
            description: The port of module M(outpost.smtp.smtp_oauth_proxy) that leads to the relay; it means nothing here.
            type: int
      mechanism:
        description: SASL mechanism; V(auto) takes the best that the server offers.
        type: str
        choices: [auto, plain, login, cram-md5, digest-md5, scram-sha-1, scram-sha-256, xoauth2, external]
        default: auto
      ca_file:
        description: File on the managed host with certificates to trust in addition to the system's.
        type: str
      server_name:
        description: Name that the certificate must be for, instead of O(relay.host).
        type: str
        version_added: "0.2.0"
      minimum_tls:
        description: Oldest version of TLS that is accepted.
        type: str
        choices: ["1.2", "1.3"]
        default: "1.2"
        version_added: "0.2.0"
      fingerprints:
        description: SHA-256 fingerprints, of which the relay's certificate or its public key must have one. They alone decide then.
        type: list
        elements: str
        version_added: "0.2.0"
      client_certificate:
        description: File on the managed host with the certificate to show to the relay.
        type: str
        version_added: "0.2.0"
      client_key:
        description: File on the managed host with its private key, if that is not in the same file.
        type: str
        version_added: "0.2.0"
      senders:
        description: Not used here. It can be given because a relay of the roles may have it.
        type: list
        elements: str
        version_added: "0.2.0"
      concurrency_limit:
        description: Not used here, as O(relay.senders).
        type: int
        version_added: "0.2.0"
      rate_delay:
        description: Not used here, as O(relay.senders).
        type: str
        version_added: "0.2.0"
      recipient_limit:
        description: Not used here, as O(relay.senders).
        type: int
        version_added: "0.2.0"
  sender:
    description: Envelope sender and C(From) of the message.
    type: str
    required: true
  recipient:
    description: Address whose mail arrives in O(mailbox).
    type: str
    required: true
  mailbox:
    description: Where to look for the message.
    type: dict
    required: true
    suboptions:
      type:
        description:
          - V(imap) for a mailbox on a server, V(maildir) for a directory on the managed host.
          - V(log) is for recipients whose mailbox can not be read. It follows the message in the log of the host's Postfix (the journal,
            C(maillog_file) or the files of syslog, which root may read) and proves that the relay took it, not that it arrived.
            The message stays in the recipient's mailbox. Only with O(via=local).
        type: str
        choices: [imap, maildir, log]
        required: true
      host:
        description: Host name of the IMAP server. Required with O(mailbox.type=imap).
        type: str
      port:
        description: Port of the IMAP server. The default is 993, or 143 with O(mailbox.tls=starttls).
        type: int
      tls:
        description: V(implicit) for TLS from the first byte, or V(starttls).
        type: str
        choices: [implicit, starttls]
        default: implicit
      username:
        description: User name to log in with. Required with O(mailbox.type=imap).
        type: str
      password:
        description: Password to log in with. Required with O(mailbox.type=imap).
        type: str
      ca_file:
        description: File on the managed host with certificates to trust in addition to the system's.
        type: str
      folder:
        description:
          - IMAP folder that is watched. Junk folders of the account are watched as well.
          - A name outside ASCII is written as the server lists it, in modified UTF-7.
        type: str
        default: INBOX
      path:
        description:
          - Directory on the managed host that holds C(new) and C(cur). Required with O(mailbox.type=maildir).
          - The folders C(.Junk) and C(.Spam) below it are watched as well.
        type: str
  timeout:
    description:
      - Seconds for everything together, up to 3600.
      - When the message has not arrived by then, asking the local queue may take 5 more seconds.
    type: float
    default: 60
  cleanup:
    description: Whether to remove the message from the mailbox after it was found.
    type: bool
    default: true
seealso:
  - module: outpost.smtp.smtp_auth_info
"""

EXAMPLES = r"""
- name: Prove that mail of this host arrives
  outpost.smtp.smtp_roundtrip:
    sender: alerts@example.net
    recipient: inbox@example.net
    mailbox:
      type: imap
      host: imap.example.net
      username: inbox@example.net
      password: "{{ vault_imap_password }}"

- name: The same without the mail server of the host
  outpost.smtp.smtp_roundtrip:
    via: relay
    relay: "{{ outpost_smtp_relays | first }}"
    sender: alerts@example.net
    recipient: inbox@example.net
    mailbox:
      type: imap
      host: imap.example.net
      username: inbox@example.net
      password: "{{ vault_imap_password }}"
    timeout: 120

- name: Prove as much as can be seen from here, where nobody can read the mailbox
  outpost.smtp.smtp_roundtrip:
    sender: alerts@example.net
    recipient: postmaster@example.net
    mailbox:
      type: log

- name: Mail to root ends in a Maildir of this host
  outpost.smtp.smtp_roundtrip:
    sender: root@web1.example.net
    recipient: root@web1.example.net
    mailbox:
      type: maildir
      path: /root/Maildir
"""

RETURN = r"""
arrived:
  description:
    - Whether the message with the token was found in the mailbox.
    - With O(mailbox.type=log) whether a relay took it.
  returned: when the options are valid, except in check mode
  type: bool
  sample: true
token:
  description: Random text that is in no other message.
  returned: when the options are valid, except in check mode
  type: str
  sample: 3f0c8e1b5d7a4f6e9b2c1d0a8e7f6b5c
message_id:
  description: Message-ID of the message.
  returned: when the options are valid, except in check mode
  type: str
  sample: <3f0c8e1b5d7a4f6e9b2c1d0a8e7f6b5c@example.net>
queue_id:
  description: Queue id from the reply of the server that took the message; null where it told none.
  returned: when the options are valid, except in check mode
  type: str
  sample: 4bXyZ12345z1abc
reply:
  description: The reply of the server that took the message, null if none did.
  returned: when the options are valid, except in check mode
  type: str
  sample: "250 2.0.0 Ok: queued as 4bXyZ12345z1abc"
folder:
  description: Folder that the message was found in, null if it was not. With O(mailbox.type=log) the relay that took it.
  returned: when the options are valid, except in check mode
  type: str
  sample: INBOX
elapsed_ms:
  description: Milliseconds of each stage, null for one that was not completed.
  returned: when the options are valid, except in check mode
  type: dict
  contains:
    mailbox:
      description: Opening the mailbox.
      type: int
    submitted:
      description: Handing the message over.
      type: int
    arrived:
      description: From then until the message was seen in the mailbox.
      type: int
  sample: {mailbox: 41, submitted: 12, arrived: 318}
hops:
  description: The C(Received) fields of the message, oldest first. What a server did not write is null.
  returned: when the options are valid, except in check mode; empty when the message was not found
  type: list
  elements: dict
  contains:
    by:
      description: Name of the server that wrote the field.
      type: str
    from_host:
      description: Name by which the server before it introduced itself.
      type: str
    protocol:
      description: Protocol as written; of the registered ones V(ESMTPSA) means encrypted and authenticated.
      type: str
    queue_id:
      description: Queue id at this server.
      type: str
    tls:
      description: RV(ignore:version) and RV(ignore:cipher), each null where only the protocol tells of TLS; null without TLS.
      type: dict
    authenticated:
      description: Whether the server says that the sender was logged in.
      type: bool
    authenticated_as:
      description: The name it was logged in with.
      type: str
    time:
      description: Time stamp in UTC, by the server's own clock.
      type: str
    delay_s:
      description: Seconds since the hop before. Negative where the clocks differ.
      type: float
  sample:
    - by: web1.example.net
      from_host: "[127.0.0.1]"
      protocol: ESMTP
      queue_id: 4bXyZ12345z1abc
      tls: null
      authenticated: false
      authenticated_as: null
      time: "2026-11-23T12:00:00Z"
      delay_s: null
    - by: smtp.example.net
      from_host: web1.example.net
      protocol: ESMTPSA
      queue_id: 4bXyZ23456z2def
      tls: {version: TLSv1.3, cipher: TLS_AES_256_GCM_SHA384}
      authenticated: true
      authenticated_as: alerts@example.net
      time: "2026-11-23T12:00:01Z"
      delay_s: 1.0
proof:
  description: What ties the message that arrived to the one that was sent, null when it was not found.
  returned: when the options are valid, except in check mode
  type: dict
  contains:
    token_matched:
      description: The token is in the header field made for it.
      type: bool
    message_id_matched:
      description: The Message-ID is the one that was sent. Some providers replace it.
      type: bool
    queue_id_matched:
      description: RV(queue_id) is in a C(Received) field. Some providers remove the fields of the servers before them.
      type: bool
    tls_to_relay:
      description:
        - With O(via=local) whether the relay wrote that the message came encrypted, null where its field can not be told.
        - With O(via=relay) whether TLS was used, which then was verified.
      type: bool
    authenticated:
      description:
        - With O(via=local) whether the relay wrote that the sender was logged in, null where its field can not be told.
        - With O(via=relay) whether a login was made.
      type: bool
  sample: {token_matched: true, message_id_matched: true, queue_id_matched: true, tls_to_relay: true, authenticated: true}
diagnosis:
  description: For stage V(submit) the diagnosis as RV(outpost.smtp.smtp_auth_info#module:diagnosis) has it, else null.
  returned: when the options are valid, except in check mode
  type: dict
  sample: null
queue:
  description: What the local queue said about a message that did not arrive; null where it was not asked or did not have it.
  returned: when the options are valid, except in check mode
  type: dict
  contains:
    name:
      description: Queue that holds the message, such as V(deferred).
      type: str
    reasons:
      description: Why it was not delivered yet.
      type: list
      elements: str
  sample: null
removed:
  description: Whether the message was removed from the mailbox.
  returned: when the options are valid, except in check mode
  type: bool
  sample: true
transcript:
  description: The SMTP dialogue of the submission, without credentials.
  returned: when the options are valid, except in check mode
  type: list
  elements: str
  sample: ["-- connected to 127.0.0.1 port 25", "S: 220 web1.example.net ESMTP Postfix"]
stage:
  description: Where it failed, one of V(mailbox_login), V(submit), V(wait), V(correlate).
  returned: failure
  type: str
  sample: wait
seen:
  description: What was seen there.
  returned: failure
  type: str
remedy:
  description: What to do.
  returned: failure
  type: str
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.outpost.smtp.plugins.module_utils._mail.imap import ImapMailbox, ImapSettings
from ansible_collections.outpost.smtp.plugins.module_utils._mail.mail_log import MailLog
from ansible_collections.outpost.smtp.plugins.module_utils._mail.mailbox import Mailbox
from ansible_collections.outpost.smtp.plugins.module_utils._mail.maildir import Maildir
from ansible_collections.outpost.smtp.plugins.module_utils._mail.options import OptionError, check_addresses, check_mailbox
from ansible_collections.outpost.smtp.plugins.module_utils._mail.roundtrip import LOCAL, Plan, RoundTrip, RoundTripError
from ansible_collections.outpost.smtp.plugins.module_utils._mail.submission import Route
from ansible_collections.outpost.smtp.plugins.module_utils._module import DiscreetModule
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.oauth_relays import with_access_token
from ansible_collections.outpost.smtp.plugins.module_utils._smtp import endpoint
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.deadline import Deadline
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.relay import RelayError, normalise_relays, srv_service
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.relay_options import RELAY_OPTIONS
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.secret_sources import with_password

MAX_TIMEOUT = 3600
LOCAL_MAIL_SERVER = Route(host="127.0.0.1", port=25, tls="none")

MAILBOX_SPEC = {
    "type": {"type": "str", "choices": ["imap", "maildir", "log"], "required": True},
    "host": {"type": "str"},
    "port": {"type": "int"},
    "tls": {"type": "str", "choices": ["implicit", "starttls"], "default": "implicit"},
    "username": {"type": "str"},
    "password": {"type": "str", "no_log": True},
    "ca_file": {"type": "str"},
    "folder": {"type": "str", "default": "INBOX"},
    "path": {"type": "str"},
}


def main() -> None:
    module = DiscreetModule(
        argument_spec={
            "via": {"type": "str", "choices": ["local", "relay"], "default": "local"},
            "relay": {"type": "dict", "options": RELAY_OPTIONS},
            "sender": {"type": "str", "required": True},
            "recipient": {"type": "str", "required": True},
            "mailbox": {
                "type": "dict",
                "required": True,
                "options": MAILBOX_SPEC,
                "required_if": [("type", "imap", ("host", "username", "password")), ("type", "maildir", ("path",))],
            },
            "timeout": {"type": "float", "default": 60},
            "cleanup": {"type": "bool", "default": True},
        },
        required_if=[("via", "relay", ("relay",))],
        supports_check_mode=True,
    )
    try:
        run(module)
    except OptionError as exc:
        module.fail_json(msg=f"{exc}.")
    except Exception as exc:  # its text might hold a secret
        module.fail_json(msg=f"smtp_roundtrip has a defect, please report it: {type(exc).__name__}.")


def run(module: AnsibleModule) -> None:
    params = module.params
    plan = plan_from(params, module.get_bin_path("postqueue"))
    if module.check_mode:
        module.exit_json(skipped=True, msg="Check mode: the options are in order. No message was sent.")
    deadline = Deadline(params["timeout"])
    trip = RoundTrip(plan, mailbox_from(params["mailbox"], deadline), deadline)
    try:
        trip.run()
    except RoundTripError as exc:
        module.fail_json(msg=str(exc), stage=exc.stage, seen=exc.seen, remedy=exc.remedy, **trip.result)
    for warning in trip.warnings:
        module.warn(warning)
    module.exit_json(changed=False, **trip.result)


def plan_from(params: t.Dict[str, t.Any], postqueue: t.Optional[str]) -> Plan:
    """Check all options; raise OptionError for the first that is wrong."""
    check_addresses(params["sender"], params["recipient"])
    check_mailbox(params["mailbox"])
    if params["mailbox"]["type"] == "log" and params["via"] != LOCAL:
        raise OptionError("mailbox.type: log is for via=local, as only the host's own mail server writes that log")
    if not 0 < params["timeout"] <= MAX_TIMEOUT:
        raise OptionError(f"timeout: must be more than 0 and at most {MAX_TIMEOUT} seconds")
    route = LOCAL_MAIL_SERVER if params["via"] == LOCAL else route_from(params["relay"])
    return Plan(
        via=params["via"],
        route=route,
        sender=params["sender"],
        recipient=params["recipient"],
        cleanup=params["cleanup"] and params["mailbox"]["type"] != "log",
        postqueue=[postqueue, "-j"] if postqueue else None,
        logins=[
            (route.username, route.password or route.access_token),
            (params["mailbox"]["username"], params["mailbox"]["password"]),
        ],
    )


def route_from(relay: t.Dict[str, t.Any]) -> Route:
    try:
        (normal,) = normalise_relays([relay], "relay")
        normal = with_access_token(with_password(normal, "relay"), "relay")
    except RelayError as exc:
        raise OptionError(f"relay.{exc.field.rpartition('.')[2]}: {exc.reason}") from exc
    return Route(
        normal["host"],
        normal["port"],
        normal["tls"],
        normal["username"],
        normal["password"],
        normal["mechanism"],
        endpoint.trust({**endpoint.UNSET, **normal}),
        normal["family"],
        srv_service(normal) if normal["srv"] else "",
        normal.get("access_token"),
    )


def mailbox_from(mailbox: t.Dict[str, t.Any], deadline: Deadline) -> Mailbox:
    if mailbox["type"] == "maildir":
        return Maildir(mailbox["path"])
    if mailbox["type"] == "log":
        return MailLog()
    port = mailbox["port"] or (993 if mailbox["tls"] == "implicit" else 143)
    return ImapMailbox(ImapSettings(**{**{field: mailbox[field] for field in ImapSettings._fields}, "port": port}), deadline)


if __name__ == "__main__":
    main()
