"""The page's endpoints: files need no key, data need the right `read`, orders need `operator`."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import get_args
from urllib.parse import urlsplit

import msgspec
from fastapi import Request, Response

from streaming.config import Right
from streaming.events.decisions import Order
from streaming.scorer.access import Caller
from streaming.scorer.body import decode_json, read_body
from streaming.scorer.page.files import PageFiles
from streaming.scorer.page.views import OrderGiven, OrderRequest, PageView
from streaming.scorer.responses import json_response
from streaming.scorer.schema import RequestRefused

RIGHTS: tuple[Right, ...] = get_args(Right)
_order_decoder = msgspec.json.Decoder(OrderRequest)

GiveOrder = Callable[[OrderRequest, str], Awaitable[Order]]
"""Gives an order for the holder of the key with this name. Raises RequestRefused."""


@dataclass(frozen=True, slots=True)
class PageEndpoints:
    """The endpoint functions of the page."""

    view: PageView
    give: GiveOrder
    enter: Callable[[Request], Caller]
    """Admits a caller. Raises RequestRefused."""
    max_body_bytes: int
    files: PageFiles = field(default_factory=PageFiles)

    async def front(self, request: Request) -> Response:
        """The page."""
        return await self.files.send(request, "index.html")

    async def file(self, request: Request) -> Response:
        """A script or style of the page."""
        return await self.files.send(request, request.path_params["name"])

    async def status(self, request: Request) -> Response:
        """The state of every group, and recent decisions."""
        caller = self.enter(request)
        caller.need("read")
        may = [right for right in RIGHTS if caller.may(right)]
        return json_response(self.view.status(int(number_of(request, "after")), may), headers=_PRIVATE)

    async def history(self, request: Request) -> Response:
        """One stratum over the last hours."""
        self.enter(request).need("read")
        group, stratum = (request.query_params.get(name, "") for name in ("group", "stratum"))
        return json_response(self.view.past(group, stratum, number_of(request, "since")), headers=_PRIVATE)

    async def orders(self, request: Request) -> Response:
        """Gives an order, and answers after the broker has acknowledged it."""
        caller = self.enter(request)
        caller.need("operator")
        _own_page(request)
        body = await read_body(request, self.max_body_bytes)
        order = await self.give(decode_json(_order_decoder, body, "invalid_request"), caller.name)
        return json_response(OrderGiven.of(order), 202)


_PRIVATE = {"Cache-Control": "no-store"}


def number_of(request: Request, name: str) -> float:
    """A query parameter as a number; 0 if it is missing. Raises RequestRefused."""
    try:
        number = float(request.query_params.get(name, "0"))
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise RequestRefused("invalid_request", f"`{name}` must be a finite number")
    return number


def _own_page(request: Request) -> None:
    """Raises RequestRefused (403) if another site's page sends the order, which a browser may do without its user
    knowing.

    Without keys, any page that an operator visits could otherwise give orders in the operator's name.
    """
    origin, host = request.headers.get("origin"), request.headers.get("host", "")
    if origin is not None and urlsplit(origin).netloc != host:
        raise RequestRefused("other_origin", f"orders are taken from this scorer's own page, not from {origin!r}", 403)
