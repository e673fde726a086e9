"""Text, XML and image names as people have them: encodings, backslashes, addresses, %20."""

from __future__ import annotations

import codecs
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from lucidet.data.specification.reading import SpecificationError

# the longer marks first: UTF-32's begins with UTF-16's
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_XML_ENCODING = re.compile(rb"""^\s*<\?xml[^>]*encoding\s*=\s*["']([A-Za-z0-9_.-]+)["']""")
_ROOT_TAG = re.compile(r"<([A-Za-z_][\w.-]*)")


def decode(data: bytes, path: Path) -> str:
    """Return a file's bytes as text: by its byte-order mark, XML declaration, or as UTF-8.

    Raises:
        SpecificationError: the bytes are not text in that encoding.
    """
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), "")
    if not encoding and data[:4] == b"<\0?\0":
        encoding = "utf-16-le"
    elif not encoding and data[:4] == b"\0<\0?":
        encoding = "utf-16-be"
    if not encoding:
        declared = _XML_ENCODING.match(data[:200])
        encoding = declared.group(1).decode("ascii") if declared else "utf-8"
    try:
        return data.decode(encoding)
    except LookupError as error:
        raise SpecificationError(
            f"{path}: unknown encoding {encoding!r}; save it as UTF-8"
        ) from error
    except UnicodeDecodeError as error:
        raise SpecificationError(
            f"{path} is not {encoding} text (byte {error.start}); save it as UTF-8"
        ) from error


def read_text(path: Path) -> str:
    """Return a text file's content, whatever its encoding; see :func:`decode`."""
    return decode(path.read_bytes(), path)


def read_lines(path: Path) -> list[str]:
    """Return the lines of a text file that are not blank, stripped."""
    return [line.strip() for line in read_text(path).splitlines() if line.strip()]


def parse_xml(path: Path) -> ElementTree.Element:
    """Return the root of an XML file. Entities are refused, not expanded.

    Raises:
        SpecificationError: broken XML, or a file that defines entities.
    """
    text = read_text(path)
    if "<!ENTITY" in text:
        raise SpecificationError(
            f"{path} defines XML entities, which annotations never need and which can stand for "
            "other files; it is refused. Remove the <!ENTITY ...> lines"
        )
    try:
        # ElementTree takes text as it is, whatever encoding its declaration names
        return ElementTree.fromstring(text.lstrip("\ufeff \t\r\n"))
    except ElementTree.ParseError as error:
        raise SpecificationError(
            f"{path} is not valid XML: {error}; export or write it again"
        ) from error


def xml_root_tag(path: Path) -> str:
    """Return the name of an XML file's first element from the file's head; "" if unreadable."""
    with path.open("rb") as file:
        head = file.read(4096)
    try:
        text = decode(head[: len(head) // 4 * 4], path)
    except SpecificationError:
        text = head.decode("latin-1")
    text = re.sub(r"<\?.*?\?>|<!--.*?-->|<!DOCTYPE[^>]*>", "", text, flags=re.DOTALL)
    found = _ROOT_TAG.search(text)
    return found.group(1) if found else ""


def name_forms(name: str) -> list[str]:
    """Return the ways to read an image name, the literal one first.

    >>> name_forms("file:///data/a%20b.jpg")[1:]
    ['/data/a%20b.jpg', 'file:///data/a b.jpg', '/data/a b.jpg']
    >>> name_forms("images\\\\17.png")[-1]
    'images/17.png'
    >>> name_forms("/data/local-files/?d=photos/a.jpg")[-1]
    'photos/a.jpg'
    """
    forms = [name]
    if "://" in name:
        forms.append(urlsplit(name).path if not name.startswith("file://") else name[7:])
    if "?d=" in name:  # Label Studio's address of a file on its own disk
        forms.append(parse_qs(urlsplit(name).query).get("d", [name])[0])
    for form in list(forms):
        if "%" in form:
            forms.append(unquote(form))
    for form in list(forms):
        if "\\" in form:
            forms.append(form.replace("\\", "/"))
    return list(dict.fromkeys(forms))
