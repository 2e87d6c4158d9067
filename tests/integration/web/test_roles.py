"""Every route × every caller, made from the application itself: all are refused or let in as its handler says.

A new route is in here without anybody's doing. What it does when it is let in is other tests' matter: here only who
gets past the guard counts, so the requests are made such that nothing is found or changed.
"""

from __future__ import annotations

from typing import Any

import httpx
from litestar.handlers import HTTPRouteHandler
from litestar.routes import HTTPRoute, WebSocketRoute

from appliance.accounts.roles import ROLES, allows
from tests.integration.web.conftest import WebBox
from web.app import create_litestar

CHANGING = ("POST", "PUT", "PATCH", "DELETE")
REFUSED = {401: "not-logged-in", 403: ("not-allowed", "csrf", "foreign-origin", "token-not-allowed")}
PUBLIC = {
    "/",
    "/admin",
    "/login",
    "/claim",
    "/assets/{name:path}",
    "/healthz",
    "/readyz",
    "/api/me",
    "/api/claim",
    "/api/login",
}
"""What anybody may ask for. Whoever adds to it has to say so here."""
PARAMETERS = {"path": "nothing/here", "str": "01zzzzzzzzzzzzzzzzzzzzzzzz", "int": "0", "uuid": "0" * 32}


def routes(web: WebBox) -> list[tuple[str, str, HTTPRouteHandler]]:
    """Path template, method and handler of each HTTP route but the automatic OPTIONS."""
    found = []
    for route in create_litestar(web.services).routes:
        if isinstance(route, HTTPRoute):
            for method, (handler, _) in route.route_handler_map.items():
                found.append((route.path, str(method), handler))
    return found


def example(template: str) -> str:
    """A path of this template that names nothing that exists."""
    parts = []
    for part in template.split("/"):
        if part.startswith("{"):
            kind = part.strip("{}").partition(":")[2] or "str"
            parts.append(PARAMETERS[kind])
        else:
            parts.append(part)
    return "/".join(parts)


def refused(answer: httpx.Response) -> str | None:
    """The guard's reason, or None when the request got past it."""
    if answer.status_code not in REFUSED:
        return None
    if not answer.headers.get("content-type", "").startswith("application/problem"):
        return None
    if answer.request.method == "HEAD":
        return "refused"  # without a body to say why
    code = str(answer.json()["code"])
    known = REFUSED[answer.status_code]
    return code if code in ((known,) if isinstance(known, str) else known) else None


async def ask(client: httpx.AsyncClient, method: str, path: str, **options: Any) -> httpx.Response:
    body: dict[str, Any] = {"json": {"nonsense": True}} if method in CHANGING else {}
    return await client.request(method, path, **{**body, **options})


async def test_each_route_lets_in_whom_it_says(web: WebBox) -> None:
    nobody = await web.nobody()
    people = {role: await web.client(role) for role in ROLES}
    wrong = []
    for template, method, handler in routes(web):
        need = handler.opt.get("role", "admin")
        path = example(template)
        if method == "OPTIONS" and need == "admin" and "role" not in handler.opt:
            continue
        if path == "/api/logout":
            continue  # it works; the test below has it
        cases: list[tuple[str, httpx.AsyncClient, bool]] = [("nobody", nobody, need == "public")]
        cases += [(role, client, need == "public" or allows(role, need)) for role, client in people.items()]
        for who, client, may in cases:
            got = refused(await ask(client, method, path))
            if path == "/api/me" and who == "nobody":
                continue  # it says itself that nobody is logged in
            if (got is None) != may:
                wrong.append(f"{method} {template} by {who}: {got or 'let in'}, its handler says {need}")
    assert wrong == []


async def test_each_change_needs_the_token_of_the_page(web: WebBox) -> None:
    another = (await web.client("admin")).headers["X-CSRF-Token"]
    for role, shown in zip(ROLES, ("", None, another), strict=True):
        client = await web.client(role)
        del client.headers["X-CSRF-Token"]
        if shown is not None:
            client.headers["X-CSRF-Token"] = shown
        for template, method, handler in routes(web):
            need = handler.opt.get("role", "admin")
            if method in CHANGING and need != "public":
                answer = await ask(client, method, example(template))
                wants = "csrf" if allows(role, need) else "not-allowed"
                assert refused(answer) == wants, f"{method} {template} by {role}: {answer.status_code} {answer.text}"


async def test_each_change_is_refused_from_another_site(web: WebBox) -> None:
    callers = [await web.nobody(), await web.bearer("admin"), *[await web.client(role) for role in ROLES]]
    origins = ("https://evil.example", "null", "http://127.0.0.1:1", "http://localhost", "http://[::1")
    for client, origin in zip(callers, origins, strict=True):
        for template, method, _ in routes(web):
            if method in CHANGING:
                answer = await ask(client, method, example(template), headers={"Origin": origin})
                assert refused(answer) == "foreign-origin", f"{method} {template}: {answer.status_code}"


async def test_no_token_of_any_role_changes_credentials(web: WebBox) -> None:
    program = await web.bearer("admin")
    marked = []
    for template, method, handler in routes(web):
        if handler.opt.get("credentials"):
            marked.append(template)
            answer = await ask(program, method, example(template))
            assert refused(answer) == "token-not-allowed", f"{method} {template}: {answer.status_code}"
    changing = [t for t, m, _ in routes(web) if m in CHANGING and ("user" in t or "token" in t or "password" in t)]
    assert set(changing) <= set(marked), "whatever changes users, passwords or tokens is marked"


async def test_what_is_public_is_a_short_list(web: WebBox) -> None:
    found = {t for t, m, h in routes(web) if h.opt.get("role") == "public" and m != "OPTIONS"}
    assert found <= PUBLIC, f"public without being listed here: {found - PUBLIC}"


async def test_a_route_without_a_role_is_for_administrators(web: WebBox) -> None:
    """The default, tried on a handler that forgot to say anything."""
    from litestar import get

    from appliance.listening import listen
    from web.app import create_app
    from web.server import serving

    @get("/forgotten", sync_to_thread=False)
    def forgotten() -> str:
        return "secret"

    sock = listen("127.0.0.1", 0)
    port = sock.getsockname()[1]
    async with serving(create_app(web.services, more=[forgotten]), web.config, sock):
        for who, status in (("nobody", 401), ("viewer", 403), ("operator", 403), ("admin", 200)):
            client = await web.nobody() if who == "nobody" else await web.client(who)  # type: ignore[arg-type]
            answer = await client.get(f"http://127.0.0.1:{port}/forgotten")
            assert answer.status_code == status, who


async def test_sockets_are_judged_like_requests(web: WebBox) -> None:
    """Every WebSocket route says a role; the guard runs before the handshake is accepted."""
    for route in create_litestar(web.services).routes:
        if isinstance(route, WebSocketRoute):
            assert route.route_handler.opt.get("role", "admin") != "public"
