"""The server that `@modelcontextprotocol/conformance` wants to meet, built on `mcpguard`.

Names, arguments and texts are what its scenarios ask for. It is started as a team's server is: by its file.
"""

from __future__ import annotations

import base64
import json
import struct
import zlib
from typing import Annotated, Any

import anyio
import fixture_rounds
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import (
    AudioContent,
    Completion,
    ContentBlock,
    EmbeddedResource,
    EmptyResult,
    ImageContent,
    PromptReference,
    ResourceTemplateReference,
    SamplingMessage,
    SetLevelRequestParams,
    SubscribeRequestParams,
    TextContent,
    TextResourceContents,
    UnsubscribeRequestParams,
)
from pydantic import BaseModel, Field

from mcpguard import run

STEP_SECONDS = 0.05
_REQUIRED: Any = {"required": ["phone"]}


def _png() -> bytes:
    """One red pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\x00\xff\x00\x00")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def _wav() -> bytes:
    """A tenth of a second of silence."""
    data = b"\x80" * 800
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, 8000, 8000, 1, 8)
    body = b"WAVE" + form + struct.pack("<4sI", b"data", len(data)) + data
    return struct.pack("<4sI", b"RIFF", len(body)) + body


PNG, WAV = (base64.b64encode(made()).decode() for made in (_png, _wav))
IMAGE = ImageContent(type="image", data=PNG, mime_type="image/png")

mcp: MCPServer[Any] = MCPServer("fixture", log_level="WARNING")
fixture_rounds.add(mcp)


def _embedded(uri: str, mime_type: str, text: str) -> EmbeddedResource:
    resource = TextResourceContents(uri=uri, mime_type=mime_type, text=text)
    return EmbeddedResource(type="resource", resource=resource)


# --- what a tool gives


@mcp.tool(structured_output=False)
def test_simple_text() -> str:
    """Give a text."""
    return "This is a simple text response for testing."


@mcp.tool(structured_output=False)
def test_image_content() -> list[ContentBlock]:
    """Give an image."""
    return [IMAGE]


@mcp.tool(structured_output=False)
def test_audio_content() -> list[ContentBlock]:
    """Give a sound."""
    return [AudioContent(type="audio", data=WAV, mime_type="audio/wav")]


@mcp.tool(structured_output=False)
def test_embedded_resource() -> list[ContentBlock]:
    """Give a resource."""
    return [_embedded("test://embedded-resource", "text/plain", "This is an embedded resource content.")]


@mcp.tool(structured_output=False)
def test_multiple_content_types() -> list[ContentBlock]:
    """Give a text, an image and a resource."""
    text = TextContent(type="text", text="Multiple content types test:")
    data = json.dumps({"test": "data", "value": 123})
    return [text, IMAGE, _embedded("test://mixed-content-resource", "application/json", data)]


@mcp.tool(structured_output=False)
def test_error_handling() -> str:
    """Fail."""
    raise ToolError("This tool intentionally returns an error for testing")


# --- what comes while a tool runs


@mcp.tool(structured_output=False)
async def test_tool_with_logging(ctx: Context) -> str:
    """Log three lines."""
    for line in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        await ctx.info(line)
        await anyio.sleep(STEP_SECONDS)
    return "Logged three lines."


@mcp.tool(structured_output=False)
async def test_logging_tool(ctx: Context) -> str:
    """Log a line, where the request wants to hear of it."""
    await ctx.info("A line")
    return "Logged a line."


@mcp.tool(structured_output=False)
async def test_tool_with_progress(ctx: Context) -> str:
    """Report progress three times."""
    for progress in (0, 50, 100):
        await ctx.report_progress(progress, 100)
        await anyio.sleep(STEP_SECONDS)
    return "Made progress."


@mcp.tool(structured_output=False)
async def test_reconnection(ctx: Context) -> str:
    """Close the stream in the middle, so that the client has to come back for the answer."""
    await ctx.close_sse_stream()
    await anyio.sleep(STEP_SECONDS)
    return "Answered after the stream was closed."


@mcp.tool(structured_output=False)
async def test_trigger_tool_change(ctx: Context) -> str:
    """Say that the list of tools changed."""
    await ctx.notify_tools_changed()
    return "Said so."


@mcp.tool(structured_output=False)
async def test_trigger_prompt_change(ctx: Context) -> str:
    """Say that the list of prompts changed."""
    await ctx.notify_prompts_changed()
    return "Said so."


# --- what a tool asks its client, up to 2025-11-25


@mcp.tool(structured_output=False)
async def test_sampling(prompt: str, ctx: Context) -> str:
    """Have the client's model say something."""
    message = SamplingMessage(role="user", content=TextContent(type="text", text=prompt))
    answer = await ctx.session.create_message([message], max_tokens=100, related_request_id=ctx.request_id)
    said = answer.content.text if isinstance(answer.content, TextContent) else ""
    return f"LLM response: {said}"


async def _elicited(ctx: Context, message: str, properties: dict[str, Any], required: list[str]) -> str:
    schema = {"type": "object", "properties": properties, "required": required}
    answer = await ctx.session.elicit(message, schema, related_request_id=ctx.request_id)
    return f"action={answer.action}, content={json.dumps(answer.content)}"


@mcp.tool(structured_output=False)
async def test_elicitation(message: str, ctx: Context) -> str:
    """Ask the user who they are."""
    properties = {
        "username": {"type": "string", "description": "User's response"},
        "email": {"type": "string", "description": "User's email address"},
    }
    return f"User response: {await _elicited(ctx, message, properties, list(properties))}"


@mcp.tool(structured_output=False)
async def test_elicitation_sep1034_defaults(ctx: Context) -> str:
    """Ask with a default of every kind."""
    status = {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"}
    properties = {
        "name": {"type": "string", "default": "John Doe"},
        "age": {"type": "integer", "default": 30},
        "score": {"type": "number", "default": 95.5},
        "status": status,
        "verified": {"type": "boolean", "default": True},
    }
    return f"Elicitation completed: {await _elicited(ctx, 'Defaults', properties, [])}"


def _titled(word: str, *titles: str) -> list[dict[str, str]]:
    return [{"const": f"value{n}", "title": f"{title} {word}"} for n, title in enumerate(titles, 1)]


@mcp.tool(structured_output=False)
async def test_elicitation_sep1330_enums(ctx: Context) -> str:
    """Ask with a choice of every kind."""
    options = ["option1", "option2", "option3"]
    ordinals = ("First", "Second", "Third")
    legacy = {"enum": ["opt1", "opt2", "opt3"], "enumNames": ["Option One", "Option Two", "Option Three"]}
    properties = {
        "untitledSingle": {"type": "string", "enum": options},
        "titledSingle": {"type": "string", "oneOf": _titled("Option", *ordinals)},
        "legacyEnum": {"type": "string", **legacy},
        "untitledMulti": {"type": "array", "items": {"type": "string", "enum": options}},
        "titledMulti": {"type": "array", "items": {"anyOf": _titled("Choice", *ordinals)}},
    }
    return f"Elicitation completed: {await _elicited(ctx, 'Choices', properties, [])}"


# --- what a schema may say


class Address(BaseModel):
    street: str = ""
    city: str = ""


@mcp.tool(structured_output=False)
def json_schema_2020_12_tool(name: str = "", address: Address | None = None, phone: str = "") -> str:
    """Tool with JSON Schema 2020-12 features"""
    return f"{name} {address} {phone}"


_RICH: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [_REQUIRED, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": _REQUIRED,
    "else": {"required": ["email"]},
    "additionalProperties": False,
}
mcp._tool_manager.get_tool("json_schema_2020_12_tool").parameters = _RICH  # type: ignore[union-attr]


Region = Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})]


@mcp.tool(structured_output=False)
def where(region: Region) -> str:
    """Take an argument that clients repeat in a header."""
    return f"region={region}"


# --- resources and prompts


@mcp.resource("test://static-text", description="A text.", mime_type="text/plain")
def static_text() -> str:
    return "This is the content of the static text resource."


@mcp.resource("test://static-binary", description="An image.", mime_type="image/png")
def static_binary() -> bytes:
    return base64.b64decode(PNG)


@mcp.resource("test://watched-resource", description="To subscribe to.", mime_type="text/plain")
def watched() -> str:
    return "It never changes."


@mcp.resource("test://template/{id}/data", description="By its id.", mime_type="application/json")
def template(id: str) -> str:
    return json.dumps({"id": id, "templateTest": True, "data": f"Data for ID: {id}"})


def _said(*parts: ContentBlock | str) -> list[dict[str, Any]]:
    contents = [TextContent(type="text", text=part) if isinstance(part, str) else part for part in parts]
    return [{"role": "user", "content": content} for content in contents]


@mcp.prompt()
def test_simple_prompt() -> str:
    """Say one thing."""
    return "This is a simple prompt for testing."


@mcp.prompt()
def test_prompt_with_arguments(arg1: str, arg2: str) -> str:
    """Say two things."""
    return f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"


@mcp.prompt()
def test_prompt_with_embedded_resource(resourceUri: str) -> list[dict[str, Any]]:
    """Say something about a resource."""
    resource = _embedded(resourceUri, "text/plain", "Embedded resource content for testing.")
    return _said(resource, "Please process the embedded resource above.")


@mcp.prompt()
def test_prompt_with_image() -> list[dict[str, Any]]:
    """Say something about an image."""
    return _said(IMAGE, "Please analyze the image above.")


@mcp.completion()
async def complete(
    ref: PromptReference | ResourceTemplateReference, argument: Any, context: Any
) -> Completion:
    words = ["paris", "park", "party"]
    return Completion(values=[word for word in words if word.startswith(argument.value)], has_more=False)


# The SDK's own server has no such methods up to 2025-11-25; a server that needs them adds them like this.


async def set_level(ctx: Any, params: SetLevelRequestParams) -> EmptyResult:
    return EmptyResult()


async def subscribe(ctx: Any, params: SubscribeRequestParams) -> EmptyResult:
    return EmptyResult()


async def unsubscribe(ctx: Any, params: UnsubscribeRequestParams) -> EmptyResult:
    return EmptyResult()


mcp._lowlevel_server.add_request_handler("logging/setLevel", SetLevelRequestParams, set_level)
mcp._lowlevel_server.add_request_handler("resources/subscribe", SubscribeRequestParams, subscribe)
mcp._lowlevel_server.add_request_handler("resources/unsubscribe", UnsubscribeRequestParams, unsubscribe)


if __name__ == "__main__":
    run(mcp, server="fixture")
