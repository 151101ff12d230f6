# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The catalogue of what can happen at any step."""

from __future__ import annotations

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.diagnosis.catalogue import (
    ANY_STAGE,
    NETWORK,
    OPERATOR,
    PROVIDER,
    Entry,
)

DIALOGUE: tuple[Entry, ...] = (
    # -- anywhere --------------------------------------------------------------------------------------------------------
    Entry(
        "service_closing",
        ANY_STAGE,
        "{where} ends the service at {stage}: {reply}.",
        "Try again later, with fewer connections at a time; the text of the reply may tell the reason.",
        PROVIDER,
        True,
        "RFC 5321 section 3.8",
    ),
    Entry(
        "reply_malformed",
        ANY_STAGE,
        "{where} sent something that is no SMTP reply at {stage}: {sample}.",
        "Check host and port; a proxy in between may garble the dialogue.",
        NETWORK,
        False,
        "RFC 5321 section 4.2",
    ),
    Entry(
        "reply_too_large",
        ANY_STAGE,
        "{where} sent a reply without end at {stage}; the connection was given up.",
        "This is no proper mail server: check host and port.",
        OPERATOR,
        False,
        "RFC 5321 section 4.5.3.1",
    ),
    Entry(
        "line_too_long",
        ANY_STAGE,
        "{where} sent a line without end at {stage}; the connection was given up.",
        "This is no proper mail server: check host and port.",
        OPERATOR,
        False,
        "RFC 5321 section 4.5.3.1.5",
    ),
    Entry(
        "reply_unsolicited",
        ANY_STAGE,
        "{where} spoke before it was asked, at {stage}; the connection was given up.",
        "Replies would be taken for the wrong command. A proxy in between may mix up the dialogue.",
        NETWORK,
        False,
        "RFC 5321 section 4.3.1",
    ),
    Entry(
        "reply_refused",
        ANY_STAGE,
        "{where} refused at {stage}: {reply}.",
        "The text of the reply is the best hint; ask the provider with it.",
        PROVIDER,
        False,
        "RFC 5321 section 4.2",
    ),
    Entry(
        "reply_temporary",
        ANY_STAGE,
        "{where} could not go on at {stage}: {reply}.",
        "Try again later.",
        PROVIDER,
        True,
        "RFC 5321 section 4.2.1",
    ),
    Entry(
        "connection_closed",
        ANY_STAGE,
        "{where} closed the connection at {stage}.",
        "Try again, then compare from another network and ask the provider.",
        PROVIDER,
        True,
        "RFC 5321 section 3.8",
    ),
    Entry(
        "connection_reset",
        ANY_STAGE,
        "{where}: the connection broke at {stage} ({detail}).",
        "A firewall or intrusion prevention is the usual cause; compare from another network.",
        NETWORK,
        True,
        "recv(2) ECONNRESET",
    ),
    Entry(
        "deadline_exceeded",
        ANY_STAGE,
        "{where} did not answer in time at {stage}.",
        "Try again with a longer timeout; a tarpit, an overloaded server or a broken path are the usual causes.",
        NETWORK,
        True,
        "RFC 5321 section 4.5.3.2",
    ),
    Entry(
        "internal_error",
        (),
        "{where}: the test itself failed ({detail}).",
        "This is a defect of the collection outpost.smtp: please report it with this message.",
        OPERATOR,
        False,
        "-",
    ),
    Entry(
        "unknown",
        (),
        "{where}: failed at {stage} ({detail}).",
        "This failure is not in the catalogue; the evidence holds all that was seen.",
        OPERATOR,
        False,
        "-",
    ),
)
