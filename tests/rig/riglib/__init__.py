# SPDX-License-Identifier: GPL-3.0-or-later
"""The parts of the test rig behind tests/rig/rig.py. Standard library only, Python 3.8 or newer."""
