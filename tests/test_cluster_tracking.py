"""Two workers, one story: trackers and Ray's metrics are fed by rank 0."""

from __future__ import annotations

import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cluster_data import request, train_there, wait_until
from patience import PATIENCE
from sortase.config.tracking import TrackingSpec

ray = pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module", autouse=True)
def ray_here() -> Iterator[None]:
    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        namespace="sortase",
        log_to_driver=False,
        _system_config={"metrics_report_interval_ms": 1000},
    )
    yield
    ray.shutdown()


def test_one_file_of_tensorboard_and_gauges_among_the_metrics(tmp_path: Path) -> None:
    asked = request("sequence", str(tmp_path), {"workers": 2}, num_train_epochs=40, logging_steps=1, save_steps=200)
    asked = replace(asked, tracking=TrackingSpec(to=["tensorboard"]), name="two")
    address = f"http://127.0.0.1:{ray.nodes()[0]['MetricsExportPort']}/metrics"
    seen: list[str] = []

    def scrape() -> bool:
        text = urllib.request.urlopen(address, timeout=PATIENCE).read().decode()
        seen[:] = [line for line in text.splitlines() if line.startswith("ray_sortase_")]
        return any("ray_sortase_useful_tokens_per_second" in line for line in seen)

    watching = threading.Thread(target=wait_until, args=(scrape, "a gauge"))
    watching.start()
    train_there(asked, tmp_path / "run")
    watching.join()
    values = {line.partition("{")[0]: float(line.rpartition(" ")[2]) for line in seen if 'run="two"' in line}
    assert values["ray_sortase_useful_tokens_per_second"] > 0
    assert values["ray_sortase_step_seconds"] > 0
    assert 0 <= values["ray_sortase_padding_share"] < 1
    assert values["ray_sortase_step"] > 0
    assert "ray_sortase_checkpoint_wait_seconds" in values
    assert len(list((tmp_path / "run" / "tracking" / "tensorboard").iterdir())) == 1
