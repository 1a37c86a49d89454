"""Average precision and recall of boxes as COCO measures them (Lin et al. 2014).

Boxes are matched by pycocotools; what is matched is then averaged here, as often as a bootstrap
asks, with the same result as pycocotools (see tests/test_metrics.py).

Shapes: n pictures, d boxes found in one, t true ones, a ranges of area, o overlaps, c classes.
"""

from __future__ import annotations

import contextlib
import io

from tfbig.core.errors import UserError
from tfbig.core.lazy import np

OVERLAPS = tuple(0.5 + 0.05 * i for i in range(10))  # of a found and a true box, to be right
RECALLS = 101
RANGES = ("all", "small", "medium", "large")  # of a true box's area: to 32^2, to 96^2, above
SERIES = 8  # classes in a plot
LEAST_TRUE = 10  # boxes of a range of area, below which a figure would mean little
MOST_FOUND = 100  # boxes of a class in a picture that count
SIGNATURE = (
    "COCO, IoU 0.50:0.05:0.95, 101 recalls, at most 100 boxes of a class in a picture, areas of"
    " boxes, by pycocotools"
)


def match(records: dict[str, np.ndarray], classes: int) -> dict[str, np.ndarray]:
    """Which boxes are right, by pycocotools.

    Args:
        records: boxes [n, d, 4] (top, left, bottom, right in pixels), scores [n, d], classes
            [n, d], count [n]; true_boxes [n, t, 4], true_classes [n, t], true_crowd [n, t] (1: a
            crowd, in which boxes are neither right nor wrong), true_count [n].
        classes: how many there are.

    Returns:
        What `summary` takes: scores [n, d]; classes [n, d], -1 where there is no box; right and
        ignored, bool [n, a, o, d]; truth, true boxes that count, int32 [n, a, c].
    """
    coco = _evaluated(records, classes)
    pictures, most = records["scores"].shape
    shape = (pictures, len(RANGES), len(OVERLAPS), most)
    right = np.zeros(shape, bool)
    ignored = np.ones(shape, bool)  # what is not matched is more than may be told of a class
    truth = np.zeros((pictures, len(RANGES), classes), np.int32)
    found = iter(coco.evalImgs)  # by class, then by range, then by picture
    for number in range(classes):
        for area in range(len(RANGES)):
            for picture in range(pictures):
                entry = next(found)
                if entry is None:
                    continue
                places = (np.array(entry["dtIds"], np.int64) - 1) % most
                right[picture, area][:, places] = entry["dtMatches"] > 0
                ignored[picture, area][:, places] = entry["dtIgnore"]
                truth[picture, area, number] = np.sum(np.array(entry["gtIgnore"]) == 0)
    real = np.arange(most) < records["count"][:, None]
    numbers = np.where(real, records["classes"], -1)
    return {
        "scores": records["scores"],
        "classes": numbers,
        "right": right,
        "ignored": ignored,
        "truth": truth,
    }


def summary(statistics: dict[str, np.ndarray]) -> dict[str, float | None]:
    """AP, AP50, AP75, AP by area and recall, from what `match` returned; None: too few boxes."""
    precision, recall = curves(statistics)
    enough = statistics["truth"].sum((0, 2)) >= LEAST_TRUE
    values = {"ap": _mean(precision[0]), "ap50": _mean(precision[0, :, 0])}
    values["ap75"] = _mean(precision[0, :, OVERLAPS.index(0.75)])
    for area, name in enumerate(RANGES[1:], 1):
        values[f"ap_{name}"] = _mean(precision[area]) if enough[area] else None
    return {**values, "ar": _mean(recall[0])}


def curves(statistics: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Precision at each recall, [a, c, o, 101], and the recall reached, [a, c, o].

    NaN where a class has no true box of a range of area.
    """
    areas, classes = statistics["truth"].shape[1:]
    precision = np.full((areas, classes, len(OVERLAPS), RECALLS), np.nan)
    recall = np.full((areas, classes, len(OVERLAPS)), np.nan)
    totals = statistics["truth"].sum(0)
    right = np.moveaxis(statistics["right"], 0, 2)  # [a, o, n, d]
    ignored = np.moveaxis(statistics["ignored"], 0, 2)
    for number in range(classes):
        own = statistics["classes"] == number
        order = np.argsort(-statistics["scores"][own], kind="stable")
        for area in np.flatnonzero(totals[:, number]):
            hit = right[area][:, own][:, order]
            counts = ~ignored[area][:, own][:, order]
            precision[area, number], recall[area, number] = _curve(
                hit & counts, ~hit & counts, totals[area, number]
            )
    return precision, recall


def _curve(hit: np.ndarray, miss: np.ndarray, total: int) -> tuple[np.ndarray, np.ndarray]:
    """Precision at each recall [o, 101] and the highest recall [o], of one class.

    The precision at a recall is the best there or beyond.
    """
    hits = np.cumsum(hit, 1, dtype=np.float64)
    misses = np.cumsum(miss, 1, dtype=np.float64)
    recalls = hits / total
    precisions = hits / (hits + misses + np.spacing(1))
    best = np.maximum.accumulate(precisions[:, ::-1], 1)[:, ::-1]
    wanted = np.linspace(0.0, 1.0, RECALLS)
    rows = np.zeros((len(OVERLAPS), RECALLS))
    for overlap in range(len(OVERLAPS)):
        place = np.searchsorted(recalls[overlap], wanted, side="left")
        reached = place < recalls.shape[1]
        rows[overlap, reached] = best[overlap, place[reached]]
    return rows, recalls[:, -1] if recalls.shape[1] else np.zeros(len(OVERLAPS))


def panels(statistics: dict[str, np.ndarray], names: tuple[str, ...]) -> list[dict]:
    """Curves and a table of the classes, for a report, from what `match` returned."""
    precision = curves(statistics)[0][0]
    known = [number for number in range(len(names)) if not np.isnan(precision[number]).any()]
    recalls = np.linspace(0, 1, RECALLS).tolist()
    series = [
        {"name": names[i], "x": recalls, "y": precision[i, 0].tolist()} for i in known[:SERIES]
    ]
    truth = statistics["truth"][:, 0].sum(0)
    rows = []
    for i in sorted(known, key=lambda number: precision[number].mean()):
        values = (precision[i], precision[i, 0], precision[i, OVERLAPS.index(0.75)])
        rows.append([names[i], f"{truth[i]:,}", *(f"{value.mean():.1%}" for value in values)])
    return [
        {
            "kind": "curves",
            "title": "Precision by recall, half of the area shared",
            "x_label": "recall",
            "y_label": "precision",
            "series": series,
            "log_y": False,
            "from_zero": True,
        },
        {
            "kind": "table",
            "title": "Each class, the worst first",
            "headers": ["class", "true boxes", "AP", "AP50", "AP75"],
            "rows": rows,
            "caption": SIGNATURE,
        },
    ]


def _mean(values: np.ndarray) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else None


def _evaluated(records: dict[str, np.ndarray], classes: int):
    """Pycocotools' evaluation of these records, boxes matched."""
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise UserError(
            "average precision: needs pycocotools, not installed. Run pip install"
            " 'tfbig[detection]'."
        ) from error
    pictures, most = records["scores"].shape
    true = _annotations(records["true_boxes"], records["true_classes"], records["true_count"], None)
    crowds = records["true_crowd"]
    for annotation in true:
        picture, place = annotation["place"]
        annotation["iscrowd"] = int(crowds[picture, place])
    found = _annotations(records["boxes"], records["classes"], records["count"], records["scores"])
    with contextlib.redirect_stdout(io.StringIO()):  # the library prints as it goes
        evaluation = COCOeval(
            _coco(COCO, true, pictures, classes), _coco(COCO, found, pictures, classes), "bbox"
        )
        evaluation.params.maxDets = [MOST_FOUND]
        evaluation.evaluate()
    assert list(evaluation.params.areaRngLbl) == list(RANGES)
    return evaluation


def _annotations(
    boxes: np.ndarray, classes: np.ndarray, count: np.ndarray, scores: np.ndarray | None
) -> list[dict]:
    """Boxes in COCO's form; the number of each tells its picture and its place in it."""
    most = boxes.shape[1]
    annotations = []
    for picture in range(len(boxes)):
        for place in range(int(count[picture])):
            top, left, bottom, right = (float(x) for x in boxes[picture, place])
            size = [max(0.0, right - left), max(0.0, bottom - top)]
            annotation = {
                "id": picture * most + place + 1,  # 0 would count as no match
                "image_id": picture,
                "category_id": int(classes[picture, place]) + 1,
                "bbox": [left, top, *size],
                "area": size[0] * size[1],
                "iscrowd": 0,
                "place": (picture, place),
            }
            if scores is not None:
                annotation["score"] = float(scores[picture, place])
            annotations.append(annotation)
    return annotations


def _coco(kind, annotations: list[dict], pictures: int, classes: int):
    coco = kind()
    coco.dataset = {
        "images": [{"id": i} for i in range(pictures)],
        "categories": [{"id": i + 1} for i in range(classes)],
        "annotations": annotations,
    }
    coco.createIndex()
    return coco
