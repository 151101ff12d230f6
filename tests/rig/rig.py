# SPDX-License-Identifier: GPL-3.0-or-later
"""Labs of real mail servers in containers, for the tests of this collection; see README.md beside this file."""

from __future__ import annotations

import argparse
import sys

from riglib import images, lab, mta, runtime
from riglib.process import RigError


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="rig.py", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    build = commands.add_parser("build", help="build the images that are not there yet")
    build.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(images.RECIPES)}; default: all")

    up = commands.add_parser("up", help="start a lab, replacing one of the same name")
    up.add_argument("lab", metavar="LAB")
    up.add_argument(
        "--server", action="append", choices=images.SERVERS, help="a server under test; can be repeated; default: debian12"
    )
    up.add_argument("--count", type=int, default=1, metavar="N", help="so many of each server, named like debian12-1")
    up.add_argument(
        "--mta", action="append", choices=(*mta.PACKAGES, "all"), default=[], help="another mail server; can be repeated"
    )
    up.add_argument("--no-provider", action="store_true", help="only servers under test")
    up.add_argument("--ipv6", action="store_true", help="the lab's network has IPv6 as well, and its DNS has both addresses of each host")

    commands.add_parser("list", help="the labs of this checkout and their hosts")

    down = commands.add_parser("down", help="remove a lab and all that belongs to it")
    which = down.add_mutually_exclusive_group(required=True)
    which.add_argument("lab", nargs="?", metavar="LAB")
    which.add_argument("--all", action="store_true", help="every lab of this checkout, and of checkouts that are gone")

    for name, text in (("ssh", "log in over SSH, as Ansible does"), ("exec", "run a command through the runtime")):
        command = commands.add_parser(name, help=text)
        command.add_argument("lab", metavar="LAB")
        command.add_argument("host", metavar="HOST", help="a name in the lab's inventory, such as debian12 or provider")
        command.add_argument("words", nargs=argparse.REMAINDER, metavar="COMMAND")
    return parser.parse_args(arguments)


def main() -> int:
    """Run one command; the exit status says whether it worked."""
    options = parse(sys.argv[1:])
    try:
        facts = runtime.read_facts()
        if options.command in ("build", "up"):
            runtime.check(facts)
        elif runtime.choose(facts) not in facts.programs:
            raise RigError(f"{runtime.choose(facts)} is not installed here, so there is no lab")
        command = runtime.base_command(facts)
        if options.command == "build":
            images.ensure(command, options.names or images.RECIPES)
        elif options.command == "up":
            if options.count < 1:
                raise RigError("--count is less than 1")
            if options.mta and options.no_provider:
                raise RigError("--mta needs the provider, whose CA and accounts it has")
            mtas = tuple(mta.PACKAGES) if "all" in options.mta else tuple(options.mta)
            plan = lab.Plan(tuple(options.server or ["debian12"]), options.count, not options.no_provider, mtas, options.ipv6)
            lab.up(options.lab, plan, command, runtime.run_options(facts))
        elif options.command == "list":
            lab.show(command)
        elif options.command == "down":
            lab.down(None if options.all else options.lab, command)
        elif options.command == "ssh":
            lab.ssh(options.lab, options.host, options.words)
        else:
            lab.execute(options.lab, options.host, options.words, command)
    except RigError as error:
        print(f"rig.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("rig.py: stopped; what was started is removed by the next up, or by down", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
