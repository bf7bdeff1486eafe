"""What can be asked for, in the document: models, their offers, and prices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from duckservice.gateway.app.openapi.operations import Operation
from duckservice.gateway.app.openapi.parts import (
    Json,
    answer,
    array,
    flag,
    in_query,
    mapping,
    money,
    nullable,
    number,
    obj,
    ref,
    string,
    whole,
    word,
)

AREA: Final = "Models"

_DETAILS: Final = in_query(
    "details", "Whether each model has its offers.", word("true", "false")
)

OPERATIONS: Final = (
    Operation(
        method="get",
        path="/v1/models",
        name="listModels",
        area=AREA,
        summary="List what can be asked for, as OpenAI and Anthropic do",
        parameters=[_DETAILS],
        answers={200: answer("All models, on one page.", ref("ModelList"))},
    ),
    Operation(
        method="get",
        path="/v1/models/{id}",
        name="getModel",
        area=AREA,
        summary="Show one model",
        path_is={"id": "The model's id; it may hold slashes."},
        parameters=[_DETAILS],
        answers={200: answer("The model.", ref("Model"))},
        codes=["model_not_found"],
    ),
)


_YES_OR_NO: Final = (
    *("chat", "streaming", "tools", "parallel_tools", "json_object", "json_schema"),
    *("reasoning", "cached_usage", "embeddings", "image_generation", "list_models"),
    *("top_k", "seed", "penalties", "cache_control", "messages_as_written"),
)
_CAPABILITIES: Final[Mapping[str, Json]] = {
    **{name: flag() for name in _YES_OR_NO},
    "tool_choice": array(word("auto", "none", "required", "tool")),
    "images_in": array(word("data", "url"), "How a picture may come."),
    "count_tokens": word("endpoint", "estimate"),
    "n_max": nullable(whole("Null: any number.")),
    "stop_max": nullable(whole("Null: any number.")),
    "temperature_max": nullable(number()),
    "hidden_prompt_tokens": whole("What it may add to a prompt, and charge for."),
}

_RATES: Final[Mapping[str, Json]] = {
    f"{name}_usd_per_mtok": money()
    for name in ("cached_input", "cache_write", "hour_write", "image_output")
}
_PRICE: Final[Mapping[str, Json]] = {
    "input_usd_per_mtok": money(),
    "output_usd_per_mtok": money(),
}

SCHEMAS: Final[Mapping[str, Json]] = {
    "Model": obj(
        {
            "id": string(),
            "object": word("model"),
            "created": whole(),
            "owned_by": string("The first provider that has it."),
            "type": word("model"),
            "display_name": string(),
            "created_at": string(format="date-time"),
        },
        {"offers": array(ref("Offer"), "Only with `details=true`.")},
        about="A model, as both OpenAI's and Anthropic's SDK can read it.",
    ),
    "ModelList": obj(
        {
            "object": word("list"),
            "data": array(ref("Model")),
            "has_more": {"const": False},
            "first_id": nullable(string()),
            "last_id": nullable(string()),
        },
        {
            "price_list": obj(
                {
                    "name": string(),
                    "version": string(),
                    "as_of": nullable(string("The newest change of a price in it.")),
                }
            ),
            "silent_providers": mapping(string(), "Who did not say, and why."),
        },
    ),
    "Offer": obj(
        {
            "provider": string(),
            "kind": word("chat", "embedding", "image", "other"),
            "capabilities": ref("Capabilities"),
            "price": nullable(ref("Price"), "Null where nobody knows it."),
        },
        about="One model at one provider.",
    ),
    "Capabilities": obj(
        _CAPABILITIES,
        about="What the provider can be asked for; one model of it may do less.",
    ),
    "Price": obj(
        {"source": word("config", "adapter", "list"), **_PRICE},
        {
            **_RATES,
            "tiers": array(
                obj({"above_input_tokens": whole(), **_PRICE}, _RATES),
                "What holds for larger prompts.",
            ),
        },
        about="USD per million tokens, exact.",
    ),
}
