"""The report is one safe, self-contained page whatever the run directory holds; the console writes plainly."""

import base64
import html.parser
import io
import json

import pytest

import tfbig
from tfbig.core.run import Run
from tfbig.report import console, panels
from tfbig.report import html as report

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()
PANELS = [
    {"kind": "matrix", "title": "M", "labels": ["a", "<b>"], "counts": [[5, 1], [0, 0]]},
    {"kind": "matrix", "title": "Large", "labels": [str(i) for i in range(30)], "counts": [[i == j for i in range(30)] for j in range(30)]},
    {"kind": "calibration", "title": "C", "ece": 0.01, "bins": [{"low": 0, "high": 0.5, "confidence": 0.3, "accuracy": 0.2, "count": 4}, {"low": 0.5, "high": 1, "confidence": None, "accuracy": None, "count": 0}]},
    {"kind": "pictures", "title": "P", "items": [{"png": PNG, "caption": "<script>alert(1)</script>"}]},
    {"kind": "pictures", "title": "None", "items": []},
    {"kind": "bars", "title": "B", "labels": ["x", "y"], "values": [1, 2], "x_label": "n"},
    {"kind": "table", "title": "T", "headers": ["h"], "rows": [["<i>"]]},
    {"kind": "curves", "title": "L", "series": [{"name": "s", "x": [1], "y": [0.5]}, {"name": "gaps", "x": [1, 2], "y": [None, float("nan")]}], "log_y": True},
    {"kind": "points", "title": "F", "log_x": True, "series": [{"name": "<b>", "x": [1, 10], "y": [0.1, 0.2], "labels": ["<b>", "1"], "line": True}, {"name": "rest", "x": [3], "y": [0.1]}]},
    {"kind": "points", "title": "One", "log_x": True, "series": [{"name": "a", "x": [0], "y": [1]}]},
    {"kind": "slices", "title": "S", "y_label": "accuracy", "parts": [{"label": "a", "x": [0.1, 1.0], "y": [1, 2], "log": True}, {"label": "b", "x": [0, 1], "y": [1, 2], "ticks": ["<i>", "longer than four"]}]},
    {"kind": "parallel", "title": "A", "axes": [{"label": "a", "ticks": [(0, "0"), (1, "<i>")]}, {"label": "b", "ticks": []}], "lines": [{"values": [0.1, None], "value": 1.0}, {"values": [0.4, 0.2], "value": 1.0}], "label": "loss", "better": "min"},
]


class Page(html.parser.HTMLParser):
    """Collects what a page would load, and its tags."""

    def __init__(self, text):
        super().__init__()
        self.loads, self.tags = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.loads += [value for name, value in attributes if name in ("src", "href", "xlink:href") and not value.startswith(("#", "data:"))]


@pytest.fixture
def run(tmp_path):
    return Run.create(tmp_path / "run", tfbig.recipe("mnist_mlp", "seed=4"), tfbig.recipe("mnist_mlp"))


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["kind"])
def test_panel(panel):
    page = Page(panels.render(panel))
    assert not page.loads and "script" not in page.tags and page.tags[0] == "figure"


def test_unknown_panel():
    with pytest.raises(ValueError, match="kind: expected one of curves, matrix.*Received: 'pie'"):
        panels.render({"kind": "pie", "title": "x"})


def test_bare_run(run):
    text = report.write(run.path).read_text()
    assert "mnist_mlp" in text and "recipe: 0" in text and not Page(text).loads


def test_full_run(run):
    interval = {"value": 0.9731, "low": 0.97, "high": 0.976, "count": 10_000}
    for step in range(1, 3000):
        run.log("train", step, {"loss": float("nan") if step == 7 else 1 / step, "accuracy": 0.5, "learning_rate": 0.1, "examples_per_s": 1e5})
    run.log("evaluation", 2999, {"split": "validation", "metrics": {"accuracy": interval, "loss": {**interval, "value": None}}})
    run.write_json("metrics.json", {"test": {"split": "test", "dataset": "MNIST", "count": 10_000, "step": 2999, "metrics": {"accuracy": interval}}})
    run.write_json("panels.json", PANELS)
    run.write_json("data.json", {"card": {"title": "<script>x</script>"}, "splits": {"train": {"size": 5, "classes": {"a": 2, "b": 3}}}, "facts": {"mean": [1.0]}})
    summary = {"parameters": 10, "forward_flops": 20, "steps": 2999, "epochs": 3.0, "seconds": 75, "examples_per_s": 1e5, "best_step": 2999, "primary": "accuracy"}
    run.write_json("summary.json", {**summary, "stopped": "early", "jit": True, "jit_reason": "x", "device": "CPU", "checkpoint_mb": 1.2, "waited_for_data": 0.01, "waited_for_checkpoints": 0.001})
    path = report.write(run.path)
    text, page = path.read_text(), Page(path.read_text())
    assert "97.31%" in text and "97.00% to 97.60%" in text and "1 min 15 s" in text
    assert "script" not in page.tags and not page.loads and "&lt;script&gt;" in text
    assert "Cannot be shown" not in text and "Left out" not in text
    assert page.tags.count("svg") >= 9 and path.stat().st_size < 2e6


def test_files_of_another_form_cost_their_part_alone(run):
    for name, value in (("summary.json", 5), ("panels.json", [{"kind": "pie", "title": "x"}]), ("metrics.json", {"test": 1}), ("env.json", []), ("export.json", 5)):
        run.write_json(name, value)
    run.log("train", 1, {"loss": 0.5, "accuracy": 0.5, "learning_rate": 0.1})
    text = report.write(run.path).read_text()
    assert "hold what was written there: summary.json, metrics.json, env.json." in text
    assert text.count("Cannot be shown") == 2 and "Learning rate" in text and "recipe: 0" in text


def test_console_without_a_terminal(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: clock[0])
    stream = io.StringIO()
    shown = console.Console(1000, stream)
    for step in range(1, 31):
        clock[0] += 1
        shown.trained(step, {"loss": 0.12345, "accuracy": 0.9, "learning_rate": 0.1, "examples_per_s": 64.0})
    shown.evaluated(30, "validation", {"accuracy": {"value": 0.5, "low": 0.4, "high": 0.6, "count": 9}})
    shown.close()
    lines = stream.getvalue().splitlines()
    assert len(lines) == 4 and lines[0].startswith("step 10/1,000: loss 0.1235, accuracy 90.00%, 64 examples/s, 16 min 30 s left")
    assert lines[-1] == "step 30 validation: accuracy 50.00% [40.00%, 60.00%]"


def test_console_survives_a_closed_stream():
    stream = io.StringIO()
    shown = console.Console(10, stream)
    stream.close()
    shown.note("text")
    shown.close()


def test_live_line():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    stream = Terminal()
    shown = console.Console(1000, stream)
    assert "preparing" in stream.getvalue()
    shown.restored(250)
    shown.trained(500, {"loss": 0.5, "accuracy": 0.9, "learning_rate": 0.1, "examples_per_s": 64.0})
    shown.note("a note [not markup]")
    shown.live.refresh()
    shown.close()
    assert "500/1,000 loss 0.5  accuracy 90.00%  64 examples/s" in stream.getvalue() and "a note [not markup]" in stream.getvalue()


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (59.6, "1 min 00 s"), (185, "3 min 05 s"), (7800, "2 h 10 min")])
def test_durations(seconds, text):
    assert console.duration_text(seconds) == text


def test_numbers():
    assert [console.number(x) for x in (None, 0.000123456, 12.3456, 123456.7)] == ["-", "0.0001235", "12.35", "123,457"]
    assert json.dumps(PANELS[0])
