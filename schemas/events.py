"""The inbound events' data: what section 3 of the contract says, as strict models.

`null` equals absent in every optional field, except that `max_budget_usd: null` of `org.created` means "no
limit": whether it was given at all, `model_fields_set` says. Unknown fields are ignored.
"""

from collections.abc import Callable, Mapping
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from schemas import timestamps
from schemas.identifiers import JobId, OrgId, UserId
from schemas.money import Usd, UsdLimit
from schemas.wording import describe

MAX_INTEGER: Final = 2**53 - 1
"""The largest integer that every JSON reader keeps exact."""

RESERVED_NAMES: Final = frozenset({"team_id", "model_groups", "billing", "limits", "credits"})
"""Names in `data` kept for later versions: refused rather than silently ignored, unless null."""


class EventType(StrEnum):
    """The types of events that are read."""

    ORG_CREATED = "org.created"
    USER_JOINED = "user.joined"
    JOB_COMPLETED = "job.completed"


def _number(value: Any) -> Decimal | int:
    if (type(value) is int or (isinstance(value, Decimal) and value.is_finite())) and value >= 0:
        return value
    raise PydanticCustomError("number", "must be a number >= 0")


def _timestamp(value: str) -> str:
    if timestamps.is_rfc3339(value):
        return value
    raise PydanticCustomError("timestamp", "must be a timestamp of RFC 3339")


def _with_reserved_names(schema: dict[str, Any]) -> None:
    for name in sorted(RESERVED_NAMES):
        schema["properties"][name] = {"type": "null", "description": "Reserved."}


def _member_by_default(value: Any) -> Any:
    return "member" if value is None else value


Count = Annotated[int, Field(ge=0, le=MAX_INTEGER)]
"""An integer from 0 to 2^53-1, spelled without fraction or exponent."""

Number = Annotated[Decimal | int, PlainValidator(_number), WithJsonSchema({"type": "number", "minimum": 0})]
"""A number >= 0, kept with the digits it was spelled with."""

Timestamp = Annotated[
    str,
    AfterValidator(_timestamp),
    WithJsonSchema(
        {
            "type": "string",
            "format": "date-time",
            "pattern": timestamps.PATTERN,
            "maxLength": timestamps.MAX_LENGTH,
        }
    ),
]
"""A timestamp of RFC 3339, kept as received."""

Email = Annotated[str, Field(min_length=1, max_length=320, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]
ModelName = Annotated[str, Field(min_length=1, max_length=255)]
Role = Literal["member", "admin"]
JobStatus = Literal["completed", "failed", "cancelled"]


class EventModel(BaseModel):
    """What the data of all events have in common."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore", use_attribute_docstrings=True)


class TopLevel(EventModel):
    """What stands directly in `data`, where some names are reserved: `read_data` refuses them."""

    model_config = ConfigDict(json_schema_extra=_with_reserved_names)


class OrgCreated(TopLevel):
    """An organization was created upstream."""

    org_id: OrgId
    name: Annotated[str, Field(min_length=1, max_length=500)]
    owner_user_id: UserId
    owner_email: Email | None = None
    initial_credits: Count | None = None
    max_budget_usd: UsdLimit | None = None
    """Absent: the default of the settings; null: no limit."""
    models: list[ModelName] | None = Field(default=None, max_length=1000)
    """Names of LiteLLM models or access groups. Absent: the default of the settings; empty: all models."""
    metadata: dict[str, Any] | None = None

    @property
    def budget_given(self) -> bool:
        """Whether `max_budget_usd` was received, be it as null (no limit)."""
        return "max_budget_usd" in self.model_fields_set


class UserJoined(TopLevel):
    """A user joined an organization."""

    org_id: OrgId
    user_id: UserId
    email: Email | None = None
    role: Annotated[Role, BeforeValidator(_member_by_default, json_schema_input_type=Role | None)] = "member"
    max_budget_usd: UsdLimit | None = None
    """This member's own limit within the team; absent or null: none."""


class Usage(EventModel):
    """What a job consumed, as upstream counted it."""

    total_calls: Count | None = None
    successful_calls: Count | None = None
    failed_calls: Count | None = None
    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None
    total_tokens: Count | None = None
    total_cost_usd: Usd | None = None
    avg_latency_ms: Number | None = None


class JobCompleted(TopLevel):
    """A job ended, whether it succeeded or not."""

    job_id: JobId
    org_id: OrgId
    user_id: UserId | None = None
    job_type: str | None = None
    status: JobStatus
    usage: Usage | None = None
    started_at: Timestamp | None = None
    completed_at: Timestamp | None = None
    error_message: str | None = None
    metadata: dict[str, Any] | None = None


EventData = OrgCreated | UserJoined | JobCompleted

EVENT_DATA: Final[Mapping[EventType, type[EventData]]] = {
    EventType.ORG_CREATED: OrgCreated,
    EventType.USER_JOINED: UserJoined,
    EventType.JOB_COMPLETED: JobCompleted,
}
"""The data of each event."""


_CHECKS: Final[Mapping[EventType, Callable[[Any], EventData]]] = {
    type_: TypeAdapter(model).validator.validate_python for type_, model in EVENT_DATA.items()
}


class InvalidData(ValueError):  # noqa: N818 - named for what the record is: its dead letter's reason
    """The data of an event break the contract; the message says what and where, without the values."""


def read_data(type: EventType, data: Mapping[str, object]) -> EventData:  # noqa: A002 - the attribute's name
    """Check an event's data and give it as its model.

    Args:
        type: The event's type.
        data: The data as `parse_json` gives it.

    Raises:
        InvalidData: A rule of the contract is broken, or a reserved name is used.
    """
    if not RESERVED_NAMES.isdisjoint(data):
        used = sorted(name for name in RESERVED_NAMES.intersection(data) if data[name] is not None)
        if used:
            raise InvalidData(f"data: must not use the reserved names {', '.join(used)}")
    try:
        return _CHECKS[type](data)
    except ValidationError as error:
        raise InvalidData(describe(error)) from None
