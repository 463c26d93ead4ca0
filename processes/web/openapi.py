"""Completes the OpenAPI document with the bodies that FastAPI does not parse, and jobs' inputs."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from processes.web.exports import ExportRequest
from processes.web.integrations import IntegrationRequest
from processes.web.jobs import JobRequest
from processes.web.reference import REF_TEMPLATE, reference_to
from processes.web.reports import ReportRequest
from saas.requests.reports import PARAMETERS
from temporal_tenancy import Job, registry
from temporal_tenancy.core import internal_fields

BODIES: Final[tuple[type[BaseModel], ...]] = (
    ExportRequest,
    ReportRequest,
    IntegrationRequest,
    JobRequest,
    *PARAMETERS.values(),
)
JOB_PATH: Final = "/jobs/{job}"
_UUID: Final = "01993c5e-8f2b-7c31-9d4e-5a6b7c8d9e0f"
EXAMPLES: Final[dict[str, dict[str, Any]]] = {
    "analytics.aggregate": {"input": {"period": "2013-04"}},
    "report.daily": {"input": {"period": "2013-04-30"}},
    "exports.generate": {"input": {"export_id": _UUID}},
    "reports.generate": {"input": {"report_id": _UUID}},
    "integrations.sync": {"input": {"integration_id": _UUID}},
    "search.index": {"input": {"kind": "document", "ref": "report.daily/2013-04-30"}},
}
"""A body for each job that can be requested by name."""


def complete(app: FastAPI, open_jobs: Collection[str]) -> None:
    """Makes `app.openapi()` return the whole document; `open_jobs` can be requested by name."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = generate()
            schemas = document["components"]["schemas"]
            _, found = models_json_schema(
                [(model, "validation") for model in BODIES], ref_template=REF_TEMPLATE
            )
            schemas |= found["$defs"]
            _summarize(document)
            jobs = [job for name in sorted(open_jobs) if (job := registry.get(name)) is not None]
            _describe_jobs(document, jobs)
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _summarize(document: dict[str, Any]) -> None:
    """Gives each route the first sentence of its description, and not the function's name."""
    for operations in document["paths"].values():
        for operation in operations.values():
            first, *_ = (
                operation.get("description", operation["summary"]).replace("\n", " ").split(". ")
            )
            operation["summary"] = first.removesuffix(".").replace("`", "")  # it is plain text


def _describe_jobs(document: dict[str, Any], jobs: Collection[Job]) -> None:
    """Adds each job's input to the document, and the jobs to the route that requests them."""
    schemas = document["components"]["schemas"]
    for job in jobs:
        schema = job.input_model.model_json_schema(ref_template=REF_TEMPLATE)
        schemas |= schema.pop("$defs", {})
        schemas[job.input_model.__name__] = _as_asked(job, schema)
    inputs = [reference_to(job.input_model) for job in jobs]
    schemas[JobRequest.__name__]["properties"]["input"] |= {"anyOf": inputs} if inputs else {}
    operation = document["paths"][JOB_PATH]["post"]
    lines = [f"- `{job.name}`: {job.summary}" for job in jobs]
    operation["description"] = "\n".join([operation["description"], "", *lines])
    [asked] = [each for each in operation["parameters"] if each["name"] == "job"]
    asked["schema"]["enum"] = [job.name for job in jobs]
    operation["requestBody"]["content"]["application/json"]["examples"] = {
        job.name: {"summary": f"{job.name}: {job.summary}", "value": EXAMPLES[job.name]}
        for job in jobs
        if job.name in EXAMPLES
    }


def _as_asked(job: Job, schema: dict[str, Any]) -> dict[str, Any]:
    """Returns the schema of a job's input as a caller gives it: the key names the tenant, and
    runs of the job set the internal fields.
    """
    optional = {"tenant_id", *(["period"] if job.period is not None else [])}
    hidden = {"tenant_id", *internal_fields(job.input_model)}
    properties = {name: field for name, field in schema["properties"].items() if name not in hidden}
    required = [name for name in schema.get("required", ()) if name not in optional]
    shown: dict[str, Any] = {
        "properties": properties,
        "required": required,
        "description": f"The input of `{job.name}`: {schema.get('description', '')}",
    }
    if job.name in EXAMPLES:
        shown["examples"] = [EXAMPLES[job.name]["input"]]
    return schema | shown
