"""A real Prometheus and promtool: those on PATH, else those that `tools/programs.sh prometheus` unpacked."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml  # type: ignore[import-untyped]
from tests.servers.process import NotInstalledError, ServerProcess

UNPACKED = Path(__file__).parents[2] / ".venv/programs/usr/bin"


def program(name: str) -> Path:
    """`prometheus` or `promtool`. Raises NotInstalledError."""
    found = shutil.which(name) or shutil.which(UNPACKED / name)
    if found is None:
        raise NotInstalledError(f"there is no {name}: `tools/programs.sh prometheus` fetches it")
    return Path(found)


class Prometheus(ServerProcess):
    """A server of one's own that asks one process, several times a second, and evaluates these rules as often."""

    READY = b"Server is ready to receive web requests"

    def __init__(self, folder: Path, target: str, rules: Path, labels: dict[str, str]) -> None:
        super().__init__(folder)
        job = {"job_name": "host", "static_configs": [{"targets": [target], "labels": labels}]}
        often = {"scrape_interval": "200ms", "scrape_timeout": "200ms", "evaluation_interval": "200ms"}
        settings = {"global": often, "rule_files": [str(rules)], "scrape_configs": [job]}
        (self.folder / "prometheus.yml").write_text(yaml.safe_dump(settings))

    def command(self) -> Sequence[str | Path]:
        return [
            program("prometheus"),
            f"--config.file={self.folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={self.folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
        ]

    def ask(self, path: str, **parameters: str) -> Any:
        """The data of an answer of its API; an error, or a warning in it, fails."""
        answer = httpx.get(f"http://127.0.0.1:{self.port}/api/v1/{path}", params=parameters).json()
        assert answer["status"] == "success", answer
        assert "warnings" not in answer, answer
        return answer["data"]


@contextmanager
def watching(folder: Path, target: str, rules: Path, **labels: str) -> Iterator[Prometheus]:
    """A server that is stopped at the end."""
    server = Prometheus(folder, target, rules, labels)
    try:
        server.start()
        yield server
    finally:
        server.stop()
