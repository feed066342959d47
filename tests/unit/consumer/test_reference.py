import pytest

from consumer.reference import main, metrics_page, outdated, settings_page
from consumer.settings import Settings, variable


def test_the_pages_are_what_the_code_declares() -> None:
    assert outdated() == [], "run python -m consumer.reference"


def test_every_setting_and_metric_has_its_line() -> None:
    page = settings_page()

    assert [name for name in Settings.model_fields if f"| `{variable(name)}` |" not in page] == []
    assert "| `quartermaster_events_total` | counter |" in metrics_page()


def test_wrong_use_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--chek"]) == 2
    assert "usage" in capsys.readouterr().err
