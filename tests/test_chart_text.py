"""What Kubernetes wants as text the chart prints as text, whatever YAML would take it for.

The kinds are those of public reports: cert-manager/cert-manager #7557, openfaas/faas-netes #1168 and
kubernetes/autoscaler #3147 (annotations), netbox-community/netbox-chart #1034 (names of releases).
"""

from __future__ import annotations

import copy
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import test_chart
from sortase.cli import parser
from sortase.config.load import check, dump, mapping, parse, settings_of
from sortase.deploy.chart import VALUES, read_values, rendered
from sortase.deploy.submission import Submission
from sortase.deploy.targets import submission_of

TYPED = ["true", "4711", '"007"', "1e3", "47110000", "on", '"12:30"']
MAPS = ("labels", "annotations", "nodeSelector", "matchLabels")
NAMES = ("name", "secretName", "priorityClassName", "groupName", "serviceAccountName", "namespace", "claimName")
FIELDS = (*NAMES, "key", "value", "topologyKey", "mountPath", "subPath", "image", "timeZone", "interval", "rayVersion")
TEXT = (*FIELDS, "effect", "operator", "prefix", "path", "cidr")


class GoLoader(test_chart.LOADER):  # type: ignore[misc, name-defined]
    """As Kubernetes reads: YAML 1.1, but 1e3 is a number."""


GoLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+[eE][-+]?[0-9]+$"), list("-+.0123456789")
)


def in_chart(values: dict[str, Any], name: str = "demo") -> list[dict[str, Any]]:
    made = test_chart.texts(json.dumps(values), name)
    return [item for text in made for item in yaml.load_all(text, GoLoader) if item]


def odd(item: Any, path: str = "") -> Iterator[str]:
    """Where text has to stand and something else does."""
    if isinstance(item, list):
        for value in item:
            yield from odd(value, path)
    if not isinstance(item, dict):
        return
    for key, value in item.items():
        here = f"{path}.{key}"
        if not isinstance(key, str):
            yield f"{here}: a key"
        elif key in MAPS and isinstance(value, dict):
            yield from (f"{here}.{inner}={text!r}" for inner, text in value.items() if not isinstance(text, str))
        elif key in TEXT and isinstance(value, bool | int | float):
            yield f"{here}={value!r}"
        yield from odd(value, here)


def everywhere(typed: str) -> str:
    """Values with ``typed`` in each place that the schema leaves free."""
    pod = f"""
    labels: {{team: {typed}}}
    annotations: {{cluster-autoscaler.kubernetes.io/safe-to-evict: {typed}}}
    nodeSelector: {{pool: {typed}}}
    tolerations: [{{key: {typed}, operator: Equal, value: {typed}, tolerationSeconds: 30, effect: NoExecute}}]
    topologySpreadConstraints:
      - maxSkew: 1
        topologyKey: {typed}
        whenUnsatisfiable: DoNotSchedule
        labelSelector: {{matchLabels: {{a: {typed}}}}}
    affinity:
      podAntiAffinity:
        preferredDuringSchedulingIgnoredDuringExecution:
          - weight: 50
            podAffinityTerm:
              topologyKey: {typed}
              labelSelector: {{matchLabels: {{weight: {typed}}}}}
"""
    return f"""
commonLabels: {{cost-center: {typed}}}
imagePullSecrets: [{typed}]
extraEnv:
  - {{name: OMP_NUM_THREADS, value: {typed}}}
  - {{name: WHO, valueFrom: {{configMapKeyRef: {{name: {typed}, key: {typed}, optional: true}}}}}}
extraEnvFrom: [{{prefix: {typed}, secretRef: {{name: {typed}, optional: false}}}}]
extraVolumes:
  - {{name: {typed}, secret: {{secretName: {typed}, defaultMode: 256, items: [{{key: {typed}, path: {typed}}}]}}}}
  - {{name: b, persistentVolumeClaim: {{claimName: {typed}, readOnly: true}}}}
  - {{name: c, csi: {{driver: {typed}, readOnly: true, volumeAttributes: {{mode: {typed}}}}}}}
extraVolumeMounts: [{{name: {typed}, mountPath: {typed}, subPath: {typed}, readOnly: true}}]
serviceAccount: {{annotations: {{role: {typed}}}}}
networkPolicy: {{from: [{{podSelector: {{matchLabels: {{app: {typed}}}}}}}]}}
spotTolerations: [{{key: spot, operator: Equal, value: {typed}}}]
podMonitor: {{enabled: true}}
head:{pod}
groups:
  train:
    spot: true{pod}
"""


def merged(under: Any, over: Any) -> Any:
    if not isinstance(under, dict) or not isinstance(over, dict):
        return copy.deepcopy(over)
    return {**under, **{key: merged(under.get(key), value) for key, value in over.items()}}


@pytest.mark.parametrize("typed", TYPED)
@pytest.mark.parametrize("mode", ["job", "cluster", "schedule"])
def test_free_values_are_text(mode: str, typed: str) -> None:
    given = yaml.load(everywhere(typed), GoLoader)
    if typed == "on":
        assert given["commonLabels"] == {"cost-center": True}
    documents = in_chart(merged(test_chart.values_of("cpu"), {**given, "mode": mode}))
    assert sorted({place for each in documents for place in odd(each)}) == []
    inner = [json.loads(each["data"]["rayjob.json"]) for each in documents if "rayjob.json" in each.get("data", {})]
    for document in [*documents, *inner]:
        assert not list(odd(document))
        if document["apiVersion"] == "ray.io/v1":
            test_chart.kuberays(document["kind"]).validate(document)
    cluster = test_chart.cluster_of(documents)
    (pod,) = {json.dumps(cluster["headGroupSpec"]["template"]["spec"], sort_keys=True)}
    spec = json.loads(pod)
    texts = {"true": "true", "on": "true", "1e3": "1000"}
    want = texts.get(typed, typed.strip('"'))
    assert spec["nodeSelector"] == {"pool": want}
    assert {"name": "OMP_NUM_THREADS", "value": want} in spec["containers"][0]["env"]
    assert spec["tolerations"][0]["tolerationSeconds"] == 30
    assert spec["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"][0]["weight"] == 50
    volumes = {each["name"]: each for each in spec["volumes"]}
    assert volumes[want]["secret"]["defaultMode"] == 256
    assert volumes["c"]["csi"] == {"driver": want, "readOnly": True, "volumeAttributes": {"mode": want}}


def text_settings(schema: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every setting of the values that the schema says is text."""
    for key, inner in schema.get("properties", {}).items():
        if key in ("run", "groups") and not path:
            continue
        if inner.get("type") == "string" and "pattern" not in inner:
            yield (*path, key)
        yield from text_settings(inner, (*path, key))
    if path == () and "groups" in schema["properties"]:
        yield from text_settings(schema["properties"]["groups"]["additionalProperties"], ("groups", "train"))


SCHEMA = json.loads((test_chart.CHART / "values.schema.json").read_text())
SETTINGS = sorted(set(text_settings(SCHEMA)))
QUANTITIES = {"scratch", "sharedMemory"}


def nested(path: tuple[str, ...], value: Any) -> Any:
    return {path[0]: nested(path[1:], value)} if path else value


@pytest.mark.parametrize("typed", ["true", "4711", "007", "1e3"])
@pytest.mark.parametrize("mode", ["job", "cluster", "schedule"])
def test_every_setting_that_is_text_stays_text(mode: str, typed: str) -> None:
    changes: dict[str, Any] = {"mode": mode, "podMonitor": {"enabled": True}}
    for path in SETTINGS:
        changes = merged(changes, nested(path, typed))
    documents = in_chart(merged(test_chart.values_of("cpu"), changes))
    assert sorted({place for each in documents for place in odd(each)}) == []
    cluster = test_chart.cluster_of(documents)
    assert cluster["rayVersion"] == typed
    assert cluster["headGroupSpec"]["template"]["spec"]["priorityClassName"] == typed
    assert cluster["headGroupSpec"]["template"]["spec"]["serviceAccountName"] == typed
    assert {"secretRef": {"name": typed}} in cluster["headGroupSpec"]["template"]["spec"]["containers"][0]["envFrom"]


@pytest.mark.parametrize("path", SETTINGS, ids=".".join)
def test_numbers_for_text_are_refused_by_name(path: tuple[str, ...]) -> None:
    with pytest.raises(test_chart.HelmError, match=path[-1]):
        in_chart(merged(test_chart.values_of("cpu"), nested(path, 4711)))


def number_settings(schema: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every setting of the values that is a number."""
    for key, inner in schema.get("properties", {}).items():
        if key in ("run", "groups") and not path:
            continue
        if inner.get("type") in ("integer", ["number", "null"]):
            yield (*path, key)
        yield from number_settings(inner, (*path, key))
    if path == ():
        yield from number_settings(schema["properties"]["groups"]["additionalProperties"], ("groups", "train"))


def with_exponents(item: Any, path: str = "") -> Iterator[str]:
    """Where a number has become 2.592e+06, of which Kubernetes takes none for an integer, nor Ray."""
    if isinstance(item, dict):
        for key, value in item.items():
            yield from with_exponents(value, f"{path}.{key}")
    elif isinstance(item, list):
        for value in item:
            yield from with_exponents(value, path)
    elif isinstance(item, float) or (isinstance(item, str) and "e+0" in item):
        yield path


@pytest.mark.parametrize("mode", ["job", "cluster", "schedule"])
def test_large_numbers_stay_whole(mode: str) -> None:
    """A month of seconds, as ttlSecondsAfterFinished: Helm has it as a float."""
    changes: dict[str, Any] = {"mode": mode, "autoscaling": {"enabled": True}}
    paths = set(number_settings(SCHEMA))
    assert ("job", "ttlSecondsAfterFinished") in paths
    for path in paths:
        changes = merged(changes, nested(path, 2_592_000))
    documents = in_chart(merged(test_chart.values_of("cpu"), changes))
    assert sorted({place for each in documents for place in with_exponents(each)}) == []
    assert "2592000" in json.dumps(documents)


@pytest.mark.parametrize("name", ["on", "true", "1e3", "007", "4711"])
@pytest.mark.parametrize("mode", ["job", "cluster", "schedule"])
def test_names_of_releases_and_groups_are_text(mode: str, name: str) -> None:
    values = test_chart.values_of("cpu", mode=mode)
    group = {"enabled": True, "replicas": 1, "maxReplicas": 1, "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}}
    values["groups"] = {"train": {"enabled": False}, name: group}
    documents = in_chart(values, name)
    assert sorted({place for each in documents for place in odd(each)}) == []
    assert documents[0]["metadata"]["labels"]["app.kubernetes.io/instance"] == name
    groups = {group["groupName"]: group["labels"] for group in test_chart.cluster_of(documents)["workerGroupSpecs"]}
    assert groups[name] == {"group": name}


RUN = """
run: {name: 12e4567, output: 's3://b/runs'}
data: {dataset: 's3://b/d', filter: {day: 2024-01-01, batch: 0x10, site: 12:30}}
labels: {column: 007, rename: {010: B cell, 8: 1_2}}
model: {checkpoint: 's3://b/m'}
train: {class_weights: {B cell: 2, 1_2: 1e3}}
compute: {workers: 1}
"""


def test_a_run_in_the_values_means_what_it_means_in_run_yaml(tmp_path: Path) -> None:
    """Through JSON, Helm and its YAML."""
    file = tmp_path / "values.yaml"
    file.write_text("run:\n" + "".join(f"  {line}\n" for line in RUN.strip().splitlines()))
    values = read_values([str(file)])
    assert values["run"] == settings_of(RUN)
    for settings in (settings_of(RUN), settings_of(json.dumps(values["run"]))):
        objects = rendered(Submission(check(settings), settings), {}, "default")
        (text,) = [each["data"]["run.yaml"] for each in objects if "run.yaml" in each.get("data", {})]
        made, meant = parse(text), parse(RUN)
        assert made.model_dump(exclude={"compute"}) == meant.model_dump(exclude={"compute"})


TEXTS = {
    "plain": RUN,
    "indented": "\n\n" + "".join(f"   {line}\n" for line in RUN.strip().splitlines()),
    "with Windows' ends": RUN.replace("\n", "\r\n"),
    "odd signs": f'# été: "{{{{ .Values }}}}" \\ %s \U0001f9ec\n{RUN}',
}


def overrides_of(documents: list[dict[str, Any]]) -> list[str]:
    words = shlex.split(test_chart.of_kind("RayJob", documents)["spec"]["entrypoint"])
    return list(parser().parse_args(words[1:]).set)


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_a_run_given_as_text_stays_as_it_is(text: str) -> None:
    """As by --set-file: the groups come by the command, and it means what run.yaml means on a laptop."""
    documents = in_chart(test_chart.values_of("cpu", run=text))
    made = test_chart.of_kind("ConfigMap", documents)["data"]["run.yaml"]
    assert made == text
    meant, ran = parse(text), parse(made, overrides_of(documents))
    assert ran.model_dump(exclude={"compute"}) == meant.model_dump(exclude={"compute"})
    assert ran.compute.labels == {"group": "train"}
    assert ran.labels.rename == {"010": "B cell", "8": "1_2"}


@pytest.mark.parametrize(
    "compute",
    [
        {"workers": 1},
        {"workers": 1, "labels": {"pool": "mine"}},
        {"workers": 1, "prepare": {"workers": 2}, "score": {"workers": 2, "labels": {"a": "b"}}},
        {"workers": 1, "most": {"CPU": 3}},
    ],
    ids=str,
)
def test_text_and_settings_run_on_the_same_groups(compute: dict[str, Any]) -> None:
    settings = {**settings_of(RUN), "compute": compute}
    by_settings = in_chart(test_chart.values_of("cpu", run=settings))
    by_text = in_chart(test_chart.values_of("cpu", run=dump(settings)))
    texts = [test_chart.of_kind("ConfigMap", each)["data"]["run.yaml"] for each in (by_settings, by_text)]
    assert parse(texts[0]) == parse(texts[1], overrides_of(by_text))
    assert overrides_of(by_settings) == []


def test_another_text_or_another_size_of_groups_is_another_job() -> None:
    def name(run: str, replicas: int = 2) -> str:
        documents = in_chart(
            merged(test_chart.values_of("cpu"), {"run": run, "groups": {"train": {"replicas": replicas}}})
        )
        return str(test_chart.of_kind("RayJob", documents)["metadata"]["name"])

    assert len({name(RUN), name(RUN + "# a word\n"), name(RUN, 3)}) == 3
    assert name(RUN) == name(RUN)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("run: [", "run is a text, and not that of a run.yaml"),
        (RUN + "tokenize: {input: 's3://AK:hunter22/x@b/d'}\n", "run holds a credential"),
        ("", "needs run"),
    ],
)
def test_a_text_that_is_no_run_is_refused(text: str, words: str) -> None:
    with pytest.raises(test_chart.HelmError, match=words) as caught:
        in_chart(test_chart.values_of("cpu", run=text))
    assert "hunter22" not in str(caught.value)


def test_submit_reads_a_text_in_values_as_it_is_typed(tmp_path: Path) -> None:
    file = tmp_path / "values.yaml"
    file.write_text("run: |\n" + "".join(f"  {line}\n" for line in RUN.strip().splitlines()))
    options = parser().parse_args(["submit", "-f", str(file)])
    submission, _ = submission_of(options)
    assert submission.settings == settings_of(RUN)


def test_texts_of_values_files_are_taken_as_typed() -> None:
    values = mapping(everywhere("1e3") + "storage: {existingSecret: 007}\n", "values.yaml", VALUES)
    assert values["commonLabels"] == {"cost-center": "1e3"}
    assert values["groups"]["train"]["annotations"] == {"cluster-autoscaler.kubernetes.io/safe-to-evict": "1e3"}
    assert values["extraEnv"][0] == {"name": "OMP_NUM_THREADS", "value": "1e3"}
    assert values["storage"] == {"existingSecret": "007"}
