"""What one attempt does to one resource of LiteLLM, and what the database is to remember of it afterwards.

A resource is written down as intended before the first call that could make it. When the attempt has ended,
what is known of it by then replaces the intent; an intent that stands without a time of doubt is thus one
whose attempt never ended: the process died, and the call may have been made.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum, auto

from storage.resources import Resource, ResourceState


class Fate(Enum):
    """What this attempt did to a resource."""

    UNTOUCHED = auto()
    DOUBTFUL = auto()
    MADE = auto()
    FOREIGN = auto()


@dataclass(slots=True)
class Footprint:
    """One resource during one attempt.

    Attributes:
        resource: As it stands in the database during the attempt.
        before: What earlier attempts left; None: this is the first that could make it.
        fate: What became of it in this attempt.
        settles_at: Monotonic seconds until which a call whose answer was lost may still take effect.
        changes_until: The same of a call that changes it: what is removed must not be changed afterwards.
    """

    resource: Resource
    before: Resource | None
    fate: Fate = Fate.UNTOUCHED
    settles_at: float = 0.0
    changes_until: float = 0.0

    @property
    def may_be_ours(self) -> bool:
        """Whether an earlier attempt made it, or may have."""
        return self.before is not None and self.before.state in {ResourceState.INTENDED, ResourceState.MADE}

    @property
    def surely_made(self) -> bool:
        """Whether we know that our attempts made it."""
        return self.fate is Fate.MADE or (self.before is not None and self.before.state is ResourceState.MADE)

    @property
    def others_had_it(self) -> bool:
        """Whether it is known as theirs: to be looked for before it is made anew."""
        return self.before is not None and self.before.state is ResourceState.KEPT

    def anew(self) -> None:
        """It surely is not there: whatever stands after the next call may be ours."""
        self.resource = replace(self.resource, state=ResourceState.INTENDED, doubt_until=None, due_at=None)

    def doubted(self, settles_at: float) -> None:
        """A call that may make it is under way or lost its answer."""
        self.fate = Fate.DOUBTFUL
        self.settles_at = settles_at

    def made(self) -> None:
        """It stands, and our attempts made it."""
        self.fate = Fate.MADE

    def foreign(self) -> None:
        """It stands, and somebody else made it: never to be removed."""
        self.fate = Fate.FOREIGN

    def after_failure(self, now: datetime, monotonic: float) -> Resource | None:
        """Give what to remember where the attempt failed; None: nothing, for it surely does not exist."""
        match self.fate:
            case Fate.UNTOUCHED:
                return self.before
            case Fate.DOUBTFUL:
                doubt = now + timedelta(seconds=max(0.0, self.settles_at - monotonic))
                return replace(self.resource, state=ResourceState.INTENDED, doubt_until=doubt)
            case Fate.MADE:
                changing = self._changes_until(now, monotonic)
                return replace(self.resource, state=ResourceState.MADE, doubt_until=changing)
            case Fate.FOREIGN:
                return replace(self.resource, state=ResourceState.KEPT, doubt_until=None)

    def _changes_until(self, now: datetime, monotonic: float) -> datetime | None:
        """Until when a change may still come, of this attempt's or of those before; None: none."""
        until = now + timedelta(seconds=self.changes_until - monotonic)
        if self.before is not None and self.before.state is ResourceState.MADE:
            until = max(until, self.before.doubt_until or until)
        return until if until > now else None

    def after_success(self, now: datetime) -> Resource | None:
        """Give what to remember where the attempt succeeded."""
        match self.fate:
            case Fate.UNTOUCHED if self.before is not None and self.may_be_ours:
                # Another one was made in its place; if it ever stood, it is not wanted.
                due_at = max(now, self.before.doubt_until or now)
                return replace(self.before, state=ResourceState.REMOVING, due_at=due_at)
            case Fate.UNTOUCHED:
                return self.before
            case Fate.FOREIGN:
                return replace(self.resource, state=ResourceState.KEPT, doubt_until=None)
            case _:
                return replace(self.resource, state=ResourceState.IN_USE, doubt_until=None)


def intended(resource: Resource, standing: Resource | None, now: datetime, margin: timedelta) -> Footprint:
    """Begin an attempt's dealings with a resource.

    What an earlier event left for removal is taken over with everything that is doubtful about it.

    Args:
        resource: As this attempt intends it.
        standing: What the database remembers of it.
        now: The database's time.
        margin: How long after its timeout a call may still take effect.
    """
    match standing:
        case None:
            return Footprint(resource, None)
        case Resource(state=ResourceState.KEPT):
            # Should it be gone by now and this attempt make it anew, it is this event's to take back.
            return Footprint(replace(standing, made_by=resource.made_by), standing)
        case Resource(state=ResourceState.INTENDED, doubt_until=None):
            # Its attempt never ended. The lease has changed hands since, so the call's timeout is past.
            left = replace(standing, made_by=resource.made_by, doubt_until=now + margin)
        case Resource(state=ResourceState.REMOVING, doubt_until=None):
            # Surely made, and nothing has been done about it yet: ours, whatever became of its mark.
            left = replace(standing, made_by=resource.made_by, state=ResourceState.MADE, due_at=None)
        case Resource(state=ResourceState.REMOVING | ResourceState.REMOVED):
            left = replace(
                standing,
                made_by=resource.made_by,
                state=ResourceState.INTENDED,
                doubt_until=standing.doubt_until or now,
                due_at=None,
            )
        case _:
            left = replace(standing, made_by=resource.made_by)
    return Footprint(replace(left, state=ResourceState.INTENDED, doubt_until=None), left)
