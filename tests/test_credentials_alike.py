"""What is a credential, by its name or in a URL: the chart refuses in values what sortase refuses in run.yaml."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from sortase import redact
from sortase.redact import credentials_in

helm = pytest.importorskip("helm_python.chart", reason="pip install helm-python-sdk")

TEMPLATE = Path(__file__).resolve().parents[1] / "helm" / "sortase" / "templates" / "_secrets.tpl"
WORDS = ("secret", "password", "passwd", "credential", "credentials", "token", "key", "keys", "code", "sig", "tokens")
OWNERS = ("access", "account", "api", "auth", "aws", "bearer", "hf", "hub", "id", "personal", "private", "public")
OWNERS += ("refresh", "secret", "security", "session", "shared", "signing", "sort", "tracking", "pad")
NAMES = [
    *WORDS,
    *(f"{owner}{between}{word}" for owner, between, word in itertools.product(OWNERS, ("", "_", "-", "."), WORDS)),
    *(f"{name}_id" for name in ("access_key", "secret-key", "api_token", "password", "key")),
    *(
        "AWS_SECRET_ACCESS_KEY",
        "My.Password",
        "x-api-key",
        "hubToken",
        "password2",
        "a b_password",
        "secrets",
        "secretary",
    ),
    *("tokenizer", "max_tokens", "pad_token", "eos_token", "num_tokens", "hub_token_", "_token", "keyword"),
]
VALUES: list[Any] = [
    "hunter22",
    "",
    "<HUB_TOKEN>",
    "<hub_token>",
    "<HUB_TOKEN",
    "<HUB_TOKEN>x",
    "<>",
    "<",
    "<A1>",
    '<A"',
    7,
    True,
    None,
    ["hunter22"],
    {"a": "hunter22"},
]
URLS = [
    *("s3://bucket/key", "s3://AK:a/b+c@bucket/x", "s3://AK:@bucket", "s3://:pw@bucket", "postgres://me:pw@db:5432/x"),
    *(
        "https://ghp_x@host/",
        "http://host:8080/a@b",
        "hdfs://node:8020/data@v2",
        "hdfs://node:65536/d@v",
        "s3://a:1@b/c",
    ),
    *(
        "s3://AK:123456@b/d",
        "https://h/x?X-Amz-Signature=1",
        "https://h/x?a=1&token=b",
        "https://h/x?sig=1;b=2",
        "no url",
    ),
    *("https://h/x?signature=", "gs://b/x?code=1", "file:///a:b@c", "http://[::1]:80/a@b", "https://h/x#a:b@c"),
    *(
        "HTTPS://TOKEN@host",
        "s3://b/x?hub_token=1",
        "https://h/?next=s3://a:b@c",
        "me:pw@host",
        "s3://a:b c@d",
        "s3://u:p@",
    ),
    *(
        "https://h/x?password=a",
        "https://h/x?pad_token=a",
        "s3://b/a=b?c=d",
        "a s3://x:y/z@b in words",
        "s3://b/'a:b@c'",
    ),
]
VARIABLES = [
    *NAMES,
    *(f"{name}_{end}" for name in ("SECRET", "key", "PASS", "x") for end in ("FILE", "path", "DIR", "FILES")),
]


@pytest.fixture(scope="module")
def chart(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One that tells what the template says of each of a list."""
    folder = tmp_path_factory.mktemp("chart")
    (folder / "templates").mkdir()
    (folder / "Chart.yaml").write_text("apiVersion: v2\nname: said\nversion: 0.1.0\n")
    shutil.copy(TEMPLATE, folder / "templates")
    said = "{{ range .Values.asked }}- {{ include $.Values.template . | quote }}\n{{ end }}"
    (folder / "templates" / "said.yaml").write_text(said)
    with helm.Chart.load(folder) as loaded:
        yield loaded


def said(chart: Any, template: str, asked: list[Any]) -> list[bool]:
    (text,) = chart.render(values={"template": template, "asked": asked}, name="x", namespace="x").values()
    return ["true" in answer for answer in yaml.load(text, yaml.CSafeLoader)]


def test_of_settings(chart: Any) -> None:
    asked: list[Any] = [{name: "hunter22"} for name in NAMES]
    asked += [{name: value} for name in ("hub_token", "password", "column") for value in VALUES]
    asked += [{"a": [{name: "hunter22"}]} for name in ("password", "column")]
    ours = [bool(list(credentials_in(each))) for each in asked]
    assert 100 < sum(ours) < len(ours) - 100, "both kinds are asked about"
    theirs = said(chart, "sortase.hasCredential", asked)
    assert [(json.dumps(each), a) for each, a, b in zip(asked, ours, theirs, strict=True) if a != b] == []


@pytest.mark.parametrize("place", ["setting", "list"])
def test_of_urls(chart: Any, place: str) -> None:
    asked = [{"dataset": url} if place == "setting" else {"arguments": [url]} for url in URLS]
    ours = [bool(list(credentials_in(each))) for each in asked]
    assert 10 < sum(ours) < len(ours) - 10
    theirs = said(chart, "sortase.hasCredential", asked)
    assert [(url, a) for url, a, b in zip(URLS, ours, theirs, strict=True) if a != b] == []


def test_of_names_of_the_environment(chart: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = []
    for name in VARIABLES:
        monkeypatch.setattr("os.environ", {name: "hunter22-long"})
        ours.append(redact.redacted("hunter22-long") == redact.HIDDEN)
    theirs = said(chart, "sortase.namesSecret", VARIABLES)
    assert 50 < sum(ours) < len(ours) - 10
    assert [(name, a) for name, a, b in zip(VARIABLES, ours, theirs, strict=True) if a != b] == []
