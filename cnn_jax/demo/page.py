"""Joins the sources of the page and its data to one file that needs nothing else."""

import base64
import hashlib
import json
import posixpath
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_SOURCES = Path(__file__).parent
# Both stand at the start of a line; a long import goes over several lines.
_IMPORT = re.compile(r'^import (\{[^}]*\}) from "([./\w]+/(\w+)\.js)";$', re.MULTILINE)
_STYLE = re.compile(r'^ *<link rel="stylesheet" href="([/\w]+\.css)">\n', re.MULTILINE)
# Comments on lines of their own, and indentation, are a third of the sources.
_COMMENT = re.compile(r"^ *(?://.*|/\*\*(?:[^*]|\*(?!/))*\*/)\n", re.MULTILINE)
_INDENTATION = re.compile(r"^ +", re.MULTILINE)
_EXPORT = re.compile(r"^export ((?:async )?(?:function|const|class) (\w+))", re.MULTILINE)


def build_page(content: Mapping[str, Any], *, is_served: bool = False) -> bytes:
    """Builds the page.

    Args:
      content: from `build_content`.
      is_served: whether `--serve` prepares pictures for it. Any other page has no connections.

    Returns:
      An HTML file in UTF-8. Its content policy allows its own script and style, and nothing else.
    """
    page = _read("index.html")
    script, style = join_modules("app.js"), "\n".join(map(_read, _STYLE.findall(page)))
    data = json.dumps({**content, "is_served": is_served}, allow_nan=False, separators=(",", ":"))
    data = data.replace("<", "\\u003c")  # A "</script>" in a name would end the element.
    policy = [
        "default-src 'none'",
        f"script-src '{_digest(script)}'",
        f"style-src '{_digest(style)}'",
        "img-src data: blob:",
        *(["connect-src 'self'"] if is_served else []),
        "base-uri 'none'",
        "form-action 'none'",
    ]
    page = _STYLE.sub("", page)
    for placeholder, replacement in (
        ("content=\"default-src 'none'\"", f'content="{"; ".join(policy)}"'),
        ("</head>", f"<style>{style}</style></head>"),
        ('id="data">', f'id="data">{data}'),
        ('type="module" src="app.js">', f'type="module">{script}'),
    ):
        before, after = page.split(placeholder)
        page = before + replacement + after
    return page.encode()


def join_modules(name: str) -> str:
    """Joins a JavaScript module and all that it imports to one script.

    Each module becomes a function that is called at once and returns the module's exports; the
    constant `$network` holds those of `network.js`. A module stands behind those that it imports.
    Comments and indentation are left out; so no text may go over several lines. No two files may
    have the same name, in any folder.

    Args:
      name: the module's file.
    """
    joined: dict[str, str] = {}

    def add(module: str) -> None:
        source = _INDENTATION.sub("", _COMMENT.sub("", _read(module)))
        for _, imported, _ in _IMPORT.findall(source):
            path = posixpath.normpath(posixpath.join(posixpath.dirname(module), imported))
            if path not in joined:
                add(path)
        names = ", ".join(exported for _, exported in _EXPORT.findall(source))
        body = _EXPORT.sub(r"\1", _IMPORT.sub(r"const \1 = $\3;", source))
        stem = posixpath.basename(module).removesuffix(".js")
        joined[module] = f"const ${stem} = (() => {{\n{body}\nreturn {{ {names} }};\n}})();\n"

    add(name)
    return "".join(joined.values())


def _read(name: str) -> str:
    return (_SOURCES / name).read_text("utf-8")


def _digest(text: str) -> str:
    """Returns the source expression of a content policy that allows an inline script or style."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}"
