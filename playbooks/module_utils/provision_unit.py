"""A unit that does its work once per start, and says in the journal why it could not.

For the target's Python 3.8.
"""

from __future__ import annotations

import time


def restart(module, unit, said_by):
    """Start a unit anew and end the module: changed, or failed with what the unit's program said.

    `said_by` is what the program's lines in the journal begin with.
    """
    if module.check_mode:
        module.exit_json(changed=True)
    began = int(time.time())
    code, _, err = module.run_command(["systemctl", "restart", unit])
    if code != 0:
        # What an earlier start complained of may be mended by now.
        read = ["journalctl", "--unit", unit, "--since", "@%d" % began, "--output", "cat", "--quiet"]
        _, said, _ = module.run_command(read)
        told = [line[len(said_by) :] for line in said.splitlines() if line.startswith(said_by)]
        module.fail_json(msg="; ".join(dict.fromkeys(told)) or err.strip())
    module.exit_json(changed=True)
