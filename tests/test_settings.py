"""Settings: what is understood, and that every mistake is told by its variable."""

from pathlib import Path

import pytest

from unwind.errors import SettingsError
from unwind.settings import Settings, read_settings


def test_nothing_set_means_loopback_and_one_file() -> None:
    assert read_settings({}) == Settings(
        "127.0.0.1", 8080, Path("data"), Path("data/unwind.db"), "info", "console", 10_000
    )


def test_an_empty_variable_counts_as_not_set() -> None:
    assert read_settings({"SERVER_PORT": "", "DATABASE_URL": " ", "NATS_URL": "", "UNWIND_ANYTHING": ""}) == Settings()


@pytest.mark.parametrize(
    ("environment", "field", "expected"),
    [
        ({"SERVER_PORT": "0"}, "port", 0),
        ({"SERVER_PORT": "65535"}, "port", 65_535),
        ({"UNWIND_HOST": "192.0.2.1"}, "host", "192.0.2.1"),
        ({"SERVER_HOST": "::1"}, "host", "::1"),
        ({"UNWIND_DATA_DIR": "/var/lib/x"}, "database", Path("/var/lib/x/unwind.db")),
        ({"DATABASE_URL": "sqlite:///here/a.db"}, "database", Path("here/a.db")),
        ({"DATABASE_URL": "sqlite:////there/a.db"}, "database", Path("/there/a.db")),
        ({"DATABASE_URL": "sqlite:////there/a.db"}, "data_dir", Path("/there")),
        ({"DATABASE_URL": "sqlite:///a.db", "UNWIND_DATA_DIR": "d"}, "data_dir", Path("d")),
        ({"UNWIND_LOG_LEVEL": "DEBUG"}, "log_level", "debug"),
        ({"UNWIND_LOG_FORMAT": "json"}, "log_format", "json"),
        ({"UNWIND_MAX_WAITING": "5"}, "max_waiting", 5),
    ],
)
def test_each_variable_is_read(environment: dict[str, str], field: str, expected: object) -> None:
    assert getattr(read_settings(environment), field) == expected


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("SERVER_PORT", "65536", "0 to 65535"),
        ("SERVER_PORT", "-1", "whole number"),
        ("SERVER_PORT", "http", "whole number"),
        ("SERVER_PORT", "8080.0", "whole number"),
        ("SERVER_PORT", "٨٠", "whole number"),
        ("SERVER_PORT", "9" * 5_000, "whole number"),
        ("DATABASE_URL", "mysql://root:secret@host/db", "sqlite:///"),
        ("DATABASE_URL", "postgres://user:secret@host/db?sslmode=disable", "next release"),
        ("DATABASE_URL", "postgresql://host/db", "next release"),
        ("DATABASE_URL", "data/unwind.db", "sqlite:///"),
        ("DATABASE_URL", "sqlite:///", "sqlite:///"),
        ("DATABASE_URL", "sqlite:///a.db?mode=ro", "options"),
        ("NATS_URL", "nats://127.0.0.1:4222", "next release"),
        ("REDIS_ADDR", "127.0.0.1:6379", "next release"),
        ("UNWIND_LOG_LEVEL", "loud", "debug, info"),
        ("UNWIND_LOG_FORMAT", "xml", "console, json"),
        ("UNWIND_MAX_WAITING", "0", "from 1"),
        ("UNWIND_LOGLEVEL", "info", "did you mean UNWIND_LOG_LEVEL?"),
        ("UNWIND_X", "1", "did you mean"),
    ],
)
def test_what_makes_no_sense_is_told_by_name_in_one_line_and_without_secrets(name: str, value: str, told: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings({name: value})
    message = str(caught.value)
    assert message.startswith(f"{name}: ")
    assert told in message
    assert "secret" not in message
    assert "\n" not in message
    assert len(message) < 200
