"""The description of the API: complete, true to the answers, and shown without any other host."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.integration.web.conftest import WebBox
from tests.integration.web.test_roles import example, routes


async def description(web: WebBox) -> dict[str, Any]:
    client = await web.bearer("viewer")
    answer = await client.get("/schema/openapi.json")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_it_is_for_people_and_programs_that_are_known(web: WebBox) -> None:
    nobody = await web.nobody()
    for path in ("/schema", "/schema/openapi.json", "/schema/style.css"):
        assert (await nobody.get(path)).status_code == 401, path


async def test_every_route_of_the_api_is_described_with_words(web: WebBox) -> None:
    found = await description(web)
    described = {(path, method.upper()) for path, ops in found["paths"].items() for method in ops}
    for template, method, handler in routes(web):
        if template.startswith("/api/") and handler.include_in_schema is not False and method != "OPTIONS":
            path = re.sub(r"{(\w+):\w+}", r"{\1}", template)
            assert (path, method) in described, f"{method} {path} is not described"
    for path, operations in found["paths"].items():
        for method, operation in operations.items():
            if method == "options":
                continue
            assert operation.get("summary"), f"{method} {path}"
            assert operation.get("description"), f"{method} {path}"
            assert operation.get("tags"), f"{method} {path}"
            assert operation["responses"]["default"]["content"]["application/problem+json"]


async def test_the_page_needs_nothing_from_elsewhere(web: WebBox) -> None:
    client = await web.bearer("viewer")
    answer = await client.get("/schema")
    assert answer.status_code == 200, answer.text
    page = answer.text
    assert "<script" not in page
    assert "style=" not in page
    addresses = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert sorted(addresses) == ["/schema/openapi.json", "/schema/style.css"]
    assert "url(" not in page
    for path in ("/api/uploads/{ident}", "/api/login", "/api/tokens"):
        assert path in page
    assert (await client.get("/schema/style.css")).headers["content-type"].startswith("text/css")


async def test_each_path_tells_all_its_methods(web: WebBox) -> None:
    admin = await web.client("admin")
    methods: dict[str, set[str]] = {}
    for template, method, _ in routes(web):
        methods.setdefault(template, set()).add(method)
    for template, there in methods.items():
        answer = await admin.options(example(template))
        assert answer.status_code == 204, template
        if template != "/api/uploads":  # tells what it can in the protocol's own headers
            assert set(answer.headers["Allow"].split(", ")) == there, template


@pytest.mark.parametrize(
    ("method", "path", "body", "where"),
    [
        ("POST", "/api/jobs", {"url": "https://example.org/a.mp4", "clips": "3"}, "$.clips"),
        ("POST", "/api/jobs", {"url": "https://example.org/a.mp4", "captions": 0}, "$.captions"),
        ("PATCH", "/api/admin/users/operator", {"disabled": "true"}, "$.disabled"),
        ("POST", "/api/tokens", {"name": "x", "role": "viewer", "expires_s": "5"}, "$.expires_s"),
        (
            "POST",
            "/api/alerts/webhook",
            {"alerts": [{"status": "firing", "labels": {}, "startsAt": 0}]},
            "$.alerts[0].startsAt",
        ),
    ],
)
async def test_bodies_are_of_the_described_types(
    web: WebBox, method: str, path: str, body: dict[str, Any], where: str
) -> None:
    await web.add_user("operator", "operator")
    answer = await (await web.client("admin")).request(method, path, json=body)
    assert (answer.status_code, answer.json()["code"]) == (400, "bad-request"), answer.text
    assert where in answer.json()["detail"]


async def test_a_parameter_is_given_once(web: WebBox) -> None:
    admin = await web.client("admin")
    assert (await admin.get("/api/admin/audit?after=0&limit=2")).status_code == 200
    for path in ("/api/admin/audit?after=true&after=0", "/api/jobs?state=failed&state=failed", "/readyz?x=1&x=2"):
        answer = await admin.get(path)
        assert (answer.status_code, answer.json()["code"]) == (400, "bad-request"), path
        assert "more than once" in answer.json()["detail"]
