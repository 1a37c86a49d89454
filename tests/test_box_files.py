"""Readers of boxes: what COCO's, Pascal VOC's and YOLO's files say, and what of them is refused."""

import json
import unicodedata

import numpy as np
import pytest
from PIL import Image

from tfbig.core.errors import UserError
from tfbig.core.features import SPLITS
from tfbig.data.detection_folder import DetectionFolder

HEIGHT, WIDTH = 40, 60


def picture(path, height=HEIGHT, width=WIDTH, **options):
    """A picture of its own: its name is in its pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((height, width, 3), 99, np.uint8)
    name = str(path).encode()[-width:]
    pixels[0, : len(name), 0] = list(name)
    Image.fromarray(pixels).save(path, **options)


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


def folder(path):
    return DetectionFolder(path=str(path), test_share=0.2, validation_share=0.2)


def entries(path):
    """Each picture's entry, by its path inside the folder."""
    data = folder(path)
    return {entry.name: entry for split in SPLITS for entry in data.pictures(split)}


def split_of(path):
    data = folder(path)
    return {entry.name: split for split in SPLITS for entry in data.pictures(split)}


def notes(path):
    return "\n".join(folder(path).notes())


def refused(path, *expected):
    with pytest.raises(UserError) as error:
        folder(path).check()
    for words in expected:
        assert words in str(error.value), error.value


# YOLO


def yolo(path, lines="0 0.5 0.5 0.2 0.2", names="abcd", classes="cat\ndog\n"):
    for name in names:
        picture(path / "images" / f"{name}.png")
        write(path / "labels" / f"{name}.txt", lines + "\n")
    if classes:
        write(path / "classes.txt", classes)


def test_yolo_polygons_become_their_bounds(tmp_path):
    corners = "1 0.1 0.3 0.5 0.2 0.9 0.6 0.4 0.8"
    yolo(tmp_path, f"{corners}\n\n0.0 0.5 0.5 0.2 0.4\n0 0.1 0.1 0.2 0.1 0.2 0.3")
    entry = entries(tmp_path)["images/a.png"]
    expected = [[0.2, 0.1, 0.8, 0.9], [0.3, 0.4, 0.7, 0.6], [0.1, 0.1, 0.3, 0.2]]
    np.testing.assert_allclose(entry.boxes, expected, atol=1e-12)
    assert entry.classes.tolist() == [1, 0, 0]


@pytest.mark.parametrize(
    "line",
    [
        "0 0.5 0.5 0.2 0.2 0.9",  # a confidence
        "0 0.5 0.5 0.2",
        "0",
        "0 0.1 0.1 0.2 0.2 0.3 0.3 0.4",
        "-1 0.5 0.5 0.2 0.2",
        "0.7 0.5 0.5 0.2 0.2",
        "inf 0.5 0.5 0.2 0.2",
        "nan 0.5 0.5 0.2 0.2",
        "2 0.5 0.5 0.2 0.2",
        "0 nan 0.5 0.2 0.2",
        "cat 0.5 0.5 0.2 0.2",
    ],
)
def test_yolo_lines_that_are_no_boxes_are_refused(line, tmp_path):
    yolo(tmp_path, f"1 0.5 0.5 0.2 0.2\n{line}")
    refused(tmp_path, "a.txt, line 2: expected a class below 2; then centre", repr(line))


def test_yolo_key_points_are_no_polygons(tmp_path):
    yolo(tmp_path, "0 0.5 0.5 0.2 0.4 0.1 0.1 0.9 0.9", classes="")
    write(tmp_path / "data.yaml", "names: [cat]\nkpt_shape: [2, 2]\n")
    boxes = entries(tmp_path)["images/a.png"].boxes
    np.testing.assert_allclose(boxes, [[0.3, 0.4, 0.7, 0.6]], atol=1e-12)
    write(tmp_path / "labels" / "a.txt", "0 0.5 0.5 0.2 0.4")
    refused(tmp_path, "a.txt, line 1", "4 numbers of key points")


def test_yolo_files_without_partner_are_counted(tmp_path):
    yolo(tmp_path)
    write(tmp_path / "labels" / "z.txt", "0 0.5 0.5 0.2 0.2")
    write(tmp_path / "labels" / "zz.txt", "")  # says that a picture holds nothing
    write(tmp_path / "requirements.txt", "numpy\n")
    picture(tmp_path / "images" / "bare.png")
    assert "2 label files are left out, being no picture's: z.txt, zz.txt" in notes(tmp_path)
    assert "1 pictures have no label file, which says that they hold no box: bare.png" in (
        notes(tmp_path)
    )
    for file in (tmp_path / "labels").iterdir():
        file.rename(file.with_name("no" + file.name))
    refused(tmp_path, "expected a text file for each picture with boxes, such as labels/a.txt")


def test_yolo_labels_are_found_beside_and_below(tmp_path):
    for name in ("a.JPG", "b.jpg"):
        picture(tmp_path / name)
    write(tmp_path / "a.txt", "0 0.5 0.5 0.2 0.2")
    write(tmp_path / "labels" / "b.TXT", "0 0.5 0.5 0.2 0.2\n" * 2)
    write(tmp_path / "obj.names", "cat\n")
    assert [len(entry.boxes) for _, entry in sorted(entries(tmp_path).items())] == [1, 2]


def test_yolo_names_are_by_their_numbers(tmp_path):
    yolo(tmp_path, "3 0.5 0.5 0.2 0.2\n1 0.5 0.5 0.2 0.2", classes="")
    write(tmp_path / "data.yaml", "names:\n  3: no\n  1: cat\n")
    assert folder(tmp_path).label_names == ("cat", "no")
    assert entries(tmp_path)["images/a.png"].classes.tolist() == [1, 0]
    write(tmp_path / "labels" / "b.txt", "2 0.5 0.5 0.2 0.2")
    refused(tmp_path, "b.txt, line 1: expected a class of 1, 3")
    write(tmp_path / "data.yaml", "names:\n  cat: 0\n")
    refused(tmp_path, "data.yaml: expected names by whole numbers")


def test_yolo_names_in_a_file_of_their_own(tmp_path):
    yolo(tmp_path, classes="")
    write(tmp_path / "data.yaml", "names: names.txt\n")
    refused(tmp_path, "data.yaml: expected names as a list", "names.txt, a file that is not there")
    write(tmp_path / "names.txt", "cat\ndog\n")
    assert folder(tmp_path).label_names == ("cat", "dog")
    write(tmp_path / "names.txt", "cat\n\ndog\n")
    refused(tmp_path, "names.txt, line 2: expected the name of a class")
    write(tmp_path / "names.txt", "cat\n")
    write(tmp_path / "classes.txt", "dog\n")
    refused(tmp_path, "expected the same names of classes", "dog", "cat")


@pytest.mark.parametrize(
    "words, expected",
    [
        ("names: {-1: cat}", "expected names by whole numbers from 0. Received: -1"),
        ("names: [cat]\nkpt_shape: 5", "expected kpt_shape as two whole numbers"),
        ("names: [[cat], [dog]]", "expected each name to be a word or several. Received: ['cat']"),
        ('names: [cat, ""]', "expected each name to be a word or several"),
        ("names: [cat, dog, cat]", "expected each name once. Twice: 'cat'"),
        ("nc: 3\nnames: [cat, dog]", "expected nc to be 2, the number of names. Received: 3"),
        ("[" * 1200, "cannot be read as YAML"),
        ("names: [cat]\npath: [a]\ntrain: 7\nval: {a: b}", ""),
    ],
)
def test_yolo_settings_that_are_none(words, expected, tmp_path):
    yolo(tmp_path, classes="")
    write(tmp_path / "data.yaml", words)
    if expected:
        refused(tmp_path, "data.yaml", expected)
    else:
        assert notes(tmp_path).count("which is not there") == 2


def test_boxes_in_pixels_are_no_shares(tmp_path):
    yolo(tmp_path, "0 30 20 10 10")
    refused(tmp_path, "4 annotated pictures without one, and 4 boxes that are empty or outside")


@pytest.mark.parametrize("file", ["data.yaml", "classes.txt", "labels/a.txt"])
def test_yolo_text_is_utf8(file, tmp_path):
    yolo(tmp_path)
    (tmp_path / file).write_bytes("names: [caf\xe9]\n".encode("latin-1"))
    refused(tmp_path, file, "UTF-8")


@pytest.mark.parametrize("form", ["lists", "yaml lists", "yaml folders", "yaml whole paths"])
def test_yolo_splits_are_those_stated(form, tmp_path):
    places = {"a": "one", "b": "two", "c": "three"}
    for name, place in places.items():
        picture(tmp_path / "images" / place / f"{name}.png")
        write(tmp_path / "labels" / place / f"{name}.txt", "0 0.5 0.5 0.2 0.2")
    lines = ["names: [cat]", "path: ../datasets/mine"]
    for key, (name, place) in zip(("train", "val", "test"), places.items(), strict=True):
        if form.endswith("lists"):
            list_name = f"{key}.txt" if form == "lists" else f"pictures_{name}.txt"
            # As some programs write them, from outside of the folder
            write(tmp_path / list_name, f"data/images/{place}/{name}.png\n")
            lines += [f"{key}: {list_name}"] if form != "lists" else []
        elif form == "yaml folders":
            lines.append(f"{key}: ../images/{place}")
        else:
            lines.append(f"{key}: /home/me/mine/images/{place}")
    write(tmp_path / "data.yaml", "\n".join(lines))
    picture(tmp_path / "images" / "four" / "d.png")
    assert split_of(tmp_path) == {
        "images/one/a.png": "train",
        "images/two/b.png": "validation",
        "images/three/c.png": "test",
    }
    assert "1 pictures are left out, which no split lists: d.png" in notes(tmp_path)


def test_yolo_splits_that_overlap_or_lack_are_told(tmp_path):
    yolo(tmp_path, classes="")
    write(tmp_path / "data.yaml", "names: [cat]\ntrain: images\nval: valid/images\n")
    assert "data.yaml: val is valid/images, which is not there" in notes(tmp_path)
    write(tmp_path / "data.yaml", "names: [cat]\ntrain: images\nval: images\n")
    refused(tmp_path, "data.yaml puts a.png into validation", "in train, too")
    write(tmp_path / "data.yaml", "names: [cat]\n")
    write(tmp_path / "val.txt", "images/a.png\nimages/no.png\n")
    assert split_of(tmp_path)["images/a.png"] == "validation"
    assert "1 lines of val.txt are left out, whose pictures are not there" in notes(tmp_path)


def test_yolo_lists_are_told_from_labels(tmp_path):
    yolo(tmp_path, names=("test", "train", "a", "b"))
    write(tmp_path / "val.txt", "a\nb\n")  # without suffixes it may be anything
    assert all(len(entry.boxes) == 1 for entry in entries(tmp_path).values())
    assert "val.txt is left aside: no line in it is a picture's name\n" in notes(tmp_path)


@pytest.mark.parametrize(
    "name, text", [("p.xml", "<project/>"), ("p.xml", "<proj"), ("p.json", "[1]"), ("p.json", "{")]
)
def test_files_of_other_kinds_hide_no_yolo_folder(name, text, tmp_path):
    yolo(tmp_path)
    write(tmp_path / name, text)
    assert len(entries(tmp_path)) == 4
    assert ("cannot be read" in notes(tmp_path)) == (text in ("<proj", "{"))


# COCO


def image(number, name, height=HEIGHT, width=WIDTH):
    return {"id": number, "file_name": name, "height": height, "width": width}


def box(number, image_id, bbox=(6, 4, 30, 20), kind=1, **more):
    return {"id": number, "image_id": image_id, "category_id": kind, "bbox": list(bbox), **more}


SHARE = [4 / 40, 6 / 60, 24 / 40, 36 / 60]


def coco(path, images, annotations, encoding="utf-8", names=("cat", "dog")):
    categories = [{"id": number, "name": name} for number, name in enumerate(names, 1)]
    saved = {"images": images, "annotations": annotations, "categories": categories}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(saved), encoding)


def four(path, annotations, **options):
    for name in "abcd":
        picture(path / f"{name}.png")
    images = [image(number, f"{name}.png") for number, name in enumerate("abcd")]
    coco(path / "all.json", images, annotations, **options)
    return images


def test_coco_instances_come_before_other_views_of_them(tmp_path):
    images = four(tmp_path, [])
    (tmp_path / "all.json").unlink()
    coco(tmp_path / "instances_all.json", images, [box(1, 0), box(2, 0, (0, 0, 6, 4), 2)])
    coco(tmp_path / "person_keypoints_all.json", images, [box(1, 0)], names=("person",))
    captions = [{"id": 1, "image_id": 0, "caption": "a cat"}]
    write(tmp_path / "captions.json", json.dumps({"images": images, "annotations": captions}))
    entry = entries(tmp_path)["a.png"]
    np.testing.assert_allclose(entry.boxes, [SHARE, [0, 0, 0.1, 0.1]])
    assert folder(tmp_path).label_names == ("cat", "dog")
    assert "captions.json is left aside: no annotation in it has a bbox" in notes(tmp_path)
    assert "person_keypoints_all.json is left aside" in notes(tmp_path)


def test_coco_pictures_named_by_several_files(tmp_path):
    images = four(tmp_path, [box(1, 0), box(2, 1)])
    coco(tmp_path / "train.json", images[:1], [box(7, 0, iscrowd=None)])
    assert len(entries(tmp_path)["a.png"].boxes) == 1
    assert split_of(tmp_path)["a.png"] == "train"
    assert "1 pictures that several files name alike are read once: a.png" in notes(tmp_path)
    coco(tmp_path / "val.json", images[:1], [box(7, 0)])
    refused(tmp_path, "a.png: expected in one split")
    coco(tmp_path / "val.json", images[:1], [box(7, 0, kind=2)])
    refused(tmp_path, "val.json", "name a.png. Expected the same boxes")


def test_coco_pictures_named_twice_in_one_file(tmp_path):
    images = four(tmp_path, [])
    images.append(image(9, "a.png"))
    coco(tmp_path / "all.json", images, [box(1, 0), box(2, 9)])
    assert len(entries(tmp_path)["a.png"].boxes) == 1
    assert "1 pictures that all.json names twice alike are read once: a.png" in notes(tmp_path)
    coco(tmp_path / "all.json", images, [box(1, 0), box(2, 9, kind=2)])
    refused(tmp_path, "all.json names a.png twice", "id 9")


def test_coco_ids(tmp_path):
    images = four(tmp_path, [box(1, 0), box(2, "0"), box(3, 99), box(4, 99)])
    assert (
        "3 annotations of all.json are left out, of images that it does not list: image_id '0',"
        " image_id 99" in notes(tmp_path)
    )
    coco(tmp_path / "all.json", [*images, image(2, "d.png")], [])
    refused(tmp_path, "expected an id of its own for each image. Received: 2 for c.png and d.png")


def test_boxes_in_shares_are_no_pixels(tmp_path):
    shares = (0.1, 0.2, 0.3, 0.4)
    images = four(tmp_path, [box(1, 0, shares), box(2, 1, (0, 0, 1, 1))])
    refused(tmp_path, "all.json: expected boxes in pixels", "0.1, 0.2, 0.4, 0.6, which are shares")
    coco(tmp_path / "all.json", images, [box(1, 0, shares), box(2, 1)])
    assert len(entries(tmp_path)["a.png"].boxes) == 1  # one among others may be as small
    coco(tmp_path / "all.json", images, [box(1, "0"), box(2, "1")])
    refused(tmp_path, "of images that it does not list: image_id '0', image_id '1'")
    ends = "<xmin>0.1</xmin><ymin>0.2</ymin><xmax>0.4</xmax><ymax>0.6</ymax>"
    for name in "ab":
        picture(tmp_path / "voc" / f"{name}.png")
        voc(tmp_path / "voc" / f"{name}.xml", bndbox=f"<bndbox>{ends}</bndbox>")
    refused(tmp_path / "voc", "expected boxes in pixels", "0.1, 0.2, 0.4, 0.6")


def test_dev_is_a_validation_split(tmp_path):
    for split, names in (("train", "abcd"), ("dev", "ef")):
        yolo(tmp_path / split, names=names, classes="")
    write(tmp_path / "classes.txt", "cat\ndog\n")
    assert [split for name, split in split_of(tmp_path).items() if "dev" in name] == [
        "validation"
    ] * 2


def test_boxes_of_other_proportions_are_refused(tmp_path):
    images = four(tmp_path, [box(1, 0)])
    coco(tmp_path / "all.json", [image(0, "a.png", 400, 604), *images[1:]], [box(1, 0)])
    assert entries(tmp_path)["a.png"].boxes[0, 0] == 4 / 400  # made smaller as a whole
    coco(tmp_path / "all.json", [image(0, "a.png", 60, 40), *images[1:]], [box(1, 0)])
    refused(tmp_path, "a.png has 60 x 40 pixels", "a picture of 40 x 60")


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_proportions_are_those_of_the_picture_as_shown(suffix, tmp_path):
    images = four(tmp_path, [box(1, 0)])
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(tmp_path / f"a.{suffix}", exif=exif)
    name = f"a.{suffix}"
    coco(tmp_path / "all.json", [image(0, name), *images[1:]], [box(1, 0)])
    refused(tmp_path, f"{name} has 40 x 60 pixels", "a picture of 60 x 40, turned as its EXIF says")
    coco(tmp_path / "all.json", [image(0, name, 60, 40), *images[1:]], [box(1, 0, (4, 6, 20, 30))])
    np.testing.assert_allclose(entries(tmp_path)[name].boxes, [[0.1, 0.1, 0.6, 0.6]])
    (tmp_path / f"a.{suffix}").write_bytes(b"no picture")  # which decoding says
    assert len(entries(tmp_path)[name].boxes) == 1


@pytest.mark.parametrize(
    "before", ["C:\\data\\", "\\\\host\\data\\", "https://x.org/", "/home/me/", "../../", "./"]
)
def test_whole_paths_of_elsewhere_are_found_by_their_end(before, tmp_path):
    for place in ("one", "two"):
        picture(tmp_path / place / "a b.JPG")
    end = "two/a b.jpg"
    end = end.replace("/", "\\") if "\\" in before else end
    end = end.replace(" ", "%20") if "://" in before else end
    images = [image(0, before + end), image(1, "one/a b.jpg")]
    coco(tmp_path / "all.json", images, [box(1, 0)])
    assert {name: len(entry.boxes) for name, entry in entries(tmp_path).items()} == {
        "one/a b.JPG": 0,
        "two/a b.JPG": 1,
    }


def test_a_picture_in_another_folder_is_another_picture(tmp_path):
    picture(tmp_path / "one" / "a.png")
    picture(tmp_path / "one" / "b.png")
    images = [image(0, "two/a.png"), image(1, "one/b.png")]
    coco(tmp_path / "all.json", images, [box(1, 0)])
    refused(tmp_path, "names the picture two/a.png, which is not there")
    coco(tmp_path / "all.json", [image(0, "http://[/no.png")], [box(1, 0)])
    refused(tmp_path, "names the picture http://[/no.png, which is not there")
    picture(tmp_path / "two" / "c.png")
    coco(tmp_path / "all.json", [image(0, "a.png"), image(1, "/away/b.png")], [box(1, 0)])
    assert sorted(entries(tmp_path)) == ["one/a.png", "one/b.png"]
    assert "1 pictures without annotation are left out: c.png" in notes(tmp_path)
    picture(tmp_path / "two" / "a.png")
    refused(tmp_path, "names a.png. Expected one picture of that name", "one/a.png and two/a.png")


def test_splits_of_files_by_their_folders(tmp_path):
    for split in ("train", "val"):
        for name in "ab":
            picture(tmp_path / split / "images" / f"{name}.png")
        images = [image(0, "a.png"), image(1, "b.png")]
        coco(tmp_path / split / "annotations.json", images, [box(1, 0)] * (1 + (split == "val")))
    assert {name: len(entry.boxes) for name, entry in entries(tmp_path).items()} == {
        "train/images/a.png": 1,
        "train/images/b.png": 0,
        "val/images/a.png": 2,
        "val/images/b.png": 0,
    }


def test_pictures_called_alike_are_those_of_the_split_or_beside(tmp_path):
    for place in ("train", "val", "more/images", "rest/images"):
        picture(tmp_path / place / "a.png")
    for count, place in enumerate(("more/all", "rest/all", "instances_val", "instances_train")):
        coco(tmp_path / f"{place}.json", [image(0, "a.png")], [box(1, 0)] * count)
    assert {name: len(entry.boxes) for name, entry in entries(tmp_path).items()} == {
        "more/images/a.png": 0,
        "rest/images/a.png": 1,
        "val/a.png": 2,
        "train/a.png": 3,
    }


def test_the_file_decides_the_split_before_the_folder(tmp_path):
    for name in "ab":
        picture(tmp_path / "train" / f"{name}.png")
        picture(tmp_path / "val_or_test" / f"{name}{name}.png")
    coco(tmp_path / "val.json", [image(0, "train/a.png")], [box(1, 0)])
    coco(tmp_path / "all.json", [image(0, "b.png"), image(1, "aa.png"), image(2, "bb.png")], [])
    splits = split_of(tmp_path)
    assert splits["train/a.png"] == "validation"
    # A folder called by two splits is of none
    assert sorted(splits.values()) == ["test", "train", "train", "validation"]


def test_splits_of_common_pictures_by_the_folders_of_files(tmp_path):
    for name in "abcd":
        picture(tmp_path / "images" / f"{name}.png")
    coco(tmp_path / "train" / "labels.json", [image(0, "a.png"), image(1, "b.png")], [box(1, 0)])
    coco(tmp_path / "valid" / "labels.json", [image(0, "c.png")], [box(1, 0)])
    coco(tmp_path / "test" / "labels.json", [image(0, "d.png")], [box(1, 0)])
    splits = {name[-5]: split for name, split in split_of(tmp_path).items()}
    assert splits == {"a": "train", "b": "train", "c": "validation", "d": "test"}


def test_names_with_accents_however_composed(tmp_path):
    for name in ("é", "ü"):
        picture(tmp_path / (unicodedata.normalize("NFD", name) + ".png"))
    images = [image(number, f"{name}.png") for number, name in enumerate(("é", "ü"))]
    coco(tmp_path / "all.json", images, [box(1, 0)], encoding="utf-8-sig")
    assert sorted(len(entry.boxes) for entry in entries(tmp_path).values()) == [0, 1]


@pytest.mark.parametrize(
    "change, received",
    [
        ({"bbox": []}, "bbox []"),
        ({"bbox": None}, "bbox None"),
        ({"bbox": [1, 2, float("nan"), 4]}, "bbox [1, 2, nan, 4]"),
        ({"bbox": [1, 2, "wide", 4]}, "bbox [1, 2, 'wide', 4]"),
        ({"bbox": [1, 2, 10**400, 4]}, "bbox [1, 2, 1000"),
        ({"category_id": 7}, "category_id 7, which no category has"),
        ({"iscrowd": 2}, "iscrowd 2"),
    ],
)
def test_a_broken_annotation_is_named(change, received, tmp_path):
    four(tmp_path, [box(1, 0), {**box(77, 1), **change}])
    refused(tmp_path, "all.json, annotation 77 of b.png: expected COCO's form", received)


@pytest.mark.parametrize("name", [None, "", " ", ["cat"]])
def test_coco_classes_have_names(name, tmp_path):
    four(tmp_path, [box(1, 0)], names=("cat", name))
    refused(tmp_path, f"the name {name!r} of the category 2")


def test_coco_classes_have_ids_of_one_kind(tmp_path):
    four(tmp_path, [box(1, 0)])
    path = tmp_path / "all.json"
    saved = json.loads(path.read_text())
    saved["categories"].append({"id": "9", "name": "bird"})
    path.write_text(json.dumps(saved))
    refused(tmp_path, "expected ids of one kind for all categories. Received: int and str")


def test_boxes_that_reach_far_outside_and_classes_never_shown_are_told(tmp_path):
    corners = (30, 20, WIDTH - 2, HEIGHT - 2)  # right and bottom, where width and height belong
    four(tmp_path, [box(1, 0, corners), box(2, 1, (-2, 4, 30, 20)), box(3, 2), box(4, 3)])
    assert ": 1 boxes cut at the edge of their picture by more than 25%" in notes(tmp_path)
    assert "classes without a box in the train split: dog" in notes(tmp_path)


def test_other_forms_in_a_folder_of_coco_are_told(tmp_path):
    four(tmp_path, [box(1, 0)])
    voc(tmp_path / "a.xml", "a.png")
    write(tmp_path / "b.txt", "0 0.5 0.5 0.2 0.2")
    write(tmp_path / "c.xml", "<")
    assert {name: len(entry.boxes) for name, entry in entries(tmp_path).items()} == {
        "a.png": 1,
        "b.png": 0,
        "c.png": 0,
        "d.png": 0,
    }
    assert "1 XML files are left aside" in notes(tmp_path)
    assert "1 text files called as pictures are left aside" in notes(tmp_path)
    assert "c.xml cannot be read as XML" in notes(tmp_path)
    write(tmp_path / "more.json", "{")
    refused(tmp_path, "more.json cannot be read as JSON")


def test_names_may_begin_with_the_folder_itself(tmp_path, monkeypatch):
    picture(tmp_path / "mine" / "one" / "a.png")
    picture(tmp_path / "mine" / "one" / "b.png")
    images = [image(0, "mine/one/a.png"), image(1, "one/b.png")]
    coco(tmp_path / "mine" / "all.json", images, [box(1, 0)])
    monkeypatch.chdir(tmp_path / "mine")
    assert sorted(entries(".")) == ["one/a.png", "one/b.png"]


def test_coco_without_boxes_alone_says_what_is_left_aside(tmp_path):
    four(tmp_path, [{"id": 1, "image_id": 0, "caption": "a cat"}])
    refused(tmp_path, "holds no annotated picture", "all.json is left aside")


# Pascal VOC

CAT = "<name>cat</name>"
BNDBOX = "<bndbox><xmin>7</xmin><ymin>5</ymin><xmax>36</xmax><ymax>24</ymax></bndbox>"


def voc(path, name="", objects=(CAT,), size=(HEIGHT, WIDTH), bndbox=BNDBOX):
    each = "".join(f"<object>{words}{bndbox}</object>" for words in objects)
    size = f"<size><width>{size[1]}</width><height>{size[0]}</height></size>"
    name = f"<filename>{name}</filename>" if name else ""
    write(path, f"<annotation>{name}{size}{each}</annotation>")


def devkit(path, names=("a", "b", "c", "d")):
    for name in names:
        picture(path / "JPEGImages" / f"{name}.jpg")
        voc(path / "Annotations" / f"{name}.xml", f"{name}.jpg")


def test_voc_pictures_are_those_of_the_own_stem(tmp_path):
    for name in "abc":
        picture(tmp_path / "JPEGImages" / f"{name}.JPG")
        picture(tmp_path / "SegmentationClass" / f"{name}.png")
        voc(tmp_path / "Annotations" / f"{name}.xml", "a.jpg", [CAT] * (1 + (name == "b")))
    picture(tmp_path / "JPEGImages" / "named.jpg")
    picture(tmp_path / "SegmentationClass" / "other.png")
    voc(tmp_path / "Annotations" / "other.xml", "named")
    assert {name[11:]: len(entry.boxes) for name, entry in entries(tmp_path).items()} == {
        "a.JPG": 1,
        "b.JPG": 2,
        "c.JPG": 1,
        "named.jpg": 1,
    }
    np.testing.assert_allclose(entries(tmp_path)["JPEGImages/a.JPG"].boxes, [SHARE])


def test_voc_pictures_that_cannot_be_told_are_refused(tmp_path):
    devkit(tmp_path)
    voc(tmp_path / "Annotations" / "copy.xml", "a.jpg")
    refused(tmp_path, "copy.xml", "a.xml", "both about JPEGImages/a.jpg")
    (tmp_path / "Annotations" / "copy.xml").unlink()
    picture(tmp_path / "JPEGImages" / "a.png")
    assert "JPEGImages/a.jpg" in entries(tmp_path)
    voc(tmp_path / "Annotations" / "a.xml")
    refused(tmp_path, "a.xml: expected one picture of its name", "JPEGImages/a.png")
    voc(tmp_path / "Annotations" / "no.xml", "no.jpg")
    (tmp_path / "JPEGImages" / "a.png").unlink()
    refused(tmp_path, "names the picture no.jpg, which is not there")


def test_voc_names_with_accents_and_of_several_sets(tmp_path):
    for place in ("one", "two"):
        picture(tmp_path / place / "JPEGImages" / unicodedata.normalize("NFD", "é.jpg"))
        voc(tmp_path / place / "Annotations" / "é.xml", objects=[CAT] * (1 + (place == "two")))
    assert {name[:3]: len(entry.boxes) for name, entry in entries(tmp_path).items()} == {
        "one": 1,
        "two": 2,
    }


def test_voc_splits_in_folders(tmp_path):
    for split in ("train", "val", "test"):
        picture(tmp_path / split / "images" / "a.jpg")
        voc(tmp_path / split / "annotations" / "a.xml", "a.jpg")
    assert split_of(tmp_path) == {
        "train/images/a.jpg": "train",
        "val/images/a.jpg": "validation",
        "test/images/a.jpg": "test",
    }


def test_voc_lists_are_those_of_main(tmp_path):
    names = ("a b", "a", "c 1", "d", "e")
    devkit(tmp_path, names)
    lists = {"Main/train": "a b\na  1\n", "Main/val": "c 1\n", "Main/test": "d -1\ngone\n"}
    lists |= {"Segmentation/train": "d\n", "Main/cat_val": "a -1\n"}
    for name, lines in lists.items():
        write(tmp_path / "ImageSets" / f"{name}.txt", lines)
    splits = {name[11:-4]: split for name, split in split_of(tmp_path).items()}
    expected = ("train", "train", "validation", "test", "train")
    assert splits == dict(zip(names, expected, strict=True))
    assert "1 names in ImageSets/Main are left out, having no annotation: gone" in notes(tmp_path)
    assert "that no list in ImageSets/Main names count as train: e.jpg" in notes(tmp_path)
    write(tmp_path / "ImageSets" / "Main" / "test.txt", "d\na b\n")
    refused(tmp_path, "lists a b. Expected in one split")


def test_voc_difficult_objects_count_as_crowds(tmp_path):
    devkit(tmp_path)
    words = ("1", "0", "True", "Unspecified")
    marked = [f"{CAT}<difficult>{word}</difficult>" for word in words]
    voc(tmp_path / "Annotations" / "a.xml", "a.jpg", [*marked, CAT])
    assert entries(tmp_path)["JPEGImages/a.jpg"].crowds.tolist() == [1, 0, 1, 0, 0]


@pytest.mark.parametrize(
    "options, expected",
    [
        ({"objects": [CAT, ""]}, "a.xml, object 2: expected Pascal VOC's form"),
        ({"objects": ["<name/>"]}, "Received: no name"),
        ({"bndbox": ""}, "a.xml, object 1: expected Pascal VOC's form"),
        ({"bndbox": BNDBOX.replace("36", "nan")}, "'xmax': 'nan'"),
        ({"size": (0, 0)}, "Received: height '0', width '0'"),
        ({"size": ("inf", 5)}, "Received: height 'inf', width '5'"),
        ({"size": ("", 5)}, "Received: height '', width '5'"),
        ({"size": (60, 40)}, "a.jpg has 60 x 40 pixels"),
    ],
)
def test_wrong_voc_annotations_are_refused_in_words(options, expected, tmp_path):
    devkit(tmp_path)
    voc(tmp_path / "Annotations" / "a.xml", "a.jpg", **options)
    refused(tmp_path, "a.xml", expected)


def test_a_broken_voc_annotation_is_not_passed_over(tmp_path):
    devkit(tmp_path)
    write(tmp_path / "Annotations" / "a.xml", "<annotation><size>")
    refused(tmp_path, "a.xml cannot be read as XML")
    voc(tmp_path / "Annotations" / "a.xml")
    assert len(entries(tmp_path)) == 4
    write(tmp_path / "Annotations" / "e.xml", "")
    refused(tmp_path, "e.xml cannot be read as XML")
