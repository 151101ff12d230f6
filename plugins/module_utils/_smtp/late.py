# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""All modules of this package that are imported at first use, so that a login that works does not wait for them.

Who can not read files at that time any more (see run_as.py) imports this module before.
"""

from __future__ import annotations

# To be loaded is all that is wanted of them.
from ansible_collections.outpost.smtp.plugins.module_utils._smtp import proxy, srv  # noqa: F401  # pylint: disable=unused-import
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.diagnosis import diagnose  # noqa: F401  # pylint: disable=unused-import
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.sasl import oauth_token, sasl_md5, sasl_oauth, sasl_scram, saslprep  # noqa: F401  # pylint: disable=unused-import
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.surroundings import differential, every_address, local_block, visitor  # noqa: F401  # pylint: disable=unused-import
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.tls import dane, dane_identity  # noqa: F401  # pylint: disable=unused-import
