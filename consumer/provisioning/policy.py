"""The settings that decide how events are provisioned, in the words of the provisioner."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Self

from consumer.settings import Settings
from schemas.events import OrgCreated


@dataclass(frozen=True, slots=True)
class ProvisionerPolicy:
    """What an event leaves open, and how long to be patient.

    Attributes:
        our_source: Our `source`; it also tells our marks and key aliases from those of another Quartermaster.
        base_url: Where the users of a key reach the proxy: `base_url` in outcomes.
        adopt_existing: Whether a team that is not ours is taken over rather than a conflict.
        default_initial_credits: Credits of an organization whose event names none.
        default_max_budget_usd: Its budget in USD; None: no limit.
        default_models: Its models; empty: all.
        retry_for: How long an event is tried, from its first try against LiteLLM.
        dependency_wait: How long a user waits for an organization of which no event is in hand.
        litellm_timeout: The longest a call to LiteLLM takes.
        concurrency: How many organizations are served at the same time.
        delivery_jwk: The public key (JWK) that keys in outcomes are encrypted for; None: they are left out.
        compensate_for: How long compensation is tried before the failure is told.
        doubt_margin: How long after its timeout a call whose answer was lost may still take effect.
    """

    our_source: str
    base_url: str
    adopt_existing: bool = False
    default_initial_credits: int = 0
    default_max_budget_usd: Decimal | None = None
    default_models: tuple[str, ...] = ()
    retry_for: timedelta = timedelta(hours=1)
    dependency_wait: timedelta = timedelta(hours=1)
    litellm_timeout: timedelta = timedelta(seconds=10)
    concurrency: int = 8
    delivery_jwk: Mapping[str, object] | None = None
    compensate_for: timedelta = timedelta(seconds=60)
    doubt_margin: timedelta = timedelta(seconds=5)

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Take it from the settings, those that `run` requires among them."""
        jwk = settings.key_delivery_jwk
        public_url = settings.public_url
        assert public_url is not None, "the settings of `run` were checked for it"
        return cls(
            our_source=settings.source,
            base_url=public_url,
            adopt_existing=settings.adopt_existing_teams,
            default_initial_credits=settings.default_initial_credits,
            default_max_budget_usd=settings.default_max_budget_usd,
            default_models=settings.default_models,
            retry_for=timedelta(seconds=settings.retry_for),
            dependency_wait=timedelta(seconds=settings.dependency_wait),
            litellm_timeout=timedelta(seconds=settings.litellm_timeout_s),
            concurrency=settings.litellm_concurrency,
            delivery_jwk=None if jwk is None else json.loads(jwk),
        )

    @property
    def lease_ttl(self) -> timedelta:
        """How long a lease lasts unless it is renewed: enough for a call that begins halfway through it."""
        return 2 * (self.litellm_timeout + self.doubt_margin)

    def initial_credits(self, event: OrgCreated) -> int:
        """Credits that the organization starts with."""
        return self.default_initial_credits if event.initial_credits is None else event.initial_credits

    def max_budget_usd(self, event: OrgCreated) -> str | None:
        """Give the organization's budget in USD as outcomes write it; None: no limit."""
        if event.budget_given:
            return event.max_budget_usd
        default = self.default_max_budget_usd
        return None if default is None else format(default, "f")

    def models(self, event: OrgCreated) -> tuple[str, ...]:
        """Models that the organization may use; empty: all."""
        return self.default_models if event.models is None else tuple(event.models)
