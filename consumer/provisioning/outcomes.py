"""What the outcomes of provisioning say: plain values in, an outcome's data out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from consumer.provisioning.failures import Failure


class CompensationEnd(StrEnum):
    """How far a failed attempt's traces are gone."""

    NOT_NEEDED = "not_needed"
    DONE = "done"
    PENDING = "pending"


@dataclass(frozen=True, slots=True)
class KeyFacts:
    """A key as outcomes tell of it; `encrypted` for the receiver alone, None: in no form."""

    name: str
    alias: str
    hash: str
    encrypted: str | None

    def as_data(self) -> dict[str, object]:
        """Give the outcome's `key`."""
        data: dict[str, object] = {"name": self.name, "alias": self.alias, "hash": self.hash}
        if self.encrypted is not None:
            data["encrypted"] = self.encrypted
        return data


@dataclass(frozen=True, slots=True)
class Effort:
    """What it took: tries that called LiteLLM, and the time from first stored to decided."""

    attempts: int
    took: timedelta

    @classmethod
    def since(cls, stored_at: datetime, now: datetime, attempts: int) -> "Effort":
        """Measure from when the event was stored."""
        return cls(attempts, max(now - stored_at, timedelta()))

    def as_data(self) -> dict[str, object]:
        """Give the outcome's `attempts` and `duration_ms`."""
        return {"attempts": self.attempts, "duration_ms": self.took // timedelta(milliseconds=1)}


@dataclass(frozen=True, slots=True)
class OrganizationFacts:
    """What stands for an organization, whoever brought it about."""

    org_id: str
    name: str
    team_id: str
    adopted: bool
    max_budget_usd: str | None
    models: Sequence[str]
    credits_balance: int
    owner_user_id: str
    owner_email_set: bool
    owner_key: KeyFacts


def org_provisioned(
    facts: OrganizationFacts, *, created: bool, base_url: str, effort: Effort
) -> dict[str, object]:
    """Give the data of `org.provisioned`."""
    return {
        "org_id": facts.org_id,
        "name": facts.name,
        "team_id": facts.team_id,
        "created": created,
        "adopted": facts.adopted,
        "max_budget_usd": facts.max_budget_usd,
        "models": list(facts.models),
        "account_id": facts.org_id,
        "credits_balance": facts.credits_balance,
        "owner": {
            "user_id": facts.owner_user_id,
            "email_set": facts.owner_email_set,
            "key": facts.owner_key.as_data(),
        },
        "base_url": base_url,
        **effort.as_data(),
    }


@dataclass(frozen=True, slots=True)
class UserFacts:
    """What stands for a user, whoever brought it about."""

    org_id: str
    user_id: str
    team_id: str
    email_set: bool
    key: KeyFacts


def user_provisioned(facts: UserFacts, *, created: bool, base_url: str, effort: Effort) -> dict[str, object]:
    """Give the data of `user.provisioned`."""
    return {
        "org_id": facts.org_id,
        "user_id": facts.user_id,
        "team_id": facts.team_id,
        "created": created,
        "email_set": facts.email_set,
        "key": facts.key.as_data(),
        "base_url": base_url,
        **effort.as_data(),
    }


def provisioning_failed(
    subject: Mapping[str, object],
    failure: Failure,
    *,
    effort: Effort,
    compensation: CompensationEnd,
    orphans: Sequence[tuple[str, str]],
) -> dict[str, object]:
    """Give the data of `org.provisioning_failed` and `user.provisioning_failed`.

    Args:
        subject: Whose provisioning failed: `org_id`, and `user_id` for a user.
        failure: Why.
        effort: What it took.
        compensation: How far its traces are gone.
        orphans: Kind and id of each that is still there.
    """
    return {
        **subject,
        "step": str(failure.step),
        "error_code": failure.error_code.value,
        "message": failure.message,
        **effort.as_data(),
        "compensation": compensation.value,
        "orphans": [{"kind": kind, "id": id_} for kind, id_ in orphans],
    }


def usd_text(amount: Decimal | None) -> str | None:
    """Write an amount that LiteLLM gave as outcomes write amounts."""
    return None if amount is None else format(amount, "f")
