"""What the drawings of the report's page share: elements that escape what they hold, and the same told in words.

Colours are classes, so that the page's style sheet decides them for light, dark and paper.
"""

from __future__ import annotations

from xml.etree import ElementTree as ET

from markupsafe import Markup

from provision.cli.page import plain


def drawing(name: str, title: str, told: str, **attributes: object) -> ET.Element:
    """An `svg` with its title and its content in words; `name` is unique on the page."""
    root = ET.Element("svg", {"role": "img", "aria-labelledby": f"{name}-title {name}-desc"})
    root.attrib.update(_strings(attributes))
    add(root, "title", title, id=f"{name}-title")
    add(root, "desc", told, id=f"{name}-desc")
    return root


def add(parent: ET.Element, tag: str, text: str | None = None, **attributes: object) -> ET.Element:
    """A child. `class_` stands for `class`, other underscores for hyphens; numbers are rounded to a tenth."""
    child = ET.SubElement(parent, tag, _strings(attributes))
    child.text = None if text is None else plain(text).replace("\n", " ")
    return child


def markup(root: ET.Element) -> Markup:
    """The drawing, ready for a page that escapes."""
    return Markup(ET.tostring(root, encoding="unicode", short_empty_elements=False))  # noqa: S704  escaped by ElementTree


def shortened(text: str, most: int) -> str:
    """At most so many characters, cut in the middle: the ends of a disk's name tell it from others."""
    if len(text) <= most:
        return text
    return f"{text[: most - most // 3 - 1]}…{text[-(most // 3) :]}"


def number(value: object, default: float = 0.0) -> float:
    """A setting's number; what is none counts as the default."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else default


def _strings(attributes: dict[str, object]) -> dict[str, str]:
    return {
        key.rstrip("_").replace("_", "-"): f"{value:.4g}" if isinstance(value, float) else plain(str(value))
        for key, value in attributes.items()
    }
