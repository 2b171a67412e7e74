"""Links, pictures and the reference of README and guide."""

import inspect
import pathlib
import re
import shutil
import subprocess
import sys
import types

import pytest
from conftest import ROOT
from PIL import Image

import igpt_keras

PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "results").glob("*.md"),
    ]
)
# Callables and classes of these parts are in the reference too.
PARTS = (
    *("layers", "data", "probes", "training", "evaluation", "reports"),
    *("program", "codec"),
)


def prose(path):
    """A page without blocks of code."""
    return re.sub(r"^```.*?^```", "", path.read_text(), flags=re.M | re.S)


def anchors(path):
    """Of each heading, as GitHub and MkDocs make them."""
    found = set()
    for heading in re.findall(r"^#+ (.+)$", prose(path), re.MULTILINE):
        words = re.sub(r"[^\w\- ]", "", heading.lower())
        found.add(words.replace(" ", "-"))
    return found


def links(path):
    text = prose(path)
    found = re.findall(r"\]\(([^)\s]+)\)", text)
    found += re.findall(r'(?:src|href)="([^"]+)"', text)
    return [link for link in found if not re.match(r"https?://", link)]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for link in links(page):
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        assert target.is_relative_to(ROOT), link
        if page.is_relative_to(ROOT / "docs"):
            # The site holds nothing else.
            assert target.is_relative_to(ROOT / "docs"), link
        if anchor:
            assert anchor in anchors(target), link


def test_links_are_found():
    """The test above would pass on pages of which it reads nothing."""
    found = [link for page in PAGES for link in links(page)]
    assert len(found) >= 20
    for link in ("docs/pictures/photos.png", "docs/first_run.md"):
        assert link in found


def test_every_page_is_in_the_nav():
    nav = (ROOT / "mkdocs.yml").read_text()
    listed = re.findall(r": (\S+\.md)$", nav, re.MULTILINE)
    pages = (ROOT / "docs").rglob("*.md")
    assert sorted(listed) == sorted(
        str(page.relative_to(ROOT / "docs")) for page in pages
    )


def test_pictures_are_small_and_shown():
    shown = {pathlib.Path(x).name for page in PAGES for x in links(page)}
    pictures = list((ROOT / "docs" / "pictures").iterdir())
    assert len(pictures) >= 3
    for path in pictures:
        assert path.name in shown
        assert path.stat().st_size < 100_000
        with Image.open(path) as picture:
            assert picture.format == "PNG" and min(picture.size) > 50
            assert len(picture.convert("L").getcolors()) > 2


def test_readme_is_two_screens():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 130


def test_reference_has_every_public_name():
    text = "\n".join(
        path.read_text() for path in (ROOT / "docs" / "reference").iterdir()
    )
    listed = re.findall(r"^::: (\S+)$", text, re.MULTILINE)
    found = {path: find(path.split(".")) for path in listed}
    assert not [path for path, value in found.items() if value is None]
    expected = {
        f"{part.__name__}.{name}": value
        for part in (igpt_keras, *(getattr(igpt_keras, p) for p in PARTS))
        for name, value in vars(part).items()
        if is_public(name, value)
    }
    assert len(expected) > 60
    there = set(map(id, found.values()))
    assert not [k for k, value in expected.items() if id(value) not in there]


def is_public(name, value):
    ours = getattr(value, "__module__", "").startswith("igpt_keras.")
    kind = inspect.isclass(value) or inspect.isfunction(value)
    return kind and ours and not name.startswith("_")


def find(names):
    """What a dotted path of the reference stands for."""
    for count in range(len(names), 0, -1):
        module = sys.modules.get(".".join(names[:count]))
        if isinstance(module, types.ModuleType):
            break
    value = module
    for name in names[count:]:
        value = getattr(value, name, None)
    return value


@pytest.mark.large
def test_site_is_built(tmp_path):
    if shutil.which("mkdocs", path=str(pathlib.Path(sys.executable).parent)):
        command = [sys.executable, "-m", "mkdocs", "build", "--strict"]
        command += ["--site-dir", str(tmp_path / "site")]
        result = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True
        )
        assert result.returncode == 0, result.stderr[-3000:]
        assert (tmp_path / "site" / "reference" / "data").is_dir()
    else:
        pytest.skip("the extra docs is not installed")
