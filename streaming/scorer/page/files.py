"""The page's own files, and Plotly's script out of its package: what they are sent with, and packed once."""

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

# Nothing but this scorer's own files, no inline script or style, no frame around it: what the page shows comes from
# outside (names of drift, reasons of orders), and must stay text (docs/decisions/0119).
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
    """A file as it is sent."""

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
    """Plotly's script in its package, which is not imported: it would cost a second and fifty megabytes."""
    found = importlib.util.find_spec("plotly")
    assert found is not None and found.submodule_search_locations is not None
    return Path(found.submodule_search_locations[0]) / "package_data" / _PLOTLY


class PageFiles:
    """Sends the page's files; each is read and packed once, when it is first asked for, on a thread."""

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
        # Asked for again each time, answered with 304: a page never runs with the script of another version.
        headers = {"ETag": file.tag, "Cache-Control": "no-cache", "Vary": "Accept-Encoding", **_HEADERS}
        if name.endswith(".html"):
            headers["Content-Security-Policy"] = POLICY
        if file.tag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        if "gzip" in request.headers.get("accept-encoding", ""):
            return Response(file.packed, headers={**headers, "Content-Encoding": "gzip"}, media_type=file.kind)
        return Response(file.plain, headers=headers, media_type=file.kind)
