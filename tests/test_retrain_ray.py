"""Retraining as a job of a Ray head: three generations of real cells in the S3 server, on workers of the cluster."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ray_head import Head, sortase
from retrain_data import cell_settings, cells, write
from sortase import storage
from sortase.registry.models import Model
from sortase.registry.moves import history, table

pytest.importorskip("ray")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::UserWarning"),
]
ON_WORKERS = {"workers": 1, "device": "cpu", "score": {"workers": 1}}


@pytest.fixture
def generation(head: Head, s3_url: str, tmp_path: Path) -> Callable[..., tuple[int, dict[str, Any], str]]:
    """Puts cells of these wells into the bucket and retrains on the cluster: exit code, outcome, what was said."""
    config = write(tmp_path / "retrain.yaml", cell_settings(s3_url, compute=ON_WORKERS))
    out, summary = tmp_path / "out.json", tmp_path / "summary.md"

    def retrain(wells: str | None = None, **options: Any) -> tuple[int, dict[str, Any], str]:
        if wells is not None:
            cells(tmp_path / "cells.h5ad", wells, **options)
            storage.write_bytes(f"{s3_url}/cells.h5ad", (tmp_path / "cells.h5ad").read_bytes())
        words = ["--config", config, "--output-json", str(out), "--summary", str(summary), "--who", "ann"]
        done = sortase(head, "retrain", *words)
        assert not head.secrets_in(done.stdout + done.stderr + summary.read_text())
        return done.returncode, json.loads(out.read_text()), done.stdout + done.stderr

    return retrain


def test_generations_of_real_cells_on_a_ray_cluster(
    generation: Callable[..., tuple[int, dict[str, Any], str]], s3_url: str, head: Head
) -> None:
    code, first, words = generation("12")
    assert (code, first["state"]) == (0, "promoted"), words
    code, again, words = generation()
    assert (code, again["state"]) == (0, "nothing"), words

    code, second, words = generation("123456")
    assert (code, second["state"], second["champion"]) == (0, "promoted", first["version"]), words
    assert second["moved"]["context"]["who"] == "ann", "who asked, not who the job runs as"
    assert second["drift"] is not None

    code, bad, words = generation("123456", shuffled=True)
    assert (code, bad["state"]) == (6, "refused"), words
    assert "did not pass the gate: macro_f1" in bad["words"]
    code, same, words = generation()
    assert (code, same["words"]) == (6, bad["words"]), "the end of that job is final"
    assert "attached" in words

    model = Model(f"{s3_url}/registry/blood", "blood")
    assert table(model.url).aliases == {"champion": second["version"], "challenger": bad["version"]}
    assert [each["kind"] for each in history(model.url, "champion")] == ["promote", "promote"]
