"""The end-to-end world again, for tests that break it, and the table of what outages did."""

import pytest

from tests.e2e.conftest import world
from tests.faults.outage import Report

__all__ = ["world"]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")]
    rows = [value for report in reports for name, value in report.user_properties if name == "outage"]
    if rows:
        terminalreporter.section("outages")
        terminalreporter.write_line(Report.HEAD)
        for row in rows:
            terminalreporter.write_line(str(row))
