"""The description of the API as one plain page: no script, no font, no picture, nothing from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from html import escape
from typing import Any

MAX_DEPTH = 6
STYLE = """
:root { color-scheme: light dark; --line: color-mix(in srgb, currentColor 18%, transparent); }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.6rem; } h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line); }
code, pre, .method { font-family: ui-monospace, monospace; font-size: .9em; }
details { border: 1px solid var(--line); border-radius: .4rem; margin: .4rem 0; padding: .4rem .8rem; }
summary { cursor: pointer; } summary .says { opacity: .75; margin-left: .5rem; }
.method { display: inline-block; min-width: 4.5em; font-weight: 700; }
table { border-collapse: collapse; width: 100%; } td, th { text-align: left; vertical-align: top; padding: .25rem .6rem
.25rem 0; border-top: 1px solid var(--line); } pre { overflow-x: auto; }
"""


def page(schema: dict[str, Any]) -> str:
    """The HTML of an OpenAPI document."""
    info = schema["info"]
    groups: dict[str, list[str]] = {}
    for path, operations in sorted(schema["paths"].items()):
        for method, operation in operations.items():
            if isinstance(operation, dict) and "responses" in operation:
                tag = (operation.get("tags") or ["other"])[0]
                groups.setdefault(tag, []).append(_operation(schema, path, method, operation))
    says = {tag["name"]: tag.get("description", "") for tag in schema.get("tags", [])}
    order = [*says, *sorted(set(groups) - set(says))]
    body = "".join(
        f"<h2>{escape(tag)}</h2><p>{escape(says.get(tag, ''))}</p>{''.join(groups[tag])}"
        for tag in order
        if tag in groups
    )
    title = f"{escape(info['title'])} {escape(info['version'])}"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}: API</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="stylesheet" href="/schema/style.css"></head><body>'
        f"<h1>{title}</h1><p>{escape(info.get('description', ''))}</p>"
        '<p>The same for programs: <a href="/schema/openapi.json">openapi.json</a>. Programs send '
        "<code>Authorization: Bearer TOKEN</code>; <code>appliance token add</code> makes one.</p>"
        f"{body}</body></html>"
    )


def _operation(schema: dict[str, Any], path: str, method: str, operation: dict[str, Any]) -> str:
    who = {"public": "Anybody may.", "viewer": "Everybody who is logged in may."}
    role = operation.get("x-role", "admin")
    may = who.get(role, f"Needs the role {role}.")
    parts = [f"<p>{escape(operation.get('description', ''))} {escape(may)}</p>"]
    if parameters := operation.get("parameters"):
        rows = "".join(
            f"<tr><td><code>{escape(p['name'])}</code></td>"
            f"<td>{escape(p['in'])}{'' if p.get('required') else ', optional'}</td>"
            f"<td>{escape(p.get('description') or p.get('schema', {}).get('description') or '')}</td></tr>"
            for p in parameters
        )
        parts.append(f"<table><tr><th>Parameter</th><th>in</th><th></th></tr>{rows}</table>")
    for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
        parts.append(_content(schema, f"Body, {media_type}", content))
    for status, response in operation["responses"].items():
        for media_type, content in response.get("content", {}).items():
            if status != "default":
                parts.append(_content(schema, f"Answer {status}, {media_type}", content))
    return (
        f'<details><summary><span class="method">{escape(method.upper())}</span> <code>{escape(path)}</code>'
        f'<span class="says">{escape(operation.get("summary", ""))}</span></summary>{"".join(parts)}</details>'
    )


def _content(schema: dict[str, Any], title: str, content: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(name)}</code></td><td>{escape(kind)}</td><td>{escape(says)}</td></tr>"
        for name, kind, says in _fields(schema, content.get("schema", {}))
    )
    sample = json.dumps(example(schema, content.get("schema", {})), indent=1, ensure_ascii=False, default=str)
    table = f"<table>{rows}</table>" if rows else ""
    return f"<h4>{escape(title)}</h4>{table}<pre>{escape(sample)}</pre>"


def _fields(schema: dict[str, Any], node: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    node = _resolved(schema, node)
    needed = set(node.get("required", ()))
    for name, field in node.get("properties", {}).items():
        kind = _kind(schema, field) + ("" if name in needed else ", optional")
        yield name, kind, field.get("description") or _resolved(schema, field).get("description", "")


def _kind(schema: dict[str, Any], node: dict[str, Any]) -> str:
    if "oneOf" in node or "anyOf" in node:
        return " or ".join(dict.fromkeys(_kind(schema, part) for part in node.get("oneOf") or node["anyOf"]))
    found = _resolved(schema, node)
    if "enum" in found:
        return " | ".join(str(value) for value in found["enum"])
    kind = found.get("format") or found.get("type", "any")
    if kind == "array":
        return f"list of {_kind(schema, found.get('items', {}))}"
    return " or ".join(kind) if isinstance(kind, list) else str(kind)


def example(schema: dict[str, Any], node: dict[str, Any], depth: int = 0) -> Any:
    """A value that a schema describes: its own example where it has one."""
    node = _resolved(schema, node)
    if depth > MAX_DEPTH:
        return None
    if node.get("examples"):
        found = node["examples"]
        return found[0] if isinstance(found, list) else next(iter(found.values()))
    for part in node.get("oneOf", node.get("anyOf", ())):
        if part.get("type") != "null":
            return example(schema, part, depth + 1)
    if node.get("enum"):
        return node["enum"][0]
    if "properties" in node:
        return {name: example(schema, field, depth + 1) for name, field in node["properties"].items()}
    if node.get("type") == "array":
        return [example(schema, node.get("items", {}), depth + 1)]
    by_format = {"date-time": "2026-01-31T14:00:00Z", "binary": "…"}
    by_type = {"string": "…", "integer": 1, "number": 1.0, "boolean": True, "object": {}}
    kind = node.get("type")
    return by_format.get(node.get("format", ""), by_type.get(kind if isinstance(kind, str) else ""))


def _resolved(schema: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    seen = 0
    while "$ref" in node and seen < MAX_DEPTH:
        found: Any = schema
        for name in node["$ref"].removeprefix("#/").split("/"):
            found = found[name]
        node, seen = found, seen + 1
    return node
