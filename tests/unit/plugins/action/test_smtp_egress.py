# SPDX-License-Identifier: GPL-3.0-or-later
"""What the controller adds: a change is confirmed through a new connection, at once and in the same task."""

from __future__ import annotations

import typing as t
from types import SimpleNamespace

import pytest
from ansible.plugins.action import ActionBase

from ansible_collections.outpost.smtp.plugins.action.smtp_egress import ActionModule

ARMED = {"changed": True, "rollback": {"armed": True, "seconds": 60}}
CALM = {"changed": False, "rollback": {"armed": False, "seconds": 0}}


class Host:
    """Answers the calls of the module in turn, and keeps what happens in its order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: t.Any) -> None:
        self.happened: t.List[t.Any] = []
        self._answers = list(answers)
        monkeypatch.setattr(ActionBase, "run", lambda *_arguments: {})
        monkeypatch.setattr(ActionBase, "_execute_module", lambda _action, **call: self._answer(call))

    def _answer(self, call: t.Dict[str, t.Any]) -> t.Any:
        self.happened.append(call["module_args"])
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def reset(self) -> None:
        self.happened.append("connected anew")

    def run(self, connection: t.Any = None) -> t.Dict[str, t.Any]:
        action = ActionModule.__new__(ActionModule)
        action._task = SimpleNamespace(args={"relays": []})  # type: ignore[assignment]
        action._connection = connection or SimpleNamespace(reset=self.reset)  # type: ignore[assignment]
        return action.run(None, {})


def test_without_a_change_the_module_is_called_once(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(monkeypatch, CALM)
    assert host.run() == CALM and host.happened == [{"relays": []}]


@pytest.mark.parametrize("answer", [{"failed": True, "msg": "wrong"}, {"changed": False, "missing_packages": ["nftables"]}, {"rollback": None}])
def test_other_results_pass(monkeypatch: pytest.MonkeyPatch, answer: t.Dict[str, t.Any]) -> None:
    host = Host(monkeypatch, answer)
    assert host.run() == answer and len(host.happened) == 1


def test_a_change_is_confirmed_through_a_new_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(monkeypatch, ARMED, {"changed": False, "confirmed": True})
    assert host.run() == {"changed": True, "confirmed": True, "rollback": {"armed": False, "seconds": 0}}
    assert host.happened == [{"relays": []}, "connected anew", {"state": "confirmed"}]


def test_a_connection_that_can_not_be_reset_is_used_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(monkeypatch, ARMED, {"changed": False, "confirmed": True})
    assert host.run(SimpleNamespace())["confirmed"] is True


def test_a_host_that_is_shut_out_is_left_to_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(monkeypatch, ARMED, ConnectionError("unreachable"))
    with pytest.raises(ConnectionError):
        host.run()
    assert host.happened[-1] == {"state": "confirmed"}


def test_a_confirmation_that_comes_too_late_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    note = {"at": "2026-11-23T12:00:00Z", "why": "nobody confirmed it"}
    host = Host(monkeypatch, ARMED, {"failed": True, "msg": "the change was taken back", "rolled_back": note})
    result = host.run()
    assert result["failed"] and result["msg"] == "the change was taken back" and result["rolled_back"] == note
