# SPDX-License-Identifier: GPL-3.0-or-later
"""What people write when they want to know whether a login works: smtplib_login.py HOST PORT CA_FILE USERNAME, password by stdin."""

import smtplib
import ssl
import sys

host, port, ca_file = sys.argv[1], int(sys.argv[2]), sys.argv[3]
context = ssl.create_default_context()
context.load_verify_locations(cafile=ca_file)
if port == 465:
    server = smtplib.SMTP_SSL(host, port, context=context, timeout=30)
else:
    server = smtplib.SMTP(host, port, timeout=30)
    server.starttls(context=context)
server.login(sys.argv[4], sys.stdin.readline().rstrip("\n"))
server.quit()
