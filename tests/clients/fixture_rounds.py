"""Tools of the fixture that ask their client by `input_required` results, as 2026-07-28 does."""

from __future__ import annotations

from typing import Any

from mcp.server.mcpserver import Context, MCPServer
from mcp.shared.exceptions import MCPError
from mcp_types import (
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    CreateMessageRequest,
    CreateMessageRequestParams,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    InputRequest,
    InputRequiredResult,
    ListRootsRequest,
    SamplingMessage,
    TextContent,
)


def form(message: str, **properties: str) -> ElicitRequest:
    """A question with a field of the given type for each name."""
    schema = {
        "type": "object",
        "properties": {name: {"type": kind} for name, kind in properties.items()},
        "required": list(properties),
    }
    return ElicitRequest(params=ElicitRequestFormParams(message=message, requested_schema=schema))


def sampling(text: str) -> CreateMessageRequest:
    """Something for the client's model to say."""
    message = SamplingMessage(role="user", content=TextContent(type="text", text=text))
    return CreateMessageRequest(params=CreateMessageRequestParams(messages=[message], max_tokens=100))


def asked(state: str | None = None, **requests: InputRequest) -> InputRequiredResult:
    return InputRequiredResult(input_requests=requests, request_state=state)


def answered(ctx: Context[Any, Any], *keys: str) -> bool:
    """Whether every question has an answer of its kind."""
    responses = ctx.input_responses or {}
    return all(key in responses for key in keys)


def field(ctx: Context[Any, Any], key: str, name: str) -> str | None:
    """A field of an accepted form; None where there is none, or it isn't a text."""
    response = (ctx.input_responses or {}).get(key)
    content = response.content if isinstance(response, ElicitResult) else None
    value = (content or {}).get(name)
    return value if isinstance(value, str) else None


def add(mcp: MCPServer[Any]) -> None:
    """Add them to the server."""
    _single(mcp)
    _several(mcp)
    _stateful(mcp)
    _able(mcp)


def _single(mcp: MCPServer[Any]) -> None:
    @mcp.tool(structured_output=False)
    async def test_input_required_result_elicitation(ctx: Context) -> str | InputRequiredResult:
        """Ask for a name."""
        name = field(ctx, "user_name", "name")
        return f"Hello, {name}!" if name else asked(user_name=form("What is your name?", name="string"))

    @mcp.tool(structured_output=False)
    async def test_input_required_result_sampling(ctx: Context) -> str | InputRequiredResult:
        """Ask the client's model."""
        if answered(ctx, "capital_question"):
            return "The model answered."
        return asked(capital_question=sampling("What is the capital of France?"))

    @mcp.tool(structured_output=False)
    async def test_input_required_result_list_roots(ctx: Context) -> str | InputRequiredResult:
        """Ask for the client's roots."""
        return "There are roots." if answered(ctx, "client_roots") else asked(client_roots=ListRootsRequest())

    @mcp.prompt()
    async def test_input_required_result_prompt(ctx: Context) -> str | InputRequiredResult:
        """Ask what the prompt is about."""
        about = field(ctx, "user_context", "context")
        if about:
            return f"In the context of {about}."
        return asked(user_context=form("What context should the prompt use?", context="string"))


def _several(mcp: MCPServer[Any]) -> None:
    @mcp.tool(structured_output=False)
    async def test_input_required_result_multiple_inputs(ctx: Context) -> str | InputRequiredResult:
        """Ask three things at once."""
        if answered(ctx, "user_name", "greeting", "client_roots"):
            return "Everything was answered."
        return asked(
            "several",
            user_name=form("What is your name?", name="string"),
            greeting=sampling("Generate a greeting"),
            client_roots=ListRootsRequest(),
        )

    @mcp.tool(structured_output=False)
    async def test_input_required_result_multi_round(ctx: Context) -> str | InputRequiredResult:
        """Ask one thing after the other."""
        name, color = field(ctx, "step1", "name"), field(ctx, "step2", "color")
        state = ctx.request_state
        if state is not None and state.startswith("name:") and color:
            return f"{state.removeprefix('name:')} likes {color}."
        if state == "first" and name:
            return asked(f"name:{name}", step2=form("Step 2: What is your favorite color?", color="string"))
        return asked("first", step1=form("Step 1: What is your name?", name="string"))


def _stateful(mcp: MCPServer[Any]) -> None:
    async def confirm(ctx: Context[Any, Any]) -> str | InputRequiredResult:
        if ctx.request_state == "asked" and answered(ctx, "confirm"):
            return "state-ok"
        return asked("asked", confirm=form("Please confirm", ok="boolean"))

    @mcp.tool(structured_output=False)
    async def test_input_required_result_request_state(ctx: Context) -> str | InputRequiredResult:
        """Ask, and know its own question again."""
        return await confirm(ctx)

    @mcp.tool(structured_output=False)
    async def test_input_required_result_tampered_state(ctx: Context) -> str | InputRequiredResult:
        """Ask, and refuse a question that it didn't ask."""
        return await confirm(ctx)


def _able(mcp: MCPServer[Any]) -> None:
    @mcp.tool(structured_output=False)
    async def test_input_required_result_capabilities(ctx: Context) -> str | InputRequiredResult:
        """Ask only for what the client can do."""
        able = ctx.client_capabilities
        if able is not None and able.sampling is not None:
            return asked(greeting=sampling("Generate a greeting"))
        return "The client can do nothing that this tool asks for."

    @mcp.tool(structured_output=False)
    async def test_streaming_elicitation(ctx: Context) -> str | InputRequiredResult:
        """Make progress, then ask."""
        await ctx.report_progress(1, 2)
        name = field(ctx, "user_name", "name")
        return f"Hello, {name}!" if name else asked(user_name=form("What is your name?", name="string"))

    @mcp.tool(structured_output=False)
    async def test_missing_capability(ctx: Context) -> str:
        """Need a client that has a model."""
        able = ctx.client_capabilities
        if able is None or able.sampling is None:
            raise MCPError(
                MISSING_REQUIRED_CLIENT_CAPABILITY,
                "This tool needs a client that can sample",
                {"requiredCapabilities": {"sampling": {}}},
            )
        return "The client can sample."
