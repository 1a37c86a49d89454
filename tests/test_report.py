"""The report is one safe, self-contained page whatever the run directory holds.

The console writes plainly.
"""

import asyncio
import base64
import html
import html.parser
import io
import json
import re
import warnings

import chromium
import numpy as np
import pytest
from PIL import Image
from training import FACTS, make

import tfbig
from tfbig.core.run import Run
from tfbig.engine import job, results
from tfbig.engine.setup import Setup
from tfbig.report import charts, console, panels
from tfbig.report import html as report

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()
PANELS = [
    {"kind": "matrix", "title": "M", "labels": ["a", "<b>"], "counts": [[5, 1], [0, 0]]},
    {
        "kind": "matrix",
        "title": "Large",
        "labels": [str(i) for i in range(30)],
        "counts": [[i == j for i in range(30)] for j in range(30)],
    },
    {
        "kind": "calibration",
        "title": "C",
        "ece": 0.01,
        "bins": [
            {"low": 0, "high": 0.5, "confidence": 0.3, "accuracy": 0.2, "count": 4},
            {"low": 0.5, "high": 1, "confidence": None, "accuracy": None, "count": 0},
        ],
    },
    {
        "kind": "pictures",
        "title": "P",
        "items": [{"png": PNG, "caption": "<script>alert(1)</script>"}],
    },
    {"kind": "pictures", "title": "None", "items": []},
    {
        "kind": "alignments",
        "title": "A",
        "items": [{"source": ["<u>", "b"], "target": ["c"], "shares": [[0.25, 0.75]]}],
    },
    {"kind": "bars", "title": "B", "labels": ["x", "y"], "values": [1, 2], "x_label": "n"},
    {"kind": "table", "title": "T", "headers": ["h"], "rows": [["<i>"]]},
    {
        "kind": "curves",
        "title": "L",
        "series": [
            {"name": "s", "x": [1], "y": [0.5]},
            {"name": "gaps", "x": [1, 2], "y": [None, float("nan")]},
        ],
        "log_y": True,
    },
    {
        "kind": "points",
        "title": "F",
        "log_x": True,
        "levels": [{"name": "<u>", "y": 0.15}],
        "series": [
            {"name": "<b>", "x": [1, 10], "y": [0.1, 0.2], "labels": ["<b>", "1"], "line": True},
            {"name": "rest", "x": [3], "y": [0.1]},
        ],
    },
    {
        "kind": "points",
        "title": "One",
        "log_x": True,
        "series": [{"name": "a", "x": [0], "y": [1]}],
    },
    {
        "kind": "slices",
        "title": "S",
        "y_label": "accuracy",
        "parts": [
            {"label": "a", "x": [0.1, 1.0], "y": [1, 2], "log": True},
            {"label": "b", "x": [0, 1], "y": [1, 2], "ticks": ["<i>", "longer than four"]},
        ],
    },
    {
        "kind": "settings",
        "title": "K",
        "groups": [{"name": "<b>", "items": [["<i>", "long" * 40, "<u>"]]}],
    },
    {
        "kind": "parallel",
        "title": "A",
        "axes": [{"label": "a", "ticks": [(0, "0"), (1, "<i>")]}, {"label": "b", "ticks": []}],
        "lines": [{"values": [0.1, None], "value": 1.0}, {"values": [0.4, 0.2], "value": 1.0}],
        "label": "loss",
        "better": "min",
    },
]


class Page(html.parser.HTMLParser):
    """Collects what a page would load, and its tags."""

    def __init__(self, text):
        super().__init__()
        self.loads, self.tags, self.unstyled = [], [], set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.unstyled |= {tag} if not attributes else set()
        self.loads += [
            value
            for name, value in attributes
            if name in ("src", "href", "xlink:href") and not value.startswith(("#", "data:"))
        ]


@pytest.fixture
def run(tmp_path):
    return Run.create(
        tmp_path / "run", tfbig.recipe("mnist_mlp", "seed=4"), tfbig.recipe("mnist_mlp")
    )


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["kind"])
def test_panel(panel):
    page = Page(panels.render(panel))
    assert (
        not page.loads
        and not {"script", "b", "i", "u"} & page.unstyled
        and page.tags[0] == "figure"
    )


def test_unknown_panel():
    with pytest.raises(ValueError, match="kind: expected one of curves, matrix.*Received: 'pie'"):
        panels.render({"kind": "pie", "title": "x"})


NAMES = ("猫", "いぬ", "고양이", "قطة", "a $^ b")
NAMED = [
    {"kind": "matrix", "labels": NAMES, "counts": np.eye(5, dtype=int).tolist()},
    {
        "kind": "matrix",
        "labels": [*NAMES, *map(str, range(20))],
        "counts": np.roll(np.eye(25, dtype=int), 1, 1).tolist(),
    },
    {"kind": "bars", "labels": NAMES, "values": [0, 1, 2, 3, 4]},
    {
        "kind": "curves",
        "series": [{"name": name, "x": [1, 2], "y": [1, 2]} for name in NAMES],
        "x_label": NAMES[0],
    },
    {
        "kind": "points",
        "series": [{"name": "a", "x": [1, 2, 3, 4, 5], "y": [0, 1, 2, 3, 4], "labels": NAMES}],
    },
    {
        "kind": "slices",
        "y_label": "y",
        "parts": [{"label": NAMES[0], "x": [0], "y": [1], "log": False, "ticks": NAMES}],
    },
    {
        "kind": "parallel",
        "axes": [{"label": name, "ticks": []} for name in NAMES],
        "lines": [{"values": [0.5] * 5, "value": 1}],
        "label": "y",
    },
]


@pytest.mark.parametrize(
    "panel", NAMED, ids=lambda panel: f"{panel['kind']}_{len(panel.get('labels', ()))}"
)
def test_names_of_every_script_stay_text(panel):
    """The reader's browser has the fonts, and matplotlib does not: neither warnings nor boxes."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        text = html.unescape(re.sub("<[^>]+>", "", panels.render({"title": "T", **panel})))
    assert all(name in text for name in NAMES)


def ticks(panel):
    """The numbers written in a chart."""
    return re.findall(r">([\d.,]+[kM]?)</text>", charts.draw(panel)[0])


def test_ticks():
    """Whole numbers have whole ticks; logarithmic axes have plain ones."""
    whole = ticks(
        {"kind": "points", "series": [{"name": "a", "x": [1, 2, 3], "y": [0.5, 0.5, 0.5]}]}
    )
    assert {"1", "2", "3"} <= set(whole) and not {"1.5", "2.5"} & set(whole)
    large = {
        "kind": "points",
        "log_x": True,
        "series": [{"name": "a", "x": [900, 20_000, 3_000_000], "y": [1.0, 2.0, 3.0]}],
    }
    assert {"1,000", "10k", "100k", "1M"} <= set(ticks(large))
    loss = {
        "kind": "curves",
        "log_y": True,
        "series": [{"name": "a", "x": [1, 2], "y": [2.5, 0.09]}],
    }
    assert {"0.1", "0.3", "1"} <= set(ticks(loss))


def test_confusion_is_shown_as_shares_of_the_true_class():
    page = panels.render(
        {"kind": "matrix", "title": "M", "labels": ["a", "b"], "counts": [[1995, 5], [1, 2]]}
    )
    cells = [
        re.sub("<[^>]+>", " ", cell).split()
        for cell in re.findall(r"<td style[^>]*>(.*?)</td>", page)
    ]
    assert cells == [["100", "1,995"], ["0.2", "5"], ["33", "1"], ["67", "2"]]


def test_the_most_frequent_mistakes_of_many_classes_are_named():
    counts = 7 * np.eye(30, dtype=int)
    counts[3, 5], counts[8, 1] = 14, 2
    page = panels.render(
        {
            "kind": "matrix",
            "title": "M",
            "labels": [f"class {i}" for i in range(30)],
            "counts": counts.tolist(),
        }
    )
    rows = re.findall(
        r"<td>(.*?)</td><td>(.*?)</td><td class=.number.>(.*?)</td><td class=.number.>(.*?)</td>",
        page,
    )
    assert rows == [("class 3", "class 5", "14", "66.7%"), ("class 8", "class 1", "2", "22.2%")]


def panel(title):
    return {"kind": "texts", "title": title, "items": [title]}


def test_panels_of_each_split_are_kept_apart(run):
    run.write_json("panels.json", [panel("of an earlier version")])
    assert "did not note the split" in report.write(run.path).read_text()
    results.write_panels(run, {"inputs": [panel("seen")]}, 0)
    results.write_panels(run, {"samples": [panel("old")], "test": [panel("tested")]}, 5)
    results.write_panels(run, {"samples": [panel("new")], "validation": [panel("validated")]}, 7)
    saved = {
        (each["section"], each["step"], each["title"]) for each in run.read_json("panels.json")
    }
    assert saved == {
        ("inputs", 0, "seen"),
        ("test", 5, "tested"),
        ("samples", 7, "new"),
        ("validation", 7, "validated"),
    }
    run.write_json(
        "metrics.json",
        {"validation": {"split": "validation", "count": 9, "step": 7, "metrics": {}}},
    )
    text = report.write(run.path).read_text()
    places = [
        text.index(f"<h2>{title}")
        for title in ("What the network sees", "On the test split", "On the validation split")
    ]
    assert places == sorted(places) and "9 examples, checkpoint of step 7." in text
    for title, split in (("tested", "test"), ("validated", "validation")):
        assert re.search(rf"{title} <span class=\"badge\">{split}</span>", text)
    (run.path / "panels.json").write_text("no JSON")
    results.write_panels(run, {"test": [panel("again")]}, 9)
    assert [each["title"] for each in run.read_json("panels.json")] == ["again"]


def picture(item):
    return np.array(Image.open(io.BytesIO(base64.b64decode(item["png"]))))


def test_pictures_of_training_are_those_that_the_network_sees():
    setup = Setup(make("task.crop_padding=3", "task.cutout=9", "train.batch_size=32"), FACTS)
    batch = job.first_batch(setup)
    (shown,) = setup.task.training_panels(batch)
    assert (
        "shifted by up to 3 pixels, a black square of 9 pixels" in shown["caption"]
        and len(shown["items"]) == 24
    )
    slab, place = setup.slabs.at(0)
    raw = slab["image"][place].numpy()
    for i, item in enumerate(shown["items"]):
        np.testing.assert_allclose(
            (picture(item) - FACTS["mean"][0]) / FACTS["std"][0],
            batch["image"][i, ..., 0],
            atol=1e-5,
        )
        assert item["caption"] == str(slab["label"][place][i].numpy())
    assert any(
        not np.array_equal(picture(item), raw[i, ..., 0]) for i, item in enumerate(shown["items"])
    )
    plain = Setup(make(), FACTS)
    (shown,) = plain.task.training_panels(job.first_batch(plain))
    slab, place = plain.slabs.at(0)
    np.testing.assert_array_equal(picture(shown["items"][5]), slab["image"][place][5, ..., 0])


def test_precision_recall_and_f1_of_each_class():
    task = Setup(make(), FACTS).task
    label, said = np.array([0, 0, 0, 0, 1, 1]), np.array([0, 0, 0, 1, 1, 2], np.int32)
    records = {"label": said, "true": label, "confidence": np.full(6, 0.1)}
    _, table, _, mistakes = task.panels("test", np.arange(6), records)
    rows = {row[0]: row[1:] for row in table["rows"]}
    assert rows["0"] == ["4", "100.0%", "75.0%", "85.7%"] and rows["1"] == [
        "2",
        "50.0%",
        "50.0%",
        "50.0%",
    ]
    assert rows["2"] == ["0", "0.0%", "-", "0.0%"] and rows["9"] == ["0", "-", "-", "-"]
    assert [row[0] for row in table["rows"]][:3] == ["2", "1", "0"]
    assert [item["caption"] for item in mistakes["items"]] == [
        "true 0\nsaid 1, 10.0%",
        "true 1\nsaid 2, 10.0%",
    ]


@pytest.mark.skipif(chromium.BINARY is None, reason="no Chromium here")
def test_page_fits_a_phone(run, tmp_path):
    """At 390 pixels nothing is cut: what is wider can be scrolled."""
    many = [{"title": "T", **each} for each in NAMED]
    run.write_json(
        "panels.json", [{**each, "section": "test", "step": 1} for each in (*PANELS, *many)]
    )
    wide = (
        "[...document.body.querySelectorAll('*')].filter(e => !e.closest('.scroll') &&"
        " e.getBoundingClientRect().right > innerWidth + 1)"
    )

    async def look():
        async with chromium.Browser(tmp_path / "profile") as browser:
            await browser.call(
                "Emulation.setDeviceMetricsOverride",
                width=390,
                height=800,
                deviceScaleFactor=1,
                mobile=True,
            )
            await browser.call("Page.navigate", url=report.write(run.path).as_uri())
            await browser.wait_for(
                "document.readyState == 'complete' && document.querySelectorAll('figure').length"
                " > 15"
            )
            assert await browser.evaluate("document.documentElement.scrollWidth") == 390
            assert await browser.evaluate(f"{wide}.map(e => e.outerHTML.slice(0, 80)).join()") == ""

    asyncio.run(look())


def test_bare_run(run):
    text = report.write(run.path).read_text()
    assert (
        "mnist_mlp" in text
        and "recipe: 0" in text
        and not Page(text).loads
        and "Training has not finished." in text
    )
    assert "<title>run</title>" in text and run.path.name == "run"


def test_full_run(run):
    interval = {"value": 0.9731, "low": 0.97, "high": 0.976, "count": 10_000}
    for step in range(1, 3000):
        run.log(
            "train",
            step,
            {
                "loss": float("nan") if step == 7 else 1 / step,
                "accuracy": 0.5,
                "learning_rate": 0.1,
                "examples_per_s": 1e5,
            },
        )
    run.log(
        "evaluation",
        2999,
        {
            "split": "validation",
            "metrics": {"accuracy": interval, "loss": {**interval, "value": None}},
        },
    )
    run.write_json(
        "metrics.json",
        {
            "test": {
                "split": "test",
                "dataset": "MNIST",
                "count": 10_000,
                "step": 2999,
                "metrics": {
                    "accuracy": interval,
                    "loss": {"value": 0.125, "low": None, "high": None},
                },
            }
        },
    )
    run.write_json("panels.json", PANELS)
    run.write_json(
        "data.json",
        {
            "card": {"title": "<script>x</script>"},
            "splits": {"train": {"size": 5, "classes": {"a": 2, "b": 3}}},
            "facts": {"mean": [1.0]},
        },
    )
    summary = {
        "parameters": 10,
        "forward_flops": 20,
        "steps": 2999,
        "epochs": 3.0,
        "seconds": 75,
        "examples_per_s": 1e5,
        "best_step": 2999,
        "primary": "accuracy",
    }
    run.write_json(
        "summary.json",
        {
            **summary,
            "stopped": "early",
            "jit": True,
            "jit_reason": "x",
            "device": "CPU",
            "checkpoint_mb": 1.2,
            "waited_for_data": 0.01,
            "waited_for_checkpoints": 0.001,
        },
    )
    path = report.write(run.path)
    text, page = path.read_text(), Page(path.read_text())
    assert "97.31%" in text and "97.00% to 97.60%" in text and "1 min 15 s" in text
    assert "script" not in page.tags and not page.loads and "&lt;script&gt;" in text
    assert '<td class="number">0.125</td>' in text  # of too few examples for an interval
    assert "Cannot be shown" not in text and "Left out" not in text
    assert page.tags.count("svg") >= 9 and path.stat().st_size < 2e6


def test_deployment_shows_formats_side_by_side(run):
    times = {
        size: {"p50_ms": 1.5, "p99_ms": 2.25, "examples_per_s": 1234.0} for size in ("1", "8", "32")
    }
    entry = {
        "metrics": {"accuracy": {"value": 0.9}},
        "latency": times,
        "size": 3e6,
        "peak_memory_mb": 321.0,
        "cold_start_s": 0.7,
    }
    formats = {
        "saved_model": {**entry, "largest_difference": 0.0},
        "onnx": {**entry, "largest_difference": None},
    }
    trials = [{"program": "classify", "rows": 64, "per_s": 500.0, "unit": "example"}]
    export = {
        "version": 3,
        "created": "now",
        "path": "<here>",
        "checks": [1, 2],
        "verification": formats,
        "trials": trials,
    }
    run.write_json("export.json", export)
    text = report.write(run.path).read_text()
    assert "Cannot be shown" not in text and "Version 3, now; 2 checks passed; &lt;here&gt;" in text
    assert (
        text.count("1.50<small>2.25</small>") == 6
        and "not finite" in text
        and "1,234 examples/s" in text
        and "500 examples/s" in text
    )


def test_files_of_another_form_cost_their_part_alone(run):
    for name, value in (
        ("summary.json", 5),
        ("panels.json", [{"kind": "pie", "title": "x"}]),
        ("metrics.json", {"test": 1}),
        ("env.json", []),
        ("export.json", 5),
    ):
        run.write_json(name, value)
    run.log("train", 1, {"loss": 0.5, "accuracy": 0.5, "learning_rate": 0.1})
    text = report.write(run.path).read_text()
    assert "hold what was written there: summary.json, metrics.json, env.json." in text
    assert text.count("Cannot be shown") == 2 and "Learning rate" in text and "recipe: 0" in text


def test_console_without_a_terminal(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: clock[0])
    stream = io.StringIO()
    shown = console.Console(1000, stream, units={"accuracy": "%"})
    for step in range(1, 31):
        clock[0] += 1
        shown.trained(
            step, {"loss": 0.12345, "accuracy": 0.9, "learning_rate": 0.1, "examples_per_s": 64.0}
        )
    shown.evaluated(
        30, "validation", {"accuracy": {"value": 0.5, "low": 0.4, "high": 0.6, "count": 9}}
    )
    shown.close()
    lines = stream.getvalue().splitlines()
    assert len(lines) == 4 and lines[0].startswith(
        "step 10/1,000: loss 0.1235, accuracy 90.00%, 64 examples/s, 16 min 30 s left"
    )
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
    shown = console.Console(1000, stream, units={"accuracy": "%"})
    assert "preparing" in stream.getvalue()
    shown.restored(250)
    shown.trained(500, {"loss": 0.5, "accuracy": 0.9, "learning_rate": 0.1, "examples_per_s": 64.0})
    shown.note("a note [not markup]")
    shown.live.refresh()
    shown.close()
    assert (
        "500/1,000 loss 0.5  accuracy 90.00%  64 examples/s" in stream.getvalue()
        and "a note [not markup]" in stream.getvalue()
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.6, "1 min 00 s"), (185, "3 min 05 s"), (7800, "2 h 10 min")],
)
def test_durations(seconds, text):
    assert console.duration_text(seconds) == text


def test_numbers():
    assert [console.number(x) for x in (None, 0.000123456, 12.3456, 123456.7)] == [
        "-",
        "0.0001235",
        "12.35",
        "123,457",
    ]
    assert json.dumps(PANELS[0])


def test_what_was_left_out_of_the_data_stands_in_the_report(tmp_path):
    notes = ["2 of 9 documents left out: 2 too short", "4 < 5"]
    known = {"card": {"title": "t"}, "notes": notes, "splits": {}, "facts": {}}
    (tmp_path / "data.json").write_text(json.dumps(known))
    page = report.write(tmp_path).read_text("utf-8")
    assert all(f"<td>note</td><td>{html.escape(note)}</td>" in page for note in notes)
