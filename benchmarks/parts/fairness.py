"""what others notice of an organization that LiteLLM is slow for, or that has nine jobs of ten."""

import contextlib
import uuid

from benchmarks.books import empty_database, make_ready, postgresql_template, sqlite_template
from benchmarks.cluster import Cluster
from benchmarks.contest import new_group
from benchmarks.contestants import settings
from benchmarks.figures import Goal, Table, percentile
from benchmarks.meter import Meter, Timed
from benchmarks.options import Options
from benchmarks.proxy import standin
from benchmarks.samples import job_value, org_created, org_id, org_ids, user_joined
from benchmarks.service import service, settled

OTHERS = 50
"""Organizations whose latency counts."""
JOBS_A_SECOND = 50
USERS_A_SECOND = 10
HEAVY_A_SECOND = JOBS_A_SECOND * 9
SLOW = "org-slow"
HEAVY = "org-heavy"


async def measure(options: Options) -> Table:
    """Measure the others with and without the unusual one, in turn; all rounds' latencies count together."""
    seconds = 30 if options.full else 10
    found: dict[str, list[float]] = {}
    async with contextlib.AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(Cluster.connect(options.kafka))
        for number in range(options.rounds):
            for slow in (False, True):
                users, jobs = await _beside_slow(options, cluster, seconds, slow=slow)
                found.setdefault(f"users, {_SLOW[slow]}", []).extend(users)
                found.setdefault(f"jobs, {_SLOW[slow]}", []).extend(jobs)
            for case in _HEAVY:
                jobs = await _beside_heavy(options, cluster, seconds, case)
                found.setdefault(f"jobs, {case}", []).extend(jobs)
            options.say(f"round {number + 1} is done")
    return _table(found)


_SLOW = {False: "no organization is slow", True: "one organization's calls take 5 s"}
_ALONE, _EVEN, _ONE = (
    "no others at all",
    "as many jobs more, evenly spread",
    "as many jobs more, of one organization (90 %)",
)
_HEAVY = (_ALONE, _EVEN, _ONE)


async def _beside_slow(
    options: Options, cluster: Cluster, seconds: int, *, slow: bool
) -> tuple[list[float], list[float]]:
    """Return the latencies of the others' users and jobs."""
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(cluster.borrowed())
        proxy = await stack.enter_async_context(standin(slow=SLOW if slow else None))
        url = await stack.enter_async_context(_empty_books(options))
        outcomes = [await cluster.create("provisioning"), await cluster.create("credits")]
        environment = await settings(
            cluster,
            group=new_group(),
            database_url=url,
            litellm_url=proxy.url,
            litellm_key=proxy.key,
            provisioning_outcomes=outcomes[0],
            credits_outcomes=outcomes[1],
        )
        await stack.enter_async_context(service(environment))
        meter = await stack.enter_async_context(Meter.connect(cluster.address, outcomes))
        orgs = [org_id(number) for number in range(OTHERS)]
        topics = {
            name: environment[f"QM_TOPIC_{name}"] for name in ("ORG_CREATED", "USER_JOINED", "JOB_COMPLETED")
        }
        created = [
            Timed(
                0, f"created-{org}", topics["ORG_CREATED"], org.encode(), org_created(org, f"owner-of-{org}")
            )
            for org in orgs
        ]
        await meter.latencies(created)
        await settled()
        await meter.send(
            [
                Timed(0, "slow", topics["ORG_CREATED"], SLOW.encode(), org_created(SLOW, "slow-owner")),
                *_joins(topics["USER_JOINED"], [SLOW], seconds, a_second=1),
            ]
        )
        users = _joins(topics["USER_JOINED"], orgs, seconds, a_second=USERS_A_SECOND)
        jobs = _jobs(topics["JOB_COMPLETED"], orgs, seconds, JOBS_A_SECOND)
        taken = await meter.latencies([*users, *jobs])
        return [taken[one.id] for one in users], [taken[one.id] for one in jobs]


async def _beside_heavy(options: Options, cluster: Cluster, seconds: int, case: str) -> list[float]:
    """Return the latencies of the others' jobs."""
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(cluster.borrowed())
        everyone = [*org_ids(), HEAVY]
        template = await stack.enter_async_context(
            sqlite_template(everyone)
            if options.postgres is None
            else postgresql_template(options.postgres, everyone)
        )
        url = await stack.enter_async_context(template.copy())
        outcomes = await cluster.create("credits")
        environment = await settings(cluster, group=new_group(), database_url=url, credits_outcomes=outcomes)
        await stack.enter_async_context(service(environment))
        meter = await stack.enter_async_context(Meter.connect(cluster.address, [outcomes]))
        topic = environment["QM_TOPIC_JOB_COMPLETED"]
        orgs = [org_id(number) for number in range(OTHERS)]
        await meter.latencies(_jobs(topic, orgs, 1, JOBS_A_SECOND))
        await settled()
        watched = _jobs(topic, orgs, seconds, JOBS_A_SECOND)
        beside: list[Timed] = []
        if case == _EVEN:
            beside = _jobs(topic, org_ids()[OTHERS:], seconds, HEAVY_A_SECOND)
        elif case == _ONE:
            beside = _jobs(topic, [HEAVY], seconds, HEAVY_A_SECOND)
        taken = await meter.latencies([*watched, *beside])
        return [taken[one.id] for one in watched]


@contextlib.asynccontextmanager
async def _empty_books(options: Options):  # type: ignore[no-untyped-def]  # noqa: ANN202
    if options.postgres is None:
        async with sqlite_template([]) as template, template.copy() as url:
            yield url
    else:
        async with empty_database(options.postgres) as database:
            await make_ready(database, [])
            yield database.render_as_string(hide_password=False)


def _joins(topic: str, orgs: list[str], seconds: int, *, a_second: int) -> list[Timed]:
    joins = []
    for place in range(seconds * a_second):
        org, user = orgs[place % len(orgs)], f"user-{uuid.uuid4().hex[:12]}"
        joins.append(Timed(place / a_second, f"joined-{user}", topic, org.encode(), user_joined(org, user)))
    return joins


def _jobs(topic: str, orgs: list[str], seconds: int, a_second: int) -> list[Timed]:
    jobs = []
    for place in range(seconds * a_second):
        org, number = orgs[place % len(orgs)].encode(), uuid.uuid4().int % 10**12
        jobs.append(Timed(place / a_second, f"evt-{number:012}", topic, org, job_value(number, org)))
    return jobs


def _table(found: dict[str, list[float]]) -> Table:
    p50 = {name: percentile(taken, 0.5) * 1e3 for name, taken in found.items()}
    p99 = {name: percentile(taken, 0.99) * 1e3 for name, taken in found.items()}
    slow_users = p99[f"users, {_SLOW[True]}"] / p99[f"users, {_SLOW[False]}"]
    slow_jobs = p99[f"jobs, {_SLOW[True]}"] / p99[f"jobs, {_SLOW[False]}"]
    heavy = p99[f"jobs, {_ONE}"] / p99[f"jobs, {_EVEN}"]
    return Table(
        title=f"What {OTHERS} other organizations notice, milliseconds from event to outcome",
        columns=["the others'", "p50", "p99", "events"],
        rows=[(name, p50[name], p99[name], len(taken)) for name, taken in found.items()],
        notes=[
            f"The others have {JOBS_A_SECOND} jobs a second, and {USERS_A_SECOND} users where one is slow.",
            f"Beside them are {HEAVY_A_SECOND} jobs a second.",
        ],
        goals=[
            Goal("users' p99 beside a slow organization", "at most 1.1 times", slow_users, most=1.1),
            Goal("jobs' p99 beside a slow organization", "at most 1.1 times", slow_jobs, most=1.1),
            Goal("jobs' p99 beside one with 90 % of the jobs", "at most 1.1 times", heavy, most=1.1),
        ],
        data={"p50_ms": p50, "p99_ms": p99},
    )
