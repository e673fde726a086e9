"""XML files of annotations: any encoding, and no entities."""

from __future__ import annotations

import codecs
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from lucidet._regular_file import open_regular, read_regular
from lucidet.data.text_files import decode

__all__ = ["read_xml", "root_tag"]

_ENCODING = re.compile(rb"""^\s*<\?xml[^>]*encoding\s*=\s*["']([A-Za-z0-9_.-]+)["']""")
_TAG = re.compile(r"<([A-Za-z_][\w.-]*)")
_BEFORE_ROOT = re.compile(r"<\?.*?\?>|<!--.*?-->|<!DOCTYPE[^>]*>", re.DOTALL)
_HEAD = 4096  # bytes
_MAX_TAGS = 5_000_000  # each takes 100 bytes of memory
#: codecs of Python that decode single names or escapes, slowly
_NO_FILE_ENCODINGS = ("idna", "punycode", "unicode-escape", "raw-unicode-escape", "undefined")


def read_xml(path: Path) -> ElementTree.Element:
    """Return the root of an XML file. Entities are refused, not expanded.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: broken XML, text in another encoding than it says, or entities.
    """
    text = _text(read_regular(path, "XML"), path)
    if "<!ENTITY" in text:
        raise ValueError(
            f"{path} defines XML entities, which annotations do not need and which can stand for "
            "other files: refused. Remove the <!ENTITY ...> lines"
        )
    if text.count("<") > _MAX_TAGS:
        raise ValueError(f"annotation file {path} has more than {_MAX_TAGS} tags: split it")
    try:
        # as text, whatever encoding its declaration names: that has been done
        return ElementTree.fromstring(text.lstrip("\ufeff \t\r\n"))
    except (ElementTree.ParseError, ValueError) as error:
        raise ValueError(
            f"annotation file {path} is not valid XML, or not a complete XML file: {error}; "
            "write it again"
        ) from error


def _text(data: bytes, path: Path) -> str:
    """Return a file's bytes as text: by its byte-order mark, its declaration, or as UTF-8."""
    declared = _ENCODING.match(data[:200])  # of an encoding that begins as ASCII does
    name = declared.group(1).decode("ascii") if declared else "utf-8"
    if name.lower().replace("_", "-") in ("utf-8", "utf8", "ascii", "us-ascii"):
        return decode(data, path)
    if name.lower().startswith(("utf-16", "utf16", "utf-32", "ucs")):
        return decode(data, path)  # the declaration is wrong: its own bytes are not so
    try:
        if codecs.lookup(name).name.replace("_", "-") in _NO_FILE_ENCODINGS:
            raise LookupError("it is no encoding of files")
        return data.decode(name)
    except (LookupError, ValueError) as error:
        raise ValueError(
            f"{path} says that its encoding is {name!r}, but can't be read so ({error}); save it "
            "as UTF-8"
        ) from error


def root_tag(path: Path) -> str:
    """Return the name of an XML file's first element, from the file's head; "" if unreadable."""
    with open_regular(path, "XML") as file:
        head = file.read(_HEAD)
    for cut in range(4):  # the head may end within a character
        try:
            text = _text(head[: len(head) - cut], path)
            break
        except ValueError:
            text = head.decode("latin-1")
    found = _TAG.search(_BEFORE_ROOT.sub("", text))
    return found.group(1) if found else ""
