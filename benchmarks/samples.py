"""Events like those of production: about 800 bytes, a hundred organizations."""

import json

from schemas.decode import IncomingRecord

ORGANIZATIONS = 100


def org_id(number: int) -> str:
    """Return the organization that event `number` is of."""
    return f"org-{number % ORGANIZATIONS:03}"


def job_value(number: int) -> bytes:
    """Return the `number`th `job.completed`."""
    return json.dumps(
        {
            "specversion": "1.0",
            "id": f"evt-{number:012}",
            "source": "/platform/jobs",
            "type": "job.completed",
            "time": "2026-03-01T12:00:00.123Z",
            "datacontenttype": "application/json",
            "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "data": {
                "job_id": f"job-{number:012}",
                "org_id": org_id(number),
                "user_id": f"user-{number % 1000}",
                "job_type": "batch-inference",
                "status": "completed",
                "usage": {
                    "total_calls": 12,
                    "successful_calls": 12,
                    "failed_calls": 0,
                    "prompt_tokens": 18231,
                    "completion_tokens": 2044,
                    "total_tokens": 20275,
                    "total_cost_usd": "0.123400",
                    "avg_latency_ms": 812.5,
                },
                "started_at": "2026-03-01T11:59:00Z",
                "completed_at": "2026-03-01T12:00:00Z",
                "metadata": {"region": "eu-central-1", "queue": "default", "labels": ["a", "b"]},
            },
        }
    ).encode()


def job_record(number: int) -> IncomingRecord:
    """Return the `number`th job as a record."""
    return IncomingRecord("job.completed", 0, number, 0, org_id(number).encode(), job_value(number), ())
