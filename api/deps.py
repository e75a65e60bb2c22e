"""What routes ask for: the services and the principal, checked for a scope."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends
from starlette.requests import Request

from api.auth import Principal, authenticate, authorise
from app.services import Services
from app.settings import Scope


async def services(request: Request) -> Services:
    """The parts that the application was started with."""
    found: Services = request.app.state.services
    return found


Parts = Annotated[Services, Depends(services)]


def _needs(scope: Scope) -> Callable[..., Awaitable[Principal]]:
    # A coroutine, though nothing in it waits: a plain function would cost a thread each time.
    async def principal(request: Request, parts: Parts) -> Principal:
        found = authenticate(request, parts.settings)
        request.state.principal = found
        authorise(found, scope)
        return found

    return principal


Reader = Annotated[Principal, Depends(_needs("read"))]
Submitter = Annotated[Principal, Depends(_needs("submit"))]
Editor = Annotated[Principal, Depends(_needs("edit"))]
Confirmer = Annotated[Principal, Depends(_needs("confirm"))]
Admin = Annotated[Principal, Depends(_needs("admin"))]
