"""What routes ask for: the services and the principal, checked for a scope.

Every route declares who may use it by one of the types at the end; a test walks all routes and
fails for one that does not.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends
from starlette.requests import Request

from api.auth import Access, admit_anybody, authenticate, authorise
from api.principal import Principal
from app.services import Services
from app.settings import Scope


async def services(request: Request) -> Services:
    """The parts that the application was started with."""
    found: Services = request.app.state.services
    return found


async def access(request: Request) -> Access:
    """What clients are recognised by."""
    found: Access = request.app.state.access
    return found


Parts = Annotated[Services, Depends(services)]
Door = Annotated[Access, Depends(access)]

DECLARED: dict[Callable[..., Awaitable[object]], Scope | None] = {}
"""The scope that each of these dependencies asks for; None: nobody need be known."""


def _needs(scope: Scope) -> Callable[..., Awaitable[Principal]]:
    # A coroutine, though little in it waits: a plain function would cost a thread each time.
    async def principal(request: Request, parts: Parts, door: Door) -> Principal:
        found = await authenticate(request, parts, door)
        request.state.principal = found
        authorise(found, scope)
        return found

    DECLARED[principal] = scope
    return principal


async def _anybody(request: Request, door: Door) -> None:
    await admit_anybody(request, door)


DECLARED[_anybody] = None

Reader = Annotated[Principal, Depends(_needs("read"))]
Submitter = Annotated[Principal, Depends(_needs("submit"))]
Editor = Annotated[Principal, Depends(_needs("edit"))]
Confirmer = Annotated[Principal, Depends(_needs("confirm"))]
Admin = Annotated[Principal, Depends(_needs("admin"))]
ANYBODY = Depends(_anybody)
"""For `dependencies=[ANYBODY]` of a route that tells nothing of a patient."""
