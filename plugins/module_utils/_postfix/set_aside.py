# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.

"""Setting an administrator's entries of main.cf aside: they stay where they are, as comment lines with a prefix.

The text is its own memory: :func:`restored` gives back the very bytes, whatever became of the state file, and entries
that the administrator moves, edits or deletes meanwhile come back as they then are.
"""

from __future__ import annotations

import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._postfix.configtext import Document, references, split_lines

#: Starts each line that is set aside. Who writes such a line by hand sets it aside, too.
PREFIX = "#outpost.smtp set aside: "

#: What a host needs to find its own Postfix, and what is no setting of mail at all.
INSTALLATION = frozenset(
    [
        # postfix-install(1), "installation parameter description": where the files are and who owns them.
        *("command_directory", "config_directory", "daemon_directory", "data_directory", "html_directory", "mail_owner"),
        *("mailq_path", "manpage_directory", "meta_directory", "newaliases_path", "openssl_path", "queue_directory"),
        *("readme_directory", "sample_directory", "sendmail_path", "setgid_group", "shlib_directory"),
        # postconf(5): what the build and its release decide.
        *("compatibility_level", "default_database_type", "default_cache_db_type", "mail_name"),
        # MULTI_INSTANCE_README: which instances there are, and what postmulti(1) sets in a new one to keep it apart from the others.
        *("multi_instance_directories", "alternate_config_directories", "multi_instance_enable", "multi_instance_group"),
        *("multi_instance_name", "multi_instance_wrapper", "master_service_disable", "authorized_submit_users"),
        # MAILLOG_README, postconf(5): where logs go.
        *("maillog_file", "maillog_file_compressor", "maillog_file_permissions", "maillog_file_prefixes"),
        *("maillog_file_rotate_suffix", "syslog_facility", "syslog_name"),
    ]
)


def restored(text: str) -> str:
    """Return the text with everything that is set aside back in force."""
    return "".join(line[len(PREFIX) :] if line.startswith(PREFIX) else line for line in split_lines(text))


def commented(text: str) -> str:
    """Return the text with each of its lines set aside."""
    return "".join(PREFIX + line for line in split_lines(text))


def set_aside(main: Document, ours: t.Collection[str], services: t.Iterable[str]) -> Document:
    """Return main.cf without the administrator's entries; ``ours`` are the names of the entries that are not theirs.

    What the installation needs stays in force, and so does what it or one of the ``services``, the entries of
    master.cf, refers to: an empty value there could open what was closed.
    """
    needed = {name for entry in services for name in references(entry)} | INSTALLATION
    entries, found = main.entries(), set(needed)
    while found:
        found = {name for key in found if key in entries and key not in ours for name in references(entries[key])} - needed
        needed |= found

    def stays(key: str, last: bool) -> bool:
        return key in needed or (key in ours and last)

    return main.rewritten(lambda key, raw, last: raw if stays(key, last) else commented(raw))
