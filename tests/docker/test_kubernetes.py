"""The Kubernetes manifests: valid for the schema of Kubernetes, and in step with the command line and settings of this server."""

from __future__ import annotations

import copy
import dataclasses
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from augserver.cli.serve import serve
from augserver.config import ServerConfig, parse_config
from augserver.service.address import parse_address, parse_metrics_address, require_closed

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed: pip install --group test")

FOLDER = Path(__file__).resolve().parents[2] / "docker" / "kubernetes"
VARIANTS = ("cpu", "gpu")
VERSIONS = ("1.29", "1.33")  # gRPC probes are stable since 1.27
STUCK_WORKER_S = 15  # what the supervisor of a GPU server waits beyond the drain before it kills


def objects(variant: str) -> dict[str, Any]:
    """What `kubectl apply -k` sends, by kind: the cpu files, and for gpu the patch, whose steps replace or add."""
    names = yaml.safe_load((FOLDER / "cpu" / "kustomization.yaml").read_text())["resources"]
    found = {each["kind"]: each for each in (yaml.safe_load((FOLDER / "cpu" / name).read_text()) for name in names)}
    if variant == "gpu":
        for step in yaml.safe_load((FOLDER / "gpu" / "statefulset.yaml").read_text()):
            *parents, last = step["path"].strip("/").split("/")
            target = found["StatefulSet"]
            for name in parents:
                target = target[int(name) if isinstance(target, list) else name]
            assert (last in target) == (step["op"] == "replace")
            target[last] = step["value"]
    return found


def pod(variant: str) -> Any:
    return objects(variant)["StatefulSet"]["spec"]["template"]["spec"]


def container(variant: str) -> Any:
    [only] = pod(variant)["containers"]
    return only


def config() -> ServerConfig:
    return parse_config(tomllib.loads(objects("cpu")["ConfigMap"]["data"]["server.toml"]))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_object_follows_the_schema_without_unknown_fields(variant: str, version: str) -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="not installed: pip install --group test")
    found = objects(variant)
    assert set(found) == {"ConfigMap", "Service", "StatefulSet", "PodDisruptionBudget", "NetworkPolicy"}
    for each in found.values():
        assert validate.validate(each, version, strict=True) == version
    broken = copy.deepcopy(found["StatefulSet"])
    broken["spec"]["template"]["spec"]["containers"][0]["livenessProbe"]["grcp"] = {}
    with pytest.raises(validate.ValidationError, match="grcp"):
        validate.validate(broken, version, strict=True)


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
@pytest.mark.parametrize("variant", VARIANTS)
def test_kubectl_makes_the_objects_that_are_tested_here(variant: str) -> None:
    result = subprocess.run(["kubectl", "kustomize", str(FOLDER / variant)], capture_output=True, text=True, check=True)
    made = {each["kind"]: each for each in yaml.safe_load_all(result.stdout)}
    wanted = objects(variant)
    image = made["StatefulSet"]["spec"]["template"]["spec"]["containers"][0].pop("image")
    wanted["StatefulSet"]["spec"]["template"]["spec"]["containers"][0].pop("image")
    assert made == wanted
    assert image.startswith("augserver:")


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_command_line_and_the_settings_are_those_of_this_server(variant: str) -> None:
    assert container(variant)["command"] == ["augserver"]
    name, *arguments = container(variant)["args"]
    assert name == "serve"
    options = serve.make_context("serve", list(arguments)).params
    assert options["backend"] == ("cuda" if variant == "gpu" else "cpu")
    mounts = {mount["mountPath"]: mount for mount in container(variant)["volumeMounts"]}
    assert mounts[str(options["dataset"])]["readOnly"] is True
    assert mounts[str(options["config_path"].parent)]["name"] == "config"
    require_closed(parse_address(config().listen.address), config().security, insecure=config().listen.insecure)


def test_all_ports_are_the_one_that_the_server_listens_on() -> None:
    found, port = objects("cpu"), parse_address(config().listen.address).port
    probes = [container("cpu")[name]["grpc"]["port"] for name in ("startupProbe", "readinessProbe", "livenessProbe")]
    [service], [named, measured] = found["Service"]["spec"]["ports"], container("cpu")["ports"]
    [rule, metrics] = found["NetworkPolicy"]["spec"]["ingress"]
    assert {*probes, service["port"], named["containerPort"], rule["ports"][0]["port"]} == {port}
    assert service["targetPort"] == named["name"]
    assert {measured["containerPort"], metrics["ports"][0]["port"]} == {parse_address(config().metrics.address).port}
    assert rule["from"] != metrics["from"]


def test_the_readmes_settings_for_tls_close_the_address() -> None:
    [text] = re.findall(r"```toml\n(.*?)```", (FOLDER / "README.md").read_text(), re.DOTALL)
    security = parse_config(tomllib.loads(text)).security
    require_closed(parse_address(config().listen.address), security, insecure=False)
    closed = dataclasses.replace(config(), listen=dataclasses.replace(config().listen, insecure=False))
    assert str(parse_metrics_address(closed)) == config().metrics.address


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_drain_is_cut_short_neither_by_the_kubelet_nor_by_the_liveness_probe(variant: str) -> None:
    drain_s, liveness = config().listen.drain_s, container(variant)["livenessProbe"]
    assert pod(variant)["terminationGracePeriodSeconds"] > drain_s + STUCK_WORKER_S
    assert liveness["periodSeconds"] * liveness["failureThreshold"] > drain_s


def test_selectors_find_the_servers() -> None:
    found = objects("cpu")
    labels = found["StatefulSet"]["spec"]["template"]["metadata"]["labels"]
    specs = {kind: each["spec"] for kind, each in found.items() if "spec" in each}
    assert specs["StatefulSet"]["selector"]["matchLabels"].items() <= labels.items()
    assert specs["PodDisruptionBudget"]["selector"]["matchLabels"].items() <= labels.items()
    assert specs["NetworkPolicy"]["podSelector"]["matchLabels"].items() <= labels.items()
    assert specs["Service"]["selector"].items() <= labels.items()
    assert specs["Service"]["clusterIP"] == "None"
    assert specs["StatefulSet"]["serviceName"] == found["Service"]["metadata"]["name"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_server_can_do_no_more_than_it_must(variant: str) -> None:
    assert pod(variant)["securityContext"]["runAsNonRoot"] is True
    assert pod(variant)["securityContext"]["runAsUser"] > 0
    assert pod(variant)["automountServiceAccountToken"] is False
    inside = container(variant)["securityContext"]
    assert inside == {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    assert {volume["name"] for volume in pod(variant)["volumes"] if "emptyDir" in volume} == {"tmp"}


def test_the_gpu_variant_asks_for_one_gpu_and_tolerates_its_taint() -> None:
    assert container("gpu")["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert [each["key"] for each in pod("gpu")["tolerations"]] == ["nvidia.com/gpu"]
    assert "nvidia.com/gpu" not in container("cpu")["resources"]["limits"]
