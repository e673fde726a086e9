"""Text files and image names as people have them: encodings, backslashes, addresses, %20."""

from __future__ import annotations

import codecs
import os
from collections.abc import Iterator
from urllib.parse import parse_qs, unquote, urlsplit

from lucidet._regular_file import open_regular, read_regular

#: of files that are taken for images where a folder is searched
IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".tif", ".tiff", ".webp", ".ppm",
    ".pgm", ".pbm", ".pnm", ".gif", ".avif", ".jp2",
)  # fmt: skip

__all__ = [
    "IMAGE_SUFFIXES",
    "decode",
    "find_file",
    "find_inside",
    "is_image",
    "is_inside",
    "name_forms",
    "read_lines",
    "read_text",
]

_HEAD = 64  # bytes
# the longer marks first: UTF-32's begins with UTF-16's
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def decode(data: bytes, path: str | os.PathLike[str]) -> str:
    """Return a file's bytes as text: by its byte-order mark, else UTF-8, or UTF-16 without mark.

    Raises:
        ValueError: the bytes are not text in that encoding; names file and byte.
    """
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), "utf-8")
    if encoding == "utf-8" and len(data) > 3 and not all(data[:4]):  # a zero among ASCII
        encoding = "utf-16-be" if data[0] == 0 else "utf-16-le"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not {encoding.upper().removesuffix('-SIG')} text (byte {error.start}): is "
            "it compressed, or another file by mistake? Save text as UTF-8"
        ) from error


def read_text(path: str | os.PathLike[str], kind: str = "text") -> str:
    """Return a regular text file's content, whatever its encoding; see :func:`decode`.

    Args:
        path: of the file.
        kind: of `lucidet._regular_file.LIMITS`: how large it may be.
    """
    with open_regular(path, kind) as file:
        head = file.read(_HEAD)
        if head and not head.strip(b"\0"):  # a file that was reserved and never written
            raise ValueError(f"{path} holds zero bytes and no text: fetch or write it again")
    return decode(read_regular(path, kind), path)


def read_lines(path: str | os.PathLike[str]) -> list[str]:
    """Return the lines of a text file that are not blank, stripped."""
    return [line.strip() for line in read_text(path).splitlines() if line.strip()]


def name_forms(name: str) -> list[str]:
    """Return the ways to read a file name of an annotation, the literal one first.

    >>> name_forms("file:///data/a%20b.jpg")
    ['file:///data/a%20b.jpg', '/data/a%20b.jpg', 'file:///data/a b.jpg', '/data/a b.jpg']
    >>> name_forms("images\\\\17.png")[-1]
    'images/17.png'
    >>> name_forms("/data/local-files/?d=photos/a.jpg")[-1]
    'photos/a.jpg'
    """
    forms = [name]
    if name.lower().startswith("file:"):
        parts = urlsplit(name)
        host = "" if parts.netloc in ("", "localhost") else f"//{parts.netloc}"
        forms.append(host + parts.path)
    if "?d=" in name:  # Label Studio's address of a file on its own disk
        forms.append(parse_qs(urlsplit(name).query).get("d", [name])[0])
    forms += [unquote(form) for form in forms if "%" in form]
    forms += [form.replace("\\", "/") for form in forms if "\\" in form]
    return list(dict.fromkeys(forms))


def is_image(name: str | os.PathLike[str]) -> bool:
    """Whether a file name ends as image files do.

    >>> is_image("a.JPG"), is_image("a.txt")
    (True, False)
    """
    return os.path.splitext(os.fspath(name))[1].lower() in IMAGE_SUFFIXES


def find_file(root: str | os.PathLike[str], name: str) -> str:
    """Return the path of a file that an annotation names, relative to `root`.

    The name is taken as it is where such a file exists, else in the forms of :func:`name_forms`.
    Where none exists, the path by the name as it is: reading it fails, and names it.
    """
    literal = os.path.join(root, name)
    if "\\" not in name and "%" not in name and ":" not in name and "?d=" not in name:
        return literal  # no other form; most names, and nothing is looked up on the disk
    return next((path for path in _paths(root, name) if os.path.isfile(path)), literal)


def find_inside(root: str | os.PathLike[str], name: str) -> str:
    """Return the path of a file that an annotation names, as `find_file`, below `root` only.

    An annotation file from elsewhere could name any picture of this machine, and its content
    would end up in drawings and models. ``LUCIDET_ALLOW_OUTSIDE=1`` (``--allow-outside``) allows
    it, and so does `root` "": the caller says that the names are whole paths, as those of
    `convert_to_coco_json` are. Links below `root` are followed.

    Raises:
        ValueError: the name is absolute or climbs, and leads out of `root`.
    """
    path = find_file(root, name)
    allowed = not os.fspath(root) or os.environ.get("LUCIDET_ALLOW_OUTSIDE", "0") not in ("", "0")
    if not allowed and not is_inside(root, path):
        raise ValueError(
            f"{name!r:.200} is outside of the image folder {os.fspath(root)!r} and refused; name "
            "the folder that all images are below, or allow it with --allow-outside "
            "(LUCIDET_ALLOW_OUTSIDE=1) if you trust the file"
        )
    return path


def is_inside(root: str | os.PathLike[str], path: str) -> bool:
    """Whether a path, its ``..`` resolved, is below a folder.

    >>> is_inside("/data", "/data/x/../a.jpg"), is_inside("/data", "/data/../b.jpg")
    (True, False)
    >>> is_inside(".", "a.jpg"), is_inside(".", "/a.jpg"), is_inside("/", "/a.jpg")
    (True, False, True)
    """
    folder = os.path.normpath(root)
    found = os.path.normpath(path)
    if folder == ".":
        return not os.path.isabs(found) and found.split(os.sep)[0] != os.pardir
    return found.startswith(folder.rstrip(os.sep) + os.sep)


def _paths(root: str | os.PathLike[str], name: str) -> Iterator[str]:
    for form in name_forms(name):
        yield os.path.join(root, form)
        if os.path.isabs(form):  # `/images/a.jpg`, meant from the folder
            yield os.path.join(root, form.lstrip("/"))
