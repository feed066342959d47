"""What of the settings decides at ingest."""

from datetime import timedelta

from consumer.ingest.judging import IngestPolicy
from consumer.settings import IsolatedSettings


def test_the_policy_is_what_the_settings_say() -> None:
    settings = IsolatedSettings(source="/here", credits_per_job=7, dependency_wait=90.0)
    assert IngestPolicy.of(settings) == IngestPolicy(
        our_source="/here", credits_per_job=7, dependency_wait=timedelta(seconds=90)
    )
