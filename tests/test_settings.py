"""Settings: what is understood, and that every mistake is told by its variable and no secret is ever shown."""

import subprocess
import sys
from pathlib import Path

import pytest

from unwind.errors import SettingsError
from unwind.settings import Redis, Secret, Server, Settings, read_database, read_settings

PASSWORD = "s3cret-w0rd"
COLLECTOR = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}
HALF = {"OTEL_TRACES_SAMPLER_ARG": "0.5"}


def test_nothing_set_means_loopback_one_file_and_the_bus_in_the_process() -> None:
    settings = read_settings({})
    assert settings == Settings()
    assert (settings.host, settings.port, settings.bus) == ("127.0.0.1", None, "memory")
    assert (settings.data_dir, settings.database) == (Path("data"), Path("data/unwind.db"))


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
        ({"DATABASE_URL": "postgres://127.0.0.1/orders"}, "data_dir", Path("data")),
        ({"NATS_URL": "nats://127.0.0.1:4222"}, "bus", "nats"),
        ({"NATS_URL": "nats://127.0.0.1:4222", "UNWIND_BUS": "memory"}, "bus", "memory"),
        ({"REDIS_ADDR": "127.0.0.1:6379"}, "bus", "memory"),
        ({"REDIS_ADDR": "127.0.0.1:6379", "UNWIND_BUS": "redis"}, "bus", "redis"),
        ({"REDIS_ADDR": "rediss://u@r:1/2"}, "redis", Redis("rediss://u@r:1/2")),
        ({"REDIS_ADDR": "[::1]:6379"}, "redis", Redis("[::1]:6379")),
        ({"REDIS_ADDR": "r:1", "REDIS_PASSWORD": PASSWORD}, "redis", Redis("r:1", Secret(PASSWORD))),
        ({"UNWIND_LOG_LEVEL": "DEBUG"}, "log_level", "debug"),
        ({"UNWIND_LOG_FORMAT": "json"}, "log_format", "json"),
        ({"UNWIND_LOG_FORMAT": "Console"}, "log_format", "console"),
        ({}, "log_format", None),
        ({"UNWIND_MAX_WAITING": "5"}, "max_waiting", 5),
        ({}, "rate_limit", 0),
        ({"UNWIND_CIRCUIT_AFTER": "0"}, "circuit_after", 0),
        ({"UNWIND_CIRCUIT_SILENCE": "60"}, "circuit_silence", 60),
        ({"UNWIND_CIRCUIT_PROBE": "1"}, "circuit_probe", 1),
        ({"UNWIND_CIRCUIT_RAMP": "500"}, "circuit_ramp", 500),
        ({}, "traced", False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}, "traced", True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://traces.example/v1/traces"}, "traced", True),
        ({**COLLECTOR, "OTEL_SDK_DISABLED": "True"}, "traced", False),
        ({**COLLECTOR, "OTEL_TRACES_EXPORTER": "none"}, "traced", False),
        ({**COLLECTOR, "OTEL_TRACES_SAMPLER": "parentbased_traceidratio", **HALF}, "traced", True),
        ({"UNWIND_TRACE_URL": "http://j:16686/trace/{trace_id}"}, "trace_url", "http://j:16686/trace/{trace_id}"),
        ({"UNWIND_RATE_LIMIT": "50"}, "rate_limit", 50),
        ({"UNWIND_RATE_LIMIT": "100000"}, "rate_burst", 200_000),
        ({"UNWIND_RATE_LIMIT": "50", "UNWIND_RATE_BURST": "7"}, "rate_burst", 7),
    ],
)
def test_each_variable_is_read(environment: dict[str, str], field: str, expected: object) -> None:
    assert getattr(read_settings(environment), field) == expected


@pytest.mark.parametrize(
    ("url", "place"),
    [
        (f"postgres://app:{PASSWORD}@127.0.0.1:5432/orders?sslmode=disable", "127.0.0.1:5432/orders"),
        (f"postgresql://app:{PASSWORD}@db.example/orders", "db.example/orders"),
        (f"postgres://app:{PASSWORD}%2F%23@[::1]:5432/orders", "[::1]:5432/orders"),
        (f"postgres:///orders?host=/run/postgresql&password={PASSWORD}", "/orders"),
    ],
)
def test_a_postgresql_url_is_kept_as_given_and_shown_without_its_secrets(url: str, place: str) -> None:
    settings = read_settings({"DATABASE_URL": url})
    assert settings.database == Server(Secret(url), place)
    assert PASSWORD not in repr(settings)


def test_several_nats_servers_are_shown_without_their_secrets() -> None:
    urls = f"nats://app:{PASSWORD}@a:4222, tls://{PASSWORD}@b:4223"
    settings = read_settings({"NATS_URL": urls})
    assert settings.nats == Server(Secret(urls), "a:4222,b:4223")
    assert PASSWORD not in repr(settings)


def test_a_password_is_in_no_text_made_of_it() -> None:
    secret = Secret(PASSWORD)
    assert PASSWORD not in f"{secret} {secret!r} {[secret]}"
    assert (secret == Secret(PASSWORD), secret == Secret("other"), secret == PASSWORD) == (True, False, False)
    assert hash(secret) == hash(Secret(PASSWORD))


def test_an_application_reads_databases_of_its_own() -> None:
    given = {"STOCK_DATABASE_URL": "sqlite:///stock.db", "EMPTY_DATABASE_URL": " "}
    assert read_database(given, "STOCK_DATABASE_URL") == Path("stock.db")
    assert read_database(given, "EMPTY_DATABASE_URL") is None
    with pytest.raises(SettingsError, match=r"^STOCK_DATABASE_URL: mysql://… is not understood"):
        read_database({"STOCK_DATABASE_URL": "mysql://h/d"}, "STOCK_DATABASE_URL")


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, ("UNWIND_HOST", "UNWIND_DATA_DIR", "UNWIND_DATA_DIR")),
        ({"SERVER_HOST": "h"}, ("SERVER_HOST", "UNWIND_DATA_DIR", "UNWIND_DATA_DIR")),
        ({"SERVER_HOST": "h", "UNWIND_HOST": "g"}, ("UNWIND_HOST", "UNWIND_DATA_DIR", "UNWIND_DATA_DIR")),
        ({"DATABASE_URL": "sqlite:///a.db"}, ("UNWIND_HOST", "DATABASE_URL", "DATABASE_URL")),
        (
            {"DATABASE_URL": "sqlite:///a.db", "UNWIND_DATA_DIR": "d"},
            ("UNWIND_HOST", "DATABASE_URL", "UNWIND_DATA_DIR"),
        ),
        ({"DATABASE_URL": "postgres://h/d"}, ("UNWIND_HOST", "DATABASE_URL", "UNWIND_DATA_DIR")),
    ],
)
def test_the_variable_that_decided_is_known(environment: dict[str, str], expected: tuple[str, str, str]) -> None:
    variables = read_settings(environment).variables
    assert (variables["host"], variables["database"], variables["data_dir"]) == expected


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("SERVER_PORT", "65536", "0 to 65535"),
        ("SERVER_PORT", "-1", "whole number"),
        ("SERVER_PORT", "http", "whole number"),
        ("SERVER_PORT", "8080.0", "whole number"),
        ("SERVER_PORT", "٨٠", "whole number"),
        ("SERVER_PORT", "9" * 5_000, "whole number"),
        ("DATABASE_URL", f"mysql://root:{PASSWORD}@host/db", "postgres://"),
        ("DATABASE_URL", "data/unwind.db", "sqlite:///"),
        ("DATABASE_URL", "sqlite:///", "sqlite:///"),
        ("DATABASE_URL", "sqlite:///a.db?mode=ro", "options"),
        ("DATABASE_URL", "postgres://", "host, port or database"),
        ("DATABASE_URL", "postgres://localhost", "name the database too: postgres://…@localhost/database"),
        ("DATABASE_URL", f"postgres://app:{PASSWORD}@host:port/db", "host, port or database"),
        ("DATABASE_URL", f"postgres://app:{PASSWORD}@host:0/db", "host, port or database"),
        ("DATABASE_URL", f"postgres://app:{PASSWORD}@host:99999/db", "host, port or database"),
        ("DATABASE_URL", f"postgres://app:{PASSWORD}#x@host/db", "%23"),
        ("DATABASE_URL", f"postgres://app:1/{PASSWORD}@host/db", "%2F"),
        ("DATABASE_URL", f"postgres://app:1?{PASSWORD}@host/db", "%3F"),
        ("DATABASE_URL", f"postgres://app:1#{PASSWORD}@host/db", "%23"),
        ("DATABASE_URL", f"postgres://app:{PASSWORD}@[host/db", "host, port or database"),
        ("DATABASE_URL", f"postgres://app:{PASSWORD} x@host/db", "host, port or database"),
        ("NATS_URL", "127.0.0.1:4222", "nats://host:4222"),
        ("NATS_URL", f"http://app:{PASSWORD}@host:4222", "nats://host:4222"),
        ("NATS_URL", "nats://a:4222,,nats://b:4222", "commas"),
        ("REDIS_ADDR", f"redis://:{PASSWORD}@127.0.0.1:6379", "host:port"),
        ("REDIS_ADDR", f"user:{PASSWORD}@127.0.0.1:6379", "REDIS_PASSWORD"),
        ("REDIS_ADDR", "127.0.0.1:99999", "host:port"),
        ("REDIS_ADDR", "http://127.0.0.1:6379", "host:port"),
        ("UNWIND_BUS", "rabbit", "memory, nats, redis"),
        ("UNWIND_BUS", "nats", "NATS_URL"),
        ("UNWIND_BUS", "redis", "REDIS_ADDR"),
        ("UNWIND_LOG_LEVEL", "loud", "debug, info"),
        ("UNWIND_LOG_FORMAT", "xml", "console, json"),
        ("UNWIND_MAX_WAITING", "0", "from 1"),
        ("UNWIND_CIRCUIT_AFTER", "-1", "from 0 to 10000"),
        ("UNWIND_CIRCUIT_PROBE", "0", "from 1 to 3600"),
        ("UNWIND_RATE_LIMIT", "0.5", "whole number"),
        ("UNWIND_RATE_LIMIT", "-1", "from 0 to 100000"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "127.0.0.1:4317", "http://host:4318"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", f"grpc://app:{PASSWORD}@host:4317", "http://host:4318"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://", "http://host:4318"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "http/protobuf"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json", "http/protobuf"),
        ("OTEL_TRACES_SAMPLER", "sometimes", "parentbased_traceidratio"),
        ("OTEL_TRACES_SAMPLER_ARG", "2", "from 0 to 1"),
        ("OTEL_TRACES_SAMPLER_ARG", "nan", "from 0 to 1"),
        ("OTEL_TRACES_SAMPLER_ARG", "half", "from 0 to 1"),
        ("UNWIND_TRACE_URL", "http://jaeger/trace/", "{trace_id}"),
        ("UNWIND_TRACE_URL", "javascript:alert({trace_id})", "http://host/path"),
        ("UNWIND_LOGLEVEL", "info", "did you mean UNWIND_LOG_LEVEL?"),
        ("UNWIND_X", "1", "did you mean"),
    ],
)
def test_what_makes_no_sense_is_told_by_name_in_one_line_and_without_secrets(name: str, value: str, told: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings((COLLECTOR if name.startswith("OTEL_") else {}) | {name: value})
    message = str(caught.value)
    assert message.startswith(f"{name}: ")
    assert told in message
    assert PASSWORD not in message
    assert "\n" not in message
    assert len(message) < 200


def test_reading_settings_needs_no_web_server() -> None:
    program = "import sys, unwind.cli; print(sorted({'uvicorn', 'litestar'} & sys.modules.keys()))"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"
