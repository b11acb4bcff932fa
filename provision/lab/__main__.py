"""A plain entry to the lab for those who work on provision itself; users have `provision lab`."""

from __future__ import annotations

import argparse
import os
import sys

from provision import lab
from provision.errors import ProvisionError


def main() -> int:
    """Parse the arguments, run one verb and print its result; 2 when the lab refuses."""
    parser = argparse.ArgumentParser(prog="python -m provision.lab")
    verbs = parser.add_subparsers(dest="verb", required=True)
    start = verbs.add_parser("up", help="bring a target up")
    start.add_argument("name", nargs="?", default="demo")
    start.add_argument("--image", default="debian-12", choices=list(lab.IMAGES))
    verbs.add_parser("list", help="show the targets")
    stop = verbs.add_parser("down", help="remove a target")
    stop.add_argument("name", nargs="?", default="demo")
    stop.add_argument("--all", action="store_true", dest="every")
    shell = verbs.add_parser("ssh", help="open a shell or run a command on a target")
    shell.add_argument("--user", default="")
    shell.add_argument("name")
    shell.add_argument("command", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    try:
        return _run(arguments)
    except ProvisionError as error:
        for refusal in error.refusals:
            print(f"{refusal}\n  {refusal.hint}", file=sys.stderr)
        return error.exit_code


def _run(arguments: argparse.Namespace) -> int:
    """Run the chosen verb."""
    if arguments.verb == "up":
        host = lab.up(arguments.name, arguments.image)
        print(f"{host.name} {host.user}@{host.address}:{host.port} inventory {host.inventory}")
    elif arguments.verb == "list":
        for host in lab.hosts():
            print(f"{host.name}\t{'running' if host.running else 'stopped'}\t{host.address}\t{host.image}")
    elif arguments.verb == "down":
        print("removed:", " ".join(lab.down(arguments.name, every=arguments.every)))
    else:
        argv = [*lab.ssh_argv(arguments.name, arguments.user), *arguments.command]
        os.execvp(argv[0], argv)  # noqa: S606 - the shell takes this process's terminal over
    return 0


if __name__ == "__main__":
    sys.exit(main())
