"""The files in deploy/kubernetes build, and fit the schemas of Kubernetes and the operators."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from saas.queues import Queue
from saas.settings import Settings
from temporal_tenancy.cli import TEMPORAL_VARIABLES
from temporal_tenancy.lifecycle import CANCEL_SECONDS
from tests.fixtures.deploy_programs import run_program

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "deploy" / "kubernetes"
VERSIONS = ("1.33", "1.37")  # of Kubernetes
OVERLAYS = (
    *("production", "production-versions", "production/migrate", "production/schedules"),
    *("production-by-tenant", "production-by-tenant/workers"),
)
BUILD_LABEL = "saas.example/build"
BUILD = "-2026-11-28"  # the suffix of a build's workers
CUSTOM = json.loads((Path(__file__).parent / "custom_resources.json").read_text())["schemas"]

Resource = dict[str, Any]
Built = dict[str, list[Resource]]


@pytest.fixture(scope="module")
def built() -> Built:
    """What `kubectl apply -k` would send, by overlay."""
    resources: Built = {}
    for name in OVERLAYS:
        code, told = run_program("kubectl", "kustomize", str(FOLDER / "overlays" / name))
        assert code == 0, told
        resources[name] = list(yaml.safe_load_all(told))
    return resources


def pods(resources: list[Resource]) -> Iterator[tuple[str, Resource]]:
    """The pods' templates, by the name of what makes them."""
    for resource in resources:
        if resource["kind"] in ("Deployment", "Job", "WorkerDeployment"):
            yield resource["metadata"]["name"], resource["spec"]["template"]


def environment(pod: Resource) -> dict[str, Any]:
    [container] = pod["spec"]["containers"]
    return {each["name"]: each["valueFrom"]["secretKeyRef"] for each in container["env"]}


@pytest.fixture(scope="module")
def fault() -> Iterator[Callable[[Resource, str], str | None]]:
    """Returns how a resource differs from its schema in a version of Kubernetes, or None."""
    missing = "the group deploy is not installed"
    jsonschema = pytest.importorskip("jsonschema", reason=missing)
    kubernetes_validate = pytest.importorskip("kubernetes_validate", reason=missing)
    read = cache(kubernetes_validate.utils.schema_contents)  # it reads megabytes for each resource

    def check(resource: Resource, version: str) -> str | None:
        schema = CUSTOM.get(f"{resource['apiVersion']} {resource['kind']}")
        try:
            if schema is None:
                kubernetes_validate.validate(resource, version, strict=True)
            else:
                jsonschema.validate(resource, schema)
        except jsonschema.ValidationError as error:
            return f"{resource['kind']}: {error.message}"
        if resource["kind"] == "WorkerResourceTemplate":  # the controller names what it makes
            template = resource["spec"]["template"]
            assert template["spec"]["scaleTargetRef"] == {}
            spec = template["spec"] | {"scaleTargetRef": {"name": "made"}}
            return check(template | {"metadata": {"name": "made"}, "spec": spec}, version)
        if resource["kind"] == "WorkerDeployment":  # its template is that of a Deployment
            labels = resource["spec"]["template"]["metadata"]["labels"]
            spec = {
                "selector": {"matchLabels": labels},
                "template": resource["spec"]["template"],
            }
            deployment = {"apiVersion": "apps/v1", "kind": "Deployment"}
            return check({**deployment, "metadata": resource["metadata"], "spec": spec}, version)
        return None

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kubernetes_validate.utils, "schema_contents", read)
        yield check


@pytest.mark.parametrize("version", VERSIONS)
def test_every_resource_fits_its_schema(
    built: Built, fault: Callable[[Resource, str], str | None], version: str
) -> None:
    each = {json.dumps(one): one for resources in built.values() for one in resources}
    for resource in each.values():
        assert fault(resource, version) is None
    seen = {resource["kind"]: resource for resource in each.values()}
    assert set(seen) >= {
        *("ConfigMap", "Deployment", "Job", "NetworkPolicy", "PodDisruptionBudget", "Service"),
        *("PersistentVolumeClaim", "ServiceAccount", "ScaledObject", "TriggerAuthentication"),
        *("Connection", "WorkerDeployment", "WorkerResourceTemplate"),
    }
    for kind, resource in seen.items():  # each schema refuses something
        where = "data" if kind == "ConfigMap" else "spec"
        wrong = resource | {where: "no such thing"} if where in resource else resource | {"x": 1}
        assert fault(wrong, version) is not None, kind
    for kind in ("Deployment", "WorkerDeployment", "ScaledObject"):
        wrong = {**seen[kind], "spec": {**seen[kind]["spec"], "mistyped": 1}}
        assert "mistyped" in str(fault(wrong, version))


def test_no_pod_may_do_more_than_it_needs(built: Built) -> None:
    for resources in built.values():
        for name, pod in pods(resources):
            spec = pod["spec"]
            assert spec["automountServiceAccountToken"] is False, name
            assert spec["securityContext"]["runAsNonRoot"] is True, name
            assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
            for container in spec["containers"]:
                assert container["securityContext"] == {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                }, name
                assert {"requests", "limits"} == set(container["resources"]), name
                assert re.fullmatch(r"registry\.example/saas:[\d.]+", container["image"]), name


def test_the_pods_run_as_the_images_user(built: Built) -> None:
    [line] = re.findall(r"^USER (.*)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    for resources in built.values():
        for _, pod in pods(resources):
            context = pod["spec"]["securityContext"]
            assert f"{context['runAsUser']}:{context['runAsGroup']}" == line


@pytest.mark.parametrize("overlay", ["production", "production-versions"])
def test_an_overlay_has_a_process_for_each_command(built: Built, overlay: str) -> None:
    once = {"migrate", "schedules"}
    made = {name for name, _ in pods(built[overlay])}
    assert made == {*(f"worker-{queue}" for queue in Queue), "relay", "web"}
    assert {name for each in once for name, _ in pods(built[f"production/{each}"])} == once


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_commands_are_those_of_the_compose_file(built: Built, overlay: str) -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    for name, pod in pods(built[overlay]):
        args = pod["spec"]["containers"][0]["args"]
        assert args == services[without_build(name)]["command"], name


def without_build(name: str) -> str:
    """Returns a process's name in the compose file."""
    return name.removesuffix(BUILD)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_pod_has_the_secrets_that_it_uses_and_no_file_has_one(built: Built, overlay: str) -> None:
    shared = {"temporal", "metrics", "sentry"}
    tenant = {"database-tenant", "database-platform", "storage", "redis", *shared}
    uses = {
        "relay": {"database-relay", "mail", "alerts", *shared},
        "schedules": {"temporal"},
        "web": {"web", *tenant},
        "migrate": {f"database-{role}" for role in ("owner", "tenant", "platform", "relay")},
    }
    for name, pod in pods(built[overlay]):
        assert {each["name"] for each in environment(pod).values()} == uses.get(
            name, {"mail", "alerts", *tenant}
        ), name
    assert not [each for each in built[overlay] if each["kind"] == "Secret"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_variable_is_a_setting(built: Built, overlay: str) -> None:
    known = {name.upper() for name in Settings.model_fields} | set(TEMPORAL_VARIABLES)
    for resource in built[overlay]:
        names = set(resource["data"]) if resource["kind"] == "ConfigMap" else set()
        assert {name for name in names if not name.startswith("AWS_")} <= known
    for _, pod in pods(built[overlay]):
        assert {name for name in environment(pod) if not name.startswith("AWS_")} <= known


def test_the_overlays_have_the_same_settings(built: Built) -> None:
    every = {
        overlay: {
            name: value
            for each in resources
            if each["kind"] == "ConfigMap"
            for name, value in each["data"].items()
            if name not in ("WORKER_DEPLOYMENT_NAME", "WORKER_BUILD_ID")
        }
        for overlay, resources in built.items()
        if overlay != "production/migrate"
    }
    assert every["production"]["WEB_URL"] == "https://app.saas.example"
    for overlay, settings in every.items():
        assert settings == every["production"], overlay


def test_a_job_may_reach_the_temporal_server_as_the_processes_do(built: Built) -> None:
    [policy] = [
        each["spec"]
        for each in built["production"]
        if (each["kind"], each["metadata"]["name"]) == ("NetworkPolicy", "temporal")
    ]
    [[allowed]] = [[each["values"] for each in policy["podSelector"]["matchExpressions"]]]
    for overlay in OVERLAYS:
        for name, pod in pods(built[overlay]):
            asks = "TEMPORAL_API_KEY" in environment(pod)
            component = pod["metadata"]["labels"]["app.kubernetes.io/component"]
            assert (component in allowed) is asks, name


def test_the_workers_of_two_builds_run_beside_each_other(built: Built, tmp_path: Path) -> None:
    folder = tmp_path / "kubernetes"
    shutil.copytree(FOLDER, folder)
    overlays = folder / "overlays"
    file = overlays / "production-by-tenant" / "workers" / "kustomization.yaml"
    file.write_text(
        file.read_text().replace("2026.11.28", "2026.11.29").replace(BUILD, "-2026-11-29")
    )
    code, told = run_program("kubectl", "kustomize", str(file.parent))
    assert code == 0, told
    old, new = built["production-by-tenant/workers"], list(yaml.safe_load_all(told))
    others = built["production-by-tenant"]
    assert names(old).isdisjoint(names(new) | names(others))
    assert names(old) | names(others) >= {
        *(("Deployment", f"worker-{queue}{BUILD}") for queue in Queue),
        *(("Deployment", name) for name in ("relay", "web")),
    }
    for each in old:  # so that one command removes what belongs to a build
        assert each["metadata"]["labels"][BUILD_LABEL] == "2026.11.28"
        if each["kind"] in ("Deployment", "PodDisruptionBudget"):
            assert each["spec"]["selector"]["matchLabels"][BUILD_LABEL] == "2026.11.28"
    for resources, build in ((old, "2026.11.28"), (new, "2026.11.29")):
        [settings] = [each for each in resources if each["kind"] == "ConfigMap"]
        assert settings["data"]["WORKER_DEPLOYMENT_NAME"] == "saas"
        assert settings["data"]["WORKER_BUILD_ID"] == build
        for _, pod in pods(resources):
            [source] = pod["spec"]["containers"][0]["envFrom"]
            assert source["configMapRef"]["name"] == settings["metadata"]["name"]


def names(resources: list[Resource]) -> set[tuple[str, str]]:
    return {(each["kind"], each["metadata"]["name"]) for each in resources}


@pytest.mark.parametrize("overlay", ["production", "production-versions"])
def test_a_pod_has_the_time_that_its_process_takes_to_end(built: Built, overlay: str) -> None:
    [settings] = [each["data"] for each in built[overlay] if each["kind"] == "ConfigMap"]
    grace = float(settings["WORKER_GRACE_SECONDS"]) + CANCEL_SECONDS
    made = dict(pods(built[overlay]))
    for queue in Queue:
        assert made[f"worker-{queue}"]["spec"]["terminationGracePeriodSeconds"] > grace
    for name, pod in made.items():
        [container] = pod["spec"]["containers"]
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        setting = "WEB_HEALTH_PORT" if name == "web" else "WORKER_HEALTH_PORT"
        assert ports["health"] == int(settings[setting]), name
        assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "health"}
        assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "health"}


def test_an_autoscaler_and_a_file_do_not_both_set_the_replicas(built: Built) -> None:
    scaled = {
        each["spec"]["scaleTargetRef"]["name"]: each["spec"]["triggers"][0]["metadata"]
        for each in built["production"]
        if each["kind"] == "ScaledObject"
    }
    assert {name: trigger["taskQueue"] for name, trigger in scaled.items()} == {
        f"worker-{queue}": queue for queue in Queue
    }
    for resource in built["production"]:
        if resource["kind"] == "Deployment":
            named = resource["metadata"]["name"] in scaled
            assert ("replicas" in resource["spec"]) is not named


def test_every_pod_is_in_a_budget_and_closed_but_for_what_is_named(built: Built) -> None:
    resources = built["production"]
    budgets = [each["spec"] for each in resources if each["kind"] == "PodDisruptionBudget"]
    policies = [each["spec"] for each in resources if each["kind"] == "NetworkPolicy"]
    for name, pod in pods(resources):
        labels = pod["metadata"]["labels"].items()
        matching = [each for each in budgets if each["selector"]["matchLabels"].items() <= labels]
        assert len(matching) == 1, name
        closed = [
            each
            for each in policies
            if each["podSelector"].get("matchLabels", {"": ""}).items() <= labels
            and "ingress" not in each
            and "egress" not in each
        ]
        assert [each["policyTypes"] for each in closed] == [["Ingress", "Egress"]], name
