"""The API describes itself, and its pages load nothing from elsewhere."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import text

from processes.web.door import OPEN_JOBS
from temporal_tenancy import read_input, registry
from temporal_tenancy.core import internal_fields
from temporal_tenancy.core.jobs import job_of
from temporal_tenancy.postgres.database import tenant_session
from tests.fixtures.relay import messages_of
from tests.fixtures.web import Web, problem_of
from workflows import WORKFLOWS


def resolved(schema: Any, document: Any) -> Any:
    """Returns a schema with every reference in it replaced; raises for one that leads nowhere."""
    if isinstance(schema, list):
        return [resolved(each, document) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if (reference := schema.get("$ref")) is not None:
        assert reference.startswith("#/components/schemas/"), reference
        schema = document["components"]["schemas"][reference.rpartition("/")[2]]
    return {name: resolved(each, document) for name, each in schema.items()}


@pytest.fixture
async def document(web: Web) -> Any:
    async with web.client() as client:
        return (await client.get("/openapi.json")).json()


def test_every_schema_is_whole(document: Any) -> None:
    for path, operations in document["paths"].items():
        for operation in operations.values():
            resolved(operation, document)
            if "requestBody" in operation:
                for kind, content in operation["requestBody"]["content"].items():
                    assert "schema" in content, (path, kind)
    resolved(list(document["components"]["schemas"].values()), document)
    assert "$defs" not in str(document)


NO_RESOURCE = {
    "AskedJob": "a request; its run is a resource, in its links",
    "Received": "an event of a provider, who reads nothing more",
}
LEFT_OUT = {"reports": {"result"}, "documents": {"content"}}
"""What a list leaves out, because it may be large."""


def answers_of(document: Any, method: str) -> Iterator[tuple[str, Any]]:
    """Yields the path and the schema of each answer in JSON that is no error."""
    for path, operations in document["paths"].items():
        for status, answer in operations.get(method, {}).get("responses", {}).items():
            schema = answer.get("content", {}).get("application/json", {}).get("schema")
            if status.startswith("2") and schema:
                yield path, schema


def test_what_changes_a_resource_answers_as_what_shows_it(document: Any) -> None:
    shown = {
        path.split("/")[1]: schema
        for path, schema in answers_of(document, "get")
        if path.endswith("}")
    }
    assert len(shown) >= 6
    changes = [*answers_of(document, "post"), *answers_of(document, "put")]
    assert len(changes) >= 8
    for path, schema in changes:
        name = schema["$ref"].rpartition("/")[2]
        assert name in NO_RESOURCE or schema == shown[path.split("/")[1]], (path, name)
    for path, schema in answers_of(document, "get"):
        noun = path.strip("/")
        page = resolved(schema, document)["properties"]
        if noun in shown and "items" in page:
            item = resolved(shown[noun], document)["properties"].keys()
            listed = page["items"]["items"]["properties"].keys()
            assert item - listed == LEFT_OUT.get(noun, set()), path
            assert listed <= item, path


async def test_every_body_has_examples_that_the_door_takes(web: Web, document: Any) -> None:
    """Sends each example; only the ids in them are nobody's."""
    sent = 0
    async with web.client("acme") as client:
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                content = operation.get("requestBody", {}).get("content", {})
                examples = content.get("application/json", {}).get("examples", {})
                for name, example in examples.items():
                    where = path.format(name="crm", job=name)
                    answer = await client.request(method, where, json=example["value"])
                    expected = (200, 201, 202, 404) if "/jobs/" in path else (200, 201, 202)
                    assert answer.status_code in expected, (where, name, answer.text)
                    sent += 1
    assert sent >= len(OPEN_JOBS) + 4


def test_every_job_is_described_with_its_input(document: Any) -> None:
    operation = document["paths"]["/jobs/{job}"]["post"]
    [job] = [each for each in operation["parameters"] if each["name"] == "job"]
    assert job["schema"]["enum"] == sorted(OPEN_JOBS)
    others = [each for each in operation["parameters"] if each["name"] != "job"]
    assert others
    assert "enum" not in str(others)
    content = operation["requestBody"]["content"]["application/json"]
    assert set(content["examples"]) == OPEN_JOBS
    schemas = document["components"]["schemas"]
    inputs = resolved(content["schema"], document)["properties"]["input"]["anyOf"]
    for name in OPEN_JOBS:
        model = registry[name].input_model
        assert resolved(schemas[model.__name__], document) in inputs
        shown = set(schemas[model.__name__]["properties"])
        assert shown == set(model.model_fields) - {"tenant_id"} - internal_fields(model)
        assert f"`{name}`" in operation["description"]
        example = content["examples"][name]["value"]["input"]
        assert schemas[model.__name__]["examples"] == [example]
        read_input(model, {"tenant_id": "acme", **example}, what="the example")


def test_what_runs_hand_to_the_next_is_internal() -> None:
    """A run that continues as new sets fields of its input, which no caller may set."""
    found = 0
    for workflow_class in WORKFLOWS:
        if "continue_as_new" not in inspect.getsource(workflow_class):
            continue
        job = job_of(workflow_class)
        assert job is not None
        optional = {
            name for name, field in job.input_model.model_fields.items() if not field.is_required()
        }
        assert optional == internal_fields(job.input_model)
        found += 1
    assert found >= 2


async def test_what_only_runs_set_cannot_be_asked_for(web: Web) -> None:
    async with web.client("acme") as client:
        await client.put(
            "/integrations/crm", json={"url": "https://api.x.example", "credential": "c"}
        )
        with web.acting_for("acme"):
            async with tenant_session() as session:
                [known] = await session.scalars(text("select id from integrations"))
        asked = {"input": {"integration_id": str(known), "records": 5}}
        answer = await client.post("/jobs/integrations.sync", json=asked)
    assert (answer.status_code, problem_of(answer)) == (422, "InvalidPayload")
    assert "records" in answer.json()["error"]["message"]
    assert await messages_of(web.door.database, "acme") == []


PAGES = ("/", "/pages/exports", "/pages/search", "/pages/integrations", "/docs")


@pytest.mark.parametrize("page", PAGES)
async def test_a_page_has_no_inline_code_and_its_files_are_our_own(web: Web, page: str) -> None:
    async with web.client() as client:
        answer = await client.get(page)
        policy = answer.headers["content-security-policy"]
        assert "script-src 'self'" in policy
        assert "style-src 'self'" in policy
        assert not re.search(r"<script(?![^>]* src=)|<style|\son[a-z]+=|\sstyle=", answer.text)
        names = re.findall(r'(?:src|href)="([^"#]+)"', answer.text)
        assert len(names) >= 5
        for name in names:
            if name.startswith("data:"):
                continue
            assert name.startswith("/"), name
            file = await client.get(name)
            assert file.status_code == 200, name
            kind = {"js": "text/javascript", "css": "text/css"}.get(name.rpartition(".")[2], "")
            assert file.headers["content-type"].startswith(kind)
            assert file.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "path",
    ["/pages/import.html", "/pages/nothing.js", "/pages/..%2fapp.py", "/pages/style.css%00",
     "/docs/redoc.standalone.js", "/docs/..%2fcore.py", "/docs/nothing", "/pages/docs"],
)  # fmt: skip
async def test_no_other_file_is_served(web: Web, path: str) -> None:
    async with web.client() as client:
        assert (await client.get(path)).status_code == 404
