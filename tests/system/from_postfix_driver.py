# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on a server of the lab: reads mail addresses from standard input and prints what Postfix would do, as JSON."""

from __future__ import annotations

import json
import sys

from ansible_collections.outpost.smtp.plugins.module_utils._postfix import effective, predict
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.deadline import Deadline
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.probe import probe_all

asked = json.load(sys.stdin)
relays = [
    relay
    for sender, recipients in asked["mail"].items()
    for relay in effective.relays(asked["config_directory"], Deadline(90), senders=[sender], recipients=recipients)
]
endpoints = [relay.endpoint() for relay in relays]
results = iter(probe_all([endpoint for endpoint in endpoints if endpoint], asked["timeout"]))
report = []
for relay, endpoint in zip(relays, endpoints):
    result = next(results) if endpoint else None
    report.append({"facts": relay.facts(), "result": result, "prediction": predict.predict(relay, result)})
json.dump(report, sys.stdout)
