"""What outcomes carry: the shapes that documents are generated from and that tests hold outcomes against.

Outcomes are written from plain values, not through these models. `None` as a default means a field that may
be missing; a field that may be null and never is missing has no default. What may gain values within the
version (`error_code`, `reason`, `compensation`, `origin` and the like) is an open string here.
"""

from collections.abc import Mapping
from typing import Annotated, Final, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from schemas.events import Count, JobStatus, Number, Timestamp
from schemas.identifiers import JobId, OrgId, UserId
from schemas.money import UsdText
from schemas.outcomes import OutcomeType

Text = Annotated[str, Field(min_length=1)]
Credits = Annotated[int, Field(ge=-(2**53 - 1), le=2**53 - 1)]
Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

ErrorCode = Annotated[
    str,
    Field(
        min_length=1,
        examples=[
            "litellm_unavailable",
            "litellm_unauthorized",
            "litellm_rejected",
            "team_conflict",
            "user_conflict",
            "key_conflict",
            "org_not_found",
            "org_not_active",
            "internal",
        ],
    ),
]
Compensation = Annotated[str, Field(min_length=1, examples=["not_needed", "done", "pending"])]


class OutcomeModel(BaseModel):
    """What all parts of an outcome have in common: readers pass over what they do not know."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore", use_attribute_docstrings=True)


class Key(OutcomeModel):
    """A virtual key, without its value."""

    name: Text
    """`default`, unless keys gain names."""
    alias: Text
    """Its alias at LiteLLM; opaque."""
    hash: Hash
    """LiteLLM's name for it: the SHA-256 of the key in hexadecimal digits."""
    encrypted: Text | None = None
    """The key for its receiver, as a compact JWE; only where key delivery is set up."""


class Owner(OutcomeModel):
    """An organization's owner."""

    user_id: UserId
    email_set: bool
    """Whether the e-mail given stands at LiteLLM for this user."""
    key: Key


class Orphan(OutcomeModel):
    """Something an attempt made at LiteLLM and that is still there."""

    kind: Annotated[str, Field(min_length=1, examples=["team", "member", "key"])]
    id: Text


class OrgProvisioned(OutcomeModel):
    """An organization stands at LiteLLM and has its credit account."""

    org_id: OrgId
    name: Text
    team_id: Text
    created: bool
    """False: it had been provisioned before, and nothing was changed."""
    adopted: bool
    """Whether an existing team was taken over."""
    max_budget_usd: UsdText | None
    """The team's budget; null: no limit."""
    models: list[str]
    """What the team may use; empty: all models."""
    account_id: OrgId
    credits_balance: Count
    owner: Owner
    base_url: Text
    """Where the key is to be used."""
    attempts: Count
    """The tries in this round that called LiteLLM."""
    duration_ms: Count
    """From first stored to decided, in milliseconds."""


class OrgProvisioningFailed(OutcomeModel):
    """An organization could not be provisioned."""

    org_id: OrgId
    step: Text
    """Where it failed."""
    error_code: ErrorCode
    message: str
    attempts: Count
    duration_ms: Count
    compensation: Compensation
    """Whether what the attempts made was removed."""
    orphans: list[Orphan]
    """What is still there."""


class UserProvisioned(OutcomeModel):
    """A user stands at LiteLLM, in the organization's team, with a key."""

    org_id: OrgId
    user_id: UserId
    team_id: Text
    created: bool
    """False: the user had been provisioned before, and nothing was changed."""
    email_set: bool
    """Whether the e-mail given stands at LiteLLM for this user."""
    key: Key
    base_url: Text
    attempts: Count
    duration_ms: Count


class UserProvisioningFailed(OrgProvisioningFailed):
    """A user could not be provisioned."""

    user_id: UserId


class JobUsage(OutcomeModel):
    """What the job consumed, digit for digit as received."""

    total_calls: Count | None = None
    successful_calls: Count | None = None
    failed_calls: Count | None = None
    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None
    total_tokens: Count | None = None
    total_cost_usd: UsdText | None = None
    avg_latency_ms: Number | None = None


class JobOutcome(OutcomeModel):
    """What every outcome about a job carries."""

    org_id: OrgId
    account_id: OrgId
    job_id: JobId
    status: JobStatus
    user_id: UserId | None = None
    job_type: str | None = None
    usage: JobUsage | None = None
    started_at: Timestamp | None = None
    completed_at: Timestamp | None = None
    occurred_at: Timestamp
    """`completed_at`, else the inbound event's time."""
    decided_at: Timestamp


class CreditsDeducted(JobOutcome):
    """A job was charged."""

    transaction_id: UUID
    credits: Count
    """The price it was charged at."""
    balance_before: Count
    balance_after: Count
    sequence: Annotated[int, Field(ge=1)]
    """Counts the account's charges, without gaps, in ledger order."""


class CreditsDeductionSkipped(JobOutcome):
    """A job costs nothing, or not again."""

    reason: Annotated[str, Field(examples=["job_failed", "job_cancelled", "job_already_charged"])]
    transaction_id: UUID | None = None
    """The first charge, where the job was charged already."""
    credits_balance: Count


class CreditsDeductionFailed(JobOutcome):
    """A job could not be charged; nothing was taken."""

    reason: Annotated[str, Field(examples=["insufficient_credits", "org_not_found", "org_not_active"])]
    required: Count
    available: Count | None
    """The balance; null where there is no account."""


class AccountOutcome(OutcomeModel):
    """What every outcome of an operator's command carries."""

    org_id: OrgId
    account_id: OrgId
    transaction_id: UUID
    credits: Credits
    """Signed."""
    reason: Text
    corrects: UUID | None = None
    """The entry this one corrects."""
    balance_before: Count
    balance_after: Count
    decided_at: Timestamp | None = None


class CreditsGranted(AccountOutcome):
    """An operator added credits."""


class CreditsAdjusted(AccountOutcome):
    """An operator corrected an account."""


class OutcomeEnvelope(OutcomeModel):
    """An outcome's envelope: a CloudEvent in structured mode."""

    specversion: Literal["1.0"]
    id: UUID
    """The UUIDv5, in the URL name space, of the compact JSON array of the causing event's source and id, the
    outcome's type and the round."""
    source: Text
    type: Text
    subject: OrgId
    """The `org_id`."""
    time: Timestamp
    """When the outcome was decided."""
    datacontenttype: Literal["application/json"]
    dataschema: Text
    causationid: Text | None = None
    """The causing event's `id`, as `causationsource` and `causationtime` are its `source` and `time`; none of
    them for an operator's command."""
    causationsource: Text | None = None
    causationtime: Timestamp | None = None
    origin: Annotated[str, Field(examples=["live", "replay", "redrive", "retry", "operator"])]
    """What had the outcome decided."""
    round: Annotated[int, Field(ge=1)]
    """1, and one more each time an operator has the event tried again; the highest stands."""
    traceparent: Text | None = None
    tracestate: Text | None = None
    correlationid: Text | None = None


OUTCOME_DATA: Final[Mapping[OutcomeType, type[OutcomeModel]]] = {
    OutcomeType.ORG_PROVISIONED: OrgProvisioned,
    OutcomeType.ORG_PROVISIONING_FAILED: OrgProvisioningFailed,
    OutcomeType.USER_PROVISIONED: UserProvisioned,
    OutcomeType.USER_PROVISIONING_FAILED: UserProvisioningFailed,
    OutcomeType.CREDITS_DEDUCTED: CreditsDeducted,
    OutcomeType.CREDITS_DEDUCTION_SKIPPED: CreditsDeductionSkipped,
    OutcomeType.CREDITS_DEDUCTION_FAILED: CreditsDeductionFailed,
    OutcomeType.CREDITS_GRANTED: CreditsGranted,
    OutcomeType.CREDITS_ADJUSTED: CreditsAdjusted,
}
"""The data of each outcome."""
