"""The mailbox's errors, without Ray."""

import pytest
from ray.exceptions import ActorUnschedulableError

from ltdd_ray.cluster import mailbox
from ltdd_ray.common.errors import UserError


def test_a_mailbox_that_cannot_start_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def unschedulable(reference: object) -> None:
        raise ActorUnschedulableError("the node is gone")

    monkeypatch.setattr(mailbox.ray, "get", unschedulable)
    with pytest.raises(UserError, match=r"cannot start the process .* run the same command again"):
        mailbox.answer(object())
