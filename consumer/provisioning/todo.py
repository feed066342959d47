"""What a worker is to do with an event, as the database's side of provisioning hands it out."""

from collections.abc import Sequence
from dataclasses import dataclass

from consumer.provisioning.footprint import Footprint
from consumer.provisioning.organization import OrganizationPlan
from consumer.provisioning.user import UserPlan
from schemas.event import InboundEvent
from schemas.outcomes import OutcomeType
from storage.inbox import InboxRow
from storage.resources import Resource


@dataclass(frozen=True, slots=True)
class Decided:
    """Nothing more: the event has its outcome. `activated`: its organization is active from now on."""

    outcome: OutcomeType
    activated: bool = False


@dataclass(frozen=True, slots=True)
class Postponed:
    """Nothing now: the event waits."""


@dataclass(frozen=True, slots=True)
class OrganizationTry:
    """Try an organization against LiteLLM."""

    row: InboxRow
    event: InboundEvent
    plan: OrganizationPlan

    @property
    def footprints(self) -> list[Footprint]:
        """What the try sets out to make."""
        return [self.plan.team_footprint, self.plan.key.footprint]


@dataclass(frozen=True, slots=True)
class UserTry:
    """Try a user against LiteLLM."""

    row: InboxRow
    event: InboundEvent
    plan: UserPlan

    @property
    def footprints(self) -> list[Footprint]:
        """What the try sets out to make."""
        member = self.plan.member
        return [self.plan.key.footprint] if member is None else [member, self.plan.key.footprint]


@dataclass(frozen=True, slots=True)
class Leftovers:
    """Take back what tries that failed have made.

    Attributes:
        resources: What to remove, keys first.
        known_keys: Hashes of all keys decided on for the organization.
        our_users: Users whose membership is no sign that others use the team.
    """

    resources: Sequence[Resource]
    known_keys: frozenset[str]
    our_users: frozenset[str]


@dataclass(frozen=True, slots=True)
class Compensation:
    """Take back what a failed event's own tries have made, before its failure is told."""

    row: InboxRow
    leftovers: Leftovers


Try = OrganizationTry | UserTry
Todo = Decided | Postponed | OrganizationTry | UserTry | Compensation
