"""Each tracker, by its own library: what it is sent is read back, and the script's own run stays as
the script has it.
"""

from __future__ import annotations

import json
import math
import random
import socket
import time
import urllib.request
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import seismograd
from seismograd.cli import main
from seismograd.errors import SeismogradError
from seismograd.schema import Note, State
from seismograd.settings.tracker_options import TrackerOption, parse_trackers
from seismograd.sinks import tracker_queue
from seismograd.sinks.tracker import Alert, RunStart, TrackedStep
from seismograd.sinks.tracker_sink import TrackerSink
from tests.synthetic import block, finding

NUM_STEPS = 5


def send(tmp_path: Path, text: str) -> list[str]:
    """Send five steps, the last one not finite, and a finding; return what was said."""
    (option,) = parse_trackers([text])
    run = RunStart("train.py", "2026-01-02T03:04:05Z", "2.13.0", lambda: tmp_path / "runs" / "one")
    notes: list[Note] = []
    drawn = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # noqa: NPY002
    sink = TrackerSink([option], run, notes.append)
    states = np.full((NUM_STEPS, 2), State.FINITE, np.uint8)
    states[-1, 0] = State.NONFINITE
    norms = np.arange(1.0, NUM_STEPS + 1)[:, None] * np.ones((1, 2))
    norms[-1, 0] = np.nan
    exponents = np.zeros((1, 2, 64))
    exponents[0, :, 40:44] = 8
    sampled = {"exponents": exponents}
    sink.observe(block(norms, state=states, loss=np.arange(5.0), samples=sampled, sample_rows=[0]))
    sink.finding(finding())
    sink.close()
    assert random.getstate() == drawn[0]
    assert np.random.get_state()[1].tolist() == drawn[1]  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), drawn[2])
    return [note.message.render() for note in notes]


def test_jsonl(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    assert send(tmp_path, "jsonl") == []
    text = (tmp_path / "runs" / "one.jsonl").read_text()
    head, *steps, found = map(json.loads, text.splitlines())
    assert head["script"] == "train.py"
    assert [step["step"] for step in steps] == list(range(NUM_STEPS))
    assert [step["loss"] for step in steps] == [0, 1, 2, 3, 4]
    assert steps[-1]["grad_norm"] == "nan"
    assert steps[-1]["state"] == State.NONFINITE
    assert (found["finding"], found["severity"]) == ("SG201", "error")


def test_a_path_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    said = send(tmp_path, f"jsonl:{tmp_path}/nowhere/x.jsonl")
    assert said[0].startswith("jsonl failed: FileNotFoundError")
    assert said[1] == "jsonl did not get everything; not sent: 6"


def test_tensorboard_reads_back_what_it_was_sent(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert send(tmp_path, f"tensorboard:{tmp_path / 'tb'}") == []
    read = EventAccumulator(str(tmp_path / "tb"))
    read.Reload()
    norms = read.Scalars("seismograd/grad_norm")
    assert [each.step for each in norms] == list(range(NUM_STEPS))
    expected = [math.sqrt(2) * step for step in range(1, NUM_STEPS)]
    assert [each.value for each in norms[:-1]] == pytest.approx(expected)
    assert math.isnan(norms[-1].value)
    assert read.Scalars("seismograd/state")[-1].value == State.NONFINITE
    (histogram,) = [each.histogram_value for each in read.Histograms("seismograd/log2_gradient")]
    assert histogram.bucket_limit == [-16, -14, -12, -10, -8]
    assert histogram.bucket == [0, 16, 16, 16, 16]
    (text,) = read.Tensors("seismograd/SG201/text_summary")
    assert b"net.0.weight has a NaN" in text.tensor_proto.string_val[0]


@pytest.fixture
def wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    module = pytest.importorskip("wandb")
    monkeypatch.setattr(tracker_queue, "PATIENCE_S", 100.0)  # it starts a program of its own
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    return module


def wandb_records(data: bytes) -> Iterator[bytes]:
    """The records of an offline run: LevelDB's log format behind a head of 7 bytes."""
    place, record = 7, b""
    while place + 7 <= len(data):
        left = 2**15 - place % 2**15
        if left < 7:  # no room for a head: zeros up to the next block
            place += left
            continue
        size, kind = int.from_bytes(data[place + 4 : place + 6], "little"), data[place + 6]
        record += data[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):  # whole, or its last part
            yield record
            record = b""


def wandb_rows(folder: Path) -> list[dict[str, Any]]:
    """The rows of history of the one run here, once W&B's own program has written its end."""
    (path,) = folder.glob("wandb/offline-run-*/*.wandb")
    waited_s = 0.0
    while not any(kind == "exit" for kind, _ in wandb_history(path)) and waited_s < 30:
        time.sleep(0.1)
        waited_s += 0.1
    return [row for kind, row in wandb_history(path) if kind == "history"]


def wandb_history(path: Path) -> list[tuple[str, dict[str, Any]]]:
    from wandb.proto.wandb_internal_pb2 import Record

    found: list[tuple[str, dict[str, Any]]] = []
    for data in wandb_records(path.read_bytes()):
        record = Record.FromString(data)
        items = record.history.item
        names = ["/".join(each.nested_key) or each.key for each in items]
        values = [json.loads(each.value_json) for each in items]
        found.append((record.WhichOneof("record_type"), dict(zip(names, values, strict=True))))
    return found


@pytest.mark.slow
def test_wandb_has_a_run_of_ours_that_the_script_does_not_see(tmp_path: Path, wandb: Any) -> None:
    assert send(tmp_path, "wandb:mine") == []
    assert wandb.run is None
    rows = wandb_rows(tmp_path)
    assert [row["seismograd/step"] for row in rows] == list(range(NUM_STEPS))
    assert rows[1]["seismograd/grad_norm"] == pytest.approx(2 * math.sqrt(2))
    assert math.isnan(float(rows[-1]["seismograd/grad_norm"]))


@pytest.mark.slow
def test_wandb_keeps_the_steps_of_the_scripts_own_run(tmp_path: Path, wandb: Any) -> None:
    with wandb.init(project="theirs", dir=tmp_path) as own:
        own.log({"theirs": 0.0}, step=0)
        assert send(tmp_path, "wandb") == []
        own.log({"theirs": 1.0}, step=1)
        own.log({"theirs": 2.0}, step=2)
        assert wandb.run is own
    rows = wandb_rows(tmp_path)
    assert [(row["_step"], row["theirs"]) for row in rows] == [(0, 0.0), (1, 1.0), (2, 2.0)]
    assert [row.get("seismograd/step") for row in rows].count(NUM_STEPS - 1) == 1


def test_mlflow_has_a_run_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = own_mlflow(tmp_path, monkeypatch)
    # such a number it completes with digits that the module `random` draws
    number = SimpleNamespace(int=10**18 + 10**16)
    monkeypatch.setattr("mlflow.utils.name_utils.uuid", SimpleNamespace(uuid4=lambda: number))
    assert send(tmp_path, "mlflow:mine") == []
    assert mlflow.last_active_run() is None
    (run,) = mlflow.search_runs(search_all_experiments=True, output_format="list")
    assert run.info.status == "FINISHED"
    assert_in_mlflow(run.info.run_id)
    assert "net.0.weight has a NaN" in run.data.tags["seismograd.SG201"]


def test_mlflow_takes_the_scripts_own_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = own_mlflow(tmp_path, monkeypatch)
    with mlflow.start_run() as own:
        mlflow.log_metric("theirs", 1.0)
        assert send(tmp_path, "mlflow") == []
        assert mlflow.active_run().info.run_id == own.info.run_id
    (run,) = mlflow.search_runs(search_all_experiments=True, output_format="list")
    assert run.data.metrics["theirs"] == 1.0
    assert_in_mlflow(own.info.run_id)


def own_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setattr(tracker_queue, "PATIENCE_S", 100.0)  # it is slow to import
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # a database needs SQLAlchemy
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("MLFLOW_ENABLE_ASYNC_LOGGING", "false")
    monkeypatch.chdir(tmp_path)
    mlflow.set_tracking_uri(f"file://{tmp_path}/mlruns")
    return mlflow


def assert_in_mlflow(run_id: str) -> None:
    from mlflow.tracking import MlflowClient

    found = MlflowClient().get_metric_history(run_id, "seismograd/grad_norm")
    assert [each.step for each in found] == list(range(NUM_STEPS))
    assert found[1].value == pytest.approx(2 * math.sqrt(2))
    assert math.isnan(found[-1].value)


def test_trackio_has_a_run_of_ours_and_prints_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    trackio = pytest.importorskip("trackio")
    for name in ("sqlite_storage", "utils"):
        monkeypatch.setattr(f"trackio.{name}.TRACKIO_DIR", tmp_path / "trackio")
    monkeypatch.setattr(tracker_queue, "PATIENCE_S", 100.0)
    assert send(tmp_path, "trackio:mine") == []
    assert capfd.readouterr().out == ""
    assert trackio.context_vars.current_run.get() is None
    rows = trackio.SQLiteStorage.get_logs("mine", "one")
    assert [row["step"] for row in rows] == list(range(NUM_STEPS))
    assert rows[1]["seismograd/grad_norm"] == pytest.approx(2 * math.sqrt(2))
    assert math.isnan(float(rows[-1]["seismograd/grad_norm"]))
    assert sum(rows[0]["seismograd/log2_gradient"]["values"]) == 64
    assert trackio.SQLiteStorage.get_run_config("mine", "one")["script"] == "train.py"
    (alert,) = trackio.SQLiteStorage.get_alerts("mine", "one")
    assert (alert["title"].split()[0], alert["level"]) == ("SG201", "error")


def test_swanlab_takes_the_scripts_own_run_and_leaves_its_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    swanlab = pytest.importorskip("swanlab")
    monkeypatch.setattr(tracker_queue, "PATIENCE_S", 100.0)
    said = send(tmp_path, "swanlab")
    assert said[0].startswith("swanlab failed: RuntimeError: the script has no SwanLab run")
    own = swanlab.init(project="theirs", mode="offline", log_dir=str(tmp_path / "swanlog"))
    sent: list[tuple[dict[str, Any], int]] = []
    emit = own._components.emitter.emit

    def keep(event: Any) -> None:
        if hasattr(event, "data"):
            sent.append((dict(event.data), event.step))
        emit(event)

    monkeypatch.setattr(own._components.emitter, "emit", keep)
    try:
        own.log({"theirs": 0.0})
        assert send(tmp_path, "swanlab") == []
        own.log({"theirs": 1.0})
        assert swanlab.get_run() is own
    finally:
        own.finish()
    theirs = [step for data, step in sent if "theirs" in data]
    assert theirs[1] == theirs[0] + 1
    ours = [(data, step) for data, step in sent if "seismograd/grad_norm" in data]
    assert [step for _, step in ours] == list(range(NUM_STEPS))
    assert math.isnan(ours[-1][0]["seismograd/grad_norm"])
    assert any("seismograd/SG201" in data for data, _ in sent)
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*.swanlab"))
    assert b"seismograd/grad_norm" in written


def test_prometheus_serves_the_newest_step_to_this_machine(tmp_path: Path) -> None:
    pytest.importorskip("prometheus_client")
    from prometheus_client.parser import text_string_to_metric_families

    from seismograd.sinks.adapters.prometheus_tracker import PrometheusTracker

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    tracker = PrometheusTracker(str(port))
    tracker.begin(RunStart("train.py", "2026-01-02", "2.13.0", lambda: tmp_path / "one"))
    try:
        tracker.log(TrackedStep(6, 0.0, {"grad_norm": 2.0, "module/fc1": 1.0, "module/fc2": 3.0}))
        tracker.log(TrackedStep(7, 0.0, {"applied_norm": math.nan, "module/fc2": 4.0}))
        tracker.alert(Alert(3, "SG201", "nonfinite-gradient", "error", "text"))
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            text = answer.read().decode()
    finally:
        tracker.close()
    samples = [each for family in text_string_to_metric_families(text) for each in family.samples]
    values = {each.name: each.value for each in samples if not each.labels}
    assert values["seismograd_step"] == 7
    assert math.isnan(values["seismograd_applied_norm"])
    assert "seismograd_grad_norm" not in values  # which this step has none of
    modules = {each.labels["module"]: each.value for each in samples if "module" in each.labels}
    assert modules == {"fc2": 4.0}
    (found,) = [each.labels for each in samples if each.name == "seismograd_finding"]
    assert (found["code"], found["step"]) == ("SG201", "3")
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10)


def test_what_is_left_out_by_every_is_not_sent_as_a_number(tmp_path: Path) -> None:
    trained(tmp_path / "run", 24, to=[f"jsonl:{tmp_path / 'x.jsonl'}"], every=10)
    _, *lines = map(json.loads, (tmp_path / "x.jsonl").read_text().splitlines())
    steps = {line["step"]: line for line in lines if "finding" not in line}
    assert list(steps) == list(range(24))
    measured = [step for step, line in steps.items() if "grad_norm" in line]
    assert measured == [*range(10), 10, 20]
    assert all("loss" in line for line in steps.values())
    assert steps[11]["state"] == State.NOT_MEASURED
    assert not any(name.startswith("module/") for name in steps[11])


def trained(out: Path, num_steps: int = 8, **options: Any) -> tuple[torch.Tensor, Any]:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with seismograd.watch(model, optimizer, out=out, quiet=True, **options) as recording:
        for _ in range(num_steps):
            optimizer.zero_grad()
            model(torch.randn(16, 4)).square().mean().backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
            optimizer.step()
    return model[0].weight.detach().clone(), recording.run


def test_a_training_is_sent_whole_and_stays_the_same_bit_by_bit(tmp_path: Path) -> None:
    alone, _ = trained(tmp_path / "alone")
    weights, run = trained(tmp_path / "sent", to=[f"jsonl:{tmp_path / 'x.jsonl'}"])
    assert torch.equal(weights, alone)
    _, *lines = map(json.loads, (tmp_path / "x.jsonl").read_text().splitlines())
    steps = [line for line in lines if "finding" not in line]
    np.testing.assert_array_equal([each["grad_norm"] for each in steps], run.steps["grad_norm"])
    assert {"module/0", "module/2", "clip_share"} <= steps[0].keys()
    found = {line["finding"] for line in lines if "finding" in line}
    assert found == {each.code for each in run.findings}


class Raises:
    def __init__(self, target: str) -> None:
        self.target = target

    def begin(self, run: RunStart) -> None:
        raise ConnectionError(f"{self.target} cannot be reached")


def test_another_package_adds_a_tracker_which_is_loaded_only_when_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []

    def load() -> type[Raises]:
        loaded.append("added")
        return Raises

    def entry_points(group: str, name: str) -> list[Any]:
        added = SimpleNamespace(name="added", load=load)
        return [added] if (group, name) == ("seismograd.sinks", "added") else []

    monkeypatch.setattr("seismograd.settings.tracker_options.entry_points", entry_points)
    alone, _ = trained(tmp_path / "alone", to=[f"jsonl:{tmp_path / 'x.jsonl'}"])
    assert loaded == []
    assert parse_trackers(["added:a:b"]) == (TrackerOption("added", "a:b"),)
    weights, run = trained(tmp_path / "sent", to=["added:there"])
    assert torch.equal(weights, alone)
    assert loaded == ["added"]
    (note, lost) = [each for each in run.notes if each.kind == "tracker"]
    assert "added failed: ConnectionError: there cannot be reached" in note.message.render()
    assert lost.count >= 8


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nowhere", "--to does not know 'nowhere' · available names: jsonl"),
        ("", "--to does not know ''"),
        ("prometheus:http", "--to prometheus needs the number of a port, not 'http'"),
        ("prometheus:99999", "--to prometheus needs the number of a port"),
        ("tensorboard", "--to tensorboard does not say where · use tensorboard:DIR"),
    ],
)
def test_bad_input_is_one_line(
    text: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "train.py"
    script.write_text("raise SystemExit(5)")
    assert main(["--lang", "en", "run", "--to", text, str(script)]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    with pytest.raises(SeismogradError):
        seismograd.watch(to=[text], out=tmp_path / "run")


def test_a_tracker_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(SeismogradError) as raised:
        parse_trackers(["wandb"])
    assert "pip install 'seismograd[wandb]'" in raised.value.line()
    assert metadata.entry_points(group="seismograd.sinks") is not None
