"""Generated requests, good and bad, against the documented API: no 5xx, and every answer as documented."""

from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from tests.cli.conftest import serving

# Not among them: `positive_data_acceptance`. JSON schema cannot say "printable", nor "the total of all lines is not too
# large", so some orders that fit the schema are rightly refused.
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
]


# Bad requests can be made only of what takes a body or a query; any text is an id.
REFUSING = {
    *("place_order", "cancel_saga", "resume_saga", "pause_saga", "list_sagas", "show_saga"),
    *("list_dead_letters", "redrive_dead_letters", "discard_dead_letters"),
    *("retry_step", "resolve_step", "skip_step", "signal_saga", "count_sagas", "act_in_bulk", "stop_bulk_run"),
}


@pytest.mark.integration  # long
@pytest.mark.parametrize(("mode", "count"), [(GenerationMode.POSITIVE, 29), (GenerationMode.NEGATIVE, len(REFUSING))])
def test_every_operation_answers_as_documented(tmp_path: Path, mode: GenerationMode, count: int) -> None:
    with serving(tmp_path) as server:
        schema = schemathesis.openapi.from_url(f"{server.url}/schema/openapi.json")
        probed = 0
        for result in schema.get_all_operations():
            assert isinstance(result, Ok)
            operation = result.ok()
            if mode is GenerationMode.NEGATIVE and operation.definition.raw["operationId"] not in REFUSING:
                continue

            @given(case=operation.as_strategy(generation_mode=mode))
            @settings(
                max_examples=25,
                derandomize=True,
                database=None,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            )
            def probe(case: Case[Any]) -> None:
                case.call_and_validate(checks=CHECKS)

            probe()
            probed += 1
        assert probed == count
        assert server.http.get("/readyz").status_code == 200
