from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from vision_files_kit import encoded, picture, pixels

from rslit.errors import RslitError
from rslit.vision.images import image_size, load_image, load_images
from rslit.vision.rows import CaptionRow, RegionRow, StoredImage, region

GRADIENT = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5


class Held(StoredImage):
    def __init__(self, content: bytes) -> None:
        self.content, self.reads = content, 0

    def __str__(self) -> str:
        return "held"

    def read(self) -> bytes:
        self.reads += 1
        return self.content


def saved(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)  # type: ignore[arg-type]
    return path


def test_rgb_is_as_it_is(tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    path = saved(tmp_path / "a.png", Image.fromarray(colours))
    loaded = load_image(CaptionRow("1", path, ("x",)))
    assert (loaded.mode, loaded.size) == ("RGB", (8, 6))
    assert (pixels(loaded) == colours).all()
    assert image_size(path) == (8, 6)


def test_bytes_are_read_as_files_are() -> None:
    assert load_image(Held(encoded(colour=(1, 2, 3)))).getpixel((0, 0)) == (1, 2, 3)
    assert image_size(Held(encoded((9, 4)))) == (9, 4)


def test_grey_is_no_black_image(tmp_path: Path) -> None:
    loaded = load_image(saved(tmp_path / "grey.png", Image.fromarray(GRADIENT)))
    assert loaded.mode == "RGB"
    assert (pixels(loaded) == GRADIENT[..., None]).all()


def test_grey_with_16_bits_keeps_its_range(tmp_path: Path) -> None:
    deep = GRADIENT.astype(np.uint16) * 256 + 17
    loaded = load_image(saved(tmp_path / "deep.png", Image.fromarray(deep)))
    assert (pixels(loaded) == GRADIENT[..., None]).all()


def test_one_bit(tmp_path: Path) -> None:
    loaded = load_image(saved(tmp_path / "bit.png", Image.fromarray(GRADIENT > 100)))
    assert (pixels(loaded) == np.where(GRADIENT > 100, 255, 0)[..., None]).all()


def test_palette(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    assert pixels(load_image(saved(tmp_path / "p.png", image))).tolist() == [[[10, 20, 30], [200, 100, 50]]]


def test_transparent_is_white_on_every_way(tmp_path: Path) -> None:
    rgba = Image.new("RGBA", (3, 1), (0, 0, 0, 0))
    rgba.putpixel((1, 0), (10, 20, 30, 255))
    rgba.putpixel((2, 0), (0, 0, 0, 51))  # a fifth: 255 * (1 - 0.2)
    expected = [[[255] * 3, [10, 20, 30], [204] * 3]]
    assert pixels(load_image(saved(tmp_path / "rgba.png", rgba))).tolist() == expected
    grey = Image.new("LA", (2, 1), (0, 0))
    grey.putpixel((1, 0), (90, 255))
    assert pixels(load_image(saved(tmp_path / "la.png", grey))).tolist() == [[[255] * 3, [90] * 3]]
    palette = Image.new("P", (2, 1))
    palette.putpalette([0, 0, 0, 200, 100, 50])
    palette.putpixel((1, 0), 1)
    path = saved(tmp_path / "pa.png", palette, transparency=0)
    assert pixels(load_image(path)).tolist() == [[[255] * 3, [200, 100, 50]]]


def test_cmyk(tmp_path: Path) -> None:
    image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))  # no cyan, all magenta and yellow: red
    red, green, blue = load_image(saved(tmp_path / "c.jpg", image, quality=100)).getpixel((8, 8))  # type: ignore[misc]
    assert red > 250
    assert max(green, blue) < 5


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_as_exif_says(tmp_path: Path, orientation: int) -> None:
    upright = GRADIENT
    # What a camera stores so that a viewer who follows the orientation sees `upright`.
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: np.rot90(upright),
        7: upright[::-1, ::-1].T,
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path / "turned.png", Image.fromarray(np.ascontiguousarray(stored)), exif=exif)
    assert (pixels(load_image(path))[..., 0] == upright).all()
    assert image_size(path) == (8, 6)


def test_missing(tmp_path: Path) -> None:
    for load in (load_image, image_size):
        with pytest.raises(RslitError) as caught:
            load(tmp_path / "none.jpg", "17")
        assert str(caught.value) == (
            f"image {tmp_path}/none.jpg of item 17 does not exist; put the file there, or give the right folder of "
            "images"
        )


def test_no_image_at_all(tmp_path: Path) -> None:
    (tmp_path / "page.jpg").write_text("<html>404</html>")
    for load in (load_image, image_size):
        with pytest.raises(RslitError) as caught:
            load(tmp_path / "page.jpg", "17")
        assert str(caught.value) == (
            f"image {tmp_path}/page.jpg of item 17 cannot be read (it is no image file); fetch it again, or take the "
            "item out of the data"
        )
    (tmp_path / "empty.png").touch()
    with pytest.raises(RslitError, match=r"empty.png cannot be read \(it is no image file\)"):
        load_image(tmp_path / "empty.png")
    with pytest.raises(RslitError, match=r"cannot be read \(.*Is a directory"):
        load_image(tmp_path)


def test_without_pillow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = picture(tmp_path / "a.png", (8, 6))
    monkeypatch.setitem(sys.modules, "PIL", None)
    for load in (load_image, image_size):
        with pytest.raises(RslitError) as caught:
            load(path, "17")
        assert str(caught.value) == f"image {path} of item 17 needs the package pillow: pip install 'rslit[vision]'"


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_every_truncation_is_one_line(tmp_path: Path, kind: str) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8))
    whole = saved(tmp_path / "whole", noise, format=kind).read_bytes()
    for length in range(0, int(len(whole) * 0.9), len(whole) // 40):
        with pytest.raises(RslitError, match="image held of item 3 cannot be read") as caught:
            load_image(Held(whole[:length]), "3")
        assert "\n" not in str(caught.value)


def test_corrupt_inside(tmp_path: Path) -> None:
    content = bytearray(encoded((64, 64)))
    content[50:60] = b"\0" * 10
    with pytest.raises(RslitError, match="image held cannot be read"):
        load_image(Held(bytes(content)))


def test_pixels_without_a_known_range(tmp_path: Path) -> None:
    path = saved(tmp_path / "f.tiff", Image.fromarray(GRADIENT.astype(np.float32)))
    with pytest.raises(RslitError, match=r"f.tiff has pixels of kind 'F' without a known range; save it with 8 bits"):
        load_image(path)


def test_a_regions_image_has_the_size_of_its_file(tmp_path: Path) -> None:
    path = picture(tmp_path / "a.png", (8, 6))
    assert load_image(RegionRow("1", path, "x", (0, 0, 1, 1), (8, 6))).size == (8, 6)
    with pytest.raises(RslitError, match=r"a.png of item 1 is 8 x 6, but its data file says 16 x 12, and boxes are in"):
        load_image(RegionRow("1", path, "x", (0, 0, 1, 1), (16, 12)))


def test_a_batch_loads_each_image_once() -> None:
    one, two = Held(encoded(colour=(1, 1, 1))), Held(encoded(colour=(2, 2, 2)))
    batch = {"items": ["a", "b", "c"], "image": [one, two, one], "target": ["x", "y", "z"]}
    loaded = load_images(batch)
    assert [image.getpixel((0, 0)) for image in loaded] == [(1, 1, 1), (2, 2, 2), (1, 1, 1)]
    assert (one.reads, two.reads) == (1, 1)
    with pytest.raises(RslitError, match="of item b is 8 x 6, but its data file says 9 x 6"):
        load_images(batch | {"image_size": [(8, 6), (9, 6), (8, 6)]})


def test_boxes_are_checked(tmp_path: Path) -> None:
    def row(*box: float) -> RegionRow:
        return region("5", tmp_path, "x", box, (80, 60), "refs.json")

    assert row(10, 20, 30, 40).box == (10.0, 20.0, 30.0, 40.0)
    assert row(-0.5, 0, 80.01, 60.99).box == (0.0, 0.0, 80.0, 60.0)
    for box in ((-2, 0, 5, 5), (0, -2, 5, 5), (0, 0, 81.5, 5), (0, 0, 5, 62)):
        with pytest.raises(RslitError, match=r"refs.json: item 5: the box .* is outside its image of 80 x 60"):
            row(*box)
    for box in ((10, 10, 10, 20), (30, 30, 20, 20)):
        with pytest.raises(RslitError, match=r"refs.json: item 5: the box .* has no area"):
            row(*box)
    for values in ((1, 2, 3), (1, 2, float("nan"), 4), (0, 0, float("inf"), 4)):
        with pytest.raises(RslitError, match=r"refs.json: item 5: a box is four finite numbers"):
            row(*values)
