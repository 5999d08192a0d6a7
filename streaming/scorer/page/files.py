"""The page's own files, and Plotly's script from its package: headers, and compression done once."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from fastapi import Request, Response
from starlette.exceptions import HTTPException

# Only this scorer's own files, no inline script or style, no frames: the page shows text from outside (names of drift,
# reasons of orders), which must never run as code (docs/decisions/0119).
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS: Mapping[str, str] = MappingProxyType(
    {
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
    }
)
_FOLDER = Path(__file__).parent
_TYPES: Mapping[str, str] = MappingProxyType(
    {"html": "text/html; charset=utf-8", "js": "text/javascript; charset=utf-8", "css": "text/css; charset=utf-8"}
)
_PLOTLY = "plotly.min.js"


@dataclass(frozen=True, slots=True)
class _Packed:
    """A file ready to be sent."""

    plain: bytes
    packed: bytes
    tag: str
    kind: str

    @classmethod
    def of(cls, path: Path) -> _Packed:
        plain = path.read_bytes()
        tag = f'"{hashlib.sha256(plain).hexdigest()[:32]}"'
        return cls(plain, gzip.compress(plain, 6, mtime=0), tag, _TYPES[path.suffix[1:]])


def plotly_script() -> Path:
    """Path of Plotly's script. Plotly is not imported, which would take a second and fifty megabytes."""
    found = importlib.util.find_spec("plotly")
    assert found is not None and found.submodule_search_locations is not None
    return Path(found.submodule_search_locations[0]) / "package_data" / _PLOTLY


class PageFiles:
    """Sends the page's files. Each is read and compressed once, on a thread, when it is first requested."""

    def __init__(self) -> None:
        self._paths = {path.name: path for path in _FOLDER.iterdir() if path.suffix[1:] in _TYPES}
        self._paths[_PLOTLY] = plotly_script()
        self._ready: dict[str, _Packed] = {}

    async def send(self, request: Request, name: str) -> Response:
        """The file, or 304 if the browser has it. Raises HTTPException (404)."""
        path = self._paths.get(name)
        if path is None:
            raise HTTPException(404)
        if name not in self._ready:
            self._ready[name] = await asyncio.to_thread(_Packed.of, path)
        file = self._ready[name]
        # The browser must ask each time (and gets 304), so that a page never runs a script of another version.
        headers = {"ETag": file.tag, "Cache-Control": "no-cache", "Vary": "Accept-Encoding", **_HEADERS}
        if name.endswith(".html"):
            headers["Content-Security-Policy"] = POLICY
        if file.tag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        if "gzip" in request.headers.get("accept-encoding", ""):
            return Response(file.packed, headers={**headers, "Content-Encoding": "gzip"}, media_type=file.kind)
        return Response(file.plain, headers=headers, media_type=file.kind)
