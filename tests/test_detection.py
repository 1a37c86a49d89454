"""Object detection: boxes that move with pictures, targets, average precision, readers."""

import contextlib
import dataclasses
import io
import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfbig.core.errors import UserError
from tfbig.core.features import SPLITS
from tfbig.data.bccd import BCCD
from tfbig.data.detection_folder import DetectionFolder
from tfbig.decoding import centres
from tfbig.engine.readable import Readable
from tfbig.metrics import average_precision, detection_errors
from tfbig.models.resnet_fpn import ResNetFPN
from tfbig.prep import boxes as boxing
from tfbig.prep import image as prep
from tfbig.prep import pictures
from tfbig.tasks.object_detection import ObjectDetection

BOXES = [(2.0, 4.0, 12.0, 20.0), (10.0, 1.0, 20.0, 8.0)]


def png(array):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


# Boxes and pictures


@pytest.mark.parametrize("seed", range(4))
def test_boxes_move_with_their_pictures(seed):
    """A bright rectangle is where its box says, however it was scaled, moved and mirrored."""
    height, width = 48, 64
    box = np.array([[[12, 20, 30, 44]]], np.float32)
    picture = np.zeros((1, height, width, 1), np.float32)
    picture[0, 12:30, 20:44] = 255
    key = tf.constant([[seed, 7]], tf.uint32)
    size = tf.constant([[height, width]], tf.float32)
    drawn = boxing.drawn_zoom(key, size, height, width, 1.5, (True, True))
    moved = boxing.clipped(
        boxing.moved(tf.constant(box), *drawn, height, width), tf.constant([48.0, 64.0])
    )
    resampled = prep.resample(tf.constant(picture), *drawn)[0, :, :, 0].numpy()
    rows = np.flatnonzero(resampled.max(1) > 127)
    columns = np.flatnonzero(resampled.max(0) > 127)
    seen = [rows[0], columns[0], rows[-1] + 1, columns[-1] + 1]
    np.testing.assert_allclose(moved[0, 0], seen, atol=1.0)


def test_nothing_moves_at_scale_one():
    picture = np.random.default_rng(0).integers(0, 256, (2, 9, 12, 3)).astype(np.uint8)
    ones, zeros = tf.ones((2, 2)), tf.zeros((2, 2))
    same = prep.resample(tf.constant(picture), ones, zeros, tf.zeros((2, 2), tf.bool))
    np.testing.assert_allclose(same, picture, atol=1e-3)
    mirrored = prep.resample(tf.constant(picture), ones, zeros, tf.constant([[False, True]] * 2))
    np.testing.assert_allclose(mirrored, picture[:, :, ::-1], atol=1e-3)


@pytest.mark.parametrize(
    "size, fitted", [((100, 50), (40, 20)), ((30, 60), (32, 64)), ((50, 400), (8, 64))]
)
def test_pictures_fit_inside_with_nothing_cut_off(size, fitted):
    image, found = pictures.decode_inside(
        tf.constant(png(np.full((*size, 3), 200, np.uint8))), 40, 64, 3
    )
    assert image.shape == (40, 64, 3) and found.numpy().tolist() == list(size)
    inside = np.zeros((40, 64), bool)
    inside[: fitted[0], : fitted[1]] = True
    np.testing.assert_array_equal(image.numpy()[..., 0] > 100, inside)
    assert boxing.fitted(tf.constant(size, tf.float32), 40, 64).numpy().tolist() == list(fitted)


# Targets


def test_true_boxes_are_found_again():
    boxes = np.zeros((2, 3, 4), np.float32)
    boxes[0, :2] = BOXES
    classes = np.array([[1, 0, 0], [0, 0, 0]], np.int32)
    real = np.array([[True, True, False], [False] * 3])
    maps = centres.draw(tf.constant(boxes), tf.constant(classes), tf.constant(real), (6, 8, 2), 4)
    assert maps.covered.numpy().tolist() == [[True, True, False], [False] * 3]
    assert (maps.heat.numpy() == 1).sum((0, 1, 2)).tolist() == [1, 1]
    np.testing.assert_allclose(maps.weight.numpy().sum((1, 2)), [2, 0], rtol=1e-5)
    found = centres.find(maps.heat, maps.distances, 4, 5)
    order = np.argsort(found["classes"].numpy()[0, :2])
    np.testing.assert_allclose(found["boxes"].numpy()[0, order], [BOXES[1], BOXES[0]], atol=1e-4)
    assert found["scores"].numpy()[0, :2].tolist() == [1, 1] and found["scores"][0, 2] < 0.2
    assert found["scores"][1].numpy().max() == 0


@pytest.mark.parametrize("doubled", [False, True])
def test_targets_that_lose_boxes_are_refused(doubled, tmp_path):
    """Two boxes of a class around one centre cannot be told apart."""
    data = DetectionFolder.smallest(tmp_path)
    path = tmp_path / "boxes" / "all.json"
    saved = json.loads(path.read_text())
    if doubled:
        for annotation in list(saved["annotations"]):
            left, top, width, height = annotation["bbox"]
            inside = [left + width / 4, top + height / 4, width / 2, height / 2]
            saved["annotations"].append({**annotation, "bbox": inside})
    path.write_text(json.dumps(saved))
    task = ObjectDetection(head_width=4)
    bound = task.bind(ResNetFPN.smallest(), data, task.measure(data))
    model = bound.build()
    if doubled:
        with pytest.raises(UserError, match=r"targets hold \d+ of \d+ true boxes"):
            bound.preview(model)
    else:
        (line,) = bound.preview(model)
        assert line.endswith("AP50 100.0% when found again")


def test_giou_by_hand():
    """Boxes of 4 x 4 and 4 x 2 around a pixel, the second inside the first; and apart in part."""
    whole = tf.constant([2.0, 2.0, 2.0, 2.0])
    assert centres.giou(whole, whole).numpy() == pytest.approx(1)
    assert centres.giou(whole, tf.constant([2.0, 1.0, 2.0, 1.0])).numpy() == pytest.approx(0.5)
    across = centres.giou(tf.constant([2.0, 1.0, 2.0, 1.0]), tf.constant([1.0, 2.0, 1.0, 2.0]))
    assert across.numpy() == pytest.approx(4 / 12 - (16 - 12) / 16)


def test_a_box_keeps_its_own_centre():
    """A smaller box beside the centre of a larger one does not take its edges."""
    boxes = tf.constant([[[0.0, 0.0, 64.0, 64.0], [32.0, 36.0, 52.0, 56.0]]])
    maps = centres.draw(boxes, tf.zeros((1, 2), tf.int32), tf.ones((1, 2), tf.bool), (16, 16, 1), 4)
    assert maps.covered.numpy().all()
    found = centres.find(maps.heat, maps.distances, 4, 2)["boxes"].numpy()[0]
    assert sorted(map(tuple, found.round(3))) == sorted(map(tuple, boxes.numpy()[0]))


def test_inside_a_crowd_nothing_is_learnt():
    boxes = tf.constant([[[0.0, 0.0, 8.0, 16.0], [8.0, 8.0, 12.0, 12.0]]])
    quiet = centres.covers(boxes, tf.constant([[True, False]]), (4, 4, 1), 4).numpy()[0]
    assert quiet.tolist() == [[True] * 4, [True] * 4, [False] * 4, [False] * 4]


def test_colours_change_no_padding():
    picture = np.zeros((1, 6, 8, 3), np.uint8)
    picture[0, :4, :5] = np.random.default_rng(0).integers(50, 200, (4, 5, 3))
    key = tf.constant([[3, 4]], tf.uint32)
    changed = prep.random_colours(tf.constant(picture), key, 0.5, tf.constant([[4.0, 5.0]]))[0]
    assert not changed.numpy()[4:].any() and not changed.numpy()[:, 5:].any()
    assert np.abs(changed.numpy()[:4, :5] - picture[0, :4, :5]).max() > 5


# Average precision


def made_up_records(pictures=30, found=40, true=12, classes=3):
    random = np.random.default_rng(0)
    corner = random.uniform(0, 300, (pictures, true, 2))
    true_boxes = np.concatenate([corner, corner + random.uniform(5, 150, corner.shape)], -1)
    true_classes = random.integers(0, classes, (pictures, true))
    boxes = np.repeat(true_boxes, 4, 1)[:, :found]
    boxes = boxes + random.normal(0, 6, boxes.shape)
    boxes[..., 2:] = np.maximum(boxes[..., 2:], boxes[..., :2] + 1)
    said = np.repeat(true_classes, 4, 1)[:, :found]
    return {
        "boxes": boxes.astype(np.float32),
        "scores": -np.sort(-random.random((pictures, found)).round(2), 1).astype(np.float32),
        "classes": np.where(random.random(said.shape) < 0.2, (said + 1) % classes, said),
        "count": random.integers(0, found + 1, pictures),
        "true_boxes": true_boxes.astype(np.float32),
        "true_classes": true_classes,
        "true_crowd": (random.random(true_classes.shape) < 0.1).astype(int),
        "true_count": random.integers(0, true + 1, pictures),
    }


def test_average_precision_is_that_of_pycocotools():
    records = made_up_records()
    precision, recall = average_precision.curves(average_precision.match(records, 3))
    evaluation = average_precision._evaluated(records, 3)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.accumulate()
    theirs = np.transpose(evaluation.eval["precision"][..., 0], (3, 2, 0, 1))  # [a, c, o, r]
    np.testing.assert_array_equal(np.isnan(precision), theirs < 0)
    np.testing.assert_allclose(np.nan_to_num(precision, nan=-1), theirs, atol=1e-12)
    theirs = np.transpose(evaluation.eval["recall"][..., 0], (2, 1, 0))
    np.testing.assert_allclose(np.nan_to_num(recall, nan=-1), theirs, atol=1e-12)


def test_average_precision_by_hand():
    """A third of the true boxes is found with precision 1, two thirds with 2/3, the rest never."""
    true = np.array(
        [[[0, 0, 80, 80], [0, 160, 80, 240]], [[40, 40, 140, 140], [0] * 4]], np.float32
    )
    boxes = np.zeros((2, 2, 4), np.float32)
    boxes[0] = true[0, 0], true[0, 0] + [0, 0, 0, 10]  # the second is a copy
    boxes[1, 0] = true[1, 0] + [0, 0, 0, 40]
    records = {
        "boxes": boxes,
        "scores": np.array([[0.9, 0.8], [0.3, 0]], np.float32),
        "classes": np.zeros((2, 2), int),
        "count": np.array([2, 1]),
        "true_boxes": true,
        "true_classes": np.zeros((2, 2), int),
        "true_crowd": np.zeros((2, 2), int),
        "true_count": np.array([2, 1]),
    }
    summary = average_precision.summary(average_precision.match(records, 2))
    assert summary["ap50"] == pytest.approx((34 + 33 * 2 / 3) / 101)
    assert summary["ap_large"] is None  # of three boxes nothing is said
    nothing = {**records, "true_count": np.zeros(2, int)}
    assert average_precision.summary(average_precision.match(nothing, 2))["ap"] is None
    kinds = detection_errors.count(records, 2, least=0.2)
    assert kinds.tolist() == [[2, 1, 0, 0, 0, 1], [0] * 6]


def test_more_boxes_than_count_are_neither_right_nor_wrong():
    """A perfect detector of 144 things: COCO lets 100 of a class count."""
    corner = 20.0 * np.stack(np.meshgrid(np.arange(12), np.arange(12)), -1).reshape(1, 144, 2)
    boxes = np.concatenate([corner, corner + 10], -1).astype(np.float32)
    classes = np.zeros((1, 144), int)
    records = {
        "boxes": boxes,
        "scores": np.linspace(0.9, 0.5, 144, dtype=np.float32)[None],
        "classes": classes,
        "count": np.array([144]),
        "true_boxes": boxes,
        "true_classes": classes,
        "true_crowd": classes,
        "true_count": np.array([144]),
    }
    summary = average_precision.summary(average_precision.match(records, 1))
    assert summary["ap50"] == pytest.approx(70 / 101)  # recall 100/144, with precision 1


def test_mistakes_by_kind():
    """One badly placed, one of another class, one around nothing; what lies in a crowd is none."""
    true = np.array([[[0, 0, 10, 10], [50, 50, 60, 60], [80, 80, 99, 99]]], np.float32)
    boxes = np.array(
        [[[0, 6, 10, 16], [50, 50, 60, 60], [20, 20, 30, 30], [80, 80, 99, 99]]], np.float32
    )
    records = {
        "boxes": boxes,
        "scores": np.full((1, 4), 0.9, np.float32),
        "classes": np.array([[0, 0, 0, 0]]),
        "count": np.array([4]),
        "true_boxes": true,
        "true_classes": np.array([[0, 1, 0]]),
        "true_crowd": np.array([[0, 0, 1]]),
        "true_count": np.array([3]),
    }
    assert detection_errors.count(records, 2, least=0.5).tolist() == [
        [0, 0, 1, 1, 1, 1],
        [0] * 5 + [1],
    ]


# Datasets


def test_bccd_is_complete():
    data = BCCD()
    counts = {
        split: np.bincount(
            np.concatenate([entry.classes for entry in data.pictures(split)])
        ).tolist()
        for split in SPLITS
    }
    # As published, but for one empty box in each of the first two
    published = {"train": [2382, 214, 209], "validation": [968, 87, 83], "test": [805, 71, 69]}
    for split, numbers in published.items():
        assert sum(numbers) - sum(counts[split]) == (split != "test")
    assert [data.size(split) for split in SPLITS] == [205, 87, 72]
    assert data.notes()[0].startswith("train: 1 boxes left out, empty or outside: BloodImage_00343")


PICTURES = {"train/a.png": (40, 60), "train/b.png": (30, 30), "val/c.png": (20, 50)}
TRUTH = {  # top, left, bottom, right in pixels; class
    "a": [(2, 4, 12, 20, "cat"), (0, 30, 40, 60, "dog")],
    "b": [],
    "c": [(5, 10, 15, 40, "dog")],
}


def pictures_in(folder, base=""):
    for name, size in PICTURES.items():
        path = folder / base / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(np.full((*size, 3), 99, np.uint8)))


def as_coco(folder):
    pictures_in(folder)
    for split in ("train", "val"):
        images, annotations = [], []
        for name, (height, width) in PICTURES.items():
            if name.startswith(split):
                number = len(images)
                file = name.split("/")[1]
                images.append({"id": number, "file_name": file, "height": height, "width": width})
                for top, left, bottom, right, kind in TRUTH[file[0]]:
                    annotations.append(
                        {
                            "id": len(annotations),
                            "image_id": number,
                            "category_id": {"cat": 3, "dog": 90}[kind],
                            "bbox": [left, top, right - left, bottom - top],
                        }
                    )
        categories = [{"id": 90, "name": "dog"}, {"id": 3, "name": "cat"}]
        saved = {"images": images, "annotations": annotations, "categories": categories}
        (folder / f"instances_{split}.json").write_text(json.dumps(saved))


def as_voc(folder):
    pictures_in(folder)
    for name, (height, width) in PICTURES.items():
        stem = name.split("/")[1][0]
        objects = "".join(
            f"<object><name>{kind}</name><bndbox><xmin>{left + 1}</xmin><ymin>{top + 1}</ymin>"
            f"<xmax>{right}</xmax><ymax>{bottom}</ymax></bndbox></object>"
            for top, left, bottom, right, kind in TRUTH[stem]
        )
        size = f"<size><width>{width}</width><height>{height}</height></size>"
        text = f"<annotation><filename>{stem}.png</filename>{size}{objects}</annotation>"
        (folder / f"{stem}.xml").write_text(text)


def as_yolo(folder):
    pictures_in(folder, "images")
    (folder / "data.yaml").write_text("names:\n  0: cat\n  1: dog\n")
    for name, (height, width) in PICTURES.items():
        split, file = name.split("/")
        (folder / "labels" / split).mkdir(parents=True, exist_ok=True)
        lines = []
        for top, left, bottom, right, kind in TRUTH[file[0]]:
            centre = f"{(left + right) / 2 / width} {(top + bottom) / 2 / height}"
            sides = f"{(right - left) / width} {(bottom - top) / height}"
            lines.append(f"{['cat', 'dog'].index(kind)} {centre} {sides}")
        (folder / "labels" / split / f"{file[0]}.txt").write_text("\n".join(lines))


@pytest.mark.parametrize("write", [as_coco, as_voc, as_yolo])
def test_folders_of_all_forms_hold_the_same(write, tmp_path):
    write(tmp_path)
    data = DetectionFolder(path=str(tmp_path), height=64, width=64, test_share=0.5)
    assert data.label_names == ("cat", "dog")
    assert [data.size(split) for split in SPLITS] == [1, 1, 1]
    known = {}
    for split in SPLITS:
        (entry,) = data.pictures(split)
        row = data.examples(split, np.array([0]))
        known[entry.name[-5]] = (row["boxes"][0], row["classes"][0], row["size"][0])
    assert data.pictures("validation")[0].name.endswith("c.png")
    for stem, truth in TRUTH.items():
        boxes, classes, size = known[stem]
        np.testing.assert_allclose(
            boxes, np.reshape([box[:4] for box in truth], (-1, 4)), atol=1e-3
        )
        assert [data.label_names[number] for number in classes] == [box[4] for box in truth]
        assert tuple(size) in PICTURES.values()


def test_boxes_outside_and_empty_ones_are_told(tmp_path):
    as_coco(tmp_path)
    path = tmp_path / "instances_train.json"
    saved = json.loads(path.read_text())
    for box in ([70, 0, 9, 9], [5, 5, 0, 9], [-5, 10, 20, 10]):  # outside, empty, cut at the edge
        saved["annotations"].append({"id": 9, "image_id": 0, "category_id": 3, "bbox": box})
    path.write_text(json.dumps(saved))
    data = DetectionFolder(path=str(tmp_path), test_share=0.5, validation_share=0.5)
    (line,) = (line for line in data.notes() if "left out" in line)
    assert "2 boxes left out, empty or outside: train/a.png" in line
    boxes = [
        box.tolist() for split in SPLITS for entry in data.pictures(split) for box in entry.boxes
    ]
    assert [10 / 40, 0, 20 / 40, 15 / 60] in boxes


@pytest.mark.parametrize(
    "change, expected",
    [
        (lambda saved: saved["images"][0].update(file_name="no.png"), "no.png, which is not there"),
        (lambda saved: saved["annotations"][0].update(category_id=7), "expected COCO's form"),
        (lambda saved: saved["annotations"][0].update(bbox=[1, 2]), "expected COCO's form"),
        (lambda saved: saved["images"][0].update(height=0), "expected COCO's form"),
    ],
)
def test_wrong_annotations_are_refused_in_words(change, expected, tmp_path):
    as_coco(tmp_path)
    path = tmp_path / "instances_train.json"
    saved = json.loads(path.read_text())
    change(saved)
    path.write_text(json.dumps(saved))
    with pytest.raises(UserError, match=expected):
        DetectionFolder(path=str(tmp_path)).check()


def test_folders_that_hold_nothing_are_refused(tmp_path):
    with pytest.raises(UserError, match="expected a folder"):
        DetectionFolder(path=str(tmp_path / "no")).check()
    with pytest.raises(UserError, match="holds no picture"):
        DetectionFolder(path=str(tmp_path)).check()
    pictures_in(tmp_path)
    with pytest.raises(UserError, match="holds no annotated picture"):
        DetectionFolder(path=str(tmp_path)).check()
    as_yolo(tmp_path)
    (tmp_path / "labels" / "train" / "a.txt").write_text("5 0.5 0.5 0.1 0.1")
    with pytest.raises(UserError, match=r"a.txt, line 1: expected a class below 2"):
        DetectionFolder(path=str(tmp_path)).check()


def test_more_boxes_than_allowed_are_refused(tmp_path):
    as_coco(tmp_path)
    data = DetectionFolder(path=str(tmp_path), most_boxes=1, test_share=0.5, validation_share=0.5)
    with pytest.raises(UserError, match=r"data.most_boxes: expected at least 2"):
        data.size("validation")  # of whichever split, before anything is trained


def test_a_broken_picture_is_left_out_alone(tmp_path):
    data = DetectionFolder.smallest(tmp_path)
    broken = Path(data.path) / data.pictures("train")[2].name
    broken.write_bytes(b"no picture")
    readable = Readable(dataclasses.replace(data, on_error="skip"))
    examples = readable.examples("train", np.arange(6))
    assert list(readable.skipped["train"]) == [2] and len(examples["image"]) == 6
