"""The controller's half of `network_change`: it proves, over new connections, that a changed host is still reached."""

from __future__ import annotations

import time
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase

_BACK = 180  # seconds: how long bringing the former files back and getting through again may take
_PAUSE = 2  # until the change is in force, and between attempts


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible has no types
    TRANSFERS_FILES = False

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        begun = self._step("begin", task_vars)
        if begun.get("failed") or begun.get("state") != "armed":
            return {**result, **begun}
        seconds = int(self._task.args.get("seconds", 120))
        deadline = time.monotonic() + seconds + _BACK
        ended: dict[str, Any] = {}
        while time.monotonic() < deadline:
            time.sleep(_PAUSE)
            ended = self._anew(task_vars)
            if ended["state"] == "confirmed":
                return {**result, **begun, "state": "confirmed"}
            if ended["state"] == "reverted":
                return {**result, **begun, "state": "reverted", "failed": True, "changed": False, "msg": _told(ended)}
        return {**result, **begun, "failed": True, "msg": _unknown(begun["what"], seconds, ended)}

    def _anew(self, task_vars: dict[str, Any] | None) -> dict[str, Any]:
        """Where the change stands, asked over a new connection; the host confirms it if that one is young enough."""
        try:
            self._connection.reset()
            answer = self._step("confirm", task_vars)
        except AnsibleConnectionFailure as error:
            return {"state": "unknown", "why": str(error)}
        return answer if "state" in answer else {"state": "unknown", "why": answer.get("msg", "without a word")}

    def _step(self, step: str, task_vars: dict[str, Any] | None) -> dict[str, Any]:
        arguments = {**self._task.args, "step": step}
        answer: dict[str, Any] = self._execute_module("network_change", module_args=arguments, task_vars=task_vars)
        return answer


def _told(ended: dict[str, Any]) -> str:
    lost = "; ".join(ended.get("troubles", ()))
    left = f"Not all of it came back: {lost}." if lost else "The host is as it was before."
    return (
        f"{ended['what']} was tried and taken back: {ended['why']}. {left} "
        "See what it said: journalctl -u provision-network-apply -u provision-network-revert; "
        "then mend the setting and apply again."
    )


def _unknown(what: str, seconds: int, ended: dict[str, Any]) -> str:
    armed = ended["state"] == "armed"
    fact = "it is neither proved nor taken back" if armed else f"the host does not answer ({ended['why']})"
    return (
        f"{what} was tried, and {fact}, although the former settings were to come back after {seconds} s. "
        "Look at the host's console: journalctl -u provision-network-revert"
    )
